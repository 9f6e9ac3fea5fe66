// Every option of the binary, once: spelling, argument, help. The normaliser, CLI11 and the help page derive from it.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "emu/base/result.h"
#include "emu/base/types.h"

namespace pangea::machine {

enum class OptionGroup : u8 { Machine, Boot, Console, Nodes, Debugging, Other };

struct OptionRow {
  const char* name;      // without dashes
  const char* argument;  // placeholder in the help page; null: the option takes none
  const char* help;      // null: accepted, but not shown
  OptionGroup group;
  bool repeatable = false;
  /// Not null: QEMU knows it, Pangea does not have it yet. The text says why, for the error line.
  const char* missing = nullptr;
};

std::span<const OptionRow> run_options();
std::span<const OptionRow> node_options();
std::span<const OptionRow> keygen_options();
/// Row of an option, or null.
const OptionRow* find_option(std::span<const OptionRow> rows, std::string_view name);

/// QEMU spells long options with one dash, which CLI11 takes for a bundle of short ones. Rewrites `-name value`,
/// `--name value` and `-name=value` to `--name==value`: joined, so that a value may begin with a dash; and with a guard
/// '=' in front of the value, because CLI11 refuses empty values and splits bracketed ones. Error: not an option, an
/// unknown one, one that Pangea does not have yet, a missing or a superfluous value.
Result<std::vector<std::string>> normalise_arguments(std::span<const OptionRow> rows,
                                                     const std::vector<std::string>& arguments);

/// The pages behind -h.
std::string main_help();
std::string run_help();
/// What `-device help` prints, as QEMU does.
std::string device_help();
std::string node_help();
std::string keygen_help();
}  // namespace pangea::machine
