//! Ten thousand published ports: the costs of a start that finds all of them in the kernel, and of one that finds none.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use serde_json::json;

use crate::client::{self, Client};
use crate::daemon::{Daemon, Dir};
use crate::report::{Row, median, show};

pub const ENDPOINTS: usize = 10;
/// A request with more ports than an engine ever sends would exceed the size limit.
const EACH: usize = 1_000;
const STARTS: usize = 5;

/// Publishes `ENDPOINTS * EACH` ports from 20,000 on, for endpoints that exist only in Pontoon.
pub fn publish_many(client: &mut Client, network: &str, subnet: u8, first_time: bool) {
    if first_time {
        client.call("NetworkDriver.CreateNetwork", &client::network(network, subnet, true));
        for n in 0..ENDPOINTS {
            client.call("NetworkDriver.CreateEndpoint", &client::create(network, subnet, n));
            client.call("NetworkDriver.Join", &client::join(network, n));
        }
    }
    for n in 0..ENDPOINTS {
        let ports: Vec<_> = (0..EACH)
            .map(|port| 20_000 + n * EACH + port)
            .map(|port| json!({"Proto": 6, "IP": "", "Port": port, "HostIP": "0.0.0.0", "HostPort": port, "HostPortEnd": port}))
            .collect();
        let body = json!({"NetworkID": network, "EndpointID": client::endpoint_id(n),
            "Options": {"com.docker.network.portmap": ports}});
        client.call("NetworkDriver.ProgramExternalConnectivity", &body.to_string());
    }
}

/// Withdraws the ports of [`publish_many`]; the endpoints stay.
pub fn withdraw_many(client: &mut Client, network: &str) {
    for n in 0..ENDPOINTS {
        client.call("NetworkDriver.RevokeExternalConnectivity", &client::of(network, n));
    }
}

pub fn run() -> Vec<Row> {
    let dir = Dir::new("restart");
    let daemon = Daemon::start(&dir.0);
    let empty = daemon.listening_after;
    publish_many(&mut daemon.client(), "many", 70, true);
    let full = daemon.resident();
    daemon.kill();
    let transactions = Transactions::open();
    let (mut kept, mut flushed, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    let (mut kept_count, mut flushed_count, mut after) = (0, 0, 0);
    for _ in 0..STARTS {
        for (times, count, flush) in [(&mut kept, &mut kept_count, false), (&mut flushed, &mut flushed_count, true)] {
            if flush {
                let done = std::process::Command::new("nft").args(["flush", "ruleset"]).status();
                assert!(done.is_ok_and(|status| status.success()), "nft flushes the ruleset");
            }
            let before = transactions.count();
            let daemon = Daemon::start(&dir.0);
            *count = transactions.count().wrapping_sub(before);
            times.push(daemon.listening_after);
            after = daemon.resident();
            ended.push(daemon.kill());
        }
    }
    let range = |times: &[Duration]| {
        let (least, most) = (times.iter().min(), times.iter().max());
        format!("{} ({} to {})", show(median(times)), show(*least.unwrap_or(&empty)), show(*most.unwrap_or(&empty)))
    };
    vec![
        Row::figure("start to listening, nothing in state", show(empty)),
        Row::figure("start to listening, 10,000 ports, all in the kernel", range(&kept)),
        Row::figure("start to listening, 10,000 ports, nothing in the kernel", range(&flushed)),
        Row::figure("end after kill -9, 10,000 ports", range(&ended)),
        Row::figure("nf_tables transactions of either start", format!("{kept_count}, {flushed_count}")),
        Row::figure("resident memory with 10,000 ports: published, after a start", format!("{full} kB, {after} kB")),
    ]
}

/// The generation of the ruleset, which each transaction increments.
struct Transactions(OwnedFd);

impl Transactions {
    fn open() -> Self {
        // SAFETY: no pointers; the result is checked.
        let fd =
            unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_NETFILTER) };
        assert!(fd >= 0, "a netlink socket");
        // SAFETY: the descriptor was just created and has no other owner.
        Self(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// `NFT_MSG_GETGEN`: the first attribute of its answer is the number.
    fn count(&self) -> u32 {
        let mut ask = Vec::from(20u32.to_ne_bytes());
        ask.extend(((10u16 << 8) | 16).to_ne_bytes());
        ask.extend(1u16.to_ne_bytes());
        ask.extend([0; 12]);
        let mut answer = [0u8; 4096];
        // SAFETY: both buffers are valid for the lengths given.
        let got = unsafe {
            libc::send(self.0.as_raw_fd(), ask.as_ptr().cast(), ask.len(), 0);
            libc::recv(self.0.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
        };
        assert!(got >= 28 && answer[22..24] == 1u16.to_ne_bytes(), "a generation");
        u32::from_be_bytes([answer[24], answer[25], answer[26], answer[27]])
    }
}
