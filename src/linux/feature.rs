//! Probes the kernel features that Pontoon needs: each one is really used, in a temporary network namespace
//! that ends with its thread.
//!
//! Called by `survey`, never by the daemon.

use nix::sched::{CloneFlags, unshare};

use super::firewall::{fastpath, tables};
use super::link::{IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO};
use super::netlink::{CREATE, EXCLUSIVE, Explain as _, Failure, OwnPorts, Protocol, Socket};
use super::object::vxlan::IFLA_VXLAN_ID;
use super::tlv::Writer;
use crate::datapath::host::Feature;

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_GET`.
const TRACKED: u16 = (1 << 8) | 1;

type Probe = fn(&mut Socket, &mut Socket) -> Result<(), Failure>;

/// The probes: name, modules that provide the feature, and whether Pontoon requires it.
const FEATURES: [(&str, &str, bool, Probe); 7] = [
    ("bridges", "bridge", true, |route, _| make(route, "try-bridge", "bridge", |_| {})),
    ("veth pairs", "veth", true, |route, _| make(route, "try-veth", "veth", |_| {})),
    ("VXLAN", "vxlan", false, |route, _| {
        make(route, "try-vxlan", "vxlan", |data| {
            data.native(IFLA_VXLAN_ID, 1);
        })
    }),
    (
        "nf_tables in families inet and bridge, with NAT, connection tracking, maps and ranges",
        "nf_tables nft_chain_nat nft_nat nft_masq nft_ct nft_fib_inet nf_conntrack",
        true,
        |_, nft| tables::create(nft, &Default::default()),
    ),
    ("rejecting untranslated packets to published ports", "nft_socket nft_reject_inet", false, |_, nft| {
        tables::create_with(nft, &Default::default(), true)
    }),
    ("the fast path of overlay networks", "nf_tables nft_fwd_netdev", false, |_, nft| fastpath::offered(nft)),
    ("listing conntrack entries", "nf_conntrack_netlink", false, |_, nft| {
        nft.list(TRACKED, &[libc::AF_INET as u8, 0, 0, 0], |_, _| None::<()>).map(drop)
    }),
];

/// Runs all probes.
///
/// # Errors
/// Why no namespace can be created for the probes.
pub fn try_all() -> Result<Vec<Feature>, String> {
    apart(|route, nft| {
        let tried = FEATURES.iter().map(|(name, modules, needed, attempt)| {
            let refused = attempt(route, nft).err().map(said);
            Feature { name, modules, needed: *needed, refused }
        });
        tried.collect()
    })
}

/// Whether the kernel supports the fast path; assumed when it cannot be probed.
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

fn make(socket: &mut Socket, name: &str, kind: &str, data: impl FnOnce(&mut Writer)) -> Result<(), Failure> {
    let mut body = Writer::with_header(&[0; 16]);
    body.text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, kind).nest(IFLA_INFO_DATA, data);
    });
    socket.execute(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &body.finish())
}
