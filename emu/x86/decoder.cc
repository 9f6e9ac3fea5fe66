// The decoder: bytes to Insn. SDM Vol. 2A ch. 2.
//
// One pass: prefixes, opcode, ModRM, then the candidates of (map, opcode, mandatory prefix) from decode_table.h, then
// displacement and immediates by the row found. What is undefined is found before the bytes behind ModRM are asked for,
// except LOCK and register numbers that do not exist.
//
// Rules that are easy to get wrong, and where they live:
// - F2 and F3 win over 66 as mandatory prefix; the last of F2 and F3 wins: effective_prefix.
// - REX counts only right before the opcode: scan_prefixes.
// - In 64-bit mode ES, CS, SS, DS overrides do nothing, and do not cancel FS or GS: scan_prefixes.
// - Outside 64-bit mode C4 and C5 are LES and LDS unless the next byte has mod 3: opcode.
// - Near branches ignore 66 in 64-bit mode, as on Intel processors: operand_size.
// - ModRM.mod of MOV to and from CR and DR is ignored: select_row.
#include <cstring>
#include <type_traits>

#include "emu/x86/decode_bytes.h"
#include "emu/x86/decode_table.h"
#include "emu/x86/insn.h"

namespace pangea::x86 {
namespace {
constexpr usize kMaxLength = 15;
constexpr u8 kW = 8, kR = 4, kX = 2, kB = 1;  // bits of REX, also those of VEX as Decoder::rxb has them

class Decoder {
 public:
  Decoder(const u8* bytes, usize available, CodeSize size, Insn& out)
      : bytes_(bytes),
        limit_(available < kMaxLength ? available : kMaxLength),
        is64_(size == CodeSize::Bits64),
        is16_(size == CodeSize::Bits16),
        out_(out) {}
  DecodeStatus run();

 private:
  bool more(usize n) const { return at_ + n <= limit_; }
  DecodeStatus out_of_bytes() const { return limit_ == kMaxLength ? DecodeStatus::TooLong : DecodeStatus::Truncated; }
  /// Takes a T, sign- or zero-extended by its type. False: out of bytes.
  template <class T, class V>
  bool take(V& out) {
    if (!more(sizeof(T))) return false;
    T v;
    std::memcpy(&v, bytes_ + at_, sizeof v);
    at_ += sizeof v;
    out = static_cast<V>(v);
    return true;
  }
  template <class T>
  bool take_imm(bool sign = false) {
    out_.imm_bytes = sizeof(T);
    if (sign) return take<std::make_signed_t<T>>(out_.imm);
    return take<T>(out_.imm);
  }

  bool scan_prefixes();
  DecodeStatus opcode();
  DecodeStatus vex(bool three);
  bool select_row(const Slot& opcode_slot);
  bool memory32();
  bool memory16();
  bool displacement(unsigned size);
  bool immediates(ImmKind kind);
  Prefix effective_prefix() const;
  void operand_size();
  void operand_widths();
  void default_segment();
  bool legal() const;

