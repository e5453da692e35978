//! Contents of the chains and sets of fast path entries, and the labels that identify them: the comment of every rule
//! describes the fast path entry that it belongs to.
//!
//! Pure. Used by the parent, which writes it, and by `read`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nft::message::{
    self, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TYPE, CHAIN_USERDATA, DEL_ELEMENTS, DEL_RULE, ELEMENTS_SET,
    HOOK_NUMBER, HOOK_PRIORITY, NETDEV, NEW_CHAIN, NEW_ELEMENTS, RULE_CHAIN, TABLE_NAME, UDATA_COMMENT, body,
    comment_data, request,
};
use nft::{DataType, Expressions, Field, Set, Side, Stateful, Update};

use super::{CREATE, FastPath, Indexes, Request, SCHEMA, TABLE, here, located, near, on, place, there};
use crate::linux::firewall::bridge_rules::{IP, IPV6, carries, to_bridges};
use crate::model::overlay::FDB_AGEING;
use crate::model::{Family, IfName, Mac};

/// `NFTA_HOOK_DEV`; `NF_NETDEV_INGRESS`.
const HOOK_LINK: u16 = 3;
const INGRESS: u32 = 0;
/// The key of the sets.
const KEY: &[DataType] = &[DataType::Mac];
/// Maximum number of hardware addresses that a network remembers, and for how long: as long as the tunnel
/// does.
pub const LEARNED_MAX: u32 = 65_536;
const LEARNED_TIMEOUT: u64 = FDB_AGEING.as_millis() as u64;

/// The messages that create one and replace what exists of it, except its location.
pub fn of(entry: &FastPath, at: &Indexes) -> Vec<Request> {
    match entry {
        FastPath::Network { tunnel, gateway } => {
            at.get(tunnel).map(|index| network(tunnel, *index, *gateway)).unwrap_or_default()
        }
        FastPath::Port { tunnel, port, mac, addresses } => {
            at.get(port).map(|index| self::port(tunnel, port, *index, *mac, addresses)).unwrap_or_default()
        }
        FastPath::Bridge { bridge } => self::bridge(bridge.as_str()),
        FastPath::Neighbour { bridge, port, mac, addresses } => {
            at.get(port).map(|index| neighbour(bridge, port, *index, *mac, addresses)).unwrap_or_default()
        }
        FastPath::Guard { port } => at.get(port).map(|index| guard(port, *index)).unwrap_or_default(),
        FastPath::Shaped { port, ifb } => match (at.get(port), at.get(ifb)) {
            (Some(_), Some(index)) => shaped(port, ifb, *index),
            _ => Vec::new(),
        },
        FastPath::PacketLimit { port, rate, burst } => {
            let packets = Stateful::Packets { rate: *rate, burst: *burst };
            let name = entry.chain().unwrap_or_default();
            at.get(port).map(|index| packet_limit(port, &name, *index, packets)).unwrap_or_default()
        }
        FastPath::Leftover(_) => Vec::new(),
    }
}

/// The start of a rule about Ethernet frames, as all of these are. Without it nft would not print hardware
/// addresses as such.
fn frame() -> Expressions {
    Expressions::default().is(Field::LINK_TYPE, &libc::ARPHRD_ETHER.to_ne_bytes())
}

/// Number of rules of chain `..._on`, and of the tunnel's.
pub const ON: usize = 2;
pub const TUNNEL: usize = 4;

fn network(tunnel: &IfName, index: u32, gateway: Mac) -> Vec<Request> {
    let [here, there, on] = [here, there, on].map(|name| name(tunnel.as_str()));
    let label = network_label(tunnel, index, gateway);
    let rule = |chain: &str, rule: Expressions| message::new_rule(NETDEV, TABLE, chain, rule, &label);
    let any = frame;
    let (to, from) = (Field::FRAME_TARGET, Field::FRAME_SOURCE);
    // Addresses learned from the tunnel that this one replaces may not be behind any tunnel now.
    let mut forgotten = body(NETDEV);
    forgotten.text(TABLE_NAME, TABLE).text(ELEMENTS_SET, &there);
    let mut messages = vec![
        message::new_table(NETDEV, TABLE, SCHEMA),
        places(&here),
        learned(TABLE, &there),
        request(DEL_ELEMENTS, 0, forgotten),
    ];
    messages.extend(chain(&on, None, "forwarding decision"));
    messages.push(rule(&on, any().forward_by(&[to], &here)));
    messages.push(rule(&on, any().named_set_has(to, &there).forward_to(index)));
    messages.extend(chain(tunnel.as_str(), Some(tunnel), "from other hosts"));
    // Every host has the gateway; the bridge handles frames of another host's gateway.
    messages.push(rule(tunnel.as_str(), any().is(from, &gateway.bytes()).accept()));
    messages.push(rule(tunnel.as_str(), any().update(from, &there, Update::Add)));
    messages.extend([IP, IPV6].map(|what| rule(tunnel.as_str(), carries(any(), what).forward_by(&[to], &here))));
    messages
}

