//! Egress lists with DNS names, with packets: the driver, the resolver's thread and the kernel; a name server outside.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pontoon::datapath::Kernel;
use pontoon::driver::Settings;
use pontoon::driver::names::NameTimes;
use pontoon::linux::{LinuxKernel, Options};
use pontoon::resolver;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use testkit::harness::{Dir, Process, endpoint, join, network, of};
use testkit::name_server::{A, AAAA, Entry, NameServer, look_up};
use testkit::netns::*;
use testkit::topology::{TCP, UDP, ask, ip, serve};

const SERVER: &str = "192.0.2.2:53";
const SERVER6: &str = "[2001:db8::2]:53";

/// How long addresses stay reachable here: short, so that the tests see the end.
const TIMES: NameTimes = NameTimes { least: Duration::from_secs(2), grace: Duration::from_secs(2) };

struct Scene {
    pontoon: Option<Process>,
    kernel: Arc<dyn Kernel>,
    dir: Dir,
    /// The name server and all other servers: 192.0.2.2, 192.0.2.10 to .19, 198.18.0.0/16, 2001:db8::2 and ::10.
    outside: Netns,
    names: NameServer,
    /// The resolver, until the sender ends.
    resolver: Option<(UnboundedSender<()>, JoinHandle<()>)>,
}

fn scene(test: impl FnOnce(&mut Scene) + Send + 'static) {
    in_netns(move |_| {
        let outside = Netns::new();
        run("ip link add up0 type veth peer name up1; ip addr add 192.0.2.1/24 dev up0; ip link set up0 up");
        run("ip addr add 2001:db8::1/64 dev up0 nodad; ip route add 198.18.0.0/16 via 192.0.2.2");
        outside.take("up1", "192.0.2.2/24", "192.0.2.1");
        for address in ["2001:db8::2", "2001:db8::10"] {
            outside.run(&format!("ip addr add {address}/64 dev eth0 nodad"));
        }
        (10..20).for_each(|last| drop(outside.run(&format!("ip addr add 192.0.2.{last}/24 dev eth0"))));
        outside.run("ip route add local 198.18.0.0/16 dev lo");
        outside.run("ip -6 route add default via 2001:db8::1");
        serve(&outside);
        let names = NameServer::default();
        outside.enter(|| names.serve());
        let dir = Dir::new();
        let kernel: Arc<dyn Kernel> = Arc::new(LinuxKernel::new(Options::default()).unwrap());
        let mut scene = Scene { pontoon: None, kernel, dir, outside, names, resolver: None };
        scene.begin();
        scene.pontoon().ok("NetworkDriver.CreateNetwork", network("aa", 1, true));
        test(&mut scene);
    });
}

impl Scene {
    fn end(&mut self) {
        if let Some((due, thread)) = self.resolver.take() {
            drop(due);
            thread.join().unwrap();
        }
        self.pontoon = None;
    }

    /// Starts Pontoon, or starts it again.
    fn begin(&mut self) {
        self.end();
        let settings = Settings { names: TIMES, ula_seed: [1, 2, 3, 4, 5], ..Settings::default() };
        let (kernel, patience) = (Arc::clone(&self.kernel), Duration::from_secs(10));
        let servers = vec![ip("192.0.2.2")];
        let pontoon = Process::begin_as(&self.dir.0, kernel, "boot", patience, settings, servers);
        let (due, for_resolver) = unbounded_channel();
        let thread = resolver::start(pontoon.driver.clone(), for_resolver).unwrap();
        due.send(()).unwrap();
        (self.pontoon, self.resolver) = (Some(pontoon), Some((due, thread)));
    }

    fn pontoon(&self) -> &Process {
        self.pontoon.as_ref().unwrap()
    }

    /// A container at 10.1.0.LAST and fd01::LAST.
    fn container(&self, id: &str, last: u8, list: Option<&str>) -> Netns {
        let mut body = endpoint("aa", id, &format!("10.1.0.{last}/24"));
        body["Interface"]["AddressIPv6"] = json!(format!("fd01::{last}/64"));
        if let Some(list) = list {
            body["Options"]["pontoon.egress.allow"] = json!(list);
        }
        self.pontoon().ok("NetworkDriver.CreateEndpoint", body);
        let joined = self.pontoon().ok("NetworkDriver.Join", join("aa", id));
        let container = Netns::new();
        let link = joined["InterfaceName"]["SrcName"].as_str().unwrap();
        container.take(link, &format!("10.1.0.{last}/24"), "10.1.0.1");
        container.run(&format!("ip addr add fd01::{last}/64 dev eth0 nodad; ip -6 route add default via fd01::1"));
        wait_for("IPv6", || container.enter(|| succeeds("ping -n -c 1 -W 1 fe80::1%eth0 || ip -6 route get fd01::1")));
        container
    }

