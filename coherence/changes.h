// What has changed of a page between two versions, in place of the page.
//
// A page that two nodes write by turns changes by some bytes each time: a lock, a list, a counter. Whoever gets the
// right to write keeps the bytes as they were (a *twin*, as in Keleher, Cox, Dwarkadas, Zwaenepoel: "TreadMarks:
// Distributed shared memory on standard workstations and operating systems", USENIX Winter 1994), and sends a node that
// asks and still has those bytes (its request names their version) only the lines that differ. On a link of 1 Gb/s
// 4 KiB take 33 us, and with keys all that goes is enciphered.
//
// The payload: one u64, little endian, with bit n set for each 64-byte line n that differs; then those lines.
#pragma once
#include <array>
#include <memory>
#include <span>
#include <vector>

#include "coherence/message.h"

namespace pangea::coherence {

/// Writes what turns `old` into `now` (pages) into `out`. Returns the number of bytes, or 0 where that is not less than
/// a page.
usize write_changes(const u8* old, const u8* now, std::span<u8, kPageSize> out);

/// `payload` is of the form above. Whether its lines are the right ones nobody can tell from it.
bool are_changes(std::span<const u8> payload);

/// Whether `payload` may come with `msg`: nothing, a page, or changes where it says so.
bool payload_fits(const Msg& msg, std::span<const u8> payload);

/// Applies `payload` (are_changes, asserted) to the page `bytes`.
void apply_changes(std::span<const u8> payload, u8* bytes);

/// Pages of this node as they were before it began to write. Direct-mapped: a page that is pushed out goes whole.
class Twins {
 public:
  explicit Twins(unsigned places) : entries_(places) {}

  /// The bytes of `version` (not 0) of `page` are about to change.
  void keep(PageNumber page, u64 version, const u8* bytes);
  /// The kPageSize bytes of `version` of `page`, or null. Valid until the next keep().
  const u8* find(PageNumber page, u64 version) const;

 private:
  using Bytes = std::array<u8, kPageSize>;
  struct Entry {
    PageNumber page;
    u64 version = 0;  // 0: empty
    std::unique_ptr<Bytes> bytes;
  };
  std::vector<Entry> entries_;
};
}  // namespace pangea::coherence
