//! Answers that are checked before the engine sees them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::values::{Cidr, InvalidValue, MacAddress};
use crate::wire::ipam::{RequestAddressResponse, RequestPoolResponse};
use crate::wire::network::{CreateEndpointResponse, Interface, InterfaceName, JoinResponse, StaticRoute};

/// Longest name of a link, in bytes.
const LINK_NAME: usize = 15;

/// Longest prefix of a link's name, in bytes: one digit has to fit behind it.
const LINK_PREFIX: usize = LINK_NAME - 1;

/// The values that a driver assigns to an endpoint: the MAC address, and IP addresses if no IPAM driver assigned
/// any.
///
/// The engine refuses an answer with a value that the request already set, even the same value. So the server sends
/// only those that the request left blank; a driver may always set the values that the endpoint really has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceAnswer {
    mac: Option<MacAddress>,
    v4: Option<Cidr>,
    v6: Option<Cidr>,
}

impl InterfaceAnswer {
    /// The MAC address of the link in the container.
    #[must_use]
    pub fn mac_address(mut self, mac: impl Into<MacAddress>) -> Self {
        self.mac = Some(mac.into());
        self
    }

    /// An address, of either family; a second one of a family replaces the first. For networks
    /// whose IPAM driver is `null`.
    #[must_use]
    pub fn address(mut self, address: Cidr) -> Self {
        match address.address().is_ipv4() {
            true => self.v4 = Some(address),
            false => self.v6 = Some(address),
        }
        self
    }

    /// The response to a request in which the engine set `given`.
    pub(crate) fn response(self, given: Given) -> CreateEndpointResponse {
        let text = |value: Option<String>, given: bool| value.filter(|_| !given).unwrap_or_default();
        let interface = Interface {
            address: text(self.v4.map(|address| address.to_string()), given.v4),
            address_ipv6: text(self.v6.map(|address| address.to_string()), given.v6),
            mac_address: text(self.mac.map(|mac| mac.to_string()), given.mac),
        };
        CreateEndpointResponse { interface: (interface != Interface::default()).then_some(interface) }
    }
}

/// An answer in its wire form, checked.
impl TryFrom<CreateEndpointResponse> for InterfaceAnswer {
    type Error = InvalidValue;

    fn try_from(response: CreateEndpointResponse) -> Result<Self, InvalidValue> {
        let Some(interface) = response.interface else { return Ok(Self::default()) };
        let (mac, v4, v6) = (interface.mac()?, interface.ipv4()?, interface.ipv6()?);
        Ok(Self { mac, v4, v6 })
    }
}

/// Which values of an endpoint the engine has set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    mac: bool,
    v4: bool,
    v6: bool,
}

impl Given {
    pub(crate) fn of(interface: &Interface) -> Self {
        Self {
            mac: !interface.mac_address.is_empty(),
            v4: !interface.address.is_empty(),
            v6: !interface.address_ipv6.is_empty(),
        }
    }
}

/// The link that the engine moves into a container, and the routes that it adds there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinAnswer {
    link: Option<(String, String)>,
    gateway: Option<Ipv4Addr>,
    gateway_ipv6: Option<Ipv6Addr>,
    routes: Vec<(Cidr, Option<IpAddr>)>,
    disable_gateway_service: bool,
}

impl JoinAnswer {
    /// The engine moves the link `src_name` of its own network namespace into the container, and names it there
    /// `dst_prefix` followed by the lowest free number, as in `eth0`.
    ///
    /// # Errors
    /// A name or prefix that is empty or has a slash, a colon or white space; a name longer than 15 bytes,
    /// or a prefix longer than 14.
    pub fn link(src_name: &str, dst_prefix: &str) -> Result<Self, InvalidValue> {
        if !is_link_name(src_name, LINK_NAME) {
            return Err(InvalidValue::new("link", src_name, "the name of a link, 1 to 15 bytes"));
        }
        if !is_link_name(dst_prefix, LINK_PREFIX) {
            return Err(InvalidValue::new("prefix", dst_prefix, "the beginning of a link's name, 1 to 14 bytes"));
        }
        Ok(Self { link: Some((src_name.to_owned(), dst_prefix.to_owned())), ..Self::default() })
    }

    /// The engine moves no link: the driver puts one into the container by itself, or there is none.
    pub fn without_link() -> Self {
        Self::default()
    }

    /// The container's IPv4 gateway. It must be on-link. Set it only if the network is not internal and the
    /// endpoint has an IPv4 address: the engine installs the route in any case.
    #[must_use]
    pub fn gateway(mut self, gateway: Ipv4Addr) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// The container's IPv6 gateway, by the same rules.
    #[must_use]
    pub fn gateway_ipv6(mut self, gateway: Ipv6Addr) -> Self {
        self.gateway_ipv6 = Some(gateway);
        self
    }

