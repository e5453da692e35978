//! What the client has, tells and sends.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::Time;
use crate::frame::Destination;
use crate::lease::{FOR_EVER, Lease};
use crate::message::Message;

/// What a server knows a client by, and what the client wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Its hardware address.
    pub hardware: [u8; 6],
    /// Its client identifier (option 61).
    pub client_id: Vec<u8>,
    /// Its name (option 12).
    pub hostname: Option<String>,
    /// Its vendor class (option 60).
    pub vendor: String,
    /// The only servers that it listens to; all of them if there are none.
    pub servers: Vec<Ipv4Addr>,
}

/// A lease and when it was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The lease.
    #[serde(flatten)]
    pub lease: Lease,
    /// When the request that it answers was sent.
    pub granted: Time,
    /// The hardware address from which the server's answer came.
    pub hardware: [u8; 6],
}

impl Held {
    fn after(&self, seconds: u32) -> Time {
        if self.lease.duration == FOR_EVER { Time::MAX } else { self.granted + Time::from(seconds) * 1000 }
    }

    /// When it ends.
    pub fn expires(&self) -> Time {
        self.after(self.lease.duration)
    }

    /// When it is to be renewed with any server.
    pub fn rebinds(&self) -> Time {
        self.after(self.lease.rebinding)
    }

    /// When it is to be renewed.
    pub fn renews(&self) -> Time {
        self.after(self.lease.renewal)
    }
}

/// Something that the caller may have to record or report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A server granted or renewed the lease.
    Granted,
    /// A server refused the address, and why if it says so.
    Refused {
        /// The server.
        server: Ipv4Addr,
        /// Its words.
        text: Option<String>,
    },
    /// The lease ended without an answer.
    Expired,
}

/// What a step of the client yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A message to send.
    Send(Box<Message>, Destination),
    /// See [`Notice`].
    Notice(Notice),
}

/// What was seen on the network since the client last had a lease, for a message to the user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Messages sent.
    pub sent: u32,
    /// Servers that offered an address.
    pub offers: BTreeSet<Ipv4Addr>,
    /// Servers that answered and are not among those that the client listens to.
    pub ignored: BTreeSet<Ipv4Addr>,
    /// The last refusal.
    pub refusal: Option<(Ipv4Addr, Option<String>)>,
    /// The address that it declined because another host has it.
    pub declined: Option<Ipv4Addr>,
}

/// What a waiting client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// To have its remembered address confirmed.
    Reboot,
    /// To ask for any address.
    Discover,
}
