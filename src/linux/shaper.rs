//! Token bucket queues of links (`tc_tbf_qopt`, `TCA_FQ_CODEL_*`, include/uapi/linux/pkt_sched.h): sets, removes and
//! reads them, and prints the same as commands of `tc`.
//!
//! The queue is at the root of the link, and below it is a fair queue, which keeps the latency of one connection low
//! while another one fills the rate; on a kernel without fair queues a bounded one. Their handles prove that they are
//! Pontoon's. Called by `object`, `observe` and `watch`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use super::feature;
use super::netlink::{CREATE, Failure, REPLACE, Request, Socket};
use super::shell::word;
use super::tlv::{Attributes, Writer, native32, text};
use super::{LinuxKernel, link};
use crate::datapath::Shape;
use crate::model::IfName;

/// Handles of the two queues: `706e:` and `706f:`.
const BUCKET: u32 = 0x706e_0000;
const INNER: u32 = 0x706f_0000;

/// Kind of the queue at the root.
pub const KIND: &str = "tbf";

const FAIR: &str = "fq_codel";
const BOUNDED: &str = "bfifo";

/// Bytes of `struct tcmsg`.
const HEADER: usize = 20;
const ROOT: u32 = u32::MAX;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_FQ_CODEL_TARGET: u16 = 1;
const TCA_FQ_CODEL_LIMIT: u16 = 2;
const TCA_FQ_CODEL_FLOWS: u16 = 5;
const TCA_FQ_CODEL_MEMORY_LIMIT: u16 = 9;
/// `TC_LINKLAYER_ETHERNET`: without it the kernel asks for a table of times by packet size.
const ETHERNET: u8 = 1;

/// Packets, flows and bytes that a fair queue holds. The kernel's defaults are for a physical link.
const PACKETS: u32 = 1024;
const FLOWS: u32 = 256;
const MEMORY: u32 = 4 << 20;
/// How long a packet may stay in a fair queue before it counts as congestion, in microseconds.
const TARGET: u32 = 5_000;

impl LinuxKernel {
    /// Limits what a link sends, in place if it has a limit; `None` removes the limit.
    pub(super) fn shape(&self, name: &IfName, shape: Option<Shape>) -> Result<(), Failure> {
        self.shape_with(&mut self.route().socket, name, shape)
    }

    /// The same with a socket that is locked already.
    pub(super) fn shape_with(&self, socket: &mut Socket, name: &IfName, shape: Option<Shape>) -> Result<(), Failure> {
        let found = link::find(socket, name.as_str())?.ok_or_else(|| Failure::refused(libc::ENODEV, ""))?;
        let Some(shape) = shape else { return remove(socket, found.index) };
        if !self.has_no_fair_queues.load(Ordering::Relaxed) {
            match set(socket, found.index, &shape, FAIR) {
                Err((INNER_REQUEST, failure)) if failure.errno() == Some(libc::ENOENT) => {
                    self.has_no_fair_queues.store(true, Ordering::Relaxed);
                    tracing::info!("kernel has no fair queues (fq_codel); limited containers have a bounded queue");
                }
                result => return result.map_err(named),
            }
        }
        set(socket, found.index, &shape, BOUNDED).map_err(named)
    }
}

/// The kernel answers `ENOENT` to a kind of queue that it does not have.
fn named((_, failure): (usize, Failure)) -> Failure {
    match failure.errno() {
        Some(libc::ENOENT) => feature::lacking(feature::TOKEN_BUCKETS),
        _ => failure,
    }
}

/// Position of the request for the inner queue.
const INNER_REQUEST: usize = 1;

