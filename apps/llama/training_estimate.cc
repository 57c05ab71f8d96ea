// What a step will take, said before any weight is read.
#include <algorithm>
#include <cmath>

#include "apps/llama/training.h"
#include "apps/program/command_text.h"

namespace mullion {

Recompute LlamaTraining::recompute() const {
  constexpr int64_t kLongPass = 4096;  // tokens from which memory is worth a tenth of the time
  if (options_.get<bool>("model.grad_checkpointing")) return Recompute::block;
  const std::string mlp = options_.get<std::string>("model.recompute_mlp");
  const bool on = mlp == "on" || (mlp == "auto" && pass_tokens() >= kLongPass);
  return on ? Recompute::mlp : Recompute::none;
}

// The most tokens of one pass on one rank.
int64_t LlamaTraining::pass_tokens() const {
  DCHECK(data_ != nullptr);  // open_data() comes first
  const int64_t all = batch_ * std::min(context_, (data_->longest() + 63) / 64 * 64);
  return (all + context_ranks_.size() - 1) / context_ranks_.size();
}

DType LlamaTraining::compute_type() const {
  const bool narrow =
      options_.get<std::string>("run.amp") == "bf16" && device_.type != DeviceType::cpu;
  return narrow ? DType::bf16 : DType::f32;
}

SharedStep LlamaTraining::shared_step() const {
  return {accumulate_, context_ranks_.size(), options_.get<bool>("model.grad_checkpointing")};
}

TrainingPlan LlamaTraining::plan() const {
  constexpr double kManyPasses = 100;
  const auto c = cost();
  TrainingPlan plan;
  plan.total_steps = schedule_.total_steps;
  plan.steps_per_epoch = data_->steps_an_epoch();
  plan.data = data_->pass();
  plan.dropped_count = data_->dropped_tokens();
  if (plan.dropped_count > 0)
    plan.dropped = concat(plan.dropped_count, " of ", data_->rows().tokens(),
                          " tokens, at the ends of files, fill no row and are left out");
  if (!options_.has("train.epochs")) plan.passes_to_warn_of = kManyPasses;
  plan.live_bytes = c.bytes;
  plan.passing_bytes = c.pass_bytes;
  // What is trained and its two moments, in f32.
  plan.checkpoint_bytes = 12 * static_cast<uint64_t>(c.trained) + (uint64_t{1} << 20);
  plan.checkpoints = options_.get<int64_t>("save.keep");
  if (product_rate_ > 0) {
    plan.step_seconds = c.operations / product_rate_;
    plan.step_source =
        concat("an estimate, no step was made: ", c.operations / 1e12, " TFLOP at the ",
               std::llround(product_rate_ / 1e9), " GFLOP/s of a matrix product; at least that");
  }
  plan_over_ranks(options_, ranked(), plan);
  return plan;
}

std::vector<std::string> LlamaTraining::next_commands(const std::filesystem::path& run) const {
  const char* judged = options_.has("data.val") ? "data.val" : "data.train";
  const auto data = options_.get<std::vector<std::string>>(judged);
  using Words = std::vector<std::string>;
  // With the flags that the training was given and that count there as well.
  const auto given = [&](Words words,
                         std::initializer_list<std::pair<const char*, const char*>> flags) {
    for (const auto& [key, flag] : flags)
      if (options_.has(key) && !options_.is_default(key))
        words.insert(words.end(), {flag, options_.get<std::string>(key)});
    return words;
  };
  Words next;
  // eval_llama reads one place, in the way in which it was read here.
  if (learns_ == Learns::texts && data.size() == 1 && std::filesystem::exists(data[0]))
    next.push_back(command_text(
        "eval_llama", given({"ppl", "--model", path_argument(run), "--data", path_argument(data[0]),
                             "--ctx-size", std::to_string(context_)},
                            {{"data.token_dtype", "--token-dtype"},
                             {"data.encoding", "--encoding"},
                             {"data.field", "--text-field"}})));
  if (learns_ == Learns::instructions && options_.get<std::string>("data.template") != "none")
    next.push_back(command_text("chat_llama", given({"chat", "--model", path_argument(run)},
                                                    {{"data.template", "--template"}})));
  else
    next.push_back(
        command_text("chat_llama", {"complete", "--model", path_argument(run), "--prompt",
                                    "Once upon a time", "--max-tokens", "64"}));
  if (lora_)
    next.push_back(command_text("tool_llama", {"merge", "--model", path_argument(run), "--output",
                                               path_argument(run.parent_path() / "merged")}));
  return next;
}

JsonObject LlamaTraining::estimate() const {
  JsonObject facts = step_estimate();
  data_->add_facts(facts);
  return facts;
}

JsonObject LlamaTraining::step_estimate() const {
  const auto c = cost();
  return JsonObject()
      .set("parameters", c.parameters)
      .set("trainable", c.trained)
      .set("visible_fraction", visible_fraction(pattern_, context_))
      .set("tokens_a_step",
           std::llround(static_cast<double>(data_->rows_a_step()) * data_->mean_length()))
      .set("memory_gib", plan().memory_bytes() / 0x1p30)
      .set("tflop_a_step", c.operations / 1e12);
}

}  // namespace mullion
