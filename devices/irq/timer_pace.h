// How soon a vCPU's timer may interrupt it again, where memory is slow.
//
// A kernel's tick touches a dozen pages that other vCPUs write. When they lie on other nodes, serving it costs many
// times what it costs on a PC, and the vCPUs take the pages from each other; when each takes milliseconds to come, a
// tick takes longer than the time to the next one, and the vCPU does nothing else any more: its kernel sees a soft
// lockup. So a timer interrupt comes late by a multiple of what the last one made the vCPU wait for pages: at most one
// part in kShare of its time goes there. Where nothing is waited for, nothing is late. A late timer interrupt is what
// every kernel must expect (SMIs, hypervisors); its clocks do not depend on how many there are.
#pragma once
#include <algorithm>

#include "emu/base/types.h"

namespace pangea::devices {

/// Times are guest nanoseconds.
class TimerPace {
 public:
  static constexpr u64 kShare = 32;
  /// A wait belongs to the interrupt if the vCPU has run for less than this since then: the handler, and what it leaves
  /// to be done right after it. Other waits are the program's own.
  static constexpr u64 kServingNs = 1'000'000;
  static constexpr u64 kLongestNs = 2'000'000'000;  // well below what kernels call a stall

  void fired(u64 now_ns) {
    fired_ns_ = now_ns;
    waited_ns_ = 0;
    waits_ = false;
  }
  /// The vCPU stands still between the two, because a page of its memory is on its way.
  void wait_began(u64 now_ns) {
    waits_ = now_ns - std::min(now_ns, fired_ns_) - waited_ns_ < kServingNs;
    began_ns_ = now_ns;
  }
  void wait_ended(u64 now_ns) {
    waited_ns_ = waited_by(now_ns);
    waits_ = false;
  }
  /// The timer may not fire earlier. Grows with each wait, also while it lasts.
  u64 not_before_ns(u64 now_ns) const { return fired_ns_ + std::min(waited_by(now_ns), kLongestNs / kShare) * kShare; }

 private:
  u64 waited_by(u64 now_ns) const { return waited_ns_ + (waits_ ? now_ns - std::min(now_ns, began_ns_) : 0); }

  u64 fired_ns_ = 0;
  u64 waited_ns_ = 0;  // since then, in waits that have ended
  u64 began_ns_ = 0;
  bool waits_ = false;  // for the interrupt, since began_ns_
};
}  // namespace pangea::devices