    fn remove(&self, id: &str) {
        self.pontoon().ok("NetworkDriver.Leave", of("aa", id));
        self.pontoon().ok("NetworkDriver.DeleteEndpoint", of("aa", id));
    }

    fn elements(&self) -> usize {
        ["egress_names4", "egress_names6"]
            .map(|set| run(&format!("nft list set inet pontoon {set}")).matches("expires").count())
            .iter()
            .sum()
    }
}

/// The code and the addresses of an answer; `None` without one.
fn found(from: &Netns, name: &str, kind: u16, server: &str, by_tcp: bool) -> Option<(u8, Vec<String>)> {
    let answer = from.enter(|| look_up(name, kind, server, by_tcp))?;
    Some((answer.code, answer.addresses.iter().map(|(address, _)| address.to_string()).collect()))
}

fn addresses(of: &[&str]) -> Option<(u8, Vec<String>)> {
    Some((0, of.iter().map(ToString::to_string).collect()))
}

const REFUSED: Option<(u8, Vec<String>)> = Some((5, Vec::new()));

fn at(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

fn reaches(from: &Netns, to: &str) -> bool {
    from.ask(TCP, to).is_some()
}

#[test]
fn names_of_the_list_are_reachable_once_they_were_looked_up() {
    scene(|s| {
        s.names.set("api.example.com", Entry::At(at(&["192.0.2.10", "2001:db8::10"]), 60));
        s.names.set("a.b.example.org", Entry::Alias("edge.example.net"));
        s.names.set("edge.example.net", Entry::At(at(&["192.0.2.11"]), 60));
        s.names.set("other.example.com", Entry::At(at(&["192.0.2.12"]), 60));
        s.names.set("long.example.org", Entry::Long(at(&["192.0.2.13"])));
        s.names.set("forged.example.org", Entry::Forged(at(&["192.0.2.14"]), ip("192.0.2.15")));
        s.names.set("host.example.org", Entry::At(at(&["192.0.2.1", "127.0.0.1", "169.254.169.254"]), 60));
        s.names.set("silent.example.org", Entry::Silent);
        let a = s.container("a", 2, Some("tcp:80@api.example.com+tcp:80@*.example.org"));
        let b = s.container("b", 3, None);
        for to in ["192.0.2.10:80", "[2001:db8::10]:80", "192.0.2.2:80"] {
            assert!(!reaches(&a, to) && reaches(&b, to), "{to} before it was looked up");
        }
        assert_eq!(found(&a, "api.example.com", A, SERVER, false), addresses(&["192.0.2.10"]));
        assert!(reaches(&a, "192.0.2.10:80") && !reaches(&a, "[2001:db8::10]:80"));
        // Another port and protocol of the same address, and other containers.
        assert_eq!(a.ask(UDP, "192.0.2.10:80"), None);
        assert!(!a.enter(|| {
            TcpStream::connect_timeout(&"192.0.2.10:53".parse().unwrap(), Duration::from_secs(1)).is_ok_and(
                |mut stream| {
                    // It is redirected like every connection to port 53: no name server of the container's choice answers.
                    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                    stream.write_all(b"\0\0").unwrap();
                    stream.read(&mut [0; 2]).is_ok_and(|length| length > 0)
                },
            )
        }));
        // By IPv6, to a server that does not exist, and in other letters: it is the same name.
        assert_eq!(found(&a, "API.example.COM", AAAA, "[2001:db8::99]:53", false), addresses(&["2001:db8::10"]));
        assert!(reaches(&a, "[2001:db8::10]:80"));
        assert_eq!(found(&a, "a.b.example.org", A, SERVER6, true), addresses(&["192.0.2.11"]));
        assert!(reaches(&a, "192.0.2.11:80"));
        // A name that the list does not have: neither asked for nor reachable.
        s.names.take_asked();
        for (name, by_tcp) in [
            ("other.example.com", false),
            ("other.example.com", true),
            ("example.org", false),
            ("edge.example.net", false),
        ] {
            assert_eq!(found(&a, name, A, SERVER, by_tcp), REFUSED, "{name}");
        }
        assert_eq!((s.names.take_asked(), reaches(&a, "192.0.2.12:80")), (vec![], false));
        // What is too long for UDP comes by TCP.
        let cut = a.enter(|| look_up("long.example.org", A, SERVER, false)).unwrap();
        assert!(cut.truncated && !reaches(&a, "192.0.2.13:80"));
        assert_eq!(found(&a, "long.example.org", A, SERVER, true), addresses(&["192.0.2.13"]));
        assert!(reaches(&a, "192.0.2.13:80"));
        // Forged answers are neither passed on nor admitted.
        assert_eq!(found(&a, "forged.example.org", A, SERVER, false), addresses(&["192.0.2.14"]));
        assert!(reaches(&a, "192.0.2.14:80") && !reaches(&a, "192.0.2.15:80"));
        // A name that leads to the host opens nothing there.
        serve_here();
        assert_eq!(found(&a, "host.example.org", A, SERVER, false).unwrap().1.len(), 3);
        assert!(!reaches(&a, "192.0.2.1:80") && !reaches(&a, "10.1.0.1:80"));
        // No answer from the server, and messages that are none.
        assert_eq!(found(&a, "silent.example.org", A, SERVER, false), Some((2, vec![])));
        let counts = s.pontoon().driver.name_counts();
        assert_eq!(counts.refused.load(std::sync::atomic::Ordering::Relaxed), 4);
        // Only who is redirected is answered at the port, and nothing at all is redirected for others.
        for (from, port) in
            [(&b, "10.1.0.1:20053"), (&s.outside, "192.0.2.1:20053"), (&s.outside, "[2001:db8::1]:20053")]
        {
            assert_eq!(found(from, "api.example.com", A, port, false), None, "{port}");
            let connects = |to: &str| TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_secs(1));
            assert!(from.enter(|| connects(port)).is_err(), "{port}: the firewall, not only the resolver");
        }
        assert_eq!(found(&b, "other.example.com", A, SERVER, false), addresses(&["192.0.2.12"]));
        assert_eq!(found(&b, "other.example.com", A, "192.0.2.99:53", false), None);
    });
}

