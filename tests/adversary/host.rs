//! A host: a network namespace with the daemon in it, an uplink to a namespace outside, and the engine's calls for
//! `docker network create` and `docker run`.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use testkit::daemon::Daemon;
use testkit::harness::{Dir, request};
use testkit::netns::Netns;

/// Makes endpoint ids unique across hosts.
static HOSTS: AtomicU32 = AtomicU32::new(0);

/// A host with Pontoon: 192.0.2.1 and 2001:db8::1 on link `up0`; `outside` has .2 and ::2 and its default route is the
/// host.
pub struct Host {
    pub netns: Netns,
    pub outside: Netns,
    pub dir: Dir,
    args: Vec<String>,
    files: Option<u32>,
    daemon: Option<Daemon>,
    count: AtomicU32,
}

/// A network: its subnets are 10.N.0.0/24 and fd00:N::/64, the gateways .1 and ::1.
#[derive(Clone)]
pub struct Network {
    pub id: String,
    pub n: u8,
    pub v6: bool,
    pub internal: bool,
    /// The options of `docker network create -o`.
    pub options: Vec<(&'static str, &'static str)>,
}

impl Network {
    pub fn new(id: &str, n: u8) -> Self {
        Self { id: id.to_owned(), n, v6: true, internal: false, options: Vec::new() }
    }

    pub fn option(mut self, key: &'static str, value: &'static str) -> Self {
        self.options.push((key, value));
        self
    }

    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// The name that Pontoon chooses for its bridge.
    pub fn bridge(&self) -> String {
        format!("pntb{}", &self.id[..self.id.len().min(11)])
    }

    /// The body of CreateNetwork.
    pub fn body(&self) -> Value {
        let n = self.n;
        let generic: serde_json::Map<_, _> =
            self.options.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let six =
            json!([{"AddressSpace": "x", "Pool": format!("fd00:{n}::/64"), "Gateway": format!("fd00:{n}::1/64")}]);
        json!({
            "NetworkID": self.id,
            "Options": {"com.docker.network.enable_ipv4": true, "com.docker.network.enable_ipv6": self.v6,
                "com.docker.network.internal": self.internal, "com.docker.network.generic": generic},
            "IPv4Data": [{"AddressSpace": "x", "Pool": format!("10.{n}.0.0/24"), "Gateway": format!("10.{n}.0.1/24")}],
            "IPv6Data": if self.v6 { six } else { json!([]) },
        })
    }
}

/// A published port of `docker run -p`: TCP is 6, UDP 17.
#[derive(Clone, Copy)]
pub struct Publish {
    pub protocol: u8,
    pub host_address: &'static str,
    pub host_port: u16,
    pub container_port: u16,
}

impl Publish {
    pub fn new(protocol: u8, host_port: u16, container_port: u16) -> Self {
        Self { protocol, host_address: "", host_port, container_port }
    }
}

/// An endpoint whose link is in a namespace.
#[derive(Clone)]
pub struct Attached {
    pub network: String,
    pub endpoint: String,
    pub v4: String,
    pub v6: String,
    pub mac: String,
    /// The host end of the pair: a port of the bridge.
    pub port: String,
}

/// A container: a namespace and its first attachment.
pub struct Container {
    pub netns: Netns,
    pub first: Attached,
}

impl std::ops::Deref for Container {
    type Target = Netns;

    fn deref(&self) -> &Netns {
        &self.netns
    }
}

impl Host {
    /// A host whose daemon gets these further arguments.
    pub fn start(args: &[&str]) -> Self {
        let mut host = Self::without_daemon();
        host.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        host.begin();
        host
    }

