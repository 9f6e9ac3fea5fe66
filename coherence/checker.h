// Checks that coherence does what it says, in simulation and in real runs (a switch of the node process).
//
// A NodeChecker watches one node: the bytes installed are those that were sent (checksums travel in Grant and Done), a
// readable copy does not change, versions only grow. At a page's home it also sees every finished transaction, its own
// and those its peers report, and so compares all nodes' copies of one version with each other and finds a version that
// was granted for writing twice. On: one pass over a page per transfer and some 60 bytes per page touched. Off:
// nothing.
#pragma once
#include <string>
#include <unordered_map>
#include <vector>

#include "coherence/message.h"

namespace pangea::coherence {

/// Checksum of a page's kPageSize bytes; null reads as zeros. Never 0 (0 means "not computed").
u64 page_checksum(const u8* page);

class NodeChecker {
 public:
  explicit NodeChecker(NodeId self) : self_(self) {}

  /// Bytes arrived: `sent` is the sender's checksum (0: it does not check), `got` ours.
  void filled(PageNumber page, u64 sent, u64 got);
  /// A claim emptied the frame: what is installed next owes nothing to older bytes.
  void claimed(PageNumber page);
  /// A right becomes visible. `version` is that of the copy, `checksum` of its bytes.
  void installed(PageNumber page, Right right, u64 version, u64 checksum);
  /// A hand-over finished: no agent can use more than `keep`.
  void surrendered(PageNumber page, Right keep, u64 checksum);
  /// The hand-over that finished last is undone.
  void restored(PageNumber page, Right right);
  void discarded(PageNumber page);
  /// At the home: `node` (this one too) finished a transaction. `checksum` is of the bytes it installed, 0: unknown.
  void finished(PageNumber page, NodeId node, Want want, u64 version, u64 checksum);

  u64 violations() const { return violations_; }
  /// One line per violation, the first kMaxReports of them.
  const std::vector<std::string>& reports() const { return reports_; }
  static constexpr usize kMaxReports = 16;

 private:
  struct Local {
    u64 version = 0;   // of the copy last held
    u64 checksum = 0;  // of its bytes while they cannot change; 0: unknown
    Right right = Right::None;
    bool claimed = false;
  };
  struct Home {
    u64 version = 0;   // last granted for writing
    u64 checksum = 0;  // of that version once frozen; 0: not seen yet
  };
  void complain(PageNumber page, std::string text);

  NodeId self_;
  std::unordered_map<u64, Local> local_;  // at most one entry per page of the guest
  std::unordered_map<u64, Home> home_;    // likewise
  u64 violations_ = 0;
  std::vector<std::string> reports_;
};
}  // namespace pangea::coherence
