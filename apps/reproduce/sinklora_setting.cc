// The three scales, and the calls that extend a model and measure its perplexity.
#include <algorithm>
#include <cmath>

#include "apps/llama/data_verbs.h"
#include "apps/program/json_object.h"
#include "apps/report/chart.h"
#include "apps/reproduce/sinklora.h"
#include "apps/run/training_plan.h"
#include "models/llama/cost.h"
#include "tensor/attention_pattern.h"
#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {
namespace {

constexpr uint64_t kLanguage = 42;  // seed of the made-up language, whatever the arm's seed

LlamaConfig shape(int64_t vocab, int64_t width, int64_t inside, int64_t layers, int64_t heads,
                  int64_t kv_heads) {
  LlamaConfig config;
  config.vocab_size = vocab;
  config.hidden_size = width;
  config.intermediate_size = inside;
  config.num_hidden_layers = layers;
  config.num_attention_heads = heads;
  config.num_key_value_heads = kv_heads;
  config.head_dim = width / heads;
  return config;
}

// A quarter of four heads is one, so that SF and S2 shift different parts.
Setting mini(const World& world) {
  Setting s;
  s.world = world;
  s.heading = "mini: 1.1 M parameters, made-up language";
  s.config = lexicon_model(128, 4);
  s.base = "@base/last/model";
  s.native = 128;
  s.pilot = {256, 384, 512};
  s.ablation = 512;
  s.longest = 512;
  s.longest_lengths = {256, 384, 512};
  s.most = 1024;
  s.most_lengths = {128, 256, 512, 768, 1024};
  s.steps = world.smoke ? 2 : 120;
  s.tokens_a_step = world.smoke ? 2048 : 4096;
  s.windows = world.smoke ? 1 : 32;
  s.alpha = 64;
  s.training = {"--lr", "2e-3", "--warmup-steps", "10", "--no-shuffle"};
  return s;
}

Setting small(const World& world) {
  Setting s;
  s.world = world;
  s.heading =
      "small: SmolLM2-135M-Instruct (4-bit file), PG-19 books; positions interpolated as if its "
      "own context were 512, since it reaches 8,192 untrained";
  s.config = shape(49152, 576, 1536, 30, 9, 3);
  s.config.tie_word_embeddings = true;
  s.base = (world.models / "SmolLM2-135M-Instruct.Q4_1.gguf").string();
  s.native = 512;
  s.pilot = {1024, 2048, 4096};
  s.ablation = 2048;
  s.longest = 2048;
  s.longest_lengths = {1024, 1536, 2048};
  s.most = 8192;
  s.most_lengths = {1024, 2048, 4096, 6144, 8192};
  s.steps = world.smoke ? 2 : 60;
  // Three seeds of each ablation should end on two cores within a night: a row a step, products of
  // frozen matrices in bf16 as in the paper.
  s.tokens_a_step = 2048;
  s.windows = world.smoke ? 1 : 24;
  s.training = {"--lr", "2e-4", "--warmup-steps", "10", "--dtype", "bf16", "--amp", "bf16"};
  s.needs = {
      {s.base, "SmolLM2-135M-Instruct in Q4_1 (tools/fetch_smollm2.sh)", "93 MB"},
      {world.data / "text/pg19_other", "books to learn from, .txt", "3 MB"},
      {world.data / "text/pg19_test", "books to evaluate on, .txt", "7 MB"},
      {world.data / "text/tuning",
       "folder with books/*.txt to make instructions from (books: a link to pg19_other)", "3 MB"},
      {world.data / "longctx/longchat_topics", "N_topics.jsonl of LongChat", "8 MB"},
      {world.data / "longctx/longbench", "multi_news.jsonl of LongBench", "3 MB"},
      {world.data / "commonsense/openbookqa_test.jsonl", "OpenBookQA's test", "0.2 MB"},
      {world.data / "commonsense/openbookqa_train.jsonl", "OpenBookQA's training", "1 MB"}};
  return s;
}

// SinkLoRA trains with a batch of 1 on each of two devices, which is two accumulated here.
Setting paper(const World& world) {
  Setting s;
  s.world = world;
  s.heading = "paper: Llama-2-7B, PG-19";
  s.config = shape(32000, 4096, 11008, 32, 32, 32);
  s.base = (world.models / "Llama-2-7b-hf").string();
  s.native = 4096;
  s.pilot = {4096, 6144, 8192};
  s.ablation = 8192;
  s.longest = 8192;
  s.longest_lengths = {4096, 6144, 8192};
  s.most = 16384;
  s.most_lengths = {2048, 4096, 8192, 12288, 16384};
  s.steps = world.smoke ? 2 : 1000;
  s.tokens_a_step = 2 * 8192;
  s.windows = world.smoke ? 1 : 0;
  s.training = {"--lr", "2e-5", "--warmup-steps", "20", "--dtype", "bf16"};
  s.device = {"--amp", "bf16", "--device", "cuda"};
  s.needs = {
      {s.base, "Llama-2-7B as a Hugging Face folder", "13.5 GB"},
      {world.data / "redpajama.bin", "RedPajama sample as uint16 tokens of Llama 2", "2 GB"},
      {world.data / "pg19/validation.bin", "PG-19's validation books as uint16 tokens", "9 MB"},
      {world.data / "LongAlpaca-12k.json", "LongAlpaca's 12,000 rows", "0.5 GB"},
      {world.data / "longchat_topics", "N_topics.jsonl of LongChat, 5 to 25 topics", "11 MB"},
      {world.data / "LongBench", "NAME.jsonl of LongBench's English and code sets", "0.2 GB"},
      {world.data / "openbookqa_test.jsonl", "OpenBookQA's test", "0.2 MB"},
      {world.data / "openbookqa_train.jsonl", "OpenBookQA's training", "1 MB"}};
  return s;
}

std::vector<std::string> scaling(const Setting& s, int64_t context) {
  const int64_t factor = (context + s.native - 1) / s.native;
  if (factor <= 1) return {};
  return {"--rope-scaling", "linear", "--rope-factor", std::to_string(factor)};
}

int64_t rows_a_step(const Setting& s, int64_t context) {
  if (s.rows_a_step > 0) return s.rows_a_step;
  return std::max<int64_t>(1, s.tokens_a_step / context);
}

// `rows` documents of the made-up language.
Job lexicon_job(const std::string& name, int64_t rows, int64_t length, int64_t first,
                const std::vector<std::string>& more = {}) {
  Job job{.name = name,
          .program = "data_llama",
          .arguments = {"lexicon", "--rows", std::to_string(rows), "--length",
                        std::to_string(length), "--first-row", std::to_string(first), "--output",
                        "@" + name + "/text.bin", "--model-dir", "@" + name + "/model", "--heads",
                        "4", "--words", "spaced", "--seed", std::to_string(kLanguage)}};
  append(job.arguments, more);
  return job;
}

// The mini model: lessons of 32 tokens full of repeats, in which it learns to look values up, then
// the language itself. The lessons' model has the positions of the language from the start: one of
// 32 positions would learn the language under interpolation, on which the experiments' own then
// comes, and does not find its way back from both together.
void add_mini_base(Plan& plan, const Setting& s) {
  const int64_t lessons = s.world.smoke ? 2 : 2000, steps = s.world.smoke ? 2 : 1000;
  plan.add(lexicon_job("lessons-text", lessons * 64, 32, 3'000'000, {"--repeats", "0.7"}));
  plan.add(lexicon_job("base-text", steps * 32, 128, 0));
  const std::vector<std::string> common = words_in(
      "--attn full --full --grad-accum-steps 1 --weight-decay 0.01 --clip-grad 1 --no-shuffle "
      "--seed 42 --save-every 200 --log-every 20");
  const auto train = [&](const std::string& name, int64_t context, int64_t rows, int64_t n,
                         const std::vector<std::string>& words) {
    Job job{.name = name, .program = "train_llama", .arguments = {"pretrain"}, .trains = true};
    append(job.arguments, words);
    append(job.arguments, {"--ctx-size", std::to_string(context), "--batch-size",
                           std::to_string(rows), "--max-steps", std::to_string(n)});
    append(job.arguments, common);
    const LlamaCost cost =
        llama_cost(s.config, {.pattern = make_pattern("full", {.n_heads = 4, .context = context}),
                              .context = context,
                              .pass_tokens = rows * context,
                              .rows = rows,
                              .row_tokens = static_cast<double>(context)});
    job.cost = {cost.operations / 1e12 * static_cast<double>(n),
                process_bytes(cost.bytes) / 0x1p30};
    job.arm = name;
    plan.add(job);
  };
  train("lessons", 32, 64, lessons,
        {"--model-config", "@base-text/model/config.json", "--data", "@lessons-text/text.bin",
         "--lr", "2e-3", "--warmup-steps", "100", "--lr-schedule", "constant_with_warmup"});
  train("base", 128, 32, steps,
        {"--model", "@lessons/last/model", "--data", "@base-text/text.bin", "--lr", "3e-3",
         "--warmup-steps", "50", "--lr-schedule", "cosine"});
}

std::string tokens_of(Plan& plan, const Setting& s, const std::string& name, const char* folder) {
  return plan.add(
      {.name = name,
       .program = "data_llama",
       .arguments = {"tokenize", "--model", s.base, "--data", (s.world.data / folder).string(),
                     "--output", "@" + name + "/text.bin"}});
}

}  // namespace

