// Checks that coherence does what it says, in simulation and in real runs (a switch of the node process).
//
// NodeChecker watches one node: the bytes installed are those that were sent (checksums travel in Grant and Done),
// a readable copy does not change, versions only grow, no page is writable twice under one version. The home's
// checker sees every Done and so compares all nodes' copies of one version with each other. Cost when on: one pass
// over a page per transfer and some 40 bytes per page touched. Off: nothing.
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
  /// A right became visible. `version` is that of the copy, `checksum` of its bytes; `claimed`: content is new.
  void installed(PageNumber page, Right right, u64 version, u64 checksum, bool claimed);
  /// A hand-over finished: no agent can use more than `keep`.
  void surrendered(PageNumber page, Right keep, u64 version, u64 checksum);
  void discarded(PageNumber page);
  /// At the home: `node` reports a finished transaction (own ones too).
  void finished(PageNumber page, NodeId node, Want want, u64 version, u64 checksum);

  u64 violations() const { return violations_; }
  /// One line per violation, the first kMaxReports of them.
  const std::vector<std::string>& reports() const { return reports_; }
  static constexpr usize kMaxReports = 16;

 private:
  struct Local {
    u64 version = 0, checksum = 0;
    Right right = Right::None;
  };
  struct Home {
    u64 version = 0;   // newest that a node reported
    u64 checksum = 0;  // of that version's frozen bytes, 0 while unknown
  };
  void complain(PageNumber page, const std::string& text);

  NodeId self_;
  std::unordered_map<u64, Local> local_;  // at most one entry per guest page
  std::unordered_map<u64, Home> home_;
  u64 violations_ = 0;
  std::vector<std::string> reports_;
};
}  // namespace pangea::coherence
