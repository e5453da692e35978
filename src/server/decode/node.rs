//! Reports about the nodes of a Swarm.

use std::net::IpAddr;

use crate::api::network::DiscoverRequest;
use crate::driver::Node;
use crate::model::overlay;

/// The only discovery type that engines pass on: a node.
const NODE: i64 = 1;

/// The node that a request is about; `None` if the request contains no usable node, which is logged.
pub fn node(request: &DiscoverRequest) -> Option<Node> {
    if request.discovery_type != NODE {
        return None;
    }
    let data = &request.discovery_data;
    let text = data.get("Address").and_then(|value| value.as_str()).unwrap_or_default();
    let own = data.get("Self").and_then(|value| value.as_bool()).unwrap_or(false);
    match text.parse::<IpAddr>() {
        Ok(address) if overlay::no_host(address).is_none() => Some(Node { address, own }),
        _ => {
            tracing::warn!(address = text, "ignoring a node without a usable address");
            None
        }
    }
}
