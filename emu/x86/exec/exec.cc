#include "emu/x86/exec/exec.h"

#include "emu/base/assert.h"

namespace pangea::x86 {
namespace {
constexpr ExecFn kFunctions[] = {
#define X(name) exec_##name,
    PANGEA_EXEC_IDS(X)
#undef X
};
}  // namespace

ExecFn exec_function(ExecId id) {
  PANGEA_ASSERT(static_cast<usize>(id) < std::size(kFunctions));
  return kFunctions[static_cast<usize>(id)];
}
}  // namespace pangea::x86
