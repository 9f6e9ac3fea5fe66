#include "emu/machine/debug/node_debug.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "emu/x86/exec/fpu.h"
#include "emu/x86/paging.h"

namespace pangea::machine {
using x86::VcpuState;

LocalNodeDebug::LocalNodeDebug(LocalMachine& machine, std::function<void(const DebugStop&)> on_stop)
    : machine_(machine), on_stop_(std::move(on_stop)), state_(machine.plan().vcpus()) {}

LocalNodeDebug::~LocalNodeDebug() {
  for (usize i = 0; i < machine_.local_vcpus(); ++i) machine_.vcpu(i).set_debugger(nullptr);
}

int LocalNodeDebug::index_of(VcpuId id) {
  for (usize i = 0; i < machine_.local_vcpus(); ++i)
    if (machine_.vcpu(i).id() == id) return static_cast<int>(i);
  return -1;
}

bool LocalNodeDebug::read_registers(VcpuId id, VcpuRegisters& out) {
  const int i = index_of(id);
  if (i < 0) return false;
  out.cpu = take_snapshot(machine_, static_cast<usize>(i));
  const VcpuState& s = machine_.vcpu(static_cast<usize>(i)).vcpu().state();
  std::memcpy(out.fxsave, &s.fpu, sizeof out.fxsave);
  out.kernel_gs_base = s.kernel_gs_base;
  return true;
}

bool LocalNodeDebug::write_registers(VcpuId id, const VcpuRegisters& in) {
  const int i = index_of(id);
  if (i < 0) return false;
  x86::Vcpu& c = machine_.vcpu(static_cast<usize>(i)).vcpu();
  VcpuState& s = c.state();
  std::copy(std::begin(in.cpu.gpr), std::end(in.cpu.gpr), s.gpr);
  s.rip = in.cpu.rip;
  constexpr u64 kWritable = x86::kArith | x86::kFlagTF | x86::kFlagIF | x86::kFlagDF | x86::kFlagAC | x86::kFlagRF;
  s.rflags = (s.rflags & ~kWritable) | (in.cpu.rflags & kWritable);
  for (const x86::Seg g : {x86::Seg::Fs, x86::Seg::Gs})
    s.seg[static_cast<unsigned>(g)].base = in.cpu.seg[static_cast<unsigned>(g)].base;
  s.kernel_gs_base = in.kernel_gs_base;
  if (in.cpu.pkru != s.pkru) {
    c.unpark();  // its soft TLB is touched: for its thread, which stands still
    x86::set_pkru(c, in.cpu.pkru);
    c.park();
  }
  std::memcpy(static_cast<void*>(&s.fpu), in.fxsave, sizeof in.fxsave);
  s.fpu.mxcsr &= ~x86::kMxcsrReserved;  // the host's processor would refuse them
  if (s.halted && in.cpu.activity != VcpuActivity::Halted) s.halted = false;
  x86::update_mode(s);
  return true;
}

void LocalNodeDebug::order(const DebugOrders& orders) {
  orders_ = orders;
  std::sort(orders_.breakpoints.begin(), orders_.breakpoints.end());
  for (usize i = 0; i < machine_.local_vcpus(); ++i) {
    VcpuThread& t = machine_.vcpu(i);
    PerVcpu& p = state_[t.id().v];
    const auto in = [&t](const std::vector<VcpuId>& v) { return std::find(v.begin(), v.end(), t.id()) != v.end(); };
    p.step = in(orders_.steps);
    p.held = in(orders_.held);
    p.pass = p.step || in(orders_.passes) ? t.vcpu().state().rip : kNowhere;
    watch(t.vcpu(), p);
    t.set_debugger(orders_.idle() ? nullptr : this);
  }
}

/// Puts the watchpoints into the debug registers, or the guest's values back. SDM Vol. 3B 18.2.4.
void LocalNodeDebug::watch(x86::Vcpu& c, PerVcpu& p) {
  VcpuState& s = c.state();
  if (!p.watching && orders_.watchpoints.empty()) return;
  if (!p.watching) {
    std::copy(s.dr, s.dr + 4, p.guest_dr.begin());
    p.guest_dr7 = s.dr[7];
  }
  p.watching = !orders_.watchpoints.empty();
  if (!p.watching) {
    std::copy(p.guest_dr.begin(), p.guest_dr.end(), s.dr);
    s.dr[7] = p.guest_dr7;
    x86::update_mode(s);
    return;
  }
  u64 dr7 = 0x400;
  for (usize n = 0; n < orders_.watchpoints.size() && n < 4; ++n) {
    const Watchpoint& w = orders_.watchpoints[n];
    const u64 length = w.bytes == 8 ? 2 : w.bytes == 4 ? 3 : w.bytes == 2 ? 1 : 0;
    s.dr[n] = w.address;
    dr7 |= bit(static_cast<unsigned>(2 * n + 1)) | ((w.read ? 3 : 1) | length << 2) << (16 + 4 * n);
  }
  s.dr[7] = dr7;
  x86::update_mode(s);
}

bool LocalNodeDebug::before(x86::Vcpu& c) {
  PerVcpu& p = state_[c.id().v];
  const VcpuState& s = c.state();
  const u64 at = s.rip + s.seg_base[static_cast<unsigned>(x86::Seg::Cs)];
  if (std::exchange(p.pass, kNowhere) == s.rip) return false;
  if (!std::binary_search(orders_.breakpoints.begin(), orders_.breakpoints.end(), at)) return false;
  p.stop = {DebugStop::Kind::Breakpoint, c.id()};
  return true;
}

bool LocalNodeDebug::after(x86::Vcpu& c, u64& hits) {
  PerVcpu& p = state_[c.id().v];
  if (p.watching && (hits & 15)) {
    const usize n = static_cast<usize>(std::countr_zero(hits & 15));
    hits = 0;
    if (n < orders_.watchpoints.size()) {
      const Watchpoint& w = orders_.watchpoints[n];
      p.stop = {DebugStop::Kind::Watchpoint, c.id(), w.address, w.read};
      return true;
    }
  }
  if (!p.step) return false;
  p.step = false;
  p.stop = {DebugStop::Kind::Step, c.id()};
  return true;
}
}  // namespace pangea::machine
