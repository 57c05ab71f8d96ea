// Help for the emulator's own tests: memory of the device, the orders to try, what is reported.
#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tensor/cuda/runtime/launch.h"
#include "tensor/simt/simt.h"

namespace mullion::simt {

inline const Schedule kSchedules[] = {{Order::forward}, {Order::backward}, {Order::random, 5}};

// What the emulator reports while f runs; "" where it finds nothing.
template <typename F>
std::string finding_of(F f) {
  try {
    f();
    cudaDeviceSynchronize();
  } catch (const Finding& finding) {
    return finding.what();
  }
  return "";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

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
    cudaDeviceSynchronize();
    cudaMemcpy(result.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost);
    return result;
  }

 private:
  size_t n_;
  T* data_ = nullptr;
};

}  // namespace mullion::simt
