#include "transport/callers.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>

#include "emu/base/log.h"

namespace pangea::transport {

wire::JoinMessage busy(const RendezvousListener& listener) {
  return refusal({listener.uri() + " cannot join", "it is joining another machine", "choose another node, or wait"});
}

std::optional<Callers::Proven> Callers::hear(const RendezvousListener::Message& m) {
  auto parsed = parse_join(m.bytes);
  const auto caller = std::find_if(callers_.begin(), callers_.end(), [&](const Caller& c) { return c.peer == m.peer; });
  if (caller == callers_.end()) {
    if (parsed)
      greet(m, *parsed);
    else
      PANGEA_LOG(transport, "ignored {} bytes that are no greeting", m.bytes.size());
    return std::nullopt;
  }
  const Caller c = std::move(*caller);
  callers_.erase(caller);
  if (auto error = judge(c, parsed.value_or(wire::JoinMessage()))) {
    turn_away(c.peer, c.host, *error);
    return std::nullopt;
  }
  for (const Caller& other : callers_) tell(other.peer, busy(listener_));
  callers_.clear();
  return Proven{c, *std::move(parsed)};
}

void Callers::greet(const RendezvousListener::Message& m, const wire::JoinMessage& parsed) {
  const bool same = parsed.version() == o_.common.version;
  if (parsed.has_refusal() || (same && !parsed.has_hello())) return;  // the tail of an earlier join
  const wire::Hello& hello = parsed.hello();
  const NodeId self{static_cast<u16>(hello.node())};
  const std::string name = member_name(self, listener_.uri());
  if (!same) return turn_away(m.peer, m.host, version_error(name, o_.common.version, parsed.version()));
  if (auto error = judge_hello(o_, name, hello)) return turn_away(m.peer, m.host, *error);
  make_room();
  Caller c{m.peer, m.host, name, {}, clock_.now_ns()};
  c.transcript = {o_.common.version, hello.machine(), self, static_cast<u16>(hello.nodes()), {}, draw_nonce(entropy_)};
  std::copy(hello.nonce().begin(), hello.nonce().end(), c.transcript.coordinator_nonce.begin());
  offer_to(c);
  callers_.push_back(std::move(c));
}

void Callers::offer_to(const Caller& c) {
  wire::JoinMessage m;
  wire::Offer& offer = *m.mutable_offer();
  const Proof proof = prove(o_.common.secret, Side::Node, c.transcript);
  offer.set_nonce(c.transcript.node_nonce.data(), sizeof(Nonce));
  offer.set_proof(proof.data(), proof.size());
  offer.mutable_features()->Assign(o_.common.offer.features.begin(), o_.common.offer.features.end());
  offer.set_memory_bytes(o_.common.offer.memory_bytes);
  offer.set_vcpus(o_.common.offer.vcpus);
  offer.set_coordinator_host(c.host);
  tell(c.peer, m);
}

void Callers::look_after(u64 now_ns) {
  wire::JoinMessage waiting;
  waiting.mutable_waiting();
  std::erase_if(callers_, [&](const Caller& c) {
    const bool gone = !tell(c.peer, waiting);
    if (!gone && now_ns - c.since_ns < stage_limit_ns(o_.common.timeouts)) return false;
    turn_away(c.peer, c.host,
              {c.me + " cannot join",
               gone ? "the coordinator went away before it had proven itself" : "the coordinator has fallen silent",
               "look at the coordinator's messages"});
    return true;
  });
}

/// Of somebody's second message. Empty: it is an Assignment, and they may have us.
std::optional<Error> Callers::judge(const Caller& c, const wire::JoinMessage& m) const {
  if (m.has_refusal()) return error_of(m.refusal());
  if (m.version() != o_.common.version || !m.has_assignment())
    return Error{c.me + " cannot join", "the coordinator sent something else while waiting to be taken",
                 "install the same version of Pangea everywhere"};
  return judge_assignment(o_, c.me, c.transcript, m.assignment());
}

void Callers::turn_away(const std::string& peer, const std::string& host, const Error& error) {
  tell(peer, refusal(error));
  const std::string line = fmt::format("{} called: {}: {}", host.empty() ? "somebody" : host, error.what, error.why);
  PANGEA_LOG(transport, "{}", line);
  if (o_.turned_away) o_.turned_away(line);
}

/// Whoever calls most makes room, so that one computer cannot displace the others.
void Callers::make_room() {
  if (callers_.size() < kMax) return;
  std::map<std::string_view, usize> count;
  for (const Caller& c : callers_) ++count[c.host];
  const auto most =
      std::max_element(count.begin(), count.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  callers_.erase(
      std::find_if(callers_.begin(), callers_.end(), [&](const Caller& c) { return c.host == most->first; }));
}
}  // namespace pangea::transport
