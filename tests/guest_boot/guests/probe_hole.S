// Reads and writes where no memory is: reads give all ones, writes vanish; then reports by isa-debug-exit: 21 if so.
#include "multiboot.inc"
guest_start:
    mov $0x70000000, %ebx
    movl $0x12345678, (%ebx)
    mov (%ebx), %eax
    cmp $0xffffffff, %eax
    jne 2f
    mov $21, %al
    out %al, $0xf4
1:  hlt
    jmp 1b
2:  mov $22, %al
    out %al, $0xf4
    jmp 1b
