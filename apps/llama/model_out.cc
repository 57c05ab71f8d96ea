// Base and adapter opened, checked against each other, and logits compared after the writing.
#include "apps/llama/model_out.h"

#include <algorithm>
#include <cmath>

#include "apps/llama/companions.h"
#include "apps/llama/model_options.h"
#include "apps/options/byte_size.h"
#include "apps/program/log.h"
#include "apps/program/main.h"
#include "apps/run/run_checkpoint.h"
#include "models/llama/hf_folder.h"
#include "models/llama/merge.h"
#include "tensor/io/atomic_folder.h"
#include "tensor/random.h"

namespace mullion {
namespace {
namespace fs = std::filesystem;

constexpr int64_t kRows = 8, kLength = 32;

void refuse_another_base(const ModelOut& m, const std::optional<LongContextNote>& note,
                         bool force) {
  if (!note) return;
  const auto differs = [&](const std::string& what, const std::string& trained,
                           const std::string& here) {
    if (trained.empty() || here.empty() || trained == here) return;
    const std::string text =
        concat(m.adapter.string(), ": was trained on other ", what, " than ", m.base.string(),
               " has (", trained.substr(0, 12), "..., not ", here.substr(0, 12), "...)");
    if (!force) throw Error(text, Fault::usage, "its own base as --model, or --force");
    log_warning(text, "; --force");
  };
  differs("weights", note->base_sha256, fingerprint(*m.checkpoint.weights));
  differs("tokens", note->tokenizer_sha256, tokenizer_hash(m.base));
}

// Whether the file's matrices lose nothing in bf16.
bool stored_in_bf16(const TensorSource& weights) {
  return std::all_of(weights.entries().begin(), weights.entries().end(), [](const TensorEntry& e) {
    return e.shape.size() < 2 || e.type == StoredType::bf16;
  });
}

}  // namespace

void add_model_out_options(OptionTable& table) {
  table
      .add_optional<fs::path>("model.path", "-m,--model",
                              "Hugging Face folder of a LLaMA, a .gguf file, or a run's folder")
      .required();
  table.add_optional<fs::path>("model.adapter", "--adapter",
                               "PEFT adapter folder to merge into it, or a run's folder");
  table.add("model.force", "--force", false,
            "also where the adapter was trained on other weights or tokens");
  add_rope_options(table);
  table.add_common_without(true, true);
}

ModelOut open_model_out(const Options& options) {
  const bool named = options.has("model.adapter");
  ModelOut m = open_model_out(options, options.get<fs::path>("model.path"),
                              named ? adapter_path(options, "model.adapter") : fs::path(),
                              options.get<bool>("model.force"));
  if (m.adapter.empty()) options.tell_idle("model.force", "without an adapter");
  return m;
}

ModelOut open_model_out(const Options& options, const fs::path& model, const fs::path& adapter,
                        bool force) {
  ModelOut m;
  const ModelPlace place = find_model(model);
  m.base = place.base;
  CHECK_AS(Fault::usage, adapter.empty() || place.adapter.empty(), "--adapter: --model ",
           model.string(), " is a base with an adapter already: ", place.base.string(), " with ",
           place.adapter.string());
  m.adapter = adapter.empty() ? place.adapter : adapter;
  for (const fs::path& folder : {m.base, m.adapter}) require_whole(folder);
  m.checkpoint = open_llama_checkpoint(m.base);
  for (const std::string& note : m.checkpoint.notes) log_warning(note);
  std::optional<LongContextNote> note;
  if (!m.adapter.empty()) note = read_longctx(m.adapter);
  apply_rope_options(m.checkpoint.config, options, 0, false, note);
  m.config = m.checkpoint.config;
  if (m.adapter.empty()) return m;
  refuse_another_base(m, note, force);
  const bool narrow = stored_in_bf16(*m.checkpoint.weights);
  m.model = load_llama(m.checkpoint, {.matrix_dtype = narrow ? DType::bf16 : DType::f32});
  const AdapterConfig config = load_adapter(*m.model, m.adapter);
  tell_of_adapter(m.adapter, config, m.base);
  if (!note)
    log_info(m.adapter.string(),
             ": has no longctx.json, so whether it is of these weights cannot be checked; its "
             "shapes fit");
  m.config.tie_word_embeddings = m.model->head_is_tied();
  m.merged = merged_weights(*m.model, config);
  return m;
}

namespace {
std::unique_ptr<Llama> load_base(const ModelOut& m) {
  LlamaCheckpoint checkpoint = open_llama_checkpoint(m.base);
  checkpoint.config = m.config;
  return load_llama(checkpoint);
}
}  // namespace

std::unique_ptr<Llama> loaded(ModelOut& m) {
  m.merged.reset();
  return m.model ? std::move(m.model) : load_base(m);
}

std::vector<float> probe_logits_of(const ModelOut& m) {
  return probe_logits(m.model ? *m.model : *load_base(m));
}

std::vector<float> probe_logits(const Llama& model) {
  const LlamaConfig& config = model.config();
  const int64_t length = std::min(kLength, usable_context(config));
  std::vector<int64_t> ids(static_cast<size_t>(kRows * length));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int64_t>(mix_bits(i, 1) % static_cast<uint64_t>(config.vocab_size));
  NoGrad no_grad;
  const Tensor logits = model.logits(Tensor::from(ids, {kRows, length}));
  const float* values = logits.data<float>();
  return {values, values + logits.numel()};
}

std::vector<float> probe_logits_at(const fs::path& path) {
  return probe_logits(*load_llama(open_llama_checkpoint(path)));
}

LogitDifference compare_logits(const std::vector<float>& a, const std::vector<float>& b) {
  CHECK(a.size() == b.size(), "comparing ", a.size(), " logits with ", b.size());
  LogitDifference d;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= d.largest)) d.largest = difference;  // also NaN
    d.scale = std::max(d.scale, std::abs(static_cast<double>(a[i])));
  }
  return d;
}

