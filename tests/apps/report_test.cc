// The report: what it reads from a run folder, and the page it makes of it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "apps/report/chart.h"
#include "apps/report/document.h"
#include "apps/report/run_record.h"
#include "apps/report/sections.h"
#include "tensor/check.h"
#include "tensor/io/file.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

class Report : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("mullion_report_" + std::to_string(::getpid()));
    fs::create_directories(folder_ / "first/eval");
    std::string lines;
    for (int step = 1; step <= 30; ++step) {
      const std::string loss = step == 3 ? "\"NaN\"" : std::to_string(3.0 / step);
      lines += "{\"t\": 1.5, \"step\": " + std::to_string(step) +
               ", \"split\": \"train\", \"loss\": " + loss +
               ", \"tokens\": 100, \"tok_s\": 50, \"data_s\": 0.5}\n";
    }
    lines += "{\"step\": 30, \"split\": \"val\", \"loss\": 0.25}\n{\"step\": 31, \"spl";
    write_whole_file(folder_ / "first/metrics.jsonl", lines);
    write_whole_file(folder_ / "first/command.txt", "train_llama pretrain <x>\n");
    write_whole_file(folder_ / "first/config.toml",
                     "# train_llama\n\n[attention]\nkind = \"sf\"  # text; from flag\n");
    write_whole_file(folder_ / "first/eval/ppl.json",
                     R"({"results": [{"ctx_size": 128, "perplexity": 9.5},
                                     {"ctx_size": 512, "perplexity": 4.25}]})");
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path folder_;
};

TEST_F(Report, ReadsARun) {
  const RunRecord run = read_run(folder_ / "first");
  EXPECT_EQ(run.name, "first");
  EXPECT_EQ(run.curve("loss").size(), 29u);  // one step had no finite loss
  EXPECT_EQ(run.val.at("loss").size(), 1u);
  EXPECT_EQ(run.config.at("attention.kind"), "\"sf\"");
  ASSERT_EQ(run.evaluations.size(), 2u);
  EXPECT_EQ(run.evaluations[1].at("perplexity").number, 4.25);
  EXPECT_FALSE(run.of_images());
  // Tasks by name, as lm-eval lays them out.
  write_whole_file(folder_ / "first/eval/tasks.json",
                   R"({"results": {"copa": {"acc,none": 0.5}}})");
  const RunRecord tasks = read_run(folder_ / "first");
  ASSERT_EQ(tasks.evaluations.size(), 3u);
  EXPECT_EQ(tasks.evaluations[2].at("task").text, "copa");
  EXPECT_EQ(tasks.evaluations[2].at("acc,none").number, 0.5);
  Document page("A title");
  add_evaluations(page, {tasks});
  add_evaluation_pictures(page, {tasks});
  EXPECT_NE(page.markdown().find("copa"), std::string::npos);
  EXPECT_THROW(read_run(folder_), Error);
  write_whole_file(folder_ / "first/metrics.jsonl", "{\"step\": \"one\"}\n");
  EXPECT_THROW(read_run(folder_ / "first"), Error);
}

TEST_F(Report, OnePageWithoutAnythingFromOutside) {
  Document document("A <title>");
  const std::vector<RunRecord> runs = {read_run(folder_ / "first")};
  add_overview(document, runs);
  add_curves(document, runs, 0.9);
  add_evaluations(document, runs);
  add_attention(document, runs);
  const std::string html = document.html();
  EXPECT_NE(html.find("<svg"), std::string::npos);
  EXPECT_NE(html.find("data:image/png;base64,iVBORw0KGgo"), std::string::npos);
  EXPECT_NE(html.find("train_llama pretrain &lt;x&gt;"), std::string::npos);
  for (const char* outside : {"<script", "http://", "https://", "<link"}) {
    EXPECT_EQ(html.find(outside), std::string::npos) << outside;
  }
  EXPECT_NE(document.markdown().find("| first | ppl | 512 | 4.25 |"), std::string::npos);
}

TEST_F(Report, TablesFromOutside) {
  write_whole_file(folder_ / "extra.json",
                   R"({"title": "More", "notes": ["a|b"], "tables": [{"title": "T",
                       "columns": ["x", "y"], "rows": [["a|b", 1234.5]]}], "charts": [{"title": "C",
                       "series": [{"name": "s", "points": [[1, 2], [2, 3]]}]}]})");
  Document document("page");
  add_extra(document, folder_ / "extra.json");
  EXPECT_NE(document.markdown().find("| a\\|b | 1234 |"), std::string::npos) << document.markdown();
  write_whole_file(folder_ / "extra.json", R"({"tables": [{"columns": ["x"], "rows": [[1, 2]]}]})");
  EXPECT_THROW(add_extra(document, folder_ / "extra.json"), Error);
  write_whole_file(folder_ / "extra.json", R"({"titel": "More"})");
  EXPECT_THROW(add_extra(document, folder_ / "extra.json"), Error);
}

