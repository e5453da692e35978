//! Cables between namespaces, and TCP streams over them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use testkit::netns::Netns;

const PATIENCE: Duration = Duration::from_secs(30);

/// A cable from `port` in one namespace to `eth0` in another, both up; `eth0` gets an address unless it is empty.
pub fn plug(from: &Netns, port: &str, to: &Netns, address: &str) {
    from.run(&format!("ip link add {port} type veth peer name eth0 netns {}", to.tid()));
    from.run(&format!("ip link set {port} up"));
    to.run("ip link set eth0 up");
    if !address.is_empty() {
        to.run(&format!("ip address add {address} dev eth0"));
    }
}

/// Sends bytes over one TCP connection to a server at `address` in another namespace, and waits for their arrival.
/// `midway` runs while the connection is up.
pub fn stream<T: Send>(from: &Netns, to: &Netns, address: &str, bytes: usize, midway: impl FnOnce() -> T + Send) -> T {
    let address: SocketAddr = address.parse().unwrap();
    let listener = to.enter(|| TcpListener::bind(address).unwrap());
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let (mut connection, _) = listener.accept().unwrap();
            connection.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut buffer = vec![0; 1 << 16];
            let mut got = 0;
            loop {
                match connection.read(&mut buffer).unwrap() {
                    0 => return got,
                    more => got += more,
                }
            }
        });
        let mut connection = from.enter(|| TcpStream::connect_timeout(&address, PATIENCE).unwrap());
        connection.set_write_timeout(Some(PATIENCE)).unwrap();
        connection.write_all(&vec![7; bytes]).unwrap();
        let seen = midway();
        drop(connection);
        assert_eq!(server.join().unwrap(), bytes);
        seen
    })
}

/// The packet count of the nftables counter with this comment.
pub fn counted(netns: &Netns, table: &str, comment: &str) -> u64 {
    let rules = netns.run(&format!("nft list table {table}"));
    let rule = rules.lines().find(|line| line.contains(comment)).unwrap_or_else(|| panic!("no {comment} in {rules}"));
    let mut words = rule.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no counter: {rule}"))
}
