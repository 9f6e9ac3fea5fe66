"""Bad snippets, each with the finding it must give, and good neighbours that must give none."""
import tidy

# (check, {path: text}, words of the finding; None: no finding)
CASES = [
    ("arrows", {"jit/a.cc": '#include "coherence/state.h"\n'}, "jit may not include coherence/state.h"),
    ("arrows", {"jit/a.cc": '#include "devices/bus/bus.h"\n'}, "jit may not include devices/bus/bus.h"),
    ("arrows", {"devices/a.cc": '#include "jit/block.h"\n'}, "devices may not include jit/block.h"),
    ("arrows", {"devices/a.cc": '#include "emu/mem/guest_ram.h"\n'}, "devices may not include emu/mem/guest_ram.h"),
    ("arrows", {"devices/a.cc": '#include "emu/mem/address.h"\n'}, None),
    ("arrows", {"coherence/a.h": '#include "transport/endpoint.h"\n'}, "coherence may not include transport"),
    ("arrows", {"emu/mem/a.h": '#include "emu/x86/state.h"\n'}, "emu/mem may not include emu/x86"),
    ("arrows", {"emu/base/a.h": '#include "emu/mem/address.h"\n'}, "emu/base may not include emu/mem"),
    ("arrows", {"emu/x86/a.cc": '#include "jit/engine.h"\n'}, "use emu/x86/engine.h instead"),
    ("arrows", {"jit/a_test.cc": '#include "emu/machine/run.h"\n'}, "jit may not include emu/machine"),
    ("arrows", {"jit/a.cc": '#include "block.h"\n'}, "use the path from the root"),
    ("arrows", {"jit/a.cc": '// #include "coherence/state.h"\n#include "emu/x86/state.h"\n'}, None),
    ("arrows", {"tests/a.cc": '#include "jit/block.h"\n#include "coherence/state.h"\n'}, None),
    ("private_headers", {"jit/a.cc": "#include <zmq.hpp>\n"}, "use transport/endpoint.h"),
    ("private_headers", {"transport/peers.cc": "#include <zmq.hpp>\n"}, "use transport/endpoint.h"),
    ("private_headers", {"transport/zmq_a.cc": "#include <zmq.hpp>\n"}, None),
    ("private_headers", {"emu/machine/a.cc": '#include "transport/zmq_socket.h"\n'}, "use transport/endpoint.h"),
    ("private_headers", {"jit/dispatch.cc": "#include <asmjit/asmjit.h>\n"}, "use jit/host_asm.h"),
    ("private_headers", {"jit/stubs.cc": "#include <asmjit/asmjit.h>\n"}, None),
    ("private_headers", {"jit/log_block.cc": "#include <capstone/capstone.h>\n"}, "use emu/x86/disasm.h"),
    ("private_headers", {"emu/x86/disasm.cc": "#include <capstone/capstone.h>\n"}, None),
    ("private_headers", {"coherence/a.cc": "#include <mutex>\n"}, "coherence is pure"),
    ("private_headers", {"coherence/a.cc": "#include <chrono>\n"}, "coherence is pure"),
    ("private_headers", {"coherence/a_test.cc": "#include <sys/socket.h>\n"}, "coherence is pure"),
    ("private_headers", {"coherence/a.cc": '#include "emu/base/ports.h"\n'}, "coherence is pure"),
    ("private_headers", {"coherence/a.cc": "#include <vector>\n"}, None),
    ("private_headers", {"devices/net/nic.cc": "#include <sys/socket.h>\n"}, "raw socket"),
    ("private_headers", {"jit/a.cc": "#include <iostream>\n"}, "use PANGEA_LOG"),
    ("bans", {"devices/a.cc": "clock_gettime(CLOCK_MONOTONIC, &t);\n"}, "use Clock or WallClock"),
    ("bans", {"emu/base/host_ports.cc": "clock_gettime(CLOCK_MONOTONIC, &t);\n"}, None),
    ("bans", {"devices/a.cc": "// clock_gettime\nlog(\"clock_gettime\");\n"}, None),
    ("bans", {"devices/a.cc": "gettimeofday(&t, nullptr);\n"}, "clock"),
    ("bans", {"devices/a.cc": "auto t = time(nullptr);\n"}, "clock"),
    ("bans", {"devices/a.cc": "auto t = machine.time(0);\n"}, None),
    ("bans", {"jit/a.cc": "auto t = std::chrono::steady_clock::now();\n"}, "clock"),
    ("bans", {"jit/a.cc": "u64 t = __rdtsc();\n"}, "clock"),
    ("bans", {"jit/a.cc": 'asm volatile("rdtsc" : "=a"(x));\n'}, "clock"),
    ("bans", {"devices/a.cc": "int x = rand();\n"}, "entropy"),
    ("bans", {"devices/a.cc": "std::random_device d;\n"}, "entropy"),
    ("bans", {"devices/a.cc": "getrandom(&v, 8, 0);\n"}, "entropy"),
    ("bans", {"devices/a.cc": 'open("/dev/urandom", 0);\n'}, "entropy"),
    ("bans", {"devices/a.cc": "std::this_thread::sleep_for(x);\n"}, "sleep"),
    ("bans", {"devices/a_test.cc": "std::this_thread::sleep_for(x);\n"}, None),
    ("bans", {"devices/net/nic.cc": "int s = ::socket(AF_INET, SOCK_DGRAM, 0);\n"}, "raw socket"),
    ("bans", {"jit/a.cc": "using namespace std;\n"}, "using namespace std"),
    ("bans", {"jit/a.h": "using namespace x86;\n"}, "using namespace in a header"),
    ("bans", {"jit/a.cc": "using namespace x86;\n"}, None),
    ("bans", {"jit/a.cc": "std::cout << 1;\n"}, "printing"),
    ("bans", {"jit/a.cc": 'printf("x");\n'}, "printing"),
    ("bans", {"jit/a.cc": 'fmt::print("x");\n'}, "printing"),
    ("bans", {"jit/a.cc": 'std::snprintf(b, 9, "x"); s.printf(1);\n'}, None),
    ("bans", {"jit/a.cc": "int x;  // " + "TO" + "DO: y\n"}, "unfinished"),
    ("bans", {"images/a.sh": "# FIX" + "ME\n"}, "unfinished"),
    ("mutable_globals", {"jit/a.cc": "int counter = 0;\n"}, "mutable global"),
    ("mutable_globals", {"jit/a.cc": "std::map<u64, int> cache;\n"}, "mutable global"),
    ("mutable_globals", {"jit/a.cc": "std::mutex lock;\n"}, "mutable global"),
    ("mutable_globals", {"jit/a.cc": "thread_local Runner* current = nullptr;\n"}, "mutable global"),
    ("mutable_globals", {"jit/a.cc": "void f() {\n  static int calls = 0;\n}\n"}, "mutable global"),
    ("mutable_globals", {"jit/a.h": "struct A {\n  static inline u64 all{0};\n};\n"}, "mutable global"),
    ("mutable_globals", {"jit/a.cc": "constexpr int kA = 1;\nstatic const int b[] = {1};\nint f() {\n  return 1;\n}\n"
                         "static int g(int a = 1) {\n}\nstruct S {\n  int member = 0;\n};\nusing T = int;\n"}, None),
    ("lengths", {"jit/a.cc": "\n" * 351}, "at most 350"),
    ("lengths", {"jit/a.cc": "\n" * 301}, "warning: 301 lines"),
    ("lengths", {"jit/a.cc": "\n" * 300}, None),
    ("lengths", {"jit/README.md": "\n" * 61}, "one page"),
    ("lengths", {"jit/a.cc": "void f() {\n" + "  g();\n" * 80 + "}\n"}, "warning: a function of 82 lines"),
    ("documents", {"jit/README.md": "see `jit/gone.cc`\n"}, "`jit/gone.cc` does not exist"),
    ("documents", {"jit/README.md": "see `gone.*`\n"}, "`gone.*` does not exist"),
    ("documents", {"jit/README.md": "see `no_such_function()`\n"}, "named nowhere"),
    ("documents", {"README.md": "    ./images/gone\n"}, "`./images/gone` does not exist"),
    ("documents", {"README.md": "`jit/a.cc`, `A::b`, `tcp://a`\n", "jit/a.cc": "void A::b() {}\n"}, None),
    ("readmes", {"jit/a.cc": ""}, "no README"),
    ("top_level", {"misc/a.cc": ""}, "is no room of the house"),
    ("top_level", {"jit/a.cc": ""}, None),
    ("stale_exceptions", {"jit/signals.cc": ""}, "exception jit/signals.cc (globals) excuses nothing"),
]


def run():
    passed = failed = 0
    for check, files, expected in CASES:
        found = [f.text for f in getattr(tidy, check)(tidy.Tree(files))]
        good = any(expected in t for t in found) if expected else not found
        passed, failed = passed + good, failed + (not good)
        if not good:
            print(f"{check}: {files}: expected {expected!r}, found {found}")
    unproven = {c.__name__ for c in tidy.CHECKS} - {c for c, _, expected in CASES if expected}
    failed += len(unproven)
    if unproven:
        print(f"no bad tree for {sorted(unproven)}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
