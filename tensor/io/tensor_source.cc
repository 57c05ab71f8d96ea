// Reading goes in pieces of kPiece elements, shared out over the threads; each piece is a whole
// number of blocks of every format.
#include "tensor/io/tensor_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tensor/check.h"
#include "tensor/parallel.h"

namespace mullion {

namespace {
constexpr uint64_t kPiece = uint64_t{1} << 16;

// The index of the first value that is not finite, or `count`.
uint64_t first_not_finite(const float* x, uint64_t count) {
  uint32_t largest = 0;  // exponent bits all ones: infinity or NaN
  for (uint64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, x + i, 4);
    largest = std::max(largest, bits & 0x7fffffffu);
  }
  if (largest < 0x7f800000u) return count;
  return static_cast<uint64_t>(
      std::find_if(x, x + count, [](float v) { return !std::isfinite(v); }) - x);
}
}  // namespace

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += concat(i ? ", " : "", shape[i]);
  return text + "]";
}

void TensorSource::add(TensorEntry entry) {
  const bool fresh = index_.emplace(entry.name, entries_.size()).second;
  CHECK_AS(Fault::bad_file, fresh, name_, ": two tensors are named \"", entry.name, "\"");
  entries_.push_back(std::move(entry));
}

std::vector<std::string> TensorSource::names() const {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const TensorEntry& entry : entries_) names.push_back(entry.name);
  return names;
}

const TensorEntry* TensorSource::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &entries_[found->second];
}

const TensorEntry& TensorSource::at(std::string_view name) const {
  const TensorEntry* entry = find(name);
  CHECK_AS(Fault::bad_file, entry, name_, ": there is no tensor \"", name, "\" among its ",
           entries_.size());
  return *entry;
}

void TensorSource::read_raw(std::string_view name, std::span<std::byte> dst) const {
  const TensorEntry& entry = at(name);
  CHECK(dst.size() == entry.bytes, name_, ": ", name, ": ", entry.bytes,
        " bytes do not go into a buffer of ", dst.size());
  read_bytes(entry, 0, dst);
}

// store(begin, values, count) takes finished pieces, from several threads.
template <typename Store>
void TensorSource::read_floats(std::string_view name, const Store& store) const {
  const TensorEntry& entry = at(name);
  CHECK_AS(Fault::bad_file, converts_to_f32(entry.type), name_, ": ", name, ": ",
           mullion::name_of(entry.type), " values where floats are expected");
  const StoredLayout& layout = layout_of(entry.type);
  const int64_t pieces = static_cast<int64_t>((entry.count + kPiece - 1) / kPiece);
  parallel_items(pieces, [&](int64_t piece, int) {
    const uint64_t begin = static_cast<uint64_t>(piece) * kPiece;
    const uint64_t count = std::min(kPiece, entry.count - begin);
    std::vector<std::byte> bytes(count / layout.block * layout.block_bytes);
    std::vector<float> values(count);
    read_bytes(entry, begin / layout.block * layout.block_bytes, bytes);
    to_f32(entry.type, bytes.data(), count, values.data());
    const uint64_t odd = first_not_finite(values.data(), count);
    if (odd < count) {
      const Place place = place_in_file(entry, begin + odd);
      fail(Fault::bad_file, name_, ": ", place.name, ": element ", place.element, " is ",
           values[odd],
           layout.block > 1 ? concat(": the scale of block ", place.element / layout.block, " of ",
                                     layout.name, " is not finite")
                            : "");
    }
    store(begin, values.data(), count);
  });
}

void TensorSource::read_f32(std::string_view name, float* dst) const {
  read_floats(name, [dst](uint64_t begin, const float* values, uint64_t count) {
    std::copy_n(values, count, dst + begin);
  });
}

void TensorSource::read_bf16(std::string_view name, bf16* dst) const {
  read_floats(name, [dst](uint64_t begin, const float* values, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) dst[begin + i] = bf16(values[i]);
  });
}

}  // namespace mullion
