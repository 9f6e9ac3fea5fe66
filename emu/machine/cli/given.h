// The options of a command line as they were given, before anybody asks what they mean.
#pragma once
#include <map>
#include <span>
#include <string>
#include <vector>

#include "emu/base/result.h"
#include "emu/machine/cli/option_table.h"

namespace pangea::machine {

/// Values of every option that was given, in order.
using Given = std::map<std::string, std::vector<std::string>>;

inline bool given(const Given& g, const char* name) { return g.contains(name); }
/// The last value counts, as in QEMU.
inline std::string last(const Given& g, const char* name, std::string otherwise = {}) {
  const auto it = g.find(name);
  return it == g.end() ? otherwise : it->second.back();
}
inline std::vector<std::string> all(const Given& g, const char* name) {
  const auto it = g.find(name);
  return it == g.end() ? std::vector<std::string>{} : it->second;
}

/// Reads `arguments` against the table. Error: an option that is not in it, or that lacks its value.
Result<Given> collect(std::span<const OptionRow> rows, const std::vector<std::string>& arguments);

}  // namespace pangea::machine
