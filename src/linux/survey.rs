//! Owns looking without touching: Pontoon's own objects and the host around them, read by a
//! process that is not the daemon.
//!
//! Sends listings only, starts no thread and deletes nothing. Used by the operator's commands,
//! through the app.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::link::{self, LinkRecord};
use super::netlink::{Failure, OwnPorts, Protocol, Socket};
use super::nft::accept::{Accept, decode_accept};
use super::nft::expression::Direction;
use super::nft::message::{
    BRIDGE, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, GET_CHAIN, GET_RULE, HOOK_NUMBER, INET, IPV4, IPV6, RULE_CHAIN,
    RULE_EXPRESSIONS, TABLE_NAME, attributes, wire,
};
use super::nft::ruleset::TABLE;
use super::sysctl::Sysctls;
use super::tlv::{Attributes, big32, text};
use super::{Options, feature, legacy, observe, route, ways};
use crate::datapath::host::{Host, HostChain, HostLink, HostRoute, Ways};
use crate::datapath::{Datapath, Element, EngineBridges, ForwardRule, KernelError, LinkMatch, Underlay};
use crate::model::ifname::PREFIX;
use crate::model::{DataPath, IfName};

/// `NF_INET_FORWARD`.
const FORWARD: u32 = 2;

/// Reads, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Survey {
    route: Socket,
    nft: Socket,
    generic: Socket,
    sysctls: Sysctls,
}

impl Survey {
    /// Opens the sockets.
    ///
    /// # Errors
    /// What the system says of a socket. Without CAP_NET_ADMIN the listings of the firewall fail.
    pub fn open(options: Options) -> Result<Self, KernelError> {
        let ports = std::sync::Arc::new(OwnPorts::default());
        let open = |protocol| Socket::open(protocol, ports.clone()).map_err(|f| f.of("open the kernel's", "sockets"));
        let (route, nft, generic) = (open(Protocol::Route)?, open(Protocol::Netfilter)?, open(Protocol::Generic)?);
        Ok(Self { route, nft, generic, sysctls: Sysctls::new(options.sysctl_root) })
    }

    /// Everything of Pontoon's, as `Kernel::observe` reads it.
    ///
    /// # Errors
    /// As there.
    pub fn observe(&mut self, foreign: &BTreeSet<IfName>) -> Result<Datapath, KernelError> {
        let read = observe::links(&mut self.route, &self.sysctls, foreign);
        let mut datapath = read.map_err(|f| f.of("observe", "links"))?;
        observe::firewall(&mut self.nft, &self.sysctls, || link::list(&mut self.route), &mut datapath)
            .map_err(|f| f.of("observe", "the firewall"))?;
        // Where there are none beside a tunnel, there may be none to be had.
        let none = datapath.shortcuts.as_ref().is_some_and(BTreeSet::is_empty) && !datapath.vxlans.is_empty();
        if none && !feature::offers_shortcuts() {
            datapath.shortcuts = None;
        }
        Ok(datapath)
    }

    /// Bridges of the engine's built-in driver, as `Kernel::engine_bridges` reads them.
    ///
    /// # Errors
    /// As there.
    pub fn engine_bridges(&mut self) -> Result<EngineBridges, KernelError> {
        observe::engine_bridges(&mut self.nft, &mut self.route)
    }

    /// Where the host takes broadcasts, as `Kernel::broadcasts` reads it.
    ///
    /// # Errors
    /// As there.
    pub fn broadcasts(&mut self) -> Result<BTreeSet<Element>, KernelError> {
        observe::broadcasts(&mut self.route, &self.sysctls)
    }

    /// Where the packets between hosts leave, as `Kernel::underlay` finds it.
    ///
    /// # Errors
    /// As there.
    pub fn underlay(&mut self, path: &DataPath) -> Result<Option<Underlay>, KernelError> {
        route::underlay(&mut self.route, path).map_err(|f| f.of("look up", "the way to other hosts"))
    }

    /// The ways from an address of this host to others.
    ///
    /// # Errors
    /// What a listing says.
    pub fn ways(&mut self, local: IpAddr, peers: &[IpAddr]) -> Result<Ways, KernelError> {
        let found = ways::look(&mut self.route, &mut self.generic, local, peers);
        found.map_err(|f| f.of("look up", "the ways to other hosts"))
    }

    /// Names of all links of the namespace.
    ///
    /// # Errors
    /// What the listing says.
    pub fn links(&mut self) -> Result<BTreeSet<String>, KernelError> {
        let links = link::list(&mut self.route).map_err(|f| f.of("list", "links"))?;
        Ok(links.into_iter().map(|link| link.name).collect())
    }

