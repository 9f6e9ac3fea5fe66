// Counters of one node's protocol. Plain numbers; read them under the same lock as step().
#pragma once
#include <array>

#include "emu/base/types.h"

namespace pangea::coherence {

/// Why a message of a peer was dropped. The peer is broken or lying: nothing of ours leads there.
enum class PeerError : u8 {
  UnknownPage,      // not guest RAM
  NotHome,          // an order from a node that is not the page's home, or a request to one
  WrongRequester,   // requester field does not fit sender or receiver
  TooManyRequests,  // beyond Config::max_requests
  DuplicateRequest,
  UnknownTransaction,  // Done, Grant or Ack that answers nothing
  ImpossibleRequest,   // versions that this home never granted
  ImpossibleOrder,     // Fetch or Invalidate that does not fit this node's state
  ImpossibleGrant,     // versions, payload or state do not fit
  Malformed,           // enum, range or frame that no honest node sends
  Count
};
const char* to_string(PeerError error);

struct Stats {
  u64 local_requests = 0;     // LocalRequest and DmaClaim events
  u64 local_hits = 0;         // ... that found the right already there
  u64 local_merged = 0;       // ... that joined a request under way
  u64 local_refused = 0;      // ... turned away because max_requests are under way (agent woken to ask again)
  u64 writes_predicted = 0;   // reads that asked for the right to write (see predictor.h)
  u64 prefetches_wasted = 0;  // that went away again before anybody here had used them
  u64 prefetches = 0;         // pages asked for before anybody waited
  u64 requests_sent = 0;      // to other nodes
  u64 installs_page = 0;      // grants that carried bytes
  u64 installs_changes = 0;   // ... of those, only what had changed
  u64 installs_zero = 0;      // grants of zero pages, no bytes
  u64 installs_current = 0;   // grants without bytes because ours were current
  u64 installs_claimed = 0;   // DMA claims, no bytes
  u64 fetches_served = 0;     // grants sent as holder
  u64 pages_sent = 0;         // ... with bytes
  u64 invalidations = 0;      // copies given up as sharer
  u64 orders_deferred = 0;    // hand-overs put off because a page was held
  u64 transactions = 0;       // completed at this home
  u64 drops = 0;              // clean pages given back
  u64 frames_peak = 0;        // frames set aside at a time
  u64 drops_stale = 0;        // frames given back whose bytes were out of date
  u64 drops_zero = 0;         // pages of this home given back because they were all zero
  u64 drops_undone = 0;       // ... that were written before all agents had let go
  u64 offers = 0;             // pages offered to other nodes
  u64 offers_refused = 0;     // answers that there is no room
  u64 offers_taken = 0;       // pages lost after they had been offered
  u64 taken_in = 0;           // pages asked for because another node offered them
  u64 frame_waits = 0;        // requests that waited for a frame
  std::array<u64, static_cast<usize>(PeerError::Count)> peer_errors{};

  u64 peer_errors_total() const {
    u64 n = 0;
    for (u64 e : peer_errors) n += e;
    return n;
  }
};
}  // namespace pangea::coherence
