// Copies on the device: every pair of types against the CPU's conversion, strided spaces in every
// unit in which they can move, fills, and transfers of every length class.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tensor/tensor.h"
#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

class CopyOnDevice : public OnDevice<> {};

constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f16,     DType::f64,
                            DType::i32, DType::i64,  DType::boolean, DType::u8};

// Bytes of a tensor, on the CPU and without gaps.
std::vector<unsigned char> bytes_of(const Tensor& x) {
  const Tensor host = raw::contiguous(raw::to_device(x, Device{}));
  std::vector<unsigned char> bytes(static_cast<size_t>(host.bytes()));
  const void* first = host.data<void>();
  std::memcpy(bytes.data(), first, bytes.size());
  return bytes;
}

// Equal bytes, but that a NaN may have other bits.
void expect_same(const Tensor& found, const Tensor& expected) {
  const auto f = found.to_vector<double>(), e = expected.to_vector<double>();
  ASSERT_EQ(f.size(), e.size());
  for (size_t i = 0; i < f.size(); ++i)
    ASSERT_TRUE(f[i] == e[i] || (std::isnan(f[i]) && std::isnan(e[i])))
        << "element " << i << ": " << f[i] << ", expected " << e[i];
}

// Values at which conversions differ: ends of ranges, halves, subnormal halves, no numbers.
Tensor awkward(DType type) {
  std::vector<double> v = {0,     -0.0,     1,         -1,       0.5,  1.5,     2.5,        -2.5,
                           127.5, 255,      256,       300,      -5,   65504,   65520,      1e6,
                           3e9,   -3e9,     1e20,      -1e20,    1e-7, 6e-8,    3.1e-5,     1e-40,
                           NAN,   INFINITY, -INFINITY, 16777217, 0.1,  1.0 / 3, 123456.789, 2047.5};
  return raw::cast(Tensor::from(v, {4, 8}), type);
}

TEST_F(CopyOnDevice, EveryPairOfTypesConvertsAsOnTheCpu) {
  for (const DType from : kTypes)
    for (const DType to : kTypes) {
      SCOPED_TRACE(concat(name_of(from), " to ", name_of(to)));
      const Tensor x = awkward(from), on_device = raw::to_device(x, kCuda);
      expect_same(raw::cast(on_device, to), raw::cast(x, to));
      const int turned[] = {1, 0};
      expect_same(raw::cast(raw::permute(on_device, turned), to),
                  raw::cast(raw::permute(x, turned), to));
    }
}

TEST_F(CopyOnDevice, LongConversionsBetweenF32AndBf16) {
  for (const int64_t n : {1, 7, 8, 4099}) {
    std::vector<float> v(static_cast<size_t>(n));
    for (size_t i = 0; i < v.size(); ++i) v[i] = 0.37f * static_cast<float>(i) - 50;
    const Tensor x = Tensor::from(v, {n}), narrow = raw::cast(x, DType::bf16);
    EXPECT_EQ(bytes_of(raw::cast(raw::to_device(x, kCuda), DType::bf16)), bytes_of(narrow));
    EXPECT_EQ(bytes_of(raw::cast(raw::to_device(narrow, kCuda), DType::f32)),
              bytes_of(raw::cast(narrow, DType::f32)));
  }
}

// Slices whose rows are 1 to 48 bytes and begin anywhere, in and out.
TEST_F(CopyOnDevice, SlicesOfEveryWidth) {
  for (const DType type : {DType::u8, DType::bf16, DType::f32, DType::i64})
    for (const int64_t begin : {0, 1, 2, 4, 8})
      for (const int64_t width : {1, 2, 3, 4, 8, 16}) {
        SCOPED_TRACE(concat(name_of(type), " ", begin, " ", width));
        const Tensor x = Tensor::empty({5, 3, 24}, type);
        void* first = x.data<void>();
        auto* bytes = static_cast<unsigned char*>(first);
        for (int64_t i = 0; i < x.bytes(); ++i) bytes[i] = static_cast<unsigned char>(i * 37 + 11);
        const Tensor there = raw::to_device(x, kCuda);
        const Tensor part = raw::slice(x, 2, begin, begin + width);
        const Tensor part_there = raw::slice(there, 2, begin, begin + width);
        EXPECT_EQ(bytes_of(raw::clone(part_there)), bytes_of(part));
        const Tensor target = raw::clone(x), target_there = raw::to_device(target, kCuda);
        raw::copy_into(part, raw::slice(target, 2, 24 - width, 24));
        raw::copy_into(part_there, raw::slice(target_there, 2, 24 - width, 24));
        EXPECT_EQ(bytes_of(target_there), bytes_of(target));
      }
}

