//! Well-known servers behind published ports, and their clients: Debian packages, unmodified.

use std::fs;

use serde_json::Value;

use crate::topology::{NODE4, NODE6, OUTSIDE4, OUTSIDE6, SOON, Scenario, on_both_with, on_pontoon_with};
use testkit::{Node, Options, Signal, testbed::binary, wait_until};

/// The mounts with which a container can run a program of the node.
const MOUNTS: [&str; 8] = [
    "-v",
    "/usr:/usr:ro",
    "-v",
    "/usr/lib/x86_64-linux-gnu:/lib/x86_64-linux-gnu:ro",
    "-v",
    "/lib64:/lib64:ro",
    "-v",
    "/lab:/lab",
];

impl Scenario<'_> {
    /// Runs a program of the node in a container of network `net`.
    #[track_caller]
    fn run_server(&self, name: &str, publish: &[&str], program: &[&str]) {
        let mut run = vec!["run", "-d", "--name", name, "--network", "net"];
        run.extend(MOUNTS);
        run.extend(publish);
        run.push("busybox");
        run.extend(program);
        self.docker(&run).ok();
    }

    /// Network `net` with both families.
    #[track_caller]
    fn two_families(&self, four: &str, six: &str) {
        self.network("net", &["--subnet", four, "--ipv6", "--subnet", six]);
    }

    /// The node's addresses at which a client reaches a published port, from outside and from the node itself.
    fn ways_in(&self) -> Vec<(&Node, &'static str)> {
        let mut ways = vec![(self.outside, NODE4), (self.node, NODE4), (self.node, "127.0.0.1")];
        if self.has_six() {
            ways.extend([(self.outside, NODE6), (self.node, NODE6)]);
        }
        ways
    }
}

/// The output of a client once there is an answer.
#[track_caller]
fn answer(client: &Node, command: &[&str]) -> String {
    let mut said = String::new();
    wait_until(SOON, &format!("an answer to {command:?}"), || {
        let output = client.exec(command);
        let there = output.success();
        said = if there { output.stdout.trim_end().to_owned() } else { output.to_string() };
        there
    });
    said
}

const NGINX: &str = "
daemon off;
user root;
pid /tmp/nginx.pid;
error_log stderr;
events {}
http {
    access_log off;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    server {
        listen 80;
        listen [::]:80;
        location = /who { return 200 $remote_addr; }
        location / { root /lab/www; }
    }
}
";

#[test]
fn curl_and_nginx() {
    on_both_with(Options::new().full(), web);
}