/// A chain and a set in another table that use everything that a kernel may lack.
pub fn sample(table: &str) -> Vec<Request> {
    let (name, set) = ("on", "there");
    let mut chain = body(NETDEV);
    chain.text(TABLE_NAME, table).text(CHAIN_NAME, name);
    let known = Expressions::default().update(Field::FRAME_SOURCE, set, Update::Add);
    let rule = known.named_set_has(Field::FRAME_TARGET, set).forward_to(1);
    vec![learned(table, set), request(NEW_CHAIN, CREATE, chain), message::new_rule(NETDEV, table, name, rule, "")]
}

fn guard(port: &IfName, index: u32) -> Vec<Request> {
    let mut messages = vec![message::new_table(NETDEV, TABLE, SCHEMA)];
    messages.extend(chain(port.as_str(), Some(port), "frames to the bridge itself"));
    let rule = to_bridges(frame()).counter().drop();
    messages.push(message::new_rule(NETDEV, TABLE, port.as_str(), rule, &guard_label(index)));
    messages
}

/// The chain has the name of the ifb link: a guard's has the port's.
fn shaped(port: &IfName, ifb: &IfName, index: u32) -> Vec<Request> {
    let mut messages = vec![message::new_table(NETDEV, TABLE, SCHEMA)];
    messages.extend(chain_at(ifb.as_str(), Some((port, LAST)), "what the container sends is limited"));
    let rule = Expressions::default().forward_to(index);
    messages.push(message::new_rule(NETDEV, TABLE, ifb.as_str(), rule, &shaped_label(port, index)));
    messages
}

fn packet_limit(port: &IfName, name: &str, index: u32, limit: Stateful) -> Vec<Request> {
    let mut messages = vec![message::new_table(NETDEV, TABLE, SCHEMA)];
    messages.extend(chain_at(name, Some((port, FIRST)), "how many packets the container sends is limited"));
    let rule = Expressions::default().exceeds(limit).counter().drop();
    messages.push(message::new_rule(NETDEV, TABLE, name, rule, &packets_label(port, index, limit)));
    messages
}

/// Number of rules of a port's chain.
pub fn of_port(addresses: &BTreeSet<IpAddr>) -> usize {
    addresses.iter().map(|address| if address.is_ipv4() { 1 } else { 2 }).sum::<usize>().max(1)
}

fn port(tunnel: &IfName, port: &IfName, index: u32, mac: Mac, addresses: &BTreeSet<IpAddr>) -> Vec<Request> {
    let label = port_label(tunnel, index, mac, addresses);
    let mut messages = chain(port.as_str(), Some(port), "from a container");
    let mut rule = |rule: Expressions| {
        messages.push(message::new_rule(NETDEV, TABLE, port.as_str(), rule, &label));
    };
    let on = on(tunnel.as_str());
    for address in addresses {
        own(mac, *address).into_iter().for_each(|own| rule(own.goto(&on)));
    }
    if addresses.is_empty() {
        // An address that sends here is not behind the tunnel, even if it was learned from there before.
        let set = there(tunnel.as_str());
        rule(frame().update(Field::FRAME_SOURCE, &set, Update::Delete));
    } else {
        let mut element = body(NETDEV);
        element.text(TABLE_NAME, TABLE);
        place(&mut element, &here(tunnel.as_str()), mac, Some(index));
        messages.push(request(NEW_ELEMENTS, CREATE, element));
    }
    messages
}

/// Matches the unambiguous frames of a container with this address; as many rules as [`of_port`] says.
fn own(mac: Mac, address: IpAddr) -> Vec<Expressions> {
    let own = |what: [u8; 2], bytes: &[u8]| {
        // A tag is left to the bridge's checks: the kernel has stripped it, and sends it again.
        let rule = frame().is(Field::FRAME_SOURCE, &mac.bytes()).is(Field::FRAME_TYPE, &what);
        rule.is(Side::Source.address(Family::of(&address)), bytes)
    };
    match address {
        IpAddr::V4(ip) => vec![own(IP, &ip.octets())],
        // Neighbour discovery is left to the bridge's checks, wherever in a packet it may be hidden.
        IpAddr::V6(ip) => [libc::IPPROTO_TCP, libc::IPPROTO_UDP]
            .map(|protocol| own(IPV6, &ip.octets()).is(Field::NEXT_HEADER, &[protocol as u8]))
            .into(),
    }
}