/// An audited container is answered for every name; the list of what it did lets it do the same, and nothing else.
#[test]
fn the_list_of_an_audit_allows_what_was_done() {
    use pontoon::admin::audit;
    use pontoon::driver::PolicyChange;
    use pontoon::model::access::{StoredLists, learned};
    use pontoon::model::{EndpointId, NetworkId};

    scene(|s| {
        s.names.set("api.example.com", Entry::At(at(&["192.0.2.10", "192.0.2.13"]), 60));
        s.names.set("idle.example.com", Entry::At(at(&["192.0.2.14"]), 60));
        s.names.set("other.example.com", Entry::At(at(&["192.0.2.12"]), 60));
        serve_here();
        let a = s.container("a", 2, Some("tcp:80@192.0.2.15"));
        let store = |lists: StoredLists| {
            let (network, endpoint) = (NetworkId::parse("aa").unwrap(), EndpointId::parse("a").ok());
            let change = PolicyChange { network, endpoint, lists: Some(lists), keep_flows: false };
            s.pontoon().driver.set_policy(&change).unwrap();
        };
        let work = || {
            let looked_up = ["api.example.com", "idle.example.com"].map(|name| found(&a, name, A, SERVER, false));
            let answered = looked_up.into_iter().flatten().filter(|(code, _)| *code == 0).count();
            let reached = ["192.0.2.10:80", "192.0.2.15:80", "192.0.2.11:80", "10.1.0.1:80"].map(|to| reaches(&a, to));
            (answered, reached, a.ask(UDP, "192.0.2.2:80").is_some(), a.pings("192.0.2.2"))
        };
        assert_eq!(work(), (0, [false, true, false, false], false, false), "its list is in force");
        store(StoredLists { audit: Some(true), ..StoredLists::default() });
        let all = (2, [true; 4], true, true);
        assert_eq!(work(), all);
        let done = audit::of_daemon(&s.pontoon().driver).unwrap().audits.remove(0);
        assert_eq!((done.looked_up.as_slice(), done.unrecorded), (["idle.example.com".to_owned()].as_slice(), 0));
        let seen: Vec<_> = done.egress.into_iter().map(|line| line.seen).collect();
        let list = learned::list(&seen, &done.looked_up);
        let expected = "tcp:80@api.example.com+udp:53@idle.example.com+tcp:80@192.0.2.11+udp:80@192.0.2.2+tcp:80@host\
            +icmp@192.0.2.2";
        assert_eq!(list, expected.parse().unwrap(), "{list}");
        store(StoredLists { audit: Some(false), egress: Some(list), ..StoredLists::default() });
        let dropped = || s.kernel.dropped().unwrap().iter().map(|one| one.packets).sum::<u64>();
        let before = dropped();
        // What was looked up stays reachable for a while.
        assert!(reaches(&a, "192.0.2.10:80"));
        assert_eq!((work(), dropped()), (all, before), "nothing is dropped");
        assert!(!reaches(&a, "192.0.2.12:80") && !reaches(&a, "192.0.2.14:80") && dropped() > before);
        assert_eq!(found(&a, "other.example.com", A, SERVER, false), REFUSED);
        // The next container with the address has done nothing.
        store(StoredLists { audit: Some(true), ..StoredLists::default() });
        assert!(reaches(&a, "192.0.2.16:80"));
        s.remove("a");
        assert_eq!(s.kernel.records().unwrap(), []);
    });
}