fn web(scenario: &Scenario) {
    let page: Vec<u8> = (0..4_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::create_dir_all(scenario.shared().join("www")).expect("a directory");
    fs::write(scenario.shared().join("www/page"), &page).expect("a page");
    fs::write(scenario.shared().join("nginx.conf"), NGINX).expect("a configuration");
    scenario.two_families("10.170.1.0/24", "fd70:1::/64");
    scenario.run_server("web", &["-p", "8600:80"], &["nginx", "-c", "/lab/nginx.conf", "-e", "stderr"]);
    for (client, addr) in scenario.ways_in() {
        let url = if addr.contains(':') { format!("http://[{addr}]:8600") } else { format!("http://{addr}:8600") };
        let curl = ["curl", "-sSf", "--max-time", "5"];
        let who = answer(client, &[&curl[..], &[&format!("{url}/who")]].concat());
        if client.name() == scenario.outside.name() {
            assert_eq!(who, if addr.contains(':') { OUTSIDE6 } else { OUTSIDE4 }, "the client's own address");
        }
        let into = ["-o", "/lab/got", "-w", "%{http_code} %{size_download}"];
        let size = client.exec(&[&curl[..], &into, &[&format!("{url}/page")]].concat()).ok();
        assert_eq!(size, format!("200 {}", page.len()));
        assert!(fs::read(client.shared().join("got")).expect("the received page") == page, "the page is complete");
        // Forty connections, a dozen at a time.
        let many = [&curl[..], &["-Z", "--parallel-max", "12", "--no-keepalive", "-H", "Connection: close"]].concat();
        let whos = client.exec(&[&many[..], &[&format!("{url}/who?[1-40]")]].concat()).ok();
        assert_eq!(whos, who.repeat(40));
    }
}

#[test]
fn a_resolver_and_dnsmasq() {
    on_both_with(Options::new().full(), names);
}

/// UDP, fragmented UDP, truncated UDP followed by TCP, TCP only.
fn names(scenario: &Scenario) {
    scenario.two_families("10.171.1.0/24", "fd71:1::/64");
    let texts: Vec<String> = (0..14).map(|at| format!("{at:->240}")).collect();
    let big = format!("--txt-record=big.test,{}", texts.join(","));
    let dnsmasq =
        ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"];
    let records = ["--edns-packet-max=4096", "--host-record=www.test,192.0.2.80,2001:db8::80", &big];
    scenario.run_server(
        "names",
        &["-p", "8610:53/udp", "-p", "8610:53/tcp"],
        &[&dnsmasq[..], &["--pid-file=/tmp/pid"], &records].concat(),
    );
    for (client, addr) in scenario.ways_in() {
        let at = format!("@{addr}");
        let dig = |more: &[&str]| {
            let command = [&["kdig", &at, "-p", "8610", "+time=2", "+retry=1"][..], more].concat();
            answer(client, &command)
        };
        assert_eq!(dig(&["+short", "www.test", "A"]), "192.0.2.80");
        assert_eq!(dig(&["+short", "+tcp", "www.test", "AAAA"]), "2001:db8::80");
        // 3,400 bytes in one datagram.
        let fragments = dig(&["+bufsize=4096", "+ignore", "big.test", "TXT"]);
        assert!(texts.iter().all(|text| fragments.contains(text)), "{fragments}");
        assert!(fragments.contains("(UDP)") && !fragments.contains("tc"), "{fragments}");
        let cut = dig(&["+bufsize=512", "+ignore", "big.test", "TXT"]);
        assert!(cut.contains("(UDP)") && !cut.contains(&texts[13]), "{cut}");
        let then_tcp = dig(&["+bufsize=512", "big.test", "TXT"]);
        assert!(then_tcp.contains("(TCP)") && then_tcp.contains(&texts[13]), "{then_tcp}");
    }
}

#[test]
fn iperf3_both_ways() {
    on_pontoon_with(Options::new().full(), iperf);
}

fn iperf(scenario: &Scenario) {
    scenario.two_families("10.172.1.0/24", "fd72:1::/64");
    scenario.run_server("iperf", &["-p", "8620:5201/tcp", "-p", "8620:5201/udp"], &["iperf3", "-s"]);
    let run = |client: &Node, addr: &str, more: &[&str]| -> Value {
        let mut report = Value::Null;
        wait_until(SOON, &format!("iperf3 to {addr}"), || {
            let output = client.exec(&[&["iperf3", "-J", "-c", addr, "-p", "8620"][..], more].concat());
            // A server that has just started, or is still busy with the end of the last run.
            report = serde_json::from_str(&output.stdout).unwrap_or_default();
            output.success()
        });
        report["end"].take()
    };
    let bytes = |end: &Value| end["sum_received"]["bytes"].as_u64().unwrap_or_default();
    let timed = run(scenario.outside, NODE4, &["-t", "1"]);
    println!("iperf3 from outside for a second: {:.0} Mbit/s", bytes(&timed) as f64 / 125_000.0);
    for (client, addr) in scenario.ways_in() {
        for direction in [&[][..], &["-R"]] {
            let end = run(client, addr, &[&["-n", "200M"], direction].concat());
            // The receiver reports when the control connection requests it, while buffers with more than ten megabytes
            // are still in transit.
            assert!(bytes(&end) >= 100 << 20, "{addr}: {end}");
            // A busy machine loses some datagrams; a wrong rule loses all, or all but the first.
            let end = run(client, addr, &[&["-u", "-b", "20M", "-k", "800", "-l", "1200"], direction].concat());
            let (sent, lost) = (end["sum"]["packets"].as_u64(), end["sum"]["lost_packets"].as_u64());
            assert!(sent >= Some(500) && lost < sent.map(|sent| sent / 2), "{addr}: {end}");
        }
    }
}

#[test]
fn redis_and_its_client() {
    on_pontoon_with(Options::new().full(), redis);
}

fn redis(scenario: &Scenario) {
    scenario.two_families("10.173.1.0/24", "fd73:1::/64");
    let server = ["redis-server", "--bind", "*", "-::*", "--protected-mode", "no", "--save", "", "--dir", "/tmp"];
    scenario.run_server("redis", &["-p", "8630:6379"], &server);
    let cli = |client: &Node, addr: &str, more: &[&str]| {
        answer(client, &[&["redis-cli", "-h", addr, "-p", "8630"][..], more].concat())
    };
    for (at, (client, addr)) in scenario.ways_in().into_iter().enumerate() {
        let key = format!("key{at}");
        assert_eq!(cli(client, addr, &["SET", &key, addr]), "OK");
        assert_eq!(cli(client, addr, &["GET", &key]), addr);
        let load = ["redis-benchmark", "-h", addr, "-p", "8630", "-n", "2000", "-c", "25", "-t", "incr", "--csv"];
        assert!(client.exec(&load).ok().contains("INCR"));
    }
    let counted = 2000 * scenario.ways_in().len();
    assert_eq!(cli(scenario, NODE4, &["GET", "counter:__rand_int__"]), counted.to_string(), "each counts once");
    // A subscriber stays connected while Pontoon crashes and is restarted.
    let subscriber = scenario.outside.spawn(&["redis-cli", "-h", NODE6, "-p", "8630", "SUBSCRIBE", "news"]);
    for news in ["before", "meanwhile", "after"] {
        let published = || cli(scenario, NODE4, &["PUBLISH", "news", news]) == "1";
        wait_until(SOON, "a subscriber", published);
        wait_until(SOON, &format!("{news} to be received"), || subscriber.log().contains(news));
        match news {
            "before" => scenario.kill_pontoon(Signal::Kill),
            "meanwhile" => drop(scenario.start_pontoon(&binary(), &[])),
            _ => {}
        }
    }
    let clients = cli(scenario, NODE4, &["CLIENT", "LIST"]);
    assert!(clients.contains(&format!("addr=[{OUTSIDE6}]")), "{clients}");
}
