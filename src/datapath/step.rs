//! Owns the steps: the only changes Pontoon ever makes to a kernel.

use ipnetwork::IpNetwork;

use super::{Bridge, Veth};
use crate::model::IfName;

/// An element of one of the sets in table `inet pontoon`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// Set `bridges`: a bridge that only its own network and answers may enter.
    Bridge(IfName),
    /// Set `internal`: a bridge that nothing leaves or enters by routing.
    Internal(IfName),
    /// Set `intra`: the pair (bridge, bridge), traffic within one network.
    Intra(IfName),
    /// Set `masq4` or `masq6`: a subnet whose outbound traffic is masqueraded.
    Masquerade(IpNetwork),
    /// Set `engine`: a bridge of the engine's built-in driver, not to be entered unpublished.
    Engine(IfName),
}

/// Which links a rule in a foreign chain matches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkMatch {
    /// Every link whose name starts with this text (`pnt+` in iptables words).
    Prefix(String),
    /// One link.
    Name(IfName),
}

/// An accepting rule at the end of the engine's `FORWARD` chain, where it overrides nothing but
/// the chain's policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForwardRule {
    /// Accepts what comes in from the link (`-i`).
    From(LinkMatch),
    /// Accepts what goes out to the link (`-o`).
    To(LinkMatch),
}

/// One idempotent change of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Turns on `net.ipv4.ip_forward` (false) or `net.ipv6.conf.all.forwarding` (true).
    Forward {
        /// Which of the two.
        v6: bool,
    },
    /// Makes table `inet pontoon` of this release's shape, with exactly these elements, in one
    /// transaction; replaces whatever has that name.
    CreateTable(Vec<Element>),
    /// Changes elements of its sets in one transaction.
    Elements {
        /// Elements that must be there afterwards.
        add: Vec<Element>,
        /// Elements that must not.
        remove: Vec<Element>,
    },
    /// Makes the accepting rules of one family's `FORWARD` chain exactly these, if it exists.
    ForwardRules {
        /// `ip6 filter` instead of `ip filter`.
        v6: bool,
        /// All of Pontoon's rules there.
        rules: Vec<ForwardRule>,
    },
    /// Creates a bridge, up, with its addresses, MTU (sticky), MAC and group.
    CreateBridge(IfName, Bridge),
    /// Sets the MTU of a bridge of ours or of a host end.
    SetMtu(IfName, u32),
    /// Brings a link up.
    SetUp(IfName),
    /// Turns IPv6 on for a bridge of ours: `disable_ipv6` = 0, `accept_ra` = 0.
    EnableIpv6(IfName),
    /// Adds an address to a bridge of ours (without duplicate address detection).
    AddAddress(IfName, IpNetwork),
    /// Removes an address from a bridge of ours.
    RemoveAddress(IfName, IpNetwork),
    /// Creates a pair with the host end up and a port of its bridge, one queue a side.
    CreateVeth(IfName, Veth),
    /// Makes the host end a port of the bridge.
    SetMaster(IfName, IfName),
    /// Sets or clears isolation of a port.
    Isolate(IfName, bool),
    /// Gives up a pair: deleted in the background, batched with others.
    RetireVeth(IfName),
    /// Gives up a bridge of ours: down at once, deleted in the background.
    RetireBridge(IfName),
}
