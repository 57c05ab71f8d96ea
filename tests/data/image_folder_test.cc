// Folder trees as people have them: odd names, empty classes, links, pipes.
#include "data/image_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "golden_images.h"
#include "tensor/check.h"
#include "tests/shared_data.h"
#include "tests/source_dir.h"

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

  // How many entries of a kind a folder says it did not take.
  static int64_t count(const ImageFolder& folder, const std::string& kind) {
    for (const NotTaken& n : folder.not_taken())
      if (n.kind == kind) return n.count;
    return 0;
  }

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
  for (const char* name : {"b/2.jpg", "b/10.JPEG", "a~/\xFF.png", "B/1.jpg", "\xC3\xA9/1.jpg",
                           "b/deeper/3.Jpg", "b/notes.txt", "b/.hidden.jpg", ".git/1.jpg"}) {
    put(name);
  }
  const ImageFolder folder(tree() + "/");
  EXPECT_EQ(folder.classes(), (std::vector<std::string>{"B", "a~", "b", "\xC3\xA9"}));
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
  EXPECT_EQ(ImageFolder(tree()).size(), 3);
}

TEST_F(FolderTest, WhatIsNotTakenIsCountedByKind) {
  for (const char* name : {"a/1.jpg", "a/b.txt", "a/c.webp", "a/deep/d.HEIC", "a/deep/e.webp",
                           "a/.DS_Store", ".git/x.jpg", "Thumbs.db", "loose.png", "a/LICENSE"})
    put(name);
  fs::create_symlink("gone.jpg", root_ / "tree" / "a" / "broken.jpg");
  ::mkfifo((root_ / "tree" / "a" / "pipe.jpg").c_str(), 0600);
  fs::create_directory_symlink("..", root_ / "tree" / "a" / "loop");
  const ImageFolder folder(tree());
  EXPECT_EQ(folder.size(), 1);
  for (const auto& [kind, n] : {std::pair{".webp", 2},
                                {".heic", 1},
                                {".txt", 1},
                                {".db", 1},
                                {"hidden", 2},
                                {"file without extension", 1},
                                {"broken link", 1},
                                {"picture outside of the class folders", 1},
                                {"pipe, socket or device", 1},
                                {"link to a folder that it stands in", 1}})
    EXPECT_EQ(count(folder, kind), n) << kind;
  EXPECT_EQ(folder.not_taken().size(), 10u);
  for (const NotTaken& n : folder.not_taken()) {
    if (n.kind == ".webp") {
      EXPECT_EQ(n.example, "a/c.webp");
    }
    EXPECT_EQ(n.picture, n.kind == ".webp" || n.kind == ".heic" || n.kind == "broken link" ||
                             n.kind == "picture outside of the class folders")
        << n.kind;
  }
}