/// Sets both queues, with one datagram unless the inner one exists.
///
/// # Errors
/// The kernel's, and the position of the request.
fn set(socket: &mut Socket, index: u32, shape: &Shape, inner: &str) -> Result<(), (usize, Failure)> {
    let bucket = queue(index, BUCKET, ROOT, KIND, |message| {
        message.nest(TCA_OPTIONS, |options| {
            options.bytes(TCA_TBF_PARMS, &parameters(shape));
        });
    });
    match socket.execute_all(&[bucket, below(index, shape, inner, true)]) {
        // The number of flows is fixed at creation (`fq_codel_change`, net/sched/sch_fq_codel.c).
        Err((INNER_REQUEST, failure)) if failure.errno() == Some(libc::EINVAL) => {
            let changed = execute(socket, &below(index, shape, inner, false));
            // Another kind, from before a module was loaded.
            let replaced = changed.or_else(|_| {
                socket.execute(libc::RTM_DELQDISC, 0, &message(index, INNER, BUCKET | 1).finish())?;
                execute(socket, &below(index, shape, inner, true))
            });
            replaced.map_err(|failure| (INNER_REQUEST, failure))
        }
        result => result,
    }
}

fn execute(socket: &mut Socket, request: &Request) -> Result<(), Failure> {
    socket.execute(request.kind, request.flags, &request.body)
}

/// The request for the inner queue.
fn below(index: u32, shape: &Shape, inner: &str, creates: bool) -> Request {
    queue(index, INNER, BUCKET | 1, inner, |message| match inner {
        FAIR => drop(message.nest(TCA_OPTIONS, |options| {
            options.native(TCA_FQ_CODEL_TARGET, target(shape));
            options.native(TCA_FQ_CODEL_LIMIT, PACKETS).native(TCA_FQ_CODEL_MEMORY_LIMIT, MEMORY);
            if creates {
                options.native(TCA_FQ_CODEL_FLOWS, FLOWS);
            }
        })),
        _ => drop(message.native(TCA_OPTIONS, shape.backlog())),
    })
}

/// The delay that a fair queue tolerates, in microseconds: at low rates one frame takes longer than the default.
fn target(shape: &Shape) -> u32 {
    let frame = 1514 * 1_500_000 / u64::from(shape.rate.max(1));
    u32::try_from(frame).unwrap_or(u32::MAX).max(TARGET)
}

fn remove(socket: &mut Socket, index: u32) -> Result<(), Failure> {
    let body = message(index, BUCKET, ROOT).finish();
    match socket.execute(libc::RTM_DELQDISC, 0, &body) {
        // The root has another queue, or the one without a handle that the kernel does not remove.
        Err(failure) if matches!(failure.errno(), Some(libc::ENOENT | libc::EINVAL)) => Ok(()),
        result => result,
    }
}

fn queue(index: u32, handle: u32, parent: u32, kind: &str, fill: impl FnOnce(&mut Writer)) -> Request {
    let mut body = message(index, handle, parent);
    body.text(TCA_KIND, kind);
    fill(&mut body);
    Request { kind: libc::RTM_NEWQDISC, flags: CREATE | REPLACE, body: body.finish() }
}

/// `struct tcmsg`.
fn message(index: u32, handle: u32, parent: u32) -> Writer {
    let words = [0, index, handle, parent, 0].map(u32::to_ne_bytes);
    Writer::with_header(&words.concat())
}

/// `struct tc_tbf_qopt`: the rate, no peak rate, the bytes that may wait, the size of the bucket.
fn parameters(shape: &Shape) -> Vec<u8> {
    // `struct tc_ratespec`: cell_log, linklayer, overhead, cell_align, mpu, rate.
    let rate = [&[0, ETHERNET, 0, 0, 0, 0, 0, 0], &shape.rate.to_ne_bytes()[..]].concat();
    let rest = [shape.backlog(), shape.ticks, 0].map(u32::to_ne_bytes).concat();
    [rate, vec![0; 12], rest].concat()
}

/// Reads `struct tc_tbf_qopt`.
fn parse_parameters(bytes: &[u8]) -> Option<Shape> {
    Some(Shape { rate: bytes.get(8..).and_then(native32)?, ticks: bytes.get(28..).and_then(native32)? })
}

/// One queue.
struct Queue {
    index: u32,
    handle: u32,
    parent: u32,
    shape: Option<Shape>,
}

fn parse(payload: &[u8]) -> Option<Queue> {
    let number = |at: usize| payload.get(at..).and_then(native32);
    let attributes = Attributes::after(payload, HEADER);
    let kind = attributes.find(TCA_KIND).and_then(text)?;
    let options = attributes.find(TCA_OPTIONS).filter(|_| kind == KIND);
    let shape = options.and_then(|options| Attributes::new(options).find(TCA_TBF_PARMS)).and_then(parse_parameters);
    Some(Queue { index: number(4)?, handle: number(8)?, parent: number(12)?, shape })
}

