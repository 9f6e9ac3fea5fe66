#include "devices/irq/pic.h"

namespace pangea::devices {
namespace {
constexpr unsigned kCascade = 2;
// PIIX ELCR: IRQ 0, 1, 2, 8 and 13 are always edge-triggered.
constexpr u8 kMasterElcr = 0xf8, kSlaveElcr = 0xde;
}  // namespace

int Pic::Chip::best(u8 set) const {
  for (unsigned i = 1; i <= 8; ++i) {
    const unsigned pin = (lowest + i) & 7u;
    if ((set >> pin) & 1) return static_cast<int>(pin);
  }
  return -1;
}

int Pic::Chip::pending() const {
  const int want = best(request & static_cast<u8>(~mask));
  if (want < 0) return -1;
  u8 blocking = service;
  if (special_mask) blocking &= static_cast<u8>(~mask);  // a masked in-service level does not block (SMM)
  // Special fully nested: the slave may interrupt again while it is being served.
  if (fully_nested_special && is_master) blocking &= static_cast<u8>(~(1u << kCascade));
  const int current = best(blocking);
  if (current >= 0 && rank(static_cast<unsigned>(want)) >= rank(static_cast<unsigned>(current))) return -1;
  return want;
}

void Pic::Chip::accept(unsigned pin) {
  const u8 m = static_cast<u8>(1u << pin);
  if (auto_eoi) {
    if (rotate_on_auto_eoi) lowest = static_cast<u8>(pin);
  } else {
    service |= m;
  }
  if (!(level_triggered & m)) request &= static_cast<u8>(~m);
}

void Pic::Chip::end(unsigned pin) { service &= static_cast<u8>(~(1u << pin)); }

void Pic::Chip::set_line(unsigned pin, bool high) {
  const u8 m = static_cast<u8>(1u << pin);
  if (!high) {
    lines &= static_cast<u8>(~m);
    request &= static_cast<u8>(~m);  // a request that goes before INTA becomes spurious, edge or level
    return;
  }
  if ((level_triggered & m) || !(lines & m)) request |= m;
  lines |= m;
}

void Pic::Chip::init(u8 icw1) {
  // Edge detection starts afresh: a line must fall and rise again. Level requests come back with their lines.
  request = lines & level_triggered;
  service = 0;
  mask = 0;
  lowest = 7;
  special_mask = read_service = poll = auto_eoi = rotate_on_auto_eoi = fully_nested_special = false;
  needs_icw4 = icw1 & 1;
  single = icw1 & 2;
  expect_icw = 2;
}

void Pic::Chip::power_on() {
  init(0);
  expect_icw = 0;
  level_triggered = 0;
  vector_base = 0;
  request = 0;
  needs_icw4 = single = false;
}

void Pic::Chip::command(u8 v) {
  if (v & 0x10) return init(v);
  if (v & 0x08) {  // OCW3
    poll = v & 4;
    if (v & 2) read_service = v & 1;
    if (v & 0x40) special_mask = v & 0x20;
    return;
  }
  const unsigned pin = v & 7;  // OCW2: R SL EOI 0 0 L2-L0
  const int current = best(service);
  switch (v >> 5) {
    case 0: rotate_on_auto_eoi = false; break;
    case 4: rotate_on_auto_eoi = true; break;
    case 1:  // non-specific EOI
      if (current >= 0) end(static_cast<unsigned>(current));
      break;
    case 5:  // rotate on non-specific EOI
      if (current >= 0) {
        end(static_cast<unsigned>(current));
        lowest = static_cast<u8>(current);
      }
      break;
    case 3: end(pin); break;
    case 7:
      end(pin);
      lowest = static_cast<u8>(pin);
      break;
    case 6: lowest = static_cast<u8>(pin); break;
    default: break;  // 2: no operation
  }
}

void Pic::Chip::data(u8 v) {
  switch (expect_icw) {
    case 0: mask = v; return;  // OCW1
    case 2:
      vector_base = v & 0xf8;
      expect_icw = single ? (needs_icw4 ? 4 : 0) : 3;
      return;
    case 3:  // cascade wiring is fixed on a PC
      expect_icw = needs_icw4 ? 4 : 0;
      return;
    default:
      fully_nested_special = v & 0x10;
      auto_eoi = v & 2;
      expect_icw = 0;
      return;
  }
}

Pic::Pic(IrqLine& intr) : intr_(intr) {
  for (unsigned n = 0; n < kPins; ++n) {
    lines_[n].owner = this;
    lines_[n].n = n;
  }
  master_.is_master = true;
  master_.elcr_writable = kMasterElcr;
  slave_.elcr_writable = kSlaveElcr;
  reset();
}

void Pic::reset() {
  master_.power_on();
  slave_.power_on();
  update();
}

void Pic::update() {
  master_.set_line(kCascade, slave_.pending() >= 0);
  intr_.set_level(master_.pending() >= 0);
}

void Pic::set_pin(unsigned n, bool high) {
  if (n == kCascade) return;
  (n < 8 ? master_ : slave_).set_line(n & 7, high);
  update();
}

u8 Pic::acknowledge() {
  u8 vector = 0;
  const int pin = master_.pending();
  if (pin < 0) {
    vector = master_.vector_base + 7;
  } else if (pin == static_cast<int>(kCascade)) {
    const int second = slave_.pending();
    master_.accept(kCascade);
    if (second < 0) {
      vector = slave_.vector_base + 7;
    } else {
      slave_.accept(static_cast<unsigned>(second));
      vector = static_cast<u8>(slave_.vector_base + second);
    }
  } else {
    master_.accept(static_cast<unsigned>(pin));
    vector = static_cast<u8>(master_.vector_base + pin);
  }
  // The slave's INT drops during INTA and rises if it has another request: an edge for the master.
  if (pin == static_cast<int>(kCascade)) master_.set_line(kCascade, false);
  update();
  return vector;
}

u8 Pic::read_chip(Chip& c, bool data) {
  if (c.poll) {  // a poll is an INTA cycle (8259A, "Poll command")
    c.poll = false;
    const int pin = c.pending();
    if (pin < 0) return 0;
    c.accept(static_cast<unsigned>(pin));
    if (!c.is_master) master_.set_line(kCascade, false);
    update();
    return static_cast<u8>(0x80 | pin);
  }
  if (data) return c.mask;
  return c.read_service ? c.service : c.request;
}

u64 Pic::read(u64 offset, unsigned) {
  switch (offset) {
    case kMaster:
    case kMaster + 1: return read_chip(master_, offset & 1);
    case kSlave:
    case kSlave + 1: return read_chip(slave_, offset & 1);
    case kElcr: return master_.level_triggered;
    case kElcr + 1: return slave_.level_triggered;
    default: return 0xff;
  }
}

void Pic::write(u64 offset, unsigned, u64 value) {
  const u8 v = static_cast<u8>(value);
  switch (offset) {
    case kMaster: master_.command(v); break;
    case kMaster + 1: master_.data(v); break;
    case kSlave: slave_.command(v); break;
    case kSlave + 1: slave_.data(v); break;
    case kElcr: master_.level_triggered = v & master_.elcr_writable; break;
    case kElcr + 1: slave_.level_triggered = v & slave_.elcr_writable; break;
    default: return;
  }
  update();
}

}  // namespace pangea::devices
