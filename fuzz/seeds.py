#!/usr/bin/env python3
"""Owns the seed corpora: writes fuzz/corpus/<target>/ from crates/libnetwork-plugin/tests/fixtures.

    python3 fuzz/seeds.py

A target whose input is a request gets the shortest and the longest body of every method, out of
all engines; `options` gets the -o and --driver-opt maps that engines passed on, and the keys of
src/model/options; `names` and `access` get one of each form, `ledger` the
frozen ledgers, `http` whole requests and broken ones, `ports`, `netlink`, `frames`, `dhcp`, `routers` and `dns` what is made here. What a run finds goes to fuzz/corpus-found,
which is not committed.
"""

import json
import pathlib
import re
import struct

FUZZ = pathlib.Path(__file__).resolve().parent
ROOT = FUZZ.parent
NAMES = {
    "hex": "adec5e726bb8aecb5e82e07e3f97960b5607cd74d7e10fffb9ae6b831f659072",
    "base36": "u4ylute1if55shzy1kj09qow0",
    "mac": "02:42:ac:1e:00:99",
    "mac-dashes": "02-42-AC-1E-00-99",
    "mac-group": "01:00:5e:00:00:01",
    "link": "br-0123456789ab",
    "link-dot": "foo.100",
    "punctuation": "-_.",
    "empty": "",
}


LISTS = {
    "short": "dns+any",
    "ports": "tcp:80/443/8000-8080@10.0.0.0/8!10.1.0.0/16+udp:53@host",
    "peers": "@group:db;icmp@world,sctp@net+fd00::/8!fd00::1",
    "name": "tcp:443@*.example.org",
    "empty": "",
}


def write(target, name, data):
    folder = FUZZ / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def api(requests):
    source = (ROOT / "crates/libnetwork-plugin/src/wire/method.rs").read_text()
    rows = re.findall(r'"(/[A-Za-z]+\.[A-Za-z]+)",\s*"([a-z_]+)"', source)
    for index, (path, name) in enumerate(rows):
        bodies = sorted((r["raw"] for r in requests if r["path"] == path and r["raw"]), key=lambda b: (len(b), b))
        for which, body in {"short": bodies[:1], "long": bodies[-1:]}.items():
            for text in body:
                write("api", f"{name}-{which}", bytes([index]) + text.encode())
        if not bodies:
            write("api", name, bytes([index]))


def options(requests):
    maps = {}
    for r in requests:
        given = (json.loads(r["raw"]) if r["raw"] else {}).get("Options") or {}
        given = given.get("com.docker.network.generic", given) or {}
        lines = sorted(f"{k}={v}" for k, v in given.items() if isinstance(v, str))
        maps.setdefault("\n".join(lines))
    for at, text in enumerate(sorted(maps, key=lambda t: (len(t), t))[-8:]):
        write("options", f"given-{at}", text.encode())
    source = "".join(file.read_text() for file in sorted((ROOT / "src/model/options").glob("*.rs")))
    keys = sorted(set(re.findall(r'"((?:com\.docker\.network|pontoon)\.[a-z0-9_.]+)"', source)))
    write("options", "numbers", "\n".join(f"{k}=1400" for k in keys).encode())
    for key in keys:
        write("options", key.removeprefix("com.docker.network."), f"{key}=true".encode())


def names():
    for name, text in NAMES.items():
        write("names", name, text.encode())


def access():
    for name, text in LISTS.items():
        write("access", name, text.encode())


def ledger():
    """The frozen ledgers: as they are, and as JSON lines that the target gives their checksums."""
    for file in sorted((ROOT / "tests/fixtures/state").glob("*.ledger")):
        lines = file.read_bytes().splitlines(keepends=True)
        write("ledger", f"{file.stem}-as-is", b"\0" + b"".join(lines[:4]))
        write("ledger", f"{file.stem}-unsummed", b"\3" + b"".join(line[9:] for line in lines[1:]))


