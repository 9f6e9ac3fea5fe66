#include "transport/frame.h"

#include <gtest/gtest.h>

#include "emu/base/prng.h"

namespace pangea::transport {
namespace {
constexpr u64 kMachine = 0x1234;

std::vector<u8> encode(FrameWriter& w, u64 time, std::string_view header, usize payload_bytes) {
  std::vector<u8> out(w.prepare(time, {reinterpret_cast<const u8*>(header.data()), header.size()}, payload_bytes));
  w.write(out);
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
  const auto e = encode(p.w, 99, "head", page.size());
  EXPECT_TRUE(p.r.read(e, page, 2, p.f).deliver());
  EXPECT_EQ(p.f.from, NodeId{1});
  EXPECT_EQ(p.f.guest_time, 99u);
  EXPECT_EQ(std::string(p.f.header.begin(), p.f.header.end()), "head");
  EXPECT_EQ(p.f.payload.size(), kPageSize);
  EXPECT_FALSE(p.f.probe);
}

TEST(Frame, LargestEnvelopeFitsItsBound) {
  FrameWriter w{~u64{0}, NodeId{65535}, Channel::Io};
  const std::string header(kHeaderMax, 'x');
  EXPECT_LE(encode(w, ~u64{0}, header, kPageSize).size(), kEnvelopeMax);
}

TEST(Frame, ReplayIsDroppedAndAGapIsReported) {
  Pair p;
  const auto first = encode(p.w, 0, "", 0);
  const auto second = encode(p.w, 0, "", 0);
  const auto third = encode(p.w, 0, "", 0);
  EXPECT_TRUE(p.r.read(first, {}, 1, p.f).deliver());
  EXPECT_EQ(p.r.read(first, {}, 1, p.f).drop, Drop::Replayed);
  const Verdict gap = p.r.read(third, {}, 1, p.f);
  EXPECT_EQ(gap.missing, 1u);
  EXPECT_EQ(p.f.from, NodeId{1});
  EXPECT_TRUE(p.r.read(second, {}, 1, p.f).deliver());
}

TEST(Frame, EachKindOfBadFrameHasItsCount) {
  Pair p;
  const std::vector<u8> page(kPageSize), big(kPageSize + 1), huge(kEnvelopeMax + 1);
  auto drop = [&](u64 machine, u16 from, Channel c, usize size, Bytes payload, usize parts) {
    FrameWriter w{machine, NodeId{from}, c};
    return p.r.read(encode(w, 0, "h", size), payload, parts, p.f).drop;
  };
  const Channel coh = Channel::Coherence;
  EXPECT_EQ(drop(kMachine + 1, 1, coh, 0, {}, 1), Drop::WrongMachine);
  EXPECT_EQ(drop(kMachine, 3, coh, 0, {}, 1), Drop::UnknownSender);
  EXPECT_EQ(drop(kMachine, 0, coh, 0, {}, 1), Drop::UnknownSender);  // ourselves
  EXPECT_EQ(drop(kMachine, 1, Channel::Io, 0, {}, 1), Drop::WrongChannel);
  EXPECT_EQ(drop(kMachine, 1, coh, big.size(), big, 2), Drop::Oversized);
  EXPECT_EQ(drop(kMachine, 1, coh, 16, page, 2), Drop::Malformed);  // says 16, brings 4096
  EXPECT_EQ(drop(kMachine, 1, coh, 0, {}, 2), Drop::Malformed);     // a second part nobody announced
  EXPECT_EQ(drop(kMachine, 1, coh, page.size(), page, 3), Drop::Malformed);
  EXPECT_EQ(p.r.read(huge, {}, 1, p.f).drop, Drop::Oversized);
  EXPECT_EQ(p.r.read({}, {}, 1, p.f).drop, Drop::WrongMachine);  // an empty message is a valid, empty protobuf
  FrameWriter big_header{kMachine, NodeId{1}, coh};
  EXPECT_EQ(p.r.read(encode(big_header, 0, std::string(kHeaderMax + 1, 'x'), 0), {}, 1, p.f).drop, Drop::Oversized);
  EXPECT_TRUE(p.r.read(encode(p.w, 0, "", 0), {}, 1, p.f).deliver());  // none of them moved the sequence
}

TEST(Frame, RandomBytesNeverPassNorCrash) {
  Pair p;
  Prng rng(1);
  const auto good = encode(p.w, 5, "header", 0);
  for (int i = 0; i < 200'000; ++i) {
    std::vector<u8> bytes = good;
    if (rng.chance(1, 2)) bytes.assign(rng.below(64), 0);
    for (u64 n = 1 + rng.below(8); n--;)
      if (!bytes.empty()) bytes[rng.below(bytes.size())] = static_cast<u8>(rng.next());
    FrameReader r{kMachine, NodeId{0}, Channel::Coherence, 3};
    if (r.read(bytes, {}, 1, p.f).deliver()) {  // a mutation may leave the envelope valid: then it is what it says
      EXPECT_EQ(p.f.from.v < 3 && p.f.from.v != 0, true);
      EXPECT_LE(p.f.header.size(), kHeaderMax);
    }
  }
}
}  // namespace
}  // namespace pangea::transport
