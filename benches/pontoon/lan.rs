//! A start on a local network whose next addresses were probed in advance, beside one on a bridge of Pontoon:
//! RequestAddress and CreateEndpoint of each, alternately.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::client::{self, Client};
use crate::daemon::{Daemon, Dir};
use crate::report::{Row, median};
use crate::verbs::time;

/// Fewer starts in a row than addresses probed in advance.
const GROUP: usize = 4;
const GROUPS: usize = 25;

/// Longer than the wait for answers of other hosts.
const APART: Duration = Duration::from_millis(400);

pub fn run() -> Vec<Row> {
    let dir = Dir::new("lan");
    let daemon = Daemon::start(&dir.0);
    let mut client = daemon.client();
    for command in ["link add br-lan type bridge forward_delay 0", "link set br-lan up"] {
        let done = Command::new("ip").args(command.split(' ')).status().expect("ip runs");
        assert!(done.success(), "{command}");
    }
    let lan = network(&mut client, "lan", 60, json!({"com.docker.network.bridge.name": "br-lan"}));
    let own = network(&mut client, "own", 61, json!({}));
    let (mut on_lan, mut on_own) = (Vec::new(), Vec::new());
    for n in 0..GROUP * GROUPS {
        if n % GROUP == 0 {
            std::thread::sleep(APART);
        }
        on_lan.push(time(|| start(&mut client, &lan, "lan", 2 * n)));
        on_own.push(time(|| start(&mut client, &own, "own", 2 * n + 1)));
    }
    // An address chosen by the user is not probed in advance.
    let mut cold = Vec::new();
    for n in 0..10 {
        let body = endpoint("lan", 10_000 + n, &format!("10.60.9.{}/16", n + 1));
        cold.push(time(|| drop(client.call("NetworkDriver.CreateEndpoint", &body))));
    }
    let (warm, beside) = (median(&on_lan), median(&on_own));
    vec![
        Row::ratio(
            "RequestAddress + CreateEndpoint on a local network, asked in advance",
            warm,
            "own bridge",
            beside,
            None,
        ),
        Row::ratio("CreateEndpoint there, address chosen by the user", median(&cold), "in advance", warm, None),
    ]
}

/// A network with a pool of Pontoon's IPAM; the pool's id.
fn network(client: &mut Client, id: &str, n: u8, options: serde_json::Value) -> String {
    let (subnet, gateway) = (format!("10.{n}.0.0/16"), format!("10.{n}.0.1"));
    let ask = json!({"AddressSpace": "pontoon-local", "Pool": subnet, "SubPool": "", "Options": {}, "V6": false});
    let pool = client.call("IpamDriver.RequestPool", &ask.to_string())["PoolID"].as_str().expect("an id").to_owned();
    let kind = json!({"RequestAddressType": "com.docker.network.gateway"});
    client.call("IpamDriver.RequestAddress", &json!({"PoolID": pool, "Address": gateway, "Options": kind}).to_string());
    let data = json!([{"AddressSpace": "pontoon-local", "Pool": subnet, "Gateway": format!("{gateway}/16")}]);
    let options = json!({"com.docker.network.generic": options});
    let body = json!({"NetworkID": id, "Options": options, "IPv4Data": data, "IPv6Data": []});
    client.call("NetworkDriver.CreateNetwork", &body.to_string());
    pool
}

fn start(client: &mut Client, pool: &str, network: &str, n: usize) {
    let ask = json!({"PoolID": pool, "Address": "", "Options": null}).to_string();
    let address = client.call("IpamDriver.RequestAddress", &ask)["Address"].as_str().expect("an address").to_owned();
    client.call("NetworkDriver.CreateEndpoint", &endpoint(network, n, &address));
}

fn endpoint(network: &str, n: usize, address: &str) -> String {
    let interface = json!({"Address": address, "AddressIPv6": "", "MacAddress": ""});
    json!({"NetworkID": network, "EndpointID": client::endpoint_id(n), "Interface": interface, "Options": {}})
        .to_string()
}
