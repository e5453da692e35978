//! Steps are printed as commands: run in a shell, they have the effect of the step.

use std::collections::BTreeSet;

use pontoon::datapath::access::{Access, Place, Way};
use pontoon::datapath::host::Feature;
use pontoon::datapath::{Datapath, ForwardRule, Kernel, LinkMatch, LinkProperty, Policy, Protected, Step, Vxlan, diff};
use pontoon::linux::feature::FEATURES;
use pontoon::linux::{Options, commands, survey::Survey};
use pontoon::model::access::Transport;
use pontoon::model::{Family, HostPort, Mac, Protocol, Published, Vni};

use testkit::netns::*;

/// The commands from the present state to the desired one.
fn plan(kernel: &pontoon::linux::LinuxKernel, want: &Datapath) -> Vec<String> {
    diff(&observe(kernel), want, &Protected::default()).steps.iter().flat_map(commands).collect()
}

#[track_caller]
fn run_plan(kernel: &pontoon::linux::LinuxKernel, want: &Datapath) {
    let lines = plan(kernel, want);
    assert!(!lines.is_empty(), "the plan is empty");
    // Each command is run twice: it must be idempotent.
    for line in lines.iter().chain(&lines) {
        run(line);
    }
    let left = plan(kernel, want);
    assert!(left.is_empty(), "after {lines:#?} the plan still has {left:#?}");
}

/// Empty tables with the chains that exist only once they are needed: there is no command that creates those.
fn create_tables(kernel: &pontoon::linux::LinuxKernel) {
    let link = || name("pntb1");
    let all = vec![
        Policy::Isolated(link()),
        Policy::Link(LinkProperty::Internal, link()),
        Policy::LimitedForwarding(Family::V4),
        Policy::Tunnel(Vni::new(7).unwrap()),
        Policy::Link(LinkProperty::NoMulticast, link()),
    ];
    let remove = Step::ChangeFirewall { add: vec![], remove: all.clone() };
    kernel.apply(&[Step::CreateFirewall(all), remove]).unwrap();
}

#[test]
fn running_a_printed_plan_completes_it() {
    in_netns(|kernel| {
        let (one, other) = (name("pntbone"), name("pntb.other"));
        let (host, mut pair) = veth("abc", "pntbone");
        let (lone, mut second) = veth("def", "pntb.other");
        (pair.isolated, pair.hairpin, second.mtu) = (true, true, 1400);
        let mut four = bridge("one", &["10.1.0.1/24"]);
        let mut six = bridge("other", &["10.2.0.1/24", "fd00:2::1/64"]);
        (four.localnet, six.localnet, six.mtu) = (true, true, 1400);
        create_tables(kernel);
        let mut want = observe(kernel);
        want.policy = Some([Policy::LimitedForwarding(Family::V4), Policy::LimitedForwarding(Family::V6)].into());
        want.forwarding.v4 = true;
        want.forwarding.v6 = true;
        want.objects.extend([(one.clone(), four.into()), (other.clone(), six.into())]);
        want.objects.extend([(host.clone(), pair.into()), (lone.clone(), second.into())]);
        let vxlan = Vxlan {
            vni: Vni::new(70000).unwrap(),
            port: 4789,
            local: "127.0.0.1".parse().unwrap(),
            mac: Mac::derive("vxlan", "one"),
            mtu: 1450,
            bridge: Some(one.clone()),
            isolated: true,
            up: true,
            low_ports: true,
            peers: ["192.0.2.2", "192.0.2.3"].map(|peer| peer.parse().unwrap()).into(),
        };
        want.objects.insert(name("pntxone"), vxlan.into());
        run_plan(kernel, &want);
        // Kernels before 6.2 rename only links that are down.
        let renamed = |link| {
            let rename = format!("ip link set {link} name foo");
            format!("{rename} || {{ ip link set {link} down; {rename}; ip link set foo up; }}")
        };
        // Each possible difference of links and settings, one by one.
        for breakage in [
            "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0",
            "ip link set pntbone mtu 1300",
            "ip link set pnthabc mtu 1300",
            "ip link set pntbone down",
            "ip link set pntb.other down",
            "ip link set pnthabc down",
            "ip link set pnthabc nomaster",
            "ip link set pnthabc type bridge_slave isolated off hairpin off",
            "ip link set pnthdef type bridge_slave isolated on",
            "ip address del 10.1.0.1/24 dev pntbone",
            "ip address add 10.1.9.1/24 dev pntbone",
            "ip address flush dev pntb.other",
            "sysctl -qw net/ipv4/conf/pntb.other/route_localnet=0",
            "sysctl -qw net/ipv6/conf/pntb.other/disable_ipv6=1",
            "ip link set pntbone alias other",
            "ip link del pnthabc",
            "ip link del pntbone",
            "ip link del pntxone",
            "bridge fdb del 00:00:00:00:00:00 dev pntxone dst 192.0.2.2",
            "bridge fdb append 00:00:00:00:00:00 dev pntxone dst 192.0.2.9",
            "ip link set pntxone nomaster mtu 1400 down",
            &renamed("pnthabc"),
            &renamed("pntbone"),
            &renamed("pntxone"),
            "ip link add pntxnew group 1886286849 type vxlan id 7 local 127.0.0.1 dstport 4789",
            "ip link add pntbnew group 1886286849 type bridge",
            "ip link add pnthnew group 1886286849 type veth peer name pntcnew",
        ] {
            run(breakage);
            run_plan(kernel, &want);
        }
    });
}

