//! Allow lists: what packets make of them, for both families, routed and within a bridge, with br_netfilter on and off.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use pontoon::datapath::access::{Access, Way};
use pontoon::datapath::plan::diff;
use pontoon::datapath::{Datapath, Kernel, Policy, Protected, Step, kind};
use pontoon::linux::LinuxKernel;
use pontoon::model::access::AccessOptions;
use pontoon::model::{
    Attachment, Endpoint, EndpointId, EndpointOptions, EndpointSpec, IfName, LinkRole, Mac, Network, NetworkId,
    NetworkKind, NetworkOptions, NetworkSpec, Phase, Subnet,
};

use testkit::netns::*;
use testkit::topology::*;

/// Network `one` of the topology.
pub fn network(access: AccessOptions) -> Network {
    let subnet = |pool: &str| Subnet { pool: net(pool), gateway: None, default_gateway: None, aux: vec![] };
    let options = NetworkOptions { access, ..NetworkOptions::default() };
    let id = NetworkId::parse("one").unwrap();
    let (v4, v6) = (Some(subnet("10.1.0.0/24")), Some(subnet("fd00:1::/64")));
    let spec = NetworkSpec { id, v4, v6, internal: false, options };
    Network { spec, kind: NetworkKind::Bridge { bridge: name("pntbone") }, mtu: 1500, stored: Default::default() }
}

pub fn lists(egress: Option<&str>, ingress: Option<&str>) -> AccessOptions {
    let list = |text: Option<&str>| text.map(|text| text.parse().unwrap());
    AccessOptions { egress: list(egress), ingress: list(ingress), ..AccessOptions::default() }
}

/// The statements about container `a` (.2) or `b` (.3).
fn statements(topology: &Topology, which: usize, network: &Network, access: AccessOptions) -> Datapath {
    let host = topology.ends[which].clone();
    let at = which + 2;
    let endpoint = Endpoint {
        lease: None,
        slaac: None,
        spec: EndpointSpec {
            network: network.spec.id.clone(),
            id: EndpointId::parse(["a", "b"][which]).unwrap(),
            v4: Some(net(&format!("10.1.0.{at}/24"))),
            v6: Some(net(&format!("fd00:1::{at}/64"))),
            mac: None,
            options: EndpointOptions { access, ..EndpointOptions::default() },
        },
        attachment: Attachment::Veth { host, peer: IfName::derive(LinkRole::Peer, "x", 0) },
        mac: Mac::derive("peer", ["a", "b"][which]),
        phase: Phase::Ready,
        since: 0,
        sandbox: String::new(),
        bindings: vec![],
        v4_only: false,
        stored: Default::default(),
        published: vec![],
    };
    let policy = kind::endpoint(network, &endpoint).policy;
    let of_network = kind::network(network).policy.unwrap_or_default();
    let access = of_network.into_iter().filter(|statement| matches!(statement, Policy::Access(_)));
    let policy = policy.map(|policy| policy.into_iter().chain(access).collect());
    Datapath { policy, ..Datapath::default() }
}

/// The policy of containers `a` and `b`, changed in one transaction.
pub struct Lists<'a> {
    pub kernel: &'a LinuxKernel,
    topology: &'a Topology,
    now: Datapath,
}

impl Lists<'_> {
    pub fn set(&mut self, network: AccessOptions, a: AccessOptions, b: AccessOptions) {
        self.change(network, a, b);
        self.forget();
    }

    pub fn change(&mut self, network: AccessOptions, a: AccessOptions, b: AccessOptions) {
        let network = self::network(network);
        let mut after = statements(self.topology, 0, &network, a);
        let more = statements(self.topology, 1, &network, b).policy.unwrap();
        after.policy.as_mut().unwrap().extend(more);
        let plan = diff(&self.now, &after, &Protected::default());
        self.kernel.apply(&plan.steps).unwrap();
        let held = self.kernel.observe_firewall().unwrap().policy.expect("the tables are those of this release");
        let access = |policy: &std::collections::BTreeSet<Policy>| -> Vec<Policy> {
            policy.iter().filter(|policy| matches!(policy, Policy::Access(_))).cloned().collect()
        };
        assert_eq!(access(&held), access(after.policy.as_ref().unwrap()), "it reads back");
        self.now = after;
    }

    /// Flows of before: each check is about new ones.
    pub fn forget(&self) {
        let all = ["10.1.0.2", "10.1.0.3", "fd00:1::2", "fd00:1::3"].map(ip).to_vec();
        self.kernel.apply(&[Step::FlushConntrack(all)]).unwrap();
        assert!(self.kernel.settle(Duration::from_secs(10)));
    }

    fn egress(&mut self, list: &str) {
        self.set(lists(None, None), lists(Some(list), None), lists(None, None));
    }

    fn ingress(&mut self, list: &str) {
        self.set(lists(None, None), lists(None, None), lists(None, Some(list)));
    }
}

