//! Which link of this host is the parent of a network's links, out of the candidates that the network names.

use super::Refusal;
use crate::datapath::{LinkInfo, Surroundings};
use crate::model::kind::ParentVlan;
use crate::model::parent::{Candidate, ParentChoice};
use crate::model::{IfName, NetworkSpec, Vid, options};

/// What a choice needs to know about the host. Errors are those of the kernel.
pub struct Host<'a, E> {
    /// Looks up a link by name.
    pub find: &'a mut dyn FnMut(&IfName) -> Result<Option<LinkInfo>, E>,
    /// Reads routes and addresses; called only for candidates that need them.
    pub around: &'a mut dyn FnMut() -> Result<Surroundings, E>,
}

impl<E: From<Refusal>> Host<'_, E> {
    /// The parent: the first candidate that exists here, or can be created. A choice of a single name is taken as it is.
    ///
    /// # Errors
    /// Those of the kernel, and a refusal with all candidates when the host has none.
    pub fn choose(&mut self, spec: &NetworkSpec, choice: &ParentChoice) -> Result<IfName, E> {
        if let Some(name) = choice.fixed() {
            return Ok(name.clone());
        }
        let mut around = None;
        let mut missing = Vec::new();
        for candidate in choice.candidates() {
            match self.look_for(candidate, &mut around)? {
                Ok(name) => return Ok(name),
                Err(why) => missing.push(why),
            }
        }
        Err(E::from(Refusal(format!(
            "network {}: this host has no link for {}={choice}: {}; name one that `ip link` shows on this host",
            spec.id,
            options::PARENT,
            missing.join(", ")
        ))))
    }

    /// Whether a parent is present, or the link below it if Pontoon creates it.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn has(&mut self, name: &IfName) -> Result<bool, E> {
        if (self.find)(name)?.is_some_and(|link| !link.is_ours()) {
            return Ok(true);
        }
        // Pontoon creates it as soon as the link below is there.
        match ParentVlan::of(name) {
            Some(vlan) => Ok((self.find)(&vlan.below)?.is_some()),
            None => Ok(false),
        }
    }

    /// The link that a candidate means here, or why there is none.
    fn look_for(
        &mut self,
        candidate: &Candidate,
        around: &mut Option<Surroundings>,
    ) -> Result<Result<IfName, String>, E> {
        if let Candidate::Link(name) = candidate {
            return Ok(if self.has(name)? { Ok(name.clone()) } else { Err(format!("there is no link {name}")) });
        }
        let around = match around {
            Some(around) => around,
            none => none.insert((self.around)()?),
        };
        let (found, vid, what) = match candidate {
            Candidate::Subnet(subnet, vid) => {
                let in_subnet = around.addresses.iter().find(|(address, _)| subnet.contains(address.ip()));
                let name = in_subnet.and_then(|(_, link)| IfName::parse(link).ok());
                (name, *vid, format!("no link has an address in {subnet}"))
            }
            Candidate::DefaultRoute(vid) => (around.uplink.clone(), *vid, "there is no default route".to_owned()),
            Candidate::Link(name) => (Some(name.clone()), None, String::new()),
        };
        Ok(found.ok_or(what).and_then(|name| vlan_of(&name, vid)))
    }
}

/// The link itself, or the name of its VLAN.
fn vlan_of(link: &IfName, vid: Option<Vid>) -> Result<IfName, String> {
    let Some(vid) = vid else { return Ok(link.clone()) };
    IfName::parse(&format!("{link}.{vid}")).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{NetworkId, NetworkOptions};

    fn info(group: u32) -> LinkInfo {
        LinkInfo { kind: String::new(), mtu: 1500, group, mac: None, away: false, filters_vlans: false }
    }

    /// The parent on a host with these links; eno1 has the default route, eth5 an address in 192.168.5.0/24.
    fn chosen(links: &[&str], choice: &str) -> Result<String, String> {
        let links: BTreeSet<_> = links.iter().copied().collect();
        let around = Surroundings {
            addresses: vec![("192.168.5.9/24".parse().unwrap(), "eth5".to_owned())],
            uplink: links.contains("eno1").then(|| IfName::parse("eno1").unwrap()),
            ..Surroundings::default()
        };
        let spec = NetworkSpec {
            id: NetworkId::parse("n").unwrap(),
            v4: None,
            v6: None,
            internal: false,
            options: NetworkOptions::default(),
        };
        let mut host = Host::<Refusal> {
            find: &mut |name| Ok(links.contains(name.as_str()).then(|| info(0))),
            around: &mut || Ok(around.clone()),
        };
        let found = host.choose(&spec, &choice.parse().unwrap());
        found.map(|name| name.to_string()).map_err(|refused| refused.to_string())
    }

    #[test]
    fn the_first_candidate_that_the_host_has_is_the_parent() {
        for (links, choice, parent) in [
            (&["eth0", "eno1"][..], "eth0,eno1", "eth0"),
            (&["eno1"], "eth0,eno1", "eno1"),
            (&["eno1"], "eth0.40,eno1.40", "eno1.40"),
            (&["eno1"], "@default", "eno1"),
            (&["eno1"], "@default.40", "eno1.40"),
            (&["eth5"], "@192.168.5.0/24", "eth5"),
            (&["eth5"], "@192.168.0.0/16.7", "eth5.7"),
            (&["eth0"], "@default,@10.0.0.0/8,eth0", "eth0"),
            // A single name is checked where it is used, with its own words.
            (&[], "eth0", "eth0"),
        ] {
            assert_eq!(chosen(links, choice).as_deref(), Ok(parent), "{choice} of {links:?}");
        }
    }

    #[test]
    fn a_host_without_any_candidate_is_told_why_for_each() {
        let text = chosen(&["wlan0"], "eth0,eno1.40,@default,@10.9.0.0/16").unwrap_err();
        for says in [
            "parent=eth0,eno1.40,@default,@10.9.0.0/16",
            "there is no link eth0",
            "no link eno1.40",
            "no default route",
            "no link has an address in 10.9.0.0/16",
            "`ip link`",
        ] {
            assert!(text.contains(says), "{text}: {says}");
        }
    }
}