fn bridge(name: &str) -> Vec<Request> {
    let map = |family: Family, id: u32| {
        let (name, key) = (near(name, family), [DataType::Mac, family.choose(DataType::V4, DataType::V6)]);
        let map = Set::new(&name, &key, "MAC and IP addresses of containers, and their ports");
        message::new_set(TABLE, &map.to(&[DataType::Index]).of_family(NETDEV), id)
    };
    vec![message::new_table(NETDEV, TABLE, SCHEMA), map(Family::V4, SOME_ID), map(Family::V6, SOME_ID + 1)]
}

fn neighbour(bridge: &IfName, port: &IfName, index: u32, mac: Mac, addresses: &BTreeSet<IpAddr>) -> Vec<Request> {
    let label = neighbour_label(bridge, index, mac, addresses);
    let mut messages = chain(port.as_str(), Some(port), "from a container to its neighbours");
    for address in addresses {
        let map = near(bridge.as_str(), Family::of(address));
        let to = [Field::FRAME_TARGET, Side::Destination.address(Family::of(address))];
        let rules = own(mac, *address).into_iter().map(|own| own.forward_by(&to, &map));
        messages.extend(rules.map(|rule| message::new_rule(NETDEV, TABLE, port.as_str(), rule, &label)));
        let mut element = body(NETDEV);
        element.text(TABLE_NAME, TABLE);
        located(&mut element, &map, mac, *address, Some(index));
        messages.push(request(NEW_ELEMENTS, CREATE, element));
    }
    messages
}

/// Priority of a chain that drops frames above a rate.
pub const FIRST: i32 = -10;

/// Priority of a chain that leads frames to an ifb link: they come back past all chains, so it is the last one.
pub const LAST: i32 = 10;

/// An empty chain, at ingress of `link` if one is given.
fn chain(name: &str, link: Option<&IfName>, comment: &str) -> Vec<Request> {
    chain_at(name, link.map(|link| (link, libc::NF_IP_PRI_FILTER)), comment)
}

/// The same with a priority.
fn chain_at(name: &str, link: Option<(&IfName, i32)>, comment: &str) -> Vec<Request> {
    let mut new = body(NETDEV);
    new.text(TABLE_NAME, TABLE).text(CHAIN_NAME, name);
    if let Some((link, priority)) = link {
        new.text(CHAIN_TYPE, "filter").nest(CHAIN_HOOK, |hook| {
            hook.big(HOOK_NUMBER, INGRESS).big(HOOK_PRIORITY, priority as u32);
            hook.text(HOOK_LINK, link.as_str());
        });
        new.big(CHAIN_POLICY, libc::NF_ACCEPT as u32);
    }
    new.bytes(CHAIN_USERDATA, &comment_data(UDATA_COMMENT, comment));
    let mut emptied = body(NETDEV);
    emptied.text(TABLE_NAME, TABLE).text(RULE_CHAIN, name);
    vec![request(NEW_CHAIN, CREATE, new), request(DEL_RULE, 0, emptied)]
}

/// Numbers that are unique within a transaction only identify sets without names; Pontoon's have names.
const SOME_ID: u32 = 1;

fn places(name: &str) -> Request {
    let map = Set::new(name, KEY, "MAC addresses of local containers, and their ports");
    message::new_set(TABLE, &map.to(&[DataType::Index]).of_family(NETDEV), SOME_ID)
}

fn learned(table: &str, name: &str) -> Request {
    let set = Set::new(name, KEY, "MAC addresses learned from other hosts").dynamic(LEARNED_MAX, LEARNED_TIMEOUT);
    message::new_set(table, &set.of_family(NETDEV), SOME_ID + 1)
}

/// Label of the rules of a network.
pub fn network_label(tunnel: &IfName, index: u32, gateway: Mac) -> String {
    format!("network {tunnel} {index} {gateway}")
}

/// Label of the rules of a port.
pub fn port_label(tunnel: &IfName, index: u32, mac: Mac, addresses: &BTreeSet<IpAddr>) -> String {
    let addresses: String = addresses.iter().map(|address| format!(" {address}")).collect();
    format!("port {tunnel} {index} {mac}{addresses}")
}

/// Label of the rules of a container and its neighbours.
pub fn neighbour_label(bridge: &IfName, index: u32, mac: Mac, addresses: &BTreeSet<IpAddr>) -> String {
    let addresses: String = addresses.iter().map(|address| format!(" {address}")).collect();
    format!("neighbour {bridge} {index} {mac}{addresses}")
}

