//! Reads what tables contain.
//!
//! The kernel numbers every change of nf_tables: several listings are consistent if the number is the same before
//! and after them.

use netlink::tlv::{Attributes, big32, text};
use netlink::{Failure, Socket, retry_torn};

use crate::element::{Entry, parse_entries};
use crate::message::{ELEMENTS_SET, GET_ELEMENTS, GET_GENERATION, TABLE_NAME, attributes, body, wire};

/// The request that lists everything of one table.
pub fn query(family: u8, table: &str) -> Vec<u8> {
    let mut query = body(family);
    query.text(TABLE_NAME, table);
    query.finish()
}

/// The attributes of an object if it belongs to this table: not every kernel filters a listing.
pub fn object<'a>(payload: &'a [u8], family: u8, table: &str) -> Option<Attributes<'a>> {
    let object = attributes(payload);
    let in_table = payload.first() == Some(&family) && object.find(TABLE_NAME).and_then(text) == Some(table);
    in_table.then_some(object)
}

/// The entries of a set; none if it does not exist.
///
/// # Errors
/// The kernel's error.
pub fn entries(socket: &mut Socket, family: u8, table: &str, set: &str) -> Result<Vec<Entry>, Failure> {
    let mut query = body(family);
    query.text(TABLE_NAME, table).text(ELEMENTS_SET, set);
    let parts = socket.list(wire(GET_ELEMENTS), &query.finish(), |_, payload| Some(parse_entries(payload)));
    match parts {
        Ok(parts) => Ok(parts.into_iter().flatten().collect()),
        Err(failure) if failure.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
        Err(failure) => Err(failure),
    }
}

/// Repeats several listings until nothing changed between them.
///
/// # Errors
/// The error of `read`, and [`Failure::Torn`] when something changed every time.
pub fn consistent<T>(
    socket: &mut Socket,
    mut read: impl FnMut(&mut Socket) -> Result<T, Failure>,
) -> Result<T, Failure> {
    retry_torn(|| {
        let before = generation(socket)?;
        let read = read(socket)?;
        if generation(socket)? == before { Ok(read) } else { Err(Failure::Torn) }
    })
}

fn generation(socket: &mut Socket) -> Result<u32, Failure> {
    let payload = socket.get(wire(GET_GENERATION), &body(0).finish())?;
    attributes(&payload).find(1).and_then(big32).ok_or(Failure::Malformed("a generation without number"))
}
