#include "coherence/checker.h"

#include <fmt/format.h>

#include <cstring>

namespace pangea::coherence {

u64 page_checksum(const u8* page) {
  // Four independent multiply-xor lanes: as fast as memory, and any single changed word changes its lane.
  u64 lane[4] = {1, 2, 3, 4};
  for (usize i = 0; i < kPageSize; i += sizeof lane) {
    u64 word[4] = {};
    if (page) std::memcpy(word, page + i, sizeof word);
    for (unsigned k = 0; k < 4; k++) {
      lane[k] = (lane[k] ^ word[k]) * 0x9e3779b97f4a7c15ULL;
      lane[k] ^= lane[k] >> 32;
    }
  }
  const u64 sum = lane[0] + 3 * lane[1] + 5 * lane[2] + 7 * lane[3];
  return sum != 0 ? sum : 1;
}

void NodeChecker::complain(PageNumber page, std::string text) {
  violations_++;
  if (reports_.size() < kMaxReports)
    reports_.push_back(fmt::format("coherence violation at node {}, page {:#x}: {}", self_.v, page.v, std::move(text)));
}

void NodeChecker::filled(PageNumber page, u64 sent, u64 got) {
  if (sent != 0 && sent != got) complain(page, "the bytes installed are not the bytes sent");
  if (local_[page.v].right != Right::None) complain(page, "the frame was written while agents could see it");
}

void NodeChecker::claimed(PageNumber page) {
  Local& l = local_[page.v];
  if (l.right != Right::None) complain(page, "the frame was emptied while agents could see it");
  l.claimed = true;
}

void NodeChecker::installed(PageNumber page, Right right, u64 version, u64 checksum) {
  Local& l = local_[page.v];
  const bool write = right == Right::Write;
  if (l.right >= right) complain(page, fmt::format("{} installed over {}", to_string(right), to_string(l.right)));
  if (write ? version <= l.version : version < l.version)
    complain(page, fmt::format("version {} follows version {}", version, l.version));
  const u64 content = write ? version - 1 : version;
  if (!l.claimed && l.checksum != 0 && content == l.version && checksum != l.checksum)
    complain(page, fmt::format("bytes of version {} changed while they were frozen", content));
  l = {version, checksum, right, false};
}

void NodeChecker::surrendered(PageNumber page, Right keep, u64 checksum) {
  Local& l = local_[page.v];
  if (l.right == Right::Read && checksum != l.checksum)
    complain(page, fmt::format("bytes of version {} changed while they could only be read", l.version));
  l.checksum = checksum;
  l.right = keep;
}

void NodeChecker::restored(PageNumber page, Right right) { local_[page.v].right = right; }

void NodeChecker::discarded(PageNumber page) { local_[page.v].right = Right::None; }

void NodeChecker::finished(PageNumber page, NodeId node, Want want, u64 version, u64 checksum) {
  auto [it, fresh] = home_.try_emplace(page.v);
  Home& h = it->second;
  if (fresh) h.checksum = page_checksum(nullptr);  // untouched: version 0, all zero
  const u64 content = want == Want::Read ? version : version - 1;
  if (content != h.version)
    complain(page, fmt::format("node {} finished on version {}, the newest is {}", node.v, content, h.version));
  if (want != Want::Claim && h.checksum != 0 && checksum != 0 && checksum != h.checksum)
    complain(page, fmt::format("node {} has other bytes of version {} than the nodes before", node.v, content));
  if (want == Want::Read)
    h.checksum = h.checksum != 0 ? h.checksum : checksum;
  else
    h = {version, 0};
}
}  // namespace pangea::coherence
