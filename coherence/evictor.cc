#include "coherence/evictor.h"

#include <algorithm>

namespace pangea::coherence {
namespace {
constexpr u64 kFullRounds = 16;  // fewer refusals say nothing of the machine
// Zero pages of the home that are given back free frames, but they may be the same ones again and again: an agent needs
// two pages, and there is room for one of them. So that puts off the end this many times, no more.
constexpr u64 kZeroPatience = 8;
constexpr u64 minus(u64 a, u64 b) { return a > b ? a - b : 0; }
}  // namespace

Giving Evictor::giving(PageNumber page) const {
  if (!s_.local.framed(page) || s_.outstanding.find(page) || s_.orders.find(page) || s_.offers.find(page))
    return Giving::Nothing;
  if (s_.local.right(page) == Right::None) return Giving::Silent;
  if (s_.holds.held_until_ns(page) > s_.now_ns) return Giving::Nothing;
  if (!s_.local.source(page)) return Giving::Silent;
  return s_.is_home(page) ? Giving::Home : Giving::Source;
}

bool Evictor::has_room_for_others() const {
  return !s_.capped() || s_.frames + s_.cfg.spare_frames < s_.cfg.max_frames;
}

void Evictor::drop(const Drop& e) {
  if (has_room_for_others()) refused_room_ = false;
  switch (giving(e.page)) {
    case Giving::Nothing: return;
    case Giving::Silent:
      if (s_.local.right(e.page) != Right::None) return holder_.drop(e.page, false);
      s_.stats.drops_stale++;
      return s_.give_frame(e.page);
    case Giving::Home:
      if (e.zero) return holder_.drop(e.page, true);
      [[fallthrough]];
    case Giving::Source: return offer(e.page);
  }
}

NodeId Evictor::next_taker(PageNumber page, u64 tried) const {
  const NodeId home = s_.home(page);
  if (home != s_.cfg.self && !(tried & bit_of(home))) return home;
  for (unsigned i = 0; i < s_.cfg.nodes; i++) {
    const NodeId n{static_cast<u16>((first_taker_ + i) % s_.cfg.nodes)};
    if (n != s_.cfg.self && !(tried & bit_of(n))) return n;
  }
  return s_.cfg.self;
}

void Evictor::offer(PageNumber page) {
  const NodeId to = next_taker(page, 0);
  if (to == s_.cfg.self) return all_refused();  // there is nobody else
  OfferOut* o = s_.offers.insert(page);
  if (!o) return;
  *o = {.to = to, .serial = next_serial_++, .since_ns = s_.now_ns};
  s_.stats.offers++;
  post_offer(page, *o);
}

void Evictor::post_offer(PageNumber page, const OfferOut& offer) {
  s_.post(
      offer.to,
      {.kind = MsgKind::Offer, .want = Want::Write, .page = page, .requester = s_.cfg.self, .serial = offer.serial});
}

void Evictor::on_offer(NodeId from, const Msg& msg) {
  const Outstanding* o = s_.outstanding.find(msg.page);
  // The giver had the page when it wrote; if we have it now, or it is on its way here, it lost it meanwhile or will.
  if (s_.local.right(msg.page) == Right::Write) return;
  if (o && o->sent && (o->want != Want::Read || o->wants_write)) return;
  const bool room = s_.local.framed(msg.page) || has_room_for_others();
  // Half of the places for requests are left to those who wait.
  const bool place = o ? o->sent : s_.outstanding.size() < (s_.cfg.max_requests + 1) / 2;
  if (room && place && !s_.orders.find(msg.page)) {
    s_.stats.taken_in++;
    return requester_.request(msg.page, Want::Write, kNoAgent, s_.local.right(msg.page));
  }
  refused_room_ = refused_room_ || !room;
  Msg refuse = msg;
  refuse.kind = MsgKind::Refuse;
  s_.post(from, refuse);
}

void Evictor::on_refuse(NodeId from, const Msg& msg) {
  if (msg.serial >= next_serial_) return s_.reject(from, PeerError::UnknownTransaction);
  OfferOut* o = s_.offers.find(msg.page);
  if (!o || o->to != from || o->serial != msg.serial) return;  // the page went another way meanwhile
  s_.stats.offers_refused++;
  o->tried |= bit_of(from);
  o->to = next_taker(msg.page, o->tried);
  o->since_ns = s_.now_ns;
  if (o->to != s_.cfg.self && s_.local.source(msg.page)) {
    first_taker_ = o->to.v;
    return post_offer(msg.page, *o);
  }
  s_.offers.erase(msg.page);
  if (s_.local.source(msg.page)) all_refused();  // else it can be dropped now
}

/// Nobody has been asked for long: no frame was needed, or this node stood still. Refusals before that do not count.
bool Evictor::long_ago() const { return s_.now_ns > retry_at_ns_ + s_.cfg.refused_fatal_ns / 4; }

void Evictor::all_refused() {
  const bool anew = long_ago();
  retry_at_ns_ = s_.now_ns + s_.cfg.refused_pause_ns;
  for (Full* f : {&full_, &full_but_for_zeros_}) {
    if (anew || f->rounds == 0 || f->moved != moved(*f))
      *f = {.ended_by_zeros = f->ended_by_zeros,
            .since_ns = s_.now_ns,
            .waits = s_.stats.frame_waits,
            .moved = moved(*f)};
    f->rounds++;
  }
}

/// Pages that others counted on here and that went.
u64 Evictor::moved(const Full& full) const {
  return s_.stats.offers_taken + (full.ended_by_zeros ? s_.stats.drops_zero : 0);
}

/// More pages have their only copy here than leaves frames to work with.
u64 Evictor::overfull() const { return minus(s_.owned + s_.cfg.spare_frames, s_.cfg.max_frames); }

Shortage Evictor::shortage() const {
  if (!s_.capped()) return {};
  Shortage s{.waiting = requester_.waiting_for_frames()};
  const u64 wanted = s.waiting + s_.cfg.spare_frames;
  const u64 coming = s_.cfg.max_frames - s_.frames + holder_.drops();
  // Twice the spare frames by the cheap ways: so there is room for what others offer, and offers stay rare.
  s.any = minus(wanted + s_.cfg.spare_frames + (refused_room_ ? 1 : 0), coming);
  if (s_.now_ns >= retry_at_ns_)
    s.moves = std::min<u64>(minus(std::max(minus(wanted, coming), overfull()), s_.offers.size()),
                            s_.cfg.max_offers - s_.offers.size());
  s.any = std::max(s.any, s.moves);
  return s;
}

bool Evictor::lasts(Full& full, u64 patience_ns) {
  if (full.rounds < kFullRounds) return false;
  const bool waits = requester_.waiting_for_frames() != 0 || full.waits != s_.stats.frame_waits;
  if (long_ago() || full.moved != moved(full) || overfull() == 0) full.rounds = 0;
  return full.rounds != 0 && waits && s_.now_ns - full.since_ns >= patience_ns;
}

const Fatal* Evictor::out_of_memory() {
  const u64 patience_ns = s_.cfg.refused_fatal_ns;
  if (patience_ns == 0 || (!lasts(full_, patience_ns) && !lasts(full_but_for_zeros_, kZeroPatience * patience_ns)))
    return nullptr;
  fatal_ = {Fatal::Cause::OutOfMemory, s_.cfg.self, {}};
  return &fatal_;
}

u64 Evictor::next_deadline_ns() const {
  // Whatever was in the way of giving up a page (a hold, a refusal) may be over then; nobody would say so.
  const Shortage s = shortage();
  return requester_.waiting_for_frames() != 0 && s.any != 0
             ? std::max(retry_at_ns_, s_.now_ns + s_.cfg.refused_pause_ns / 4)
             : ~u64{0};
}
}  // namespace pangea::coherence