    /// A host without a running daemon; see [`Host::begin`].
    pub fn without_daemon() -> Self {
        let (netns, outside) = (Netns::new(), Netns::new());
        netns.run("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 net.ipv4.conf.all.rp_filter=0");
        netns.run(&format!("ip link add up0 type veth peer name eth0 netns {}", outside.tid()));
        netns.run("ip addr add 192.0.2.1/24 dev up0; ip addr add 2001:db8::1/64 dev up0 nodad; ip link set up0 up");
        outside
            .run("ip addr add 192.0.2.2/24 dev eth0; ip addr add 2001:db8::2/64 dev eth0 nodad; ip link set eth0 up");
        outside.run("ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8::1");
        netns.run("ip route add default via 192.0.2.2; ip -6 route add default via 2001:db8::2");
        Self {
            netns,
            outside,
            dir: Dir::new(),
            args: Vec::new(),
            files: None,
            daemon: None,
            count: AtomicU32::new(HOSTS.fetch_add(100, Ordering::Relaxed)),
        }
    }

    /// Starts the daemon and waits until it answers. State and socket persist across restarts.
    pub fn begin(&mut self) {
        self.end();
        let net = format!("--net=/proc/{}/task/{}/ns/net", std::process::id(), self.netns.tid());
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let limit = format!("--nofile={}", self.files.unwrap_or_default());
        let prefix =
            if self.files.is_some() { vec!["prlimit", &limit, "nsenter", &net] } else { vec!["nsenter", &net] };
        self.daemon = Some(Daemon::start_by(&self.dir.0, &args, &prefix));
    }

    /// Limits the open files of the next daemon.
    pub fn limit_files(&mut self, most: u32) {
        self.files = Some(most);
    }

    /// Starts the daemon with these further arguments, now and at later starts.
    pub fn begin_with(&mut self, args: &[String]) {
        self.args = args.to_vec();
        self.begin();
    }

