// What nodes say to each other about pages. A message is a small header; page bytes follow it as the payload.
//
//   Request     requester -> home     I need this page (have: the version of the bytes in my frame)
//   Fetch       home -> holder        Lower your right to `keep`, then send the requester its grant
//   Invalidate  home -> holder        Lower your right to None, then acknowledge to the requester
//   Grant       home|holder -> requester  Yours once every node in `nodes` has acknowledged
//   Ack         holder -> requester   I no longer hold it
//   Done        requester -> home     Installed; the next transaction of this page may start (not after a grant by the
//                                     home that waits for no Ack: see protocol.cc)
//   Offer       holder -> anybody     I have no room for this page; ask for it, if you have
//   Refuse      anybody -> holder     I have no room either
#pragma once
#include <span>
#include <string>

#include "emu/base/result.h"
#include "emu/mem/page_table.h"

namespace pangea::coherence {

inline constexpr unsigned kMaxNodes = 64;  // sharers are one 64-bit map

enum class MsgKind : u8 { Request = 1, Fetch, Invalidate, Grant, Ack, Done, Offer, Refuse };

/// What a request asks for, and what the transaction it starts does.
enum class Want : u8 {
  Read,   // Shared, with current bytes
  Write,  // Modified, with current bytes
  Claim,  // Modified; the requester overwrites the whole page, so no bytes travel
};

/// What a grant brings, or a fetch asks the holder to send.
enum class Payload : u8 {
  None,  // the requester's bytes are current
  Page,  // the page's bytes follow as a payload: all kPageSize, or what the requester lacks of them (Msg::have)
  Zero,  // the page is all zero; nothing follows
};

struct Msg {
  MsgKind kind{};
  Want want = Want::Read;
  Payload payload = Payload::None;
  PageNumber page;
  u16 offset = 0;          // first byte concerned, within the page; this version speaks of whole pages: 0
  u16 length = kPageSize;  // bytes concerned; this version: kPageSize
  NodeId requester;        // whose transaction this belongs to; Offer, Refuse: who offers
  u64 serial = 0;          // the requester's number for its request; every message of the transaction repeats it.
                           // Offer, Refuse: of the offer
  u64 version = 0;         // Request: of the requester's bytes. Otherwise: of the requester's copy once granted
  u64 nodes = 0;           // Fetch, Grant: bit n set: node n will send the requester an Ack
  u64 checksum = 0;        // Grant, Done: of the page's bytes, when the checker is on; else 0
  u64 have = 0;            // Fetch: version of the requester's bytes. Grant with a page: the payload holds what has
                           // changed since that version (changes.h); 0: it is the whole page
  bool operator==(const Msg&) const = default;
};

/// Upper bound of an encoded header, bytes. A longer one is malformed.
inline constexpr usize kMaxEncodedMsg = 96;

/// Writes `msg` into `out` (protobuf wire format, coherence.proto). Returns the number of bytes used.
/// `out` must hold kMaxEncodedMsg bytes (asserted).
usize encode(const Msg& msg, std::span<u8> out);

/// Reads a header from a peer. Checks every field that can be checked without state: enums, node ids below `nodes`,
/// page below `pages_end`, whole-page range, `nodes` map within the machine. Error: which field was wrong.
Result<Msg> decode(std::span<const u8> bytes, unsigned nodes, PageNumber pages_end);

/// One line for logs and traces: "Grant page 0x1a want W req 2#17 v9 acks {0,3} +page".
std::string to_string(const Msg& msg);
/// Invalid, Shared, Modified: the states of DESIGN section 5.
const char* to_string(Right right);
}  // namespace pangea::coherence
