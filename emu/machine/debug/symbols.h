// Names of guest addresses, from the kernel's System.map (-symbols FILE).
#pragma once
#include <string>
#include <vector>

#include "emu/base/result.h"
#include "emu/base/types.h"

namespace pangea::machine {
class Symbols {
 public:
  Symbols() = default;
  /// Lines "ADDRESS TYPE NAME"; text and data symbols are kept. Error: unreadable, or not such a file.
  static Result<Symbols> read(const std::string& path);
  static Result<Symbols> parse(const std::string& label, const std::string& text);

  bool empty() const { return rows_.empty(); }
  /// "name+0x12", or "" where nothing is known (also beyond 1 MiB behind a symbol).
  std::string name(u64 address) const;

 private:
  struct Row {
    u64 address = 0;
    std::string name;
  };
  std::vector<Row> rows_;  // ascending
};
}  // namespace pangea::machine
