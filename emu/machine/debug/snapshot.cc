#include "emu/machine/debug/snapshot.h"

#include <algorithm>
#include <type_traits>

namespace pangea::machine {
static_assert(std::is_trivially_copyable_v<VcpuSnapshot>);

VcpuSnapshot take_snapshot(LocalMachine& machine, usize index) {
  VcpuThread& t = machine.vcpu(index);
  x86::VcpuState& s = t.vcpu().state();
  VcpuSnapshot out;
  out.id = t.id();
  out.node = machine.self();
  out.activity = t.activity();
  const bool suspended = out.activity == VcpuActivity::Suspended;
  out.paused = out.activity == VcpuActivity::Paused || out.activity == VcpuActivity::Dead || suspended;
  out.cpl = s.cpl;
  std::copy(std::begin(s.gpr), std::end(s.gpr), out.gpr);
  out.rip = s.rip;
  out.rflags = s.rflags;
  std::copy(std::begin(s.seg), std::end(s.seg), out.seg);
  out.ldtr = s.ldtr;
  out.tr = s.tr;
  out.gdtr = s.gdtr;
  out.idtr = s.idtr;
  out.cr0 = s.cr0;
  out.cr2 = s.cr2;
  out.cr3 = s.cr3;
  out.cr4 = s.cr4;
  out.efer = s.efer;
  out.dr6 = s.dr[6];
  out.dr7 = s.dr[7];
  out.pkru = s.pkru;
  out.instructions = s.instructions;
  out.wait_page = s.wait_page.v;
  out.wait_write = s.wait_access == Access::Write;
  out.io_address = machine.io_address(index);
  if (s.wait_for_sipi && !suspended) out.activity = VcpuActivity::WaitsForSipi;
  if (s.halted && out.activity == VcpuActivity::Paused) out.activity = VcpuActivity::Halted;
  return out;
}

std::vector<VcpuSnapshot> take_snapshots(LocalMachine& machine, bool pause) {
  // What a vCPU waits for is seen only while it waits, so look before it is paused; its registers are exact only after.
  std::vector<VcpuSnapshot> before, out;
  for (usize i = 0; i < machine.local_vcpus(); ++i) before.push_back(take_snapshot(machine, i));
  if (!pause) return before;
  machine.pause(200);
  for (usize i = 0; i < machine.local_vcpus(); ++i) {
    out.push_back(take_snapshot(machine, i));
    if (before[i].activity != VcpuActivity::Paused) out[i].activity = before[i].activity;
    out[i].io_address = before[i].io_address;
  }
  machine.resume();
  return out;
}

std::string summary_line(const VcpuSnapshot& s, const Symbols& symbols) {
  std::string what = to_string(s.activity);
  if (s.activity == VcpuActivity::WaitsForPage)
    what = fmt::format("waits for page {:#x} to {}", s.wait_page, s.wait_write ? "write" : "read");
  else if (s.io_address != ~u64{0})
    what = fmt::format("waits for the device at {:#x}", s.io_address);
  const std::string name = symbols.name(s.rip);
  return fmt::format("vCPU {} on node {}: {} at {:04x}:{:016x}{}{}", s.id.v, s.node.v, what, s.seg[1].selector, s.rip,
                     name.empty() ? "" : " ", name);
}

std::string dump_text(const VcpuSnapshot& s, const Symbols& symbols) {
  static constexpr const char* kNames[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                           "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"};
  static constexpr int kOrder[] = {0, 3, 1, 2, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15};
  static constexpr const char* kSegments[] = {"ES", "CS", "SS", "DS", "FS", "GS"};
  std::string t = summary_line(s, symbols) + "\n";
  for (int i = 0; i < 16; ++i)
    t += fmt::format("{}={:016x}{}", kNames[kOrder[i]], s.gpr[kOrder[i]], i % 4 == 3 ? "\n" : " ");
  t += fmt::format("RIP={:016x} RFL={:08x} CPL={} instructions={}\n", s.rip, s.rflags, s.cpl, s.instructions);
  const auto segment = [&](const char* name, const x86::SegmentRegister& r) {
    t += fmt::format("{} ={:04x} {:016x} {:08x} {:04x}\n", name, r.selector, r.base, r.limit, r.attr);
  };
  for (int i = 0; i < 6; ++i) segment(kSegments[i], s.seg[i]);
  segment("LDT", s.ldtr);
  segment("TR", s.tr);
  t += fmt::format("GDT={:016x} {:04x} IDT={:016x} {:04x}\n", s.gdtr.base, s.gdtr.limit, s.idtr.base, s.idtr.limit);
  t += fmt::format("CR0={:08x} CR2={:016x} CR3={:016x} CR4={:08x} EFER={:04x} DR6={:08x} DR7={:08x}\n", s.cr0, s.cr2,
                   s.cr3, s.cr4, s.efer, s.dr6, s.dr7);
  if (s.cr4 & x86::kCr4PKE) t += fmt::format("PKRU={:08x}\n", s.pkru);
  return t;
}
}  // namespace pangea::machine
