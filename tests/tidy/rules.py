"""The tables of tests/tidy: what may include what, what is banned and what to use instead, and the exceptions.

An exception names a file (or a pattern) and says why. One that excuses nothing any more is itself a finding, so these
tables only shrink unless somebody argues. Patterns are fnmatch's; `*` also matches `/`.
"""

# --- (a) Arrows (DESIGN section 3): a room may include itself, the rooms named here, and the single headers named here.
ROOMS = {
    "emu/base": [],
    "emu/mem": ["emu/base"],
    "emu/x86": ["emu/base", "emu/mem"],
    "emu/replay": ["emu/base", "emu/mem", "emu/x86/ports.h"],
    "transport": ["emu/base", "emu/mem/address.h"],
    "coherence": ["emu/base", "emu/mem"],
    "jit": ["emu/base", "emu/mem", "emu/x86"],
    # Devices reach memory through DmaPort alone, so of emu/mem they see the types of addresses and no frame.
    "devices": ["emu/base", "emu/mem/address.h", "emu/x86/ports.h"],
    "emu/machine": ["emu/base", "emu/mem", "emu/x86", "emu/replay", "transport", "coherence", "jit", "devices"],
    "bench": ["*"],
    "tests": ["*"],
    "images": [],
}
ARROW_HINT = {
    ("jit", "coherence"): "the observers of emu/mem/page_gate.h",
    ("jit", "devices"): "the ports of emu/x86/ports.h",
    ("devices", "coherence"): "devices/dma/dma_port.h",
    ("devices", "transport"): "an abstract class that emu/machine binds (as devices/irq/fabric.h RemoteInterrupts)",
    ("devices", "jit"): "the ports of emu/x86/ports.h",
    ("coherence", "jit"): "ProtocolHost of coherence/executor.h",
    ("coherence", "transport"): "ProtocolHost of coherence/executor.h",
    ("emu/x86", "jit"): "emu/x86/engine.h",
}

# --- Headers that only some files may include: (header pattern, files that may, what others use instead).
PRIVATE_HEADERS = [
    ("zmq*.h*", ["transport/zmq_*"], "transport/endpoint.h"),
    ("transport/zmq_socket.h", ["transport/zmq_*", "transport/*_test.cc", "bench/transport_bench.cc"],
     "transport/endpoint.h"),
    ("transport/zmq_core.h", ["transport/zmq_*", "transport/*_test.cc"], "transport/endpoint.h"),
    ("asmjit/*", ["jit/stubs.cc", "jit/emit*"], "jit/host_asm.h, or a stub made in jit/stubs.cc"),
    ("capstone/*", ["emu/x86/disasm.cc", "*_test.cc", "tests/*"], "emu/x86/disasm.h"),
    ("sodium.h", ["transport/handshake.cc", "transport/keys.cc"], "transport/handshake.h"),
    ("seccomp.h", ["emu/machine/sandbox.cc"], "emu/machine/sandbox.h"),
    ("CLI/*", ["emu/machine/cli/*"], "emu/machine/cli/options.h"),
    ("nlohmann/*", ["emu/machine/statistics.*", "*_test.cc", "tests/*", "bench/*"], "emu/machine/statistics.h"),
    ("benchmark/*", ["bench/*"], "a test, or a program in bench/"),
    ("gtest/*", ["*_test.cc", "*test_*", "*fixture*", "tests/*"], "a file named *_test.cc"),
    ("sys/random.h", ["emu/base/host_ports.cc"], "Entropy of emu/base/ports.h"),
    ("random", [], "Entropy of emu/base/ports.h, or a seeded emu/base/prng.h"),
    ("iostream", [], "PANGEA_LOG of emu/base/log.h, or fmt in the command line"),
]
SOCKET_HEADERS = ["sys/socket.h", "sys/un.h", "netinet/*", "arpa/inet.h", "netdb.h"]
SOCKET_FILES = [
    ("transport/*", "the room whose business it is"),
    ("devices/serial/endpoint_socket.cc", "the far end of `-serial unix:` and `-serial tcp:`"),
    ("devices/serial/endpoint_stdio.cc", "standard output may be a socket: MSG_DONTWAIT is asked per call"),
    ("devices/serial/*_test.cc", "plays the other end of a console socket"),
    ("emu/machine/sandbox_test.cc", "proves that no socket can be made"),
    ("tests/relay/relay.cc", "stands between the nodes and knows nothing of what they say"),
]

# coherence/ is a pure function (invariant 4): no header that knows a thread, a socket, a clock or a port.
PURE = {
    "coherence": ["thread", "mutex", "shared_mutex", "condition_variable", "future", "latch", "barrier", "semaphore",
                  "stop_token", "atomic", "chrono", "ctime", "time.h", "random", "pthread.h", "unistd.h", "poll.h",
                  "sys/*", "fcntl.h", "signal.h", "netinet/*", "arpa/*", "netdb.h", "emu/base/ports.h",
                  "emu/base/host_ports.h"],
}

# --- (b) Bans: (name, pattern, what to use instead, {file pattern: why it may}, text it looks at).
# Text: "code" has neither comments nor strings, "strings" has strings too, "all" is the file as it is.
TESTS = {"*_test.cc": "tests", "*test_*": "tests", "*fixture*": "tests", "tests/*": "tests", "bench/*": "benchmarks"}
HOST_PORTS = {"emu/base/host_ports.cc": "the host's side of the ports",
              "emu/machine/sandbox.cc": "names system calls that may be made, and makes none of them"}
