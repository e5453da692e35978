use super::*;
use crate::tlv::native32;

/// `ifi_index` of a link's message.
fn index(payload: &[u8]) -> Option<u32> {
    native32(payload.get(4..)?)
}

#[test]
fn a_torn_listing_is_retried_and_never_returned() {
    let mut answers = vec![Ok(3), Err(Failure::Torn), Err(Failure::Torn)];
    assert_eq!(retry_torn(|| answers.pop().unwrap()), Ok(3));
    let mut tries = 0;
    let torn: Result<(), _> = retry_torn(|| {
        tries += 1;
        Err(Failure::Torn)
    });
    assert_eq!((torn, tries), (Err(Failure::Torn), TRIES));
    let refused: Result<(), _> = retry_torn(|| Err(Failure::Timeout));
    assert_eq!(refused, Err(Failure::Timeout));
}

#[test]
fn a_stale_answer_is_skipped_and_a_lost_one_replaces_the_socket() {
    let ports = Arc::new(OwnPorts::default());
    let mut socket = Socket::open(Protocol::Route, ports.clone()).unwrap();
    let loopback = [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // A stale answer, as after a timeout, and a socket that could not be replaced.
    socket.dispatch(libc::RTM_GETLINK, 0, &[0; 16]).unwrap();
    socket.suspect = false;
    let answer = socket.get(libc::RTM_GETLINK, &loopback).unwrap();
    assert_eq!(index(&answer), Some(1));
    let before = socket.fd.as_raw_fd();
    socket.dispatch(libc::RTM_GETLINK, DUMP, &[0; 16]).unwrap();
    let links = socket.list(libc::RTM_GETLINK, &[0; 16], |_, payload| index(payload));
    assert!(links.unwrap().contains(&1));
    assert_ne!(socket.fd.as_raw_fd(), before);
    assert!(ports.contains(getsockname::<NetlinkAddr>(socket.fd.as_raw_fd()).unwrap().pid()));
}
