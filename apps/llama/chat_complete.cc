// chat_llama complete: continues one text or answers it, or a file of many.
#include <chrono>

#include "apps/llama/answer_stream.h"
#include "apps/llama/cache_options.h"
#include "apps/llama/chat_rows.h"
#include "apps/llama/chat_verbs.h"
#include "apps/llama/generation_options.h"
#include "apps/llama/text_data.h"
#include "apps/program/log.h"
#include "apps/program/signals.h"
#include "tensor/io/file.h"

namespace mullion {
namespace {

constexpr uint64_t kMaxPromptBytes = 64 << 20;

// What says something about one prompt, or about many, alone.
void tell_idle(const Options& options) {
  const bool rows = options.has("prompt.rows");
  for (const auto& [key, flag] : {std::pair{"prompt.text", "--prompt"},
                                  {"prompt.file", "--file"},
                                  {"cache.trace", "--kv-trace"}})
    CHECK_AS(Fault::usage, !rows || !options.has(key), flag,
             ": is for one prompt, not for --jsonl");
  CHECK_AS(Fault::usage,
           !options.has("prompt.bos") || options.get<std::string>("prompt.template") == "none",
           "--bos: what a conversation begins with is the template's to say; --template none");
}

std::string prompt_text(const Options& options) {
  CHECK_AS(Fault::usage, !options.has("prompt.text") || !options.has("prompt.file"),
           "--prompt and --file: only one of them");
  if (options.has("prompt.text")) return utf8_option(options, "prompt.text", "--prompt");
  if (!options.has("prompt.file")) return "";
  const auto file = options.get<std::filesystem::path>("prompt.file");
  const bool input = file == "-";
  return decode_text(
      input ? standard_input(kMaxPromptBytes) : read_whole_file(file, kMaxPromptBytes),
      text_encoding(options.get<std::string>("data.encoding")),
      input ? "standard input" : file.string());
}

GenerateOptions generate_options(const Options& options) {
  GenerateOptions result;
  result.max_tokens = options.get<int64_t>("generate.tokens");
  result.sampling = sampling_options(options);
  result.cache = cache_options(options);
  result.context = options.get<int64_t>("generate.context");
  return result;
}

// What a cache holds when each token is picked, one JSON object a line: {"prompt": [ids]}, then
// {"token": id, "kept": [layer][KV head][positions]}.
class KvTrace {
 public:
  KvTrace(const std::filesystem::path& path, const KvCacheShape& shape,
          const std::vector<int32_t>& prompt)
      : file_(path), shape_(shape) {
    line(JsonObject().set("prompt", prompt));
  }
  void write(const KvCache& cache, int32_t token) {
    std::vector<std::vector<std::vector<int64_t>>> kept;
    for (int64_t layer = 0; layer < shape_.layers; ++layer) {
      kept.emplace_back();
      for (int64_t head = 0; head < shape_.kv_heads; ++head)
        kept.back().push_back(cache.kept(layer, head));
    }
    line(JsonObject().set("token", token).set("kept", kept));
  }
  void commit() { file_.commit(); }

