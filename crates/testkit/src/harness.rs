//! Pontoon in the test's process: the real server on a real Unix socket, the real driver and ledger, and the fake
//! kernel. For tests of the plugin's methods, of restarts and of invalid input.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pontoon::datapath::Kernel;
use pontoon::datapath::fake::FakeKernel;
use pontoon::driver::{Driver, Event, Events, OverlaySettings, Settings};
use pontoon::metrics::Metrics;
use pontoon::server::{self, Service};
use pontoon::state::Ledger;
use serde_json::{Value, json};
use tokio::sync::watch;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A directory that is deleted with the value.
#[derive(Debug)]
pub struct Dir(pub PathBuf);

impl Default for Dir {
    fn default() -> Self {
        Self::new()
    }
}

impl Dir {
    /// A new directory in the directory for temporary files.
    pub fn new() -> Self {
        let name = format!("pontoon-harness-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One process of the daemon.
pub struct Process {
    /// The driver behind the server.
    pub driver: Arc<Driver>,
    /// The socket on which it listens.
    pub socket: PathBuf,
    events: Mutex<Receiver<Event>>,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    /// Opens the ledger below `dir` and serves, with a deadline of `verb_time` for each request.
    pub fn begin(dir: &Path, kernel: Arc<dyn Kernel>, boot: &str, verb_time: Duration) -> Self {
        Self::begin_with(dir, kernel, boot, verb_time, OverlaySettings::default())
    }

    /// [`Process::begin`] with overlay settings.
    pub fn begin_with(
        dir: &Path,
        kernel: Arc<dyn Kernel>,
        boot: &str,
        verb_time: Duration,
        overlay: OverlaySettings,
    ) -> Self {
        let settings = Settings { ula_seed: [1, 2, 3, 4, 5], overlay, ..Settings::default() };
        Self::begin_as(dir, kernel, boot, verb_time, settings, Vec::new())
    }

    /// [`Process::begin`] with settings and the name servers of the host.
    pub fn begin_as(
        dir: &Path,
        kernel: Arc<dyn Kernel>,
        boot: &str,
        verb_time: Duration,
        settings: Settings,
        resolvers: Vec<IpAddr>,
    ) -> Self {
        let opened = Ledger::open(&dir.join("state"), boot).expect("the ledger opens");
        let (events, sent) = Events::queue();
        let driver = Arc::new(Driver::load(opened, kernel, settings, events, move || resolvers.clone()));
        driver.start().expect("the fake kernel fails only on request");
        let socket = dir.join(format!("s{}.sock", COUNTER.fetch_add(1, Ordering::Relaxed)));
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let (stop, stopped) = watch::channel(false);
        let service = Arc::new(Service {
            driver: Arc::clone(&driver),
            metrics: Arc::new(Metrics::default()),
            deadline: verb_time,
        });
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                server::serve(listener, service, stopped).await;
            });
            runtime.shutdown_timeout(Duration::from_secs(5));
        });
        Self { driver, socket, events: Mutex::new(sent), stop, thread: Some(thread) }
    }

    /// Takes the events that the driver sent since the last call.
    pub fn take_events(&self) -> Vec<Event> {
        self.events.lock().unwrap().try_iter().collect()
    }

    /// Calls a method; `null` sends an empty body.
    pub fn call(&self, method: &str, body: Value) -> Reply {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        request(&self.socket, "POST", &format!("/{method}"), text.as_bytes())
    }

    /// The answer as JSON; an error fails the test.
    pub fn ok(&self, method: &str, body: Value) -> Value {
        let reply = self.call(method, body.clone());
        assert_eq!(reply.status, 200, "{method} {body}: {}", reply.body);
        let json = reply.json();
        assert!(json.get("Err").is_none() && json.get("Error").is_none(), "{method} {body}: {json}");
        json
    }

    /// The message of an expected error.
    pub fn err(&self, method: &str, body: Value) -> String {
        let reply = self.call(method, body.clone());
        let json = reply.json();
        let key = if method.starts_with("Ipam") && reply.status == 200 { "Error" } else { "Err" };
        let text = json.get(key).and_then(Value::as_str);
        text.unwrap_or_else(|| panic!("{method} {body} should fail, got {} {json}", reply.status)).to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A host with Pontoon.
pub struct Harness {
    /// The host's kernel.
    pub kernel: Arc<FakeKernel>,
    /// The daemon, while it runs.
    pub life: Option<Process>,
    /// The number of boots of the host.
    pub boot: u32,
    /// The directory of state and sockets.
    pub dir: Dir,
    /// The overlay settings.
    pub overlay: OverlaySettings,
}

impl Default for Harness {
    fn default() -> Self {
        Self::new()
    }
}

impl Harness {
    /// A host with a running daemon and default settings.
    pub fn new() -> Self {
        Self::with(OverlaySettings::default(), |_| {})
    }

    /// The same with these settings, on a host prepared by `prepare`.
    pub fn with(overlay: OverlaySettings, prepare: impl FnOnce(&FakeKernel)) -> Self {
        let kernel = Arc::new(FakeKernel::new());
        prepare(&kernel);
        let mut harness = Self { kernel, life: None, boot: 1, dir: Dir::new(), overlay };
        harness.begin();
        harness
    }

    fn begin(&mut self) {
        let kernel: Arc<dyn Kernel> = Arc::<FakeKernel>::clone(&self.kernel);
        let boot = format!("boot-{}", self.boot);
        let overlay = self.overlay.clone();
        self.life = Some(Process::begin_with(&self.dir.0, kernel, &boot, Duration::from_secs(10), overlay));
    }

    /// Ends the process and starts another one.
    pub fn restart(&mut self) {
        self.life = None;
        self.begin();
    }

    /// Reboots the host: no links, no tables, another boot id.
    pub fn reboot(&mut self) {
        self.life = None;
        self.kernel.reboot();
        self.boot += 1;
        self.begin();
    }

    /// The running daemon.
    pub fn life(&self) -> &Process {
        self.life.as_ref().unwrap()
    }

    /// [`Process::ok`].
    pub fn ok(&self, method: &str, body: Value) -> Value {
        self.life().ok(method, body)
    }

    /// [`Process::err`].
    pub fn err(&self, method: &str, body: Value) -> String {
        self.life().err(method, body)
    }

    /// The ledger file.
    pub fn ledger_file(&self) -> PathBuf {
        self.dir.0.join("state/ledger")
    }
}

/// The text of an answer at the deadline of a request whose result is unknown.
pub const LATE: &str = "it goes on in the background: try again later";

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The status line and the header fields.
    pub headers: String,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }
}

