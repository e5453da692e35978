//! The errors of the kernel, with the object that a request was about.

use std::time::Duration;

use super::BRIDGE_PORTS;
use crate::model::HostPort;
/// Why a kernel operation failed. Each message is one line: operation, object, cause.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KernelError {
    /// The kernel answered with an error number.
    #[error("{operation} {object}: {}{}", describe(*.errno), detail(.message))]
    Refused {
        /// The operation, named as for [`super::Step`].
        operation: &'static str,
        /// The link, address, set or chain.
        object: String,
        /// The error number.
        errno: i32,
        /// The kernel's own message (extended acknowledgement), or empty.
        message: String,
    },
    /// No reply within the deadline; the request may still take effect.
    #[error("{operation} {object}: the kernel did not answer within {} s", .after.as_secs())]
    Timeout {
        /// The operation.
        operation: &'static str,
        /// The object.
        object: String,
        /// The deadline.
        after: Duration,
    },
    /// Several dumps in a row were interrupted by changes of the kernel's tables; no conclusion may be drawn
    /// from them.
    #[error("{operation}: the listing was interrupted by changes {tries} times")]
    Torn {
        /// What was dumped.
        operation: &'static str,
        /// How many dumps were tried.
        tries: u32,
    },
    /// The reply did not have the form that the kernel documents.
    #[error("{operation}: malformed answer from the kernel ({what})")]
    Malformed {
        /// The operation.
        operation: &'static str,
        /// What was wrong with the reply.
        what: String,
    },
}

impl KernelError {
    /// The error number, when the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            KernelError::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

fn describe(errno: i32) -> String {
    match errno {
        libc::EPERM => "not permitted (CAP_NET_ADMIN is missing)".to_owned(),
        libc::EXFULL => format!("the bridge is full: a Linux bridge takes {BRIDGE_PORTS} ports"),
        _ => std::io::Error::from_raw_os_error(errno).to_string(),
    }
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

/// Why a port of the host cannot be reserved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReserveError {
    /// Another socket is bound to it.
    #[error("port {port} is already in use on this host")]
    Taken {
        /// The port.
        port: HostPort,
    },
    /// The host has no such address.
    #[error("{}: this host does not have the address {}", .port, .port.address)]
    NoAddress {
        /// The port.
        port: HostPort,
    },
    /// This process may not open any more files.
    #[error("port {port} is not reserved: the limit of open files, {limit}, is reached")]
    NoDescriptor {
        /// The port.
        port: HostPort,
        /// The limit of open files.
        limit: u64,
    },
    /// The kernel refused for another reason.
    #[error("cannot reserve port {port}: {}", std::io::Error::from_raw_os_error(*.errno))]
    Refused {
        /// The port.
        port: HostPort,
        /// The error number.
        errno: i32,
    },
}
