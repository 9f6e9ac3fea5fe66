#include "emu/machine/cli/option_table.h"

#include <fmt/format.h>

namespace pangea::machine {
namespace {
constexpr const char* kNoDisks = "there are no disks yet";
constexpr const char* kNoNet = "there is no network yet";
constexpr const char* kNoScreen = "there is no screen; the console is -serial";

using G = OptionGroup;
// What `pangea run` and `pangea node` say alike about the links between nodes.
#define PANGEA_LINK_OPTIONS                                                                                         \
  {"key", "FILE", "this computer's key, made by `pangea keygen`: links are encrypted", G::Nodes},                   \
      {"peers", "FILE", "who may be at the other end: lines NAME PUBLIC-KEY", G::Nodes},                            \
      {"ports", "FIRST", "this node's channels listen on the five TCP ports from FIRST [any free ones]", G::Nodes}, \
      {"advertise", "ENDPOINT", "others reach -ports as tcp://HOST:PORT and the four ports after it", G::Nodes},    \
      {"insecure-plaintext", nullptr,                                                                               \
       "allow other computers without keys: anyone on the way reads and writes the guest", G::Nodes},               \
  {                                                                                                                 \
    "secret", "FILE", "secret that all nodes must have", G::Nodes                                                   \
  }

constexpr OptionRow kRun[] = {
    {"m", "SIZE", "memory; K, M, G, T; MiB if there is no suffix [512M]", G::Machine},
    {"smp", "N", "vCPUs; also cpus=,sockets=,cores=,threads= [1]", G::Machine},
    {"cpu", "MODEL", "processor model and features: max,+feature,-feature; vendor=V, phys-bits=N [max]", G::Machine},
    {"machine", "TYPE", "pc, pc,hpet=off [pc]", G::Machine},
    {"M", "TYPE", nullptr, G::Machine},
    {"accel", "NAME", nullptr, G::Machine},
    {"rtc", "base=B", "start of the real-time clock: utc, localtime or a date [utc]", G::Machine},
    {"device", "DEVICE", "isa-debug-exit,iobase=0xf4,iosize=4: port that ends the run; `-device help` lists all",
     G::Machine, true},
    {"global", "D.P=VALUE", "property P of device D: PIIX4_PM.disable_s3=1 takes suspend to RAM (ACPI S3) away",
     G::Machine, true},
    {"name", "NAME", "name of the guest, for messages", G::Machine},
    {"kernel", "FILE", "Linux bzImage, ELF vmlinux (PVH or 64-bit) or Multiboot image", G::Boot},
    {"initrd", "FILE", "initial RAM disk; for Multiboot: FILE [ARGS],FILE [ARGS],...", G::Boot},
    {"append", "TEXT", "kernel command line", G::Boot},
    {"no-reboot", nullptr, "a guest's reset ends the run", G::Boot},
    {"no-shutdown", nullptr, "a guest's power-off stops the vCPUs and leaves the process", G::Boot},
    {"nographic", nullptr, "console on this terminal (the default); Ctrl-a x ends, Ctrl-a h helps", G::Console},
    {"display", "none", "the same", G::Console},
    {"serial", "DEV", "COM1, COM2, ...: stdio, mon:stdio, null, pty, file:PATH, unix:PATH, tcp:HOST:PORT", G::Console,
     true},
    {"debugcon", "DEV", "back end of the debug console, port 0xe9", G::Console},
    {"chardev", "KIND,id=ID", "named back end for -serial chardev:ID and -device isa-debugcon,chardev=ID", G::Console,
     true},
    {"monitor", "none", nullptr, G::Console},
    {"parallel", "none", nullptr, G::Console},
    {"vga", "none", nullptr, G::Console},
    {"vnc", "none", nullptr, G::Console},
    {"nodes", "N", "node processes on this computer [1]", G::Nodes},
    {"node", "ENDPOINT", "one more node, where `pangea node` waits: tcp://HOST:PORT[,peer=NAME] (repeatable)", G::Nodes,
     true},
    {"node-mem", "SIZE", "guest memory that each node on this computer may hold at a time; suffixes as -m [all]",
     G::Nodes},
    PANGEA_LINK_OPTIONS,
    {"check", "coherence", "watch the coherence protocol while it runs", G::Nodes},
    {"gdb", "tcp::PORT", "wait for gdb there", G::Debugging},
    {"s", nullptr, "the same as -gdb tcp::1234", G::Debugging},
    {"S", nullptr, "start stopped; gdb's `continue` lets the guest go", G::Debugging},
    {"d", "LIST", "log categories, comma-separated; -d help lists them", G::Debugging},
    {"D", "FILE", "log file [stderr]", G::Debugging},
    {"symbols", "FILE", "System.map of the guest kernel: names in dumps and statistics", G::Debugging},
    {"stats", "FILE", "write statistics as JSON, at exit and on SIGUSR2", G::Debugging},
    {"singlestep", nullptr, "translate one instruction per block", G::Debugging},
    {"torture", "SEED", "force exits, flushes and evictions between random instructions", G::Debugging},
    {"sandbox", "on|off", "confine the process to what a running machine needs [on]", G::Other},
    {"h", nullptr, "this page", G::Other},
    {"help", nullptr, nullptr, G::Other},
    {"version", nullptr, nullptr, G::Other},
    {"nodefaults", nullptr, nullptr, G::Other},
    {"no-user-config", nullptr, nullptr, G::Other},
    {"net", "none", nullptr, G::Other},
    {"nic", "none", nullptr, G::Other},
    {"drive", "ARG", nullptr, G::Other, true, kNoDisks},
    {"hda", "ARG", nullptr, G::Other, true, kNoDisks},
    {"hdb", "ARG", nullptr, G::Other, true, kNoDisks},
    {"cdrom", "ARG", nullptr, G::Other, true, kNoDisks},
    {"blockdev", "ARG", nullptr, G::Other, true, kNoDisks},
    {"boot", "ARG", nullptr, G::Other, true, kNoDisks},
    {"snapshot", nullptr, nullptr, G::Other, true, kNoDisks},
    {"bios", "ARG", nullptr, G::Other, true, "guests start from -kernel, without firmware"},
    {"netdev", "ARG", nullptr, G::Other, true, kNoNet},
    {"enable-kvm", nullptr, nullptr, G::Other, true, "Pangea translates and never uses KVM"},
    {"curses", nullptr, nullptr, G::Other, true, kNoScreen},
    {"usb", nullptr, nullptr, G::Other, true, "there is no USB yet"},
    {"daemonize", nullptr, nullptr, G::Other, true, "start it with your shell's & or a service manager"},
    {"icount", "ARG", nullptr, G::Other, true, "record and replay come later"},
    {"loadvm", "ARG", nullptr, G::Other, true, "snapshots come later"},
    {"incoming", "ARG", nullptr, G::Other, true, "migration comes later"},
};

constexpr OptionRow kNode[] = {
    {"listen", "ENDPOINT", "where to wait for `pangea run`: tcp://ADDRESS:PORT or ipc://PATH", G::Nodes},
    {"node-mem", "SIZE", "guest memory that this node may hold at a time; K, M, G, T; MiB without [all]", G::Nodes},
    PANGEA_LINK_OPTIONS,
    {"d", "LIST", "log categories, comma-separated; -d help lists them", G::Debugging},
    {"D", "FILE", "log file [stderr]", G::Debugging},
    {"stats", "FILE", "write this node's statistics as JSON at exit", G::Debugging},
    {"sandbox", "on|off", "confine the process to what a running machine needs [on]", G::Other},
    {"h", nullptr, "this page", G::Other},
    {"help", nullptr, nullptr, G::Other},
    {"version", nullptr, nullptr, G::Other},
    {"child", nullptr, nullptr, G::Other},
};

constexpr OptionRow kKeygen[] = {
    {"key", "FILE", "the key file: made, readable by you alone; never overwritten", G::Nodes},
    {"name", "NAME", "what to call this computer in the line that is printed [its host name]", G::Nodes},
    {"show", nullptr, "print the line of a key file that exists", G::Nodes},
    {"h", nullptr, "this page", G::Other},
    {"help", nullptr, nullptr, G::Other},
};

constexpr const char* title(OptionGroup g) {
  switch (g) {
    case G::Machine: return "Machine";
    case G::Boot: return "Boot";
    case G::Console: return "Console";
    case G::Nodes: return "Nodes";
    case G::Debugging: return "Debugging and measuring";
    case G::Other: return "Other";
  }
  return "";
}

std::string rows_help(std::span<const OptionRow> rows) {
  std::string s;
  for (const G group : {G::Machine, G::Boot, G::Console, G::Nodes, G::Debugging, G::Other}) {
    std::string part;
    for (const OptionRow& r : rows) {
      if (r.group != group || !r.help) continue;
      const std::string left = r.argument ? fmt::format("-{} {}", r.name, r.argument) : fmt::format("-{}", r.name);
      part += fmt::format("  {:<18} {}\n", left, r.help);
    }
    if (!part.empty()) s += fmt::format("\n{}\n{}", title(group), part);
  }
  return s;
}

constexpr const char* kExitHelp =
    "\nExit status\n"
    "  0  the guest powered off (or reset under -no-reboot)\n"
    "  2  usage, or something on this computer: one line on stderr says what\n"
    "  3  a node was lost\n"
    "  4  the guest died (triple fault under -no-reboot)\n"
    "  5  the process was about to do what its sandbox forbids; the line names the system call\n"
    "  isa-debug-exit ends with (value << 1) | 1\n";
}  // namespace

std::span<const OptionRow> run_options() { return kRun; }
std::span<const OptionRow> node_options() { return kNode; }
std::span<const OptionRow> keygen_options() { return kKeygen; }

const OptionRow* find_option(std::span<const OptionRow> rows, std::string_view name) {
  for (const OptionRow& r : rows)
    if (name == r.name) return &r;
  return nullptr;
}

Result<std::vector<std::string>> normalise_arguments(std::span<const OptionRow> rows,
                                                     const std::vector<std::string>& arguments) {
  std::vector<std::string> out;
  for (usize i = 0; i < arguments.size(); ++i) {
    const std::string& a = arguments[i];
    if (a.size() < 2 || a[0] != '-') return Error{a, "not an option", "a kernel is given with -kernel; see -h"};
    const usize dashes = a[1] == '-' ? 2 : 1;
    const auto eq = a.find('=');
    const std::string name = a.substr(dashes, eq == std::string::npos ? eq : eq - dashes);
    const OptionRow* row = find_option(rows, name);
    if (!row) return Error{"-" + name, "unknown option", "see -h"};
    if (row->missing) return Error{"-" + name, std::string("not supported: ") + row->missing, "leave it out"};
    if (!row->argument) {
      if (eq != std::string::npos) return Error{"-" + name, "takes no value", "see -h"};
      out.push_back("--" + name);
      continue;
    }
    if (eq == std::string::npos && i + 1 == arguments.size())
      return Error{"-" + name, "needs a value", fmt::format("write -{} {}", name, row->argument)};
    out.push_back("--" + name + "==" + (eq == std::string::npos ? arguments[++i] : a.substr(eq + 1)));
  }
  return out;
}

std::string main_help() {
  return "pangea: one unmodified x86-64 machine on several computers\n"
         "\n"
         "  pangea run -kernel FILE [options]    run a guest; options are spelled as QEMU spells them\n"
         "  pangea node -listen ENDPOINT         lend this computer to a machine that runs elsewhere\n"
         "  pangea keygen -key FILE              make this computer's key for links to others\n"
         "  pangea --version\n"
         "\n"
         "  pangea run -h, pangea node -h and pangea keygen -h list the options.\n";
}

std::string run_help() {
  return "usage: pangea run -kernel FILE [options]\n"
         "\n"
         "Runs one x86-64 guest, on this computer or over several.\n"
         "  pangea run -m 1G -smp 2 -kernel vmlinuz -initrd initrd.img -append 'console=ttyS0' -nographic\n"
         "  pangea run -nodes 2 -m 1G -smp 2 -kernel vmlinuz ...        two nodes on this computer\n"
         "  pangea run -node tcp://10.0.0.2:7000 -m 4G -smp 4 ...       one node here, one there\n"
         "  (the last with -key and -peers: see pangea keygen -h)\n" +
         rows_help(kRun) + kExitHelp;
}

std::string device_help() {
  return "name \"isa-debug-exit\", bus ISA\nname \"isa-debugcon\", bus ISA\nname \"pc-testdev\", bus ISA\nname "
         "\"pci-testdev\", bus PCI\n";
}

std::string node_help() {
  return "usage: pangea node -listen ENDPOINT [options]\n"
         "\n"
         "Waits for a machine (`pangea run ... -node ENDPOINT`), lends it this computer's vCPUs and memory, and ends\n"
         "with it.\n"
         "  pangea node -listen tcp://0.0.0.0:7000 -key own.key -peers peers\n" +
         rows_help(kNode) +
         "\nExit status: 0 the machine ended, 2 usage or host, 3 the machine's other nodes were lost,\n"
         "5 the sandbox was violated\n";
}

std::string keygen_help() {
  return "usage: pangea keygen -key FILE [-name NAME] [-show]\n"
         "\n"
         "Makes the key by which other computers know this one, and prints NAME PUBLIC-KEY. On each computer:\n"
         "  pangea keygen -key own.key -name 10.0.0.2 >>peers\n"
         "Put the lines of all computers into one file and give it to each: `-key own.key -peers peers`, with\n"
         "`pangea node` and `pangea run`. A NAME that is the host of `-node tcp://HOST:PORT` says whose key must be\n"
         "there; so does `-node tcp://HOST:PORT,peer=NAME`.\n" +
         rows_help(kKeygen);
}
}  // namespace pangea::machine
