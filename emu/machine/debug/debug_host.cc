#include "emu/machine/debug/debug_host.h"

#include <algorithm>

namespace pangea::machine {
bool MachineDebugHost::read_registers(VcpuId id, VcpuRegisters& out) {
  return std::any_of(nodes_.begin(), nodes_.end(), [&](NodeDebug* n) { return n->read_registers(id, out); });
}

bool MachineDebugHost::write_registers(VcpuId id, const VcpuRegisters& in) {
  return std::any_of(nodes_.begin(), nodes_.end(), [&](NodeDebug* n) { return n->write_registers(id, in); });
}

void MachineDebugHost::order(const DebugOrders& orders) {
  for (NodeDebug* n : nodes_) n->order(orders);
}

std::string MachineDebugHost::describe(bool registers) {
  std::string s;
  for (const VcpuSnapshot& v : control_.snapshots())
    s += registers ? dump_text(v, symbols_) : summary_line(v, symbols_) + "\n";
  return s;
}
}  // namespace pangea::machine
