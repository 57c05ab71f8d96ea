// Arrays for tests of kernels, on any device: NaN inside, so that an element left unwritten shows,
// marks on both sides, so that one written outside shows, and a start `skew` elements past an
// aligned address, so that both ways of moving elements are met.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "tensor/kernel_table.h"
#include "tensor/random.h"
#include "tensor/tensor.h"
#include "tests/cuda/device_runs.h"
#ifdef MULLION_SIMT
#include "tensor/simt/simt.h"
#endif

namespace mullion::test {

using Floats = std::vector<float>;

class DeviceArray {
 public:
  DeviceArray(Device device, DType type, const Floats& values, int64_t skew)
      : n_(static_cast<int64_t>(values.size())), skew_(skew) {
    Floats all(static_cast<size_t>(n_ + skew + 2 * kGuard), kMark);
    std::copy(values.begin(), values.end(), all.begin() + kGuard + skew);
    const Tensor host = Tensor::from(all, {static_cast<int64_t>(all.size())});
    store_ = raw::to_device(raw::cast(host, type), device);
  }

  void* data() const {
    void* first = store_.data<void>();
    return static_cast<std::byte*>(first) + (kGuard + skew_) * size_of(store_.dtype());
  }
  // The elements, and a look at the marks.
  Floats values() const {
    const Tensor host = raw::cast(raw::to_device(store_, Device{}), DType::f32);
    const float* all = host.data<float>();
    for (int64_t i = 0; i < kGuard; ++i) {
      EXPECT_EQ(all[i + skew_], kMark) << "written before the start";
      EXPECT_EQ(all[kGuard + skew_ + n_ + i], kMark) << "written past the end";
    }
    return {all + kGuard + skew_, all + kGuard + skew_ + n_};
  }

 private:
  static constexpr int64_t kGuard = 64;
  static constexpr float kMark = 1536;
  int64_t n_, skew_;
  Tensor store_;
};

// Where a kernel runs, in which type, and the arrays it works on. The same test code runs on the
// CPU in f32, which gives what is expected, and on a GPU. Arrays of `type` are activations; exact
// ones are f32 on both sides.
class Side {
 public:
  Side(Device device, DType type, int64_t skew) : device_(device), type_(type), skew_(skew) {}

  const KernelTable& table() const { return kernels(device_); }
  DType type() const { return type_; }
  const void* in(const Floats& values) { return add(type_, values, false); }
  const float* exact_in(const Floats& values) {
    return static_cast<float*>(add(DType::f32, values, false));
  }
  void* out(int64_t n) { return add(type_, nothing(n), true); }
  float* exact_out(int64_t n) { return static_cast<float*>(add(DType::f32, nothing(n), true)); }
  void* in_out(const Floats& values) { return add(type_, values, true); }
  const int64_t* ids(const std::vector<int64_t>& values) {
    ids_.push_back(Tensor::from(values, {static_cast<int64_t>(values.size())}, device_));
    return ids_.back().data<int64_t>();
  }
  const void* in_as(DType type, const Floats& values) { return add(type, values, false); }
  bool on_cpu() const { return device_.type == DeviceType::cpu; }

  // What the kernels left in the outputs, in the order in which they were made. All arrays' marks
  // are looked at.
  std::vector<Floats> results() const {
    std::vector<Floats> outputs;
    for (const auto& [array, is_output] : arrays_) {
      const Floats values = array.values();
      if (is_output) outputs.push_back(values);
    }
    return outputs;
  }

 private:
  static Floats nothing(int64_t n) { return Floats(static_cast<size_t>(n), NAN); }
  void* add(DType type, const Floats& values, bool output) {
    arrays_.push_back({DeviceArray(device_, type, values, skew_), output});
    return arrays_.back().first.data();
  }

  Device device_;
  DType type_;
  int64_t skew_;
  std::vector<std::pair<DeviceArray, bool>> arrays_;  // and whether it is an output
  std::vector<Tensor> ids_;
};

// `n` values in [low, high) drawn from a stream, as an array of `type` holds them.
inline Floats spread(int64_t n, uint64_t stream, DType type, float low = -1, float high = 1) {
  Philox philox{7, stream};
  Floats values(static_cast<size_t>(n));
  for (float& v : values) {
    v = low + (high - low) * philox.uniform();
    if (type == DType::bf16) v = static_cast<float>(bf16(v));
  }
  return values;
}

// Runs `call(side)` on the CPU in f32 and several times on the GPU in `type`: the results are close
// to the CPU's, and the same to the bit each time, in the emulator in every order of threads.
template <typename Call>
void compare_sides(DType type, int64_t skew, float tolerance, Call call) {
  const auto on = [&](Device device, DType t, int64_t s) {
    Side side(device, t, s);
    call(side);
    return side.results();
  };
  const Device cuda{DeviceType::cuda};
  const auto expected = on(Device{}, DType::f32, 0), found = on(cuda, type, skew);
#ifdef MULLION_SIMT
  for (const simt::Schedule order :
       {simt::Schedule{simt::Order::backward}, simt::Schedule{simt::Order::random, 5}}) {
    const simt::ScheduleGuard guard(order);
    EXPECT_EQ(found, on(cuda, type, skew)) << "another order of threads gives another result";
  }
#else
  EXPECT_EQ(found, on(cuda, type, skew)) << "a second run differs";
#endif
  ASSERT_EQ(found.size(), expected.size());
  for (size_t k = 0; k < found.size(); ++k)
    for (size_t i = 0; i < expected[k].size(); ++i)
      ASSERT_LE(std::abs(found[k][i] - expected[k][i]), tolerance * (1 + std::abs(expected[k][i])))
          << found[k][i] << " instead of " << expected[k][i] << " at " << i << " of output " << k;
}

// A fixture for kernels of a type: on the device against the CPU's, which compute in f32 on the
// rounded inputs.
class KernelsOfType : public OnDevice<testing::TestWithParam<DType>> {
 protected:
  DType type() const { return GetParam(); }
  // bf16 rounds results to 8 bits; f32 sums up in another order than the CPU.
  float tolerance() const { return type() == DType::bf16 ? 1e-2f : 1e-5f; }
  Floats values(int64_t n, uint64_t stream, float low = -1, float high = 1) const {
    return spread(n, stream, type(), low, high);
  }
};
#define OF_BOTH_TYPES(Fixture)                                                       \
  INSTANTIATE_TEST_SUITE_P(Types, Fixture, testing::Values(DType::f32, DType::bf16), \
                           [](const auto& test) { return std::string(name_of(test.param)); })

}  // namespace mullion::test
