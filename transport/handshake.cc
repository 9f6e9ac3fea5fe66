#include "transport/handshake.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "transport/printable.h"

namespace pangea::transport {
namespace {
constexpr usize kUriMax = 200;        // characters of an address
constexpr unsigned kNamesShown = 12;  // features named before "and N more"
constexpr u64 kMiB = u64{1} << 20;

template <class T>
void absorb(crypto_auth_hmacsha256_state& h, const T& value) {
  crypto_auth_hmacsha256_update(&h, reinterpret_cast<const u8*>(&value), sizeof value);
}
std::vector<u32> words(const google::protobuf::RepeatedField<u32>& f) { return {f.begin(), f.end()}; }
}  // namespace

Nonce draw_nonce(Entropy& entropy) {
  Nonce n;
  for (usize i = 0; i < n.size(); i += sizeof(u64)) {
    const u64 w = entropy.next_u64();
    std::memcpy(&n[i], &w, sizeof w);
  }
  return n;
}

Proof prove(const std::string& secret, Side side, const Transcript& t) {
  crypto_auth_hmacsha256_state h;
  crypto_auth_hmacsha256_init(&h, reinterpret_cast<const u8*>(secret.data()), secret.size());
  constexpr char kPurpose[] = "pangea join";
  crypto_auth_hmacsha256_update(&h, reinterpret_cast<const u8*>(kPurpose), sizeof kPurpose);
  absorb(h, side);
  absorb(h, t.version);
  absorb(h, t.machine);
  absorb(h, t.node.v);
  absorb(h, t.nodes);
  absorb(h, t.coordinator_nonce);
  absorb(h, t.node_nonce);
  Proof p;
  crypto_auth_hmacsha256_final(&h, p.data());
  return p;
}

bool proven(const std::string& secret, Side side, const Transcript& t, std::string_view proof) {
  const Proof expected = prove(secret, side, t);
  return proof.size() == expected.size() && sodium_memcmp(proof.data(), expected.data(), expected.size()) == 0;
}

std::vector<u32> common_features(const std::vector<u32>& a, const std::vector<u32>& b) {
  std::vector<u32> both(std::min(a.size(), b.size()));
  for (usize i = 0; i < both.size(); ++i) both[i] = a[i] & b[i];
  return both;
}

std::string missing_features(const std::vector<u32>& required, const std::vector<u32>& has,
                             const std::function<std::string(usize, unsigned)>& name) {
  std::string list;
  unsigned count = 0;
  for (usize w = 0; w < required.size(); ++w) {
    for (u32 lacking = required[w] & ~(w < has.size() ? has[w] : 0); lacking; lacking &= lacking - 1) {
      if (++count > kNamesShown) continue;
      const unsigned b = static_cast<unsigned>(std::countr_zero(lacking));
      list += (list.empty() ? "" : ", ") + (name ? name(w, b) : fmt::format("feature {}.{}", w, b));
    }
  }
  if (count > kNamesShown) list += fmt::format(" and {} more", count - kNamesShown);
  return list;
}

std::optional<wire::JoinMessage> parse_join(Bytes bytes) {
  wire::JoinMessage m;
  if (bytes.empty() || bytes.size() > kJoinMessageMax) return std::nullopt;
  if (!m.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || m.magic() != kJoinMagic) return std::nullopt;
  return m;
}

std::vector<u8> encode_join(wire::JoinMessage message, u32 version) {
  message.set_magic(kJoinMagic);
  message.set_version(version);
  std::vector<u8> out(message.ByteSizeLong());
  message.SerializeWithCachedSizesToArray(out.data());
  return out;
}

wire::JoinMessage refusal(const Error& error) {
  wire::JoinMessage m;
  m.mutable_refusal()->set_what(printable(error.what));
  m.mutable_refusal()->set_why(printable(error.why));
  m.mutable_refusal()->set_todo(printable(error.todo));
  return m;
}
Error error_of(const wire::Refusal& r) { return {printable(r.what()), printable(r.why()), printable(r.todo())}; }

std::string member_name(NodeId node, const std::string& uri) { return fmt::format("node {} ({})", node.v, uri); }

Error version_error(const std::string& who, u32 theirs, u32 ours) {
  return {who + " cannot join", fmt::format("it speaks protocol version {} and its partner version {}", theirs, ours),
          "install the same version of Pangea on every computer"};
}

std::optional<Error> judge_hello(const WaitingOptions& o, const std::string& me, const wire::Hello& hello) {
  const std::string what = me + " cannot join";
  if (hello.nodes() < 2 || hello.nodes() > kNodesMax || hello.node() == 0 || hello.node() >= hello.nodes() ||
      hello.nonce().size() != sizeof(Nonce))
    return Error{what, "the coordinator's greeting makes no sense", "install the same version of Pangea everywhere"};
  if (o.expected_machine && hello.machine() != o.expected_machine)
    return Error{what, fmt::format("it waits for machine {:016x}, not {:016x}", o.expected_machine, hello.machine()),
                 "start the node that belongs to this machine"};
  if (hello.secret() && o.common.secret.empty())
    return Error{what, "the machine uses a cluster secret and the node was started without one",
                 "give the same secret to every node"};
  if (!hello.secret() && !o.common.secret.empty())
    return Error{what, "the node requires a cluster secret and the machine was started without one",
                 "give the same secret to every node"};
  return std::nullopt;
}

std::optional<Error> judge_offer(const CoordinatorOptions& o, const NodeRequest& request, const std::string& who,
                                 const Transcript& t, const wire::Offer& offer) {
  const std::string what = who + " cannot join";
  if (!proven(o.common.secret, Side::Node, t, offer.proof()))
    return Error{what, "it does not know the cluster secret", "give the same secret to every node"};
  if (static_cast<usize>(offer.features_size()) > kFeatureWordsMax)
    return Error{what, "its list of CPU features is too long", "install the same version of Pangea everywhere"};
  const std::string missing = missing_features(o.required_features, words(offer.features()), o.feature_name);
  if (!missing.empty())
    return Error{what, "its CPU lacks " + missing, "use another computer, or a -cpu without these features"};
  if (offer.memory_bytes() < request.memory_bytes)
    return Error{what,
                 fmt::format("it offers {} MiB of memory and {} MiB are wanted from it", offer.memory_bytes() / kMiB,
                             request.memory_bytes / kMiB),
                 "ask for less with -m, or let the node offer more"};
  if (offer.vcpus() < request.vcpus)
    return Error{what, fmt::format("it offers {} vCPUs and {} are wanted from it", offer.vcpus(), request.vcpus),
                 "ask for fewer with -smp, or let the node offer more"};
  return std::nullopt;
}

std::optional<Error> judge_assignment(const WaitingOptions& o, const std::string& me, const Transcript& t,
                                      const wire::Assignment& assignment) {
  if (!proven(o.common.secret, Side::Coordinator, t, assignment.proof()))
    return Error{me + " cannot join", "the coordinator does not know the cluster secret",
                 "give the same secret to every node"};
  if (static_cast<usize>(assignment.features_size()) > kFeatureWordsMax)
    return Error{me + " cannot join", "the machine's list of CPU features is too long",
                 "install the same version of Pangea everywhere"};
  return std::nullopt;
}

std::optional<Addresses> addresses_of(const wire::Addresses& a) {
  const auto good = [](const std::string& uri) {
    return uri.size() <= kUriMax && (uri.starts_with("tcp://") || uri.starts_with("ipc://@")) &&
           std::all_of(uri.begin(), uri.end(), [](char c) { return c > ' ' && c <= '~'; });
  };
  if (static_cast<usize>(a.channel_size()) != kChannels || !good(a.beat())) return std::nullopt;
  Addresses out{{}, a.beat()};
  for (usize i = 0; i < kChannels; ++i) {
    out.channel[i] = a.channel(static_cast<int>(i));
    if (!good(out.channel[i])) return std::nullopt;
  }
  return out;
}

wire::Addresses wire_of(const Addresses& a) {
  wire::Addresses w;
  for (const std::string& uri : a.channel) w.add_channel(uri);
  w.set_beat(a.beat);
  return w;
}

Status check_uri(const std::string& uri, bool listening) {
  const Error bad{fmt::format("cannot {} {}", listening ? "listen on" : "call", printable(uri)),
                  "that is not the address of a node", "use tcp://HOST:PORT, or ipc://@NAME on one computer"};
  constexpr std::string_view kIpc = "ipc://@";
  if (uri.starts_with(kIpc)) return uri.size() > kIpc.size() && uri.size() <= kUriMax ? ok() : bad;
  if (host_of(uri).empty() || uri.size() > kUriMax) return bad;
  const std::string port = uri.substr(uri.rfind(':') + 1);
  if (listening && port == "*") return ok();
  const bool digits = !port.empty() && port.size() <= 5 && port.find_first_not_of("0123456789") == std::string::npos;
  return digits && std::stoul(port) > 0 && std::stoul(port) <= 65535 ? ok() : bad;
}

bool is_loopback(const std::string& uri) {
  if (uri.starts_with("ipc://")) return true;
  constexpr std::string_view kTcp = "tcp://";
  if (!uri.starts_with(kTcp)) return false;
  std::string host = uri.substr(kTcp.size());
  if (const auto colon = host.rfind(':'); colon != std::string::npos && host.find(']', colon) == std::string::npos)
    host.resize(colon);
  if (host == "localhost" || host == "[::1]") return true;
  // A name that merely begins like a number ("127.evil.example") is somebody else's.
  return host.starts_with("127.") && std::count(host.begin(), host.end(), '.') == 3 &&
         host.find_first_not_of("0123456789.") == std::string::npos;
}

Status check_plaintext(const std::string& uri, bool keys, bool insecure_plaintext) {
  if (keys || insecure_plaintext || is_loopback(uri)) return ok();
  return Error{printable(uri), "it leads to other computers and there are no keys",
               "give -key FILE and -peers FILE (pangea keygen -h), or -insecure-plaintext if nobody else is on that "
               "network"};
}

std::string host_of(const std::string& uri) {
  constexpr std::string_view kTcp = "tcp://";
  const auto colon = uri.rfind(':');
  if (!uri.starts_with(kTcp) || colon <= kTcp.size()) return {};
  return uri.substr(kTcp.size(), colon - kTcp.size());
}

std::string bind_base(const std::string& listen_uri) {
  return listen_uri.starts_with("ipc://") ? listen_uri : "tcp://" + host_of(listen_uri);
}

void set_wildcard_host(Addresses& a, const std::string& host) {
  const auto fix = [&](std::string& uri) {
    const std::string h = host_of(uri);
    if (h == "0.0.0.0" || h == "[::]" || h == "*") uri = "tcp://" + host + uri.substr(uri.rfind(':'));
  };
  for (std::string& uri : a.channel) fix(uri);
  fix(a.beat);
}
}  // namespace pangea::transport
