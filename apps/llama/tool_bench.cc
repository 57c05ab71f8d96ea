// tool_llama bench: tokens a second of prompts and of decoding, as llama-bench tabulates them.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <set>
#include <utility>

#include "apps/llama/model_options.h"
#include "apps/llama/tool_verbs.h"
#include "apps/program/main.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "apps/run/run_checkpoint.h"
#include "models/llama/export_gguf.h"
#include "models/llama/generate.h"
#include "tensor/io/file.h"
#include "tensor/io/file_place.h"
#include "tensor/parallel.h"
#include "tensor/random.h"
#include "tensor/words.h"

namespace mullion {
namespace {
namespace fs = std::filesystem;

// A row of the table: a prompt of so many tokens in one block, or so many tokens one by one, in a
// cache that has seen `depth` tokens.
struct Test {
  int64_t prompt = 0, decoded = 0, depth = 0;
  int64_t tokens() const { return prompt + decoded; }
  std::string name() const {  // "pp512", "tg128 @ d4096"
    return concat(prompt ? "pp" : "tg", tokens(), depth ? concat(" @ d", depth) : "");
  }
};

std::vector<Test> tests_of(const Options& options) {
  const auto list = [&](const char* key, const char* flag, int64_t least) {
    auto values = options.get<std::vector<int64_t>>(key);
    for (const int64_t v : values)
      CHECK_AS(Fault::usage, v >= least, flag, ": ", v, " tokens; 0 leaves the test out");
    return values;
  };
  std::vector<Test> tests;
  for (const int64_t depth : list("bench.depth", "--depth", 0)) {
    for (const int64_t n : list("bench.prompt", "--n-prompt", 0))
      if (n > 0) tests.push_back({.prompt = n, .depth = depth});
    for (const int64_t n : list("bench.decode", "--n-gen", 0))
      if (n > 0) tests.push_back({.decoded = n, .depth = depth});
  }
  CHECK_AS(Fault::usage, !tests.empty(), "--n-prompt and --n-gen are 0: there is nothing to time");
  return tests;
}

std::vector<int32_t> made_up_ids(int64_t count, int64_t vocabulary) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(mix_bits(i, 2) % static_cast<uint64_t>(vocabulary));
  return ids;
}

// Tokens a second, once. What fills the cache up to the depth is not timed.
double rate_of(const LanguageModel& model, const Test& test, const std::vector<int32_t>& ids) {
  const std::span all(ids);
  Generation session(model);
  const Generation::Row row = session.add();
  if (test.depth > 0) session.feed(row, all.first(static_cast<size_t>(test.depth)));
  const auto fresh =
      all.subspan(static_cast<size_t>(test.depth), static_cast<size_t>(test.tokens()));
  const auto begin = std::chrono::steady_clock::now();
  if (test.prompt > 0) {
    session.feed(row, fresh);
  } else {
    for (const int32_t id : fresh) {
      const Generation::Next next{row, id};
      session.step(std::span(&next, 1));
    }
  }
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  return static_cast<double>(test.tokens()) / std::max(time.count(), 1e-9);
}

struct Rates {
  double mean = 0, deviation = 0;  // of the sample; 0 for one repetition
};

Rates summary_of(const std::vector<double>& rates) {
  Rates r;
  const auto n = static_cast<double>(rates.size());
  for (const double rate : rates) r.mean += rate / n;
  if (rates.size() < 2) return r;
  double squares = 0;
  for (const double rate : rates) squares += (rate - r.mean) * (rate - r.mean);
  r.deviation = std::sqrt(squares / (n - 1));
  return r;
}

std::string decimals(double value, int places) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", places, value);
  return text;
}

// As the file says of itself; where it does not, the type of its matrices, or the types.
std::string type_text(const LlamaCheckpoint& checkpoint) {
  if (checkpoint.gguf)
    if (const auto said = checkpoint.gguf->find_uint("general.file_type", UINT32_MAX))
      if (const char* name = gguf_file_type_name(*said)) return name;
  std::set<std::string> types;
  for (const TensorEntry& entry : checkpoint.weights->entries())
    if (entry.shape.size() > 1) types.emplace(name_of(entry.type));
  return (types.size() > 1 ? "mixed " : "") + joined(types, "+");
}

// "llama 135M Q4_1"
struct ModelLine {
  std::string name;
  uint64_t bytes = 0, parameters = 0;
};

std::string rounded_count(uint64_t n) {
  const auto count = static_cast<double>(n);
  if (n >= 950'000'000) return decimals(count / 1e9, 1) + "B";
  return n >= 950'000 ? decimals(count / 1e6, 0) + "M" : decimals(count / 1e3, 0) + "K";
}

ModelLine describe(const fs::path& path) {
  ModelLine line;
  require_whole(path);
  const LlamaCheckpoint checkpoint = open_llama_checkpoint(path);
  for (const TensorEntry& entry : checkpoint.weights->entries()) {
    line.bytes += entry.bytes;
    line.parameters += entry.count;
  }
  line.name = concat("llama ", rounded_count(line.parameters), " ", type_text(checkpoint));
  return line;
}

