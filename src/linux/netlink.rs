//! Netlink sockets of the crate `netlink`, and the conversion of their failures to errors of the kernel.

pub use ::netlink::{
    APPEND, CREATE, EXCLUSIVE, Failure, OwnPorts, Protocol, REPLACE, Request, Socket, open_fd, receive, retry_torn,
};
use ::netlink::{DEADLINE, TRIES};

use crate::datapath::KernelError;

/// Adds what a failed request was for.
pub trait Explain {
    /// The error for the caller: the operation and its object.
    fn of(self, operation: &'static str, object: &str) -> KernelError;
}

impl Explain for Failure {
    fn of(self, operation: &'static str, object: &str) -> KernelError {
        let object = object.to_owned();
        match self {
            Failure::Refused(verdict) => {
                KernelError::Refused { operation, object, errno: verdict.errno, message: verdict.message }
            }
            Failure::Timeout => KernelError::Timeout { operation, object, after: DEADLINE },
            Failure::Torn => KernelError::Torn { operation, tries: TRIES },
            Failure::Malformed(what) => KernelError::Malformed { operation, what: format!("{object}: {what}") },
        }
    }
}
