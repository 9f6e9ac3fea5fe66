// Joining: how `pangea run` (the coordinator, node 0) and the nodes that wait for it become one machine.
//
//   coordinator                                waiting node
//     Hello  version, machine, nonce     ->
//                                        <-    Offer      nonce, proof, CPU features, memory, vCPUs
//   (all offers are in: features meet)
//     Assignment  proof, features        ->
//                                        <-    Bound      where its channels listen
//     Directory  everyone's addresses    ->
//                                              (every channel to every peer opens)
//                                        <-    Ready
//     Go                                 ->
//
// Either side may answer any message with Refusal; both then hold the same Error. Every stage has a time limit, and a
// side that dies is noticed sooner. handshake.h has what is decided, zmq_rendezvous.h the sockets; this file has only
// the order of things.
//
// Strangers: a waiting node speaks with up to 64 callers at once, and belongs to the first whose Assignment has a
// valid proof. Until then whatever a caller says, leaves out or refuses ends that conversation alone (and is reported);
// from then on the others hear that the node is taken. Without a secret the proof says no more than that somebody
// speaks this protocol: then keys, or the loopback, must keep strangers out.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "emu/base/ports.h"
#include "emu/base/result.h"
#include "transport/zmq_endpoint.h"

namespace pangea::transport {

/// What a node brings to the machine.
struct NodeOffer {
  /// Bit vector, meaning fixed by the caller. What the machine offers is the AND over all nodes; <= kFeatureWordsMax
  /// words.
  std::vector<u32> features;
  u64 memory_bytes = 0;  // at most this much guest memory
  u32 vcpus = 0;         // at most this many
};
inline constexpr usize kFeatureWordsMax = 256;
/// Changes whenever anything that nodes say to each other changes its meaning.
inline constexpr u32 kProtocolVersion = 7;

/// Unit: ns.
struct JoinTimeouts {
  u64 connect_ns = 5'000'000'000;  // until a node has answered at all
  u64 stage_ns = 5'000'000'000;    // each step after that
  u64 hello_ns = 0;                // waiting node: until a coordinator comes; 0: for ever
};

/// One member as everyone knows it after the join.
struct Member {
  NodeId node;
  std::string name;  // "node 1 (tcp://10.0.0.2:7000)"
  u64 memory_bytes = 0;
  u32 vcpus = 0;
};

struct Membership {
  NodeId self;
  u64 machine = 0;                        // public name of this run of the machine
  std::vector<u32> features;              // what every node has
  std::vector<Member> members;            // by node id; members[0] is the coordinator
  std::unique_ptr<ZmqEndpoint> endpoint;  // ready: every channel works with every peer
};

/// What both sides of a join need. `endpoint` is a template: self, nodes and machine are filled in by the join, which
/// itself uses its keys too.
struct JoinCommon {
  NodeOffer offer;
  std::string secret;  // cluster secret; empty: none. Proven by HMAC-SHA256 over both sides' nonces, never sent
  EndpointOptions endpoint;
  JoinTimeouts timeouts;
  u32 version = kProtocolVersion;  // another one only in tests
  /// May be null. True ends the join with an error; looked at every 50 ms.
  const std::atomic<bool>* cancel = nullptr;
};

/// A waiting node as the coordinator wants it.
struct NodeRequest {
  std::string uri;       // where it listens: tcp://HOST:PORT or ipc://@NAME. All of one kind
  u64 memory_bytes = 0;  // it must offer at least this
  u32 vcpus = 0;         // and this many
  PublicKey key;         // what it must prove to hold, where keys are in use
};

struct CoordinatorOptions {
  JoinCommon common;
  u64 machine = 0;                 // 0: draw one
  std::vector<NodeRequest> nodes;  // node i+1 is nodes[i]; empty: a machine of one node
  /// Every node, the coordinator too, must have at least these bits.
  std::vector<u32> required_features;
  /// Name of a feature for the message that refuses a node, e.g. "avx2".
  std::function<std::string(usize word, unsigned bit)> feature_name;
};

/// Makes one machine of this process and the waiting nodes. Error: the first node that is unreachable, refused,
/// refuses, dies or talks nonsense, with the reason. Every other node that can be reached has been told; one that
/// cannot be keeps waiting (JoinTimeouts::hello_ns), so whoever starts node processes must bound their wait or end
/// them.
Result<Membership> coordinate(const CoordinatorOptions& options, Clock& clock, Entropy& entropy);

struct WaitingOptions {
  JoinCommon common;
  std::string listen;        // tcp://HOST:PORT (PORT may be *), ipc://@NAME
  u64 expected_machine = 0;  // refuse any other machine; 0: take any
  /// May be null. Somebody was turned away: for want of a key before a word was said, or because they did not prove
  /// that they may have the node. One line for a person, without end: the receiver bounds what it tells. Any thread.
  std::function<void(const std::string& line)> turned_away;
};

class WaitingNode {
 public:
  /// Starts to listen. Error: port in use, bad URI.
  static Result<std::unique_ptr<WaitingNode>> listen(const WaitingOptions& options, Clock& clock, Entropy& entropy);
  ~WaitingNode();
  /// Where it listens, with the real port.
  const std::string& uri() const;
  /// Waits for a coordinator and joins its machine. Error: nobody came in time, interrupted, or the join failed with a
  /// coordinator that had proven the secret; nobody else ends the wait. After an error it may be called again: the node
  /// still listens.
  Result<Membership> join();

 private:
  struct Impl;
  explicit WaitingNode(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};
}  // namespace pangea::transport
