// Scales checked once when the matrix is made; rows are widened in parallel where somebody asks.
#include "tensor/block_matrix.h"

#include <array>
#include <atomic>

#include "tensor/io/block_bytes.h"
#include "tensor/op_scope.h"
#include "tensor/parallel.h"

namespace mullion {
namespace {

// Where the f16 scales of a block are; -1 for none. Every other number in a block is finite.
constexpr std::array<int, 2> scales_of(StoredType type) {
  switch (type) {
    case StoredType::q4_1:
    case StoredType::q5_1:
    case StoredType::q4_k:
    case StoredType::q5_k:
      return {0, 2};
    case StoredType::q2_k:
      return {80, 82};
    case StoredType::q3_k:
      return {108, -1};
    case StoredType::q6_k:
      return {208, -1};
    default:
      return {0, -1};
  }
}

bool is_finite_f16(const std::byte* src) { return (load<uint16_t>(src) & 0x7c00) != 0x7c00; }

const std::byte* first_byte(const BlockMatrix& x) {
  CHECK(x.bytes().device().type == DeviceType::cpu,
        "a matrix of blocks: read on the host, but on a device");
  const uint8_t* bytes = x.bytes().data<uint8_t>();
  return reinterpret_cast<const std::byte*>(bytes);
}

}  // namespace

bool is_block_type(StoredType type) { return layout_of(type).block > 1; }

BlockMatrix::BlockMatrix(StoredType type, int64_t rows, int64_t width, Device device)
    : type_(type), width_(width) {
  CHECK(is_block_type(type), "a matrix of blocks: ", name_of(type), " has none");
  CHECK(rows > 0 && width > 0, "a matrix of blocks: ", rows, " x ", width);
  const auto elements = static_cast<uint64_t>(width);
  const uint64_t bytes = stored_bytes(type, elements, elements, "a matrix of blocks");
  bytes_ = Tensor::empty({rows, static_cast<int64_t>(bytes)}, DType::u8, device);
}

BlockMatrix BlockMatrix::alias() const {
  BlockMatrix result = *this;
  result.bytes_ = Tensor(std::make_shared<Tensor::Impl>(bytes_.impl()));
  return result;
}

BlockMatrix to_device(const BlockMatrix& x, Device device) {
  const OpScope scope("to_device");
  BlockMatrix result = x;
  result.bytes_ = raw::to_device(x.bytes_, device);
  return result;
}

Tensor widened(const BlockMatrix& given) {
  const BlockMatrix x = to_device(given, Device{});
  const Tensor y = Tensor::empty({x.rows(), x.width()});
  float* target = y.data<float>();
  const std::byte* source = first_byte(x);
  parallel_for(x.rows(), 1, [&](int64_t begin, int64_t end) {
    to_f32(x.type(), source + begin * x.row_bytes(),
           static_cast<uint64_t>((end - begin) * x.width()), target + begin * x.width());
  });
  return y;
}

void check_scales(const BlockMatrix& x, const std::string& what) {
  const auto block = static_cast<int64_t>(layout_of(x.type()).block_bytes);
  const std::array<int, 2> scales = scales_of(x.type());
  const std::byte* source = first_byte(x);
  std::atomic<int64_t> bad{-1};
  parallel_for(x.rows(), 64, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin * x.row_bytes(); at < end * x.row_bytes(); at += block)
      for (const int scale : scales)
        if (scale >= 0 && !is_finite_f16(source + at + scale)) bad = at / x.row_bytes();
  });
  CHECK_AS(Fault::bad_file, bad < 0, what, ": row ", bad.load(), " has a ", name_of(x.type()),
           " block whose scale is NaN or infinite");
}

}  // namespace mullion
