#include "emu/machine/debug/gdb_session.h"

#include <algorithm>

#include "emu/machine/debug/gdb_registers.h"
#include "emu/machine/debug/guest_walk.h"

namespace pangea::machine {
namespace {
constexpr u64 kMaxTransfer = 4096;  // bytes of memory or description in one packet
constexpr const char* kOk = "OK";
std::string error(unsigned number) { return fmt::format("E{:02x}", number); }
/// Hexadecimal numbers separated by commas. False: fewer than wanted.
template <class... T>
bool numbers(GdbText& t, T&... out) {
  bool good = true, first = true;
  const auto one = [&](u64& v) {
    if (!first && !t.eat(",")) good = false;
    first = false;
    const auto n = t.hex();
    if (n)
      v = *n;
    else
      good = false;
  };
  (one(out), ...);
  return good;
}
std::span<const u8> bytes_of(std::string_view s) { return {reinterpret_cast<const u8*>(s.data()), s.size()}; }
}  // namespace

GdbSession::GdbSession(DebugHost& host, std::function<void(const std::string&)> send, bool running)
    : host_(host), send_(std::move(send)), running_(running) {}

void GdbSession::packet(const std::string& text) {
  // While the guest runs gdb sends nothing but Ctrl-c; a new client, however, begins with questions.
  if (running_) halt();
  const auto reply = dispatch(text);
  if (reply) send_(*reply);
}

void GdbSession::interrupt() {
  if (!running_) return;
  halt();
  interrupted_ = true;
  send_(stop_reply());
}

void GdbSession::stopped(const DebugStop& stop) {
  if (!running_) {  // several stopped at once: the first was told, the others are when gdb wants them to go on
    if (pending_.size() < host_.vcpus()) pending_.push_back(stop);
    return;
  }
  halt();
  tell(stop);
}

void GdbSession::tell(const DebugStop& stop) {
  interrupted_ = false;
  stop_ = stop;
  thread_ = step_thread_ = stop.vcpu;
  cached_.reset();
  told_.push_back(stop.vcpu);
  send_(stop_reply());
}

void GdbSession::halt() {
  host_.pause();
  running_ = false;
  cached_.reset();
  orders_.steps.clear();
}

/// Tells of a vCPU about to go on whose stop gdb has not been told of. True: told, do not go on. A breakpoint that is
/// not in force now is passed over: if it is again later, the vCPU has not moved and stops there anew.
bool GdbSession::report_pending(const std::vector<VcpuId>& held) {
  for (usize i = 0; i < pending_.size();) {
    const DebugStop s = pending_[i];
    if (std::find(held.begin(), held.end(), s.vcpu) != held.end()) {
      ++i;
      continue;
    }
    pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(i));
    VcpuRegisters r;
    if (s.kind == DebugStop::Kind::Step || !host_.read_registers(s.vcpu, r)) continue;
    const auto& points = orders_.breakpoints;
    if (s.kind == DebugStop::Kind::Breakpoint && std::find(points.begin(), points.end(), r.cpu.rip) == points.end())
      continue;
    tell(s);
    return true;
  }
  return false;
}

std::optional<std::string> GdbSession::go(std::vector<VcpuId> steps, std::vector<VcpuId> held) {
  if (report_pending(held)) return std::nullopt;
  orders_.steps = std::move(steps);
  orders_.held = std::move(held);
  orders_.passes = told_;
  std::erase_if(told_, [this](VcpuId id) {
    return std::find(orders_.held.begin(), orders_.held.end(), id) == orders_.held.end();
  });
  host_.order(orders_);
  cached_.reset();
  running_ = true;
  host_.resume();
  return std::nullopt;
}

VcpuRegisters& GdbSession::current() {
  if (!cached_) {
    cached_.emplace();
    host_.read_registers(thread_, *cached_);
  }
  return *cached_;
}

std::string GdbSession::stop_reply() const {
  std::string s = fmt::format("T{:02x}thread:{:x};", interrupted_ ? 2 : 5, thread_.v + 1);
  if (interrupted_) return s;
  if (stop_.kind == DebugStop::Kind::Breakpoint) s += "hwbreak:;";
  if (stop_.kind == DebugStop::Kind::Watchpoint)
    s += fmt::format("{}:{:x};", stop_.read ? "awatch" : "watch", stop_.address);
  return s;
}

