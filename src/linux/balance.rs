//! Table `ip pontoon_vip` in a container's namespace: balances each new connection to a service address to a
//! random backend.
//!
//! The translation happens where the connection begins. Replies therefore return to where it is undone,
//! whichever host the backend is on, and the backend sees the client's own address. The table is replaced as
//! a whole, in one transaction. Called by `sandbox`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::netlink::{Failure, Request, Socket};
use crate::model::Family;
use nft::batch::commit;
use nft::message::{self, Chain, IPV4};
use nft::{Expressions, Side};

/// The backends of each service address.
pub type Backends = BTreeMap<Ipv4Addr, BTreeSet<Ipv4Addr>>;

const TABLE: &str = "pontoon_vip";

/// Before the engine's own chain, whose rules concern other addresses.
const OUTPUT: Chain = Chain {
    family: IPV4,
    name: "output_nat",
    kind: "nat",
    hook: libc::NF_INET_LOCAL_OUT as u32,
    priority: libc::NF_IP_PRI_NAT_DST - 5,
    comment: "connections to service addresses",
};

/// Replaces the table; deletes it when there are no backends at all.
pub(super) fn write(socket: &mut Socket, backends: &Backends) -> Result<(), Failure> {
    let table = || message::new_table(IPV4, TABLE, "service addresses, by pontoon vip");
    // Deleting a missing table fails, so it is created first.
    let mut messages = vec![table(), message::delete_table(IPV4, TABLE)];
    if backends.values().any(|serving| !serving.is_empty()) {
        messages.extend([table(), message::new_chain(TABLE, &OUTPUT)]);
    }
    for (id, (vip, serving)) in (1..).zip(backends).filter(|(_, (_, serving))| !serving.is_empty()) {
        messages.extend(balanced(id, *vip, serving));
    }
    commit(socket, &messages)
}

fn balanced(id: u32, vip: Ipv4Addr, serving: &BTreeSet<Ipv4Addr>) -> Vec<Request> {
    let entries: Vec<([u8; 4], [u8; 4])> =
        (0u32..).zip(serving).map(|(number, address)| (number.to_ne_bytes(), address.octets())).collect();
    let rule = Expressions::default()
        .is(Side::Destination.address(Family::V4), &vip.octets())
        .dnat_to_random(id, entries.len() as u32);
    let mut messages = vec![message::new_random_map(IPV4, TABLE, id)];
    messages.extend(message::random_map_elements(IPV4, TABLE, id, &entries));
    messages.push(message::new_rule(IPV4, TABLE, OUTPUT.name, rule, "one of the backends"));
    messages
}
