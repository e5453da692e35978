//! A Pontoon in this process: the real server on a real Unix socket, the real driver and ledger,
//! and the fake kernel underneath. For tests of verbs, of restarts and of bad input.
#![allow(dead_code)] // every test binary uses its own part

use std::io::{Read, Write};
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

/// A directory that goes with the test.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Self {
        let name = format!("pontoon-rig-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
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

/// One life of the daemon.
pub struct Process {
    pub driver: Arc<Driver>,
    pub socket: PathBuf,
    events: Mutex<Receiver<Event>>,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Process {
    pub fn begin(dir: &Path, kernel: Arc<dyn Kernel>, boot: &str, verb_time: Duration) -> Self {
        Self::begin_with(dir, kernel, boot, verb_time, OverlaySettings::default())
    }

    pub fn begin_with(
        dir: &Path,
        kernel: Arc<dyn Kernel>,
        boot: &str,
        verb_time: Duration,
        overlay: OverlaySettings,
    ) -> Self {
        let opened = Ledger::open(&dir.join("state"), boot).expect("the ledger opens");
        let settings = Settings { ula_seed: [1, 2, 3, 4, 5], overlay, ..Settings::default() };
        let (events, sent) = Events::queue();
        let driver = Arc::new(Driver::load(opened, kernel, settings, events, Vec::new));
        driver.start().expect("the fake kernel does not fail by itself");
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

    pub fn call(&self, method: &str, body: Value) -> Reply {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        request(&self.socket, "POST", &format!("/{method}"), text.as_bytes())
    }

    /// The answer's JSON; fails the test when it is an error.
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

/// A host with a Pontoon on it.
pub struct Rig {
    pub kernel: Arc<FakeKernel>,
    pub life: Option<Process>,
    pub boot: u32,
    pub dir: Dir,
    pub overlay: OverlaySettings,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(OverlaySettings::default(), |_| {})
    }

    /// With these settings, on a host that `prepare` made ready.
    pub fn with(overlay: OverlaySettings, prepare: impl FnOnce(&FakeKernel)) -> Self {
        let kernel = Arc::new(FakeKernel::new());
        prepare(&kernel);
        let mut rig = Self { kernel, life: None, boot: 1, dir: Dir::new(), overlay };
        rig.begin();
        rig
    }

    fn begin(&mut self) {
        let kernel: Arc<dyn Kernel> = Arc::<FakeKernel>::clone(&self.kernel);
        let boot = format!("boot-{}", self.boot);
        let overlay = self.overlay.clone();
        self.life = Some(Process::begin_with(&self.dir.0, kernel, &boot, Duration::from_secs(10), overlay));
    }

    /// The process dies and another takes its place.
    pub fn restart(&mut self) {
        self.life = None;
        self.begin();
    }

    /// The host goes down and comes up: no links, no tables, another boot id.
    pub fn reboot(&mut self) {
        self.life = None;
        self.kernel.reboot();
        self.boot += 1;
        self.begin();
    }

    pub fn life(&self) -> &Process {
        self.life.as_ref().unwrap()
    }

    pub fn ok(&self, method: &str, body: Value) -> Value {
        self.life().ok(method, body)
    }

    pub fn err(&self, method: &str, body: Value) -> String {
        self.life().err(method, body)
    }

    pub fn ledger_file(&self) -> PathBuf {
        self.dir.0.join("state/ledger")
    }
}

/// An answer.
pub struct Reply {
    pub status: u16,
    pub headers: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }
}

/// One request on a connection of its own, as the engine writes it.
pub fn request(socket: &Path, verb: &str, path: &str, body: &[u8]) -> Reply {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "{verb} {path} HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n",
        body.len()
    );
    // A server that refuses early may close before the whole body is out.
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

/// A body of the methods that name an endpoint and nothing else.
pub fn of(network: &str, id: &str) -> Value {
    json!({"NetworkID": network, "EndpointID": id})
}

/// A body of Join.
pub fn join(network: &str, id: &str) -> Value {
    json!({"NetworkID": network, "EndpointID": id, "SandboxKey": "/var/run/docker/netns/0123456789ab", "Options": {}})
}
