// Start-up of 64-bit images: Multiboot header, identity map, long mode, entry stubs, and run(): the processor with a
// given state until the next exception or interrupt.
#include "tests/guest/runtime/layout.h"
    .section .multiboot, "a"
    .align 4
    .long 0x1badb002, 0, -0x1badb002

    .code32
    .text
    .globl _start
_start:
    mov $boot_stack_top, %esp
    mov %ebx, multiboot_info
    // PML4[0] -> PDPT; PDPT[0, 1, 3] -> supervisor pages, PDPT[2] -> the first GiB again, for user mode (USER_ALIAS).
    mov $pdpt + 7, %eax
    mov %eax, pml4
    mov $page_directories + 3, %eax
    xor %ecx, %ecx
1:  mov %eax, pdpt(,%ecx,8)
    add $0x1000, %eax
    inc %ecx
    cmp $4, %ecx
    jne 1b
    mov $user_directory + 7, %eax
    mov %eax, pdpt + 2 * 8
    mov $0x83, %eax
    xor %ecx, %ecx
2:  mov %eax, page_directories(,%ecx,8)
    cmp $512, %ecx
    jae 3f
    lea 4(%eax), %edx
    mov %edx, user_directory(,%ecx,8)
3:  add $0x200000, %eax
    inc %ecx
    cmp $2048, %ecx
    jne 2b
    call enter_long_mode
    .code64
    mov $boot_stack_top, %esp
    call guest_main
1:  hlt
    jmp 1b

    // From 32-bit protected mode, on any processor; returns into 64-bit code.
    .code32
    .globl enter_long_mode
enter_long_mode:
    mov %cr4, %eax
    or $0x620, %eax             // PAE, OSFXSR, OSXMMEXCPT
    mov %eax, %cr4
    mov $pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax             // SCE, LME, NXE
    wrmsr
    mov $0x80010033, %eax       // PG, WP, NE, ET, MP, PE
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $KERNEL_CS, $1f
    .code64
1:  mov $KERNEL_SS, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    pop %rax                    // pushed by a 32-bit CALL: the upper half is the caller's stack, so take 32 bits
    mov %eax, %eax
    sub $4, %rsp
    jmp *%rax

    // void run(struct cpu *)
    .globl run
run:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdi
    mov %rsp, run_sp
    push CPU_SS(%rdi)
    push CPU_RSP(%rdi)
    push CPU_RFLAGS(%rdi)
    push CPU_CS(%rdi)
    push CPU_RIP(%rdi)
    mov 0(%rdi), %rax
    mov 8(%rdi), %rcx
    mov 16(%rdi), %rdx
    mov 24(%rdi), %rbx
    mov 40(%rdi), %rbp
    mov 48(%rdi), %rsi
    mov 64(%rdi), %r8
    mov 72(%rdi), %r9
    mov 80(%rdi), %r10
    mov 88(%rdi), %r11
    mov 96(%rdi), %r12
    mov 104(%rdi), %r13
    mov 112(%rdi), %r14
    mov 120(%rdi), %r15
    mov 56(%rdi), %rdi
    iretq

    // Every vector comes here with its number and error code on the stack.
common:
    push %r15
    push %r14
    push %r13
    push %r12
    push %r11
    push %r10
    push %r9
    push %r8
    push %rdi
    push %rsi
    push %rbp
    sub $8, %rsp                // rsp: see the frame
    push %rbx
    push %rdx
    push %rcx
    push %rax
    cld
    mov 128(%rsp), %eax         // vector
    mov handlers(,%rax,8), %rax
    test %rax, %rax
    jz 1f
    mov %rsp, %rdi
    mov %rsp, %rbp
    and $-16, %rsp
    call *%rax
    mov %rbp, %rsp
    pop %rax
    pop %rcx
    pop %rdx
    pop %rbx
    add $8, %rsp
    pop %rbp
    pop %rsi
    pop %rdi
    pop %r8
    pop %r9
    pop %r10
    pop %r11
    pop %r12
    pop %r13
    pop %r14
    pop %r15
    add $16, %rsp
    iretq
1:  mov %rsp, %rsi
    mov run_sp, %rax
    test %rax, %rax
    jz 2f
    mov %rax, %rsp
    movq $0, run_sp
    push $2
    popfq
    xor %eax, %eax
    mov %eax, %fs
    mov (%rsp), %rdi
    cld
    call recorded
    pop %rdi
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
2:  mov $boot_stack_top, %esp
    mov %rsi, %rdi
    call unexpected

#include "stubs.inc"

    // Real-mode start of the other processors, copied to TRAMPOLINE: vector 8.
    .code16
    .globl trampoline, trampoline_end
trampoline:
    cli
    xor %ax, %ax
    mov %ax, %ds
    data32 lgdt gdt_pointer_low - trampoline + TRAMPOLINE
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    data32 ljmp $KERNEL_CS32, $1f
gdt_pointer_low:
    .word GDT_BYTES - 1
    .long gdt
trampoline_end:
    .code32
1:  mov $KERNEL_SS, %eax
    mov %eax, %ds
    mov %eax, %ss
    mov %eax, %es
    mov ap_stack, %esp
    call enter_long_mode
    .code64
    mov ap_stack, %esp
    call ap_main
1:  cli
    hlt
    jmp 1b

    .data
    .align 16
    .globl gdt, gdt_pointer
gdt:
    .quad 0
    .quad 0x00af9b000000ffff    // 08 kernel code, 64-bit
    .quad 0x00cf93000000ffff    // 10 kernel data
    .quad 0x00cf9b000000ffff    // 18 kernel code, 32-bit
    .quad 0x00cffb000000ffff    // 20 user code, 32-bit
    .quad 0x00cff3000000ffff    // 28 user data
    .quad 0x00affb000000ffff    // 30 user code, 64-bit
    .quad 0, 0                  // 38 TSS
    .fill GDT_BYTES / 8 - 9, 8, 0
gdt_pointer:
    .word GDT_BYTES - 1
    .quad gdt

    .bss
    .align 4096
    .globl pml4, pdpt, page_directories, user_directory, boot_stack_top, run_sp, multiboot_info
pml4: .skip 4096
pdpt: .skip 4096
page_directories: .skip 4 * 4096
user_directory: .skip 4096
    .globl test_stack_top, exception_stack_top, ist_stack_top
    .skip 16384
test_stack_top:
    .skip 16384
exception_stack_top:
    .skip 16384
ist_stack_top:
    .skip 16384
boot_stack_top:
run_sp: .skip 8
multiboot_info: .skip 8
    .section .note.GNU-stack, "", @progbits
