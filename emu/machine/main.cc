// The binary `pangea`.
#include <fmt/format.h>

#include "emu/base/host_ports.h"
#include "emu/machine/cli/options.h"
#include "emu/machine/node/link_keys.h"
#include "emu/machine/node/node_command.h"
#include "emu/machine/run.h"

namespace {
int keygen_command(const pangea::machine::KeygenOptions& options) {
  pangea::HostEntropy entropy;
  const auto line = pangea::machine::keygen(options, entropy);
  if (!line) return pangea::machine::report(line.error());
  fmt::print("{}", *line);
  return 0;
}
}  // namespace

int main(int argc, char** argv) {
  using namespace pangea;
  using namespace pangea::machine;
  const auto command = parse_command_line({argv + 1, argv + argc});
  if (!command) return report(command.error());
  switch (command->kind) {
    case Command::Kind::Print: fmt::print("{}", command->text); return 0;
    case Command::Kind::Run: return run_command(command->run);
    case Command::Kind::Node: return node_command(command->node);
    case Command::Kind::Keygen: return keygen_command(command->keygen);
  }
  return 2;
}
