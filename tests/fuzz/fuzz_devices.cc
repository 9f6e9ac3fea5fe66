// Every device's registers and the board around them: the input is a list of accesses, passing time and host input.
#include <cstdio>
#include <cstdlib>

#include "devices/test_board.h"
#include "tests/fuzz/input.h"

namespace {
using namespace pangea;
using namespace pangea::devices;
using namespace pangea::devices::testing;

void world(Board& b, fuzz::Input& in) {
  switch (in.below(8)) {
    case 0: b.apic.time.advance(in.get<u32>() % (5 * kMs)); break;
    case 1: b.apic.time.jump(in.get<u32>() % kSecond); break;
    case 2:
      for (int i = 0; i < 8 && b.apic.apic().acknowledge() >= 0; ++i) b.apic.set(0xb0, 0);
      break;
    case 3: {
      const u8 byte = in.get<u8>();
      if (b.uart.room()) b.uart.receive({&byte, 1});
      break;
    }
    case 4: b.host.appetite = in.below(20); break;
    case 5: b.uart.writable(); break;
    case 6: b.kbc.key(in.get<u8>()); break;
    default: b.wire->rise(); break;
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  fuzz::Input in(data, size);
  Board b;
  for (int steps = 0; !in.done() && steps < 2000; ++steps) {
    const u8 what = in.get<u8>();
    if (what >= 0xf0) {
      world(b, in);
      continue;
    }
    Row& r = b.rows[what % b.rows.size()];
    const u8 how = in.get<u8>();  // bit 0: write; 1..2: size; 3..5: window; 6: anywhere
    const unsigned bytes = 1u << (how >> 1 & 3);
    const Window w = r.windows[(how >> 3 & 7) % r.windows.size()];
    const u64 offset = how & 0x40 ? in.get<u64>() : w.first + in.get<u16>() % w.count;
    r.device->budget().refill();
    if (how & 1)
      r.device->write(offset, bytes, bytes == 8 ? in.get<u64>() : bytes == 1 ? in.get<u8>() : in.get<u32>());
    else
      (void)r.device->read(offset, bytes);
    if (b.host.out.size() > 100000) b.host.out.clear();
  }
  return 0;
}
