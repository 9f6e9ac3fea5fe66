// QEMU's firmware configuration device (docs/specs/fw_cfg): numbered and named blobs that firmware and kernels read,
// by port or by DMA. Ports 0x510-0x51b on a pc.
//
// DMA. The guest writes the big-endian address of a descriptor; the transfer runs after the board mutex is released
// (AddressSpace::defer), so it may wait for pages. While one is under way another start is refused: nothing the
// transfer writes can start a second (DESIGN section 7, re-entry). Items are read-only and immutable once the machine
// runs.
//
// Device offsets: 0 selector (16 bits), 1 data (8 bits), 4-11 DMA address (big-endian, high half first).
#pragma once
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "devices/bus/bus.h"
#include "devices/dma/dma_port.h"

namespace pangea::devices {

class FwCfg final : public Device, public DeferredWork {
 public:
  static constexpr u16 kPort = 0x510;
  static constexpr u32 kPorts = 12;
  static constexpr usize kMaxFiles = 64;
  static constexpr usize kMaxNameBytes = 55;
  // Well-known selectors.
  static constexpr u16 kSignature = 0x00, kId = 0x01, kUuid = 0x02, kRamSize = 0x03, kNbCpus = 0x05, kKernelAddr = 0x07,
                       kKernelSize = 0x08, kInitrdAddr = 0x0a, kInitrdSize = 0x0b, kMaxCpus = 0x0f, kKernelEntry = 0x10,
                       kKernelData = 0x11, kInitrdData = 0x12, kCmdlineAddr = 0x13, kCmdlineSize = 0x14,
                       kCmdlineData = 0x15, kSetupAddr = 0x16, kSetupSize = 0x17, kSetupData = 0x18, kFileDir = 0x19,
                       kFileFirst = 0x20;

  /// `dma` null: the DMA interface is absent and the id says so.
  FwCfg(AddressSpace& space, DmaPort* dma);

  std::string_view name() const override { return "fw_cfg"; }
  void reset() override;
  u64 read(u64 offset, unsigned size) override;
  void write(u64 offset, unsigned size, u64 value) override;

  // Before the vCPUs start.
  void add_bytes(u16 key, std::vector<u8> bytes);
  void add_u16(u16 key, u16 value);
  void add_u32(u16 key, u32 value);
  void add_u64(u16 key, u64 value);
  /// A named file, listed in the directory in the order of names. Error: name too long or taken, or too many files.
  Status add_file(const std::string& name, std::vector<u8> bytes);

  void run_deferred(std::mutex& board) override;

 private:
  using Blob = std::shared_ptr<const std::vector<u8>>;
  struct Transfer {
    u32 control = 0, length = 0;
    u64 address = 0;
  };
  void select(u16 key);
  u8 next_byte();
  void rebuild_directory();
  bool transfer(Transfer& t, std::mutex& board);

  AddressSpace& space_;
  DmaPort* const dma_;
  std::map<u16, Blob> items_;
  std::map<std::string, Blob> files_;  // by name; numbered in items_ from kFileFirst on
  u16 selected_ = 0;
  u64 position_ = 0;
  u64 dma_address_ = 0;
  bool dma_busy_ = false;
};

}  // namespace pangea::devices
