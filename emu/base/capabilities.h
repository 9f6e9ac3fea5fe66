// What a process that root has started may do beyond what any other may.
#pragma once
#include <string>

#include "emu/base/result.h"

namespace pangea {

/// Drops all capabilities of the calling thread and of those that it starts later, for good. Error: the kernel refuses.
/// See capabilities(7).
Status drop_capabilities();
/// Name of a thread of this process that has capabilities; empty: none has.
std::string privileged_thread();
}  // namespace pangea
