// The register file as gdb numbers it: one table gives the target description, the g/G block and p/P.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "emu/machine/debug/node_debug.h"

namespace pangea::machine {
/// target.xml: i386:x86-64 with the standard core, sse, segments and pkeys features and the control registers.
std::string gdb_target_description();
/// Number of registers.
usize gdb_register_count();
/// Value of one register as hexadecimal bytes in target order; "" if there is no such register.
std::string gdb_read(const VcpuRegisters& r, usize number);
/// Sets one from hexadecimal bytes. False: no such register, a wrong size, or one that cannot be written.
bool gdb_write(VcpuRegisters& r, usize number, std::string_view hex);
/// The g packet's block, and from one. False: the block has the wrong size.
std::string gdb_read_all(const VcpuRegisters& r);
bool gdb_write_all(VcpuRegisters& r, std::string_view hex);
}  // namespace pangea::machine
