#include "emu/machine/cli/number.h"

#include <fmt/format.h>

#include <charconv>

namespace pangea::machine {
namespace {
/// log2 of a suffix's unit, or -1.
int suffix_shift(char c) {
  switch (c) {
    case 'b':
    case 'B': return 0;
    case 'k':
    case 'K': return 10;
    case 'm':
    case 'M': return 20;
    case 'g':
    case 'G': return 30;
    case 't':
    case 'T': return 40;
    default: return -1;
  }
}
}  // namespace

std::optional<u64> parse_u64(std::string_view text) {
  int base = 10;
  if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
    base = 16;
    text.remove_prefix(2);
  }
  u64 v = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v, base);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return v;
}

std::optional<u64> parse_size(std::string_view text, u64 default_unit) {
  u64 unit = default_unit;
  if (!text.empty() && suffix_shift(text.back()) >= 0) {
    unit = u64{1} << suffix_shift(text.back());
    text.remove_suffix(1);
  }
  const auto dot = text.find('.');
  const auto whole = parse_u64(text.substr(0, dot));
  if (!whole) return std::nullopt;
  u128 bytes = static_cast<u128>(*whole) * unit;
  if (dot != std::string_view::npos) {
    const std::string_view digits = text.substr(dot + 1);
    if (digits.size() > 9 || digits.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
    const auto fraction = parse_u64(digits);
    if (!fraction) return std::nullopt;
    u64 scale = 1;
    for (usize i = 0; i < digits.size(); ++i) scale *= 10;
    const u128 part = static_cast<u128>(*fraction) * unit;
    if (part % scale != 0) return std::nullopt;
    bytes += part / scale;
  }
  if (bytes >> 63) return std::nullopt;
  return static_cast<u64>(bytes);
}

std::vector<std::pair<std::string, std::string>> parse_key_values(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> items;
  std::string item;
  const auto finish = [&] {
    const auto eq = item.find('=');
    if (eq == std::string::npos)
      items.emplace_back(item, "");
    else
      items.emplace_back(item.substr(0, eq), item.substr(eq + 1));
    item.clear();
  };
  for (usize i = 0; i < text.size(); ++i) {
    if (text[i] != ',')
      item += text[i];
    else if (i + 1 < text.size() && text[i + 1] == ',')
      item += text[i++];
    else
      finish();
  }
  if (!item.empty() || !items.empty()) finish();
  return items;
}

std::string size_text(u64 bytes) {
  constexpr u64 kKi = 1024, kMi = kKi * kKi, kGi = kKi * kMi;
  if (bytes >= kGi && bytes % kGi == 0) return fmt::format("{} GiB", bytes / kGi);
  if (bytes >= kMi) return fmt::format("{:.4g} MiB", static_cast<double>(bytes) / static_cast<double>(kMi));
  if (bytes >= kKi) return fmt::format("{:.4g} KiB", static_cast<double>(bytes) / static_cast<double>(kKi));
  return fmt::format("{} bytes", bytes);
}
}  // namespace pangea::machine
