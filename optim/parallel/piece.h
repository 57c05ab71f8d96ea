// Flat pieces of tensors that ranks share (full_shard.h), by their names: "exp_avg.w@128" begins
// with element 128 of exp_avg.w, a name without @ is all of it. The one place where such names are
// made and read.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nn/module.h"
#include "tensor/io/tensor_source.h"

namespace mullion {

struct Piece {
  std::string of;  // the tensor's name
  int64_t first = 0, count = 0;
  bool is_part = false;  // its name has an @

  int64_t end() const { return first + count; }
  std::string name() const;
  // Of a tensor of that name and so many elements. Error(bad_file) where no number follows an @.
  static Piece named(const std::string& name, int64_t count);
};

// Gives `target`, a tensor or a piece of one by its name, its values from what `sources` have of
// that tensor: in whatever pieces, each element in one of them. Error(bad_file), with `where`,
// names elements that are in two pieces, in none, or beyond the tensor's end.
void load_pieces(const std::string& where,
                 const std::vector<std::unique_ptr<TensorSource>>& sources,
                 const NamedParameter& target);

}  // namespace mullion
