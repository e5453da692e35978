//! firewalld and ufw, as packaged by Debian, beside Docker's own networks and beside Pontoon's.
//!
//! The instructions of `docs/neighbours.md` are run here.

use std::{fs, time::Duration};

use crate::{
    probe::{
        Expect::{self, By, Closed, Is},
        From::{self, Host, In, Outside},
    },
    topology::{Held, SOON, Scenario, Topology},
};
use testkit::{Options, Process, Signal, wait_until};

const BUS: &str = r#"
<busconfig>
    <listen>unix:path=/run/dbus/system_bus_socket</listen>
    <auth>EXTERNAL</auth>
    <policy context="default">
        <allow user="*"/> <allow own="*"/> <allow send_destination="*"/> <allow receive_sender="*"/>
    </policy>
</busconfig>
"#;

/// The built-in driver, then Pontoon, each on its own node: a firewall leaves rules behind.
fn on_each(run: fn(&Scenario)) {
    for driver in ["bridge", "pontoon"] {
        let topology = Topology::up(Options::new().full());
        if driver == "pontoon" {
            topology.start_pontoon();
        }
        topology.run_scenario(driver, run);
    }
}

/// Two networks, a published port, a host outside, and a server on the node that only containers may reach.
struct Deployment<'a> {
    scenario: &'a Scenario<'a>,
    _host: Process,
    _remote: Process,
}

impl<'a> Deployment<'a> {
    fn up(scenario: &'a Scenario<'a>) -> Self {
        scenario.network("net", &["--subnet", "10.180.1.0/24", "--ipv6", "--subnet", "fd80:1::/64"]);
        scenario.network("other", &["--subnet", "10.180.2.0/24"]);
        let publish = ["-p", "8700:80", "-p", "8701:81", "-p", "127.0.0.1:8702:80"];
        scenario.serve("web", &["tcp:80-82"], &[&["--network", "net", "--ip", "10.180.1.10"][..], &publish].concat());
        scenario.serve("peer", &["tcp:80"], &["--network", "net"]);
        scenario.serve("away", &["tcp:80"], &["--network", "other"]);
        scenario.route_from_outside(&["10.180.1.0/24"]);
        scenario.not_ready("host");
        let host = scenario.spawn(&["perl", "/lab/tool.pl", "serve", "host", "tcp:7070"]);
        scenario.listens("host");
        Self { scenario, _host: host, _remote: scenario.serve_outside("remote", &["tcp:80"]) }
    }

    /// Expectations that hold with any firewall configuration.
    fn always(&self) -> Vec<(From<'static>, &'static str, Expect<'static>)> {
        let mut rows = vec![
            (Outside, "tcp,192.168.77.1,8700", Is("web:80 192.168.77.2")),
            (Outside, "tcp,192.168.77.1,8701", By("web:81")),
            (Outside, "tcp,192.168.77.1,8702", Closed),
            (Outside, "tcp,10.180.1.10,82", Closed),
            (Host, "tcp,192.168.77.1,8700", By("web:80")),
            (Host, "tcp,127.0.0.1,8702", By("web:80")),
            // The firewall itself is active.
            (Outside, "tcp,192.168.77.1,7070", Closed),
        ];
        if self.scenario.is_pontoon() {
            // The built-in driver sometimes has the opposite result here.
            rows.push((In("away"), "tcp,192.168.77.1,8700", By("web:80")));
            rows.push((In("away"), "tcp,10.180.1.10,80", Closed));
        }
        if self.scenario.has_six() {
            rows.push((Outside, "tcp,fd77::1,8700", By("web:80")));
        }
        rows
    }

    /// Traffic of containers through the firewall.
    fn containers_get_out(&self, open: bool) {
        let expect = |by| if open { By(by) } else { Closed };
        self.scenario.expect(&[
            (In("peer"), "tcp,10.180.1.10,80", expect("web:80")),
            (In("peer"), "tcp,192.168.77.2,80", expect("remote:80")),
        ]);
    }

    /// Connections in both directions that must survive the following changes.
    fn held(&self) -> Vec<Held> {
        let scenario = self.scenario;
        let mut held = vec![scenario.hold(scenario.outside, "192.168.77.1", 8700)];
        held.push(scenario.hold_in("peer", "192.168.77.2", 80));
        if scenario.is_pontoon() {
            held.push(scenario.hold(scenario.outside, "fd77::1", 8700));
        }
        held
    }

    /// The firewall reloads its rules while connections are held; `harmful` if that also removes or overtakes Pontoon's
    /// rules.
    fn damage(&self, held: &[Held], harmful: bool, commands: &[&[&str]]) {
        let scenario = self.scenario;
        let mut took = Vec::new();
        let before = if scenario.is_pontoon() { scenario.repairs() } else { 0 };
        for command in commands {
            if scenario.is_pontoon() {
                took.push(scenario.damage_firewall(command));
                println!("{}: repaired {:?} after its end", command.join(" "), took[took.len() - 1]);
            } else {
                scenario.exec(command).ok();
            }
            held.iter().for_each(Held::assert_continues);
        }
        if let Some(best) = took.iter().min() {
            assert!(!harmful || scenario.repairs() > before, "the repair was not counted");
            assert!(*best < Duration::from_secs(1), "repaired within a second: {took:?}");
        }
    }
}

#[test]
fn firewalld_and_published_ports() {
    on_each(firewalld);
}

