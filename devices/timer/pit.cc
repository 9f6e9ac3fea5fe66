#include "devices/timer/pit.h"

#include <algorithm>

#include "devices/timer/rate.h"

namespace pangea::devices {
namespace {
constexpr u64 kNeverTicks = ~u64{0};
constexpr u64 kRefreshToggleNs = 15'085;  // port 61h bit 4
// A faster output would only keep the device thread from other work; nobody could serve it.
constexpr u64 kShortestGapNs = 20'000;

u16 to_bcd(u32 v) {
  v %= 10000;
  return static_cast<u16>((v / 1000) << 12 | (v / 100 % 10) << 8 | (v / 10 % 10) << 4 | v % 10);
}
u32 from_bcd(u16 v) { return (v >> 12) * 1000u + ((v >> 8) & 15) * 100u + ((v >> 4) & 15) * 10u + (v & 15); }

bool needs_trigger(u8 mode) { return mode == 1 || mode == 5; }
bool gate_pauses(u8 mode) { return mode == 0 || mode == 4; }
}  // namespace

u64 Pit::Channel::elapsed(u64 now) const {
  if (gate_pauses(mode) && !gate) return frozen_ticks;
  return ticks_in(now - std::min(now, start_ns), kPitHz);
}

u16 Pit::Channel::count(u64 now) const {
  const u32 modulus = bcd ? 10000 : 0x10000;
  u64 left = reload;
  if (counting) {
    const u64 d = elapsed(now);
    switch (mode) {
      case 2: left = reload - d % reload; break;
      case 3: left = reload - (2 * d) % reload; break;
      default: left = (reload + modulus - d % modulus) % modulus; break;  // goes on below zero
    }
    if ((mode == 2 || mode == 3) && !gate) left = reload;
  }
  return bcd ? to_bcd(static_cast<u32>(left)) : static_cast<u16>(left);
}

bool Pit::Channel::out(u64 now) const {
  if (!counting) return mode != 0;
  const u64 d = elapsed(now);
  switch (mode) {
    case 0: return d >= reload;
    case 1: return d >= reload;
    case 2: return !gate || d % reload != reload - 1;
    case 3: return !gate || d % reload < (reload + 1) / 2;
    default: return d != reload;  // 4 and 5: one low tick
  }
}

u64 Pit::Channel::rising_edges(u64 d) const {
  switch (mode) {
    case 0: return d >= reload;
    case 2:
    case 3: return d / reload;
    case 4: return d > reload;
    default: return 0;  // channel 0's gate never rises
  }
}

u64 Pit::Channel::next_change(u64 d) const {
  const u64 period = d / reload;
  switch (mode) {
    case 0: return d < reload ? reload : kNeverTicks;
    case 2: return (period + 1) * reload;
    case 3: {
      const u64 fall = period * reload + (reload + 1) / 2;
      return d < fall ? fall : (period + 1) * reload;
    }
    case 4: return d <= reload ? reload + u64{1} : kNeverTicks;
    default: return kNeverTicks;
  }
}

// Real parts take a new count in modes 2 and 3 at the end of the running period; here it counts at once.
void Pit::Channel::load(u16 value, u64 now) {
  u32 n = bcd ? from_bcd(value) : value;
  if (n == 0) n = bcd ? 10000 : 0x10000;
  if (mode == 3 && n == 1) n = bcd ? 10001 : 0x10001;  // 1 is illegal in mode 3; behaves as the largest odd count
  reload = std::min(n, u32{0x10000});
  null_count = false;
  if (needs_trigger(mode)) return;  // starts with the gate
  counting = true;
  start_ns = now;
  frozen_ticks = 0;
}

void Pit::Channel::set_gate(bool level, u64 now) {
  if (level == gate) return;
  if (!level && gate_pauses(mode)) frozen_ticks = counting ? elapsed(now) : 0;
  gate = level;
  if (!level) return;
  if (gate_pauses(mode))
    start_ns = now - std::min(now, ns_for(frozen_ticks, kPitHz));
  else
    start_ns = now;
  if (needs_trigger(mode) && !null_count) counting = true;
}

void Pit::Channel::latch_count(u64 now) {
  if (latched_bytes) return;  // a second latch before the first is read is ignored
  latch = count(now);
  latched_bytes = rw == RwMode::LowHigh ? 2 : 1;
}

u8 Pit::Channel::status_byte(u64 now) const {
  return static_cast<u8>(out(now) << 7 | null_count << 6 | static_cast<u8>(rw) << 4 | mode << 1 | bcd);
}

Pit::Pit(TimerQueue& timers, IrqLine& irq0)
    : timers_(timers), irq0_(irq0), timer_(timers, [this](u64 now) { on_timer(now); }) {
  reset();
}

void Pit::reset() {
  ch_ = {};
  ch_[2].gate = false;
  speaker_data_ = false;
  irq_enabled_ = true;
  restart_irq(timers_.now_ns());
}

void Pit::set_irq_enabled(bool enabled) {
  irq_enabled_ = enabled;
  if (!enabled) irq0_.set_level(false);
}

void Pit::control(u8 v, u64 now) {
  const unsigned select = v >> 6;
  if (select == 3) {  // read-back
    for (unsigned i = 0; i < 3; ++i) {
      if (!(v & (2u << i))) continue;
      if (!(v & 0x20)) ch_[i].latch_count(now);
      if (!(v & 0x10) && !ch_[i].status_latched) {
        ch_[i].status = ch_[i].status_byte(now);
        ch_[i].status_latched = true;
      }
    }
    return;
  }
  Channel& c = ch_[select];
  const RwMode rw = static_cast<RwMode>((v >> 4) & 3);
  if (rw == RwMode::Latch) return c.latch_count(now);
  c.rw = rw;
  c.mode = (v >> 1) & 7;
  if (c.mode > 5) c.mode = static_cast<u8>(c.mode - 4);  // 6 and 7 are 2 and 3
  c.bcd = v & 1;
  c.counting = false;
  c.null_count = true;
  c.write_high_next = c.read_high_next = false;
  c.latched_bytes = 0;
  c.status_latched = false;
  if (select == 0) restart_irq(now);
}

u8 Pit::read_counter(Channel& c, u64 now) {
  if (c.status_latched) {
    c.status_latched = false;
    return c.status;
  }
  const bool latched = c.latched_bytes != 0;
  const u16 v = latched ? c.latch : c.count(now);
  if (latched) --c.latched_bytes;
  switch (c.rw) {
    case RwMode::Low: return static_cast<u8>(v);
    case RwMode::High: return static_cast<u8>(v >> 8);
    default: break;
  }
  c.read_high_next = !c.read_high_next;
  return static_cast<u8>(c.read_high_next ? v : v >> 8);
}

void Pit::write_counter(Channel& c, u8 v, u64 now) {
  switch (c.rw) {
    case RwMode::Low: c.load(v, now); break;
    case RwMode::High: c.load(static_cast<u16>(v << 8), now); break;
    default:
      c.write_high_next = !c.write_high_next;
      if (c.write_high_next) {
        c.write_low = v;
        if (c.mode == 0) c.counting = false;  // the first byte stops mode 0
      } else {
        c.load(static_cast<u16>(v << 8 | c.write_low), now);
      }
  }
  if (&c == &ch_[0]) restart_irq(now);
}

void Pit::restart_irq(u64 now) {
  edges_seen_ = 0;
  if (irq_enabled_) irq0_.set_level(ch_[0].out(now));
  arm(now);
}

void Pit::arm(u64 now) {
  const Channel& c = ch_[0];
  const u64 next = c.counting ? c.next_change(c.elapsed(now)) : kNeverTicks;
  timer_.arm(next == kNeverTicks ? TimerQueue::kNever : add_sat(c.start_ns, ns_for(next, kPitHz)));
}

void Pit::on_timer(u64 now) {
  const Channel& c = ch_[0];
  if (!c.counting) return;
  const u64 edges = c.rising_edges(c.elapsed(now));
  if (irq_enabled_) {
    if (edges > edges_seen_) irq0_.rise();
    // Mode 2's low pulse of one tick is not worth a timer of its own; rise() made the edge.
    if (c.mode != 2) irq0_.set_level(c.out(now));
  }
  edges_seen_ = edges;
  arm(now);
  if (const u64 soonest = add_sat(now, kShortestGapNs); timer_.deadline_ns() < soonest) timer_.arm(soonest);
}

u64 Pit::read(u64 offset, unsigned) {
  const u64 now = timers_.now_ns();
  if (offset < 3) return read_counter(ch_[offset], now);
  if (offset == kPort61) {
    const u64 refresh = (now / kRefreshToggleNs) & 1;
    return u64{ch_[2].gate} | u64{speaker_data_} << 1 | refresh << 4 | u64{ch_[2].out(now)} << 5;
  }
  return 0xff;
}

void Pit::write(u64 offset, unsigned, u64 value) {
  const u64 now = timers_.now_ns();
  const u8 v = static_cast<u8>(value);
  if (offset < 3) {
    write_counter(ch_[offset], v, now);
  } else if (offset == 3) {
    control(v, now);
  } else if (offset == kPort61) {
    speaker_data_ = v & 2;
    ch_[2].set_gate(v & 1, now);
  }
}

}  // namespace pangea::devices
