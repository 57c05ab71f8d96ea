// A number hidden in filler text:
//   eval_llama passkey -m DIR --max-tokens 4096
#include "apps/llama/passkey.h"

#include <nlohmann/json.hpp>

#include "apps/llama/cache_options.h"
#include "apps/llama/evaluation/task.h"
#include "apps/llama/model_options.h"
#include "apps/llama/same_model.h"
#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "apps/run/ranks.h"
#include "tensor/io/file.h"
#include "tensor/io/file_place.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

OptionTable passkey_table() {
  OptionTable table("eval_llama passkey", "Finds a number hidden in filler text");
  add_model_options(table);
  table.add("passkey.max_tokens", "--max-tokens", 32768, "the longest length, as the script counts")
      .at_least(1);
  table.add("passkey.interval", "--interval", 1000, "between lengths").at_least(1);
  table.add("passkey.trials", "--trials,--num-tests", 10, "keys a length, seeds 0, 1, ...")
      .at_least(1);
  table
      .add_optional<std::vector<double>>(
          "passkey.depth", "--depth",
          "where the key stands, % of the filler before it, a list: each key at each (unset: "
          "anywhere, as LongLoRA's script draws it)")
      .range(0, 100);
  table.add("passkey.bos", "--bos", "auto", "auto: as the tokenizer does; on, off")
      .one_of({"auto", "on", "off"});
  table.add_optional<std::filesystem::path>("passkey.csv", "--csv",
                                            "file for one line a trial (unset: stdout)");
  add_cache_options(table);
  add_rank_options(table);
  table.add_common();
  table.at("run.seed")
      .only_where([](const Options&) { return false; },
                  "here: the keys' seeds are 0, 1, ... (--trials)");
  return table;
}

std::string csv_line(const PasskeyTrial& t) {
  std::string answered;
  for (const char c : t.answered)
    answered += c == '"' ? "\"\"" : std::string(1, c == '\n' ? ' ' : c);
  return concat(t.garbage, ",", t.tokens, ",", t.seed, ",", t.position, ",", t.expected, ",\"",
                answered, "\",", t.correct ? 1 : 0, "\n");
}

std::string text_of(const PasskeyTrial& t) {
  return JsonObject()
      .set("garbage", t.garbage)
      .set("seed", t.seed)
      .set("tokens", t.tokens)
      .set("position", t.position)
      .set("expected", t.expected)
      .set("answered", t.answered)
      .set("correct", t.correct)
      .text();
}

PasskeyTrial trial_of(const std::string& text) {
  const nlohmann::json json = parse_json(text, "trial");
  return {json.at("garbage"),  json.at("seed"),     json.at("tokens"), json.at("position"),
          json.at("expected"), json.at("answered"), json.at("correct")};
}

// Trials in their order, of which the ranks take one each in a round, and all get all.
std::vector<PasskeyTrial> trials_of_ranks(
    int64_t count, const std::function<PasskeyTrial(int64_t)>& trial,
    const std::function<void(const std::vector<PasskeyTrial>&)>& progress) {
  std::vector<PasskeyTrial> done;
  for (int64_t at = 0; at < count && !any_rank(stop_requested()); at += rank_count()) {
    const int64_t own = at + rank();
    const std::string mine = own < count ? text_of(trial(own)) : "";
    for (const std::string& text : texts_of_ranks(mine))
      if (!text.empty()) done.push_back(trial_of(text));
    progress(done);
  }
  return done;
}

