#include "emu/machine/agent_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace pangea::machine {
using devices::DmaStatus;

AgentMemory::AgentMemory(NodeMemory& memory) : Agent(memory.ram.page_limit()), memory_(memory) {
  memory.safepoints.add(this);
}

/// On success the agent is running and may use the page until it parks.
bool AgentMemory::obtain(PageNumber page, Access access, bool whole) {
  unpark();
  for (;;) {
    exit_request_.store(0, std::memory_order_relaxed);
    safepoint();
    note_may_hold(page);
    if (memory_.pages.may(page, access)) return true;
    PANGEA_ASSERT(memory_.gate);
    waited_ = true;
    const bool got = whole && access == Access::Write ? memory_.gate->claim(*this, page)
                                                      : memory_.gate->acquire(*this, page, access);
    if (!got) {
      park();
      return false;
    }
  }
}

template <class F>
DmaStatus AgentMemory::each_page(Gpa at, u64 bytes, Access access, F&& use) {
  for (u64 done = 0; done < bytes;) {
    const u64 offset = (at.v + done) & kPageMask;
    const u64 part = std::min(kPageSize - offset, bytes - done);
    const PageNumber page = page_of(at + done);
    if (!memory_.ram.contains(page)) return DmaStatus::NoMemory;
    if (!obtain(page, access, part == kPageSize)) return DmaStatus::Stopped;
    use(memory_.ram.host(page) + offset, done, part);
    // A block made from this page while we wrote may hold old bytes. Its maker sets HasCode before it reads the page,
    // so it either read our bytes or is seen here.
    if (access == Access::Write && memory_.code) {
      std::atomic_thread_fence(std::memory_order_seq_cst);
      if (memory_.pages.load(page) & PageTable::kHasCode) memory_.code->code_page_lost(page);
    }
    if (waited_) memory_.gate->retired(*this);
    waited_ = false;
    park();
    done += part;
  }
  return DmaStatus::Ok;
}

DmaStatus AgentMemory::read(Gpa from, std::span<u8> into) {
  return each_page(from, into.size(), Access::Read,
                   [&](const u8* host, u64 done, u64 part) { std::memcpy(into.data() + done, host, part); });
}

DmaStatus AgentMemory::write(Gpa to, std::span<const u8> from) {
  return each_page(to, from.size(), Access::Write,
                   [&](u8* host, u64 done, u64 part) { std::memcpy(host, from.data() + done, part); });
}

DmaStatus AgentMemory::zero(Gpa to, u64 bytes) {
  return each_page(to, bytes, Access::Write, [](u8* host, u64, u64 part) { std::memset(host, 0, part); });
}

Status AgentWriter::status(Gpa to, DmaStatus s) {
  if (s == DmaStatus::Ok) return ok();
  if (s == DmaStatus::Stopped) return Error{"guest memory", "the machine is stopping", ""};
  return Error{"guest memory", fmt::format("there is no RAM at {:#x}", to.v), "give more with -m"};
}
}  // namespace pangea::machine
