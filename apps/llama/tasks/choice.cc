// Questions with several answers: the likeliest by five ways of counting, under any cache.
//   eval_llama choice -m DIR --task openbookqa --data test.jsonl --fewshot-data train.jsonl
//     --num-fewshot 5 --kv full,h2o,local --kv-budget 50%,20%
#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "apps/llama/cache_options.h"
#include "apps/llama/evaluation/choice_score.h"
#include "apps/llama/evaluation/sample_log.h"
#include "apps/llama/evaluation/task.h"
#include "apps/llama/model_options.h"
#include "apps/llama/same_model.h"
#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "apps/run/ranks.h"
#include "data/utf8.h"
#include "tensor/io/sha256.h"

namespace mullion {
namespace {

// The ways of counting, by the names of the results.
const std::vector<std::string> kMetrics{"acc", "acc_norm", "acc_bytes", "acc_mutual_info",
                                        "acc_token"};

OptionTable choice_table() {
  OptionTable table("eval_llama choice", "Which of several answers a model finds likeliest");
  add_model_options(table);
  table.add_optional<std::string>("choice.task", "--task", "how rows become texts")
      .one_of(choice_task_names())
      .required();
  table
      .add_optional<std::filesystem::path>("choice.data", "--data",
                                           "rows, .jsonl or .json; COPA's .xml")
      .required();
  table
      .add_optional<std::filesystem::path>("choice.fewshot_data", "--fewshot-data",
                                           "rows whose first ones are shown with their answers")
      .only_with("choice.shots")
      .refused_idle();
  table.add("choice.shots", "--num-fewshot", 0, "how many of them").at_least(0);
  add_cache_options(table, true);
  add_evaluation_options(table);
  add_rank_options(table);
  table.add_common_without(true, false);
  return table;
}

size_t likeliest(const std::vector<double>& values) {
  for (const double value : values)
    CHECK_AS(Fault::diverged, !std::isnan(value), "the model's log-probabilities are not finite");
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

// Whether the answer is the likeliest by each metric.
std::map<std::string, bool> judge(const ChoiceQuestion& q, const ChoiceScores& scores,
                                  const std::vector<double>& alone) {
  std::map<std::string, std::vector<double>> by_metric;
  for (size_t i = 0; i < q.choices.size(); ++i) {
    const double sum = scores.sum[i];
    by_metric["acc"].push_back(sum);
    by_metric["acc_norm"].push_back(sum / static_cast<double>(utf8_length(q.choices[i])));
    by_metric["acc_bytes"].push_back(sum / static_cast<double>(q.choices[i].size()));
    by_metric["acc_mutual_info"].push_back(sum - alone[i]);
    by_metric["acc_token"].push_back(sum / static_cast<double>(scores.tokens[i]));
  }
  std::map<std::string, bool> right;
  for (const auto& [metric, values] : by_metric)
    right[metric] = likeliest(values) == static_cast<size_t>(q.answer);
  return right;
}

JsonObject sample_json(int64_t number, const ChoiceQuestion& q, const std::string& few_shots,
                       const KvCacheOptions& cache, const ChoiceScores& scores,
                       const std::vector<double>& alone) {
  JsonObject arguments, sample;
  std::vector<std::vector<double>> responses;
  for (size_t i = 0; i < q.choices.size(); ++i) {
    arguments.set(
        concat("gen_args_", i),
        JsonObject().set("arg_0", few_shots + q.text_of(i)).set("arg_1", " " + q.choices[i]));
    responses.push_back({scores.sum[i]});
  }
  sample.set("doc_id", number).put("doc", q.json).set("target", q.answer);
  sample.set("arguments", arguments).set("resps", responses);
  sample.set("filtered_resps", scores.sum).set("filter", "none").set("metrics", kMetrics);
  sample.set("tokens", scores.tokens).set("ll_alone", alone);
  sample.set("doc_hash", sha256_hex(q.json)).set("prompt_hash", sha256_hex(few_shots + q.text));
  sample.set("target_hash", sha256_hex(std::to_string(q.answer))).set("cache", cache_json(cache));
  for (const auto& [metric, is_right] : judge(q, scores, alone))
    sample.set(metric, is_right ? 1.0 : 0.0);
  return sample;
}

void show(const Options& options, const std::vector<ChoiceQuestion>& questions,
          const std::string& few_shots) {
  const auto count = std::min<int64_t>(options.get<int64_t>("eval.show"), std::ssize(questions));
  for (int64_t i = 0; i < count; ++i) {
    const ChoiceQuestion& q = questions[static_cast<size_t>(i)];
    log_info("sample ", i, " (", q.id, "), scored behind what is between the marks:");
    for (size_t k = 0; k < q.choices.size(); ++k) {
      if (k == 0 || !q.texts.empty()) log_info("<<<", few_shots, q.text_of(k), ">>>");
      log_info(k == static_cast<size_t>(q.answer) ? "  right: <<< " : "  wrong: <<< ", q.choices[k],
               ">>>");
    }
  }
}

// The metrics of `samples`, one after another, as the results and lm-eval name them.
struct Summary {
  JsonObject ours, lm_eval;
  std::string line;
};
Summary summarize(const std::string& task, const KvCacheOptions& cache,
                  std::span<const nlohmann::json> samples) {
  Summary s;
  s.ours.set("task", task);
  const JsonObject named = cache_json(cache);
  s.ours.set("kv", cache.kind);
  if (cache.is_bounded())
    s.ours.set("kv_budget", kv_budget_text(cache));
  else
    s.ours.set_null("kv_budget");
  s.ours.set("n", samples.size()).set("cache", named);
  s.lm_eval.set("name", task).set("alias", task).set("sample_len", samples.size());
  for (const std::string& metric : kMetrics) {
    std::vector<double> values;
    for (const nlohmann::json& sample : samples) values.push_back(sample.at(metric).get<double>());
    const Mean mean = mean_of(values);
    s.ours.set(metric, mean.value);
    if (metric == "acc") s.ours.set("stderr", mean.error);
    s.lm_eval.set(metric + ",none", mean.value);
    if (mean.n > 1)
      s.lm_eval.set(metric + "_stderr,none", mean.error);
    else
      s.lm_eval.set(metric + "_stderr,none", "N/A");
    s.line += concat(metric == "acc" ? "" : ", ", metric, " ", mean.value);
  }
  // What a cache costs shows here long before an answer changes.
  std::vector<double> right;
  for (const nlohmann::json& sample : samples)
    right.push_back(
        sample.at("filtered_resps").at(sample.at("target").get<size_t>()).get<double>());
  const double target_ll = mean_of(right).value;
  s.ours.set("target_ll", target_ll);
  s.line += concat(", ln p of the right answer ", target_ll);
  return s;
}

std::string digest(const std::vector<ChoiceQuestion>& questions, const std::string& few_shots) {
  Sha256 hash;
  hash.update(few_shots);
  for (const ChoiceQuestion& q : questions) hash.update(q.json + "\n");
  return hash.hex();
}

Outcome choice(const Options& options, SharedModel& shared) {
  const auto task = options.get<std::string>("choice.task");
  const std::vector<KvCacheOptions> caches = cache_list(options);
  const auto shots = options.get<int64_t>("choice.shots");
  CHECK_AS(Fault::usage, shots == 0 || options.has("choice.fewshot_data"), "--num-fewshot ", shots,
           ": needs --fewshot-data, whose first rows are shown");
  const auto data = options.get<std::filesystem::path>("choice.data");
  std::vector<ChoiceQuestion> questions = read_choice_questions(task, data);
  const auto limit = options.get<int64_t>("eval.limit");
  if (limit > 0 && limit < std::ssize(questions)) questions.resize(static_cast<size_t>(limit));
  std::string few_shots;
  if (shots > 0) {
    const auto file = options.get<std::filesystem::path>("choice.fewshot_data");
    few_shots = few_shot_text(read_choice_questions(task, file), shots, file);
  }
  show(options, questions, few_shots);
  const OpenedModel& opened = shared.open(options, 0);
  const auto tokenizer = open_tokenizer(options, opened.model->vocabulary());
  if (ranks())
    require_same_on_all_ranks({{"tokenizer", tokenizer_identity(*tokenizer)},
                               {"questions", digest(questions, few_shots)}});
  SampleLog log(options, "choice_" + task);
  catch_stop_signals();
  const auto count = std::ssize(questions);
  const auto batch = options.get<int64_t>("eval.batch_size");
  std::map<std::vector<std::string>, std::vector<double>> alone;  // by a question's choices
  std::vector<JsonObject> results;
  std::vector<std::pair<std::string, JsonObject>> for_lm_eval;
  int64_t cut = 0, one_token = 0, choices = 0;
  bool stopped = any_rank(stop_requested());
  for (size_t c = 0; c < caches.size() && !stopped; ++c) {
    const KvCacheOptions& cache = caches[c];
    const int64_t first = static_cast<int64_t>(c) * count;
    ChoiceScorer scorer(*opened.model, *tokenizer, cache, few_shots);
    Progress progress(concat("choice, ", describe(cache)), count);
    const auto begin = std::chrono::steady_clock::now();
    int64_t scored = 0;
    const int64_t before = std::ssize(log.samples());
    const auto batch_end = [&](int64_t from) { return std::min(from + batch, count); };
    while (std::ssize(log.samples()) < first + count && !stopped) {
      const SampleTurn turn = turn_of_rank(std::ssize(log.samples()) - first, count, batch_end);
      const auto some = std::span(questions).subspan(static_cast<size_t>(turn.begin),
                                                     static_cast<size_t>(turn.end - turn.begin));
      const std::vector<ChoiceScores> scores = scorer(some);
      std::vector<JsonObject> samples;
      for (size_t i = 0; i < some.size(); ++i) {
        std::vector<double>& own = alone[some[i].choices];
        if (own.empty()) own = scorer.alone(some[i].choices);
        for (const int64_t tokens : scores[i].tokens) {
          scored += tokens;
          one_token += tokens == 1 ? 1 : 0;
          ++choices;
        }
        for (const int64_t lost : scores[i].cut) cut += lost > 0 ? 1 : 0;
        samples.push_back(sample_json(turn.begin + static_cast<int64_t>(i), some[i], few_shots,
                                      cache, scores[i], own));
      }
      log.add_of_ranks(samples);
      stopped = any_rank(stop_requested());
      progress.update(std::ssize(log.samples()) - first);
    }
    progress.finish();
    if (std::ssize(log.samples()) < first + count) break;
    Summary s = summarize(
        task, cache,
        std::span(log.samples()).subspan(static_cast<size_t>(first), static_cast<size_t>(count)));
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
    // Of an evaluation that was in the log already there is no time.
    if (before < first + count)
      s.ours.set("tok_s",
                 sum_over_ranks({static_cast<double>(scored)})[0] / std::max(time.count(), 1e-9));
    else
      s.ours.set_null("tok_s");
    const auto bytes = items_of_ranks(std::vector<int64_t>{scorer.cache_bytes()});
    s.ours.set("cache_bytes", *std::max_element(bytes.begin(), bytes.end()));
    if (!scorer.kept().empty())
      s.ours.set("kept", JsonObject()
                             .set("kv_heads", opened.model->cache_shape().kv_heads)
                             .set("by_layer", scorer.kept()));
    print_result(options, concat(task, ", ", describe(cache), ", ", shots, " shots, ", count,
                                 " questions: ", s.line));
    results.push_back(s.ours);
    const bool is_only = caches.size() == 1;
    for_lm_eval.emplace_back(
        is_only ? task : concat(task, "_", cache.kind, "_", kv_budget_text(cache)), s.lm_eval);
  }
  const auto counts = sum_over_ranks(
      {static_cast<double>(cut), static_cast<double>(one_token), static_cast<double>(choices)});
  cut = std::llround(counts[0]), one_token = std::llround(counts[1]);
  choices = std::llround(counts[2]);
  if (cut > 0)
    log_warning(cut, " of ", choices, " texts were longer than the model's context of ",
                opened.model->context(), " and lost their beginnings");
  const bool drops = std::any_of(caches.begin(), caches.end(), [](const KvCacheOptions& cache) {
    return cache.is_bounded() && cache.mode == KvMode::drop;
  });
  if (drops && one_token > 0)
    log_info(one_token, " of ", choices,
             " choices are one token, which comes from the whole prompt: they score as with a full "
             "cache");
  JsonObject json;
  json.set("results", results).set("num_fewshot", shots).set("complete", !stopped);
  if (stopped) {
    log.tell_stopped(count * std::ssize(caches));
    return {json, kExitStopped};
  }
  const std::filesystem::path written = log.finish(for_lm_eval, shots);
  if (!written.empty()) json.set("file", written.string());
  return json;
}

}  // namespace

EvaluationTask choice_task() { return {choice_table(), choice}; }

}  // namespace mullion
