// Memory for generated code: one memfd mapped twice, written through one mapping and executed through the other (never
// W+X). Allocation is a bump pointer; eviction is a flush of everything, which the engine does while no vCPU runs.
#pragma once
#include "emu/base/result.h"
#include "emu/base/types.h"

namespace pangea::jit {
class CodeCache {
 public:
  static Result<CodeCache> create(u64 bytes);
  CodeCache(CodeCache&& o) noexcept;
  CodeCache& operator=(CodeCache&&) = delete;
  ~CodeCache();

  u8* next() const { return next_; }  // writable view
  u8* end() const { return rw_ + bytes_; }
  /// Takes [next, upto); keeps the next block's entry aligned to 16.
  void commit(u8* upto) { next_ = rw_ + (((upto - rw_) + 15) & ~i64{15}); }
  /// Everything after `mark` is free again.
  void reset_to(u8* mark) { next_ = mark; }
  const u8* executable(const u8* writable) const { return writable + (rx_ - rw_); }
  u8* writable(const u8* executable) const { return const_cast<u8*>(executable) - (rx_ - rw_); }
  bool contains_executable(u64 pc) const {
    return pc >= reinterpret_cast<u64>(rx_) && pc < reinterpret_cast<u64>(rx_) + bytes_;
  }

 private:
  CodeCache(u8* rw, u8* rx, u64 bytes) : rw_(rw), rx_(rx), bytes_(bytes), next_(rw) {}
  u8* rw_;
  u8* rx_;
  u64 bytes_;
  u8* next_;
};
}  // namespace pangea::jit