/// Label of the rule of a guard.
pub fn guard_label(index: u32) -> String {
    format!("guard {index}")
}

/// Label of the rule that leads to an ifb link.
pub fn shaped_label(port: &IfName, index: u32) -> String {
    format!("shaped {port} {index}")
}

/// Label of the rule that drops frames above a rate.
pub fn packets_label(port: &IfName, index: u32, limit: Stateful) -> String {
    match limit {
        Stateful::Packets { rate, burst } => format!("packets {port} {index} {rate} {burst}"),
        Stateful::Connections(_) | Stateful::Counted(_) => String::new(),
    }
}

/// Parses the label of chain `name`: a fast path entry and the index of its link.
pub fn parse_label(name: &str, label: &str) -> Option<(FastPath, u32)> {
    let mut words = label.split(' ');
    let kind = words.next()?;
    if kind == "guard" {
        let port = IfName::parse(name).ok()?;
        return Some((FastPath::Guard { port }, words.next()?.parse().ok()?));
    }
    let tunnel = IfName::parse(words.next()?).ok()?;
    let index = words.next()?.parse().ok()?;
    if kind == "shaped" {
        return Some((FastPath::Shaped { port: tunnel, ifb: IfName::parse(name).ok()? }, index));
    }
    if kind == "packets" {
        let mut number = || words.next().and_then(|word| word.parse().ok());
        let (rate, burst) = (number()?, number()?);
        let entry = FastPath::PacketLimit { port: tunnel, rate, burst };
        return (entry.chain().as_deref() == Some(name)).then_some((entry, index));
    }
    let mac = Mac::parse(words.next()?).ok()?;
    let entry = match kind {
        "network" if name == tunnel.as_str() => FastPath::Network { tunnel, gateway: mac },
        "port" => {
            let addresses = words.map(str::parse).collect::<Result<_, _>>().ok()?;
            FastPath::Port { tunnel, port: IfName::parse(name).ok()?, mac, addresses }
        }
        "neighbour" => {
            let addresses: BTreeSet<_> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
            let port = IfName::parse(name).ok()?;
            (!addresses.is_empty()).then_some(FastPath::Neighbour { bridge: tunnel, port, mac, addresses })?
        }
        _ => return None,
    };
    Some((entry, index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_read_back_and_others_are_none() {
        let (tunnel, link) = (IfName::parse("pntx1").unwrap(), IfName::parse("pnth1").unwrap());
        let mac = Mac::derive("peer", "one");
        let network = FastPath::Network { tunnel: tunnel.clone(), gateway: mac };
        assert_eq!(parse_label("pntx1", &network_label(&tunnel, 7, mac)), Some((network, 7)));
        for addresses in [BTreeSet::new(), ["10.9.0.2", "fd00::2"].map(|text| text.parse().unwrap()).into()] {
            let label = port_label(&tunnel, 8, mac, &addresses);
            let port = FastPath::Port { tunnel: tunnel.clone(), port: link.clone(), mac, addresses };
            assert_eq!(parse_label("pnth1", &label), Some((port, 8)));
        }
        let addresses: BTreeSet<_> = ["10.9.0.2", "fd00::2"].map(|text| text.parse().unwrap()).into();
        let label = neighbour_label(&tunnel, 8, mac, &addresses);
        let near = FastPath::Neighbour { bridge: tunnel.clone(), port: link.clone(), mac, addresses };
        assert_eq!(parse_label("pnth1", &label), Some((near, 8)));
        assert_eq!(parse_label("pnth1", &neighbour_label(&tunnel, 8, mac, &BTreeSet::new())), None);
        let shaped = FastPath::Shaped { port: link.clone(), ifb: IfName::parse("pntq1").unwrap() };
        assert_eq!(parse_label("pntq1", &shaped_label(&link, 9)), Some((shaped, 9)));
        let limit = FastPath::PacketLimit { port: link.clone(), rate: 100, burst: 10 };
        let label = packets_label(&link, 9, Stateful::Packets { rate: 100, burst: 10 });
        assert_eq!(parse_label("pnth1_packets", &label), Some((limit, 9)));
        assert_eq!(parse_label("pnth2_packets", &label), None);
        assert_eq!(parse_label("pnth1", &guard_label(9)), Some((FastPath::Guard { port: link.clone() }, 9)));
        let text = network_label(&tunnel, 7, mac);
        for broken in ["", "network", "port pntx1 7", "network pntx1 x 02:00:00:00:00:01", &text.replace("net", "not")]
        {
            assert_eq!(parse_label("pntx1", broken), None, "{broken}");
        }
        assert_eq!(parse_label("pntx2", &text), None, "another link's");
    }
}
