// No IDT at all, then an exception: #DE, #GP on the way to its handler, double fault, shutdown.
#include "multiboot.inc"
guest_start:
    lidt no_idt
    xor %ecx, %ecx
    mov $1, %eax
    xor %edx, %edx
    div %ecx
    hlt
    jmp guest_start
no_idt:
    .word 0
    .long 0
