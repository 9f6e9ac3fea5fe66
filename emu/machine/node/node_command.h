// `pangea node`: waits for a machine, provides its part of it, and ends with it.
#pragma once
#include "emu/machine/cli/options.h"

namespace pangea::machine {
/// Returns the exit status of the process: 0 when the machine ended in good order, 3 when a node was lost, 2 otherwise.
int node_command(const NodeOptions& options);
}  // namespace pangea::machine