std::optional<std::string> GdbSession::dispatch(const std::string& text) {
  if (text.empty()) return "";
  GdbText t(std::string_view(text).substr(1));
  switch (text[0]) {
    case '?': return stop_reply();
    case 'q': return query(t);
    case 'Q': return set(t);
    case 'H': return select_thread(t);
    case 'T': {
      const auto n = t.hex();
      return n && is_thread(*n) ? kOk : error(1);
    }
    case 'g':
    case 'G':
    case 'p':
    case 'P': return registers(t, text[0]);
    case 'm':
    case 'M':
    case 'X': return memory(t, text[0]);
    case 'Z':
    case 'z': return point(t, text[0] == 'Z');
    case 'v':
      if (t.eat("Cont?")) return "vCont;c;C;s;S";
      if (t.eat("Cont")) return vcont(t);
      if (t.eat("Kill")) host_.quit();
      return t.rest().starts_with(";") ? kOk : "";
    case 'c': return go({});
    case 's': return go({step_thread_});
    case 'D':
      orders_ = {};
      pending_.clear();
      told_.clear();
      go({});
      return kOk;
    case 'k': host_.quit(); return kOk;
    default: return "";
  }
}

std::string GdbSession::query(GdbText t) {
  if (t.eat("Supported")) {
    // A new client: no breakpoints are left from the one before.
    orders_ = {};
    pending_.clear();
    told_.clear();
    host_.order(orders_);
    no_ack_ = false;
    return fmt::format("PacketSize={:x};QStartNoAckMode+;qXfer:features:read+;vContSupported+;hwbreak+;swbreak+",
                       GdbFramer::kMaxPacket);
  }
  if (t.eat("Xfer:")) {
    const std::string_view object = t.until(':');
    return transfer(object, t);
  }
  if (t.rest() == "Attached") return "1";
  if (t.rest() == "C") return fmt::format("QC{:x}", thread_.v + 1);
  if (t.rest() == "fThreadInfo") {
    std::string s = "m";
    for (u32 i = 0; i < host_.vcpus(); ++i) s += fmt::format("{}{:x}", i ? "," : "", i + 1);
    return s;
  }
  if (t.rest() == "sThreadInfo") return "l";
  if (t.eat("ThreadExtraInfo,")) {
    const auto n = t.hex();
    VcpuRegisters r;
    if (!n || !is_thread(*n) || !host_.read_registers(VcpuId{static_cast<u16>(*n - 1)}, r)) return error(1);
    return to_hex(bytes_of(fmt::format("vCPU {} on node {}, {}", r.cpu.id.v, r.cpu.node.v, to_string(r.cpu.activity))));
  }
  if (t.eat("Rcmd,")) return monitor(t.rest());
  return "";
}

std::string GdbSession::transfer(std::string_view object, GdbText range) const {
  if (object != "features" || !range.eat("read:target.xml:")) return "";
  u64 offset = 0, length = 0;
  if (!numbers(range, offset, length)) return error(1);
  const std::string xml = gdb_target_description();
  if (offset >= xml.size()) return "l";
  const std::string part = xml.substr(offset, std::min(length, kMaxTransfer));
  return (offset + part.size() < xml.size() ? "m" : "l") + part;
}

std::string GdbSession::set(GdbText t) {
  if (t.rest() != "StartNoAckMode") return "";
  no_ack_ = true;
  return kOk;
}

std::string GdbSession::select_thread(GdbText t) {
  const bool for_steps = t.eat("c");
  if (!for_steps && !t.eat("g")) return error(1);
  if (t.rest() == "-1" || t.rest() == "0") return kOk;  // any
  const auto n = t.hex();
  if (!n || !is_thread(*n)) return error(1);
  const VcpuId id{static_cast<u16>(*n - 1)};
  if (for_steps) {
    step_thread_ = id;
  } else if (thread_ != id) {
    thread_ = id;
    cached_.reset();
  }
  return kOk;
}

