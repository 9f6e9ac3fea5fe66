#include "coherence/executor.h"

#include <cstring>

#include "emu/base/log.h"

namespace pangea::coherence {
namespace {
bool is_zero(const u8* page) {
  if (!page) return true;
  u64 first;
  std::memcpy(&first, page, sizeof first);
  // All zero exactly when the first word is and every word equals the one before.
  return first == 0 && std::memcmp(page, page + sizeof first, kPageSize - sizeof first) == 0;
}
}  // namespace

Executor::Executor(Config config, ProtocolHost& host, NodeChecker* checker)
    : self_(config.self),
      homes_(config.homes),
      host_(host),
      checker_(checker),
      twins_(config.twins),
      protocol_(std::move(config)) {}

void Executor::local_request(u64 now_ns, PageNumber page, Access access, AgentId agent, u64 place) {
  run(now_ns, LocalRequest{page, access, agent, place}, {});
}
void Executor::dma_claim(u64 now_ns, PageNumber page, AgentId agent) { run(now_ns, DmaClaim{page, agent}, {}); }
void Executor::retired(u64 now_ns, AgentId agent) { run(now_ns, Retired{agent}, {}); }
void Executor::tick(u64 now_ns) { run(now_ns, Tick{}, {}); }
void Executor::peer_lost(u64 now_ns, NodeId node) { run(now_ns, PeerLost{node}, {}); }

bool Executor::give_up(u64 now_ns, PageNumber page, bool move) {
  const Giving giving = protocol_.giving(page);
  if (giving == Giving::Nothing) return false;
  const bool zero = giving == Giving::Home && looks_zero(page);
  if (!move && !zero && giving != Giving::Silent) return false;
  run(now_ns, Drop{page, zero}, {});
  return true;
}

bool Executor::looks_zero(PageNumber page) { return is_zero(host_.frame(page)); }

void Executor::surrendered(u64 now_ns, PageNumber page, u32 token, bool used) {
  if (protocol_.dead()) return;  // the machine stops; nobody waits for the answer
  const bool zero = protocol_.asks_zero(page) && is_zero(host_.frame(page));
  if (checker_) checker_->surrendered(page, protocol_.right(page), page_checksum(host_.frame(page)));
  run(now_ns, Surrendered{page, token, used, zero}, {});
}

void Executor::message(u64 now_ns, NodeId from, const Msg& msg, std::span<const u8> payload) {
  PANGEA_ASSERT(payload_fits(msg, payload));
  PANGEA_LOG(coherence, "node {} <- {}: {}", self_.v, from.v, to_string(msg));
  run(now_ns, Message{from, msg, !payload.empty()}, {payload, msg.checksum});
}

void Executor::run(u64 now_ns, const Event& event, Incoming in) {
  const u64 before = protocol_.stats().transactions;
  protocol_.step(now_ns, event, actions_);
  // Before the actions: they may already belong to the page's next transaction.
  if (const auto* m = std::get_if<Message>(&event);
      checker_ && m && m->msg.kind == MsgKind::Done && protocol_.stats().transactions != before)
    checker_->finished(m->msg.page, m->from, m->msg.want, m->msg.version, m->msg.checksum);
  for (const Action& a : actions_) std::visit([this, in](const auto& x) { carry_out(x, in); }, a);
  actions_.clear();
  // A hand-over that the host finished on the spot is the next event, after all actions of this one.
  while (!done_at_once_.empty()) {
    const Surrendered done = done_at_once_.back();
    done_at_once_.pop_back();
    surrendered(now_ns, done.page, done.token, done.used);
  }
}

void Executor::carry_out(const Send& send, Incoming) {
  Msg msg = send.msg;
  std::span<const u8> payload;
  if (send.with_page) {
    const u8* page = host_.frame(msg.page);
    if (checker_) msg.checksum = page_checksum(page);
    const u8* before = twins_.find(msg.page, msg.have);
    msg.have = 0;
    if (is_zero(page)) {
      msg.payload = Payload::Zero;
    } else if (const usize n = before ? write_changes(before, page, scratch_) : 0) {
      msg.have = send.msg.have;
      payload = {scratch_.data(), n};
    } else {
      payload = {page, kPageSize};
    }
  }
  if (checker_ && msg.kind == MsgKind::Grant && msg.payload == Payload::Zero) msg.checksum = page_checksum(nullptr);
  if (checker_ && msg.kind == MsgKind::Grant && msg.nodes == 0 && homes_.home(msg.page) == self_)
    checker_->finished(msg.page, send.to, msg.want, msg.version, msg.checksum);  // nobody will say Done
  // Computed before the right became visible: by now agents may write.
  if (checker_ && msg.kind == MsgKind::Done) msg.checksum = installed_checksum_;
  PANGEA_LOG(coherence, "node {} -> {}: {}", self_.v, send.to.v, to_string(msg));
  host_.send(send.to, msg, payload);
}

void Executor::carry_out(const Surrender& s, Incoming) {
  PANGEA_LOG(coherence, "node {} hands over page {:#x}, keeps {}", self_.v, s.page.v, to_string(s.keep));
  const bool used = host_.used(s.page);
  if (host_.surrender(s.page, s.keep, s.token)) done_at_once_.push_back({s.page, s.token, used});
}

/// The kPageSize bytes that `payload` makes of our frame, which is Invalid and of the version that the payload builds
/// on.
const u8* Executor::whole(PageNumber page, std::span<const u8> payload) {
  if (payload.size() == kPageSize) return payload.data();
  if (const u8* frame = host_.frame(page))
    std::memcpy(scratch_.data(), frame, kPageSize);
  else
    scratch_.fill(0);
  apply_changes(payload, scratch_.data());
  return scratch_.data();
}

void Executor::carry_out(const Fill& fill, Incoming in) {
  host_.fill(fill.page, fill.source == FillSource::Message ? whole(fill.page, in.payload) : nullptr);
  if (!checker_) return;
  if (fill.source == FillSource::Claim)
    checker_->claimed(fill.page);
  else
    checker_->filled(fill.page, fill.source == FillSource::Zero ? page_checksum(nullptr) : in.checksum,
                     page_checksum(host_.frame(fill.page)));
}

void Executor::carry_out(const Install& install, Incoming) {
  if (install.again) {
    if (checker_) checker_->restored(install.page, install.right);
    return host_.install(install.page, install.right);
  }
  if (checker_) {
    installed_checksum_ = page_checksum(host_.frame(install.page));
    checker_->installed(install.page, install.right, install.version, installed_checksum_);
    if (homes_.home(install.page) == self_)
      checker_->finished(install.page, self_, install.want, install.version, installed_checksum_);
  }
  PANGEA_LOG(coherence, "node {} installs page {:#x} {} v{}", self_.v, install.page.v, to_string(install.right),
             install.version);
  // Its own agents write from now on; until then the frame has the bytes of the version before. Nobody has those of a
  // page that was claimed, and version 0 is no more than zeros.
  const u8* frame = host_.frame(install.page);
  if (install.want == Want::Write && install.version > 1 && frame)
    twins_.keep(install.page, install.version - 1, frame);
  host_.install(install.page, install.right);
}

void Executor::carry_out(const Wake& wake, Incoming) { host_.wake(wake.page); }
void Executor::carry_out(const Discard& discard, Incoming) {
  if (checker_) checker_->discarded(discard.page);
  host_.discard(discard.page);
}
void Executor::carry_out(const Fatal& fatal, Incoming) { host_.fatal(describe(fatal)); }
}  // namespace pangea::coherence
