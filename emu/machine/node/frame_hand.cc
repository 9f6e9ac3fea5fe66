#include "emu/machine/node/frame_hand.h"

#include <algorithm>

namespace pangea::machine {
using coherence::Giving;
using coherence::Shortage;

namespace {
constexpr unsigned kLooks = 512;      // pages at a time: others wait for the lock meanwhile
constexpr unsigned kPatience = 128;   // looks without a page to move: the next will do, in use or not
constexpr unsigned kCodeChances = 8;  // looks at pages with code for one that may go
constexpr u64 kWorth = 1024;          // looks that one page is worth
constexpr u64 kNeedPaceNs = 50'000, kPaceNs = 1'000'000, kVainPaceNs = 20'000'000;
}  // namespace

void FrameHand::after_step(u64 now_ns) {
  const Shortage s = shortage();
  if (s.moves != 0 || s.waiting != 0) return turn(now_ns);
  due_ns_ = s.any == 0 ? ~u64{0} : std::min(due_ns_, now_ns + kPaceNs);
}

void FrameHand::tick(u64 now_ns) { turn(now_ns); }

void FrameHand::turn(u64 now_ns) {
  give_silently(now_ns);
  if (shortage().moves != 0 && vain_looks_ >= lap()) move(now_ns);
  const Shortage s = shortage();
  due_ns_ = s.any == 0 ? ~u64{0}
                       : now_ns + (s.moves != 0 || s.waiting != 0 ? kNeedPaceNs
                                   : vain_looks_ < lap() + kLooks ? kPaceNs
                                                                  : kVainPaceNs);
}

/// Copies of `page` are taken away with the question: by the next lap only those are there that were made since.
bool FrameHand::in_use(PageNumber page) {
  if (!memory_.safepoints.used(page))
    return (memory_.pages.load(page) & PageTable::kHasCode) && ++code_looks_ % kCodeChances;
  memory_.safepoints.revoke(page, Right::None, [] {});
  return true;
}

void FrameHand::give_silently(u64 now_ns) {
  Shortage wanted = shortage();
  for (unsigned looks = 0; looks < kLooks && wanted.any != 0; ++looks) {
    advance(silent_at_);
    vain_looks_ = std::min(vain_looks_ + 1, 2 * lap());
    const Giving giving = executor_.protocol().giving(silent_at_);
    // Whether a page of our own is zero is asked first: the copies of the others stay.
    if (giving != Giving::Silent && !(giving == Giving::Home && executor_.looks_zero(silent_at_))) continue;
    if (in_use(silent_at_) && wanted.waiting == 0) continue;
    if (!executor_.give_up(now_ns, silent_at_, false)) continue;
    vain_looks_ -= std::min(vain_looks_, kWorth);
    wanted = shortage();
  }
}

void FrameHand::move(u64 now_ns) {
  unsigned vain = 0;
  for (unsigned looks = 0; looks < kLooks && shortage().moves != 0; ++looks, ++vain) {
    advance(move_at_);
    const Giving giving = executor_.protocol().giving(move_at_);
    if (giving != Giving::Source && giving != Giving::Home) continue;
    if (in_use(move_at_) && vain < kPatience) continue;
    if (executor_.give_up(now_ns, move_at_, true)) vain = 0;
  }
}
}  // namespace pangea::machine
