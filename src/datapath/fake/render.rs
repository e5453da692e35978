//! Renders the fake's state as text.

use super::{FakeKernel, Policy};

impl FakeKernel {
    /// The state in lines like those of `ip`, `bridge` and `nft`, for people to compare.
    pub fn render(&self) -> String {
        let world = self.world();
        let mut lines = Vec::new();
        lines.extend(world.datapath.objects.iter().map(|(name, object)| format!("link {name} {object:?}")));
        match &world.datapath.policy {
            None => lines.push("no table inet pontoon".to_owned()),
            // Forwarding stays on when no network needs it any more, and this element with it.
            Some(elements) => {
                let lasting = elements.iter().filter(|element| !matches!(element, Policy::LimitedForwarding(_)));
                lines.extend(lasting.map(|e| format!("element {e:?}")));
            }
        }
        lines.join("\n")
    }
}
