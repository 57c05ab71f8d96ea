// The loop around a trainer's step: resume, log, evaluate, save, stop; what ranks agree on.
#include "apps/run/training_run.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "apps/program/log.h"
#include "apps/program/rank_lines.h"
#include "apps/run/checkpoint_manifest.h"
#include "apps/run/ranks.h"
#include "apps/run/update_ranks.h"
#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tensor/io/sha256.h"
#include "tensor/storage.h"

namespace mullion {

namespace {
using Clock = std::chrono::steady_clock;
constexpr char kStateFile[] = "run_state.json";
constexpr char kHistoryFile[] = "trainer_state.json";

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// What is agreed upon between steps: a rank that is lost there is reported with the step before.
template <typename Agreement>
auto after_step(int64_t step, const Agreement& agreement) {
  try {
    return agreement();
  } catch (const Error& error) {
    if (error.fault() == Fault::peer_lost) throw error.in(concat("after step ", step));
    throw;
  }
}

bool every(int64_t step, int64_t interval) { return interval > 0 && step % interval == 0; }

Identity identity_of(const Options& options, const RunSettings& settings) {
  Identity identity = options.identity();
  for (const Identity* more : {&settings.identity, &settings.data, &settings.judged})
    identity.insert(identity.end(), more->begin(), more->end());
  return identity;
}

// What the data and the model are must be the same; the program and its options are compared when
// the ranks come together.
NamedTexts shared_by_ranks(const RunSettings& settings) {
  NamedTexts fields = settings.identity;
  for (const Identity* more : {&settings.data, &settings.judged, &settings.start})
    fields.insert(fields.end(), more->begin(), more->end());
  return fields;
}
}  // namespace

void add_training_options(OptionTable& table, const RunDefaults& defaults) {
  add_run_options(table, defaults);
  add_rank_options(table);
  add_update_rank_options(table);
  table.add("log.ranks", "--log-ranks", false, "the other ranks' lines into RUN/rank-N.log")
      .free_on_resume();
  table
      .add("train.max_skipped", "--max-skipped", 10,
           "steps in a row that may fail by a loss or gradient that is not finite")
      .free_on_resume();
  table.add("train.max_minutes", "--max-minutes", 0.0, "save and stop after this; 0: never")
      .at_least(0)
      .free_on_resume();
  table.add("eval.every", "--eval-every", 0, "steps between evaluations; 0: at the end only")
      .free_on_resume();
}

bool plans_for_others(const Options& options) {
  return options.dry_run && options.get<int64_t>("run.ranks") > 0;
}

RunLimits::RunLimits(const Options& options)
    : log_every(options.get<int64_t>("log.every")),
      eval_every(options.get<int64_t>("eval.every")),
      save_every(options.get<int64_t>("save.every")),
      max_skipped(options.get<int64_t>("train.max_skipped")),
      max_minutes(options.get<double>("train.max_minutes")) {}

TrainingRun::TrainingRun(const Options& options, RunSettings settings)
    : options_(options),
      limits_(options),
      settings_(std::move(settings)),
      record_(settings_.plan, settings_.rate, settings_.metric),
      watch_(settings_.guess_loss, settings_.warmup_steps, settings_.metric.name),
      choice_(is_first_rank() ? choose_run(options, settings_.what) : RunChoice()) {
  require_same_on_all_ranks(shared_by_ranks(settings_));
  // From here on a signal is kept: files of gigabytes are read before the first step asks for it.
  if (!options.dry_run) catch_stop_signals(options.get<std::vector<std::string>>("save.signals"));
  if (is_first_rank()) open_folder();
  path_ = text_of_first_rank(choice_.folder.string());
  const std::string found =
      text_of_first_rank(checkpoint_ ? checkpoint_->folder.string() : std::string());
  if (!is_first_rank() && !found.empty()) checkpoint_ = verify_checkpoint(found);
  if (ranks() && checkpoint_)
    require_same_on_all_ranks({{"checkpoint", sha256_file(checkpoint_->path(kManifestName))}});
  std::vector<std::string> differs;
  if (checkpoint_) differs = restore();
  settings_.plan.checkpoints = options.get<int64_t>("save.keep");
  if (is_first_rank())
    folder_->preflight(settings_.plan.checkpoint_bytes, options.get<int64_t>("save.keep") + 1);
  if (!options.dry_run) begin();
  if (checkpoint_) log_info("resumed at step ", step_, " from ", checkpoint_->folder.string());
  for (const std::string& note : differs) log_info("but        ", note);
  if (step_ >= settings_.plan.total_steps) {
    log_info(path_.string(), ": complete already, ", step_, " steps");
  }
}

// Nothing is refused from here on: what a run writes.
void TrainingRun::begin() {
  if (is_first_rank()) {
    log_to_file(path_ / "train.log");
    folder_->record(options_, settings_.facts);
    record_.open(path_, step_, checkpoint_.has_value());
    switches_.emplace(path_);
  } else if (options_.get<bool>("log.ranks")) {
    log_to_file(path_ / concat("rank-", rank(), ".log"));
  }
  begin_ = step_begin_ = shown_ = Clock::now();
  first_step_ = step_;
}

void TrainingRun::open_folder() {
  const bool trial = options_.dry_run;
  folder_.emplace(choice_.folder, choice_.resume);
  if (!trial) folder_->take();
  store_.emplace(folder_->path(), folder_->run_id(),
                 CheckpointPolicy{options_.get<int64_t>("save.keep"),
                                  options_.get<int64_t>("save.keep_every"), 3},
                 [this] { folder_->check_owned(); });
  if (choice_.resume == Resume::no) return;
  if (!choice_.checkpoint.empty())
    checkpoint_ = verify_checkpoint(choice_.checkpoint);
  else
    checkpoint_ = trial ? store_->newest() : store_->recover();
}

// Of what differs from before, and changes no result, a sentence each.
std::vector<std::string> TrainingRun::restore() {
  IdentityRules rules{.allowed = options_.get<std::vector<std::string>>("save.allow_mismatch")};
  const std::vector<std::string> given = options_.given();
  for (const OptionSpec& spec : options_.table().specs()) {
    if (spec.same_results) rules.logged.push_back(spec.key);
    if (std::find(given.begin(), given.end(), spec.key) == given.end())
      rules.unset.push_back(spec.key);
  }
  for (const auto& [name, value] : settings_.judged) rules.judged.push_back(name);
  rules.newer = rules.judged;
  const auto kept = [&](const Identity::value_type& field) {
    const Identity& before = checkpoint_->identity;
    return std::find(before.begin(), before.end(), field) != before.end();
  };
  const Identity& data = settings_.data;
  if (!data.empty() && std::all_of(data.begin(), data.end(), kept))
    rules.logged.insert(rules.logged.end(), settings_.places.begin(), settings_.places.end());
  for (const auto& [name, value] : data) rules.newer.push_back(name);
  auto notes = check_identity(*checkpoint_, identity_of(options_, settings_), rules);
  const std::string file = checkpoint_->path(kStateFile).string();
  const nlohmann::json state = parse_json(checkpoint_->read(kStateFile), file);
  const auto count = [&](const char* key) {
    return static_cast<int64_t>(get_uint(state, file, key, uint64_t{1} << 60));
  };
  step_ = saved_step_ = count("step");
  skipped_ = count("skipped");
  skipped_in_a_row_ = count("skipped_in_a_row");
  evaluation_pending_ = get_bool(state, file, "evaluation_pending");
  last_loss_ = get_number_or(state, file, "loss", std::nan(""));
  if (!evaluation_pending_) evaluated_step_ = step_;
  record_.restore(checkpoint_->read(kHistoryFile), checkpoint_->path(kHistoryFile).string());
  for (const auto& [name, stored] : checkpoint_->files) saved_bytes_ += stored.bytes;
  return notes;
}

bool TrainingRun::more() {
  if (step_ >= settings_.plan.total_steps) return false;
  // After a step the wish to stop was read by save_due(): one that came since is for the next step.
  if (stopping_ || (step_ == first_step_ && !ranks() && stop_requested())) {
    progress_.reset();
    CHECK_AS(Fault::disk, saved_step_ == step_ || step_ == 0, path_.string(), ": stopped by ",
             stop_reason(), " at step ", step_, ", which could not be saved");
    log_info("stopped by ", stop_reason(), " at step ", step_,
             saved_step_ == step_ ? ", saved" : ", before the first step");
    return false;
  }
  if (!progress_)
    progress_.emplace("train", settings_.plan.total_steps,
                      ProgressStyle{.plain_seconds = 0, .start = step_});
  step_begin_ = Clock::now();
  return true;
}

StepReport TrainingRun::make(const std::function<StepReport(int64_t)>& step) {
  const std::string name = concat("step ", step_ + 1);
  const char* hint =
      "a smaller --batch-size with more --grad-accum-steps, a shorter context or "
      "smaller images; --resume auto goes on from the last checkpoint";
  try {
    return step(step_);
  } catch (const Error& error) {
    if (error.fault() == Fault::peer_lost) throw error.in(name);
    if (error.fault() != Fault::memory) throw;
    throw Error(concat(name, ": ", error.what()), Fault::memory,
                error.hint().empty() ? hint : error.hint());
  } catch (const std::bad_alloc&) {
    throw Error(name + ": out of memory", Fault::memory, hint);
  }
}

void TrainingRun::record(const StepReport& r) {
  if (!r.message.empty()) log_info(r.message);
  const double seconds = std::max(seconds_since(step_begin_), 1e-9);
  ++step_;
  last_loss_ = r.loss;
  skipped_ += !r.applied;
  skipped_in_a_row_ = r.applied ? 0 : skipped_in_a_row_ + 1;
  const bool due = every(step_, limits_.log_every) || step_ == settings_.plan.total_steps;
  record_.step(step_, r, seconds, memory_use(settings_.device).peak, due);
  if (step_ > first_step_ + 1) measured_seconds_ += seconds;
  tell_time();
  if (due || show_due()) show(r, seconds);
  if (r.applied) watch_.step(step_, r.loss);
  if (!r.applied) {
    log_warning("step ", step_, ": loss ", r.loss, ", gradient norm ", r.grad_norm, ": left out, ",
                skipped_in_a_row_, " in a row");
  }
  CHECK_AS(Fault::diverged, skipped_in_a_row_ <= limits_.max_skipped,
           "diverged: ", skipped_in_a_row_,
           " steps in a row had a loss or gradient that is not finite; ", "--max-skipped is ",
           limits_.max_skipped);
  CHECK_AS(Fault::diverged, step_ < settings_.plan.total_steps || skipped_in_a_row_ < 2,
           "diverged: the training ends with ", skipped_in_a_row_,
           " steps in a row whose loss or gradient is not finite");
  if (limits_.max_minutes > 0 && seconds_since(begin_) > 60 * limits_.max_minutes)
    request_stop("--max-minutes");
}

bool TrainingRun::evaluation_due() const {
  if (step_ == evaluated_step_ || step_ == 0) return false;
  if (evaluation_pending_) return true;  // a signal ended it; first thing when the run goes on
  return every(step_, limits_.eval_every) || step_ == settings_.plan.total_steps;
}

void TrainingRun::evaluate(const std::function<Evaluation()>& evaluation,
                           const std::function<TrainingState()>& state) {
  if (!evaluation_due()) return;
  try {
    record_evaluation(evaluation());
  } catch (const Error& error) {
    evaluation_pending_ = true;
    if (saved_step_ != step_ && is_first_rank() && !state().write_part) {
      log_warning("the evaluation after step ", step_, " failed; the step is saved first");
      save_files(state());
    }
    throw;
  }
}

void TrainingRun::record_evaluation(const Evaluation& e) {
  evaluation_pending_ = !e.complete;
  if (!e.complete) return;
  evaluated_step_ = step_;
  if (!e.present) return;
  evaluation_ = e;
  if (record_.evaluation(step_, e)) {
    best_step_ = step_;
    if (store_ && saved_step_ == step_ && checkpoint_) store_->mark_best(*checkpoint_);
  }
  std::string text = concat("step ", step_);
  if (const TrainingPlan& plan = settings_.plan; plan.steps_per_epoch > 0)
    text = concat("epoch ", record_.epoch(step_), " of ", plan.passes(), ", ", text);
  if (e.train_loss) text += concat(": train loss ", *e.train_loss);
  text += concat(e.train_loss ? ", " : ": ", "val loss ", e.loss);
  for (const auto& [name, value] : e.fields) text += concat(", ", name, " ", value);
  const int64_t best = record_.best_step();
  log_info(text, "; best ", settings_.metric.name, " ", *record_.best_metric(),
           best == step_ ? "" : concat(" at step ", best));
  watch_.evaluation(step_, e);
}

// A signal to one rank, which may be this one, stops all at the same step.
void TrainingRun::stop_all(bool mine) {
  if (std::exchange(stopping_, true) || !ranks()) return;
  const auto reasons = texts_of_ranks(mine ? stop_reason() : "");
  for (size_t r = 0; r < reasons.size(); ++r)
    if (!reasons[r].empty() && !mine)
      request_stop(concat(reasons[r], " to ", ranks()->name(static_cast<int64_t>(r))));
}

bool TrainingRun::save_due() {
  const bool stop = switches_ ? switches_->stop_requested() : stop_requested();
  const bool asked = after_step(step_, [&] {
    const bool save = switches_ && switches_->save_requested();
    const auto any = sum_over_ranks({save ? 1.0 : 0, stop ? 1.0 : 0, has_warnings() ? 1.0 : 0});
    if (any[2] > 0) tell_warnings_of_ranks();
    if (any[1] > 0) stop_all(stop);
    return any[0] > 0;
  });
  if (saved_step_ == step_ || step_ == 0) return false;
  return asked || stopping_ || every(step_, limits_.save_every) ||
         step_ == settings_.plan.total_steps;
}

std::string TrainingRun::state_text() const {
  JsonObject state;
  state.set("step", step_).set("skipped", skipped_).set("skipped_in_a_row", skipped_in_a_row_);
  state.set("evaluation_pending", evaluation_pending_);
  if (std::isfinite(last_loss_)) state.set("loss", last_loss_);
  return state.text() + "\n";
}

namespace {
// In the save of the first rank: the files of the ranks' parts, in `folder`; "" where there will be
// none. The others call it as well, and write theirs.
std::vector<std::string> write_parts(const TrainingState& training, const std::string& folder) {
  const std::string place = text_of_first_rank(folder);
  if (place.empty()) return {};
  // A disk that refuses one rank is an error of all of them, when all have written or tried to.
  constexpr char kRefused = '!';
  std::string names;
  try {
    for (const std::string& name : training.write_part(place)) names += name + "\n";
  } catch (const Error& error) {
    if (error.fault() != Fault::disk) throw;
    names = concat(kRefused, "rank ", rank(), ": ", error.what());
  }
  std::vector<std::string> all;
  for (const std::string& text : texts_of_ranks(names)) {
    if (text.starts_with(kRefused) && is_first_rank()) throw Error(text.substr(1), Fault::disk);
    std::istringstream lines(text);
    for (std::string name; std::getline(lines, name);) all.push_back(name);
  }
  return all;
}
}  // namespace

void TrainingRun::save(const TrainingState& training) {
  after_step(step_, [&] { save_of_ranks(training); });
}

void TrainingRun::save_of_ranks(const TrainingState& training) {
  std::optional<CheckpointInfo> saved;
  TrainingState whole = training;
  if (training.write_part)
    whole.non_finite = std::llround(sum_over_ranks({static_cast<double>(training.non_finite)})[0]);
  if (is_first_rank())
    saved = save_files(whole);
  else if (training.write_part)
    write_parts(training, "");
  if (!any_rank(saved.has_value())) return;
  saved_step_ = step_;
  if (!saved) return;
  saved_bytes_ = 0;
  for (const auto& [name, file] : saved->files) saved_bytes_ += file.bytes;
  if (best_step_ == step_) store_->mark_best(*saved);
  log_verbose("saved ", saved->folder.string());
}

std::optional<CheckpointInfo> TrainingRun::save_files(const TrainingState& training) {
  const std::string history = record_.save(step_);
  CheckpointRequest request;
  request.step = step_;
  request.identity = identity_of(options_, settings_);
  request.non_finite = training.non_finite;
  bool parts_written = !training.write_part;
  request.write = [&](CheckpointWriter& writer) {
    if (training.write_part)
      writer.add_files([&](const std::filesystem::path& folder) {
        parts_written = true;
        return write_parts(training, folder.string());
      });
    training.write(writer);
    writer.add_file(kStateFile, state_text());
    writer.add_file(kHistoryFile, history);
  };
  const auto saved = store_->try_save(request);
  if (!parts_written) write_parts(training, "");
  return saved;
}

}  // namespace mullion
