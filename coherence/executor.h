// Carries out what the protocol decides, through an abstract host (the node process, or a simulation).
// Pure: no threads, no clocks. The host guards an Executor with one mutex and may be called back only under it.
#pragma once
#include <memory>

#include "coherence/changes.h"
#include "coherence/checker.h"
#include "coherence/protocol.h"

namespace pangea::coherence {

/// What a node must be able to do. Called with the host's coherence lock held; none of these may block or call the
/// Executor again.
class ProtocolHost {
 public:
  virtual ~ProtocolHost() = default;
  /// Queue `msg` for `to`, with `payload`, at most a page, unless it is empty. Copy that before returning.
  virtual void send(NodeId to, const Msg& msg, std::span<const u8> payload) = 0;
  /// Lower this node's right (see Surrender). True: already done, no derived copy exists. False: the host calls
  /// Executor::surrendered() later.
  virtual bool surrender(PageNumber page, Right keep, u32 token) = 0;
  /// Some agent of this node may have a copy of `page`.
  virtual bool used(PageNumber page) = 0;
  /// Write the frame: kPageSize bytes from `bytes`, or zeros when null. No agent of this node can see the frame.
  virtual void fill(PageNumber page, const u8* bytes) = 0;
  /// Make the right visible in the state array.
  virtual void install(PageNumber page, Right right) = 0;
  /// Agents waiting for the page look again.
  virtual void wake(PageNumber page) = 0;
  /// Give the frame back; it reads as zeros afterwards.
  virtual void discard(PageNumber page) = 0;
  /// The machine must stop.
  virtual void fatal(const Error& error) = 0;
  /// The page's kPageSize bytes, or null when the frame was never populated (reads as zeros).
  virtual const u8* frame(PageNumber page) = 0;
};

class Executor {
 public:
  /// `checker` may be null (off); it must outlive the executor.
  Executor(Config config, ProtocolHost& host, NodeChecker* checker = nullptr);

  void local_request(u64 now_ns, PageNumber page, Access access, AgentId agent, u64 place = 0);
  void dma_claim(u64 now_ns, PageNumber page, AgentId agent);
  void retired(u64 now_ns, AgentId agent);
  /// `payload`: what came with the message; it must fit (payload_fits, asserted).
  void message(u64 now_ns, NodeId from, const Msg& msg, std::span<const u8> payload);
  void surrendered(u64 now_ns, PageNumber page, u32 token, bool used = true);
  /// Gives up the frame of `page`, where that can be; `move`: if need be by handing the page to another node. False:
  /// nothing was begun.
  bool give_up(u64 now_ns, PageNumber page, bool move);
  /// The frame of `page` is all zero just now; agents may write.
  bool looks_zero(PageNumber page);
  void tick(u64 now_ns);
  void peer_lost(u64 now_ns, NodeId node);

  u64 next_deadline_ns() const { return protocol_.next_deadline_ns(); }
  const Protocol& protocol() const { return protocol_; }

 private:
  /// What came with the message of the step under way.
  struct Incoming {
    std::span<const u8> payload;
    u64 checksum = 0;
  };
  void run(u64 now_ns, const Event& event, Incoming in);
  const u8* whole(PageNumber page, std::span<const u8> payload);
  void carry_out(const Send& send, Incoming in);
  void carry_out(const Surrender& surrender, Incoming in);
  void carry_out(const Fill& fill, Incoming in);
  void carry_out(const Install& install, Incoming in);
  void carry_out(const Wake& wake, Incoming in);
  void carry_out(const Discard& discard, Incoming in);
  void carry_out(const Fatal& fatal, Incoming in);

  NodeId self_;
  HomeMap homes_;
  ProtocolHost& host_;
  NodeChecker* checker_;
  Twins twins_;
  Protocol protocol_;
  std::array<u8, kPageSize> scratch_;  // a page that is put together, or what changed of one that is sent
  Actions actions_;
  std::vector<Surrendered> done_at_once_;  // hand-overs the host finished inside surrender()
  u64 installed_checksum_ = 0;             // of the last Install, before agents could write
};
}  // namespace pangea::coherence
