/* Kernels for one type of number. Included once for each, with
     T      the type              V     how many of them fill a vector
     N(x)   the name of x for T   VEC   that vector
   Every sum is in an order that is fixed by sizes alone, so that no digit hangs on where a matrix lies in memory. */

typedef T N(vec) __attribute__((vector_size(VEC_BYTES), aligned(sizeof(T)), may_alias));
#define V ((long)(VEC_BYTES / sizeof(T)))

/* c[i][j] (+)= sum over k of a[i][k] b[k][j], for a tile of ROWS by COLUMNS vectors. */
#define TILE(ROWS, COLUMNS)                                                                                   \
  static inline __attribute__((always_inline)) void N(tile_##ROWS##_##COLUMNS)(                               \
      long inner, const T *a, long ai, long ak, const T *b, long bk, T *c, long ci, int add) {                \
    N(vec) sum[ROWS][COLUMNS];                                                                                \
    _Pragma("GCC unroll 8") for (int i = 0; i < ROWS; i++)                                                    \
      _Pragma("GCC unroll 8") for (int j = 0; j < COLUMNS; j++)                                               \
        sum[i][j] = add ? *(const N(vec) *)(c + i * ci + j * V) : (N(vec)){0};                                \
    for (long k = 0; k < inner; k++) {                                                                        \
      N(vec) row[COLUMNS];                                                                                    \
      _Pragma("GCC unroll 8") for (int j = 0; j < COLUMNS; j++) row[j] = *(const N(vec) *)(b + k * bk + j * V); \
      _Pragma("GCC unroll 8") for (int i = 0; i < ROWS; i++) {                                                \
        const T factor = a[i * ai + k * ak];                                                                  \
        _Pragma("GCC unroll 8") for (int j = 0; j < COLUMNS; j++)                                             \
          sum[i][j] += row[j] * factor;                                                                       \
      }                                                                                                       \
    }                                                                                                         \
    _Pragma("GCC unroll 8") for (int i = 0; i < ROWS; i++)                                                    \
      _Pragma("GCC unroll 8") for (int j = 0; j < COLUMNS; j++) *(N(vec) *)(c + i * ci + j * V) = sum[i][j];  \
  }

TILE(8, 2) TILE(4, 2) TILE(2, 2) TILE(1, 2) TILE(8, 1) TILE(4, 1) TILE(2, 1) TILE(1, 1)

