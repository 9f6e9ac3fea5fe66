// Strong types for addresses and places. Nothing converts by accident.
#pragma once
#include <compare>
#include <functional>

#include "emu/base/types.h"

namespace pangea {
inline constexpr unsigned kPageShift = 12;
inline constexpr u64 kPageSize = u64{1} << kPageShift;  // bytes
inline constexpr u64 kPageMask = kPageSize - 1;

template <class Tag, class Rep>
struct Strong {
  Rep v{};
  constexpr Strong() = default;
  constexpr explicit Strong(Rep r) : v(r) {}
  constexpr auto operator<=>(const Strong&) const = default;
};

/// Guest physical address, bytes.
struct Gpa : Strong<struct GpaTag, u64> {
  using Strong::Strong;
  constexpr Gpa operator+(u64 n) const { return Gpa{v + n}; }
};
/// Guest virtual (linear) address, bytes.
struct Gva : Strong<struct GvaTag, u64> {
  using Strong::Strong;
  constexpr Gva operator+(u64 n) const { return Gva{v + n}; }
};
/// 4 KiB page of GPA space: gpa >> 12.
struct PageNumber : Strong<struct PageTag, u64> {
  using Strong::Strong;
};
/// A node of the machine, 0-based; node 0 runs the boot vCPU and the board's devices.
struct NodeId : Strong<struct NodeTag, u16> {
  using Strong::Strong;
};
/// A vCPU of the machine, 0-based and global; its APIC id is the same number.
struct VcpuId : Strong<struct VcpuTag, u16> {
  using Strong::Strong;
};

constexpr PageNumber page_of(Gpa a) { return PageNumber{a.v >> kPageShift}; }
constexpr Gpa gpa_of(PageNumber p) { return Gpa{p.v << kPageShift}; }

enum class Access : u8 { Read, Write };
}  // namespace pangea

template <>
struct std::hash<pangea::PageNumber> {
  std::size_t operator()(const pangea::PageNumber& p) const noexcept { return std::hash<pangea::u64>{}(p.v); }
};
