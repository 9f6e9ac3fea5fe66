// What a vCPU looks like from outside: a plain copy of its registers, which can cross to another node or to gdb.
#pragma once
#include <string>

#include "emu/machine/debug/symbols.h"
#include "emu/machine/local_machine.h"

namespace pangea::machine {

/// Trivially copyable; the same layout on every node of one machine (the handshake refuses other builds).
struct VcpuSnapshot {
  VcpuId id;
  NodeId node;
  VcpuActivity activity = VcpuActivity::Paused;
  u8 cpl = 0;
  bool paused = false;  // the copy is exact; otherwise it was taken while the vCPU ran
  u64 gpr[16] = {};
  u64 rip = 0, rflags = 0;
  x86::SegmentRegister seg[6], ldtr, tr;
  x86::TableRegister gdtr, idtr;
  u64 cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, efer = 0, dr6 = 0, dr7 = 0;
  u32 pkru = 0;
  u64 instructions = 0;
  u64 wait_page = 0;  // activity WaitsForPage
  u8 wait_write = 0;
  u64 io_address = ~u64{0};  // access to a device under way
};

VcpuSnapshot take_snapshot(LocalMachine& machine, usize index);
/// All vCPUs of this node. Pauses them for the moment if `pause` says so (and goes on without if one does not pause).
std::vector<VcpuSnapshot> take_snapshots(LocalMachine& machine, bool pause);

/// One line: "vCPU 1 on node 0: halted at ffffffff81000010 default_idle+0x10".
std::string summary_line(const VcpuSnapshot& s, const Symbols& symbols);
/// Several lines: the summary, and all registers as QEMU's `info registers` shows them.
std::string dump_text(const VcpuSnapshot& s, const Symbols& symbols);
}  // namespace pangea::machine