Outcome passkey(const Options& options, SharedModel& shared) {
  const OpenedModel& opened = shared.open(options, 0);
  const LanguageModel& model = *opened.model;
  const auto tokenizer = open_tokenizer_of_rows(options, model.vocabulary());
  const auto policy = options.get<std::string>("passkey.bos");
  const bool bos = policy == "on" || (policy == "auto" && tokenizer->add_bos());
  const auto interval = options.get<int64_t>("passkey.interval");
  const auto trials = options.get<int64_t>("passkey.trials");
  const auto most = options.get<int64_t>("passkey.max_tokens");
  const int64_t lengths = most / interval;
  CHECK_AS(Fault::usage, lengths > 0, "--max-tokens ", most, ": is below --interval ", interval,
           ", so that there is no length to try");
  const PasskeyTokens longest =
      passkey_tokens(passkey_case(passkey_garbage(lengths - 1, interval), 0), *tokenizer, bos);
  const auto needed = static_cast<int64_t>(longest.prompt.size() + longest.answer.size());
  if (needed > model.context())
    throw Error(concat("the longest prompt has ", needed, " tokens, the model's context is ",
                       model.context()),
                Fault::usage, "a smaller --max-tokens, or --rope-scaling linear --rope-factor F");
  if (options.has("passkey.csv"))  // now, not after the work
    check_file_place(options.get<std::filesystem::path>("passkey.csv"));
  const KvCacheOptions cache = cache_options(options);
  catch_stop_signals();
  std::vector<std::optional<double>> depths = {std::nullopt};
  if (options.has("passkey.depth")) {
    depths.clear();
    CHECK_AS(Fault::usage, !options.get<std::vector<double>>("passkey.depth").empty(),
             "--depth: no depth");
    for (const double depth : options.get<std::vector<double>>("passkey.depth"))
      depths.emplace_back(depth);
  }
  // `tokens`: of all prompts of this length together.
  const auto row_of = [](int64_t garbage, int64_t tokens, int64_t correct, int64_t tried) {
    return JsonObject()
        .set("garbage", garbage)
        .set("tokens", tokens)
        .set("correct", correct)
        .set("trials", tried)
        .set("accuracy", static_cast<double>(correct) / static_cast<double>(tried));
  };
  if (ranks()) require_same_on_all_ranks({{"tokenizer", tokenizer_identity(*tokenizer)}});
  // Length after length, depth after depth, key after key.
  const int64_t a_length = trials * std::ssize(depths), all = lengths * a_length;
  Progress progress("passkey", all);
  const std::vector<PasskeyTrial> done = trials_of_ranks(
      all,
      [&](int64_t i) {
        const std::optional<double> depth = depths[static_cast<size_t>(i % a_length / trials)];
        return passkey_trial(model, *tokenizer, passkey_garbage(i / a_length, interval),
                             static_cast<uint32_t>(i % trials), bos, cache,
                             depth ? std::optional(*depth / 100) : std::nullopt);
      },
      [&](const std::vector<PasskeyTrial>& so_far) {
        const auto right =
            std::count_if(so_far.begin(), so_far.end(), [](const auto& t) { return t.correct; });
        progress.update(std::ssize(so_far), concat(so_far.back().tokens, " tokens: ", right, " of ",
                                                   so_far.size(), " in all"));
      });
  const bool stopped = std::ssize(done) < all;
  std::string csv = "garbage_chars,tokens,seed,position,expected,answered,correct\n";
  std::vector<JsonObject> table, by_depth;
  JsonObject by_length;
  int64_t right = 0;
  for (int64_t i = 0; i < lengths; ++i) {
    int64_t correct = 0, tried = 0, tokens = 0;
    const int64_t garbage = passkey_garbage(i, interval);
    struct AtDepth {
      double depth;
      int64_t correct, tried;
    };
    std::vector<AtDepth> here;
    for (size_t d = 0; d < depths.size(); ++d) {
      const int64_t correct_before = correct, tried_before = tried;
      const int64_t first = i * a_length + static_cast<int64_t>(d) * trials;
      for (int64_t k = first; k < std::min(first + trials, std::ssize(done)); ++k, ++tried) {
        const PasskeyTrial& t = done[static_cast<size_t>(k)];
        csv += csv_line(t);
        correct += t.correct;
        tokens += t.tokens;
      }
      if (depths[d] && tried > tried_before)
        here.push_back({*depths[d], correct - correct_before, tried - tried_before});
    }
    if (tried == 0) break;
    right += correct;
    table.push_back(row_of(garbage, tokens / tried, correct, tried));
    for (const AtDepth& d : here)
      by_depth.push_back(row_of(garbage, tokens / tried, d.correct, d.tried).set("depth", d.depth));
    by_length.set(std::to_string(tokens / tried),
                  static_cast<double>(correct) / static_cast<double>(tried));
  }
  progress.finish();
  if (!options.has("passkey.csv"))
    print_text(options, csv);
  else if (is_first_rank())
    write_whole_file(options.get<std::filesystem::path>("passkey.csv"), csv);
  JsonObject result;
  result.set("cache", cache_json(cache))
      .set("lengths", table)
      .set("accuracy_by_length", by_length)
      .set("correct", right)
      .set("trials", done.size());
  if (!by_depth.empty()) result.set("depths", by_depth);
  result.set("accuracy",
             static_cast<double>(right) / static_cast<double>(std::max<size_t>(1, done.size())));
  return {result.set("rope", opened.positions), stopped ? kExitStopped : 0};
}

}  // namespace

EvaluationTask passkey_task() { return {passkey_table(), passkey}; }

}  // namespace mullion
