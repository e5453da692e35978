//! Owns the fuzzing of connections: the input is what a client writes before it closes its half,
//! however little it has to do with HTTP. The real server reads it, over a real socket.
//!
//! Whatever comes, the connection ends, every answer is a status line that the server may give,
//! and the next client is served.

#![no_main]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pontoon::datapath::fake::FakeKernel;
use pontoon::driver::{Driver, Events, Settings};
use pontoon::metrics::Metrics;
use pontoon::server::{self, Service};
use pontoon::state::Ledger;
use tokio::sync::watch;

/// What may be answered first: leave to go on, 200, and the refusals of this server and of hyper.
const STATUSES: [&str; 10] = ["100", "200", "400", "404", "405", "408", "413", "414", "431", "503"];

/// The socket of a server that runs as long as the process.
fn socket() -> &'static PathBuf {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    SOCKET.get_or_init(|| {
        let dir = PathBuf::from(format!("/dev/shm/pontoon-fuzz-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let opened = Ledger::open(&dir, "boot").expect("a ledger");
        let driver = Driver::load(opened, Arc::new(FakeKernel::new()), Settings::default(), Events::none(), Vec::new);
        driver.start().expect("the fake kernel does not fail");
        let metrics = Arc::new(Metrics::default());
        let service = Service { driver: Arc::new(driver), metrics, deadline: server::DEADLINE };
        let path = dir.join("pontoon.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let (_stop, stopped) = watch::channel(false);
            runtime.block_on(async {
                server::serve(listener, Arc::new(service), stopped).await;
            });
        });
        path
    })
}

/// Writes, says that this is all, and reads all that comes back.
fn answers(input: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket()).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(4))).expect("a time");
    // A server that refuses early may close before all of it is out.
    let _ = stream.write_all(input).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the connection does not end: {error}");
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    let bytes = answers(data);
    if !bytes.is_empty() {
        let status = bytes.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
        let status = status.map(|status| String::from_utf8_lossy(status).into_owned()).unwrap_or_default();
        assert!(STATUSES.contains(&status.as_str()), "{}", String::from_utf8_lossy(&bytes));
    }
    let next = answers(b"POST /IpamDriver.GetCapabilities HTTP/1.1\r\nHost: \r\nContent-Length: 0\r\n\r\n");
    assert!(next.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&next));
});
