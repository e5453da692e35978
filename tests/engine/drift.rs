//! Drift of Pontoon's objects caused by other programs: noticed by a notification, repaired within a second, counted
//! and logged once.

use std::time::{Duration, Instant};

use crate::{agreement::LONG, doctor::shell, stream::Stream};
use testkit::{
    Options, Segment, Signal,
    testbed::{SOON, Testbed, binary, on_pontoon_with},
    wait_until,
};

/// A longer repair was not triggered by a notification: the next periodic reconciliation is due within half a minute.
/// On a busy machine, a second may become two.
const NOTICED: Duration = Duration::from_secs(5);

/// A machine may stall for that long occasionally, but not in each attempt.
const TURNS: usize = 3;

/// Longer than Pontoon remembers its own changes.
const MEMORY: Duration = Duration::from_millis(1200);

/// Log messages of a repair.
const REPAIRED: [&str; 2] = ["repaired the kernel", "repaired the firewall"];

fn log(testbed: &Testbed) -> String {
    std::fs::read_to_string(testbed.shared().join("pontoon.log")).expect("a log")
}

fn metric(testbed: &Testbed, name: &str) -> u64 {
    let socket = "/run/docker/plugins/pontoon.sock";
    let text = testbed.exec(&["curl", "-s", "--unix-socket", socket, "http://pontoon/metrics"]).ok();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

struct DriftCheck<'a> {
    testbed: &'a Testbed<'a>,
}

impl DriftCheck<'_> {
    fn is(&self, level: &str) -> bool {
        shell(self.testbed, level).success()
    }

    /// Breaks something; `well` is a command that succeeds once it is repaired.
    #[track_caller]
    fn repaired(&self, breakage: &str, well: &str) {
        // Two notifications far apart count as two changes.
        let well_done =
            || (0..TURNS).map(|_| self.repaired_after(breakage, well)).find(|turn| turn.0 < NOTICED && turn.1 == 1);
        let done = well_done().is_some();
        assert!(done, "{breakage}: not repaired at once, or not logged once\n{}", self.testbed.log_tail("pontoon"));
    }

    /// The same without a time limit; returns the time, and how often it was logged.
    #[track_caller]
    fn repaired_after(&self, breakage: &str, well: &str) -> (Duration, usize) {
        assert!(self.is(well), "{well} before {breakage}");
        let (counted, logged) = (metric(self.testbed, "pontoon_repairs_total"), self.logged());
        let began = Instant::now();
        shell(self.testbed, breakage).ok();
        wait_until(LONG, &format!("the repair of {breakage}"), || self.is(well));
        let took = began.elapsed();
        eprintln!("{breakage}: {} ms", took.as_millis());
        wait_until(SOON, "the count", || metric(self.testbed, "pontoon_repairs_total") > counted);
        self.wait_for_idle();
        let logged = self.logged() - logged;
        assert!(logged > 0, "{breakage} is not logged\n{}", self.testbed.log_tail("pontoon"));
        (took, logged)
    }

    /// Waits until no reconciliation ran for longer than Pontoon remembers its own changes: later log messages are not
    /// possible.
    fn wait_for_idle(&self) {
        let compared = || metric(self.testbed, "pontoon_reconciles_total");
        let (mut last, mut since) = (compared(), Instant::now());
        wait_until(LONG, "rest", || {
            let now = compared();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() > MEMORY
        });
    }

    fn logged(&self) -> usize {
        log(self.testbed).lines().filter(|line| REPAIRED.iter().any(|words| line.contains(words))).count()
    }
}

#[test]
fn drift_is_repaired_within_a_second() {
    let segment = Segment::up();
    on_pontoon_with(Options::new().uplink(&segment, 1), drifts);
}

