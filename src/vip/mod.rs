//! Service addresses (VIPs) as the engine reports them, and the choice of backends for each.
//!
//! Two sources, both from the engine of this host, whether worker or manager: the network's listing (`verbose`)
//! has each service with its address and all of its tasks; the name `tasks.SERVICE` in a container resolves to
//! the tasks that accept new connections. A task that is being stopped stays in the first until its end, and
//! disappears from the second at once. An address that only one source has is not a backend. Pure, except `feed`
//! and `resolver`, which send queries. Called by the app for `pontoon vip`; the daemon does not use it.

pub mod feed;
pub mod message;
pub mod resolver;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnetwork::IpNetwork;
use serde_json::Value;

pub use message::Answer;

/// The backends of each service address.
pub type Backends = BTreeMap<Ipv4Addr, BTreeSet<Ipv4Addr>>;

/// The answers for the names of services, by name.
pub type Answers = BTreeMap<String, Answer>;

/// A service in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its address.
    pub vip: Ipv4Addr,
    /// The addresses of all of its tasks, including those that are being stopped.
    pub tasks: BTreeSet<Ipv4Addr>,
}

/// A network, as the engine lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its subnets.
    pub subnets: BTreeSet<IpNetwork>,
    /// Addresses of its endpoints on this host.
    pub endpoints: BTreeSet<IpNetwork>,
    /// Services with an address and at least one task, by the name that resolves to the tasks.
    pub services: BTreeMap<String, Service>,
}

impl Network {
    /// Reads the engine's answer to `GET /networks/ID?verbose=true`; `None` when a required field is missing.
    /// Services without an address (`--endpoint-mode dnsrr`) are left out.
    pub fn read(listed: &Value) -> Option<Self> {
        let (id, name) = (listed["Id"].as_str()?, listed["Name"].as_str()?);
        let containers = listed["Containers"].as_object()?.values();
        let endpoints = containers.filter_map(|container| container["IPv4Address"].as_str()?.parse().ok()).collect();
        let subnets = listed["IPAM"]["Config"].as_array().into_iter().flatten();
        let subnets = subnets.filter_map(|config| config["Subnet"].as_str()?.parse().ok()).collect();
        let services = listed["Services"].as_object().into_iter().flatten();
        let services = services.filter_map(|(service, listed)| {
            let vip = listed["VIP"].as_str()?.parse().ok()?;
            let tasks = listed["Tasks"].as_array()?.iter();
            let tasks: BTreeSet<_> = tasks.filter_map(|task| task["EndpointIP"].as_str()?.parse().ok()).collect();
            // Qualified with the network's name: a container may be on another network with the same service.
            let asked = (!service.is_empty() && !tasks.is_empty()).then(|| format!("tasks.{service}.{name}"))?;
            Some((asked, Service { vip, tasks }))
        });
        Some(Self { id: id.to_owned(), subnets, endpoints, services: services.collect() })
    }
}

impl Service {
    /// The backends. While a name has no answer, the previous backends stay as long as they are still tasks: a
    /// temporarily slow engine removes nothing.
    fn backends(&self, answer: Option<&Answer>, before: Option<&BTreeSet<Ipv4Addr>>) -> BTreeSet<Ipv4Addr> {
        let known = |serving: &BTreeSet<Ipv4Addr>| -> BTreeSet<_> { serving & &self.tasks };
        let named = match answer {
            Some(Answer::Addresses(named)) => known(named),
            Some(Answer::Cut) => self.tasks.clone(),
            None => BTreeSet::new(),
        };
        let choices = [named, before.map(known).unwrap_or_default()];
        choices.into_iter().find(|choice| !choice.is_empty()).unwrap_or_else(|| self.tasks.clone())
    }
}

/// The backends that a container on these networks should have, given these answers and its previous backends
/// `before`.
pub fn backends<'a>(networks: impl IntoIterator<Item = &'a Network>, answers: &Answers, before: &Backends) -> Backends {
    let services = networks.into_iter().flat_map(|network| &network.services);
    services
        .map(|(name, service)| (service.vip, service.backends(answers.get(name), before.get(&service.vip))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(last: &[u8]) -> BTreeSet<Ipv4Addr> {
        last.iter().map(|last| Ipv4Addr::new(10, 0, 1, *last)).collect()
    }

    fn listed() -> Value {
        let task = |last: u8| serde_json::json!({"EndpointIP": format!("10.0.1.{last}")});
        serde_json::json!({"Id": "n", "Name": "fleet",
            "IPAM": {"Config": [{"Subnet": "10.0.1.0/24"}, {}]},
            "Containers": {"c": {"IPv4Address": "10.0.1.6/24"}, "d": {"IPv4Address": ""}},
            "Services": {
                "web": {"VIP": "10.0.1.2", "Tasks": [task(3), task(4), task(6)]},
                "rr": {"VIP": "<nil>", "Tasks": [task(9)]},
                "gone": {"VIP": "10.0.1.8", "Tasks": []},
                "": {"VIP": "", "Tasks": [task(7)]}}})
    }

    #[test]
    fn a_listing_gives_services_with_an_address_and_tasks() {
        let network = Network::read(&listed()).unwrap();
        assert_eq!(network.endpoints, BTreeSet::from(["10.0.1.6/24".parse().unwrap()]));
        assert_eq!(network.subnets, BTreeSet::from(["10.0.1.0/24".parse().unwrap()]));
        let web = Service { vip: Ipv4Addr::new(10, 0, 1, 2), tasks: addresses(&[3, 4, 6]) };
        assert_eq!(network.services, BTreeMap::from([("tasks.web.fleet".to_owned(), web)]));
        for key in ["Id", "Name", "Containers"] {
            let mut part = listed();
            part[key] = Value::Null;
            assert_eq!(Network::read(&part), None, "{key}");
        }
        let mut bare = listed();
        bare["Services"] = Value::Null;
        assert_eq!(Network::read(&bare).unwrap().services, BTreeMap::new());
    }

    #[test]
    fn a_backend_is_what_both_know() {
        let network = Network::read(&listed()).unwrap();
        let vip = Ipv4Addr::new(10, 0, 1, 2);
        let with = |answer: Option<Answer>, before: &[u8]| {
            let answers = answer.map(|answer| ("tasks.web.fleet".to_owned(), answer)).into_iter().collect();
            let before = BTreeMap::from([(vip, addresses(before))]);
            backends([&network], &answers, &before).remove(&vip).unwrap()
        };
        let named = |last: &[u8]| Some(Answer::Addresses(addresses(last)));
        // A task that is being stopped is left out, and so is an address that no listing has.
        assert_eq!(with(named(&[3, 6]), &[3, 4, 6]), addresses(&[3, 6]));
        assert_eq!(with(named(&[3, 99]), &[]), addresses(&[3]));
        // No answer, or one for other addresses: as before, except for tasks that are gone.
        assert_eq!(with(None, &[3, 5]), addresses(&[3]));
        assert_eq!(with(named(&[99]), &[4]), addresses(&[4]));
        // Without previous backends: all tasks rather than none.
        assert_eq!(with(None, &[]), addresses(&[3, 4, 6]));
        assert_eq!(with(Some(Answer::Cut), &[3]), addresses(&[3, 4, 6]));
    }
}
