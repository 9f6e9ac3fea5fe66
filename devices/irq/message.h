// What travels between interrupt controllers: the APIC bus message, and sets of vCPUs it goes to.
#pragma once
#include <array>
#include <bit>

#include "emu/base/types.h"
#include "emu/mem/address.h"

namespace pangea::devices {

// Encodings as in the ICR and the redirection table (SDM Vol. 3A 11.6.1).
enum class DeliveryMode : u8 { Fixed = 0, LowestPriority = 1, Smi = 2, Nmi = 4, Init = 5, StartUp = 6, ExtInt = 7 };
enum class DestinationMode : u8 { Physical = 0, Logical = 1 };
enum class TriggerMode : u8 { Edge = 0, Level = 1 };
enum class Shorthand : u8 { None = 0, Self = 1, All = 2, AllButSelf = 3 };

inline constexpr u32 kBroadcast = 0xffffffff;

/// One interrupt on its way. Sources with 8-bit destinations (xAPIC ICR, IOAPIC, MSI) write their broadcast 0xff as
/// kBroadcast (see widen_destination), so a resolver sees one form.
struct InterruptMessage {
  u32 destination = 0;
  DestinationMode destination_mode = DestinationMode::Physical;
  DeliveryMode delivery_mode = DeliveryMode::Fixed;
  TriggerMode trigger = TriggerMode::Edge;
  bool assert_level = true;  // false only for INIT level de-assert, which is ignored
  u8 vector = 0;
};

constexpr u32 widen_destination(u8 destination) { return destination == 0xff ? kBroadcast : destination; }

/// A set of vCPUs of the machine.
class VcpuSet {
 public:
  static constexpr usize kMax = 256;  // APIC ids 0-254 under xAPIC; more needs x2APIC and interrupt remapping

  void insert(VcpuId v) { words_[v.v / 64] |= u64{1} << (v.v % 64); }
  void erase(VcpuId v) { words_[v.v / 64] &= ~(u64{1} << (v.v % 64)); }
  bool contains(VcpuId v) const { return v.v < kMax && ((words_[v.v / 64] >> (v.v % 64)) & 1); }
  usize count() const {
    usize n = 0;
    for (u64 w : words_) n += static_cast<usize>(std::popcount(w));
    return n;
  }
  bool empty() const { return (words_[0] | words_[1] | words_[2] | words_[3]) == 0; }
  VcpuSet operator&(const VcpuSet& o) const {
    VcpuSet r;
    for (usize i = 0; i < words_.size(); ++i) r.words_[i] = words_[i] & o.words_[i];
    return r;
  }
  bool operator==(const VcpuSet&) const = default;
  /// Calls f(VcpuId) in ascending order.
  template <class F>
  void for_each(F&& f) const {
    for (usize i = 0; i < words_.size(); ++i)
      for (u64 w = words_[i]; w; w &= w - 1)
        f(VcpuId{static_cast<u16>(i * 64 + static_cast<usize>(std::countr_zero(w)))});
  }
  /// For the wire: four words, vCPU 0 in bit 0 of the first.
  const std::array<u64, 4>& words() const { return words_; }
  static VcpuSet from_words(const std::array<u64, 4>& w) {
    VcpuSet s;
    s.words_ = w;
    return s;
  }

 private:
  std::array<u64, 4> words_{};
};

}  // namespace pangea::devices
