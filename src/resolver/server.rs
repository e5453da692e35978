//! Asks name servers. Each query has a socket of its own with a random port, connected to the server, and a random id:
//! an answer counts only from that server, to that port, with that id and to that question.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use dns::Answer;
use dns::query::Query;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::query::Stream;
use super::{Resolver, at, read, write};

/// How long one name server may take.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Longest answer by UDP that is read, in bytes: more than is asked for.
const LONGEST: usize = 4096;

/// Codes with which a server says that it does not know (RFC 1035, 4.1.1): another one may.
const FAILED: [u8; 2] = [2, 5];

/// The first usable answer of these servers, one after another, or the failure of one of them.
pub(super) async fn ask(
    resolver: &Resolver,
    servers: &[IpAddr],
    query: &Query,
    stream: Stream,
) -> Option<(Vec<u8>, Answer)> {
    let mut failure = None;
    for server in servers {
        let id = resolver.random();
        let asked = match stream {
            Stream::Datagrams => timeout(PATIENCE, by_udp(*server, query, id)).await,
            Stream::Connection => timeout(PATIENCE, by_tcp(*server, query, id)).await,
        };
        match asked {
            Ok(Ok(answer)) if FAILED.contains(&answer.1.code) => failure = Some(answer),
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "cannot ask the name server"),
            Err(_) => tracing::debug!(%server, "no answer from the name server in time"),
        }
    }
    failure
}

async fn by_udp(server: IpAddr, query: &Query, id: u16) -> std::io::Result<(Vec<u8>, Answer)> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(at(server)).await?;
    socket.send(&query.ask(id)).await?;
    let mut buffer = vec![0; LONGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let message = buffer.get(..length).unwrap_or_default();
        // Anything else is forged, or late.
        if let Some(answer) = Answer::read(message, id, &query.question) {
            return Ok((message.to_vec(), answer));
        }
    }
}

async fn by_tcp(server: IpAddr, query: &Query, id: u16) -> std::io::Result<(Vec<u8>, Answer)> {
    let mut stream = TcpStream::connect(at(server)).await?;
    write(&mut stream, &query.ask(id)).await?;
    let message = read(&mut stream).await?;
    let answer = Answer::read(&message, id, &query.question).ok_or(std::io::ErrorKind::InvalidData)?;
    Ok((message, answer))
}
