// The coordinator's side of a join: every stage for all nodes at once, and one failure ends it for all.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "emu/base/log.h"
#include "transport/handshake.h"
#include "transport/join.h"
#include "transport/zmq_rendezvous.h"

namespace pangea::transport {
namespace {
using Body = wire::JoinMessage::BodyCase;
constexpr int kSliceMs = 50;  // between two looks at `cancel`
constexpr u64 kNsPerMs = 1'000'000;

class Coordinator {
 public:
  Coordinator(const CoordinatorOptions& o, Clock& clock, Entropy& entropy)
      : o_(o),
        clock_(clock),
        entropy_(entropy),
        machine_(o.machine ? o.machine : entropy.next_u64()),
        caller_(o.common.endpoint.keys) {}

  Result<Membership> run() {
    auto m = join();
    if (!m) tell_all(refusal(m.error()));
    return m;
  }

 private:
  struct Node {
    std::string name;
    Transcript transcript;
    wire::JoinMessage answer;  // to the current stage
    bool answered = false;
    wire::Offer offer;
    Addresses addresses;
  };

  Result<Membership> join();
  Status greet();
  Status collect(Body kind, u64 timeout_ns, std::string_view doing);
  Status take(const RendezvousCaller::Event& e, Body kind);
  Error key_error(const std::string& name, RendezvousCaller::Kind kind) const;
  Status judge_offers();
  Status open_endpoint();
  Status assign();
  Status connect_all();
  wire::JoinMessage directory_for(usize reader) const;
  void tell(usize i, const wire::JoinMessage& m) { caller_.send(i, encode_join(m, o_.common.version)); }
  void tell_all(const wire::JoinMessage& m) {
    for (usize i = 0; i < nodes_.size(); ++i) tell(i, m);
  }
  NodeId id(usize i) const { return NodeId{static_cast<u16>(i + 1)}; }

