//! Bridges: those that Pontoon creates, and foreign ones that networks use.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;

use super::Change;
use crate::model::Mac;

/// A bridge, desired or observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// True when Pontoon created it (group [`GROUP_LIVE`]); a foreign bridge only gets ports.
    pub owned: bool,
    /// Its hardware address; `None` for a foreign bridge.
    pub mac: Option<Mac>,
    /// MTU in bytes. Not compared for a foreign bridge.
    pub mtu: u32,
    /// Interface alias, for people who read `ip link`.
    pub alias: String,
    /// Addresses with prefix length. Only those that Pontoon wants are compared and removed.
    pub addresses: BTreeSet<IpNetwork>,
    /// Whether IPv6 is on for the bridge itself (`disable_ipv6` = 0).
    pub ipv6: bool,
    /// Whether packets to and from 127.0.0.0/8 are routed there: `route_localnet` = 1.
    pub localnet: bool,
    /// Whether it learns nothing from frames to 01:80:c2:00:00:0x, floods multicasts regardless of queries
    /// and reports, and limits the number of learned hardware addresses. Not compared for a foreign bridge.
    pub hardened: bool,
    /// Whether it filters VLANs. Only observed: Pontoon changes it for no bridge.
    pub filters_vlans: bool,
    /// Whether it is administratively up.
    pub up: bool,
}

impl Bridge {
    /// The changes that turn `self` into `want`; `None` when it must be created or completed as a whole. Only
    /// settings that Pontoon makes are compared.
    pub(super) fn changes(&self, want: &Self) -> Option<Vec<Change>> {
        if !(self.owned && want.owned) {
            return Some(if self.up { Vec::new() } else { vec![Change::Up] });
        }
        // The alias is set after all settings that are made once: a bridge without it is incomplete.
        if self.alias != want.alias {
            return None;
        }
        let mut changes = Vec::new();
        changes.extend(want.mac.filter(|_| self.mac != want.mac).map(Change::Mac));
        changes.extend((self.mtu != want.mtu).then_some(Change::Mtu(want.mtu)));
        changes.extend((want.hardened && !self.hardened).then_some(Change::Harden));
        changes.extend((want.ipv6 && !self.ipv6).then_some(Change::EnableIpv6));
        changes.extend((!self.up).then_some(Change::Up));
        // Its route needs a link that is up.
        changes.extend((want.localnet && !self.localnet).then_some(Change::RouteLocalnet));
        changes.extend(want.addresses.difference(&self.addresses).copied().map(Change::AddAddress));
        // The kernel creates link-local addresses itself; Pontoon must not remove them.
        let link_local = |net: &&IpNetwork| matches!(net, IpNetwork::V6(net) if net.ip().is_unicast_link_local());
        let removed = self.addresses.difference(&want.addresses).filter(|net| !link_local(net));
        changes.extend(removed.copied().map(Change::RemoveAddress));
        Some(changes)
    }

    /// Applies a change, for the fake kernel; false when a bridge has no such setting.
    pub(super) fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Mtu(mtu) => self.mtu = *mtu,
            Change::Mac(mac) => self.mac = Some(*mac),
            Change::Up => self.up = true,
            Change::Harden => self.hardened = true,
            Change::EnableIpv6 => self.ipv6 = true,
            Change::RouteLocalnet => self.localnet = true,
            Change::AddAddress(address) => drop(self.addresses.insert(*address)),
            Change::RemoveAddress(address) => drop(self.addresses.remove(address)),
            _ => return false,
        }
        true
    }
}
