// The state of one node's protocol, shared by its three roles: requester (requester.h: our agents want pages), holder
// (holder.h: others want ours) and home (directory.h: we serialise transactions of our pages).
#pragma once
#include "coherence/holds.h"
#include "coherence/page_map.h"
#include "coherence/page_tables.h"
#include "coherence/predictor.h"
#include "coherence/protocol.h"
#include "coherence/trails.h"

namespace pangea::coherence {

/// A request of this node that has not been granted in full.
struct Outstanding {
  Want want = Want::Read;
  bool sent = false;     // false: waits until a Drop of the page has finished, or for a frame
  bool granted = false;  // the Grant came; acknowledgements may be missing
  bool ended = false;    // and it ended the transaction: no Done
  u64 serial = 0;
  u64 version = 0;           // of our copy, once granted
  u64 expected = 0;          // nodes whose Ack the grant asks for
  u64 acks = 0;              // nodes that acknowledged (before or after the grant)
  u64 readers = 0;           // agents waiting to read
  u64 writers = 0;           // agents waiting to write
  bool wants_write = false;  // somebody (writers, or an anonymous agent) waits for more than `want`
  u64 since_ns = 0;
};

/// A right this node was told to lower, from the order until the answer is sent.
struct Order {
  enum class Kind : u8 { Fetch, Invalidate, Drop } kind = Kind::Drop;
  bool deferred = false;  // held: no Surrender emitted yet
  bool discard = false;   // the frame goes back with it
  bool if_zero = false;   // ... if it is all zero then: the home's own copy
  Right keep = Right::None;
  u32 token = 0;
  Msg msg;  // Fetch, Invalidate: what to answer
};

/// A page that this node wants to be rid of, while another is asked to take it.
struct OfferOut {
  NodeId to;
  u64 tried = 0;  // nodes that have refused
  u64 serial = 0;
  u64 since_ns = 0;
};

struct State {
  explicit State(Config config)
      : cfg(std::move(config)),
        local(cfg.homes.end()),
        outstanding(cfg.max_requests),
        orders((2 * usize{cfg.nodes} + 1) * cfg.max_requests),  // from peers, from ourselves, drops
        offers(cfg.max_offers),
        holds(cfg.max_agents, cfg.min_hold_ns, cfg.max_hold_ns),
        predictor(cfg.max_agents, cfg.migratory, cfg.prefetch_max),
        trails(cfg.max_agents, cfg.trails) {}

  bool is_home(PageNumber page) const { return cfg.homes.home(page) == cfg.self; }
  NodeId home(PageNumber page) const {
    const std::optional<NodeId> h = cfg.homes.home(page);
    PANGEA_ASSERT(h.has_value());  // callers have checked that the page is guest RAM
    return *h;
  }
  /// Sends `msg`; to ourselves through a FIFO that the same step drains.
  void post(NodeId to, const Msg& msg, bool with_page = false) {
    if (to == cfg.self) {
      PANGEA_ASSERT(!with_page);
      loopback.push_back(msg);
    } else {
      out->push_back(Send{to, msg, with_page});
    }
  }
  /// Grants on the home's behalf or as its holder. What the home itself grants while nobody else has to acknowledge
  /// needs no Done of the requester: see "The end of a transaction" in protocol.cc.
  void grant(const Msg& msg, bool with_page);
  /// `grant`, sent by `from`, ends its transaction at the home.
  bool ends_transaction(const Msg& grant, NodeId from) const;
  /// Drops a message. From ourselves it would be our own mistake.
  void reject(NodeId from, PeerError error) {
    PANGEA_ASSERT(from != cfg.self);
    stats.peer_errors[static_cast<usize>(error)]++;
  }

  bool capped() const { return cfg.max_frames != 0; }
  bool has_room() const { return !capped() || frames < cfg.max_frames; }
  void set_right(PageNumber page, Right right, bool source) {
    owned += u64{source} - u64{local.source(page)};
    local.set_right(page, right, source);
  }
  /// Sets a frame aside for `page`, unless it has one. False: the node has all that it may have.
  bool take_frame(PageNumber page) {
    if (local.framed(page)) return true;
    if (!has_room()) return false;
    local.set_framed(page, true);
    frames++;
    stats.frames_peak = std::max(stats.frames_peak, frames);
    return true;
  }
  /// The frame of an Invalid page goes back.
  void give_frame(PageNumber page) {
    PANGEA_ASSERT(local.framed(page) && local.right(page) == Right::None);
    local.set_framed(page, false);
    local.set_version(page, 0);
    frames--;
    frames_given++;
    out->push_back(Discard{page});
  }

  Config cfg;
  u64 now_ns = 0;
  Actions* out = nullptr;  // of the step under way
  LocalPages local;
  PageMap<Outstanding> outstanding;
  PageMap<Order> orders;
  PageMap<OfferOut> offers;
  u64 frames = 0;        // set aside
  u64 owned = 0;         // ... of which the directories count on so many
  u64 frames_given = 0;  // ever
  Holds holds;
  Predictor predictor;
  Trails trails;
  std::vector<Msg> loopback;
  Stats stats;
};

inline constexpr u64 bit_of(NodeId n) { return u64{1} << n.v; }
}  // namespace pangea::coherence
