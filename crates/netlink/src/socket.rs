//! A synchronous netlink socket.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, getsockname, send};

use crate::descriptor::{Protocol, make_room, netns_cookie, open_fd, receive};
use crate::frame::{ERROR, Frames, HEADER, Listing, Progress, Verdict, verdict};

/// How long one request may take, from sending to its last answer. The kernel processes a request within `send`,
/// and may wait there for its own locks without a limit.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// How often an interrupted listing is retried before it counts as torn.
pub const TRIES: u32 = 5;

/// First size of the receive buffer in bytes; a dump fills at most 32 KiB (net/netlink/af_netlink.c).
const BUFFER: usize = 64 * 1024;

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x4;
/// `NLM_F_REPLACE`.
pub const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
pub const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub const APPEND: u16 = 0x800;
/// `NLM_F_DUMP`.
const DUMP: u16 = 0x300;

/// The ports of sockets that share this value, by which a watcher recognises the notifications
/// that their requests caused.
#[derive(Debug, Default)]
pub struct OwnPorts(Mutex<BTreeSet<u32>>);

impl OwnPorts {
    /// Whether a request from one of these sockets caused a notification with this port.
    pub fn contains(&self, port: u32) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&port)
    }

    fn insert(&self, port: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
    }
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The kernel refused.
    Refused(Verdict),
    /// No answer within [`DEADLINE`].
    Timeout,
    /// A listing was interrupted [`TRIES`] times.
    Torn,
    /// Not in the documented format.
    Malformed(&'static str),
}

impl Failure {
    /// The error number, when the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Failure::Refused(verdict) => Some(verdict.errno),
            _ => None,
        }
    }

    /// A refusal with the caller's own message.
    pub fn refused(errno: i32, message: &str) -> Self {
        Failure::Refused(Verdict { errno, message: message.to_owned() })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(Verdict { errno, message }) if message.is_empty() => {
                write!(f, "{}", Errno::from_raw(*errno).desc())
            }
            Failure::Refused(Verdict { errno, message }) => {
                write!(f, "{} ({message})", Errno::from_raw(*errno).desc())
            }
            Failure::Timeout => write!(f, "no answer within {} s", DEADLINE.as_secs()),
            Failure::Torn => write!(f, "the listing was interrupted by changes {TRIES} times"),
            Failure::Malformed(what) => write!(f, "malformed answer ({what})"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Failure::refused(errno as i32, "")
    }
}

