// Pairs read from a PEFT folder; written under GGUF's names with rows turned, or under PEFT's.
#include "models/llama/export_adapter.h"

#include <map>

#include "models/llama/checkpoint_names.h"
#include "models/llama/export_gguf.h"
#include "models/llama/peft.h"
#include "tensor/check.h"
#include "tensor/io/gguf_writer.h"
#include "tensor/io/quantize.h"
#include "tensor/io/safetensors.h"

namespace mullion {
namespace {

using Kind = AdapterKey::Kind;

// The tensors of an adapter file by what they are, with shapes that fit the base.
struct AdapterTensors {
  std::unique_ptr<TensorSource> source;
  AdapterConfig config;
  struct Pair {
    const TensorEntry *a = nullptr, *b = nullptr;
  };
  std::map<std::string, Pair> pairs;                // by module
  std::map<std::string, const TensorEntry*> whole;  // by module
};

void check_pair(const AdapterTensors& t, const std::string& module,
                const std::vector<int64_t>& matrix) {
  const AdapterTensors::Pair& pair = t.pairs.at(module);
  const std::string& file = t.source->name();
  CHECK_AS(Fault::bad_file, pair.a && pair.b, file, ": ", module, " has one factor of two");
  const int64_t rank = t.config.rank(module);
  const std::vector<int64_t> a = {rank, matrix.back()}, b = {matrix.front(), rank};
  CHECK_AS(Fault::bad_file, pair.a->shape == a && pair.b->shape == b, file, ": ", module, ": A is ",
           shape_text(pair.a->shape), " and B ", shape_text(pair.b->shape), "; the model and rank ",
           rank, " have ", shape_text(a), " and ", shape_text(b));
}

AdapterTensors read_adapter(const std::filesystem::path& folder, const LlamaConfig& base) {
  AdapterTensors t{open_safetensors(folder, "adapter_model"), read_adapter_config(folder), {}, {}};
  std::map<std::string, std::vector<int64_t>> shapes;
  for (auto& [name, shape] : llama_tensors(base)) shapes.emplace(name, shape);
  shapes.emplace("lm_head.weight", shapes.at("model.embed_tokens.weight"));
  for (const TensorEntry& entry : t.source->entries()) {
    const AdapterKey key = parse_adapter_key(entry.name, t.source->name());
    CHECK_AS(Fault::bad_file, shapes.contains(key.weight()), t.source->name(), ": ", entry.name,
             " belongs to no part of the model");
    const TensorEntry*& place = key.kind == Kind::full     ? t.whole[key.module]
                                : key.kind == Kind::lora_a ? t.pairs[key.module].a
                                                           : t.pairs[key.module].b;
    CHECK_AS(Fault::bad_file, !place, t.source->name(), ": ", entry.name, " is ", key.module,
             " a second time");
    place = &entry;
  }
  for (const auto& [module, pair] : t.pairs) check_pair(t, module, shapes.at(module + ".weight"));
  for (const auto& [module, entry] : t.whole)
    CHECK_AS(Fault::bad_file, entry->shape == shapes.at(module + ".weight"), t.source->name(), ": ",
             entry->name, ": ", shape_text(entry->shape), ", the model has ",
             shape_text(shapes.at(module + ".weight")));
  CHECK_AS(Fault::bad_file, !t.pairs.empty(), t.source->name(), ": has no LoRA pair");
  return t;
}

AdapterTensors read_pairs(const std::filesystem::path& folder, const LlamaConfig& base) {
  AdapterTensors t = read_adapter(folder, base);
  if (!t.whole.empty())
    throw Error(concat(t.source->name(), ": has whole parameters (", t.whole.begin()->first, ", ",
                       t.whole.size(), " in all), for which a GGUF adapter has no place"),
                Fault::usage, "--format gguf with --adapter, which merges them");
  return t;
}

}  // namespace

void check_gguf_adapter(const LlamaConfig& base, const std::filesystem::path& adapter) {
  read_pairs(adapter, base);
}

void write_gguf_adapter(const std::filesystem::path& path, const LlamaConfig& base,
                        const std::filesystem::path& adapter) {
  const AdapterTensors t = read_pairs(adapter, base);
  // llama.cpp scales a pair by alpha / its rank.
  const auto alpha_of = [&](const std::string& module) {
    return t.config.scale(module) * static_cast<double>(t.config.rank(module));
  };
  const double alpha = alpha_of(t.pairs.begin()->first);
  GgufPairs pairs;
  pairs.text("general.architecture", "llama").text("general.type", "adapter");
  pairs.text("adapter.type", "lora").f32("adapter.lora.alpha", alpha);
  std::vector<GgufSpec> specs;
  for (const auto& [module, pair] : t.pairs) {
    const std::string name = gguf_name_of(module + ".weight").value();
    specs.push_back({name + ".lora_a", StoredType::f32, pair.a->shape});
    specs.push_back({name + ".lora_b", StoredType::f32, pair.b->shape});
  }
  GgufWriter writer(path, pairs, specs);
  for (const auto& [module, pair] : t.pairs) {
    const std::string name = gguf_name_of(module + ".weight").value();
    writer.write(name + ".lora_a", stored_as(*t.source, pair.a->name, StoredType::f32));
    std::vector<float> b(pair.b->count);
    t.source->read_f32(pair.b->name, b.data());
    const auto factor = static_cast<float>(alpha_of(module) / alpha);
    for (float& value : b) value *= factor;
    const auto bytes = std::as_writable_bytes(std::span(b));
    if (has_rotary_rows(module + ".weight"))
      permute_rotary_rows(bytes, pair.b->shape.at(0), base.head_dim);
    writer.write(name + ".lora_b", bytes);
  }
  writer.commit();
}

void write_peft_adapter(const std::filesystem::path& folder, const LlamaConfig& base,
                        const std::filesystem::path& adapter) {
  const AdapterTensors t = read_adapter(adapter, base);
  std::vector<TensorSpec> specs;
  for (const TensorEntry& entry : t.source->entries())
    specs.push_back({adapter_key_text(parse_adapter_key(entry.name, t.source->name())), DType::f32,
                     entry.shape});
  write_adapter_config(folder, t.config);
  SafetensorsWriter writer(folder / "adapter_model.safetensors", specs);
  for (size_t i = 0; i < specs.size(); ++i)
    writer.write(specs[i].name, stored_as(*t.source, t.source->entries()[i].name, StoredType::f32));
  writer.commit();
}

}  // namespace mullion
