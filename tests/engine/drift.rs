//! What others do to Pontoon's own objects: noticed by a notification, repaired within a second, counted and logged once.

use std::time::{Duration, Instant};

use crate::{
    agreement::LONG,
    doctor::shell,
    stream::Stream,
    support::{Options, Segment, Signal, wait_until},
    testbed::{SOON, Testbed, binary, on_pontoon_with},
};

/// A repair that takes longer than this was not called for by a notification: the next comparison without a cause is
/// due in half a minute at most. On a busy machine a second may well become two.
const NOTICED: Duration = Duration::from_secs(5);

/// A machine may stand still for that long now and then, but not each time.
const TURNS: usize = 3;

/// Pontoon's memory of its own changes is shorter.
const MEMORY: Duration = Duration::from_millis(1200);

/// Words of the log that a repair leaves.
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

struct Patient<'a> {
    testbed: &'a Testbed<'a>,
}

impl Patient<'_> {
    fn is(&self, level: &str) -> bool {
        shell(self.testbed, level).success()
    }

    /// Breaks something; `well` is a command that succeeds again when it is repaired.
    #[track_caller]
    fn repaired(&self, breakage: &str, well: &str) {
        // Two messages that come far apart are two changes.
        let well_done =
            || (0..TURNS).map(|_| self.repaired_after(breakage, well)).find(|turn| turn.0 < NOTICED && turn.1 == 1);
        let done = well_done().is_some();
        assert!(done, "{breakage}: not at once, or not logged once\n{}", self.testbed.log_tail("pontoon"));
    }

    /// The same, whatever time it takes; returns that, and how often it was logged.
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
        self.rests();
        let told = self.logged() - logged;
        assert!(told > 0, "{breakage} is logged\n{}", self.testbed.log_tail("pontoon"));
        (took, told)
    }

    /// Waits until no comparison was due for longer than Pontoon's memory of its own changes: what is not logged by then
    /// is not logged at all.
    fn rests(&self) {
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
fn what_others_change_is_repaired_within_a_second() {
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

    let patient = Patient { testbed };
    patient.rests();
    let repaired = |breakage: &str, well: &str| {
        let fill = |text: &str| text.replace("BR", &br).replace("ONE", &one).replace("TWO", &two);
        patient.repaired(&fill(breakage), &fill(well));
    };
    // links
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
    // addresses
    repaired("ip address del 10.141.0.1/24 dev BR", "ip address show BR | grep -q 10.141.0.1/24");
    repaired("ip address del fd41::1/64 dev BR", "ip address show BR | grep -q fd41::1/64");
    repaired(
        "ip address flush dev BR",
        "ip address show BR | grep -q fd41::1/64 && ip address show BR | grep -q 10.141.0.1/24",
    );
    // settings
    repaired("sysctl -w net.ipv4.ip_forward=0", "test $(cat /proc/sys/net/ipv4/ip_forward) != 0");
    let forwarding = "test $(cat /proc/sys/net/ipv6/conf/all/forwarding) != 0";
    repaired("sysctl -w net.ipv6.conf.all.forwarding=0", forwarding);
    repaired("sysctl -w net.ipv6.conf.BR.disable_ipv6=1", "test $(cat /proc/sys/net/ipv6/conf/BR/disable_ipv6) = 0");
    // the firewall
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

    // nobody tells of this one
    let setting = format!("net.ipv4.conf.{br}.route_localnet");
    let well = format!("test $(sysctl -n {setting}) = 1");
    assert_eq!(patient.repaired_after(&format!("sysctl -w {setting}=0"), &well).1, 1, "it is logged once");
    testbed.ping_soon("one", "192.168.77.254");
    testbed.ping_soon("two", "10.142.0.1");
}

#[test]
fn a_link_that_cannot_be_made_again_takes_its_endpoint_and_nobody_elses() {
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

    // joined: it cannot be made again, so its endpoint goes, once
    let reaped = metric(testbed, "pontoon_endpoints_reaped_total");
    shell(testbed, &format!("ip link del {host}")).ok();
    wait_until(SOON, "the end of the endpoint", || metric(testbed, "pontoon_endpoints_reaped_total") == reaped + 1);
    wait_until(SOON, "its elements to go", || !shell(testbed, address).ok().contains("10.143.0.9"));
    assert!(!shell(testbed, "nft list map inet pontoon published4").ok().contains("8080"), "its port is free");
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
    assert_eq!(metric(testbed, "pontoon_endpoints_reaped_total"), reaped + 1, "one was enough");

    // not joined yet: it is made again
    let network = testbed.network_info("net")["Id"].as_str().expect("an id").to_owned();
    let call = |method: &str, body: String| {
        let url = format!("http://pontoon/NetworkDriver.{method}");
        testbed.exec(&["curl", "-s", "--unix-socket", "/run/docker/plugins/pontoon.sock", "-d", &body, &url]).ok()
    };
    let endpoint = format!(r#""NetworkID":"{network}","EndpointID":"{}""#, "cd".repeat(32));
    let before = ends();
    call("CreateEndpoint", format!(r#"{{{endpoint},"Interface":{{"Address":"10.143.0.77/24"}}}}"#));
    let made = ends().lines().find(|end| !before.contains(end)).expect("a host end").to_owned();
    Patient { testbed }
        .repaired(&format!("ip link del {made}"), &format!("ip link show {made} | grep -q 'master pntb'"));
    call("DeleteEndpoint", format!("{{{endpoint}}}"));
}

#[test]
fn a_renamed_link_is_called_back_and_its_container_feels_nothing() {
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
    let patient = Patient { testbed };
    patient.rests();
    patient.repaired(&rename, &well);
    stream.goes_on(testbed);
    // While nobody looks: what `plan` prints may be typed, and the next start needs no telling.
    for typed in [true, false] {
        testbed.kill_pontoon(Signal::Kill);
        shell(testbed, &rename).ok();
        let plan = shell(testbed, "pontoon plan").ok();
        let line = plan.lines().find(|line| line.contains(&format!("ip link set dev mine name {host}")));
        assert_eq!(line.map(|line| plan.trim() == line), Some(true), "{plan}");
        if typed {
            shell(testbed, &plan).ok();
            assert!(patient.is(&well), "the line does it");
        }
        stream.goes_on(testbed);
        testbed.start_pontoon(&binary(), &[]);
        assert!(patient.is(&well), "{}", testbed.log_tail("pontoon"));
    }
    stream.goes_on(testbed);
    stream.lost_nothing(testbed);
    assert_eq!((ends(), shell(testbed, &index).ok()), (before, was), "it is the same link");
    assert_eq!(metric(testbed, "pontoon_endpoints_reaped_total"), 0);
    assert!(!log(testbed).contains("reaped an endpoint: its sandbox is gone"));
}

#[test]
fn a_repair_that_fails_is_told_once_and_so_is_its_end() {
    on_pontoon_with(Options::new(), failures);
}

fn failures(testbed: &Testbed) {
    testbed.network("net", &["--subnet", "10.145.0.0/24"]);
    testbed.run_container("one", &["--network", "net"]);
    let br = shell(testbed, "ip -o link show type bridge | grep -o 'pntb[0-9a-z]*' | head -1").ok();
    testbed.kill_pontoon(Signal::Kill);
    // Somebody else's link has the name.
    shell(testbed, &format!("ip link del {br} && ip link add {br} type veth peer name theirs")).ok();
    testbed.start_pontoon(&binary(), &[]);
    let told = |words: &str| {
        log(testbed)
            .lines()
            .filter(|line| line.contains(words) && line.contains(&format!("create bridge {br}")))
            .count()
    };
    // The start is one of them; the others come by themselves.
    wait_until(LONG, "some more tries", || metric(testbed, "pontoon_reconcile_failures_total") >= 4);
    assert!(metric(testbed, "pontoon_repairs_failing") > 0);
    let (begins, ends) = ("repair failed; retrying with backoff", "repair succeeded or is no longer needed");
    assert_eq!((told(begins), told(ends)), (1, 0), "{}", testbed.log_tail("pontoon"));
    let refused = shell(testbed, "pontoon repair").err();
    assert!(refused.contains(&br) && refused.contains("not Pontoon's"), "{refused}");
    shell(testbed, &format!("ip link del {br}")).ok();
    shell(testbed, "pontoon repair").ok();
    assert_eq!((told(begins), told(ends)), (1, 1), "{}", testbed.log_tail("pontoon"));
    assert_eq!(metric(testbed, "pontoon_repairs_failing"), 0);
    testbed.ping_soon("one", "10.145.0.1");
}