/// One message to send.
#[derive(Debug, Clone)]
pub struct Request {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags` besides `NLM_F_REQUEST`.
    pub flags: u16,
    /// Fixed header and attributes.
    pub body: Vec<u8>,
}

/// A long-lived socket. Bound to the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    protocol: Protocol,
    ports: Arc<OwnPorts>,
    sequence: u32,
    buffer: Vec<u8>,
    /// The last request ended without its answer, which may still arrive.
    suspect: bool,
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread and records its port.
    ///
    /// # Errors
    /// The first system call that failed.
    pub fn open(protocol: Protocol, ports: Arc<OwnPorts>) -> Result<Self, Failure> {
        let fd = open_fd(protocol, &[])?;
        ports.insert(getsockname::<NetlinkAddr>(fd.as_raw_fd())?.pid());
        Ok(Self { fd, protocol, ports, sequence: 0, buffer: vec![0; BUFFER], suspect: false })
    }

    /// Sends one request and waits until the kernel has carried it out.
    pub fn execute(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<(), Failure> {
        self.execute_all(&[Request { kind, flags, body: body.to_vec() }]).map_err(|(_, failure)| failure)
    }

    /// Sends several requests at once and waits for all. The kernel also carries out the requests after a failed
    /// one.
    ///
    /// # Errors
    /// The first failure, and the index of its request; 0 also when it belongs to none of them.
    pub fn execute_all(&mut self, requests: &[Request]) -> Result<(), (usize, Failure)> {
        let mut failure = None;
        let result = self.execute_each(requests, &mut failure);
        match (result, failure) {
            (Err(failure), _) => Err((0, lost(failure))),
            (Ok(()), Some((index, verdict))) => Err((index, Failure::Refused(verdict))),
            (Ok(()), None) => Ok(()),
        }
    }

    fn execute_each(&mut self, requests: &[Request], failure: &mut Option<(usize, Verdict)>) -> Result<(), Failure> {
        let deadline = self.begin()?;
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(512);
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            frame(&mut datagram, request, REQUEST | ACK, self.sequence);
        }
        self.suspect = true;
        send(self.fd.as_raw_fd(), &datagram, MsgFlags::empty())?;
        let mut outstanding = requests.len();
        while outstanding > 0 {
            let datagram = receive(&self.fd, &mut self.buffer, deadline)?;
            for frame in Frames::new(datagram) {
                let index = frame.sequence.wrapping_sub(first) as usize;
                if frame.kind != ERROR || index >= requests.len() {
                    continue;
                }
                let verdict = verdict(&frame).ok_or(Failure::Malformed("short acknowledgement"))?;
                outstanding = outstanding.saturating_sub(1);
                if verdict.errno != 0 && failure.as_ref().is_none_or(|(at, _)| index < *at) {
                    *failure = Some((index, verdict));
                }
            }
        }
        self.suspect = false;
        Ok(())
    }

    /// Sends one request and returns the payload of its one answer.
    pub fn get(&mut self, kind: u16, body: &[u8]) -> Result<Vec<u8>, Failure> {
        for _ in 0..TRIES {
            match self.get_once(kind, body) {
                Err(Failure::Torn) => continue,
                result => return result,
            }
        }
        Err(Failure::Torn)
    }

    fn get_once(&mut self, kind: u16, body: &[u8]) -> Result<Vec<u8>, Failure> {
        let deadline = self.begin()?;
        let sequence = self.dispatch(kind, 0, body)?;
        loop {
            let datagram = receive(&self.fd, &mut self.buffer, deadline)?;
            let Some(frame) = Frames::new(datagram).find(|f| f.sequence == sequence) else { continue };
            self.suspect = false;
            if frame.kind != ERROR {
                return Ok(frame.payload.to_vec());
            }
            return match verdict(&frame) {
                Some(v) if v.errno != 0 => Err(Failure::Refused(v)),
                _ => Err(Failure::Malformed("an acknowledgement instead of an answer")),
            };
        }
    }

    /// Sends one request with several answers and returns the payloads of all of them.
    pub fn query(&mut self, kind: u16, body: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        retry_torn(|| {
            let deadline = self.begin()?;
            let sequence = self.dispatch(kind, ACK, body)?;
            let mut answers = Vec::new();
            loop {
                let datagram = receive(&self.fd, &mut self.buffer, deadline)?;
                for frame in Frames::new(datagram).filter(|f| f.sequence == sequence) {
                    if frame.kind != ERROR {
                        answers.push(frame.payload.to_vec());
                        continue;
                    }
                    self.suspect = false;
                    return match verdict(&frame) {
                        Some(v) if v.errno == 0 => Ok(answers),
                        Some(v) => Err(Failure::Refused(v)),
                        None => Err(Failure::Malformed("short acknowledgement")),
                    };
                }
            }
        })
    }

    /// Lists: passes every item to `decode`, which may leave it out. Retried when the kernel state changed
    /// meanwhile, so `decode` may see an item more than once; the result never mixes two attempts.
    ///
    /// # Errors
    /// [`Failure::Torn`] after [`TRIES`] interrupted listings.
    pub fn list<T>(
        &mut self,
        kind: u16,
        body: &[u8],
        decode: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Failure> {
        retry_torn(|| self.list_once(kind, body, &decode))
    }

    fn list_once<T>(
        &mut self,
        kind: u16,
        body: &[u8],
        decode: &impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Failure> {
        let deadline = self.begin()?;
        let sequence = self.dispatch(kind, DUMP, body)?;
        let mut items = Vec::new();
        let mut listing = Listing::new(sequence);
        loop {
            let datagram = receive(&self.fd, &mut self.buffer, deadline)?;
            match listing.feed(datagram, &mut |kind, payload| items.extend(decode(kind, payload))) {
                Progress::More => {}
                Progress::Malformed(what) => return Err(Failure::Malformed(what)),
                Progress::Refused(verdict) => {
                    self.suspect = false;
                    return Err(Failure::Refused(verdict));
                }
                Progress::Complete { torn } => {
                    self.suspect = false;
                    return if torn { Err(Failure::Torn) } else { Ok(items) };
                }
            }
        }
    }

    /// Sends nf_tables messages as one transaction between `begin` and `end` and waits for the outcome: all of
    /// them are applied, or none and the first error is returned (net/netfilter/nfnetlink.c).
    pub fn transact(&mut self, begin: &Request, messages: &[Request], end: &Request) -> Result<(), Failure> {
        self.transact_once(begin, messages, end).map_err(lost)
    }

    fn transact_once(&mut self, begin: &Request, messages: &[Request], end: &Request) -> Result<(), Failure> {
        let deadline = self.begin()?;
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(4096);
        // Only the last message is acknowledged: one answer for a transaction of any length.
        let last = messages.len();
        for (index, request) in std::iter::once(begin).chain(messages).chain([end]).enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            frame(&mut datagram, request, if index == last { REQUEST | ACK } else { REQUEST }, self.sequence);
        }
        self.suspect = true;
        make_room(&self.fd, datagram.len());
        send(self.fd.as_raw_fd(), &datagram, MsgFlags::empty())?;
        let mut failure: Option<(u32, Verdict)> = None;
        loop {
            let datagram = receive(&self.fd, &mut self.buffer, deadline)?;
            for frame in Frames::new(datagram).filter(|f| f.kind == ERROR) {
                let index = frame.sequence.wrapping_sub(first);
                if index as usize > last + 1 {
                    continue;
                }
                let verdict = verdict(&frame).ok_or(Failure::Malformed("short acknowledgement"))?;
                let whole = index == 0;
                let is_last = index as usize == last;
                if verdict.errno != 0 && failure.as_ref().is_none_or(|(at, _)| index < *at) {
                    failure = Some((index, verdict));
                }
                // An error of the opening message applies to the transaction as a whole.
                if whole || is_last {
                    self.suspect = false;
                    return failure.map_or(Ok(()), |(_, verdict)| Err(Failure::Refused(verdict)));
                }
            }
        }
    }

    fn dispatch(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<u32, Failure> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(HEADER + body.len());
        frame(&mut datagram, &Request { kind, flags, body: body.to_vec() }, REQUEST, self.sequence);
        self.suspect = true;
        send(self.fd.as_raw_fd(), &datagram, MsgFlags::empty())?;
        Ok(self.sequence)
    }

    /// Replaces the socket if the last request ended without its answer; returns the new deadline.
    fn begin(&mut self) -> Result<Instant, Failure> {
        if self.suspect {
            self.reopen()?;
        }
        Ok(Instant::now() + DEADLINE)
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        let fresh = open_fd(self.protocol, &[])?;
        // A new socket belongs to the namespace of the calling thread. If that is the namespace of the old
        // socket, it replaces the old one; otherwise the old one must do: sequence numbers distinguish stale
        // answers.
        if netns_cookie(&fresh) == netns_cookie(&self.fd) {
            self.ports.insert(getsockname::<NetlinkAddr>(fresh.as_raw_fd())?.pid());
            self.fd = fresh;
        }
        self.suspect = false;
        Ok(())
    }
}

/// A change whose answer was dropped is not a torn listing: it may have taken effect. A caller with idempotent
/// changes may retry.
fn lost(failure: Failure) -> Failure {
    match failure {
        Failure::Torn => Failure::refused(libc::ENOBUFS, "the kernel's answer was lost"),
        other => other,
    }
}

/// Retries a listing until it is not torn, with at most [`TRIES`] attempts.
pub fn retry_torn<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 0..TRIES {
        match attempt() {
            Err(Failure::Torn) => {}
            result => return result,
        }
    }
    Err(Failure::Torn)
}

fn frame(datagram: &mut Vec<u8>, request: &Request, flags: u16, sequence: u32) {
    datagram.extend_from_slice(&((HEADER + request.body.len()) as u32).to_ne_bytes());
    datagram.extend_from_slice(&request.kind.to_ne_bytes());
    datagram.extend_from_slice(&(request.flags | flags).to_ne_bytes());
    datagram.extend_from_slice(&sequence.to_ne_bytes());
    datagram.extend_from_slice(&0u32.to_ne_bytes());
    datagram.extend_from_slice(&request.body);
    datagram.resize(datagram.len().next_multiple_of(4), 0);
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
