// The offset of a peer's clock, from pings: NTP's four timestamps and a minimum-round-trip filter.
//
// The offset of one sample is wrong by at most half its round trip (RFC 5905 section 8): scheduling delays only ever
// add. So the sample with the shortest round trip is the best one, until drift has eaten its advantage: each sample's
// error bound grows by kDriftPpm with its age, and the smallest bound wins.
#pragma once
#include <array>

#include "emu/base/types.h"

namespace pangea::transport {

/// Unit: ns. sent and back are our clock, heard and answered the peer's.
struct ClockSample {
  u64 sent_ns = 0;
  u64 heard_ns = 0;
  u64 answered_ns = 0;
  u64 back_ns = 0;
};

class ClockOffset {
 public:
  /// Takes a sample; one that contradicts itself (negative round trip) is ignored and false is returned.
  bool sample(const ClockSample& s);
  /// Add to our clock to get the peer's, ns. 0 without samples.
  i64 offset_ns() const { return best_.offset_ns; }
  /// Half the round trip of the sample in use, ns.
  u64 error_ns() const { return best_.error_ns; }

  /// Assumed worst drift between two crystals, parts per million.
  static constexpr u64 kDriftPpm = 50;

 private:
  struct Entry {
    i64 offset_ns = 0;
    u64 error_ns = 0;
    u64 at_ns = 0;
  };
  static constexpr unsigned kWindow = 64;
  std::array<Entry, kWindow> window_{};
  unsigned count_ = 0;  // taken so far
  Entry best_;
};
}  // namespace pangea::transport