    /// The host around it, and what its kernel can do.
    ///
    /// # Errors
    /// What a listing says; features that are missing are no error.
    pub fn host(&mut self) -> Result<Host, KernelError> {
        let links = link::list(&mut self.route).map_err(|f| f.of("list", "links"))?;
        let names: BTreeMap<u32, String> = links.iter().map(|link| (link.index, link.name.clone())).collect();
        let named = |index: Option<u32>| index.and_then(|index| names.get(&index)).cloned();
        let routes = route::all(&mut self.route).map_err(|f| f.of("list", "routes"))?;
        let uplink = route::uplink(&mut self.route).map_err(|f| f.of("look up", "the default route"))?;
        let routes = routes.into_iter();
        let (features, untried) = match feature::try_all() {
            Ok(features) => (features, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        Ok(Host {
            uplink: named(uplink),
            routes: routes
                .map(|r| HostRoute { destination: r.destination, link: named(r.link).unwrap_or_default() })
                .collect(),
            links: links.iter().map(seen).collect(),
            chains: chains(&mut self.nft).map_err(|f| f.of("list", "chains of the firewall"))?,
            legacy: [false, true].into_iter().filter_map(legacy::forward).collect(),
            features,
            untried,
        })
    }
}

fn seen(link: &LinkRecord) -> HostLink {
    let (name, kind) = (link.name.clone(), link.kind.clone());
    HostLink { name, kind, mtu: link.mtu, ours: link.live() || link.dead(), tunnel: link.tunnel }
}

/// All chains but our own, with what their rules say of us.
fn chains(socket: &mut Socket) -> Result<Vec<HostChain>, Failure> {
    let mut chains = socket.list(wire(GET_CHAIN), &[0; 4], |_, payload| parse_chain(payload))?;
    chains.retain(|chain| chain.table != TABLE);
    let rules = socket.list(wire(GET_RULE), &[0; 4], |_, payload| parse_rule(payload))?;
    for rule in rules {
        let here = |chain: &&mut HostChain| (&chain.family, &chain.table, &chain.name) == (&rule.0, &rule.1, &rule.2);
        if let Some(chain) = chains.iter_mut().find(here) {
            chain.accepts.extend(rule.3);
            chain.names_ours |= rule.4;
        }
    }
    Ok(chains)
}

fn family(payload: &[u8]) -> Option<String> {
    let name = match *payload.first()? {
        INET => "inet",
        IPV4 => "ip",
        IPV6 => "ip6",
        BRIDGE => "bridge",
        _ => return None,
    };
    Some(name.to_owned())
}

fn parse_chain(payload: &[u8]) -> Option<HostChain> {
    let (family, chain) = (family(payload)?, attributes(payload));
    let hook = Attributes::new(chain.find(CHAIN_HOOK).unwrap_or_default()).find(HOOK_NUMBER).and_then(big32);
    Some(HostChain {
        table: chain.find(TABLE_NAME).and_then(text)?.to_owned(),
        name: chain.find(CHAIN_NAME).and_then(text)?.to_owned(),
        forward: hook == Some(FORWARD) && family != "bridge",
        drops: hook.is_some() && chain.find(CHAIN_POLICY).and_then(big32) == Some(libc::NF_DROP as u32),
        family,
        ..HostChain::default()
    })
}

/// Family, table and chain of a rule, what it accepts, and whether it names our links.
type Rule = (String, String, String, Option<ForwardRule>, bool);

fn parse_rule(payload: &[u8]) -> Option<Rule> {
    let (family, rule) = (family(payload)?, attributes(payload));
    let table = rule.find(TABLE_NAME).and_then(text)?.to_owned();
    let chain = rule.find(RULE_CHAIN).and_then(text)?.to_owned();
    let expressions = rule.find(RULE_EXPRESSIONS).unwrap_or_default();
    let named = expressions.windows(PREFIX.len()).any(|bytes| bytes == PREFIX.as_bytes());
    Some((family, table, chain, decode_accept(expressions).and_then(accepted), named))
}

fn accepted(accept: Accept<'_>) -> Option<ForwardRule> {
    let link = match accept.name.contains(&0) {
        true => LinkMatch::Name(IfName::parse(text(accept.name)?).ok()?),
        false => LinkMatch::Prefix(text(accept.name)?.to_owned()),
    };
    Some(match accept.direction {
        Direction::In => ForwardRule::From(link),
        Direction::Out => ForwardRule::To(link),
    })
}
