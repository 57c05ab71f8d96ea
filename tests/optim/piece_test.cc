// Tensors from the pieces that ranks have written: each element once, or the file is refused.
#include "optim/parallel/piece.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <numeric>

#include "nn/state.h"
#include "tensor/check.h"
#include "tensor/io/safetensors.h"

namespace mullion {
namespace {

Tensor counting(int64_t first, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), static_cast<float>(first));
  return Tensor::from(values, {count});
}

class PieceTest : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  // A file for each rank, of pieces (first, count) of "w", whose element i is i.
  std::vector<std::unique_ptr<TensorSource>> files(
      const std::vector<std::vector<std::pair<int64_t, int64_t>>>& ranks) const {
    std::vector<std::unique_ptr<TensorSource>> sources;
    for (const auto& pieces : ranks) {
      std::vector<NamedParameter> tensors = {{"other@0", counting(0, 3)}};
      for (const auto& [first, count] : pieces)
        tensors.push_back({Piece{"w", first, count, true}.name(), counting(first, count)});
      const auto file = folder_ / std::to_string(sources.size());
      save_tensors(file, tensors);
      sources.push_back(open_safetensors(file));
    }
    return sources;
  }
  std::string refusal(const std::vector<std::vector<std::pair<int64_t, int64_t>>>& ranks,
                      const NamedParameter& target) const {
    try {
      load_pieces("F", files(ranks), target);
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::bad_file);
      return error.what();
    }
    return "";
  }
  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / concat("pieces-", ::getpid());
};

TEST_F(PieceTest, NamesAreReadAsTheyAreMade) {
  const Piece piece = Piece::named("exp_avg.w@12", 5);
  EXPECT_EQ(piece.of, "exp_avg.w");
  EXPECT_EQ(piece.first, 12);
  EXPECT_EQ(piece.end(), 17);
  EXPECT_EQ(piece.name(), "exp_avg.w@12");
  EXPECT_EQ(Piece::named("w", 3).name(), "w");
  for (const char* name : {"w@", "w@x", "w@-1", "w@1.5", "w@99999999999999999999"})
    EXPECT_THROW(Piece::named(name, 1), Error) << name;
}

TEST_F(PieceTest, AnyPiecesMakeAnyOther) {
  const auto ranks = files({{{4, 3}}, {{0, 4}, {7, 2}}});
  const Tensor whole = Tensor::zeros({3, 3}), part = Tensor::zeros({4});
  load_pieces("F", ranks, {"w", whole});
  load_pieces("F", ranks, {"w@3", part});
  EXPECT_EQ(whole.to_vector<float>(), counting(0, 9).to_vector<float>());
  EXPECT_EQ(part.to_vector<float>(), counting(3, 4).to_vector<float>());
}

TEST_F(PieceTest, HolesAndOverlapsAreNamed) {
  const NamedParameter whole{"w", Tensor::zeros({9})}, part{"w@6", Tensor::zeros({2})};
  EXPECT_EQ(refusal({{{0, 4}}, {{5, 4}}}, whole), "F: w: elements 4 to 4 are missing");
  // As many elements as there must be, two of them twice.
  EXPECT_EQ(refusal({{{0, 5}}, {{3, 4}}}, whole), "F: w: elements 3 to 4 are in two pieces");
  EXPECT_EQ(refusal({{{0, 5}}}, whole), "F: w: elements 5 to 8 are missing");
  EXPECT_EQ(refusal({{{0, 5}}, {{5, 6}}}, whole), "F: w: has 11 elements, the model 9");
  // Beside what is wanted as well.
  EXPECT_EQ(refusal({{{0, 4}}, {{5, 4}}}, part), "F: w: elements 4 to 4 are missing");
  EXPECT_EQ(refusal({{}}, part), "F: w: elements 0 to 7 are missing");
}

}  // namespace
}  // namespace mullion