TEST_F(CopyOnDevice, TurnedRepeatedAndReversedAxes) {
  const Tensor x = Tensor::empty({2, 3, 5, 7});
  float* element = x.data<float>();
  for (int64_t i = 0; i < x.numel(); ++i) element[i] = static_cast<float>(i);
  const Tensor there = raw::to_device(x, kCuda);
  const int orders[][4] = {{3, 2, 1, 0}, {0, 2, 1, 3}, {1, 3, 0, 2}, {0, 3, 1, 2}};
  for (const auto& order : orders)
    EXPECT_EQ(bytes_of(raw::clone(raw::permute(there, order))), bytes_of(raw::permute(x, order)));
  const Shape wide{4, 2, 3, 5, 7};
  EXPECT_EQ(bytes_of(raw::clone(raw::expand(there, wide))), bytes_of(raw::expand(x, wide)));
}

// Sizes around those of a tile, in every size of element, into targets with and without gaps.
TEST_F(CopyOnDevice, Transposes) {
  for (const DType type : {DType::u8, DType::bf16, DType::f32, DType::f64})
    for (const auto& [rows, columns] :
         {std::pair{16, 16}, {17, 33}, {32, 64}, {70, 31}, {15, 40}}) {
      SCOPED_TRACE(concat(name_of(type), " ", rows, " x ", columns));
      const Tensor x = Tensor::empty({3, rows, 2, columns}, type);
      void* first = x.data<void>();
      auto* bytes = static_cast<unsigned char*>(first);
      for (int64_t i = 0; i < x.bytes(); ++i)
        bytes[i] = static_cast<unsigned char>(i * 37 + i / 251);
      const Tensor there = raw::to_device(x, kCuda);
      const int orders[][4] = {{0, 2, 3, 1}, {3, 1, 2, 0}, {2, 3, 0, 1}, {0, 3, 2, 1}};
      for (const auto& order : orders) {
        const Tensor turned = raw::permute(x, order), turned_there = raw::permute(there, order);
        EXPECT_EQ(bytes_of(raw::clone(turned_there)), bytes_of(turned));
        Shape wider = turned.shape();
        wider[3] += 5;
        const Tensor target = Tensor::zeros(wider, type),
                     target_there = raw::to_device(target, kCuda);
        raw::copy_into(turned, raw::slice(target, 3, 2, wider[3] - 3));
        raw::copy_into(turned_there, raw::slice(target_there, 3, 2, wider[3] - 3));
        EXPECT_EQ(bytes_of(target_there), bytes_of(target));
      }
    }
}

TEST_F(CopyOnDevice, FillsEveryType) {
  for (const DType type : kTypes)
    for (const double value : {0.0, 1.0, -2.5, 1000.0, double{NAN}})
      for (const int64_t n : {1, 3, 300}) {
        SCOPED_TRACE(concat(name_of(type), " ", value));
        EXPECT_EQ(bytes_of(Tensor::full({n}, value, type, kCuda)),
                  bytes_of(Tensor::full({n}, value, type)));
      }
}

TEST_F(CopyOnDevice, TransfersOfEveryLength) {
  for (const int64_t n : {0, 1, 65535, 65536, 65537, 1 << 20, (16 << 20) + 5, (33 << 20) + 1}) {
    SCOPED_TRACE(n);
    std::vector<uint8_t> v(static_cast<size_t>(n));
    for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<uint8_t>(i * 31 + i / 253);
    const Tensor there = Tensor::from(v, {n}, kCuda);
    const std::vector<uint8_t> back = there.to_vector<uint8_t>();
    EXPECT_TRUE(back == v);
  }
}

// More uploads than there are pinned buffers, before anything is waited for: none may be
// overwritten while its copy waits.
TEST_F(CopyOnDevice, ManyUploadsWithoutWaiting) {
  std::vector<Tensor> there;
  for (int i = 0; i < 100; ++i) {
    const size_t n = i % 10 == 9 ? 100000 : 100;
    there.push_back(Tensor::from(std::vector<int32_t>(n, i), {static_cast<int64_t>(n)}, kCuda));
  }
  for (int i = 0; i < 100; ++i)
    for (const int32_t value : there[static_cast<size_t>(i)].to_vector<int32_t>())
      ASSERT_EQ(value, i);
}

TEST_F(CopyOnDevice, RefusesACopyAcrossDevicesThatWouldConvert) {
  const Tensor x = Tensor::zeros({4}), there = Tensor::zeros({4}, DType::bf16, kCuda);
  EXPECT_THROW(raw::copy_into(x, there), Error);
}

TEST_F(CopyOnDevice, MemoryIsCountedByDevice) {
  reset_peak_memory(kCuda);
  const int64_t before = memory_use(kCuda).live, on_cpu = memory_use().live;
  {
    const Tensor x = Tensor::empty({1000}, DType::f32, kCuda);
    EXPECT_EQ(memory_use(kCuda).live, before + 4096);
    EXPECT_EQ(memory_use().live, on_cpu);
  }
  EXPECT_EQ(memory_use(kCuda).live, before);
  EXPECT_EQ(memory_use(kCuda).peak, before + 4096);
}

}  // namespace
}  // namespace mullion::test
