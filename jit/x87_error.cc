#include "jit/x87_error.h"

namespace pangea::jit {
namespace {
constexpr u16 kSummary = 0x80, kBusy = 0x8000, kExceptions = 0x7f, kMaskable = 0x3f;

/// What FNSTENV writes. SDM Vol. 1, figure 8-9.
struct Environment {
  u16 control, reserved0, status, reserved1, tags, reserved2;
  u32 rest[4];
};
static_assert(sizeof(Environment) == 28);
/// FNSTENV masks all exceptions, so FLDENV, which waits, does not fault.
template <class F>
void change(F&& f) {
  Environment e;
  asm volatile("fnstenv %0" : "=m"(e));
  f(e);
  asm volatile("fldenv %0" ::"m"(e));
}
}  // namespace

u16 hide_x87_error() {
  u16 hidden = 0;
  change([&](Environment& e) {
    hidden = e.status & (kExceptions | kSummary);
    e.status = static_cast<u16>(e.status & ~(kExceptions | kSummary | kBusy));
  });
  return hidden;
}

void show_x87_error(u16 hidden) {
  change([&](Environment& e) {
    e.status = static_cast<u16>(e.status | (hidden & kExceptions));
    if (e.status & ~e.control & kMaskable) e.status |= kSummary | kBusy;
  });
}

bool x87_error_pending() {
  u16 status = 0;
  asm volatile("fnstsw %0" : "=m"(status));
  return status & kSummary;
}
}  // namespace pangea::jit
