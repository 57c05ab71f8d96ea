// Perplexity on a token file or a text:
//   eval_llama ppl -m DIR --data book.bin --ctx-size 512,1024 --protocol longlora
// Attention is full unless --attn says otherwise, whatever the model was trained under.
#include <cmath>

#include "apps/llama/attention_options.h"
#include "apps/llama/evaluation/task.h"
#include "apps/llama/evaluation/text_metrics.h"
#include "apps/llama/model_options.h"
#include "apps/llama/perplexity.h"
#include "apps/llama/text_data.h"
#include "apps/llama/token_rows.h"
#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "apps/run/ranks.h"
#include "tensor/io/contents.h"

namespace mullion {
namespace {

OptionTable ppl_table() {
  OptionTable table("eval_llama ppl", "Perplexity on a token file or a text");
  add_model_options(table);
  table
      .add_optional<std::filesystem::path>("data.file", "--data",
                                           "token file, text, .jsonl, .json, or a folder of texts")
      .required();
  add_token_dtype(table);
  add_text_options(table);
  table
      .add("eval.protocol", "--protocol", "longlora",
           "longlora: windows every --stride tokens, all scored; llamacpp: disjoint windows, "
           "their second halves scored; sliding: windows every --stride tokens, each token scored "
           "once (transformers); rolling: each document's tokens once, BOS or EOS in front, with "
           "word and byte perplexity (lm-eval)")
      .one_of({"longlora", "llamacpp", "sliding", "rolling"});
  table.add("eval.ctx_size", "--ctx-size", std::vector<int64_t>{2048}, "tokens a window, or a list")
      .at_least(2);
  table.add("eval.stride", "--stride", 256, "tokens between windows of longlora and sliding")
      .at_least(1)
      .only_with("eval.protocol", {"longlora", "sliding"});
  table.add("eval.max_windows", "--max-windows", 0, "the first so many; 0: all");
  table.add("eval.batch_size", "-b,--batch-size", 1, "windows at a time").at_least(1);
  table
      .add("eval.bos", "--bos", "auto",
           "auto: as the tokenizer does (before a text; llamacpp: first in each window); on, off")
      .one_of({"auto", "on", "off"})
      .not_with("eval.protocol", {"rolling"})
      .refused_idle();
  add_attention_options(table, "full");
  add_rank_options(table);
  table.add_common();
  table.at("run.seed").only_with("attention.kind", {"random"});
  return table;
}

struct Ids {
  int64_t size = 0;
  ReadIds read;
  std::vector<int64_t> documents = {};  // rolling: where they begin
  int64_t words = 0, bytes = 0;         // of their texts
  std::optional<int32_t> first = {};    // rolling: what stands before each
  JsonObject text = {};                 // what was tokenized; empty for a token file
};

Ids held_ids(const std::shared_ptr<const std::vector<int32_t>>& ids) {
  return {std::ssize(*ids), [ids](int64_t begin, std::span<int32_t> out) {
            std::copy_n(ids->begin() + begin, out.size(), out.begin());
          }};
}

Ids open_ids(const Options& options, int64_t vocabulary, bool bos) {
  const auto path = options.get<std::string>("data.file");
  if (is_token_file(options, path)) {
    const auto file = std::make_shared<TokenFile>(path, token_file_options(options, vocabulary));
    require_same_tokenizer(*file, tokenizer_hash(model_path(options)));
    return {static_cast<int64_t>(file->size()), [file](int64_t begin, std::span<int32_t> out) {
              file->read(static_cast<uint64_t>(begin), out);
            }};
  }
  const auto tokenizer = open_tokenizer(options, vocabulary);
  const auto ids = std::make_shared<std::vector<int32_t>>();
  const DocumentFiles files = document_files({path});
  warn_of_repeats(files.files);
  const TextSummary summary = tokenize_documents(
      files, document_options(options), *tokenizer, {.bos = bos, .eos = tokenizer->add_eos()},
      [&](std::span<const int32_t> document) {
        ids->insert(ids->end(), document.begin(), document.end());
      });
  Ids result = held_ids(ids);
  result.text = summary.json();
  return result;
}

std::string digest(const Ids& ids) {
  const auto count = static_cast<uint64_t>(ids.size);
  ContentsDigest contents(count * sizeof(int32_t));
  contents.add_ids(count, [&](uint64_t begin, std::span<int32_t> out) {
    ids.read(static_cast<int64_t>(begin), out);
  });
  return contents.hex();
}

// As Python's re.split(r"\s+", text) counts them.
int64_t words_of(const std::string& text) {
  int64_t words = 1;
  bool in_space = false;
  for (const char32_t c : code_points(text)) {
    const bool is_space = is_white_space(c);
    words += is_space && !in_space ? 1 : 0;
    in_space = is_space;
  }
  return words;
}

// Documents one after another, each behind the token that stands for nothing: BOS, or EOS.
Ids open_rolling(const Options& options, int64_t vocabulary) {
  const auto path = options.get<std::string>("data.file");
  CHECK_AS(Fault::usage, !is_token_file(options, path),
           "--protocol rolling: counts the words and bytes of texts; ", path, " is a token file");
  const auto tokenizer = open_tokenizer(options, vocabulary);
  const std::optional<int32_t> first = tokenizer->bos() ? tokenizer->bos() : tokenizer->eos();
  CHECK_AS(Fault::usage, first.has_value(),
           "--protocol rolling: the tokenizer has neither BOS nor EOS to stand in front");
  const auto ids = std::make_shared<std::vector<int32_t>>();
  Ids found;
  found.first = first;
  const DocumentFiles files = document_files({path});
  warn_of_repeats(files.files);
  const DocumentCounts counts =
      read_documents(files.files, document_options(options), [&](const std::string& text) {
        found.documents.push_back(std::ssize(*ids));
        found.words += words_of(text);
        found.bytes += std::ssize(text);
        ids->push_back(*first);
        const std::vector<int32_t> own = tokenizer->encode(text);
        ids->insert(ids->end(), own.begin(), own.end());
        return !stop_requested();
      });
  CHECK(!stop_requested(), "stopped by ", stop_reason(), "; nothing was scored");
  CHECK_AS(Fault::bad_file, counts.documents > 0, path, ": no documents");
  if (counts.bad > 0) log_warning(counts.bad, " bad lines left out; the first: ", counts.first_bad);
  const Ids held = held_ids(ids);
  found.size = held.size;
  found.read = held.read;
  found.text.set("documents", counts.documents).set("bytes", counts.bytes);
  return found;
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

// What both ways of scoring share: attention as --attn says, a bar over `total` windows, and a
// result that is a number.
Perplexity scored(
    const Options& options, LanguageModel& model, int64_t context, int64_t total,
    const std::function<Perplexity(const std::function<bool(int64_t, double)>&)>& run) {
  model.set_pattern(attention_pattern(options, model.cache_shape().heads, context));
  log_info("context ", context, ": ", describe(model.pattern()));
  Progress progress(concat("ppl ", context), total);
  const Perplexity p = run([&](int64_t done, double nll) {
    progress.update(done, concat("ppl ", std::exp(nll)));
    return !stop_requested();
  });
  progress.finish();
  CHECK_AS(Fault::diverged, !std::isnan(p.nll), "the perplexity of context ", context,
           " is not a number");
  return p;
}

JsonObject result_of(const Options& options, const Perplexity& p, int64_t context,
                     const std::string& stride) {
  JsonObject result;
  result.set("perplexity", p.perplexity).set("nll", p.nll);
  result.set("windows", p.windows).set("tokens", p.tokens).set("ctx_size", context);
  return result.set("protocol", options.get<std::string>("eval.protocol")).set("stride", stride);
}

std::string line_of(const Perplexity& p, int64_t context, const std::string& how) {
  return concat("context ", context, ": perplexity ", p.perplexity, ", ", p.nll, " nats over ",
                p.tokens, " tokens of ", p.windows, " windows, ", how,
                p.complete ? "" : "; stopped before the end");
}

std::string bos_text(std::optional<int32_t> bos, const std::string& where) {
  return bos ? concat(", BOS ", *bos, where) : ", BOS none put in front";
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
  const int64_t total = std::ssize(perplexity_windows(ids.size, how));
  const Perplexity p = scored(options, model, context, total, [&](const auto& progress) {
    return perplexity(model, ids.size, ids.read, how, progress);
  });
  const std::string stride = how.llamacpp ? "disjoint" : std::to_string(how.stride);
  const std::string front =
      bos_text(bos, how.llamacpp ? " first in each window" : " before the text");
  print_result(options, line_of(p, context, concat("stride ", stride, front)));
  JsonObject result = result_of(options, p, context, stride);
  if (!ids.text.empty()) result.set("text", ids.text);
  return result.set("bos", bos.has_value()).set("complete", p.complete);
}

// The stretches of sliding and rolling.
JsonObject score_stretches(const Options& options, LanguageModel& model, const Ids& ids,
                           int64_t context, std::optional<int32_t> bos) {
  const auto protocol = options.get<std::string>("eval.protocol");
  const bool rolling = protocol == "rolling";
  const auto stride = options.get<int64_t>("eval.stride");
  std::vector<ScoredStretch> stretches;
  for (size_t i = 0; rolling && i < ids.documents.size(); ++i) {
    const int64_t begin = ids.documents[i];
    const int64_t end = i + 1 < ids.documents.size() ? ids.documents[i + 1] : ids.size;
    for (ScoredStretch s : rolling_stretches(end - begin, context)) {
      s.begin += begin, s.end += begin;
      stretches.push_back(s);
    }
  }
  if (!rolling) stretches = sliding_stretches(ids.size, context, stride);
  CHECK_AS(Fault::usage, !stretches.empty(), "ppl: no token to score");
  const auto most = static_cast<size_t>(options.get<int64_t>("eval.max_windows"));
  const bool is_cut = most > 0 && most < stretches.size();
  if (is_cut) stretches.resize(most);
  const auto batch = options.get<int64_t>("eval.batch_size");
  const Perplexity p =
      scored(options, model, context, std::ssize(stretches), [&](const auto& progress) {
        return stretch_perplexity(model, stretches, ids.read, batch, progress);
      });
  JsonObject result =
      result_of(options, p, context, rolling ? std::string("disjoint") : std::to_string(stride));
  std::string more;
  if (rolling && p.complete && !is_cut) {
    const double sum = p.nll * static_cast<double>(p.tokens);
    const double word = std::exp(sum / static_cast<double>(ids.words));
    const double by_byte = sum / static_cast<double>(ids.bytes);
    result.set("word_perplexity", word).set("byte_perplexity", std::exp(by_byte));
    result.set("bits_per_byte", by_byte / std::log(2.0)).set("words", ids.words);
    more = concat(", word perplexity ", word, ", byte perplexity ", std::exp(by_byte), ", ",
                  by_byte / std::log(2.0), " bits a byte");
  }
  const std::string front = rolling
                                ? concat(", token ", *ids.first, " before each document")
                                : concat(", stride ", stride, bos_text(bos, " before the text"));
  print_result(options, line_of(p, context, protocol + front + more));
  if (!ids.text.empty()) result.set("text", ids.text);
  return result.set("bos", rolling || bos.has_value()).set("complete", p.complete);
}

Outcome ppl(const Options& options, SharedModel& shared) {
  const auto sizes = options.get<std::vector<int64_t>>("eval.ctx_size");
  CHECK_AS(Fault::usage, !sizes.empty(), "--ctx-size: no size");
  const OpenedModel& opened = shared.open(options, *std::max_element(sizes.begin(), sizes.end()));
  LanguageModel& model = *opened.model;
  const auto protocol = options.get<std::string>("eval.protocol");
  const bool llamacpp = protocol == "llamacpp", rolling = protocol == "rolling";
  const bool text = !is_token_file(options, options.get<std::string>("data.file"));
  CHECK_AS(Fault::usage, text || llamacpp || options.get<std::string>("eval.bos") != "on",
           "--bos on: ", protocol,
           " scores the windows of a token file as they are; --protocol llamacpp "
           "puts BOS first in each");
  const std::optional<int32_t> bos =
      bos_id(options, model.vocabulary(), (text && !rolling) || llamacpp);
  check_text_options(options, {options.get<std::string>("data.file")});
  catch_stop_signals();
  const Ids ids = rolling ? open_rolling(options, model.vocabulary())
                          : open_ids(options, model.vocabulary(), bos.has_value());
  if (ranks())
    require_same_on_all_ranks(
        {{"data", digest(ids)}, {"BOS", bos ? std::to_string(*bos) : "none"}});
  std::vector<JsonObject> results;
  for (const int64_t context : sizes) {
    const auto score_by = rolling || protocol == "sliding" ? score_stretches : score;
    results.push_back(score_by(options, model, ids, context, bos));
    if (any_rank(stop_requested())) break;
  }
  const int code = any_rank(stop_requested()) ? kExitStopped : 0;
  if (results.size() == 1) return {results[0], code};
  return {JsonObject().set("results", results), code};
}

}  // namespace

EvaluationTask ppl_task() { return {ppl_table(), ppl}; }

}  // namespace mullion
