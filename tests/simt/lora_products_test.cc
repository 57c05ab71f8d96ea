// How many matrix products a layer with LoRA asks of the device: the pairs of projections that read
// one x go together, and stay so on the way to the device.
#include "autograd/engine.h"
#include "models/llama/load.h"
#include "models/llama/model.h"
#include "tensor/precision.h"
#include "tests/cuda/device_runs.h"
#include "tests/small_llama_config.h"

namespace mullion::test {
namespace {

class LoraProducts : public OnDevice<> {
 protected:
  void TearDown() override {
    set_product_precision({});
    OnDevice<>::TearDown();
  }
};

// One layer with pairs of rank 4, made on the CPU and moved.
std::unique_ptr<Llama> one_layer(int64_t kv_heads, std::vector<std::string> targets,
                                 DType type = DType::f32, Device device = kCuda) {
  LlamaConfig config = test::small_llama_config(8, 40);
  config.num_hidden_layers = 1;
  config.num_key_value_heads = kv_heads;
  auto model = std::make_unique<Llama>(config);
  model->initialize(5);
  LoraOptions lora;
  lora.rank = 4;
  lora.targets = std::move(targets);
  lora.train_embedding = lora.train_norms = false;
  add_lora(*model, lora, 9);
  for_each_parameter(*model, [&](const std::string& name, Tensor& p) {
    if (type == DType::bf16 && p.rank() == 2 && !requires_grad(p)) p = raw::cast(p, DType::bf16);
    if (name.ends_with("lora_B.weight")) raw::fill(p, 0.01);
  });
  move_to(*model, device);
  model->set_compute_type(type);
  set_product_precision({.bf16 = type == DType::bf16});
  return model;
}

// Every parameter in a storage of its own.
void lay_apart(Llama& model) {
  for_each_parameter(model, [](const std::string&, Tensor& p) {
    const bool trained = requires_grad(p);
    p = raw::clone(p);
    set_requires_grad(p, trained);
  });
}

struct Products {
  int single, batches;
  bool operator==(const Products&) const = default;
  friend std::ostream& operator<<(std::ostream& out, const Products& p) {
    return out << p.single << " and " << p.batches << " of batches";
  }
};

Tensor ids() { return Tensor::from(std::vector<int64_t>(24, 3), {1, 24}); }

// Streams may run late: all is counted that f has queued, and nothing else.
template <typename F>
Products products_of(F f) {
  synchronize(kCuda);
  const simt::LaunchCounts counts;
  f();
  synchronize(kCuda);
  return {counts.of("product"), counts.of("product of batches")};
}

Products of_forward(const Llama& model) {
  const NoGrad no_grad;
  return products_of([&] { model.hidden(ids()); });
}

Products of_backward(const Llama& model) {
  const Tensor y = model.hidden(ids());
  return products_of([&] { backward(y, Tensor::full(y.shape(), 1, y.dtype(), y.device())); });
}

const std::vector<std::string> kAttention = {"q_proj", "k_proj", "v_proj", "o_proj"};

TEST_F(LoraProducts, OfQueriesKeysAndValuesGoTogether) {
  for (const DType type : {DType::f32, DType::bf16}) {
    const auto model = one_layer(4, kAttention, type);
    // W of q, k and v, all A, all B; W, A and B of o; gate, up and down.
    EXPECT_EQ(of_forward(*model), (Products{3 + 1 + 3 + 3, 1})) << name_of(type);
    lay_apart(*model);
    EXPECT_EQ(of_forward(*model), (Products{3 + 3 + 3 + 3 + 3, 0})) << name_of(type);
  }
}

TEST_F(LoraProducts, OfFewerKeyHeadsKeysAndValuesAreTheBatch) {
  EXPECT_EQ(of_forward(*one_layer(2, kAttention)), (Products{3 + 1 + 1 + 3 + 3, 1}));
}

TEST_F(LoraProducts, OfSomeTargetsThoseGoTogether) {
  // q and v, W of k; o; gate and up together, down.
  EXPECT_EQ(of_forward(*one_layer(4, {"q_proj", "v_proj", "gate_proj", "up_proj"})),
            (Products{3 + 1 + 1 + 2 + 1 + 1, 2}));
}

// Into x of the layer nothing flows: embedding and norms are frozen. So there remain, beside the
// dA of q, k and v, the W of gate, up and down, and of o W, B, A, dB and dA.
TEST_F(LoraProducts, OfTheBackwardGoTogetherAsTheGradientsOfAttentionLie) {
  const auto model = one_layer(4, kAttention);
  EXPECT_EQ(of_backward(*model), (Products{1 + 3 + 5, 2}));  // all B, all dB
  lay_apart(*model);
  EXPECT_EQ(of_backward(*model), (Products{3 + 3 + 5 + 6, 0}));
  // B and dB of q; of k and v
  EXPECT_EQ(of_backward(*one_layer(2, kAttention)), (Products{1 + 3 + 5 + 2, 2}));
}

TEST_F(LoraProducts, OfGateAndUpGoTogetherBothWays) {
  const auto model = one_layer(4, {"gate_proj", "up_proj"});
  EXPECT_EQ(of_forward(*model), (Products{4 + 2 + 1 + 1, 1}));
  // W of down; all B, all dB, all dA.
  EXPECT_EQ(of_backward(*model), (Products{1 + 1, 2}));
}

TEST_F(LoraProducts, TogetherAndApartAreTheSame) {
  const auto gradients = [&](Llama& model) {
    std::vector<std::vector<float>> result;
    const Tensor y = model.hidden(ids());
    backward(y, Tensor::full(y.shape(), 1, y.dtype(), y.device()));
    result.push_back(y.to_vector<float>());
    for (const NamedParameter& p : trainable_parameters(model))
      result.push_back(grad(p.value).to_vector<float>());
    return result;
  };
  const auto model = one_layer(2, kAttention);
  const auto together = gradients(*model);
  lay_apart(*model);
  const auto apart = gradients(*model);
  ASSERT_EQ(together.size(), apart.size());
  for (size_t i = 0; i < apart.size(); ++i)
    for (size_t j = 0; j < apart[i].size(); ++j)
      ASSERT_NEAR(together[i][j], apart[i][j], 1e-5 * (1 + std::abs(apart[i][j]))) << i;
}

}  // namespace
}  // namespace mullion::test
