# Servers and clients for the tests of published ports, with the perl that every engine root has.
#
#   serve NAME SPEC...            tcp:PORT, tcp:FIRST-LAST, udp:PORT, sctp:PORT; answers "NAME:PORT PEER", then echoes
#   ask SECONDS PROBE...          tcp,ADDR,PORT[,SOURCE[,SOURCEPORT]] udp,... icmp,ADDR,SIZE
#                                 sctp,ADDR,PORT: an association, without kernel support; with ,damaged: wrong checksums
#                                 big,... is UDP in fragments; in parallel, a line each
#   hold ADDR PORT                a TCP connection: 8,000 bytes twenty times a second, all echoed; none while /lab/pause
#                                 exists
#   stick ADDR PORT SOURCEPORT    UDP from one port: a datagram ten times a second, prints the server that answers
#   send KIND SRC DST PORT TEXT [VIA]
#                                 a hand-made UDP datagram: plain, tiny (first fragment), late (last one first),
#                                 overlap (two first fragments with different ports), steered (source
#                                 route through VIA, whose port it is)
#   redirect FROM TO GATEWAY INNER-SRC INNER-DST SPORT DPORT
#                                 an ICMP redirect for a UDP flow
#   take PROTOCOL ADDR PORT [once] a process that holds the port
use strict;
use Socket qw(:all);
use IO::Select;
use POSIX ();

$| = 1;
$SIG{TERM} = $SIG{INT} = sub { POSIX::_exit(0) };
$SIG{PIPE} = 'IGNORE';
my $verb = shift;
{ serve => \&serve, ask => \&ask, hold => \&hold, stick => \&stick, take => \&take,
  send => \&send_by_hand, redirect => \&redirect }->{$verb}->(@ARGV);

sub resolve {
    my ($addr, $port, $type) = @_;
    my ($error, @found) = getaddrinfo($addr, $port, { flags => AI_NUMERICHOST, socktype => $type });
    die "$addr: $error\n" if $error;
    return ($found[0]{family}, $found[0]{addr});
}

sub peer {
    my ($addr) = @_;
    my ($error, $host) = getnameinfo($addr, NI_NUMERICHOST | NI_NUMERICSERV);
    $host = "?$error" if $error;
    $host =~ s/^::ffff://;
    return $host;
}

sub dual {
    my ($type, $port) = @_;
    socket(my $socket, AF_INET6, $type, 0) or die "socket: $!";
    setsockopt($socket, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1);
    bind($socket, pack_sockaddr_in6($port, IN6ADDR_ANY)) or die "bind $port: $!";
    return $socket;
}

sub serve {
    my ($name, @specs) = @_;
    my $select = IO::Select->new;
    my %kind;
    for (@specs) {
        my ($protocol, $first, $last) = /^(\w+):(\d+)(?:-(\d+))?$/ or die "spec $_";
        for my $port ($first .. ($last || $first)) {
            my @sockets;
            if ($protocol eq 'sctp') {
                @sockets = map { sctp_socket($_) } AF_INET, AF_INET6;
            } else {
                @sockets = dual($protocol eq 'tcp' ? SOCK_STREAM : SOCK_DGRAM, $port);
                listen($sockets[0], 64) if $protocol eq 'tcp';
            }
            for my $socket (@sockets) {
                $kind{fileno $socket} = [$protocol, $port];
                $select->add($socket);
            }
        }
    }
    if (open(my $ready, ">", "/lab/ready-$name")) { close $ready }
    print "ready\n";
    while (1) {
        for my $socket ($select->can_read) {
            my ($kind, $port) = @{ $kind{fileno $socket} };
            if ($kind eq 'tcp') {
                my $from = accept(my $client, $socket) or next;
                syswrite($client, "$name:$port " . peer($from) . "\n");
                $kind{fileno $client} = ['client', $port];
                $select->add($client);
            } elsif ($kind eq 'udp') {
                my $from = recv($socket, my $text, 9000, 0);
                print "got $port " . peer($from) . ($text =~ /^([\w-]{1,20})/ ? " $1" : '') . "\n" if defined $from;
                send($socket, "$name:$port " . peer($from) . "\n", 0, $from) if defined $from;
            } elsif ($kind eq 'sctp') {
                sctp_answer($socket, $port, $name);
            } else {
                my $got = sysread($socket, my $text, 9000);
                if ($got) { syswrite($socket, $text) } else { $select->remove($socket); close $socket }
            }
        }
    }
}

