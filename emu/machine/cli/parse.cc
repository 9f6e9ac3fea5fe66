#include <ctime>

#include "emu/base/log.h"
#include "emu/machine/cli/given.h"
#include "emu/machine/cli/number.h"
#include "emu/machine/cli/option_table.h"
#include "emu/machine/cli/options.h"
#include "emu/machine/cli/parse_devices.h"
#include "emu/mem/address.h"

namespace pangea::machine {
namespace {
/// True for what transport/ can speak to: tcp://HOST:PORT or ipc://PATH.
bool is_endpoint(const std::string& text) { return text.starts_with("tcp://") || text.starts_with("ipc://"); }
Error not_an_endpoint(const std::string& option) {
  return Error{option, "not the address of a node", "write tcp://HOST:PORT"};
}

constexpr u64 kMi = u64{1} << 20;
constexpr u64 kNodeMemoryMin = 16 * kMi;  // all pages that its agents need at a time, many times over
constexpr u32 kMaxVcpus = 255;            // APIC id 255 is the xAPIC broadcast
constexpr u32 kMaxNodes = 64;
constexpr u64 kLastFirstPort = 65531;  // a node has five channels

Status read_memory(const Given& g, RunOptions& out) {
  if (!given(g, "m")) return ok();
  const std::string text = last(g, "m");
  for (const auto& [key, value] : parse_key_values(text)) {
    const std::string& size = key == "size" ? value : key;
    if (key != "size" && !value.empty()) return Error{"-m " + text, key + " is not supported", "give one size"};
    const auto bytes = parse_size(size, kMi);
    if (!bytes) return Error{"-m " + text, "not a size", "write 512M or 2G"};
    out.memory_bytes = (*bytes + 8191) & ~u64{8191};  // QEMU rounds alike
  }
  if (out.memory_bytes < kMi) return Error{"-m " + text, "too little memory for a PC", "give 1M or more"};
  return ok();
}

/// -node-mem; 0: not given.
Result<u64> read_node_memory(const Given& g) {
  if (!given(g, "node-mem")) return u64{0};
  const std::string text = last(g, "node-mem");
  const auto bytes = parse_size(text, kMi);
  if (!bytes) return Error{"-node-mem " + text, "not a size", "write 700M or 2G"};
  if (*bytes < kNodeMemoryMin)
    return Error{"-node-mem " + text, "too little for a node to work with",
                 fmt::format("give {} or more", size_text(kNodeMemoryMin))};
  return *bytes & ~kPageMask;
}

Status read_smp(const Given& g, RunOptions& out) {
  if (!given(g, "smp")) return ok();
  const std::string text = last(g, "smp");
  std::optional<u64> cpus;
  u64 product = 1;
  bool topology = false;
  for (const auto& [key, value] : parse_key_values(text)) {
    const bool bare = value.empty() && !key.empty();
    const auto n = parse_u64(bare ? key : value);
    if (!n || *n == 0)
      return Error{"-smp " + text, fmt::format("'{}' is not a number of vCPUs", bare ? key : value), "write -smp 4"};
    if (bare || key == "cpus") {
      cpus = *n;
    } else if (key == "sockets" || key == "cores" || key == "threads" || key == "dies" || key == "clusters") {
      if (*n > kMaxVcpus) return Error{"-smp " + text, fmt::format("more than {} vCPUs", kMaxVcpus), "ask for fewer"};
      product *= *n;
      topology = true;
    } else if (key != "maxcpus") {
      return Error{"-smp " + text, key + " is not known", "use cpus, sockets, cores, threads"};
    }
  }
  if (!cpus) cpus = product;
  if (topology && product != *cpus)
    return Error{"-smp " + text, fmt::format("the product of the topology is {}, not {}", product, *cpus),
                 "make them agree"};
  if (*cpus > kMaxVcpus) return Error{"-smp " + text, fmt::format("more than {} vCPUs", kMaxVcpus), "ask for fewer"};
  out.vcpus = static_cast<u32>(*cpus);
  return ok();
}

/// Properties of QEMU's pc that ask for what is so anyway. The interrupt chips are never a kernel's.
bool means_nothing(const std::string& key, const std::string& value) {
  if (key == "accel") return value == "tcg";
  if (key == "graphics" || key == "usb" || key == "smm" || key == "vmport") return value == "off";
  return key == "kernel_irqchip" || key == "kernel-irqchip" || key == "dump-guest-core" || key == "mem-merge";
}

Status read_machine(const Given& g, RunOptions& out) {
  const char* option = given(g, "M") ? "M" : "machine";
  for (const auto& [key, value] : parse_key_values(last(g, option))) {
    const std::string what = fmt::format("-{} {}", option, last(g, option));
    const std::string type = key == "type" ? value : value.empty() ? key : "";
    if (type == "pc" || type.starts_with("pc-i440fx")) continue;
    if (!type.empty()) return Error{what, "the only machine is pc", "leave it out"};
    if (key == "hpet" && (value == "on" || value == "off"))
      out.hpet = value == "on";
    else if (!means_nothing(key, value))
      return Error{what, fmt::format("{}={} is not supported", key, value), "leave it out"};
  }
  if (const std::string a = last(g, "accel", "tcg"); a.substr(0, a.find(',')) != "tcg")
    return Error{"-accel " + a, "Pangea always translates", "leave it out"};
  return ok();
}

Status read_rtc(const Given& g, RunOptions& out) {
  const std::string text = last(g, "rtc");
  for (const auto& [key, value] : parse_key_values(text)) {
    if (key == "clock" && value == "host") continue;
    if (key == "driftfix" && value == "none") continue;
    if (key != "base") return Error{"-rtc " + text, key + " is not supported", "use base=utc"};
    if (value == "utc") continue;
    if (value == "localtime") {
      out.rtc.base = RtcOption::Base::LocalTime;
      continue;
    }
    std::tm date{};
    const char* rest = strptime(value.c_str(), "%Y-%m-%dT%H:%M:%S", &date);
    if (!rest) rest = strptime(value.c_str(), "%Y-%m-%d", &date);
    if (!rest || *rest) return Error{"-rtc " + text, "not a date", "write base=2024-12-31T23:59:59"};
    out.rtc = {RtcOption::Base::Date, static_cast<u64>(timegm(&date))};
  }
  return ok();
}

/// Options whose only useful value is one word.
Status read_words(const Given& g) {
  const std::pair<const char*, const char*> rows[] = {{"display", "none"},    {"vga", "none"},    {"vnc", "none"},
                                                      {"parallel", "none"},   {"net", "none"},    {"nic", "none"},
                                                      {"check", "coherence"}, {"monitor", "none"}};
  for (const auto& [name, word] : rows) {
    const std::string v = last(g, name, word);
    if (v == word || (v == "null" && std::string_view(name) == "monitor")) continue;
    return Error{fmt::format("-{} {}", name, v), "not supported", fmt::format("write -{} {}", name, word)};
  }
  return ok();
}

Status read_nodes(const Given& g, RunOptions& out) {
  for (const std::string& text : all(g, "node")) {
    PeerOption p{text.substr(0, text.find(',')), ""};
    constexpr std::string_view kPeer = ",peer=";
    const std::string rest = text.substr(p.endpoint.size());
    if (!is_endpoint(p.endpoint)) return not_an_endpoint("-node " + text);
    if (!rest.empty() && (!rest.starts_with(kPeer) || rest.size() == kPeer.size()))
      return Error{"-node " + text, "only ,peer=NAME may follow the address", "write tcp://HOST:PORT,peer=NAME"};
    if (!rest.empty()) p.name = rest.substr(kPeer.size());
    out.peers.push_back(std::move(p));
  }
  if (given(g, "nodes")) {
    const auto n = parse_u64(last(g, "nodes"));
    if (!n || *n == 0 || *n > kMaxNodes)
      return Error{"-nodes " + last(g, "nodes"), fmt::format("not a number from 1 to {}", kMaxNodes), "write -nodes 2"};
    out.nodes = static_cast<u32>(*n);
  }
  if (out.nodes + out.peers.size() > kMaxNodes)
    return Error{"-node", fmt::format("more than {} nodes", kMaxNodes), "ask for fewer"};
  const auto node_bytes = read_node_memory(g);
  if (!node_bytes) return node_bytes.error();
  out.node_bytes = *node_bytes;
  if (out.node_bytes != 0 && out.node_bytes < out.memory_bytes && out.nodes == 1 && out.peers.empty())
    return Error{"-node-mem " + last(g, "node-mem"),
                 fmt::format("there is but one node, for {} of guest memory", size_text(out.memory_bytes)),
                 "add -nodes or -node, or leave it out"};
  return ok();
}

Result<bool> read_sandbox(const Given& g) {
  const std::string v = last(g, "sandbox", "on");
  if (v != "on" && v != "off") return Error{"-sandbox " + v, "neither on nor off", "write -sandbox off"};
  return v == "on";
}

Result<LinkOptions> read_links(const Given& g) {
  LinkOptions o{.key_file = last(g, "key"),
                .peers_file = last(g, "peers"),
                .insecure_plaintext = given(g, "insecure-plaintext"),
                .ports = 0,
                .advertise = last(g, "advertise")};
  if (o.key_file.empty() != o.peers_file.empty())
    return Error{o.key_file.empty() ? "-peers" : "-key", "-key and -peers belong together", "give both"};
  if (o.insecure_plaintext && !o.key_file.empty())
    return Error{"-insecure-plaintext", "there is a -key as well", "leave one of them out"};
  if (given(g, "ports")) {
    const u64 first = parse_u64(last(g, "ports")).value_or(0);
    if (first == 0 || first > kLastFirstPort)
      return Error{"-ports " + last(g, "ports"), fmt::format("not a port from 1 to {}", kLastFirstPort),
                   "write -ports 7001"};
    o.ports = static_cast<u16>(first);
  }
  if (o.advertise.empty()) return o;
  const auto colon = o.advertise.rfind(':');
  const u64 port = parse_u64(o.advertise.substr(colon + 1)).value_or(0);
  if (!o.advertise.starts_with("tcp://") || colon <= 6 || port == 0 || port > kLastFirstPort)
    return Error{"-advertise " + o.advertise, "not where others reach five ports", "write tcp://HOST:PORT"};
  if (o.ports == 0)
    return Error{"-advertise", "this node's ports are not fixed", "add -ports FIRST, and forward five ports to those"};
  return o;
}

Status read_gdb(const Given& g, RunOptions& out) {
  out.gdb = given(g, "gdb") ? last(g, "gdb") : given(g, "s") ? "tcp::1234" : "";
  if (out.gdb.empty() || out.gdb == "none") {
    out.gdb.clear();
    return ok();
  }
  const auto colon = out.gdb.rfind(':');
  const u64 port = colon == std::string::npos ? 0 : parse_u64(out.gdb.substr(colon + 1)).value_or(0);
  if (!out.gdb.starts_with("tcp:") || port == 0 || port > 0xffff || colon < 4)
    return Error{"-gdb " + out.gdb, "not a place to listen at", "write -gdb tcp::1234"};
  return ok();
}

Status read_torture(const Given& g, RunOptions& out) {
  if (!given(g, "torture")) return ok();
  const auto seed = parse_u64(last(g, "torture"));
  if (!seed || *seed == 0) return Error{"-torture " + last(g, "torture"), "not a seed", "give a number that is not 0"};
  out.torture_seed = *seed;
  return ok();
}

void read_plain(const Given& g, RunOptions& out) {
  out.cpu = last(g, "cpu", out.cpu);
  out.kernel = last(g, "kernel");
  out.initrd = last(g, "initrd");
  out.append = last(g, "append");
  out.debugcon = last(g, "debugcon");
  out.no_reboot = given(g, "no-reboot");
  out.no_shutdown = given(g, "no-shutdown");
  out.start_stopped = given(g, "S");
  out.name = last(g, "name");
  out.symbols = last(g, "symbols");
  out.stats_file = last(g, "stats");
  out.log_categories = last(g, "d");
  out.log_file = last(g, "D");
  out.one_insn_per_block = given(g, "singlestep");
  out.check_coherence = given(g, "check");
  out.secret_file = last(g, "secret");
}

Result<Command> parse_run(const std::vector<std::string>& arguments) {
  auto g = collect(run_options(), arguments);
  if (!g) return g.error();
  if (given(*g, "h") || given(*g, "help")) return Command{.text = run_help()};
  if (last(*g, "d") == "help") return Command{.text = log_help()};
  for (const std::string& device : all(*g, "device"))
    if (device == "help" || device == "?") return Command{.text = device_help()};
  Command c{.kind = Command::Kind::Run};
  read_plain(*g, c.run);
  using Step = Status (*)(const Given&, RunOptions&);
  for (const Step step : {read_memory, read_smp, read_machine, read_serial, read_devices, read_globals, read_rtc,
                          read_nodes, read_gdb, read_torture})
    if (Status s = step(*g, c.run); !s) return s.error();
  auto links = read_links(*g);
  if (!links) return links.error();
  c.run.links = *std::move(links);
  const auto sandbox = read_sandbox(*g);
  if (!sandbox) return sandbox.error();
  c.run.sandbox = *sandbox;
  if (Status s = read_words(*g); !s) return s.error();
  if (c.run.kernel.empty()) return Error{"run", "no kernel given", "add -kernel FILE (and see pangea run -h)"};
  if (c.run.serial.size() > 4) return Error{"-serial", "a PC has four serial lines", "leave some out"};
  return c;
}

Result<Command> parse_node(const std::vector<std::string>& arguments) {
  auto g = collect(node_options(), arguments);
  if (!g) return g.error();
  if (given(*g, "h") || given(*g, "help")) return Command{.text = node_help()};
  if (last(*g, "d") == "help") return Command{.text = log_help()};
  Command c{.kind = Command::Kind::Node};
  c.node.listen = last(*g, "listen");
  c.node.secret_file = last(*g, "secret");
  auto links = read_links(*g);
  if (!links) return links.error();
  c.node.links = *std::move(links);
  const auto sandbox = read_sandbox(*g);
  if (!sandbox) return sandbox.error();
  c.node.sandbox = *sandbox;
  const auto node_bytes = read_node_memory(*g);
  if (!node_bytes) return node_bytes.error();
  c.node.node_bytes = *node_bytes;
  c.node.log_categories = last(*g, "d");
  c.node.log_file = last(*g, "D");
  c.node.stats_file = last(*g, "stats");
  c.node.child = given(*g, "child");
  if (c.node.listen.empty()) return Error{"node", "no place to wait at", "add -listen tcp://0.0.0.0:7000"};
  if (!is_endpoint(c.node.listen)) return not_an_endpoint("-listen " + c.node.listen);
  return c;
}

Result<Command> parse_keygen(const std::vector<std::string>& arguments) {
  auto g = collect(keygen_options(), arguments);
  if (!g) return g.error();
  if (given(*g, "h") || given(*g, "help")) return Command{.text = keygen_help()};
  Command c{.kind = Command::Kind::Keygen, .keygen = {last(*g, "key"), last(*g, "name"), given(*g, "show")}};
  if (c.keygen.key_file.empty()) return Error{"keygen", "no file given", "add -key FILE"};
  if (c.keygen.name.find_first_of(" \t\r\n#") != std::string::npos)
    return Error{"-name " + c.keygen.name, "a name is one word without '#'", "choose another"};
  return c;
}
}  // namespace

Result<Command> parse_command_line(const std::vector<std::string>& arguments) {
  if (arguments.empty()) return Command{.text = main_help()};
  const std::string& first = arguments[0];
  for (const std::string& a : arguments)
    if (a == "-version" || a == "--version") return Command{.text = "pangea " PANGEA_VERSION "\n"};
  if (first == "-h" || first == "-help" || first == "--help" || first == "help") return Command{.text = main_help()};
  if (first.starts_with('-')) return parse_run(arguments);  // as QEMU is called
  const std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
  if (first == "run") return parse_run(rest);
  if (first == "node") return parse_node(rest);
  if (first == "keygen") return parse_keygen(rest);
  return Error{first, "not a command", "use pangea run, pangea node or pangea keygen (see pangea -h)"};
}
}  // namespace pangea::machine
