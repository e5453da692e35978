//! The last part of the way: within a bridge, on a parent, out of the host, and to the listening socket.

use std::net::IpAddr;

use super::Verdict;
use super::party::{Member, hidden, member_at};
use super::question::protocol;
use super::walk::{End, Ended, Walk};
use crate::datapath::passage::{Hook, ICMP, ListenerSeen, RouteSeen};

impl<'a> Walk<'a> {
    /// A frame stays within a bridge.
    pub(super) fn bridged(&mut self, from: Member<'a>, target: Member<'a>) -> Ended {
        let bridge = from.network.link.as_str();
        let port = |member: Member<'a>| member.endpoint.attachment.host().map_or("", |host| host.as_str());
        let (port_in, port_out) = (port(from), port(target));
        if from.network.vlan != target.network.vlan {
            self.note(&format!("bridge {bridge}"), "the ports are in different VLANs", "DROP");
            return Err(End::new(Verdict::Dropped, "the containers are in different VLANs of the bridge"));
        }
        if self.look.is_isolated(port_in) && self.look.is_isolated(port_out) {
            self.note(&format!("bridge {bridge}"), "both ports are isolated", "DROP");
            let end = End::new(Verdict::Dropped, "the network was created with enable_icc=false");
            return Err(End { target: Some(target.endpoint.id.as_str().to_owned()), ..end });
        }
        self.note(&format!("bridge {bridge}"), format!("{port_in} to {port_out}"), "ok");
        let filtered = self.look.calls_iptables(bridge, self.packet.family());
        if filtered {
            self.packet.link_in = self.link(bridge);
            self.pass(Hook::Prerouting)?;
        }
        (self.packet.link_in, self.packet.link_out) = (self.link(port_in), self.link(port_out));
        self.pass(Hook::BridgeForward)?;
        if filtered {
            (self.packet.link_in, self.packet.link_out) = (self.link(bridge), self.link(bridge));
            self.pass(Hook::Forward)?;
        }
        (self.packet.link_in, self.packet.link_out) = (self.link(port_in), self.link(port_out));
        self.pass(Hook::BridgeOut)?;
        self.deliver(target)
    }

    /// A container on a parent sends.
    pub(super) fn leave_child(&mut self, from: Member<'a>, gateway: Option<IpAddr>) -> Ended {
        let (to, network) = (self.packet.destination, from.network);
        let (parent, children) = (network.link.as_str(), network.detail.children.clone().unwrap_or_default());
        let is_host = |address| self.look.route(None, address).ok().flatten().is_some_and(|route| route.local);
        if is_host(gateway.unwrap_or(to)) {
            let Some(link) = network.detail.host_link.clone() else {
                self.note(&format!("parent {parent}"), "passes no packets between itself and its children", "DROP");
                return Err(End::new(Verdict::Dropped, format!("the kernel keeps {parent} and its children apart")));
            };
            self.packet.link_in = self.link(link.as_str());
            return self.arrive();
        }
        if let Some(gateway) = gateway {
            return Err(self.other_router(gateway));
        }
        match member_at(&self.known, to).filter(|target| target.network.link == network.link) {
            Some(target) if target.network.vlan == network.vlan && children == "bridge" => {
                self.note(&format!("parent {parent}"), "passes packets between its children", "ok");
                self.deliver(target)
            }
            Some(_) if children == "private" => {
                self.note(&format!("parent {parent}"), "passes no packets between its children", "DROP");
                Err(End::new(Verdict::Dropped, format!("mode private keeps the containers on {parent} apart")))
            }
            _ => Err(self.lan(parent)),
        }
    }

    /// Another host, which this one does not see, decides.
    pub(super) fn lan(&mut self, link: &str) -> End {
        self.note(&format!("link {link}"), "the network outside decides", "unknown");
        End::new(
            Verdict::Unknown,
            format!("the packets do not pass this host's firewall: the switches and hosts on {link} decide"),
        )
    }

    pub(super) fn other_router(&mut self, gateway: IpAddr) -> End {
        self.note("gateway", gateway.to_string(), "unknown");
        End::new(Verdict::Unknown, format!("the router {gateway}, which is not this host, decides"))
    }

    /// No endpoint of this host has the destination.
    pub(super) fn no_endpoint(&mut self, kind: &str, link: &str) -> End {
        let to = self.packet.destination;
        match kind {
            "overlay" => {
                self.note(&format!("bridge {link}"), "leaves by the tunnel", "unknown");
                let why = format!("{to} is not on this host: pontoon explain has to be asked on the host that has it");
                End::new(Verdict::Unknown, why)
            }
            "bridge" => {
                self.note(&format!("bridge {link}"), to.to_string(), "none");
                End::new(Verdict::NoRoute, format!("no endpoint of the network has the address {to}"))
            }
            _ => self.lan(link),
        }
    }

