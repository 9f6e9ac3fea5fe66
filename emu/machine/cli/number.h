// Numbers as people type them on QEMU's command line: sizes with suffixes, hexadecimal ports, key=value lists.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "emu/base/types.h"

namespace pangea::machine {

/// Unsigned number: decimal or 0x hexadecimal, nothing around it. Nothing: not a number, or more than 64 bits.
std::optional<u64> parse_u64(std::string_view text);

/// Size in bytes: a number, perhaps with a decimal fraction, and a suffix (b, K, M, G, T; either case; powers of 1024).
/// Without a suffix the unit is `default_unit` bytes. Nothing: not a size, not a whole number of bytes, or more than 63
/// bits.
std::optional<u64> parse_size(std::string_view text, u64 default_unit);

/// Splits "a,b=c,d" at commas; ",," stands for a comma inside a value (QEMU's rule). Items without '=' have an empty
/// second part.
std::vector<std::pair<std::string, std::string>> parse_key_values(std::string_view text);

/// "512 MiB", "1.5 GiB", "4096 bytes": for error lines.
std::string size_text(u64 bytes);
}  // namespace pangea::machine
