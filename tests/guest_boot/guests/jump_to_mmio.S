// Executes the I/O APIC's registers.
#include "multiboot.inc"
guest_start:
    mov $0xfec00000, %eax
    jmp *%eax
