// Logs by category (`-d in_asm,int,...`, `-D FILE`). A disabled category costs one load and a branch.
#pragma once
#include <fmt/format.h>

#include <string>
#include <string_view>

#include "emu/base/result.h"
#include "emu/base/types.h"

namespace pangea {
// name, help. One row per category; the enum, the parser and `-d help` derive from it.
#define PANGEA_LOG_CATEGORIES(X)                                  \
  X(in_asm, "guest code of each translated block")                \
  X(out_asm, "host code of each translated block")                \
  X(exec, "each block entered by the dispatcher")                 \
  X(int, "interrupts and exceptions")                             \
  X(mmu, "page walks, soft-TLB flushes, CR3 and INVLPG")          \
  X(coherence, "page requests, grants and invalidations")         \
  X(transport, "handshake, peers, dropped frames")                \
  X(device, "device register accesses that are unusual")          \
  X(guest_errors, "accesses that no device claims, unknown MSRs") \
  X(machine, "start-up, shutdown, placement")                     \
  X(cpu_reset, "INIT, SIPI, reset, triple fault")

enum class Log : u32 {
#define X(name, help) name##_,
  PANGEA_LOG_CATEGORIES(X)
#undef X
};

/// Enabled categories, one bit each in the order of the table. Set once before threads start.
extern u32 log_mask;

inline bool log_enabled(Log c) { return (log_mask >> static_cast<u32>(c)) & 1; }
/// Writes one line "[category] text\n" to the log file (stderr by default). Thread-safe.
void log_write(Log c, std::string_view text);
/// Enables a comma-separated list of categories. Error: an unknown name, with the known ones listed.
Status log_enable(std::string_view list);
/// Sends the log to `path` instead of stderr. Error: the file cannot be created.
Status log_to_file(const std::string& path);
/// Text of `-d help`.
std::string log_help();
}  // namespace pangea

#define PANGEA_LOG(category, ...)                                                \
  do {                                                                           \
    if (::pangea::log_enabled(::pangea::Log::category##_)) [[unlikely]]          \
      ::pangea::log_write(::pangea::Log::category##_, fmt::format(__VA_ARGS__)); \
  } while (0)
