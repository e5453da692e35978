//! Networks whose containers are attached to a link of the host by ipvlan: they share the hardware address of that
//! link. In the modes l2 and l3 the host's firewall does not see their packets.

use super::{Kind, Refusal, host_access, links, parent};
use crate::datapath::Datapath;
use crate::datapath::object::Ipvlan;
use crate::model::kind::IpvlanMode;
use crate::model::{Attachment, Endpoint, EndpointSpec, IfName, LinkRole, Network, NetworkKind};

/// See the module documentation.
pub struct Children;

impl Kind for Children {
    fn network(&self, network: &Network) -> Datapath {
        parent::network(network)
    }

    fn endpoint(&self, network: &Network, endpoint: &Endpoint) -> Datapath {
        let (NetworkKind::Ipvlan { parent, mode, flag, .. }, Attachment::Ipvlan { link }) =
            (&network.kind, &endpoint.attachment)
        else {
            return Datapath::empty();
        };
        let child = Ipvlan { parent: parent.clone(), mode: *mode, flag: *flag, mtu: endpoint.mtu(network.mtu) };
        host_access::endpoint(network, endpoint, links(endpoint, [(link.clone(), child.into())]))
    }

    fn attach(&self, name: &mut dyn FnMut(LinkRole) -> IfName) -> Attachment {
        Attachment::Ipvlan { link: name(LinkRole::Peer) }
    }

    fn capacity(&self, _: &Network) -> usize {
        usize::MAX
    }

    fn check_endpoint(&self, network: &Network, endpoint: &EndpointSpec) -> Result<(), Refusal> {
        if let Some(mac) = endpoint.mac {
            return Err(Refusal(format!(
                "endpoint {}: --mac-address {mac} is not possible on {}, an ipvlan network, whose containers share the \
                 hardware address of {}: remove it, or use a macvlan network",
                endpoint.id,
                network.spec.id,
                network.kind.link()
            )));
        }
        parent::check_endpoint(network, endpoint)
    }

    fn routes_on_link(&self, network: &Network) -> bool {
        matches!(network.kind, NetworkKind::Ipvlan { mode: IpvlanMode::L3 | IpvlanMode::L3s, .. })
    }

    /// The parent. Its frames do not reach the other children, which are in the pool. Only l2 has stations.
    fn lan<'a>(&self, network: &'a Network) -> Option<&'a IfName> {
        network.kind.parent().filter(|_| !self.routes_on_link(network))
    }

    fn check_published(&self, network: &Network) -> Result<(), Refusal> {
        host_access::check_published(network)
    }
}
