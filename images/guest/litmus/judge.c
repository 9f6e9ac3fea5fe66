// From bytes to verdicts.
#include <stdio.h>
#include <string.h>

#include "images/guest/litmus/litmus.h"

static bool torn(const uint8_t* bytes, unsigned count) {
  for (unsigned i = 1; i < count; ++i) {
    if (bytes[i] != bytes[0]) return true;
  }
  return false;
}

// Byte bx of x and byte by of y by themselves are variables that obey the model.
static Verdict judge_bytes(const Variant* v, Value* const loads[], unsigned cell, const Value* end, unsigned bx,
                           unsigned by) {
  uint8_t r[kThreadsMax][kRegisters] = {{0}};
  for (unsigned t = 0; t < v->test->threads; ++t) {
    for (unsigned k = 0; k < kRegisters; ++k) {
      char reads = kReads[v->test->kind[t]][k];
      if (reads) r[t][k] = loads[t][cell * kRegisters + k].byte[reads == 'x' ? bx : by];
    }
  }
  return v->test->judge(v->fence, r, end[0].byte[bx], end[1].byte[by]);
}

static void describe(const Variant* v, Value* const loads[], unsigned cell, const Value* end, Tally* tally) {
  char* out = tally->detail;
  int left = sizeof tally->detail, n;
  unsigned last = kBytes[v->width] - 1;
  for (unsigned t = 0; t < v->test->threads; ++t) {
    for (unsigned k = 0; k < kRegisters; ++k) {
      const Value* value = &loads[t][cell * kRegisters + k];
      if (!kReads[v->test->kind[t]][k] || left <= 0) continue;
      n = snprintf(out, (size_t)left, "%u:r%u=%u..%u ", t, k, value->byte[0], value->byte[last]);
      out += n, left -= n;
    }
  }
  if (left > 0) {
    snprintf(out, (size_t)left, "x=%u..%u y=%u..%u cell %u", end[0].byte[0], end[0].byte[last], end[1].byte[0],
             end[1].byte[last], cell);
  }
}

static Verdict judge_torn(const Variant* v, Value* const loads[], unsigned cell, const Value* end, Tally* tally) {
  unsigned bytes = kBytes[v->width];
  ++tally->torn;
  bool end_torn = torn(end[0].byte, bytes) || torn(end[1].byte, bytes);
  if (!is_split(v->place) || (end_torn && v->fence == kLock)) return kForbidden;
  Verdict worst = kUsual;
  for (unsigned bx = 0; bx < bytes; ++bx) {
    for (unsigned by = 0; by < bytes; ++by) {
      Verdict verdict = judge_bytes(v, loads, cell, end, bx, by);
      if (verdict > worst) worst = verdict;
    }
  }
  return worst;
}

void judge_batch(const Variant* v, const Area* area, uint8_t (*const codes[])[kRegisters], Value* const loads[],
                 Tally* tally) {
  const unsigned bytes = kBytes[v->width];
  for (unsigned cell = 0; cell < area->cells; ++cell) {
    Value end[2] = {0};
    uint8_t *x = area->x + cell * area->stride, *y = area->y + cell * area->stride;
    memcpy(end[0].byte, x, bytes);
    memcpy(end[1].byte, y, bytes);
    memset(x, 0, bytes);
    memset(y, 0, bytes);
    uint8_t r[kThreadsMax][kRegisters] = {{0}};
    bool any_torn = torn(end[0].byte, bytes) || torn(end[1].byte, bytes);
    for (unsigned t = 0; t < v->test->threads; ++t) {
      memcpy(r[t], codes[t][cell], sizeof r[t]);
      any_torn |= r[t][0] == kTorn || r[t][1] == kTorn;
    }
    Verdict verdict =
        any_torn ? judge_torn(v, loads, cell, end, tally) : v->test->judge(v->fence, r, end[0].byte[0], end[1].byte[0]);
    if (verdict == kRelaxed) ++tally->relaxed;
    if (verdict == kForbidden && tally->forbidden++ == 0) describe(v, loads, cell, end, tally);
  }
  tally->runs += area->cells;
}
