// The emulator runs a grid as a device would: every thread once, barriers and warps in step, in any
// order of threads.
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tensor/cuda/launch.h"
#include "tests/simt/simt.h"

namespace mullion::cuda {
namespace {

using simt::Order;
using simt::Schedule;

const Schedule kSchedules[] = {{Order::forward}, {Order::backward}, {Order::random, 5}};

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t n, unsigned char fill = 0xff) : n_(n) {
    EXPECT_EQ(cudaMalloc(&data_, n * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemset(data_, fill, n * sizeof(T)), cudaSuccess);
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    cudaMemcpy(data_, values.data(), n_ * sizeof(T), cudaMemcpyHostToDevice);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;

  T* data() { return data_; }
  std::vector<T> values() {
    std::vector<T> result(n_);
    cudaMemcpy(result.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost);
    return result;
  }

 private:
  size_t n_;
  T* data_ = nullptr;
};

__global__ void number_kernel(int* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  out[block * blockDim.x + threadIdx.x] += static_cast<int>(block * 1000 + threadIdx.x);
}

TEST(SimtEngine, EveryThreadOfEveryBlockRunsOnce) {
  for (const Schedule& order : kSchedules) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<int> out(24 * 70, 0);
    launch("number", number_kernel, Grid{2, 3, 4}, 70, 0, out.data());
    const auto values = out.values();
    for (int i = 0; i < 24 * 70; ++i)
      ASSERT_EQ(values[static_cast<size_t>(i)], i / 70 * 1000 + i % 70);
  }
}

// Each round every thread reads what its neighbour wrote in the round before.
__global__ void relay_kernel(int* out, int rounds) {
  SHARED(int, box, [2][96]);
  const auto i = threadIdx.x;
  box[0][i] = static_cast<int>(i);
  for (int round = 0; round < rounds; ++round) {
    __syncthreads();
    box[(round + 1) % 2][i] = box[round % 2][(i + 1) % blockDim.x] + 1;
  }
  out[blockIdx.x * blockDim.x + i] = box[rounds % 2][i];
}

TEST(SimtEngine, BarriersOrderSharedMemory) {
  for (const Schedule& order : kSchedules) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<int> out(2 * 96);
    launch("relay", relay_kernel, Grid{2}, 96, 0, out.data(), 7);
    const auto values = out.values();
    for (int i = 0; i < 2 * 96; ++i)
      ASSERT_EQ(values[static_cast<size_t>(i)], (i % 96 + 7) % 96 + 7);
  }
}

}  // namespace
}  // namespace mullion::cuda