fn firewalld(scenario: &Scenario) {
    let cmd = |args: &[&str]| scenario.exec(&[&["firewall-cmd"][..], args].concat()).ok();
    fs::write(scenario.shared().join("bus.conf"), BUS).expect("a configuration");
    let start = "mkdir -p /run/dbus && dbus-daemon --config-file=/lab/bus.conf --fork && \
                 firewalld --log-target file --log-file /lab/firewalld.log";
    scenario.exec(&["bash", "-c", start]).ok();
    wait_until(SOON, "firewalld", || scenario.exec(&["firewall-cmd", "--state"]).success());
    // At its start, an engine detects firewalld, and adds its bridges to the zone `docker`.
    scenario.restart_dockerd(Signal::Term);
    let deployment = Deployment::up(scenario);
    scenario.expect(&deployment.always());
    if scenario.is_pontoon() {
        // The user's default zone applies to links without a zone: no traffic leaves it.
        deployment.containers_get_out(false);
        scenario.expect(&[(In("peer"), "tcp,192.168.77.1,7070", Closed)]);
        for permanent in [&["--permanent"][..], &[]] {
            cmd(&[permanent, &["--zone=docker", "--add-interface=pnt+"]].concat());
        }
    }
    deployment.containers_get_out(true);
    scenario.expect(&[(In("peer"), "tcp,192.168.77.1,7070", By("host:7070"))]);
    scenario.expect(&deployment.always());
    scenario.explained(&deployment.always());
    let held = deployment.held();
    // The second version does not touch iptables.
    let first = cmd(&["--version"]).starts_with('1');
    deployment.damage(&held, first, &[&["firewall-cmd", "--reload"]]);
    scenario.expect(&deployment.always());
    if scenario.is_pontoon() {
        // In modes without translation, firewalld needs a policy to accept packets.
        let mode = "com.docker.network.bridge.gateway_mode_ipv4=routed";
        scenario.network("routed", &["--subnet", "10.180.3.0/24", "-o", mode]);
        scenario.serve("plain", &["tcp:80-81"], &["--network", "routed", "--ip", "10.180.3.10", "-p", "80"]);
        scenario.route_from_outside(&["10.180.3.0/24"]);
        if scenario.engine < 25 {
            // Newer engines create such a policy.
            scenario.expect(&[(Outside, "tcp,10.180.3.10,80", Closed)]);
        }
        cmd(&["--permanent", "--new-policy=pontoon"]);
        let both = ["--add-ingress-zone=ANY", "--add-egress-zone=docker", "--set-target=ACCEPT"];
        for part in both {
            cmd(&["--permanent", "--policy=pontoon", part]);
        }
        deployment.damage(&held, first, &[&["firewall-cmd", "--reload"]]);
        scenario.expect(&[(Outside, "tcp,10.180.3.10,80", By("plain:80")), (Outside, "tcp,10.180.3.10,81", Closed)]);
        // What a user of firewalld drops stays dropped.
        let rule = ["ipv4", "filter", "FORWARD", "0", "-p", "tcp", "-s", "192.168.77.2", "--dport", "81", "-j", "DROP"];
        cmd(&[&["--direct", "--add-rule"][..], &rule].concat());
        let dropped = [(Outside, "tcp,192.168.77.1,8701", Closed), (Outside, "tcp,192.168.77.1,8700", By("web:80"))];
        scenario.expect(&dropped);
        scenario.explained(&dropped);
    }
}

#[test]
fn ufw_and_published_ports() {
    on_each(ufw);
}

fn ufw(scenario: &Scenario) {
    let ufw = |args: &[&str]| scenario.exec(&[&["ufw"][..], args].concat()).ok();
    let deployment = Deployment::up(scenario);
    deployment.containers_get_out(true);
    let held = deployment.held();
    let enable = ["ufw", "--force", "enable"];
    deployment.damage(&held, true, &[&enable, &["ufw", "reload"], &["ufw", "disable"], &enable]);
    scenario.expect(&deployment.always());
    scenario.explained(&deployment.always());
    deployment.containers_get_out(true);
    // By default ufw rejects traffic to the host, also from containers.
    scenario.expect(&[(In("peer"), "tcp,192.168.77.1,7070", Closed)]);
    let allow = ["allow", "from", "10.180.1.0/24", "to", "any", "port", "7070", "proto", "tcp"];
    ufw(&allow);
    scenario
        .expect(&[(In("peer"), "tcp,192.168.77.1,7070", By("host:7070")), (Outside, "tcp,192.168.77.1,7070", Closed)]);
    ufw(&[&["delete"][..], &allow].concat());
    // A denied route: by the container's port, since ufw sees packets after translation.
    let deny = ["route", "deny", "proto", "tcp", "from", "192.168.77.2", "to", "any", "port", "81"];
    ufw(&deny);
    if scenario.is_pontoon() {
        let denied = [
            (Outside, "tcp,192.168.77.1,8701", Closed),
            (Outside, "tcp,192.168.77.1,8700", By("web:80")),
            (Host, "tcp,192.168.77.1,8701", By("web:81")),
        ];
        scenario.expect(&denied);
        scenario.explained(&denied);
        // The order of starts does not matter.
        for command in [&["reload"][..], &["disable"], &["--force", "enable"]] {
            ufw(command);
        }
        scenario.expect(&denied);
    } else {
        let answer = scenario.answer(Outside, "tcp,192.168.77.1,8701");
        println!("a denied route to a published port of Docker's own: {answer}");
    }
    ufw(&["route", "delete", "deny", "proto", "tcp", "from", "192.168.77.2", "to", "any", "port", "81"]);
    held.iter().for_each(Held::assert_continues);
    scenario.expect(&deployment.always());
    ufw(&["disable"]);
}
