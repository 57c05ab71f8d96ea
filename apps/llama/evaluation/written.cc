// Prompts cut to the context, answers in batches, grades into the log, means by group and metric.
#include "apps/llama/evaluation/written.h"

#include <algorithm>

#include "apps/llama/evaluation/json_rows.h"
#include "apps/llama/prompt_writer.h"
#include "apps/llama/same_model.h"
#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "apps/run/ranks.h"
#include "models/llama/generate.h"
#include "tensor/io/sha256.h"

namespace mullion {
namespace {

GenerateOptions how_to_write(const OpenedModel& opened, const Tokenizer& tokenizer,
                             const PromptWriter& writer, const KvCacheOptions& cache,
                             const WrittenGroup& group) {
  GenerateOptions how;
  how.max_tokens = group.max_tokens;
  how.cache = cache;
  how.stop_ids = writer.stop_ids(opened);
  if (group.one_line) {
    how.stop_ids.push_back(tokenizer.encode("\n", {}).back());
    how.min_tokens = 1;
  }
  how.on_token = [](int32_t) {
    check_ranks();
    return !stop_requested();
  };
  return how;
}

// Those that are asked, group after group.
std::vector<const WrittenQuestion*> limited(const Options& options, const WrittenTask& task) {
  const auto limit = options.get<int64_t>("eval.limit");
  std::vector<int64_t> taken(task.groups.size());
  std::vector<const WrittenQuestion*> questions;
  for (const WrittenQuestion& q : task.questions)
    if (limit == 0 || taken[q.group]++ < limit) questions.push_back(&q);
  std::stable_sort(questions.begin(), questions.end(),
                   [](const auto* a, const auto* b) { return a->group < b->group; });
  return questions;
}

// Prompts as ids that leave room for the answer.
class PromptMaker {
 public:
  PromptMaker(const Options& options, const WrittenTask& task, const OpenedModel& opened,
              const Tokenizer& tokenizer, const PromptWriter& writer, const KvCacheOptions& cache)
      : options_(options),
        task_(task),
        tokenizer_(tokenizer),
        writer_(writer),
        plain_("none", std::nullopt, tokenizer),
        context_(opened.model->context()),
        bounded_(cache.positions == KvPositions::original) {}

  std::vector<int32_t> ids_of(const WrittenQuestion& q) {
    const WrittenGroup& group = task_.groups[q.group];
    const int64_t room = context_ - group.max_tokens;
    std::string text = written(q.prompt, group);
    std::vector<int32_t> ids = encoded(text, group);
    if (task_.shorten &&
        (too_long(ids, room) || (task_.max_prompt > 0 && std::ssize(ids) > task_.max_prompt))) {
      ++shortened_;
      // What the template adds, and what cut ends are read as, is known afterwards only.
      int64_t limit = task_.max_prompt > 0 ? std::min(task_.max_prompt, room) : room;
      for (int64_t over = 0; limit > 0; limit -= over) {
        text = written(task_.shorten(q, tokenizer_, limit), group);
        ids = encoded(text, group);
        over = std::ssize(ids) - room;
        if (!too_long(ids, room)) break;
      }
    }
    if (too_long(ids, room) || ids.empty())
      throw Error(concat(task_.name, ": sample ", number_, " (", group.name, ") has ", ids.size(),
                         " tokens and ", group.max_tokens,
                         " for the answer; the model's context is ", context_),
                  Fault::usage, "shorter ones, or --rope-scaling linear --rope-factor F");
    if (number_++ < options_.get<int64_t>("eval.show"))
      log_info("sample ", number_ - 1, ", at most ", group.max_tokens, " tokens to follow:\n<<<",
               text, ">>>");
    return ids;
  }
  int64_t shortened() const { return shortened_; }
  void tell() const {
    if (shortened_ > 0)
      log_warning(task_.name, ": ", shortened_, " of ", number_,
                  " prompts are longer than what is given to the model, and were cut");
  }

