// `pangea run`: builds the machine, lets it run, carries out what RunControl is asked for, and ends with its status.
#pragma once
#include "emu/machine/cli/options.h"

namespace pangea::machine {
/// Returns the exit status of the process. Everything it has to say goes to stderr.
int run_command(const RunOptions& options);
/// Prints "pangea: what: why; do" and returns the error's exit status.
int report(const Error& error);
}  // namespace pangea::machine
