#include "emu/machine/debug/gdb_packet.h"

#include <fmt/format.h>

namespace pangea::machine {
namespace {
int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}
}  // namespace

GdbFramer::Event GdbFramer::feed(u8 byte) {
  const char c = static_cast<char>(byte);
  bad_sum_ = false;
  switch (state_) {
    case State::Idle:
      if (c == '$') {
        text_.clear();
        sum_ = 0;
        too_long_ = false;
        state_ = State::Text;
      }
      return c == '\x03' ? Event::Interrupt : c == '-' ? Event::Resend : Event::None;
    case State::Text:
    case State::Escape:
      if (c == '#' && state_ == State::Text) {
        state_ = State::Sum1;
        return Event::None;
      }
      sum_ = static_cast<u8>(sum_ + byte);
      if (c == '}' && state_ == State::Text) {
        state_ = State::Escape;
        return Event::None;
      }
      too_long_ = too_long_ || text_.size() >= kMaxPacket;
      if (!too_long_) text_ += state_ == State::Escape ? static_cast<char>(byte ^ 0x20) : c;
      state_ = State::Text;
      return Event::None;
    case State::Sum1:
      claimed_ = static_cast<u8>((digit(c) & 15) << 4);
      state_ = State::Sum2;
      return Event::None;
    case State::Sum2:
      state_ = State::Idle;
      claimed_ = static_cast<u8>(claimed_ | (digit(c) & 15));
      bad_sum_ = claimed_ != sum_ || too_long_;
      return bad_sum_ ? Event::None : Event::Packet;
  }
  return Event::None;
}

std::string GdbFramer::frame(std::string_view text) {
  std::string body;
  for (const char c : text) {
    if (c == '$' || c == '#' || c == '}' || c == '*') {
      body += '}';
      body += static_cast<char>(c ^ 0x20);
    } else {
      body += c;
    }
  }
  u8 sum = 0;
  for (const char c : body) sum = static_cast<u8>(sum + static_cast<u8>(c));
  return fmt::format("${}#{:02x}", body, sum);
}

std::string to_hex(std::span<const u8> bytes) {
  std::string s;
  for (const u8 b : bytes) s += fmt::format("{:02x}", b);
  return s;
}

std::optional<std::string> from_hex(std::string_view text) {
  if (text.size() % 2) return std::nullopt;
  std::string s;
  for (usize i = 0; i < text.size(); i += 2) {
    const int high = digit(text[i]), low = digit(text[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    s += static_cast<char>(high << 4 | low);
  }
  return s;
}

std::optional<u64> GdbText::hex() {
  u64 v = 0;
  usize n = 0;
  for (; n < rest_.size() && digit(rest_[n]) >= 0; ++n) {
    if (v >> 60) return std::nullopt;
    v = v << 4 | static_cast<u64>(digit(rest_[n]));
  }
  rest_.remove_prefix(n);
  return n ? std::optional(v) : std::nullopt;
}

std::string_view GdbText::until(char end) {
  const usize at = rest_.find(end);
  const std::string_view part = rest_.substr(0, at);
  rest_.remove_prefix(at == std::string_view::npos ? rest_.size() : at + 1);
  return part;
}
}  // namespace pangea::machine
