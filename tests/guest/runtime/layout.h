// Numbers that the assembly and the C sources of the guest images share.
#pragma once
#define KERNEL_CS 0x08
#define KERNEL_SS 0x10
#define KERNEL_CS32 0x18
#define USER_CS32 0x23
#define USER_SS 0x2b
#define USER_CS 0x33
#define TSS_SELECTOR 0x38
#define FREE_SELECTOR 0x48
#define GDT_BYTES 512
#define TRAMPOLINE 0x8000

// Offsets in struct cpu of 64-bit images.
#define CPU_RSP 32
#define CPU_RIP 128
#define CPU_CS 136
#define CPU_RFLAGS 144
#define CPU_SS 152

// Offsets in struct cpu of 32-bit images.
#define CPU32_EIP 32
#define CPU32_CS 36
#define CPU32_EFLAGS 40
#define CPU32_SS 44
#define CPU32_DS 48
#define CPU32_ES 52
#define CPU32_FS 56
#define CPU32_GS 60
#define CODE16 0x18
#define DATA16 0x30
