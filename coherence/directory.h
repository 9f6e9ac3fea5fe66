// The home's role: one transaction at a time per page, the others wait in a FIFO of at most one entry per request a
// node may have under way.
#pragma once
#include "coherence/state.h"

namespace pangea::coherence {

class Directory {
 public:
  explicit Directory(State& state);

  /// `from` asks for a page of ours.
  void on_request(NodeId from, const Msg& msg);
  /// `from` has installed what its transaction granted.
  void on_done(NodeId from, const Msg& msg);
  /// Our own copy of a page of ours is to be given up, if it is all zero when our agents have let go. False: not now.
  /// True: no transaction of the page starts until drop_ended.
  bool drop_begins(PageNumber page);
  void drop_ended(PageNumber page, bool zero);
  /// Whether a grant to ourselves, of a page of ours, is the one this directory had `from` send.
  bool ordered(NodeId from, const Msg& grant) const;

  bool idle() const { return transactions_.size() == 0; }
  std::string report() const;
  usize bytes() const { return pages_.bytes(); }

 private:
  static constexpr u32 kNone = ~u32{0};
  struct Pending {
    NodeId node;
    Want want = Want::Read;
    u64 serial = 0;
    u64 have = 0;  // version of the requester's bytes when it asked
    u32 next = 0;  // in the page's FIFO, or in the free list
  };
  struct Transaction {
    u32 head = 0;  // the active request; kNone: none yet, the home is dropping its copy
    u32 tail = 0;
    NodeId granter;     // of the active request: who sends the grant
    u64 waits_for = 0;  // ... and who acknowledges
  };

  /// Starts the transaction of `p`. False: no honest node asks this; nothing was done.
  bool activate(PageNumber page, const Pending& p);
  bool read(PageNumber page, const Pending& p, DirectoryEntry e);
  bool write(PageNumber page, const Pending& p, DirectoryEntry e);
  void order_grant(PageNumber page, NodeId granter, const Msg& msg);
  /// Removes the active request and starts the next; drops the transaction when none is left.
  void next(PageNumber page);
  void start_head(PageNumber page);

  State& s_;
  DirectoryPages pages_;
  std::vector<Pending> pool_;  // nodes * max_requests entries
  u32 free_ = 0;
  std::vector<u32> under_way_;    // per node: requests queued or active here
  std::vector<u64> last_serial_;  // per node: serials only grow
  PageMap<Transaction> transactions_;
};
}  // namespace pangea::coherence
