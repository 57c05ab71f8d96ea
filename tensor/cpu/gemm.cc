// The two libraries behind one matrix product: oneDNN's sgemm, which splits over the same OpenMP
// threads, and Eigen's, split here into one block of rows or columns a thread (each block repacks
// the other operand, so never finer).
#include "tensor/cpu/gemm.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 in its own AVX-512 intrinsics
#endif
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>
#include <atomic>

#include "tensor/check.h"
#include "tensor/cpu/matmul.h"
#include "tensor/parallel.h"
#ifdef MULLION_HAVE_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#endif

namespace mullion {
namespace {
std::atomic<MatmulBackend> the_backend{MatmulBackend::automatic};
}

bool has_onednn() {
#ifdef MULLION_HAVE_ONEDNN
  return true;
#else
  return false;
#endif
}

void set_matmul_backend(MatmulBackend backend) {
  CHECK_AS(Fault::usage, backend != MatmulBackend::onednn || has_onednn(),
           "matmul: oneDNN is not part of this build");
  the_backend = backend;
}

MatmulBackend matmul_backend() { return the_backend; }

namespace cpu {
namespace {

template <typename T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <typename M>
using View = Eigen::Map<M, 0, Eigen::OuterStride<>>;

template <typename T>
void gemm_eigen(const Gemm<T>& p) {
  using Const = View<const Matrix<T>>;
  const Const a(p.a, p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k,
                Eigen::OuterStride<>(p.lda));
  const Const b(p.b, p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n,
                Eigen::OuterStride<>(p.ldb));
  View<Matrix<T>> c(p.c, p.m, p.n, Eigen::OuterStride<>(p.ldc));
  const auto product = [&](const auto& left, const auto& right, auto&& target) {
    if (p.beta == T(0))
      target.setZero();
    else if (p.beta != T(1))
      target *= p.beta;
    target.noalias() += p.alpha * left * right;
  };
  const auto with_b = [&](const auto& left, auto&& target, int64_t n0, int64_t count) {
    if (p.transpose_b)
      product(left, b.middleRows(n0, count).transpose(), target);
    else
      product(left, b.middleCols(n0, count), target);
  };
  const bool by_rows = p.m >= p.n;
  const double work =
      2.0 * static_cast<double>(p.m) * static_cast<double>(p.n) * static_cast<double>(p.k);
  const int64_t size = by_rows ? p.m : p.n;
  const int64_t grain = work < 2e6 ? size : 8;
  parallel_for(size, grain, [&](int64_t begin, int64_t end) {
    const int64_t m0 = by_rows ? begin : 0, rows = by_rows ? end - begin : p.m;
    const int64_t n0 = by_rows ? 0 : begin, columns = by_rows ? p.n : end - begin;
    auto target = c.block(m0, n0, rows, columns);
    if (p.transpose_a)
      with_b(a.middleCols(m0, rows).transpose(), target, n0, columns);
    else
      with_b(a.middleRows(m0, rows), target, n0, columns);
  });
}

}  // namespace

void gemm(const Gemm<float>& p) {
#ifdef MULLION_HAVE_ONEDNN
  if (the_backend != MatmulBackend::eigen) {
    const auto status = dnnl_sgemm(p.transpose_a ? 'T' : 'N', p.transpose_b ? 'T' : 'N', p.m, p.n,
                                   p.k, p.alpha, p.a, p.lda, p.b, p.ldb, p.beta, p.c, p.ldc);
    CHECK(status == dnnl_success, "matmul: oneDNN refused a product of ", p.m, " x ", p.k, " x ",
          p.n, " with status ", static_cast<int>(status));
    return;
  }
#endif
  gemm_eigen(p);
}

void gemm(const Gemm<double>& p) { gemm_eigen(p); }

}  // namespace cpu
}  // namespace mullion