namespace {
// As a share of the largest logit: the weights of an f32 model are rounded once more in sums, those
// of f16 and bf16 to 11 and 8 bits. What blocks of few bits cost is reported, not judged.
double tolerance_of(StoredType type) {
  switch (type) {
    case StoredType::f32:
      return 1e-4;
    case StoredType::f16:
      return 0.02;
    case StoredType::bf16:
      return 0.15;
    default:
      return INFINITY;
  }
}
}  // namespace

std::string check_written(const std::vector<float>& before, const fs::path& written,
                          StoredType type, const std::string& shown, JsonObject& result) {
  const LogitDifference d = compare_logits(before, probe_logits_at(written));
  const double limit = tolerance_of(type) * d.scale;
  CHECK(d.largest <= limit, shown, ": is not the model that was read: logits differ by up to ",
        d.largest, ", at most ", limit, " come from ", name_of(type), "; it is not kept");
  result.set("logit_difference", d.largest).set("largest_logit", d.scale);
  return concat("; logits before and after differ by at most ", d.largest, ", the largest is ",
                d.scale);
}

void add_hf_folder_options(OptionTable& table) {
  table.add("output.shard_size", "--shard-size", bytes_text(static_cast<double>(kShardBytes)),
            "folder: largest file of weights, e.g. 5GB, 256MB; beyond it there are several");
  table.add("output.verify", "--verify", true,
            "read what was written back and compare logits before it is kept");
}

JsonObject write_folder(const Options& options, ModelOut& m, const std::string& said) {
  const fs::path output = options.get<fs::path>("output.path");
  DType dtype = m.config.dtype;
  for (const DType type : {DType::f32, DType::f16, DType::bf16})
    if (said == name_of(type)) dtype = type;
  JsonObject result;
  result.set("output", output.string()).set("dtype", std::string(name_of(dtype)));
  result.set("context", usable_context(m.config)).set("rope", describe_rope(m.config));
  const uint64_t shard =
      parse_bytes(options.get<std::string>("output.shard_size"), "--shard-size", 1, 1e15);
  AtomicFolder folder(output);
  check_companions(m.base);
  const std::string what =
      concat(m.base.string(), m.adapter.empty() ? "" : " + " + m.adapter.string(), " -> ",
             output.string(), ": ", name_of(dtype), ", ", describe_rope(m.config));
  if (options.dry_run) {
    print_result(options, what + ", would be written");
    return result;
  }
  log_info(what);
  std::vector<float> before;
  if (options.get<bool>("output.verify")) before = probe_logits_of(m);
  write_hf_folder(folder.place(), m.config, m.weights(), dtype, shard);
  write_companions(m.base, folder.place());
  m.merged.reset();
  m.model.reset();  // before the model is read back
  std::string compared;
  if (!before.empty())
    compared =
        check_written(before, folder.place(), stored_type_of(dtype), output.string(), result);
  folder.commit();
  print_result(options, concat(output.string(), ": written in ", name_of(dtype), compared));
  return result;
}

}  // namespace mullion
