// What a training says: its progress, how long it will take, what it leaves behind and its outcome.
#include <cstdio>

#include "apps/program/command_text.h"
#include "apps/program/log.h"
#include "apps/run/ranks.h"
#include "apps/run/training_run.h"

namespace mullion {

void TrainingRun::show(const StepReport& r, double seconds) {
  const double rate = static_cast<double>(r.items) / seconds;
  char status[160];
  std::snprintf(status, sizeof status, "loss %.4f  lr %.2e  norm %.3g  %.*f %s/s  data %.0f %%",
                r.loss, r.lr, r.grad_norm, rate < 10 ? 2 : 0, rate,
                settings_.rate.substr(0, settings_.rate.find('_')).c_str(),
                100 * r.data_seconds / seconds);
  progress_->update(step_, status);
  shown_ = Clock::now();
  ever_shown_ = true;
}

// So that nobody waits long for a sign of life where steps are slow.
bool TrainingRun::show_due() const {
  constexpr double kFirstLineSeconds = 10, kLineSeconds = 60;
  const double silent = std::chrono::duration<double>(Clock::now() - shown_).count();
  return silent > (ever_shown_ ? kLineSeconds : kFirstLineSeconds);
}

// After a few steps, once: how long all of them will take.
void TrainingRun::tell_time() {
  constexpr double kEnoughSeconds = 2;
  const int64_t steps = step_ - first_step_ - 1;
  if (time_told_ || steps < 1 || (steps < 20 && measured_seconds_ < kEnoughSeconds)) return;
  time_told_ = true;
  const double a_step = measured_seconds_ / static_cast<double>(steps);
  const int64_t more = settings_.plan.total_steps - step_;
  if (more == 0) return;
  log_info("time       ", time_in_words(a_step * static_cast<double>(more)), " to go: ", more,
           " steps of ", time_in_words(a_step), " (measured), evaluations not counted; memory ",
           bytes_in_words(static_cast<double>(memory_use(settings_.device).peak)));
}

void TrainingRun::tell_end(
    const std::function<std::vector<std::string>(const std::filesystem::path&)>& commands) const {
  if (!is_first_rank()) return;
  const std::filesystem::path& run = path_;
  if (saved_step_ < 0) return log_info("saved      nothing: no checkpoint was due before the end");
  const auto best = store_->best();
  std::string text = concat((run / "last").string(), " (step ", saved_step_, ", ",
                            bytes_in_words(static_cast<double>(saved_bytes_)), ")");
  if (best && record_.best_metric())
    text += concat(" and ", (run / "best").string(), " (step ", record_.best_step(), ", ",
                   settings_.metric.name, " ", *record_.best_metric(), ")");
  log_info("saved      ", text);
  std::vector<std::string> next = commands(best ? run / "best" : run / "last");
  const std::string program = options_.program();
  if (step_ < settings_.plan.total_steps)
    next.insert(next.begin(), command_text(program, {"--resume", path_argument(run)}));
  next.push_back(
      command_text("report", {path_argument(run), "--output", path_argument(run / "report.html")}));
  for (const std::string& command : next)
    log_info(&command == &next.front() ? "next       " : "           ", command);
}

Outcome TrainingRun::outcome() const {
  JsonObject result;
  result.set("steps", step_).set("final_loss", last_loss_);
  result.set("run", path_.string()).set("skipped_steps", skipped_);
  if (evaluation_) {
    result.set("eval_loss", evaluation_->loss);
    for (const auto& [name, value] : evaluation_->fields) result.set(name, value);
  }
  return Outcome(result, step_ < settings_.plan.total_steps ? kExitStopped : 0);
}

}  // namespace mullion
