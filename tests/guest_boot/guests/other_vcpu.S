// Lets vCPU 1 do what ends a machine: ACTION is TRIPLE_FAULT, DEBUG_EXIT (of VALUE) or RESET. After VALUE resets, counted in
// a byte of CMOS memory, vCPU 0 leaves through isa-debug-exit.
#define TRIPLE_FAULT 1
#define DEBUG_EXIT 2
#define RESET 3
#include "multiboot.inc"
    .set START_PAGE, 0x8000          // where the start-up IPI sends vCPU 1, in real mode
    .set ICR_LOW, 0xfee00300         // local APIC, SDM Vol. 3A 11.6.1
    .set ICR_HIGH, 0xfee00310
guest_start:
#if ACTION == RESET
    mov $0x60, %al
    out %al, $0x70
    in $0x71, %al
    cmp $VALUE, %al
    jb 1f
    out %al, $0xf4
1:  inc %al
    out %al, $0x71
#endif
    cld
    mov $begin, %esi
    mov $START_PAGE, %edi
    mov $(end - begin), %ecx
    rep movsb
    movl $(1 << 24), ICR_HIGH
    movl $0x4500, ICR_LOW            // INIT
    movl $(1 << 24), ICR_HIGH
    movl $(0x4600 | START_PAGE >> 12), ICR_LOW
2:  hlt
    jmp 2b

    .code16
begin:
#if ACTION == TRIPLE_FAULT
    lidtw %cs:(no_idt - begin)
    ud2
no_idt:
    .word 0
    .long 0
#elif ACTION == DEBUG_EXIT
    mov $VALUE, %al
    out %al, $0xf4
#else
    mov $0x06, %al
    mov $0xcf9, %dx
    out %al, %dx
#endif
3:  hlt
    jmp 3b
end:
