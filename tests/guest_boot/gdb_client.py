"""gdb_client.py PORT VCPUS: what gdb does to a machine whose guest stands idle at a prompt, by gdb's remote protocol.

One line per case, `ok NAME` or `FAIL NAME: why`. The vCPU that is looked at is the last one, on the last node.
"""
import socket
import sys
import time

LIMIT_S = 60


class Gdb:
    def __init__(self, port):
        self.line = socket.create_connection(("127.0.0.1", port))
        self.line.settimeout(LIMIT_S)
        self.waiting = b""
        self.acks = True
        self.ask("qSupported:vContSupported+")
        self.ask("QStartNoAckMode")
        self.acks = False

    def send(self, text):
        self.line.sendall(b"$" + text.encode() + b"#%02x" % (sum(text.encode()) & 255))

    def reply(self):
        while True:
            begin = self.waiting.find(b"$")
            end = self.waiting.find(b"#", begin)
            if begin >= 0 and end >= 0 and len(self.waiting) >= end + 3:
                text = self.waiting[begin + 1 : end].decode("latin1")
                self.waiting = self.waiting[end + 3 :]
                if self.acks:
                    self.line.sendall(b"+")
                return text
            more = self.line.recv(65536)
            if not more:
                raise EOFError("the machine closed the connection")
            self.waiting += more

    def ask(self, text):
        self.send(text)
        return self.reply()

    def interrupt(self):
        self.line.sendall(b"\x03")
        return self.reply()

    def register(self, vcpu, number):
        self.ask(f"Hg{vcpu + 1:x}")
        return int.from_bytes(bytes.fromhex(self.ask(f"p{number:x}")), "little")

    def set_register(self, vcpu, number, value):
        self.ask(f"Hg{vcpu + 1:x}")
        return self.ask(f"P{number:x}={value.to_bytes(8, 'little').hex()}")

    def memory(self, vcpu, address):
        self.ask(f"Hg{vcpu + 1:x}")
        return int.from_bytes(bytes.fromhex(self.ask(f"m{address:x},8")), "little")


RAX, RSP, RIP = 0, 7, 16
KERNEL = 0xFFFF800000000000


_good = set()


def check(name, good, why):
    """Says `ok` for each name once, however often it is looked at, and each failure."""
    if not good:
        print(f"FAIL {name}: {why}", flush=True)
    elif name not in _good:
        print(f"ok {name}", flush=True)
        _good.add(name)
    return good


def main():
    port, vcpus = int(sys.argv[1]), int(sys.argv[2])
    last = vcpus - 1
    gdb = Gdb(port)
    threads = gdb.ask("qfThreadInfo")
    check("threads", threads == "m" + ",".join(f"{i + 1:x}" for i in range(vcpus)), threads)
    where = bytes.fromhex(gdb.ask(f"qThreadExtraInfo,{vcpus:x}")).decode()
    check("thread-names-its-node", f"vCPU {last} on node {last}" in where, where)

    # Idle vCPUs stand behind the same HLT.
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        rip = gdb.register(last, RIP)
        if rip >= KERNEL and gdb.register(0, RIP) == rip and gdb.memory(last, rip - 1) & 0xFF == 0xF4:
            break
        gdb.send("vCont;c")
        time.sleep(0.01)
        gdb.interrupt()
    else:
        check("idle", False, f"the vCPUs do not come to rest: {gdb.register(0, RIP):#x} {rip:#x}")
        return

    # Registers of a vCPU on another node, there and back.
    old = gdb.register(last, RAX)
    gdb.set_register(last, RAX, 0x0123456789ABCDEF)
    new, other = gdb.register(last, RAX), gdb.register(0, RAX)
    gdb.set_register(last, RAX, old)
    good = new == 0x0123456789ABCDEF and (vcpus == 1 or other != new) and gdb.register(last, RAX) == old
    check("registers", good, f"{old:#x}, then {new:#x}; vCPU 0 has {other:#x}")

    # A breakpoint: each vCPU meets it when its next interrupt returns, or when it has done what it was woken for, one
    # instruction at a time; the others meet it meanwhile. As gdb does it: take it out, step the one, go on.
    seen = set()
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        gdb.ask(f"Z1,{rip:x},1")
        stop = gdb.ask("vCont;c")
        vcpu = int(stop.split("thread:")[1].split(";")[0], 16) - 1
        if not check("breakpoint", "hwbreak" in stop and gdb.register(vcpu, RIP) == rip, stop) or len(seen) == vcpus:
            break
        gdb.ask(f"z1,{rip:x},1")
        others = [gdb.register(v, RIP) for v in range(vcpus) if v != vcpu]
        behind = gdb.memory(vcpu, gdb.register(vcpu, RSP))
        gdb.ask(f"vCont;s:{vcpu + 1:x}")
        new = gdb.register(vcpu, RIP)
        stayed = others == [gdb.register(v, RIP) for v in range(vcpus) if v != vcpu]
        # Behind the HLT there is RET, or an instruction of one to eight bytes before it.
        if not check("step", new == behind or rip < new <= rip + 8, f"vCPU {vcpu} from {rip:#x} to {new:#x}"):
            break
        if not check("step-holds-the-others", stayed, "another vCPU has moved"):
            break
        seen.add(vcpu)
        if len(seen) == vcpus:
            break
    check("breakpoint-on-every-node", len(seen) == vcpus, f"only vCPUs {sorted(seen)} met it")

    # A watchpoint where the idle loop of the last vCPU leaves return addresses.
    slot = gdb.register(last, RSP) - 8
    gdb.ask(f"Z2,{slot:x},8")
    stop = gdb.ask("vCont;c")
    check("watchpoint", f"thread:{vcpus:x};" in stop and f"watch:{slot:x}" in stop, stop)
    gdb.ask(f"z2,{slot:x},8")

    # Running and interrupting, many times; then gdb goes and the guest works on.
    stops = {(gdb.send("vCont;c"), gdb.interrupt()[:3])[1] for _ in range(20)}
    check("interrupts", stops == {"T02"}, stops)
    gdb.ask("D")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # a reply that did not come, or made no sense, is the machine's failure
        check("session", False, repr(error))