  const u8* const bytes_;
  const usize limit_;  // bytes that may be looked at
  usize at_ = 0;
  const bool is64_, is16_;
  bool has66_ = false;
  bool vvvv_used_ = false;
  u8 rxb_ = 0;  // W R X B of REX or VEX
  unsigned space_ = 0;
  Prefix prefix_ = Prefix::None;
  const DecodeRow* info_ = nullptr;
  Insn& out_;
};

bool Decoder::scan_prefixes() {
  bool has67 = false;
  for (;; at_++) {
    if (!more(1)) return false;
    const u8 b = bytes_[at_];
    const PrefixByte kind = kPrefixBytes.kind[b];
    if (kind == PrefixByte::None || (kind == PrefixByte::Rex && !is64_)) break;
    out_.rex = kind == PrefixByte::Rex ? b : 0;
    switch (kind) {
      case PrefixByte::Seg:
        if (b >= 0x64)
          out_.seg = b == 0x64 ? Seg::Fs : Seg::Gs;
        else if (!is64_)
          out_.seg = static_cast<Seg>((b >> 3) & 3);
        break;
      case PrefixByte::Opsize: has66_ = true; break;
      case PrefixByte::Addrsize: has67 = true; break;
      case PrefixByte::Lock: out_.lock = true; break;
      case PrefixByte::Rep: out_.rep = b; break;
      default: break;
    }
  }
  out_.addrsize = is64_ ? (has67 ? 4 : 8) : (is16_ != has67 ? 2 : 4);
  out_.rex_present = out_.rex != 0;
  rxb_ = out_.rex & 15;
  return true;
}

Prefix Decoder::effective_prefix() const {
  if (out_.rep) return out_.rep == 0xf3 ? Prefix::PF3 : Prefix::PF2;
  return has66_ ? Prefix::P66 : Prefix::None;
}

// Opcode bytes: map, opcode, space and effective prefix.
DecodeStatus Decoder::opcode() {
  u8 b = 0;
  if (!take<u8>(b)) return out_of_bytes();
  prefix_ = effective_prefix();
  if (b == 0x0f) {
    if (!take<u8>(b)) return out_of_bytes();
    out_.map = Map::M0F;
    if (b == 0x38 || b == 0x3a) {
      out_.map = b == 0x38 ? Map::M0F38 : Map::M0F3A;
      if (!take<u8>(b)) return out_of_bytes();
    }
  } else if (b == 0xc4 || b == 0xc5) {
    if (!more(1)) return out_of_bytes();
    if (is64_ || bytes_[at_] >= 0xc0) return vex(b == 0xc4);
  }
  out_.opcode = b;
  space_ = static_cast<unsigned>(out_.map);
  return DecodeStatus::Ok;
}

// SDM Vol. 2A, 2.3.
DecodeStatus Decoder::vex(bool three) {
  if (has66_ || out_.rep || out_.lock || out_.rex_present) return DecodeStatus::Undefined;
  u8 first = 0, last = 0;
  if (!take<u8>(first)) return out_of_bytes();
  unsigned map = 1;
  rxb_ = first & 0x80 ? 0 : kR;
  last = first;
  if (three) {
    rxb_ = static_cast<u8>((~first >> 5) & 7);
    map = first & 0x1f;
    if (map < 1 || map > 3) return DecodeStatus::Undefined;
    if (!take<u8>(last)) return out_of_bytes();
    out_.vex_w = last & 0x80;
    if (out_.vex_w) rxb_ |= kW;
  }
  if (!is64_) rxb_ = 0;
  out_.vex = true;
  out_.vvvv = static_cast<u8>((~last >> 3) & (is64_ ? 15 : 7));
  vvvv_used_ = (last & 0x78) != 0x78;  // all four bits count in every mode, although only three name a register
  out_.vex_l = last & 4;
  out_.vex_pp = last & 3;
  prefix_ = static_cast<Prefix>(out_.vex_pp);
  out_.map = static_cast<Map>(map);
  space_ = kVexSpace + map;
  return take<u8>(out_.opcode) ? DecodeStatus::Ok : out_of_bytes();
}

// Finds the row. False: undefined.
bool Decoder::select_row(const Slot& opcode_slot) {
  const Slot* slot = &opcode_slot;
  unsigned word = static_cast<unsigned>(((out_.modrm >> 3) & 7) << kCondRegShift) |
                  static_cast<unsigned>((out_.modrm & 7) << kCondRmShift);
  if (out_.mod == 3) word |= kCondMod3;
  if (out_.vex ? out_.vex_w : (rxb_ & kW) != 0) word |= kCondW;
  if (out_.vex_l) word |= kCondL;
  if (is64_) word |= kCond64;
  if (rxb_ & kB) word |= kCondRexB;
  if (vvvv_used_) word |= kCondVvvvUsed;
  if (slot->grouped) slot = &kGroups[slot->first + ((out_.modrm >> 3) & 7) + (out_.mod == 3 ? 8 : 0)];
  for (unsigned i = 0; i < slot->count; i++) {
    const u16 r = kCandidates[slot->first + i];
    if ((word & kDecodeRows[r].mask) != kDecodeRows[r].value) continue;
    info_ = &kDecodeRows[r];
    out_.row = &kFirstRow[r];
    if (out_.row->attr & kModIgnored) out_.mod = 3;
    return true;
  }
  return false;
}

void Decoder::operand_size() {
  const u32 attr = out_.row->attr;
  const bool prefix66 = has66_ && out_.row->pp != Pp::P66;
  out_.opsize_prefix = prefix66;
  if (attr & kModeSize)
    out_.opsize = is64_ ? 8 : 4;
  else if (is64_)
    out_.opsize = (rxb_ & kW) || (attr & kForce64) ? 8 : prefix66 ? 2 : (attr & kDef64) ? 8 : 4;
  else
    out_.opsize = out_.vex || is16_ == prefix66 ? 4 : 2;
}

bool Decoder::displacement(unsigned size) {
  switch (size) {
    case 0: return true;
    case 1: return take<i8>(out_.disp);
    case 2: return take<i16>(out_.disp);
    default: return take<i32>(out_.disp);
  }
}

// 16-bit addressing. SDM Vol. 2A, table 2-1.
bool Decoder::memory16() {
  static constexpr Reg kBase[] = {Reg::Rbx, Reg::Rbx, Reg::Rbp, Reg::Rbp, Reg::Rsi, Reg::Rdi, Reg::Rbp, Reg::Rbx};
  static constexpr Reg kIndex[] = {Reg::Rsi, Reg::Rdi, Reg::Rsi, Reg::Rdi};
  const unsigned rm = out_.modrm & 7;
  if (out_.mod == 0 && rm == 6) return displacement(2);
  out_.base = kBase[rm];
  if (rm < 4) out_.index = kIndex[rm];
  return displacement(out_.mod);
}

// 32- and 64-bit addressing. SDM Vol. 2A, tables 2-2 and 2-3.
bool Decoder::memory32() {
  const unsigned rm = out_.modrm & 7;
  const unsigned size = out_.mod == 1 ? 1 : out_.mod == 2 ? 4 : 0;
  if (rm != 4) {
    if (out_.mod == 0 && rm == 5) {
      out_.rip_relative = is64_;
      return displacement(4);
    }
    out_.base = static_cast<Reg>(out_.rm);
    return displacement(size);
  }
  u8 sib = 0;
  if (!take<u8>(sib)) return false;
  out_.scale = sib >> 6;
  const u8 index = static_cast<u8>(((sib >> 3) & 7) | (rxb_ & kX ? 8 : 0));
  if (index != 4 || (out_.row->attr & kVsib)) out_.index = static_cast<Reg>(index);
  if ((sib & 7) == 5 && out_.mod == 0) return displacement(4);
  out_.base = static_cast<Reg>((sib & 7) | (rxb_ & kB ? 8 : 0));
  return displacement(size);
}

bool Decoder::immediates(ImmKind kind) {
  switch (kind) {
    case ImmKind::None: return true;
    case ImmKind::U8: return take_imm<u8>();
    case ImmKind::S8:
    case ImmKind::RelB: return take_imm<u8>(true);
    case ImmKind::U16: return take_imm<u16>();
    case ImmKind::Z:
    case ImmKind::RelZ: return out_.opsize == 2 ? take_imm<u16>(true) : take_imm<u32>(true);
    case ImmKind::V: return out_.opsize == 2 ? take_imm<u16>() : out_.opsize == 4 ? take_imm<u32>() : take_imm<u64>();
    case ImmKind::Moffs:
      return out_.addrsize == 2   ? take<u16>(out_.disp)
             : out_.addrsize == 4 ? take<u32>(out_.disp)
                                  : take<u64>(out_.disp);
    case ImmKind::Far: return (out_.opsize == 2 ? take_imm<u16>() : take_imm<u32>()) && take<u16>(out_.imm2);
    case ImmKind::U16U8: return take_imm<u16>() && take<u8>(out_.imm2);
  }
  return false;
}

void Decoder::operand_widths() {
  const unsigned column = out_.opsize >> 2;  // 2, 4, 8 to 0, 1, 2
  for (unsigned i = 0; i < info_->operands; i++) {
    const Width w = out_.row->op[i].width;
    if (w == Width::Y)
      out_.op_bytes[i] = rxb_ & kW ? 8 : 4;
    else if (w == Width::X)
      out_.op_bytes[i] = out_.vex_l ? 32 : 16;
    else if (w == Width::Any)
      out_.op_bytes[i] = out_.row->mem_bytes;
    else
      out_.op_bytes[i] = kWidthBytes.bytes[static_cast<unsigned>(w)][column];
  }
}

// Stack segment for rBP and rSP as base, else DS. SDM Vol. 1, table 3-5.
void Decoder::default_segment() {
  if (out_.seg != Seg::None) return;
  if (out_.has_mem)
    out_.seg = out_.base == Reg::Rbp || out_.base == Reg::Rsp ? Seg::Ss : Seg::Ds;
  else if (info_->flags & kSegDs)
    out_.seg = Seg::Ds;
}

// What is undefined although a row matches: LOCK, registers that do not exist or must differ.
bool Decoder::legal() const {
  const IsaRow& row = *out_.row;
  if (out_.lock && !((row.attr & kLockable) && out_.has_mem)) return false;
  if (info_->flags & kCheckReg) {
    for (const Operand& op : row.op) {
      if (op.cls == RegClass::Control && !((1u << out_.reg) & 0x11d)) return false;  // CR0, 2, 3, 4, 8
      if (op.cls == RegClass::Debug && out_.reg > 7) return false;
      if (op.cls == RegClass::Segment && (out_.reg > 5 || (op.write && out_.reg == 1))) return false;
    }
  }
  // A gather's destination, index and mask are three registers. SDM Vol. 2C, VPGATHERDD.
  const u8 index = static_cast<u8>(out_.index);
  return !(row.attr & kVsib) || (out_.reg != index && out_.reg != out_.vvvv && index != out_.vvvv);
}

DecodeStatus Decoder::run() {
  if (!scan_prefixes()) return out_of_bytes();
  if (const DecodeStatus s = opcode(); s != DecodeStatus::Ok) return s;
  const unsigned opcode_index = space_ * 256 + out_.opcode;
  const Slot& slot = kSlots[slot_index(space_, out_.opcode, prefix_)];
  if (!slot.count && !slot.grouped) return DecodeStatus::Undefined;
  if ((kHasModRm[opcode_index / 64] >> (opcode_index % 64)) & 1) {
    if (!take<u8>(out_.modrm)) return out_of_bytes();
    out_.has_modrm = true;
    out_.mod = out_.modrm >> 6;
  }
  if (!select_row(slot)) return DecodeStatus::Undefined;
  operand_size();
  if (out_.has_modrm) {
    out_.reg = static_cast<u8>(((out_.modrm >> 3) & 7) | (rxb_ & kR && !(info_->flags & kReg3) ? 8 : 0));
    out_.rm = static_cast<u8>((out_.modrm & 7) | (rxb_ & kB && !(info_->flags & kRm3 && out_.mod == 3) ? 8 : 0));
    out_.has_mem = out_.mod != 3;
    // A gather's address has a SIB byte.
    if ((out_.row->attr & kVsib) && ((out_.modrm & 7) != 4 || out_.addrsize == 2)) return DecodeStatus::Undefined;
    if (out_.has_mem && !(out_.addrsize == 2 ? memory16() : memory32())) return out_of_bytes();
  }
  if (!immediates(info_->imm)) return out_of_bytes();
  default_segment();
  operand_widths();
  out_.length = static_cast<u8>(at_);
  return legal() ? DecodeStatus::Ok : DecodeStatus::Undefined;
}
}  // namespace

DecodeStatus decode(const u8* bytes, usize available, CodeSize size, Insn& out) {
  out = Insn{};
  return Decoder(bytes, available, size, out).run();
}
}  // namespace pangea::x86
