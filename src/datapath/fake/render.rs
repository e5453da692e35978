//! Owns the fake's state as text.

use super::{Element, FakeKernel};
use crate::model::IfName;

impl FakeKernel {
    /// The state as lines like those of `ip`, `bridge` and `nft`, for comparing by eye.
    pub fn render(&self) -> String {
        let world = self.world();
        let mut lines = Vec::new();
        for (name, b) in &world.datapath.bridges {
            let addresses: Vec<_> = b.addresses.iter().map(ToString::to_string).collect();
            let (state, v6) = (if b.up { "up" } else { "down" }, if b.ipv6 { " ipv6" } else { "" });
            lines.push(format!("link {name} bridge mtu {} {state}{v6} {}", b.mtu, addresses.join(" ")));
        }
        for (host, v) in &world.datapath.veths {
            let master = v.bridge.as_ref().map_or("none", IfName::as_str);
            let isolated = if v.isolated { " isolated" } else { "" };
            lines.push(format!("link {host} veth peer {} master {master} mtu {}{isolated}", v.peer, v.mtu));
        }
        for (link, v) in &world.datapath.vxlans {
            let master = v.bridge.as_ref().map_or("none", IfName::as_str);
            lines.push(format!("link {link} vxlan id {} local {} master {master} peers {:?}", v.vni, v.local, v.peers));
        }
        match &world.datapath.elements {
            None => lines.push("no table inet pontoon".to_owned()),
            // Forwarding stays on, and this with it, when nothing needs it any more.
            Some(elements) => {
                let lasting = elements.iter().filter(|element| !matches!(element, Element::Closed(_)));
                lines.extend(lasting.map(|e| format!("element {e:?}")));
            }
        }
        lines.join("\n")
    }
}
