// Step, evaluation and checkpoint of the run, and the commands that it ends with.
#include "apps/tic/trainer.h"

#include <cmath>
#include <set>
#include <utility>

#include "apps/options/device.h"
#include "apps/program/command_text.h"
#include "apps/program/log.h"
#include "apps/run/ranks.h"
#include "apps/tic/evaluate.h"
#include "apps/tic/initial_checkpoint.h"
#include "apps/tic/plan.h"
#include "data/image_contents.h"
#include "data/image_folder.h"
#include "nn/state.h"
#include "optim/parallel/rank_sum.h"
#include "tensor/backend.h"
#include "tensor/io/safetensors.h"
#include "tensor/io/sha256.h"
#include "tensor/words.h"

namespace mullion {

namespace {
constexpr char kWeightsFile[] = "model.safetensors";

// The averages stand in the place of the weights for as long as this lives.
class Averaged {
 public:
  explicit Averaged(const UpdateStep& update) : update_(update) { update_.swap_average(); }
  // Where another rank is lost there is nobody to swap with, and the error that says so is under
  // way.
  ~Averaged() {
    try {
      update_.swap_average();
    } catch (const Error& error) {
      log_verbose("the averages stay in the weights' place: ", error.what());
    }
  }
  Averaged(const Averaged&) = delete;
  Averaged& operator=(const Averaged&) = delete;

