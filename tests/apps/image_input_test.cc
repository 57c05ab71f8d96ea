// Folders and photos as people have them, given to the TiC programs: what is not used is said, on
// stderr and in the result; what cannot be saved is refused before anything is computed.
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tests/apps/programs.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::Answer;
using test::contents;

class ImageInput : public test::Programs {
 protected:
  ImageInput() : Programs({"train_tic", "eval_tic", "tool_tic", "data_tic"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    EXPECT_EQ(run("data_tic cue --output tree --per-class 4").code, 0);
  }
  // A picture of tests/real/images put into the tree.
  void put(const std::string& real, const std::string& to) const {
    fs::create_directories(at(to).parent_path());
    fs::copy_file(fs::path(test::source_dir) / "tests/real/images" / real, at(to));
  }
  static void expect_says(const Answer& answer, const std::vector<std::string>& words) {
    for (const std::string& word : words)
      EXPECT_NE(answer.log.find(word), std::string::npos) << word << "\n" << answer.log;
  }
  static size_t occurrences(const std::string& text, const std::string& word) {
    size_t n = 0;
    for (size_t i = text.find(word); i != std::string::npos; i = text.find(word, i + 1)) ++n;
    return n;
  }

  const std::string train_ =
      "train_tic --data-dir tree --model tic-n --msa-kernel 3 -b 8 --img-size 32 --output runs "
      "--warmup-epochs 0 --lr 1e-3 --threads 1 --json --max-steps 2 ";
  const std::string eval_ = "eval_tic --data-dir tree --threads 1 --json --checkpoint runs/";
};

TEST_F(ImageInput, WhatIsNotTakenIsToldBySplitAndKind) {
  for (const char* name : {"a.md", "b.txt", "c.webp", "d.heic", "e.HEIC"})
    write_whole_file(at("tree/train/0-plus") / name, "x");
  write_whole_file(at("tree/val/.DS_Store"), "x");
  fs::remove_all(at("tree/val/1-cross"));
  const Answer trained = run(train_ + "--name a");
  ASSERT_EQ(trained.code, 0) << trained.log;
  expect_says(trained, {"warning: tree/train: 5 entries not taken:", "2 .heic (0-plus/d.heic, ...)",
                        "1 .webp (0-plus/c.webp)", "1 .md (0-plus/a.md)", "convert or rename",
                        "tree/val: 1 entry not taken: 1 hidden (.DS_Store)",
                        "no images of 1 of the model's 10 classes: 1-cross"});
  EXPECT_EQ(trained.json()["not_taken"]["train"],
            (nlohmann::json{{".heic", 2}, {".webp", 1}, {".md", 1}, {".txt", 1}}));
  EXPECT_EQ(trained.json()["not_taken"]["val"], (nlohmann::json{{"hidden", 1}}));
  EXPECT_NE(contents(at("runs/a/train.log")).find("2 .heic"), std::string::npos);
  const Answer scored = run(eval_ + "a");
  expect_says(scored, {"1 hidden (.DS_Store)", "no images of 1 of the model's 10 classes"});
  EXPECT_EQ(scored.json()["not_taken"], (nlohmann::json{{"hidden", 1}}));
}

TEST_F(ImageInput, OrientationIsUsedAsInTraining) {
  for (const char* split : {"train", "val"})
    for (const char* photo : {"exif6.jpg", "exif8.jpg"})
      put(photo, concat("tree/", split, "/0-plus/", photo));
  const Answer ignoring = run(train_ + "--max-steps 6 --name ignored");
  ASSERT_EQ(ignoring.code, 0) << ignoring.log;
  expect_says(ignoring, {"EXIF orientation ignored", "2 validation images: EXIF orientation"});
  EXPECT_EQ(occurrences(ignoring.log, "warning: tree/"), 1u) << ignoring.log;  // once a kind
  const Answer applying = run(train_ + "--exif apply --name applied");
  ASSERT_EQ(applying.code, 0) << applying.log;
  EXPECT_EQ(applying.log.find("orientation"), std::string::npos) << applying.log;
  const auto config = nlohmann::json::parse(contents(at("runs/applied/last/config.json")));
  EXPECT_EQ(config["exif"], "apply");
  // The checkpoint's way holds; another is announced.
  EXPECT_EQ(run(eval_ + "applied").log.find("orientation"), std::string::npos);
  expect_says(run(eval_ + "ignored"), {"2 images: EXIF orientation ignored"});
  const Answer differing = run(eval_ + "applied --exif ignore");
  expect_says(differing, {"--exif ignore: the model was trained with --exif apply",
                          "2 images: EXIF orientation ignored"});
  EXPECT_EQ(run(eval_ + "applied --exif apply").log.find("was trained"), std::string::npos);
  EXPECT_NE(differing.json()["loss"], result(eval_ + "applied")["loss"]);
  // A prediction says it.
  const std::string predict =
      "tool_tic predict --json tree/val/0-plus/exif6.jpg --checkpoint runs/";
  const Answer ignored = run(predict + "ignored"), applied = run(predict + "applied");
  expect_says(ignored, {"exif6.jpg: EXIF orientation ignored"});
  expect_says(applied, {"exif6.jpg: turned by EXIF orientation 6"});
  EXPECT_EQ(ignored.json()["images"][0]["orientation"], 6);
  EXPECT_EQ(applied.json()["images"][0]["notes"][0], "turned by EXIF orientation 6");
}

TEST_F(ImageInput, JpegsWithHarmlessFaultsAreReadAndTold) {
  for (const char* photo : {"jfif21.jpg", "junk_eoi.jpg", "lost_rst.jpg"})
    put(photo, concat("tree/val/0-plus/", photo));
  ASSERT_EQ(run(train_ + "--name a").code, 0);
  const Answer scored = run(eval_ + "a");
  ASSERT_EQ(scored.code, 0) << scored.log;
  EXPECT_EQ(scored.json()["count"], 43);
  expect_says(scored,
              {"jfif21.jpg: JFIF revision", "1 images: JFIF revision",
               "junk_eoi.jpg: bytes that belong to no", "lost_rst.jpg: JPEG restart marker"});
  put("cut_closed.jpg", "tree/val/0-plus/zcut.jpg");
  refused("tool_tic predict --checkpoint runs/a tree/val/0-plus/zcut.jpg", 3,
          {"zcut.jpg", "premature end of data"});
}

TEST_F(ImageInput, LinkedClassesAreFollowed) {
  fs::remove_all(at("tree/val/2-ring"));
  fs::create_directory_symlink("../train/2-ring", at("tree/val/2-ring"));
  fs::create_directory_symlink("..", at("tree/val/3-tee/up"));
  fs::create_symlink("nowhere.png", at("tree/val/3-tee/gone.png"));
  const Answer trained = run(train_ + "--name a");
  ASSERT_EQ(trained.code, 0) << trained.log;
  expect_says(trained, {"1 of 10 classes are the training set's own folders: 2-ring",
                        "1 broken link (3-tee/gone.png)",
                        "1 link to a folder that it stands in (3-tee/up)"});
  EXPECT_EQ(result(eval_ + "a")["count"], 40);
  const Answer scored = run(eval_ + "a --no-follow-links");
  EXPECT_EQ(scored.json()["count"], 36);
  expect_says(scored, {"3 link (--no-follow-links)", "1 of the model's 10 classes: 2-ring"});
}

TEST_F(ImageInput, NamesThatCannotBeSavedAreRefusedAtTheStart) {
  fs::copy(at("tree/train/0-plus"), at("tree/train/caf\xe9"));
  fs::copy(at("tree/val/0-plus"), at("tree/val/caf\xe9"));
  refused(train_ + "--name a", 3, {"tree/train", "caf\\xe9", "not UTF-8"});
  EXPECT_FALSE(fs::exists(at("runs")));
  for (const char* split : {"train", "val"}) {
    fs::rename(at("tree") / split / "caf\xe9", at("tree") / split / "two\nlines");
    fs::copy(at("tree") / split / "0-plus", at("tree") / split / std::string(200, 'y'));
    fs::rename(at("tree") / split / "0-plus/00000.png", at("tree") / split / "0-plus/\xe9.png");
  }
  const Answer trained = run(train_ + "--name b");
  ASSERT_EQ(trained.code, 0) << trained.log;
  EXPECT_EQ(run(train_ + "--name b --resume auto").code, 0);
  EXPECT_EQ(result(eval_ + "b")["count"], 48);
  const Answer told = run("tool_tic predict --checkpoint runs/b --json tree/val/0-plus/\xe9.png");
  EXPECT_EQ(told.code, 0) << told.log;
  EXPECT_EQ(told.json()["images"].size(), 1u);
}

TEST_F(ImageInput, WeightsToStartFromThatWereTrainedOtherwiseAreTold) {
  ASSERT_EQ(run(train_ + "--name a").code, 0);
  const Answer same = run(train_ + "--initial-checkpoint runs/a --name b");
  EXPECT_EQ(same.log.find("otherwise"), std::string::npos) << same.log;
  for (const char* split : {"train", "val"})
    fs::rename(at("tree") / split / "9-fork", at("tree") / split / "9-spoon");
  expect_says(
      run(train_ + "--initial-checkpoint runs/a --name c --shift off --exif apply"),
      {"trained otherwise: shift \"off\" instead of", "exif \"apply\" instead of \"ignore\"",
       "its 10 classes, 0-plus", "9-fork", "9-spoon; the head is new, with random weights"});
}

TEST_F(ImageInput, FieldsOfAConfigurationThatChangeTheResultAreUsedOrRefused) {
  ASSERT_EQ(run(train_ + "--name a").code, 0);
  const auto good = nlohmann::json::parse(contents(at("runs/a/last/config.json")));
  fs::copy(at("runs/a/checkpoint-000002"), at("ck"));
  fs::remove(at("ck/COMPLETE"));  // else it would have to be as it was saved
  const auto with = [&](const char* pointer, const nlohmann::json& value) {
    nlohmann::json config = good;
    config[nlohmann::json::json_pointer(pointer)] = value;
    write_whole_file(at("ck/config.json"), config.dump());
  };
  const std::string eval = "eval_tic --data-dir tree --threads 1 --json --checkpoint ck";
  with("/pretrained_cfg/input_size", {3, 32, 48});
  refused(eval, 3, {"ck/config.json", "input_size", "[3,32,48]"});
  with("/pretrained_cfg/crop_mode", "squash");
  refused(eval, 3, {"ck/config.json", "crop_mode", "squash"});
  with("/pretrained_cfg/num_classes", 9);
  refused(eval, 3, {"ck/config.json", "num_classes", "9"});
  with("/global_pool", "token");
  refused(eval, 3, {"ck/config.json", "global_pool", "token"});
  with("/model_args/windows", 7);
  refused(eval, 3, {"ck/config.json", "windows"});
  with("/exif", "auto");
  refused(eval, 3, {"ck/config.json", "exif", "auto"});
  with("/pretrained_cfg/test_crop_pct", 1.0);
  expect_says(run(eval), {"ck/config.json: test_crop_pct is not known and not used"});
  with("/label_names/9", "9-spoon");
  refused(eval, 3, {"tree/val", "unknown", "9-fork"});
  // The order of the model's classes, not of the folders, gives the labels.
  nlohmann::json turned = good;
  std::swap(turned["label_names"][0], turned["label_names"][1]);
  write_whole_file(at("ck/config.json"), turned.dump());
  const auto a = result(eval_ + "a"), b = result(eval);
  EXPECT_NE(a["loss"], b["loss"]);
  for (const char* split : {"train", "val"}) {  // the same exchange of the folders undoes it
    fs::rename(at("tree") / split / "0-plus", at("tree") / split / "x");
    fs::rename(at("tree") / split / "1-cross", at("tree") / split / "0-plus");
    fs::rename(at("tree") / split / "x", at("tree") / split / "1-cross");
  }
  EXPECT_NEAR(result(eval)["loss"].get<double>(), a["loss"].get<double>(), 1e-5);
}

}  // namespace
}  // namespace mullion
