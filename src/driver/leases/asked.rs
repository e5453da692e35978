//! What a new endpoint says about itself, and what is to be done after a change.

use dhcp::client::{Notice, Time};
use dhcp::slaac::Routers;
use dhcp::wire::Outgoing;

use super::lessee::Output;
use crate::model::{
    DhcpEndpointOptions, DhcpOptions, EndpointId, IfName, LeaseKey, LeaseOwner, LeaseSource, Mac, NetworkId, Vid,
};
use crate::state::record::Record;

/// What a new endpoint says about itself.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// Its network.
    pub network: &'a NetworkId,
    /// The endpoint.
    pub endpoint: &'a EndpointId,
    /// The link of the network.
    pub link: &'a IfName,
    /// Its VLAN.
    pub vlan: Option<Vid>,
    /// The hardware address that the user chose.
    pub mac: Option<Mac>,
    /// The hardware address of the link, if all endpoints share it.
    pub shared: Option<Mac>,
    /// The options of the network.
    pub network_options: &'a DhcpOptions,
    /// The options of the endpoint.
    pub options: &'a DhcpEndpointOptions,
    /// See [`crate::model::lease::fingerprint`].
    pub fingerprint: String,
}

impl Asked<'_> {
    /// The key of one of its leases.
    pub fn key(&self, owner: LeaseOwner, source: LeaseSource) -> LeaseKey {
        LeaseKey { link: self.link.clone(), vlan: self.vlan, owner, source }
    }

    /// Whether an identity is on its network.
    pub fn is_here(&self, key: &LeaseKey) -> bool {
        key.link == *self.link && key.vlan == self.vlan
    }
}

/// What is to be done after a change, in this order: records are written before messages are sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// To write.
    pub records: Vec<Record>,
    /// To send, each on its link and for an identity.
    pub sends: Vec<(LeaseKey, Outgoing)>,
    /// To report.
    pub notices: Vec<(LeaseKey, Notice)>,
}

impl Due {
    /// Adds what a client yields. One solicitation is for all clients on a network.
    pub(super) fn collect(&mut self, key: &LeaseKey, outputs: Vec<Output>, routers: &mut Routers, now: Time) {
        for output in outputs {
            match output {
                Output::Send(Outgoing::Solicitation) if !routers.ask(now) => {}
                Output::Send(message) => self.sends.push((key.clone(), message)),
                Output::Notice(notice) => self.notices.push((key.clone(), notice)),
            }
        }
    }
}
