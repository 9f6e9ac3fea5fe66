// The callers of a waiting node: who has called, and has not yet shown that they may have it.
//
// Everybody is spoken with at once, up to a bound, so that nobody who says nothing, hangs up or lies keeps another from
// being heard. Whatever goes wrong ends one conversation; the node waits on.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "transport/handshake.h"
#include "transport/zmq_rendezvous.h"

namespace pangea::transport {

struct Caller {
  std::string peer;  // whom to answer
  std::string host;
  std::string me;  // "node 1 (tcp://...)", as this caller would have the node
  Transcript transcript;
  u64 since_ns = 0;
};

/// How long one who is there may take for a stage. The coordinator waits for the slowest node at each, so its limit is
/// not ours: signs of life tell when it dies. Unit: ns.
inline u64 stage_limit_ns(const JoinTimeouts& t) { return 2 * (t.connect_ns + t.stage_ns); }
/// What a second coordinator hears.
wire::JoinMessage busy(const RendezvousListener& listener);

class Callers {
 public:
  static constexpr usize kMax = 64;

  Callers(const WaitingOptions& options, RendezvousListener& listener, Clock& clock, Entropy& entropy)
      : o_(options), listener_(listener), clock_(clock), entropy_(entropy) {}
  struct Proven {
    Caller caller;
    wire::JoinMessage assignment;
  };
  /// Answers. Not empty: this caller has proven that they may have the node, and the others have been told.
  std::optional<Proven> hear(const RendezvousListener::Message& m);
  /// Tells them that the node is still here, and forgets those who are gone or say nothing.
  void look_after(u64 now_ns);

 private:
  void greet(const RendezvousListener::Message& m, const wire::JoinMessage& parsed);
  void make_room();
  void offer_to(const Caller& c);
  std::optional<Error> judge(const Caller& c, const wire::JoinMessage& m) const;
  bool tell(const std::string& peer, const wire::JoinMessage& m) {
    return listener_.send(peer, encode_join(m, o_.common.version));
  }
  void turn_away(const std::string& peer, const std::string& host, const Error& error);

  const WaitingOptions& o_;
  RendezvousListener& listener_;
  Clock& clock_;
  Entropy& entropy_;
  std::vector<Caller> callers_;  // oldest first
};
}  // namespace pangea::transport
