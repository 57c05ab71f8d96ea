// Names to ranges and back, and tensors put together from pieces that cover them.
#include "optim/parallel/piece.h"

#include <algorithm>
#include <charconv>

#include "nn/state.h"
#include "tensor/check.h"

namespace mullion {
namespace {

struct Stored {
  Piece piece;
  const TensorSource* source;
  std::string entry;
};

// All that there is of a tensor, in order.
std::vector<Stored> pieces_of(const std::string& tensor,
                              const std::vector<std::unique_ptr<TensorSource>>& sources) {
  std::vector<Stored> found;
  for (const auto& source : sources)
    for (const TensorEntry& entry : source->entries()) {
      const Piece piece = Piece::named(entry.name, static_cast<int64_t>(entry.count));
      if (piece.of == tensor) found.push_back({piece, source.get(), entry.name});
    }
  std::sort(found.begin(), found.end(),
            [](const Stored& a, const Stored& b) { return a.piece.first < b.piece.first; });
  return found;
}

// Every element in one piece, none missing before the end of what is wanted.
void check_cover(const std::string& where, const std::vector<Stored>& found, const Piece& wanted) {
  int64_t reached = 0;
  for (const Stored& s : found) {
    CHECK_AS(Fault::bad_file, s.piece.first >= reached, where, ": ", wanted.of, ": elements ",
             s.piece.first, " to ", std::min(reached, s.piece.end()) - 1, " are in two pieces");
    CHECK_AS(Fault::bad_file, s.piece.first == reached, where, ": ", wanted.of, ": elements ",
             reached, " to ", s.piece.first - 1, " are missing");
    reached = s.piece.end();
  }
  CHECK_AS(Fault::bad_file, reached >= wanted.end(), where, ": ", wanted.of, ": elements ", reached,
           " to ", wanted.end() - 1, " are missing");
  CHECK_AS(Fault::bad_file, wanted.is_part || reached == wanted.end(), where, ": ", wanted.of,
           ": has ", reached, " elements, the model ", wanted.end());
}

}  // namespace

std::string Piece::name() const { return is_part ? concat(of, "@", first) : of; }

Piece Piece::named(const std::string& name, int64_t count) {
  const size_t at = name.rfind('@');
  if (at == std::string::npos) return {name, 0, count, false};
  Piece piece{name.substr(0, at), 0, count, true};
  const char *from = name.data() + at + 1, *end = name.data() + name.size();
  constexpr int64_t kMost = int64_t{1} << 60;
  const auto [stop, error] = std::from_chars(from, end, piece.first);
  CHECK_AS(Fault::bad_file,
           error == std::errc() && stop == end && piece.first >= 0 && piece.first < kMost, name,
           ": not a piece of a tensor (NAME@FIRST)");
  return piece;
}

void load_pieces(const std::string& where,
                 const std::vector<std::unique_ptr<TensorSource>>& sources,
                 const NamedParameter& target) {
  const Piece wanted = Piece::named(target.name, target.value.numel());
  const std::vector<Stored> found = pieces_of(wanted.of, sources);
  check_cover(where, found, wanted);
  if (!wanted.is_part && found.size() == 1 && !found[0].piece.is_part)
    return load_tensor(*found[0].source, target.name, target.value);  // of the same shape
  const Tensor flat = raw::reshape(target.value, {wanted.count});
  for (const Stored& s : found) {
    const int64_t from = std::max(s.piece.first, wanted.first);
    const int64_t to = std::min(s.piece.end(), wanted.end());
    if (from >= to) continue;
    const Tensor values = Tensor::empty({s.piece.count});
    s.source->read_f32(s.entry, values.data<float>());
    raw::copy_into(raw::slice(values, 0, from - s.piece.first, to - s.piece.first),
                   raw::slice(flat, 0, from - wanted.first, to - wanted.first));
  }
}

}  // namespace mullion
