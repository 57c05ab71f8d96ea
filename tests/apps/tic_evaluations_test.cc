// The TiC programs as a user calls them to judge what was trained: an evaluation's figures, whole
// and stopped, and predictions of folders and lists.
#include <algorithm>

#include "tensor/io/file.h"
#include "tests/apps/tic_programs.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::Answer;
using test::contents;
using test::TicPrograms;

// Figures of a part are told as such, and whole ones before it are kept.
TEST_F(TicPrograms, AStoppedEvaluationIsNoWholeOne) {
  ASSERT_EQ(run("train_tic --data-dir cue --model tic-n --img-size 32 -b 4 --max-steps 1 "
                "--cue-count 16 --warmup-epochs 0 --output runs --name c --threads 1")
                .code,
            0);
  const Answer cut = stop(
      "eval_tic --checkpoint runs/c --data-dir cue --cue-count 64 --img-size 32,640 -b 2 "
      "--results-file sizes.csv --threads 1 --json",
      "sizes.csv", "TERM");
  ASSERT_EQ(cut.code, 75) << cut.log;
  const auto results = cut.json()["results"];
  ASSERT_EQ(results.size(), 2u) << cut.log;
  EXPECT_EQ(results[0]["complete"], true);
  EXPECT_EQ(results[0]["count"], 64);
  EXPECT_EQ(results[1]["complete"], false);
  EXPECT_LT(results[1]["count"], 64);
  EXPECT_NE(cut.log.find("images; stopped before the end\n"), std::string::npos) << cut.log;
  EXPECT_EQ(contents(at("sizes.csv")).find("640"), std::string::npos);
}

TEST_F(TicPrograms, AnEvaluationJudgesClassesConfidenceAndAList) {
  ASSERT_EQ(run(train_ + "--max-steps 1 --name a").code, 0);
  const std::string eval = "eval_tic --data-dir tree --checkpoint runs/a --threads 1 ";
  const Answer judged = run(eval +
                            "--topk 1,3 --per-class --confusion c.csv --results-file r.md "
                            "--results-format md --json");
  ASSERT_EQ(judged.code, 0) << judged.log;
  const auto r = judged.json();
  ASSERT_EQ(r["per_class"].size(), 10u);
  double recall = 0;
  int64_t images = 0;
  for (const auto& c : r["per_class"]) {
    recall += c["recall"].get<double>() / 10;  // all classes have as many images
    EXPECT_EQ(c["count"], 4);
  }
  EXPECT_NEAR(recall, r["top1"].get<double>(), 1e-9);
  EXPECT_GE(r["top3"].get<double>(), r["top1"].get<double>());
  EXPECT_LE(r["top3"].get<double>(), r["top5"].get<double>());
  for (const auto& bin : r["calibration"]) images += bin["count"].get<int64_t>();
  EXPECT_EQ(images, 40);
  EXPECT_GE(r["ece"], 0);
  const std::string confusion = contents(at("c.csv"));
  EXPECT_EQ(std::count(confusion.begin(), confusion.end(), '\n'), 11);
  EXPECT_EQ(contents(at("r.md")).find("| model | img_size | top1 |"), 0u);
  EXPECT_NE(judged.log.find(" Acc@3 "), std::string::npos) << judged.log;
  EXPECT_NE(judged.log.find(", ECE "), std::string::npos) << judged.log;

  write_whole_file(at("list.txt"), "tree/val/2-ring/00001.png\n0-plus/00000.png\n");
  EXPECT_EQ(result(eval + "--images-list list.txt --json")["count"], 2);
  write_whole_file(at("bad.txt"), "0-plus/00000.png\n0-plus/77777.png\n");
  refused(eval + "--images-list bad.txt", 3, {"bad.txt:2", "0-plus/77777.png"});
  refused(eval + "--confusion none/c.csv", 4, {"none/c.csv"});
  refused(eval + "--confusion c.csv --img-size 32,48", 2, {"--confusion", "2 sizes"});
  refused(eval + "--results-format md", 2, {"--results-format", "--results-file"});
  refused("eval_tic --data-dir cue --checkpoint runs/a --real-labels c.csv", 2, {"--real-labels"});
}

TEST_F(TicPrograms, PredictGoesThroughFoldersAndOnAfterABadFile) {
  ASSERT_EQ(run(train_ + "--max-steps 1 --name a").code, 0);
  fs::create_directories(at("some/deep"));
  fs::copy(at("tree/val/0-plus/00000.png"), at("some/a,b.png"));
  write_whole_file(at("some/b.png"), "no picture");
  fs::copy(at("tree/val/2-ring/00000.png"), at("some/deep/c.PNG"));
  write_whole_file(at("some/notes.txt"), "not taken");
  const std::string predict = "tool_tic predict --checkpoint runs/a ";
  const Answer told = run(predict + "some --topk 2 --csv p.csv --json");
  EXPECT_EQ(told.code, 3) << told.log;
  EXPECT_NE(told.log.find("some: 3 images, 1 .txt (notes.txt) not taken"), std::string::npos)
      << told.log;
  EXPECT_NE(told.log.find("error: some/b.png: "), std::string::npos) << told.log;
  EXPECT_NE(told.log.find("error: 1 of 3 images could not be read"), std::string::npos);
  const auto images = told.json()["images"];
  ASSERT_EQ(images.size(), 3u);
  EXPECT_EQ(images[0]["file"], "some/a,b.png");
  EXPECT_EQ(images[0]["top2"].size(), 2u);
  EXPECT_TRUE(images[1].contains("error"));
  EXPECT_EQ(images[2]["file"], "some/deep/c.PNG");
  const std::string csv = contents(at("p.csv"));
  EXPECT_EQ(csv.find("file,rank,class,probability\n\"some/a,b.png\",1,"), 0u) << csv;
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 1 + 2 * 2);
  // A list, by which the folder's images are the same; probabilities of all classes in the text.
  write_whole_file(at("list.txt"), "some/a,b.png\r\n\nsome/deep\n");
  const Answer listed = run(predict + "--images-list list.txt --probabilities | tee out");
  EXPECT_EQ(listed.code, 0) << listed.log;
  const std::string text = contents(at("out"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2 * (1 + 10)) << text;
  EXPECT_NE(text.find("\n  0."), std::string::npos) << text;
  refused(predict, 2, {"--images-list"});
}

}  // namespace
}  // namespace mullion
