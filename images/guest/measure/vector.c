// Vector workloads: a copy and a matrix product with AVX2 and FMA, AES-128 in counter mode, SHA-256. Each runs only
// where CPUID shows what it needs. The two ciphers check a vector of their standard first.
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"

enum { kBytes = 16 << 10, kBlock = 64, kOrder = 64 };

static uint8_t source[kBytes] __attribute__((aligned(64))), target[kBytes] __attribute__((aligned(64)));

static void set_up_bytes(void) {
  for (int i = 0; i < kBytes; ++i) source[i] = (uint8_t)measure_mix((uint64_t)i);
}

// --- 16 KiB copied in pieces of 32 bytes

static bool has_avx2(void) { return __builtin_cpu_supports("avx2"); }

__attribute__((target("avx2"))) static void copy(uint8_t* to, const uint8_t* from, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 128) {
    __m256i a = _mm256_loadu_si256((const __m256i*)(from + i)), b = _mm256_loadu_si256((const __m256i*)(from + i + 32));
    __m256i c = _mm256_loadu_si256((const __m256i*)(from + i + 64)),
            d = _mm256_loadu_si256((const __m256i*)(from + i + 96));
    _mm256_storeu_si256((__m256i*)(to + i), a);
    _mm256_storeu_si256((__m256i*)(to + i + 32), b);
    _mm256_storeu_si256((__m256i*)(to + i + 64), c);
    _mm256_storeu_si256((__m256i*)(to + i + 96), d);
  }
}

static uint64_t run_copy(uint64_t n) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < n; ++i) {
    source[i % kBytes] = (uint8_t)i;
    copy(target, source, kBytes);
    sum += target[i % kBytes];
  }
  return sum;
}

// --- 64 x 64 floats: four rows by sixteen columns at a time

static bool has_fma(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

static float a[kOrder][kOrder] __attribute__((aligned(32))), b[kOrder][kOrder] __attribute__((aligned(32)));
static float product[kOrder][kOrder] __attribute__((aligned(32)));

static void set_up_matrix(void) {
  for (int i = 0; i < kOrder; ++i) {
    for (int j = 0; j < kOrder; ++j) {
      a[i][j] = (float)(i - j) * 0.01f;
      b[i][j] = (float)(i + j) * 0.02f;
    }
  }
}

__attribute__((target("avx2,fma"))) static void multiply(void) {
  for (int i = 0; i < kOrder; i += 4) {
    for (int j = 0; j < kOrder; j += 16) {
      __m256 sum[4][2];
      for (int r = 0; r < 4; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_ps();
      for (int k = 0; k < kOrder; ++k) {
        __m256 left = _mm256_load_ps(&b[k][j]), right = _mm256_load_ps(&b[k][j + 8]);
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) {
          __m256 factor = _mm256_broadcast_ss(&a[i + r][k]);
          sum[r][0] = _mm256_fmadd_ps(factor, left, sum[r][0]);
          sum[r][1] = _mm256_fmadd_ps(factor, right, sum[r][1]);
        }
      }
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
        _mm256_store_ps(&product[i + r][j], sum[r][0]);
        _mm256_store_ps(&product[i + r][j + 8], sum[r][1]);
      }
    }
  }
}

static uint64_t run_multiply(uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) {
    a[i % kOrder][0] += 0.5f;
    multiply();
  }
  return (uint64_t)(int64_t)product[3][5];
}

// --- AES-128, counter mode, 16 KiB, four blocks at a time. FIPS 197.

static bool has_aes(void) { return __builtin_cpu_supports("aes") && __builtin_cpu_supports("sse4.1"); }

static __m128i round_keys[11];

#define NEXT_KEY(i, constant)                                              \
  {                                                                        \
    __m128i k = round_keys[i], t = _mm_aeskeygenassist_si128(k, constant); \
    k = _mm_xor_si128(k, _mm_slli_si128(k, 4));                            \
    k = _mm_xor_si128(k, _mm_slli_si128(k, 8));                            \
    round_keys[(i) + 1] = _mm_xor_si128(k, _mm_shuffle_epi32(t, 0xff));    \
  }

__attribute__((target("aes,sse4.1"))) static void expand_key(const uint8_t key[16]) {
  round_keys[0] = _mm_loadu_si128((const __m128i*)key);
  NEXT_KEY(0, 0x01)
  NEXT_KEY(1, 0x02)
  NEXT_KEY(2, 0x04) NEXT_KEY(3, 0x08) NEXT_KEY(4, 0x10) NEXT_KEY(5, 0x20) NEXT_KEY(6, 0x40) NEXT_KEY(7, 0x80)
      NEXT_KEY(8, 0x1b) NEXT_KEY(9, 0x36)
}

