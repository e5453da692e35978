//! What others do to Pontoon's own objects: noticed by a notification, repaired within a second, counted and logged once.

use std::time::{Duration, Instant};

use crate::{
    bed::{Bed, SOON, on_pontoon_with},
    doctor::shell,
    support::{Options, Segment, wait_until},
};

/// From the change to its repair, as seen through commands that take some of it themselves.
const SECOND: Duration = Duration::from_millis(1500);

/// The daemon's own comparison without any cause.
const TICK: Duration = Duration::from_secs(40);

/// Words of the log that a repair leaves.
const REPAIRED: [&str; 2] = ["kernel brought to the state", "the firewall was changed by someone else"];

fn log(bed: &Bed) -> String {
    std::fs::read_to_string(bed.shared().join("pontoon.log")).expect("a log")
}

fn metric(bed: &Bed, name: &str) -> u64 {
    let socket = "/run/docker/plugins/pontoon.sock";
    let text = bed.exec(&["curl", "-s", "--unix-socket", socket, "http://pontoon/metrics"]).ok();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

struct Patient<'a> {
    bed: &'a Bed<'a>,
}

impl Patient<'_> {
    fn is(&self, level: &str) -> bool {
        shell(self.bed, level).success()
    }

    /// Breaks something; `well` is a command that succeeds again when it is repaired.
    #[track_caller]
    fn repaired(&self, breakage: &str, well: &str) {
        self.repaired_within(breakage, well, SECOND);
    }

    #[track_caller]
    fn repaired_within(&self, breakage: &str, well: &str, time: Duration) {
        assert!(self.is(well), "{well} before {breakage}");
        let (counted, logged) = (metric(self.bed, "pontoon_repairs_total"), self.logged());
        let began = Instant::now();
        shell(self.bed, breakage).ok();
        wait_until(time, &format!("the repair of {breakage}"), || self.is(well));
        eprintln!("{breakage}: {} ms", began.elapsed().as_millis());
        wait_until(SOON, "the count", || metric(self.bed, "pontoon_repairs_total") > counted);
        self.rests();
        let told = self.logged() - logged;
        assert_eq!(told, 1, "{breakage} is logged once\n{}", self.bed.log_tail("pontoon"));
    }

    /// Waits until no comparison was due for longer than Pontoon's memory of its own changes: what is not logged by then
    /// is not logged at all.
    fn rests(&self) {
        let rested = || {
            let before = metric(self.bed, "pontoon_reconciles_total");
            std::thread::sleep(Duration::from_millis(1200));
            metric(self.bed, "pontoon_reconciles_total") == before
        };
        wait_until(SOON, "rest", rested);
    }

    fn logged(&self) -> usize {
        log(self.bed).lines().filter(|line| REPAIRED.iter().any(|words| line.contains(words))).count()
    }
}

#[test]
fn what_others_change_is_repaired_within_a_second() {
    let segment = Segment::up();
    on_pontoon_with(Options::new().uplink(&segment, 1), drifts);
}

fn drifts(bed: &Bed) {
    bed.network("net", &["--subnet", "10.141.0.0/24", "--ipv6", "--subnet", "fd41::/64"]);
    bed.run_container("one", &["--network", "net", "--ip", "10.141.0.9", "-p", "8080:80"]);
    let host_end = || shell(bed, "ip -o link show group 1886286849 type veth | grep -o 'pnth[0-9a-z]*' | sort").ok();
    let (br, one) = (shell(bed, "ip -o link show type bridge | grep -o 'pntb[0-9a-z]*' | head -1").ok(), host_end());
    bed.network("apart", &["--subnet", "10.142.0.0/24", "-o", "com.docker.network.bridge.enable_icc=false"]);
    bed.run_container("two", &["--network", "apart"]);
    let two = host_end().lines().find(|host| *host != one).expect("a second host end").to_owned();
    bed.ping_soon("one", "192.168.77.254");

    let patient = Patient { bed };
    patient.rests();
    let repaired = |breakage: &str, well: &str| {
        let fill = |text: &str| text.replace("BR", &br).replace("ONE", &one).replace("TWO", &two);
        patient.repaired(&fill(breakage), &fill(well));
    };
    // links
    repaired("ip link del BR", "ip link show ONE | grep -q 'master BR'");
    repaired(
        "ip link set BR down && ip link set BR name other",
        "ip link show ONE | grep -q 'master BR' && ! ip link show other",
    );
    repaired("ip link set BR down", "ip link show BR up | grep -q BR && ip -4 route | grep -q BR");
    repaired("ip link set ONE down", "ip link show ONE up | grep -q ONE");
    repaired("ip link set BR mtu 1300", "ip link show BR | grep -q 'mtu 1500'");
    repaired("ip link set ONE mtu 1300", "ip link show ONE | grep -q 'mtu 1500'");
    repaired("ip link set ONE nomaster", "ip link show ONE | grep -q 'master BR'");
    shell(bed, "ip link add elsewhere type bridge").ok();
    repaired("ip link set ONE master elsewhere", "ip link show ONE | grep -q 'master BR'");
    shell(bed, "ip link del elsewhere").ok();
    repaired("bridge link set dev TWO isolated off", "bridge -d link show dev TWO | grep -q 'isolated on'");
    repaired("bridge link set dev ONE hairpin off", "bridge -d link show dev ONE | grep -q 'hairpin on'");
    // addresses
    repaired("ip address del 10.141.0.1/24 dev BR", "ip address show BR | grep -q 10.141.0.1/24");
    repaired("ip address del fd41::1/64 dev BR", "ip address show BR | grep -q fd41::1/64");
    repaired(
        "ip address flush dev BR",
        "ip address show BR | grep -q fd41::1/64 && ip address show BR | grep -q 10.141.0.1/24",
    );
    // settings
    repaired("sysctl -w net.ipv4.ip_forward=0", "test $(cat /proc/sys/net/ipv4/ip_forward) = 1");
    let forwarding = "test $(cat /proc/sys/net/ipv6/conf/all/forwarding) = 1";
    repaired("sysctl -w net.ipv6.conf.all.forwarding=0", forwarding);
    repaired("sysctl -w net.ipv6.conf.BR.disable_ipv6=1", "test $(cat /proc/sys/net/ipv6/conf/BR/disable_ipv6) = 0");
    // the firewall
    let all = "nft list chain inet pontoon forward_filter | grep -q drop";
    repaired("nft delete table inet pontoon", all);
    repaired("nft delete table bridge pontoon", "nft list set bridge pontoon checked | grep -q ONE");
    repaired("nft flush chain inet pontoon forward_filter", all);
    let chain = "nft list chain inet pontoon prerouting_raw";
    repaired("nft flush chain inet pontoon prerouting_raw && nft delete chain inet pontoon prerouting_raw", chain);
    let element = "nft get element inet pontoon port4 '{ tcp . 8080 }'";
    repaired("nft delete element inet pontoon port4 '{ tcp . 8080 }'", element);
    repaired("nft flush set bridge pontoon checked", "nft list set bridge pontoon checked | grep -q ONE");
    repaired("iptables -F FORWARD", "test $(iptables -S FORWARD | grep -c pnt+) = 2");
    repaired("nft flush ruleset", all);

    // nobody tells of this one
    let setting = format!("net.ipv4.conf.{br}.route_localnet");
    let well = format!("test $(sysctl -n {setting}) = 1");
    patient.repaired_within(&format!("sysctl -w {setting}=0"), &well, TICK);
    bed.ping_soon("one", "192.168.77.254");
    bed.ping_soon("two", "10.142.0.1");
}

