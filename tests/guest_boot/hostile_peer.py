#!/usr/bin/env python3
"""Speaks ZMTP 3.0 (rfc.zeromq.org/spec/23) by hand to every port of a running machine and sends what no node sends:
hostile_peer.py SECONDS SEED PORT... Prints how many messages were taken and how many connections were closed on it."""
import random
import socket
import struct
import sys
import time

GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)


def ready(kind):
    body = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    return b"\x04" + bytes([len(body)]) + body


def message(parts):
    out = b""
    for i, part in enumerate(parts):
        more = 1 if i + 1 < len(parts) else 0
        out += bytes([more, len(part)]) if len(part) < 256 else bytes([more | 2]) + struct.pack(">Q", len(part))
        out += part
    return out


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def envelope(rng):
    """One of another machine (its number cannot be known), or with fields that are out of range."""
    fields = b"\x09" + struct.pack("<Q", rng.getrandbits(64)) + b"\x10" + varint(rng.choice([0, 1, 2, 70000]))
    fields += b"\x18" + varint(rng.choice([0, 1, 2, 3, 9])) + b"\x20" + varint(rng.choice([0, 1, 2, 2**63]))
    return fields + b"\x29" + struct.pack("<Q", rng.getrandbits(64)) + b"\x32" + varint(16) + rng.randbytes(16)


def nonsense(rng):
    kind = rng.randrange(7)
    if kind == 0:
        return message([rng.randbytes(rng.randrange(400))])
    if kind == 1:
        return message([envelope(rng)])
    if kind == 2:
        return message([envelope(rng) + b"\x38\x80\x20", rng.randbytes(4096)])
    if kind == 3:
        return message([rng.randbytes(8) for _ in range(rng.randrange(2, 200))])
    if kind == 4:
        return message([rng.randbytes(rng.choice([385, 4097, 65536, 131073, 300000]))])  # oversize
    if kind == 5:
        return b"\x02" + struct.pack(">Q", 2**62)  # a length that nobody has the memory for
    return rng.randbytes(rng.randrange(1, 100))  # no framing at all


def main():
    end, rng = time.monotonic() + float(sys.argv[1]), random.Random(int(sys.argv[2]))
    sent = closed = 0
    while time.monotonic() < end:
        for port in sys.argv[3:]:
            try:
                with socket.create_connection(("127.0.0.1", int(port)), timeout=1) as s:
                    s.settimeout(0.2)
                    s.sendall(GREETING + ready(rng.choice([b"PUSH", b"PUSH", b"PUSH", b"DEALER", b"SUB"])))
                    for _ in range(rng.randrange(1, 40)):
                        s.sendall(nonsense(rng))
                        sent += 1
            except OSError:
                closed += 1
    print(f"{sent} messages, {closed} connections closed on us")


main()