def http(requests):
    """What a client writes: whole requests, several in one write, and what is none."""
    head = lambda path, length: f"POST {path} HTTP/1.1\r\nHost: \r\nContent-Length: {length}\r\n\r\n"
    whole = {}
    for r in requests:
        whole.setdefault(r["path"], head(r["path"], len(r["raw"])) + r["raw"])
    for path, text in whole.items():
        write("http", path.lstrip("/"), text.encode())
    write("http", "pipelined", "".join(whole.values()).encode())
    chunked = "POST /NetworkDriver.Leave HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    write("http", "chunked", chunked.encode())
    write("http", "metrics", b"GET /metrics HTTP/1.0\r\n\r\n")
    write("http", "expect", b"POST /NetworkDriver.Leave HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}")
    write("http", "cut", head("/NetworkDriver.Join", 1000).encode() + b"{")
    write("http", "other", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


def ports():
    """Port maps as engines send them, a resolv.conf, and pools."""
    entry = lambda **fields: {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 0, "HostPortEnd": 0} | fields
    maps = {
        "chosen": [entry()],
        "both": [entry(HostIP="0.0.0.0", HostPort=8080, HostPortEnd=8080), entry(HostIP="::", HostPort=8080, HostPortEnd=8080)],
        "range": [entry(Proto=17, HostPort=9000, HostPortEnd=9009), entry(Proto=132, Port=81, HostIP="127.0.0.1")],
        "taken-twice": [entry(HostPort=8080), entry(Port=81, HostPort=8080)],
        "none": None,
    }
    for name, value in maps.items():
        write("ports", name, b"\0" + json.dumps(value, separators=(",", ":")).encode())
    write("ports", "resolv", b"\2search lan\nnameserver 10.0.0.53\nnameserver fe80::1%eth0\noptions ndots:1\n")
    write("ports", "pools", b"\3base=10.0.0.0/8,size=24;base=fd00::/16,size=64")


def netlink():
    """A listing of one link with nested attributes, and a refusal with the kernel's words."""
    attribute = lambda kind, value: struct.pack("=HH", len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)
    frame = lambda kind, flags, payload: struct.pack("=IHHII", len(payload) + 16, kind, flags, 1, 7) + payload
    info = attribute(18, attribute(1, b"bridge\0") + attribute(2, attribute(1, b"\0\0\0\0")))
    link = struct.pack("=BBHiII", 0, 0, 1, 3, 1, 0) + attribute(3, b"pntb0\0") + attribute(4, b"\xdc\5\0\0") + info
    write("netlink", "link", frame(16, 2, link) + frame(3, 2, b"\0" * 4))
    address = struct.pack("=BBBBI", 2, 24, 0, 0, 3) + attribute(1, b"\n\0\0\1") + attribute(2, b"\n\0\0\1")
    write("netlink", "address", frame(20, 2, address))
    route = struct.pack("=BBBBBBBBI", 2, 24, 0, 0, 254, 2, 253, 1, 0) + attribute(1, b"\n\0\0\0") + attribute(4, b"\3\0\0\0")
    write("netlink", "route", frame(24, 2, route))
    key = attribute(1, attribute(1, attribute(1, b"pntb0".ljust(16, b"\0"))))
    write("netlink", "elements", frame(0xA0C, 2, b"\1\0\0\0" + attribute(1, b"pontoon\0") + attribute(3, key)))
    kind = lambda name: attribute(18, attribute(1, name))
    bridge = struct.pack("=BBHiII", 0, 0, 1, 9, 0x1003, 0) + attribute(3, b"br-0123456789ab\0") + kind(b"bridge\0")
    renamed = struct.pack("=BBHiII", 0, 0, 1, 9, 0x1002, 0) + attribute(3, b"other\0") + kind(b"bridge\0")
    write("netlink", "watch-links", frame(16, 0, bridge) + frame(16, 0, renamed) + frame(17, 0, renamed))
    rule = attribute(1, b"filter\0") + attribute(2, b"FORWARD\0") + attribute(3, struct.pack(">Q", 7))
    write("netlink", "watch-rules", frame(0xA06, 0, b"\2\0\0\0" + rule))
    tuple_of = lambda kind: attribute(kind, attribute(1, attribute(1, b"\n\0\0\2") + attribute(2, b"\n\0\0\3")) + attribute(2, attribute(1, b"\6")))
    write("netlink", "flow", frame(0x100, 2, b"\2\0\0\0" + tuple_of(0x8001) + tuple_of(0x8002) + attribute(0x8003, b"\0\0\0\x08")))
    refusal = struct.pack("=i", -17) + b"\0" * 16 + attribute(1, b"words\0")
    write("netlink", "refusal", frame(2, 0x300, refusal))


def frames():
    mac = b"\2\0\0\0\0\7"
    arp = lambda op, sender, target: b"\xff" * 6 + mac + struct.pack(">HHHBBH", 0x0806, 1, 0x800, 6, 4, op) + mac + sender + b"\0" * 6 + target
    write("frames", "arp-request", arp(1, b"\xc0\xa8\1\x07", b"\xc0\xa8\1\1"))
    write("frames", "arp-reply", arp(2, b"\xc0\xa8\1\x07", b"\xc0\xa8\1\x07"))
    write("frames", "arp-probe", arp(1, b"\0" * 4, b"\xc0\xa8\1\x07"))
    address = b"\xfd" + b"\0" * 14 + b"\7"
    head = b"\x33\x33\0\0\0\1" + mac + b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, 32, 58, 255) + address + b"\xff\2" + b"\0" * 13 + b"\1"
    write("frames", "advertisement", head + b"\x88\0\0\0\x20\0\0\0" + address + b"\2\1" + mac)
    write("frames", "solicitation", head + b"\x87\0\0\0\0\0\0\0" + address + b"\x0e\1" + b"\0" * 6 + b"\1\1" + mac)


