// Model, data, what is trained, update, loss, evaluation, in the order in which a run meets them.
#include "apps/llama/training.h"

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "apps/llama/adapter_card.h"
#include "apps/llama/attention_options.h"
#include "apps/llama/companions.h"
#include "apps/llama/lora_options.h"
#include "apps/llama/model_options.h"
#include "apps/llama/same_model.h"
#include "apps/options/amp.h"
#include "apps/options/device.h"
#include "apps/options/nearest.h"
#include "apps/options/schedule_check.h"
#include "apps/program/log.h"
#include "apps/run/rank_devices.h"
#include "apps/run/ranks.h"
#include "apps/run/update_ranks.h"
#include "autograd/ops.h"
#include "models/llama/spread_load.h"
#include "nn/state.h"
#include "tensor/backend.h"
#include "tensor/io/json.h"
#include "tensor/io/sha256.h"

namespace mullion {

namespace {
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
constexpr double kTuningEpochs = 3;  // SinkLoRA, section 4.1

LlamaConfig scratch_config(const fs::path& file) {
  const nlohmann::json json = read_json_file(file);
  if (json.is_object())
    for (const std::string& key : unknown_llama_config_keys(json))
      throw Error(concat(file.string(), ": ", key, " is no key of a LLaMA configuration"),
                  Fault::usage, did_you_mean(key, llama_config_keys()));
  LlamaConfig config = parse_llama_config(json, file.string());
  config.dtype = DType::f32;
  return config;
}
}  // namespace

LlamaTraining::LlamaTraining(const Options& options, Learns learns)
    : options_(options),
      learns_(learns),
      device_(device_of(options)),
      context_ranks_(options),
      context_(options.get<int64_t>("context.size")),
      batch_(options.get<int64_t>("train.batch_size")),
      accumulate_(options.get<int64_t>("train.grad_accum_steps")) {
  const bool scratch = options.has("model.config");
  CHECK_AS(Fault::usage, scratch != options.has("model.path"),
           "either --model or --model-config is needed, and only one of them");
  CHECK_AS(Fault::usage, options.has("data.train"), "--data is needed: ",
           learns == Learns::texts ? "token files or texts" : "files of instructions");
  const auto betas = options.get<std::vector<double>>("optim.betas");
  CHECK_AS(Fault::usage, betas.size() == 2 && betas[0] < 1 && betas[1] < 1,
           "--opt-betas: two numbers below 1 are needed");
  schedule_.kind = schedule_kind(options.get<std::string>("optim.schedule"));
  schedule_.lr = options.get<double>("optim.lr");
  schedule_.min_lr = options.get<double>("optim.min_lr");
  schedule_.warmup_steps = options.get<int64_t>("optim.warmup_steps");
  CHECK_AS(Fault::usage, schedule_.lr > 0 || !options.has("optim.lr_embed"),
           "--lr-embed: a multiple of --lr, which is 0");
  check_shared_step(options, shared_step());
  open_model();
}

void LlamaTraining::open_model() {
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
    for (const fs::path& folder : {place.base, place.adapter}) require_whole(folder);
    base = open_llama_checkpoint(tokenizer_path_);
    base_weights_ = base->weights;
    for (const std::string& note : base->notes) log_warning(note);
    config_ = base->config;
    base_name_ = tokenizer_path_.string();
  }
  if (options_.has("lora.initial_adapter")) {
    CHECK_AS(Fault::usage, initial_adapter_.empty(), "--initial-adapter: --model ",
             options_.get<fs::path>("model.path").string(),
             " has an adapter already: ", initial_adapter_.string());
    initial_adapter_ = adapter_path(options_, "lora.initial_adapter");
    require_whole(initial_adapter_);
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
  CHECK_AS(Fault::usage, learns_ == Learns::texts || pattern_.wrap == Wrap::split, "--attn ",
           options_.get<std::string>("attention.kind"),
           ": holds for rows of --ctx-size tokens alone, and instructions are of all lengths");
  context_ranks_.check(pattern_, context_);
  open_data();
  choose_trained(base ? &*base : nullptr);
  if (!lora_) config_.dtype = DType::f32;  // what is trained and saved
  if (!lora_) check_companions(tokenizer_path_);
  if (lora_ && config_.rope_scaling != base_scaling)
    rope_lines_ = python_lines(config_, adapter_base_name());
  require_same_model(config_, base_weights_.get(), initial_adapter_, "initial adapter");
  check_blocks_stay(options_, held_.as_stored ? describe_blocks(*base_weights_) : "");
  const bool spread = spreads_weights(options_);
  if (options_.dry_run) {  // told also where the run is refused
    product_rate_ = measured_product_rate(device_);
    print_banner();
    plan().tell();
    if (plans_for_others(options_)) return;
  }
  const Device at = spread ? Device{} : device_;  // from where each rank takes its part
  const double needed = plan().memory_bytes();
  require_memory_of_ranks(needed, device_);
  warn_of_used_memory_of_ranks(needed, device_);
  if (scratch && spread) {
    model_ = make_llama_but_blocks(config_, options_.seed());
  } else if (scratch) {
    model_ = std::make_unique<Llama>(config_);
    model_->initialize(options_.seed());
    move_to(*model_, at);
  } else {
    base_fingerprint_ = fingerprint(*base->weights);
    base->config = config_;
    held_.device = at;
    model_ = spread ? load_llama_but_blocks(*base, held_) : load_llama(*base, held_);
    if (spread && options_.dry_run) read_absent(*base, *model_);
  }
  model_->set_compute_type(at == device_ ? apply_amp(options_, *model_)
                                         : apply_amp(options_, device_));
  model_->set_pattern(pattern_);
  model_->set_recompute(recompute());
  model_->set_context_parallel(context_ranks_.parallel());
  if (lora_)
    add_lora(*model_, *lora_, options_.seed());
  else
    set_trainable(*model_, [](const std::string&) { return true; });
  if (!initial_adapter_.empty()) {
    check_base(initial_adapter_, note, base_fingerprint_, tokenizer_path_);
    start_from_adapter();
  }
  make_update();
  if (!options_.dry_run) print_banner();
  if (full_) reset_peak_memory(device_);  // the whole model is gone
}

void LlamaTraining::open_data() {
  checked_product(checked_product(batch_, accumulate_, "--batch-size x --grad-accum-steps"),
                  context_, "rows of a step x --ctx-size");
  data_ = std::make_unique<TrainingData>(options_, learns_, config_.vocab_size, tokenizer_path_,
                                         tokenizer_hash_);
  schedule_.total_steps = options_.get<int64_t>("train.max_steps");
  if (learns_ == Learns::instructions && options_.is_default("train.max_steps") &&
      !options_.has("train.epochs"))
    options_.set("train.epochs", kTuningEpochs, "derived");
  if (options_.has("train.epochs")) {
    const auto epochs = options_.get<double>("train.epochs");
    const double steps = std::ceil(epochs * data_->steps_an_epoch());
    CHECK_AS(Fault::usage, steps < 1e15, "--epochs ", epochs, ": that is ", steps, " steps");
    schedule_.total_steps = std::max<int64_t>(1, static_cast<int64_t>(steps));
    log_info("epochs     ", epochs, " are ", schedule_.total_steps, " steps");
  }
  check_rates(schedule_);
}

void LlamaTraining::choose_trained(const LlamaCheckpoint* base) {
  const bool all = !base || options_.get<bool>("lora.full");
  held_ = held_weights(options_, base_weights_.get(),
                       !all   ? ""
                       : base ? "--full"
                              : "--model-config");
  if (all) {
    CHECK_AS(Fault::usage, initial_adapter_.empty(), "every parameter is trained, so that nothing ",
             "can start from the adapter ", initial_adapter_.string(),
             " (of --initial-adapter or --model); without --full it can");
    return;
  }
  if (!initial_adapter_.empty()) follow_adapter(options_, read_adapter_config(initial_adapter_));
  lora_ = lora_options(options_);
  CHECK_AS(Fault::usage, lora_->dropout == 0 || context_ranks_.size() == 1, "--lora-dropout ",
           lora_->dropout,
           ": its masks are drawn by the place in a whole row, which no rank has with "
           "--context-parallel");
}

// Norms are not decayed, as in Hugging Face's Trainer.
void LlamaTraining::make_update() {
  std::vector<NamedParameter> trained = trainable_parameters(*model_);
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
  // Documents are data that a recorded step would repeat, and an exchange is not recorded.
  const bool recorded = !data_->packed() && context_ranks_.size() == 1;
  const GraphUse graph = recorded ? graph_use(options_, device_) : GraphUse::off;
  if (has_ranks() && !ranks()) return;  // there is nobody to share with
  UpdateOptions update{.max_norm = options_.get<double>("optim.clip_grad"), .graph = graph};
  std::vector<ParameterGroup> groups = {norms, embedding, others};
  ModelUnits units{*model_, {}, device_};
  for (const auto& layer : model_->layers()) units.units.push_back(layer.get());
  units.fill = [&](const std::string& name, const Tensor& value) {
    base_weights_ ? load_tensor(*base_weights_, name, value)
                  : initialize_parameter(config_, options_.seed(), name, value);
  };
  full_ = spread_over_ranks(options_, shared_step(), trained, groups, update, units);
  update_ = std::make_unique<UpdateStep>(
      trained, make_adamw(groups, {betas[0], betas[1], options_.get<double>("optim.eps")}),
      [this](const UpdateStep::Inputs& in) { return loss(in); }, std::move(update));
}

// Of one micro-batch: {ids, targets}, then what the training has of one over the step's targets
// (where their number varies), of the dropout's stream, and of the documents of packed rows.
Tensor LlamaTraining::loss(const UpdateStep::Inputs& in) {
  size_t next = 2;
  const Tensor scale = data_->varies() ? in[next++] : Tensor();
  const Tensor stream = lora_ && lora_->dropout > 0 ? in[next++] : Tensor();
  if (data_->packed()) {
    AttentionPattern packed = pattern_;
    packed.documents = in[next++].to_vector<int64_t>();
    model_->set_pattern(packed);
  }
  if (!scale.defined())
    return model_->loss(in[0], in[1],
                        1.0 / static_cast<double>(data_->rows_a_step() * (context_ - 1)), stream);
  return mul(model_->loss(in[0], in[1], 1, stream), raw::to_device(scale, device_));
}

void LlamaTraining::print_banner() const {
  const auto betas = options_.get<std::vector<double>>("optim.betas");
  log_info("model      ", base_name_, options_.has("model.config") ? " (from scratch)" : "");
  log_info("context    ", context_, " tokens, ", describe_rope(config_));
  log_info("attention  ", options_.get<std::string>("attention.kind"), ": ", describe(pattern_));
  if (context_ranks_.size() > 1)
    log_info("divided    ", context_ranks_.describe(pattern_, config_, context_, compute_type()));
  log_info("trained    ", lora_ ? concat("LoRA r ", lora_->rank, ", alpha ", lora_->alpha) : "all",
           lora_ && lora_->dropout > 0 ? concat(", dropout ", lora_->dropout) : "",
           lora_ && lora_->train_embedding ? " + embedding" : "",
           lora_ && lora_->train_norms ? " + norms" : "");
  if (base_weights_)
    log_info(
        "weights    ", describe_held(*base_weights_, held_),
        held_.as_stored && lora_ && lora_->train_embedding ? "; the trained embedding in f32" : "");
  log_info("data       ", data_->describe());
  log_info("optimizer  AdamW, betas ", betas[0], " ", betas[1], ", lr ", schedule_.lr, " ",
           options_.get<std::string>("optim.schedule"), ", ", schedule_.warmup_steps,
           " warm-up steps, clip ", options_.get<double>("optim.clip_grad"));
  for (const std::string& warning : schedule_warnings(schedule_)) log_warning(warning);
  if (data_->rows_a_step() > data_->rows().size())
    log_warning("a step takes ", data_->rows_a_step(), " rows, the data has ", data_->rows().size(),
                ": rows repeat within a step");
  log_info("device     ", describe(device_));
  const LlamaCost c = cost();
  log_info("size       ", c.parameters, " parameters, ", c.trained, " of them trained; ",
           c.operations / 1e12, " TFLOP a step; attention sees ",
           100 * visible_fraction(pattern_, context_), " % of the causal pairs");
}

RunSettings LlamaTraining::settings() const {
  RunSettings settings;
  settings.what =
      fs::path(base_name_).stem().string() + "-" + options_.get<std::string>("attention.kind");
  settings.device = device_;
  settings.plan = plan();
  settings.guess_loss = std::log(static_cast<double>(config_.vocab_size));
  settings.warmup_steps = schedule_.warmup_steps;
  settings.identity = {{"model", sha256_hex(to_json(config_).dump() + base_fingerprint_)},
                       {"data", data_->rows().fingerprint()}};
  // Only these schedules know their end.
  if (schedule_.kind != Schedule::Kind::constant_with_warmup)
    settings.identity.emplace_back("train.max_steps", std::to_string(schedule_.total_steps));
  settings.data = data_->contents();
  settings.judged = data_->validation_contents();
  settings.facts = estimate();
  return settings;
}

StepReport LlamaTraining::step(int64_t step) {
  const auto begin = Clock::now();
  const std::vector<TextBatch> batches =
      data_->step(step, context_ranks_.group(), context_ranks_.groups());
  const double data_seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  int64_t targets = 0, tokens = 0;
  for (const TextBatch& batch : batches) {
    targets += batch.learned;
    tokens += batch.real;
  }
  if (ranks()) {  // of the whole step
    const auto sums = sum_over_ranks({static_cast<double>(targets), static_cast<double>(tokens)});
    targets = std::llround(sums[0]) / context_ranks_.size();
    tokens = std::llround(sums[1]) / context_ranks_.size();
  }
  const auto scale = static_cast<float>(1.0 / static_cast<double>(targets));
  int64_t pass = step * accumulate_ + context_ranks_.group();
  auto batch = batches.begin();
  update_->accumulate(std::ssize(batches), [&]() -> UpdateStep::Inputs {
    UpdateStep::Inputs inputs = {tensor_of(batch->ids, *batch), tensor_of(batch->targets, *batch)};
    if (data_->varies()) inputs.push_back(Tensor::from(std::vector<float>{scale}, {}));
    // A number for each pass of the run: the same masks whether it was interrupted or not.
    if (lora_ && lora_->dropout > 0)
      inputs.push_back(Tensor::from(std::vector<int64_t>{pass}, {1}));
    pass += context_ranks_.groups();
    if (data_->packed())
      inputs.push_back(Tensor::from(batch->documents, {std::ssize(batch->documents)}));
    ++batch;
    return inputs;
  });
  const double lr = schedule_.at(step);
  StepReport report{update_->apply(lr), lr, tokens, data_seconds};
  if (data_->varies())
    report.extra = {{"targets", static_cast<double>(targets)},
                    {"masked", static_cast<double>(tokens - targets)}};
  return report;
}

void LlamaTraining::start(const fs::path& run, int64_t step) {
  if (!is_first_rank()) return;
  summary_.emplace(
      run, step + 1,
      std::vector<std::string>{"step", "train_loss", "eval_loss", "eval_perplexity", "lr"});
}

Evaluation LlamaTraining::evaluate(int64_t step) {
  Evaluation result = validate();
  if (!result.complete) return result;
  std::optional<double> loss, ppl;
  if (result.present) loss = result.loss, ppl = std::exp(result.loss);
  result.train_loss = update_->take_mean_loss();
  if (summary_) summary_->row(step, {result.train_loss, loss, ppl, schedule_.at(step - 1)});
  return result;
}

Evaluation LlamaTraining::validate() {
  Evaluation result;
  result.present = data_->validation() != nullptr;
  if (!result.present) return result;
  NoGrad no_grad;
  model_->set_pattern(AttentionPattern{});
  const auto limit = options_.get<int64_t>("eval.max_rows");
  const int64_t all = data_->validation()->size(), rows = limit > 0 ? std::min(limit, all) : all;
  // The ranks take the batches in turn; sums are made in the batches' order, whoever computed them.
  const auto batches = static_cast<size_t>((rows + batch_ - 1) / batch_);
  std::vector<double> losses(batches), targets(batches);
  const auto groups = static_cast<size_t>(context_ranks_.groups());
  const size_t passes = (batches + groups - 1) / groups * groups;
  for (auto i = static_cast<size_t>(context_ranks_.group()); i < passes && result.complete;
       i += groups) {
    // Where weights are spread all ranks make as many passes: without a batch, of the first one.
    if (i < batches || full_) {
      const int64_t row = i < batches ? static_cast<int64_t>(i) * batch_ : 0;
      const TextBatch batch = data_->validation_batch(row, std::min(batch_, rows - row));
      const double loss =
          model_->loss(tensor_of(batch.ids, batch), tensor_of(batch.targets, batch), 1).item();
      if (i < batches) {
        losses[i] = loss;
        if (context_ranks_.speaks()) targets[i] = static_cast<double>(batch.learned);
      }
    }
    // Asked of all in each round: a signal to one, or the end of one, ends the evaluation of all.
    result.complete = !any_rank(stop_requested()) || i + groups >= passes;
  }
  model_->set_pattern(pattern_);
  const auto sum = [](const std::vector<double>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0);
  };
  result.loss = result.metric = sum(sum_over_ranks(losses)) / sum(sum_over_ranks(targets));
  result.fields = {{"perplexity", std::exp(result.loss)}};
  return result;
}

}  // namespace mullion
