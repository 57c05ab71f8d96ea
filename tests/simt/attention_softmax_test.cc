// The online softmax of attention's forward over many tiles: what it costs in multiplications of
// the sums so far, and how far the log-sum-exp drifts.
#include "tensor/cuda/attention/attention_softmax.cuh"

#include <cmath>
#include <random>

#include "tests/simt/device_array.h"

namespace mullion::cuda {
namespace {

constexpr int kPairs = 6, kRows = 16, kKeys = 8 * kPairs;  // a tile, as a warp has it for D = 128

// A warp takes `tiles` tiles of scores, kRows x kKeys each; gives the row's log-sum-exp in powers
// of two and the number of tiles that multiplied o.
__global__ void soften_kernel(const float* scores, int tiles, float c, float* lse, int* rescaled) {
  const int lane = static_cast<int>(threadIdx.x);
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {}, o[1][4] = {};
  int count = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    float s[kPairs][4];
    uint32_t p[kPairs][2];
    for (int n = 0; n < kPairs; ++n)
      for (int e = 0; e < 4; ++e)
        s[n][e] =
            scores[(tile * kRows + e / 2 * 8 + lane / 4) * kKeys + 8 * n + lane % 4 * 2 + e % 2];
    count += soften(s, c, top, sum, o, p) ? 1 : 0;
  }
  for (int r = 0; r < 2; ++r) {
    sum[r] += __shfl_xor_sync(kFullMask, sum[r], 1);
    sum[r] += __shfl_xor_sync(kFullMask, sum[r], 2);
    if (lane % 4 == 0) lse[8 * r + lane / 4] = top[r] + log2f(sum[r]);
  }
  if (lane == 0) *rescaled = count;
}

struct Outcome {
  int rescaled, rising;  // tiles that multiplied, tiles that brought some row a new maximum
  double drift;          // of the log-sum-exp, in natural units
};

// score(tile, row, key) gives the scores.
template <typename Score>
Outcome outcome_of(int tiles, float c, const Score& score) {
  std::vector<float> scores;
  std::vector<double> top(kRows, -INFINITY), sum(kRows, 0);
  Outcome outcome{0, 0, 0};
  for (int tile = 0; tile < tiles; ++tile) {
    bool rises = false;
    for (int row = 0; row < kRows; ++row) {
      double highest = top[static_cast<size_t>(row)];
      for (int key = 0; key < kKeys; ++key) {
        scores.push_back(score(tile, row, key));
        highest = std::max(highest, static_cast<double>(scores.back()));
      }
      rises |= highest > top[static_cast<size_t>(row)];
      top[static_cast<size_t>(row)] = highest;
    }
    outcome.rising += rises;
  }
  for (size_t i = 0; i < scores.size(); ++i) {
    const size_t row = i / kKeys % kRows;
    sum[row] += std::exp2((static_cast<double>(scores[i]) - top[row]) * static_cast<double>(c));
  }
  simt::DeviceArray<float> in(scores), lse(kRows);
  simt::DeviceArray<int> rescaled(1);
  launch("soften", soften_kernel, Grid{1}, kWarpSize, 0, in.data(), tiles, c, lse.data(),
         rescaled.data());
  const std::vector<float> found = lse.values();
  for (size_t row = 0; row < kRows; ++row)
    outcome.drift = std::max(
        outcome.drift,
        std::log(2.0) * std::abs(static_cast<double>(found[row]) -
                                 (top[row] * static_cast<double>(c) + std::log2(sum[row]))));
  outcome.rescaled = rescaled.values()[0];
  return outcome;
}

const float kScale = 1.4426950408889634f / std::sqrt(128.0f);

TEST(AttentionSoftmax, OnlyANewMaximumMultiplies) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal(0, 40);
  const Outcome random = outcome_of(340, kScale, [&](int, int, int) { return normal(engine); });
  EXPECT_EQ(random.rescaled, random.rising);
  EXPECT_LT(random.rescaled, 100);
  EXPECT_LT(random.drift, 3e-6);
  // The highest score of each row is its first.
  const Outcome first = outcome_of(340, kScale, [&](int tile, int row, int key) {
    return tile + key == 0 ? 401.3f + static_cast<float>(row) : normal(engine);
  });
  EXPECT_EQ(first.rescaled, 1);
  EXPECT_LT(first.drift, 3e-6);
}

TEST(AttentionSoftmax, EqualScoresAddUp) {
  const Outcome equal = outcome_of(2133, kScale, [](int, int row, int) {  // 102,384 keys
    return 100.7f + 3.1f * static_cast<float>(row);
  });
  EXPECT_EQ(equal.rescaled, 1);
  EXPECT_LT(equal.drift, 5e-6);
}

// Scores that rise with every tile: all are multiplied, and nothing is lost.
TEST(AttentionSoftmax, RisingScoresAreFollowed) {
  const Outcome rising = outcome_of(200, kScale, [](int tile, int row, int key) {
    return static_cast<float>(tile) + 0.01f * static_cast<float>(row * kKeys + key);
  });
  EXPECT_EQ(rising.rescaled, 200);
  EXPECT_LT(rising.drift, 5e-6);
}

}  // namespace
}  // namespace mullion::cuda
