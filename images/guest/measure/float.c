// Floating-point workloads: SSE2 doubles and floats, libm, and x87 long doubles.
#include <math.h>

#include "measure.h"

// --- n-body: the sun and four planets under gravity, one step per inner iteration.

enum { kBodies = 5, kBodySteps = 20 };
typedef struct {
  double x[3], v[3], mass;
} Body;

static const Body kSolarSystem[kBodies] = {
    {{0, 0, 0}, {0, 0, 0}, 39.47841760435743},
    {{4.84143144246472082945, -1.16032004402742839362, -0.103622044471123109494},
     {0.606326392995832, 2.81198684491626, -0.0252183616598876},
     0.0376936749096657},
    {{8.34336671824457987790, 4.12479856412430479268, -0.403523417114321381377},
     {-1.01077434617879, 1.82566237123041, 0.00841576137658415},
     0.0112863261319687},
    {{12.8943695621391310, -15.1111514016986312, -0.223307578892655734},
     {1.08279100644153, 0.868713018169608, -0.0108326374013636},
     0.00172372405705971},
    {{15.3796971148509165, -25.9193146099879641, 0.179258772950371181},
     {0.979090732243898, 0.594698998647676, -0.0347559555040781},
     0.00203368686992463},
};

static void advance(Body* bodies, double dt) {
  for (int i = 0; i < kBodies; ++i) {
    for (int j = i + 1; j < kBodies; ++j) {
      double d[3], square = 0;
      for (int k = 0; k < 3; ++k) {
        d[k] = bodies[i].x[k] - bodies[j].x[k];
        square += d[k] * d[k];
      }
      double force = dt / (square * sqrt(square));
      for (int k = 0; k < 3; ++k) {
        bodies[i].v[k] -= d[k] * bodies[j].mass * force;
        bodies[j].v[k] += d[k] * bodies[i].mass * force;
      }
    }
  }
  for (int i = 0; i < kBodies; ++i) {
    for (int k = 0; k < 3; ++k) bodies[i].x[k] += dt * bodies[i].v[k];
  }
}

static uint64_t run_nbody(uint64_t n) {
  Body bodies[kBodies];
  for (int i = 0; i < kBodies; ++i) bodies[i] = kSolarSystem[i];
  for (uint64_t i = 0; i < n * kBodySteps; ++i) advance(bodies, 0.001);
  return (uint64_t)(int64_t)(bodies[0].x[0] * 1e9);
}

// --- matrix products of doubles and of floats

enum { kOrder = 32 };

static uint64_t run_matrix(uint64_t n) {
  static double a[kOrder][kOrder], b[kOrder][kOrder], c[kOrder][kOrder];
  for (int i = 0; i < kOrder; ++i) {
    for (int j = 0; j < kOrder; ++j) {
      a[i][j] = i + j * 0.5;
      b[i][j] = i * 0.25 - j;
    }
  }
  for (uint64_t round = 0; round < n; ++round) {
    for (int i = 0; i < kOrder; ++i) {
      for (int j = 0; j < kOrder; ++j) {
        double sum = 0;
        for (int k = 0; k < kOrder; ++k) sum += a[i][k] * b[k][j];
        c[i][j] = sum;
      }
    }
    a[round % kOrder][0] += c[kOrder - 1][kOrder - 1] * 1e-9;
  }
  return (uint64_t)(int64_t)c[3][5];
}

static uint64_t run_saxpy(uint64_t n) {
  enum { kItems = 1024 };
  static float x[kItems], y[kItems];
  for (int i = 0; i < kItems; ++i) x[i] = (float)i * 0.5f;
  for (uint64_t round = 0; round < n; ++round) {
    float a = (float)(round % 7) * 0.25f;
    for (int i = 0; i < kItems; ++i) y[i] = a * x[i] + y[i] * 0.5f;
  }
  return (uint64_t)(int64_t)y[100];
}

// --- sin*exp through libm, and an x87 sum

enum { kLibmSteps = 100, kX87Steps = 1000 };

static uint64_t run_libm(uint64_t n) {
  double sum = 0;
  for (uint64_t i = 0; i < n * kLibmSteps; ++i) {
    double x = (double)(i % 1000) * 0.01;
    sum += sin(x) * exp(-x);
  }
  return (uint64_t)(int64_t)(sum * 1e3);
}

static uint64_t run_x87(uint64_t n) {
  long double sum = 0;
  for (uint64_t i = 0; i < n * kX87Steps; ++i) sum += 1.0L / (long double)(i % 4096 + 1);
  return (uint64_t)(int64_t)sum;
}

const Workload kFloatWorkloads[] = {
    {"nbody", "fp", NULL, run_nbody, NULL, NULL},   {"matrix", "fp", NULL, run_matrix, NULL, NULL},
    {"saxpy", "more", NULL, run_saxpy, NULL, NULL}, {"sin-exp", "fp", NULL, run_libm, NULL, NULL},
    {"x87-sum", "fp", NULL, run_x87, NULL, NULL},
};
const size_t kFloatWorkloadCount = sizeof(kFloatWorkloads) / sizeof(kFloatWorkloads[0]);
