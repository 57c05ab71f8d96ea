// Prompts of a file in batches; answers in the file's order, or in a log that a later call goes on.
#include "apps/llama/chat_rows.h"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "apps/llama/answer_stream.h"
#include "apps/llama/chat_messages.h"
#include "apps/llama/evaluation/json_rows.h"
#include "apps/llama/part_log.h"
#include "apps/llama/text_data.h"
#include "apps/program/log.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "tensor/io/file.h"
#include "tensor/io/file_place.h"
#include "tensor/io/json.h"
#include "tensor/io/sha256.h"

namespace mullion {
namespace {

constexpr uint64_t kMostInput = uint64_t{1} << 30;
constexpr const char* kAnswerFields[] = {"text", "stop", "prompt_tokens", "tokens"};
// Of requests to servers: here they are fields like any other, and the call's options count.
constexpr const char* kSettings[] = {"max_tokens",
                                     "max_completion_tokens",
                                     "max_new_tokens",
                                     "temperature",
                                     "top_p",
                                     "top_k",
                                     "min_p",
                                     "seed",
                                     "n",
                                     "system",
                                     "stop_sequences",
                                     "frequency_penalty",
                                     "presence_penalty",
                                     "repetition_penalty",
                                     "repeat_penalty",
                                     "logit_bias",
                                     "logprobs",
                                     "top_logprobs",
                                     "best_of",
                                     "tools",
                                     "functions",
                                     "response_format",
                                     "chat_template"};

// As of a text without a prompt: the space that a SentencePiece text begins with is not its own.
bool is_empty(const nlohmann::json& row) { return row.contains("prompt") && row["prompt"] == ""; }

struct Rows {
  std::vector<nlohmann::json> rows;
  std::vector<std::vector<int32_t>> prompts;
  std::string input = "";  // of rows from standard input: their hash
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
  const int64_t context = Generation(*opened.model, how.cache, how.context).context();
  std::set<std::string> told;
  const auto add = [&](const nlohmann::json& row, const std::string& where) {
    std::vector<int32_t> ids;
    for (const char* setting : kSettings)
      if (row.contains(setting) && told.insert(setting).second)
        log_warning(where, ": ", setting,
                    " sets nothing: the options of this call are for all rows");
    try {
      ids = writer.encode(written(row, where, writer));
    } catch (const Error& error) {
      if (std::string(error.what()).starts_with(where)) throw;
      throw Error(concat(where, ": ", error.what()), Fault::bad_file, error.hint());
    }
    CHECK_AS(Fault::bad_file, !ids.empty(), where, ": the prompt is empty and there is no BOS");
    CHECK_AS(Fault::bad_file, std::ssize(ids) <= context, where, ": a prompt of ", ids.size(),
             " tokens, but the context is ", context);
    found.rows.push_back(row);
    found.prompts.push_back(std::move(ids));
  };
  if (file == "-") {
    const std::string text = standard_input(kMostInput);
    found.input = sha256_hex(text);
    each_json_line(text, "standard input", add);
  } else {
    each_json_row(file, add);
  }
  return found;
}

// Rows as they are finished, in whatever order: to standard output in theirs, or into a log beside
// --output, from which a stopped call goes on and the file is written when all are there.
class RowWriter {
 public:
  // `what`: the job, beside its options. A dry run finds out what would be refused.
  RowWriter(const Options& options, const std::string& what, size_t rows) : lines_(rows) {
    if (!options.has("output.file")) return;
    file_ = options.get<std::filesystem::path>("output.file");
    const auto rows_file = options.get<std::filesystem::path>("prompt.rows");
    std::error_code ignored;
    check_file_place(file_);
    CHECK_AS(Fault::usage, !std::filesystem::equivalent(file_, rows_file, ignored), "--output ",
             file_.string(), ": is the file of the questions");
    std::filesystem::path beside = file_;
    beside += ".part.jsonl";
    log_.emplace(beside, options, what);
    for (const nlohmann::json& line : log_->found()) {
      const std::string where = beside.string();
      const uint64_t row = get_uint(line, where, "row", rows - 1);
      CHECK_AS(Fault::bad_file, line.contains("answer") && line["answer"].is_object(), where,
               ": row ", row, " has no answer");
      get_uint(line["answer"], where, "tokens", uint64_t{1} << 40);
      lines_[row] = text_of(line["answer"]);
    }
    if (!log_->found().empty())
      log_info(beside.string(), ": goes on after ", log_->found().size(), " of ", rows, " rows");
  }
  bool has(size_t row) const { return !lines_[row].empty(); }
  nlohmann::json answer(size_t row) const { return nlohmann::json::parse(lines_[row]); }
  // False: the reader of standard output has gone.
  bool put(size_t row, const nlohmann::json& answer) {
    lines_[row] = text_of(answer);
    if (log_) {
      log_->add(concat("{\"row\":", row, ",\"answer\":", lines_[row], "}"));
      return true;
    }
    for (; next_ < lines_.size() && has(next_); ++next_) {
      const std::string line = lines_[next_] + "\n";
      const bool good = std::fwrite(line.data(), 1, line.size(), stdout) == line.size() &&
                        std::fflush(stdout) == 0;
      if (!good && errno == EPIPE) return false;
      CHECK_AS(Fault::disk, good, "stdout: cannot write a row: ", std::strerror(errno));
    }
    return true;
  }
  // Kept, and where a stopped call finds them or not.
  std::string kept(size_t done) const {
    if (log_)
      return concat("; ", log_->file().string(), " keeps them, and the same command goes on there");
    return concat("; the first ", next_, " are written", next_ < done ? ", the others lost" : "",
                  ", and --output FILE would keep all and go on");
  }
  void commit() {
    if (!log_) return;
    std::string all;
    for (const std::string& line : lines_) all += line + "\n";
    write_whole_file(file_, all);
    log_->remove();
  }