sub ask {
    my ($seconds, @probes) = @_;
    my @children;
    for my $index (0 .. $#probes) {
        pipe(my $read, my $write) or die "pipe: $!";
        my $pid = fork;
        if (!$pid) {
            close $read;
            my $answer = eval { probe($seconds, split /,/, $probes[$index]) } // "error $@";
            $answer =~ s/\s+$//;
            syswrite($write, $answer);
            POSIX::_exit(0);
        }
        close $write;
        push @children, $read;
    }
    for my $read (@children) {
        my $answer = do { local $/; <$read> };
        print "$answer\n";
    }
    1 while wait != -1;
}

sub probe {
    my ($seconds, $protocol, $addr, $port, $source, $sport) = @_;
    return icmp($seconds, $addr, $port) if $protocol eq 'icmp';
    return sctp($seconds, $addr, $port, $source) if $protocol eq 'sctp';
    my $size = $protocol eq 'big' ? 3000 : 5;
    my $type = $protocol eq 'tcp' ? SOCK_STREAM : SOCK_DGRAM;
    my ($family, $to) = resolve($addr, $port, $type);
    socket(my $socket, $family, $type, 0) or die "socket: $!";
    if ($source) {
        setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1);
        # IP_TRANSPARENT and IPV6_TRANSPARENT: allow any source address.
        setsockopt($socket, $family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, $family == AF_INET ? 19 : 75, 1);
        my (undef, $from) = resolve($source, $sport || 0, $type);
        bind($socket, $from) or die "bind: $!";
    }
    my $answer = '';
    my $done = eval {
        local $SIG{ALRM} = sub { die "timeout\n" };
        alarm $seconds;
        if (!connect($socket, $to)) {
            my $why = $!{ECONNREFUSED} ? 'refused' : $!{EINTR} ? 'timeout' : "unreachable ($!)";
            die "$why\n";
        }
        if ($protocol ne 'tcp') { send($socket, 'x' x $size, 0) // die "unreachable ($!)\n" }
        my $got = sysread($socket, $answer, 9000);
        if (!defined $got) { die(($!{ECONNREFUSED} ? 'refused' : "unreachable ($!)") . "\n") }
        die "closed\n" if $got == 0;
        alarm 0;
        1;
    };
    return $done ? $answer : $@;
}

sub icmp {
    my ($seconds, $addr, $size) = @_;
    my $text = `ping -c1 -W$seconds -s $size $addr 2>&1`;
    return $? == 0 ? 'pong' : $text =~ /unreachable|filtered|prohibited/i ? 'unreachable' : 'timeout';
}

sub crc32c {
    my ($data) = @_;
    my $crc = 0xffffffff;
    for my $byte (unpack 'C*', $data) {
        $crc ^= $byte;
        $crc = $crc & 1 ? ($crc >> 1) ^ 0x82f63b78 : $crc >> 1 for 1 .. 8;
    }
    return $crc ^ 0xffffffff;
}

sub sctp_socket {
    my ($family) = @_;
    socket(my $socket, $family, SOCK_RAW, 132) or die "raw: $!";
    return $socket;
}

use constant { DATA => 0, INIT => 1, INIT_ACK => 2, COOKIE_ECHO => 10, COOKIE_ACK => 11 };

# Sends one chunk.
sub sctp_send {
    my ($socket, $to, $sport, $dport, $tag, $type, $value, $damage) = @_;
    my $chunk = pack('CCn', $type, $type == DATA ? 3 : 0, 4 + length $value) . $value;
    $chunk .= "\0" x (-length($chunk) % 4);
    my $head = pack('nnN', $sport, $dport, $tag);
    my $crc = crc32c("$head\0\0\0\0$chunk") ^ ($damage || 0);
    return send($socket, $head . pack('V', $crc) . $chunk, 0, $to);
}

