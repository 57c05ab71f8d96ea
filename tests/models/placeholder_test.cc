// A matrix that nobody put in its placeholder's place is noticed by whatever uses it, and named.
#include "nn/placeholder.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "autograd/engine.h"
#include "models/llama/load.h"
#include "models/llama/merge.h"
#include "models/tic/model.h"
#include "nn/state.h"
#include "tensor/absent.h"
#include "tensor/io/quantize.h"
#include "tests/small_llama_config.h"

namespace mullion {
namespace {

// What an error says; "" where there is none.
std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// Makes a module again and again, each time with one more matrix missing, and uses it.
template <typename M, typename... Args>
void every_missing_matrix_is_named(int matrices, const std::function<void(M&)>& use,
                                   const Args&... args) {
  std::vector<std::string> names;
  const auto whole = without_matrices<M>(args...);
  for_each_parameter(*whole, [&](const std::string& name, Tensor& p) {
    if (is_absent(p)) names.push_back(name);
  });
  EXPECT_EQ(std::ssize(names), matrices);
  names.emplace_back("none is missing");
  for (const std::string& missing : names) {
    const auto module = without_matrices<M>(args...);
    for_each_parameter(*module, [&](const std::string& name, Tensor& p) {
      if (is_absent(p) && name != missing) p = Tensor::full(p.shape(), 0.01);
    });
    const std::string found = error_of([&] { use(*module); });
    if (missing == names.back()) {
      EXPECT_EQ(found, "");
    } else {
      EXPECT_NE(found.find(missing + " of shape ["), std::string::npos) << found;
      EXPECT_NE(found.find("is used while its elements are not here"), std::string::npos) << found;
    }
  }
}

Tensor some_ids() { return Tensor::from(std::vector<int64_t>{3, 1, 4, 1}, {1, 4}); }

void train_step(Llama& model) {
  const Tensor targets = Tensor::from(std::vector<int64_t>{1, 4, 1, 5}, {1, 4});
  backward(model.loss(some_ids(), targets, 0.25));
}

TEST(Placeholder, OfALayerComputedWith) {
  every_missing_matrix_is_named<Linear>(
      1,
      [](Linear& layer) {
        layer(Tensor::zeros({2, 3}));
      },
      3, 5, true);
  every_missing_matrix_is_named<Linear>(
      1,
      [](Linear& layer) {
        layer.gelu(Tensor::zeros({2, 3}));
      },
      3, 5, true);
  every_missing_matrix_is_named<Embedding>(
      1, [](Embedding& layer) { layer(some_ids()); }, 7, 3);
}

TEST(Placeholder, OfALlamaInferenceAndTraining) {
  LlamaConfig config = test::small_llama_config();
  for (const bool tied : {true, false}) {
    config.tie_word_embeddings = tied;
    const int matrices = 2 * 7 + (tied ? 1 : 2);
    every_missing_matrix_is_named<Llama>(
        matrices, [](Llama& model) { model.logits(some_ids()); }, config);
    every_missing_matrix_is_named<Llama>(
        matrices,
        [](Llama& model) {
          set_trainable(model, [](const std::string&) { return true; });
          train_step(model);
        },
        config);
    every_missing_matrix_is_named<Llama>(
        matrices,
        [](Llama& model) {
          add_lora(model, {.rank = 2, .alpha = 4}, 1);
          train_step(model);
        },
        config);
  }
}

TEST(Placeholder, OfATic) {
  TicConfig config;
  config.dim = 8;
  config.depths = {1, 1};
  config.heads = {2, 2};
  config.kernel_h = config.kernel_w = 3;
  config.patch = 2;
  config.in_chans = 3;
  config.num_classes = 4;
  every_missing_matrix_is_named<Tic>(
      2 * 4 + 1,
      [](Tic& model) {
        model(Tensor::zeros({1, 8, 8, 3}));
      },
      config);
}

TEST(Placeholder, SavedMergedOrQuantised) {
  const std::filesystem::path file =
      std::filesystem::path(testing::TempDir()) / "placeholder.safetensors";
  const LlamaConfig config = test::small_llama_config(16);  // rows of whole blocks
  every_missing_matrix_is_named<Llama>(
      16, [&](Llama& model) { save_tensors(file, named_parameters(model)); }, config);
  EXPECT_TRUE(std::filesystem::remove(file));  // of the one that was whole
  every_missing_matrix_is_named<Llama>(
      16,
      [](Llama& model) {
        add_lora(model, {.rank = 2, .alpha = 4}, 1);
        AdapterConfig adapter;
        adapter.r = 2;
        adapter.lora_alpha = 4;
        const auto merged = merged_weights(model, adapter);
        for (const TensorEntry& entry : merged->entries())
          stored_as(*merged, entry.name,
                    entry.shape.size() == 2 ? StoredType::q8_0 : StoredType::f32);
      },
      config);
}

TEST(Placeholder, CopiedReadOrWritten) {
  const auto layer = without_matrices<Linear>(3, 5);
  const Tensor matrix = layer->weight.tensor();
  const Tensor view = raw::slice(matrix, 0, 1, 3), other = Tensor::zeros({5, 3});
  for (const auto& use : std::vector<std::function<void()>>{
           [&] { raw::clone(matrix); }, [&] { raw::cast(matrix, DType::bf16); },
           [&] { matrix.to_vector<float>(); }, [&] { raw::copy_into(other, matrix); },
           [&] { raw::copy_into(matrix, other); }, [&] { raw::fill(matrix, 0); },
           [&] {
             raw::clone(raw::permute(view, std::vector<int>{1, 0}));
           }})
    EXPECT_NE(error_of(use).find("weight of shape ["), std::string::npos) << error_of(use);
}

}  // namespace
}  // namespace mullion
