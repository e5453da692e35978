//! Queries the name server that the engine provides in every container.
//!
//! Uses the calling thread's network namespace, where that server is. Called by the app for `pontoon vip`.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use super::Answers;
use super::message::{LARGEST, answer, question};

/// The address of the engine's name server in every container.
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 11), 53);

/// How long all answers together may take. The engine answers names that it knows at once; others it forwards,
/// and those answers are of no use here.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);

/// Maximum number of concurrent queries: more might overflow the receive buffer of the engine's socket.
const AT_ONCE: usize = 64;

/// Queries all of these names. Those without an answer in time are left out.
///
/// # Errors
/// A socket error.
pub fn ask<'a>(names: impl IntoIterator<Item = &'a String>) -> io::Result<Answers> {
    let names: Vec<&String> = names.into_iter().collect();
    let mut answers = Answers::new();
    if names.is_empty() {
        return Ok(answers);
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(SERVER)?;
    let end = Instant::now() + ANSWER_TIMEOUT;
    let mut buffer = vec![0; usize::from(LARGEST)];
    for names in names.chunks(AT_ONCE) {
        let mut waiting: Vec<Option<&String>> = names.iter().copied().map(Some).collect();
        for (id, name) in (0u16..).zip(&mut waiting) {
            match name.and_then(|name| question(id, name)) {
                Some(question) => drop(socket.send(&question)?),
                None => *name = None,
            }
        }
        while waiting.iter().any(Option::is_some) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(answers);
            }
            socket.set_read_timeout(Some(left))?;
            let len = match socket.recv(&mut buffer) {
                Ok(len) => len,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
                Err(error) => return Err(error),
            };
            let Some((id, said)) = buffer.get(..len).and_then(answer) else { continue };
            let name = waiting.get_mut(usize::from(id)).and_then(Option::take);
            if let (Some(name), Some(said)) = (name, said) {
                answers.insert(name.clone(), said);
            }
        }
    }
    Ok(answers)
}
