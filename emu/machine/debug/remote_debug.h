// The debugger's hands on the vCPUs of another node: requests and replies of one message each. RemoteNodeDebug asks
// from node 0, DebugService answers on the other node; who carries the bytes is emu/machine/node's business.
#pragma once
#include <memory>

#include "emu/machine/debug/node_debug.h"

namespace pangea::machine {

/// For the wire. Decoding trusts nothing. Error: not such a record.
std::vector<u8> encode(const DebugOrders& orders);
Result<DebugOrders> decode_orders(std::span<const u8> bytes, u32 vcpus);
std::vector<u8> encode(const DebugStop& stop);
Result<DebugStop> decode_stop(std::span<const u8> bytes, u32 vcpus);

class RemoteNodeDebug final : public NodeDebug {
 public:
  /// Sends a request and waits for its reply; nothing if the node does not answer.
  using Call = std::function<std::optional<std::vector<u8>>(std::span<const u8>)>;
  /// `vcpus`: those of that node.
  RemoteNodeDebug(std::vector<VcpuId> vcpus, Call call) : vcpus_(std::move(vcpus)), call_(std::move(call)) {}

  bool read_registers(VcpuId id, VcpuRegisters& out) override;
  bool write_registers(VcpuId id, const VcpuRegisters& in) override;
  void order(const DebugOrders& orders) override;

 private:
  bool here(VcpuId id) const;
  std::vector<VcpuId> vcpus_;
  Call call_;
};

class DebugService {
 public:
  /// `on_stop`: a vCPU of this node has stopped by itself (any thread, must not block): tell node 0.
  DebugService(LocalMachine& machine, std::function<void(const DebugStop&)> on_stop)
      : debug_(machine, std::move(on_stop)), vcpus_(machine.plan().vcpus()) {}
  /// Answers a request of RemoteNodeDebug. An empty reply: it made no sense, or there is no such vCPU.
  std::vector<u8> serve(std::span<const u8> request);

 private:
  LocalNodeDebug debug_;
  u32 vcpus_;
};
}  // namespace pangea::machine
