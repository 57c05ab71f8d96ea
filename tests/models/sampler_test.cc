// Draws of the sampler against its definition, written down over the whole sorted vocabulary.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/llama/generate.h"
#include "models/llama/likeliest_first.h"
#include "tensor/random.h"

namespace mullion {
namespace {

// Logits as a model's: most are small, some equal.
std::vector<float> made_up_logits(size_t vocabulary, uint64_t seed) {
  std::vector<float> logits(vocabulary);
  for (size_t i = 0; i < vocabulary; ++i) {
    Philox random{seed, i, 0};
    logits[i] = std::round(random.normal() * 40) / 10;
  }
  return logits;
}

std::vector<int32_t> sorted_ids(const std::vector<float>& logits) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  return order;
}

// The likeliest tokens that top_k, top_p and min_p leave, and the one that a number in [0, 1) is.
int32_t defined(const std::vector<float>& logits, const SamplerOptions& o, double number) {
  const std::vector<int32_t> order = sorted_ids(logits);
  std::vector<double> p;
  for (const int32_t id : order)
    p.push_back(std::exp((logits[static_cast<size_t>(id)] - logits[static_cast<size_t>(order[0])]) /
                         o.temperature));
  if (o.top_k > 0) p.resize(std::min(p.size(), static_cast<size_t>(o.top_k)));
  const double all = std::accumulate(p.begin(), p.end(), 0.0);
  double seen = 0;
  for (size_t i = 0; i < p.size(); ++i)
    if ((seen += p[i]) >= o.top_p * all) p.resize(i + 1);
  while (p.size() > 1 && p.back() < o.min_p * p[0]) p.pop_back();
  double left = number * std::accumulate(p.begin(), p.end(), 0.0);
  for (size_t i = 0; i < p.size(); ++i)
    if ((left -= p[i]) < 0) return order[i];
  return order[p.size() - 1];
}

double number_of(uint64_t seed, uint64_t draw) {
  const PhiloxBlock block = philox(seed, 0x73616d706c65, draw);
  return static_cast<double>((uint64_t{block.v[0]} << 32 | block.v[1]) >> 11) * 0x1p-53;
}

TEST(Sampler, DrawsWhatTheWholeSortedVocabularyGives) {
  const SamplerOptions cases[] = {
      {.temperature = 1, .seed = 1},
      {.temperature = 0.6, .top_p = 0.9, .seed = 2},
      {.temperature = 3, .top_p = 0.999, .seed = 3},
      {.temperature = 1, .top_k = 40, .top_p = 0.95, .seed = 4},
      {.temperature = 2, .top_k = 5000, .seed = 5},
      {.temperature = 1.5, .min_p = 0.02, .seed = 6},
      {.temperature = 1, .top_k = 1, .seed = 7},
      {.temperature = 0.01, .top_p = 0.5, .min_p = 1, .seed = 8},
  };
  for (const size_t vocabulary : {1, 2, 63, 64, 65, 257, 3000}) {
    const std::vector<float> logits = made_up_logits(vocabulary, vocabulary);
    for (const SamplerOptions& options : cases)
      for (uint64_t draw = 0; draw < 50; ++draw)
        ASSERT_EQ(Sampler(options).pick(logits, draw),
                  defined(logits, options, number_of(options.seed, draw)))
            << "vocabulary " << vocabulary << ", seed " << options.seed << ", draw " << draw;
  }
}

TEST(Sampler, TemperatureZeroTakesTheFirstOfTheLikeliest) {
  const std::vector<float> logits = {0, 3, -1, 3};
  EXPECT_EQ(Sampler({}).pick(logits, 0), 1);
}

TEST(LikeliestFirst, IsTheSortedOrderHoweverFarItIsAskedFor) {
  for (const size_t vocabulary : {1, 64, 1000}) {
    const std::vector<float> logits = made_up_logits(vocabulary, 9);
    const std::vector<int32_t> order = sorted_ids(logits);
    LikeliestFirst all(logits), last(logits);
    ASSERT_EQ(all.size(), vocabulary);
    for (size_t i = 0; i < vocabulary; ++i) ASSERT_EQ(all[i], order[i]) << i;
    EXPECT_EQ(last[vocabulary - 1], order[vocabulary - 1]);
    EXPECT_EQ(last[0], order[0]);
  }
}

}  // namespace
}  // namespace mullion
