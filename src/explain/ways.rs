//! Why the way ends where it does, and what helps.

use std::net::{IpAddr, SocketAddr};

use super::party::{Member, Party, member_at, members};
use super::question::protocol;
use super::walk::{End, Walk};
use super::{Meanings, Remedy, Verdict};
use crate::datapath::passage::Passage;
use crate::model::Family;
use crate::model::options::GatewayMode;

fn remedy(what: &str, how: impl Into<String>) -> Remedy {
    Remedy { what: what.to_owned(), how: how.into() }
}

/// Why, and what helps.
pub(super) fn of(walk: &Walk<'_>, end: &End, meanings: Meanings) -> (String, Vec<Remedy>) {
    let target = target(walk, end);
    match (&end.passage, end.verdict) {
        (Some(passage), _) if passage.ours => of_own_rule(walk, passage, target, meanings),
        (Some(passage), _) => (of_foreign(walk, passage), foreign_ways(passage)),
        (None, Verdict::NoListener | Verdict::RefusedByApp) => (end.why.clone(), listener_ways(walk, target)),
        (None, Verdict::Dropped) if end.why.contains("enable_icc") => {
            let why = format!("{}, so its containers do not reach each other", end.why);
            (why, isolated_ways(walk, target))
        }
        (None, Verdict::Dropped) if end.why.starts_with("the kernel keeps") => {
            let how = "docker network create -o pontoon.host=true ... (docs/lan.md)";
            (end.why.clone(), vec![remedy("let the host reach the containers of the network", how)])
        }
        (None, Verdict::Dropped) if end.why.contains("does not forward") => {
            let how = walk.packet.family().choose("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding");
            (end.why.clone(), vec![remedy("turn forwarding on", format!("sysctl -w {how}=1"))])
        }
        (None, Verdict::NoRoute) => (end.why.clone(), no_route_ways(walk, target)),
        _ => (end.why.clone(), Vec::new()),
    }
}

/// The endpoint that the packet is for.
fn target<'a>(walk: &Walk<'a>, end: &End) -> Option<Member<'a>> {
    let by_id = |id: &String| members(&walk.known).find(|member| member.endpoint.id.as_str() == id);
    end.target.as_ref().and_then(by_id).or_else(|| member_at(&walk.known, walk.packet.destination))
}

fn name_of(walk: &Walk<'_>, member: Member<'_>) -> String {
    walk.known.names.endpoint(member.endpoint.id.as_str())
}

fn network_of(walk: &Walk<'_>, member: Member<'_>) -> String {
    walk.known.names.network(member.network.id.as_str())
}

fn mode(walk: &Walk<'_>, member: Member<'_>) -> &'static str {
    let detail = &member.network.detail;
    match walk.packet.family().choose(detail.mode4, detail.mode6) {
        GatewayMode::Nat => "nat",
        GatewayMode::NatUnprotected => "nat-unprotected",
        GatewayMode::Routed => "routed",
        GatewayMode::Isolated => "isolated",
    }
}

fn of_own_rule(
    walk: &Walk<'_>,
    passage: &Passage,
    target: Option<Member<'_>>,
    meanings: Meanings,
) -> (String, Vec<Remedy>) {
    let rule = passage.rule.as_ref().map_or("", |rule| rule.comment.as_str());
    let source = walk.packet.source;
    let known = meanings(rule);
    let general = || known.map_or_else(|| rule.to_owned(), |(what, _)| what.to_owned());
    let Some(target) = target else {
        return (general(), known.map(|(_, help)| remedy("if the packets are wanted", help)).into_iter().collect());
    };
    let (name, network) = (name_of(walk, target), network_of(walk, target));
    if rule.starts_with("all other traffic into a network") {
        let mode = mode(walk, target);
        let what =
            if walk.packet.port > 0 { "this port is not open to them" } else { "ICMP from outside is not let in" };
        let why = format!("networks are kept apart: {network} is in gateway mode {mode}, and {what}");
        return (why, entering_ways(walk, target));
    }
    if rule.starts_with("into an internal") || rule.starts_with("out of an internal") {
        let outward = rule.starts_with("out of");
        let internal = if outward { walk.from.members().first().copied().unwrap_or(target) } else { target };
        let why = format!("{} is internal: it exchanges no packets with other networks", network_of(walk, internal));
        return (why, shared_network(walk, target));
    }
    if rule.contains("source not in the allow list") {
        let why = format!("{source} is not among the sources that {name} allows (pontoon.publish.allow)");
        let how = format!("add {source} to pontoon.publish.allow of network {network} or of the container");
        return (why, vec![remedy("allow the source", how)]);
    }
    if let Some(way) = ["egress", "ingress"].into_iter().find(|way| rule.starts_with(&format!("not in the {way} list")))
    {
        let (who, other) =
            if way == "egress" { (walk.from.name(), name.as_str()) } else { (name.as_str(), walk.from.name()) };
        let why = format!("the {way} list of {who} does not allow this traffic with {other}");
        let port = if walk.packet.port > 0 {
            format!("{}:{}@", protocol(walk.packet.protocol), walk.packet.port)
        } else {
            "icmp@".to_owned()
        };
        let peer = if way == "egress" { walk.packet.destination } else { source };
        return (why, vec![remedy("allow it", format!("add {port}{peer} to pontoon.{way}.allow (docs/access.md)"))]);
    }
    if rule.starts_with("between isolated containers") {
        let why = format!("{network} was created with enable_icc=false, so its containers do not reach each other");
        return (why, isolated_ways(walk, Some(target)));
    }
    (general(), known.map(|(_, help)| remedy("if the packets are wanted", help)).into_iter().collect())
}