TEST_F(Report, EvaluationsAsPictures) {
  const auto page_with = [&](const std::string& answer) {
    write_whole_file(folder_ / "first/eval/more.json", answer);
    Document document("A title");
    add_evaluation_pictures(document, {read_run(folder_ / "first")});
    return document.markdown() + document.html();
  };
  EXPECT_NE(page_with(R"({"depths": [{"tokens": 900, "depth": 50, "accuracy": 0.5}]})")
                .find("across 900 tokens; down: depth 50 %"),
            std::string::npos);
  EXPECT_NE(page_with(R"({"categories": [{"category": "code", "score": 59.2}]})").find(">59.2<"),
            std::string::npos);
  const std::string caches = page_with(
      R"({"results": [{"kv": "full", "kv_budget": null, "acc": 0.5, "tok_s": 9},
                      {"kv": "h2o", "kv_budget": "20%", "acc": 0.4, "tok_s": 12,
                       "kept": {"kv_heads": 2, "by_layer": [[2, 1, 0], [0, 2, 2]]}}]})");
  EXPECT_NE(caches.find("first more, accuracy"), std::string::npos);
  EXPECT_NE(caches.find("first more, h2o 20%"), std::string::npos);
}

TEST_F(Report, AStoppedEvaluationIsNoResult) {
  const size_t before = read_run(folder_ / "first").evaluations.size();
  write_whole_file(folder_ / "first/eval/sizes.json",
                   R"({"results": [{"img_size": 32, "top1": 50.5, "complete": true},
                      {"img_size": 64, "top1": 10.1, "complete": false}]})");
  const RunRecord run = read_run(folder_ / "first");
  ASSERT_EQ(run.evaluations.size(), before + 1);
  EXPECT_EQ(run.evaluations.back().at("top1").text, "50.5");
}

TEST_F(Report, WhatIsWrongInAFileNamesIt) {
  const auto refused = [&](const std::string& text, const std::string& words) {
    write_whole_file(folder_ / "first/eval/x.json", text);
    Document document("a");
    try {
      add_evaluation_pictures(document, {read_run(folder_ / "first")});
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      const std::string what = error.what();
      EXPECT_NE(what.find("first/eval/x.json"), std::string::npos) << what;
      EXPECT_NE(what.find(words), std::string::npos) << what;
      EXPECT_EQ(error.fault(), Fault::bad_file);
    }
  };
  refused("{\"results\": [", "x.json");
  refused(R"({"categories": [{"category": 5, "score": 1}]})", "category");
  refused(R"({"results": [{"kv": "h2o", "kv_budget": "many%", "acc": 1}]})", "kv_budget: many%");
  refused(R"({"results": [{"kept": {"kv_heads": "two", "by_layer": [[1]]}}]})", "kept");
  refused(R"({"results": [{"kept": 5}]})", "kept");
}

TEST(ReportChart, TicksAreRoundAndCoverTheRange) {
  EXPECT_EQ(chart_ticks(0, 10, 5, false), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(chart_ticks(3, 70, 5, true), (std::vector<double>{5, 10, 20, 50}));
  EXPECT_LE(chart_ticks(25, std::nextafter(25, 26), 5, false).size(), 11u);
  EXPECT_EQ(short_number(1234567), "1,234,567");
  EXPECT_EQ(short_number(-0.00001), "-1.0e-05");
}

TEST(ReportChart, SmoothingIsUnbiasedAndSkipsGaps) {
  const auto constant = smoothed({{1, 2}, {2, NAN}, {3, 2}}, 0.9);
  ASSERT_EQ(constant.size(), 2u);
  EXPECT_DOUBLE_EQ(constant[0].second, 2);
  EXPECT_DOUBLE_EQ(constant[1].second, 2);
  EXPECT_EQ(svg_chart({.title = "nothing", .x_label = "", .y_label = "", .series = {}}), "");
  const Chart point{.title = "one", .x_label = "", .y_label = "", .series = {{"a", {{1, 0}}}}};
  EXPECT_EQ(svg_chart(point).find("nan"), std::string::npos);
  const Chart flat{.title = "flat",
                   .x_label = "",
                   .y_label = "",
                   .series = {{"a", {{1, 25}, {2, std::nextafter(25, 26)}}}}};
  EXPECT_LT(svg_chart(flat).size(), 4000u);
}

TEST(ReportDocument, Base64) {
  EXPECT_EQ(base64({}), "");
  EXPECT_EQ(base64({'f'}), "Zg==");
  EXPECT_EQ(base64({'f', 'o'}), "Zm8=");
  EXPECT_EQ(base64({'f', 'o', 'o'}), "Zm9v");
}

}  // namespace
}  // namespace mullion
