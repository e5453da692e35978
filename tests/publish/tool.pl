# Servers and clients for the tests of published ports, with the perl that every engine root has.
#
#   serve NAME SPEC...            tcp:PORT, tcp:FIRST-LAST, udp:PORT, sctp:PORT; answers "NAME:PORT PEER", then echoes
#   ask SECONDS PROBE...          tcp,ADDR,PORT[,SOURCE[,SOURCEPORT]] udp,... sctp,... icmp,ADDR,SIZE
#                                 big,... is UDP in fragments; all at once, a line each
#   hold ADDR PORT                a TCP connection: a line ten times a second, and back; none while /lab/pause is there
#   stick ADDR PORT SOURCEPORT    UDP from one port: a datagram ten times a second, prints who answers
#   take PROTOCOL ADDR PORT [once] a process that has the port
use strict;
use Socket qw(:all);
use IO::Select;
use POSIX ();

$| = 1;
$SIG{TERM} = $SIG{INT} = sub { POSIX::_exit(0) };
$SIG{PIPE} = 'IGNORE';
my $verb = shift;
{ serve => \&serve, ask => \&ask, hold => \&hold, stick => \&stick, take => \&take }->{$verb}->(@ARGV);

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
            my $socket;
            if ($protocol eq 'sctp') {
                socket($socket, AF_INET, SOCK_RAW, 132) or die "raw: $!";
            } else {
                $socket = dual($protocol eq 'tcp' ? SOCK_STREAM : SOCK_DGRAM, $port);
                listen($socket, 64) if $protocol eq 'tcp';
            }
            $kind{fileno $socket} = [$protocol, $port];
            $select->add($socket);
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
                print "got $port " . peer($from) . "\n" if defined $from;
                send($socket, "$name:$port " . peer($from) . "\n", 0, $from) if defined $from;
            } elsif ($kind eq 'sctp') {
                my $from = recv($socket, my $packet, 9000, 0);
                my ($sport, $dport, undef, undef, $chunk) = unpack('nnNNC', substr($packet, 20));
                next unless $dport == $port && $chunk == 1;
                my $tag = unpack('N', substr($packet, 20 + 16, 4));
                send($socket, sctp_packet($dport, $sport, $tag, 2), 0, $from);
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
    return sctp($seconds, $addr, $port) if $protocol eq 'sctp';
    my $size = $protocol eq 'big' ? 3000 : 5;
    my $type = $protocol eq 'tcp' ? SOCK_STREAM : SOCK_DGRAM;
    my ($family, $to) = resolve($addr, $port, $type);
    socket(my $socket, $family, $type, 0) or die "socket: $!";
    if ($source) {
        setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1);
        # IP_TRANSPARENT and its brother: any address may be said to be ours
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

# An INIT (1) or INIT ACK (2).
sub sctp_packet {
    my ($sport, $dport, $tag, $chunk) = @_;
    my $body = pack('CCn N N n n N', $chunk, 0, $chunk == 1 ? 20 : 28, 0x01020304, 65535, 1, 1, 1);
    $body .= pack('nn N', 7, 8, 0xc0ffee) if $chunk == 2;
    my $head = sub { pack('nnN', $sport, $dport, $tag) . $_[0] };
    my $crc = crc32c($head->("\0\0\0\0") . $body);
    return $head->(pack('V', $crc)) . $body;
}

sub sctp {
    my ($seconds, $addr, $port) = @_;
    my $to = pack_sockaddr_in(0, inet_aton($addr));
    socket(my $socket, AF_INET, SOCK_RAW, 132) or die "raw: $!";
    send($socket, sctp_packet(40000 + $port % 10000, $port, 0, 1), 0, $to) or die "send: $!";
    my $select = IO::Select->new($socket);
    my $end = time + $seconds;
    while (time <= $end) {
        next unless $select->can_read(0.2);
        recv($socket, my $packet, 9000, 0);
        my ($sport, $dport, undef, undef, $chunk) = unpack('nnNNC', substr($packet, 20));
        return "init ack from $sport" if $chunk == 2 && $dport == 40000 + $port % 10000;
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
        syswrite($socket, "$turn\n") or do { print "lost: $!\n"; exit 1 };
        sysread($socket, my $text, 9000) or do { print "lost: closed\n"; exit 1 };
        print "turn $turn\n";
        select(undef, undef, undef, 0.1);
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
