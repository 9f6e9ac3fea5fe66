// The tests, by their usual names, and what x86-TSO says about each outcome.
#include <string.h>

#include "images/guest/litmus/litmus.h"

// x86-TSO lets a load pass an older store to another place unless MFENCE or a LOCK stands between them.
static Verdict passed_store(Fence fence, bool seen) {
  if (!seen) return kUsual;
  return fence == kPlain ? kRelaxed : kForbidden;
}
static Verdict never(bool seen) { return seen ? kForbidden : kUsual; }

#define JUDGE(name) static Verdict name(Fence fence, uint8_t(*r)[kRegisters], uint8_t x, uint8_t y)
#define UNUSED (void)fence, (void)r, (void)x, (void)y

// SDM 9.2.3.4: both loads may pass the stores.
JUDGE(store_buffering) {
  UNUSED;
  return passed_store(fence, r[0][0] == 0 && r[1][0] == 0);
}
// SDM 9.2.3.5: and each sees its own store early.
JUDGE(forwarding) {
  UNUSED;
  if (r[0][0] != 1 || r[1][0] != 1) return kForbidden;
  return passed_store(fence, r[0][1] == 0 && r[1][1] == 0);
}
// SDM 9.2.3.2.
JUDGE(message_passing) {
  UNUSED;
  return never(r[1][0] == 1 && r[1][1] == 0);
}
// SDM 9.2.3.3.
JUDGE(load_buffering) {
  UNUSED;
  return never(r[0][0] == 1 && r[1][0] == 1);
}
// SDM 9.2.3.6: stores are transitively visible.
JUDGE(write_read_causality) {
  UNUSED;
  return never(r[1][0] == 1 && r[2][0] == 1 && r[2][1] == 0);
}
// SDM 9.2.3.7: all see stores of two processors in one order. Threads 2 and 3 read.
JUDGE(independent_reads) {
  UNUSED;
  return never(r[2][0] == 1 && r[2][1] == 0 && r[3][0] == 1 && r[3][1] == 0);
}
// Each thread's first store would be the last to its variable.
JUDGE(two_plus_two_writes) {
  UNUSED;
  return never(x == 1 && y == 1);
}
// Thread 1's store to y is the last, so its load comes after thread 0's stores, unless it passed that store.
JUDGE(test_r) {
  UNUSED;
  return passed_store(fence, y == 2 && r[1][0] == 0);
}
JUDGE(test_s) {
  UNUSED;
  return never(r[1][0] == 1 && x == 2);
}
JUDGE(read_read) {
  UNUSED;
  return never(r[1][0] == 1 && r[1][1] == 0);
}
JUDGE(write_write) {
  UNUSED;
  return never(x != 2 || r[1][0] > r[1][1]);
}
JUDGE(read_write) {
  UNUSED;
  return never(r[0][0] == 1 || (r[0][0] == 2 && x != 1));
}
JUDGE(write_read) {
  UNUSED;
  return never(r[0][0] == 0 || (r[0][0] == 2 && x != 2));
}
// A load of both halves is one access.
JUDGE(whole_load) {
  UNUSED;
  return never(r[1][1] == 1 && r[1][0] == 0);
}
// A store of both halves is one access: whoever reads one half new, reads the other new afterwards.
JUDGE(whole_store) {
  UNUSED;
  return never((r[1][0] == 1 && r[1][1] == 0) || (r[2][0] == 1 && r[2][1] == 0));
}
JUDGE(whole_both) {
  UNUSED;
  return never(r[1][0] != r[1][1]);
}
JUDGE(whole_writes) {
  UNUSED;
  return never(x != y || r[2][0] != r[2][1]);
}
// A load that covers an own store and another's: byte by byte the own one may be seen early (registers: x, y).
JUDGE(half_and_whole) {
  UNUSED;
  if (r[0][0] != 1 || r[1][1] != 1) return kForbidden;
  return passed_store(fence, r[0][1] == 0 && r[1][0] == 0);
}

const Test kTests[] = {
    {"SB", 2, {kWxRy, kWyRx}, false, store_buffering},
    {"SB+rfi", 2, {kWxRxRy, kWyRyRx}, false, forwarding},
    {"MP", 2, {kWxWy, kRyRx}, false, message_passing},
    {"LB", 2, {kRxWy, kRyWx}, false, load_buffering},
    {"WRC", 3, {kWx, kRxWy, kRyRx}, false, write_read_causality},
    {"IRIW", 4, {kWx, kWy, kRxRy, kRyRx}, false, independent_reads},
    {"2+2W", 2, {kWxWy2, kWyWx2}, false, two_plus_two_writes},
    {"R", 2, {kWxWy, kWy2Rx}, false, test_r},
    {"S", 2, {kWx2Wy, kRyWx}, false, test_s},
    {"CoRR", 2, {kWx, kRxRx}, false, read_read},
    {"CoWW", 2, {kWxWx2, kRxRx}, false, write_write},
    {"CoRW", 2, {kRxWx, kWx2}, false, read_write},
    {"CoWR", 2, {kWxRx, kWx2}, false, write_read},
    {"mixed-load", 2, {kWxWy, kLoadBoth}, true, whole_load},
    {"mixed-store", 3, {kStoreBoth, kRyRx, kRxRy}, true, whole_store},
    {"mixed-both", 2, {kStoreBoth, kLoadBoth}, true, whole_both},
    {"mixed-writes", 3, {kStoreBoth, kStoreBoth2, kLoadBoth}, true, whole_writes},
    {"mixed-SB", 2, {kWxLoadBoth, kWyLoadBoth}, true, half_and_whole},
};
const unsigned kTestCount = sizeof kTests / sizeof kTests[0];