/// The link whose queue a notification is about, if the queue is one of Pontoon's.
pub fn parse_index(payload: &[u8]) -> Option<u32> {
    parse(payload).filter(|queue| matches!(queue.handle, BUCKET | INNER)).map(|queue| queue.index)
}

/// The limits of all links, by index. One whose inner queue is missing drops everything and is left out.
pub fn list(socket: &mut Socket) -> Result<BTreeMap<u32, Shape>, Failure> {
    let all = socket.list(libc::RTM_GETQDISC, &message(0, 0, 0).finish(), |_, payload| parse(payload))?;
    let whole = |queue: &&Queue| queue.handle == INNER && queue.parent == BUCKET | 1;
    let whole: BTreeSet<u32> = all.iter().filter(whole).map(|queue| queue.index).collect();
    let roots =
        all.iter().filter(|queue| queue.handle == BUCKET && queue.parent == ROOT && whole.contains(&queue.index));
    Ok(roots.filter_map(|queue| Some((queue.index, queue.shape?))).collect())
}

/// Probes token bucket queues on a link.
///
/// # Errors
/// `ENOENT` when the kernel has none.
pub fn offered(socket: &mut Socket, index: u32) -> Result<(), Failure> {
    set(socket, index, &SAMPLE, BOUNDED).map_err(|(_, failure)| failure)
}

/// Probes fair queues on a link with a token bucket queue.
///
/// # Errors
/// `ENOENT` when the kernel has none.
pub fn offered_fair(socket: &mut Socket, index: u32) -> Result<(), Failure> {
    offered(socket, index)?;
    // Another kind takes the place of the bounded queue only under another handle.
    execute(socket, &queue(index, 0, BUCKET | 1, FAIR, |_| {}))
}

const SAMPLE: Shape = Shape { rate: 1_000_000, ticks: 250_000 };

/// The commands that limit what a link sends, or remove the limit.
pub fn commands(name: &IfName, shape: Option<&Shape>) -> Vec<String> {
    let link = word(name);
    let Some(shape) = shape else {
        return vec![format!("! tc qdisc show dev {link} | grep -qF ' 706e: root' || tc qdisc del dev {link} root")];
    };
    let (rate, burst, backlog, target) = (u64::from(shape.rate) * 8, shape.burst(), shape.backlog(), target(shape));
    let fair =
        format!("tc qdisc replace dev {link} parent 706e:1 handle 706f: {FAIR} limit {PACKETS} target {target}us");
    let bounded = format!("tc qdisc replace dev {link} parent 706e:1 handle 706f: {BOUNDED} limit {backlog}");
    vec![
        format!("tc qdisc replace dev {link} root handle 706e: {KIND} rate {rate}bit burst {burst}b limit {backlog}b"),
        format!("{fair} || {bounded}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_reads_back_and_others_are_none() {
        let shape = Shape { rate: 1_250_000, ticks: 204_801 };
        let body = queue(7, BUCKET, ROOT, KIND, |message| {
            message.nest(TCA_OPTIONS, |options| {
                options.bytes(TCA_TBF_PARMS, &parameters(&shape));
            });
        });
        let read = parse(&body.body).unwrap();
        assert_eq!((read.index, read.handle, read.parent, read.shape), (7, BUCKET, ROOT, Some(shape)));
        assert_eq!(parse_index(&body.body), Some(7));
        assert_eq!(parse_index(&below(8, &shape, FAIR, true).body), Some(8));
        assert_eq!(parse_index(&queue(7, 1 << 16, ROOT, KIND, |_| {}).body), None, "of another program");
        for end in 0..body.body.len() {
            let _ = parse(&body.body[..end]);
        }
    }

    #[test]
    fn a_slow_link_has_a_target_above_the_time_of_a_frame() {
        assert_eq!(target(&Shape { rate: 1_250_000, ticks: 0 }), TARGET);
        assert_eq!(target(&Shape { rate: 125_000, ticks: 0 }), 18_168);
    }
}
