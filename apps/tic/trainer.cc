#include "apps/tic/trainer.h"

#include "apps/options/device.h"
#include "apps/program/log.h"
#include "apps/tic/evaluate.h"
#include "nn/state.h"
#include "tensor/backend.h"
#include "tensor/io/safetensors.h"

namespace mullion {

namespace {
constexpr char kWeightsFile[] = "model.safetensors";

// The averages stand in the place of the weights for as long as this lives.
class Averaged {
 public:
  explicit Averaged(Ema& ema) : ema_(ema) { ema_.swap(); }
  ~Averaged() { ema_.swap(); }
  Averaged(const Averaged&) = delete;
  Averaged& operator=(const Averaged&) = delete;

 private:
  Ema& ema_;
};
}  // namespace

TicTrainer::TicTrainer(const Options& options, TicData data)
    : options_(options),
      data_(std::move(data)),
      config_(tic_config_of(options, static_cast<int64_t>(data_.classes.size()))),
      schedule_(tic_schedule_of(options, data_.train->size())),
      device_(device_of(options)),
      model_(make_tic_model(options, config_, device_)),
      update_(make_tic_update(options, *model_, device_)) {}

RunSettings TicTrainer::settings() const {
  RunSettings s;
  s.what = config_.preset;
  s.device = device_;
  s.rate = "img_s";
  s.total_steps = schedule_.total_steps;
  s.steps_per_epoch = static_cast<double>(schedule_.steps_per_epoch);
  const int64_t parameters = parameter_count(update_->parameters());
  s.checkpoint_bytes = static_cast<uint64_t>(4 * parameters * (update_->average() ? 4 : 3));
  std::string classes;
  for (const std::string& name : data_.classes)
    classes += (classes.empty() ? "" : "\n") + printable(name);
  s.identity.emplace_back("classes", classes);
  s.identity.emplace_back("training images", std::to_string(data_.train->size()));
  s.facts.set("parameters", parameters);
  return s;
}

void TicTrainer::describe() const {
  const SampleShape shape = data_.train->shape();
  log_info(config_.preset, " (this project's reconstruction), ",
           static_cast<double>(parameter_count(update_->parameters())) / 1e6, " M parameters, ",
           data_.classes.size(), " classes, ", data_.train->size(), " training and ",
           data_.val->size(), " validation images of ", shape.height, "x", shape.width);
  tell_of(data_);
  if (options_.has("model.initial_checkpoint")) {
    const auto folder = tic_folder(options_.get<std::string>("model.initial_checkpoint"));
    for (const std::string& difference :
         differences(read_tic_config(folder), describe_tic(options_, config_, data_)))
      log_warning("--initial-checkpoint ", folder.string(), ": trained otherwise: ", difference);
  }
  explain_cost(config_, shape.height, shape.width);
  log_info(schedule_.explanation);
  for (const std::string& warning : schedule_.warnings) log_warning(warning);
  log_info("computing on ", mullion::describe(device_));
}

void TicTrainer::restore(const CheckpointInfo& c) {
  load_tensors(*open_safetensors(c.path(kWeightsFile)), update_->parameters());
  update_->load(c.folder);
}

void TicTrainer::start(const std::filesystem::path& run, int64_t step) {
  batches_ = std::make_unique<TicBatches>(*data_.train,
                                          train_loader_options(options_, schedule_, step), device_);
  summary_.emplace(run, step / schedule_.steps_per_epoch);
  if (const int shown = options_.get<int>("log.dataset_preview"); shown > 0) {
    LoaderOptions options = train_loader_options(options_, schedule_, 0);
    options.workers = 0;
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
    if (told_.insert(message).second) log_warning(message, "; left out");
}

StepReport TicTrainer::step(int64_t number) {
  const double waited = batches_->report().seconds_waited;
  const auto micro = options_.get<int64_t>("train.grad_accum_steps");
  auto draw = static_cast<uint64_t>(number * micro);
  update_->accumulate(micro, [&]() -> UpdateStep::Inputs {
    TicBatch batch = batches_->next();
    return {batch.images, batch.targets.defined() ? batch.targets : batch.labels,
            drop_path_streams(config_, draw++)};
  });
  batches_->send_ahead();
  StepReport r{update_->apply(schedule_.schedule.at(number)), schedule_.schedule.at(number)};
  // The loader leaves no short batch and puts another image in the place of one it cannot read.
  r.items = micro * options_.get<int64_t>("train.batch_size");
  const LoaderReport report = batches_->report();
  r.data_seconds = report.seconds_waited - waited;
  tell(report.bad_messages);
  notes_.tell(data_.train->notes());
  return r;
}

Evaluation TicTrainer::evaluate(int64_t step) {
  const auto score = [&](const std::string& label) {
    return mullion::evaluate(*model_, *data_.val, options_.get<int>("train.batch_size"),
                             options_.get<int>("data.workers"), label);
  };
  Accuracy a = score("eval");
  tell(a.messages);
  notes_.tell(data_.val->notes());
  Evaluation e;
  e.complete = a.complete;
  e.loss = a.loss;
  e.fields = {{"top1", a.top1}, {"top5", a.top5}};
  if (update_->average() && a.complete) {
    const Averaged averaged(*update_->average());
    a = score("eval of the average");
    e.complete = a.complete;
    e.fields.insert(e.fields.end(), {{"ema_top1", a.top1}, {"ema_top5", a.top5}});
  }
  e.metric = a.top1;
  e.higher_is_better = true;
  if (!e.complete) return e;
  summary_->row((step - 1) / schedule_.steps_per_epoch,
                {update_->take_mean_loss().value_or(0), a.loss, a.top1, a.top5,
                 schedule_.schedule.at(step - 1)});
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

TrainingState TicTrainer::state() const {
  return {update_->count_nonfinite(), [this](CheckpointWriter& writer) { write(writer); }};
}

void TicTrainer::write(CheckpointWriter& writer) const {
  using Path = std::filesystem::path;
  writer.add_file(kWeightsFile,
                  [this](const Path& file) { save_tensors(file, update_->parameters()); });
  writer.add_files([this](const Path& folder) { return update_->save(folder); });
  writer.add_file("config.json", [this](const Path& file) {
    write_tic_config(file.parent_path(), describe_tic(options_, config_, data_));
  });
}

}  // namespace mullion
