// The translator, as emu/machine makes it.
#pragma once
#include <memory>

#include "emu/x86/engine.h"

namespace pangea::jit {
/// Makes the node's translator and binds it as memory.code. One per process (it owns SIGSEGV, SIGFPE, SIGBUS and SIGILL
/// handling for faults in generated code). Error: no executable memory, or a host without a feature that generated code
/// needs.
Result<std::unique_ptr<x86::Engine>> make_engine(NodeMemory& memory, const x86::EngineOptions& options);
}  // namespace pangea::jit
