// An interrupt wire. What it is soldered to is the board's business.
#pragma once

namespace pangea::devices {

/// One input of an interrupt controller (or a message that carries it there). Called under the board mutex; never
/// blocks. Setting the level it already has changes nothing.
class IrqLine {
 public:
  virtual ~IrqLine() = default;
  virtual void set_level(bool high) = 0;
  /// A short pulse that ends high: a rising edge for edge-triggered inputs.
  void rise() {
    set_level(false);
    set_level(true);
  }
};

/// A wire that ends nowhere.
class OpenLine final : public IrqLine {
 public:
  void set_level(bool) override {}
};

}  // namespace pangea::devices