/// Host ports that lead to this port of the target.
fn published(walk: &Walk<'_>, target: Member<'_>) -> Vec<SocketAddr> {
    let (port, number, family) = (walk.packet.port, walk.packet.protocol, walk.packet.family());
    let forwards = target.endpoint.detail.forwards.iter();
    let here = |address: IpAddr| match address.is_unspecified() {
        true => walk.look.route(None, outside(family)).ok().flatten().and_then(|route| route.source),
        false => Some(address),
    };
    let leads = forwards.filter(|one| {
        one.container_port == port && one.host.protocol.number() == number && Family::of(&one.container) == family
    });
    leads.filter_map(|one| Some(SocketAddr::new(here(one.host.address)?, one.host.port))).collect()
}

/// An address outside (RFC 5737, RFC 3849).
fn outside(family: Family) -> IpAddr {
    family.choose([192, 0, 2, 1].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into())
}

fn use_published(walk: &Walk<'_>, target: Member<'_>) -> Vec<Remedy> {
    let ports = published(walk, target);
    if !ports.is_empty() {
        let of = |at: &SocketAddr| remedy("use the published port", at.to_string());
        return ports.iter().map(of).collect();
    }
    if walk.packet.port == 0 {
        return Vec::new();
    }
    let (port, protocol) = (walk.packet.port, protocol(walk.packet.protocol));
    vec![remedy("publish the port", format!("docker run -p {port}:{port}/{protocol} ... and use this host's address"))]
}

/// A network that both are on.
fn shared_network(walk: &Walk<'_>, target: Member<'_>) -> Vec<Remedy> {
    match &walk.from {
        Party::Container(name, _) => {
            let how = format!("docker network connect {} {name}", network_of(walk, target));
            vec![remedy("put both on one network", how)]
        }
        _ => Vec::new(),
    }
}

fn entering_ways(walk: &Walk<'_>, target: Member<'_>) -> Vec<Remedy> {
    let mut ways = use_published(walk, target);
    ways.extend(shared_network(walk, target));
    let family = walk.packet.family().choose("ipv4", "ipv6");
    let option = format!("com.docker.network.bridge.gateway_mode_{family}");
    match mode(walk, target) {
        "routed" => {
            let (port, protocol) = (walk.packet.port, protocol(walk.packet.protocol));
            ways.retain(|way| way.what != "publish the port");
            ways.insert(
                0,
                remedy("open the port of the container", format!("docker run -p {port}:{port}/{protocol} ...")),
            );
        }
        _ => ways.push(remedy(
            "open all ports of the network",
            format!("docker network create -o {option}=nat-unprotected ..."),
        )),
    }
    ways
}

fn isolated_ways(walk: &Walk<'_>, target: Option<Member<'_>>) -> Vec<Remedy> {
    let mut ways = target.map(|target| use_published(walk, target)).unwrap_or_default();
    ways.push(remedy("use a network of its own for containers that talk to each other", "docker network create ..."));
    ways
}

fn listener_ways(walk: &Walk<'_>, target: Option<Member<'_>>) -> Vec<Remedy> {
    let port = walk.packet.port;
    match target {
        Some(target) => {
            let name = name_of(walk, target);
            let look = format!("docker exec {name} netstat -ln   # 0.0.0.0:{port} or :::{port} has to be there");
            vec![remedy("see what listens", look), remedy("see why not", format!("docker logs {name}"))]
        }
        None => vec![remedy("see what listens", format!("ss -ln 'sport = :{port}'"))],
    }
}

fn no_route_ways(walk: &Walk<'_>, target: Option<Member<'_>>) -> Vec<Remedy> {
    match target {
        Some(target) => shared_network(walk, target),
        None => Vec::new(),
    }
}

fn of_foreign(walk: &Walk<'_>, passage: &Passage) -> String {
    let text = walk.look.rule_text(passage).map(|text| format!(" ({text})")).unwrap_or_default();
    match &passage.rule {
        Some(rule) => format!(
            "rule {} of chain {}, which is not Pontoon's, drops the packets{text}",
            rule.place,
            chain_of(passage)
        ),
        None => format!("chain {passage}, which is not Pontoon's, drops what no rule accepts (policy drop)"),
    }
}

/// The chain of the deciding rule.
fn chain_of(passage: &Passage) -> String {
    let chain = passage.rule.as_ref().map_or(&passage.chain, |rule| &rule.chain);
    format!("{} {} {chain}", passage.family, passage.table)
}

fn foreign_ways(passage: &Passage) -> Vec<Remedy> {
    let legacy = passage.family.ends_with("-legacy");
    let chain = passage.rule.as_ref().map_or(&passage.chain, |rule| &rule.chain);
    let list = match legacy {
        true => format!("{} -t {} -S {chain}", passage.family, passage.table),
        false => format!("nft -a list chain {}", chain_of(passage)),
    };
    let mut ways = vec![remedy("see the rules", list)];
    let program = if chain.starts_with("ufw") {
        Some("ufw route allow ...")
    } else if passage.table == "firewalld" {
        Some("firewall-cmd --zone=docker --add-interface=BRIDGE, or a policy that accepts")
    } else if chain == "DOCKER-USER" {
        Some("change the rule that you added to DOCKER-USER")
    } else if passage.rule.is_none() && passage.chain == "FORWARD" {
        Some("pontoon repair   # Pontoon's accepting rules are missing there")
    } else {
        None
    };
    ways.extend(program.map(|how| remedy("let the packets pass", how)));
    ways
}
