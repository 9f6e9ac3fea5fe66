// -serial, -device and -global.
#pragma once
#include "emu/machine/cli/given.h"
#include "emu/machine/cli/options.h"

namespace pangea::machine {

/// Back ends of the serial lines; `chardev:ID` is looked up among the values of -chardev.
Status read_serial(const Given& g, RunOptions& out);
/// isa-debug-exit, isa-debugcon, pc-testdev, pci-testdev. Error: another device, or a property it does not have.
Status read_devices(const Given& g, RunOptions& out);
/// -global DRIVER.PROPERTY=VALUE, or driver=,property=,value=. Error: a property that nothing here has.
Status read_globals(const Given& g, RunOptions& out);

}  // namespace pangea::machine
