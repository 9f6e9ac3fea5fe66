// The frame layer of gdb's remote serial protocol (gdb manual, appendix E.1): "$text#sum", acknowledgements, Ctrl-c.
// Pure: bytes in, packets out.
#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "emu/base/types.h"

namespace pangea::machine {

class GdbFramer {
 public:
  static constexpr usize kMaxPacket = 16 * 1024;  // bytes of text; a longer one is dropped

  enum class Event : u8 { None, Packet, Interrupt, Resend };
  /// Takes one byte. Packet: `packet()` has its text, unescaped. Resend: the peer did not understand our last one.
  Event feed(u8 byte);
  const std::string& packet() const { return text_; }
  /// True if the last byte completed a packet whose sum was wrong: answer '-'.
  bool bad_sum() const { return bad_sum_; }

  /// "$text#sum", with what must be escaped escaped.
  static std::string frame(std::string_view text);

 private:
  enum class State : u8 { Idle, Text, Escape, Sum1, Sum2 } state_ = State::Idle;
  std::string text_;
  u8 sum_ = 0, claimed_ = 0;
  bool too_long_ = false, bad_sum_ = false;
};

std::string to_hex(std::span<const u8> bytes);
/// Nothing: an odd number of digits, or something else than digits.
std::optional<std::string> from_hex(std::string_view text);

/// Reads through the text of a packet.
class GdbText {
 public:
  explicit GdbText(std::string_view t) : rest_(t) {}
  bool eat(std::string_view prefix) {
    if (!rest_.starts_with(prefix)) return false;
    rest_.remove_prefix(prefix.size());
    return true;
  }
  /// Hexadecimal number; nothing when there is no digit, or more than 64 bits.
  std::optional<u64> hex();
  /// Text up to `end` (which is eaten) or to the end.
  std::string_view until(char end);
  std::string_view rest() const { return rest_; }
  bool empty() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};
}  // namespace pangea::machine
