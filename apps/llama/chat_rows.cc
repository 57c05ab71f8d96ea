#include "apps/llama/chat_rows.h"

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/llama/answer_stream.h"
#include "apps/llama/chat_messages.h"
#include "apps/llama/evaluation/json_rows.h"
#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "tensor/io/file.h"

namespace mullion {
namespace {

constexpr const char* kAnswerFields[] = {"text", "stop", "prompt_tokens", "tokens"};

// As of a text without a prompt: the space that a SentencePiece text begins with is not its own.
bool is_empty(const nlohmann::json& row) { return row.contains("prompt") && row["prompt"] == ""; }

struct Rows {
  std::vector<nlohmann::json> rows;
  std::vector<std::vector<int32_t>> prompts;
};

std::string written(const nlohmann::json& row, const std::string& where,
                    const PromptWriter& writer) {
  const auto prompt = row.find("prompt"), messages = row.find("messages");
  CHECK_AS(Fault::bad_file, (prompt != row.end()) != (messages != row.end()), where,
           ": needs the field prompt or the field messages, and has ",
           prompt == row.end() ? "neither" : "both");
  for (const char* field : kAnswerFields)
    CHECK_AS(Fault::bad_file, !row.contains(field), where, ": has a field ", field,
             " already, which the answer would have");
  if (prompt != row.end()) {
    CHECK_AS(Fault::bad_file, prompt->is_string(), where, ": prompt is no string");
    return writer.one(prompt->get<std::string>());
  }
  std::vector<Turn> turns = parse_messages(*messages, where);
  if (writer.is_plain())
    throw Error(concat(where, ": messages, but --template none writes no conversation"),
                Fault::usage, "--template auto");
  return writer.all(std::move(turns));
}

Rows read_rows(const std::filesystem::path& file, const PromptWriter& writer,
               const OpenedModel& opened, const GenerateOptions& how) {
  Rows found;
  each_json_row(file, [&](const nlohmann::json& row, const std::string& where) {
    std::vector<int32_t> ids;
    try {
      ids = writer.encode(written(row, where, writer));
    } catch (const Error& error) {
      if (std::string(error.what()).starts_with(where)) throw;
      throw Error(concat(where, ": ", error.what()), Fault::bad_file, error.hint());
    }
    CHECK_AS(Fault::bad_file, !ids.empty(), where, ": the prompt is empty and there is no BOS");
    CHECK_AS(Fault::bad_file, std::ssize(ids) <= opened.model->context(), where, ": a prompt of ",
             ids.size(), " tokens, but the model's context is ", opened.model->context());
    if (how.cache.kind != KvKind::full) kv_shares(how.cache, std::ssize(ids));
    found.rows.push_back(row);
    found.prompts.push_back(std::move(ids));
  });
  return found;
}

// Rows as they are finished, in whatever order, written in theirs.
class RowWriter {
 public:
  explicit RowWriter(const Options& options, size_t rows) : lines_(rows) {
    if (options.has("output.file"))
      file_ = std::make_unique<AtomicFile>(options.get<std::filesystem::path>("output.file"));
  }
  void put(size_t row, std::string line) {
    lines_[row] = std::move(line);
    for (; next_ < lines_.size() && !lines_[next_].empty(); ++next_) {
      write(lines_[next_] + "\n");
      lines_[next_].clear();
      lines_[next_].shrink_to_fit();
    }
  }
  size_t rows() const { return next_; }  // written
  void commit() {
    if (file_) file_->commit();
  }

 private:
  void write(const std::string& text) {
    if (file_) {
      file_->write_at(bytes_, std::as_bytes(std::span(text)));
    } else {
      const bool good = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
                        std::fflush(stdout) == 0;
      CHECK_AS(Fault::disk, good, "stdout: cannot write a row");
    }
    bytes_ += text.size();
  }
  std::vector<std::string> lines_;
  std::unique_ptr<AtomicFile> file_;
  size_t next_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace

Outcome complete_rows(const Options& options, const OpenedModel& opened, const Tokenizer& tokenizer,
                      const PromptWriter& writer, const GenerateOptions& how) {
  const Rows rows =
      read_rows(options.get<std::filesystem::path>("prompt.rows"), writer, opened, how);
  const size_t count = rows.rows.size();
  size_t prompt_tokens = 0;
  if (options.dry_run) {
    for (const auto& prompt : rows.prompts) prompt_tokens += prompt.size();
    print_result(options, concat(count, " rows, ", prompt_tokens, " tokens"));
    return JsonObject().set("rows", count).set("prompt_tokens", prompt_tokens);
  }
  RowWriter out(options, count);
  std::vector<std::unique_ptr<AnswerStream>> answers(count);
  size_t tokens = 0, done = 0;
  catch_stop_signals();
  Progress progress("rows", static_cast<int64_t>(count));
  GenerateEvents events;
  events.on_token = [&](size_t row, int32_t id) {
    if (!answers[row])
      answers[row] = std::make_unique<AnswerStream>(
          tokenizer, DecodeOptions{.strip_space_prefix = is_empty(rows.rows[row])},
          stop_strings(options), writer.answer_lead());
    answers[row]->push(id);
    return !stop_requested() && !answers[row]->at_stop_string();
  };
  events.on_end = [&](size_t row, const Generated& generated) {
    if (stop_requested()) return false;  // it may be cut short
    const std::unique_ptr<AnswerStream> answer = std::move(answers[row]);
    if (answer) answer->finish();
    nlohmann::json line = rows.rows[row];
    line["text"] = answer ? answer->text() : "";
    line["stop"] = answer && answer->at_stop_string() ? "stop" : generated.stop;
    line["prompt_tokens"] = rows.prompts[row].size();
    line["tokens"] = generated.ids.size();
    out.put(row, line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    prompt_tokens += rows.prompts[row].size();
    tokens += generated.ids.size();
    progress.update(static_cast<int64_t>(++done));
    return true;
  };
  const auto begin = std::chrono::steady_clock::now();
  generate(*opened.model, rows.prompts, how, options.get<int64_t>("generate.parallel"), events);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  progress.finish();
  JsonObject json;
  json.set("rows", count).set("answered", out.rows()).set("complete", !stop_requested());
  json.set("prompt_tokens", prompt_tokens).set("tokens", tokens).set("seconds", time.count());
  json.set("tok_s", static_cast<double>(tokens) / std::max(time.count(), 1e-9));
  if (stop_requested()) {
    log_warning("stopped by ", stop_reason(), " after ", out.rows(), " of ", count, " rows",
                options.has("output.file") ? "; --output is not written" : "");
    return {json, kExitStopped};
  }
  out.commit();
  if (options.has("output.file")) {
    const auto file = options.get<std::string>("output.file");
    log_info(file, ": ", count, " rows, ", tokens, " tokens in ", time.count(), " s");
    json.set("file", file);
  }
  return json;
}

}  // namespace mullion