/// As the doctor sees it, and until the port is free.
#[test]
fn a_port_that_another_program_has_is_reported_and_tried_again() {
    scene(|s| {
        s.names.set("api.example.com", Entry::At(at(&["192.0.2.10"]), 60));
        let a = s.container("a", 2, Some("tcp:80@api.example.com"));
        assert_eq!(found(&a, "api.example.com", A, SERVER, false), addresses(&["192.0.2.10"]));
        let status = |s: &Scene| pontoon::admin::status::of_daemon(&s.pontoon().driver).names.unwrap();
        let here = status(s);
        assert_eq!((here.endpoints, here.by_host, here.servers, here.failure), (1, 1, at(&["192.0.2.2"]), None));
        s.end();
        let mut other = None;
        wait_for("the port", || {
            other = std::net::UdpSocket::bind("0.0.0.0:20053").ok();
            other.is_some()
        });
        s.begin();
        wait_for("the failure", || status(s).failure.is_some_and(|why| why.contains("in use")));
        assert_eq!(found(&a, "api.example.com", A, SERVER, false), None);
        drop(other);
        wait_for("the port", || status(s).failure.is_none());
        assert_eq!(found(&a, "api.example.com", A, SERVER, false), addresses(&["192.0.2.10"]));
    });
}

/// Serves TCP port 80 in the namespace of the calling thread.
fn serve_here() {
    let server = TcpListener::bind("[::]:80").unwrap();
    thread::spawn(move || server.incoming().flatten().for_each(|mut stream| drop(stream.write_all(b"host"))));
}

#[test]
fn a_thousand_first_connections_succeed() {
    scene(|s| {
        let a = s.container("a", 2, Some("tcp:80@*.many.example.org"));
        let began = Instant::now();
        let failed: Vec<u32> = a.enter(|| {
            let one = |number: &u32| {
                let name = format!("n{number}.many.example.org");
                let address = look_up(&name, A, SERVER, false).and_then(|answer| answer.addresses.first().copied());
                let [.., high, low] = number.to_be_bytes();
                let wanted = IpAddr::from([198, 18, high, low]);
                address.map(|(address, _)| address) != Some(wanted) || ask(TCP, &format!("{wanted}:80")).is_none()
            };
            (0..1000).filter(one).collect()
        });
        assert_eq!(failed, [0; 0]);
        eprintln!("1000 lookups and connections in {:?}", began.elapsed());
    });
}

/// Beyond the limit, a name is not answered instead of leading nowhere; what was admitted goes on.
#[test]
fn a_container_reaches_a_limited_number_of_addresses() {
    scene(|s| {
        let a = s.container("a", 2, Some("tcp:80@*.example.org"));
        let many = |third: u8| {
            (0..500u16).map(|n| IpAddr::from([198, 18, third + (n / 250) as u8, (n % 250) as u8])).collect()
        };
        for (name, third) in [("a.example.org", 10), ("b.example.org", 20), ("c.example.org", 30)] {
            s.names.set(name, Entry::Long(many(third)));
        }
        let codes = ["a.example.org", "b.example.org", "c.example.org"]
            .map(|name| found(&a, name, A, SERVER, true).map(|(code, found)| (code, found.len())));
        assert_eq!(codes, [Some((0, 500)), Some((0, 500)), Some((2, 0))]);
        assert!(reaches(&a, "198.18.11.249:80") && !reaches(&a, "198.18.30.0:80"));
    });
}

/// What the resolver adds to a lookup: printed, because it depends on the machine.
#[test]
fn a_lookup_by_the_resolver_is_measured() {
    scene(|s| {
        s.names.set("api.example.com", Entry::At(at(&["192.0.2.10"]), 600));
        let with = s.container("a", 2, Some("tcp:80@api.example.com"));
        let without = s.container("b", 3, None);
        for (title, from) in [("with names", &with), ("without", &without)] {
            let mut times: Vec<Duration> = from.enter(|| {
                let one = |_| {
                    let began = Instant::now();
                    assert_eq!(look_up("api.example.com", A, SERVER, false).unwrap().addresses.len(), 1);
                    began.elapsed()
                };
                (0..500).map(one).collect()
            });
            times.sort();
            eprintln!("{title}: median {:?}, 99 % {:?}", times[250], times[495]);
        }
    });
}

