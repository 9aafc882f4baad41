"""The parts of a program in C that are the same for every rule."""

HEAD = """  void *const *const at = job->at + tensor * {places};
  const double *const numbers = job->numbers + tensor * {given};
  double *const kept = job->kept + tensor * {kept};
"""
NUMBERS = """static void numbers_{k}(const Job *job, long tensor) {{
  void *const *const at = job->at + tensor * {places};
  const double *const numbers = job->numbers + tensor * {given};
  double *const kept = job->kept + tensor * {kept};
{body}
}}
"""
SUMMING = """static double pass_{k}(const Job *job, long tensor, long from, long to) {{
{head}
  double sum = 0;
  #pragma omp simd reduction(+:sum)
  for (long e = from; e < to; e++) {{
{inner}
  }}
  return sum;
}}
"""
WRITING = """static double pass_{k}(const Job *job, long tensor, long from, long to) {{
{head}
  ENTRIES_APART
  for (long e = from; e < to; e++) {{
{inner}
  }}
  return 0;
}}
"""
PROGRAM = """#define BLOCK {block}
#include "passes.h"
#pragma GCC diagnostic ignored "-Wunused-variable"

{functions}
double run(const Job *job, int stage, int threads) {{
  static const Numbers numbers[] = {{{numbers}}};
  static const Pass passes[] = {{{passes}}};
  return run_stage(job, numbers[stage], passes[stage], stage, threads);
}}
"""
