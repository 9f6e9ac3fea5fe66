// What a node remembers per page: 9 bytes as a holder, 17 more for each page it is home to. Chunks of 4 MiB of guest
// memory appear when the first of their pages is touched; an absent chunk reads as all zero, which is the state of a
// page nobody has touched. So a peer that touches every page costs what the guest's size says and no more.
#pragma once
#include <array>
#include <memory>
#include <vector>

#include "coherence/message.h"
#include "emu/base/bits.h"

namespace pangea::coherence {

template <class Chunk, unsigned kPages>
class LazyChunks {
 public:
  explicit LazyChunks(PageNumber end) : chunks_((end.v + kPages - 1) / kPages) {}
  const Chunk* peek(PageNumber page) const { return chunks_[page.v / kPages].get(); }
  Chunk& touch(PageNumber page) {
    std::unique_ptr<Chunk>& c = chunks_[page.v / kPages];
    if (!c) {
      c = std::make_unique<Chunk>();
      bytes_ += sizeof(Chunk);
    }
    return *c;
  }
  static unsigned index(PageNumber page) { return static_cast<unsigned>(page.v % kPages); }
  usize bytes() const { return bytes_ + chunks_.size() * sizeof(void*); }

 private:
  std::vector<std::unique_ptr<Chunk>> chunks_;
  usize bytes_ = 0;
};

/// This node's hold on each page.
class LocalPages {
 public:
  explicit LocalPages(PageNumber end) : chunks_(end) {}

  Right right(PageNumber p) const { return static_cast<Right>(flags(p) & 3); }
  /// True: the directory may count on this copy as the source of the page's bytes, so it must not be dropped.
  bool source(PageNumber p) const { return flags(p) & kSource; }
  /// Version of the bytes in the frame, whatever the right; 0: all zero.
  u64 version(PageNumber p) const {
    const Chunk* c = chunks_.peek(p);
    return c ? c->version[Chunks::index(p)] : 0;
  }
  /// True: memory is set aside for the page, whether or not it holds current bytes.
  bool framed(PageNumber p) const { return flags(p) & kFramed; }
  void set_right(PageNumber p, Right right, bool source) {
    u8& f = chunks_.touch(p).flags[Chunks::index(p)];
    f = static_cast<u8>(static_cast<u8>(right) | (source ? kSource : 0) | (f & kFramed));
  }
  void set_framed(PageNumber p, bool framed) {
    u8& f = chunks_.touch(p).flags[Chunks::index(p)];
    f = static_cast<u8>((f & ~kFramed) | (framed ? kFramed : 0));
  }
  void set_version(PageNumber p, u64 version) { chunks_.touch(p).version[Chunks::index(p)] = version; }
  usize bytes() const { return chunks_.bytes(); }

 private:
  static constexpr u8 kSource = 4, kFramed = 8;
  struct Chunk {
    std::array<u64, 1024> version{};
    std::array<u8, 1024> flags{};
  };
  using Chunks = LazyChunks<Chunk, 1024>;
  u8 flags(PageNumber p) const {
    const Chunk* c = chunks_.peek(p);
    return c ? c->flags[Chunks::index(p)] : u8{0};
  }
  Chunks chunks_;
};

/// A page's entry at its home. Without an owner its content is zero: untouched (version 0), or given up when it was
/// all zero.
struct DirectoryEntry {
  u64 sharers = 0;        // nodes that may hold a copy (a sharer may have dropped its copy silently)
  u64 version = 0;        // of the owner's copy; counts the grants of write rights
  u8 owner = kNobody;     // whose copy the bytes come from: the last writer, or the home once it has read them
  bool modified = false;  // the owner may write; it is the only sharer
  static constexpr u8 kNobody = 0xff;
};

class DirectoryPages {
 public:
  explicit DirectoryPages(PageNumber end) : chunks_(end) {}
  DirectoryEntry get(PageNumber p) const {
    const Chunk* c = chunks_.peek(p);
    if (!c) return {};
    const unsigned i = Chunks::index(p);
    const u8 o = c->owner[i];
    return {c->sharers[i], c->version[i], static_cast<u8>((o & 0x7f) - 1), (o & 0x80) != 0};
  }
  void set(PageNumber p, const DirectoryEntry& e) {
    Chunk& c = chunks_.touch(p);
    const unsigned i = Chunks::index(p);
    c.sharers[i] = e.sharers;
    c.version[i] = e.version;
    c.owner[i] = static_cast<u8>(static_cast<u8>(e.owner + 1) | (e.modified ? 0x80 : 0));
  }
  usize bytes() const { return chunks_.bytes(); }

 private:
  struct Chunk {
    std::array<u64, 1024> sharers{};
    std::array<u64, 1024> version{};
    std::array<u8, 1024> owner{};  // owner + 1 in the low seven bits, modified in the top one
  };
  using Chunks = LazyChunks<Chunk, 1024>;
  Chunks chunks_;
};
}  // namespace pangea::coherence