fn nf(on: bool) {
    for family in ["ip", "ip6"] {
        run(&format!("echo {} > /proc/sys/net/bridge/bridge-nf-call-{family}tables", u8::from(on)));
    }
}

/// Serves TCP port 80 in the namespace of the calling thread.
fn serve_here() {
    use std::io::Write;
    let server = TcpListener::bind("[::]:80").unwrap();
    thread::spawn(move || {
        for mut stream in server.incoming().flatten() {
            let _ = stream.write_all(b"host");
        }
    });
}

pub fn scene(test: fn(&mut Lists<'_>, &Topology)) {
    for on in [true, false] {
        in_netns(move |kernel| {
            nf(on);
            let mut policy = basics();
            policy.push(port(TCP, "0.0.0.0", 8080, "10.1.0.3"));
            policy.push(port(TCP, "::", 8080, "fd00:1::3"));
            let topology = Topology::new(kernel, policy);
            serve(&topology.outside);
            serve_here();
            eprintln!("br_netfilter: {on}");
            test(&mut Lists { kernel, topology: &topology, now: Datapath::empty() }, &topology);
        });
    }
}

pub const OUT: [&str; 2] = ["192.0.2.2:80", "[2001:db8::2]:80"];
pub const A: [&str; 2] = ["10.1.0.2:80", "[fd00:1::2]:80"];
pub const B: [&str; 2] = ["10.1.0.3:80", "[fd00:1::3]:80"];
pub const HOST: [&str; 2] = ["10.1.0.1:80", "[fd00:1::1]:80"];
pub const PUBLISHED: [&str; 2] = ["192.0.2.1:8080", "[2001:db8::1]:8080"];

/// Which of TCP and UDP is answered, over both families alike.
pub fn answered(from: &Netns, to: [&str; 2]) -> (bool, bool) {
    let [four, six] = to.map(|to| (from.ask(TCP, to).is_some(), from.ask(UDP, to).is_some()));
    assert_eq!(four, six, "both families are treated alike: {to:?}");
    four
}

pub fn tcp(from: &Netns, to: [&str; 2]) -> bool {
    let [four, six] = to.map(|to| from.ask(TCP, to).is_some());
    assert_eq!(four, six, "both families are treated alike: {to:?}");
    four
}

pub fn pings(from: &Netns, to: [&str; 2]) -> bool {
    let [four, six] = to.map(|to| from.pings(&to.parse::<SocketAddr>().unwrap().ip().to_string()));
    assert_eq!(four, six, "both families are treated alike: {to:?}");
    four
}

/// The error with which a connection fails that is refused and not just lost.
fn refused(from: &Netns, to: &str) -> Option<i32> {
    let to: SocketAddr = to.parse().unwrap();
    from.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(20))).unwrap_err().raw_os_error()
}

pub const BOTH: (bool, bool) = (true, true);
pub const NONE: (bool, bool) = (false, false);

