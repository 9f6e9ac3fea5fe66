// Executes an address beyond the end of RAM, where nothing answers.
#include "multiboot.inc"
guest_start:
    mov $0x70000000, %eax
    jmp *%eax
