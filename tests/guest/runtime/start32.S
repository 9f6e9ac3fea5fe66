// Start-up of 32-bit images: Multiboot header, flat segments, no paging, entry stubs, and run().
#include "tests/guest/runtime/layout.h"
    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0, -0x1badb002

    .text
    .globl _start
_start:
    mov $boot_stack_top, %esp
    mov %ebx, multiboot_info
    lgdt gdt_pointer
    ljmp $KERNEL_CS, $1f
1:  mov $KERNEL_SS, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $0x31, %eax             // NE, ET, PE
    mov %eax, %cr0
    mov $0x600, %eax            // OSFXSR, OSXMMEXCPT
    mov %eax, %cr4
    call guest_main
1:  hlt
    jmp 1b

    // void run(struct cpu *): to an outer level or V86 with a whole frame, on the same level with ESP set first.
    .globl run
run:
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov 20(%esp), %edi
    push %edi
    mov %esp, run_sp
    testl $0x20000, CPU32_EFLAGS(%edi)
    jz 1f
    push CPU32_GS(%edi)
    push CPU32_FS(%edi)
    push CPU32_DS(%edi)
    push CPU32_ES(%edi)
    jmp 2f
1:  testl $3, CPU32_CS(%edi)
    jnz 2f
    mov 16(%edi), %esp
    jmp 3f
2:  push CPU32_SS(%edi)
    push 16(%edi)
3:  push CPU32_EFLAGS(%edi)
    push CPU32_CS(%edi)
    push CPU32_EIP(%edi)
    mov 0(%edi), %eax
    mov 4(%edi), %ecx
    mov 8(%edi), %edx
    mov 12(%edi), %ebx
    mov 20(%edi), %ebp
    mov 24(%edi), %esi
    push %eax
    testl $0x20000, CPU32_EFLAGS(%edi)
    jnz 4f
    mov CPU32_ES(%edi), %eax
    mov %eax, %es
    mov CPU32_FS(%edi), %eax
    mov %eax, %fs
    mov CPU32_GS(%edi), %eax
    mov %eax, %gs
    mov CPU32_DS(%edi), %eax
    push 28(%edi)
    mov %eax, %ds
    pop %edi
    pop %eax
    iret
4:  mov 28(%edi), %edi
    pop %eax
    iret

common:
    push %gs
    push %fs
    push %es
    push %ds
    pusha
    mov $KERNEL_SS, %eax
    mov %eax, %ds
    mov %eax, %es
    cld
    mov 48(%esp), %eax
    mov handlers(,%eax,4), %eax
    test %eax, %eax
    jz 1f
    push %esp
    call *%eax
    add $4, %esp
    popa
    pop %ds
    pop %es
    pop %fs
    pop %gs
    add $8, %esp
    iret
1:  mov %esp, %esi
    mov %ss, %edx
    mov run_sp, %eax
    test %eax, %eax
    jz 2f
    mov $KERNEL_SS, %ecx
    mov %ecx, %ss
    mov %eax, %esp
    movl $0, run_sp
    push $2
    popf
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    push %edx
    push %esi
    push 8(%esp)
    call recorded
    add $12, %esp
    pop %edi
    pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    ret
2:  mov $boot_stack_top, %esp
    push %esi
    call unexpected

#include "stubs.inc"

    .data
    .align 16
    .globl gdt, gdt_pointer
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    // 08 kernel code
    .quad 0x00cf93000000ffff    // 10 kernel data
    .quad 0x00009b000000ffff    // 18 16-bit code, 64 KiB at 0
    .quad 0x00cffb000000ffff    // 20 user code
    .quad 0x00cff3000000ffff    // 28 user data
    .quad 0x000093000000ffff    // 30 16-bit data
    .quad 0                     // 38 TSS
    .quad 0                     // 40
    .fill GDT_BYTES / 8 - 9, 8, 0
gdt_pointer:
    .word GDT_BYTES - 1
    .long gdt

    .bss
    .align 4096
    .globl boot_stack_top, run_sp, multiboot_info, test_stack_top, exception_stack_top
    .skip 16384
test_stack_top:
    .skip 16384
exception_stack_top:
    .skip 16384
boot_stack_top:
run_sp: .skip 4
multiboot_info: .skip 4
    .section .note.GNU-stack, "", @progbits
