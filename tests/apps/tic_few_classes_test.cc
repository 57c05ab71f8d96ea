// Two, three and five classes, as most trees of a user's own have: the products of the last layer
// are then thin in every direction. What a model scores must not depend on how images are batched.
#include <cmath>

#include "tests/apps/programs.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

class TicFewClasses : public test::Programs, public ::testing::WithParamInterface<int> {
 protected:
  TicFewClasses() : Programs({"train_tic", "eval_tic", "data_tic"}) {}

  // A tree of so many classes, with `images` images of each in train and in val, and one more of
  // the first class.
  void make_tree(int classes, int images) const {
    ASSERT_EQ(run("data_tic cue --output tree --per-class " + std::to_string(images + 1)).code, 0);
    for (const char* part : {"tree/train", "tree/val"}) {
      std::vector<fs::path> folders;
      for (const auto& entry : fs::directory_iterator(at(part))) folders.push_back(entry.path());
      std::sort(folders.begin(), folders.end());
      for (size_t i = 0; i < folders.size(); ++i)
        if (i >= static_cast<size_t>(classes))
          fs::remove_all(folders[i]);
        else if (i > 0)
          fs::remove(folders[i] / first_name(folders[i]));
    }
  }
  static fs::path first_name(const fs::path& folder) {
    std::vector<fs::path> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path());
    return std::min_element(names.begin(), names.end())->filename();
  }
};

TEST_P(TicFewClasses, ScoresDoNotDependOnTheBatch) {
  const int classes = GetParam();
  // The last batch of 64 has 2 to 4 images.
  make_tree(classes, 66 / classes);
  const std::string train =
      "train_tic --data-dir tree --model tic-n --msa-kernel 3 --img-size 32 --output runs "
      "--warmup-epochs 0 --lr 1e-3 --smoothing 0 --threads 2 --max-steps 2 --json ";
  for (const int batch : {2, 3, 4}) {
    const std::string name = "b" + std::to_string(batch);
    result(train + "--name " + name + " -b " + std::to_string(batch));
    const auto lines = metrics("runs/" + name);
    ASSERT_FALSE(lines.empty());
    EXPECT_NEAR(lines[0]["loss"], std::log(classes), 0.3) << "batches of " << batch;
  }
  nlohmann::json one;
  for (const int batch : {1, 2, 3, 4, 5, 64}) {
    SCOPED_TRACE("batches of " + std::to_string(batch));
    const std::string eval =
        "eval_tic --data-dir tree --checkpoint runs/b3 --img-size 32 --threads 2 --json -b " +
        std::to_string(batch);
    const auto found = result(eval);
    EXPECT_EQ(found, result(eval));
    if (batch == 1) one = found;
    EXPECT_EQ(found["count"], 66 / classes * classes + 1);
    EXPECT_EQ(found["top1"], one["top1"]);
    EXPECT_NEAR(found["loss"], one["loss"], 1e-6);
  }
  const std::string number = std::to_string(classes);
  EXPECT_NE(
      run("eval_tic --data-dir tree --checkpoint runs/b3")
          .log.find("Acc@5: the model has " + number + " classes, so that every image counts"),
      std::string::npos);
  refused("eval_tic --data-dir cue --cue-count 10 --checkpoint runs/b3", 3,
          {"runs/b3: its " + number + " classes (", "are not the 10 of the cue task ("});
}

INSTANTIATE_TEST_SUITE_P(Classes, TicFewClasses, ::testing::Values(2, 3, 5));

}  // namespace
}  // namespace mullion
