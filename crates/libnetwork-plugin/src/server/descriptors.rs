//! Descriptors reserved for the next connection. A connection is accepted only when all descriptors that it
//! needs can be opened, and waits in the socket's queue until then, so that no client is refused or reset when
//! the process is at its limit of open files.

use std::os::fd::{AsFd, OwnedFd};

/// Descriptors of a connection: the two ends that share its socket, and its event loop's; and one for accepting it.
const NEEDED: usize = 9;

/// The reserve.
#[derive(Debug, Default)]
pub(super) struct DescriptorReserve(Vec<OwnedFd>);

impl DescriptorReserve {
    /// Opens the missing ones, as duplicates of any descriptor; false if there are still too few.
    pub fn fill(&mut self, any: &impl AsFd) -> bool {
        while self.0.len() < NEEDED {
            match any.as_fd().try_clone_to_owned() {
                Ok(copy) => self.0.push(copy),
                Err(_) => return false,
            }
        }
        true
    }

    /// Frees the descriptor needed for accepting.
    pub fn spare(&mut self) {
        self.0.pop();
    }

    /// Frees all of them for the connection that was just accepted.
    pub fn release(&mut self) {
        self.0.clear();
    }
}