#[test]
fn printed_elements_and_accept_rules_are_valid_commands() {
    in_netns(|kernel| {
        run("iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP");
        create_tables(kernel);
        let link = || name("pntb.o'ne");
        let at = |address: &str, container: &str| {
            let host = HostPort { protocol: Protocol::Sctp, address: address.parse().unwrap(), port: 8080 };
            Policy::Published(Published { host, container: container.parse().unwrap(), container_port: 80 })
        };
        let mut elements = BTreeSet::from([
            Policy::Link(LinkProperty::ProtectedBridge, link()),
            Policy::Link(LinkProperty::Internal, link()),
            Policy::IntraNetwork(link()),
            Policy::Isolated(link()),
            Policy::Link(LinkProperty::ContainerBridge, link()),
            Policy::Link(LinkProperty::EngineBridge, name("docker0")),
            Policy::TrustedLink(name("eth0"), link()),
            Policy::Link(LinkProperty::SpoofChecked, link()),
            Policy::SourceMac(link(), Mac::derive("peer", "x")),
            Policy::Source(link(), Mac::derive("peer", "x"), "10.1.0.2".parse().unwrap()),
            Policy::Source(link(), Mac::derive("peer", "x"), "fd00::2".parse().unwrap()),
            Policy::TunnelPort(4789),
            Policy::Tunnel(Vni::new(70000).unwrap()),
            Policy::Gateway(link(), Mac::derive("bridge", "x")),
            Policy::Link(LinkProperty::NoMulticast, link()),
            Policy::Access(Access::TrackedPort(link())),
            Policy::TrunkVlan(link(), pontoon::model::Vid::new(40).unwrap()),
            Policy::LimitedForwarding(Family::V4),
            Policy::LimitedForwarding(Family::V6),
            Policy::ForwardingLink(link(), Family::V4),
            Policy::ForwardingLink(link(), Family::V6),
            Policy::UserBridgeContainer("10.1.0.2".parse().unwrap()),
            Policy::UserBridgeContainer("fd00::2".parse().unwrap()),
        ]);
        for (family, any, host, ip, subnet) in [
            (Family::V4, "0.0.0.0", "192.0.2.1", "10.1.0.2", "10.1.0.0/24"),
            (Family::V6, "::", "2001:db8::1", "fd00::2", "fd00::/64"),
        ] {
            let address = ip.parse().unwrap();
            let lowest = net(subnet).network();
            let web = Transport { protocols: (6, 6), ports: (80, 90) };
            let all = Transport { protocols: (0, 255), ports: (0, u16::MAX) };
            elements.extend([
                at(any, ip),
                at(host, ip),
                Policy::Access(Access::Allowed(
                    Place::Routed,
                    Way::Egress,
                    (address, address),
                    web,
                    (address, address),
                )),
                Policy::Access(Access::Allowed(
                    Place::Bridged,
                    Way::Ingress,
                    (address, address),
                    all,
                    (lowest, address),
                )),
                Policy::Access(Access::AllowedHost(Way::Egress, (lowest, address), web)),
                Policy::Unprotected(link(), family),
                Policy::Routed(link(), family),
            ]);
            elements.extend([
                Policy::Masquerade(net(subnet)),
                Policy::SourceNat(net(subnet), host.parse().unwrap()),
                Policy::OpenPort(Protocol::Udp, address, 53),
                Policy::SourceFiltered(address),
                Policy::BridgeAddress(address),
                Policy::UserBridgeContainer(address),
                Policy::Peer(host.parse().unwrap()),
                Policy::TunnelAddress(host.parse().unwrap()),
                Policy::GatewayAddress(link(), address),
                Policy::AllowedSource(address, net(subnet)),
                Policy::SourceAddress(link(), address),
                Policy::SourceAddress(link(), any.parse().unwrap()),
            ]);
        }
        let rules = [ForwardRule::From(LinkMatch::Prefix("pnt".into())), ForwardRule::To(LinkMatch::Name(link()))];
        let mut want = Datapath { policy: Some(elements.clone()), ..observe(kernel) };
        want.forward4 = Some(rules.clone().into());
        want.forward6 = Some(rules.into());
        run_plan(kernel, &want);
        // A key that changes its value, and a removed key.
        elements.remove(&at("0.0.0.0", "10.1.0.2"));
        elements.remove(&Policy::SourceFiltered("10.1.0.2".parse().unwrap()));
        elements.insert(at("0.0.0.0", "10.1.0.3"));
        want.policy = Some(elements);
        run_plan(kernel, &want);
        want.policy = Some(BTreeSet::new());
        run_plan(kernel, &want);
    });
}

