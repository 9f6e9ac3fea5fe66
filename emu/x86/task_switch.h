// Hardware task switches outside long mode. SDM Vol. 3A, chapter 7.
#pragma once
#include "emu/x86/vcpu.h"

namespace pangea::x86 {

enum class TaskSwitchBy : u8 { Jump, Call, Iret, Event };

struct TaskSwitch {
  TaskSwitchBy by = TaskSwitchBy::Jump;
  u16 selector = 0;  // of the TSS; Iret: not used, the link of the current one counts
  u64 rip = 0;       // saved for the old task
  u64 rflags = 0;    // saved for the old task
  bool has_error = false;
  u32 error = 0;  // pushed on the new task's stack
  u32 ext = 0;    // EXT bit of faults
};

/// The whole of a task switch. Next: the new task's state is in force (CS, RIP and mode too). Fault before the switch:
/// nothing has changed. Fault after it (segments, stack of the new task): the switch is done and the exception is the
/// new task's, as on a processor. Wait: nothing has changed.
Outcome task_switch(Vcpu& c, const TaskSwitch& t);
}  // namespace pangea::x86
