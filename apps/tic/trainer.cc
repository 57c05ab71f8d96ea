#include "apps/tic/trainer.h"

#include <nlohmann/json.hpp>

#include "apps/common/log.h"
#include "apps/tic/evaluate.h"
#include "models/state.h"
#include "tensor/backend.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"

namespace mullion {

namespace {
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
      state_(make_tic_state(options, config_)) {}

RunSettings TicTrainer::settings() const {
  RunSettings s;
  s.what = config_.preset;
  s.device = state_.device;
  s.rate = "img_s";
  s.total_steps = schedule_.total_steps;
  s.steps_per_epoch = static_cast<double>(schedule_.steps_per_epoch);
  s.checkpoint_bytes =
      static_cast<uint64_t>(4 * parameter_count(state_.parameters) * (state_.ema ? 4 : 3));
  std::string classes;
  for (const std::string& name : data_.classes)
    classes += (classes.empty() ? "" : "\n") + printable(name);
  s.identity.emplace_back("classes", classes);
  s.identity.emplace_back("training images", std::to_string(data_.train->size()));
  s.facts.set("parameters", parameter_count(state_.parameters));
  return s;
}

void TicTrainer::describe() const {
  const SampleShape shape = data_.train->shape();
  log_info(config_.preset, " (this project's reconstruction), ",
           static_cast<double>(parameter_count(state_.parameters)) / 1e6, " M parameters, ",
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
  log_info("computing on ", mullion::describe(state_.device));
}

void TicTrainer::restore(const CheckpointInfo& c) {
  load_tensors(*open_safetensors(c.path("model.safetensors")), state_.parameters);
  load_tensors(*open_safetensors(c.path("optimizer.safetensors")), state_.optimizer->state());
  if (state_.ema)
    load_tensors(*open_safetensors(c.path("model_ema.safetensors")), state_.ema->averages());
  const std::string file = c.path("tic_state.json").string();
  const nlohmann::json json = parse_json(c.read("tic_state.json"), file);
  const auto count = [&](const char* key) {
    return static_cast<int64_t>(get_uint(json, file, key, uint64_t{1} << 50));
  };
  state_.optimizer->set_steps(count("optimizer_steps"));
  if (state_.ema) state_.ema->set_updates(count("ema_updates"));
  state_.epoch_loss = get_number(json, file, "epoch_loss");
  state_.epoch_steps = count("epoch_steps");
}

void TicTrainer::start(const std::filesystem::path& run, int64_t step) {
  batches_ = std::make_unique<TicBatches>(
      *data_.train, train_loader_options(options_, schedule_, step), state_.device);
  summary_.emplace(run, step / schedule_.steps_per_epoch);
}

void TicTrainer::tell(const std::vector<std::string>& messages) {
  for (const std::string& message : messages)
    if (told_.insert(message).second) log_warning(message, "; left out");
}

StepReport TicTrainer::step(int64_t number) {
  const double waited = batches_->report().seconds_waited;
  StepReport r;
  r.lr = schedule_.schedule.at(number);
  tic_step(state_, *batches_, options_, number, r);
  const LoaderReport report = batches_->report();
  r.data_seconds = report.seconds_waited - waited;
  tell(report.bad_messages);
  notes_.tell(data_.train->notes());
  return r;
}

Evaluation TicTrainer::evaluate(int64_t step) {
  const auto score = [&](const std::string& label) {
    return mullion::evaluate(*state_.model, *data_.val, options_.get<int>("train.batch_size"),
                             options_.get<int>("data.workers"), label);
  };
  Accuracy a = score("eval");
  tell(a.messages);
  notes_.tell(data_.val->notes());
  Evaluation e;
  e.complete = a.complete;
  e.loss = a.loss;
  e.fields = {{"top1", a.top1}, {"top5", a.top5}};
  if (state_.ema && a.complete) {
    const Averaged averaged(*state_.ema);
    a = score("eval of the average");
    e.complete = a.complete;
    e.fields.insert(e.fields.end(), {{"ema_top1", a.top1}, {"ema_top5", a.top5}});
  }
  e.metric = a.top1;
  e.higher_is_better = true;
  if (!e.complete) return e;
  const double steps = static_cast<double>(std::max<int64_t>(state_.epoch_steps, 1));
  summary_->row((step - 1) / schedule_.steps_per_epoch, {state_.epoch_loss / steps, a.loss, a.top1,
                                                         a.top5, schedule_.schedule.at(step - 1)});
  state_.epoch_loss = 0;
  state_.epoch_steps = 0;
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
  return {count_nonfinite(state_.parameters) + count_nonfinite(state_.optimizer->state()),
          [this](CheckpointWriter& writer) { write(writer); }};
}

void TicTrainer::write(CheckpointWriter& writer) const {
  using Path = std::filesystem::path;
  const auto tensors = [&](const char* name, const std::vector<NamedParameter>& list) {
    writer.add_file(name, [&](const Path& p) { save_tensors(p, list); });
  };
  tensors("model.safetensors", state_.parameters);
  tensors("optimizer.safetensors", state_.optimizer->state());
  if (state_.ema) tensors("model_ema.safetensors", state_.ema->averages());
  writer.add_file("config.json", [&](const Path& p) {
    write_tic_config(p.parent_path(), describe_tic(options_, config_, data_));
  });
  writer.add_file("tic_state.json",
                  JsonObject()
                          .set("optimizer_steps", state_.optimizer->steps())
                          .set("ema_updates", state_.ema ? state_.ema->updates() : 0)
                          .set("epoch_loss", state_.epoch_loss)
                          .set("epoch_steps", state_.epoch_steps)
                          .text() +
                      "\n");
}

}  // namespace mullion