__attribute__((target("aes,sse4.1"))) static void encrypt4(__m128i x[4]) {
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) x[j] = _mm_xor_si128(x[j], round_keys[0]);
  for (int r = 1; r < 10; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) x[j] = _mm_aesenc_si128(x[j], round_keys[r]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) x[j] = _mm_aesenclast_si128(x[j], round_keys[10]);
}

__attribute__((target("aes,sse4.1"))) static void set_up_aes(void) {
  static const uint8_t kCipher[16] = {0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30,
                                      0xd8, 0xcd, 0xb7, 0x80, 0x70, 0xb4, 0xc5, 0x5a};  // FIPS 197, C.1
  uint8_t key[16], plain[16];
  for (int i = 0; i < 16; ++i) {
    key[i] = (uint8_t)i;
    plain[i] = (uint8_t)(i * 0x11);
  }
  expand_key(key);
  __m128i x[4];
  for (int j = 0; j < 4; ++j) x[j] = _mm_loadu_si128((const __m128i*)plain);
  encrypt4(x);
  if (memcmp(&x[3], kCipher, 16) != 0) exit(3);
  set_up_bytes();
}

__attribute__((target("aes,sse4.1"))) static uint64_t run_aes(uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) {
    for (size_t at = 0; at < kBytes; at += kBlock) {
      __m128i x[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) x[j] = _mm_set_epi64x((long long)i, (long long)(at / 16) + j);
      encrypt4(x);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        __m128i plain = _mm_load_si128((const __m128i*)(source + at) + j);
        _mm_store_si128((__m128i*)(target + at) + j, _mm_xor_si128(plain, x[j]));
      }
    }
  }
  return target[5];
}

// --- SHA-256 of 16 KiB. FIPS 180-4.

static bool has_sha(void) {
  unsigned eax = 7, ebx, ecx = 0, edx;
  __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  return (ebx >> 29 & 1) != 0 && __builtin_cpu_supports("sse4.1");
}

static const uint32_t kRounds[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// state[0]: ABEF, state[1]: CDGH, each from the high element down, as SHA256RNDS2 wants them.
__attribute__((target("sha,sse4.1"))) static void sha_blocks(__m128i state[2], const uint8_t* data, size_t blocks) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
  for (; blocks > 0; --blocks, data += kBlock) {
    __m128i abef = state[0], cdgh = state[1], w[4];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      if (i < 4) {
        w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)data + i), swap);
      } else {
        __m128i t = _mm_add_epi32(_mm_sha256msg1_epu32(w[i & 3], w[(i + 1) & 3]),
                                  _mm_alignr_epi8(w[(i + 3) & 3], w[(i + 2) & 3], 4));
        w[i & 3] = _mm_sha256msg2_epu32(t, w[(i + 3) & 3]);
      }
      __m128i k = _mm_add_epi32(w[i & 3], _mm_load_si128((const __m128i*)kRounds + i));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, k);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(k, 0x0e));
    }
    state[0] = _mm_add_epi32(state[0], abef);
    state[1] = _mm_add_epi32(state[1], cdgh);
  }
}

static void sha_start(__m128i state[2]) {
  state[0] = _mm_set_epi32(0x6a09e667, (int)0xbb67ae85, 0x510e527f, (int)0x9b05688c);
  state[1] = _mm_set_epi32(0x3c6ef372, (int)0xa54ff53a, 0x1f83d9ab, 0x5be0cd19);
}

static void set_up_sha(void) {
  uint8_t block[kBlock] = {'a', 'b', 'c', 0x80};
  block[kBlock - 1] = 24;
  __m128i state[2];
  sha_start(state);
  sha_blocks(state, block, 1);
  uint32_t abef[4], cdgh[4];
  memcpy(abef, &state[0], 16);
  memcpy(cdgh, &state[1], 16);
  if (abef[3] != 0xba7816bf || cdgh[0] != 0xf20015ad) exit(3);  // FIPS 180-4: SHA-256("abc")
  set_up_bytes();
}

static uint64_t run_sha(uint64_t n) {
  __m128i state[2];
  sha_start(state);
  for (uint64_t i = 0; i < n; ++i) sha_blocks(state, source, kBytes / kBlock);
  return (uint64_t)_mm_cvtsi128_si64(state[0]);
}

const Workload kVectorWorkloads[] = {
    {"avx2-copy", "vector", set_up_bytes, run_copy, NULL, has_avx2},
    {"fma-matrix", "vector", set_up_matrix, run_multiply, NULL, has_fma},
    {"aes-16k", "vector", set_up_aes, run_aes, NULL, has_aes},
    {"sha-16k", "vector", set_up_sha, run_sha, NULL, has_sha},
};
const size_t kVectorWorkloadCount = sizeof(kVectorWorkloads) / sizeof(kVectorWorkloads[0]);
