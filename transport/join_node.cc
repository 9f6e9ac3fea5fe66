// The waiting node's side of a join.
#include <fmt/format.h>

#include <algorithm>

#include "transport/callers.h"
#include "transport/handshake.h"
#include "transport/join.h"
#include "transport/printable.h"
#include "transport/zmq_rendezvous.h"

namespace pangea::transport {
namespace {
using Body = wire::JoinMessage::BodyCase;
constexpr int kSliceMs = 50;  // between two looks at `cancel`
constexpr u64 kNsPerMs = 1'000'000;
constexpr u64 kStillHereNs = 200 * kNsPerMs;  // between two signs of life to the coordinator
}  // namespace

struct WaitingNode::Impl {
  Impl(const WaitingOptions& options, Clock& c, Entropy& e) : o(options), clock(c), entropy(e) {}

  Result<Membership> join();
  Result<Membership> join_the_one();
  Result<wire::JoinMessage> await_proof();
  Result<wire::JoinMessage> expect(Body kind, std::string_view doing);
  Status bind_channels(const wire::Assignment& a);
  Result<std::vector<PeerAddress>> read_directory(const wire::Directory& d);
  std::optional<Error> better_reason();
  bool tell(const std::string& peer, const wire::JoinMessage& m) {
    return listener->send(peer, encode_join(m, o.common.version));
  }
  bool cancelled() const { return o.common.cancel && o.common.cancel->load(std::memory_order_relaxed); }
  Error interrupted() const { return {"the node did not join a machine", "interrupted", ""}; }

