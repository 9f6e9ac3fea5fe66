// Names of the emitters (Control rows) and of the C++ instruction functions (Exec rows). One row per name; the tables
// that the translator and emu/x86/exec build from these lists do not compile if a row is forgotten.
#pragma once
#include "emu/base/types.h"

namespace pangea::x86 {
// Emitters of the translator. Jcc's condition is opcode & 15.
#define PANGEA_EMIT_IDS(X)                                                                                          \
  X(None)                                                                                                           \
  X(Nop)                                                                                                            \
  X(Jcc)                                                                                                            \
  X(JmpRel)                                                                                                         \
  X(JmpRm) X(CallRel) X(CallRm) X(Ret) X(RetImm) X(PushReg) X(PushRm) X(PushImm) X(PopReg) X(PopRm) X(Leave) X(Lea) \
      X(MovImm) X(MovMoffs) X(XchgRm) X(XchgAcc) X(Loop) X(Jrcxz) X(Pause) X(Cbw) X(Cwd) X(CmpXchg) X(CmpXchg8b)    \
          X(MulDiv) X(Movnti) X(Movsxd) X(Endbr) X(FnstswAx) X(Lahf) X(Sahf) X(Clc) X(Bt) X(SetAc)

enum class EmitId : u16 {
#define X(n) n,
  PANGEA_EMIT_IDS(X)
#undef X
};

// C++ instruction functions: `Outcome exec_NAME(Vcpu&, const Insn&)`.
#define PANGEA_EXEC_IDS(X)                                                                                             \
  X(none)                                                                                                              \
  /* exec/system */ X(hlt) X(cpuid) X(rdmsr) X(wrmsr) X(rdtsc) X(rdtscp) X(rdpid) X(rdpmc) X(mov_from_cr) X(mov_to_cr) \
      X(mov_from_dr) X(mov_to_dr) X(clts) X(lmsw) X(smsw) X(lgdt) X(sgdt) X(lidt) X(sidt) X(lldt) X(sldt) X(ltr)       \
          X(str) X(invd) X(wbinvd) X(invlpg) X(invpcid) X(swapgs) X(xgetbv) X(xsetbv) X(rdfsbase) X(rdgsbase)          \
              X(wrfsbase) X(wrgsbase) X(monitor) X(mwait) X(clflush) X(rdrand) X(rdseed) X(ud) X(vmcall) X(rdpkru)     \
                  X(wrpkru) X(serialize) /* exec/flags */ X(cli) X(sti) X(pushf) X(popf) X(cld)                        \
                      X(std) /* exec/segment */ X(mov_from_sreg) X(mov_to_sreg) X(push_sreg) X(pop_sreg)               \
                          X(load_far_pointer) X(lar) X(lsl) X(verr) X(verw) X(arpl) /* exec/control */ X(int3) X(int1) \
                              X(int_n) X(into) X(iret) X(syscall) X(sysret) X(sysenter) X(sysexit) X(jmp_far)          \
                                  X(jmp_far_mem) X(call_far) X(call_far_mem) X(ret_far) X(ret_far_imm) X(enter)        \
                                      X(bound) X(pusha) X(popa) /* exec/string */ X(movs) X(stos) X(lods) X(scas)      \
                                          X(cmps) X(ins) X(outs) X(xlat) /* exec/io */ X(in_imm) X(in_dx) X(out_imm)   \
                                              X(out_dx) /* exec/bcd */ X(aaa) X(aas) X(aam) X(aad) X(daa) X(das)       \
                                                  X(salc) /* exec/fpu */ X(fxsave) X(fxrstor) X(xsave) X(xsavec)       \
                                                      X(xsaveopt) X(xsaves) X(xrstor) X(xrstors) X(fldenv) X(fnstenv)  \
                                                          X(fnsave) X(frstor) X(ldmxcsr) X(stmxcsr) X(fwait)           \
                                                              X(maskmov) /* exec/masked */ X(vmaskmov) X(gather)

enum class ExecId : u16 {
#define X(n) n,
  PANGEA_EXEC_IDS(X)
#undef X
};
}  // namespace pangea::x86
