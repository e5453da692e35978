//! A Docker engine as a driver sees it: its calls for a user's actions, in the engine's order, its retry with an empty
//! body when a connection breaks (protocol.md 1.6), its rollback, and its resulting view.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::host::{Host, Netns};
use super::oracle::{Attached, Kind, Lost, Network, Subnet};
use super::sandbox;
use super::wire::{Trip, post};
use testkit::harness::LATE;

/// Longest wait for a Pontoon that another thread restarts.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a call failed.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    /// The connection broke: the first attempt may have been carried out.
    pub doubtful: bool,
}

/// What the engine does when Pontoon does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescue {
    /// The engine's host starts Pontoon again, as systemd would.
    Restart,
    /// Waits for another thread to restart it.
    Wait,
}

/// See [`Engine::after_crash`].
pub type Check<'a> = Box<dyn Fn(&Engine<'a>) + Send + 'a>;

/// See the module documentation.
pub struct Engine<'a> {
    pub host: &'a Host,
    pub rescue: Rescue,
    /// Distinguishes engines on the same host.
    pub name: String,
    pub networks: BTreeMap<String, Network>,
    /// By endpoint.
    pub attached: BTreeMap<String, Attached>,
    pub lost: Lost,
    pub sandboxes: Vec<Netns>,
    /// Calls that failed, of any kind.
    pub failures: u32,
    /// One in so many containers has its link moved into its sandbox, which takes the kernel much longer than
    /// everything else; 1 moves all of them.
    pub plug_one_in: u32,
    /// Crashes of Pontoon that this engine found and recovered from.
    pub crashes: u32,
    /// A check after each crash, before the engine continues.
    pub after_crash: Option<Check<'a>>,
    next: u32,
}

impl<'a> Engine<'a> {
    pub fn new(host: &'a Host, name: &str, sandboxes: usize) -> Self {
        Self {
            host,
            rescue: Rescue::Restart,
            name: name.to_owned(),
            networks: BTreeMap::new(),
            attached: BTreeMap::new(),
            lost: Lost::default(),
            sandboxes: (0..sandboxes).map(|_| Netns::sandbox()).collect(),
            failures: 0,
            plug_one_in: 1,
            crashes: 0,
            after_crash: None,
            next: 0,
        }
    }

    /// One call, with the engine's retries.
    pub fn call(&mut self, method: &str, body: Value) -> Result<Value, Failure> {
        let socket = self.host.paths.socket();
        let (mut text, mut doubtful) = (body.to_string(), false);
        let began = Instant::now();
        loop {
            match post(&socket, method, &text) {
                Trip::Answer(value) => return Ok(value),
                Trip::Refused(message) => {
                    self.failures += 1;
                    // A request whose deadline passed continues: its result is unknown.
                    let doubtful = doubtful || message.contains(LATE);
                    return Err(Failure { message, doubtful });
                }
                Trip::Unsent => self.rescue(began),
                Trip::Broken => {
                    doubtful = true;
                    text.clear();
                    self.rescue(began);
                }
            }
        }
    }

    fn rescue(&mut self, began: Instant) {
        match self.rescue {
            Rescue::Restart => {
                self.crashes += 1;
                self.host.reap();
                self.host.start();
                if let Some(check) = self.after_crash.take() {
                    check(self);
                    self.after_crash = Some(check);
                }
            }
            Rescue::Wait => {
                assert!(began.elapsed() < PATIENCE, "Pontoon does not come back:\n{}", self.host.log());
                std::thread::sleep(Duration::from_millis(4));
            }
        }
    }

    fn fresh(&mut self, what: &str) -> String {
        self.next += 1;
        format!("{what}{}{:04}", self.name, self.next)
    }

    /// `docker network create`; returns the network's id.
    pub fn create_network(&mut self, subnet: &str) -> Result<String, Failure> {
        self.create_network_of(Kind::default(), subnet)
    }

    /// The same with options.
    pub fn create_network_of(&mut self, kind: Kind, subnet: &str) -> Result<String, Failure> {
        let id = self.fresh("n");
        let four = self.request_subnet(subnet)?;
        let six = match kind.six {
            "" => None,
            six => Some(self.request_subnet(six).inspect_err(|_| self.release_subnet(&four))?),
        };
        let data = |of: &Subnet| json!([{"AddressSpace": "pontoon-local", "Pool": of.subnet, "Gateway": of.gateway}]);
        let options: serde_json::Map<_, _> =
            kind.options.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let body = json!({
            "NetworkID": id,
            "Options": {"com.docker.network.enable_ipv4": true, "com.docker.network.enable_ipv6": six.is_some(),
                "com.docker.network.internal": kind.internal, "com.docker.network.generic": options},
            "IPv4Data": data(&four),
            "IPv6Data": six.as_ref().map_or(json!([]), data),
        });
        if let Err(failure) = self.call("NetworkDriver.CreateNetwork", body) {
            if failure.doubtful {
                self.lost.networks.insert(id);
            }
            six.iter().chain([&four]).for_each(|subnet| self.release_subnet(subnet));
            return Err(failure);
        }
        let Subnet { pool, subnet, gateway } = four;
        self.networks.insert(id.clone(), Network { pool, subnet, gateway, six, families: kind.families() });
        Ok(id)
    }

