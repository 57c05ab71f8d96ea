#include <chrono>
#include <iostream>

#include "apps/llama/cache_options.h"
#include "apps/llama/chat_verbs.h"
#include "apps/llama/generation_options.h"
#include "apps/llama/model_options.h"
#include "apps/llama/text_data.h"
#include "apps/program/log.h"
#include "apps/program/signals.h"
#include "data/text_stream.h"
#include "models/llama/generate.h"
#include "tensor/io/file.h"

namespace mullion {
namespace {

constexpr uint64_t kMaxPromptBytes = 64 << 20;

std::string standard_input() {
  std::string text;
  std::vector<char> block(1 << 16);
  while (std::cin.read(block.data(), std::ssize(block)) || std::cin.gcount() > 0) {
    text.append(block.data(), static_cast<size_t>(std::cin.gcount()));
    CHECK_AS(Fault::bad_file, text.size() <= kMaxPromptBytes, "standard input: more than ",
             kMaxPromptBytes, " bytes of prompt");
  }
  return text;
}

std::string prompt_text(const Options& options) {
  CHECK_AS(Fault::usage, !options.has("prompt.text") || !options.has("prompt.file"),
           "--prompt and --file: only one of them");
  if (options.has("prompt.text")) return options.get<std::string>("prompt.text");
  if (!options.has("prompt.file")) return "";
  const auto file = options.get<std::filesystem::path>("prompt.file");
  const bool input = file == "-";
  return decode_text(input ? standard_input() : read_whole_file(file, kMaxPromptBytes),
                     text_encoding(options.get<std::string>("data.encoding")),
                     input ? "standard input" : file.string());
}

GenerateOptions generate_options(const Options& options) {
  GenerateOptions result;
  result.max_tokens = options.get<int64_t>("generate.tokens");
  result.sampling = sampling_options(options);
  result.cache = cache_options(options);
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
  OptionTable table("chat_llama complete", "Continues a text");
  add_model_options(table);
  table.add_optional<std::string>("prompt.text", "-p,--prompt", "the text to continue");
  table.add_optional<std::filesystem::path>("prompt.file", "-f,--file",
                                            "a file with it; - is standard input");
  add_encoding(table);
  table.add_optional<bool>("prompt.bos", "--bos", "BOS first (unset: as the tokenizer does)");
  table.add("generate.tokens", "-n,--n-predict,--max-tokens", 256,
            "tokens at most; 0: as many as the context holds");
  table.add("generate.context", "--ctx-size", 0, "context to check for; 0: the model's");
  add_sampling_options(table);
  table.add("generate.ignore_eos", "--ignore-eos", false, "go on after an end-of-text token");
  add_cache_options(table);
  table.add_optional<std::filesystem::path>(
      "cache.trace", "--kv-trace",
      "file for a line a token: the positions held by each layer and KV head");
  return table;
}

Outcome complete_text(const Options& options) {
  const OpenedModel opened = open_model(options, options.get<int64_t>("generate.context"));
  const auto tokenizer = open_tokenizer(options, opened.model->vocabulary());
  const std::string prompt = prompt_text(options);
  EncodeOptions encode;
  encode.bos = options.has("prompt.bos") ? options.get<bool>("prompt.bos") : tokenizer->add_bos();
  encode.parse_specials = true;
  const std::vector<int32_t> ids = tokenizer->encode(prompt, encode);

  GenerateOptions how = generate_options(options);
  if (!options.get<bool>("generate.ignore_eos")) how.stop_ids = stop_ids(opened, *tokenizer);
  // The space that a SentencePiece text begins with belongs to the prompt where there is one.
  const DecodeOptions decode{.strip_space_prefix = prompt.empty()};
  TextStream stream(*tokenizer, decode);
  Generation session(*opened.model, how.cache);
  const Generation::Row row = session.add();
  const std::unique_ptr<KvTrace> trace = open_trace(options, opened.model->cache_shape(), ids);
  if (how.cache.kind != KvKind::full) log_info("KV cache: ", describe(how.cache));
  print_text(options, prompt);
  catch_stop_signals();
  how.on_token = [&](int32_t id) {
    if (trace) trace->write(session.cache(row), id);
    if (!options.json) print_text(options, stream.push(id));
    return !stop_requested();
  };
  const auto begin = std::chrono::steady_clock::now();
  session.feed(row, ids);
  const auto decoding = std::chrono::steady_clock::now();
  const Generated generated = continue_text(session, row, how);
  const auto end = std::chrono::steady_clock::now();
  print_text(options, stream.finish() + "\n");
  if (trace) trace->commit();
  const KvCache& cache = session.cache(row);
  const auto rate = [](size_t tokens, std::chrono::duration<double> time) {
    return static_cast<double>(tokens) / std::max(time.count(), 1e-9);
  };
  return JsonObject()
      .set("prompt", prompt)
      .set("text", tokenizer->decode(generated.ids, decode))
      .set("prompt_tokens", ids.size())
      .set("tokens", generated.ids.size())
      .set("ids", generated.ids)
      .set("stop", generated.stop)
      .set("prefill_tok_s", rate(ids.size(), decoding - begin))
      .set("decode_tok_s", rate(generated.ids.size(), end - decoding))
      .set("cache", cache_json(how.cache)
                        .set("held", cache.held())
                        .set("bytes", cache.bytes())
                        .set("peak_bytes", cache.peak_bytes()));
}

}  // namespace mullion
