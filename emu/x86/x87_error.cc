// x87 errors as the 80287 of a PC/AT reported them, which processors still do while CR0.NE is 0: over the pin FERR# and
// an interrupt controller. SDM Vol. 1, 8.7.2 and D.2.1.
//
// Only the boot processor's pins are connected, as on every PC with several (MultiProcessor Specification 1.4, B.4); QEMU
// connects the FERR# of all and the IGNNE# of the first. The processor stops before the waiting instruction until an
// interrupt comes; QEMU lets it go on.
//
// The host runs with CR0.NE set, so a waiting instruction that finds an exception pending faults there in any case.
#include "emu/x86/vcpu.h"

namespace pangea::x86 {
namespace {
void drive_ferr(Vcpu& c, bool asserted) {
  c.state().ferr = asserted;
  FpuErrorPort* port = c.ports().fpu_error;
  if (!port) return;
  c.park();
  port->set_ferr(asserted);
  c.unpark();
}
}  // namespace

Outcome report_x87_error(Vcpu& c) {
  VcpuState& s = c.state();
  if (s.cr0 & kCr0NE) return raise(c, Vector::MF);
  if (!s.ferr) {
    drive_ferr(c, true);
    return Outcome::Frozen;  // parked meanwhile: it looks at IGNNE# when it starts again
  }
  FpuErrorPort* port = c.ports().fpu_error;
  return port && port->ignne() ? Outcome::Next : Outcome::Frozen;
}

void withdraw_x87_error(Vcpu& c) { drive_ferr(c, false); }
}  // namespace pangea::x86
