#include "emu/machine/statistics.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "emu/machine/debug/symbols.h"
#include "emu/machine/local_machine.h"

namespace pangea::machine {
using nlohmann::json;

void LatencyHistogram::record(u64 ns) {
  // Sixteen buckets per power of two; below 16 ns one per nanosecond.
  const unsigned top = static_cast<unsigned>(std::bit_width(ns | 1)) - 1;
  const unsigned index =
      top < 4 ? static_cast<unsigned>(ns) : (top - 3) * kSub + static_cast<unsigned>((ns >> (top - 4)) & 15);
  bucket_[std::min(index, kBuckets - 1)].fetch_add(1, std::memory_order_relaxed);
  count_.fetch_add(1, std::memory_order_relaxed);
}

double LatencyHistogram::percentile_us(unsigned per_mille) const {
  const u64 total = count();
  u64 left = (total * per_mille + 999) / 1000;
  for (unsigned i = 0; i < kBuckets && total > 0; ++i) {
    const u64 n = bucket_[i].load(std::memory_order_relaxed);
    if (n < left) {
      left -= n;
      continue;
    }
    if (i < kSub) return static_cast<double>(i) / 1000;
    const unsigned shift = i / kSub - 1;
    // Those in the bucket, spread evenly over it.
    const double part = (static_cast<double>(left) - 0.5) / static_cast<double>(n);
    return (static_cast<double>(kSub + i % kSub) + part) * static_cast<double>(u64{1} << shift) / 1000;
  }
  return 0;
}

LatencySummary summarise(const LatencyHistogram& h) { return {h.count(), h.percentile_us(500), h.percentile_us(990)}; }

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LatencySummary, count, p50_us, p99_us)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(VcpuStatistics, id, node, instructions, mips, halt_s)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(HotPage, page, count, wait_s)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MemoryStatistics, cap_pages, frames, frames_peak, evicted_clean, evicted_stale,
                                   evicted_zero, evicted_dirty, taken_in, offers, offers_refused, frame_waits)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(NodeStatistics, id, remote_faults_read, remote_faults_write, ipi_remote, ipis_sent,
                                   bytes_sent, bytes_received, board_accesses, board_accesses_lent, page_wait_s,
                                   pages_asked_ahead, asked_ahead_in_vain, pages_received, pages_received_in_part,
                                   rss_mib, frames_mib, memory, translations, translated_instructions, vcpus, hot_pages)

NodeStatistics gather(LocalMachine& machine, double running_s) {
  NodeStatistics n;
  n.id = machine.self().v;
  for (usize i = 0; i < machine.local_vcpus(); ++i) {
    VcpuThread& t = machine.vcpu(i);
    VcpuStatistics v{.id = t.id().v, .node = n.id, .instructions = t.vcpu().state().instructions};
    v.halt_s = static_cast<double>(t.stats().halt_ns) / 1e9;
    v.mips = static_cast<double>(v.instructions) / 1e6 / std::max(running_s - v.halt_s, 1e-3);
    n.vcpus.push_back(v);
  }
  const x86::EngineStats e = machine.engine().stats();
  n.translations = e.blocks;
  n.translated_instructions = e.translated_instructions;
  n.ipis_sent = machine.fabric().stats().remote_interrupts;
  const auto resident = machine.resident().read(machine.memory().ram.host(PageNumber{0}));
  n.rss_mib = resident.process;
  n.frames_mib = resident.frames;
  return n;
}

std::string to_text(const NodeStatistics& s) { return json(s).dump(); }

Result<NodeStatistics> from_text(const std::string& text) {
  constexpr usize kTextMax = 1 << 20;  // as values, a text may take thirty times its size
  if (text.size() > kTextMax) return Error{"statistics of a node", "too long", ""};
  const json j = json::parse(text, nullptr, /*allow_exceptions=*/false);
  try {
    return j.get<NodeStatistics>();
  } catch (const json::exception& e) {
    return Error{"statistics of a node", e.what(), ""};
  }
}

std::string statistics_json(const std::vector<NodeStatistics>& nodes, double wall_s, double boot_to_init_s,
                            const Symbols& symbols) {
  json out;
  out["wall_s"] = wall_s;
  out["boot_to_init_s"] = boot_to_init_s < 0 ? json(nullptr) : json(boot_to_init_s);
  out["vcpus"] = json::array();
  out["nodes"] = json::array();
  u64 translations = 0, instructions = 0;
  std::map<u64, HotPage> hot;
  LatencySummary ipi;
  for (const NodeStatistics& n : nodes) {
    json record = n;
    for (const char* key : {"vcpus", "hot_pages", "ipi_remote"}) record.erase(key);
    out["nodes"].push_back(std::move(record));
    for (const VcpuStatistics& v : n.vcpus) out["vcpus"].push_back(v);
    translations += n.translations;
    instructions += n.translated_instructions;
    for (const HotPage& p : n.hot_pages) {
      HotPage& h = hot[p.page];
      h = {p.page, h.count + p.count, h.wait_s + p.wait_s};
    }
    // Each node measures the interrupts that it received. Their percentiles cannot be added: the slower node's stand.
    ipi.count += n.ipi_remote.count;
    ipi.p50_us = std::max(ipi.p50_us, n.ipi_remote.p50_us);
    ipi.p99_us = std::max(ipi.p99_us, n.ipi_remote.p99_us);
  }
  out["ipi_remote"] = ipi;
  out["translations"] = translations;
  out["translated_instructions"] = instructions;
  std::vector<HotPage> order;
  for (const auto& [page, h] : hot) order.push_back(h);
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.wait_s > b.wait_s; });
  constexpr usize kShown = 20;
  constexpr u64 kKernelImage = 0xffffffff80000000;  // without KASLR, physical address 0 of the kernel's image mapping
  out["hot_pages"] = json::array();
  for (usize i = 0; i < std::min(order.size(), kShown); ++i) {
    json page = order[i];
    page["symbol"] = symbols.name(kKernelImage + (order[i].page << kPageShift));
    out["hot_pages"].push_back(std::move(page));
  }
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";  // symbols may have any bytes
}
}  // namespace pangea::machine
