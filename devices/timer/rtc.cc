#include "devices/timer/rtc.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "devices/timer/rate.h"

namespace pangea::devices {
namespace {
enum Reg : u8 {
  kSecond,
  kSecondAlarm,
  kMinute,
  kMinuteAlarm,
  kHour,
  kHourAlarm,
  kWeekday,
  kDay,
  kMonth,
  kYear,
  kA,
  kB,
  kC,
  kD,
  kCentury = 0x32
};
constexpr u8 kUip = 0x80;
constexpr u8 kSet = 0x80, kPie = 0x40, kAie = 0x20, kUie = 0x10, kBinary = 0x04, k24h = 0x02;
constexpr u8 kIrqf = 0x80, kPf = 0x40, kAf = 0x20, kUf = 0x10;
constexpr u64 kUipNs = 244'000;  // the datasheet's warning before an update
constexpr u64 kDaySeconds = 86400;

bool is_time(u8 r) {
  return r == kSecond || r == kMinute || r == kHour || (r >= kWeekday && r <= kYear) || r == kCentury;
}
}  // namespace

Rtc::Rtc(TimerQueue& timers, WallClock& wall, IrqLine& irq8)
    : timers_(timers), irq8_(irq8), timer_(timers, [this](u64 now) {
        catch_up(now);
        arm(now);
      }) {
  base_ns_ = wall.unix_seconds() * kNsPerSecond;
  started_ns_ = timers_.now_ns();
  seen_ns_ = base_ns_;
  ram_[kA] = 0x26;
  ram_[kB] = k24h;
  ram_[0x14] = 0x02;  // equipment: coprocessor
  reset();
}

void Rtc::reset() {
  const u64 now = timers_.now_ns();
  if (ram_[kB] & kSet) thaw(now);
  ram_[kB] = static_cast<u8>(ram_[kB] & ~(kSet | kPie | kAie | kUie | 0x08));
  ram_[kC] = 0;
  index_ = 0;
  irq_enabled_ = true;
  seen_ns_ = rtc_ns(now);
  update_irq();
  arm(now);
}

void Rtc::set_ram(u8 index, u8 value) {
  if (index > kD && index < 128 && index != kCentury) ram_[index] = value;
}

void Rtc::set_machine(u64 below_4g, u64 above_4g, unsigned vcpus) {
  constexpr u64 kKiB = 1024, kMiB = 1024 * kKiB, k64K = 64 * kKiB;
  const auto put = [this](u8 at, u64 v, unsigned bytes) {
    for (unsigned i = 0; i < bytes; ++i) set_ram(static_cast<u8>(at + i), static_cast<u8>(v >> (8 * i)));
  };
  put(0x15, 640, 2);
  const u64 extended = below_4g > kMiB ? std::min<u64>((below_4g - kMiB) / kKiB, 0xffff) : 0;
  put(0x17, extended, 2);
  put(0x30, extended, 2);
  put(0x34, below_4g > 16 * kMiB ? std::min<u64>((below_4g - 16 * kMiB) / k64K, 0xffff) : 0, 2);
  put(0x5b, above_4g / k64K, 3);
  put(0x5f, vcpus ? vcpus - 1 : 0, 1);
}

void Rtc::set_irq_enabled(bool enabled) {
  irq_enabled_ = enabled;
  update_irq();
}

// The divider must select the 32.768 kHz crystal (A[6:4] = 010), and SET must be clear, for time to pass.
bool Rtc::running() const { return (ram_[kA] & 0x70) == 0x20 && !(ram_[kB] & kSet); }

u64 Rtc::periodic_ns() const {
  unsigned rate = ram_[kA] & 0xf;
  if (rate == 0 || (ram_[kA] & 0x70) != 0x20) return 0;
  if (rate < 3) rate += 7;
  return ns_for(u64{1} << (rate - 1), 32768);
}

Rtc::Calendar Rtc::calendar(u64 now) const {
  using namespace std::chrono;
  const u64 s = rtc_ns(now) / kNsPerSecond;
  const sys_days days{std::chrono::days{static_cast<int>(s / kDaySeconds)}};
  const year_month_day d{days};
  const u64 in_day = s % kDaySeconds;
  return {.second = static_cast<unsigned>(in_day % 60),
          .minute = static_cast<unsigned>(in_day / 60 % 60),
          .hour = static_cast<unsigned>(in_day / 3600),
          .weekday = weekday{days}.c_encoding() + 1,
          .day = static_cast<unsigned>(d.day()),
          .month = static_cast<unsigned>(d.month()),
          .year = static_cast<unsigned>(static_cast<int>(d.year()))};
}

u8 Rtc::encode(unsigned v, bool hour) const {
  u8 pm = 0;
  if (hour && !(ram_[kB] & k24h)) {
    pm = v >= 12 ? 0x80 : 0;
    v = v % 12 ? v % 12 : 12;
  }
  return static_cast<u8>(pm | (ram_[kB] & kBinary ? v : (v / 10) << 4 | v % 10));
}

unsigned Rtc::decode(u8 v, bool hour) const {
  const bool twelve = hour && !(ram_[kB] & k24h);
  const bool pm = twelve && (v & 0x80);
  if (twelve) v &= 0x7f;
  unsigned n = ram_[kB] & kBinary ? v : (v >> 4) * 10u + (v & 15);
  if (twelve) n = n % 12 + (pm ? 12 : 0);
  return n;
}

u8 Rtc::time_register(u8 index, u64 now) const {
  if (!running()) return ram_[index];
  const Calendar c = calendar(now);
  switch (index) {
    case kSecond: return encode(c.second, false);
    case kMinute: return encode(c.minute, false);
    case kHour: return encode(c.hour, true);
    case kWeekday: return encode(c.weekday, false);
    case kDay: return encode(c.day, false);
    case kMonth: return encode(c.month, false);
    case kYear: return encode(c.year % 100, false);
    default: return encode(c.year / 100, false);
  }
}

// SET or a stopped divider: the registers keep what they show, and take what is written.
void Rtc::freeze(u64 now) {
  constexpr u8 kAll[] = {kSecond, kMinute, kHour, kWeekday, kDay, kMonth, kYear, kCentury};
  std::array<u8, std::size(kAll)> shown{};
  for (usize i = 0; i < std::size(kAll); ++i) shown[i] = time_register(kAll[i], now);
  for (usize i = 0; i < std::size(kAll); ++i) ram_[kAll[i]] = shown[i];
}

// Time starts from what the registers say; nonsense is taken modulo its unit.
void Rtc::thaw(u64 now) {
  using namespace std::chrono;
  const int full_year =
      static_cast<int>(std::clamp(decode(ram_[kCentury], false), 19u, 21u) * 100 + decode(ram_[kYear], false) % 100);
  const unsigned m = std::clamp(decode(ram_[kMonth], false), 1u, 12u);
  const unsigned d = std::clamp(decode(ram_[kDay], false), 1u, 31u);
  const sys_days date = sys_days{year{full_year} / month{m} / 1} + days{d - 1};
  const i64 seconds = i64{date.time_since_epoch().count()} * static_cast<i64>(kDaySeconds) +
                      decode(ram_[kHour], true) % 24 * 3600 + decode(ram_[kMinute], false) % 60 * 60 +
                      decode(ram_[kSecond], false) % 60;
  base_ns_ = static_cast<u64>(std::max<i64>(seconds, 0)) * kNsPerSecond;
  started_ns_ = now;
  seen_ns_ = base_ns_;
}

bool Rtc::alarm_matches(u8 alarm, unsigned value, bool hour) const {
  return (alarm & 0xc0) == 0xc0 || decode(alarm, hour) == value;  // 11xxxxxx: don't care
}

// First second after `after_second` (since 1970) at which the alarm matches; kNever if it cannot.
u64 Rtc::next_alarm(u64 after_second) const {
  const u64 day = after_second / kDaySeconds * kDaySeconds;
  for (u64 base : {day, day + kDaySeconds})
    for (unsigned h = 0; h < 24; ++h) {
      if (!alarm_matches(ram_[kHourAlarm], h, true) || base + h * 3600 + 3599 <= after_second) continue;
      for (unsigned m = 0; m < 60; ++m) {
        if (!alarm_matches(ram_[kMinuteAlarm], m, false) || base + h * 3600 + m * 60 + 59 <= after_second) continue;
        for (unsigned s = 0; s < 60; ++s) {
          const u64 t = base + h * 3600 + m * 60 + s;
          if (t > after_second && alarm_matches(ram_[kSecondAlarm], s, false)) return t;
        }
      }
    }
  return TimerQueue::kNever;
}

void Rtc::catch_up(u64 now) {
  const u64 to = rtc_ns(now);
  const u64 from = std::min(seen_ns_, to);
  seen_ns_ = to;
  if (const u64 period = periodic_ns(); period && from / period != to / period) ram_[kC] |= kPf;
  if (running() && from / kNsPerSecond != to / kNsPerSecond) {
    ram_[kC] |= kUf;
    if (next_alarm(from / kNsPerSecond) <= to / kNsPerSecond) ram_[kC] |= kAf;
  }
  update_irq();
}

void Rtc::update_irq() {
  const bool raised = (ram_[kC] & ram_[kB] & (kPf | kAf | kUf)) != 0;
  ram_[kC] = static_cast<u8>(raised ? ram_[kC] | kIrqf : ram_[kC] & ~kIrqf);
  irq8_.set_level(raised && irq_enabled_);
  const bool was_up = std::exchange(alarm_up_, (ram_[kC] & ram_[kB] & kAf) != 0);
  if (alarm_up_ && !was_up && on_alarm_) on_alarm_();
}

// The next event whose interrupt is enabled and whose flag is not yet up.
void Rtc::arm(u64 now) {
  const u64 t = rtc_ns(now);
  const u8 wanted = static_cast<u8>(ram_[kB] & ~ram_[kC]);
  u64 next = TimerQueue::kNever;
  if (const u64 period = periodic_ns(); (wanted & kPie) && period) next = (t / period + 1) * period;
  if (running()) {
    const u64 second = t / kNsPerSecond;
    if (wanted & kUie) next = std::min(next, (second + 1) * kNsPerSecond);
    if (wanted & kAie) next = std::min(next, mul_div(next_alarm(second), kNsPerSecond, 1));
  }
  timer_.arm(next == TimerQueue::kNever ? next : add_sat(now, next - t));
}

u64 Rtc::read(u64 offset, unsigned) {
  if (offset != 1) return 0xff;  // the index is write-only
  const u64 now = timers_.now_ns();
  if (is_time(index_)) {
    // Whoever sees a new second sees its alarm too, however late the timer's thread is: one update cycle does both.
    catch_up(now);
    arm(now);
    return time_register(index_, now);
  }
  switch (index_) {
    case kA: {
      const bool uip = running() && rtc_ns(now) % kNsPerSecond >= kNsPerSecond - kUipNs;
      return ram_[kA] | (uip ? kUip : 0);
    }
    case kC: {
      catch_up(now);
      const u8 v = ram_[kC];
      ram_[kC] = 0;
      update_irq();
      arm(now);
      return v;
    }
    case kD: return 0x80;  // battery good
    default: return ram_[index_];
  }
}

void Rtc::write_register(u8 index, u8 v, u64 now) {
  const bool ran = running();
  if (ran && (is_time(index) || index == kA || index == kB)) freeze(now);
  switch (index) {
    case kA: ram_[kA] = v & 0x7f; break;
    case kB:
      // The registers are kept in the representation they were set in; a change of it while frozen is the guest's
      // affair.
      ram_[kB] = v & kSet ? static_cast<u8>(v & ~kUie) : v;  // SET clears UIE
      break;
    case kC:
    case kD: return;
    default: ram_[index] = v; break;
  }
  const bool changed = is_time(index) || running() != ran;
  if (running() && changed) thaw(now);
  // A change of BCD/binary or 12/24 while time runs shows the same time in the new form: nothing to do.
}

void Rtc::write(u64 offset, unsigned, u64 value) {
  const u8 v = static_cast<u8>(value);
  if (offset == 0) {
    index_ = v & 0x7f;
    return;
  }
  if (offset != 1) return;
  const u64 now = timers_.now_ns();
  catch_up(now);
  write_register(index_, v, now);
  update_irq();
  arm(now);
}

}  // namespace pangea::devices
