// tool_llama compare: two models by their weights, their logits, a text's perplexity and what they
// say next.
#include <algorithm>
#include <cmath>

#include "apps/llama/model_options.h"
#include "apps/llama/model_out.h"
#include "apps/llama/text_perplexity.h"
#include "apps/llama/tool_verbs.h"
#include "apps/program/log.h"
#include "models/llama/generate.h"

namespace mullion {
namespace {
namespace fs = std::filesystem;

constexpr int64_t kPrompt = 32;

// What is kept of a model while the other one is loaded.
struct Measured {
  std::vector<float> logits;
  Perplexity text;
  std::vector<int32_t> greedy;
};

// The tokenizer is there where ids are.
Measured measure(const Llama& model, const Tokenizer* tokenizer, const std::vector<int32_t>& ids,
                 int64_t context, int64_t predict) {
  Measured m;
  m.logits = probe_logits(model);
  if (ids.empty()) return m;
  m.text = text_perplexity(model, *tokenizer, ids, context);
  GenerateOptions how;
  how.max_tokens = predict;
  m.greedy = generate(model, std::span(ids).first(std::min<size_t>(kPrompt, ids.size())), how).ids;
  return m;
}

struct WeightDifference {
  double largest = 0;
  std::string name;
  int64_t differing = 0, alone = 0;  // tensors
};

WeightDifference compare_weights(const TensorSource& a, const TensorSource& b) {
  WeightDifference d;
  for (const TensorEntry& entry : a.entries()) {
    const TensorEntry* other = b.find(entry.name);
    if (!other || other->shape != entry.shape) {
      ++d.alone;
      continue;
    }
    std::vector<float> x(entry.count), y(entry.count);
    a.read_f32(entry.name, x.data());
    b.read_f32(entry.name, y.data());
    double largest = 0;
    for (size_t i = 0; i < x.size(); ++i)
      largest = std::max(largest, std::abs(static_cast<double>(x[i]) - y[i]));
    d.differing += largest > 0;
    if (largest <= d.largest) continue;
    d.largest = largest;
    d.name = entry.name;
  }
  for (const TensorEntry& entry : b.entries()) d.alone += !a.find(entry.name);
  return d;
}

void report_weights(const Options& options, const WeightDifference& d, JsonObject& result) {
  result.set("tensors_differing", d.differing).set("tensors_alone", d.alone);
  result.set("weight_difference", d.largest).set("weight_differing_most", d.name);
  print_result(options, concat("weights: ", d.differing, " tensors differ",
                               d.name.empty() ? "" : concat(", most ", d.name, " by ", d.largest),
                               d.alone ? concat("; ", d.alone, " have no counterpart") : ""));
}

void report_text(const Options& options, const Measured& a, const Measured& b,
                 const Tokenizer& tokenizer, JsonObject& result) {
  result.set("perplexity_a", a.text.perplexity).set("perplexity_b", b.text.perplexity);
  result.set("tokens", a.text.tokens);
  print_result(options, concat("perplexity: ", a.text.perplexity, " and ", b.text.perplexity,
                               " over ", a.text.tokens, " tokens"));
  const size_t shared = std::min(a.greedy.size(), b.greedy.size());
  const auto part = static_cast<size_t>(
      std::mismatch(a.greedy.begin(), a.greedy.begin() + static_cast<std::ptrdiff_t>(shared),
                    b.greedy.begin())
          .first -
      a.greedy.begin());
  result.set("greedy_tokens", shared);
  if (part == shared && a.greedy.size() == b.greedy.size()) {
    result.set_null("greedy_parts_at");
    print_result(options, concat("greedy text: the same ", shared, " tokens"));
    return;
  }
  result.set("greedy_parts_at", part);
  const auto token = [&](const Measured& m) {
    return part < m.greedy.size() ? tokenizer.token_text(m.greedy[part]) : std::string("the end");
  };
  print_result(options, concat("greedy text: parts at token ", part, ": '", token(a), "' and '",
                               token(b), "'"));
}

// The option's value, where it is no more than `most`; Error(usage) for a flag that is more.
int64_t at_most(const Options& options, const std::string& key, const char* flag, int64_t most,
                const std::string& what) {
  const auto value = options.get<int64_t>(key);
  if (value <= most) return value;
  CHECK_AS(Fault::usage, options.source(key) != "flag", flag, " ", value, ": more than ", most,
           ", ", what);
  log_info(flag, ": ", most, " instead of ", value, ": ", what);
  return most;
}

}  // namespace

OptionTable compare_table() {
  OptionTable table("tool_llama compare", "Compares two models: weights, logits, text");
  table.add_optional<fs::path>("compare.a", "A", "folder, .gguf file or run").required();
  table.add_optional<fs::path>("compare.b", "B", "folder, .gguf file or run").required();
  table.add_optional<fs::path>("data.file", "--data",
                               "a text: its perplexity, and how both go on after its first tokens");
  table.add("compare.ctx_size", "--ctx-size", 512, "tokens a window of perplexity")
      .at_least(2)
      .only_with("data.file");
  table.add("compare.predict", "-n,--n-predict", 200, "tokens of greedy text")
      .at_least(1)
      .only_with("data.file");
  add_rope_options(table);
  table.add_common_without(true, true);
  return table;
}

Outcome compare_models(const Options& options) {
  const fs::path paths[] = {options.get<fs::path>("compare.a"), options.get<fs::path>("compare.b")};
  ModelOut a = open_model_out(options, paths[0], {}, true);
  ModelOut b = open_model_out(options, paths[1], {}, true);
  CHECK_AS(Fault::usage, a.config.vocab_size == b.config.vocab_size, paths[0].string(), " has ",
           a.config.vocab_size, " tokens, ", paths[1].string(), " ", b.config.vocab_size,
           ": their logits cannot be compared");
  const int64_t room = std::min(usable_context(a.config), usable_context(b.config));
  const int64_t context = at_most(options, "compare.ctx_size", "--ctx-size", room,
                                  "the shorter context of the two models");
  int64_t predict = 0;
  if (options.has("data.file"))
    predict =
        at_most(options, "compare.predict", "--n-predict", room - kPrompt,
                concat("what the shorter context has behind ", kPrompt, " tokens of the text"));
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<int32_t> ids;
  if (options.has("data.file")) {
    const std::string hash_a = tokenizer_hash(a.base), hash_b = tokenizer_hash(b.base);
    if (!hash_a.empty() && !hash_b.empty() && hash_a != hash_b)
      log_warning("the two tokenizers differ; both models read the tokens of ", a.base.string());
    tokenizer = open_tokenizer(hash_a.empty() ? b.base : a.base, a.config.vocab_size);
    ids = text_ids(*tokenizer, options.get<fs::path>("data.file"));
  }
  JsonObject result;
  result.set("a", paths[0].string()).set("b", paths[1].string());
  if (options.dry_run) {
    for (const ModelOut* m : {&a, &b})
      print_result(
          options,
          concat(m->base.string(), m->adapter.empty() ? "" : " + " + m->adapter.string(), ": ",
                 m->weights().entries().size(), " tensors, ", describe_rope(m->config)));
    print_result(options, concat("would be compared: weights, logits of made-up tokens",
                                 ids.empty() ? ""
                                             : concat(", the perplexity of ", ids.size(),
                                                      " tokens in windows of ", context, ", and ",
                                                      predict, " greedy tokens")));
    return result;
  }
  report_weights(options, compare_weights(a.weights(), b.weights()), result);
  const auto measured = [&](ModelOut& m) {
    std::unique_ptr<Llama> model = loaded(m);
    return measure(*model, tokenizer.get(), ids, context, predict);
  };
  const Measured first = measured(a), second = measured(b);
  const LogitDifference d = compare_logits(first.logits, second.logits);
  result.set("logit_difference", d.largest).set("largest_logit", d.scale);
  print_result(options,
               concat("logits: differ by at most ", d.largest, ", the largest is ", d.scale));
  if (!ids.empty()) report_text(options, first, second, *tokenizer, result);
  return result;
}

}  // namespace mullion