fn drifts(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.141.0.0/24", "--ipv6", "--subnet", "fd41::/64"]);
    testbed.run_container("one", &["--network", "net", "--ip", "10.141.0.9", "-p", "8080:80"]);
    let host_end =
        || shell(testbed, "ip -o link show group 1886286849 type veth | grep -o 'pnth[0-9a-z]*' | sort").ok();
    let (br, one) =
        (shell(testbed, "ip -o link show type bridge | grep -o 'pntb[0-9a-z]*' | head -1").ok(), host_end());
    testbed.network("apart", &["--subnet", "10.142.0.0/24", "-o", "com.docker.network.bridge.enable_icc=false"]);
    testbed.run_container("two", &["--network", "apart"]);
    let two = host_end().lines().find(|host| *host != one).expect("a second host end").to_owned();
    testbed.ping_soon("one", "192.168.77.254");

    let check = DriftCheck { testbed };
    check.wait_for_idle();
    let repaired = |breakage: &str, well: &str| {
        let fill = |text: &str| text.replace("BR", &br).replace("ONE", &one).replace("TWO", &two);
        check.repaired(&fill(breakage), &fill(well));
    };
    // Links.
    repaired("ip link del BR", "ip link show ONE | grep -q 'master BR'");
    repaired("ip link set BR down name other", "ip link show ONE | grep -q 'master BR' && ! ip link show other");
    let named = "ip link show ONE | grep -q 'master BR' && ! ip link show other && ! ip link show pnthother";
    repaired("ip link set BR name other", named);
    repaired("ip link set ONE name other", named);
    repaired("ip link set ONE name pnthother", named);
    repaired("ip link set BR down", "ip link show BR up | grep -q BR && ip -4 route | grep -q BR");
    repaired("ip link set ONE down", "ip link show ONE up | grep -q ONE");
    repaired("ip link set BR mtu 1300", "ip link show BR | grep -q 'mtu 1500'");
    repaired("ip link set ONE mtu 1300", "ip link show ONE | grep -q 'mtu 1500'");
    repaired("ip link set ONE nomaster", "ip link show ONE | grep -q 'master BR'");
    shell(testbed, "ip link add elsewhere type bridge").ok();
    repaired("ip link set ONE master elsewhere", "ip link show ONE | grep -q 'master BR'");
    shell(testbed, "ip link del elsewhere").ok();
    repaired("bridge link set dev TWO isolated off", "bridge -d link show dev TWO | grep -q 'isolated on'");
    repaired("bridge link set dev ONE hairpin off", "bridge -d link show dev ONE | grep -q 'hairpin on'");
    // Addresses.
    repaired("ip address del 10.141.0.1/24 dev BR", "ip address show BR | grep -q 10.141.0.1/24");
    repaired("ip address del fd41::1/64 dev BR", "ip address show BR | grep -q fd41::1/64");
    repaired(
        "ip address flush dev BR",
        "ip address show BR | grep -q fd41::1/64 && ip address show BR | grep -q 10.141.0.1/24",
    );
    // Settings.
    repaired("sysctl -w net.ipv4.ip_forward=0", "test $(cat /proc/sys/net/ipv4/ip_forward) != 0");
    let forwarding = "test $(cat /proc/sys/net/ipv6/conf/all/forwarding) != 0";
    repaired("sysctl -w net.ipv6.conf.all.forwarding=0", forwarding);
    repaired("sysctl -w net.ipv6.conf.BR.disable_ipv6=1", "test $(cat /proc/sys/net/ipv6/conf/BR/disable_ipv6) = 0");
    // The firewall.
    let all = "nft list chain inet pontoon forward_filter | grep -q drop";
    repaired("nft delete table inet pontoon", all);
    repaired("nft delete table bridge pontoon", "nft list set bridge pontoon spoof_checked | grep -q ONE");
    repaired("nft flush chain inet pontoon forward_filter", all);
    let chain = "nft list chain inet pontoon prerouting_raw";
    repaired("nft 'flush chain inet pontoon prerouting_raw; delete chain inet pontoon prerouting_raw'", chain);
    let element = "nft get element inet pontoon published4 '{ tcp . 8080 }'";
    repaired("nft delete element inet pontoon published4 '{ tcp . 8080 }'", element);
    repaired("nft flush set bridge pontoon spoof_checked", "nft list set bridge pontoon spoof_checked | grep -q ONE");
    repaired("iptables -F FORWARD", "test $(iptables -S FORWARD | grep -c pnt+) = 2");
    repaired("nft flush ruleset", all);

    // There is no notification of this change.
    let setting = format!("net.ipv4.conf.{br}.route_localnet");
    let well = format!("test $(sysctl -n {setting}) = 1");
    assert_eq!(check.repaired_after(&format!("sysctl -w {setting}=0"), &well).1, 1, "logged once");
    testbed.ping_soon("one", "192.168.77.254");
    testbed.ping_soon("two", "10.142.0.1");
}