TEST_F(FolderTest, LinkedClassesAndImagesAreFollowed) {
  for (const char* name : {"train/a/1.jpg", "train/a/2.jpg", "train/b/1.jpg", "store/3.jpg",
                           "store/more/4.png", "val/b/9.jpg"})
    put(name);
  fs::create_directory_symlink("../train/a", root_ / "tree/val/a");
  fs::create_symlink("../../store/3.jpg", root_ / "tree/val/b/3.jpg");
  fs::create_directory_symlink("../../store/more", root_ / "tree/val/b/more");
  const ImageFolder val(tree() + "/val");
  EXPECT_EQ(val.classes(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(val.size(), 5);
  EXPECT_TRUE(val.doubts().empty());
  EXPECT_TRUE(val.not_taken().empty());
  // A class that leads to another class has its pictures, which is said.
  fs::create_directory_symlink("b", root_ / "tree/train/c");
  const ImageFolder train(tree() + "/train");
  EXPECT_EQ(train.size(), 4);
  EXPECT_EQ(train.doubts(), (std::vector<std::string>{"c is the same folder as b"}));
  // Two ways to one folder of a class: once, which is said.
  fs::create_directory_symlink("../../store/more", root_ / "tree/val/b/again");
  EXPECT_EQ(ImageFolder(tree() + "/val").size(), 5);
  EXPECT_EQ(count(ImageFolder(tree() + "/val"), "folder of this class met a second time"), 1);
  const ImageFolder unlinked(tree() + "/val", {nullptr, false});
  EXPECT_EQ(unlinked.classes(), (std::vector<std::string>{"b"}));
  EXPECT_EQ(unlinked.size(), 1);
  EXPECT_EQ(count(unlinked, "link (--no-follow-links)"), 4);
}

TEST_F(FolderTest, ClassNamesThatCouldNotBeSavedAreRefused) {
  put("a/1.jpg");
  put("caf\xE9/1.jpg");
  expect_refused("1 class names are not UTF-8 and could not be saved with a model: caf\\xe9");
  const std::vector<std::string> training = {"a", "b"};
  expect_refused("caf\\xe9", {&training});
  fs::remove_all(root_ / "tree" / "caf\xE9");
  put("A/1.jpg");
  put("a\nb/1.jpg");
  put(std::string(255, 'x') + "/1.jpg");
  const ImageFolder folder(tree());
  EXPECT_EQ(folder.size(), 4);
  EXPECT_EQ(folder.doubts(),
            (std::vector<std::string>{"classes A and a differ only by case or by Unicode's "
                                      "normal form"}));
#ifdef MULLION_HAVE_UTF8PROC
  put("caf\u00e9/1.jpg");   // composed
  put("cafe\u0301/1.jpg");  // an accent behind its letter, as macOS writes
  EXPECT_EQ(ImageFolder(tree()).doubts().size(), 2u);
  const std::vector<std::string> known = {"A", "a", "a\nb", "cafe\u0301", std::string(255, 'x')};
  expect_refused("; caf\u00e9 and the training set's cafe\u0301 differ only by", {&known});
#endif
}

TEST_F(FolderTest, ClassesWithoutAFolderHereAreNamed) {
  put("b/1.jpg");
  const std::vector<std::string> training = {"a", "b", "c"};
  EXPECT_EQ(ImageFolder(tree(), {&training}).absent_classes(),
            (std::vector<std::string>{"a", "c"}));
}

TEST_F(FolderTest, NotesAreCountedOnceAPicture) {
  put("a/1.jpg");
  const fs::path real = fs::path(test::source_dir) / "tests/real/images";
  for (const char* name : {"exif6.jpg", "exif3.jpg", "jfif21.jpg"})
    fs::copy_file(real / name, root_ / "tree" / "a" / name);
  const auto folder = std::make_shared<ImageFolder>(tree());
  EvalTransform eval;
  eval.height = eval.width = 4;  // none is enlarged
  std::vector<float> sample(4 * 4 * 3);
  const ImageDataset dataset(folder, eval);
  for (int64_t i : {3, 2, 1, 0, 3, 2, 1, 0}) dataset.load({1, 0, i}, sample.data());
  const std::vector<NoteCount> notes = dataset.notes();
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_EQ(notes[0].note, ImageNote::jfif_revision);
  EXPECT_EQ(notes[0].pictures, 1);
  EXPECT_EQ(notes[1].note, ImageNote::orientation_ignored);
  EXPECT_EQ(notes[1].pictures, 2);
  EXPECT_EQ(notes[1].example, tree() + "/a/exif6.jpg");
  const ImageDataset upright(folder, eval, ExifUse::apply);
  for (int64_t i = 0; i < 4; ++i) upright.load({1, 0, i}, sample.data());
  EXPECT_EQ(upright.notes().size(), 1u);
}

TEST_F(FolderTest, DatasetGivesSamplesAndLabels) {
  put("a/1.jpg", "rgb420.jpg");
  put("b/1.png", "rgb8i1.png");
  const auto folder = std::make_shared<ImageFolder>(tree());
  AugmentSettings train;
  train.height = 20, train.width = 24;
  const ImageDataset dataset(folder, TrainTransform(train));
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
  const ImageDataset dataset(folder, eval);
  std::vector<float> sample(64 * 96 * 3);
  for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(dataset.load({0, 0, i}, sample.data()), i);
}

}  // namespace
}  // namespace mullion