  const WaitingOptions o;
  Clock& clock;
  Entropy& entropy;
  std::unique_ptr<RendezvousListener> listener;
  // Of the join under way:
  std::string coordinator;  // who has proven that they may have us; empty: nobody yet
  std::string me;
  Transcript transcript;
  Membership membership;
};

WaitingNode::WaitingNode(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WaitingNode::~WaitingNode() = default;

Result<std::unique_ptr<WaitingNode>> WaitingNode::listen(const WaitingOptions& options, Clock& clock,
                                                         Entropy& entropy) {
  auto impl = std::make_unique<Impl>(options, clock, entropy);
  if (auto s = check_uri(options.listen, true); !s) return s.error();
  const EndpointOptions& eo = options.common.endpoint;
  if (auto s = check_plaintext(options.listen, eo.keys != nullptr, eo.insecure_plaintext); !s) return s.error();
  auto listener = RendezvousListener::open(options.listen, eo.keys, options.turned_away);
  if (!listener) return listener.error();
  impl->listener = std::move(*listener);
  return std::unique_ptr<WaitingNode>(new WaitingNode(std::move(impl)));
}

const std::string& WaitingNode::uri() const { return impl_->listener->uri(); }

Result<Membership> WaitingNode::join() { return impl_->join(); }

Result<Membership> WaitingNode::Impl::join() {
  coordinator.clear();
  membership = {};
  auto m = join_the_one();
  // Whoever refuses says so to the other; if it was the other who refused, this comes too late to matter.
  if (!m && !coordinator.empty()) tell(coordinator, refusal(m.error()));
  return m;
}

Result<Membership> WaitingNode::Impl::join_the_one() {
  auto assignment = await_proof();
  if (!assignment) return assignment.error();
  if (auto s = bind_channels(assignment->assignment()); !s) return s.error();
  auto directory = expect(Body::kDirectory, "waiting for the other nodes' addresses");
  if (!directory) return directory.error();
  auto peers = read_directory(directory->directory());
  if (!peers) return peers.error();
  if (auto s = membership.endpoint->connect(*peers); !s) return s.error();
  if (auto s = membership.endpoint->wait_ready(o.common.timeouts.stage_ns, o.common.cancel); !s)
    return better_reason().value_or(s.error());
  wire::JoinMessage ready;
  ready.mutable_ready();
  tell(coordinator, ready);
  auto go = expect(Body::kGo, "waiting for the last node");
  if (!go) return go.error();
  return std::move(membership);
}

Result<wire::JoinMessage> WaitingNode::Impl::await_proof() {
  const u64 limit = o.common.timeouts.hello_ns, start = clock.now_ns();
  Callers callers(o, *listener, clock, entropy);
  for (u64 next_sign = start;;) {
    const u64 now = clock.now_ns();
    if (cancelled()) return interrupted();
    if (limit && now - start >= limit)
      return Error{"the node did not join a machine", fmt::format("no coordinator came within {} ms", limit / kNsPerMs),
                   "start `pangea run` with -node " + listener->uri()};
    if (now >= next_sign) {
      next_sign = now + kStillHereNs;
      callers.look_after(now);
    }
    const auto m = listener->next(kSliceMs);
    if (!m) continue;
    if (auto found = callers.hear(*m)) {
      coordinator = found->caller.peer;
      me = found->caller.me;
      transcript = found->caller.transcript;
      return std::move(found->assignment);
    }
  }
}

Result<wire::JoinMessage> WaitingNode::Impl::expect(Body kind, std::string_view doing) {
  const u64 limit = stage_limit_ns(o.common.timeouts);
  const u64 start = clock.now_ns();
  const std::string what = me + " cannot join";
  wire::JoinMessage waiting;
  waiting.mutable_waiting();
  for (u64 next_sign = start + kStillHereNs;;) {
    const u64 now = clock.now_ns();
    if (cancelled()) return interrupted();
    if (now - start >= limit)
      return Error{what, fmt::format("the coordinator was silent for {} ms while {}", limit / kNsPerMs, doing),
                   "look at the coordinator's messages"};
    if (now >= next_sign) {
      next_sign = now + kStillHereNs;
      if (!tell(coordinator, waiting))
        return Error{what, fmt::format("the coordinator went away while {}", doing),
                     "look at the coordinator's messages"};
    }
    const auto m = listener->next(kSliceMs);
    if (!m) continue;
    if (m->peer != coordinator) {
      if (const auto parsed = parse_join(m->bytes); parsed && parsed->has_hello()) tell(m->peer, busy(*listener));
      continue;
    }
    auto parsed = parse_join(m->bytes);
    if (parsed && parsed->has_refusal()) return error_of(parsed->refusal());
    if (!parsed || parsed->version() != o.common.version || parsed->body_case() != kind)
      return Error{what, fmt::format("the coordinator sent something else while {}", doing),
                   "install the same version of Pangea everywhere"};
    return std::move(*parsed);
  }
}

/// When the channels fail, the coordinator may already have said why: that it gave up, say, because of a third node.
std::optional<Error> WaitingNode::Impl::better_reason() {
  for (int i = 0; i < 4; ++i) {
    const auto m = listener->next(kSliceMs);
    const auto parsed = m && m->peer == coordinator ? parse_join(m->bytes) : std::nullopt;
    if (parsed && parsed->has_refusal()) return error_of(parsed->refusal());
  }
  return std::nullopt;
}

Status WaitingNode::Impl::bind_channels(const wire::Assignment& a) {
  EndpointOptions eo = o.common.endpoint;
  eo.self = transcript.node;
  eo.nodes = transcript.nodes;
  eo.machine = a.session();
  auto endpoint = ZmqEndpoint::create(eo, clock);
  if (!endpoint) return endpoint.error();
  // An abstract name must differ from that of an earlier join whose sockets are not gone yet.
  std::string base = bind_base(listener->uri());
  if (base.starts_with("ipc://")) base += fmt::format("-{:08x}", static_cast<u32>(a.session()));
  auto addresses = (*endpoint)->bind(base);
  if (!addresses) return addresses.error();
  wire::JoinMessage m;
  *m.mutable_bound()->mutable_addresses() = wire_of(*addresses);
  tell(coordinator, m);
  membership.self = transcript.node;
  membership.machine = transcript.machine;
  membership.features.assign(a.features().begin(), a.features().end());
  membership.endpoint = std::move(*endpoint);
  return ok();
}

Result<std::vector<PeerAddress>> WaitingNode::Impl::read_directory(const wire::Directory& d) {
  const Error nonsense{me + " cannot join", "the coordinator sent a list of nodes that makes no sense",
                       "install the same version of Pangea everywhere"};
  if (d.members_size() != transcript.nodes) return nonsense;
  std::vector<PeerAddress> peers;
  for (u16 i = 0; i < transcript.nodes; ++i) {
    const wire::Member& m = d.members(i);
    auto addresses = addresses_of(m.addresses());
    if (m.node() != i || !addresses || m.name().size() > 256) return nonsense;
    const std::string name = printable(m.name());
    PublicKey key;
    if (o.common.endpoint.keys) {
      if (m.key().size() != key.v.size()) return nonsense;
      std::copy(m.key().begin(), m.key().end(), key.v.begin());
    }
    membership.members.push_back({NodeId{i}, name, m.memory_bytes(), m.vcpus()});
    if (NodeId{i} == transcript.node) continue;
    // That the coordinator knows somebody is no reason to trust them.
    if (o.common.endpoint.keys && !o.common.endpoint.keys->allows(key))
      return Error{me + " cannot join",
                   fmt::format("its -peers file does not have the key {} of node {}", text_of(key), i),
                   "give the same -peers file to every computer"};
    peers.push_back({NodeId{i}, name, std::move(*addresses), key});
  }
  return peers;
}
}  // namespace pangea::transport