    /// Kills the daemon.
    pub fn end(&mut self) {
        self.daemon = None;
    }

    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("the daemon runs")
    }

    pub fn run(&self, script: &str) -> String {
        self.netns.run(script)
    }

    /// One request of the engine: the answer, or the text of the error.
    pub fn call(&self, method: &str, body: &Value) -> Result<Value, String> {
        let reply = request(&self.daemon().socket, "POST", &format!("/{method}"), body.to_string().as_bytes());
        let answer = reply.json();
        let error = answer.get("Err").or(answer.get("Error")).and_then(Value::as_str).filter(|text| !text.is_empty());
        match error {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer),
        }
    }

    #[track_caller]
    pub fn ok(&self, method: &str, body: &Value) -> Value {
        self.call(method, body).unwrap_or_else(|error| panic!("{method} {body}: {error}\n{}", self.daemon().log()))
    }

    /// `docker network create`.
    #[track_caller]
    pub fn create(&self, network: &Network) {
        self.ok("NetworkDriver.CreateNetwork", &network.body());
    }

    /// `docker run --network`, with address `.host` in the network, which provides the default route.
    #[track_caller]
    pub fn container(&self, network: &Network, host: u8) -> Container {
        self.container_with(network, host, &[])
    }

    /// The same with published ports.
    #[track_caller]
    pub fn container_with(&self, network: &Network, host: u8, ports: &[Publish]) -> Container {
        let netns = Netns::new();
        let first = self.connect(network, &netns, "eth0", host, ports, true);
        Container { netns, first }
    }

    /// The same with options of `--network name=...,driver-opt=`.
    #[track_caller]
    pub fn container_of(&self, network: &Network, host: u8, options: &[(&str, &str)]) -> Container {
        let netns = Netns::new();
        let first = self.connect_with(network, &netns, "eth0", host, &[], true, options);
        Container { netns, first }
    }

    /// `docker network connect`: a further attachment as link `link`. With `gateway` it provides the default route and
    /// publishes the ports of the container.
    #[track_caller]
    pub fn connect(
        &self,
        network: &Network,
        container: &Netns,
        link: &str,
        host: u8,
        ports: &[Publish],
        gateway: bool,
    ) -> Attached {
        self.connect_with(network, container, link, host, ports, gateway, &[])
    }

    #[track_caller]
    #[allow(clippy::too_many_arguments, reason = "those of the command line")]
    fn connect_with(
        &self,
        network: &Network,
        container: &Netns,
        link: &str,
        host: u8,
        ports: &[Publish],
        gateway: bool,
        given: &[(&str, &str)],
    ) -> Attached {
        let endpoint = format!("e{:03}{}", self.count.fetch_add(1, Ordering::Relaxed), network.id);
        let (n, id) = (network.n, &network.id);
        let (v4, v6) = (format!("10.{n}.0.{host}"), format!("fd00:{n}::{host}"));
        let six = if network.v6 { format!("{v6}/64") } else { String::new() };
        let map: Value = ports
            .iter()
            .map(|port| {
                json!({"Proto": port.protocol, "IP": "", "Port": port.container_port, "HostIP": port.host_address,
                    "HostPort": port.host_port, "HostPortEnd": port.host_port})
            })
            .collect();
        let mut options = json!({"com.docker.network.portmap": map, "com.docker.network.endpoint.exposedports": []});
        given.iter().for_each(|(key, value)| options[*key] = json!(value));
        let mut body = json!({"NetworkID": id, "EndpointID": endpoint, "Options": options,
            "Interface": {"Address": format!("{v4}/24"), "AddressIPv6": six, "MacAddress": ""}});
        let answer = self.ok("NetworkDriver.CreateEndpoint", &body);
        let mac = answer["Interface"]["MacAddress"].as_str().expect("a MAC address").to_owned();
        body["SandboxKey"] = json!(format!("/var/run/docker/netns/{:012x}", container.tid()));
        let joined = self.ok("NetworkDriver.Join", &body);
        let source = joined["InterfaceName"]["SrcName"].as_str().expect("a link").to_owned();
        let port =
            self.run(&format!("ip -o link show {source} | sed -E 's/.*{source}@([^:]+):.*/\\1/'")).trim().to_owned();
        self.run(&format!("ip link set {source} netns {} name {link}", container.tid()));
        container.run(&format!("ip addr add {v4}/24 dev {link}; ip link set {link} up"));
        if network.v6 {
            container.run(&format!("ip addr add {v6}/64 dev {link} nodad"));
        }
        for key in ["Gateway", "GatewayIPv6"] {
            let via = joined[key].as_str().unwrap_or_default();
            if gateway && !via.is_empty() {
                container.run(&format!("ip route replace default via {via}"));
            }
        }
        if gateway && !network.internal && !ports.is_empty() {
            self.ok("NetworkDriver.ProgramExternalConnectivity", &body);
        }
        Attached { network: id.clone(), endpoint, v4, v6, mac, port }
    }

    /// `docker network disconnect` or `docker rm`.
    #[track_caller]
    pub fn detach(&self, attached: &Attached) {
        let body = json!({"NetworkID": attached.network, "EndpointID": attached.endpoint});
        self.ok("NetworkDriver.RevokeExternalConnectivity", &body);
        self.ok("NetworkDriver.Leave", &body);
        self.ok("NetworkDriver.DeleteEndpoint", &body);
    }

    /// Removes the rules of a chain whose text contains `text`, to show what they prevent, and returns their number.
    /// Pontoon restores them within a second: stop it first.
    pub fn remove_rules(&self, chain: &str, text: &str) -> usize {
        let list = self.run(&format!("nft -a list chain {chain}"));
        let handles = list.lines().filter(|line| line.contains(text)).filter_map(|line| line.split("# handle ").nth(1));
        handles.map(|handle| self.run(&format!("nft delete rule {chain} handle {handle}"))).count()
    }
}

/// The bytes of a MAC address in text.
pub fn mac_bytes(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> = text.split(':').map(|part| u8::from_str_radix(part, 16).expect("hexadecimal")).collect();
    bytes.try_into().expect("six bytes")
}
