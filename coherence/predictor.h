// Guesses which pages this node will want, and how, from what its agents wanted before. A wrong guess costs messages
// and perhaps a page somebody else still used; it never changes what anybody reads. Pure and bounded, like all of this
// room.
//
// Migratory pages (Stenström, Brorsson, Sandberg: "An adaptive cache coherence protocol optimized for migratory
// sharing", ISCA 1993, seen here from the requester's side). A lock and what it guards is read first and written next,
// by one node after the other: two transactions for each visit. Once a page that came to be read was then written here,
// the next read asks for the right to write at once. After kTrust such guesses one visit goes the slow way again, to
// see whether the page still behaves so.
//
// Streams. Memory is cleared, copied and searched page after page, in either direction. An agent that needs the page
// next to one it needed lately starts a stream; pages ahead of it are asked for while it works on this one, twice as
// many each time. So does an instruction that needed pages the same distance apart three times (Chen, Baer: "Effective
// hardware-based data prefetching for high-performance processors", IEEE Trans. Computers 44(5), 1995): a kernel looks
// at the first and the last `struct page` of each block of memory, which lie eight pages apart.
#pragma once
#include <array>
#include <optional>
#include <vector>

#include "coherence/events.h"

namespace pangea::coherence {

class Predictor {
 public:
  /// `prefetch_max`: pages asked for ahead of an agent; 0: none.
  Predictor(unsigned max_agents, bool migratory, unsigned prefetch_max);

  /// Nobody here may read `page`, and an agent wants to: shall it ask for the right to write?
  bool will_write(PageNumber page);
  /// A transaction of this node has ended: the right was `had`, and is `has`.
  void came(PageNumber page, Right had, Right has);
  /// The page is no longer here.
  void lost(PageNumber page);

  /// Pages to ask for now: first, first + step, ... Empty when count is 0.
  struct Ahead {
    PageNumber first;
    i64 step = 1;
    unsigned count = 0;
  };
  /// `agent` has to wait for `page`. `place`: as LocalRequest::place.
  Ahead waits(AgentId agent, PageNumber page, u64 place = 0);

 private:
  static constexpr u8 kTrust = 8;
  static constexpr unsigned kEqual = 2;    // distances between the waits of an instruction that make a stream
  static constexpr unsigned kStreams = 4;  // of one agent: a copy has two, its page tables may have another
  struct Habit {
    PageNumber page;
    bool was_read = false;  // it came to be read, and nobody here has asked to write since
    u8 trust = 0;           // visits that will ask to write at once
    bool migratory = false;
  };
  struct Stream {
    PageNumber last;   // the page waited for
    PageNumber ahead;  // the furthest asked for; `last` when none was
    i64 step = 1;
    unsigned depth = 0;  // pages asked for at a time; 0: a single page so far
    bool used = false;
  };
  /// The pages that one instruction of one agent waits for.
  struct Stride {
    u64 place = 0;
    AgentId agent = 0;
    unsigned equal = 0;  // distances in a row that were `stream.step`
    Stream stream;
  };
  Habit& habit(PageNumber page) { return habits_[page.v % habits_.size()]; }
  static bool continues(const Stream& s, PageNumber page, i64 step);
  /// `page` continues `s` by steps of `step`: what to ask for now.
  Ahead advance(Stream& s, PageNumber page, i64 step) const;
  /// What to ask for if the waits at `place` are a stream.
  std::optional<Ahead> strides(AgentId agent, PageNumber page, u64 place);

  std::array<Habit, 4096> habits_{};   // direct-mapped: a page that is pushed out is learnt again
  std::array<Stride, 256> strides_{};  // direct-mapped, too
  std::vector<std::array<Stream, kStreams>> streams_;
  std::vector<u8> oldest_;
  bool migratory_;
  unsigned prefetch_max_;
};
}  // namespace pangea::coherence
