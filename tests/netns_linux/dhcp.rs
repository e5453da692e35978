//! Messages of DHCP on the real kernel: which frames arrive where, and what a service port shows of itself.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::mpsc::channel;
use std::time::Duration;

use dhcp::frame::Destination;
use dhcp::wire::{Incoming, Outgoing};
use dhcp::{Kind, Message};
use pontoon::datapath::Wire;

use testkit::netns::{Netns, in_netns, name, run};

/// A service port of a bridge, as the driver makes it but for the VLAN, which the kernel of this machine may not have:
/// tests/kernels/dhcp.rs has the VLAN. The server is another host on the bridge.
#[test]
fn a_service_port_speaks_with_a_server_and_shows_nothing_else() {
    in_netns(|kernel| {
        run("ip link add br-lan type bridge forward_delay 0 && ip link set br-lan up");
        run("ip link add pnth1 type veth peer name pntc1 && ip link set pnth1 master br-lan up");
        let lan = Netns::new();
        run("ip link add lan0 type veth peer name far && ip link set lan0 master br-lan up");
        lan.take("far", "192.168.1.1/24", "");
        let (send, received) = channel();
        kernel.watch_dhcp(Box::new(move |link, message| {
            let Incoming::Dhcp4(message, from) = message else { return };
            let _ = send.send((link.clone(), from, Some(*message)));
        }));
        let service = name("pntc1");
        kernel.listen_dhcp(&BTreeSet::from([service.clone()])).unwrap();
        // It is up, but no station: it answers no ARP, and has no address of IPv6.
        let shown =
            run("ip link show dev pntc1; ip address show dev pntc1; sysctl -n net.ipv6.conf.pntc1.disable_ipv6");
        assert!(shown.contains("NOARP") && shown.contains(",UP") && !shown.contains("inet"), "{shown}");
        assert!(shown.ends_with("1\n"), "{shown}");

        let client = [2, 0, 0, 0, 0, 7];
        let request = Message::of_client(Kind::Discover, 77, client);
        let server = lan.enter(|| UdpSocket::bind("0.0.0.0:67").unwrap());
        server.set_broadcast(true).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        kernel.send_dhcp(&service, &Outgoing::Dhcp4(Box::new(request.clone()), Destination::Broadcast)).unwrap();
        let mut buffer = [0; 1500];
        let (length, from) = server.recv_from(&mut buffer).expect("the server hears it");
        assert_eq!((Message::decode(&buffer[..length]), from.to_string()), (Some(request), "0.0.0.0:68".to_owned()));
        let mut offer = Message::of_client(Kind::Offer, 77, client);
        offer.is_reply = true;
        // Only what is for the port of clients arrives.
        for port in [69, 68] {
            server.send_to(&offer.encode(), ("192.168.1.255", port)).unwrap();
        }
        let (link, from, message) = received.recv_timeout(Duration::from_secs(10)).expect("the answer arrives");
        assert_eq!((link, message), (service, Some(offer)));
        let hardware = from.map(|byte| format!("{byte:02x}")).join(":");
        assert!(lan.run("ip -o link show eth0").contains(&format!("link/ether {hardware}")), "{hardware}");
        assert!(received.recv_timeout(Duration::from_millis(300)).is_err(), "once");
        // The bridge learned no location of the client.
        let learned = run("bridge fdb show br br-lan");
        assert!(!learned.contains("02:00:00:00:00:07"), "{learned}");
    });
}

/// Users replace their bridges, by hand or by what configures the host's network. The answer to the first message on the
/// new one arrives.
#[test]
fn a_replaced_link_is_heard_with_the_first_message() {
    in_netns(|kernel| {
        let (send, received) = channel();
        kernel.watch_dhcp(Box::new(move |link, message| {
            let Incoming::Dhcp4(message, _) = message else { return };
            let _ = send.send((link.clone(), Some(*message)));
        }));
        let bridge = name("br-lan");
        for life in 1..=3 {
            run("ip link add br-lan type bridge forward_delay 0 && ip link set br-lan up");
            let lan = Netns::new();
            run("ip link add lan0 type veth peer name far && ip link set lan0 master br-lan up");
            lan.take("far", "192.168.1.1/24", "");
            if life == 1 {
                kernel.listen_dhcp(&BTreeSet::from([bridge.clone()])).unwrap();
            }
            let server = lan.enter(|| UdpSocket::bind("0.0.0.0:67").unwrap());
            server.set_broadcast(true).unwrap();
            server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let client = [2, 0, 0, 0, 0, 7];
            let request = Message::of_client(Kind::Discover, life, client);
            kernel.send_dhcp(&bridge, &Outgoing::Dhcp4(Box::new(request.clone()), Destination::Broadcast)).unwrap();
            server.recv_from(&mut [0; 1500]).expect("the server hears it");
            let mut offer = Message::of_client(Kind::Offer, life, client);
            offer.is_reply = true;
            server.send_to(&offer.encode(), ("192.168.1.255", 68)).unwrap();
            let heard = received.recv_timeout(Duration::from_secs(10)).expect("the answer arrives");
            assert_eq!(heard, (bridge.clone(), Some(offer)), "life {life}");
            run("ip link del br-lan; ip link del lan0");
        }
    });
}
