// A rate measured on this machine by a short run of each model, times what the jobs ask for.
#include "apps/reproduce/estimate.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "apps/report/chart.h"
#include "apps/reproduce/child.h"
#include "models/llama/cost.h"
#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
constexpr int64_t kContext = 512, kRows = 2;

// A folder that goes away.
struct Scratch {
  fs::path path = fs::temp_directory_path() / concat("mullion-rate-", ::getpid());
  Scratch() { fs::create_directories(path); }
  ~Scratch() {
    std::error_code none;
    fs::remove_all(path, none);
  }
};

void call(const Scratch& scratch, const std::string& program,
          const std::vector<std::string>& words) {
  const fs::path log = scratch.path / "log";
  const ChildResult result = run_child(program_folder() / program, words, log);
  CHECK(result.code == 0, "the step that is to be measured: ", quoted_command(program, words),
        " ended with ", result.code);
}

double step_rate(Scale scale) {
  const Scratch scratch;
  const std::string text = (scratch.path / "text.bin").string();
  const fs::path model = scratch.path / "model", config_file = model / "config.json";
  call(scratch, "data_llama",
       {"lexicon", "--rows", "16", "--length", std::to_string(kContext), "--output", text,
        "--model-dir", model.string(), "--heads", "4"});
  if (scale != Scale::mini) {
    nlohmann::json config = read_json_file(config_file);
    config["hidden_size"] = 512;
    config["intermediate_size"] = 1408;
    config["num_attention_heads"] = config["num_key_value_heads"] = 8;
    config["num_hidden_layers"] = 4;
    write_json_file(config_file, config);
  }
  const LlamaConfig config = read_llama_config(config_file);
  const AttentionPattern pattern =
      make_pattern("full", {.n_heads = config.num_attention_heads, .context = kContext});
  std::vector<std::string> words =
      words_in(concat("pretrain --ctx-size ", kContext, " --batch-size ", kRows,
                      " --grad-accum-steps 1 --max-steps 3 --attn full --save-every 0 --name run "
                      "--warmup-steps 0"));
  words.insert(words.end(), {"--model-config", config_file.string(), "--data", text, "--output",
                             scratch.path.string()});
  call(scratch, "train_llama", words);
  double tokens_a_second = 0;
  std::ifstream metrics(scratch.path / "run/metrics.jsonl");
  for (std::string line; std::getline(metrics, line);)
    if (line.find("\"tok_s\"") != line.npos)
      tokens_a_second = parse_json(line, "metrics.jsonl").at("tok_s").get<double>();
  const LlamaCost cost = llama_cost(config, {.pattern = pattern,
                                             .context = kContext,
                                             .pass_tokens = kRows * kContext,
                                             .rows = kRows,
                                             .row_tokens = kContext});
  return cost.operations / 1e12 * tokens_a_second / (kRows * kContext);
}

// Of tic-n as it is, or of tic-t on its images of 224 pixels.
double tic_step_rate(Scale scale) {
  const Scratch scratch;
  const std::string model = scale == Scale::paper ? "tic-t" : "tic-n",
                    batch = scale == Scale::paper ? "2" : "64";
  const ChildResult result = run_child(
      program_folder() / "tool_tic",
      {"bench", "--model", model, "--mode", "train", "-b", batch, "--repeats", "1", "--json"},
      scratch.path / "log");
  CHECK(result.code == 0, "the step that is to be measured: tool_tic bench ended with ",
        result.code);
  const nlohmann::json row = parse_json(result.last, "tool_tic bench").at("results").at(0);
  return 6e-3 * row.at("gmacs").get<double>() * row.at("img_s").get<double>();
}

bool is_of_tic(const Job& job) { return job.program.ends_with("_tic"); }

}  // namespace

Estimate estimate(const std::vector<Job>& jobs, const Rate& rate, double pause) {
  Estimate sum;
  for (const Job& job : jobs) {
    sum.tflop += job.cost.tflop;
    sum.seconds += pause + job.cost.tflop / (is_of_tic(job) ? rate.tic : rate.llama);
    sum.gib = std::max(sum.gib, job.cost.gib);
  }
  return sum;
}

Rate usual_rate(Scale scale) {
  switch (scale) {
    case Scale::mini:
      return {0.1, 0.12, "2 cores"};
    case Scale::small:
      return {0.15, 0.12, "2 cores"};
    case Scale::paper:
      return {125, 62, "an A100 at 40 % of its 312 TFLOP/s (TiC: 20 %)"};
  }
  fail(Fault::other, "no such scale");
}

Rate measured_rate(Scale scale, const std::vector<Job>& jobs, const fs::path& arms) {
  Rate rate;
  std::string where;
  for (const bool tic : {false, true}) {
    double tflop = 0, seconds = 0;
    int64_t trainings = 0;
    bool needed = false;
    for (const Job& job : jobs) {
      if (is_of_tic(job) != tic) continue;
      needed = true;
      const fs::path note = arms / job.name / "job.json";
      if (!job.trains || !fs::exists(note)) continue;
      const nlohmann::json record = read_json_file(note);
      if (!record.at("complete").get<bool>()) continue;
      tflop += job.cost.tflop;
      seconds += record.at("seconds").get<double>();
      ++trainings;
    }
    if (!needed) continue;
    const bool by_arms = seconds > 0 && tflop > 0;
    (tic ? rate.tic : rate.llama) = by_arms ? tflop / seconds
                                    : tic   ? tic_step_rate(scale)
                                            : step_rate(scale);
    where += concat(where.empty() ? "this machine, " : "; ",
                    by_arms ? concat("by ", trainings, " arms that are complete")
                            : std::string("by one measured step of a small model"),
                    " (", short_number(tic ? rate.tic : rate.llama), " TFLOP/s)");
  }
  rate.where = where;
  return rate;
}

std::string hours_text(double seconds) {
  if (seconds < 100) return short_number(std::ceil(seconds)) + " s";
  if (seconds < 7200) return short_number(std::ceil(seconds / 60)) + " min";
  const double hours = seconds / 3600;
  return short_number(hours < 100 ? std::round(hours * 10) / 10 : std::round(hours)) + " h";
}

}  // namespace mullion
