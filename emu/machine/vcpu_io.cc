#include "emu/machine/vcpu_io.h"

namespace pangea::machine {
class VcpuIo::Busy {
 public:
  Busy(VcpuIo& io, u64 at) : io_(io) { io_.busy_at_.store(at, std::memory_order_relaxed); }
  ~Busy() { io_.busy_at_.store(~u64{0}, std::memory_order_relaxed); }

 private:
  VcpuIo& io_;
};

u32 VcpuIo::pio_read(u16 port, unsigned size) {
  const Busy busy(*this, port);
  return board_.pio_read(port, size);
}

void VcpuIo::pio_write(u16 port, unsigned size, u32 value) {
  const Busy busy(*this, port);
  board_.pio_write(port, size, value);
  if (control_.standstill() && stop_) stop_();
}

u64 VcpuIo::mmio_read(Gpa gpa, unsigned size) {
  if (apic_.maps(gpa)) return apic_.mmio_read(static_cast<u32>(gpa.v & kPageMask), size);
  const Busy busy(*this, gpa.v);
  return board_.mmio_read(gpa, size);
}

void VcpuIo::mmio_write(Gpa gpa, unsigned size, u64 value) {
  if (apic_.maps(gpa)) return apic_.mmio_write(static_cast<u32>(gpa.v & kPageMask), size, value);
  const Busy busy(*this, gpa.v);
  board_.mmio_write(gpa, size, value);
}
}  // namespace pangea::machine