# Receives a chunk: ports, verification tag, type, value, whether the checksum is right, and the sender.
sub sctp_receive {
    my ($socket) = @_;
    my $from = recv($socket, my $packet, 9000, 0);
    $packet = substr($packet, 4 * (ord($packet) & 15)) if sockaddr_family($from) == AF_INET;
    return if length $packet < 16;
    my ($sport, $dport, $tag, $crc, $type, undef, $size) = unpack('nnN V CCn', $packet);
    substr($packet, 8, 4) = "\0\0\0\0";
    return ($sport, $dport, $tag, $type, substr($packet, 16, $size - 4), crc32c($packet) == $crc, $from);
}

# Common content of INIT and INIT ACK: own tag, window, streams, first number.
sub sctp_hello { return pack('NNnnN', $_[0], 65535, 1, 1, 1) }

# The server side. The cookie contains the client's tag: there is no other state.
sub sctp_answer {
    my ($socket, $port, $name) = @_;
    my ($sport, $dport, $tag, $type, $value, $right, $from) = sctp_receive($socket) or return;
    return if $dport != $port;
    print "damaged $port\n" if !$right;
    return if !$right;
    my $reply = sub { sctp_send($socket, $from, $port, $sport, @_) };
    our %tag;
    if ($type == INIT) {
        my $theirs = unpack('N', $value);
        $reply->($theirs, INIT_ACK, sctp_hello(0x01020304) . pack('nnN', 7, 8, $theirs));
    } elsif ($tag != 0x01020304) {
        print "not our tag $tag\n";
    } elsif ($type == COOKIE_ECHO) {
        $tag{"$sport " . peer($from)} = unpack('N', $value);
        $reply->(unpack('N', $value), COOKIE_ACK, '');
    } elsif ($type == DATA) {
        my $text = "$name:$port " . peer($from);
        $reply->($tag{"$sport " . peer($from)}, DATA, pack('NnnN', 1, 0, 0, 0) . $text);
    }
}

sub sctp {
    my ($seconds, $addr, $port, $damaged) = @_;
    my ($family, $to) = resolve($addr, 0, SOCK_STREAM);
    my $socket = sctp_socket($family);
    my ($sport, $mine) = (40000 + int rand 20000, 0x0a0b0c0d);
    my $say = sub { sctp_send($socket, $to, $sport, $port, @_, $damaged ? 1 : 0) or die "send: $!" };
    $say->(0, INIT, sctp_hello($mine));
    my $select = IO::Select->new($socket);
    my ($end, $theirs) = (time + $seconds, 0);
    while (time <= $end) {
        next unless $select->can_read(0.2);
        my ($from, $dport, $tag, $type, $value, $right) = sctp_receive($socket) or next;
        next if $dport != $sport;
        return "a wrong checksum" if !$right;
        return "port $from" if $from != $port;
        return "tag $tag" if $tag != $mine;
        if ($type == INIT_ACK) {
            $theirs = unpack('N', $value);
            $say->($theirs, COOKIE_ECHO, substr($value, 16 + 4, 4));
        } elsif ($type == COOKIE_ACK) {
            $say->($theirs, DATA, pack('NnnN', 1, 0, 0, 0) . 'hello');
        } elsif ($type == DATA) {
            return substr($value, 12);
        }
    }
    return 'timeout';
}

sub hold {
    my ($addr, $port) = @_;
    my ($family, $to) = resolve($addr, $port, SOCK_STREAM);
    socket(my $socket, $family, SOCK_STREAM, 0) or die "socket: $!";
    $SIG{ALRM} = sub { print "lost: no answer\n"; POSIX::_exit(1) };
    alarm 5;
    connect($socket, $to) or do { print "lost: $!\n"; exit 1 };
    sysread($socket, my $greeting, 9000) or do { print "lost: no greeting\n"; exit 1 };
    print "held $greeting";
    for (my $turn = 1; ; $turn++) {
        alarm 0;
        select(undef, undef, undef, 0.02) while -e '/lab/pause';
        alarm 8;
        # Everything has to be echoed in order.
        my ($there, $back) = (pack('N*', map { $turn * 4096 + $_ } 1 .. 2000), '');
        syswrite($socket, $there) == length $there or do { print "lost: $!\n"; exit 1 };
        while (length $back < length $there) {
            sysread($socket, $back, 9000, length $back) or do { print "lost: closed\n"; exit 1 };
        }
        $back eq $there or do { print "lost: something else came back\n"; exit 1 };
        print "turn $turn\n";
        select(undef, undef, undef, 0.05);
    }
}

