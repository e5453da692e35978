//! Follows the first packet of a connection from its sender.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::party::{Destination, Member, Party, PartyError, find, hidden, member_at};
use super::question::{described, destination, family, local};
use super::ways;
use super::{Answer, Known, Look, Meanings, Step, Verdict};
use crate::datapath::passage::{Decision, Hook, ICMP, Packet, PacketLink, Passage, RouteSeen};
use crate::model::Family;

/// Version of the JSON form.
const SCHEMA: u32 = 1;

/// How the way ends.
#[derive(Debug)]
pub(super) struct End {
    pub verdict: Verdict,
    pub why: String,
    /// The chain that ended it.
    pub passage: Option<Box<Passage>>,
    /// The endpoint that was the destination, after any translation.
    pub target: Option<String>,
}

impl End {
    pub fn new(verdict: Verdict, why: impl Into<String>) -> Self {
        Self { verdict, why: why.into(), passage: None, target: None }
    }
}

/// A step of the way that has ended.
pub(super) type Ended = Result<End, End>;

/// The packet on its way.
pub(super) struct Walk<'a> {
    pub known: Known<'a>,
    pub look: &'a dyn Look,
    pub from: Party<'a>,
    pub to: Party<'a>,
    pub packet: Packet,
    pub steps: Vec<Step>,
    /// The first condition that cannot be decided.
    pub doubt: Option<String>,
}