 private:
  const UpdateStep& update_;
};
}  // namespace

TicTrainer::TicTrainer(const Options& options, const TicConfig& config, TicData data)
    : options_(options),
      batch_(options.get<int64_t>("train.batch_size")),
      accumulate_(options.get<int64_t>("train.grad_accum_steps")),
      data_(std::move(data)),
      config_(config),
      schedule_(tic_schedule_of(options, data_.train->size())),
      device_(device_of(options)),
      // Before there is a model, since it makes one to look at.
      plan_(tic_plan(options, config_, data_, schedule_, device_, options.dry_run)) {
  model_ = make_tic_model(options, config_, data_.classes, device_);
  TicUpdate update = make_tic_update(options, *model_, device_);
  full_ = std::move(update.full);
  update_ = std::move(update.step);
}

RunSettings TicTrainer::settings() const {
  RunSettings s;
  s.what = config_.name();
  s.device = device_;
  s.rate = "img_s";
  s.metric = {"top1", true};
  s.plan = plan_;
  s.guess_loss = std::log(static_cast<double>(data_.classes.size()));
  s.warmup_steps = schedule_.schedule.warmup_steps;
  const int64_t parameters = parameter_count(named_parameters(*model_));
  s.identity.emplace_back("classes", joined(data_.classes, "\n", printable));
  s.identity.emplace_back("training images", std::to_string(data_.train->size()));
  if (ranks()) {
    const auto start = initial_checkpoint(options_);
    s.start = {{"initial checkpoint", start ? sha256_file(start->weights()) : "none"},
               {"its config.json", start ? sha256_file(start->folder / "config.json") : "none"}};
  }
  const auto which = [](const ImageSource& images) {
    return concat(images.size(), " images, ", contents_digest(images));
  };
  if (data_.train_folder) s.data = {{"training set", which(*data_.train_folder)}};
  s.places = {"data.dir"};
  if (data_.val_folder) s.judged = {{"validation set", which(*data_.val_folder)}};
  s.facts.set("parameters", parameters);
  return s;
}

void TicTrainer::describe() const {
  describe_training(options_, config_, data_, schedule_);
  log_info("computing on ", mullion::describe(device_));
}

void TicTrainer::restore(const CheckpointInfo& c) {
  if (has_ranks() && !ranks()) return;
  const auto source = open_safetensors(c.path(kWeightsFile));
  full_ ? full_->refill(*source) : load_tensors(*source, named_parameters(*model_));
  update_->load(c.folder);
}

void TicTrainer::start(const std::filesystem::path& run, int64_t step) {
  if (full_) reset_peak_memory(device_);  // the whole model is gone
  batches_ = std::make_unique<TicBatches>(*data_.train,
                                          train_loader_options(options_, schedule_, step), device_);
  if (!is_first_rank()) return;
  summary_.emplace(run, step / schedule_.steps_per_epoch);
  if (const int shown = options_.get<int>("log.dataset_preview"); shown > 0) {
    LoaderOptions options = train_loader_options(options_, schedule_, 0);
    options.workers = 0;
    options.rank = 0;
    options.world = options.dealt = 1;
    options.batch_size = static_cast<int>(std::min<int64_t>(shown, data_.train->size()));
    Batch batch;
    Loader(*data_.train, options).next(batch);
    const std::string file = (run / "preview.png").string();
    write_preview(file, batch, data_.train->shape(), data_.normalization);
    log_info("wrote ", file);
  }
}

void TicTrainer::tell(const std::vector<std::string>& messages) {
  for (const std::string& message : messages)
    if (logged_.insert(message).second) log_warning(message, "; left out");
}

// A loader counts the images of its rank alone. In another pass over them they are other ranks'.
void TicTrainer::check_bad(const LoaderReport& report) const {
  if (!ranks() || !data_.train_folder) return;
  const double most = LoaderOptions().max_bad, size = static_cast<double>(data_.train->size());
  if (sum_over_ranks({static_cast<double>(report.bad_samples)})[0] <= most * size) return;
  const auto bad = items_of_ranks(batches_->bad_samples());
  std::string first;
  for (const std::string& text :
       texts_of_ranks(report.bad_messages.empty() ? "" : report.bad_messages.front()))
    if (first.empty()) first = text;
  check_bad_samples(std::ssize(std::set(bad.begin(), bad.end())), data_.train->size(), most, first);
}

StepReport TicTrainer::step(int64_t number) {
  const double waited = batches_->report().seconds_waited;
  int64_t pass = number * accumulate_ + rank();
  update_->accumulate(
      passes_of_rank(accumulate_, rank(), rank_count()), [&]() -> UpdateStep::Inputs {
        TicBatch batch = batches_->next();
        const auto draw = static_cast<uint64_t>(std::exchange(pass, pass + rank_count()));
        return {batch.images, batch.targets.defined() ? batch.targets : batch.labels,
                drop_path_streams(config_, draw)};
      });
  batches_->send_ahead();
  StepReport r{update_->apply(schedule_.schedule.at(number)), schedule_.schedule.at(number)};
  // The loader leaves no short batch and puts another image in the place of one it cannot read.
  r.items = accumulate_ * batch_;
  const LoaderReport report = batches_->report();
  r.data_seconds = report.seconds_waited - waited;
  tell(report.bad_messages);
  check_bad(report);
  notes_.tell(data_.train->notes());
  return r;
}

Evaluation TicTrainer::evaluate(int64_t step) {
  const auto score = [&](const std::string& label) {
    return mullion::evaluate(*model_, *data_.val, options_.get<int>("train.batch_size"),
                             options_.get<int>("data.workers"), label, full_ != nullptr);
  };
  Accuracy a = score("eval");
  tell(a.messages);
  notes_.tell(data_.val->notes());
  Evaluation e;
  e.complete = a.complete;
  e.loss = a.loss;
  e.fields = {{"top1", a.top1}, {"top5", a.top5}};
  if (update_->average() && a.complete) {
    const Averaged averaged(*update_);
    a = score("eval of the average");
    e.complete = a.complete;
    e.fields.insert(e.fields.end(), {{"ema_top1", a.top1}, {"ema_top5", a.top5}});
  }
  e.metric = a.top1;
  if (!e.complete) return e;
  // Two standard errors above one in n.
  const double chance = 1.0 / static_cast<double>(data_.classes.size());
  e.guess_metric =
      100 * (chance + 2 * std::sqrt(chance * (1 - chance) /
                                    static_cast<double>(std::max<int64_t>(a.count, 1))));
  e.train_loss = update_->take_mean_loss();
  if (summary_)
    summary_->row(
        (step - 1) / schedule_.steps_per_epoch,
        {e.train_loss.value_or(0), a.loss, a.top1, a.top5, schedule_.schedule.at(step - 1)});
  return e;
}

void TicTrainer::finish(JsonObject& result) const {
  notes_.tell_totals(data_.train->notes(), "training images");
  notes_.tell_totals(data_.val->notes(), "validation images");
  if (!data_.train_folder) return;
  result.set("not_taken", JsonObject()
                              .set("train", not_taken(*data_.train_folder))
                              .set("val", not_taken(*data_.val_folder)));
  result.set("notes", JsonObject()
                          .set("train", notes_of(data_.train->notes()))
                          .set("val", notes_of(data_.val->notes())));
}

std::vector<std::string> TicTrainer::next_commands(const std::filesystem::path& checkpoint) const {
  const auto data = options_.get<std::string>("data.dir");
  std::vector<std::string> next = {command_text(
      "eval_tic", {"--data-dir", path_argument(data), "--checkpoint", path_argument(checkpoint)})};
  // Pictures in shards are no files that could be named.
  if (dynamic_cast<const ImageFolder*>(data_.val_folder.get()))
    next.push_back(command_text("tool_tic", {"predict", "--checkpoint", path_argument(checkpoint),
                                             path_argument(data_.val_folder->root())}));
  return next;
}

TrainingState TicTrainer::state() const {
  TrainingState state{update_->count_nonfinite(), [this](CheckpointWriter& w) { write(w); }};
  if (update_->sharded())
    state.write_part = [this](const std::filesystem::path& f) {
      auto names = update_->save_part(f);
      if (full_) full_->collect();
      return names;
    };
  return state;
}

void TicTrainer::write(CheckpointWriter& writer) const {
  using Path = std::filesystem::path;
  writer.add_file(kWeightsFile,
                  [this](const Path& file) { save_tensors(file, named_parameters(*model_)); });
  if (full_) full_->let_go();
  writer.add_files([this](const Path& folder) { return update_->save(folder); });
  writer.add_file("config.json", [this](const Path& file) {
    write_tic_config(file.parent_path(), describe_tic(options_, config_, data_));
  });
}

}  // namespace mullion