sub stick {
    my ($addr, $port, $sport) = @_;
    my ($family, $to) = resolve($addr, $port, SOCK_DGRAM);
    socket(my $socket, $family, SOCK_DGRAM, 0) or die "socket: $!";
    my $any = $family == AF_INET ? '0.0.0.0' : '::';
    my (undef, $from) = resolve($any, $sport, SOCK_DGRAM);
    bind($socket, $from) or die "bind: $!";
    my $select = IO::Select->new($socket);
    while (1) {
        send($socket, "hello\n", 0, $to);
        select(undef, undef, undef, 0.1);
        while ($select->can_read(0)) {
            print $_ if defined recv($socket, $_, 9000, MSG_DONTWAIT);
        }
    }
}

sub ones_complement {
    my ($sum) = unpack('%32n*', $_[0]);
    $sum = ($sum & 0xffff) + ($sum >> 16) while $sum >> 16;
    return ~$sum & 0xffff;
}

# An IPv4 packet or a fragment of one, at an offset in bytes.
sub packet {
    my ($protocol, $source, $target, $id, $offset, $more, $options, $payload) = @_;
    my $size = 20 + length $options;
    my $flags = ($more ? 0x2000 : 0) | $offset / 8;
    my $head = sub {
        pack('CCnnnCCn a4a4', 0x40 | $size / 4, 0, $size + length $payload, $id, $flags, 64, $protocol, $_[0],
            inet_aton($source), inet_aton($target)) . $options;
    };
    return $head->(ones_complement($head->(0))) . $payload;
}

sub put {
    my ($target, @packets) = @_;
    socket(my $socket, AF_INET, SOCK_RAW, 255) or die "raw: $!";
    for (@packets) { send($socket, $_, 0, pack_sockaddr_in(0, inet_aton($target))) or die "send: $!" }
}

sub send_by_hand {
    my ($kind, $source, $target, $port, $text, $via) = @_;
    my $id = 1 + int rand 65000;
    my $data = pack('a40', "$text\n");
    my $udp = sub { pack('nnnn', 3333, $_[0], 48, 0) . $data };
    my $part = sub { packet(17, $source, $target, $id, $_[0], $_[1], '', $_[2]) };
    my $whole = $udp->($port);
    my @packets =
        $kind eq 'plain' ? $part->(0, 0, $whole)
        : $kind eq 'tiny' ? ($part->(0, 1, substr $whole, 0, 8), $part->(8, 0, substr $whole, 8))
        : $kind eq 'late' ? ($part->(24, 0, substr $whole, 24), $part->(0, 1, substr $whole, 0, 24))
        : $kind eq 'overlap' ? ($part->(0, 1, substr $udp->(53), 0, 24), $part->(0, 1, substr $whole, 0, 24),
            $part->(24, 0, substr $whole, 24))
        : packet(17, $source, $target, $id, 0, 0, pack('CCC a4 C', 131, 7, 4, inet_aton($via), 1), $whole);
    put($target, @packets);
}

sub redirect {
    my ($from, $to, $gateway, $source, $target, $sport, $dport) = @_;
    my $inner = packet(17, $source, $target, 1, 0, 0, '', pack('nnnn', $sport, $dport, 14, 0) . 'hello.');
    my $icmp = sub { pack('CCn a4', 5, 1, $_[0], inet_aton($gateway)) . $inner };
    put($to, packet(1, $from, $to, 1 + int rand 65000, 0, 0, '', $icmp->(ones_complement($icmp->(0)))));
}

sub take {
    my ($protocol, $addr, $port, $once) = @_;
    my $type = $protocol eq 'tcp' ? SOCK_STREAM : SOCK_DGRAM;
    my ($family, $at) = resolve($addr, $port, $type);
    socket(my $socket, $family, $type, 0) or die "socket: $!";
    setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1) if $protocol eq 'tcp';
    bind($socket, $at) or do { print "busy: $!\n"; exit 1 };
    if ($protocol eq 'tcp') { listen($socket, 8) or do { print "busy: $!\n"; exit 1 } }
    print "taken\n";
    exit if $once;
    sleep 100000;
}
