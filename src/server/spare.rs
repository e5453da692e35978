//! Owns descriptors that are kept for the next connection: what it needs is there when it comes, or
//! it is not accepted yet, and waits in the socket's queue. So nobody is refused or reset when this
//! process may open no more; see `crowd` for who has to leave then.

use std::os::fd::{AsFd, OwnedFd};

/// What a connection takes: the two ends that share its socket, and its event loop's.
const NEEDED: usize = 8;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Spare(Vec<OwnedFd>);

impl Spare {
    /// Opens what is missing, as copies of any descriptor; false when there are too few.
    pub fn fill(&mut self, any: &impl AsFd) -> bool {
        while self.0.len() < NEEDED {
            match any.as_fd().try_clone_to_owned() {
                Ok(copy) => self.0.push(copy),
                Err(_) => return false,
            }
        }
        true
    }

    /// Gives them to the connection that has just come.
    pub fn free(&mut self) {
        self.0.clear();
    }
}
