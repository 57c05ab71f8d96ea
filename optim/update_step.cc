#include "optim/update_step.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "autograd/engine.h"
#include "nn/state.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"

namespace mullion {
namespace {

constexpr char kOptimizerFile[] = "optimizer.safetensors";
constexpr char kAverageFile[] = "model_ema.safetensors";
constexpr char kStateFile[] = "train_state.json";

Device device_of(const std::vector<NamedParameter>& parameters) {
  CHECK(!parameters.empty(), "update: nothing is trained");
  return parameters[0].value.device();
}

std::vector<Tensor> values_of(const std::vector<NamedParameter>& parameters) {
  std::vector<Tensor> values;
  for (const NamedParameter& p : parameters) values.push_back(p.value);
  return values;
}

}  // namespace

UpdateStep::UpdateStep(std::vector<NamedParameter> parameters, std::unique_ptr<Optimizer> optimizer,
                       Loss loss, UpdateOptions options)
    : parameters_(std::move(parameters)),
      optimizer_(std::move(optimizer)),
      options_(std::move(options)),
      graph_(options_.graph, device_of(parameters_), values_of(parameters_),
             [loss = std::move(loss)](const Inputs& batch) {
               const Tensor result = loss(batch);
               backward(result);
               return result;
             }) {}

void UpdateStep::accumulate(int64_t micro_batches, const std::function<Inputs()>& next) {
  CHECK(losses_.empty(), "update: accumulate() a second time before apply()");
  losses_ = graph_.run(micro_batches, next);
}

UpdateReport UpdateStep::apply(double lr) {
  const std::vector<Tensor> losses = std::exchange(losses_, {});
  CHECK(!losses.empty(), "update: apply() before accumulate()");
  if (options_.sum_over_ranks) {
    std::vector<Tensor> sums = losses;
    for (const NamedParameter& p : parameters_)
      if (const Tensor g = grad(p.value); g.defined()) sums.push_back(g);
    options_.sum_over_ranks(sums);
  }
  const Tensor squares = grad_sum_squares(parameters_, losses);
  optimizer_->step(lr, squares, options_.max_norm);
  clear_grads(parameters_);
  if (options_.average) options_.average->update(squares);
  UpdateReport report;
  report.message = graph_.take_message();
  // Only now does the host wait for what it has queued.
  for (const Tensor& loss : losses) report.loss += loss.item();
  report.grad_norm = std::sqrt(squares.item());
  report.applied = std::isfinite(report.loss) && std::isfinite(report.grad_norm);
  if (report.applied) {
    loss_sum_ += report.loss;
    ++loss_steps_;
  } else {
    optimizer_->retract();
    if (options_.average) options_.average->retract();
  }
  return report;
}

std::optional<double> UpdateStep::take_mean_loss() {
  const double sum = std::exchange(loss_sum_, 0);
  const int64_t steps = std::exchange(loss_steps_, 0);
  if (steps == 0) return std::nullopt;
  return sum / static_cast<double>(steps);
}

int64_t UpdateStep::count_nonfinite() const {
  return mullion::count_nonfinite(parameters_) + mullion::count_nonfinite(optimizer_->state());
}

std::vector<std::string> UpdateStep::save(const std::filesystem::path& folder) const {
  nlohmann::json state = {{"optimizer_steps", optimizer_->steps()},
                          {"loss_sum", loss_sum_},
                          {"loss_steps", loss_steps_}};
  std::vector<std::string> names = {kOptimizerFile, kStateFile};
  save_tensors(folder / kOptimizerFile, optimizer_->state());
  if (options_.average) {
    save_tensors(folder / kAverageFile, options_.average->averages());
    names.emplace_back(kAverageFile);
    state["ema_updates"] = options_.average->updates();
  }
  write_json_file(folder / kStateFile, state);
  return names;
}

void UpdateStep::load(const std::filesystem::path& folder) {
  load_tensors(*open_safetensors(folder / kOptimizerFile), optimizer_->state());
  const nlohmann::json state = read_json_file(folder / kStateFile);
  const std::string file = (folder / kStateFile).string();
  const auto count = [&](const char* key) {
    return static_cast<int64_t>(get_uint(state, file, key, uint64_t{1} << 60));
  };
  optimizer_->set_steps(count("optimizer_steps"));
  loss_sum_ = get_number(state, file, "loss_sum");
  loss_steps_ = count("loss_steps");
  if (!options_.average) return;
  load_tensors(*open_safetensors(folder / kAverageFile), options_.average->averages());
  options_.average->set_updates(count("ema_updates"));
}

}  // namespace mullion
