#include "coherence/requester.h"

#include <algorithm>
#include <bit>

#include "emu/base/bits.h"

namespace pangea::coherence {
namespace {
constexpr bool enough(Right right, Want want) {
  return want == Want::Read ? right >= Right::Read : right == Right::Write;
}
}  // namespace

void Requester::request(PageNumber page, Want want, AgentId agent, Right usable, u64 place) {
  s_.stats.local_requests++;
  if (agent != kNoAgent) forget(agent);
  if (enough(usable, want)) {
    s_.stats.local_hits++;
    // Somebody got it since the agent looked. Protect it as if it had come for this agent, but not against an order
    // that waits already: a stream of newcomers could put that off for ever.
    if (agent != kNoAgent && !s_.orders.find(page)) s_.holds.hold(agent, page, s_.now_ns);
    s_.out->push_back(Wake{page});
    return;
  }
  if (agent != kNoAgent) {
    s_.holds.waits_for(agent, page);
    waiting_[agent] = {page, want, true};
  }
  if (Outstanding* o = s_.outstanding.find(page)) {
    s_.stats.local_merged++;
    return join(*o, want, agent);
  }
  const bool frame = s_.local.framed(page) || s_.has_room();
  Outstanding* o = frame || agent != kNoAgent ? s_.outstanding.insert(page) : nullptr;
  if (!o) {
    s_.stats.local_refused++;
    if (agent == kNoAgent)
      s_.out->push_back(Wake{page});
    else
      refused_ |= bit(agent);
    return;
  }
  const bool write_next = want == Want::Read && s_.local.right(page) == Right::None && s_.predictor.will_write(page);
  if (write_next) s_.stats.writes_predicted++;
  o->want = write_next ? Want::Write : want;
  o->since_ns = s_.now_ns;
  join(*o, want, agent);
  // While a Drop is under way the frame is about to be emptied: a grant must not overtake that.
  const Order* order = s_.orders.find(page);
  if (!order || !order->discard) send_or_queue(page, *o);
  if (agent != kNoAgent && want != Want::Claim) ask_ahead(page, want, agent, place);
}

/// Asks for a page that nobody waits for yet, unless it is here or under way. Leaves half of the places, and of the
/// spare frames, to those who wait.
bool Requester::ask(PageNumber page, Want want) {
  if (s_.outstanding.size() >= s_.cfg.max_requests / 2) return false;
  if (s_.capped() && s_.frames + s_.cfg.spare_frames / 2 >= s_.cfg.max_frames) return false;
  if (s_.outstanding.find(page) || s_.orders.find(page) || enough(s_.local.right(page), want)) return false;
  s_.stats.prefetches++;
  request(page, want, kNoAgent, s_.local.right(page));
  return true;
}

void Requester::ask_ahead(PageNumber page, Want want, AgentId agent, u64 place) {
  if (place != 0 && s_.cfg.trails) {
    const Trails::Stop stop{page, place, want};
    s_.trails.waits(agent, stop, s_.now_ns,
                    [this](const Trails::Stop& t) { return enough(s_.local.right(t.page), t.want); });
    s_.trails.ahead(stop, [this](const Trails::Stop& t) { return ask(t.page, t.want); });
  }
  const Predictor::Ahead ahead = s_.predictor.waits(agent, page, place);
  PageNumber p = ahead.first;
  for (unsigned i = 0; i < ahead.count; i++, p.v += static_cast<u64>(ahead.step)) {
    if (!s_.cfg.homes.home(p)) return;
    ask(p, want);
  }
}

void Requester::join(Outstanding& o, Want want, AgentId agent) {
  if (want == Want::Read) {
    if (agent != kNoAgent) o.readers |= bit(agent);
    return;
  }
  if (agent != kNoAgent) o.writers |= bit(agent);
  if (o.want != Want::Read) return;
  if (o.sent)
    o.wants_write = true;  // asked for after the read has come
  else
    o.want = want;
}

void Requester::forget(AgentId agent) {
  Waiting& w = waiting_[agent];
  refused_ &= ~bit(agent);
  if (!w.active) return;
  w.active = false;
  if (Outstanding* o = s_.outstanding.find(w.page)) {
    o->readers &= ~bit(agent);
    o->writers &= ~bit(agent);
  }
}

void Requester::send(PageNumber page, Outstanding& o) {
  o.sent = true;
  o.since_ns = s_.now_ns;
  o.serial = next_serial_++;
  const NodeId home = s_.home(page);
  if (home != s_.cfg.self) s_.stats.requests_sent++;
  Msg m{.kind = MsgKind::Request, .want = o.want, .page = page, .requester = s_.cfg.self, .serial = o.serial};
  m.version = s_.local.version(page);
  s_.post(home, m);
}

/// A request is sent only when there is a frame for what it brings; so the nodes never wait for each other's frames
/// with a transaction open.
void Requester::send_or_queue(PageNumber page, Outstanding& o) {
  if (s_.local.framed(page) || (frame_queue_.empty() && s_.has_room())) {
    s_.take_frame(page);
    return send(page, o);
  }
  s_.stats.frame_waits++;
  frame_queue_.push_back(page);
}

void Requester::send_waiting() {
  usize n = 0;
  for (; n < frame_queue_.size() && s_.take_frame(frame_queue_[n]); n++)
    send(frame_queue_[n], *s_.outstanding.find(frame_queue_[n]));
  frame_queue_.erase(frame_queue_.begin(), frame_queue_.begin() + static_cast<std::ptrdiff_t>(n));
}

void Requester::resume(PageNumber page) {
  Outstanding* o = s_.outstanding.find(page);
  if (!o || o->sent) return;
  if (!enough(s_.local.right(page), o->want)) return send_or_queue(page, *o);
  served(page, o->readers | o->writers);  // the drop was undone
  s_.outstanding.erase(page);
  wake_refused();
}

void Requester::on_ack(NodeId from, const Msg& msg) {
  Outstanding* o = s_.outstanding.find(msg.page);
  if (!o || !o->sent || o->serial != msg.serial || (o->acks & bit_of(from)))
    return s_.reject(from, PeerError::UnknownTransaction);
  if (o->granted && !(o->expected & bit_of(from))) return s_.reject(from, PeerError::UnknownTransaction);
  o->acks |= bit_of(from);
  complete_if_ready(msg.page);
}

void Requester::on_grant(NodeId from, const Msg& msg) {
  Outstanding* o = s_.outstanding.find(msg.page);
  if (!o || !o->sent || o->granted || o->serial != msg.serial || o->want != msg.want)
    return s_.reject(from, PeerError::UnknownTransaction);
  if (!grant_fits(msg, *o)) return s_.reject(from, PeerError::ImpossibleGrant);
  o->ended = s_.ends_transaction(msg, from);
  accept(msg, *o);
  complete_if_ready(msg.page);
}

bool Requester::grant_fits(const Msg& msg, const Outstanding& o) const {
  if (s_.orders.find(msg.page)) return false;  // the home serialises: we owe nobody anything while it grants
  if (msg.nodes & (bit_of(s_.cfg.self) | ~low_mask(s_.cfg.nodes))) return false;
  if (msg.want == Want::Read && msg.nodes != 0) return false;
  const u64 ours = s_.local.version(msg.page);
  const Right right = s_.local.right(msg.page);
  if (msg.version < ours || (msg.want != Want::Read && msg.version == ours)) return false;
  const u64 content = msg.want == Want::Read ? msg.version : msg.version - 1;
  switch (msg.payload) {
    case Payload::None: return msg.want == Want::Claim || content == ours;
    case Payload::Page:
      if (msg.have != 0 && msg.have != ours) return false;  // changes of other bytes
      [[fallthrough]];
    case Payload::Zero: return msg.want != Want::Claim && content > ours && right == Right::None;
  }
  return false;
}

void Requester::accept(const Msg& msg, Outstanding& o) {
  o.granted = true;
  o.version = msg.version;
  o.expected = msg.nodes;
  if (msg.payload != Payload::None) {
    // The frame is ours alone until Install, so the bytes need not wait for the acknowledgements.
    const bool zero = msg.payload == Payload::Zero;
    s_.out->push_back(Fill{msg.page, zero ? FillSource::Zero : FillSource::Message});
    (zero ? s_.stats.installs_zero : s_.stats.installs_page)++;
    if (!zero && msg.have != 0) s_.stats.installs_changes++;
  } else if (msg.want == Want::Claim && s_.local.right(msg.page) == Right::None) {
    s_.out->push_back(Fill{msg.page, FillSource::Claim});
    s_.stats.installs_claimed++;
  } else {
    s_.stats.installs_current++;
  }
}

void Requester::complete_if_ready(PageNumber page) {
  Outstanding* found = s_.outstanding.find(page);
  if (!found->granted || (found->expected & ~found->acks)) return;
  const Outstanding o = *found;
  const bool write = o.want != Want::Read;
  s_.local.set_version(page, o.version);
  s_.holds.took(s_.now_ns - o.since_ns);
  s_.predictor.came(page, s_.local.right(page), write ? Right::Write : Right::Read);
  s_.set_right(page, write ? Right::Write : Right::Read, write || s_.is_home(page));
  s_.out->push_back(Install{page, write ? Right::Write : Right::Read, o.version, o.want});

  served(page, write ? o.readers | o.writers : o.readers);
  if (!o.ended) finish(page, o);

  if (!write && o.wants_write) {
    *found = Outstanding{.want = Want::Write, .writers = o.writers, .since_ns = s_.now_ns};
    send(page, *found);
    return;
  }
  s_.outstanding.erase(page);
  wake_refused();
}

void Requester::served(PageNumber page, u64 agents) {
  for (u64 m = agents; m != 0; m &= m - 1) {
    const auto agent = static_cast<AgentId>(std::countr_zero(m));
    waiting_[agent].active = false;
    s_.trails.served(agent, s_.now_ns);
  }
  s_.holds.installed(page, agents, s_.now_ns);
  s_.out->push_back(Wake{page});
}

void Requester::finish(PageNumber page, const Outstanding& o) {
  Msg done{.kind = MsgKind::Done, .want = o.want, .page = page, .requester = s_.cfg.self, .serial = o.serial};
  done.version = o.version;
  s_.post(s_.home(page), done);
}

/// A place is free. All are woken, not one: it might find its page there and leave the place unused, and then nobody
/// would ever wake the others.
void Requester::wake_refused() {
  for (u64 m = refused_; m != 0; m &= m - 1) {
    Waiting& w = waiting_[static_cast<usize>(std::countr_zero(m))];
    w.active = false;
    s_.out->push_back(Wake{w.page});
  }
  refused_ = 0;
}

const Fatal* Requester::timed_out() {
  const u64 interval = s_.cfg.request_timeout_ns / 8;
  if (!awaits_answers() || next_check_ns_ == 0) {
    next_check_ns_ = awaits_answers() ? s_.now_ns + interval : 0;
    return nullptr;
  }
  if (s_.now_ns < next_deadline_ns()) return nullptr;
  const u64 late = s_.now_ns - next_check_ns_;
  next_check_ns_ = s_.now_ns + interval;
  bool found = false;
  const auto look = [&](PageNumber page, NodeId asked, u64& since_ns) {
    // A check that comes as late as this means that this node did not run (its computer was suspended, say), and the
    // answer could not be heard: that time does not count.
    if (late >= interval) since_ns = std::min(s_.now_ns, since_ns + late);
    if (found || s_.now_ns - since_ns < s_.cfg.request_timeout_ns) return;
    fatal_ = {Fatal::Cause::RequestTimedOut, asked, page};
    found = true;
  };
  s_.outstanding.for_each([&](PageNumber page, Outstanding& o) {
    if (o.sent) look(page, s_.home(page), o.since_ns);
  });
  s_.offers.for_each([&](PageNumber page, OfferOut& o) { look(page, o.to, o.since_ns); });
  return found ? &fatal_ : nullptr;
}

u64 Requester::next_deadline_ns() const {
  return s_.cfg.request_timeout_ns == 0 || next_check_ns_ == 0 ? ~u64{0} : next_check_ns_;
}

void Requester::wake_all() {
  s_.outstanding.for_each([&](PageNumber page, const Outstanding&) { s_.out->push_back(Wake{page}); });
  wake_refused();
}
}  // namespace pangea::coherence
