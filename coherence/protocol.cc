// Why the protocol is as it is.
//
// The problem. Each node has its own copy of guest memory and its vCPUs read and write it at full speed, with no check
// but the tag compare of the soft TLB. The protocol makes the copies look like one memory: at any time a page is
// writable on one node (Modified there, Invalid elsewhere) or readable on several (Shared).
//
// Three roles, one node. Every node plays all three: *requester* (its agents want a page), *holder* (others want what
// it has), *home* (it keeps the directory of the pages of its own memory range). They share State and talk through
// messages even to themselves, by way of a FIFO that the same step drains; so the home that is the only holder of a
// page goes the same way as everybody else, without a message leaving it, and there is no second version of the rules
// for local pages.
//
// A transaction, here a write to a page that H is home to, B owns and C shares:
//
//       R            H (home)        B            C
//       |--Request-->|               |            |        have: version of the bytes in R's frame
//       |            |--Fetch------->|            |        "give up, then grant it to R; C will acknowledge too"
//       |            |--Invalidate---|----------->|        in parallel
//       |            |               | safepoints | safepoints
//       |<-----------|-----Grant + page bytes     |
//       |<-----------|---------------|------Ack---|
//       | Install    |               |            |
//       |--Done----->|                                     the next transaction of this page starts
//
// One transaction at a time. The home starts the next one only after Done, which the requester sends after Install, and
// by then every holder has answered. Hence each message of a transaction is the only one about its page that can be on
// the way to its receiver, bar requests and the Done itself. This one rule excludes most of the races other protocols
// patch one by one: no invalidation can arrive between a grant and its install, none can be overtaken by the grant of
// a later transaction on another channel, and nothing need ever be refused and retried. What remains is three-party:
// an Ack may reach the requester before or after the Grant (both are remembered until all are there), and a node whose
// own upgrade waits in the home's queue may be invalidated meanwhile. That is why a request names the *version* of its
// bytes instead of claiming to hold the page: the home compares it when the request's turn comes, not when it was sent.
//
// The end of a transaction. The requester says Done, except where the home itself granted and nobody else had to
// acknowledge: then the requester installs as soon as it reads the grant, and whatever the home tells it later about
// this page comes behind the grant on the same channel. So the home takes its own grant for the Done.
//
// Versions. 64 bits, counted up by each grant of write rights. A frame keeps its bytes and their version when its page
// is lost, so "same version" means "same bytes" and a grant then carries none. Version 0 is the untouched page: zeros,
// on every node, without anyone having said so. A holder that finds its page all zero says so instead of sending it.
// And one that still has the bytes of the version that the requester has (before it writes to a page, a node keeps a
// copy) sends what has changed since; changes.h. For the roles here that is the page all the same: the executor takes
// it apart and puts it together, and all a requester looks at is that the changes are of the bytes in its frame.
//
// Hand-over. A holder may answer only when no vCPU can use its old right any more (DESIGN invariant 2). The protocol
// asks with Surrender, the host answers with Surrendered when all safepoints have passed, however late. In between the
// lower right already counts for new requests, and the frame is still whole: a copy that others wait for is read out
// only after the hand-over, and a frame is written (Fill) only while the page is Invalid here, so no agent ever sees a
// page torn. Bytes go into the frame as soon as they come; the right becomes visible (Install) when all Acks are in.
//
// Holds. A page that came for an agent stays until that agent's instruction has retired; holds.h says why that cannot
// end in a circle. An order for a held page is deferred, not refused.
//
// Dropping a clean page under a memory cap is silent: the home still counts the node as sharer and may invalidate what
// is no longer there, which is answered at once. The one copy the directory relies on for the bytes (`source`) is never
// dropped: it is offered to another node, which asks to write as any agent does, or, at the home and if it is all zero,
// forgotten there; evictor.h has the ways. A request for a page that is just being dropped waits until the frame is
// empty and its version 0.
//
// Peers that lie. Every bound is a number fixed at the start: requests per node, orders, queue entries. A message that
// no honest node would send is counted and dropped; where a grant could make the home's own two roles disagree, it is
// compared with what the directory ordered. A liar can spoil the pages it takes part in and make others wait until
// their request times out, which ends the machine with its name; it cannot crash a node or tear a page.
//
// What is left open on purpose: messages speak of (page, offset, length) and of what is wanted, so that a later version
// can ship an operation to the owner, or move rights to less than a page.
#include "coherence/protocol.h"

