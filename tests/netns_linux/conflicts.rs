//! Address conflicts with packets: the driver on the real kernel, in a namespace that is one host of a local network; a
//! laptop in another namespace is the other host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use pontoon::datapath::kind;
use pontoon::driver::{Driver, Event, Events, JoinSpec, Settings};
use pontoon::ipam::{LOCAL_SPACE, PoolAsk};
use pontoon::linux::packet::PacketSocket;
use pontoon::linux::packet::filter::Filter;
use pontoon::linux::{LinuxKernel, Options};
use pontoon::model::{EndpointId, EndpointSpec, NetworkId, NetworkOptions, NetworkSpec, Subnet};
use pontoon::state::Ledger;
use pontoon::{announcer, rounds};

use testkit::netns::{Netns, in_netns, net, run, succeeds, wait_for};

/// The conflict wait of the networks here, in milliseconds: longer than any other delay.
const WAIT: &str = "1500";

fn wait() -> Duration {
    Duration::from_millis(WAIT.parse().unwrap())
}

/// A host in the namespace of the calling thread.
struct Host {
    driver: Arc<Driver>,
    dir: PathBuf,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Host {
    /// With the threads that probe in advance and announce, if `ahead`.
    fn new(ahead: bool) -> Self {
        let tid = nix::unistd::gettid();
        let dir = std::env::temp_dir().join(format!("pontoon-conflicts-{}-{tid}", std::process::id()));
        let opened = Ledger::open(&dir, "boot").unwrap();
        let ((probes, due), (arrivals, arrived)) = (channel(), channel());
        let events = Events::new(move |event| match event {
            Event::ProbesDue => drop(probes.send(())),
            Event::Arrival(network, endpoint) => drop(arrivals.send((network, endpoint))),
            _ => {}
        });
        let kernel = Arc::new(LinuxKernel::new(Options::default()).unwrap());
        let driver = Arc::new(Driver::load(opened, kernel, Settings::default(), events, Vec::new));
        driver.start().unwrap();
        if ahead {
            rounds::start("prober", driver.clone(), due, Driver::probe_ahead).unwrap();
            announcer::start(driver.clone(), announcer::ROUND, arrived).unwrap();
        }
        Self { driver, dir }
    }

    /// A network with a pool of Pontoon's IPAM, on the addresses of `range`.
    fn network(&self, id: &str, subnet: &str, range: &str, options: &[(&str, &str)]) -> String {
        let (pool, range) = (net(subnet), Some(net(range)));
        let ask =
            PoolAsk { space: LOCAL_SPACE, pool: Some(pool), prefix_only: None, range, v6: pool.is_ipv6(), vlan: None };
        let granted = self.driver.request_pool(&ask).unwrap();
        let subnet = Subnet { pool, gateway: None, default_gateway: None, aux: Vec::new() };
        let options: BTreeMap<_, _> = options
            .iter()
            .chain(&[("pontoon.conflict.wait", WAIT)])
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        let (v4, v6) = if pool.is_ipv4() { (Some(subnet), None) } else { (None, Some(subnet)) };
        let options = NetworkOptions::parse(&options).unwrap();
        let spec = NetworkSpec { id: NetworkId::parse(id).unwrap(), v4, v6, internal: false, options };
        self.driver.create_network(spec).unwrap();
        granted.id
    }

    fn start(&self, network: &str, id: &str, address: &str) -> Result<(), String> {
        let (address, id) = (net(address), EndpointId::parse(id).unwrap());
        let (v4, v6) = if address.is_ipv4() { (Some(address), None) } else { (None, Some(address)) };
        let network = NetworkId::parse(network).unwrap();
        let spec = EndpointSpec { network, id, v4, v6, mac: None, options: Default::default() };
        self.driver.create_endpoint(spec, &String::new).map(drop).map_err(|error| error.to_string())
    }

    fn request(&self, pool: &str) -> String {
        self.driver.request_address(pool, None, false).unwrap().to_string()
    }

    /// Moves the endpoint's link into a namespace, as the engine does after Join.
    fn join(&self, network: &str, id: &str, address: &str) -> Netns {
        let (network, endpoint) = (NetworkId::parse(network).unwrap(), EndpointId::parse(id).unwrap());
        let joined = self.driver.join(JoinSpec { network, endpoint, sandbox: "s".to_owned() }, &|| Ok(Vec::new()));
        let container = Netns::new();
        container.take(joined.unwrap().link.as_str(), address, "");
        container
    }
}

/// The user's bridge `br-lan`, with 192.168.1.1 and fd01::1, and a laptop behind it with .200 and ::200.
fn bridge() -> Netns {
    run("ip link add br-lan type bridge forward_delay 0 && ip link set br-lan up");
    run("ip addr add 192.168.1.1/24 dev br-lan && ip addr add fd01::1/64 dev br-lan nodad");
    let laptop = cable("lan0");
    run("ip link set lan0 master br-lan");
    laptop
}

/// The link `name`; its other end is the laptop's.
fn cable(name: &str) -> Netns {
    let laptop = Netns::new();
    run(&format!("ip link add {name} type veth peer name far && ip link set {name} up"));
    laptop.take("far", "192.168.1.200/24", "");
    laptop.run("ip addr add fd01::200/64 dev eth0 nodad");
    laptop
}

fn mac_of(netns: &Netns) -> String {
    let line = netns.run("ip -o link show eth0");
    line.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned()
}

fn bridged() -> [(&'static str, &'static str); 1] {
    [("com.docker.network.bridge.name", "br-lan")]
}

/// Another host has the address: refused with the remedy, and Pontoon's IPAM takes the next one. Probes change no table
/// of the laptop.
#[test]
fn an_address_of_the_laptop_is_refused_and_skipped() {
    in_netns(|_| {
        let laptop = bridge();
        let host = Host::new(false);
        for (network, subnet, range, first, next, mine) in [
            ("four", "192.168.1.0/24", "192.168.1.200/29", "192.168.1.200/24", "192.168.1.201/24", "192.168.1.1"),
            ("six", "fd01::/64", "fd01::200/125", "fd01::200/64", "fd01::201/64", "fd01::1"),
        ] {
            let pool = host.network(network, subnet, range, &bridged());
            let before = laptop.run("ip neigh; bridge fdb");
            let began = Instant::now();
            let said = host.start(network, network, first).unwrap_err();
            assert!(began.elapsed() < wait(), "an answer ends the wait");
            let address = first.split('/').next().unwrap();
            for part in [address, &mac_of(&laptop), network, "br-lan", "--ip"] {
                assert!(said.contains(part), "{part}: {said}");
            }
            assert_eq!(host.request(&pool), next);
            host.start(network, network, next).unwrap();
            assert_eq!(laptop.run("ip neigh; bridge fdb"), before, "the probes changed a table of the laptop");
            let said =
                host.start(network, "own", &format!("{mine}/{}", subnet.split('/').nth(1).unwrap())).unwrap_err();
            assert!(said.contains("this host itself"), "{said}");
        }
        assert_eq!(host.driver.conflict_count(), 2);
    });
}

/// An address without an answer takes the whole wait, unless it was probed in advance; concurrent requests wait
/// together.
#[test]
fn addresses_probed_in_advance_need_no_wait() {
    in_netns(|_| {
        let _laptop = bridge();
        let host = Host::new(true);
        let pool = host.network("lan", "192.168.1.0/24", "192.168.1.192/26", &bridged());
        let began = Instant::now();
        host.start("lan", "cold", "192.168.1.20/24").unwrap();
        let cold = began.elapsed();
        assert!(cold >= wait(), "{cold:?}");
        // Meanwhile the next ones were probed.
        let began = Instant::now();
        host.start("lan", "warm", &host.request(&pool)).unwrap();
        let warm = began.elapsed();
        assert!(warm * 10 < cold, "{warm:?} beside {cold:?}");
        // Sequential waits would take many times as long.
        let many = host.network("many", "10.9.0.0/16", "10.9.1.0/24", &bridged());
        let began = Instant::now();
        let given = std::thread::scope(|scope| {
            let start = |n| {
                let (host, many) = (&host, &many);
                move || {
                    let address = host.request(many);
                    host.start("many", &format!("c{n}"), &address).unwrap();
                    address
                }
            };
            let starts: Vec<_> = (0..100).map(|n| scope.spawn(start(n))).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect::<std::collections::BTreeSet<_>>()
        });
        assert_eq!(given.len(), 100);
        assert!(began.elapsed() < wait() * 25, "{:?} for 100", began.elapsed());
    });
}

/// The laptop takes the address of a container: counted. Frames of the container itself are no conflict.
#[test]
fn a_later_conflict_is_detected() {
    in_netns(|_| {
        let laptop = bridge();
        let host = Host::new(true);
        for (network, subnet, range, address, other) in [
            ("four", "192.168.1.0/24", "192.168.1.224/28", "192.168.1.229", "192.168.1.200"),
            ("six", "fd01::/64", "fd01::300/120", "fd01::305", "fd01::200"),
        ] {
            let before = host.driver.conflict_count();
            host.network(network, subnet, range, &bridged());
            let length = subnet.split('/').nth(1).unwrap();
            host.start(network, network, &format!("{address}/{length}")).unwrap();
            let container = host.join(network, network, &format!("{address}/{length}"));
            container
                .run("for link in all default eth0; do echo 0 > /proc/sys/net/ipv6/conf/$link/dad_transmits; done");
            wait_for("the container to reach the laptop", || container.pings(other));
            assert_eq!(host.driver.conflict_count(), before, "the container is not its own conflict");
            // The container's own address must not defend itself against the laptop.
            container.run("ip link set eth0 down");
            laptop.run(&format!("ip addr add {address}/{length} dev eth0 nodad"));
            let target = if network == "four" { "192.168.1.1" } else { "fd01::1" };
            laptop.run("ip neigh flush all");
            assert!(laptop.enter(|| succeeds(&format!("ping -n -c 1 -W 2 -I {address} {target}"))));
            wait_for("the conflict", || host.driver.conflict_count() == before + 1);
            let found = host.driver.conflicts();
            let found = found.iter().find(|found| found.address == address.parse::<IpAddr>().unwrap()).unwrap();
            assert_eq!((found.other.to_string(), found.link.as_str()), (mac_of(&laptop), "br-lan"));
        }
    });
}

/// The same on a parent link: probes and announcements reach the laptop, and its frames are seen.
#[test]
fn child_links_of_a_parent_are_probed_and_announced() {
    in_netns(|_| {
        let laptop = cable("par0");
        run("ip addr add 192.168.1.1/24 dev par0");
        let host = Host::new(true);
        let pool = host.network("lan", "192.168.1.0/24", "192.168.1.200/29", &[("parent", "par0")]);
        let said = host.start("lan", "e1", "192.168.1.200/24").unwrap_err();
        assert!(said.contains(&mac_of(&laptop)) && said.contains("par0"), "{said}");
        let address = host.request(&pool);
        assert_eq!(address, "192.168.1.201/24");
        host.start("lan", "e1", &address).unwrap();
        // The laptop has another neighbour entry for the address.
        laptop.run("ip neigh replace 192.168.1.201 lladdr 02:00:00:00:00:99 dev eth0 nud stale");
        let container = host.join("lan", "e1", &address);
        let own = mac_of(&container);
        wait_for("the laptop to learn the container's address", || {
            laptop.run("ip neigh show 192.168.1.201").contains(&own)
        });
        assert_eq!(host.driver.conflict_count(), 1, "the refused one");
        container.run("ip link set eth0 down");
        laptop.run("ip addr add 192.168.1.201/24 dev eth0 && ip neigh flush all");
        assert!(laptop.enter(|| succeeds("ping -n -c 1 -W 2 -I 192.168.1.201 192.168.1.1")));
        wait_for("the conflict", || host.driver.conflict_count() == 2);
    });
}

/// A switch between the host and the laptop learns the container's port from an announcement.
#[test]
fn switches_learn_from_announcements() {
    for parent in [false, true] {
        in_netns(move |_| {
            let switch = Netns::new();
            run("ip link add up0 type veth peer name p0 && ip link set up0 up");
            run(&format!("ip link set p0 netns {}", switch.tid()));
            switch.run("ip link add sw type bridge forward_delay 0 && ip link set sw up");
            switch
                .run("ip link add old type veth peer name old1 && ip link set old master sw up && ip link set old1 up");
            switch.run("ip link set p0 master sw up");
            let host = Host::new(true);
            let options = if parent {
                [("parent", "up0")]
            } else {
                run("ip link add br-lan type bridge forward_delay 0 && ip link set br-lan up");
                run("ip link set up0 master br-lan");
                bridged()
            };
            host.network("lan", "192.168.1.0/24", "192.168.1.200/29", &options);
            host.start("lan", "e1", "192.168.1.205/24").unwrap();
            let network = &host.driver.networks()[0];
            assert!(kind::lan(&network.network).is_some());
            let mac = network.endpoints.values().next().unwrap().mac;
            // The switch has the container behind another port.
            switch.run(&format!("bridge fdb replace {mac} dev old master dynamic"));
            // The container itself sends nothing: its link is down.
            let (network, endpoint) = (NetworkId::parse("lan").unwrap(), EndpointId::parse("e1").unwrap());
            let spec = JoinSpec { network, endpoint, sandbox: "s".to_owned() };
            host.driver.join(spec, &|| Ok(Vec::new())).unwrap();
            wait_for("the switch to learn the port", || {
                let table = switch.run("bridge fdb show br sw");
                table.lines().any(|line| line.starts_with(&mac.to_string()) && line.contains("dev p0"))
            });
        });
    }
}

/// The filter of a socket is fixed when it is opened: not even root can change it later.
#[test]
fn a_socket_receives_what_its_locked_filter_passes() {
    in_netns(|_| {
        let laptop = cable("lan0");
        run("ip addr add 192.168.1.1/24 dev lan0");
        let index = nix::net::if_::if_nametoindex("lan0").unwrap();
        let open = [Filter::Neighbours, Filter::Nothing].map(|filter| PacketSocket::open(filter).unwrap());
        for socket in &open {
            socket.bind(index, libc::ETH_P_ALL as u16).unwrap();
            for option in [libc::SO_DETACH_FILTER, libc::SO_LOCK_FILTER] {
                let off: libc::c_int = 0;
                let (fd, len) = (socket.as_fd().as_raw_fd(), size_of::<libc::c_int>() as u32);
                // SAFETY: the pointer is to a live number of the given length.
                let set =
                    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, option, std::ptr::from_ref(&off).cast(), len) };
                assert_eq!((set, Errno::last()), (-1, Errno::EPERM), "option {option}");
            }
        }
        assert!(laptop.pings("192.168.1.1"));
        let mut buffer = [0; 2000];
        let mut kinds = std::collections::BTreeSet::new();
        while let Ok(frame) = open[0].receive(&mut buffer) {
            kinds.insert([frame[12], frame[13]]);
        }
        assert!(kinds.contains(&[8, 6]) && !kinds.contains(&[8, 0]), "ARP and no IP: {kinds:?}");
        assert_eq!(open[1].receive(&mut buffer).unwrap_err(), Errno::EAGAIN);
    });
}