    /// An additional route in the container: through an on-link next hop, or directly to the link.
    ///
    /// # Errors
    /// A next hop of another family than the destination.
    pub fn route(mut self, destination: Cidr, next_hop: Option<IpAddr>) -> Result<Self, InvalidValue> {
        if let Some(hop) = next_hop.filter(|hop| hop.is_ipv4() != destination.address().is_ipv4()) {
            return Err(InvalidValue::new("next hop", &hop.to_string(), "of the destination's family"));
        }
        self.routes.push((destination, next_hop));
        Ok(self)
    }

    /// The endpoint needs no gateway. Otherwise the engine attaches a container without a gateway to
    /// `docker_gwbridge`, unless its network is internal.
    #[must_use]
    pub fn disable_gateway_service(mut self) -> Self {
        self.disable_gateway_service = true;
        self
    }

    pub(crate) fn response(self) -> JoinResponse {
        let (src_name, dst_prefix) = self.link.unwrap_or_default();
        JoinResponse {
            interface_name: InterfaceName { src_name, dst_prefix },
            gateway: self.gateway.map(|ip| ip.to_string()).unwrap_or_default(),
            gateway_ipv6: self.gateway_ipv6.map(|ip| ip.to_string()).unwrap_or_default(),
            static_routes: self.routes.into_iter().map(static_route).collect(),
            disable_gateway_service: self.disable_gateway_service,
        }
    }
}

/// An answer in its wire form, checked.
impl TryFrom<JoinResponse> for JoinAnswer {
    type Error = InvalidValue;

    fn try_from(response: JoinResponse) -> Result<Self, InvalidValue> {
        let InterfaceName { src_name, dst_prefix } = &response.interface_name;
        let mut answer = if src_name.is_empty() { Self::default() } else { Self::link(src_name, dst_prefix)? };
        if !response.gateway.is_empty() {
            let invalid = |_| InvalidValue::new("gateway", &response.gateway, "an IPv4 address");
            answer.gateway = Some(response.gateway.parse().map_err(invalid)?);
        }
        if !response.gateway_ipv6.is_empty() {
            let invalid = |_| InvalidValue::new("gateway", &response.gateway_ipv6, "an IPv6 address");
            answer.gateway_ipv6 = Some(response.gateway_ipv6.parse().map_err(invalid)?);
        }
        for route in &response.static_routes {
            let invalid = |_| InvalidValue::new("next hop", &route.next_hop, "an address");
            let next_hop = (route.route_type == StaticRoute::NEXT_HOP).then(|| route.next_hop.parse());
            answer = answer.route(route.destination.parse()?, next_hop.transpose().map_err(invalid)?)?;
        }
        answer.disable_gateway_service = response.disable_gateway_service;
        Ok(answer)
    }
}

fn static_route((destination, next_hop): (Cidr, Option<IpAddr>)) -> StaticRoute {
    StaticRoute {
        destination: destination.to_string(),
        route_type: if next_hop.is_some() { StaticRoute::NEXT_HOP } else { StaticRoute::ON_LINK },
        next_hop: next_hop.map(|hop| hop.to_string()).unwrap_or_default(),
    }
}

fn is_link_name(text: &str, longest: usize) -> bool {
    let is_bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    (1..=longest).contains(&text.len()) && !text.contains(is_bad) && text != "." && text != ".."
}

/// A pool that was reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolAnswer {
    id: String,
    pool: Cidr,
}

impl PoolAnswer {
    /// The engine stores the id and uses it from then on.
    ///
    /// # Errors
    /// An empty id, which the engine treats as missing.
    pub fn new(id: impl Into<String>, pool: Cidr) -> Result<Self, InvalidValue> {
        let id = id.into();
        if id.is_empty() { Err(InvalidValue::new("pool id", "", "an id")) } else { Ok(Self { id, pool }) }
    }

    pub(crate) fn response(self) -> RequestPoolResponse {
        RequestPoolResponse { pool_id: self.id, pool: self.pool.to_string(), data: Default::default() }
    }
}

/// An answer in its wire form, checked.
impl TryFrom<RequestPoolResponse> for PoolAnswer {
    type Error = InvalidValue;

    fn try_from(response: RequestPoolResponse) -> Result<Self, InvalidValue> {
        Self::new(response.pool_id, response.pool.parse()?)
    }
}

/// An address that was reserved, with the prefix length of its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressAnswer(Cidr);

impl AddressAnswer {
    pub(crate) fn response(self) -> RequestAddressResponse {
        RequestAddressResponse { address: self.0.to_string(), data: Default::default() }
    }
}

impl From<Cidr> for AddressAnswer {
    fn from(address: Cidr) -> Self {
        Self(address)
    }
}

/// An answer in its wire form, checked.
impl TryFrom<RequestAddressResponse> for AddressAnswer {
    type Error = InvalidValue;

    fn try_from(response: RequestAddressResponse) -> Result<Self, InvalidValue> {
        response.address.parse().map(Self)
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
