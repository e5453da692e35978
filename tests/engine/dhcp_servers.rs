//! The DHCP servers that people have, in their default settings, and many containers that start at once: dnsmasq and ISC
//! dhcpd ping an address for a second or more before they offer it, udhcpd asks by ARP for two, Kea answers to hardware
//! addresses only.

use std::collections::BTreeSet;
use std::thread;

use testkit::testbed::{SOON, Testbed, binary, text};
use testkit::{Options, wait_until};

/// The containers of each server. `PONTOON_DHCP_CONTAINERS=100` tries it at length.
fn containers() -> usize {
    std::env::var("PONTOON_DHCP_CONTAINERS").ok().and_then(|count| count.parse().ok()).unwrap_or(6)
}

struct Server {
    name: &'static str,
    /// Part of the identities of its containers, which no other server knows.
    id: &'static str,
    /// A shell command in the server's namespace that stays in the foreground; `/tmp/dhcp` is an empty directory.
    command: &'static str,
}

const SERVERS: [Server; 4] = [
    Server {
        name: "dnsmasq",
        id: "dnsmasq",
        command: "exec dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --port=0 --pid-file= \
            --dhcp-leasefile=/tmp/dhcp/leases --dhcp-range=192.168.60.50,192.168.60.199,1h",
    },
    Server {
        name: "ISC dhcpd",
        id: "isc",
        command: "cd /tmp/dhcp; touch leases; cat >conf <<CONF
subnet 192.168.60.0 netmask 255.255.255.0 { range 192.168.60.50 192.168.60.199; option routers 192.168.60.1; }
CONF
exec dhcpd -f -4 -cf conf -lf leases -pf pid eth0",
    },
    Server {
        name: "udhcpd",
        id: "udhcpd",
        command: "cd /tmp/dhcp; touch leases; cat >conf <<CONF
start 192.168.60.50
end 192.168.60.199
interface eth0
lease_file /tmp/dhcp/leases
pidfile /tmp/dhcp/pid
option subnet 255.255.255.0
option router 192.168.60.1
CONF
exec udhcpd -f conf",
    },
    Server {
        name: "Kea",
        id: "kea",
        command: "cd /tmp/dhcp; mkdir -p /run/kea /run/lock/kea /var/lib/kea; cat >conf <<CONF
{ \"Dhcp4\": { \"interfaces-config\": { \"interfaces\": [ \"eth0\" ] },
  \"lease-database\": { \"type\": \"memfile\", \"name\": \"/tmp/dhcp/leases\" },
  \"subnet4\": [ { \"subnet\": \"192.168.60.0/24\", \"pools\": [ { \"pool\": \"192.168.60.50-192.168.60.199\" } ],
    \"option-data\": [ { \"name\": \"routers\", \"data\": \"192.168.60.1\" } ] } ] } }
CONF
exec kea-dhcp4 -c conf",
    },
];

/// As in `dhcp`, with a counter of DHCPDISCOVER: Pontoon's messages begin with the option of their kind.
const NETWORK: &str = "set -e
    ip link add br-lan type bridge forward_delay 0; ip link set br-lan up
    ip netns add lan
    ip link add lan0 type veth peer name eth0 netns lan; ip link set lan0 master br-lan up
    ip -n lan link set lo up; ip -n lan address add 192.168.60.1/24 dev eth0; ip -n lan link set eth0 up
    ip netns exec lan nft 'table ip seen {
        counter discovers { }
        chain in { type filter hook prerouting priority -300; udp dport 67 @th,1984,24 0x350101 counter name discovers; }
    }'";

fn discovers(testbed: &Testbed) -> usize {
    let text = testbed.exec(&["ip", "netns", "exec", "lan", "nft", "list", "counter", "ip", "seen", "discovers"]).ok();
    text.split_whitespace().skip_while(|word| *word != "packets").nth(1).and_then(|count| count.parse().ok()).unwrap()
}

/// The address of each container, started or restarted at once by `docker ARGUMENTS`.
fn at_once(testbed: &Testbed, arguments: impl Fn(&str) -> Vec<String> + Sync) -> Vec<String> {
    let names: Vec<String> = (1..=containers()).map(|n| format!("c{n}")).collect();
    thread::scope(|scope| {
        for name in &names {
            let arguments = arguments(name);
            scope.spawn(move || {
                testbed.docker(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).ok();
            });
        }
    });
    let address =
        |name: &String| text(&testbed.inspect(name)["NetworkSettings"]["Networks"]["lan"]["IPAddress"]).to_owned();
    names.iter().map(address).collect()
}

#[test]
fn containers_start_at_once_with_every_server() {
    let node = Options::new().full().up();
    node.start_pontoon(&binary(), &[]);
    let testbed = &Testbed::new(&node, "pontoon");
    for server in &SERVERS {
        if server.id == "isc" && !testbed.exec(&["sh", "-c", "command -v dhcpd"]).success() {
            assert!(testbed.engine >= 28, "Debian has it up to trixie, with engine 26: run make lab");
            continue;
        }
        testbed.exec(&["sh", "-c", NETWORK]).ok();
        let command = format!("rm -rf /tmp/dhcp; mkdir /tmp/dhcp; {}", server.command);
        let process = node.spawn(&["ip", "netns", "exec", "lan", "sh", "-c", &command]);
        let listens = || testbed.exec(&["ip", "netns", "exec", "lan", "ss", "-0uan"]).ok().contains(":67 ");
        wait_until(SOON, server.name, || listens() || process.log().contains("DHCP4_STARTED"));
        let on = ["--ipam-driver", "null", "-o", "pontoon.dhcp=4", "-o", "com.docker.network.bridge.name=br-lan"];
        testbed.network("lan", &on);

        let run = |name: &str| {
            let on = format!("name=lan,driver-opt=pontoon.dhcp.id={name}.{}", server.id);
            ["run", "-d", "--name", name, "--network", &on, "busybox", "sleep", "1000"].map(str::to_owned).to_vec()
        };
        let addresses = at_once(testbed, run);
        let distinct: BTreeSet<_> = addresses.iter().filter(|address| address.starts_with("192.168.60.")).collect();
        assert_eq!(distinct.len(), containers(), "{}: {addresses:?}\n{}", server.name, process.log());
        testbed.ping_soon("c1", "192.168.60.1");
        // The server is not flooded: nothing is asked for twice.
        let asked = discovers(testbed);
        assert!((containers()..=containers() * 5 / 4 + 1).contains(&asked), "{}: {asked} times", server.name);

        // Who comes again has its address at once, and no server searches for one.
        let again = at_once(testbed, |name| ["restart", "-t", "0", name].map(str::to_owned).to_vec());
        assert_eq!((again, discovers(testbed)), (addresses, asked), "{}", server.name);

        let names = (1..=containers()).map(|n| format!("c{n}")).collect::<Vec<_>>();
        testbed.sweep_names(&names.iter().map(String::as_str).collect::<Vec<_>>(), &["lan"]);
        drop(process);
        // The kernel deletes the links of a namespace later than the namespace.
        let end = "ip netns pids lan | xargs -r kill -9; ip link del lan0; ip link del br-lan; ip netns del lan";
        testbed.exec(&["sh", "-c", end]).ok();
    }
    testbed.sweep();
}