    /// Requests a pool, and the gateway in it.
    fn request_subnet(&mut self, subnet: &str) -> Result<Subnet, Failure> {
        let ask = json!({"AddressSpace": "pontoon-local", "Pool": subnet, "SubPool": "", "Options": {},
            "V6": subnet.contains(':')});
        let granted = self.call("IpamDriver.RequestPool", ask).inspect_err(|failure| {
            if failure.doubtful && !subnet.is_empty() {
                self.lost.pools.insert(format!("pontoon-local/{subnet}"));
            }
        });
        let granted = granted?;
        let (pool, subnet) = (string(&granted, "PoolID"), string(&granted, "Pool"));
        let gateway = json!({"RequestAddressType": "com.docker.network.gateway"});
        match self.call("IpamDriver.RequestAddress", json!({"PoolID": pool, "Address": "", "Options": gateway})) {
            Ok(answer) => Ok(Subnet { pool, subnet, gateway: string(&answer, "Address") }),
            Err(failure) => {
                self.release_pool(&pool);
                Err(failure)
            }
        }
    }

    fn release_subnet(&mut self, subnet: &Subnet) {
        self.release_address(&subnet.pool, &subnet.gateway);
        self.release_pool(&subnet.pool);
    }

    fn request_address(&mut self, pool: &str) -> Result<String, Failure> {
        let asked = self.call("IpamDriver.RequestAddress", json!({"PoolID": pool, "Address": "", "Options": null}));
        let asked = asked.inspect_err(|failure| self.lost.addresses |= failure.doubtful)?;
        Ok(string(&asked, "Address"))
    }

    /// A repeatable call, retried while the kernel is too busy to finish it in time.
    fn call_with_retries(&mut self, method: &str, body: Value) {
        let done = (0..5).any(|_| match self.call(method, body.clone()) {
            Ok(_) => true,
            Err(failure) => {
                assert!(failure.doubtful, "{method}: {}", failure.message);
                false
            }
        });
        assert!(done, "{method} did not succeed in five tries");
    }

    /// `docker network create`, retried while the kernel is too busy to finish it in time.
    #[track_caller]
    pub fn create_network_with_retries(&mut self, subnet: &str) -> String {
        for _ in 0..5 {
            match self.create_network(subnet) {
                Ok(id) => return id,
                Err(failure) => assert!(failure.doubtful, "{}", failure.message),
            }
            self.collect_garbage(&Default::default());
        }
        panic!("no network in five tries:\n{}", self.host.log());
    }

    /// `docker network rm`. Never fails for the user.
    pub fn remove_network(&mut self, id: &str) {
        let Some(network) = self.networks.remove(id) else { return };
        network.subnets().iter().for_each(|subnet| self.release_subnet(subnet));
        if self.call("NetworkDriver.DeleteNetwork", json!({"NetworkID": id})).is_err() {
            self.lost.networks.insert(id.to_owned());
        }
    }

    /// `docker run` or `docker network connect`: an endpoint in one of the sandboxes, as link
    /// `link`, with these ports published. Returns its id.
    pub fn attach(
        &mut self,
        network: &str,
        sandbox: usize,
        link: &str,
        ports: &[(u8, u16)],
    ) -> Result<String, Failure> {
        let endpoint = self.fresh("e");
        let of = self.networks[network].clone();
        let address = self.request_address(&of.pool)?;
        let six = match &of.six {
            None => None,
            Some(six) => {
                let asked = self.request_address(&six.pool);
                Some(asked.inspect_err(|_| self.release_address(&of.pool, &address))?)
            }
        };
        let ids = json!({"NetworkID": network, "EndpointID": endpoint});
        let body = json!({"NetworkID": network, "EndpointID": endpoint,
            "Interface": {"Address": address, "AddressIPv6": six.as_deref().unwrap_or_default(), "MacAddress": ""},
            "Options": {"com.docker.network.portmap": port_map(ports), "com.docker.network.endpoint.exposedports": []}});
        let mut attached = Attached {
            network: network.to_owned(),
            address,
            six,
            source: String::new(),
            link: link.to_owned(),
            ports: ports.to_vec(),
            sandbox,
            plugged: false,
        };
        if let Err(failure) = self.call("NetworkDriver.CreateEndpoint", body) {
            if failure.doubtful {
                self.lost.endpoints.insert((network.to_owned(), endpoint));
                self.lost.addresses = true;
            }
            self.release_addresses(&attached);
            return Err(failure);
        }
        let key = format!("/var/run/docker/netns/{}{sandbox}", self.name);
        let body = json!({"NetworkID": network, "EndpointID": endpoint, "SandboxKey": key, "Options": {}});
        let joined = match self.call("NetworkDriver.Join", body) {
            Ok(answer) => answer,
            Err(failure) => {
                self.delete_endpoint(&endpoint, &attached);
                return Err(failure);
            }
        };
        attached.source = string(&joined["InterfaceName"], "SrcName");
        attached.plugged = self.next.is_multiple_of(self.plug_one_in);
        if attached.plugged {
            let addresses = std::iter::once(&attached.address).chain(&attached.six);
            let inside = &self.sandboxes[sandbox];
            sandbox::plug(&self.host.netns, inside, &attached.source, link, addresses).unwrap_or_else(|error| {
                panic!("{} cannot be moved into its sandbox: {error}\n{}", attached.source, self.host.log())
            });
        }
        if !ports.is_empty() {
            let body = json!({"NetworkID": network, "EndpointID": endpoint,
                "Options": {"com.docker.network.portmap": port_map(ports)}});
            if let Err(failure) = self.call("NetworkDriver.ProgramExternalConnectivity", body) {
                let _ = self.call("NetworkDriver.Leave", ids);
                self.unplug(&attached);
                self.delete_endpoint(&endpoint, &attached);
                return Err(failure);
            }
        }
        let _ = self.call("NetworkDriver.EndpointOperInfo", ids);
        self.attached.insert(endpoint.clone(), attached);
        Ok(endpoint)
    }

