//! The lower bound: the kernel work of a request as bare netlink messages on an open socket, encoded by hand so that no
//! code of Pontoon is measured.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const EXCL: u16 = 0x200;
const CREATE: u16 = 0x400;

pub struct Raw {
    socket: OwnedFd,
    sequence: u32,
}

struct Message(Vec<u8>);

impl Message {
    fn link(kind: u16, flags: u16, index: i32, up: Option<bool>) -> Self {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(REQUEST | ACK | flags).to_ne_bytes());
        bytes.extend(ifinfo(index, up));
        Self(bytes)
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        let length = (4 + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let at = self.0.len();
        self.put(kind, &[]);
        fill(self);
        let length = (self.0.len() - at) as u16;
        self.0[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn name(&mut self, name: &str) {
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        self.put(3, &text);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }
}

fn ifinfo(index: i32, up: Option<bool>) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    if let Some(up) = up {
        bytes[8..12].copy_from_slice(&u32::from(up).to_ne_bytes());
        bytes[12..16].copy_from_slice(&1u32.to_ne_bytes());
    }
    bytes
}

pub fn index(name: &str) -> i32 {
    let name = std::ffi::CString::new(name).expect("no NUL");
    // SAFETY: the name is a valid C string for the duration of the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) as i32 }
}

impl Raw {
    pub fn open() -> Self {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
        assert!(fd >= 0, "a netlink socket");
        // SAFETY: the descriptor was just created and has no other owner.
        Self { socket: unsafe { OwnedFd::from_raw_fd(fd) }, sequence: 0 }
    }

    fn send(&mut self, message: Message) {
        let mut bytes = message.0;
        self.sequence += 1;
        let length = bytes.len() as u32;
        bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        let mut answer = [0u8; 4096];
        // SAFETY: both buffers are valid for the lengths given.
        let got = unsafe {
            libc::send(self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0);
            libc::recv(self.socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
        };
        assert!(got >= 20, "an answer");
        let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        assert_eq!(error, 0, "{}", std::io::Error::from_raw_os_error(-error));
    }

    pub fn bridge(&mut self, name: &str) -> i32 {
        let mut m = Message::link(RTM_NEWLINK, CREATE | EXCL, 0, Some(true));
        m.name(name);
        m.nest(18, |m| m.put(1, b"bridge"));
        self.send(m);
        index(name)
    }

    /// What CreateEndpoint creates: pair, MACs, MTUs, one queue a side, group, port of the bridge, up.
    pub fn create(&mut self, n: usize, bridge: i32) {
        let mac = |side: u8| [2, side, 0, 0, (n >> 8) as u8, n as u8];
        let ends = |m: &mut Message, name: String, side: u8| {
            m.name(&name);
            m.put(1, &mac(side));
            m.number(4, 1500);
            m.number(31, 1);
            m.number(32, 1);
        };
        let mut m = Message::link(RTM_NEWLINK, CREATE | EXCL, 0, Some(true));
        ends(&mut m, format!("fh{n}"), 1);
        m.number(27, 0x1234_0001);
        m.put(10, &bridge.to_ne_bytes());
        m.nest(18, |m| {
            m.put(1, b"veth");
            m.nest(2, |m| {
                m.nest(1, |m| {
                    m.0.extend(ifinfo(0, None));
                    ends(m, format!("fc{n}"), 2);
                });
            });
        });
        self.send(m);
    }

    /// Moves a container end into another namespace, as the engine does.
    pub fn give_away(&mut self, name: &str, namespace: &std::fs::File) {
        let mut m = Message::link(RTM_NEWLINK, 0, 0, None);
        m.name(name);
        m.put(28, &namespace.as_raw_fd().to_ne_bytes());
        self.send(m);
    }

    /// The part of a deletion that a request does at once: off the bridge, down, marked.
    pub fn retire(&mut self, n: usize) {
        let mut m = Message::link(RTM_NEWLINK, 0, 0, Some(false));
        m.name(&format!("fh{n}"));
        m.number(10, 0);
        m.number(27, 0x1234_0002);
        self.send(m);
    }

    /// The deferred part, for all marked links.
    pub fn delete_retired(&mut self) {
        let mut m = Message::link(RTM_DELLINK, 0, 0, None);
        m.number(27, 0x1234_0002);
        self.send(m);
    }
}