#[test]
fn an_egress_list_opens_what_it_says_and_nothing_else() {
    scene(|lists, t| {
        let chains = || run("nft list tables; nft list table inet pontoon").contains("forward_egress");
        assert_eq!((answered(&t.a, OUT), answered(&t.a, B), tcp(&t.a, HOST)), (BOTH, BOTH, true));
        assert!(!chains(), "without a list there is no chain");
        lists.egress("");
        assert!(chains());
        assert_eq!((answered(&t.a, OUT), answered(&t.a, B), tcp(&t.a, HOST)), (NONE, NONE, false));
        assert_eq!((tcp(&t.a, PUBLISHED), pings(&t.a, B), pings(&t.a, HOST)), (false, false, false));
        assert_eq!((refused(&t.a, OUT[0]), refused(&t.a, OUT[1])), (Some(libc::EHOSTUNREACH), Some(libc::EACCES)));
        assert_eq!(refused(&t.a, HOST[0]), Some(libc::EHOSTUNREACH));
        // Others are not concerned, and what is sent to it is answered.
        assert_eq!((answered(&t.b, OUT), answered(&t.b, A), pings(&t.b, A)), (BOTH, BOTH, true));
        lists.egress("tcp:80@192.0.2.0/24+tcp:80@2001:db8::/32");
        assert_eq!((answered(&t.a, OUT), answered(&t.a, B), tcp(&t.a, HOST)), ((true, false), NONE, false));
        lists.egress("tcp:81-90@any+udp@any");
        assert_eq!((answered(&t.a, OUT), answered(&t.a, B)), ((false, true), (false, true)));
        lists.egress("net");
        assert_eq!((answered(&t.a, OUT), answered(&t.a, B), tcp(&t.a, HOST)), (NONE, BOTH, false));
        assert_eq!((pings(&t.a, B), tcp(&t.a, PUBLISHED)), (true, true), "a published port of the network");
        lists.egress("tcp:80@host");
        assert_eq!((answered(&t.a, OUT), answered(&t.a, B), tcp(&t.a, HOST)), (NONE, NONE, true));
        lists.egress("icmp@net");
        assert_eq!((pings(&t.a, B), answered(&t.a, B), pings(&t.a, HOST)), (true, NONE, false));
        lists.egress("icmp@host");
        assert_eq!((pings(&t.a, B), pings(&t.a, HOST)), (false, true));
        lists.egress("any");
        assert_eq!((answered(&t.a, OUT), answered(&t.a, B), tcp(&t.a, HOST)), (BOTH, BOTH, true));
        lists.set(self::lists(None, None), self::lists(None, None), self::lists(None, None));
        assert_eq!((answered(&t.a, OUT), answered(&t.a, B), pings(&t.a, B)), (BOTH, BOTH, true));
    });
}

#[test]
fn an_ingress_list_opens_what_it_says_and_nothing_else() {
    scene(|lists, t| {
        lists.ingress("");
        assert_eq!((answered(&t.a, B), tcp(&t.outside, PUBLISHED), pings(&t.a, B)), (NONE, false, false));
        assert_eq!([ask(TCP, B[0]), ask(TCP, B[1])], [None, None], "from the host");
        assert_eq!(refused(&t.outside, PUBLISHED[0]), Some(libc::EHOSTUNREACH));
        assert_eq!((answered(&t.b, OUT), answered(&t.b, A), pings(&t.b, HOST)), (BOTH, BOTH, true));
        lists.ingress("tcp:80@10.1.0.2+tcp:80@fd00:1::2");
        assert_eq!((answered(&t.a, B), tcp(&t.outside, PUBLISHED)), ((true, false), false));
        lists.ingress("tcp:80@192.0.2.2+tcp:80@2001:db8::2");
        assert_eq!((answered(&t.a, B), tcp(&t.outside, PUBLISHED), tcp(&t.c, PUBLISHED)), (NONE, true, false));
        lists.ingress("tcp:80@host");
        assert_eq!((answered(&t.a, B), tcp(&t.outside, PUBLISHED), tcp(&t.c, PUBLISHED)), (NONE, false, false));
        assert!(ask(TCP, B[0]).is_some() && ask(TCP, B[1]).is_some() && ask(TCP, "127.0.0.1:8080").is_some());
        lists.ingress("tcp:80@10.2.0.0/24+tcp:80@fd00:2::/64");
        assert_eq!((answered(&t.a, B), tcp(&t.c, PUBLISHED)), (NONE, true), "before the source is translated");
    });
}

