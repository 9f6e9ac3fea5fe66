#include "coherence/holder.h"

#include <algorithm>

namespace pangea::coherence {

void Holder::on_order(NodeId from, const Msg& msg) {
  if (!order_fits(msg)) return s_.reject(from, PeerError::ImpossibleOrder);
  Order order{.kind = msg.kind == MsgKind::Fetch ? Order::Kind::Fetch : Order::Kind::Invalidate,
              .keep = msg.want == Want::Read ? Right::Read : Right::None,
              .msg = msg};
  if (Order* dropping = s_.orders.find(msg.page)) {
    // We gave the page back while this order was on its way. The same hand-over serves both.
    PANGEA_ASSERT(dropping->kind == Order::Kind::Drop && order.keep == Right::None);
    dropping->kind = order.kind;
    dropping->msg = msg;
    return;
  }
  if (s_.local.right(msg.page) <= order.keep) return answer(order);  // nothing to lower
  // One order per request under way in the whole cluster, no more, even if a home lies; ours are always admitted.
  if (from != s_.cfg.self && peer_orders_ >= s_.cfg.nodes * s_.cfg.max_requests)
    return s_.reject(from, PeerError::TooManyRequests);
  if (from != s_.cfg.self) peer_orders_++;
  Order* o = s_.orders.insert(msg.page);
  PANGEA_ASSERT(o);
  *o = order;
  const u64 until = s_.holds.held_until_ns(msg.page);
  if (until <= s_.now_ns) return surrender(msg.page, *o);
  o->deferred = true;
  s_.stats.orders_deferred++;
  next_ns_ = deferred_.empty() ? until : std::min(next_ns_, until);
  deferred_.push_back(msg.page);
}

bool Holder::order_fits(const Msg& msg) const {
  const Order* order = s_.orders.find(msg.page);
  if (order && (order->kind != Order::Kind::Drop || msg.want == Want::Read || msg.payload == Payload::Page))
    return false;
  const Outstanding* o = s_.outstanding.find(msg.page);
  if (o && o->granted) return false;  // our own transaction is the active one
  if (msg.kind == MsgKind::Invalidate) return msg.want != Want::Read && msg.payload == Payload::None;
  if (msg.payload == Payload::Zero || (msg.want == Want::Read && (msg.payload != Payload::Page || msg.nodes != 0)))
    return false;
  if (msg.payload != Payload::Page) return true;
  // Our copy is to be the source of the bytes: it must be there, and of the version the home believes.
  const u64 content = msg.want == Want::Read ? msg.version : msg.version - 1;
  return s_.local.right(msg.page) != Right::None && s_.local.version(msg.page) == content && msg.want != Want::Claim;
}

void Holder::surrender(PageNumber page, Order& order) {
  order.deferred = false;
  order.token = next_token_++;
  s_.out->push_back(Surrender{page, order.keep, order.token});
}

bool Holder::surrendered(PageNumber page, u32 token) {
  const Order* found = s_.orders.find(page);
  PANGEA_ASSERT(found && !found->deferred && found->token == token);  // the host reports what it was asked, once
  const Order order = *found;
  s_.orders.erase(page);
  s_.local.set_right(page, order.keep, order.keep != Right::None && s_.local.source(page));
  if (order.keep == Right::None) s_.predictor.lost(page);
  if (order.kind != Order::Kind::Drop) answer(order);
  if (!order.discard) {
    if (!s_.is_home(page)) peer_orders_--;
    return false;
  }
  drops_--;
  s_.stats.drops++;
  s_.out->push_back(Discard{page});
  return true;
}

void Holder::answer(const Order& order) {
  Msg m = order.msg;
  if (order.kind == Order::Kind::Invalidate) {
    s_.stats.invalidations++;
    m.kind = MsgKind::Ack;
    return s_.post(m.requester, m);
  }
  s_.stats.fetches_served++;
  m.kind = MsgKind::Grant;
  const bool with_page = m.payload == Payload::Page;
  if (with_page) s_.stats.pages_sent++;
  s_.grant(m, with_page);
}

void Holder::drop(PageNumber page) {
  if (s_.local.right(page) != Right::Read || s_.local.source(page)) return;
  if (s_.orders.find(page) || s_.outstanding.find(page) || s_.holds.held_until_ns(page) > s_.now_ns) return;
  if (drops_ >= s_.cfg.max_requests) return;
  drops_++;
  Order* o = s_.orders.insert(page);
  PANGEA_ASSERT(o);
  o->discard = true;
  s_.local.set_version(page, 0);  // what the frame will hold by the time anybody asks
  surrender(page, *o);
}

void Holder::retry_deferred() {
  if (deferred_.empty()) return;
  usize kept = 0;
  for (const PageNumber page : deferred_) {
    const u64 until = s_.holds.held_until_ns(page);
    if (until <= s_.now_ns) {
      surrender(page, *s_.orders.find(page));
      continue;
    }
    next_ns_ = kept == 0 ? until : std::min(next_ns_, until);
    deferred_[kept++] = page;
  }
  deferred_.resize(kept);
}

Right Holder::usable(PageNumber page) const {
  const Right right = s_.local.right(page);
  if (right == Right::None) return right;
  const Order* o = s_.orders.find(page);
  return o && !o->deferred ? std::min(right, o->keep) : right;
}
}  // namespace pangea::coherence
