# mDNS with the perl that every engine root has: a responder and a querier, both by multicast.
#
#   know ADDRESS     answers questions for there.local with this IPv4 address
#   ask FAMILY       asks over IPv4 (4) or IPv6 (6) until there is an answer, and prints the address
use strict;
use Socket qw(:all);
use IO::Select;

$| = 1;
alarm 60;
my ($verb, $word) = @ARGV;
my $name = "\5there\5local\0";
my $index = do { open my $file, '<', '/proc/net/if_inet6' or die; my ($line) = grep { /eth0$/ } <$file>; hex((split ' ', $line // '')[1] // 0) };

sub of {
    my ($family) = @_;
    my $v6 = $family == 6;
    socket(my $socket, $v6 ? AF_INET6 : AF_INET, SOCK_DGRAM, 0) or die "socket: $!";
    setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1);
    if ($v6) {
        setsockopt($socket, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        bind($socket, pack_sockaddr_in6(5353, IN6ADDR_ANY)) or die "bind: $!";
        my $group = inet_pton(AF_INET6, 'ff02::fb');
        setsockopt($socket, IPPROTO_IPV6, IPV6_JOIN_GROUP, pack_ipv6_mreq($group, $index)) or die "join: $!";
        return [$socket, pack_sockaddr_in6(5353, $group, $index)];
    }
    bind($socket, pack_sockaddr_in(5353, INADDR_ANY)) or die "bind: $!";
    my $group = inet_aton('224.0.0.251');
    setsockopt($socket, IPPROTO_IP, IP_ADD_MEMBERSHIP, pack_ip_mreq($group, INADDR_ANY)) or die "join: $!";
    return [$socket, pack_sockaddr_in(5353, $group)];
}

if ($verb eq 'know') {
    my %group = map { fileno($$_[0]) => $_ } grep { $_ } of(4), $index ? of(6) : undef;
    my $select = IO::Select->new(map { $$_[0] } values %group);
    while (1) {
        for my $socket ($select->can_read) {
            recv($socket, my $packet, 512, 0);
            next if ord(substr $packet, 2, 1) & 0x80 || index($packet, $name) < 0;
            my $answer = pack('n6', 0, 0x8400, 0, 1, 0, 0) . $name . pack('nnNn', 1, 1, 120, 4) . inet_aton($word);
            send $socket, $answer, 0, $group{fileno $socket}[1];
        }
    }
}
my ($socket, $group) = @{of($word)};
my $select = IO::Select->new($socket);
for (1 .. 130) {
    send $socket, pack('n6', 0, 0, 1, 0, 0, 0) . $name . pack('nn', 1, 1), 0, $group;
    while ($select->can_read(0.3)) {
        recv($socket, my $packet, 512, 0);
        next unless ord(substr $packet, 2, 1) & 0x80 && index($packet, $name) >= 0;
        print inet_ntoa(substr $packet, -4), "\n";
        exit;
    }
}
die "no answer\n";