#include <fmt/format.h>

#include "coherence/directory.h"
#include "coherence/evictor.h"
#include "coherence/holder.h"
#include "coherence/requester.h"

namespace pangea::coherence {

struct Protocol::Impl {
  explicit Impl(Config config)
      : s(std::move(config)), directory(s), requester(s), holder(s, directory), evictor(s, holder, requester) {}

  void on(const LocalRequest& e);
  void on(const DmaClaim& e);
  void on(const Retired& e);
  void on(const Message& e);
  void on(const Surrendered& e);
  void on(const Drop& e);
  void on(const Tick&) {}
  void on(const PeerLost& e) { stop({Fatal::Cause::NodeLost, e.node, {}}); }

  bool fits(const Message& e);
  void deliver(NodeId from, const Msg& msg);
  void stop(const Fatal& fatal);

  State s;
  Directory directory;
  Requester requester;
  Holder holder;
  Evictor evictor;
  bool dead = false;
};

namespace {
Config checked(Config c) {
  PANGEA_ASSERT(c.nodes >= 1 && c.nodes <= kMaxNodes && c.self.v < c.nodes);
  PANGEA_ASSERT(c.max_agents >= 1 && c.max_agents <= kMaxAgents && c.max_requests >= 1);
  PANGEA_ASSERT(c.min_hold_ns <= c.max_hold_ns && (c.max_frames == 0 || c.spare_frames < c.max_frames));
  for (const HomeRange& r : c.homes.ranges()) PANGEA_ASSERT(r.home.v < c.nodes);
  return c;
}
}  // namespace

Protocol::Protocol(Config config) : impl_(std::make_unique<Impl>(checked(std::move(config)))) {}
Protocol::~Protocol() = default;
Protocol::Protocol(Protocol&&) noexcept = default;

void Protocol::step(u64 now_ns, const Event& event, Actions& out) {
  Impl& p = *impl_;
  PANGEA_ASSERT(now_ns >= p.s.now_ns);
  p.s.now_ns = now_ns;
  p.s.out = &out;
  if (p.dead) {
    // Whoever still asks is sent to look at the host's own record of the end.
    if (const auto* e = std::get_if<LocalRequest>(&event)) out.push_back(Wake{e->page});
    if (const auto* e = std::get_if<DmaClaim>(&event)) out.push_back(Wake{e->page});
    return;
  }
  std::visit([&p](const auto& e) { p.on(e); }, event);
  for (usize i = 0; i < p.s.loopback.size(); i++) {
    const Msg m = p.s.loopback[i];
    p.deliver(p.s.cfg.self, m);
  }
  p.s.loopback.clear();
  if (p.dead) return;
  p.holder.retry_deferred();
  const Fatal* fatal = p.requester.timed_out();
  if (!fatal) fatal = p.evictor.out_of_memory();
  if (fatal) p.stop(*fatal);
}

void Protocol::Impl::on(const LocalRequest& e) {
  PANGEA_ASSERT(s.cfg.homes.contains(e.page) && (e.agent < s.cfg.max_agents || e.agent == kNoAgent));
  requester.request(e.page, e.access == Access::Write ? Want::Write : Want::Read, e.agent, holder.usable(e.page),
                    e.place);
}

void Protocol::Impl::on(const DmaClaim& e) {
  PANGEA_ASSERT(s.cfg.homes.contains(e.page) && (e.agent < s.cfg.max_agents || e.agent == kNoAgent));
  requester.request(e.page, Want::Claim, e.agent, holder.usable(e.page));
}

void Protocol::Impl::on(const Retired& e) {
  PANGEA_ASSERT(e.agent < s.cfg.max_agents);
  requester.forget(e.agent);
  s.holds.release(e.agent, s.now_ns);
}

void Protocol::Impl::on(const Surrendered& e) {
  if (!e.used) s.stats.prefetches_wasted += s.trails.unused(e.page);
  holder.surrendered(e);
  requester.resume(e.page);
  requester.send_waiting();
}

void Protocol::Impl::on(const Drop& e) {
  PANGEA_ASSERT(s.cfg.homes.contains(e.page));
  evictor.drop(e);
  requester.send_waiting();
}

void Protocol::Impl::on(const Message& e) {
  if (fits(e)) deliver(e.from, e.msg);
}

/// The checks that need no more than the message and the map of homes. What a message says about a page's state is
/// checked by the role that knows it.
bool Protocol::Impl::fits(const Message& e) {
  const Msg& m = e.msg;
  const auto reject = [&](PeerError error) {
    s.stats.peer_errors[static_cast<usize>(error)]++;
    return false;
  };
  if (e.from.v >= s.cfg.nodes || e.from == s.cfg.self || m.offset != 0 || m.length != kPageSize ||
      m.want > Want::Claim || m.payload > Payload::Zero)
    return reject(PeerError::Malformed);
  const std::optional<NodeId> home = s.cfg.homes.home(m.page);
  if (!home) return reject(PeerError::UnknownPage);
  if (e.has_page != (m.kind == MsgKind::Grant && m.payload == Payload::Page)) return reject(PeerError::Malformed);
  switch (m.kind) {
    case MsgKind::Request:
    case MsgKind::Done:
      if (*home != s.cfg.self) return reject(PeerError::NotHome);
      return m.requester == e.from || reject(PeerError::WrongRequester);
    case MsgKind::Fetch:
    case MsgKind::Invalidate:
      if (*home != e.from) return reject(PeerError::NotHome);
      return (m.requester != s.cfg.self && m.requester.v < s.cfg.nodes) || reject(PeerError::WrongRequester);
    case MsgKind::Grant:
    case MsgKind::Ack:
    case MsgKind::Refuse: return m.requester == s.cfg.self || reject(PeerError::WrongRequester);
    case MsgKind::Offer:
      if (m.want != Want::Write) return reject(PeerError::Malformed);
      return m.requester == e.from || reject(PeerError::WrongRequester);
  }
  return reject(PeerError::Malformed);
}

void Protocol::Impl::deliver(NodeId from, const Msg& msg) {
  switch (msg.kind) {
    case MsgKind::Request: return directory.on_request(from, msg);
    case MsgKind::Done:
      // From ourselves it is in the requester's name (State::grant), or we are that.
      return directory.on_done(from == s.cfg.self ? msg.requester : from, msg);
    case MsgKind::Fetch:
    case MsgKind::Invalidate: return holder.on_order(from, msg);
    case MsgKind::Grant:
      // For a page of ours we know who grants, so no other peer can make our own directory disagree with us.
      if (s.is_home(msg.page) && !directory.ordered(from, msg)) return s.reject(from, PeerError::UnknownTransaction);
      return requester.on_grant(from, msg);
    case MsgKind::Ack: return requester.on_ack(from, msg);
    case MsgKind::Offer: return evictor.on_offer(from, msg);
    case MsgKind::Refuse: return evictor.on_refuse(from, msg);
  }
}

void Protocol::Impl::stop(const Fatal& fatal) {
  dead = true;
  s.out->push_back(fatal);
  requester.wake_all();
}

u64 Protocol::next_deadline_ns() const {
  if (impl_->dead) return ~u64{0};
  return std::min(
      {impl_->holder.next_deadline_ns(), impl_->requester.next_deadline_ns(), impl_->evictor.next_deadline_ns()});
}

Right Protocol::right(PageNumber page) const { return impl_->holder.usable(page); }
u64 Protocol::version(PageNumber page) const { return impl_->s.local.version(page); }
Giving Protocol::giving(PageNumber page) const { return impl_->evictor.giving(page); }
Shortage Protocol::shortage() const { return impl_->dead ? Shortage{} : impl_->evictor.shortage(); }
u64 Protocol::frames() const { return impl_->s.frames; }
u64 Protocol::owned() const { return impl_->s.owned; }
bool Protocol::asks_zero(PageNumber page) const {
  const Order* o = impl_->s.orders.find(page);
  return o && o->if_zero;
}
bool Protocol::idle() const {
  return impl_->directory.idle() && impl_->requester.idle() && impl_->holder.idle() && impl_->evictor.idle();
}

PageView Protocol::view(PageNumber page) const {
  PageView v{.usable = right(page)};
  if (const Outstanding* o = impl_->s.outstanding.find(page))
    v.asked = o->granted ? PageView::Asked::Granted : o->sent ? PageView::Asked::Sent : PageView::Asked::Unsent;
  if (const Order* o = impl_->s.orders.find(page)) {
    if (o->discard)
      v.owed = o->kind == Order::Kind::Drop ? PageView::Owed::Dropping : PageView::Owed::DroppingForOrder;
    else
      v.owed = o->deferred ? PageView::Owed::Deferred : PageView::Owed::HandingOver;
  }
  v.offered = impl_->s.offers.find(page) != nullptr;
  return v;
}

std::string Protocol::report() const {
  const State& s = impl_->s;
  std::string text;
  s.outstanding.for_each([&](PageNumber page, const Outstanding& o) {
    text += fmt::format("  page {:#x}: asked for {} us ago ({}, serial {}){}, acknowledged by {:#x} of {:#x}\n", page.v,
                        (s.now_ns - o.since_ns) / 1000, static_cast<int>(o.want), o.serial,
                        o.granted ? ", granted"
                        : o.sent  ? ""
                                  : ", not sent",
                        o.acks, o.expected);
  });
  s.offers.for_each([&](PageNumber page, const OfferOut& o) {
    text += fmt::format("  page {:#x}: offered to node {} {} us ago, refused by {:#x}\n", page.v, o.to.v,
                        (s.now_ns - o.since_ns) / 1000, o.tried);
  });
  if (s.capped())
    text += fmt::format("  {} of {} frames, {} requests wait for one\n", s.frames, s.cfg.max_frames,
                        impl_->requester.waiting_for_frames());
  s.orders.for_each([&](PageNumber page, const Order& o) {
    text += fmt::format(
        "  page {:#x}: owed to node {} (serial {}), {}\n", page.v, o.msg.requester.v, o.msg.serial,
        o.deferred ? fmt::format("held for {} us more", static_cast<i64>(s.holds.held_until_ns(page) - s.now_ns) / 1000)
                   : std::string("at the safepoints"));
  });
  text += impl_->directory.report();
  for (usize i = 0; i < static_cast<usize>(PeerError::Count); ++i)
    if (s.stats.peer_errors[i])
      text += fmt::format("  refused: {} {}\n", s.stats.peer_errors[i], to_string(static_cast<PeerError>(i)));
  return text;
}
bool Protocol::dead() const { return impl_->dead; }
const Stats& Protocol::stats() const { return impl_->s.stats; }
usize Protocol::table_bytes() const { return impl_->s.local.bytes() + impl_->directory.bytes(); }

Error describe(const Fatal& fatal) {
  if (fatal.cause == Fatal::Cause::OutOfMemory)
    return {"-node-mem", fmt::format("every node is full, and node {} needs room for a page", fatal.node.v),
            "let the nodes hold more", ExitStatus::HostError};
  if (fatal.cause == Fatal::Cause::NodeLost)
    return {fmt::format("node {} is lost", fatal.node.v), "its memory is part of this machine, which cannot go on", "",
            ExitStatus::NodeLost};
  return {fmt::format("node {} does not answer for page {:#x}", fatal.node.v, fatal.page.v), "a page request timed out",
          "", ExitStatus::NodeLost};
}

const char* to_string(PeerError error) {
  static constexpr const char* kNames[] = {
      "unknown_page",        "not_home",           "wrong_requester",  "too_many_requests", "duplicate_request",
      "unknown_transaction", "impossible_request", "impossible_order", "impossible_grant",  "malformed"};
  static_assert(std::size(kNames) == static_cast<usize>(PeerError::Count));
  return error < PeerError::Count ? kNames[static_cast<usize>(error)] : "?";
}
}  // namespace pangea::coherence
