// The rows themselves. Internal to the table and the decoder; others use isa_query.h.
#pragma once
#include "emu/x86/isa_build.h"

namespace pangea::x86 {
#define COPY(...) build::copy(__VA_ARGS__),
#define CTRL(id, ...) build::control(EmitId::id, __VA_ARGS__),
#define EXEC(id, ...) build::exec(ExecId::id, __VA_ARGS__),
inline constexpr IsaRow kRows[] = {
#include "emu/x86/isa_alu.inc"
#include "emu/x86/isa_avx.inc"
#include "emu/x86/isa_avx38.inc"
#include "emu/x86/isa_bmi.inc"
#include "emu/x86/isa_control.inc"
#include "emu/x86/isa_data.inc"
#include "emu/x86/isa_fma.inc"
#include "emu/x86/isa_mmx.inc"
#include "emu/x86/isa_sse.inc"
#include "emu/x86/isa_sse4.inc"
#include "emu/x86/isa_system.inc"
#include "emu/x86/isa_x87.inc"
};
#undef COPY
#undef CTRL
#undef EXEC
inline constexpr usize kRowCount = sizeof(kRows) / sizeof(kRows[0]);
}  // namespace pangea::x86
