#include "emu/machine/debug/remote_debug.h"

#include <algorithm>
#include <cstring>

#include "emu/machine/node/wire.h"

namespace pangea::machine {
namespace {
static_assert(std::is_trivially_copyable_v<VcpuRegisters>);
enum class Op : u8 { Read = 1, Write, Order };

Error malformed() { return {"debugger message", "it makes no sense", ""}; }

std::vector<u8> request(Op op, VcpuId id, std::span<const u8> body = {}) {
  wire::Writer w;
  w.put(static_cast<u8>(op)).put(id.v);
  std::vector<u8> out = w.body();
  out.insert(out.end(), body.begin(), body.end());
  return out;
}
std::span<const u8> bytes_of(const VcpuRegisters& r) { return {reinterpret_cast<const u8*>(&r), sizeof r}; }
bool copy_to(VcpuRegisters& r, std::span<const u8> b) {
  if (b.size() != sizeof r) return false;
  std::memcpy(static_cast<void*>(&r), b.data(), sizeof r);
  return true;
}
}  // namespace

std::vector<u8> encode(const DebugOrders& o) {
  wire::Writer w;
  w.put(static_cast<u32>(o.breakpoints.size()))
      .put(static_cast<u32>(o.watchpoints.size()))
      .put(static_cast<u32>(o.steps.size()))
      .put(static_cast<u32>(o.held.size()))
      .put(static_cast<u32>(o.passes.size()));
  for (const u64 b : o.breakpoints) w.put(b);
  for (const Watchpoint& p : o.watchpoints) w.put(p.address).put(p.bytes).put(static_cast<u8>(p.read));
  for (const auto* list : {&o.steps, &o.held, &o.passes})
    for (const VcpuId id : *list) w.put(id.v);
  return w.body();
}

Result<DebugOrders> decode_orders(std::span<const u8> bytes, u32 vcpus) {
  wire::Reader r(bytes);
  const u32 breakpoints = r.get<u32>(), watchpoints = r.get<u32>();
  const u32 counts[] = {r.get<u32>(), r.get<u32>(), r.get<u32>()};  // steps, held, passes
  if (breakpoints > DebugOrders::kMaxBreakpoints || watchpoints > DebugOrders::kMaxWatchpoints) return malformed();
  if (std::any_of(std::begin(counts), std::end(counts), [vcpus](u32 n) { return n > vcpus; })) return malformed();
  DebugOrders o;
  for (u32 i = 0; i < breakpoints; ++i) o.breakpoints.push_back(r.get<u64>());
  for (u32 i = 0; i < watchpoints; ++i) {
    Watchpoint p;
    p.address = r.get<u64>();
    p.bytes = r.get<u8>();
    p.read = r.get<u8>() != 0;
    o.watchpoints.push_back(p);
  }
  std::vector<VcpuId>* const lists[] = {&o.steps, &o.held, &o.passes};
  for (usize k = 0; k < std::size(lists); ++k)
    for (u32 i = 0; i < counts[k]; ++i) lists[k]->push_back(VcpuId{r.get<u16>()});
  if (!r.complete()) return malformed();
  return o;
}

std::vector<u8> encode(const DebugStop& s) {
  wire::Writer w;
  w.put(static_cast<u8>(s.kind)).put(s.vcpu.v).put(s.address).put(static_cast<u8>(s.read));
  return w.body();
}

Result<DebugStop> decode_stop(std::span<const u8> bytes, u32 vcpus) {
  wire::Reader r(bytes);
  const u8 kind = r.get<u8>();
  DebugStop s;
  s.vcpu = VcpuId{r.get<u16>()};
  s.address = r.get<u64>();
  s.read = r.get<u8>() != 0;
  if (!r.complete() || kind > static_cast<u8>(DebugStop::Kind::Watchpoint) || s.vcpu.v >= vcpus) return malformed();
  s.kind = static_cast<DebugStop::Kind>(kind);
  return s;
}

bool RemoteNodeDebug::here(VcpuId id) const { return std::find(vcpus_.begin(), vcpus_.end(), id) != vcpus_.end(); }

bool RemoteNodeDebug::read_registers(VcpuId id, VcpuRegisters& out) {
  if (!here(id)) return false;
  const auto reply = call_(request(Op::Read, id));
  return reply && copy_to(out, *reply);
}

bool RemoteNodeDebug::write_registers(VcpuId id, const VcpuRegisters& in) {
  if (!here(id)) return false;
  const auto reply = call_(request(Op::Write, id, bytes_of(in)));
  return reply && !reply->empty();
}

void RemoteNodeDebug::order(const DebugOrders& orders) { call_(request(Op::Order, VcpuId{0}, encode(orders))); }

std::vector<u8> DebugService::serve(std::span<const u8> bytes) {
  wire::Reader r(bytes);
  const Op op = static_cast<Op>(r.get<u8>());
  const VcpuId id{r.get<u16>()};
  VcpuRegisters registers;
  const std::vector<u8> done{1};
  if (!r.ok()) return {};
  switch (op) {
    case Op::Read:
      if (!debug_.read_registers(id, registers)) return {};
      return {bytes_of(registers).begin(), bytes_of(registers).end()};
    case Op::Write:
      return copy_to(registers, r.rest()) && debug_.write_registers(id, registers) ? done : std::vector<u8>{};
    case Op::Order: {
      const auto orders = decode_orders(r.rest(), vcpus_);
      if (!orders) return {};
      debug_.order(*orders);
      return done;
    }
  }
  return {};
}
}  // namespace pangea::machine
