//! Allow lists that mean the members of a group: members get through by both families, in whichever order the containers
//! began, and no other container does, not with the address of a member that ended either.

use testkit::netns::{Netns, wait_for};
use testkit::topology::{TCP, UDP, serve};

use crate::access::bridges_call_iptables;
use crate::host::{Container, Host, Network};

const GROUP: &str = "pontoon.group";
const EGRESS: &str = "pontoon.egress.allow";
const INGRESS: &str = "pontoon.ingress.allow";

/// Whether TCP and UDP port 80 of a container answer, by both families alike.
fn answered(from: &Netns, to: &Container) -> (bool, bool) {
    let [four, six] = [format!("{}:80", to.first.v4), format!("[{}]:80", to.first.v6)]
        .map(|to| (from.ask(TCP, &to).is_some(), from.ask(UDP, &to).is_some()));
    assert_eq!(four, six, "both families are treated alike: {}", to.first.v4);
    four
}

fn start(host: &Host, network: &Network, at: u8, options: &[(&str, &str)]) -> Container {
    let container = host.container_of(network, at, options);
    serve(&container);
    container
}

const TCP_ONLY: (bool, bool) = (true, false);
const NOTHING: (bool, bool) = (false, false);

#[test]
fn a_group_is_its_members_and_no_other_container() {
    for on in [true, false] {
        let mut host = Host::start(&[]);
        bridges_call_iptables(&host, on);
        let (one, two) = (Network::new("one", 1), Network::new("two", 2));
        host.create(&one);
        host.create(&two);
        let early = start(&host, &one, 2, &[(GROUP, "db"), (INGRESS, "tcp:80@group:app+tcp:81@net")]);
        let other = start(&host, &one, 3, &[]);
        let app = start(&host, &one, 4, &[(GROUP, "Web+APP"), (EGRESS, "tcp:79-80@group:db")]);
        let late = start(&host, &one, 5, &[(GROUP, "db"), (INGRESS, "tcp:80@group:app")]);
        let lonely = start(&host, &one, 6, &[(INGRESS, "group:empty")]);
        let elsewhere = start(&host, &two, 4, &[(GROUP, "app")]);
        for db in [&early, &late] {
            assert_eq!(answered(&app, db), TCP_ONLY, "br_netfilter {on}");
            assert_eq!(answered(&other, db), NOTHING, "br_netfilter {on}");
            assert_eq!(answered(&elsewhere, db), NOTHING, "a group of another network, br_netfilter {on}");
        }
        for from in [&other, &app] {
            assert_eq!(answered(from, &lonely), NOTHING, "br_netfilter {on}");
        }
        assert_eq!(answered(&app, &other), NOTHING, "the egress list of the member, br_netfilter {on}");
        // The next container with its address gains nothing, neither what it was allowed nor what others were allowed with it.
        host.detach(&app.first);
        drop(app);
        let next = start(&host, &one, 4, &[(EGRESS, "tcp:80@net")]);
        for db in [&early, &late] {
            assert_eq!(answered(&next, db), NOTHING, "br_netfilter {on}");
        }
        host.detach(&late.first);
        drop(late);
        let plain = start(&host, &one, 5, &[(INGRESS, "")]);
        let app = start(&host, &one, 7, &[(GROUP, "app"), (EGRESS, "tcp:80@group:db")]);
        assert_eq!((answered(&app, &early), answered(&app, &plain)), (TCP_ONLY, NOTHING), "br_netfilter {on}");
        // Another program removes the elements, with Pontoon and without it.
        let sets = ["ingress_allowed4", "ingress_allowed6", "egress_allowed4", "egress_allowed6"];
        let flush = |host: &Host| {
            for family in ["inet", "bridge"] {
                sets.iter().for_each(|set| drop(host.run(&format!("nft flush set {family} pontoon {set}"))));
            }
        };
        flush(&host);
        wait_for("the members are allowed again", || answered_in_part(&app, &early) == TCP_ONLY);
        host.end();
        flush(&host);
        assert_eq!(answered(&app, &early), NOTHING, "this is what the elements allow");
        host.begin();
        wait_for("the members are allowed again", || answered_in_part(&app, &early) == TCP_ONLY);
        assert_eq!(answered(&next, &early), NOTHING);
        // The next process knows the pairs of the one before.
        host.detach(&app.first);
        drop(app);
        let next = start(&host, &one, 7, &[]);
        assert_eq!(answered(&next, &early), NOTHING, "br_netfilter {on}");
    }
}

/// The same while the families may differ.
fn answered_in_part(from: &Netns, to: &Container) -> (bool, bool) {
    let ways = [format!("{}:80", to.first.v4), format!("[{}]:80", to.first.v6)];
    let all = |protocol| ways.iter().all(|to| from.ask(protocol, to).is_some());
    (all(TCP), all(UDP))
}
