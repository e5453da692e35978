//! Broadcasts to a published UDP port, and packets that are not forwarded to the container.

use crate::topology::{NODE4, NODE6, SOON, on_both};
use testkit::wait_until;

/// Sends a UDP request from the host outside; prints the address that answered.
const CALL: &str = r#"use IO::Socket::INET; use IO::Select;
my $s = IO::Socket::INET->new(Proto => "udp", LocalAddr => "192.168.77.2", Broadcast => 1) or die $!;
$s->send("who\n", 0, pack_sockaddr_in(8310, inet_aton($ARGV[0]))) or die $!;
IO::Select->new($s)->can_read(1) or die "silence\n";
$s->recv(my $answer, 100) // die $!;
print $s->peerhost, ":", $s->peerport;"#;

/// Connects by TCP over IPv6; prints the result within a second.
const CONNECT: &str = r#"use Socket qw(:all); use IO::Select; use Errno;
my ($error, $to) = getaddrinfo($ARGV[0], $ARGV[1], {socktype => SOCK_STREAM, flags => AI_NUMERICHOST});
socket(my $s, $to->{family}, SOCK_STREAM, 0) or die $!;
use Fcntl; fcntl($s, F_SETFL, O_NONBLOCK);
connect($s, $to->{addr}) or $!{EINPROGRESS} or do { print "refused"; exit };
IO::Select->new($s)->can_write(2) or do { print "silence"; exit };
print unpack("i", getsockopt($s, SOL_SOCKET, SO_ERROR)) ? "refused" : "answered";"#;

#[test]
fn broadcasts_reach_a_published_udp_port() {
    on_both(|scenario| {
        scenario.network("net", &["--subnet", "10.141.1.0/24"]);
        scenario.serve("heard", &["udp:53"], &["--network", "net", "-p", "8310:53/udp"]);
        for to in ["255.255.255.255", "192.168.77.255", NODE4] {
            wait_until(SOON, &format!("an answer to {to} with {}", scenario.driver), || {
                let asked = scenario.outside.exec(&["perl", "-e", CALL, to]);
                asked.success() && asked.ok() == format!("{NODE4}:8310")
            });
        }
    });
}

/// The built-in driver answers these by its proxy. Pontoon has none, and must reject them at once.
#[test]
fn packets_that_need_a_proxy_are_rejected_at_once() {
    on_both(|scenario| {
        scenario.network("net", &["--subnet", "10.141.1.0/24"]);
        scenario.serve("web", &["tcp:80"], &["--network", "net", "-p", "8311:80"]);
        let expected = if scenario.is_pontoon() { "refused" } else { "answered" };
        let links = scenario.exec(&["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]).ok();
        let own = links.split_whitespace().find_map(|word| word.strip_suffix("/64")).expect("a link-local address");
        for to in [NODE6.to_owned(), format!("{own}%eth0")] {
            let asked = || scenario.outside.exec(&["perl", "-e", CONNECT, &to, "8311"]).ok();
            wait_until(SOON, &format!("{to} to be {expected} with {}", scenario.driver), || asked() == expected);
        }
        if scenario.is_pontoon() {
            let started = scenario.docker(&["run", "-d", "--network", "net", "-p", "[::1]:8312:80", "busybox"]);
            assert!(!started.success() && started.stderr.contains("--ipv6"), "{started}");
        }
    });
}
