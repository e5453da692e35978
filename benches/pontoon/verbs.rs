//! Requests over the socket beside the raw kernel work of the same steps, interleaved one by one, from an empty bridge
//! to a thousand endpoints.

use std::time::{Duration, Instant};

use crate::client::{self, Client};
use crate::daemon::{Daemon, Dir};
use crate::raw::{Raw, index};
use crate::report::{Row, median};

const ENDPOINTS: usize = 1000;
/// The number of requests at either end of the series that are compared for flatness.
const EDGE: usize = 100;

pub fn run() -> Vec<Row> {
    let dir = Dir::new("verbs");
    let daemon = Daemon::start(&dir.0);
    let mut client = daemon.client();
    let mut raw = Raw::open();
    let floor = raw.bridge("floor0");
    client.call("NetworkDriver.CreateNetwork", &client::network("bench", 50, false));

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..ENDPOINTS {
        let (create, join) = (client::create("bench", 50, n), client::join("bench", n));
        ours.push(time(|| {
            client.call("NetworkDriver.CreateEndpoint", &create);
            client.call("NetworkDriver.Join", &join);
        }));
        theirs.push(time(|| raw.create(n, floor)));
    }
    let full = daemon.resident();
    let (mut ours_off, mut theirs_off) = (Vec::new(), Vec::new());
    let (mut ours_total, mut theirs_total) = (Duration::ZERO, Duration::ZERO);
    // In rounds of 64, each awaited, so that the deferred work of one round does not slow down the next.
    for round in (0..ENDPOINTS).collect::<Vec<_>>().chunks(64) {
        theirs_total += time(|| {
            for n in round {
                theirs_off.push(time(|| raw.retire(*n)));
            }
            raw.delete_retired();
        });
        ours_total += time(|| {
            for n in round {
                let of = client::of("bench", *n);
                ours_off.push(time(|| {
                    client.call("NetworkDriver.Leave", &of);
                    client.call("NetworkDriver.DeleteEndpoint", &of);
                }));
            }
            let all = round.iter().map(|n| format!("pnth{}", &client::endpoint_id(*n)[..11]));
            for name in all {
                while index(&name) != 0 {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
    }
    client.call("NetworkDriver.DeleteNetwork", r#"{"NetworkID":"bench"}"#);
    client.call("NetworkDriver.CreateNetwork", &client::network("checked", 51, true));
    let mut checked = Vec::new();
    for n in 0..EDGE {
        let (create, join) = (client::create("checked", 51, n), client::join("checked", n));
        checked.push(time(|| {
            client.call("NetworkDriver.CreateEndpoint", &create);
            client.call("NetworkDriver.Join", &join);
        }));
    }
    let light = light(&mut daemon.client());
    vec![
        Row::ratio(
            "CreateEndpoint + Join, 0 to 1,000 endpoints",
            median(&ours),
            "raw netlink",
            median(&theirs),
            Some(1.5),
        ),
        Row::ratio(
            "the same with source checks, the default, first 100",
            median(&checked),
            "without",
            median(&ours[..EDGE]),
            None,
        ),
        Row::ratio(
            "the same, last 100 : first 100",
            median(&ours[ENDPOINTS - EDGE..]),
            "first",
            median(&ours[..EDGE]),
            None,
        ),
        Row::ratio(
            "raw netlink, last 100 : first 100",
            median(&theirs[ENDPOINTS - EDGE..]),
            "first",
            median(&theirs[..EDGE]),
            None,
        ),
        Row::ratio(
            "Leave + DeleteEndpoint (deletion deferred)",
            median(&ours_off),
            "raw nomaster+down+group",
            median(&theirs_off),
            Some(1.5),
        ),
        Row::ratio(
            "the same, last 100 : first 100",
            median(&ours_off[ENDPOINTS - EDGE..]),
            "first",
            median(&ours_off[..EDGE]),
            None,
        ),
        Row::ratio(
            "64 endpoints gone from the kernel, per endpoint",
            ours_total / ENDPOINTS as u32,
            "raw, one group delete",
            theirs_total / ENDPOINTS as u32,
            None,
        ),
        Row::figure("a request without kernel work (EndpointOperInfo)", crate::report::show(light)),
        Row::figure("resident memory with 1,000 endpoints", format!("{full} kB")),
    ]
}

fn light(client: &mut Client) -> Duration {
    let body = client::of("bench", 1);
    let times: Vec<_> =
        (0..2000).map(|_| time(|| drop(client.call("NetworkDriver.EndpointOperInfo", &body)))).collect();
    median(&times)
}

pub fn time(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}
