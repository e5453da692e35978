#!/usr/bin/env python3
"""Owns the seed corpora: writes fuzz/corpus/<target>/ from tests/fixtures/wire.

    python3 fuzz/seeds.py

A target whose input is a request gets the shortest and the longest body of every method, out of
all engines; `options` gets the -o and --driver-opt maps that engines passed on, and the keys of
src/model/options.rs; `names` gets one of each form, `ledger` the
frozen ledgers, `netlink` messages made here. What a run finds goes to fuzz/corpus-found,
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


def write(target, name, data):
    folder = FUZZ / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def api(requests):
    source = (ROOT / "src/api/mod.rs").read_text()
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
    source = (ROOT / "src/model/options.rs").read_text()
    keys = sorted(set(re.findall(r'"(com\.docker\.network\.[a-z0-9_.]+)"', source)))
    write("options", "numbers", "\n".join(f"{k}=1400" for k in keys).encode())
    for key in keys:
        write("options", key.removeprefix("com.docker.network."), f"{key}=true".encode())


def names():
    for name, text in NAMES.items():
        write("names", name, text.encode())


def ledger():
    """The frozen ledgers: as they are, and as JSON lines that the target gives their checksums."""
    for file in sorted((ROOT / "tests/fixtures/state").glob("*.ledger")):
        lines = file.read_bytes().splitlines(keepends=True)
        write("ledger", f"{file.stem}-as-is", b"\0" + b"".join(lines[:4]))
        write("ledger", f"{file.stem}-unsummed", b"\3" + b"".join(line[9:] for line in lines[1:]))


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
    refusal = struct.pack("=i", -17) + b"\0" * 16 + attribute(1, b"words\0")
    write("netlink", "refusal", frame(2, 0x300, refusal))


def main():
    lines = [line for f in sorted((ROOT / "tests/fixtures/wire").glob("*.jsonl")) for line in f.read_text().splitlines()]
    requests = [json.loads(line) for line in lines]
    api(requests)
    options(requests)
    names()
    ledger()
    netlink()


if __name__ == "__main__":
    main()
