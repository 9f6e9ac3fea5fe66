#include "devices/misc/i8042.h"

#include "emu/base/log.h"

namespace pangea::devices {
namespace {
// Status
constexpr u8 kOutputFull = 0x01, kSystemFlag = 0x04, kLastWasCommand = 0x08, kUnlocked = 0x10;
// Command byte
constexpr u8 kIrq1Enable = 0x01, kCommandSystem = 0x04, kKeyboardOff = 0x10, kMouseOff = 0x20, kTranslate = 0x40;
// Output port
constexpr u8 kPortNotReset = 0x01, kPortA20 = 0x02;

constexpr u8 kAck = 0xfa;
}  // namespace

void I8042::reset() {
  first_ = count_ = 0;
  ram_ = {};
  ram_[0] = kIrq1Enable | kCommandSystem | kMouseOff | kTranslate;  // as firmware leaves it
  output_port_ = kPortNotReset | kPortA20;
  last_data_ = 0;
  pending_command_ = pending_keyboard_ = 0;
  last_write_was_command_ = false;
  scanning_ = true;
  update_irq();
}

void I8042::update_irq() { irq1_.set_level(count_ && (ram_[0] & kIrq1Enable)); }

void I8042::queue(u8 v) {
  if (count_ == kQueue) return;  // a full queue drops, as the part does after its overrun code
  out_[(first_ + count_++) % kQueue] = v;
  update_irq();
}

bool I8042::key(u8 scan_code) {
  if (!scanning_ || (ram_[0] & kKeyboardOff) || count_ == kQueue) return false;
  queue(scan_code);
  return true;
}

void I8042::command(u8 c) {
  pending_command_ = 0;
  if (c >= 0x20 && c < 0x40) return queue(ram_[c & 0x1f]);
  if (c >= 0xf0) {  // pulse output port bits that are 0 in the low nibble; bit 0 is the processor's reset
    if (!(c & 1)) machine_.reset_machine("i8042");
    return;
  }
  switch (c) {
    case 0xa7: ram_[0] |= kMouseOff; break;
    case 0xa8: ram_[0] &= static_cast<u8>(~kMouseOff); break;
    case 0xa9: queue(0x01); break;  // mouse port test: clock line stuck low, that is no mouse port
    case 0xaa:
      ram_[0] |= kCommandSystem;
      queue(0x55);
      break;
    case 0xab: queue(0x00); break;
    case 0xad: ram_[0] |= kKeyboardOff; break;
    case 0xae: ram_[0] &= static_cast<u8>(~kKeyboardOff); break;
    case 0xc0: queue(0x80); break;  // input port: keyboard not locked
    case 0xd0: queue(output_port_); break;
    case 0xd1:
    case 0xd2:
    case 0xd3:
    case 0xd4: pending_command_ = c; break;
    case 0xdd: machine_.set_a20(false); break;
    case 0xdf: machine_.set_a20(true); break;
    default:
      if (c >= 0x60 && c < 0x80)
        pending_command_ = c;
      else
        PANGEA_LOG(guest_errors, "i8042: unknown command {:#x}", c);
  }
}

void I8042::data(u8 v) {
  const u8 c = pending_command_;
  pending_command_ = 0;
  if (c >= 0x60 && c < 0x80) {
    ram_[c & 0x1f] = v;
    return update_irq();
  }
  switch (c) {
    case 0xd1:
      if ((v ^ output_port_) & kPortA20) machine_.set_a20(v & kPortA20);
      output_port_ = v;
      if (!(v & kPortNotReset)) machine_.reset_machine("i8042");
      return;
    case 0xd2: return queue(v);
    case 0xd3: return queue(0x00);  // mouse loopback: an answer, so that nobody waits, and not the byte that was sent
    case 0xd4: return queue(0xfe);  // to the mouse: resend
    default: return to_keyboard(v);
  }
}

void I8042::to_keyboard(u8 v) {
  if (pending_keyboard_) {  // argument of 0xed, 0xf0, 0xf3
    const u8 c = pending_keyboard_;
    pending_keyboard_ = 0;
    queue(kAck);
    if (c == 0xf0 && v == 0) queue(0x02);  // which scan code set: 2
    return;
  }
  switch (v) {
    case 0xed:  // LEDs
    case 0xf0:  // scan code set
    case 0xf3:  // typematic rate
      pending_keyboard_ = v;
      return queue(kAck);
    case 0xee: return queue(0xee);  // echo
    case 0xf2:                      // identify: MF2 keyboard, translated as the controller would
      queue(kAck);
      queue(0xab);
      return queue(ram_[0] & kTranslate ? 0x41 : 0x83);
    case 0xf4: scanning_ = true; return queue(kAck);
    case 0xf5:
    case 0xf6: scanning_ = v == 0xf6; return queue(kAck);
    case 0xff:  // reset and self-test
      scanning_ = true;
      queue(kAck);
      return queue(0xaa);
    default: return queue(0xfe);
  }
}

u64 I8042::read(u64 offset, unsigned) {
  if (offset == 4)
    return u64{kUnlocked} | (count_ ? kOutputFull : 0) | (ram_[0] & kCommandSystem ? kSystemFlag : 0) |
           (last_write_was_command_ ? kLastWasCommand : 0);
  if (offset != 0) return 0xff;
  if (count_) {
    last_data_ = out_[first_];
    first_ = (first_ + 1) % kQueue;
    --count_;
    irq1_.set_level(false);  // each byte is an edge of its own
    update_irq();
  }
  return last_data_;
}

void I8042::write(u64 offset, unsigned, u64 value) {
  const u8 v = static_cast<u8>(value);
  if (offset == 4) {
    last_write_was_command_ = true;
    command(v);
  } else if (offset == 0) {
    last_write_was_command_ = false;
    data(v);
  }
}

}  // namespace pangea::devices
