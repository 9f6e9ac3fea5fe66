// How long this node waits for another one that is there and does not answer, and what it says then.
#pragma once
#include <fmt/format.h>

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "emu/base/result.h"
#include "emu/mem/address.h"

namespace pangea::machine {

/// Waits under `lock` until `over`, which `changed` tells of; false: `patience` is at an end. It is slices that are
/// counted, not time: when this process did not run, the answer may be there and not yet read.
template <class Over>
bool wait_patiently(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                    std::chrono::milliseconds patience, Over over) {
  constexpr unsigned kSlices = 8;
  for (unsigned slice = 0; slice < kSlices; ++slice)
    if (changed.wait_for(lock, patience / kSlices, over)) return true;
  return false;
}

/// The end of the machine, by the name of who is silent. `why`: what it owes.
inline Error does_not_answer(NodeId silent, const char* why) {
  return {fmt::format("node {} does not answer", silent.v), why, "", ExitStatus::NodeLost};
}
}  // namespace pangea::machine
