#include "apps/tic/run.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "apps/common/log.h"
#include "apps/common/progress.h"
#include "apps/common/signals.h"
#include "models/state.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"

namespace mullion {
namespace {

constexpr int64_t kFailuresAllowed = 10;  // steps in a row whose loss or gradient is not finite

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TicRun::TicRun(const Options& options, TicData data)
    : options_(options),
      data_(std::move(data)),
      config_(tic_config_of(options, static_cast<int64_t>(data_.classes.size()))),
      schedule_(tic_schedule_of(options, data_.train->size())),
      choice_(choose_run(options, config_.preset)),
      folder_(choice_.folder, choice_.resume),
      store_(folder_.path(), folder_.run_id(),
             {options.get<int64_t>("save.keep"), options.get<int64_t>("save.keep_every"), 3},
             [this] { folder_.check_owned(); }),
      state_(make_tic_state(options, config_)) {
  log_to_file(folder_.path() / "train.log");
  folder_.record(options_, JsonObject().set("parameters", parameter_count(state_.parameters)));
  const int64_t bytes = 4 * parameter_count(state_.parameters) * (state_.ema ? 4 : 3);
  folder_.preflight(static_cast<uint64_t>(bytes), options.get<int64_t>("save.keep") + 1);
  if (choice_.resume != Resume::no) {
    const auto checkpoint = choice_.checkpoint.empty()
                                ? store_.recover()
                                : std::optional(verify_checkpoint(choice_.checkpoint));
    if (checkpoint) restore(*checkpoint);
  }
  metrics_.emplace(folder_.path(), state_.step);
  summary_.emplace(folder_.path(), state_.step / schedule_.steps_per_epoch);
  log_info(config_.preset, " (reconstruction), ",
           static_cast<double>(parameter_count(state_.parameters)) / 1e6, " M parameters, ",
           data_.classes.size(), " classes, ", data_.train->size(), " training and ",
           data_.val->size(), " validation images of ", data_.train->shape().height, "x",
           data_.train->shape().width);
  log_info(schedule_.explanation);
}

Identity TicRun::identity() const {
  Identity id = options_.identity();
  std::string classes;
  for (const std::string& name : data_.classes) classes += (classes.empty() ? "" : "\n") + name;
  id.emplace_back("classes", classes);
  id.emplace_back("training images", std::to_string(data_.train->size()));
  return id;
}

void TicRun::restore(const CheckpointInfo& c) {
  check_identity(c, identity(), options_.get<std::vector<std::string>>("save.allow_mismatch"));
  load_tensors(*open_safetensors(c.path("model.safetensors")), state_.parameters);
  load_tensors(*open_safetensors(c.path("optimizer.safetensors")), state_.optimizer->state());
  if (state_.ema)
    load_tensors(*open_safetensors(c.path("model_ema.safetensors")), state_.ema->averages());
  const std::string file = c.path("state.json").string();
  const nlohmann::json json = parse_json(c.read("state.json"), file);
  const auto count = [&](const char* key) {
    return static_cast<int64_t>(get_uint(json, file, key, uint64_t{1} << 50));
  };
  state_.step = count("step");
  state_.skipped = count("skipped");
  state_.optimizer->set_steps(count("optimizer_steps"));
  if (state_.ema) state_.ema->set_updates(count("ema_updates"));
  state_.epoch_loss = get_number(json, file, "epoch_loss");
  state_.best = get_number(json, file, "best");
  log_info("resumed at step ", state_.step, " from ", c.folder.string());
}

void TicRun::save() {
  metrics_->sync();
  CheckpointRequest request;
  request.step = state_.step;
  request.identity = identity();
  request.non_finite = count_nonfinite(state_.parameters);
  request.write = [&](CheckpointWriter& writer) {
    using Path = std::filesystem::path;
    writer.add_file("model.safetensors",
                    [&](const Path& p) { save_tensors(p, state_.parameters); });
    writer.add_file("optimizer.safetensors",
                    [&](const Path& p) { save_tensors(p, state_.optimizer->state()); });
    if (state_.ema)
      writer.add_file("model_ema.safetensors",
                      [&](const Path& p) { save_tensors(p, state_.ema->averages()); });
    writer.add_file("config.json", [&](const Path& p) {
      write_tic_config(
          p.parent_path(),
          {config_, data_.classes, data_.normalization,
           data_.train->shape().height <= 64 ? 1.0f : options_.get<float>("data.crop_pct"),
           interpolation_of(options_.get<std::string>("data.interpolation")),
           data_.train->shape().height});
    });
    writer.add_file("state.json", JsonObject()
                                      .set("step", state_.step)
                                      .set("skipped", state_.skipped)
                                      .set("optimizer_steps", state_.optimizer->steps())
                                      .set("ema_updates", state_.ema ? state_.ema->updates() : 0)
                                      .set("epoch_loss", state_.epoch_loss)
                                      .set("best", state_.best)
                                      .text());
  };
  const auto saved = store_.try_save(request);
  if (saved && state_.best >= 0 && best_step_ == state_.step) store_.mark_best(*saved);
}

void TicRun::log_step(const StepResult& r, int64_t images, double seconds, double waited) {
  const double epoch =
      static_cast<double>(state_.step) / static_cast<double>(schedule_.steps_per_epoch);
  metrics_->write(JsonObject()
                      .set("step", state_.step)
                      .set("epoch", epoch)
                      .set("split", "train")
                      .set("loss", r.loss)
                      .set("lr", r.lr)
                      .set("grad_norm", r.grad_norm)
                      .set("img_s", static_cast<double>(images) / seconds)
                      .set("data_s", waited)
                      .set("mem_gib", static_cast<double>(memory_use().peak) / (1 << 30)));
}

void TicRun::train() {
  Loader loader(*data_.train, train_loader_options(options_, schedule_, state_.step));
  RunSwitches switches(folder_.path());
  Progress progress("train", schedule_.total_steps, {.plain_seconds = 10, .start = state_.step});
  const int64_t micro = options_.get<int64_t>("train.grad_accum_steps");
  std::vector<Batch> batches(static_cast<size_t>(micro));
  double busy = 0, waited_before = 0;
  while (state_.step < schedule_.total_steps) {
    const auto start = std::chrono::steady_clock::now();
    int64_t images = 0;
    for (Batch& batch : batches) {
      loader.next(batch);
      images += batch.count;
    }
    const StepResult r = tic_step(state_, batches, data_.train->shape(), options_,
                                  schedule_.schedule.at(state_.step));
    ++state_.step;
    failures_in_a_row_ = r.applied ? 0 : failures_in_a_row_ + 1;
    last_loss_ = r.loss;
    if (!r.applied)
      log_warning("step ", state_.step, ": loss ", r.loss, ", gradient norm ", r.grad_norm,
                  ": skipped");
    CHECK_AS(Fault::diverged, failures_in_a_row_ <= kFailuresAllowed,
             "diverged: ", failures_in_a_row_,
             " steps in a row had a loss or gradient that is not finite");
    const double seconds = seconds_since(start), waited = loader.report().seconds_waited;
    busy += seconds;
    data_share_ = waited / busy;
    log_step(r, images, seconds, waited - waited_before);
    waited_before = waited;
    char status[120];
    std::snprintf(status, sizeof status, "loss %.4f  lr %.2e  %.0f img/s  data %.1f %%", r.loss,
                  r.lr, static_cast<double>(images) / seconds, 100 * data_share_);
    progress.update(state_.step, status);
    if (state_.step % schedule_.steps_per_epoch == 0 || state_.step == schedule_.total_steps) {
      end_epoch();
    } else if (switches.save_requested()) {
      save();
    }
    if (switches.stop_requested() && state_.step < schedule_.total_steps) {
      stopped_ = true;
      if (state_.step % schedule_.steps_per_epoch != 0) save();
      log_info("stopped by ", stop_reason(), " at step ", state_.step, ", saved");
      return;
    }
  }
}

Accuracy TicRun::validate(const std::string& label) {
  return evaluate(*state_.model, *data_.val, options_.get<int>("train.batch_size"),
                  options_.get<int>("data.workers"), label);
}

// Evaluation, a row of summary.csv, a checkpoint.
void TicRun::end_epoch() {
  const int64_t epoch = (state_.step - 1) / schedule_.steps_per_epoch;
  const double steps = static_cast<double>((state_.step - 1) % schedule_.steps_per_epoch + 1);
  const bool last = state_.step == schedule_.total_steps;
  const double train_loss = state_.epoch_loss / steps;
  state_.epoch_loss = 0;
  if (last || (epoch + 1) % options_.get<int64_t>("train.val_interval") == 0) {
    Accuracy a = validate("eval");
    log_info("epoch ", epoch, ": train loss ", train_loss, ", top-1 ", a.top1, " %, top-5 ", a.top5,
             " %, ", 100 * data_share_, " % of the time waiting for data");
    JsonObject line;
    line.set("step", state_.step).set("epoch", epoch + 1).set("split", "val");
    line.set("loss", a.loss).set("top1", a.top1).set("top5", a.top5);
    if (state_.ema && a.complete) {
      state_.ema->swap();
      a = validate("eval ema");
      state_.ema->swap();
      log_info("epoch ", epoch, ": averaged weights: top-1 ", a.top1, " %");
      line.set("ema_top1", a.top1).set("ema_top5", a.top5);
    }
    if (a.complete) {
      metrics_->write(line);
      summary_->row(epoch,
                    {train_loss, a.loss, a.top1, a.top5, schedule_.schedule.at(state_.step - 1)});
      if (a.top1 > state_.best) {
        state_.best = a.top1;
        best_step_ = state_.step;
      }
      last_ = a;
    }
  }
  const int64_t every = options_.get<int64_t>("save.every");
  if (last || stop_requested() || (every && (epoch + 1) % every == 0)) save();
}

JsonObject TicRun::result() const {
  JsonObject result;
  result.set("steps", state_.step)
      .set("final_loss", last_loss_)
      .set("run", folder_.path().string());
  if (last_.count)
    result.set("top1", last_.top1).set("top5", last_.top5).set("best_top1", state_.best);
  return result.set("skipped_steps", state_.skipped).set("data_wait", data_share_);
}

}  // namespace mullion