#define ROWS_OF(COLUMNS)                                                                                      \
  long i = 0;                                                                                                 \
  for (; i + 8 <= rows; i += 8) N(tile_8_##COLUMNS)(inner, a + i * ai, ai, ak, b, bk, c + i * ci, ci, add);   \
  if (i + 4 <= rows) { N(tile_4_##COLUMNS)(inner, a + i * ai, ai, ak, b, bk, c + i * ci, ci, add); i += 4; }  \
  if (i + 2 <= rows) { N(tile_2_##COLUMNS)(inner, a + i * ai, ai, ak, b, bk, c + i * ci, ci, add); i += 2; }  \
  if (i < rows) N(tile_1_##COLUMNS)(inner, a + i * ai, ai, ak, b, bk, c + i * ci, ci, add);

static void N(wide)(long rows, long inner, const T *a, long ai, long ak, const T *b, long bk, T *c, long ci, int add) {
  ROWS_OF(2)
}
static void N(narrow)(long rows, long inner, const T *a, long ai, long ak, const T *b, long bk, T *c, long ci, int add) {
  ROWS_OF(1)
}

/* A matrix copied with its second axis innermost: to[k][j] = from[k][j]. */
static void N(turn)(long inner, long count, const T *from, long fk, long fj, T *to, long width) {
  if (fj == 1)
    for (long k = 0; k < inner; k++) memcpy(to + k * width, from + k * fk, count * sizeof(T));
  else
    for (long k = 0; k < inner; k++)
      for (long j = 0; j < count; j++) to[k * width + j] = from[k * fk + j * fj];
}

/* c (+)= a b for a of rows × inner and b of inner × columns; ai, ak, bk, bj, ci are how far the axes step. */
static void N(product)(long rows, long columns, long inner, const T *a, long ai, long ak, const T *b, long bk, long bj,
                       T *c, long ci, int add) {
  T panel[bj == 1 ? 1 : inner * 2 * V] __attribute__((aligned(64)));
  T edge[inner * V] __attribute__((aligned(64))), out[rows * V] __attribute__((aligned(64)));
  long j = 0;
  for (; j + 2 * V <= columns; j += 2 * V) {
    const T *from = b + j * bj;
    if (bj != 1) {
      N(turn)(inner, 2 * V, from, bk, bj, panel, 2 * V);
      N(wide)(rows, inner, a, ai, ak, panel, 2 * V, c + j, ci, add);
    } else {
      N(wide)(rows, inner, a, ai, ak, from, bk, c + j, ci, add);
    }
  }
  for (; j < columns; j += V) {
    const long left = columns - j < V ? columns - j : V;
    const T *from = b + j * bj;
    if (left == V && bj == 1) {
      N(narrow)(rows, inner, a, ai, ak, from, bk, c + j, ci, add);
      continue;
    }
    if (left < V) memset(edge, 0, sizeof edge);
    N(turn)(inner, left, from, bk, bj, edge, V);
    N(narrow)(rows, inner, a, ai, ak, edge, V, out, V, 0);
    for (long i = 0; i < rows; i++)
      for (long l = 0; l < left; l++) c[i * ci + j + l] = add ? c[i * ci + j + l] + out[i * V + l] : out[i * V + l];
  }
}

/* Which of the n positions of a kernel's entry, `step` apart and beginning at `from`, are inside of 0 … size. */
INLINE long N(first)(long from, long step) { return from >= 0 ? 0 : (-from + step - 1) / step; }
INLINE long N(past)(long from, long step, long size, long n) {
  const long end = size - from <= 0 ? 0 : (size - from + step - 1) / step;
  return end < n ? end : n;
}

/* The patches of one image under a kernel, as columns [channels·kh·kw][oh·ow]; s is stride, padding, dilation. */
INLINE void N(patches)(const T *x, long channels, long h, long w, long kh, long kw, long oh, long ow, const long *s, T *out) {
  for (long c = 0; c < channels; c++)
    for (long u = 0; u < kh; u++)
      for (long v = 0; v < kw; v++, out += oh * ow) {
        const long left = v * s[5] - s[3], z0 = N(first)(left, s[1]), z1 = N(past)(left, s[1], w, ow);
        for (long y = 0; y < oh; y++) {
          const long row = y * s[0] - s[2] + u * s[4];
          const int in = row >= 0 && row < h;
          const T *from = x + (c * h + (in ? row : 0)) * w + left;
          for (long z = 0; z < ow; z++) out[y * ow + z] = in && z >= z0 && z < z1 ? from[z * s[1]] : 0;
        }
      }
}

/* Add patches back to where they were taken from. */
INLINE void N(unpatch)(T *x, long channels, long h, long w, long kh, long kw, long oh, long ow, const long *s, const T *in) {
  for (long c = 0; c < channels; c++)
    for (long u = 0; u < kh; u++)
      for (long v = 0; v < kw; v++, in += oh * ow) {
        const long left = v * s[5] - s[3], z0 = N(first)(left, s[1]), z1 = N(past)(left, s[1], w, ow);
        for (long y = 0; y < oh; y++) {
          const long row = y * s[0] - s[2] + u * s[4];
          if (row < 0 || row >= h) continue;
          T *to = x + (c * h + row) * w + left;
          _Pragma("GCC ivdep") for (long z = z0; z < z1; z++) to[z * s[1]] += in[y * ow + z];
        }
      }
}
#undef V
#undef TILE
#undef ROWS_OF
