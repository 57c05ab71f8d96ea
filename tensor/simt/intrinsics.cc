// Warp-wide instructions: the last lane to arrive computes for all of them.
#include "tensor/simt/intrinsics.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "tensor/simt/access_counters.h"
#include "tensor/simt/shared_shadow.h"

namespace mullion::simt {
namespace {

constexpr unsigned kAll = 0xffffffffu;
constexpr int kLanes = 32;

struct MatricesRequest {
  uint32_t* registers;
  const void* row;
  int matrices;
  bool transposed;
  const void* place;  // in the code
};

void load_for_all(void* const* requests, unsigned) {
  const auto request = [&](int lane) { return static_cast<MatricesRequest*>(requests[lane]); };
  const MatricesRequest& first = *request(0);
  for (int j = 0; j < first.matrices; ++j) {
    uint16_t matrix[8][8];
    const void* rows[8];
    for (int row = 0; row < 8; ++row) {
      const void* address = rows[row] = request(8 * j + row)->row;
      check_shared("ldmatrix", address, 16, 16);
      read_by_warp(address, 16);
      std::memcpy(matrix[row], address, 16);
    }
    if (counting_accesses) count_matrix(first.place, rows);
    for (int lane = 0; lane < kLanes; ++lane) {
      const int row = lane / 4, column = 2 * (lane % 4);
      const uint16_t low = first.transposed ? matrix[column][row] : matrix[row][column];
      const uint16_t high = first.transposed ? matrix[column + 1][row] : matrix[row][column + 1];
      request(lane)->registers[j] = static_cast<uint32_t>(high) << 16 | low;
    }
  }
}

struct ProductRequest {
  float* d;
  const uint32_t *a, *b;
};

float low_half(uint32_t bits) { return std::bit_cast<float>(bits << 16); }
float high_half(uint32_t bits) { return std::bit_cast<float>(bits & 0xffff0000u); }

void multiply_for_all(void* const* requests, unsigned) {
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const ProductRequest& r = *static_cast<ProductRequest*>(requests[lane]);
    const int group = lane / 4, pair = 2 * (lane % 4);
    for (int i = 0; i < 4; ++i) {
      const int row = group + 8 * (i % 2), column = pair + 8 * (i / 2);
      a[row][column] = low_half(r.a[i]);
      a[row][column + 1] = high_half(r.a[i]);
      d[group + 8 * (i / 2)][pair + i % 2] = r.d[i];
    }
    for (int i = 0; i < 2; ++i) {
      b[pair + 8 * i][group] = low_half(r.b[i]);
      b[pair + 8 * i + 1][group] = high_half(r.b[i]);
    }
  }
  if (device_arithmetic) {
    for (int row = 0; row < 16; ++row)
      for (int column = 0; column < 8; ++column)
        d[row][column] = sum_of_tensor_core(d[row][column], a[row], &b[0][column], 8, 16);
  } else {
    for (int row = 0; row < 16; ++row)
      for (int k = 0; k < 16; ++k)
        for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const ProductRequest& r = *static_cast<ProductRequest*>(requests[lane]);
    for (int i = 0; i < 4; ++i) r.d[i] = d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
  }
}

// The butterfly of the device: in each step every lane combines with the lane whose number differs
// in one bit.
template <typename Operation>
void butterfly(void* const* requests) {
  float x[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) x[lane] = *static_cast<float*>(requests[lane]);
  for (int bit = kLanes / 2; bit > 0; bit /= 2) {
    float y[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) y[lane] = Operation{}(x[lane], x[lane ^ bit]);
    std::memcpy(x, y, sizeof x);
  }
  for (int lane = 0; lane < kLanes; ++lane) *static_cast<float*>(requests[lane]) = x[lane];
}
struct Sum {
  float operator()(float a, float b) const { return a + b; }
};
struct Largest {
  float operator()(float a, float b) const { return std::fmax(a, b); }
};

}  // namespace

// The compiler's hooks are not called here: they would see the parts into which it cuts the copy.
template <typename Word>
[[gnu::noinline]] Word load_word(const void* address) {
  check_aligned("load_vector", address, sizeof(Word));
  if (shared_span.holds(address)) touch_shared(address, sizeof(Word), Access::read);
  if (counting_accesses) [[unlikely]]
    count_access(__builtin_return_address(0), address, sizeof(Word), false);
  Word word;
  std::memcpy(&word, address, sizeof word);
  return word;
}
template <typename Word>
[[gnu::noinline]] void store_word(void* address, Word word) {
  check_aligned("store_vector", address, sizeof(Word));
  if (shared_span.holds(address)) touch_shared(address, sizeof(Word), Access::write);
  if (counting_accesses) [[unlikely]]
    count_access(__builtin_return_address(0), address, sizeof(Word), true);
  std::memcpy(address, &word, sizeof word);
}
template uint32_t load_word(const void*);
template uint64_t load_word(const void*);
template Word128 load_word(const void*);
template void store_word(void*, uint32_t);
template void store_word(void*, uint64_t);
template void store_word(void*, Word128);

void load_matrices(uint32_t* registers, int matrices, bool transposed, const void* shared_row,
                   Site site) {
  MatricesRequest request{registers, shared_row, matrices, transposed, __builtin_return_address(0)};
  warp_operation("ldmatrix", kAll, &request, load_for_all, site);
}

void mma_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site) {
  ProductRequest request{d, a, b};
  warp_operation("mma_16816", kAll, &request, multiply_for_all, site);
}

float warp_sum(float x, Site site) {
  warp_operation(
      "warp_sum", kAll, &x, [](void* const* r, unsigned) { butterfly<Sum>(r); }, site);
  return x;
}
float warp_max(float x, Site site) {
  warp_operation(
      "warp_max", kAll, &x, [](void* const* r, unsigned) { butterfly<Largest>(r); }, site);
  return x;
}

}  // namespace mullion::simt
