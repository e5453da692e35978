//! Removes everything that Pontoon ever creates in a network namespace, recognised by its marks alone: the
//! groups of its links, the name of its tables in every family, the comment of its rules. No ledger is
//! needed.
//!
//! Forwarding is turned off again if Pontoon alone turned it on: without the tables nothing would block
//! forwarding between foreign links. Called by the app, for `pontoon uninstall`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::firewall::ruleset::TABLE;
use super::forward;
use super::link::{self, LinkRecord};
use super::netlink::{Explain as _, Failure, OwnPorts, Protocol, Socket};
use super::observe;
use super::sysctl::Sysctls;
use super::tlv::text;
use crate::datapath::KernelError;
use crate::model::Family;
use nft::batch::commit;
use nft::message::{self, GET_TABLE, TABLE_NAME, attributes, wire};

/// What exists in the namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remains {
    /// Links, by name.
    pub links: BTreeSet<String>,
    /// Those of the links that a container uses or may use, see [`in_use`].
    pub attached: BTreeSet<String>,
    /// Families of nftables that have a Pontoon table, by number.
    pub tables: BTreeSet<u8>,
    /// Number of accepting rules in the engine's chains.
    pub rules: usize,
}

impl Remains {
    /// Whether nothing exists.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.tables.is_empty() && self.rules == 0
    }
}

/// Whether deleting the link may cut a container off: the other end of a pair is in another network namespace; or it is
/// a VLAN link, whose macvlan and ipvlan children in other namespaces the kernel does not show, and deletes with it.
fn in_use(link: &LinkRecord) -> bool {
    link.live() && (link.away && link.kind == "veth" || link.kind == "vlan")
}

/// Finds and removes what exists.
#[derive(Debug)]
pub struct Uninstaller {
    route: Socket,
    nft: Socket,
    sysctls: Sysctls,
}

impl Uninstaller {
    /// Opens the sockets.
    ///
    /// # Errors
    /// The system's error for a socket.
    pub fn open(sysctls: PathBuf) -> Result<Self, KernelError> {
        let ports = Arc::new(OwnPorts::default());
        let open = |protocol| Socket::open(protocol, ports.clone()).map_err(|f| f.of("open the kernel's", "sockets"));
        Ok(Self { route: open(Protocol::Route)?, nft: open(Protocol::Netfilter)?, sysctls: Sysctls::new(sysctls) })
    }

    /// What exists.
    ///
    /// # Errors
    /// Errors of a dump.
    pub fn look(&mut self) -> Result<Remains, KernelError> {
        let links = self.links()?;
        let named = |links: &mut dyn Iterator<Item = &LinkRecord>| links.map(|link| link.name.clone()).collect();
        let mut rules = 0;
        for family in Family::ALL {
            let found =
                forward::read(&mut self.nft, family).map_err(|f| f.of("list", "rules of the engine's chains"))?;
            rules += found.map_or(0, |found| found.len());
        }
        Ok(Remains {
            links: named(&mut links.iter()),
            attached: named(&mut links.iter().filter(|link| in_use(link))),
            tables: self.tables().map_err(|f| f.of("list", "tables"))?,
            rules,
        })
    }

    /// Removes everything. Accepting rules go first: at no time does an accepting rule exist without the
    /// rules that drop.
    ///
    /// # Errors
    /// The kernel's error for the first object that cannot be removed.
    pub fn remove(&mut self) -> Result<(), KernelError> {
        for family in Family::ALL {
            forward::ensure(&mut self.nft, family, &[]).map_err(|f| f.of("remove", "rules of the engine's chains"))?;
        }
        let all = link::list(&mut self.route).map_err(|f| f.of("list", "links"))?;
        for family in Family::ALL {
            let forwarding_links: Vec<_> = observe::forwarding_links(&all, family).collect();
            if self.sysctls.stop_forwarding(family).map_err(|f| f.of("turn off", "forwarding"))? && !family.is_v6() {
                for link in forwarding_links {
                    self.sysctls.forward_from(&link).map_err(|f| f.of("give back forwarding to", link.as_str()))?;
                }
            }
        }
        // Ports first, so that no port is ever on a bridge that is not protected any more.
        let mut links = self.links()?;
        links.sort_by_key(|link| link.kind == "bridge");
        for link in links {
            link::delete(&mut self.route, link.index).map_err(|f| f.of("delete link", &link.name))?;
        }
        let tables = self.tables().map_err(|f| f.of("list", "tables"))?;
        let messages: Vec<_> = tables.iter().map(|family| message::delete_table(*family, TABLE)).collect();
        commit(&mut self.nft, &messages).map_err(|f| f.of("delete", "tables of nftables"))
    }

    fn links(&mut self) -> Result<Vec<LinkRecord>, KernelError> {
        let mut links = link::list(&mut self.route).map_err(|f| f.of("list", "links"))?;
        links.retain(|link| link.live() || link.dead());
        Ok(links)
    }

    fn tables(&mut self) -> Result<BTreeSet<u8>, Failure> {
        let found = self.nft.list(wire(GET_TABLE), &[0; 4], |_, payload| {
            let named = attributes(payload).find(TABLE_NAME).and_then(text) == Some(TABLE);
            named.then(|| payload.first().copied())
        })?;
        Ok(found.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::{GROUP_DEAD, GROUP_LIVE};

    #[test]
    fn a_vlan_link_may_have_children_that_are_out_of_sight() {
        let link = |kind: &str, group, away| LinkRecord { kind: kind.to_owned(), group, away, ..LinkRecord::default() };
        assert!(in_use(&link("veth", GROUP_LIVE, true)) && in_use(&link("vlan", GROUP_LIVE, false)));
        for unused in
            [link("veth", GROUP_LIVE, false), link("bridge", GROUP_LIVE, false), link("vlan", GROUP_DEAD, false)]
        {
            assert!(!in_use(&unused), "{unused:?}");
        }
    }
}
