// Everything a device or the board needs from the bus.
#pragma once
#include "devices/bus/address_space.h"    // IWYU pragma: export
#include "devices/bus/device.h"           // IWYU pragma: export
#include "devices/bus/irq_line.h"         // IWYU pragma: export
#include "devices/bus/machine_control.h"  // IWYU pragma: export
