// Two small tables of the decoder: which bytes are prefixes, how many bytes an operand width has.
#pragma once
#include <initializer_list>

#include "emu/x86/isa.h"

namespace pangea::x86 {
enum class PrefixByte : u8 { None, Seg, Opsize, Addrsize, Lock, Rep, Rex };

struct PrefixBytes {
  PrefixByte kind[256] = {};
  constexpr PrefixBytes() {
    for (const int b : {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65}) kind[b] = PrefixByte::Seg;
    kind[0x66] = PrefixByte::Opsize;
    kind[0x67] = PrefixByte::Addrsize;
    kind[0xf0] = PrefixByte::Lock;
    kind[0xf2] = kind[0xf3] = PrefixByte::Rep;
    for (unsigned b = 0x40; b < 0x50; b++) kind[b] = PrefixByte::Rex;
  }
};
inline constexpr PrefixBytes kPrefixBytes;

/// Bytes of each Width for operand sizes 2, 4, 8; X and Y are resolved apart.
struct WidthBytes {
  u8 bytes[32][3] = {};
  constexpr void set(Width w, u8 at2, u8 at4, u8 at8) {
    u8* b = bytes[static_cast<unsigned>(w)];
    b[0] = at2, b[1] = at4, b[2] = at8;
  }
  constexpr WidthBytes() {
    set(Width::B, 1, 1, 1), set(Width::W, 2, 2, 2), set(Width::D, 4, 4, 4), set(Width::Q, 8, 8, 8);
    set(Width::DQ, 16, 16, 16), set(Width::QQ, 32, 32, 32), set(Width::T, 10, 10, 10);
    set(Width::V, 2, 4, 8), set(Width::S, 2, 4, 8), set(Width::Z, 2, 4, 4), set(Width::Far, 4, 6, 10);
    set(Width::A, 4, 8, 8), set(Width::Table, 6, 6, 10);
    set(Width::Env, 14, 28, 28), set(Width::Fpu, 94, 108, 108);
  }
};
inline constexpr WidthBytes kWidthBytes;
}  // namespace pangea::x86
