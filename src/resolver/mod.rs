//! Answers the DNS queries of containers whose egress list has names. The kernel redirects them to [`NAMES_PORT`] of
//! this host; only the names of the list are looked up, and their addresses are reachable before the answer is passed on.
//!
//! A thread with a runtime of its own, so that no request of the engine waits for a name server, and no query for a
//! request. It opens no socket before there is such a container. Everything is bounded: queries at the same time, of one
//! container and of all, the size of messages, and how long a name server or a client may take.
//!
//! Name servers are those that the engine was told for the container, or the host's: never those that the container
//! chooses, because that server would choose the addresses.

mod query;
mod server;
mod socket;

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::datapath::access::NAMES_PORT;
use crate::driver::Driver;
use crate::driver::names::{Named, Pending};
use query::Stream;

/// Most queries and connections at the same time, of all containers.
const MOST_QUERIES: usize = 512;

/// Longest query by UDP that is read, in bytes.
const LONGEST_QUERY: usize = 4096;

/// How long a connection may be silent, and how long the client may take to receive an answer.
const IDLE: Duration = Duration::from_secs(10);

/// How long until the port is tried again when another program has it.
const AGAIN: Duration = Duration::from_secs(5);

/// What all queries use.
struct Resolver {
    driver: Arc<Driver>,
    free: Arc<Semaphore>,
    random: RandomState,
    asked: AtomicU64,
}

/// Starts the thread; it begins to answer with the first value from `due`, and ends with the sender.
///
/// # Errors
/// The system's error when it cannot start a thread.
pub fn start(driver: Arc<Driver>, mut due: UnboundedReceiver<()>) -> std::io::Result<JoinHandle<()>> {
    let run = move || {
        if due.blocking_recv().is_none() {
            return;
        }
        let ended = async { while due.recv().await.is_some() {} };
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(async {
                tokio::select! {
                    () = Arc::new(Resolver::new(driver)).serve() => {}
                    () = ended => {}
                }
            }),
            Err(error) => tracing::error!(%error, "cannot answer DNS queries of containers: no runtime"),
        }
    };
    std::thread::Builder::new().name("resolver".to_owned()).spawn(run)
}

impl Resolver {
    fn new(driver: Arc<Driver>) -> Self {
        let (free, random) = (Arc::new(Semaphore::new(MOST_QUERIES)), RandomState::new());
        Self { driver, free, random, asked: AtomicU64::new(0) }
    }

    /// A number that containers cannot predict.
    fn random(&self) -> u16 {
        self.random.hash_one(self.asked.fetch_add(1, Ordering::Relaxed)) as u16
    }

    /// Opens the port; while another program has it, tries again and again.
    async fn serve(self: Arc<Self>) {
        loop {
            match open() {
                Ok((datagrams, listener)) => {
                    self.driver.set_names_failure(None);
                    let connections = Arc::clone(&self).serve_connections(listener);
                    tokio::join!(Arc::clone(&self).serve_datagrams(Arc::new(datagrams)), connections);
                }
                Err(error) => {
                    if self.driver.names_failure().is_none() {
                        tracing::error!(port = NAMES_PORT, %error, "cannot answer DNS queries of containers, which look up no names until it can: stop the program that uses the port");
                    }
                    self.driver.set_names_failure(Some(error.to_string()));
                }
            }
            sleep(AGAIN).await;
        }
    }

    async fn serve_datagrams(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; LONGEST_QUERY];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                // An error of the system, such as a lack of memory, does not end by itself at once.
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            let Some(named) = self.driver.named(from.ip().to_canonical()) else { continue };
            // Not even refused: a flood must not keep others waiting.
            if !named.is_in_time() {
                self.limited();
                continue;
            }
            let message = buffer.get(..length).unwrap_or_default().to_vec();
            let (resolver, socket, admitted) = (Arc::clone(&self), Arc::clone(&socket), self.admit(&named));
            let Some(admitted) = admitted else {
                if let Some(answer) = query::overloaded(&message) {
                    let _ = socket.send_to(&answer, from).await;
                }
                continue;
            };
            tokio::spawn(async move {
                if let Some(answer) = resolver.answer(&named, &message, Stream::Datagrams).await {
                    let _ = socket.send_to(&answer, from).await;
                }
                drop(admitted);
            });
        }
    }

    async fn serve_connections(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            if let Some(named) = self.driver.named(from.ip().to_canonical())
                && let Some(admitted) = self.admit(&named)
            {
                let resolver = Arc::clone(&self);
                tokio::spawn(async move {
                    let _ = resolver.serve_connection(&named, stream).await;
                    drop(admitted);
                });
            }
        }
    }

    /// Answers one query after another until the client ends or is silent.
    async fn serve_connection(&self, named: &Arc<Named>, mut stream: TcpStream) -> std::io::Result<()> {
        loop {
            let message = timeout(IDLE, read(&mut stream)).await??;
            if !named.is_in_time() {
                self.limited();
                return Ok(());
            }
            let Some(answer) = self.answer(named, &message, Stream::Connection).await else { return Ok(()) };
            timeout(IDLE, write(&mut stream, &answer)).await??;
        }
    }

    /// Begins a query or a connection; `None` if there are too many.
    fn admit(&self, named: &Arc<Named>) -> Option<(OwnedSemaphorePermit, Pending)> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok();
        let admitted = permit.and_then(|permit| Some((permit, named.begin()?)));
        if admitted.is_none() {
            self.limited();
        }
        admitted
    }

    fn limited(&self) {
        self.driver.name_counts().limited.fetch_add(1, Ordering::Relaxed);
    }
}

/// Opens the port for datagrams and connections.
fn open() -> std::io::Result<(UdpSocket, TcpListener)> {
    let (datagrams, listener) = (socket::udp(NAMES_PORT)?, socket::tcp(NAMES_PORT)?);
    Ok((UdpSocket::from_std(datagrams)?, TcpListener::from_std(listener)?))
}

/// A message of a connection, behind its length.
async fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| std::io::ErrorKind::InvalidData)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    stream.write_all(&bytes).await
}

/// Where a name server answers.
fn at(server: std::net::IpAddr) -> SocketAddr {
    SocketAddr::new(server, dns::PORT)
}
