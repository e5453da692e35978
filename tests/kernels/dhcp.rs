//! DHCP in a VLAN of a bridge: the service port sends and receives in its VLAN only.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::mpsc::channel;
use std::time::Duration;

use dhcp::frame::Destination;
use dhcp::wire::{Incoming, Outgoing};
use dhcp::{Kind, Message};
use pontoon::datapath::{Kernel, Step, Wire};

use crate::vlan::{veth, vlans};
use testkit::netns::{Netns, in_netns, name, run};
use testkit::{KERNEL, in_guest};

fn server(at: &Netns) -> UdpSocket {
    let server = at.enter(|| UdpSocket::bind("0.0.0.0:67").unwrap());
    server.set_broadcast(true).unwrap();
    server
}

#[test]
fn a_service_port_asks_in_its_vlan_and_in_no_other() {
    in_guest(KERNEL, || {
        in_netns(|kernel| {
            run("ip link add br-lan type bridge forward_delay 0 vlan_filtering 1 && ip link set br-lan up");
            // VLAN 40 comes with tags from another switch, VLAN 1 without.
            let (tagged, untagged) = (Netns::new(), Netns::new());
            run("ip link add trunk type veth peer name far0 && ip link set trunk master br-lan up");
            run("bridge vlan del dev trunk vid 1 && bridge vlan add dev trunk vid 40");
            run("ip link add access type veth peer name far1 && ip link set access master br-lan up");
            run(&format!("ip link set far0 netns {} name eth0", tagged.tid()));
            tagged.run("ip link set eth0 up; ip link add link eth0 name eth0.40 up type vlan id 40");
            tagged.run("ip address add 192.168.40.1/24 dev eth0.40");
            untagged.take("far1", "192.168.1.1/24", "");
            kernel.apply(&[Step::create(name("pnth1"), veth(vlans(40, "")))]).unwrap();

            let (send, received) = channel();
            kernel.watch_dhcp(Box::new(move |link, message| {
                let Incoming::Dhcp4(message, _) = message else { return };
                let _ = send.send((link.clone(), Some(*message)));
            }));
            let service = name("pntc1");
            kernel.listen_dhcp(&BTreeSet::from([service.clone()])).unwrap();
            let (of_tagged, of_untagged) = (server(&tagged), server(&untagged));
            let request = Message::of_client(Kind::Discover, 77, [2, 0, 0, 0, 0, 7]);
            kernel.send_dhcp(&service, &Outgoing::Dhcp4(Box::new(request.clone()), Destination::Broadcast)).unwrap();
            let mut buffer = [0; 1500];
            of_tagged.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let (length, _) = of_tagged.recv_from(&mut buffer).expect("the server in VLAN 40 receives it");
            assert_eq!(Message::decode(&buffer[..length]), Some(request));
            of_untagged.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            assert!(of_untagged.recv_from(&mut buffer).is_err(), "the server in VLAN 1 does not");

            // A server in VLAN 1 sends first, one in VLAN 40 afterwards.
            let offer = |number: u32| {
                let mut offer = Message::of_client(Kind::Offer, number, [2, 0, 0, 0, 0, 7]);
                offer.is_reply = true;
                offer
            };
            of_untagged.send_to(&offer(78).encode(), ("192.168.1.255", 68)).unwrap();
            of_tagged.send_to(&offer(79).encode(), ("192.168.40.255", 68)).unwrap();
            let answered = received.recv_timeout(Duration::from_secs(20)).expect("the answer in VLAN 40 arrives");
            assert_eq!(answered, (service, Some(offer(79))));
            assert!(received.recv_timeout(Duration::from_millis(500)).is_err(), "no other arrives");
        });
    });
}
