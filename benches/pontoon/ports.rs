//! The netlink costs of a published port, depending on the number of others: the step of a request, on kernels with 0,
//! 1,000 and 10,000 ports, alternately.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use pontoon::datapath::{Kernel, Policy, Step};
use pontoon::linux::{LinuxKernel, Options};
use pontoon::model::{HostPort, Protocol, Published};

use crate::in_namespace;
use crate::report::{Row, median};
use crate::verbs::time;

const PRESENT: [u32; 3] = [0, 1_000, 10_000];
const SINGLES: u32 = 300;
/// As many as one container publishes in the part `engine`.
const BATCH: u32 = 200;
const BATCHES: usize = 60;
/// Maximum cost of a port.
const PRICE: Duration = Duration::from_micros(10);

/// Numbers below 16,000 exist from the start, those above are added and removed.
fn port(n: u32) -> Policy {
    let host = HostPort {
        protocol: Protocol::Tcp,
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        port: u16::try_from(n + 1).expect("a port"),
    };
    let container = IpAddr::V4(Ipv4Addr::from(0x0a00_0002 + (n << 8)));
    Policy::Published(Published { host, container, container_port: 80 })
}

#[derive(Default)]
struct Times {
    add: Vec<Duration>,
    remove: Vec<Duration>,
    add_batch: Vec<Duration>,
    remove_batch: Vec<Duration>,
}

/// A kind of measurement, and its times.
type Kind = (&'static str, fn(&Times) -> &[Duration]);

pub fn run() -> Vec<Row> {
    let kernels: Vec<LinuxKernel> = PRESENT
        .iter()
        .map(|present| {
            // Its sockets stay in the namespace in which they were opened.
            in_namespace(|| {
                let kernel = LinuxKernel::new(Options::default()).expect("a kernel");
                kernel.apply(&[Step::CreateFirewall((0..*present).map(port).collect())]).expect("a table");
                kernel
            })
        })
        .collect();
    let mut times: Vec<Times> = PRESENT.iter().map(|_| Times::default()).collect();
    let change = |kernel: &LinuxKernel, add: Vec<Policy>, remove: Vec<Policy>| {
        time(|| kernel.apply(&[Step::ChangeFirewall { add, remove }]).expect("the ports change"))
    };
    for n in 0..SINGLES {
        for (kernel, times) in kernels.iter().zip(&mut times) {
            times.add.push(change(kernel, vec![port(16_000 + n)], vec![]));
        }
        for (kernel, times) in kernels.iter().zip(&mut times) {
            times.remove.push(change(kernel, vec![], vec![port(16_000 + n)]));
        }
    }
    // The kernel resizes its hash tables in the background.
    let settle = || std::thread::sleep(Duration::from_millis(5));
    for _ in 0..BATCHES {
        let batch = || (16_000..16_000 + BATCH).map(port).collect::<Vec<_>>();
        for (kernel, times) in kernels.iter().zip(&mut times) {
            times.add_batch.push(change(kernel, batch(), vec![]) / BATCH);
        }
        settle();
        for (kernel, times) in kernels.iter().zip(&mut times) {
            times.remove_batch.push(change(kernel, vec![], batch()) / BATCH);
        }
        settle();
    }
    let kinds: [Kind; 4] = [
        ("one port added", |t| &t.add),
        ("one port removed", |t| &t.remove),
        ("a port among 200 added", |t| &t.add_batch),
        ("a port among 200 removed", |t| &t.remove_batch),
    ];
    let mut rows = Vec::new();
    for (what, of) in kinds {
        let none = median(of(&times[0]));
        rows.push(Row::ratio(&format!("{what}, none present"), none, "goal", PRICE, Some(1.0)));
        for (present, times) in PRESENT.iter().zip(&times).skip(1) {
            let what = format!("{what}, {present} present");
            rows.push(Row::ratio(&what, median(of(times)), "none present", none, Some(1.2)));
        }
    }
    rows
}