void append(std::vector<std::string>& words, const std::vector<std::string>& more) {
  words.insert(words.end(), more.begin(), more.end());
}

std::string list_of(const std::vector<int64_t>& numbers) { return joined(numbers, ","); }

std::string with_commas(int64_t number) { return short_number(static_cast<double>(number)); }

Setting sinklora_setting(const World& world) {
  Setting s;
  switch (world.scale) {
    case Scale::mini:
      s = mini(world);
      break;
    case Scale::small:
      s = small(world);
      break;
    case Scale::paper:
      s = paper(world);
  }
  if (world.limit > 0)
    s.heading += concat("; the first ", world.limit, " questions of each evaluation that has such");
  return s;
}

std::string training_text(Plan& plan, const Setting& s, int64_t context, size_t seed) {
  if (s.world.scale == Scale::paper) return (s.world.data / "redpajama.bin").string();
  if (s.world.scale == Scale::small)
    return "@" + tokens_of(plan, s, "text", "text/pg19_other") + "/text.bin";
  add_mini_base(plan, s);
  const auto number = static_cast<int64_t>(seed);
  return "@" +
         plan.add(lexicon_job(concat("text-", context, "-s", seed),
                              s.steps * rows_a_step(s, context), context,
                              1'000'000 + 50'000 * number)) +
         "/text.bin";
}

std::string test_text(Plan& plan, const Setting& s, int64_t context) {
  if (s.world.scale == Scale::paper) return (s.world.data / "pg19/validation.bin").string();
  if (s.world.scale == Scale::small)
    return "@" + tokens_of(plan, s, "test-text", "text/pg19_test") + "/text.bin";
  add_mini_base(plan, s);
  // As many tokens at every length; the last window is never taken.
  const int64_t rows = s.windows * std::max<int64_t>(1, s.longest / context) + 2;
  return "@" + plan.add(lexicon_job(concat("test-", context), rows, context, 2'000'000)) +
         "/text.bin";
}

std::string extend(Plan& plan, const Setting& s, const Arm& arm, int64_t context, size_t seed) {
  const std::string data = training_text(plan, s, context, seed);
  const int64_t rank = arm.rank > 0 ? arm.rank : s.rank;
  const bool is_mini = s.world.scale == Scale::mini;
  const int64_t rows = is_mini ? rows_a_step(s, context) : 1;
  const int64_t passes = is_mini ? 1 : rows_a_step(s, context);
  Job job{.name = concat("extend-", context, "-", arm.tag.empty() ? arm.attention : arm.tag, "-s",
                         seed),
          .program = "train_llama",
          .arguments = {"pretrain", "--model", s.base, "--data", data, "--ctx-size",
                        std::to_string(context), "--attn", arm.attention},
          .seed = static_cast<int64_t>(seed),
          .trains = true,
          .arm = arm.label};
  append(job.arguments, scaling(s, context));
  append(job.arguments, arm.flags);
  if (s.world.scale == Scale::paper) append(job.arguments, {"--token-dtype", "u16"});
  if (arm.full)
    append(job.arguments, {"--full"});
  else
    append(job.arguments,
           {"--lora-rank", std::to_string(rank), "--lora-alpha",
            json_number(s.alpha * static_cast<double>(rank) / 8.0), "--train-also", arm.also});
  append(job.arguments,
         {"--batch-size", std::to_string(rows), "--grad-accum-steps", std::to_string(passes),
          "--max-steps", std::to_string(s.steps), "--opt-betas", "0.9,0.95", "--seed",
          std::to_string(seed), "--save-every", s.world.scale == Scale::paper ? "100" : "20"});
  for (size_t i = 0; i < s.training.size(); ++i) {
    // Frozen matrices alone can be narrow.
    if (arm.full && (s.training[i] == "--dtype" || s.training[i] == "--amp")) {
      ++i;
      continue;
    }
    job.arguments.push_back(s.training[i]);
  }
  append(job.arguments, s.device);
  const bool blocks = s.world.scale == Scale::paper && context >= 16384;
  if (blocks) append(job.arguments, {"--grad-checkpointing"});
  std::optional<LoraOptions> lora;
  if (!arm.full)
    lora = LoraOptions{.rank = rank,
                       .train_embedding = arm.also.find("embed") != arm.also.npos,
                       .train_norms = arm.also.find("norm") != arm.also.npos};
  const LlamaCost cost = llama_cost(
      s.config, {.lora = lora,
                 .frozen_type = is_mini ? DType::f32 : DType::bf16,
                 .recompute = blocks                   ? Recompute::block
                              : rows * context >= 4096 ? Recompute::mlp
                                                       : Recompute::none,
                 .pattern = make_pattern(
                     arm.attention, {.n_heads = s.config.num_attention_heads, .context = context}),
                 .context = context,
                 .pass_tokens = rows * context,
                 .rows = rows * passes,
                 .row_tokens = static_cast<double>(context)});
  job.cost = {cost.operations / 1e12 * static_cast<double>(s.steps),
              process_bytes(cost.bytes) / 0x1p30};
  return plan.add(job);
}

std::vector<std::string> model_flags(const Setting& s, const std::string& extended, bool full,
                                     int64_t context) {
  std::vector<std::string> words;
  if (full) {
    words = {"--model", "@" + extended + "/last/model"};
  } else {
    words = {"--model", s.base};
    append(words, extended.empty()
                      ? scaling(s, context)
                      : std::vector<std::string>{"--adapter", "@" + extended + "/last/adapter"});
  }
  if (s.world.scale == Scale::paper) append(words, {"--dtype", "bf16"});
  // As other programs compute with the file's weights.
  if (s.world.scale == Scale::small) append(words, {"--dtype", "f32"});
  append(words, s.device);
  return words;
}

std::string perplexity(Plan& plan, const Setting& s, const std::string& extended, bool full,
                       int64_t context, const std::vector<int64_t>& lengths) {
  const std::string data = test_text(plan, s, context);
  const bool is_mini = s.world.scale == Scale::mini;
  const std::string list = list_of(lengths);
  double tokens = 0;
  for (const int64_t length : lengths) {
    const auto windows = s.windows > 0 ? static_cast<double>(s.windows) : 4.6e6 / 256;
    tokens +=
        windows * static_cast<double>(length) *
        (is_mini ? std::max(1.0, static_cast<double>(s.longest) / static_cast<double>(context))
                 : 1.0);
  }
  Job job{
      .name = concat("ppl-", extended.empty() ? concat("base-", context) : extended, "-at-", list),
      .program = "eval_llama",
      .arguments = {"ppl"},
      .cost = reading_cost(s.config, tokens, context)};
  append(job.arguments, model_flags(s, extended, full, context));
  append(job.arguments, {"--data", data, "--ctx-size", list, "--stride",
                         std::to_string(s.world.scale == Scale::paper ? 256 : context)});
  if (is_mini) append(job.arguments, {"--batch-size", std::to_string(rows_a_step(s, context))});
  if (!is_mini && s.windows > 0)
    append(job.arguments, {"--max-windows", std::to_string(s.windows)});
  if (s.world.scale == Scale::paper) append(job.arguments, {"--token-dtype", "u16"});
  return plan.add(job);
}

std::string limited_name(const World& world, const std::string& name) {
  return world.limit > 0 && !world.smoke ? concat(name, "-first-", world.limit) : name;
}

std::vector<std::string> limit_flags(const World& world) {
  if (world.smoke) return {"--limit", "1"};
  if (world.limit > 0) return {"--limit", std::to_string(world.limit)};
  return {};
}

// Two operations a weight and token, and four an element of a key and query.
Cost reading_cost(const LlamaConfig& c, double tokens, int64_t context) {
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  const int64_t layer = c.hidden_size * (2 * q + 2 * kv + 3 * c.intermediate_size);
  const auto weights =
      static_cast<double>(c.num_hidden_layers * layer + c.vocab_size * c.hidden_size);
  const auto pairs = static_cast<double>(c.num_hidden_layers * q * context) * 2;
  const double cache = static_cast<double>(2 * c.num_hidden_layers * kv * context) * 4;
  const double held = c.hidden_size >= 4096 ? 2 : 4;  // bytes a weight
  return {tokens * (2 * weights + pairs) / 1e12, (weights * held + cache) / 0x1p30};
}

}  // namespace mullion
