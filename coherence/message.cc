#include "coherence/message.h"

#include <fmt/format.h>

#include <bit>

#include "coherence/coherence.pb.h"
#include "emu/base/bits.h"

namespace pangea::coherence {

usize encode(const Msg& msg, std::span<u8> out) {
  PANGEA_ASSERT(out.size() >= kMaxEncodedMsg);
  wire::Header h;
  h.set_kind(static_cast<u32>(msg.kind));
  h.set_want(static_cast<u32>(msg.want));
  h.set_payload(static_cast<u32>(msg.payload));
  h.set_page(msg.page.v);
  h.set_offset(msg.offset);
  h.set_length(msg.length == kPageSize ? 0 : msg.length);
  h.set_requester(msg.requester.v);
  h.set_serial(msg.serial);
  h.set_version(msg.version);
  h.set_nodes(msg.nodes);
  h.set_checksum(msg.checksum);
  h.set_have(msg.have);
  const usize size = h.ByteSizeLong();
  PANGEA_ASSERT(size <= kMaxEncodedMsg);  // the sum of the fields' greatest sizes is below it
  h.SerializeWithCachedSizesToArray(out.data());
  return size;
}

namespace {
Error malformed(const char* why) { return {"malformed coherence message", why, "", ExitStatus::HostError}; }

/// The fields of `h` as a Msg, or the name of the first one that no honest node sends.
const char* check(const wire::Header& h, unsigned nodes, PageNumber pages_end) {
  if (h.kind() < static_cast<u32>(MsgKind::Request) || h.kind() > static_cast<u32>(MsgKind::Refuse)) return "kind";
  if (h.want() > static_cast<u32>(Want::Claim)) return "want";
  if (h.payload() > static_cast<u32>(Payload::Zero)) return "payload";
  if (h.page() >= pages_end.v) return "page beyond guest memory";
  if (h.offset() != 0 || h.length() != 0) return "range that is not a whole page";
  if (h.requester() >= nodes) return "requester";
  if (h.nodes() & ~low_mask(nodes)) return "node map";
  return nullptr;
}
}  // namespace

Result<Msg> decode(std::span<const u8> bytes, unsigned nodes, PageNumber pages_end) {
  if (bytes.size() > kMaxEncodedMsg) return malformed("too long");
  wire::Header h;
  if (!h.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return malformed("not a header");
  if (const char* why = check(h, nodes, pages_end)) return malformed(why);
  Msg m{.kind = static_cast<MsgKind>(h.kind()),
        .want = static_cast<Want>(h.want()),
        .payload = static_cast<Payload>(h.payload()),
        .page = PageNumber{h.page()},
        .requester = NodeId{static_cast<u16>(h.requester())}};
  m.serial = h.serial();
  m.version = h.version();
  m.nodes = h.nodes();
  m.checksum = h.checksum();
  m.have = h.have();
  return m;
}

const char* to_string(Right right) {
  switch (right) {
    case Right::None: return "Invalid";
    case Right::Read: return "Shared";
    case Right::Write: return "Modified";
  }
  return "?";
}

std::string to_string(const Msg& msg) {
  static constexpr const char* kKinds[] = {"?",   "Request", "Fetch", "Invalidate", "Grant",
                                           "Ack", "Done",    "Offer", "Refuse"};
  static constexpr const char* kWants[] = {"read", "write", "claim"};
  static constexpr const char* kPayloads[] = {"", " +page", " +zero"};
  const auto name = [](const auto& names, auto value) {
    return static_cast<usize>(value) < std::size(names) ? names[static_cast<usize>(value)] : "?";
  };
  std::string s =
      fmt::format("{} page {:#x} {} {}#{} v{}{}", name(kKinds, msg.kind), msg.page.v, name(kWants, msg.want),
                  msg.requester.v, msg.serial, msg.version, name(kPayloads, msg.payload));
  if (msg.have != 0) s += fmt::format(" since v{}", msg.have);
  if (msg.nodes != 0) {
    s += " acks";
    for (u64 m = msg.nodes; m != 0; m &= m - 1) s += fmt::format(" {}", std::countr_zero(m));
  }
  return s;
}
}  // namespace pangea::coherence
