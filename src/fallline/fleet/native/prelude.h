/* What every program begins with: functions that the compiler can turn into vector instructions. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline, unused))
#ifdef __AVX512F__
#define VEC_BYTES 64
#else
#define VEC_BYTES 32
#endif
#pragma GCC diagnostic ignored "-Wunused-function"

/* Only here a product and a sum may be rounded as one: elsewhere a compiler would do so or not by what else a program
   computes with the product, and a run's digits would hang on which numbers it tells. */
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast")
#define T float
#define N(x) x##_f
#include "kernels.h"
#undef T
#undef N
#define T double
#define N(x) x##_d
#include "kernels.h"
#undef T
#undef N
#pragma GCC pop_options

INLINE float bits_f(int32_t i) { float x; memcpy(&x, &i, 4); return x; }
INLINE int32_t int_f(float x) { int32_t i; memcpy(&i, &x, 4); return i; }

/* eˣ: x = n ln 2 + r, eʳ by its Taylor polynomial on |r| ≤ ln 2 / 2, and two halves of 2ⁿ so that neither overflows. */
INLINE float exp_f(float x) {
  const float n = __builtin_rintf(x * 1.44269504088896f);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720, p = p * r + 1.0f / 120, p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6, p = p * r + 0.5f, p = p * r + 1.0f, p = p * r + 1.0f;
  const float m = n < -200.0f ? -200.0f : n > 200.0f ? 200.0f : n;
  const int32_t i = (int32_t)m, half = i >> 1;
  const float y = p * bits_f((half + 127) << 23) * bits_f((i - half + 127) << 23);
  return x > 88.7228394f ? INFINITY : x < -104.0f ? 0.0f : y;
}

/* ln x: x = m 2ᵉ with m in [√½, √2), and ln m = 2 artanh((m − 1) / (m + 1)) by its series. */
INLINE float log_f(float x) {
  const float big = x < 1.17549435e-38f ? x * 8388608.0f : x;
  const int32_t i = int_f(big), e = (i - 0x3f3504f3) >> 23;
  const float m = bits_f(i - (e << 23)), s = (m - 1.0f) / (m + 1.0f), t = s * s;
  float p = 1.0f / 11;
  p = p * t + 1.0f / 9, p = p * t + 1.0f / 7, p = p * t + 1.0f / 5, p = p * t + 1.0f / 3;
  const float n = (float)e - (x < 1.17549435e-38f ? 23.0f : 0.0f);
  const float y = n * 0.693359375f + (2.0f * s + (2.0f * s * t * p - n * 2.12194440e-4f));
  return x == 0.0f ? -INFINITY : x < 0.0f ? NAN : x == INFINITY ? INFINITY : x != x ? x : y;
}

/* tanh x: by its continued fraction near 0, where 1 − 2 / (e²ˣ + 1) would cancel. */
INLINE float tanh_f(float x) {
  const float a = __builtin_fabsf(x), t = x * x;
  const float small = x / (1.0f + t / (3.0f + t / (5.0f + t / (7.0f + t / (9.0f + t / 11.0f)))));
  const float large = 1.0f - 2.0f / (exp_f(2.0f * a) + 1.0f);
  return a < 0.6f ? small : x < 0.0f ? -large : large;
}

INLINE float sigmoid_f(float x) { return 1.0f / (1.0f + exp_f(-x)); }
INLINE double sigmoid_d(double x) { return 1.0 / (1.0 + exp(-x)); }
INLINE double exp_d(double x) { return exp(x); }
INLINE double log_d(double x) { return log(x); }
INLINE double tanh_d(double x) { return tanh(x); }

/* A position that may count from the end; one that is outside is told in *bad, and 0 is taken. */
INLINE long place(int64_t i, long n, int *bad) {
  const long at = i < 0 ? i + n : i;
  if (at < 0 || at >= n) { *bad = 1; return 0; }
  return at;
}
