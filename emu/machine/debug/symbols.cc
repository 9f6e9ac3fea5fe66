#include "emu/machine/debug/symbols.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <sstream>

namespace pangea::machine {
Result<Symbols> Symbols::read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  if (!in || !(text << in.rdbuf())) return Error{"-symbols " + path, std::strerror(errno), "give a System.map"};
  return parse("-symbols " + path, text.str());
}

Result<Symbols> Symbols::parse(const std::string& label, const std::string& text) {
  Symbols s;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    u64 address = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), address, 16);
    const usize at = static_cast<usize>(end - line.data());
    if (error != std::errc{} || line.size() < at + 4 || line[at] != ' ' || line[at + 2] != ' ')
      return Error{label, "not a System.map", "give the System.map of the guest's kernel"};
    if (line[at + 1] == 'U' || line[at + 1] == 'a' || line[at + 1] == 'A') continue;  // absolute: no addresses
    s.rows_.push_back({address, line.substr(at + 3)});
  }
  if (s.rows_.empty()) return Error{label, "not a System.map", "give the System.map of the guest's kernel"};
  std::stable_sort(s.rows_.begin(), s.rows_.end(), [](const Row& a, const Row& b) { return a.address < b.address; });
  return s;
}

std::string Symbols::name(u64 address) const {
  constexpr u64 kReach = 1 << 20;
  auto it = std::upper_bound(rows_.begin(), rows_.end(), address, [](u64 a, const Row& r) { return a < r.address; });
  if (it == rows_.begin()) return "";
  --it;
  const u64 offset = address - it->address;
  if (offset >= kReach) return "";
  return offset ? fmt::format("{}+{:#x}", it->name, offset) : it->name;
}
}  // namespace pangea::machine
