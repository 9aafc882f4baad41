/* Go over all entries of all tensors once for each stage of a rule, with several threads.

   A stage first computes numbers (`numbers_k`, for each tensor), then goes over the entries (`pass_k`) in blocks,
   which threads take one after another. All but the last stage sum something over all entries: each block keeps its
   own sum, and these are added up in order, so that no digit depends on the threads. */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>


typedef struct {
  long count;            /* tensors */
  const long *sizes;     /* entries of each */
  void *const *at;       /* for each tensor, where its gradient, itself and its state are */
  const double *numbers; /* for each tensor, its numbers at this step */
  double *kept;          /* for each tensor, numbers on the way */
  const double *sums;    /* of each stage that is over, over the entries of this job and of others beside it */
  double *blocks;        /* for the sum of each block; none in the last stage */
} Job;

typedef double (*Pass)(const Job *, long tensor, long from, long to);
typedef void (*Numbers)(const Job *, long tensor);

typedef struct {
  const Job *job;
  Pass pass;
  double *sums;
  long blocks, next;
  int backward;
} Sweep;

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define FMA_F(a, b, c) __builtin_fmaf(a, b, c)
#define FMA_D(a, b, c) __builtin_fma(a, b, c)
#else
#define FMA_F(a, b, c) ((a) * (b) + (c))
#define FMA_D(a, b, c) ((a) * (b) + (c))
#endif

#ifdef __clang__
#define ENTRIES_APART _Pragma("clang loop vectorize(assume_safety)")
#else
#define ENTRIES_APART _Pragma("GCC ivdep")
#endif

static inline float from_bf16(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float out;
  memcpy(&out, &bits, 4);
  return out;
}

static inline uint16_t to_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return x != x ? 0x7fc0 : (uint16_t)rounded;
}

static inline float round_bf16(float x) { return from_bf16(to_bf16(x)); }

static inline long blocks_of(long entries) { return (entries + BLOCK - 1) / BLOCK; }

/* Consecutive stages go in opposite directions: what the one read last is still near for the next. */
static void *work(void *given) {
  Sweep *sweep = given;
  const Job *job = sweep->job;
  long tensor = 0, first = 0;
  for (;;) {
    long taken = __atomic_fetch_add(&sweep->next, 1, __ATOMIC_RELAXED);
    if (taken >= sweep->blocks) return NULL;
    long block = sweep->backward ? sweep->blocks - 1 - taken : taken;
    while (block < first) first -= blocks_of(job->sizes[--tensor]);
    while (block >= first + blocks_of(job->sizes[tensor])) first += blocks_of(job->sizes[tensor++]);
    long from = (block - first) * BLOCK, to = from + BLOCK;
    if (to > job->sizes[tensor]) to = job->sizes[tensor];
    double sum = sweep->pass(job, tensor, from, to);
    if (sweep->sums) sweep->sums[block] = sum;
  }
}

static double sweep_all(const Job *job, Pass pass, int backward, int threads) {
  Sweep sweep = {job, pass, job->blocks, 0, 0, backward};
  for (long i = 0; i < job->count; i++) sweep.blocks += blocks_of(job->sizes[i]);
  if (threads > 64) threads = 64;
  if (threads > sweep.blocks) threads = (int)sweep.blocks;
  pthread_t helpers[64];
  int started = 0;
  while (started < threads - 1 && !pthread_create(&helpers[started], NULL, work, &sweep)) started++;
  work(&sweep);
  while (started) pthread_join(helpers[--started], NULL);
  double total = 0;
  if (sweep.sums)
    for (long i = 0; i < sweep.blocks; i++) total += sweep.sums[i];
  return total;
}

static double run_stage(const Job *job, Numbers numbers, Pass pass, int stage, int threads) {
  for (long i = 0; i < job->count; i++) numbers(job, i);
  return pass ? sweep_all(job, pass, stage % 2, threads) : 0;
}
