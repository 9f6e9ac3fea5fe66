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
  if (s_.local.right(msg.page) <= order.keep) {  // nothing to lower
    if (msg.requester == from)
      s_.set_right(msg.page, s_.local.right(msg.page), false);  // the home reads: from now on it has the bytes
    return answer(order);
  }
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

void Holder::surrendered(const Surrendered& e) {
  const PageNumber page = e.page;
  const Order* found = s_.orders.find(page);
  PANGEA_ASSERT(found && !found->deferred && found->token == e.token);  // the host reports what it was asked, once
  const Order order = *found;
  s_.orders.erase(page);
  if (order.discard) return dropped(page, order, e.zero);
  if (!s_.is_home(page)) peer_orders_--;
  const bool kept = order.keep != Right::None && order.msg.requester != s_.home(page);
  s_.set_right(page, order.keep, kept && s_.local.source(page));
  answer(order);
  if (order.keep != Right::None) return;
  s_.predictor.lost(page);
  if (!s_.offers.find(page)) return;
  s_.offers.erase(page);
  s_.stats.offers_taken++;
  if (!s_.outstanding.find(page)) s_.give_frame(page);  // else an agent here wants it after all
}

void Holder::dropped(PageNumber page, const Order& order, bool zero) {
  drops_--;
  if (order.if_zero && !zero) {  // an agent wrote before it let go
    s_.stats.drops_undone++;
    s_.out->push_back(
        Install{.page = page, .right = s_.local.right(page), .version = s_.local.version(page), .again = true});
    return directory_.drop_ended(page, false);
  }
  s_.set_right(page, Right::None, false);
  s_.predictor.lost(page);
  if (order.kind != Order::Kind::Drop) answer(order);
  (order.if_zero ? s_.stats.drops_zero : s_.stats.drops)++;
  s_.give_frame(page);
  if (order.if_zero) directory_.drop_ended(page, true);
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

void Holder::drop(PageNumber page, bool if_zero) {
  if (drops_ >= s_.cfg.max_requests) return;
  if (if_zero && !directory_.drop_begins(page)) return;
  drops_++;
  Order* o = s_.orders.insert(page);
  PANGEA_ASSERT(o);
  o->discard = true;
  o->if_zero = if_zero;
  if (!if_zero) s_.local.set_version(page, 0);  // what the frame will hold by the time anybody asks
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
