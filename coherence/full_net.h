// Nodes under a cap on frames, and how a test has them give pages up. Tests only.
#pragma once
#include "coherence/test_net.h"

namespace pangea::coherence {
inline constexpr u64 kPauseNs = 1'000'000;

inline void all_small(Config& c) {
  c.max_frames = 2;
  c.spare_frames = 1;
  c.refused_fatal_ns = 100 * kPauseNs;
}

inline void write_settled(TestNet& net, unsigned node, u64 page) {
  net.write(node, page);
  net.settle();
}
/// Begins to give `page`, which looks zero, up. Its agents are still to let go: Surrendered with `token` says so.
inline void begin_drop_zero(TestNet& net, unsigned node, u64 page, u32& token) {
  net.step(node, Drop{PageNumber{page}, true});
  ASSERT_EQ(net.count<Surrender>(), 1u);
  token = std::get<Surrender>(net.last[0]).token;
  EXPECT_TRUE(net.at(node).asks_zero(PageNumber{page}));
  net.drop_hand_overs(node);
}
/// Gives `page` up, and says how it looks when the agents have let go.
inline void drop_zero(TestNet& net, unsigned node, u64 page, bool zero) {
  u32 token = 0;
  ASSERT_NO_FATAL_FAILURE(begin_drop_zero(net, node, page, token));
  net.step(node, Surrendered{PageNumber{page}, token, true, zero});
}
}  // namespace pangea::coherence
