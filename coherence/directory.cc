#include "coherence/directory.h"

#include <fmt/format.h>

#include <bit>

namespace pangea::coherence {
Directory::Directory(State& state)
    : s_(state),
      pages_(state.cfg.homes.end()),
      pool_(usize{state.cfg.nodes} * state.cfg.max_requests),
      under_way_(state.cfg.nodes),
      last_serial_(state.cfg.nodes),
      transactions_(pool_.size() + state.cfg.max_requests) {  // ours that drop come on top
  for (u32 i = 0; i < pool_.size(); i++) pool_[i].next = i + 1 < pool_.size() ? i + 1 : kNone;
}

void Directory::on_request(NodeId from, const Msg& msg) {
  if (msg.serial <= last_serial_[from.v]) return s_.reject(from, PeerError::DuplicateRequest);
  if (under_way_[from.v] >= s_.cfg.max_requests) return s_.reject(from, PeerError::TooManyRequests);
  Transaction* t = transactions_.find(msg.page);
  for (u32 i = t ? t->head : kNone; i != kNone; i = pool_[i].next)
    if (pool_[i].node == from) return s_.reject(from, PeerError::DuplicateRequest);

  last_serial_[from.v] = msg.serial;
  under_way_[from.v]++;
  const u32 slot = free_;
  PANGEA_ASSERT(slot != kNone);  // the pool holds max_requests of every node
  free_ = pool_[slot].next;
  pool_[slot] = {from, msg.want, msg.serial, msg.version, kNone};
  if (t) {
    (t->head == kNone ? t->head : pool_[t->tail].next) = slot;
    t->tail = slot;
    return;
  }
  t = transactions_.insert(msg.page);
  PANGEA_ASSERT(t);
  *t = {.head = slot, .tail = slot};
  start_head(msg.page);
}

void Directory::on_done(NodeId from, const Msg& msg) {
  const Transaction* t = transactions_.find(msg.page);
  if (!t || t->head == kNone) return s_.reject(from, PeerError::UnknownTransaction);
  const Pending& p = pool_[t->head];
  if (p.node != from || p.serial != msg.serial || p.want != msg.want || pages_.get(msg.page).version != msg.version)
    return s_.reject(from, PeerError::UnknownTransaction);
  s_.stats.transactions++;
  next(msg.page);
}

bool Directory::drop_begins(PageNumber page) {
  if (transactions_.find(page)) return false;
  Transaction* t = transactions_.insert(page);
  PANGEA_ASSERT(t);  // at most max_requests drops
  *t = {.head = kNone, .tail = kNone};
  return true;
}

void Directory::drop_ended(PageNumber page, bool zero) {
  if (zero) {
    DirectoryEntry e = pages_.get(page);
    e.sharers &= ~bit_of(s_.cfg.self);
    e.owner = DirectoryEntry::kNobody;  // what was shared with others stays: the same zeros
    e.modified = false;
    pages_.set(page, e);
  }
  if (transactions_.find(page)->head == kNone) return transactions_.erase(page);
  start_head(page);
}

void Directory::next(PageNumber page) {
  Transaction* t = transactions_.find(page);
  const u32 slot = t->head;
  const u32 after = pool_[slot].next;
  under_way_[pool_[slot].node.v]--;
  pool_[slot].next = free_;
  free_ = slot;
  if (after == kNone) return transactions_.erase(page);
  t->head = after;
  start_head(page);
}

void Directory::start_head(PageNumber page) {
  const Pending p = pool_[transactions_.find(page)->head];
  if (activate(page, p)) return;
  s_.reject(p.node, PeerError::ImpossibleRequest);
  next(page);  // recursion is bounded by the FIFO: one request per node
}

bool Directory::activate(PageNumber page, const Pending& p) {
  const DirectoryEntry e = pages_.get(page);
  if (p.have > e.version) return false;
  if (e.modified && e.owner == p.node.v) return false;  // it may write already
  return p.want == Want::Read ? read(page, p, e) : write(page, p, e);
}

bool Directory::read(PageNumber page, const Pending& p, DirectoryEntry e) {
  Msg m{.kind = MsgKind::Fetch, .want = p.want, .page = page, .requester = p.node, .serial = p.serial};
  m.version = e.version;
  NodeId granter = s_.cfg.self;
  if (e.modified || (p.have != e.version && e.owner != DirectoryEntry::kNobody)) {
    if (e.owner == p.node.v) return false;
    m.payload = Payload::Page;
    m.have = p.have;
    granter = NodeId{e.owner};
  } else {
    m.kind = MsgKind::Grant;  // its bytes are current or zero, and nobody writes
    if (p.have != e.version) m.payload = Payload::Zero;
  }
  e.modified = false;
  e.sharers |= bit_of(p.node);
  if (p.node == s_.cfg.self) e.owner = static_cast<u8>(p.node.v);  // from now on the home has the bytes at hand
  pages_.set(page, e);
  order_grant(page, granter, m);
  return true;
}

bool Directory::write(PageNumber page, const Pending& p, DirectoryEntry e) {
  const bool stale = p.want == Want::Write && p.have != e.version;
  const bool zero = stale && e.owner == DirectoryEntry::kNobody;
  const bool needs_page = stale && !zero;
  if (needs_page && e.owner == p.node.v) return false;
  // One of the holders sends the grant; the others acknowledge to the requester, in parallel.
  const u64 holders = e.sharers & ~bit_of(p.node);
  NodeId granter = s_.cfg.self;
  if (needs_page)
    granter = NodeId{e.owner};
  else if (holders != 0 && !zero && !(holders & bit_of(s_.cfg.self)))
    granter = NodeId{static_cast<u16>(std::countr_zero(holders))};

  Msg m{.kind = MsgKind::Fetch, .want = p.want, .page = page, .requester = p.node, .serial = p.serial};
  m.version = e.version + 1;
  m.payload = needs_page ? Payload::Page : zero ? Payload::Zero : Payload::None;
  if (needs_page) m.have = p.have;
  const u64 others = holders & ~bit_of(granter);
  m.nodes = others;
  if (holders == 0 || zero) m.kind = MsgKind::Grant;  // the home itself has nothing to lower
  pages_.set(page,
             {.sharers = bit_of(p.node), .version = m.version, .owner = static_cast<u8>(p.node.v), .modified = true});
  order_grant(page, granter, m);
  m.kind = MsgKind::Invalidate;
  m.payload = Payload::None;
  m.have = 0;
  m.nodes = 0;
  for (u64 rest = others; rest != 0; rest &= rest - 1) s_.post(NodeId{static_cast<u16>(std::countr_zero(rest))}, m);
  return true;
}

std::string Directory::report() const {
  std::string text;
  transactions_.for_each([&](PageNumber page, const Transaction& t) {
    if (t.head == kNone) return;
    const Pending& p = pool_[t.head];
    const DirectoryEntry e = pages_.get(page);
    text += fmt::format(
        "  page {:#x}: serves node {} ({}, serial {}), granted by node {}, acknowledged by {:#x}; v{}, owner {}\n",
        page.v, p.node.v, static_cast<int>(p.want), p.serial, t.granter.v, t.waits_for, e.version, e.owner);
  });
  return text;
}

/// Sends a Fetch to `granter`, or a Grant from here to the requester.
void Directory::order_grant(PageNumber page, NodeId granter, const Msg& msg) {
  Transaction* t = transactions_.find(page);
  t->granter = granter;
  t->waits_for = msg.nodes;
  if (msg.kind == MsgKind::Grant) return s_.grant(msg, false);
  s_.post(granter, msg);
}

bool Directory::ordered(NodeId from, const Msg& grant) const {
  const Transaction* t = transactions_.find(grant.page);
  if (!t || t->head == kNone || t->granter != from || t->waits_for != grant.nodes) return false;
  const Pending& p = pool_[t->head];
  return p.node == s_.cfg.self && p.serial == grant.serial && pages_.get(grant.page).version == grant.version;
}
}  // namespace pangea::coherence