#[test]
fn lists_add_up_and_both_ends_decide() {
    scene(|lists, t| {
        let (none, some) = (|| self::lists(None, None), |text| self::lists(Some(text), None));
        lists.set(some("tcp:80@net"), none(), none());
        assert_eq!((answered(&t.a, B), answered(&t.b, A), answered(&t.a, OUT)), ((true, false), (true, false), NONE));
        // The network's list and the container's, which overlap.
        lists.set(some("tcp:80@net"), some("net+udp:80@192.0.2.2+udp:80@2001:db8::2"), none());
        assert_eq!((answered(&t.a, B), answered(&t.b, A), answered(&t.a, OUT)), (BOTH, (true, false), (false, true)));
        // What one end allows and the other does not, does not pass, not at a second try either.
        lists.set(none(), some("tcp@net"), self::lists(None, Some("udp@net")));
        for _ in 0..2 {
            assert_eq!((answered(&t.a, B), answered(&t.b, A)), (NONE, BOTH));
        }
        lists.set(none(), some("net"), self::lists(None, Some("net")));
        assert_eq!((answered(&t.a, B), pings(&t.a, B)), (BOTH, true));
    });
}

/// The flows of a container end with it: the next one with its address has a list of its own.
#[test]
fn a_flow_within_a_bridge_does_not_outlive_the_container_with_the_address() {
    scene(|lists, t| {
        for (from, to) in [("10.1.0.2:5000", B[0]), ("[fd00:1::2]:5000", B[1])] {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let socket = t.a.enter(|| UdpSocket::bind(from).unwrap());
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let answered = || {
                socket.send_to(b"?", to).unwrap();
                socket.recv(&mut [0; 64]).is_ok()
            };
            lists.egress("udp:80@net");
            assert!(answered(), "{to}");
            let recorded = || run("nft list table bridge pontoon").contains(&format!("{} . {}", from.ip(), to.ip()));
            assert!(recorded(), "{to}");
            lists.change(self::lists(None, None), self::lists(Some(""), None), self::lists(None, None));
            assert!(answered(), "a change alone does not end flows: {to}");
            lists.forget();
            assert!(!recorded() && !answered(), "{to}");
        }
    });
}

#[test]
fn a_damaged_or_missing_chain_is_noticed() {
    in_netns(|kernel| {
        let list = vec![Policy::Access(Access::Restricted(Way::Egress, ip("10.1.0.2")))];
        let chains: [(&str, &[&str]); 2] = [
            ("inet", &["prerouting_queries", "forward_egress", "forward_ingress", "input_egress", "output_ingress"]),
            ("bridge", &["bridge_local", "bridge_egress", "bridge_ingress", "bridge_flows"]),
        ];
        let every = |what: &str| {
            let names = chains.iter().flat_map(|(family, names)| names.iter().map(move |name| (family, name)));
            names.map(|(family, name)| format!("{what} chain {family} pontoon {name}")).collect::<Vec<_>>()
        };
        let mut damages: Vec<String> = every("flush");
        damages.push([every("flush"), every("delete")].concat().join("; "));
        for damage in damages {
            kernel.apply(&[Step::CreateFirewall(list.clone())]).unwrap();
            assert_eq!(kernel.observe_firewall().unwrap().policy, Some(list.iter().cloned().collect()));
            run(&format!("nft '{damage}'"));
            assert_eq!(kernel.observe_firewall().unwrap().policy, None, "{damage}");
        }
        // Without a list the chains are not needed, and with the first one they are made.
        kernel.apply(&[Step::CreateFirewall(vec![])]).unwrap();
        assert_eq!(kernel.observe_firewall().unwrap().policy, Some(Default::default()));
        twice(kernel, &[Step::ChangeFirewall { add: list.clone(), remove: vec![] }]);
        assert!(run("nft list table bridge pontoon").contains("chain bridge_flows"));
        assert_eq!(kernel.observe_firewall().unwrap().policy, Some(list.iter().cloned().collect()));
        kernel.apply(&[Step::ChangeFirewall { add: vec![], remove: list }]).unwrap();
        assert_eq!(kernel.observe_firewall().unwrap().policy, Some(Default::default()));
    });
}
