//! Replays recorded requests to a driver behind a real socket, and verifies that engines would accept the answers.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use libnetwork_plugin::ipam::{ReleaseAddressRequest, ReleasePoolRequest, RequestAddressRequest, RequestPoolRequest};
use libnetwork_plugin::network::{
    CapabilitiesResponse, CreateEndpointRequest, CreateNetworkRequest, EndpointRequest, JoinRequest, NetworkRequest,
};
use libnetwork_plugin::{
    AddressAnswer, InterfaceAnswer, IpamDriver, JoinAnswer, Method, NetworkDriver, Outcome, PluginSocket, PoolAnswer,
    Refusal, RouteAnswer, RouteRequest, Routes, Server, Unavailable,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

mod recorded;

use recorded::{ENGINES, fixtures_of};

/// Answers every request, and fails on request.
#[derive(Default)]
struct Model {
    created: AtomicU32,
    /// Both a test and the driver wait here for `/slow` networks.
    gate: Option<Arc<Barrier>>,
}

impl NetworkDriver for Model {
    fn create_network(&self, request: CreateNetworkRequest) -> Result<(), Refusal> {
        self.created.fetch_add(1, Ordering::Relaxed);
        match (request.network_id.as_str(), &self.gate) {
            ("refused", _) => Err("first line\nsecond line".into()),
            ("panic", _) => panic!("as requested"),
            ("slow", Some(gate)) => {
                gate.wait();
                gate.wait();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn delete_network(&self, _: NetworkRequest) -> Result<(), Refusal> {
        Ok(())
    }

    fn create_endpoint(&self, _: CreateEndpointRequest) -> Result<InterfaceAnswer, Refusal> {
        let (v4, v6) = ("192.0.2.7/24".parse()?, "2001:db8::7/64".parse()?);
        Ok(InterfaceAnswer::default().mac_address([2, 0, 0, 0, 0, 7]).address(v4).address(v6))
    }

    fn delete_endpoint(&self, _: EndpointRequest) -> Result<(), Refusal> {
        Ok(())
    }

    fn join(&self, _: JoinRequest) -> Result<JoinAnswer, Refusal> {
        Ok(JoinAnswer::link("veth7", "eth")?.gateway([192, 0, 2, 1].into()))
    }
}

impl IpamDriver for Model {
    fn request_pool(&self, request: RequestPoolRequest) -> Result<PoolAnswer, Refusal> {
        if request.pool == "192.0.2.0/25" {
            return Err("pool 192.0.2.0/25 is taken: choose another".into());
        }
        Ok(PoolAnswer::new("pool", "192.0.2.0/24".parse()?)?)
    }

    fn release_pool(&self, _: ReleasePoolRequest) -> Result<(), Refusal> {
        Ok(())
    }

    fn request_address(&self, _: RequestAddressRequest) -> Result<AddressAnswer, Refusal> {
        Ok("192.0.2.7/24".parse::<libnetwork_plugin::Cidr>()?.into())
    }

    fn release_address(&self, _: ReleaseAddressRequest) -> Result<(), Refusal> {
        Ok(())
    }
}

/// A path outside the protocol.
struct Echo;

impl Routes for Echo {
    fn has(&self, method: &str, path: &str) -> bool {
        (method, path) == ("POST", "/echo")
    }

    fn respond(&self, request: RouteRequest<'_>) -> RouteAnswer {
        let RouteRequest { method, path, query, body } = request;
        if body == b"fail" {
            RouteAnswer::error(409, "as requested")
        } else {
            RouteAnswer::text("text/plain", format!("{method} {path} {query} {}", body.len()))
        }
    }
}

/// A server in this process.
struct Running {
    path: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(server: Server) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("replay-{}-{}.sock", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let socket = PluginSocket::open(&path).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let listener = socket.listener.try_clone().unwrap();
            runtime.block_on(server.serve(listener, async { drop(stopped.await) })).unwrap();
            socket.remove();
        });
        Self { path, stop: Some(stop), thread: Some(thread) }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// One request on a new connection.
    fn send(&self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        ask(&mut self.connect(), method, path, body)
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.send("POST", path, body.to_string().as_bytes());
        (status, serde_json::from_str(&text).unwrap())
    }

    fn shut_down(&mut self) {
        drop(self.stop.take());
        self.thread.take().map_or(Ok(()), JoinHandle::join).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write(stream: &mut UnixStream, method: &str, path: &str, body: &[u8]) {
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: \r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
    stream.write_all(body).unwrap();
}

/// Reads a response with a Content-Length, which every response must have.
fn read(stream: &mut UnixStream) -> (u16, String) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "the connection ended: {}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head[9..12].parse().unwrap(), String::from_utf8(body).unwrap())
}

fn ask(stream: &mut UnixStream, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    write(stream, method, path, body);
    read(stream)
}

fn both(model: Model) -> Server {
    let model = Arc::new(model);
    Server::new().network(Arc::<Model>::clone(&model)).ipam(model)
}

/// Values that the engine set must not be returned (moby endpoint_info.go).
fn assert_accepted(sent: &Value, answer: &Value, at: &str) {
    for field in ["Address", "AddressIPv6", "MacAddress"] {
        let given = sent["Interface"][field].as_str().unwrap_or_default();
        let answered = answer["Interface"][field].as_str().unwrap_or_default();
        assert_eq!(given.is_empty(), !answered.is_empty(), "{at}: {field}: sent {given:?}, answered {answered:?}");
    }
}

#[test]
fn every_engine_gets_valid_answers() {
    let counts = Arc::new(Mutex::new(BTreeMap::<&str, usize>::new()));
    let seen = Arc::clone(&counts);
    let observer = move |method: Method, _: Duration, outcome: Outcome| {
        assert_eq!(outcome, Outcome::Answered, "{method:?}");
        *seen.lock().unwrap().entry(method.name()).or_default() += 1;
    };
    let server = Running::start(both(Model::default()).observer(Arc::new(observer)));
    let mut expected = BTreeMap::<&str, usize>::new();
    for (version, _) in ENGINES {
        // One connection for each engine, kept open.
        let mut stream = server.connect();
        for sent in fixtures_of(version) {
            let (status, text) = ask(&mut stream, "POST", &sent.path, sent.raw.as_bytes());
            let answer: Value = serde_json::from_str(&text).unwrap();
            let (at, method) = (format!("{}: {text}", sent.from), sent.method());
            if sent.raw.is_empty() && !method.has_no_body() {
                assert_eq!(status, 400, "{at}");
                assert!(answer["Err"].as_str().unwrap().contains("no body"), "{at}");
                continue;
            }
            *expected.entry(method.name()).or_default() += 1;
            assert_eq!(status, 200, "{at}");
            assert!(answer.get("Err").is_none() && answer.get("Error").is_none(), "{at}");
            match method {
                Method::CreateEndpoint => assert_accepted(&sent.body(), &answer, &at),
                Method::EndpointOperInfo => assert_eq!(answer, json!({"Value": {}}), "{at}"),
                Method::Join => assert_eq!(answer["InterfaceName"], json!({"SrcName": "veth7", "DstPrefix": "eth"})),
                Method::AllocateNetwork => assert_eq!(answer["Options"], sent.body()["Options"], "{at}"),
                _ => {}
            }
        }
    }
    assert_eq!(*counts.lock().unwrap(), expected);
    assert_eq!(expected.len(), Method::ALL.len());
}

#[test]
fn errors_have_the_expected_form() {
    let server = Running::start(both(Model::default()).routes(Arc::new(Echo)));
    let create = "/NetworkDriver.CreateNetwork";
    assert_eq!(server.post(create, &json!({"NetworkID": "refused"})), (200, json!({"Err": "first line second line"})));
    let (status, answer) = server.post("/IpamDriver.RequestPool", &json!({"Pool": "192.0.2.0/25"}));
    assert_eq!((status, answer), (200, json!({"Error": "pool 192.0.2.0/25 is taken: choose another"})));
    let (status, answer) = server.post(create, &json!({"NetworkID": "panic"}));
    assert!(status == 200 && answer["Err"].as_str().unwrap().contains("internal error"), "{answer}");
    // It still serves after a panic.
    assert_eq!(server.post(create, &json!({"NetworkID": "n"})), (200, json!({})));

    for (method, path, body, status, part) in [
        ("POST", create, "{", 400, "CreateNetwork: the body is not"),
        ("POST", create, "", 400, "CreateNetwork: the request has no body"),
        ("GET", create, "", 405, "is called with POST"),
        ("POST", "/NetworkDriver.Later", "{}", 404, "no method"),
        ("GET", "/echo", "", 404, "no method"),
        ("POST", "/echo", "fail", 409, "as requested"),
    ] {
        let (found, text) = server.send(method, path, body.as_bytes());
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(found, status, "{method} {path}: {text}");
        assert!(answer["Err"].as_str().unwrap().contains(part), "{method} {path}: {text}");
    }
    assert_eq!(server.send("POST", "/echo?a=1", b"abc"), (200, "POST /echo a=1 3".to_owned()));
}

/// A path of GET.
struct Shown;

impl Routes for Shown {
    fn has(&self, method: &str, path: &str) -> bool {
        (method, path) == ("GET", "/shown")
    }

    fn respond(&self, _: RouteRequest<'_>) -> RouteAnswer {
        RouteAnswer::text("text/plain", "here")
    }
}

#[test]
fn a_read_only_server_answers_get_and_no_method_of_the_protocol() {
    let model = Model::default();
    let server = Running::start(both(model).routes(Arc::new(Shown)).read_only());
    assert_eq!(server.send("GET", "/shown", b""), (200, "here".to_owned()));
    assert_eq!(server.send("GET", "/other", b"").0, 404);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        assert_eq!(server.send(method, "/shown", b"").0, 405, "{method}");
    }
    for (path, _, _) in Method::ALL.iter().map(|(method, _, _)| (method.path(), 0, 0)) {
        assert_eq!(server.send("POST", path, b"{}").0, 405, "{path}");
        assert_eq!(server.send("GET", path, b"{}").0, 404, "{path}");
    }
}

#[test]
fn a_plugin_reports_its_type() {
    let network = Running::start(Server::new().network(Arc::new(Model::default())));
    assert_eq!(network.send("POST", "/Plugin.Activate", b"").1, r#"{"Implements":["NetworkDriver"]}"#);
    assert_eq!(network.send("POST", "/IpamDriver.GetCapabilities", b"").0, 404);
    let ipam = Running::start(Server::new().ipam(Arc::new(Model::default())));
    assert_eq!(ipam.send("POST", "/Plugin.Activate", b"").1, r#"{"Implements":["IpamDriver"]}"#);
    let both = Running::start(both(Model::default()));
    assert_eq!(both.send("POST", "/Plugin.Activate", b"").1, r#"{"Implements":["NetworkDriver","IpamDriver"]}"#);
    let capabilities = r#"{"Scope":"local","ConnectivityScope":"local","GwAllocChecker":false}"#;
    assert_eq!(both.send("POST", "/NetworkDriver.GetCapabilities", b"").1, capabilities);
}

#[test]
fn a_plugin_that_cannot_serve_reports_the_reason() {
    let refusing = Arc::new(Unavailable {
        reason: "the state cannot be read: mount its disk".into(),
        network: CapabilitiesResponse::default(),
        ipam: Default::default(),
        address_spaces: Default::default(),
    });
    let server = Server::new().network(Arc::<Unavailable>::clone(&refusing)).ipam(Arc::<Unavailable>::clone(&refusing));
    let server = Running::start(server.routes(refusing));
    for (method, path, _) in Method::ALL {
        let (status, text) = server.send("POST", path, if method.has_no_body() { b"" } else { b"{}" });
        let answer: Value = serde_json::from_str(&text).unwrap();
        let key = if method.is_ipam() { "Error" } else { "Err" };
        let registers = method.has_no_body() || method == Method::EndpointOperInfo;
        assert_eq!((status, answer.get(key).is_none()), (200, registers), "{path}: {text}");
    }
    let (status, text) = server.send("GET", "/status", b"");
    assert!(status == 503 && text.contains("mount its disk"), "{text}");
}

#[test]
fn a_slow_request_is_answered_at_the_deadline_and_runs_to_its_end() {
    let gate = Arc::new(Barrier::new(2));
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&outcomes);
    let model = Arc::new(Model { gate: Some(Arc::clone(&gate)), ..Model::default() });
    let server = Server::new().network(Arc::<Model>::clone(&model)).deadline(Duration::from_millis(100));
    let observer = move |_: Method, _: Duration, outcome: Outcome| seen.lock().unwrap().push(outcome);
    let mut server = Running::start(server.observer(Arc::new(observer)));
    let mut stream = server.connect();
    write(&mut stream, "POST", "/NetworkDriver.CreateNetwork", br#"{"NetworkID":"slow"}"#);
    gate.wait();
    let (status, text) = read(&mut stream);
    assert!(status == 200 && text.contains("try again later"), "{text}");
    assert_eq!(outcomes.lock().unwrap().len(), 0, "it still runs");
    gate.wait();
    server.shut_down();
    assert_eq!(*outcomes.lock().unwrap(), [Outcome::Late]);
    assert_eq!(model.created.load(Ordering::Relaxed), 1);
}

#[test]
fn a_request_under_way_is_answered_before_the_server_ends() {
    let gate = Arc::new(Barrier::new(2));
    let model = Model { gate: Some(Arc::clone(&gate)), ..Model::default() };
    let mut server = Running::start(both(model));
    let (mut stream, mut idle) = (server.connect(), server.connect());
    assert_eq!(ask(&mut idle, "POST", "/Plugin.Activate", b"").0, 200);
    write(&mut stream, "POST", "/NetworkDriver.CreateNetwork", br#"{"NetworkID":"slow"}"#);
    gate.wait();
    drop(server.stop.take());
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "the idle connection did not end at once");
    gate.wait();
    assert_eq!(read(&mut stream), (200, "{}".to_owned()));
    server.shut_down();
    assert!(!server.path.exists());
}

#[test]
fn an_idle_connection_is_evicted_for_a_new_one() {
    let server = Running::start(both(Model::default()).max_connections(2));
    let (mut used, mut silent) = (server.connect(), server.connect());
    assert_eq!(ask(&mut used, "POST", "/Plugin.Activate", b"").0, 200);
    // The silent one was accepted after the first, and before this one.
    let mut third = server.connect();
    assert_eq!(ask(&mut third, "POST", "/Plugin.Activate", b"").0, 200);
    assert_eq!(silent.read(&mut [0]).unwrap(), 0, "the silent connection was not evicted");
    assert_eq!(ask(&mut used, "POST", "/Plugin.Activate", b"").0, 200);
}

#[test]
fn a_body_has_a_limit() {
    let server = Running::start(both(Model::default()));
    let large = vec![b' '; libnetwork_plugin::server::MAX_BODY + 1];
    assert_eq!(server.send("POST", "/NetworkDriver.CreateNetwork", &large).0, 413);
    // Requests with published ports have a larger limit.
    let body = [b"{".to_vec(), large, b"}".to_vec()].concat();
    assert_eq!(server.send("POST", "/NetworkDriver.Join", &body).0, 200);
}

/// The engine's HTTP client reports a broken pipe and not the answer where the server does not wait for the body.
#[test]
fn a_request_is_refused_after_its_body() {
    let plugin = Running::start(both(Model::default()).routes(Arc::new(Echo)));
    let operators = Running::start(both(Model::default()).routes(Arc::new(Shown)).read_only());
    let body = vec![b' '; 3 << 20];
    for (server, method, path, status) in [
        (&plugin, "POST", "/NetworkDriver.Later", 404),
        (&plugin, "GET", "/NetworkDriver.Join", 405),
        (&plugin, "POST", "/NetworkDriver.CreateNetwork", 413),
        (&operators, "GET", "/other", 404),
        (&operators, "POST", "/shown", 405),
    ] {
        let mut stream = server.connect();
        // The connection can be used again.
        for _ in 0..2 {
            assert_eq!(ask(&mut stream, method, path, &body).0, status, "{method} {path}");
        }
    }
}
