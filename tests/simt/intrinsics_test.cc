// The host versions of the tensor-core instructions against the layouts of the PTX ISA, written
// here element by element as the manual has them ("Matrix fragments for mma.m16n8k16 with floating
// point type", "ldmatrix"), not register by register as the emulator does.
#include "tests/simt/device_array.h"

namespace mullion::cuda {
namespace {

using simt::DeviceArray;
using simt::kSchedules;

// Element i of a lane's fragment: its row and column in the matrix.
struct Place {
  int row, column;
};
__device__ Place place_in_a(int lane, int i) {
  const int group = lane >> 2, thread = lane % 4;
  const bool upper = (0 <= i && i < 2) || (4 <= i && i < 6);
  return {upper ? group : group + 8, thread * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
}
__device__ Place place_in_b(int lane, int i) {
  return {(lane % 4) * 2 + (i & 1) + (i >= 2 ? 8 : 0), lane >> 2};
}
__device__ Place place_in_c(int lane, int i) {
  return {(lane >> 2) + (i < 2 ? 0 : 8), (lane % 4) * 2 + (i & 1)};
}

std::vector<__nv_bfloat16> small_integers(size_t n, unsigned seed) {
  std::vector<__nv_bfloat16> values(n);
  for (auto& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = __nv_bfloat16(static_cast<float>(static_cast<int>(seed >> 24) % 31 - 15));
  }
  return values;
}

// a: 16 x 16, b: 16 x 8 (k, n), c: 16 x 8
__global__ void product_kernel(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c) {
  const int lane = static_cast<int>(threadIdx.x);
  __nv_bfloat16 fragment_a[8], fragment_b[4];
  for (int i = 0; i < 8; ++i)
    fragment_a[i] = a[place_in_a(lane, i).row * 16 + place_in_a(lane, i).column];
  for (int i = 0; i < 4; ++i)
    fragment_b[i] = b[place_in_b(lane, i).row * 8 + place_in_b(lane, i).column];
  uint32_t registers_a[4], registers_b[2];
  std::memcpy(registers_a, fragment_a, sizeof registers_a);
  std::memcpy(registers_b, fragment_b, sizeof registers_b);
  float d[4] = {1, 2, 3, 4};
  mma_16816(d, registers_a, registers_b);
  for (int i = 0; i < 4; ++i) c[place_in_c(lane, i).row * 8 + place_in_c(lane, i).column] = d[i];
}

TEST(SimtIntrinsics, ProductFollowsTheFragmentLayouts) {
  const auto a = small_integers(256, 1), b = small_integers(128, 2);
  for (const auto& order : kSchedules) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<__nv_bfloat16> device_a(a), device_b(b);
    DeviceArray<float> c(128);
    launch("product", product_kernel, Grid{1}, 32, 0, device_a.data(), device_b.data(), c.data());
    const auto result = c.values();
    for (size_t row = 0; row < 16; ++row)
      for (size_t column = 0; column < 8; ++column) {
        // The accumulator held 1 and 2 in rows 0 .. 7, 3 and 4 below.
        float expected = (row < 8 ? 1.0f : 3.0f) + static_cast<float>(column % 2);
        for (size_t k = 0; k < 16; ++k)
          expected += static_cast<float>(a[row * 16 + k]) * static_cast<float>(b[k * 8 + column]);
        ASSERT_EQ(result[row * 8 + column], expected) << row << ", " << column;
      }
  }
}

// Loads with ldmatrix what product_kernel loads by element and writes the elements in the order of
// the fragments: 8 of A, 4 of B stored as (n, k), 4 of B stored as (k, n), a lane.
__global__ void ldmatrix_kernel(const __nv_bfloat16* a, const __nv_bfloat16* b,
                                __nv_bfloat16* out) {
  SHARED(__nv_bfloat16, tile_a, [16][24]);  // rows apart, still at multiples of 16 bytes
  SHARED(__nv_bfloat16, tile_b, [16][8]);
  SHARED(__nv_bfloat16, tile_b_columns, [8][24]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) tile_a[i / 16][i % 16] = a[i];
  for (int i = lane; i < 128; i += 32) tile_b[i / 8][i % 8] = tile_b_columns[i % 8][i / 8] = b[i];
  __syncthreads();
  uint32_t r4[4], r2[2], r2_trans[2], r4_trans[4];
  ldmatrix_x4(r4, &tile_a[lane % 16][lane / 16 * 8]);
  ldmatrix_x2(r2, &tile_b_columns[lane % 8][lane / 8 % 2 * 8]);
  ldmatrix_x2_trans(r2_trans, &tile_b[lane % 16][0]);
  // The four quarters of A in another order, each transposed.
  ldmatrix_x4_trans(r4_trans, &tile_a[lane / 16 * 8 + lane % 8][lane / 8 % 2 * 8]);
  __nv_bfloat16* mine = out + lane * 24;
  std::memcpy(mine, r4, 16);
  std::memcpy(mine + 8, r2, 8);
  std::memcpy(mine + 12, r2_trans, 8);
  std::memcpy(mine + 16, r4_trans, 16);
}

TEST(SimtIntrinsics, LdmatrixLoadsFragments) {
  const auto a = small_integers(256, 3), b = small_integers(128, 4);
  for (const auto& order : kSchedules) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<__nv_bfloat16> device_a(a), device_b(b), out(32 * 24);
    launch("ldmatrix", ldmatrix_kernel, Grid{1}, 32, 0, device_a.data(), device_b.data(),
           out.data());
    const auto result = out.values();
    for (int lane = 0; lane < 32; ++lane) {
      const auto* mine = result.data() + lane * 24;
      for (int i = 0; i < 8; ++i) {
        const Place p = place_in_a(lane, i);
        ASSERT_EQ(mine[i].bits, a[static_cast<size_t>(p.row * 16 + p.column)].bits)
            << lane << " " << i;
      }
      for (int i = 0; i < 4; ++i) {
        const Place p = place_in_b(lane, i);
        const auto expected = b[static_cast<size_t>(p.row * 8 + p.column)].bits;
        ASSERT_EQ(mine[8 + i].bits, expected) << lane << " " << i;
        ASSERT_EQ(mine[12 + i].bits, expected) << lane << " " << i;
      }
      // Matrix j holds rows 8 (j / 2) .. and columns 8 (j % 2) .. of A; transposed, a lane's pair
      // runs down a column of A.
      for (int i = 0; i < 8; ++i) {
        const int j = i / 2, row = 8 * (j / 2) + lane % 4 * 2 + i % 2,
                  column = 8 * (j % 2) + lane / 4;
        ASSERT_EQ(mine[16 + i].bits, a[static_cast<size_t>(row * 16 + column)].bits)
            << lane << " " << i;
      }
    }
  }
}

__global__ void outside_kernel(const __nv_bfloat16* global, int offset) {
  SHARED(__nv_bfloat16, tile, [8][8]);
  tile[threadIdx.x / 4][threadIdx.x % 8] = global[0];
  __syncwarp();
  uint32_t r[2];
  const __nv_bfloat16* row = offset < 0 ? global : &tile[threadIdx.x % 8][0] + offset;
  ldmatrix_x2(r, row);
}

TEST(SimtIntrinsics, LdmatrixChecksItsAddresses) {
  DeviceArray<__nv_bfloat16> global(64);
  const auto finding = [&](int offset) {
    return simt::finding_of(
        [&] { launch("outside", outside_kernel, Grid{1}, 32, 0, global.data(), offset); });
  };
  EXPECT_EQ(finding(0), "");
  EXPECT_NE(finding(4).find("ldmatrix: misaligned address"), std::string::npos) << finding(4);
  EXPECT_NE(finding(8).find("outside of shared memory"), std::string::npos) << finding(8);
  EXPECT_NE(finding(-1).find("outside of shared memory"), std::string::npos) << finding(-1);
}

__global__ void pack_kernel(const float* x, uint32_t* bits, float* halves) {
  bits[0] = pack_bf16(x[0], x[1]);
  halves[0] = low_bf16(bits[0]);
  halves[1] = high_bf16(bits[0]);
}

TEST(SimtIntrinsics, Bf16RoundsToNearestEven) {
  // 1 + 2^-8 lies half way between 1 and 1 + 2^-7; 1 + 3 * 2^-8 between 1 + 2^-7 and 1 + 2^-6.
  DeviceArray<float> x(std::vector<float>{1 + 0x1p-8f, -(1 + 3 * 0x1p-8f)}), halves(2);
  DeviceArray<uint32_t> bits(1);
  launch("pack", pack_kernel, Grid{1}, 1, 0, x.data(), bits.data(), halves.data());
  EXPECT_EQ(bits.values()[0], 0xbf823f80u);
  EXPECT_EQ(halves.values(), (std::vector<float>{1, -(1 + 0x1p-6f)}));
}

}  // namespace
}  // namespace mullion::cuda
