// A packed row against its documents one by one: loss and gradients of a small LLaMA, on a device.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "autograd/engine.h"
#include "data/text_rows.h"
#include "models/llama/model.h"
#include "nn/module.h"
#include "tests/small_llama_config.h"

namespace mullion::test {

struct LossAndGradients {
  double loss = 0;
  std::map<std::string, Tensor> gradients;
};

inline Tensor batch_tensor(const std::vector<int64_t>& values, const TextBatch& batch) {
  return Tensor::from(values, {batch.rows, batch.tokens});
}

// Of several batches, whose gradients add up.
inline LossAndGradients loss_and_gradients(Llama& model, const std::vector<TextBatch>& batches,
                                           AttentionPattern pattern) {
  LossAndGradients result;
  int64_t targets = 0;
  for (const TextBatch& batch : batches) targets += batch.learned;
  for (const TextBatch& batch : batches) {
    pattern.documents = batch.documents;
    model.set_pattern(pattern);
    const Tensor loss =
        model.loss(batch_tensor(batch.ids, batch), batch_tensor(batch.targets, batch),
                   1.0 / static_cast<double>(targets));
    backward(loss);
    result.loss += loss.item();
  }
  for_each_parameter(model, [&](const std::string& name, Tensor& p) {
    result.gradients[name] = raw::clone(grad(p));
    clear_grad(p);
  });
  return result;
}

inline double largest_difference(const Tensor& a, const Tensor& b) {
  const auto x = raw::to_device(a, {}).to_vector<float>();
  const auto y = raw::to_device(b, {}).to_vector<float>();
  double worst = 0, top = 1e-30;
  for (size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(x[i]) - static_cast<double>(y[i])));
    top = std::max(top, std::abs(static_cast<double>(y[i])));
  }
  return worst / top;
}

// Documents of many lengths, longer and shorter than groups and sinks, in two packed rows, against
// a pass over each alone.
inline void check_packed_rows(Device device, const std::string& preset, Recompute recompute,
                              double bound) {
  SCOPED_TRACE(preset);
  LlamaConfig c = small_llama_config();
  c.initializer_range = 0.2;
  Llama model(c);
  model.initialize(3);
  move_to(model, device);
  set_trainable(model, [](const std::string&) { return true; });
  model.set_recompute(recompute);
  const AttentionPattern pattern =
      make_pattern(preset, {.n_heads = c.num_attention_heads, .context = 64, .group_size = 8});

  const std::vector<std::vector<size_t>> packed_lengths = {{5, 1, 21, 17}, {33, 2, 9}};
  std::vector<TextRow> rows;
  std::vector<TextBatch> alone;
  int32_t next = 7;
  for (const std::vector<size_t>& lengths : packed_lengths) {
    TextRow row;
    for (const size_t n : lengths) {
      TextRow one;
      for (size_t t = 0; t < n; ++t) {
        next = (next * 31 + 11) % 49;
        one.ids.push_back(next);
        one.learned.push_back(t > n / 3);
      }
      row.documents.push_back(static_cast<int32_t>(row.ids.size()));
      row.ids.insert(row.ids.end(), one.ids.begin(), one.ids.end());
      row.learned.insert(row.learned.end(), one.learned.begin(), one.learned.end());
      if (n > 1) alone.push_back(collate({one}, 64, 1, false));  // one token has no target
    }
    rows.push_back(row);
  }
  const LossAndGradients want = loss_and_gradients(model, alone, pattern);
  const LossAndGradients got = loss_and_gradients(model, {collate(rows, 64, 64, true)}, pattern);
  EXPECT_NEAR(got.loss, want.loss, bound * want.loss);
  for (const auto& [name, gradient] : want.gradients)
    EXPECT_LT(largest_difference(got.gradients.at(name), gradient), bound) << name;
  // What the comparison can see: without borders the loss is another one.
  TextBatch joined = collate(rows, 64, 64, true);
  joined.documents = {0, joined.tokens};
  EXPECT_GT(std::abs(loss_and_gradients(model, {joined}, pattern).loss - want.loss),
            100 * bound * want.loss);
}

}  // namespace mullion::test