#[test]
fn an_address_stays_reachable_for_its_time_and_flows_longer() {
    scene(|s| {
        s.names.set("api.example.com", Entry::At(at(&["192.0.2.10"]), 1));
        let echo = s.outside.enter(|| TcpListener::bind("192.0.2.10:443").unwrap());
        thread::spawn(move || {
            for mut stream in echo.incoming().flatten() {
                thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() {
                        let _ = stream.write_all(&byte);
                    }
                });
            }
        });
        let a = s.container("a", 2, Some("tcp:80/443@api.example.com"));
        assert_eq!(found(&a, "api.example.com", A, SERVER, false), addresses(&["192.0.2.10"]));
        let mut flow = a.enter(|| TcpStream::connect("192.0.2.10:443")).unwrap();
        flow.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert!(reaches(&a, "192.0.2.10:80"));
        // It moves: the new address is reachable at once, the old one until its time ends.
        s.names.set("api.example.com", Entry::At(at(&["192.0.2.11"]), 1));
        assert_eq!(found(&a, "api.example.com", A, SERVER, false), addresses(&["192.0.2.11"]));
        assert!(reaches(&a, "192.0.2.11:80"));
        wait_for("the end of the address", || !reaches(&a, "192.0.2.10:80"));
        flow.write_all(b"x").unwrap();
        let mut byte = [0];
        flow.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x", "the connection goes on");
        // A name that is looked up again and again stays reachable all the time.
        let until = Instant::now() + TIMES.least + TIMES.grace + Duration::from_secs(2);
        while Instant::now() < until {
            assert!(
                found(&a, "api.example.com", A, SERVER, false) == addresses(&["192.0.2.11"])
                    && reaches(&a, "192.0.2.11:80")
            );
        }
    });
}

#[test]
fn what_names_opened_belongs_to_the_container_alone() {
    scene(|s| {
        s.names.set("api.example.com", Entry::At(at(&["192.0.2.10"]), 600));
        let list = Some("tcp:80@api.example.com");
        let a = s.container("a", 2, list);
        let b = s.container("b", 3, list);
        assert_eq!(found(&a, "api.example.com", A, SERVER, false), addresses(&["192.0.2.10"]));
        assert!(reaches(&a, "192.0.2.10:80") && !reaches(&b, "192.0.2.10:80"));
        // It survives a restart of Pontoon, which compares the tables with what it wants.
        s.begin();
        assert!(reaches(&a, "192.0.2.10:80") && s.elements() > 0);
        // And ends with the container, for the next one with its address.
        s.remove("a");
        assert_eq!(s.elements(), 0);
        drop(a);
        let next = s.container("c", 2, list);
        assert!(!reaches(&next, "192.0.2.10:80"));
    });
}

#[test]
fn after_a_flush_the_next_lookup_opens_again() {
    scene(|s| {
        s.names.set("api.example.com", Entry::At(at(&["192.0.2.10"]), 600));
        let a = s.container("a", 2, Some("tcp:80@api.example.com"));
        for _ in 0..2 {
            assert_eq!(found(&a, "api.example.com", A, SERVER, false), addresses(&["192.0.2.10"]));
            assert!(reaches(&a, "192.0.2.10:80"));
            run("nft flush ruleset");
            s.pontoon().driver.start().unwrap();
            assert!(!reaches(&a, "192.0.2.10:80"));
        }
    });
}

#[test]
fn the_rule_dns_and_a_server_of_the_list_allow_other_names() {
    scene(|s| {
        s.names.set("api.example.com", Entry::At(at(&["192.0.2.10"]), 60));
        s.names.set("other.example.com", Entry::At(at(&["192.0.2.12"]), 60));
        for (id, last, more, allowed) in
            [("a", 2, "dns", true), ("b", 3, "udp:53@192.0.2.2", true), ("c", 4, "udp:53@192.0.2.3", false)]
        {
            let from = s.container(id, last, Some(&format!("tcp:80@api.example.com+{more}")));
            let other = found(&from, "other.example.com", A, SERVER, false);
            assert_eq!(other, if allowed { addresses(&["192.0.2.12"]) } else { REFUSED }, "{more}");
            assert!(!reaches(&from, "192.0.2.12:80"), "answered, but not reachable");
            assert_eq!(found(&from, "api.example.com", A, SERVER, false), addresses(&["192.0.2.10"]));
            assert!(reaches(&from, "192.0.2.10:80"));
        }
    });
}
