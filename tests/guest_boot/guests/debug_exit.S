// Ends the run through isa-debug-exit at port 0xf4 with the number VALUE.
#include "multiboot.inc"
guest_start:
    mov $VALUE, %eax
    out %al, $0xf4
1:  hlt
    jmp 1b
