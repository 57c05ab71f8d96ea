// parallel_for on OpenMP, whose threads oneDNN shares.
#include "tensor/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>

namespace mullion {

namespace {
// Exceptions must not leave an OpenMP region: the first is kept and thrown after it.
class FirstException {
 public:
  void keep() {
    std::lock_guard lock(mutex_);
    if (!first_) first_ = std::current_exception();
  }
  void rethrow() {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_;
};

std::atomic<bool> the_finest_split{false};

// OMP_NUM_THREADS, "4" or "4,2" by levels, where it is set; else the cores.
int usual_threads() {
  const char* said = std::getenv("OMP_NUM_THREADS");
  const int n = said ? std::atoi(said) : 0;
  return n > 0 ? n : omp_get_num_procs();
}
}  // namespace

int num_threads() { return omp_get_max_threads(); }

void set_num_threads(int n) { omp_set_num_threads(n > 0 ? n : usual_threads()); }

void set_finest_split(bool on) { the_finest_split = on; }

void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  if (n <= 0) return;
  const bool finest = grain < 1 || the_finest_split.load(std::memory_order_relaxed);
  const int64_t parts = std::min<int64_t>(num_threads(), finest ? n : n / grain);
  if (parts <= 1 || omp_in_parallel()) return body(0, n);
  FirstException failure;
#pragma omp parallel for schedule(static, 1) num_threads(static_cast <int>(parts))
  for (int64_t p = 0; p < parts; ++p) {
    try {
      body(n * p / parts, n * (p + 1) / parts);
    } catch (...) {
      failure.keep();
    }
  }
  failure.rethrow();
}

void parallel_items(int64_t n, const std::function<void(int64_t, int)>& body) {
  if (n <= 1 || num_threads() == 1 || omp_in_parallel()) {
    for (int64_t i = 0; i < n; ++i) body(i, 0);
    return;
  }
  FirstException failure;
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t i = 0; i < n; ++i) {
    try {
      body(i, omp_get_thread_num());
    } catch (...) {
      failure.keep();
    }
  }
  failure.rethrow();
}

}  // namespace mullion
