#include "transport/frame.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "emu/base/prng.h"

namespace pangea::transport {
namespace {
constexpr u64 kMachine = 0x1234;

std::vector<u8> encode(FrameWriter& w, u64 time, std::string_view header, Bytes payload = {}) {
  const Bytes h{reinterpret_cast<const u8*>(header.data()), header.size()};
  std::vector<u8> out(w.prepare(time, h) + payload.size());
  w.write(out, payload);
  return out;
}

struct Pair {
  FrameWriter w{kMachine, NodeId{1}, Channel::Coherence};
  FrameReader r{kMachine, NodeId{0}, Channel::Coherence, 3};
  Frame f;
};

TEST(Frame, CarriesHeaderTimeAndPayload) {
  Pair p;
  const std::vector<u8> page(kPageSize, 7);
  const auto e = encode(p.w, 99, "head", page);
  EXPECT_TRUE(p.r.read(e, p.f).deliver());
  EXPECT_EQ(p.f.from, NodeId{1});
  EXPECT_EQ(p.f.guest_time, 99u);
  EXPECT_EQ(std::string(p.f.header.begin(), p.f.header.end()), "head");
  EXPECT_TRUE(std::ranges::equal(p.f.payload, page));
  EXPECT_FALSE(p.f.probe);
}

TEST(Frame, AProbeSaysSoAndCarriesNothing) {
  Pair p;
  std::vector<u8> probe(p.w.prepare_probe());
  p.w.write(probe, {});
  EXPECT_TRUE(p.r.read(probe, p.f).deliver());
  EXPECT_TRUE(p.f.probe);
  EXPECT_TRUE(p.f.header.empty() && p.f.payload.empty());
  probe.resize(p.w.prepare_probe());
  p.w.write(probe, {});
  probe.push_back(0);
  EXPECT_EQ(p.r.read(probe, p.f).drop, Drop::Malformed);
}

TEST(Frame, LargestEnvelopeFitsItsBound) {
  FrameWriter w{~u64{0}, NodeId{65535}, Channel::Io};
  const std::string header(kHeaderMax, 'x');
  const std::vector<u8> page(kPageSize, 7);
  const auto e = encode(w, ~u64{0}, header, page);
  EXPECT_LE(e.size(), kEnvelopeSizeBytes + kEnvelopeMax + kPageSize);
  FrameReader r{~u64{0}, NodeId{0}, Channel::Io, 65536};
  Frame f;
  EXPECT_TRUE(r.read(e, f).deliver());
  EXPECT_EQ(f.header.size(), kHeaderMax);
  EXPECT_EQ(f.payload.size(), kPageSize);
}

TEST(Frame, ReplayIsDroppedAndAGapIsReported) {
  Pair p;
  const auto first = encode(p.w, 0, "");
  const auto second = encode(p.w, 0, "");
  const auto third = encode(p.w, 0, "");
  EXPECT_TRUE(p.r.read(first, p.f).deliver());
  EXPECT_EQ(p.r.read(first, p.f).drop, Drop::Replayed);
  const Verdict gap = p.r.read(third, p.f);
  EXPECT_EQ(gap.missing, 1u);
  EXPECT_EQ(p.f.from, NodeId{1});
  EXPECT_TRUE(p.r.read(second, p.f).deliver());
}

TEST(Frame, EachKindOfBadFrameHasItsCount) {
  Pair p;
  const std::vector<u8> page(kPageSize), big(kPageSize + 1);
  auto drop = [&](u64 machine, u16 from, Channel c, Bytes payload = {}) {
    FrameWriter w{machine, NodeId{from}, c};
    return p.r.read(encode(w, 0, "h", payload), p.f).drop;
  };
  auto drop_bytes = [&](const std::vector<u8>& bytes) { return p.r.read(bytes, p.f).drop; };
  const Channel coh = Channel::Coherence;
  EXPECT_EQ(drop(kMachine + 1, 1, coh), Drop::WrongMachine);
  EXPECT_EQ(drop(kMachine, 3, coh), Drop::UnknownSender);
  EXPECT_EQ(drop(kMachine, 0, coh), Drop::UnknownSender);  // ourselves
  EXPECT_EQ(drop(kMachine, 1, Channel::Io), Drop::WrongChannel);
  EXPECT_EQ(drop(kMachine, 1, coh, big), Drop::Oversized);
  EXPECT_EQ(drop_bytes({}), Drop::Malformed);
  EXPECT_EQ(drop_bytes({0}), Drop::Malformed);
  EXPECT_EQ(drop_bytes({0, 0}), Drop::WrongMachine);  // an empty message is a valid, empty protobuf
  EXPECT_EQ(drop_bytes({1, 0}), Drop::Malformed);     // an envelope longer than the frame
  std::vector<u8> huge(kEnvelopeSizeBytes + kEnvelopeMax + 1);
  huge[0] = static_cast<u8>(kEnvelopeMax + 1), huge[1] = static_cast<u8>((kEnvelopeMax + 1) >> 8);
  EXPECT_EQ(drop_bytes(huge), Drop::Oversized);
  FrameWriter other{kMachine, NodeId{1}, coh};
  EXPECT_EQ(drop_bytes(encode(other, 0, std::string(kHeaderMax + 1, 'x'))), Drop::Oversized);
  std::vector<u8> cut = encode(other, 0, "header");
  cut.pop_back();
  EXPECT_EQ(drop_bytes(cut), Drop::Malformed);
  EXPECT_TRUE(p.r.read(encode(p.w, 0, ""), p.f).deliver());  // none of them moved the sequence
}

TEST(Frame, RandomBytesNeverPassNorCrash) {
  Pair p;
  Prng rng(1);
  const auto good = encode(p.w, 5, "header");
  for (int i = 0; i < 200'000; ++i) {
    std::vector<u8> bytes = good;
    if (rng.chance(1, 2)) bytes.assign(rng.below(64), 0);
    for (u64 n = 1 + rng.below(8); n--;)
      if (!bytes.empty()) bytes[rng.below(bytes.size())] = static_cast<u8>(rng.next());
    FrameReader r{kMachine, NodeId{0}, Channel::Coherence, 3};
    if (r.read(bytes, p.f).deliver()) {  // a mutation may leave the envelope valid: then it is what it says
      EXPECT_EQ(p.f.from.v < 3 && p.f.from.v != 0, true);
      EXPECT_LE(p.f.header.size(), kHeaderMax);
    }
  }
}
}  // namespace
}  // namespace pangea::transport
