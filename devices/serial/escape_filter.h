// The escape character of a console (QEMU's mux): what of the input is for the guest and what for the machine.
#pragma once
#include <span>
#include <string_view>

#include "emu/base/types.h"

namespace pangea::devices {

/// Ctrl-a, then: x end the machine, c next front end, b break, h help, Ctrl-a a Ctrl-a. Pure: no I/O.
class EscapeFilter {
 public:
  enum class Kind : u8 { Nothing, Byte, Quit, SwitchFocus, Break, Help };
  static constexpr u8 kEscape = 0x01;

  /// What this input byte means; for Kind::Byte the byte itself goes to the guest.
  Kind feed(u8 byte) {
    if (!escaped_) {
      if (byte != kEscape) return Kind::Byte;
      escaped_ = true;
      return Kind::Nothing;
    }
    escaped_ = false;
    switch (byte) {
      case kEscape: return Kind::Byte;
      case 'x': return Kind::Quit;
      case 'c': return Kind::SwitchFocus;
      case 'b': return Kind::Break;
      case 'h':
      case '?': return Kind::Help;
      default: return Kind::Nothing;
    }
  }

  static constexpr std::string_view kHelp =
      "\r\n"
      "C-a h    this help\r\n"
      "C-a x    end the machine\r\n"
      "C-a b    send a break (magic SysRq)\r\n"
      "C-a c    switch between console and monitor\r\n"
      "C-a C-a  send C-a\r\n";

 private:
  bool escaped_ = false;
};

}  // namespace pangea::devices
