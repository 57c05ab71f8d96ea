// Folder trees as people have them: odd names, empty classes, links, pipes.
#include "data/image_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "golden_images.h"
#include "tensor/check.h"
#include "tests/shared_data.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

class FolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("mullion_folder_" + std::to_string(::getpid()));
    fs::remove_all(root_);
    fs::create_directories(root_ / "tree");
  }
  void TearDown() override { fs::remove_all(root_); }

  void put(const std::string& below, const std::string& golden = "size8x8.jpg") {
    const fs::path to = root_ / "tree" / below;
    fs::create_directories(to.parent_path());
    fs::copy_file(test::golden_path(golden), to, fs::copy_options::overwrite_existing);
  }
  std::string tree() const { return root_ / "tree"; }

  void expect_refused(const std::string& words, const FolderOptions& options = {}) {
    try {
      const ImageFolder folder(tree(), options);
      ADD_FAILURE() << "accepted; expected: " << words;
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::bad_file);
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  }

  fs::path root_;
};

TEST_F(FolderTest, ClassesAndFilesInByteOrder) {
  for (const char* name : {"b/2.jpg", "b/10.JPEG", "a\xFF/x.png", "B/1.jpg", "\xC3\xA9/1.jpg",
                           "b/deeper/3.Jpg", "b/notes.txt", "b/.hidden.jpg", ".git/1.jpg"}) {
    put(name);
  }
  const ImageFolder folder(tree() + "/");
  EXPECT_EQ(folder.classes(), (std::vector<std::string>{"B", "a\xFF", "b", "\xC3\xA9"}));
  ASSERT_EQ(folder.size(), 6);
  EXPECT_EQ(folder.path(2), tree() + "/b/10.JPEG");
  EXPECT_EQ(folder.path(3), tree() + "/b/2.jpg");
  EXPECT_EQ(folder.path(4), tree() + "/b/deeper/3.Jpg");
  EXPECT_EQ(folder.label(4), 2);
}

TEST_F(FolderTest, EmptyAndUnknownClassesAreNamed) {
  expect_refused("no class folders");
  put("a/1.jpg");
  fs::create_directories(root_ / "tree" / "void1");
  fs::create_directories(root_ / "tree" / "void2" / "inner");
  expect_refused("2 classes without a picture: void1, void2");
  fs::remove_all(root_ / "tree" / "void1");
  fs::remove_all(root_ / "tree" / "void2");
  put("b/1.jpg");
  const std::vector<std::string> training = {"a", "c", "d"};
  expect_refused("1 classes unknown to the training set: b", {&training});
  const std::vector<std::string> more = {"0", "a", "b", "z"};
  const ImageFolder folder(tree(), {&more});
  EXPECT_EQ(folder.classes(), more);
  EXPECT_EQ(folder.label(0), 1);
  EXPECT_EQ(folder.label(1), 2);
  EXPECT_THROW(ImageFolder("/nowhere/at/all"), Error);
}

TEST_F(FolderTest, LinksPipesAndLoops) {
  put("a/1.jpg");
  fs::create_directory_symlink("..", root_ / "tree" / "a" / "loop");
  fs::create_symlink("1.jpg", root_ / "tree" / "a" / "2.jpg");
  fs::create_symlink("gone.jpg", root_ / "tree" / "a" / "3.jpg");
  ::mkfifo((root_ / "tree" / "a" / "4.jpg").c_str(), 0600);
  fs::create_directory(root_ / "tree" / "a" / "5.jpg");
  const ImageFolder folder(tree());
  EXPECT_EQ(folder.classes().size(), 1u);
  EXPECT_EQ(folder.size(), 2);  // 1.jpg and 2.jpg; the loop leads to folders seen before
  fs::copy_file(test::golden_path("size8x8.jpg"), root_ / "outside.jpg");
  fs::create_symlink(root_ / "outside.jpg", root_ / "tree" / "a" / "6.jpg");
  expect_refused("a link out of");
  EXPECT_EQ(ImageFolder(tree(), {nullptr, true}).size(), 3);
}

TEST_F(FolderTest, DatasetGivesSamplesAndLabels) {
  put("a/1.jpg", "rgb420.jpg");
  put("b/1.png", "rgb8i1.png");
  const auto folder = std::make_shared<ImageFolder>(tree());
  TrainTransform train;
  train.height = 20, train.width = 24;
  const ImageFolderDataset dataset(folder, train);
  EXPECT_EQ(dataset.num_classes(), 2);
  EXPECT_EQ(dataset.shape().floats(), 20 * 24 * 3);
  std::vector<float> sample(20 * 24 * 3);
  EXPECT_EQ(dataset.load({1, 0, 0}, sample.data()), 0);
  EXPECT_EQ(dataset.load({1, 0, 1}, sample.data()), 1);
  fs::resize_file(root_ / "tree" / "a" / "1.jpg", 100);  // cut after the tree was read
  EXPECT_THROW(dataset.load({1, 0, 0}, sample.data()), Error);
  fs::remove(root_ / "tree" / "a" / "1.jpg");
  EXPECT_THROW(dataset.load({1, 0, 0}, sample.data()), Error);
}

TEST(ImageFolder, RealTree) {
  REQUIRE_SHARED("data/images/imagenet_sample100");
  const auto folder =
      std::make_shared<ImageFolder>(test::shared_path("data/images/imagenet_sample100"));
  EXPECT_EQ(folder->size(), 100);
  EXPECT_EQ(folder->classes().size(), 100u);
  EvalTransform eval;
  eval.height = 64, eval.width = 96;
  const ImageFolderDataset dataset(folder, eval);
  std::vector<float> sample(64 * 96 * 3);
  for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(dataset.load({0, 0, i}, sample.data()), i);
}

}  // namespace
}  // namespace mullion
