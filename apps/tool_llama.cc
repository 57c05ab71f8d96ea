// A LLaMA out of the door:
//   tool_llama merge -m BASE --adapter RUN -o FOLDER
#include "apps/llama/companions.h"
#include "apps/llama/model_options.h"
#include "apps/llama/model_out.h"
#include "apps/program/log.h"
#include "apps/program/main.h"
#include "models/llama/hf_folder.h"
#include "tensor/io/atomic_folder.h"

namespace mullion {
namespace {
namespace fs = std::filesystem;

OptionTable merge_table() {
  OptionTable table("tool_llama merge",
                    "Merges an adapter into its base, as a Hugging Face folder");
  add_model_out_options(table);
  table.add_optional<fs::path>("output.path", "-o,--output", "folder to write; it must not exist")
      .required();
  table
      .add("output.dtype", "--dtype", "auto",
           "type of the weights; auto: the base's, f32 for a quantised one")
      .one_of({"auto", "f32", "f16", "bf16"});
  table
      .add("output.shard_size", "--shard-size", static_cast<double>(kShardBytes) * 1e-9,
           "gigabytes (10^9) of a file of weights, beyond which there are several")
      .range(1e-9, 1e6);
  table.add("output.check", "--check", true,
            "read the folder back and compare logits before it gets its name");
  return table;
}

DType dtype_of_result(const Options& options, const LlamaConfig& config) {
  const auto said = options.get<std::string>("output.dtype");
  for (const DType type : {DType::f32, DType::f16, DType::bf16})
    if (said == name_of(type)) return type;
  return config.dtype;
}

// What a written model's logits are beside those of the model that was read.
LogitDifference check_written(const std::vector<float>& before, const fs::path& place, DType dtype,
                              const std::string& shown) {
  const LogitDifference d = compare_logits(before, probe_logits_at(place));
  const double limit = logit_tolerance(dtype) * d.scale;
  CHECK(d.largest <= limit, shown, ": is not the model that was read: logits differ by up to ",
        d.largest, ", at most ", limit, " come from ", name_of(dtype), "; nothing was written");
  return d;
}

Outcome merge(const Options& options) {
  ModelOut m = open_model_out(options);
  CHECK_AS(Fault::usage, !m.adapter.empty(),
           "merge: no adapter: --adapter FOLDER, or a run with one as --model");
  const fs::path output = options.get<fs::path>("output.path");
  const DType dtype = dtype_of_result(options, m.config);
  log_info(m.base.string(), " + ", m.adapter.string(), " -> ", output.string(), ": ",
           name_of(dtype), ", ", describe_rope(m.config));
  JsonObject result;
  result.set("output", output.string()).set("dtype", std::string(name_of(dtype)));
  result.set("context", usable_context(m.config)).set("rope", describe_rope(m.config));
  AtomicFolder folder(output);
  check_companions(m.base);
  if (options.dry_run) return result;
  std::vector<float> before;
  if (options.get<bool>("output.check")) before = probe_logits(*m.model);
  const auto shard = static_cast<uint64_t>(options.get<double>("output.shard_size") * 1e9);
  write_hf_folder(folder.place(), m.config, m.weights(), dtype, shard);
  write_companions(m.base, folder.place());
  m.merged.reset();
  m.model.reset();  // before the model is read back
  std::string compared;
  if (!before.empty()) {
    const LogitDifference d = check_written(before, folder.place(), dtype, output.string());
    result.set("logit_difference", d.largest).set("largest_logit", d.scale);
    compared = concat("; logits before and after differ by at most ", d.largest,
                      ", the largest is ", d.scale);
  }
  folder.commit();
  print_result(options, concat(output.string(), ": written in ", name_of(dtype), compared));
  return result;
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  using namespace mullion;
  return run_program(argc, argv, "Takes a LLaMA out: merges it, exports it, describes it.",
                     {{merge_table(), merge}});
}
