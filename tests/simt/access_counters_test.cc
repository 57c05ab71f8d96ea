// The counters of accesses against kernels whose conflicts of banks and sectors are known.
#include "tensor/simt/access_counters.h"

#include "tests/simt/device_array.h"

namespace mullion::cuda {
namespace {

using simt::AccessCount;
using simt::AccessCounters;
using simt::Counted;
using simt::DeviceArray;
using simt::kSchedules;

void expect(const AccessCount& count, int64_t instructions, int64_t taken, int64_t least) {
  EXPECT_EQ(count.instructions, instructions);
  EXPECT_EQ(count.taken, taken);
  EXPECT_EQ(count.least, least);
}

// Counts of one launch of kernel(argument, memory) by a warp, in every order.
template <typename Argument, typename Check>
void count(void (*kernel)(Argument, float*), Argument argument, Check check) {
  for (const auto& order : kSchedules) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<float> memory(1024, 0);
    const AccessCounters counters;
    launch("counted", kernel, Grid{1}, 32, 0, argument, memory.data());
    cudaDeviceSynchronize();
    EXPECT_EQ(counters.of("counted").launches, 1);
    check(counters.of("counted"));
  }
}

// Lane l stores and loads word l * stride of shared memory.
__global__ void words_kernel(int stride, float* result) {
  SHARED(float, words, [1024]);
  const int lane = static_cast<int>(threadIdx.x);
  words[lane * stride % 1024] = static_cast<float>(lane);
  __syncwarp();
  result[lane] = words[lane * stride % 1024];
}

TEST(SimtAccessCounters, ConflictsOfBanksByStride) {
  const struct {
    int stride, passes;
  } cases[] = {{1, 1}, {2, 2}, {4, 4}, {32, 32}, {33, 1}, {31, 1}};
  for (const auto& c : cases) {
    SCOPED_TRACE(c.stride);
    count(words_kernel, c.stride, [&](const simt::KernelAccesses& k) {
      expect(k.total(Counted::shared_write), 1, c.passes, 1);
      expect(k.total(Counted::shared_read), 1, c.passes, 1);
      expect(k.total(Counted::global_write), 1, 4, 4);
      expect(k.total(Counted::global_read), 0, 0, 0);
    });
  }
}

// All lanes want one word, which is read once.
__global__ void broadcast_kernel(int word, float* result) {
  SHARED(float, words, [1024]);
  if (threadIdx.x == 0) words[word] = 1;
  __syncwarp();
  result[threadIdx.x] = words[word];
}

TEST(SimtAccessCounters, ABroadcastIsOnePass) {
  count(broadcast_kernel, 7, [](const simt::KernelAccesses& k) {
    expect(k.total(Counted::shared_read), 1, 1, 1);
    expect(k.total(Counted::shared_write), 1, 1, 1);
  });
}

// Two elements of 16 bits share a word.
__global__ void halves_kernel(int stride, float* result) {
  SHARED(uint16_t, halves, [1024]);
  const int lane = static_cast<int>(threadIdx.x);
  halves[lane * stride] = static_cast<uint16_t>(lane);
  __syncwarp();
  result[lane] = static_cast<float>(halves[lane * stride]);
}

TEST(SimtAccessCounters, HalvesOfAWordAreNoConflict) {
  for (const auto& [stride, passes] : {std::pair{1, 1}, {2, 1}, {4, 2}})
    count(halves_kernel, stride, [&](const simt::KernelAccesses& k) {
      expect(k.total(Counted::shared_write), 1, passes, 1);
      expect(k.total(Counted::shared_read), 1, passes, 1);
    });
}

// Lane l loads a vector at byte l * stride of shared memory.
template <typename V>
__global__ void vectors_kernel(int stride, float* result) {
  SHARED(float4, bytes, [256]);
  const auto* p = reinterpret_cast<unsigned char*>(bytes);
  for (int i = static_cast<int>(threadIdx.x); i < 256; i += 32)
    store_vector(&bytes[i], make_float4(1, 2, 3, 4));
  __syncwarp();
  const V v = load_vector<V>(p + static_cast<int>(threadIdx.x) * stride);
  result[threadIdx.x] = v.x;
}

TEST(SimtAccessCounters, WideAccessesGoInPhases) {
  const auto expect_reads = [](void (*kernel)(int, float*), int stride, int passes, int least) {
    SCOPED_TRACE(stride);
    count(kernel, stride, [&](const simt::KernelAccesses& k) {
      expect(k.total(Counted::shared_read), 1, passes, least);
      expect(k.total(Counted::shared_write), 8, 32, 32);  // 16 bytes a lane, side by side
    });
  };
  expect_reads(vectors_kernel<float2>, 8, 2, 2);
  expect_reads(vectors_kernel<float2>, 16, 4, 2);
  expect_reads(vectors_kernel<float2>, 0, 2, 2);
  expect_reads(vectors_kernel<float4>, 16, 4, 4);
  expect_reads(vectors_kernel<float4>, 32, 8, 4);
  expect_reads(vectors_kernel<float4>, 64, 16, 4);
  expect_reads(vectors_kernel<float4>, 128, 32, 4);
  expect_reads(vectors_kernel<float4>, 48, 4, 4);
}

// ldmatrix of rows of 64 elements of 16 bits, `padding` further ones after each.
__global__ void matrices_kernel(int padding, float* result) {
  SHARED(uint4, tile, [512]);
  auto* elements = reinterpret_cast<uint16_t*>(tile);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 512 * 8; i += 32) elements[i] = 0;
  __syncwarp();
  uint32_t r[4];
  ldmatrix_x4(r, elements + lane * (64 + padding));
  result[lane] = static_cast<float>(r[0]);
}

