// Shape: the sizes of a tensor's axes, held inline (at most 6 axes), and the strides that go with
// it.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "tensor/check.h"

namespace mullion {

constexpr int kMaxRank = 6;

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const int64_t> sizes) {
    CHECK(sizes.size() <= kMaxRank, "shape: ", sizes.size(), " axes, at most ", kMaxRank);
    for (int64_t s : sizes) push_back(s);
  }

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return sizes_[static_cast<size_t>(axis)]; }
  int64_t& operator[](int axis) { return sizes_[static_cast<size_t>(axis)]; }
  const int64_t* begin() const { return sizes_.data(); }
  const int64_t* end() const { return sizes_.data() + rank_; }
  int64_t back() const { return sizes_[static_cast<size_t>(rank_ - 1)]; }
  void push_back(int64_t size) {
    DCHECK(rank_ < kMaxRank);
    sizes_[static_cast<size_t>(rank_++)] = size;
  }
  // Number of elements; 1 for a scalar (no axes).
  int64_t numel() const {
    int64_t n = 1;
    for (int64_t s : *this) n *= s;
    return n;
  }
  // Row-major strides, in elements.
  Shape strides() const {
    Shape result = *this;
    int64_t step = 1;
    for (int axis = rank_ - 1; axis >= 0; --axis) {
      result[axis] = step;
      step *= (*this)[axis];
    }
    return result;
  }
  bool operator==(const Shape& other) const {
    if (rank_ != other.rank_) return false;
    for (int axis = 0; axis < rank_; ++axis)
      if ((*this)[axis] != other[axis]) return false;
    return true;
  }
  std::string to_string() const {
    std::string text = "[";
    for (int axis = 0; axis < rank_; ++axis)
      text += (axis ? ", " : "") + std::to_string((*this)[axis]);
    return text + "]";
  }

 private:
  std::array<int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};

inline std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  return out << shape.to_string();
}

}  // namespace mullion
