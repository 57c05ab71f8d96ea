// Perplexity on a token file or a text:
//   eval_llama ppl -m DIR --data book.bin --ctx-size 512,1024 --protocol longlora
// Attention is full unless --attn says otherwise, whatever the model was trained under.
#include <cmath>

#include "apps/llama/attention_options.h"
#include "apps/llama/evaluation/task.h"
#include "apps/llama/model_options.h"
#include "apps/llama/perplexity.h"
#include "apps/llama/text_data.h"
#include "apps/llama/token_rows.h"
#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"

namespace mullion {
namespace {

OptionTable ppl_table() {
  OptionTable table("eval_llama ppl", "Perplexity on a token file or a text");
  add_model_options(table);
  table
      .add_optional<std::string>("data.file", "--data",
                                 "token file, text, .jsonl, .json, or a folder of texts")
      .required();
  add_token_dtype(table);
  add_text_options(table);
  table
      .add("eval.protocol", "--protocol", "longlora",
           "longlora: windows every --stride tokens, all scored; llamacpp: disjoint windows, "
           "their second halves scored")
      .one_of({"longlora", "llamacpp"});
  table.add("eval.ctx_size", "--ctx-size", std::vector<int64_t>{2048}, "tokens a window, or a list")
      .at_least(2);
  table.add("eval.stride", "--stride", 256, "tokens between windows of longlora").at_least(1);
  table.add("eval.max_windows", "--max-windows", 0, "the first so many; 0: all");
  table.add("eval.batch_size", "-b,--batch-size", 1, "windows at a time").at_least(1);
  table
      .add("eval.bos", "--bos", "auto",
           "auto: as the tokenizer does (before a text; llamacpp: first in each window); on, off")
      .one_of({"auto", "on", "off"});
  add_attention_options(table, "full");
  return table;
}

struct Ids {
  int64_t size = 0;
  ReadIds read;
  JsonObject text;  // what was tokenized; empty for a token file
};

Ids open_ids(const Options& options, int64_t vocabulary, bool bos) {
  const auto path = options.get<std::string>("data.file");
  if (is_token_file(options, path)) {
    const auto file = std::make_shared<TokenFile>(path, token_file_options(options, vocabulary));
    require_same_tokenizer(*file, tokenizer_hash(model_path(options)));
    return {static_cast<int64_t>(file->size()),
            [file](int64_t begin, std::span<int32_t> out) {
              file->read(static_cast<uint64_t>(begin), out);
            },
            {}};
  }
  const auto tokenizer = open_tokenizer(options, vocabulary);
  const auto ids = std::make_shared<std::vector<int32_t>>();
  const TextSummary summary = tokenize_documents(
      document_files({path}), document_options(options), *tokenizer,
      {.bos = bos, .eos = tokenizer->add_eos()}, [&](std::span<const int32_t> document) {
        ids->insert(ids->end(), document.begin(), document.end());
      });
  return {static_cast<int64_t>(ids->size()),
          [ids](int64_t begin, std::span<int32_t> out) {
            std::copy_n(ids->begin() + begin, out.size(), out.begin());
          },
          summary.json()};
}

// BOS as --bos says; the tokenizer is opened only where it decides.
std::optional<int32_t> bos_id(const Options& options, int64_t vocabulary, bool wanted) {
  const auto policy = options.get<std::string>("eval.bos");
  if (policy == "off" || (policy == "auto" && !wanted)) return std::nullopt;
  const auto tokenizer = open_tokenizer(options, vocabulary);
  if (policy == "auto" && !tokenizer->add_bos()) return std::nullopt;
  CHECK_AS(Fault::usage, tokenizer->bos().has_value(), "--bos on: the tokenizer has no BOS");
  return tokenizer->bos();
}

// `bos`: what stands in front, of each window (llamacpp) or of a text.
JsonObject score(const Options& options, LanguageModel& model, const Ids& ids, int64_t context,
                 std::optional<int32_t> bos) {
  PerplexityOptions how;
  how.llamacpp = options.get<std::string>("eval.protocol") == "llamacpp";
  how.context = context;
  how.stride = options.get<int64_t>("eval.stride");
  how.max_windows = options.get<int64_t>("eval.max_windows");
  how.batch = options.get<int64_t>("eval.batch_size");
  if (how.llamacpp) how.first_id = bos;
  const auto total = static_cast<int64_t>(perplexity_windows(ids.size, how).size());
  model.set_pattern(attention_pattern(options, model.cache_shape().heads, context));
  log_info("context ", context, ": ", describe(model.pattern()));
  Progress progress(concat("ppl ", context), total);
  const Perplexity p = perplexity(model, ids.size, ids.read, how, [&](int64_t done, double nll) {
    progress.update(done, concat("ppl ", std::exp(nll)));
    return !stop_requested();
  });
  progress.finish();
  std::string stride = how.llamacpp ? "disjoint" : std::to_string(how.stride);
  print_result(
      options,
      concat("context ", context, ": perplexity ", p.perplexity, ", ", p.nll, " nats over ",
             p.tokens, " tokens of ", p.windows, " windows, stride ", stride, ", BOS ",
             bos ? concat(*bos, how.llamacpp ? " first in each window" : " before the text")
                 : std::string("none put in front"),
             p.complete ? "" : "; stopped before the end"));
  JsonObject result;
  result.set("perplexity", p.perplexity).set("nll", p.nll);
  result.set("windows", p.windows).set("tokens", p.tokens).set("ctx_size", context);
  result.set("protocol", options.get<std::string>("eval.protocol")).set("stride", stride);
  if (!ids.text.empty()) result.set("text", ids.text);
  return result.set("bos", bos.has_value()).set("complete", p.complete);
}

Outcome ppl(const Options& options) {
  const auto sizes = options.get<std::vector<int64_t>>("eval.ctx_size");
  CHECK_AS(Fault::usage, !sizes.empty(), "--ctx-size: no size");
  const OpenedModel opened = open_model(options, *std::max_element(sizes.begin(), sizes.end()));
  LanguageModel& model = *opened.model;
  const bool llamacpp = options.get<std::string>("eval.protocol") == "llamacpp";
  const bool text = !is_token_file(options, options.get<std::string>("data.file"));
  CHECK_AS(Fault::usage, text || llamacpp || options.get<std::string>("eval.bos") != "on",
           "--bos on: longlora scores the windows of a token file as they are; --protocol llamacpp "
           "puts BOS first in each");
  const std::optional<int32_t> bos = bos_id(options, model.vocabulary(), text || llamacpp);
  const Ids ids = open_ids(options, model.vocabulary(), bos.has_value());
  catch_stop_signals();
  std::vector<JsonObject> results;
  for (const int64_t context : sizes) {
    results.push_back(score(options, model, ids, context, bos));
    if (stop_requested()) break;
  }
  const int code = stop_requested() ? kExitStopped : 0;
  if (results.size() == 1) return {results[0], code};
  return {JsonObject().set("results", results), code};
}

}  // namespace

Verb ppl_task() { return {ppl_table(), ppl}; }

}  // namespace mullion