#[test]
fn a_survey_reads_the_host_and_changes_nothing() {
    in_netns(|kernel| {
        run("ip link add pnthdead group 1886286850 type veth peer name pntcdead");
        run("ip link add up0 type bridge; ip link set up0 mtu 1400 up; ip address add 198.51.100.1/24 dev up0");
        run("ip route add default via 198.51.100.254");
        run(
            "nft add table inet mine; nft add chain inet mine onward '{ type filter hook forward priority 0; policy drop; }'",
        );
        run("nft add rule inet mine onward iifname '\"pnt*\"' counter accept");
        let mut survey = Survey::open(Options::default()).unwrap();
        wait_for("addresses to leave the tentative state", || !run("ip -o address").contains(" tentative"));
        let all = || run("ip -o link; ip -o address; nft -s list ruleset; ip route");
        let before = all();
        let host = survey.host().unwrap();
        assert_eq!(survey.observe(&BTreeSet::new()).unwrap(), observe(kernel));
        assert_eq!(host.uplink.as_deref(), Some("up0"));
        assert!(host.links.iter().any(|link| link.name == "up0" && link.mtu == 1400));
        assert!(host.routes.iter().any(|route| route.destination.prefix() == 0 && route.link == "up0"));
        let chain = host.chains.iter().find(|chain| chain.name == "onward").unwrap();
        assert!(chain.forward && chain.drops && chain.names_ours && chain.family == "inet");
        assert_eq!(chain.accepts, [ForwardRule::From(LinkMatch::Prefix("pnt".into()))].into());
        // Features that only some networks need may be missing here.
        let lacks = |feature: &&Feature| feature.refused.is_some() && !feature.on_request;
        let refused: Vec<_> = host.features.iter().filter(lacks).collect();
        assert!(host.features.len() == FEATURES.len() && refused.is_empty(), "{refused:?}");
        // A link that waits for its deletion still exists: a survey does not delete.
        drop(survey);
        assert_eq!(all(), before);
    });
}
