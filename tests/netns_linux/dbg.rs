use crate::netns_support::*;
use crate::town::*;
#[test]
fn dbg() {
    in_netns(|kernel| {
        let ports = [port(TCP, "::", 8080, "fd00:1::2"), port(UDP, "::", 8080, "fd00:1::2"),port(TCP, "::1", 8081, "fd00:1::2"),];
        let town = Town::new(kernel, [basics(), ports.to_vec()].concat());
        town.a.pings("fd00:1::1");
        run("echo 0 > /proc/sys/net/bridge/bridge-nf-call-ip6tables");
        eprintln!("no route ::1 {:?}", ask(TCP, "[::1]:8081"));
        run("ip -6 route add local ::1/128 dev pntbone table local metric 1024; ip -6 route add local ::1/128 dev pntbtwo table local metric 1024");
        eprintln!("::1 {:?}", ask(TCP, "[::1]:8081"));
        eprintln!("::1 {:?}", ask(UDP, "[::1]:8080"));
    });
}
