#include "apps/llama/pretrain.h"

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/llama/adapter_card.h"
#include "apps/llama/attention_options.h"
#include "apps/llama/companions.h"
#include "apps/llama/model_options.h"
#include "apps/llama/text_data.h"
#include "apps/options/device.h"
#include "apps/options/nearest.h"
#include "apps/options/schedule_check.h"
#include "apps/program/log.h"
#include "nn/state.h"
#include "tensor/backend.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"
#include "tensor/io/sha256.h"

namespace mullion {

namespace {
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

bool contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

LlamaConfig scratch_config(const fs::path& file) {
  const nlohmann::json json = read_json_file(file);
  if (json.is_object())
    for (const std::string& key : unknown_llama_config_keys(json)) {
      const std::string nearest = nearest_name(key, llama_config_keys());
      throw Error(concat(file.string(), ": ", key, " is no key of a LLaMA configuration"),
                  Fault::usage, nearest.empty() ? "" : "did you mean " + nearest + "?");
    }
  LlamaConfig config = parse_llama_config(json, file.string());
  config.dtype = DType::f32;
  return config;
}

// Where the flags say nothing, the adapter's own rank, scale, targets and trained parts.
void follow_adapter(LoraOptions& lora, const Options& options, const AdapterConfig& adapter) {
  if (options.is_default("lora.rank")) lora.rank = adapter.r;
  if (options.is_default("lora.alpha")) lora.alpha = adapter.lora_alpha;
  if (options.is_default("lora.dropout")) lora.dropout = adapter.lora_dropout;
  if (options.is_default("lora.targets")) lora.targets = adapter.target_modules;
  if (options.is_default("lora.train_also")) {
    lora.train_embedding = adapter.saves("model.embed_tokens");
    lora.train_norms = adapter.saves("model.norm");
  }
  CHECK_AS(Fault::usage, lora.rank == adapter.r, "--lora-rank ", lora.rank,
           ": the initial adapter has rank ", adapter.r);
  CHECK_AS(Fault::usage, lora.alpha == adapter.lora_alpha, "--lora-alpha ", lora.alpha,
           ": the initial adapter has ", adapter.lora_alpha, ", and would count otherwise");
  CHECK_AS(Fault::usage, adapter.is_plain(), "--initial-adapter: an adapter with use_rslora, ",
           "rank_pattern, alpha_pattern, layers_to_transform, exclude_modules or "
           "ensure_weight_tying cannot be continued");
}
}  // namespace

Pretraining::Pretraining(const Options& options)
    : options_(options),
      device_(device_of(options)),
      context_(options.get<int64_t>("context.size")),
      batch_(options.get<int64_t>("train.batch_size")),
      accumulate_(options.get<int64_t>("train.grad_accum_steps")) {
  const bool scratch = options.has("model.config");
  CHECK_AS(Fault::usage, scratch != options.has("model.path"),
           "either --model or --model-config is needed, and only one of them");
  CHECK_AS(Fault::usage, options.has("data.train"), "--data is needed: token files or texts");
  const auto betas = options.get<std::vector<double>>("optim.betas");
  CHECK_AS(Fault::usage, betas.size() == 2 && betas[0] < 1 && betas[1] < 1,
           "--opt-betas: two numbers below 1 are needed");
  schedule_.kind = schedule_kind(options.get<std::string>("optim.schedule"));
  schedule_.lr = options.get<double>("optim.lr");
  schedule_.min_lr = options.get<double>("optim.min_lr");
  schedule_.warmup_steps = options.get<int64_t>("optim.warmup_steps");
  schedule_.total_steps = options.get<int64_t>("train.max_steps");
  check_rates(schedule_);
  CHECK_AS(Fault::usage, schedule_.lr > 0 || !options.has("optim.lr_embed"),
           "--lr-embed: a multiple of --lr, which is 0");
  open_model();
}

void Pretraining::open_model() {
  const bool scratch = options_.has("model.config");
  std::optional<LlamaCheckpoint> base;
  if (scratch) {
    const auto file = options_.get<fs::path>("model.config");
    config_ = scratch_config(file);
    base_name_ = file.string();
    tokenizer_path_ = file.has_parent_path() ? file.parent_path() : ".";
  } else {
    const ModelPlace place = find_model(options_.get<fs::path>("model.path"));
    tokenizer_path_ = place.base;
    initial_adapter_ = place.adapter;
    base = open_llama_checkpoint(tokenizer_path_);
    for (const std::string& note : base->notes) log_warning(note);
    config_ = base->config;
    base_name_ = tokenizer_path_.string();
  }
  if (options_.has("lora.initial_adapter")) {
    CHECK_AS(Fault::usage, initial_adapter_.empty(), "--initial-adapter: --model ",
             options_.get<fs::path>("model.path").string(),
             " has an adapter already: ", initial_adapter_.string());
    initial_adapter_ = adapter_path(options_, "lora.initial_adapter");
  }
  std::optional<LongContextNote> note;
  if (!initial_adapter_.empty()) note = read_longctx(initial_adapter_);
  CHECK_AS(Fault::usage, config_.attention_dropout == 0, base_name_, ": attention_dropout ",
           config_.attention_dropout,
           " is not supported in training; 0 in a copy of its config.json trains without it");
  tokenizer_hash_ = tokenizer_hash(tokenizer_path_);
  const RopeScaling base_scaling = config_.rope_scaling;
  apply_rope_options(config_, options_, context_, !scratch, note);
  pattern_ = attention_pattern(options_, config_.num_attention_heads, context_);
  const TokenFileOptions reading = token_file_options(options_, config_.vocab_size);
  const auto open_rows = [&](const char* key) {
    const auto files = token_files(
        options_, options_.get<std::vector<std::string>>(key),
        [&] { return open_tokenizer(tokenizer_path_, config_.vocab_size); }, text_facts_);
    return std::make_unique<TokenRows>(files, reading, context_);
  };
  rows_ = open_rows("data.train");
  if (options_.has("data.val")) validation_ = open_rows("data.val");
  for (const TokenRows* rows : {rows_.get(), validation_.get()})
    for (size_t i = 0; rows && i < rows->files().size(); ++i)
      require_same_tokenizer(*rows->files()[i], tokenizer_hash_);
  order_.emplace(rows_->size(), options_.seed(), options_.get<bool>("data.shuffle"));
  choose_trained(base ? &*base : nullptr);
  if (!lora_) config_.dtype = DType::f32;  // what is trained and saved
  if (!lora_) check_companions(tokenizer_path_);
  if (lora_ && config_.rope_scaling != base_scaling)
    rope_lines_ = python_lines(config_, adapter_base_name());
  if (options_.dry_run) return print_banner();
  require_memory(cost().bytes, device_);
  if (scratch) {
    model_ = std::make_unique<Llama>(config_);
    model_->initialize(options_.seed());
    move_to(*model_, device_);
  } else {
    base_fingerprint_ = fingerprint(*base->weights);
    base->config = config_;
    const bool narrow = options_.get<std::string>("model.dtype") == "bf16";
    model_ =
        load_llama(*base, {.matrix_dtype = narrow ? DType::bf16 : DType::f32, .device = device_});
  }
  model_->set_compute_type(apply_amp(options_, device_));
  model_->set_pattern(pattern_);
  model_->set_recompute(recompute());
  if (lora_)
    add_lora(*model_, *lora_, options_.seed());
  else
    set_trainable(*model_, [](const std::string&) { return true; });
  if (!initial_adapter_.empty()) {
    check_base(initial_adapter_, note, base_fingerprint_, tokenizer_path_);
    start_from_adapter();
  }
  make_update();
  print_banner();
}

void Pretraining::start_from_adapter() {
  const std::vector<std::string> kept = load_adapter_values(*model_, initial_adapter_, true);
  log_info("start      pairs of ", initial_adapter_.string());
  if (!kept.empty())
    log_info("start      ", kept.size(),
             " whole parameters are not in it and start from the base: ", kept.front(),
             kept.size() > 1 ? ", ..." : "");
}

std::string Pretraining::adapter_base_name() const {
  return options_.has("lora.base_name") ? options_.get<std::string>("lora.base_name") : base_name_;
}

void Pretraining::tell_result(const fs::path& run) const {
  if (!rope_lines_.empty())
    log_info("PEFT opens the adapter without its rope scaling (", describe_rope(config_),
             "), and does not warn; ", (run / "last/adapter/README.md").string(),
             " has the lines that set it:\n", rope_lines_);
}

void Pretraining::choose_trained(const LlamaCheckpoint* base) {
  const bool narrow = options_.get<std::string>("model.dtype") == "bf16";
  if (!base || options_.get<bool>("lora.full")) {
    CHECK_AS(Fault::usage, !narrow, "--dtype bf16: only frozen matrices can be held so; ",
             base ? "--full" : "--model-config", " trains all");
    CHECK_AS(Fault::usage, initial_adapter_.empty(), "every parameter is trained, so that nothing ",
             "can start from the adapter ", initial_adapter_.string(),
             " (of --initial-adapter or --model); without --full it can");
    CHECK_AS(Fault::usage, options_.get<double>("lora.dropout") == 0,
             "--lora-dropout: there are no pairs where every parameter is trained");
    return;
  }
  LoraOptions lora;
  lora.rank = options_.get<int64_t>("lora.rank");
  lora.alpha = options_.get<double>("lora.alpha");
  lora.dropout = options_.get<double>("lora.dropout");
  lora.targets = options_.get<std::vector<std::string>>("lora.targets");
  const auto also = options_.get<std::vector<std::string>>("lora.train_also");
  CHECK_AS(Fault::usage, also.size() == 1 || !contains(also, "none"),
           "--train-also: none, or a list without it");
  lora.train_embedding = contains(also, "embed");
  lora.train_norms = contains(also, "norm");
  if (!initial_adapter_.empty())
    follow_adapter(lora, options_, read_adapter_config(initial_adapter_));
  lora_ = lora;
}

// Norms are not decayed, as in Hugging Face's Trainer.
void Pretraining::make_update() {
  const std::vector<NamedParameter> trained = trainable_parameters(*model_);
  ParameterGroup norms, embedding, others;
  others.weight_decay = embedding.weight_decay = options_.get<double>("optim.weight_decay");
  if (options_.has("optim.lr_embed") && schedule_.lr > 0)
    embedding.lr_scale = options_.get<double>("optim.lr_embed") / schedule_.lr;
  for (const NamedParameter& p : trained) {
    const bool norm = p.name.find("norm") != std::string::npos;
    const bool embed = p.name.find("embed") != std::string::npos;
    (norm ? norms : embed ? embedding : others).parameters.push_back(p);
  }
  const auto betas = options_.get<std::vector<double>>("optim.betas");
  const double scale = 1.0 / static_cast<double>(batch_ * accumulate_ * (context_ - 1));
  update_ = std::make_unique<UpdateStep>(
      trained,
      make_adamw({norms, embedding, others},
                 {betas[0], betas[1], options_.get<double>("optim.eps")}),
      [model = model_.get(), scale](const UpdateStep::Inputs& in) {
        return model->loss(in[0], in[1], scale, in.size() > 2 ? in[2] : Tensor());
      },
      UpdateOptions{.max_norm = options_.get<double>("optim.clip_grad"),
                    .graph = graph_use(options_, device_)});
}

void Pretraining::print_banner() const {
  const auto betas = options_.get<std::vector<double>>("optim.betas");
  const JsonObject facts = estimate();
  log_info("model      ", base_name_, options_.has("model.config") ? " (from scratch)" : "");
  log_info("context    ", context_, " tokens, ", describe_rope(config_));
  log_info("attention  ", options_.get<std::string>("attention.kind"), ": ", describe(pattern_));
  log_info("trained    ", lora_ ? concat("LoRA r ", lora_->rank, ", alpha ", lora_->alpha) : "all",
           lora_ && lora_->dropout > 0 ? concat(", dropout ", lora_->dropout) : "",
           lora_ && lora_->train_embedding ? " + embedding" : "",
           lora_ && lora_->train_norms ? " + norms" : "");
  log_info("data       ", rows_->tokens(), " tokens, ", rows_->size(), " rows; ",
           batch_ * accumulate_, " a step = ", batch_, " x ", accumulate_);
  log_info("optimizer  AdamW, betas ", betas[0], " ", betas[1], ", lr ", schedule_.lr, " ",
           options_.get<std::string>("optim.schedule"), ", ", schedule_.warmup_steps,
           " warm-up steps, clip ", options_.get<double>("optim.clip_grad"));
  for (const std::string& warning : schedule_warnings(schedule_)) log_warning(warning);
  if (schedule_.kind == Schedule::Kind::constant_with_warmup && schedule_.min_lr > 0)
    log_warning("--min-lr ", schedule_.min_lr, " is not used: the rate stays at ", schedule_.lr);
  if (batch_ * accumulate_ > rows_->size())
    log_warning("a step takes ", batch_ * accumulate_, " rows, the data has ", rows_->size(),
                ": rows repeat within a step");
  log_info("device     ", describe(device_));
  log_info("estimate   ", facts.text());
}

RunSettings Pretraining::settings() const {
  RunSettings settings;
  settings.what =
      fs::path(base_name_).stem().string() + "-" + options_.get<std::string>("attention.kind");
  settings.device = device_;
  settings.total_steps = schedule_.total_steps;
  settings.steps_per_epoch =
      static_cast<double>(rows_->size()) / static_cast<double>(batch_ * accumulate_);
  settings.checkpoint_bytes =
      12 * static_cast<uint64_t>(parameter_count(update_->parameters())) + (uint64_t{1} << 20);
  settings.identity = {{"model", sha256_hex(to_json(config_).dump() + base_fingerprint_)},
                       {"data", rows_->fingerprint()}};
  // Only these schedules know their end.
  if (schedule_.kind != Schedule::Kind::constant_with_warmup)
    settings.identity.emplace_back("train.max_steps", std::to_string(schedule_.total_steps));
  settings.facts = estimate();
  return settings;
}

Pretraining::Batch Pretraining::read(const TokenRows& rows, int64_t first, int64_t count,
                                     bool ordered) {
  std::vector<int64_t> ids(static_cast<size_t>(count * context_)), targets(ids.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = ordered ? order_->at(first + i) : first + i;
    rows.read(row, ids.data() + i * context_, targets.data() + i * context_);
  }
  return {Tensor::from(ids, {count, context_}), Tensor::from(targets, {count, context_})};
}

StepReport Pretraining::step(int64_t step) {
  double data_seconds = 0;
  int64_t pass = step * accumulate_, row = pass * batch_;
  update_->accumulate(accumulate_, [&]() -> UpdateStep::Inputs {
    const auto begin = Clock::now();
    const Batch batch = read(*rows_, std::exchange(row, row + batch_), batch_, true);
    data_seconds += std::chrono::duration<double>(Clock::now() - begin).count();
    if (!lora_ || lora_->dropout == 0) return {batch.ids, batch.targets};
    // A number for each pass of the run: the same masks whether it was interrupted or not.
    return {batch.ids, batch.targets, Tensor::from(std::vector<int64_t>{pass++}, {1})};
  });
  const double lr = schedule_.at(step);
  return {update_->apply(lr), lr, batch_ * accumulate_ * context_, data_seconds};
}

void Pretraining::start(const fs::path& run, int64_t step) {
  summary_.emplace(
      run, step + 1,
      std::vector<std::string>{"step", "train_loss", "eval_loss", "eval_perplexity", "lr"});
}

Evaluation Pretraining::evaluate(int64_t step) {
  const Evaluation result = validate();
  if (!result.complete) return result;
  std::optional<double> loss, ppl;
  if (result.present) loss = result.loss, ppl = std::exp(result.loss);
  summary_->row(step, {update_->take_mean_loss(), loss, ppl, schedule_.at(step - 1)});
  return result;
}

Evaluation Pretraining::validate() {
  Evaluation result;
  result.present = validation_ != nullptr;
  if (!validation_) return result;
  NoGrad no_grad;
  model_->set_pattern(AttentionPattern{});
  const auto limit = options_.get<int64_t>("eval.max_rows");
  const int64_t rows = limit > 0 ? std::min(limit, validation_->size()) : validation_->size();
  double sum = 0;
  for (int64_t row = 0; row < rows && result.complete; row += batch_) {
    const Batch batch = read(*validation_, row, std::min(batch_, rows - row), false);
    sum += model_->loss(batch.ids, batch.targets, 1).item();
    result.complete = !stop_requested() || row + batch_ >= rows;
  }
  model_->set_pattern(pattern_);
  result.loss = result.metric = sum / static_cast<double>(rows * (context_ - 1));
  result.fields = {{"perplexity", std::exp(result.loss)}};
  return result;
}

void Pretraining::write_weights(CheckpointWriter& writer) {
  if (!lora_) {
    writer.add_folder("model", [&](const fs::path& folder) {
      save_llama(folder, *model_);
      write_companions(tokenizer_path_, folder);
    });
    return;
  }
  LongContextNote note;
  note.rope_scaling = config_.rope_scaling;
  note.max_position_embeddings = config_.max_position_embeddings;
  note.attention_preset = options_.get<std::string>("attention.kind");
  note.group = pattern_.group;
  note.sinks = pattern_.sinks;
  note.tokenizer_sha256 = tokenizer_hash_;
  note.base_sha256 = base_fingerprint_;
  note.base_path = fs::absolute(tokenizer_path_).lexically_normal().string();
  note.trained = {"lora"};
  if (lora_->train_embedding) note.trained.emplace_back("embed");
  if (lora_->train_norms) note.trained.emplace_back("norm");
  writer.add_folder("adapter", [&](const fs::path& folder) {
    save_adapter(folder, *model_, *lora_, adapter_base_name());
    write_longctx(folder, note);
    write_whole_file(folder / "README.md", adapter_card(config_, adapter_base_name(), rope_lines_));
  });
}

TrainingState Pretraining::state() {
  return {update_->count_nonfinite(), [this](CheckpointWriter& writer) {
            write_weights(writer);
            // Order and random numbers are functions of the seed and the step.
            writer.add_files([this](const fs::path& folder) { return update_->save(folder); });
          }};
}

void Pretraining::restore(const CheckpointInfo& checkpoint) {
  if (lora_)
    load_adapter_values(*model_, checkpoint.path("adapter"));
  else
    load_tensors(*open_safetensors(checkpoint.path("model")), named_parameters(*model_));
  update_->load(checkpoint.folder);
}

}  // namespace mullion