std::string GdbSession::registers(GdbText t, char kind) {
  VcpuRegisters& r = current();
  if (kind == 'g') return gdb_read_all(r);
  if (kind == 'G') return gdb_write_all(r, t.rest()) && host_.write_registers(thread_, r) ? kOk : error(1);
  const auto n = t.hex();
  if (!n) return error(1);
  if (kind == 'p') {
    const std::string v = gdb_read(r, *n);
    return v.empty() ? error(1) : v;
  }
  return t.eat("=") && gdb_write(r, *n, t.rest()) && host_.write_registers(thread_, r) ? kOk : error(1);
}

std::string GdbSession::memory(GdbText t, char kind) {
  u64 at = 0, length = 0;
  if (!numbers(t, at, length)) return error(1);
  if (kind == 'm') {
    std::vector<u8> b(std::min(length, kMaxTransfer));
    // A range that runs out of mapped memory is answered as far as it goes.
    for (; !b.empty(); b.resize(b.size() / 2))
      if (read_virtual(host_.memory(), current().cpu, at, b)) return to_hex(b);
    return error(14);
  }
  if (!t.eat(":")) return error(1);
  const auto data = kind == 'X' ? std::optional(std::string(t.rest())) : from_hex(t.rest());
  if (!data || data->size() != length) return error(1);
  return write_virtual(host_.memory(), current().cpu, at, bytes_of(*data)) ? kOk : error(14);
}

std::string GdbSession::point(GdbText t, bool insert) {
  u64 type = 0, at = 0, length = 0;
  if (!numbers(t, type, at, length) || type > 4) return error(1);
  if (type <= 1) {
    std::erase(orders_.breakpoints, at);
    if (insert && orders_.breakpoints.size() >= DebugOrders::kMaxBreakpoints) return error(28);
    if (insert) orders_.breakpoints.push_back(at);
    return kOk;
  }
  // The processor has no watchpoint for reads alone; one for both accesses serves.
  if (length != 1 && length != 2 && length != 4 && length != 8) return error(22);
  const Watchpoint w{at, static_cast<u8>(length), type != 2};
  std::erase(orders_.watchpoints, w);
  if (insert && orders_.watchpoints.size() >= DebugOrders::kMaxWatchpoints) return error(28);
  if (insert) orders_.watchpoints.push_back(w);
  return kOk;
}

/// The leftmost action that names a thread is its; a thread that none names stays where it is.
std::optional<std::string> GdbSession::vcont(GdbText t) {
  enum class Action : u8 { None, Run, Step };
  std::vector<Action> actions(host_.vcpus(), Action::None);
  bool any = false;
  if (!t.eat(";")) return error(1);
  while (!t.empty()) {
    GdbText action(t.until(';'));
    const bool step = action.eat("s") || action.eat("S");
    if (!step && !action.eat("c") && !action.eat("C")) return error(1);
    any = true;
    action.hex();  // a signal; guests have none
    const auto n = action.eat(":") ? action.hex() : std::nullopt;
    for (u32 i = 0; i < host_.vcpus(); ++i)
      if ((!n || *n == i + 1) && actions[i] == Action::None) actions[i] = step ? Action::Step : Action::Run;
  }
  if (!any) return error(1);
  std::vector<VcpuId> steps, held;
  for (u32 i = 0; i < host_.vcpus(); ++i) {
    if (actions[i] == Action::Step) steps.push_back(VcpuId{static_cast<u16>(i)});
    if (actions[i] == Action::None) held.push_back(VcpuId{static_cast<u16>(i)});
  }
  return go(std::move(steps), std::move(held));
}

std::string GdbSession::monitor(std::string_view hex) {
  const auto command = from_hex(hex);
  if (!command) return error(1);
  if (*command == "info" || *command == "info cpus") return to_hex(bytes_of(host_.describe(false)));
  if (*command == "registers" || *command == "info registers") return to_hex(bytes_of(host_.describe(true)));
  struct Row {
    std::string_view name;
    void (DebugHost::*act)();
  };
  static constexpr Row kActs[] = {{"system_reset", &DebugHost::reset},
                                  {"system_powerdown", &DebugHost::press_power_button},
                                  {"system_wakeup", &DebugHost::wake},
                                  {"quit", &DebugHost::quit}};
  std::string names = "info, registers";
  for (const Row& row : kActs) {
    if (*command == row.name) {
      (host_.*row.act)();
      return kOk;
    }
    names += fmt::format(", {}", row.name);
  }
  return to_hex(bytes_of(names + "\n"));
}
}  // namespace pangea::machine
