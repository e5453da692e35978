//! What clients send and what they hear, each in one frame.

use crate::advertisement::{self, Advertisement};
use crate::frame::{self, Destination};
use crate::message::Message;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// A message to DHCP servers.
    Dhcp4(Box<Message>, Destination),
    /// The question for advertisements of routers.
    Solicitation,
}

impl Outgoing {
    /// The frame, sent by the link with the hardware address `from`.
    pub fn frame(&self, from: [u8; 6]) -> Vec<u8> {
        match self {
            Self::Dhcp4(message, to) => frame::to_server(&message.encode(), from, *to),
            Self::Solicitation => advertisement::solicitation(from),
        }
    }
}

/// What a client hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A message of a DHCP server, and the hardware address that sent it.
    Dhcp4(Box<Message>, [u8; 6]),
    /// An advertisement of a router.
    Router(Box<Advertisement>),
}

impl Incoming {
    /// What is in a frame; `None` if that is for no client.
    pub fn of_frame(frame: &[u8]) -> Option<Self> {
        if let Some((message, from)) = frame::for_clients(frame) {
            return Some(Self::Dhcp4(Box::new(Message::decode(message)?), from));
        }
        Advertisement::of_frame(frame).map(|said| Self::Router(Box::new(said)))
    }
}
