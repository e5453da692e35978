//! One request as the engine sends it, and its possible outcomes.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// The outcome of a round trip.
#[derive(Debug)]
pub enum Trip {
    /// An answer: 200 without an error in it.
    Answer(Value),
    /// An error answer; its message.
    Refused(String),
    /// No server listened: the request was never sent.
    Unsent,
    /// The connection broke after the request was sent.
    Broken,
}

/// Sends one request on its own connection.
pub fn post(socket: &Path, method: &str, body: &str) -> Trip {
    let Ok(mut stream) = UnixStream::connect(socket) else { return Trip::Unsent };
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "POST /{method} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n",
        body.len()
    );
    if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
        return Trip::Broken;
    }
    match read_reply(&mut stream) {
        Ok(Some((200, text))) => match serde_json::from_str::<Value>(&text) {
            Ok(json) => {
                let error = json.get("Err").or(json.get("Error")).and_then(Value::as_str).filter(|e| !e.is_empty());
                error.map(|e| Trip::Refused(e.to_owned())).unwrap_or(Trip::Answer(json))
            }
            Err(error) => panic!("{method}: the answer is no JSON: {error}: {text}"),
        },
        Ok(Some((status, text))) => Trip::Refused(format!("{status} {text}")),
        Ok(None) => Trip::Broken,
        Err(error) => {
            // The deadline of every request is 10 s; an engine would wait for ever.
            assert!(error.kind() != io::ErrorKind::WouldBlock, "{method}: no answer within 30 s");
            Trip::Broken
        }
    }
}

fn read_reply(stream: &mut UnixStream) -> io::Result<Option<(u16, String)>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(head) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            let status = text.split_whitespace().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
            let length = text.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            let body = &bytes[head + 4..];
            if let Some(length) = length
                && body.len() >= length
            {
                return Ok(Some((status, String::from_utf8_lossy(&body[..length]).into_owned())));
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(None),
            len => bytes.extend_from_slice(&buffer[..len]),
        }
    }
}