 private:
  bool too_long(const std::vector<int32_t>& ids, int64_t room) const {
    return bounded_ && std::ssize(ids) > room;
  }
  std::string written(const std::string& prompt, const WrittenGroup& group) const {
    return writer_of(group).one(prompt);
  }
  std::vector<int32_t> encoded(const std::string& text, const WrittenGroup& group) const {
    return writer_of(group).encode(text);
  }
  const PromptWriter& writer_of(const WrittenGroup& group) const {
    return group.chat ? writer_ : plain_;
  }
  const Options& options_;
  const WrittenTask& task_;
  const Tokenizer& tokenizer_;
  const PromptWriter& writer_;
  PromptWriter plain_;
  int64_t context_, number_ = 0, shortened_ = 0;
  bool bounded_;  // positions end with the context
};

JsonObject sample_of(const WrittenTask& task, const WrittenQuestion& q, size_t number,
                     size_t prompt_tokens, const std::string& answer, const std::string& stop) {
  const WrittenGroup& group = task.groups[q.group];
  JsonObject sample;
  sample.set("doc_id", number).put("doc", q.json).set("target", q.targets);
  sample.set("arguments", JsonObject().set("gen_args_0", JsonObject().set("arg_0", q.prompt)));
  sample.set("resps", std::vector<std::vector<std::string>>{{answer}});
  sample.set("filtered_resps", std::vector<std::string>{answer}).set("filter", "none");
  sample.set("metrics", group.metrics).set("group", group.name);
  sample.set("stop", stop).set("prompt_tokens", prompt_tokens);
  sample.set("doc_hash", sha256_hex(q.json)).set("prompt_hash", sha256_hex(q.prompt));
  const std::vector<double> grades = task.grade(q, answer);
  for (size_t m = 0; m < grades.size(); ++m) sample.set(group.metrics[m], grades[m]);
  return sample;
}

// Prompts, what their answers are judged by, and what ends an answer.
void require_same_questions(const WrittenTask& task,
                            const std::vector<const WrittenQuestion*>& questions,
                            const std::vector<std::vector<int32_t>>& prompts,
                            const std::vector<int32_t>& stop_ids, const Tokenizer& tokenizer) {
  if (!ranks()) return;
  Sha256 asked, judged;
  const auto add = [](Sha256& hash, const std::string& text) {
    hash.update(concat(text.size(), ":", text));
  };
  for (size_t i = 0; i < questions.size(); ++i) {
    asked.update(std::to_string(prompts[i].size()));
    asked.update(prompts[i].data(), prompts[i].size() * sizeof(int32_t));
    add(judged, questions[i]->json);
    for (const std::string& target : questions[i]->targets) add(judged, target);
  }
  std::string stops;
  for (const int32_t id : stop_ids) stops += concat(stops.empty() ? "" : ", ", id);
  require_same_on_all_ranks({{task.name + "'s prompts", asked.hex()},
                             {task.name + "'s answers", judged.hex()},
                             {"tokenizer", tokenizer_identity(tokenizer)},
                             {"ids that end a text", stops}});
}

// By group and metric; empty where no sample of a group is there.
std::vector<std::vector<Mean>> means_of(const WrittenTask& task,
                                        const std::vector<nlohmann::json>& samples) {
  std::vector<std::vector<Mean>> means(task.groups.size());
  for (size_t g = 0; g < task.groups.size(); ++g)
    for (const std::string& metric : task.groups[g].metrics) {
      std::vector<double> values;
      for (const nlohmann::json& sample : samples)
        if (sample.at("group") == task.groups[g].name && sample.contains(metric))
          values.push_back(sample.at(metric).get<double>());
      if (!values.empty()) means[g].push_back(mean_of(values));
    }
  return means;
}

}  // namespace

std::vector<JsonRow> read_json_rows(const std::filesystem::path& file) {
  std::vector<JsonRow> rows;
  each_json_row(file, [&](const nlohmann::json& json, const std::string& where) {
    rows.push_back({json, where});
  });
  return rows;
}

void add_written_options(OptionTable& table, bool draws) {
  add_model_options(table);
  table
      .add("eval.template", "--template", "none",
           "a prompt as the user's turn of a conversation; auto: by the tokenizer's own template; "
           "none: the text as it is")
      .one_of(chat_format_names());
  add_cache_options(table);
  add_evaluation_options(table);
  add_rank_options(table);
  table.add_common_without(!draws, false);
}

JsonObject with_mean(JsonObject named, const WrittenGroup& group, const std::vector<Mean>& means) {
  return named.set("n", means[0].n)
      .set(group.metrics[0], means[0].value)
      .set("stderr", means[0].error);
}

Outcome run_written(const Options& options, SharedModel& shared, const WrittenTask& task) {
  const KvCacheOptions cache = cache_options(options);
  const OpenedModel& opened = shared.open(options, 0);
  const auto tokenizer = open_tokenizer_of_rows(options, opened.model->vocabulary());
  const std::vector<const WrittenQuestion*> questions = limited(options, task);
  const PromptWriter writer(options.get<std::string>("eval.template"), std::nullopt, *tokenizer);
  if (writer.chat()) log_info("template   ", writer.chat()->describe());
  PromptMaker maker(options, task, opened, *tokenizer, writer, cache);
  std::vector<std::vector<int32_t>> prompts;
  for (const WrittenQuestion* q : questions) prompts.push_back(maker.ids_of(*q));
  maker.tell();
  require_same_questions(task, questions, prompts, writer.stop_ids(opened), *tokenizer);
  SampleLog log(options, task.name);
  catch_stop_signals();
  const auto count = std::ssize(questions), batch = options.get<int64_t>("eval.batch_size");
  Progress progress(task.name, count);
  const auto group_of = [&](int64_t at) { return questions[static_cast<size_t>(at)]->group; };
  const auto batch_end = [&](int64_t begin) {
    int64_t end = begin;
    while (end < std::min(count, begin + batch) && group_of(end) == group_of(begin)) ++end;
    return end;
  };
  bool stopped = any_rank(stop_requested());
  while (std::ssize(log.samples()) < count && !stopped) {
    const SampleTurn turn = turn_of_rank(std::ssize(log.samples()), count, batch_end);
    const auto at = static_cast<size_t>(turn.begin);
    const auto some = std::span(prompts).subspan(at, static_cast<size_t>(turn.end - turn.begin));
    std::vector<Generated> texts;
    if (!some.empty())
      texts = generate(
          *opened.model, some,
          how_to_write(opened, *tokenizer, writer, cache, task.groups[group_of(turn.begin)]),
          batch);
    stopped = any_rank(stop_requested());
    if (stopped) break;  // the last ones may be cut short
    std::vector<JsonObject> samples;
    for (size_t i = 0; i < some.size(); ++i)
      samples.push_back(sample_of(task, *questions[at + i], at + i, some[i].size(),
                                  tokenizer->decode(texts[i].ids, {.strip_space_prefix = false}),
                                  texts[i].stop));
    log.add_of_ranks(samples);
    progress.update(std::ssize(log.samples()));
  }
  progress.finish();
  std::vector<JsonObject> results;
  std::vector<std::pair<std::string, JsonObject>> for_lm_eval;
  const std::vector<std::vector<Mean>> means = means_of(task, log.samples());
  for (size_t g = 0; g < task.groups.size(); ++g) {
    if (means[g].empty()) continue;
    const WrittenGroup& group = task.groups[g];
    results.push_back(task.result(group, means[g]));
    JsonObject row;
    row.set("alias", group.name).set("sample_len", means[g][0].n);
    for (size_t m = 0; m < group.metrics.size(); ++m) {
      row.set(group.metrics[m] + ",none", means[g][m].value)
          .set(group.metrics[m] + "_stderr,none", means[g][m].error);
      print_result(options,
                   concat(task.name, ", ", group.name, ", ", describe(cache), ": ",
                          group.metrics[m], " ", means[g][m].value, " of ", means[g][m].n));
    }
    for_lm_eval.emplace_back(concat(task.name, "_", group.name), row);
  }
  JsonObject json;
  json.set("results", results).set("cache", cache_json(cache)).set("complete", !stopped);
  json.set("shortened", maker.shortened());
  if (task.summarize) task.summarize(json, means);
  if (stopped) {
    log.tell_stopped(count);
    return {json, kExitStopped};
  }
  const std::filesystem::path written = log.finish(for_lm_eval, 0);
  if (!written.empty()) json.set("file", written.string());
  return json;
}

}  // namespace mullion
