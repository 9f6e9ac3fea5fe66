#include "emu/x86/vcpu.h"

namespace pangea::x86 {
namespace {
PendingException& begin(Vcpu& c, Vector v) {
  PendingException& e = c.state().exception;
  e = PendingException{};
  e.valid = true;
  e.vector = v;
  return e;
}
}  // namespace

Outcome raise(Vcpu& c, Vector v) {
  begin(c, v);
  return Outcome::Fault;
}

Outcome raise(Vcpu& c, Vector v, u32 error) {
  PendingException& e = begin(c, v);
  e.has_error = true;
  e.error = error;
  return Outcome::Fault;
}

Outcome raise_gp(Vcpu& c, u32 error) { return raise(c, Vector::GP, error); }
Outcome raise_ud(Vcpu& c) { return raise(c, Vector::UD); }

Outcome raise_software(Vcpu& c, u8 vector, u8 length, bool privileged) {
  PendingException& e = begin(c, static_cast<Vector>(vector));
  e.software = !privileged;
  e.trap = true;
  e.advance = length;
  return Outcome::Fault;
}

Outcome raise_debug_trap(Vcpu& c, u64 dr6) {
  PendingException& e = begin(c, Vector::DB);
  e.trap = true;
  e.dr6 = dr6;
  return Outcome::Fault;
}
}  // namespace pangea::x86
