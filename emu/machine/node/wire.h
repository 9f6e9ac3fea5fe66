// Little-endian fields for the machine's own messages: interrupts, I/O and the configuration of a node. A Reader never
// reads past the end; it remembers that somebody wanted to, and the message is then not believed.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "emu/base/types.h"

namespace pangea::machine::wire {

class Writer {
 public:
  template <class T>
  Writer& put(T v) {
    static_assert(std::is_integral_v<T>);
    for (usize i = 0; i < sizeof(T); ++i) out_.push_back(static_cast<u8>(static_cast<u64>(v) >> (8 * i)));
    return *this;
  }
  /// At most 64 KiB.
  Writer& text(const std::string& s) {
    const u16 n = static_cast<u16>(s.size() < 0xffff ? s.size() : 0xffff);
    put(n);
    out_.insert(out_.end(), s.begin(), s.begin() + n);
    return *this;
  }
  std::span<const u8> bytes() const { return out_; }
  const std::vector<u8>& body() const { return out_; }

 private:
  std::vector<u8> out_;
};

class Reader {
 public:
  explicit Reader(std::span<const u8> in) : in_(in) {}
  template <class T>
  T get() {
    static_assert(std::is_integral_v<T>);
    if (in_.size() < sizeof(T)) {
      ok_ = false;
      return T{};
    }
    u64 v = 0;
    for (usize i = 0; i < sizeof(T); ++i) v |= u64{in_[i]} << (8 * i);
    in_ = in_.subspan(sizeof(T));
    return static_cast<T>(v);
  }
  std::string text() {
    const u16 n = get<u16>();
    if (!ok_ || in_.size() < n) {
      ok_ = false;
      return {};
    }
    std::string s(in_.begin(), in_.begin() + n);
    in_ = in_.subspan(n);
    return s;
  }
  /// False: the message was too short for what was read.
  bool ok() const { return ok_; }
  /// ok(), and nothing is left over.
  bool complete() const { return ok_ && in_.empty(); }
  std::span<const u8> rest() const { return in_; }

 private:
  std::span<const u8> in_;
  bool ok_ = true;
};
}  // namespace pangea::machine::wire
