#include "apps/llama/model_out.h"

#include <algorithm>
#include <cmath>

#include "apps/llama/model_options.h"
#include "apps/program/log.h"
#include "models/llama/merge.h"
#include "tensor/random.h"

namespace mullion {
namespace {
namespace fs = std::filesystem;

constexpr int64_t kRows = 8, kLength = 32;

void refuse_another_base(const ModelOut& m, const std::optional<LongContextNote>& note,
                         bool force) {
  if (!note) {
    log_info(m.adapter.string(),
             ": has no longctx.json, so whether it is of these weights cannot "
             "be checked; its shapes fit");
    return;
  }
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
}

ModelOut open_model_out(const Options& options) {
  ModelOut m;
  const ModelPlace place = find_model(options.get<fs::path>("model.path"));
  m.base = place.base;
  m.adapter = place.adapter;
  if (options.has("model.adapter")) {
    CHECK_AS(Fault::usage, m.adapter.empty(), "--adapter: --model ",
             options.get<fs::path>("model.path").string(),
             " is a base with an adapter already: ", place.base.string(), " with ",
             place.adapter.string());
    m.adapter = adapter_path(options, "model.adapter");
  }
  m.checkpoint = open_llama_checkpoint(m.base);
  for (const std::string& note : m.checkpoint.notes) log_warning(note);
  std::optional<LongContextNote> note;
  if (!m.adapter.empty()) note = read_longctx(m.adapter);
  apply_rope_options(m.checkpoint.config, options, 0, false, note);
  m.config = m.checkpoint.config;
  if (m.adapter.empty()) return m;
  refuse_another_base(m, note, options.get<bool>("model.force"));
  const bool narrow = stored_in_bf16(*m.checkpoint.weights);
  m.model = load_llama(m.checkpoint, {.matrix_dtype = narrow ? DType::bf16 : DType::f32});
  const AdapterConfig config = load_adapter(*m.model, m.adapter);
  m.config.tie_word_embeddings = m.model->head_is_tied();
  m.merged = merged_weights(*m.model, config);
  return m;
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

double logit_tolerance(DType dtype) {
  return dtype == DType::f32 ? 1e-4 : dtype == DType::f16 ? 0.02 : 0.15;
}

}  // namespace mullion