BANS = [
    ("clock", r"\b(?:clock_gettime|gettimeofday|timespec_get|clock_getres)\b|\w_clock\s*::\s*now\b"
              r"|(?<![\w.>])(?:std::|::)?time\s*\(\s*(?:nullptr|NULL|0|&)",
     "Clock or WallClock of emu/base/ports.h", HOST_PORTS, "code"),
    ("clock", r"\b_?_?rdtscp?\s*\(|__builtin_ia32_rdtscp?\b",
     "Clock of emu/base/ports.h, or GuestTime",
     {"emu/machine/guest_time.cc": "TickSource: the host's counter behind guest time, itself an interface",
      "tests/guest/*": "code that guests run"}, "code"),
    ("clock", r"\basm\b.*\"[^\"]*\brdtsc", "Clock of emu/base/ports.h", {"tests/guest/*": "code that guests run"}, "strings"),
    ("entropy", r"(?<![\w.>])(?:std::|::)?s?rand\s*\(|\brandom_device\b|\bgetrandom\b|\bgetentropy\b|\barc4random\w*"
                r"|\brandombytes_\w+|\b_rd(?:rand|seed)\d\d_step\b",
     "Entropy of emu/base/ports.h, or a seeded emu/base/prng.h", HOST_PORTS, "code"),
    ("entropy", r"\"/dev/u?random", "Entropy of emu/base/ports.h", {}, "strings"),
    ("sleep", r"\bnanosleep\b|\busleep\b|\bsleep_for\b|\bsleep_until\b",
     "a wait that somebody ends (condition variable, atomic wait, TimerQueue)",
     {**TESTS, "emu/machine/sandbox.cc": "names system calls that may be made, and makes none of them",
      "emu/machine/guest_time.cc": "waits for the span over which it measures the host's TSC",
      "emu/machine/vcpu_thread.cc": "await_pause() has a limit, which std::atomic::wait has not",
      "emu/machine/node/children.cc": "finish() has a limit, which waitpid has not",
      "emu/machine/debug/gdb_server.cc": "a full ring of a slow gdb, for two seconds at most"}, "code"),
    ("raw socket", r"\bsocket\s*\(\s*(?:AF|PF)_|\bsocketpair\s*\(", "transport/endpoint.h", dict(SOCKET_FILES), "code"),
    ("using namespace std", r"\busing\s+namespace\s+std\s*;", "std:: at each name", {}, "code"),
    ("printing", r"\bstd::(?:cout|cerr|clog)\b|(?<![\w.>])(?:std::|::)?(?:f?printf|f?puts|putchar|perror)\s*\("
                 r"|\bfmt::print(?:ln)?\b",
     "PANGEA_LOG of emu/base/log.h, or an Error that the command line prints",
     {**TESTS, "emu/base/log.cc": "where PANGEA_LOG ends", "emu/base/assert.cc": "last words before abort()",
      "emu/machine/main.cc": "the command line", "emu/machine/run.cc": "the command line: pangea run",
      "emu/machine/node/node_command.cc": "the command line: pangea node",
      "emu/machine/board/board.cc": "says which pty to open, before the guest runs"}, "code"),
    ("unfinished", r"\b(?:TODO|FIXME)\b", "an issue, or a sentence in the README about what is missing",
     {"tests/tidy/*": "names what it bans"}, "all"),
    ("strcpy", r"(?<![\w.>])(?:std::|::)?(?:strcpy|strcat|sprintf|gets)\s*\(", "std::string or fmt::format", TESTS, "code"),
]
HEADER_BANS = [("using namespace in a header", r"^\s*using\s+namespace\b", "the names themselves")]

# Mutable state that no object owns.
GLOBALS = {
    "emu/base/log.*": "set once from the command line, before any thread runs",
    "emu/machine/sandbox.cc": "a signal handler gets no argument and may not allocate: names of system calls",
    "jit/signals.cc": "a signal handler gets no argument: which vCPU's generated code is this thread in?",
    "emu/x86/host_probe.cc": "likewise; linked into tests only",
    "transport/process_id.cc": "what getpid() answers, which takes no argument",
    "transport/tsan.h": "addresses that stand for channels, in ThreadSanitizer builds only; never read or written",
    **TESTS,
}

# --- (c) Lengths, in lines.
WARN_LINES = 300
MAX_LINES = [  # first match counts: (pattern, limit, why)
    ("*.inc", 600, "rows of a table"),
    ("tests/golden/host_code.txt", 6000, "written by its test, not by hand"),
    ("*_test.cc", 400, "a list of cases"),
    ("emu/ARCHITECTURE.md", 120, "two pages"),
    ("README.md", 80, "what a user meets first: installing, options, statuses, two computers"),
    ("*README.md", 60, "one page"),
    ("*", 350, "300 is the aim, and a file near it may finish a thought"),
]
MAX_FUNCTION_LINES = 70  # a longer one is a warning

# --- (d) Words in a README that look like paths but are none: {(file, word): why}.
NOT_PATHS = {
    ("devices/README.md", "x.h"): "placeholder", ("devices/README.md", "x.cc"): "placeholder",
    ("devices/README.md", "x_registers.h"): "placeholder", ("devices/README.md", "x_test.cc"): "placeholder",
    ("devices/README.md", "folder/thing.h"): "placeholder", ("devices/README.md", "thing_test.cc"): "placeholder",
    ("bench/README.md", "NAME_bench.cc"): "placeholder",
    ("images/README.md", "bin/"): "in the cache",
}

# --- (e), (f) Rooms that must have a README, and what may lie at the top.
README_ROOMS = ["bench", "coherence", "devices", "emu/base", "emu/machine", "emu/mem", "emu/x86", "images", "jit",
                "tests", "transport"]  # emu/replay is empty so far
TOP_LEVEL = {".ci", ".clang-format", ".clang-tidy", ".gitignore", "LICENSE", "README.md", "bench", "coherence",
             "devices", "emu", "images", "jit", "meson.build", "meson_options.txt", "tests", "transport"}
