// What a training step moves between host and device, and when: large uploads arrive beside the
// computation, whatever is queued there; and once the plans of its shapes are made, a step sends
// its batch and nothing else, and an update nothing while the addresses are the same.
#include "autograd/engine.h"
#include "autograd/ops.h"
#include "optim/optimizer.h"
#include "tensor/cuda/runtime/runtime.h"
#include "tensor/kernel_args/optimizer.h"
#include "tensor/simt/fault_plan.h"
#include "tests/simt/small_llama.h"

namespace mullion::test {
namespace {

class StepTraffic : public OnDevice<> {};

constexpr int64_t kLarge = 40000;  // floats: more than comes by the computing stream itself

Tensor sent(float value) {
  return Tensor::from(std::vector<float>(kLarge, value), {kLarge}, kCuda);
}
void expect_filled(const Tensor& x, float value) {
  for (const float v : x.to_vector<float>()) ASSERT_EQ(v, value);
}

TEST_F(StepTraffic, LargeUploadsArriveBesideTheComputation) {
  set_poison_fresh_memory(false);  // that would be work on the computing stream
  // Each buffer of the ring has its landing place.
  for (int i = 0; i < 4; ++i) expect_filled(sent(1), 1);
  const simt::LateStreams late;
  const simt::LaunchCounts counts;
  const Tensor computed = Tensor::full({100}, 7, DType::f32, kCuda), arrived = sent(2);
  ASSERT_EQ(cudaStreamSynchronize(cuda::arrival_stream()), cudaSuccess);
  EXPECT_EQ(counts.of("copy from the host"), 1);
  EXPECT_EQ(counts.of("fill"), 0) << "the upload waited for what was queued before it";
  expect_filled(arrived, 2);
  EXPECT_EQ(counts.of("fill"), 1);
  expect_filled(computed, 7);
}

// The place of an upload may be memory whose last use is still queued.
TEST_F(StepTraffic, UploadsKeepTheOrderOfTheComputation) {
  const simt::LateStreams late;
  const Tensor x = sent(1), before = raw::clone(x);
  std::vector<Tensor> later;
  for (int i = 0; i < 10; ++i) {  // more than there are buffers
    raw::copy_into(Tensor::full({kLarge}, i), x);
    later.push_back(raw::clone(x));
  }
  expect_filled(before, 1);
  for (int i = 0; i < 10; ++i) expect_filled(later[static_cast<size_t>(i)], static_cast<float>(i));
}

TEST_F(StepTraffic, WithoutMemoryForALandingPlaceUploadsComeAllTheSame) {
  expect_filled(sent(1), 1);
  release_cached_memory(kCuda);
  const Tensor x = Tensor::empty({kLarge}, DType::f32, kCuda);
  simt::plan_fault("cudaMallocAsync", 1, cudaErrorMemoryAllocation);
  raw::copy_into(Tensor::full({kLarge}, 3), x);
  EXPECT_EQ(simt::clear_faults(), 1);
  expect_filled(x, 3);
}

TEST_F(StepTraffic, AStepOfKnownShapesSendsItsBatchAlone) {
  const SmallLlama small;
  const auto uploads = [&] {
    synchronize(kCuda);  // what other steps have queued is not counted
    const simt::LaunchCounts counts;
    small.pass({small.ids, small.ids});
    synchronize(kCuda);
    return counts.of("copy from the host");
  };
  EXPECT_GT(uploads(), 2) << "the first step has plans to send";
  EXPECT_EQ(uploads(), 2) << "ids and targets";
}

TEST_F(StepTraffic, AnUpdateSendsAddressesThatHaveChanged) {
  const auto at = [](float value) { return Tensor::full({100}, value, DType::f32, kCuda); };
  std::vector<NamedParameter> parameters;
  for (const char* name : {"a", "b", "c"}) {
    parameters.push_back({name, at(1)});
    set_requires_grad(parameters.back().value, true);
  }
  const auto optimizer =
      make_sgd({{{parameters[0]}, 1, 0}, {{parameters[1], parameters[2]}, 2, 0}}, {0, false});
  const auto add_gradient = [&](size_t i, float value) {
    backward(sum(mul(parameters[i].value, at(value))));
  };
  const auto uploads = [&](double lr) {
    synchronize(kCuda);  // what is queued before would be counted
    const simt::LaunchCounts counts;
    optimizer->step(lr, grad_sum_squares(parameters), 0);
    synchronize(kCuda);
    return counts.of("copy from the host");
  };
  for (size_t i = 0; i < 3; ++i) add_gradient(i, 1);
  EXPECT_EQ(uploads(0.5), 2) << "of the norm and of the update";
  EXPECT_EQ(uploads(0.25), 0) << "another rate is no other address";
  expect_filled(parameters[0].value, 1 - 0.75f);
  expect_filled(parameters[1].value, 1 - 1.5f);
  clear_grads({parameters[1]});
  add_gradient(1, 3);
  EXPECT_EQ(uploads(0.5), 2) << "one gradient has moved";
  expect_filled(parameters[1].value, 1 - 1.5f - 3);
  expect_filled(parameters[2].value, 1 - 1.5f - 1);
}

// More lists than are kept, each of which must still be the one that was asked for.
TEST_F(StepTraffic, ListsTakeTheMemoryOfThoseNotUsedForLong) {
  const simt::LateStreams late;
  std::vector<Tensor> values, sums;
  for (int i = 0; i < 40; ++i) {
    values.push_back(Tensor::full({100}, i, DType::f32, kCuda));
    sums.push_back(Tensor::empty({}, DType::f64, kCuda));
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const OptimizerItem item{.parameter = nullptr,
                             .grad = values[i].data<float>(),
                             .first = nullptr,
                             .second = nullptr,
                             .n = 100,
                             .lr = 0,
                             .weight_decay = 0};
    kernels(kCuda).sum_squares({.items = &item, .count = 1, .result = sums[i].data<double>()});
  }
  for (size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(sums[i].item(), 100.0 * static_cast<double>(i * i));
}

}  // namespace
}  // namespace mullion::test