  const CoordinatorOptions& o_;
  Clock& clock_;
  Entropy& entropy_;
  const u64 machine_;
  u64 session_ = 0;
  RendezvousCaller caller_;
  std::vector<Node> nodes_;
  std::vector<u32> features_;
  std::map<std::string, Addresses> own_;  // our addresses by the host under which a node sees us
  std::unique_ptr<ZmqEndpoint> endpoint_;
};

Result<Membership> Coordinator::join() {
  session_ = entropy_.next_u64();
  const std::string lacking = missing_features(o_.required_features, o_.common.offer.features, o_.feature_name);
  if (!lacking.empty())
    return Error{"node 0 cannot run this machine", "its CPU lacks " + lacking,
                 "start it on another computer, or choose a -cpu without these features"};
  if (auto s = greet(); !s) return s.error();
  if (auto s = collect(Body::kOffer, o_.common.timeouts.connect_ns, "exchanging greetings"); !s) return s.error();
  if (auto s = judge_offers(); !s) return s.error();
  if (auto s = open_endpoint(); !s) return s.error();
  if (auto s = assign(); !s) return s.error();
  if (auto s = connect_all(); !s) return s.error();
  wire::JoinMessage go;
  go.mutable_go();
  tell_all(go);
  Membership m;
  m.machine = machine_;
  m.features = features_;
  m.members.push_back({NodeId{0}, "node 0 (coordinator)", o_.common.offer.memory_bytes, o_.common.offer.vcpus});
  for (usize i = 0; i < nodes_.size(); ++i)
    m.members.push_back({id(i), nodes_[i].name, nodes_[i].offer.memory_bytes(), nodes_[i].offer.vcpus()});
  m.endpoint = std::move(endpoint_);
  return m;
}

Status Coordinator::greet() {
  if (o_.nodes.size() + 1 > kNodesMax)
    return Error{fmt::format("{} nodes", o_.nodes.size() + 1), fmt::format("a machine has at most {}", kNodesMax), ""};
  for (const NodeRequest& r : o_.nodes)
    if (auto s = check_uri(r.uri, false); !s) return s;
  const auto is_ipc = [](const NodeRequest& r) { return r.uri.starts_with("ipc://"); };
  if (!o_.nodes.empty() && std::any_of(o_.nodes.begin(), o_.nodes.end(), is_ipc) &&
      !std::all_of(o_.nodes.begin(), o_.nodes.end(), is_ipc))
    return Error{"these nodes cannot form one machine", "some listen on ipc:// and some on tcp://",
                 "use tcp:// for all of them"};
  for (usize i = 0; i < o_.nodes.size(); ++i) {
    Node n;
    n.name = member_name(id(i), o_.nodes[i].uri);
    n.transcript = {o_.common.version,    machine_, id(i), static_cast<u16>(o_.nodes.size() + 1),
                    draw_nonce(entropy_), {}};
    const EndpointOptions& eo = o_.common.endpoint;
    if (auto s = check_plaintext(o_.nodes[i].uri, eo.keys != nullptr, eo.insecure_plaintext); !s) return s;
    if (auto s = caller_.add(o_.nodes[i].uri, o_.nodes[i].key); !s) return s;
    wire::JoinMessage m;
    wire::Hello& h = *m.mutable_hello();
    h.set_machine(machine_);
    h.set_node(n.transcript.node.v);
    h.set_nodes(n.transcript.nodes);
    h.set_nonce(n.transcript.coordinator_nonce.data(), sizeof(Nonce));
    h.set_secret(!o_.common.secret.empty());
    nodes_.push_back(std::move(n));
    tell(i, m);
  }
  return ok();
}

Status Coordinator::collect(Body kind, u64 timeout_ns, std::string_view doing) {
  for (Node& n : nodes_) n.answered = false;
  const u64 end = clock_.now_ns() + timeout_ns;
  for (;;) {
    const auto silent = std::find_if(nodes_.begin(), nodes_.end(), [](const Node& n) { return !n.answered; });
    if (silent == nodes_.end()) return ok();
    if (o_.common.cancel && o_.common.cancel->load(std::memory_order_relaxed))
      return Error{"the machine was not started", "interrupted while its nodes joined", ""};
    if (clock_.now_ns() >= end) {
      const bool there = caller_.connected(static_cast<usize>(silent - nodes_.begin()));
      const std::string ms = fmt::format("{} ms", timeout_ns / kNsPerMs);
      if (there)
        return Error{silent->name + " does not answer", fmt::format("it was silent for {} while {}", ms, doing),
                     "look at that node's messages; it may be stopped or joining another machine"};
      return Error{silent->name + " is unreachable", "nothing answers there within " + ms,
                   "start `pangea node -listen` there first, and check address, port and firewall"};
    }
    if (auto e = caller_.next(kSliceMs))
      if (auto s = take(*e, kind); !s) return s;
  }
}

Status Coordinator::take(const RendezvousCaller::Event& e, Body kind) {
  Node& n = nodes_[e.index];
  if (e.kind == RendezvousCaller::Kind::Broken)
    return Error{n.name + " is lost", "its process ended while the nodes joined", "look at that node's messages",
                 ExitStatus::NodeLost};
  const Error nonsense{n.name + " cannot join", "what listens there does not speak Pangea's protocol",
                       "check the address, and that Pangea is the same version everywhere"};
  if (e.kind == RendezvousCaller::Kind::NotOurs)
    return Error{nonsense.what, nonsense.why + ", or only with keys",
                 "check the address, and give -key and -peers if it was given them"};
  if (e.kind != RendezvousCaller::Kind::Message) return key_error(n.name, e.kind);
  auto m = parse_join(e.bytes);
  if (!m) return nonsense;
  if (m->has_refusal()) return error_of(m->refusal());
  if (m->version() != o_.common.version) return version_error(n.name, m->version(), o_.common.version);
  if (m->body_case() == Body::kWaiting) return ok();
  if (m->body_case() != kind || n.answered) return nonsense;
  n.answer = std::move(*m);
  n.answered = true;
  return ok();
}

/// The node at `name` and we did not come to terms about keys.
Error Coordinator::key_error(const std::string& name, RendezvousCaller::Kind kind) const {
  const std::string what = name + " cannot join";
  if (kind == RendezvousCaller::Kind::Refused)
    return {what, "its -peers file does not have this computer's key " + text_of(o_.common.endpoint.keys->own.open),
            "add the line that `pangea keygen -show` prints here to that file"};
  return {what, "it does not hold the key that -peers names for it, or uses none",
          "compare with `pangea keygen -show` there, or name its line: -node ENDPOINT,peer=NAME"};
}

Status Coordinator::judge_offers() {
  features_ = o_.common.offer.features;
  for (usize i = 0; i < nodes_.size(); ++i) {
    Node& n = nodes_[i];
    n.offer = n.answer.offer();
    const std::string& nonce = n.offer.nonce();
    if (nonce.size() == sizeof(Nonce)) std::copy(nonce.begin(), nonce.end(), n.transcript.node_nonce.begin());
    if (auto error = judge_offer(o_, o_.nodes[i], n.name, n.transcript, n.offer)) return *error;
    features_ = common_features(features_, {n.offer.features().begin(), n.offer.features().end()});
    PANGEA_LOG(transport, "{} offers {} MiB and {} vCPUs", n.name, n.offer.memory_bytes() >> 20, n.offer.vcpus());
  }
  return ok();
}

Status Coordinator::open_endpoint() {
  EndpointOptions eo = o_.common.endpoint;
  eo.self = NodeId{0};
  eo.nodes = static_cast<u16>(nodes_.size() + 1);
  eo.machine = session_;
  auto endpoint = ZmqEndpoint::create(eo, clock_);
  if (!endpoint) return endpoint.error();
  endpoint_ = std::move(*endpoint);
  for (const Node& n : nodes_) {
    // One set of listening ports for each of our interfaces that some node reaches us by.
    const std::string& host = n.offer.coordinator_host();
    if (own_.contains(host)) continue;
    const bool address =
        host.size() <= 64 && host.find_first_not_of("0123456789abcdefABCDEF.:[]%") == std::string::npos;
    if (!address) return Error{n.name + " cannot join", "it says that our address is not one", "check its version"};
    auto a = endpoint_->bind(host.empty() ? fmt::format("ipc://@pangea-{:016x}-0", machine_) : "tcp://" + host);
    if (!a) return a.error();
    own_[host] = *a;
  }
  return ok();
}

Status Coordinator::assign() {
  for (usize i = 0; i < nodes_.size(); ++i) {
    wire::JoinMessage m;
    const Proof proof = prove(o_.common.secret, Side::Coordinator, nodes_[i].transcript);
    m.mutable_assignment()->set_proof(proof.data(), proof.size());
    m.mutable_assignment()->mutable_features()->Assign(features_.begin(), features_.end());
    m.mutable_assignment()->set_session(session_);
    tell(i, m);
  }
  if (auto s = collect(Body::kBound, o_.common.timeouts.stage_ns, "opening its channels"); !s) return s;
  for (usize i = 0; i < nodes_.size(); ++i) {
    auto a = addresses_of(nodes_[i].answer.bound().addresses());
    if (!a) return Error{nodes_[i].name + " cannot join", "it sent addresses that make no sense", "check its version"};
    set_wildcard_host(*a, host_of(o_.nodes[i].uri));
    nodes_[i].addresses = std::move(*a);
  }
  return ok();
}

wire::JoinMessage Coordinator::directory_for(usize reader) const {
  wire::JoinMessage m;
  wire::Member* self = m.mutable_directory()->add_members();
  self->set_name("node 0 (coordinator)");
  *self->mutable_addresses() = wire_of(own_.at(nodes_[reader].offer.coordinator_host()));
  self->set_memory_bytes(o_.common.offer.memory_bytes);
  self->set_vcpus(o_.common.offer.vcpus);
  const LinkKeys* keys = o_.common.endpoint.keys.get();
  const auto set_key = [&](wire::Member& m, const PublicKey& k) {
    if (keys) m.set_key(k.v.data(), k.v.size());
  };
  set_key(*self, keys ? keys->own.open : PublicKey{});
  for (usize i = 0; i < nodes_.size(); ++i) {
    wire::Member* w = m.mutable_directory()->add_members();
    w->set_node(id(i).v);
    w->set_name(nodes_[i].name);
    *w->mutable_addresses() = wire_of(nodes_[i].addresses);
    w->set_memory_bytes(nodes_[i].offer.memory_bytes());
    w->set_vcpus(nodes_[i].offer.vcpus());
    set_key(*w, o_.nodes[i].key);
  }
  return m;
}

Status Coordinator::connect_all() {
  std::vector<PeerAddress> peers;
  for (usize i = 0; i < nodes_.size(); ++i) {
    tell(i, directory_for(i));
    peers.push_back({id(i), nodes_[i].name, nodes_[i].addresses, o_.nodes[i].key});
  }
  if (auto s = endpoint_->connect(peers); !s) return s;
  // Ready comes first: if a node dies or refuses now, its own words are better than our silence towards it. And it may
  // take longer than a node waits for the others: whom a node cannot reach it says itself, while here the one that
  // waits and the one that is waited for are both silent.
  const u64 limit = o_.common.timeouts.stage_ns + o_.common.timeouts.stage_ns / 4;
  if (auto s = collect(Body::kReady, limit, "connecting to the other nodes"); !s) return s;
  return endpoint_->wait_ready(o_.common.timeouts.stage_ns, o_.common.cancel);
}
}  // namespace

Result<Membership> coordinate(const CoordinatorOptions& options, Clock& clock, Entropy& entropy) {
  return Coordinator(options, clock, entropy).run();
}
}  // namespace pangea::transport
