//! Transactions: the kernel applies all messages of a batch, or none.

use netlink::{Failure, Request, Socket};

use crate::message::{BATCH_BEGIN, BATCH_END, SUBSYSTEM_ID};

/// The messages that open and close a batch.
pub fn bounds() -> (Request, Request) {
    let bound = |kind| Request { kind, flags: 0, body: vec![0, 0, 0, SUBSYSTEM_ID] };
    (bound(BATCH_BEGIN), bound(BATCH_END))
}

/// Executes messages as one transaction; none without messages.
///
/// # Errors
/// The kernel's error for the first message that it rejects; nothing has changed then.
pub fn commit(socket: &mut Socket, messages: &[Request]) -> Result<(), Failure> {
    if messages.is_empty() {
        return Ok(());
    }
    let (begin, end) = bounds();
    socket.transact(&begin, messages, &end)
}
