// The view of a GGUF file undoes its row order while reading: see Note [Rows of q and k].
#include "models/llama/checkpoint.h"

#include <algorithm>
#include <cstring>

#include "models/llama/checkpoint_names.h"
#include "tensor/check.h"
#include "tensor/io/safetensors.h"

namespace mullion {

namespace {
class HfViewOfGguf : public TensorSource {
 public:
  HfViewOfGguf(std::shared_ptr<const GgufFile> gguf, int64_t head_dim)
      : TensorSource(gguf->name()), gguf_(std::move(gguf)), head_dim_(head_dim) {
    for (size_t i = 0; i < gguf_->entries().size(); ++i) {
      TensorEntry entry = gguf_->entries()[i];
      if (entry.name == "rope_freqs.weight") continue;
      const auto hf_name = hf_name_of(entry.name);
      CHECK_AS(Fault::bad_file, hf_name, name(), ": ", entry.name,
               " is no tensor of a LLaMA model");
      entry.name = *hf_name;
      entry.offset = i;
      add(std::move(entry));
    }
  }

  void read_bytes(const TensorEntry& entry, uint64_t begin,
                  std::span<std::byte> dst) const override {
    const TensorEntry& stored = gguf_->entries().at(entry.offset);
    if (!has_rotary_rows(entry.name)) return gguf_->read_bytes(stored, begin, dst);
    const uint64_t head_rows = static_cast<uint64_t>(head_dim_);
    const uint64_t rows = static_cast<uint64_t>(entry.shape.at(0));
    CHECK_AS(Fault::bad_file, rows > 0 && rows % head_rows == 0, name(), ": ", stored.name, ": ",
             rows, " rows are no whole number of heads of ", head_rows);
    const uint64_t head_bytes = entry.bytes / rows * head_rows;
    CHECK(begin <= entry.bytes && dst.size() <= entry.bytes - begin, name(), ": ", entry.name,
          ": bytes ", begin, " + ", dst.size(), " are outside its ", entry.bytes);
    std::vector<std::byte> head(head_bytes);
    for (uint64_t done = 0; done < dst.size();) {  // the part of each head that is wanted
      const uint64_t at = begin + done, inside = at % head_bytes;
      const uint64_t n = std::min<uint64_t>(head_bytes - inside, dst.size() - done);
      gguf_->read_bytes(stored, at - inside, head);
      interleaved_to_half_split(head, head_dim_);
      std::memcpy(dst.data() + done, head.data() + inside, n);
      done += n;
    }
  }

  Place place_in_file(const TensorEntry& entry, uint64_t element) const override {
    const std::string& stored = gguf_->entries().at(entry.offset).name;
    if (!has_rotary_rows(entry.name)) return {stored, element};
    const auto width = static_cast<uint64_t>(entry.shape.at(1));
    const auto row = static_cast<int64_t>(element / width), in_head = row % head_dim_;
    const int64_t there = row - in_head + interleaved_row(in_head, head_dim_);
    return {stored, static_cast<uint64_t>(there) * width + element % width};
  }

 private:
  std::shared_ptr<const GgufFile> gguf_;
  int64_t head_dim_;
};

// Whether the file's own head has other values than the embedding.
bool head_differs(const TensorSource& weights) {
  const TensorEntry& head = weights.at("lm_head.weight");
  const TensorEntry& embedding = weights.at("model.embed_tokens.weight");
  if (head.shape != embedding.shape) return true;
  if (head.type != embedding.type) {
    std::vector<float> x(head.count), y(head.count);
    weights.read_f32(head.name, x.data());
    weights.read_f32(embedding.name, y.data());
    return x != y;
  }
  std::vector<std::byte> x(uint64_t{1} << 22), y(x.size());
  for (uint64_t at = 0; at < head.bytes; at += x.size()) {
    const size_t size = std::min<uint64_t>(x.size(), head.bytes - at);
    weights.read_bytes(head, at, std::span(x).first(size));
    weights.read_bytes(embedding, at, std::span(y).first(size));
    if (std::memcmp(x.data(), y.data(), size) != 0) return true;
  }
  return false;
}

// config.json says that the head is the embedding, and the file has a head. transformers 5 uses one
// that differs, with a warning; 4.51 dropped it without a word.
void untie_where_head_differs(LlamaCheckpoint& checkpoint, const std::string& file) {
  if (!checkpoint.config.tie_word_embeddings || !checkpoint.weights->find("lm_head.weight")) return;
  if (!head_differs(*checkpoint.weights)) return;
  checkpoint.config.tie_word_embeddings = false;
  checkpoint.notes.push_back(
      concat(file,
             ": tie_word_embeddings is true, but the weights have an lm_head.weight with "
             "other values than the embedding; it is used, and the model is not tied"));
}
}  // namespace

std::unique_ptr<TensorSource> hf_view(std::shared_ptr<const GgufFile> gguf,
                                      const LlamaConfig& config) {
  return std::make_unique<HfViewOfGguf>(std::move(gguf), config.head_dim);
}

LlamaCheckpoint open_llama_checkpoint(const std::filesystem::path& path) {
  LlamaCheckpoint checkpoint;
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    checkpoint.config = read_llama_config(path / "config.json", &checkpoint.notes);
    checkpoint.weights = open_safetensors(path);
    check_llama_tensors(checkpoint.config, *checkpoint.weights);
    untie_where_head_differs(checkpoint, (path / "config.json").string());
  } else {
    CHECK_AS(Fault::bad_file, is_gguf(path), path.string(),
             ": neither a folder with config.json nor a GGUF file");
    checkpoint.gguf = std::make_shared<GgufFile>(path);
    checkpoint.config = llama_config_of(*checkpoint.gguf);
    checkpoint.weights = hf_view(checkpoint.gguf, checkpoint.config);
  }
  check_llama_tensors(checkpoint.config, *checkpoint.weights);
  return checkpoint;
}

}  // namespace mullion
