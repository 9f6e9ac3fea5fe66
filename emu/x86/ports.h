// What a vCPU asks of the world outside the processor core, and what that world may tell a vCPU.
// emu/machine binds these to devices, clocks and other nodes; a recorder can wrap each of them (DESIGN invariant 5).
#pragma once
#include "emu/base/types.h"
#include "emu/mem/address.h"

namespace pangea::x86 {

/// The vCPU's local APIC, as its own vCPU sees it. Called on the vCPU's thread only.
/// Source: SDM Vol. 3A ch. 11 (APIC).
class LocalApicPort {
 public:
  virtual ~LocalApicPort() = default;
  /// Highest-priority fixed interrupt above PPR, or -1. Does not change state. Includes ExtINT from the 8259 when LINT0
  /// admits it.
  virtual int pending_vector() = 0;
  /// Accepts the interrupt that pending_vector() reports (IRR -> ISR, or INTA cycle to the 8259). Returns its vector,
  /// or -1.
  virtual int acknowledge() = 0;
  /// MSRs 0x1B (IA32_APIC_BASE), 0x6E0 (IA32_TSC_DEADLINE) and 0x800-0x8FF (x2APIC). False: #GP(0).
  virtual bool read_msr(u32 msr, u64& value) = 0;
  virtual bool write_msr(u32 msr, u64 value) = 0;
  /// Task priority class, CR8[3:0].
  virtual u8 cr8() = 0;
  virtual void set_cr8(u8 value) = 0;
  /// Resets as INIT does (keeps APIC id and base) or as power-on does.
  virtual void reset(bool power_on) = 0;
};

/// Asynchronous events for one vCPU; any thread may raise them. Bits accumulate until the vCPU takes them.
enum class VcpuEvent : u32 {
  Interrupt = 1u << 0,  // pending_vector() may have changed: look
  Nmi = 1u << 1,
  Init = 1u << 2,
  Sipi = 1u << 3,  // start-up vector given with raise_sipi()
  Smi = 1u << 4,
  NextNmi = 1u << 5,  // raised by Nmi when one waits already
};
class VcpuSignals {
 public:
  virtual ~VcpuSignals() = default;
  virtual void raise(VcpuEvent event) = 0;
  virtual void raise_sipi(u8 vector) = 0;
};

/// Port and memory-mapped I/O as issued by a vCPU. May block while another node answers; the caller must be parked.
/// Sizes: 1, 2, 4 bytes for ports; 1, 2, 4, 8 for memory. Unclaimed reads give all ones, unclaimed writes vanish.
class IoPort {
 public:
  virtual ~IoPort() = default;
  virtual u32 pio_read(u16 port, unsigned size) = 0;
  virtual void pio_write(u16 port, unsigned size, u32 value) = 0;
  virtual u64 mmio_read(Gpa gpa, unsigned size) = 0;
  virtual void mmio_write(Gpa gpa, unsigned size, u64 value) = 0;
};

/// The pins FERR# and IGNNE#, by which a PC reports x87 errors while CR0.NE is 0; true: asserted. Called on the vCPU's
/// thread, set_ferr() parked. SDM Vol. 1, 8.7.2 and D.2.1.
class FpuErrorPort {
 public:
  virtual ~FpuErrorPort() = default;
  virtual void set_ferr(bool asserted) = 0;
  virtual bool ignne() = 0;
};

/// The machine's invariant TSC. Unit: ticks at frequency_hz(). Never decreases on one vCPU nor along a message.
class TscPort {
 public:
  virtual ~TscPort() = default;
  virtual u64 now() = 0;
  virtual u64 frequency_hz() = 0;
};
}  // namespace pangea::x86