    /// A packet leaves the host's network layer by a link.
    pub(super) fn leave(&mut self, route: &RouteSeen) -> Ended {
        let (to, link) = (self.packet.destination, route.link.name.as_str());
        if let Some(target) = member_at(&self.known, to) {
            let network = target.network;
            let reaches = match &network.detail.host_link {
                Some(host) => host.as_str() == link,
                None => network.link.as_str() == link && target.endpoint.attachment.host().is_some(),
            };
            if reaches {
                if let Some(port) = target.endpoint.attachment.host() {
                    self.packet.link_out = self.link(port.as_str());
                    self.pass(Hook::BridgeOut)?;
                }
                return self.deliver(target);
            }
            let why = match target.endpoint.attachment.host() {
                None if network.link.as_str() == link => {
                    self.note(&format!("parent {link}"), "passes no packets between itself and its children", "DROP");
                    return Err(End::new(Verdict::Dropped, format!("the kernel keeps {link} and its children apart")));
                }
                None => return Err(self.lan(link)),
                Some(_) => format!("the route to {to} leads to {link}, and not into its network {}", network.link),
            };
            return Err(End::new(Verdict::NoRoute, why));
        }
        let network = self.known.status.networks.iter().find(|network| network.link.as_str() == link);
        if let Some(network) = network.filter(|_| route.gateway.is_none()) {
            return Err(self.no_endpoint(&network.kind, link));
        }
        self.note(&format!("link {link}"), "leaves this host", "ok");
        Ok(End::new(
            Verdict::Accepted,
            format!("this host lets the packets leave by {link}; what is behind it cannot be seen from here"),
        ))
    }

    /// A packet for the host itself.
    pub(super) fn arrive_at_host(&mut self) -> Ended {
        if self.packet.reserved && !self.packet.translated {
            let why =
                "the published port is not translated at this address from there: docs/ports.md lists where it is";
            return Err(End::new(Verdict::Dropped, why));
        }
        self.listening(None, "this host")
    }

    /// A packet for a container.
    pub(super) fn deliver(&mut self, target: Member<'a>) -> Ended {
        let id = target.endpoint.id.as_str();
        let name = self.known.names.endpoint(id);
        let with = |end: End| End { target: Some(id.to_owned()), ..end };
        match target.sandbox() {
            Some(sandbox) => self.listening(Some(sandbox), &name).map(with).map_err(with),
            None if target.is_hidden() => Err(with(End::new(Verdict::Unknown, hidden(&name)))),
            None => Err(with(End::new(Verdict::NoListener, format!("{name} is in no container that runs")))),
        }
    }

    fn listening(&mut self, sandbox: Option<&str>, name: &str) -> Ended {
        let (to, port, number) = (self.packet.destination, self.packet.port, self.packet.protocol);
        if ICMP.contains(&number) {
            self.note(name, "the kernel answers ICMP", "ok");
            return Ok(End::new(Verdict::Accepted, format!("the packets reach {name}")));
        }
        let what = format!("{port}/{}", protocol(number));
        let sockets = match self.look.listeners(sandbox, number) {
            Ok(sockets) => sockets,
            Err(why) => {
                self.note(name, format!("its sockets cannot be read: {why}"), "assumed");
                return Ok(End::new(
                    Verdict::Accepted,
                    format!("the packets reach {name}; whether it listens is not known"),
                ));
            }
        };
        let there: Vec<&ListenerSeen> = sockets.iter().filter(|socket| socket.port == port).collect();
        if let Some(socket) = there.iter().find(|socket| socket.takes(to)) {
            self.note(name, format!("listens on {} {what}", socket.address), "ok");
            return Ok(End::new(Verdict::Accepted, format!("{name} listens on {what}")));
        }
        match there.first() {
            Some(other) => {
                self.note(name, format!("listens on {} {what}", other.address), "refused");
                let why = format!("the server in {name} listens on {} only, and not on {to}", other.address);
                Err(End::new(Verdict::RefusedByApp, why))
            }
            None => {
                self.note(name, format!("no program listens on {what}"), "refused");
                Err(End::new(
                    Verdict::NoListener,
                    format!("the packets reach {name}, but no program listens on {what} there"),
                ))
            }
        }
    }
}