    /// `docker stop` or `docker network disconnect`. Never fails for the user.
    pub fn detach(&mut self, endpoint: &str) {
        let Some(attached) = self.attached.remove(endpoint) else { return };
        let ids = json!({"NetworkID": attached.network, "EndpointID": endpoint});
        if !attached.ports.is_empty() {
            let _ = self.call("NetworkDriver.RevokeExternalConnectivity", ids.clone());
        }
        let _ = self.call("NetworkDriver.Leave", ids);
        self.unplug(&attached);
        self.delete_endpoint(endpoint, &attached);
    }

    /// Replaces the published ports of a running container.
    pub fn change_ports(&mut self, endpoint: &str, ports: &[(u8, u16)]) {
        let network = self.attached[endpoint].network.clone();
        let mut body = json!({"NetworkID": network, "EndpointID": endpoint});
        if ports.is_empty() {
            self.call_with_retries("NetworkDriver.RevokeExternalConnectivity", body);
        } else {
            body["Options"] = json!({"com.docker.network.portmap": port_map(ports)});
            self.call_with_retries("NetworkDriver.ProgramExternalConnectivity", body);
        }
        self.attached.get_mut(endpoint).unwrap().ports = ports.to_vec();
    }

    fn unplug(&self, attached: &Attached) {
        if attached.plugged {
            let sandbox = &self.sandboxes[attached.sandbox];
            sandbox::unplug(&self.host.netns, sandbox, &attached.source, &attached.link);
        }
    }

    fn delete_endpoint(&mut self, endpoint: &str, attached: &Attached) {
        let network = &attached.network;
        let ids = json!({"NetworkID": network, "EndpointID": endpoint});
        if self.call("NetworkDriver.DeleteEndpoint", ids).is_err() {
            self.lost.endpoints.insert((network.to_owned(), endpoint.to_owned()));
            self.lost.addresses = true;
        }
        self.release_addresses(attached);
    }

    fn release_addresses(&mut self, attached: &Attached) {
        let network = self.networks[&attached.network].clone();
        self.release_address(&network.pool, &attached.address);
        if let (Some(of), Some(address)) = (&network.six, &attached.six) {
            self.release_address(&of.pool, address);
        }
    }

    fn release_address(&mut self, pool: &str, address: &str) {
        let address = address.split('/').next().unwrap();
        if self.call("IpamDriver.ReleaseAddress", json!({"PoolID": pool, "Address": address})).is_err() {
            self.lost.addresses = true;
        }
    }

    fn release_pool(&mut self, pool: &str) {
        if self.call("IpamDriver.ReleasePool", json!({"PoolID": pool})).is_err() {
            self.lost.pools.insert(pool.to_owned());
        }
    }

    /// Removes what only the engine can decide about: networks and pools that it does not know. The name of a lost pool
    /// may be in use again: `used` are those.
    pub fn collect_garbage(&mut self, used: &BTreeSet<String>) {
        for network in std::mem::take(&mut self.lost.networks) {
            self.call_with_retries("NetworkDriver.DeleteNetwork", json!({"NetworkID": network}));
        }
        for pool in std::mem::take(&mut self.lost.pools).difference(used) {
            self.call_with_retries("IpamDriver.ReleasePool", json!({"PoolID": pool}));
        }
    }
}

fn string(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}")).to_owned()
}

fn port_map(ports: &[(u8, u16)]) -> Value {
    let one = |(proto, port): &(u8, u16)| json!({"Proto": proto, "IP": "", "Port": 7, "HostIP": "", "HostPort": port, "HostPortEnd": port});
    ports.iter().map(one).collect()
}
