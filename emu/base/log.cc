#include "emu/base/log.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>

namespace pangea {
namespace {
struct Row {
  const char* name;
  const char* help;
};
constexpr Row kRows[] = {
#define X(name, help) {#name, help},
    PANGEA_LOG_CATEGORIES(X)
#undef X
};
std::FILE* log_file = nullptr;
std::mutex log_mutex;
}  // namespace

u32 log_mask = 0;

void log_write(Log c, std::string_view text) {
  const std::lock_guard lock(log_mutex);
  std::FILE* f = log_file ? log_file : stderr;
  fmt::print(f, "[{}] {}\n", kRows[static_cast<u32>(c)].name, text);
}

Status log_enable(std::string_view list) {
  while (!list.empty()) {
    const auto comma = list.find(',');
    const std::string_view name = list.substr(0, comma);
    list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
    bool found = false;
    for (u32 i = 0; i < std::size(kRows); ++i)
      if (name == kRows[i].name) {
        log_mask |= 1u << i;
        found = true;
      }
    if (!found) return Error{fmt::format("-d {}", name), "unknown log category", "see -d help"};
  }
  return ok();
}

Status log_to_file(const std::string& path) {
  std::FILE* f = std::fopen(path.c_str(), "w");
  if (!f) return Error{"-D " + path, std::strerror(errno), "choose a file that can be written"};
  setvbuf(f, nullptr, _IOLBF, 0);
  log_file = f;
  return ok();
}

std::string log_help() {
  std::string s = "Log categories (-d CATEGORY,...):\n";
  for (const Row& r : kRows) s += fmt::format("  {:<14} {}\n", r.name, r.help);
  return s;
}
}  // namespace pangea