#[test]
fn a_lost_link_of_a_joined_endpoint_reaps_only_that_endpoint() {
    on_pontoon_with(Options::new(), deaths);
}

fn deaths(testbed: &Testbed) {
    testbed.network("net", &["--ipam-driver", "pontoon", "--subnet", "10.143.0.0/24"]);
    testbed.run_container("other", &["--network", "net"]);
    testbed.run_container("one", &["--network", "net", "--ip", "10.143.0.9", "-p", "8080:80"]);
    let ends = || shell(testbed, "ip -o link | grep -o 'pnth[0-9a-z]*' | sort -u").ok();
    let address = "nft list set bridge pontoon source_address4";
    let elements = shell(testbed, address).ok();
    let host = elements
        .split('"')
        .collect::<Vec<_>>()
        .windows(2)
        .find(|w| w[1].contains("10.143.0.9"))
        .map(|w| w[0].to_owned());
    let host = host.expect("the host end with that address");
    assert!(ends().contains(&host), "{host}");

    // Joined: the link cannot be created again, so the endpoint is reaped, once.
    let reaped = metric(testbed, "pontoon_endpoints_reaped_total");
    shell(testbed, &format!("ip link del {host}")).ok();
    wait_until(SOON, "the end of the endpoint", || metric(testbed, "pontoon_endpoints_reaped_total") == reaped + 1);
    wait_until(SOON, "its elements to be removed", || !shell(testbed, address).ok().contains("10.143.0.9"));
    assert!(
        !shell(testbed, "nft list map inet pontoon published4").ok().contains("8080"),
        "its port is still published"
    );
    let ours = format!("link={host}");
    assert_eq!(
        log(testbed)
            .lines()
            .filter(|line| line.contains("reaped an endpoint: its sandbox is gone") && line.contains(&ours))
            .count(),
        1
    );
    testbed.ping_soon("other", "10.143.0.1");
    testbed.run_container("next", &["--network", "net", "-p", "8080:80"]);
    testbed.names("other", "-4", "next");
    testbed.docker(&["rm", "-f", "next"]).ok();
    testbed.docker(&["restart", "-t", "1", "one"]).ok();
    testbed.names("other", "-4", "one");
    assert_eq!(metric(testbed, "pontoon_endpoints_reaped_total"), reaped + 1, "reaped more than once");

    // Not joined yet: the link is created again.
    let network = testbed.network_info("net")["Id"].as_str().expect("an id").to_owned();
    let call = |method: &str, body: String| {
        let url = format!("http://pontoon/NetworkDriver.{method}");
        testbed.exec(&["curl", "-s", "--unix-socket", "/run/docker/plugins/pontoon.sock", "-d", &body, &url]).ok()
    };
    let endpoint = format!(r#""NetworkID":"{network}","EndpointID":"{}""#, "cd".repeat(32));
    let before = ends();
    call("CreateEndpoint", format!(r#"{{{endpoint},"Interface":{{"Address":"10.143.0.77/24"}}}}"#));
    let made = ends().lines().find(|end| !before.contains(end)).expect("a host end").to_owned();
    DriftCheck { testbed }
        .repaired(&format!("ip link del {made}"), &format!("ip link show {made} | grep -q 'master pntb'"));
    call("DeleteEndpoint", format!("{{{endpoint}}}"));
}

#[test]
fn a_renamed_link_gets_its_name_back_without_packet_loss() {
    on_pontoon_with(Options::new(), renamings);
}

fn renamings(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.144.0.0/24"]);
    testbed.run_container("one", &["--network", "net", "--ip", "10.144.0.9"]);
    let ends = || shell(testbed, "ip -o link show type veth | grep -o 'pnth[0-9a-z]*' | sort -u").ok();
    let host = ends();
    testbed.run_container("two", &["--network", "net"]);
    let stream = Stream::start(testbed, "two", "10.144.0.9");
    let (before, index) = (ends(), format!("cat /sys/class/net/{host}/ifindex"));
    let was = shell(testbed, &index).ok();
    let rename = format!("ip link set {host} name mine");
    let well = format!("ip link show {host} | grep -q 'master pntb' && ! ip link show mine");
    let check = DriftCheck { testbed };
    check.wait_for_idle();
    check.repaired(&rename, &well);
    stream.assert_continues(testbed);
    // While the daemon is down: the plan can be run by hand, or the next start does it.
    for by_hand in [true, false] {
        testbed.kill_pontoon(Signal::Kill);
        shell(testbed, &rename).ok();
        let plan = shell(testbed, "pontoon plan").ok();
        let line = plan.lines().find(|line| line.contains(&format!("ip link set dev mine name {host}")));
        assert_eq!(line.map(|line| plan.trim() == line), Some(true), "{plan}");
        if by_hand {
            shell(testbed, &plan).ok();
            assert!(check.is(&well), "the printed command is not sufficient");
        }
        stream.assert_continues(testbed);
        testbed.start_pontoon(&binary(), &[]);
        assert!(check.is(&well), "{}", testbed.log_tail("pontoon"));
    }
    stream.assert_continues(testbed);
    stream.lost_nothing(testbed);
    assert_eq!((ends(), shell(testbed, &index).ok()), (before, was), "the link was replaced");
    assert_eq!(metric(testbed, "pontoon_endpoints_reaped_total"), 0);
    assert!(!log(testbed).contains("reaped an endpoint: its sandbox is gone"));
}

#[test]
fn a_failing_repair_and_its_end_are_logged_once() {
    on_pontoon_with(Options::new(), failures);
}

fn failures(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.145.0.0/24"]);
    testbed.run_container("one", &["--network", "net"]);
    let br = shell(testbed, "ip -o link show type bridge | grep -o 'pntb[0-9a-z]*' | head -1").ok();
    testbed.kill_pontoon(Signal::Kill);
    // A foreign link has the name.
    shell(testbed, &format!("ip link del {br} && ip link add {br} type veth peer name theirs")).ok();
    testbed.start_pontoon(&binary(), &[]);
    let logged = |words: &str| {
        log(testbed)
            .lines()
            .filter(|line| line.contains(words) && line.contains(&format!("create bridge {br}")))
            .count()
    };
    // The start is one of the attempts; the others are retries.
    wait_until(LONG, "some retries", || metric(testbed, "pontoon_reconcile_failures_total") >= 4);
    assert!(metric(testbed, "pontoon_repairs_failing") > 0);
    let (begins, ends) = ("repair failed; retrying with backoff", "repair succeeded or is no longer needed");
    assert_eq!((logged(begins), logged(ends)), (1, 0), "{}", testbed.log_tail("pontoon"));
    let refused = shell(testbed, "pontoon repair").err();
    assert!(refused.contains(&br) && refused.contains("not Pontoon's"), "{refused}");
    shell(testbed, &format!("ip link del {br}")).ok();
    shell(testbed, "pontoon repair").ok();
    assert_eq!((logged(begins), logged(ends)), (1, 1), "{}", testbed.log_tail("pontoon"));
    assert_eq!(metric(testbed, "pontoon_repairs_failing"), 0);
    testbed.ping_soon("one", "10.145.0.1");
}
