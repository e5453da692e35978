//! Networks whose containers are attached to a link of the host by macvlan: they are directly on that link's
//! network, and the host's firewall does not see their packets.

use super::{Kind, Refusal, host_access, links, parent};
use crate::datapath::Datapath;
use crate::datapath::object::Macvlan;
use crate::model::kind::MacvlanMode;
use crate::model::{Attachment, Endpoint, EndpointSpec, IfName, LinkRole, Network, NetworkKind};

/// See the module documentation.
pub struct Children;

impl Kind for Children {
    fn network(&self, network: &Network) -> Datapath {
        parent::network(network)
    }

    fn endpoint(&self, network: &Network, endpoint: &Endpoint) -> Datapath {
        let (NetworkKind::Macvlan { parent, mode, .. }, Attachment::Macvlan { link }) =
            (&network.kind, &endpoint.attachment)
        else {
            return Datapath::empty();
        };
        let child = Macvlan { parent: parent.clone(), mode: *mode, mac: endpoint.mac, mtu: endpoint.mtu(network.mtu) };
        host_access::endpoint(network, endpoint, links(endpoint, [(link.clone(), child.into())]))
    }

    fn attach(&self, name: &mut dyn FnMut(LinkRole) -> IfName) -> Attachment {
        Attachment::Macvlan { link: name(LinkRole::Peer) }
    }

    fn capacity(&self, network: &Network) -> usize {
        match network.kind {
            NetworkKind::Macvlan { mode: MacvlanMode::Passthru, .. } => 1,
            _ => usize::MAX,
        }
    }

    fn check_endpoint(&self, network: &Network, endpoint: &EndpointSpec) -> Result<(), Refusal> {
        parent::check_endpoint(network, endpoint)
    }

    /// The parent. Its frames do not reach the other children, which are in the pool.
    fn lan<'a>(&self, network: &'a Network) -> Option<&'a IfName> {
        network.kind.parent()
    }

    fn check_published(&self, network: &Network) -> Result<(), Refusal> {
        host_access::check_published(network)
    }
}