 private:
  static std::string text_of(const nlohmann::json& answer) {
    return answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  std::vector<std::string> lines_;  // "": not yet
  std::filesystem::path file_;
  std::optional<PartLog> log_;
  size_t next_ = 0;  // of standard output
};

}  // namespace

Outcome complete_rows(const Options& options, const OpenedModel& opened, const Tokenizer& tokenizer,
                      const PromptWriter& writer, const GenerateOptions& how) {
  const Rows rows =
      read_rows(options.get<std::filesystem::path>("prompt.rows"), writer, opened, how);
  const size_t count = rows.rows.size();
  size_t prompt_tokens = 0;
  RowWriter out(options, concat("complete", rows.input), count);
  if (options.dry_run) {
    for (const auto& prompt : rows.prompts) prompt_tokens += prompt.size();
    print_result(options, concat(count, " rows, ", prompt_tokens, " tokens"));
    return JsonObject().set("rows", count).set("prompt_tokens", prompt_tokens);
  }
  std::vector<size_t> left;  // to be answered
  std::vector<std::vector<int32_t>> prompts;
  size_t tokens = 0, done = 0;
  bool is_read = true;
  const auto count_in = [&](size_t row, const nlohmann::json& answer) {
    prompt_tokens += rows.prompts[row].size();
    tokens += answer["tokens"].get<size_t>();
    ++done;
  };
  for (size_t row = 0; row < count; ++row) {
    if (out.has(row)) {
      count_in(row, out.answer(row));
      continue;
    }
    left.push_back(row);
    prompts.push_back(rows.prompts[row]);
  }
  const size_t tokens_before = tokens;
  std::vector<std::unique_ptr<AnswerStream>> answers(count);
  catch_stop_signals();
  Progress progress("rows", static_cast<int64_t>(count));
  GenerateEvents events;
  events.on_token = [&](size_t prompt, int32_t id) {
    std::unique_ptr<AnswerStream>& answer = answers[left[prompt]];
    if (!answer)
      answer = std::make_unique<AnswerStream>(
          tokenizer, DecodeOptions{.strip_space_prefix = is_empty(rows.rows[left[prompt]])},
          stop_strings(options), writer.answer_lead());
    answer->push(id);
    return is_read && !stop_requested() && !answer->at_stop_string();
  };
  events.on_end = [&](size_t prompt, const Generated& generated) {
    if (stop_requested() || !is_read) return false;  // it may be cut short
    const size_t row = left[prompt];
    const std::unique_ptr<AnswerStream> answer = std::move(answers[row]);
    if (answer) answer->finish();
    nlohmann::json line = rows.rows[row];
    line["text"] = answer ? answer->text() : "";
    line["stop"] = answer && answer->at_stop_string() ? "stop" : generated.stop;
    line["prompt_tokens"] = rows.prompts[row].size();
    line["tokens"] = generated.ids.size();
    is_read = out.put(row, line);
    count_in(row, line);
    progress.update(static_cast<int64_t>(done));
    return is_read;
  };
  const auto begin = std::chrono::steady_clock::now();
  generate(*opened.model, prompts, how, options.get<int64_t>("generate.parallel"), events);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  progress.finish();
  JsonObject json;
  json.set("rows", count).set("answered", done).set("complete", done == count);
  json.set("prompt_tokens", prompt_tokens).set("tokens", tokens).set("seconds", time.count());
  json.set("tok_s", static_cast<double>(tokens - tokens_before) / std::max(time.count(), 1e-9));
  if (!is_read) return json;
  if (done < count) {
    log_warning("stopped by ", stop_reason(), " after ", done, " of ", count, " rows",
                out.kept(done));
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