// Column widths: the model's name may be longer than its own.
std::string table_line(const std::vector<std::string>& cells) {
  constexpr size_t kWidths[] = {20, 11, 10, 7, 7, 7, 16, 18};
  std::string text = "|";
  for (size_t i = 0; i < cells.size(); ++i) {
    const size_t shown =
        cells[i].find("±") == std::string::npos ? cells[i].size() : cells[i].size() - 1;
    const std::string pad(shown < kWidths[i] ? kWidths[i] - shown : 0, ' ');
    text += i == 0 || i == 3 ? concat(" ", cells[i], pad, " |") : concat(" ", pad, cells[i], " |");
  }
  return text;
}

}  // namespace

OptionTable bench_table() {
  OptionTable table("tool_llama bench", "Times prompts and decoding: tokens a second");
  add_model_options(table);
  table.add("bench.prompt", "-p,--n-prompt", std::vector<int64_t>{512},
            "tokens of a prompt, or several sizes; 0: no prompts");
  table.add("bench.decode", "-n,--n-gen", std::vector<int64_t>{128},
            "tokens decoded one by one, or several sizes; 0: none");
  table.add("bench.depth", "-d,--depth", std::vector<int64_t>{0},
            "tokens in the cache before, or several depths");
  table.add("bench.repetitions", "-r,--repetitions", 5, "of each test, after one that is not timed")
      .at_least(1);
  table.add_optional<fs::path>("bench.csv", "--csv", "file for the table as CSV as well");
  return table;
}

Outcome bench_model(const Options& options) {
  const std::vector<Test> tests = tests_of(options);
  int64_t longest = 0;
  for (const Test& test : tests) longest = std::max(longest, test.depth + test.tokens());
  const ModelLine line = describe(model_path(options));  // first: its texts are not held by then
  const OpenedModel opened = open_model(options, longest);
  const LanguageModel& model = *opened.model;
  const Device device = model.device();
  const std::string backend =
      device.type == DeviceType::cpu ? "cpu" : concat(name_of(device), ":", device.index);
  const std::string& held = opened.weights;
  JsonObject result;
  result.set("model", line.name).set("path", opened.path.string());
  result.set("bytes", line.bytes).set("parameters", line.parameters).set("backend", backend);
  result.set("threads", num_threads()).set("weights", held);
  if (options.has("bench.csv"))  // now, not after the work
    check_file_place(options.get<fs::path>("bench.csv"));
  if (options.dry_run) {
    print_result(options,
                 concat(line.name, " on ", backend, ", ", num_threads(), " threads, weights ", held,
                        ": would be timed ", options.get<int64_t>("bench.repetitions"),
                        " times: ", joined(tests, ", ", [](const Test& t) { return t.name(); })));
    return result;
  }
  catch_stop_signals();
  const auto repetitions = options.get<int64_t>("bench.repetitions");
  const std::vector<int32_t> ids = made_up_ids(longest, model.vocabulary());
  print_text(options, table_line({"model", "size", "params", "backend", "threads", "weights",
                                  "test", "t/s"}) +
                          "\n| -------------------- | ----------: | ---------: | ------- | ------: "
                          "| ------: | ---------------: | -----------------: |\n");
  std::string csv = "model,bytes,parameters,backend,threads,weights,test,depth,t_s,t_s_deviation\n";
  std::vector<JsonObject> rows;
  Progress progress("bench", std::ssize(tests) * (repetitions + 1));
  int64_t done = 0;
  for (const Test& test : tests) {
    release_cached_memory(device);  // the caches of the test before
    std::vector<double> rates;
    for (int64_t r = 0; r <= repetitions && !stop_requested(); ++r) {
      const double rate = rate_of(model, test, ids);
      if (r > 0) rates.push_back(rate);  // the first one finds cold caches
      progress.update(++done, test.name());
    }
    if (rates.empty()) break;
    const Rates r = summary_of(rates);
    print_text(options, table_line({line.name,
                                    decimals(static_cast<double>(line.bytes) / 1048576, 2) + " MiB",
                                    decimals(static_cast<double>(line.parameters) / 1e6, 2) + " M",
                                    backend, concat(num_threads()), held, test.name(),
                                    decimals(r.mean, 2) + " ± " + decimals(r.deviation, 2)}) +
                            "\n");
    csv += concat(line.name, ",", line.bytes, ",", line.parameters, ",", backend, ",",
                  num_threads(), ",", held, ",", test.prompt ? "pp" : "tg", test.tokens(), ",",
                  test.depth, ",", r.mean, ",", r.deviation, "\n");
    rows.push_back(JsonObject()
                       .set("test", test.name())
                       .set("n_prompt", test.prompt)
                       .set("n_gen", test.decoded)
                       .set("n_depth", test.depth)
                       .set("tok_s", r.mean)
                       .set("tok_s_deviation", r.deviation)
                       .set("samples", rates));
  }
  progress.finish();
  if (options.has("bench.csv")) write_whole_file(options.get<fs::path>("bench.csv"), csv);
  return {result.set("results", rows), stop_requested() ? kExitStopped : 0};
}

}  // namespace mullion
