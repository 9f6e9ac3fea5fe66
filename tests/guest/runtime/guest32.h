// 32-bit images: the state of a processor under test, descriptors, the TSS.
#pragma once

struct cpu {
  u32 eax, ecx, edx, ebx, esp, ebp, esi, edi, eip, cs, eflags, ss, ds, es, fs, gs;
  // What ended the run: vector and error code; where the handler's frame lies.
  u32 vector, error, handler_sp, cr2;
};
struct frame {
  u32 edi, esi, ebp, unused, ebx, edx, ecx, eax, ds, es, fs, gs, vector, error, eip, cs, eflags, esp, ss, v86_es,
      v86_ds, v86_fs, v86_gs;
};
/// The processor with this state, until an exception or interrupt that has no handler; the state then is in `*c`.
void run(struct cpu* c);
struct cpu kernel(const void* code);
struct cpu user(const void* code);
/// Virtual-8086 mode at `segment`:`ip`, all segments the same.
struct cpu v86(u16 segment, u16 ip);
void expect(struct cpu* c, u32 vector, u32 error, u32 eip, const char* name, const char* source, const char* file,
            int line);
#define EXPECT(c, vector, error, eip, name, source) \
  expect(&(c), vector, error, (u32)(eip), name, source, __FILE__, __LINE__)
#define AT(mode, text, vector, error, name, source)                         \
  do {                                                                      \
    char* const piece_ = PIECE(text);                                       \
    struct cpu c_ = mode(piece_);                                           \
    EXPECT(c_, vector, error, (vector) == DONE ? 0 : c_.eip, name, source); \
  } while (0)
#define KERNEL(text, vector, error, name, source) AT(kernel, text, vector, error, name, source)
#define USERM(text, vector, error, name, source) AT(user, text, vector, error, name, source)

typedef void handler(struct frame*);
extern handler* handlers[256];
extern u64 gdt[GDT_BYTES / 8], idt[256];
extern char stubs[];
u64 descriptor(u32 base, u32 limit, u32 attributes);
void set_gate(unsigned vector, const void* target, u16 selector, unsigned type_dpl_p);
void reset_gate(unsigned vector);
struct __attribute__((packed)) tss32 {
  u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds,
      fs, gs, ldt;
  u16 trap, iomap;
  u8 redirection[32], bits[8193];
};
extern struct tss32 tss;
extern u8 test_stack_top[], exception_stack_top[];
