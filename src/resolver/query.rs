//! One query of a container: whether its list has the name, what a name server says, and the admission of the addresses.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dns::Code;
use dns::answer::{for_client, refuse, refuse_unusable, truncated};
use dns::query::{Query, Received, receive};

use super::Resolver;
use super::server::ask;
use crate::driver::names::Named;

/// How a query came, and how its answer goes: a name server is asked in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// By UDP.
    Datagrams,
    /// By TCP.
    Connection,
}

/// Most name servers that are asked one after another.
const MOST_SERVERS: usize = 3;

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The answer to a query beyond the limit.
pub(super) fn overloaded(message: &[u8]) -> Option<Vec<u8>> {
    match receive(message) {
        Received::Query(query) => Some(refuse(&query, Code::ServerFailure)),
        _ => None,
    }
}

impl Resolver {
    /// The answer to a message of an endpoint; `None` if it is none that anybody answers.
    pub(super) async fn answer(&self, named: &Arc<Named>, message: &[u8], stream: Stream) -> Option<Vec<u8>> {
        let counts = self.driver.name_counts();
        match receive(message) {
            Received::Query(query) => Some(self.look_up(named, &query, stream).await),
            Received::Unusable(id, code) => {
                count(&counts.malformed);
                Some(refuse_unusable(id, code))
            }
            Received::Noise => {
                count(&counts.malformed);
                None
            }
        }
    }

    async fn look_up(&self, named: &Arc<Named>, query: &Query, stream: Stream) -> Vec<u8> {
        let counts = self.driver.name_counts();
        let (network, endpoint, name) = (&named.network, &named.endpoint, &query.question.name);
        let transports = named.transports(name);
        let servers = self.driver.name_servers(named);
        if servers.is_empty() {
            count(&counts.failed);
            tracing::debug!(%network, %endpoint, "no name server: neither the engine nor the host has one");
            return refuse(query, Code::ServerFailure);
        }
        let may_ask = |server: &IpAddr| transports.is_some() || named.may_ask(*server);
        let servers: Vec<IpAddr> = servers.into_iter().filter(may_ask).take(MOST_SERVERS).collect();
        if servers.is_empty() {
            count(&counts.refused);
            if named.is_news(name) {
                tracing::info!(%network, %endpoint, %name, "refused to look up a name that the egress list does not have");
            }
            return refuse(query, Code::Refused);
        }
        let Some((bytes, found)) = ask(self, &servers, query, stream).await else {
            count(&counts.failed);
            tracing::debug!(%network, %endpoint, %name, ?servers, "no answer from the name servers");
            return refuse(query, Code::ServerFailure);
        };
        if named.audited {
            self.driver.learn(named, name, &found.addresses);
        }
        // What is not admitted for an audited container is recorded, no more.
        if let Some(transports) = transports.filter(|_| !found.addresses.is_empty())
            && let Err(error) = self.driver.admit(named, name, &found.addresses, &transports)
            && !named.audited
        {
            count(&counts.failed);
            tracing::warn!(%network, %endpoint, %name, %error, "cannot make the addresses of a name reachable");
            return refuse(query, Code::ServerFailure);
        }
        count(&counts.answered);
        let bytes = for_client(bytes, query.id);
        if stream == Stream::Datagrams && bytes.len() > query.payload.into() { truncated(query) } else { bytes }
    }
}
