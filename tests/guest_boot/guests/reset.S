// Asks for a reset by the keyboard controller's pulse and, if nobody listens, by the chipset's reset register.
#include "multiboot.inc"
guest_start:
    mov $0xfe, %al
    out %al, $0x64
    mov $0x06, %al
    mov $0xcf9, %dx
    out %al, %dx
1:  hlt
    jmp 1b
