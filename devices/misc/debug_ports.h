// Ports that exist for whoever looks from outside: the end of a test, a byte for the log, the progress of a boot.
#pragma once
#include <string>

#include "devices/bus/device.h"
#include "devices/bus/machine_control.h"
#include "devices/serial/char_backend.h"
#include "emu/base/log.h"

namespace pangea::devices {

/// QEMU's isa-debug-exit: a write of V ends the process with status (V << 1) | 1. Default port 0x501, 2 bytes.
class DebugExit final : public Device {
 public:
  static constexpr u16 kDefaultPort = 0x501;
  static constexpr u32 kDefaultPorts = 2;

  explicit DebugExit(MachineControl& machine) : machine_(machine) {}
  std::string_view name() const override { return "isa-debug-exit"; }
  void reset() override {}
  u64 read(u64, unsigned) override { return 0; }
  void write(u64, unsigned, u64 value) override {
    machine_.debug_exit(static_cast<int>((static_cast<u32>(value) << 1) | 1));
  }

 private:
  MachineControl& machine_;
};

/// QEMU's isa-debugcon (ports 0xe9 and 0x402): a byte written is a byte out. Reads tell that it is there.
class DebugConsole final : public Device {
 public:
  static constexpr u16 kBochsPort = 0xe9, kSeabiosPort = 0x402;

  /// `presence` is what a read says: 0xe9 for Bochs' port, 0x402's low byte for SeaBIOS'. `backend` may be null.
  DebugConsole(CharBackend* backend, u8 presence = 0xe9) : backend_(backend), presence_(presence) {}
  std::string_view name() const override { return "debugcon"; }
  void reset() override {}
  u64 read(u64, unsigned) override { return presence_; }
  void write(u64, unsigned, u64 value) override {
    const u8 b = static_cast<u8>(value);
    if (backend_) backend_->write({&b, 1});  // there is no way to say "wait": what does not fit is lost
  }
  unsigned max_access() const override { return 1; }

 private:
  CharBackend* const backend_;
  const u8 presence_;
};

/// The POST code port 0x80, which Linux also writes as a short delay.
class PostPort final : public Device {
 public:
  static constexpr u16 kPort = 0x80;

  std::string_view name() const override { return "post"; }
  void reset() override { last_ = 0; }
  u64 read(u64, unsigned) override { return last_; }
  void write(u64, unsigned, u64 value) override { last_ = static_cast<u8>(value); }
  unsigned max_access() const override { return 1; }

 private:
  u8 last_ = 0;
};

}  // namespace pangea::devices
