//! The kernel features that Pontoon uses: one table, from which `pontoon doctor`, the errors and
//! docs/kernels.md are made.
//!
//! A probe really uses the feature, in a temporary network namespace that ends with its thread. Probes are run by
//! `survey`, never by the daemon; the daemon names a feature when the kernel refuses a link for lack of it.

use std::fmt::Write as _;

use nix::sched::{CloneFlags, unshare};

use super::firewall::{fastpath, limit_rules, tables};
use super::link::{self, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINKINFO};
use super::netlink::{CREATE, EXCLUSIVE, Explain as _, Failure, OwnPorts, Protocol, Socket};
use super::object::vlan::IFLA_VLAN_ID;
use super::object::vxlan::IFLA_VXLAN_ID;
use super::port_vlans;
use super::shaper;
use super::tlv::Writer;
use crate::datapath::ObjectKind;
use crate::datapath::host::Feature;

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_GET`.
const TRACKED: u16 = (1 << 8) | 1;

type Probe = fn(&mut Socket, &mut Socket) -> Result<(), Failure>;

/// A feature of the kernel that Pontoon uses.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Kind of the links that it provides, if any.
    pub kind: Option<ObjectKind>,
    /// Options of the kernel's configuration, without `CONFIG_`.
    pub options: &'static str,
    /// The modules that provide it, if it is not built in.
    pub modules: &'static str,
    /// The first release with all that Pontoon uses of it.
    pub since: (u32, u32),
    /// Whether Pontoon cannot work without it.
    pub needed: bool,
    /// Whether only networks and containers that ask for it use it: without it, those are refused, or work as `without`
    /// says.
    pub on_request: bool,
    /// The consequence of its absence.
    pub without: &'static str,
    probe: Probe,
}

/// Name of the feature that limits rates.
pub const TOKEN_BUCKETS: &str = "token bucket queues";

/// Name of the feature that limits connections.
pub const CONNECTION_LIMITS: &str = "limits of connections in elements of sets";

/// Name of the feature that also leads what containers send to their ifb links.
pub const FAST_PATH: &str = "the fast path of overlay networks";

/// All features, in the order of the probes.
pub const FEATURES: [Row; 15] = [
    Row {
        name: "bridges",
        kind: Some(ObjectKind::Bridge),
        options: "BRIDGE",
        modules: "bridge",
        since: (4, 18),
        needed: true,
        on_request: false,
        without: "no networks but macvlan and ipvlan",
        probe: |route, _| make(route, "try-bridge", "bridge", 0, |_| {}),
    },
    Row {
        name: "veth pairs",
        kind: Some(ObjectKind::Veth),
        options: "VETH",
        modules: "veth",
        since: (2, 6),
        needed: true,
        on_request: false,
        without: "no networks but macvlan and ipvlan",
        probe: |route, _| make(route, "try-veth", "veth", 0, |_| {}),
    },
    Row {
        name: "macvlan",
        kind: Some(ObjectKind::Macvlan),
        options: "MACVLAN",
        modules: "macvlan",
        since: (2, 6),
        needed: false,
        on_request: true,
        without: "no networks with `parent`",
        // The loopback cannot have children; the bridge of the first probe, or its own parent, can.
        probe: |route, _| {
            let parent = link::find(route, "try-bridge")?.map_or(0, |link| link.index);
            make(route, "try-macvlan", "macvlan", parent, |_| {})
        },
    },
    Row {
        name: "ipvlan",
        kind: Some(ObjectKind::Ipvlan),
        options: "IPVLAN",
        modules: "ipvlan",
        since: (4, 15),
        needed: false,
        on_request: true,
        without: "no networks with `ipvlan_mode`",
        // Not the bridge: it has a macvlan child by now, and a link has children of one kind.
        probe: |route, _| {
            let parent = link::find(route, "try-veth")?.map_or(0, |link| link.index);
            make(route, "try-ipvlan", "ipvlan", parent, |_| {})
        },
    },
    Row {
        name: "VLAN links",
        kind: Some(ObjectKind::Vlan),
        options: "VLAN_8021Q",
        modules: "8021q",
        since: (2, 6),
        needed: false,
        on_request: true,
        without: "no parents that Pontoon creates, `parent=NAME.VID`",
        probe: |route, _| {
            let parent = link::find(route, "try-bridge")?.map_or(0, |link| link.index);
            make(route, "try-vlan", "vlan", parent, |data| {
                data.bytes(IFLA_VLAN_ID, &1u16.to_ne_bytes());
            })
        },
    },
    Row {
        name: "VLAN filtering of bridges",
        kind: None,
        options: "BRIDGE_VLAN_FILTERING",
        modules: "bridge",
        since: (5, 6),
        needed: false,
        on_request: true,
        without: "no networks with `pontoon.vlan`",
        probe: |route, _| port_vlans::offered(route),
    },
    Row {
        name: TOKEN_BUCKETS,
        kind: None,
        options: "NET_SCH_TBF",
        modules: "sch_tbf",
        since: (3, 13),
        needed: false,
        on_request: true,
        without: "no `pontoon.rate.in` and no `pontoon.rate.out`",
        probe: |route, _| {
            let link = link::find(route, "try-veth")?.map_or(0, |link| link.index);
            shaper::offered(route, link)
        },
    },
    Row {
        name: "ifb links",
        kind: Some(ObjectKind::Ifb),
        options: "IFB NFT_FWD_NETDEV",
        modules: "ifb nft_fwd_netdev",
        since: (5, 10),
        needed: false,
        on_request: true,
        without: "no `pontoon.rate.out`",
        probe: |route, nft| {
            make(route, "try-ifb", "ifb", 0, |_| {})?;
            fastpath::offered(nft)
        },
    },
    Row {
        name: "fair queues",
        kind: None,
        options: "NET_SCH_FQ_CODEL",
        modules: "sch_fq_codel",
        since: (3, 5),
        needed: false,
        on_request: true,
        without: "in a container that fills its `pontoon.rate`, each packet waits up to 50 ms longer",
        probe: |route, _| {
            let link = link::find(route, "try-veth")?.map_or(0, |link| link.index);
            shaper::offered_fair(route, link)
        },
    },
    Row {
        name: CONNECTION_LIMITS,
        kind: None,
        options: "NFT_CONNLIMIT NFT_LIMIT",
        modules: "nft_connlimit nft_limit nf_conncount",
        since: (5, 10),
        needed: false,
        on_request: true,
        without: "no `pontoon.conn.max` and no `pontoon.conn.rate`",
        probe: |_, nft| limit_rules::offered(nft),
    },
    Row {
        name: "VXLAN",
        kind: Some(ObjectKind::Vxlan),
        options: "VXLAN",
        modules: "vxlan",
        since: (3, 12),
        needed: false,
        on_request: false,
        without: "no overlay networks",
        probe: |route, _| {
            make(route, "try-vxlan", "vxlan", 0, |data| {
                data.native(IFLA_VXLAN_ID, 1);
            })
        },
    },
    Row {
        name: "nf_tables in families inet and bridge, with NAT, connection tracking, maps and ranges",
        kind: None,
        options: "NF_TABLES NF_TABLES_INET NF_TABLES_BRIDGE NF_CONNTRACK NFT_CT NFT_NAT NFT_MASQ NFT_FIB_INET",
        modules: "nf_tables nft_chain_nat nft_nat nft_masq nft_ct nft_fib_inet nf_conntrack",
        since: (5, 10),
        needed: true,
        on_request: false,
        without: "no firewall rules, no published ports, no way out",
        probe: |_, nft| tables::create(nft, &Default::default()),
    },
    Row {
        name: "rejecting untranslated packets to published ports",
        kind: None,
        options: "NFT_SOCKET NFT_REJECT",
        modules: "nft_socket nft_reject_inet",
        since: (5, 10),
        needed: false,
        on_request: false,
        without: "a connection that reaches a published port untranslated hangs instead of being rejected",
        probe: |_, nft| tables::create_with(nft, &Default::default(), true),
    },
    Row {
        name: FAST_PATH,
        kind: None,
        options: "NF_TABLES_NETDEV NFT_FWD_NETDEV",
        modules: "nf_tables nft_fwd_netdev",
        since: (5, 10),
        needed: false,
        on_request: false,
        without: "frames of overlay networks pass the bridge and the host's firewall, at lower throughput",
        probe: |_, nft| fastpath::offered(nft),
    },
    Row {
        name: "listing conntrack entries",
        kind: None,
        options: "NF_CT_NETLINK",
        modules: "nf_conntrack_netlink",
        since: (2, 6),
        needed: false,
        on_request: false,
        without: "packets of existing connections go to the previous container of a published port until the entry times out",
        probe: |_, nft| nft.list(TRACKED, &[libc::AF_INET as u8, 0, 0, 0], |_, _| None::<()>).map(drop),
    },
];

/// Runs all probes.
///
/// # Errors
/// Why no namespace can be created for the probes.
pub fn try_all() -> Result<Vec<Feature>, String> {
    apart(|route, nft| {
        let tried = FEATURES.iter().map(|row| {
            let refused = (row.probe)(route, nft).err().map(said);
            Feature {
                name: row.name,
                modules: row.modules,
                needed: row.needed,
                on_request: row.on_request,
                without: row.without,
                refused,
            }
        });
        tried.collect()
    })
}

/// Names the feature that the kernel lacks, if that is why it refused to create a link of this kind.
pub fn named(failure: Failure, kind: ObjectKind) -> Failure {
    // Other causes of this error have a message of their own.
    let unknown = matches!(&failure, Failure::Refused(verdict)
        if verdict.errno == libc::EOPNOTSUPP && ["", "Unknown device type"].contains(&verdict.message.as_str()));
    match FEATURES.iter().find(|row| unknown && row.kind == Some(kind)) {
        Some(row) => lacking(row.name),
        None => failure,
    }
}

/// The error that names a feature which the kernel lacks.
pub fn lacking(name: &str) -> Failure {
    let modules = FEATURES.iter().find(|row| row.name == name).map_or("", |row| row.modules);
    Failure::refused(libc::EOPNOTSUPP, &format!("this kernel has no {name}: modprobe -a {modules}"))
}

/// Names the feature that the kernel lacks, if that is why it did not list the VLANs of bridges.
pub fn unfiltered(failure: Failure) -> Failure {
    match failure.errno() {
        Some(libc::EOPNOTSUPP) => {
            let text = "this kernel has no VLAN filtering of bridges: use one with CONFIG_BRIDGE_VLAN_FILTERING";
            Failure::refused(libc::EOPNOTSUPP, text)
        }
        _ => failure,
    }
}

/// The table as Markdown.
pub fn markdown() -> String {
    let mut text =
        String::from("| feature | options `CONFIG_...` | modules | since | without it |\n|---|---|---|---|---|\n");
    for row in &FEATURES {
        let words = |words: &str| words.split(' ').map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ");
        let without = if row.needed { format!("**required**: {}", row.without) } else { row.without.to_owned() };
        let (options, modules, (major, minor)) = (words(row.options), words(row.modules), row.since);
        let _ = writeln!(text, "| {} | {options} | {modules} | {major}.{minor} | {without} |", row.name);
    }
    text
}

/// Whether the kernel supports shortcuts; assumed when it cannot be probed.
pub fn offers_fastpath() -> bool {
    apart(|_, nft| fastpath::offered(nft).is_ok()).unwrap_or(true)
}

/// Runs a function in a network namespace of its own.
fn apart<T: Send + 'static>(act: impl FnOnce(&mut Socket, &mut Socket) -> T + Send + 'static) -> Result<T, String> {
    let thread = std::thread::Builder::new().name("features".to_owned()).spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| format!("cannot create a network namespace for the test: {errno}"))?;
        let ports = std::sync::Arc::new(OwnPorts::default());
        let open = |protocol| Socket::open(protocol, ports.clone()).map_err(said);
        let (mut route, mut nft) = (open(Protocol::Route)?, open(Protocol::Netfilter)?);
        Ok(act(&mut route, &mut nft))
    });
    let joined = thread.map_err(|error| error.to_string())?.join();
    joined.unwrap_or_else(|_| Err("the test was aborted".to_owned()))
}

fn said(failure: Failure) -> String {
    failure.of("try", "it").to_string()
}

/// Creates a link, as a child of another unless its number is 0.
fn make(
    socket: &mut Socket,
    name: &str,
    kind: &str,
    parent: u32,
    data: impl FnOnce(&mut Writer),
) -> Result<(), Failure> {
    let mut body = Writer::with_header(&[0; 16]);
    if parent != 0 {
        body.native(IFLA_LINK, parent);
    }
    body.text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, kind).nest(IFLA_INFO_DATA, data);
    });
    socket.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &body.finish())
}
