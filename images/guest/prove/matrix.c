// A matrix product computed by all vCPUs together, compared bit by bit with the one computed by a single vCPU.
#include <stdlib.h>
#include <string.h>

#include "prove.h"

enum { kOrder = 96 };

typedef struct {
  double a[kOrder][kOrder], b[kOrder][kOrder], serial[kOrder][kOrder];
  _Alignas(kPageSize) double parallel[kOrder][kOrder];
  long rounds;
} Matrices;

static void multiply_rows(Matrices* m, double (*out)[kOrder], int from, int to) {
  for (int i = from; i < to; ++i) {
    for (int j = 0; j < kOrder; ++j) {
      double sum = 0;
      for (int k = 0; k < kOrder; ++k) sum += m->a[i][k] * m->b[k][j];
      out[i][j] = sum;
    }
  }
}

static void matrix_worker(Prove* p, int index, void* shared) {
  Matrices* m = shared;
  int from = kOrder * index / p->cpu_count, to = kOrder * (index + 1) / p->cpu_count;
  for (long r = 0; r < m->rounds; ++r) multiply_rows(m, m->parallel, from, to);
}

bool check_matrix(Prove* p) {
  static Matrices m;
  m.rounds = p->scale;
  for (int i = 0; i < kOrder; ++i) {
    for (int j = 0; j < kOrder; ++j) {
      m.a[i][j] = (double)(int64_t)prove_mix((uint64_t)(i * kOrder + j)) / 0x1p62;
      m.b[i][j] = (double)(int64_t)prove_mix((uint64_t)(i * kOrder + j + kOrder * kOrder)) / 0x1p62;
    }
  }
  memset(m.parallel, 0, sizeof m.parallel);
  multiply_rows(&m, m.serial, 0, kOrder);
  if (!prove_on_all_cpus(p, matrix_worker, &m)) return false;
  for (int i = 0; i < kOrder; ++i) {
    if (memcmp(m.serial[i], m.parallel[i], sizeof m.serial[i]) != 0) return prove_fail(p, "row %d differs", i);
  }
  prove_note(p, "%dx%d doubles, equal to the serial product bit by bit", kOrder, kOrder);
  return true;
}