#[test]
fn a_link_that_cannot_be_made_again_takes_its_endpoint_and_nobody_elses() {
    on_pontoon_with(Options::new(), deaths);
}

fn deaths(bed: &Bed) {
    bed.network("net", &["--ipam-driver", "pontoon", "--subnet", "10.143.0.0/24"]);
    bed.run_container("other", &["--network", "net"]);
    bed.run_container("one", &["--network", "net", "--ip", "10.143.0.9", "-p", "8080:80"]);
    let ends = || shell(bed, "ip -o link | grep -o 'pnth[0-9a-z]*' | sort -u").ok();
    let address = "nft list set bridge pontoon addr4";
    let elements = shell(bed, address).ok();
    let host = elements
        .split('"')
        .collect::<Vec<_>>()
        .windows(2)
        .find(|w| w[1].contains("10.143.0.9"))
        .map(|w| w[0].to_owned());
    let host = host.expect("the host end with that address");
    assert!(ends().contains(&host), "{host}");

    // joined: it cannot be made again, so its endpoint goes, once
    let buried = metric(bed, "pontoon_endpoints_buried_total");
    shell(bed, &format!("ip link del {host}")).ok();
    wait_until(SOON, "the end of the endpoint", || metric(bed, "pontoon_endpoints_buried_total") == buried + 1);
    wait_until(SOON, "its elements to go", || !shell(bed, address).ok().contains("10.143.0.9"));
    assert!(!shell(bed, "nft list map inet pontoon port4").ok().contains("8080"), "its port is free");
    let ours = format!("link={host}");
    assert_eq!(
        log(bed)
            .lines()
            .filter(|line| line.contains("the sandbox of this endpoint is gone") && line.contains(&ours))
            .count(),
        1
    );
    bed.ping_soon("other", "10.143.0.1");
    bed.run_container("next", &["--network", "net", "-p", "8080:80"]);
    bed.names("other", "-4", "next");
    bed.docker(&["rm", "-f", "next"]).ok();
    bed.docker(&["restart", "-t", "1", "one"]).ok();
    bed.names("other", "-4", "one");
    assert_eq!(metric(bed, "pontoon_endpoints_buried_total"), buried + 1, "one was enough");

    // not joined yet: it is made again
    let network = bed.network_info("net")["Id"].as_str().expect("an id").to_owned();
    let call = |method: &str, body: String| {
        let url = format!("http://pontoon/NetworkDriver.{method}");
        bed.exec(&["curl", "-s", "--unix-socket", "/run/docker/plugins/pontoon.sock", "-d", &body, &url]).ok()
    };
    let endpoint = format!(r#""NetworkID":"{network}","EndpointID":"{}""#, "cd".repeat(32));
    let before = ends();
    call("CreateEndpoint", format!(r#"{{{endpoint},"Interface":{{"Address":"10.143.0.77/24"}}}}"#));
    let made = ends().lines().find(|end| !before.contains(end)).expect("a host end").to_owned();
    Patient { bed }.repaired(&format!("ip link del {made}"), &format!("ip link show {made} | grep -q 'master pntb'"));
    call("DeleteEndpoint", format!("{{{endpoint}}}"));
}
