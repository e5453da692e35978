//! Socket activation: systemd holds the socket, and requests wait for the process.

use std::{
    fs,
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use testkit::{
    testbed::{SOON, binary},
    wait_until,
};

/// Starts Pontoon as systemd does: descriptor 3 is the socket, `LISTEN_PID` the process's own id. In a separate network
/// namespace.
fn activate(socket: &UnixListener, state: &Path) -> Child {
    let script = r#"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@""#;
    let descriptor: OwnedFd = socket.try_clone().expect("a descriptor").into();
    Command::new("unshare")
        .args(["--net", "sh", "-c", script, "activate"])
        .arg(binary())
        .args(["serve", "--socket", "/nonexistent/pontoon.sock", "--state-dir"])
        .arg(state)
        .stdin(Stdio::from(descriptor))
        .stderr(File::at(state, "log"))
        .spawn()
        .expect("unshare is installed")
}

struct File;

impl File {
    fn at(state: &Path, name: &str) -> Stdio {
        let path = state.with_extension(name);
        fs::File::options().create(true).append(true).open(path).expect("a log").into()
    }
}

/// Sends a request as the engine does, without waiting for the answer.
fn request(socket: &Path, method: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).expect("a process listens");
    let text = format!("POST /{method} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(text.as_bytes()).expect("a socket takes that much");
    stream.set_read_timeout(Some(SOON)).expect("a time");
    stream
}

fn answer(mut stream: UnixStream) -> String {
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).expect("an answer");
    String::from_utf8_lossy(&bytes[..count]).into_owned()
}

fn end(mut child: Child) {
    let pid = child.id().to_string();
    Command::new("kill").arg(&pid).status().expect("kill is installed");
    wait_until(Duration::from_secs(1), "the process to end on TERM", || {
        child.try_wait().expect("a child").is_some_and(|status| {
            assert!(status.success(), "{status}");
            true
        })
    });
}

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_request_waits_for_the_process() {
    let dir = Dir(std::env::temp_dir().join(format!("pontoon-activation-{}", std::process::id())));
    fs::create_dir_all(&dir.0).expect("a directory");
    let path = dir.0.join("pontoon.sock");
    let state = dir.0.join("state");
    let socket = UnixListener::bind(&path).expect("a socket");

    let waiting = request(&path, "Plugin.Activate");
    let first = activate(&socket, &state);
    let text = answer(waiting);
    assert!(text.contains("200 OK") && text.contains("NetworkDriver") && text.contains("IpamDriver"), "{text}");
    end(first);

    // The socket outlives the process, and the next process serves requests that arrived meanwhile.
    assert!(path.exists());
    let waiting = request(&path, "NetworkDriver.GetCapabilities");
    let second = activate(&socket, &state);
    assert!(answer(waiting).contains("local"));
    assert!(answer(request(&path, "IpamDriver.GetDefaultAddressSpaces")).contains("200 OK"));
    end(second);
}