/// Explains whether `from` reaches `to`; `v6` chooses the family where both have addresses of both.
///
/// # Errors
/// The words do not say who is meant.
pub fn explain(
    known: Known<'_>,
    look: &dyn Look,
    meanings: Meanings,
    [from, to]: [&str; 2],
    wanted_family: Family,
) -> Result<Answer, PartyError> {
    let wanted = Destination::parse(to)?;
    let (from, to) = (find(&known, from)?, find(&known, &wanted.who)?);
    // The host's own address is the host.
    let from = match from {
        Party::Address(_, addresses) if addresses.iter().any(|address| local(look, *address)) => Party::Host,
        other => other,
    };
    let family = family(&from, &to, wanted_family);
    let destination = destination(&from, &to, family, look);
    let unspecified = family.choose(Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
    let mut walk = Walk {
        known,
        look,
        packet: Packet {
            source: unspecified,
            destination: destination.unwrap_or(unspecified),
            original: destination.unwrap_or(unspecified),
            protocol: wanted.protocol.unwrap_or(ICMP[family as usize]),
            port: wanted.port.unwrap_or(0),
            link_in: None,
            link_out: None,
            mac: None,
            translated: false,
            reserved: false,
        },
        from,
        to,
        steps: Vec::new(),
        doubt: None,
    };
    let (Ok(mut end) | Err(mut end)) = match destination {
        Some(_) => walk.begin(),
        None => Err(End::new(Verdict::NoRoute, format!("{} has no address of this family", walk.to.name()))),
    };
    let undecided = walk.doubt.take().filter(|_| matches!(end.verdict, Verdict::Accepted));
    if let Some(what) = undecided {
        end = End { verdict: Verdict::Unknown, why: what, ..end };
    }
    let (why, ways) = ways::of(&walk, &end, meanings);
    Ok(Answer {
        schema: SCHEMA,
        from: described(&walk, walk.from.name(), walk.packet.source, None),
        to: described(&walk, walk.to.name(), walk.packet.original, wanted.port),
        verdict: end.verdict,
        why,
        steps: walk.steps,
        ways,
    })
}

impl<'a> Walk<'a> {
    fn begin(&mut self) -> Ended {
        let (protocol, port, address) = (self.packet.protocol, self.packet.port, self.packet.destination);
        let networks = self.known.status.networks.iter();
        let mut published = networks.flat_map(|network| &network.endpoints).flat_map(|endpoint| &endpoint.published);
        self.packet.reserved = published.any(|host| {
            let any = host.address.is_unspecified() && host.address.is_ipv6() == address.is_ipv6();
            host.protocol.number() == protocol && host.port == port && (any || host.address == address)
        });
        match self.from.clone() {
            Party::Host => self.send(),
            Party::Address(..) => match self.from.address(self.packet.family()) {
                Some(address) => self.come_in(address),
                None => Err(End::new(Verdict::NoRoute, format!("{} has no address of this family", self.from.name()))),
            },
            Party::Container(name, members) => self.leave_container(&name, &members),
        }
    }

    /// Evaluates the chains of a hook.
    pub fn pass(&mut self, hook: Hook) -> Result<(), End> {
        for passage in self.look.pass(hook, &mut self.packet) {
            let ends = passage.ends();
            let step = self.step_of(&passage);
            if let Decision::Unknown(what) = &passage.decision {
                let rule = passage.rule.as_ref().map_or(0, |rule| rule.place);
                self.doubt
                    .get_or_insert_with(|| format!("rule {rule} of chain {passage} may decide: it depends on {what}"));
            }
            self.steps.push(step);
            if ends {
                return Err(End { passage: Some(Box::new(passage)), ..End::new(Verdict::Dropped, "") });
            }
        }
        Ok(())
    }

    fn step_of(&self, passage: &Passage) -> Step {
        let result = match &passage.decision {
            Decision::Accept => "accept".to_owned(),
            Decision::Drop => "DROP".to_owned(),
            Decision::Reject => "REJECT".to_owned(),
            Decision::Destination(address, port) => format!("to {}", std::net::SocketAddr::new(*address, *port)),
            Decision::Source => "source translated".to_owned(),
            Decision::Unknown(what) => format!("unknown: {what}"),
        };
        let text = |passage: &Passage| {
            let rule = passage.rule.as_ref()?;
            let place = if rule.chain == passage.chain { String::new() } else { format!("{} ", rule.chain) };
            let words = match passage.ours {
                true => Some(rule.comment.clone()),
                false if passage.decision == Decision::Accept => None,
                false => self.look.rule_text(passage),
            };
            Some(format!("{place}rule {}{}", rule.place, words.map(|words| format!(": {words}")).unwrap_or_default()))
        };
        Step {
            place: passage.to_string(),
            rule: text(passage).unwrap_or_else(|| "policy".to_owned()),
            result,
            packets: passage.rule.as_ref().and_then(|rule| rule.packets),
            decides: passage.ends(),
        }
    }

    /// Records a decision that no rule makes.
    pub fn note(&mut self, place: &str, rule: impl Into<String>, result: &str) {
        let (place, result) = (place.to_owned(), result.to_owned());
        self.steps.push(Step { place, rule: rule.into(), result, packets: None, decides: false });
    }

    /// Looks up the route of the host to the present destination.
    pub fn routed(&mut self) -> Result<RouteSeen, End> {
        let to = self.packet.destination;
        let failed = |why: String| End::new(Verdict::Unknown, format!("the route to {to} cannot be looked up: {why}"));
        match self.look.route(None, to).map_err(failed)? {
            Some(route) => {
                let gateway = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
                let words = match route.local {
                    true => format!("{to} is an address of this host"),
                    false => format!("{to}{gateway} dev {}", route.link.name),
                };
                self.note("route", words, "ok");
                Ok(route)
            }
            None => {
                self.note("route", to.to_string(), "none");
                Err(End::new(Verdict::NoRoute, format!("this host has no route to {to}")))
            }
        }
    }

    pub fn link(&self, name: &str) -> Option<PacketLink> {
        let unseen = || PacketLink { name: name.to_owned(), ..PacketLink::default() };
        Some(self.look.link(name).unwrap_or_else(unseen))
    }

    /// The host sends.
    fn send(&mut self) -> Ended {
        let route = self.routed()?;
        self.packet.source = route.source.unwrap_or(self.packet.destination);
        self.packet.link_out = Some(route.link.clone());
        self.pass(Hook::Output)?;
        let route = if self.packet.translated { self.routed()? } else { route };
        if route.local {
            self.packet.link_in = self.link("lo");
            self.packet.link_out = None;
            self.pass(Hook::Input)?;
            return self.arrive_at_host();
        }
        self.packet.link_out = Some(route.link.clone());
        self.pass(Hook::Postrouting)?;
        self.leave(&route)
    }

    /// A packet comes from an address that no network of Pontoon has.
    fn come_in(&mut self, from: IpAddr) -> Ended {
        self.packet.source = from;
        let found = self.look.route(None, from).ok().flatten();
        let Some(route) = found else {
            return Err(End::new(Verdict::NoRoute, format!("this host has no route to {from}, so it cannot answer")));
        };
        if let Some(target) = member_at(&self.known, self.packet.destination) {
            let network = target.network;
            let same = route.gateway.is_none() && route.link.name == network.link.as_str();
            if target.endpoint.attachment.host().is_none() || same && network.kind == "user_bridge" {
                return Err(self.lan(network.link.as_str()));
            }
        }
        self.packet.link_in = Some(route.link);
        self.arrive()
    }

    /// A packet has reached the host's network layer by a link.
    pub fn arrive(&mut self) -> Ended {
        self.pass(Hook::Prerouting)?;
        let route = self.routed()?;
        if route.local {
            self.pass(Hook::Input)?;
            return self.arrive_at_host();
        }
        let link_in = self.packet.link_in.clone().unwrap_or_default();
        if !self.look.forwards(&link_in.name, self.packet.family()) {
            let setting = self.packet.family().choose("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding");
            self.note("forwarding", format!("{setting} is 0"), "DROP");
            return Err(End::new(Verdict::Dropped, format!("this host does not forward packets: {setting} is 0")));
        }
        self.packet.link_out = Some(route.link.clone());
        self.pass(Hook::Forward)?;
        self.pass(Hook::Postrouting)?;
        self.leave(&route)
    }

    /// A container sends.
    fn leave_container(&mut self, name: &str, members: &[Member<'a>]) -> Ended {
        let to = self.packet.destination;
        let sandbox = members.iter().find_map(Member::sandbox);
        let Some(sandbox) = sandbox else {
            if members.iter().any(Member::is_hidden) {
                return Err(End::new(Verdict::Unknown, hidden(name)));
            }
            return Err(End::new(Verdict::NoRoute, format!("{name} is in no container that runs")));
        };
        let inside = self.look.route(Some(sandbox), to);
        let route = match inside {
            Ok(Some(route)) => Some(route),
            Ok(None) => {
                self.note(&format!("route of {name}"), to.to_string(), "none");
                return Err(End::new(Verdict::NoRoute, format!("{name} has no route to {to}")));
            }
            Err(why) => {
                self.note(&format!("route of {name}"), format!("cannot be read: {why}"), "assumed");
                None
            }
        };
        if let Some(route) = route.as_ref().filter(|route| route.local) {
            self.packet.source = route.source.unwrap_or(to);
            let own = members.iter().find(|member| member.has(to)).copied();
            self.note(&format!("route of {name}"), "an address of its own", "ok");
            return match own {
                Some(own) => self.deliver(own),
                None => Ok(End::new(Verdict::Accepted, "the container sends to itself")),
            };
        }
        let source = route.as_ref().and_then(|route| route.source);
        let near = |member: &&Member<'_>| member.network.subnets.iter().any(|subnet| subnet.contains(to));
        let chosen = members.iter().find(|member| source.is_some_and(|source| member.has(source)));
        let chosen = chosen.or_else(|| members.iter().find(near)).or_else(|| members.first());
        let Some(member) = chosen.copied() else {
            return Err(End::new(Verdict::NoRoute, format!("{name} has no endpoint")));
        };
        let Some(source) = source.or_else(|| member.address(self.packet.family())) else {
            return Err(End::new(Verdict::NoRoute, format!("{name} has no address of this family")));
        };
        self.packet.source = source;
        self.packet.mac = member.endpoint.detail.mac;
        let gateway = match &route {
            Some(route) => route.gateway,
            None if near(&&member) => None,
            None => member.network.detail.gateways.iter().copied().find(|gateway| gateway.is_ipv6() == to.is_ipv6()),
        };
        let words = match gateway {
            Some(gateway) => format!("{to} via {gateway}"),
            None => format!("{to} is on its network"),
        };
        self.note(&format!("route of {name}"), words, "ok");
        match member.endpoint.attachment.host() {
            Some(port) => self.enter_bridge(member, port.as_str(), gateway),
            None => self.leave_child(member, gateway),
        }
    }

    fn enter_bridge(&mut self, member: Member<'a>, port: &str, gateway: Option<IpAddr>) -> Ended {
        let (to, bridge) = (self.packet.destination, member.network.link.as_str());
        self.packet.link_in = self.link(port);
        self.pass(Hook::BridgeIn)?;
        match gateway {
            Some(gateway) if !local(self.look, gateway) => return Err(self.other_router(gateway)),
            None if !local(self.look, to) => {
                let target = member_at(&self.known, to).filter(|target| target.network.link == member.network.link);
                return match target {
                    Some(target) => self.bridged(member, target),
                    None => Err(self.no_endpoint(member.network.kind.as_str(), bridge)),
                };
            }
            _ => {}
        }
        self.pass(Hook::BridgeLocal)?;
        self.packet.link_in = self.link(bridge);
        self.arrive()
    }
}
