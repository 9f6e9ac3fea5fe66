// Port access as an instruction does it: permission, then the port with the vCPU parked.
#pragma once
#include "emu/x86/exec/operand.h"

namespace pangea::x86 {
/// CPL against IOPL, then the TSS's I/O permission bitmap. Fault: #GP(0). SDM Vol. 1, 18.5.
Outcome check_io_permission(Vcpu& c, u16 port, unsigned size);
/// The access itself. The vCPU passes a safepoint: no host pointer or soft-TLB entry seen before is good afterwards.
u32 port_read(Vcpu& c, u16 port, unsigned size);
void port_write(Vcpu& c, u16 port, unsigned size, u32 value);
}  // namespace pangea::x86