TEST(SimtAccessCounters, MatricesWithAndWithoutPadding) {
  for (const auto& [padding, passes] : {std::pair{0, 8}, {8, 1}, {16, 2}, {32, 4}})
    count(matrices_kernel, padding, [&](const simt::KernelAccesses& k) {
      expect(k.total(Counted::shared_read), 4, 4 * passes, 4);  // an instruction a matrix
    });
}

// Lane l copies 16 bytes from word 4 l of memory into a row of `stride` bytes.
__global__ void copies_kernel(int stride, float* memory) {
  DYNAMIC_SHARED(unsigned char, tile);
  (void)memory;
  cp_async_16(tile + static_cast<int>(threadIdx.x) * stride, memory + 4 * threadIdx.x,
              threadIdx.x != 0);
  cp_async_commit();
  cp_async_wait<0>();
}

TEST(SimtAccessCounters, CopiesReadMemoryAndWriteBanks) {
  for (const auto& [stride, passes] : {std::pair{16, 4}, {128, 32}, {144, 4}}) {
    DeviceArray<float> memory(128);
    const AccessCounters counters;
    launch("copies", copies_kernel, Grid{2}, 32, static_cast<size_t>(32 * stride), stride,
           memory.data());
    cudaDeviceSynchronize();
    const simt::KernelAccesses k = counters.of("copies");
    expect(k.total(Counted::shared_write), 2, 2 * passes, 8);
    // Lane 0 of each block does not read: 496 bytes, in 16 sectors of which the first is half used.
    expect(k.total(Counted::global_read), 2, 32, 32);
  }
}

// Lane l loads word `first` + l * stride.
struct Words {
  int first, stride;
};
__global__ void global_kernel(Words words, float* memory) {
  memory[512 + threadIdx.x] = memory[words.first + static_cast<int>(threadIdx.x) * words.stride];
}

TEST(SimtAccessCounters, SectorsOfGlobalMemory) {
  const struct {
    Words words;
    int64_t sectors, least;
  } cases[] = {{{0, 1}, 4, 4}, {{1, 1}, 5, 4},  {{8, 1}, 4, 4}, {{0, 2}, 8, 4},
               {{1, 2}, 8, 4}, {{0, 8}, 32, 4}, {{3, 0}, 1, 1}, {{0, 12}, 32, 4}};
  for (const auto& c : cases) {
    SCOPED_TRACE(concat("from ", c.words.first, " in steps of ", c.words.stride));
    count(global_kernel, c.words, [&](const simt::KernelAccesses& k) {
      expect(k.total(Counted::global_read), 1, c.sectors, c.least);
      expect(k.total(Counted::global_write), 1, 4, 4);
    });
  }
}

// Lanes turn as often as their number says: the i-th turns of all lanes are one instruction.
__global__ void uneven_kernel(int, float* memory) {
  for (unsigned i = 0; i <= threadIdx.x / 8; ++i) memory[64 * i + threadIdx.x] = 1;
}

TEST(SimtAccessCounters, LanesThatLeaveALoopEarly) {
  count(uneven_kernel, 0, [](const simt::KernelAccesses& k) {
    expect(k.total(Counted::global_write), 4, 4 + 3 + 2 + 1, 4 + 3 + 2 + 1);
  });
}

TEST(SimtAccessCounters, NothingIsCountedWithoutThem) {
  if (std::getenv("MULLION_SIMT_COUNTERS")) GTEST_SKIP() << "they are on";
  EXPECT_FALSE(simt::counting_accesses);
  {
    const AccessCounters counters;
    EXPECT_TRUE(simt::counting_accesses);
    EXPECT_EQ(counters.kernels().size(), 0u);
  }
  EXPECT_FALSE(simt::counting_accesses);
}

TEST(SimtAccessCounters, TheTableHasEveryKernel) {
  DeviceArray<float> memory(1024, 0);
  const AccessCounters counters;
  launch("halves apart", global_kernel, Grid{3}, 32, 0, Words{0, 2}, memory.data());
  cudaDeviceSynchronize();
  const std::string table = simt::table_of_accesses(counters.kernels());
  EXPECT_NE(
      table.find("| `halves apart` | 1 |  |  |  |  | 3 | 24 / 12 = 2.00 | 3 | 12 / 12 = 1.00 |"),
      std::string::npos)
      << table;
  const std::string places = simt::places_of_accesses(counters.of("halves apart"), 5);
  EXPECT_NE(places.find(": 3 global reads, 24 instead of 12\n"), std::string::npos) << places;
}

}  // namespace
}  // namespace mullion::cuda
