//! What others do to Pontoon's own objects: noticed by a notification, repaired within a second, counted and logged once.

use std::time::{Duration, Instant};

use crate::{
    agreement::LONG,
    bed::{Bed, SOON, binary, on_pontoon_with},
    doctor::shell,
    stream::Stream,
    support::{Options, Segment, Signal, wait_until},
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
        // Two messages that come far apart are two changes.
        let well_done =
            || (0..TURNS).map(|_| self.repaired_after(breakage, well)).find(|turn| turn.0 < NOTICED && turn.1 == 1);
        let done = well_done().is_some();
        assert!(done, "{breakage}: not at once, or not logged once\n{}", self.bed.log_tail("pontoon"));
    }

    /// The same, whatever time it takes; returns that, and how often it was logged.
    #[track_caller]
    fn repaired_after(&self, breakage: &str, well: &str) -> (Duration, usize) {
        assert!(self.is(well), "{well} before {breakage}");
        let (counted, logged) = (metric(self.bed, "pontoon_repairs_total"), self.logged());
        let began = Instant::now();
        shell(self.bed, breakage).ok();
        wait_until(LONG, &format!("the repair of {breakage}"), || self.is(well));
        let took = began.elapsed();
        eprintln!("{breakage}: {} ms", took.as_millis());
        wait_until(SOON, "the count", || metric(self.bed, "pontoon_repairs_total") > counted);
        self.rests();
        let told = self.logged() - logged;
        assert!(told > 0, "{breakage} is logged\n{}", self.bed.log_tail("pontoon"));
        (took, told)
    }

    /// Waits until no comparison was due for longer than Pontoon's memory of its own changes: what is not logged by then
    /// is not logged at all.
    fn rests(&self) {
        let compared = || metric(self.bed, "pontoon_reconciles_total");
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
    let address = "nft list set bridge pontoon source_address4";
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
    let reaped = metric(bed, "pontoon_endpoints_reaped_total");
    shell(bed, &format!("ip link del {host}")).ok();
    wait_until(SOON, "the end of the endpoint", || metric(bed, "pontoon_endpoints_reaped_total") == reaped + 1);
    wait_until(SOON, "its elements to go", || !shell(bed, address).ok().contains("10.143.0.9"));
    assert!(!shell(bed, "nft list map inet pontoon published4").ok().contains("8080"), "its port is free");
    let ours = format!("link={host}");
    assert_eq!(
        log(bed)
            .lines()
            .filter(|line| line.contains("reaped an endpoint: its sandbox is gone") && line.contains(&ours))
            .count(),
        1
    );
    bed.ping_soon("other", "10.143.0.1");
    bed.run_container("next", &["--network", "net", "-p", "8080:80"]);
    bed.names("other", "-4", "next");
    bed.docker(&["rm", "-f", "next"]).ok();
    bed.docker(&["restart", "-t", "1", "one"]).ok();
    bed.names("other", "-4", "one");
    assert_eq!(metric(bed, "pontoon_endpoints_reaped_total"), reaped + 1, "one was enough");

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

#[test]
fn a_renamed_link_is_called_back_and_its_container_feels_nothing() {
    on_pontoon_with(Options::new(), renamings);
}

fn renamings(bed: &Bed) {
    bed.network("net", &["--subnet", "10.144.0.0/24"]);
    bed.run_container("one", &["--network", "net", "--ip", "10.144.0.9"]);
    let ends = || shell(bed, "ip -o link show type veth | grep -o 'pnth[0-9a-z]*' | sort -u").ok();
    let host = ends();
    bed.run_container("two", &["--network", "net"]);
    let stream = Stream::start(bed, "two", "10.144.0.9");
    let (before, index) = (ends(), format!("cat /sys/class/net/{host}/ifindex"));
    let was = shell(bed, &index).ok();
    let rename = format!("ip link set {host} name mine");
    let well = format!("ip link show {host} | grep -q 'master pntb' && ! ip link show mine");
    let patient = Patient { bed };
    patient.rests();
    patient.repaired(&rename, &well);
    stream.goes_on(bed);
    // While nobody looks: what `plan` prints may be typed, and the next start needs no telling.
    for typed in [true, false] {
        bed.kill_pontoon(Signal::Kill);
        shell(bed, &rename).ok();
        let plan = shell(bed, "pontoon plan").ok();
        let line = plan.lines().find(|line| line.contains(&format!("ip link set dev mine name {host}")));
        assert_eq!(line.map(|line| plan.trim() == line), Some(true), "{plan}");
        if typed {
            shell(bed, &plan).ok();
            assert!(patient.is(&well), "the line does it");
        }
        stream.goes_on(bed);
        bed.start_pontoon(&binary(), &[]);
        assert!(patient.is(&well), "{}", bed.log_tail("pontoon"));
    }
    stream.goes_on(bed);
    stream.lost_nothing(bed);
    assert_eq!((ends(), shell(bed, &index).ok()), (before, was), "it is the same link");
    assert_eq!(metric(bed, "pontoon_endpoints_reaped_total"), 0);
    assert!(!log(bed).contains("reaped an endpoint: its sandbox is gone"));
}

#[test]
fn a_repair_that_fails_is_told_once_and_so_is_its_end() {
    on_pontoon_with(Options::new(), failures);
}

fn failures(bed: &Bed) {
    bed.network("net", &["--subnet", "10.145.0.0/24"]);
    bed.run_container("one", &["--network", "net"]);
    let br = shell(bed, "ip -o link show type bridge | grep -o 'pntb[0-9a-z]*' | head -1").ok();
    bed.kill_pontoon(Signal::Kill);
    // Somebody else's link has the name.
    shell(bed, &format!("ip link del {br} && ip link add {br} type veth peer name theirs")).ok();
    bed.start_pontoon(&binary(), &[]);
    let told = |words: &str| {
        log(bed).lines().filter(|line| line.contains(words) && line.contains(&format!("create bridge {br}"))).count()
    };
    // The start is one of them; the others come by themselves.
    wait_until(LONG, "some more tries", || metric(bed, "pontoon_reconcile_failures_total") >= 4);
    assert!(metric(bed, "pontoon_repairs_failing") > 0);
    let (begins, ends) = ("a repair fails", "what failed is done");
    assert_eq!((told(begins), told(ends)), (1, 0), "{}", bed.log_tail("pontoon"));
    let refused = shell(bed, "pontoon repair").err();
    assert!(refused.contains(&br) && refused.contains("not Pontoon's"), "{refused}");
    shell(bed, &format!("ip link del {br}")).ok();
    shell(bed, "pontoon repair").ok();
    assert_eq!((told(begins), told(ends)), (1, 1), "{}", bed.log_tail("pontoon"));
    assert_eq!(metric(bed, "pontoon_repairs_failing"), 0);
    bed.ping_soon("one", "10.145.0.1");
}
