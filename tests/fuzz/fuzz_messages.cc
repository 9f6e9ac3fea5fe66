// Everything that reads what a peer sent. First byte: which reader; the rest: the message.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "coherence/changes.h"
#include "emu/machine/debug/remote_debug.h"
#include "emu/machine/node/cluster.h"
#include "emu/machine/node/node_link.h"
#include "emu/machine/statistics.h"
#include "tests/fuzz/input.h"
#include "transport/frame.h"
#include "transport/handshake.h"
#include "transport/keys.h"

namespace {
using namespace pangea;

void coherence_message(fuzz::Input& in) {
  const auto m = coherence::decode(in.rest(), 4, PageNumber{1000});
  if (!m) return;
  PANGEA_FUZZ_CHECK(m->page.v < 1000 && m->requester.v < 4 && m->nodes < 16 && m->length == kPageSize &&
                    m->offset == 0);
  u8 bytes[coherence::kMaxEncodedMsg];
  const usize n = coherence::encode(*m, bytes);
  const auto again = coherence::decode({bytes, n}, 4, PageNumber{1000});
  PANGEA_FUZZ_CHECK(again && *again == *m);
  PANGEA_FUZZ_CHECK(!coherence::to_string(*m).empty());
}

/// The payload of a grant.
void page_changes(fuzz::Input& in) {
  coherence::Msg grant{.kind = coherence::MsgKind::Grant, .payload = coherence::Payload::Page};
  grant.have = in.get<u8>();
  const auto payload = in.rest();
  if (!coherence::payload_fits(grant, payload) || grant.have == 0 || payload.empty()) return;
  std::vector<u8> before(kPageSize, 0x5a), after = before;
  coherence::apply_changes(payload, after.data());
  std::array<u8, kPageSize> again;
  PANGEA_FUZZ_CHECK(coherence::write_changes(before.data(), after.data(), again) <= payload.size());
}

/// A stream of frames on one channel: lengths first, so that mutations keep later frames whole.
void frames(fuzz::Input& in) {
  using namespace transport;
  const auto channel = static_cast<Channel>(in.below(kChannels));
  FrameReader reader(in.get<u8>() & 1 ? 0x1234 : in.get<u64>(), NodeId{0}, channel, 3);
  while (!in.done()) {
    const auto envelope = in.bytes(in.get<u8>() * 2u);
    const usize payload = in.chance(1, 2) ? in.get<u16>() % (kPageSize + 2) : 0;
    const usize said = in.chance(1, 8) ? in.below(2 * kPageSize) : envelope.size();
    std::vector<u8> frame(kEnvelopeSizeBytes + envelope.size() + payload, 7);
    frame[0] = static_cast<u8>(said), frame[1] = static_cast<u8>(said >> 8);
    std::copy(envelope.begin(), envelope.end(), frame.begin() + kEnvelopeSizeBytes);
    if (in.chance(1, 64)) frame.resize(in.below(4));
    Frame f;
    const Verdict v = reader.read(frame, f);
    if (!v.deliver()) continue;
    PANGEA_FUZZ_CHECK(f.from.v < 3 && f.from.v != 0 && f.header.size() <= kHeaderMax);
    PANGEA_FUZZ_CHECK(f.payload.size() <= payload_max(channel));
  }
}

void handshake(fuzz::Input& in) {
  using namespace transport;
  const bool coordinator = in.get<u8>() & 1;
  const auto m = parse_join(in.rest());
  if (!m) return;
  WaitingOptions w;
  w.common.secret = "s";
  CoordinatorOptions c;
  c.common = w.common;
  c.required_features = {3};
  if (m->has_refusal())
    for (const char ch : error_of(m->refusal()).line()) PANGEA_FUZZ_CHECK(ch >= ' ' && ch <= '~');
  if (m->has_hello() && !judge_hello(w, "node", m->hello()))
    PANGEA_FUZZ_CHECK(m->hello().nodes() <= kNodesMax && m->hello().node() < m->hello().nodes());
  // Nobody guesses the proof.
  if (m->has_offer() && coordinator) PANGEA_FUZZ_CHECK(judge_offer(c, {"tcp://h:1", 0, 0, {}}, "node", {}, m->offer()));
  if (m->has_assignment()) PANGEA_FUZZ_CHECK(judge_assignment(w, "node", {}, m->assignment()));
  if (m->has_bound())
    if (auto a = addresses_of(m->bound().addresses())) set_wildcard_host(*a, "10.0.0.1");
  if (m->has_directory())
    for (const auto& member : m->directory().members()) (void)addresses_of(member.addresses());
  (void)encode_join(*m, 1);
}

void machine_messages(fuzz::Input& in) {
  using namespace machine;
  const u64 which = in.below(6);
  const auto rest = in.rest();
  if (which == 0) (void)decode_wish(rest);
  if (which == 1)
    if (const auto c = decode_config(rest)) (void)make_plan(c->ram_bytes, c->vcpus, c->nodes, c->cpuid);
  if (which == 2) (void)decode_stop(rest, 4);
  if (which == 3) (void)from_text({rest.begin(), rest.end()});
  if (which == 5)
    if (const auto orders = decode_orders(rest, 4)) {
      const auto again = decode_orders(encode(*orders), 4);
      PANGEA_FUZZ_CHECK(again && encode(*again) == encode(*orders));
    }
  if (which == 4) {
    const std::string text(rest.begin(), rest.end());
    (void)transport::parse_key_file(text, "key");
    if (const auto peers = transport::parse_peer_list(text, "peers")) PANGEA_FUZZ_CHECK(!peers->empty());
    (void)transport::check_uri(text, true);
    if (transport::is_loopback(text)) PANGEA_FUZZ_CHECK(text.starts_with("ipc://") || text.starts_with("tcp://"));
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  fuzz::Input in(data, size);
  switch (in.below(5)) {
    case 0: coherence_message(in); break;
    case 1: frames(in); break;
    case 2: handshake(in); break;
    case 4: page_changes(in); break;
    default: machine_messages(in); break;
  }
  return 0;
}
