// x87 errors while CR0.NE is 1: #MF at the next instruction that waits.
#include "tests/guest/runtime/guest.h"

const u16 fpu_control = 0x37b;  // all masked but division by zero
const float fpu_zero = 0;
static void divide(void) { asm volatile("fninit; fldcw fpu_control; fld1; fdivs fpu_zero"); }

void tests(void) {
  const char* const src = "SDM Vol. 1, 8.7.1";
  write_cr0(read_cr0() | CR0_NE);
  divide();
  KERNEL("fwait", MF, 0, "fwait", src);
  KERNEL("fnclex; fwait", DONE, 0, "cleared", src);
  qemu_lacks("looks at FWAIT alone");
  divide();
  KERNEL("fld1", MF, 0, "fld1", src);
  divide();
  KERNEL("fldenv 0x100000", MF, 0, "fldenv", "SDM Vol. 2A, FLDENV");
  divide();
  KERNEL("frstor 0x100000", MF, 0, "frstor", "SDM Vol. 2A, FRSTOR");
  qemu_lacks(0);
  divide();
  KERNEL("fnstcw 0x4000000; fnclex; fld1", DONE, 0, "no-wait-forms", "SDM Vol. 1, 8.3.11");
}
