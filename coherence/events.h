// The two ends of the pure protocol: what happens to a node (Event) and what the node must do about it (Action).
#pragma once
#include <variant>
#include <vector>

#include "coherence/message.h"
#include "emu/base/result.h"

namespace pangea::coherence {

/// An agent of this node: anything that waits for pages (a vCPU, a DMA engine, the loader, the debugger). Below
/// Config::max_agents, or kNoAgent for somebody who waits without protection against theft (prefetch, the monitor).
using AgentId = u8;
inline constexpr AgentId kNoAgent = 0xff;
inline constexpr unsigned kMaxAgents = 64;

// ---------------------------------------------------------------- events

/// `agent` needs `page` and found its right too low. It waits until a Wake for the page and then looks again, from the
/// start of its instruction. Safe to repeat; requests of several agents for one page are merged.
struct LocalRequest {
  PageNumber page;
  Access access = Access::Read;
  AgentId agent = kNoAgent;
  u64 place = 0;  // where the agent's program is: a hint for what it will want next
};

/// As LocalRequest for writing, by an agent that will overwrite the whole page: old bytes need not travel. If the page
/// was not here it is granted filled with zeros (FillSource::Claim). So a claim is a write: one that is given up midway
/// leaves zeros, never another page's or an older version's bytes.
struct DmaClaim {
  PageNumber page;
  AgentId agent = kNoAgent;
};

/// The instruction (or DMA step) for which `agent` waited has retired or was given up: pages obtained for it may go.
/// Needed only after an agent has waited; a page obtained is otherwise kept until Config::max_hold_ns.
struct Retired {
  AgentId agent = kNoAgent;
};

/// A decoded message of a peer. `has_page`: a payload of exactly kPageSize bytes came with it.
struct Message {
  NodeId from;
  Msg msg;
  bool has_page = false;
};

/// Hand-over finished: no agent of this node can use `page` with more than the right that Surrender named. `zero`: the
/// frame is all zero; needed where Protocol::asks_zero(page).
struct Surrendered {
  PageNumber page;
  u32 token = 0;
  bool used = true;  // some agent of this node had a copy
  bool zero = false;
};

/// Give this page's frame back, under a memory cap. What that takes depends on what the node is to the page; see
/// evictor.h. `zero`: the frame looks all zero (agents may write meanwhile). Ignored where it cannot be, or not now.
struct Drop {
  PageNumber page;
  bool zero = false;
};

/// Time has passed; due when Protocol::next_deadline_ns() says so.
struct Tick {};

/// Transport lost `node` for good.
struct PeerLost {
  NodeId node;
};

using Event = std::variant<LocalRequest, DmaClaim, Retired, Message, Surrendered, Drop, Tick, PeerLost>;

// ---------------------------------------------------------------- actions

/// Send `msg` to another node (never to this one). When `with_page`, the page's bytes go as its payload; they must be
/// read from the frame before the action returns (a later action may overwrite it). A sender that finds them all zero
/// may send Payload::Zero and no frame instead.
struct Send {
  NodeId to;
  Msg msg;
  bool with_page = false;
};

/// Lower this node's right to `keep` (Read or None): at once in the shared state array, then in every derived copy,
/// through a safepoint of each vCPU; then feed back Surrendered with the same token. May take arbitrarily long.
struct Surrender {
  PageNumber page;
  Right keep = Right::None;
  u32 token = 0;
};

enum class FillSource : u8 {
  Message,  // the payload of the message this step handled
  Zero,     // the page's content is all zero
  Claim,    // content is the claimer's to define: fill with zeros
};

/// Write the whole frame. The right is None at this node and stays so until Install: no agent can see a torn page.
struct Fill {
  PageNumber page;
  FillSource source = FillSource::Zero;
};

/// Make `right` visible. The frame holds the right bytes. `version` is that of this copy (Write: already counted up).
struct Install {
  PageNumber page;
  Right right = Right::Read;
  u64 version = 0;
  Want want = Want::Read;  // what was asked for
  bool again = false;      // a Surrender is undone: it is the right that was there before, and so are the bytes
};

/// Agents that wait for `page` look again. Promises nothing: they may have to ask again.
struct Wake {
  PageNumber page;
};

/// The frame is not needed: it must read as zeros from now on (punch it out of the memory file).
struct Discard {
  PageNumber page;
};

/// The machine cannot go on; emitted once. Every waiting agent is woken; the protocol ignores all later events.
struct Fatal {
  enum class Cause : u8 { NodeLost, RequestTimedOut, OutOfMemory } cause = Cause::NodeLost;
  NodeId node;      // who is lost, or whose answer never came (the page's home); OutOfMemory: this node
  PageNumber page;  // RequestTimedOut: which page
};
/// The one line a person reads.
Error describe(const Fatal& fatal);

using Action = std::variant<Send, Surrender, Fill, Install, Wake, Discard, Fatal>;
/// Filled by a step, in the order in which they must be carried out. Reuse it: clear() keeps its memory.
using Actions = std::vector<Action>;
}  // namespace pangea::coherence
