// The floating-point state as instructions that move it whole see it.
//
// x87 instructions run on the host, so the host's last-instruction pointers (FIP, FDP, FOP) speak of generated code.
// They would leak host addresses into guest memory and differ from run to run; the guest always reads them as zero, as
// it reads FCS and FDS (CPUID 7.0:EBX[13]).
#pragma once
#include <cstring>

#include "emu/x86/exec/operand.h"

namespace pangea::x86 {
inline constexpr u32 kMxcsrInit = 0x1f80, kMxcsrMask = 0xffff, kMxcsrReserved = ~kMxcsrMask;
inline constexpr u16 kFcwInit = 0x37f, kFswErrorSummary = 0x8080, kFcwMasks = 0x3f;

/// A range of guest memory that has been checked whole; then parts of it move without failing.
class Area {
 public:
  explicit Area(Vcpu& c) : c_(c) {}
  Outcome open(u64 gva, unsigned size, Intent intent) { return resolve(c_, gva, size, intent, false, span_); }
  /// Writes `n` bytes at `offset`. In MMIO, each part is an access of its own.
  void put(unsigned offset, const void* data, unsigned n) {
    const u8* from = static_cast<const u8*>(data);
    for (unsigned i = 0, start = 0; i < span_.parts; start += span_.bytes[i++]) {
      const unsigned lo = offset > start ? offset : start;
      const unsigned end = offset + n, part_end = start + span_.bytes[i];
      const unsigned hi = end < part_end ? end : part_end;
      if (lo >= hi) continue;
      if (span_.part[i].mmio)
        mmio_write(c_, span_.part[i].gpa + (lo - start), from + (lo - offset), hi - lo);
      else
        std::memcpy(span_.part[i].host + (lo - start), from + (lo - offset), hi - lo);
    }
    note(offset, n, true);
  }
  /// Reads all of it.
  Outcome get(void* out) { return load(c_, span_, out); }

 private:
  void note(unsigned offset, unsigned n, bool write) {
    if (c_.state().mode & Mode::kBreakpoints) note_data_breakpoints(c_.state(), span_.gva + offset, n, write);
  }
  Vcpu& c_;
  Span span_;
};

/// Error summary and busy follow from what is flagged and not masked.
inline void settle_fsw(FpuState& f) {
  if (f.fsw & ~f.fcw & kFcwMasks)
    f.fsw = static_cast<u16>(f.fsw | kFswErrorSummary);
  else
    f.fsw = static_cast<u16>(f.fsw & ~kFswErrorSummary);
}
inline bool pending_x87_error(const FpuState& f) { return f.fsw & 0x80; }
/// Reserved bits of the control word: bit 6 reads as one, the others as zero.
constexpr u16 legal_fcw(u16 v) { return static_cast<u16>((v & 0x1f3f) | 0x40); }
/// XMM registers that the mode can name.
inline unsigned xmm_count(const VcpuState& s) { return in_64bit_mode(s) ? 16 : 8; }

/// Bytes 24..31 of an FXSAVE image. The mask is the machine's: FpuState may have the host's, where AMD's processors add
/// bit 17 (misaligned SSE), which is reserved here.
struct MxcsrField {
  u32 mxcsr, mask = kMxcsrMask;
};
inline MxcsrField mxcsr_field(const FpuState& f) { return {f.mxcsr}; }

/// The x87 part of an FXSAVE image, bytes 0..23, pointers zero.
struct X87Header {
  u16 fcw, fsw;
  u8 ftw, zero;
  u16 fop;
  u64 fip, fdp;
};
static_assert(sizeof(X87Header) == 24);
inline X87Header x87_header(const FpuState& f) { return {f.fcw, f.fsw, f.ftw, 0, 0, 0, 0}; }
inline void load_x87(FpuState& f, const u8* image) {
  X87Header h;
  std::memcpy(&h, image, sizeof h);
  f.fcw = legal_fcw(h.fcw);
  f.fsw = h.fsw;
  f.ftw = h.ftw;
  f.fop = 0;
  f.fip = f.fdp = 0;
  for (unsigned i = 0; i < 8; ++i) {
    std::memcpy(f.st[i], image + 32 + 16 * i, 10);
    std::memset(f.st[i] + 10, 0, 6);
  }
  settle_fsw(f);
}
inline void init_x87_control(FpuState& f) {
  f.fcw = kFcwInit;
  f.fsw = 0;
  f.ftw = 0;
  f.fop = 0;
  f.fip = f.fdp = 0;
}
}  // namespace pangea::x86