/// One request on its own connection, in the engine's format.
pub fn request(socket: &Path, verb: &str, path: &str, body: &[u8]) -> Reply {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "{verb} {path} HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n",
        body.len()
    );
    // A server that refuses early may close the connection before the whole body is sent.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    read_reply(&mut stream).expect("an answer")
}

/// Reads one answer with a Content-Length.
pub fn read_reply(stream: &mut UnixStream) -> Option<Reply> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let status = head.split_whitespace().nth(1)?.parse().ok()?;
            let length = head
                .lines()
                .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse::<usize>().ok())?;
            if rest.len() >= length {
                return Some(Reply { status, headers: head.to_owned(), body: rest[..length].to_owned() });
            }
        }
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    }
}

/// A body of CreateNetwork for 10.N.0.0/24 and, if `v6`, fdNN::/64.
pub fn network(id: &str, n: u8, v6: bool) -> Value {
    let six = json!([{"AddressSpace": "x", "Pool": format!("fd{n:02x}::/64"), "Gateway": format!("fd{n:02x}::1/64")}]);
    json!({
        "NetworkID": id,
        "Options": {"com.docker.network.enable_ipv4": true, "com.docker.network.enable_ipv6": v6, "com.docker.network.generic": {}},
        "IPv4Data": [{"AddressSpace": "x", "Pool": format!("10.{n}.0.0/24"), "Gateway": format!("10.{n}.0.1/24")}],
        "IPv6Data": if v6 { six } else { json!([]) },
    })
}

/// A body of CreateEndpoint.
pub fn endpoint(network: &str, id: &str, v4: &str) -> Value {
    json!({"NetworkID": network, "EndpointID": id, "Interface": {"Address": v4, "AddressIPv6": "", "MacAddress": ""},
        "Options": {"com.docker.network.portmap": [], "com.docker.network.endpoint.exposedports": []}})
}

/// A body of the methods with only an endpoint.
pub fn of(network: &str, id: &str) -> Value {
    json!({"NetworkID": network, "EndpointID": id})
}

/// A body of Join.
pub fn join(network: &str, id: &str) -> Value {
    json!({"NetworkID": network, "EndpointID": id, "SandboxKey": "/var/run/docker/netns/0123456789ab", "Options": {}})
}
