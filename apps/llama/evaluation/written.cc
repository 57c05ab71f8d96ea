#include "apps/llama/evaluation/written.h"

#include <algorithm>
#include <chrono>

#include "apps/llama/evaluation/json_rows.h"
#include "apps/llama/generation_options.h"
#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "models/llama/generate.h"
#include "tensor/io/sha256.h"

namespace mullion {
namespace {

// What stands around a user's text, without a system's.
struct Template {
  const char *name, *before, *after;
};
const Template kTemplates[] = {
    {"none", "", ""},
    {"llama2", "[INST] ", " [/INST]"},
    {"vicuna", "USER: ", " ASSISTANT:"},
    {"chatml", "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"}};

std::string wrapped(const Options& options, const std::string& prompt) {
  const auto name = options.get<std::string>("eval.template");
  const auto found = std::find_if(std::begin(kTemplates), std::end(kTemplates),
                                  [&](const Template& t) { return t.name == name; });
  return found->before + prompt + found->after;
}

GenerateOptions how_to_write(const OpenedModel& opened, const Tokenizer& tokenizer,
                             const KvCacheOptions& cache, int64_t max_tokens) {
  GenerateOptions how;
  how.max_tokens = max_tokens;
  how.cache = cache;
  how.stop_ids = stop_ids(opened, tokenizer);
  how.on_token = [](int32_t) { return !stop_requested(); };
  return how;
}

}  // namespace

std::vector<JsonRow> read_json_rows(const std::filesystem::path& file) {
  std::vector<JsonRow> rows;
  each_json_row(file, [&](const nlohmann::json& json, const std::string& where) {
    rows.push_back({json, where});
  });
  return rows;
}

void add_written_options(OptionTable& table) {
  add_model_options(table);
  std::vector<std::string> names;
  for (const Template& t : kTemplates) names.emplace_back(t.name);
  table.add("eval.template", "--template", "none", "what stands around a prompt").one_of(names);
  add_cache_options(table);
  add_evaluation_options(table);
}

Outcome run_written(const Options& options, const WrittenTask& task) {
  std::vector<WrittenQuestion> questions = task.questions;
  const auto limit = options.get<int64_t>("eval.limit");
  if (limit > 0 && limit < std::ssize(questions)) questions.resize(static_cast<size_t>(limit));
  const KvCacheOptions cache = cache_options(options);
  const OpenedModel opened = open_model(options, 0);
  const auto tokenizer = open_tokenizer(options, opened.model->vocabulary());
  std::vector<std::vector<int32_t>> prompts;
  for (size_t i = 0; i < questions.size(); ++i) {
    const std::string text = wrapped(options, questions[i].prompt);
    prompts.push_back(
        tokenizer->encode(text, {.bos = tokenizer->add_bos(), .parse_specials = true}));
    const int64_t length = std::ssize(prompts.back()) + task.max_tokens;
    if (length > opened.model->context() && cache.positions == KvPositions::original)
      throw Error(concat(task.name, ": sample ", i, " (", questions[i].group, ") has ",
                         prompts.back().size(), " tokens and ", task.max_tokens,
                         " for the answer; the model's context is ", opened.model->context()),
                  Fault::usage, "shorter ones, or --rope-scaling linear --rope-factor F");
    if (static_cast<int64_t>(i) < options.get<int64_t>("eval.show"))
      log_info("sample ", i, ", at most ", task.max_tokens, " tokens to follow:\n<<<", text, ">>>");
  }
  const GenerateOptions how = how_to_write(opened, *tokenizer, cache, task.max_tokens);
  SampleLog log(options, task.name);
  catch_stop_signals();
  const auto count = std::ssize(questions), batch = options.get<int64_t>("eval.batch_size");
  Progress progress(task.name, count);
  while (std::ssize(log.samples()) < count && !stop_requested()) {
    const int64_t at = std::ssize(log.samples());
    const auto some = std::span(prompts).subspan(static_cast<size_t>(at),
                                                 static_cast<size_t>(std::min(batch, count - at)));
    const std::vector<Generated> texts = generate(*opened.model, some, how, batch);
    if (stop_requested()) break;  // the last ones may be cut short
    for (size_t i = 0; i < some.size(); ++i) {
      const auto number = static_cast<size_t>(at) + i;
      const WrittenQuestion& q = questions[number];
      const std::string answer = tokenizer->decode(texts[i].ids, {.strip_space_prefix = false});
      JsonObject sample;
      sample.set("doc_id", number).put("doc", q.json).set("target", q.targets);
      sample.set("arguments", JsonObject().set("gen_args_0", JsonObject().set("arg_0", q.prompt)));
      sample.set("resps", std::vector<std::vector<std::string>>{{answer}});
      sample.set("filtered_resps", std::vector<std::string>{answer}).set("filter", "none");
      sample.set("metrics", std::vector<std::string>{task.metric}).set("group", q.group);
      sample.set("stop", texts[i].stop).set("prompt_tokens", some[i].size());
      sample.set("doc_hash", sha256_hex(q.json)).set("prompt_hash", sha256_hex(q.prompt));
      log.add(sample.set(task.metric, task.grade(q, answer)));
    }
    progress.update(std::ssize(log.samples()));
  }
  progress.finish();
  std::vector<std::string> groups;
  for (const WrittenQuestion& q : questions)
    if (std::find(groups.begin(), groups.end(), q.group) == groups.end()) groups.push_back(q.group);
  std::vector<JsonObject> results;
  std::vector<std::pair<std::string, JsonObject>> for_lm_eval;
  for (const std::string& group : groups) {
    std::vector<double> values;
    for (const nlohmann::json& sample : log.samples())
      if (sample.at("group") == group) values.push_back(sample.at(task.metric).get<double>());
    if (values.empty()) continue;
    const Mean mean = mean_of(values);
    results.push_back(task.group_json(group)
                          .set("n", mean.n)
                          .set(task.metric, mean.value)
                          .set("stderr", mean.error));
    for_lm_eval.emplace_back(concat(task.name, "_", group),
                             JsonObject()
                                 .set("alias", group)
                                 .set("sample_len", mean.n)
                                 .set(task.metric + ",none", mean.value)
                                 .set(task.metric + "_stderr,none", mean.error));
    print_result(options, concat(task.name, ", ", group, ", ", describe(cache), ": ", task.metric,
                                 " ", mean.value, " of ", mean.n));
  }
  JsonObject json;
  json.set("results", results).set("cache", cache_json(cache)).set("complete", !stop_requested());
  if (stop_requested()) return {json, kExitStopped};
  const std::filesystem::path written = log.finish(for_lm_eval, 0);
  if (!written.empty()) json.set("file", written.string());
  return json;
}

}  // namespace mullion
