#include "emu/x86/mmu_log.h"

#include <immintrin.h>

#include "emu/base/log.h"

namespace pangea::x86 {
namespace {
/// x87, SSE, AVX and AVX-512 registers of the host around a call that may use them. SDM Vol. 1, 13.7.
class SavedVectors {
 public:
  __attribute__((target("xsave"), noinline)) SavedVectors() { _xsave64(area_, kComponents); }
  __attribute__((target("xsave"), noinline)) ~SavedVectors() { _xrstor64(area_, kComponents); }
  SavedVectors(const SavedVectors&) = delete;
  SavedVectors& operator=(const SavedVectors&) = delete;

 private:
  static constexpr unsigned long long kComponents = 0xe7;
  alignas(64) u8 area_[4096] = {};
};

void write_line(const Vcpu& c, u64 gva, const WalkAccess& access, const Walk& w, Outcome outcome) {
  const char* intent = access.intent == Intent::Fetch ? "fetch" : access.intent == Intent::Write ? "write" : "read";
  const char* who = access.user ? "user" : "supervisor";
  if (outcome == Outcome::Fault)
    PANGEA_LOG(mmu, "vCPU {}: {} {} {:#x}: page fault, error {:#x}", c.id().v, who, intent, gva, w.error);
  else if (outcome == Outcome::Wait)
    PANGEA_LOG(mmu, "vCPU {}: {} {} {:#x}: walk waits for page {:#x}", c.id().v, who, intent, gva, w.wait_page.v);
  else
    PANGEA_LOG(mmu, "vCPU {}: {} {} {:#x} -> {:#x} ({} KiB page{}{}{}{})", c.id().v, who, intent, gva, w.gpa.v,
               (u64{1} << w.page_shift) / 1024, w.read ? ", read" : "", w.write ? ", write" : "",
               w.execute ? ", execute" : "", w.global ? ", global" : "");
}
}  // namespace

void log_walk(const Vcpu& c, u64 gva, const WalkAccess& access, const Walk& walk, Outcome outcome) {
  const SavedVectors saved;
  write_line(c, gva, access, walk, outcome);
}
}  // namespace pangea::x86
