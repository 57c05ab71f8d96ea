// Passes, the sums of ranks, the norm, clipping, the update; and the files of all of them.
#include "optim/update_step.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <utility>

#include "autograd/engine.h"
#include "nn/state.h"
#include "optim/parallel/piece.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

constexpr char kOptimizerFile[] = "optimizer.safetensors";
constexpr char kAverageFile[] = "model_ema.safetensors";
constexpr char kStateFile[] = "train_state.json";
constexpr char kOptimizerPart[] = "optimizer.rank-%03d.safetensors";

// From one file, or the parts of as many ranks as there were. `some`: there are more moments than
// these.
void load_moments(const fs::path& folder, const std::vector<NamedParameter>& moments, bool some) {
  if (!some && fs::exists(folder / kOptimizerFile))
    return load_tensors(*open_safetensors(folder / kOptimizerFile), moments);
  std::vector<std::unique_ptr<TensorSource>> parts;
  if (fs::exists(folder / kOptimizerFile))
    parts.push_back(open_safetensors(folder / kOptimizerFile));
  for (int rank = 0;; ++rank) {
    char name[64];
    std::snprintf(name, sizeof name, kOptimizerPart, rank);
    if (!fs::exists(folder / name)) break;
    parts.push_back(open_safetensors(folder / name));
  }
  for (const NamedParameter& m : moments) load_pieces(folder.string(), parts, m);
}

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
             [loss = std::move(loss), ranks = options_.ranks](const Inputs& batch) {
               const Tensor result = loss(batch);
               ranks ? ranks->backward(result) : backward(result);
               return result;
             }) {}

void UpdateStep::accumulate(int64_t micro_batches, const std::function<Inputs()>& next) {
  CHECK(losses_.empty(), "update: accumulate() a second time before apply()");
  losses_ = graph_.run(micro_batches, next);
}

UpdateReport UpdateStep::apply(double lr) {
  std::vector<Tensor> losses = std::exchange(losses_, {});
  CHECK(!losses.empty(), "update: apply() before accumulate()");
  if (options_.ranks) options_.ranks->finish(losses);
  Tensor squares = grad_sum_squares(parameters_, losses);
  if (options_.ranks) options_.ranks->add_up(squares);
  optimizer_->step(lr, squares, options_.max_norm);
  clear_grads(parameters_);
  if (options_.average) options_.average->update(squares);
  if (options_.shard) options_.shard->share();
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

void UpdateStep::swap_average() const {
  options_.average->swap();
  if (options_.shard) options_.shard->share();
}

std::vector<std::string> UpdateStep::save_part(const fs::path& folder) const {
  char name[64];
  std::snprintf(name, sizeof name, kOptimizerPart, static_cast<int>(options_.ranks->rank()));
  std::vector<std::string> names = {name};
  std::exception_ptr refused;  // by the disk, thrown when all ranks have done their part
  const auto write = [&](const std::string& file, const auto& tensors) {
    try {
      save_tensors(folder / file, tensors);
    } catch (const Error&) {
      refused = std::current_exception();
    }
  };
  write(name, optimizer_->state());
  if (options_.average) {
    swap_average();  // so that the first rank, too, has all averages
    const auto whole = options_.shard ? parameters_ : options_.ranks->collect();
    if (options_.ranks->rank() == 0) {
      write(kAverageFile, whole);
      names.emplace_back(kAverageFile);
    }
    options_.ranks->let_go();
    swap_average();
  }
  if (refused) std::rethrow_exception(refused);
  return names;
}

std::vector<std::string> UpdateStep::save(const fs::path& folder) const {
  nlohmann::json state = {{"optimizer_steps", optimizer_->steps()},
                          {"loss_sum", loss_sum_},
                          {"loss_steps", loss_steps_}};
  std::vector<std::string> names = {kStateFile};
  if (!sharded()) {
    save_tensors(folder / kOptimizerFile, optimizer_->state());
    names.emplace_back(kOptimizerFile);
  }
  if (options_.average) {
    if (!sharded()) {
      save_tensors(folder / kAverageFile, options_.average->averages());
      names.emplace_back(kAverageFile);
    }
    state["ema_updates"] = options_.average->updates();
  }
  write_json_file(folder / kStateFile, state);
  return names;
}

void UpdateStep::load(const fs::path& folder) {
  load_moments(folder, optimizer_->state(), sharded());
  const nlohmann::json state = read_json_file(folder / kStateFile);
  const std::string file = (folder / kStateFile).string();
  const auto count = [&](const char* key) {
    return static_cast<int64_t>(get_uint(state, file, key, uint64_t{1} << 60));
  };
  optimizer_->set_steps(count("optimizer_steps"));
  loss_sum_ = get_number(state, file, "loss_sum");
  loss_steps_ = count("loss_steps");
  if (!options_.average) return;
  const fs::path averages = folder / kAverageFile;
  std::vector<std::unique_ptr<TensorSource>> sources;
  sources.push_back(open_safetensors(averages));
  for (const NamedParameter& p : options_.average->averages())
    load_pieces(averages.string(), sources, p);
  options_.average->set_updates(count("ema_updates"));
}

}  // namespace mullion
