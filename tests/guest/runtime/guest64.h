// 64-bit images: the state of a processor under test, descriptors, and page tables.
#pragma once

struct cpu {
  u64 rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
  u64 rip, cs, rflags, ss;
  // What ended the run: vector and error code; where the handler's stack began.
  u64 vector, error, handler_sp, cr2, dr6;
};
struct frame {
  u64 rax, rcx, rdx, rbx, unused, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
  u64 vector, error, rip, cs, rflags, rsp, ss;
};
/// The processor with this state, until an exception or interrupt that has no handler; the state then is in `*c`.
void run(struct cpu* c);
/// A state that runs `code` at level 0, or at level 3 through the user alias; interrupts off, an empty stack.
struct cpu kernel(const void* code);
struct cpu user(const void* code);
struct cpu user32(const void* code);
/// The interrupt that comes while this processor waits with IF set, as patience() counts; DONE: none. The first is for
/// one that must come and may need a timer, the second for one that must not come.
u64 next_interrupt(u64 us);
static inline u64 awaited(void) { return next_interrupt(5000000); }
static inline u64 nothing(void) { return next_interrupt(20000); }
/// run() and the check that it ended so. Error codes count where the vector has one.
void expect(struct cpu* c, u64 vector, u64 error, u64 rip, const char* name, const char* source, const char* file,
            int line);
#define EXPECT(c, vector, error, rip, name, source) \
  expect(&(c), vector, error, (u64)(rip), name, source, __FILE__, __LINE__)

/// A piece at level 0 or 3 that must end so: at its own start for a fault, anywhere for DONE.
#define AT(mode, text, vector, error, name, source)                         \
  do {                                                                      \
    char* const piece_ = PIECE(text);                                       \
    struct cpu c_ = mode(piece_);                                           \
    EXPECT(c_, vector, error, (vector) == DONE ? 0 : c_.rip, name, source); \
  } while (0)
#define KERNEL(text, vector, error, name, source) AT(kernel, text, vector, error, name, source)
#define USERM(text, vector, error, name, source) AT(user, text, vector, error, name, source)

typedef void handler(struct frame*);
extern handler* handlers[256];
extern u64 gdt[GDT_BYTES / 8];
struct gate {
  u64 low, high;
};
extern struct gate idt[256];
extern char stubs[];
void set_gate(unsigned vector, const void* target, u16 selector, unsigned type_dpl_p, unsigned ist);
void reset_gate(unsigned vector);
void load_idt(unsigned limit);
struct __attribute__((packed)) tss64 {
  u32 r0;
  u64 rsp[3];
  u64 r1;
  u64 ist[7];
  u64 r2;
  u16 r3, iomap;
  u8 bits[8192 + 1];
};
extern struct tss64 tss;
/// Another processor: runs `work` there, once. Numbers are APIC ids.
void start_processor(u32 apic_id, void (*work)(void));
extern volatile u32 processors_done;

/// Where user code sees the first GiB.
#define USER_ALIAS 0x80000000ull
#define USER(p) ((u64)(p) + USER_ALIAS)
extern u8 test_stack_top[], exception_stack_top[], ist_stack_top[];

enum { P = 1, W = 2, U = 4, A = 32, D = 64, PS = 128, G = 256 };
#define NX (1ull << 63)
/// Table entry of `va` at `level` (0: page, 1: 2 MiB, 2: 1 GiB, 3: 512 GiB) in the tables under `root` (a PML4);
/// missing tables above it are made, with all rights.
u64* entry_of(u64* root, u64 va, unsigned level);
u64* new_table(void);
extern u64 pml4[512], pdpt[512];
/// Where tests map what they like.
#define TEST_VA 0x8000000000ull
/// Memory that nothing else uses: 64 MiB and above.
#define TEST_PA 0x4000000ull
