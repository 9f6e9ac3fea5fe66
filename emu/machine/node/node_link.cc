#include "emu/machine/node/node_link.h"

#include "emu/machine/node/patience.h"
#include "emu/machine/node/wire.h"

namespace pangea::machine {
using transport::Bytes;
using transport::Channel;

coherence::HomeMap homes_of(const MachinePlan& plan) {
  std::vector<coherence::HomeRange> ranges;
  for (const RamShare& r : plan.ram) ranges.push_back({page_of(r.first), r.bytes >> kPageShift, r.node});
  return coherence::HomeMap(std::move(ranges));
}

namespace {
/// A node that may hold the whole guest has no cap.
u64 max_frames(const MachinePlan& plan, u64 node_bytes) {
  return node_bytes < plan.ram_bytes ? node_bytes >> kPageShift : 0;
}
}  // namespace

NodeLink::NodeLink(const MachinePlan& plan, NodeId self, GateOptions options, NodeMemory& memory, GuestTime& time,
                   transport::ZmqEndpoint& endpoint, Clock& clock, std::function<void(const Error&)> failed)
    : endpoint_(endpoint),
      gate_({.self = self,
             .nodes = plan.nodes,
             .homes = homes_of(plan),
             .check = options.check,
             .max_frames = max_frames(plan, options.node_bytes)},
            memory, endpoint, clock, failed),
      interrupts_(endpoint, time, plan.nodes, failed),
      io_(endpoint, NodeId{0}, failed),
      failed_(std::move(failed)) {
  memory.gate = &gate_;
  endpoint.set_handler(Channel::Coherence,
                       [this](NodeId from, Bytes header, Bytes payload) { gate_.receive(from, header, payload); });
}

void NodeLink::attach(LocalMachine& machine) {
  endpoint_.set_handler(Channel::Interrupt, [this, &machine](NodeId from, Bytes header, Bytes) {
    interrupts_.receive(machine.fabric(), from, header);
  });
  io_.on_standstill([&machine] { machine.control().stand_still(); });
  RegisterLender* const board = machine.board_io();
  if (board) {
    board->connect(io_);
    board->watch([this](NodeId silent) {
      failed_(does_not_answer(silent, "it keeps registers of a device that were called back"));
    });
  }
  endpoint_.set_handler(Channel::Io,
                        [this, board](NodeId from, Bytes header, Bytes) { io_.receive(board, from, header); });
}

void NodeLink::stop() {
  gate_.stop();
  interrupts_.stop();
  io_.stop();
}

void NodeLink::complete(NodeStatistics& s) {
  RemoteGateStats g = gate_.stats();
  s.remote_faults_read = g.read_faults;
  s.remote_faults_write = g.write_faults;
  s.hot_pages = std::move(g.hot_pages);
  s.page_wait_s = g.waited_s;
  s.pages_asked_ahead = g.protocol.prefetches;
  s.asked_ahead_in_vain = g.protocol.prefetches_wasted;
  s.pages_received = g.protocol.installs_page;
  s.pages_received_in_part = g.protocol.installs_changes;
  s.memory = {.cap_pages = g.max_frames,
              .frames = g.frames,
              .frames_peak = g.protocol.frames_peak,
              .evicted_clean = g.protocol.drops,
              .evicted_stale = g.protocol.drops_stale,
              .evicted_zero = g.protocol.drops_zero,
              .evicted_dirty = g.protocol.offers_taken,
              .taken_in = g.protocol.taken_in,
              .offers = g.protocol.offers,
              .offers_refused = g.protocol.offers_refused,
              .frame_waits = g.protocol.frame_waits};
  s.ipi_remote = interrupts_.latency();
  s.board_accesses = io_.asked();
  s.board_accesses_lent = io_.unasked();
  for (const transport::ChannelCounts& c : endpoint_.stats().channels) {
    s.bytes_sent += c.bytes_sent;
    s.bytes_received += c.bytes_received;
  }
}

std::vector<u8> encode(const NodeConfig& c) {
  wire::Writer w;
  w.put(c.ram_bytes).put(c.vcpus).put(c.nodes).put(c.torture_seed);
  w.put(static_cast<u8>(c.hpet | c.one_insn_per_block << 1 | c.check_coherence << 2 | c.no_reboot << 3 | c.s3 << 4));
  w.put(c.cpuid.features[0]).put(c.cpuid.features[1]).put(c.cpuid.tsc_hz).put(c.cpuid.apic_timer_hz);
  w.put(c.cpuid.physical_bits).put(static_cast<u8>(c.cpuid.vendor)).text(c.cpuid.brand).text(c.cpuid.hypervisor);
  return w.body();
}

Result<NodeConfig> decode_config(Bytes bytes) {
  wire::Reader r(bytes);
  NodeConfig c;
  c.ram_bytes = r.get<u64>();
  c.vcpus = r.get<u32>();
  c.nodes = r.get<u32>();
  c.torture_seed = r.get<u64>();
  const u8 flags = r.get<u8>();
  c.hpet = flags & 1;
  c.one_insn_per_block = flags & 2;
  c.check_coherence = flags & 4;
  c.no_reboot = flags & 8;
  c.s3 = flags & 16;
  for (u64& f : c.cpuid.features) f = r.get<u64>();
  c.cpuid.tsc_hz = r.get<u64>();
  c.cpuid.apic_timer_hz = r.get<u32>();
  c.cpuid.physical_bits = r.get<u32>();
  const u8 vendor = r.get<u8>();
  c.cpuid.vendor = static_cast<x86::Vendor>(vendor);
  c.cpuid.brand = r.text();
  c.cpuid.hypervisor = r.text();
  if (!r.complete() || vendor > static_cast<u8>(x86::Vendor::Amd) || c.vcpus == 0 || c.vcpus > kVcpusMax ||
      c.nodes < 2 || c.nodes > kNodesMax || (c.ram_bytes & kPageMask) || c.ram_bytes >> 46 || c.cpuid.tsc_hz == 0 ||
      c.cpuid.apic_timer_hz == 0 || c.cpuid.physical_bits < 36 ||
      c.cpuid.physical_bits > x86::CpuidConfig{}.physical_bits)
    return Error{"configuration of the machine", "it makes no sense", "use the same build of pangea on every node"};
  return c;
}
}  // namespace pangea::machine
