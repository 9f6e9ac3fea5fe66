// The handshake's decisions, without sockets or clocks: what its messages are, who proves what, and who is refused.
//
// A cluster secret is proven, not sent: each side returns HMAC-SHA256(secret, role | version | machine | node | nodes |
// both nonces). Roles keep a proof from being reflected, nonces from being replayed. This stops a stranger from
// joining; it neither hides nor signs what follows (keys.h does), and without keys a short secret can be guessed
// offline by whoever watches: use a long random one.
#pragma once
#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "emu/base/ports.h"
#include "emu/base/result.h"
#include "transport/join.h"
#include "transport/join.pb.h"

namespace pangea::transport {

inline constexpr u32 kJoinMagic = 0x414e4750;               // "PGNA"
inline constexpr usize kJoinMessageMax = usize{64} * 1024;  // bytes

using Nonce = std::array<u8, 32>;
using Proof = std::array<u8, 32>;
Nonce draw_nonce(Entropy& entropy);

/// What both proofs cover.
struct Transcript {
  u32 version = kProtocolVersion;
  u64 machine = 0;
  NodeId node;
  u16 nodes = 0;
  Nonce coordinator_nonce{};
  Nonce node_nonce{};
};
enum class Side : u8 { Coordinator = 1, Node = 2 };
Proof prove(const std::string& secret, Side side, const Transcript& t);
/// In constant time.
bool proven(const std::string& secret, Side side, const Transcript& t, std::string_view proof);

/// AND, as long as the shorter one: a word that a node does not know it does not have.
std::vector<u32> common_features(const std::vector<u32>& a, const std::vector<u32>& b);
/// Names, comma-separated, of what `has` lacks of `required`; empty: nothing. Long lists end in "and N more".
std::string missing_features(const std::vector<u32>& required, const std::vector<u32>& has,
                             const std::function<std::string(usize, unsigned)>& name);

/// Empty: not a message of this protocol (of any version).
std::optional<wire::JoinMessage> parse_join(Bytes bytes);
std::vector<u8> encode_join(wire::JoinMessage message, u32 version);

/// Errors cross the wire as text. What arrives is cut to a line of printable characters before a person sees it.
wire::JoinMessage refusal(const Error& error);
Error error_of(const wire::Refusal& refusal);

/// "node 1 (tcp://10.0.0.2:7000)".
std::string member_name(NodeId node, const std::string& uri);
Error version_error(const std::string& who, u32 theirs, u32 ours);

/// Node's judgement of a Hello. Empty: it may go on.
std::optional<Error> judge_hello(const WaitingOptions& o, const std::string& me, const wire::Hello& hello);
/// Coordinator's judgement of an Offer for `request`. Empty: the node is taken.
std::optional<Error> judge_offer(const CoordinatorOptions& o, const NodeRequest& request, const std::string& who,
                                 const Transcript& t, const wire::Offer& offer);
/// Node's judgement of the coordinator's proof. Empty: it may go on.
std::optional<Error> judge_assignment(const WaitingOptions& o, const std::string& me, const Transcript& t,
                                      const wire::Assignment& assignment);

/// Checked conversion of what a peer sent. Empty: too many, too long, or not of the form that ZmqEndpoint::bind
/// returns.
std::optional<Addresses> addresses_of(const wire::Addresses& a);
wire::Addresses wire_of(const Addresses& a);

/// Error unless `uri` is tcp://HOST:PORT (when `listening`, PORT may be *) or ipc://@NAME.
Status check_uri(const std::string& uri, bool listening);
/// Whether only processes of this computer can be at the other end: ipc://, 127.0.0.0/8, [::1], localhost.
bool is_loopback(const std::string& uri);
/// Error: `uri` leads to other computers, there are no keys, and nobody said that this is wanted.
Status check_plaintext(const std::string& uri, bool keys, bool insecure_plaintext);
/// "tcp://HOST:PORT" -> "HOST" (IPv6 with its brackets); empty for other URIs.
std::string host_of(const std::string& uri);
/// The base that ZmqEndpoint::bind wants, next to a listening URI: its interface, or an abstract name under its own.
std::string bind_base(const std::string& listen_uri);
/// Replaces a wildcard host (0.0.0.0, [::]) in every address by `host`.
void set_wildcard_host(Addresses& a, const std::string& host);
}  // namespace pangea::transport