 private:
  void line(const JsonObject& json) {
    const std::string text = json.text() + "\n";
    file_.write_at(written_, std::as_bytes(std::span(text)));
    written_ += text.size();
  }
  AtomicFile file_;
  uint64_t written_ = 0;
  KvCacheShape shape_;
};

std::unique_ptr<KvTrace> open_trace(const Options& options, const KvCacheShape& shape,
                                    const std::vector<int32_t>& prompt) {
  if (!options.has("cache.trace")) return nullptr;
  return std::make_unique<KvTrace>(options.get<std::filesystem::path>("cache.trace"), shape,
                                   prompt);
}

}  // namespace

OptionTable complete_table() {
  OptionTable table("chat_llama complete", "Continues a text, or answers it: one, or many");
  add_model_options(table);
  table.add_optional<std::string>("prompt.text", "-p,--prompt", "the text to continue");
  table.add_optional<std::filesystem::path>("prompt.file", "-f,--file",
                                            "a file with it; - is standard input");
  table.add_optional<std::filesystem::path>(
      "prompt.rows", "--jsonl",
      "a file of many, - is standard input: {\"prompt\": TEXT} or {\"messages\": [...]} a "
      "line; their "
      "answers are rows with the same fields, and text, stop, prompt_tokens, tokens");
  add_encoding(table);
  add_prompt_options(table, "none");
  table.at("data.encoding").only_with("prompt.file").refused_idle();  // JSON is UTF-8
  table.add_optional<bool>("prompt.bos", "--bos", "BOS first (unset: as the tokenizer does)");
  table.add("generate.tokens", "-n,--n-predict,--max-tokens", 256,
            "tokens at most; 0: as many as the context holds");
  table.add("generate.context", "--ctx-size", 0,
            "tokens at most that the model sees; 0: its context");
  add_sampling_options(table);
  add_stop_option(table);
  need_temperature(table);
  table.add("generate.ignore_eos", "--ignore-eos", false, "go on after an end-of-text token");
  table.add("generate.parallel", "--parallel", 4, "rows of --jsonl decoded together")
      .range(1, 1024)
      .free_on_resume();
  table
      .add_optional<std::filesystem::path>(
          "output.file", "-o,--output",
          "the rows of --jsonl; a stopped call goes on from FILE.part.jsonl; unset: standard "
          "output")
      .free_on_resume();
  for (const char* key : {"generate.parallel", "output.file"})
    table.at(key).only_with("prompt.rows").refused_idle();
  add_cache_options(table);
  table.add_optional<std::filesystem::path>(
      "cache.trace", "--kv-trace",
      "file for a line a token: the positions held by each layer and KV head");
  return table;
}

Outcome complete_text(const Options& options) {
  tell_idle(options);
  GenerateOptions how = generate_options(options);
  const OpenedModel opened = open_model(options, how.context);
  const auto tokenizer = open_tokenizer_of_rows(options, opened.model->vocabulary());
  PromptWriter writer = prompt_writer(options, *tokenizer);
  if (options.has("prompt.bos")) writer.set_bos(options.get<bool>("prompt.bos"));
  if (writer.chat()) log_info("template   ", writer.chat()->describe());
  if (!options.get<bool>("generate.ignore_eos")) how.stop_ids = writer.stop_ids(opened);
  if (how.cache.is_bounded()) log_info("KV cache: ", describe(how.cache));
  if (options.has("prompt.rows")) return complete_rows(options, opened, *tokenizer, writer, how);

  const std::string prompt = prompt_text(options);
  const std::vector<int32_t> ids = writer.encode(writer.one(prompt));
  Generation session(*opened.model, how.cache, how.context);
  CHECK_AS(Fault::usage, std::ssize(ids) <= session.context(),
           options.has("prompt.file") ? options.get<std::string>("prompt.file") : "--prompt",
           ": a prompt of ", ids.size(), " tokens, but the context is ", session.context());
  how.before = ids;
  if (options.dry_run) {
    print_result(options,
                 concat("a prompt of ", ids.size(), " tokens in a context of ", session.context(),
                        ", and at most ",
                        how.max_tokens > 0 ? concat(how.max_tokens) : "as many as it holds",
                        " of an answer"));
    return JsonObject().set("prompt_tokens", ids.size()).set("ids", ids);
  }
  // The space that a SentencePiece text begins with belongs to the prompt where there is one.
  AnswerStream answer(*tokenizer, {.strip_space_prefix = writer.is_plain() && prompt.empty()},
                      stop_strings(options), writer.answer_lead());
  const Generation::Row row = session.add();
  const std::unique_ptr<KvTrace> trace = open_trace(options, opened.model->cache_shape(), ids);
  if (writer.is_plain()) print_text(options, prompt);
  catch_stop_signals();
  how.on_token = [&](int32_t id) {
    if (trace) trace->write(session.cache(row), id);
    print_text(options, answer.push(id));
    return !stop_requested() && !answer.at_stop_string();
  };
  const auto begin = std::chrono::steady_clock::now();
  session.feed(row, ids);
  const auto decoding = std::chrono::steady_clock::now();
  const Generated generated = continue_text(session, row, how);
  const auto end = std::chrono::steady_clock::now();
  print_text(options, answer.finish() + "\n");
  if (generated.stop == "context" && how.max_tokens > 0)
    log_warning("the context ends after ", generated.ids.size(), " of the ", how.max_tokens,
                " tokens: it has ", session.context());
  if (trace) trace->commit();
  const KvCache& cache = session.cache(row);
  const auto rate = [](size_t tokens, std::chrono::duration<double> time) {
    return static_cast<double>(tokens) / std::max(time.count(), 1e-9);
  };
  JsonObject json;
  json.set("prompt", prompt);
  if (writer.chat()) json.set("template", name_of(writer.chat()->format()));
  return json.set("text", answer.text())
      .set("prompt_tokens", ids.size())
      .set("tokens", generated.ids.size())
      .set("ids", generated.ids)
      .set("stop", answer.at_stop_string() ? "stop" : generated.stop)
      .set("prefill_tok_s", rate(ids.size(), decoding - begin))
      .set("decode_tok_s", rate(generated.ids.size(), end - decoding))
      .set("cache", cache_json(how.cache)
                        .set("held", cache.held())
                        .set("bytes", cache.bytes())
                        .set("peak_bytes", cache.peak_bytes()));
}

}  // namespace mullion
