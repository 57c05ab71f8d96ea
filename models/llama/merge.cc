// A matrix is merged when its bytes are asked for, so that one at a time is in memory.
#include "models/llama/merge.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "tensor/check.h"

namespace mullion {
namespace {

constexpr std::string_view kA = ".lora_A.weight", kB = ".lora_B.weight", kWeight = ".weight";

// w[i] += scale * sum over k of b[k] a[k, first + i], for n elements of one row.
void add_pair_row(const float* b, const Tensor& a, double scale, int64_t first, int64_t n,
                  float* w) {
  const int64_t rank = a.shape()[0], width = a.shape()[1];
  const float* values = a.data<float>();
  std::vector<float> sum(static_cast<size_t>(n));
  for (int64_t k = 0; k < rank; ++k) {
    const float* row = values + k * width + first;
    for (int64_t i = 0; i < n; ++i) sum[static_cast<size_t>(i)] += b[k] * row[i];
  }
  const float factor = static_cast<float>(scale);
  for (int64_t i = 0; i < n; ++i) w[i] += factor * sum[static_cast<size_t>(i)];
}

class MergedWeights : public TensorSource {
 public:
  MergedWeights(Llama& model, const AdapterConfig& config) : TensorSource("the merged model") {
    std::map<std::string, Tensor> all;
    for (const NamedParameter& p : named_parameters(model)) all.emplace(p.name, p.value);
    for (const NamedParameter& p : named_parameters(model)) {
      if (p.name.ends_with(kA) || p.name.ends_with(kB)) continue;
      CHECK(p.value.device().type == DeviceType::cpu, "merging ", p.name, ": it is not on the CPU");
      const std::string module = p.name.substr(0, p.name.size() - kWeight.size());
      Item item{raw::contiguous(p.value), {}, {}, 0};
      if (const auto a = all.find(module + std::string(kA)); a != all.end()) {
        item.a = raw::contiguous(raw::cast(a->second, DType::f32));
        item.b = raw::contiguous(raw::cast(all.at(module + std::string(kB)), DType::f32));
        item.scale = config.scale(module);
      }
      TensorEntry entry{p.name,
                        item.a.defined() ? StoredType::f32 : stored_type_of(p.value.dtype()),
                        {p.value.shape().begin(), p.value.shape().end()}};
      entry.count = static_cast<uint64_t>(p.value.numel());
      entry.bytes = entry.count * layout_of(entry.type).block_bytes;
      entry.offset = items_.size();
      items_.push_back(std::move(item));
      add(std::move(entry));
    }
  }

  void read_bytes(const TensorEntry& entry, uint64_t begin,
                  std::span<std::byte> dst) const override {
    CHECK(begin <= entry.bytes && dst.size() <= entry.bytes - begin, name(), ": ", entry.name,
          ": bytes ", begin, " + ", dst.size(), " are outside its ", entry.bytes);
    const Item& item = items_.at(entry.offset);
    if (!item.a.defined()) {
      if (!dst.empty()) std::memcpy(dst.data(), bytes_of(item.weight) + begin, dst.size());
      return;
    }
    CHECK(begin % 4 == 0 && dst.size() % 4 == 0, name(), ": ", entry.name,
          ": its elements are read whole");
    const int64_t width = entry.shape.at(1);
    auto at = static_cast<int64_t>(begin / 4);
    std::vector<float> row;
    for (size_t done = 0; done < dst.size(); done += 4 * row.size()) {
      const int64_t first = at % width;
      row.resize(std::min((dst.size() - done) / 4, static_cast<size_t>(width - first)));
      const auto n = static_cast<int64_t>(row.size());
      widen(item.weight, at, row);
      const float* b = item.b.data<float>();
      add_pair_row(b + at / width * item.b.shape()[1], item.a, item.scale, first, n, row.data());
      std::memcpy(dst.data() + done, row.data(), 4 * row.size());
      at += n;
    }
  }

 private:
  struct Item {
    Tensor weight, a, b;  // a, b (f32) undefined where there is no pair
    double scale;
  };

  static const std::byte* bytes_of(const Tensor& t) {
    const void* bytes = t.data<void>();
    return static_cast<const std::byte*>(bytes);
  }

  static void widen(const Tensor& weight, int64_t begin, std::span<float> dst) {
    to_f32(stored_type_of(weight.dtype()), bytes_of(weight) + begin * size_of(weight.dtype()),
           dst.size(), dst.data());
  }

  std::vector<Item> items_;
};

}  // namespace

std::unique_ptr<TensorSource> merged_weights(Llama& model, const AdapterConfig& config) {
  return std::make_unique<MergedWeights>(model, config);
}

}  // namespace mullion
