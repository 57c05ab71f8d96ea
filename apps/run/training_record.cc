// Each figure goes to the three forms in one place; history is kept for the checkpoints.
#include "apps/run/training_record.h"

#include <chrono>
#include <cstdio>

#include "apps/run/run_checkpoint.h"

namespace mullion {

TrainingRecord::TrainingRecord(const TrainingPlan& plan, std::string rate, Metric metric)
    : total_steps_(plan.total_steps),
      steps_per_epoch_(plan.steps_per_epoch),
      rate_(std::move(rate)),
      metric_(std::move(metric)) {}

void TrainingRecord::restore(const std::string& text, const std::string& file) {
  history_ = parse_trainer_state(text, file);
}

void TrainingRecord::open(const std::filesystem::path& run, int64_t step, bool resumed) {
  metrics_.emplace(run, step);
  events_.emplace(run, resumed ? step + 1 : 0);
}

double TrainingRecord::epoch(int64_t step) const {
  return steps_per_epoch_ > 0 ? static_cast<double>(step) / steps_per_epoch_ : 0;
}

JsonObject TrainingRecord::line(int64_t step, const char* split) const {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  JsonObject line;
  line.set("t", std::chrono::duration<double>(now).count()).set("step", step);
  if (steps_per_epoch_ > 0) line.set("epoch", epoch(step));
  return line.set("split", split);
}

void TrainingRecord::step(int64_t step, const StepReport& r, double seconds, int64_t peak_bytes,
                          bool logged) {
  if (!metrics_) return;
  const double rate = static_cast<double>(r.items) / seconds;
  JsonObject fields = line(step, "train");
  fields.set("loss", r.loss).set("lr", r.lr).set("grad_norm", r.grad_norm);
  fields.set(rate_ == "tok_s" ? "tokens" : "images", r.items)
      .set(rate_, rate)
      .set("data_s", r.data_seconds);
  fields.set("mem_gib", static_cast<double>(peak_bytes) / (int64_t{1} << 30));
  for (const auto& [name, value] : r.extra) fields.set(name, value);
  if (!r.applied) fields.set("skipped", true);
  metrics_->write(fields);
  if (!logged) return;
  events_->scalar("train/loss", r.loss, step);
  events_->scalar("train/lr", r.lr, step);
  events_->scalar("train/grad_norm", r.grad_norm, step);
  events_->scalar("train/" + rate_, rate, step);
  history_.log_history.push_back(JsonObject()
                                     .set("step", step)
                                     .set("loss", r.loss)
                                     .set("learning_rate", r.lr)
                                     .set("grad_norm", r.grad_norm)
                                     .set("epoch", epoch(step))
                                     .text());
}

bool TrainingRecord::evaluation(int64_t step, const Evaluation& e) {
  if (metrics_) {
    JsonObject fields = line(step, "val");
    fields.set("loss", e.loss);
    events_->scalar("eval/loss", e.loss, step);
    for (const auto& [name, value] : e.fields) {
      fields.set(name, value);
      events_->scalar("eval/" + name, value, step);
    }
    metrics_->write(fields);
  }
  history_.log_history.push_back(
      JsonObject().set("step", step).set("eval_loss", e.loss).set("epoch", epoch(step)).text());
  const std::optional<double>& best = history_.best_metric;
  const bool better = !best || (metric_.more_is_better ? e.metric > *best : e.metric < *best);
  if (better) {
    history_.best_metric = e.metric;
    history_.best_model_checkpoint = checkpoint_name(step);
  }
  return better;
}

int64_t TrainingRecord::best_step() const {
  long long step = -1;
  std::sscanf(history_.best_model_checkpoint.c_str(), "checkpoint-%lld", &step);
  return step;
}

std::string TrainingRecord::save(int64_t step) {
  if (metrics_) metrics_->sync();
  history_.global_step = step;
  history_.max_steps = total_steps_;
  history_.epoch = epoch(step);
  return trainer_state_text(history_);
}

}  // namespace mullion
