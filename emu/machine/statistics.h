// What -stats writes: one record per node, gathered where the node runs, put together on node 0.
#pragma once
#include <atomic>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "emu/base/result.h"
#include "emu/mem/address.h"

namespace pangea::machine {
class LocalMachine;
class Symbols;

/// Latencies in buckets of about 6 % width, from 1 ns to minutes. Any thread records; readers see a recent state.
class LatencyHistogram {
 public:
  void record(u64 ns);
  u64 count() const { return count_.load(std::memory_order_relaxed); }
  /// Latency in microseconds that `per_mille` / 1000 of the records do not exceed; 0 without records.
  double percentile_us(unsigned per_mille) const;

 private:
  static constexpr unsigned kSub = 16, kBuckets = 40 * kSub;
  std::atomic<u64> count_{0};
  std::atomic<u64> bucket_[kBuckets] = {};
};

struct LatencySummary {
  u64 count = 0;
  double p50_us = 0, p99_us = 0;
};
LatencySummary summarise(const LatencyHistogram& h);

struct VcpuStatistics {
  u32 id = 0, node = 0;
  u64 instructions = 0;
  double mips = 0;  // per second not spent in HLT
  double halt_s = 0;
};
struct HotPage {
  u64 page = 0, count = 0;  // remote faults
  double wait_s = 0;        // what they cost: seconds that agents waited for it
};
/// What a node holds of guest memory, and what it gave up under -node-mem. Pages.
struct MemoryStatistics {
  u64 cap_pages = 0;       // 0: any number
  u64 frames = 0;          // held now
  u64 frames_peak = 0;     // ... at most
  u64 evicted_clean = 0;   // other nodes had the bytes
  u64 evicted_stale = 0;   // the bytes were out of date
  u64 evicted_zero = 0;    // all zero
  u64 evicted_dirty = 0;   // went to another node
  u64 taken_in = 0;        // ... came from one
  u64 offers = 0;          // pages that others were asked to take
  u64 offers_refused = 0;  // answers that there is no room
  u64 frame_waits = 0;     // requests that waited for a frame
};
struct NodeStatistics {
  u32 id = 0;
  LatencySummary remote_faults_read, remote_faults_write, ipi_remote;
  u64 ipis_sent = 0, bytes_sent = 0, bytes_received = 0;
  u64 board_accesses = 0;       // of its vCPUs to devices of another node: answered by that node,
  u64 board_accesses_lent = 0;  // or here, by registers that it had lent
  double page_wait_s = 0;       // seconds that agents waited for pages, DMA included
  u64 pages_asked_ahead = 0, asked_ahead_in_vain = 0;
  u64 pages_received = 0, pages_received_in_part = 0;  // with bytes; ... of which only what had changed came
  double rss_mib = 0;     // resident memory of the process
  double frames_mib = 0;  // guest pages in it
  MemoryStatistics memory;
  u64 translations = 0, translated_instructions = 0;
  std::vector<VcpuStatistics> vcpus;
  std::vector<HotPage> hot_pages;
};

/// This node's, apart from what only emu/machine/node knows (faults, traffic, hot pages). `running_s`: host seconds
/// since the vCPUs began to run.
NodeStatistics gather(LocalMachine& machine, double running_s);

/// For the wire between nodes. from_text: nothing of it is trusted. Error: not such a record.
std::string to_text(const NodeStatistics& s);
Result<NodeStatistics> from_text(const std::string& text);

/// The file. `boot_to_init_s` negative: init was not reached (null in the file).
std::string statistics_json(const std::vector<NodeStatistics>& nodes, double wall_s, double boot_to_init_s,
                            const Symbols& symbols);
}  // namespace pangea::machine