def dhcp():
    client, server = b"\2\0\0\0\0\7", b"\xc0\0\2\1"
    head = lambda sname=b"", file=b"": (
        struct.pack(">BBBBIHH", 2, 1, 6, 0, 0x12345678, 0, 0x8000) + b"\0" * 4 + b"\xc0\0\2\x11" + b"\0" * 8
        + client.ljust(16, b"\0") + sname.ljust(64, b"\0") + file.ljust(128, b"\0") + b"\x63\x82\x53\x63")
    option = lambda code, value: bytes([code, len(value)]) + value
    terms = option(54, server) + option(51, struct.pack(">I", 3600)) + option(1, b"\xff\xff\xff\0")
    routes = option(121, b"\0" + server + b"\x10\n\7" + server + b"\x08\x0b\0\0\0\0")
    messages = {
        "offer": head() + option(53, b"\2") + terms + option(3, server) + b"\xff",
        "ack": head() + option(53, b"\5") + terms + routes + option(26, struct.pack(">H", 1400)) + option(15, b"lan") + b"\xff",
        "nak": head() + option(53, b"\6") + option(54, server) + option(56, b"wrong network") + b"\xff",
        "overload": head(option(6, server) + b"\xff", option(15, b"lan") + b"\xff") + option(53, b"\5") + terms + option(52, b"\3") + b"\xff",
    }
    for name, message in messages.items():
        write("dhcp", name, message)
    udp = struct.pack(">HHHH", 67, 68, 8 + len(messages["ack"]), 0) + messages["ack"]
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + server + b"\xff" * 4
    total = sum(struct.unpack(">10H", ip))
    total = ~((total & 0xffff) + (total >> 16)) & 0xffff
    ip = ip[:10] + struct.pack(">H", total) + ip[12:]
    write("dhcp", "frame", b"\xff" * 6 + b"\6" * 6 + b"\x08\0" + ip + udp)


def routers():
    head = lambda flags=0: b"\0\1" + bytes([134, 0, 0, 0, 64, flags]) + struct.pack(">HII", 1800, 0, 0)
    prefix = lambda valid, preferred, number: (
        bytes([3, 4, 64, 0xc0]) + struct.pack(">III", valid, preferred, 0) + b"\x20\1\r\xb8\0" + bytes([number]) + b"\0" * 10)
    mtu = bytes([5, 1, 0, 0]) + struct.pack(">I", 1400)
    server = bytes([25, 3, 0, 0]) + struct.pack(">I", 600) + b"\xfe\x80" + b"\0" * 13 + b"\1"
    write("routers", "prefix", head() + prefix(86400, 14400, 1) + mtu + server)
    write("routers", "managed", head(0xc0))
    write("routers", "renumbered", head() + prefix(86400, 14400, 1) + b"\xf7" + b"\x46" + head()[1:] + prefix(0, 0, 1) + prefix(86400, 14400, 2))
    write("routers", "cut", head() + prefix(86400, 14400, 1)[:20])


def dns():
    name = b"\3api\7example\3com\0"
    head = lambda flags, answers, more: b"\0\7" + struct.pack(">HHHHHH", 9, flags, 1, answers, 0, more)
    record = lambda owner, kind, data: owner + struct.pack(">HHIH", kind, 1, 60, len(data)) + data
    ask = lambda kind: name + struct.pack(">HH", kind, 1)
    option = b"\0" + struct.pack(">HHIH", 41, 1232, 0x8000, 0)
    write("dns", "query", head(0x0100, 0, 0) + ask(1))
    write("dns", "extended", head(0x0110, 0, 1) + ask(28) + option)
    write("dns", "many", b"\0\7" + struct.pack(">HHHHHH", 9, 0x0100, 2, 0, 0, 0) + ask(1) + ask(28))
    alias = record(b"\xc0\x0c", 5, b"\4edge\xc0\x10")
    write("dns", "alias", head(0x8180, 2, 0) + ask(1) + alias + record(b"\xc0\x2d", 1, b"\xc0\0\2\1"))
    write("dns", "address", head(0x8180, 1, 0) + ask(28) + record(b"\xc0\x0c", 28, b"\x20\1" + b"\0" * 13 + b"\7"))


def main():
    lines = [line for f in sorted((ROOT / "crates/libnetwork-plugin/tests/fixtures").glob("*.jsonl")) for line in f.read_text().splitlines()]
    requests = [json.loads(line) for line in lines]
    api(requests)
    http(requests)
    ports()
    options(requests)
    names()
    access()
    ledger()
    netlink()
    frames()
    dhcp()
    routers()
    dns()


if __name__ == "__main__":
    main()
