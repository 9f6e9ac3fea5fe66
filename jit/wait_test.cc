// Pages that another node takes away, as generated code meets it: each kind of access ends with Wait before it has
// changed anything, and goes on as if nothing had been once the page is back. And blocks of pages that others write to.
#include <gtest/gtest.h>

#include "jit/fixture.h"

namespace pangea::jit {
namespace {
using namespace x86;
constexpr u64 kData = Fixture::kData, kNext = kData + kPageSize;

/// What the access wants, where it is, and which page is missing.
struct Form {
  const char* name;
  const char *code, *end;
  Access access;
  u64 offset = 0;  // of the instruction that waits
  u64 missing = kData;
};
#define FORM(name, text)           \
  GUEST(wait_##name, text "\nnop") \
  static const Form k_##name =
#define AT(name) #name, guest_wait_##name, guest_end_wait_##name
FORM(load, "mov 8(%rdi),%rax"){AT(load), Access::Read};
FORM(load_byte, "movzbl 0xfff(%rdi),%eax"){AT(load_byte), Access::Read};
FORM(store, "mov %rax,8(%rdi)"){AT(store), Access::Write};
FORM(modify, "add %rax,8(%rdi)"){AT(modify), Access::Write};
FORM(locked, "lock xadd %rax,8(%rdi)"){AT(locked), Access::Write};
FORM(exchange, "xchg %rax,8(%rdi)"){AT(exchange), Access::Write};
FORM(push, "push %rax"){AT(push), Access::Write};
FORM(pop, "pop %rax"){AT(pop), Access::Read};
FORM(call, "call 1f\n1:"){AT(call), Access::Write};
FORM(known_load, "mov 0x400010,%rax"){AT(known_load), Access::Read};
FORM(known_store, "mov %rax,0x400010"){AT(known_store), Access::Write};
FORM(loads, "mov (%rdi),%rax\nmov 8(%rdi),%rdx"){AT(loads), Access::Read};
FORM(stores, "mov %rax,(%rdi)\nmov %rdx,8(%rdi)"){AT(stores), Access::Write};
FORM(indexed, "mov (%rdi,%rcx,8),%rax"){AT(indexed), Access::Read};
FORM(vector_load, "movups (%rdi),%xmm0\nmovq %xmm0,%rax"){AT(vector_load), Access::Read};
FORM(vector_store, "movq %rax,%xmm0\nmovups %xmm0,16(%rdi)"){AT(vector_store), Access::Write, 5};
FORM(copy_from, "mov %rbx,%rsi\nxchg %rsi,%rdi\nmovsq"){AT(copy_from), Access::Read, 6};
FORM(copy_to, "mov %rbx,%rsi\nmovsq"){AT(copy_to), Access::Write, 3};
FORM(fill, "rep stosb"){AT(fill), Access::Write};
FORM(crossing_load, "mov 0xffc(%rdi),%rax"){AT(crossing_load), Access::Read, 0, kNext};
FORM(crossing_store, "mov %rax,0xffc(%rdi)"){AT(crossing_store), Access::Write, 0, kNext};
FORM(crossing_first, "mov %rax,0xffc(%rdi)"){AT(crossing_first), Access::Write};
// One check for both, and the second wants more than the first.
FORM(load_store, "mov (%rdi),%rdx\nmov %rax,8(%rdi)"){AT(load_store), Access::Write};
FORM(loop, "1: mov (%rdi),%rdx\nadd %rdx,%rax\nadd $8,%rdi\ndec %ecx\njnz 1b"){AT(loop), Access::Read};
const Form* const kForms[] = {&k_load,           &k_load_byte,      &k_store,      &k_modify,  &k_locked,
                              &k_exchange,       &k_push,           &k_pop,        &k_call,    &k_known_load,
                              &k_known_store,    &k_loads,          &k_stores,     &k_indexed, &k_vector_load,
                              &k_vector_store,   &k_copy_from,      &k_copy_to,    &k_fill,    &k_crossing_load,
                              &k_crossing_store, &k_crossing_first, &k_load_store, &k_loop};

class Waits : public testing::TestWithParam<bool> {
 protected:
  static EngineOptions options() {
    EngineOptions o;
    o.all_hot = GetParam();
    o.count_instructions = true;
    return o;
  }
  static void prepare(Fixture& f) {
    VcpuState& s = f.vcpu->state();
    s.halted = false;
    s.rip = Fixture::kCode;
    s.rflags = 2;
    for (unsigned i = 0; i < 16; ++i) s.gpr[i] = 0x1111 * i + 7;
    s.gpr[1] = 3;                // RCX
    s.gpr[3] = kData + 0x10000;  // RBX
    s.gpr[4] = kData + 0x800;    // RSP
    s.gpr[7] = kData;            // RDI
    s.instructions = 0;
    for (u64 k = 0; k < 2 * kPageSize; k += 8) f.put64(kData + k, k * 0x0101010101 + 5);
  }
  static void give(Fixture& f, u64 page, Right right) { f.pages.set_right(page_of(Gpa{page}), right); }
  /// As the node's gate does it; the vCPU is parked.
  static void take(Fixture& f, u64 page, Right keep) {
    bool done = false;
    give(f, page, keep);
    f.safepoints.revoke(page_of(Gpa{page}), keep, [&done] { done = true; });
    ASSERT_TRUE(done);
  }
};
INSTANTIATE_TEST_SUITE_P(Code, Waits, testing::Bool(), [](const auto& i) { return i.param ? "Hot" : "Cold"; });

TEST_P(Waits, EachAccessWaitsBeforeItHasChangedAnything) {
  for (const Form* form : kForms)
    for (const Right left : {Right::None, Right::Read}) {
      if (left == Right::Read && form->access == Access::Read) continue;
      SCOPED_TRACE(form->name);
      Fixture f(options()), free(options());
      for (Fixture* x : {&f, &free}) {
        x->load(form->code, static_cast<usize>(form->end - form->code));
        for (int warm = 0; warm < 3; ++warm) {
          prepare(*x);
          ASSERT_EQ(x->run(), Outcome::Halt);
        }
        prepare(*x);
      }
      take(f, form->missing, left);
      ASSERT_EQ(f.run(), Outcome::Wait);
      VcpuState &s = f.vcpu->state(), &t = free.vcpu->state();
      const bool second = form == &k_load_store && left == Right::Read;
      EXPECT_EQ(s.wait_page, page_of(Gpa{form->missing}));
      EXPECT_EQ(s.wait_access, form == &k_load_store && !second ? Access::Read : form->access);
      EXPECT_EQ(s.rip, Fixture::kCode + (second ? 3 : form->offset));
      for (u64 k = 0; k < 2 * kPageSize; k += 8) ASSERT_EQ(f.get64(kData + k), k * 0x0101010101 + 5) << k;
      // What the page holds when it is back is what counts.
      for (Fixture* x : {&f, &free})
        for (u64 k = 0; k < kPageSize; k += 8) x->put64(form->missing + k, k * 3);
      give(f, form->missing, Right::Write);
      for (Fixture* x : {&f, &free}) ASSERT_EQ(x->run(), Outcome::Halt);
      if (second) s.gpr[2] = t.gpr[2];  // it had read the old value already
      for (unsigned i = 0; i < 16; ++i) EXPECT_EQ(s.gpr[i], t.gpr[i]) << i;
      EXPECT_EQ(s.rflags, t.rflags);
      EXPECT_EQ(s.instructions, t.instructions);
      for (u64 k = 0; k < 2 * kPageSize; k += 8) ASSERT_EQ(f.get64(kData + k), free.get64(kData + k)) << k;
    }
}

TEST_P(Waits, CodeThatIsGoneIsWaitedForAndReadAnew) {
  Fixture f(options());
  const auto code = [&f](u8 value) {
    const u8 bytes[] = {0xb8, value, 0, 0, 0, 0xf4};  // mov eax, value; hlt
    f.load(bytes, sizeof bytes);
  };
  code(1);
  prepare(f);
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.vcpu->state().gpr[0], 1u);
  for (u8 value = 2; value < 6; ++value) {
    give(f, Fixture::kCode, Right::None);
    f.memory.code->code_page_lost(page_of(Gpa{Fixture::kCode}));
    take(f, Fixture::kCode, Right::None);
    prepare(f);
    ASSERT_EQ(f.run(), Outcome::Wait);
    EXPECT_EQ(f.vcpu->state().wait_page, page_of(Gpa{Fixture::kCode}));
    EXPECT_EQ(f.vcpu->state().wait_access, Access::Read);
    code(value);
    give(f, Fixture::kCode, Right::Read);
    ASSERT_EQ(f.run(), Outcome::Halt);
    EXPECT_EQ(f.vcpu->state().gpr[0], value);
  }
}

/// Stores RAX's low byte into the code at kTarget, which another vCPU runs.
constexpr u64 kTarget = 0x180000;
GUEST(writes, "mov %al,0x180001\nmov %al,0x180ff0")
TEST_P(Waits, AnotherVcpusStoreIsSeen) {
  Fixture f(options());
  auto other = *Vcpu::create(VcpuId{1}, f.memory, f.cpuid, {nullptr, &f.io, &f.tsc, nullptr});
  f.safepoints.add(other.get());
  LOAD(f, writes);
  const u8 target[] = {0xb8, 0, 0, 0, 0, 0xf4};
  f.load(target, sizeof target, kTarget);
  prepare(f);
  VcpuState& o = other->state();
  const VcpuState& s = f.vcpu->state();
  o.cr0 = s.cr0, o.cr4 = s.cr4, o.efer = s.efer, o.cr3 = s.cr3, o.xcr0 = s.xcr0;
  for (int i = 0; i < 6; ++i) o.seg[i] = s.seg[i];
  o.wait_for_sipi = false;
  update_mode(o);
  for (u64 value = 1; value < 40; ++value) {
    prepare(f);
    f.vcpu->state().gpr[0] = value;
    ASSERT_EQ(f.run(), Outcome::Halt);
    o.rip = kTarget;
    o.halted = false;
    other->unpark();
    Outcome out;
    do {
      o.exit_request.store(0);
      out = f.engine->run(*other);
    } while (out == Outcome::Next);
    other->park();
    ASSERT_EQ(out, Outcome::Halt);
    ASSERT_EQ(o.gpr[0], value) << "it ran what had been there before";
  }
}
}  // namespace
}  // namespace pangea::jit
