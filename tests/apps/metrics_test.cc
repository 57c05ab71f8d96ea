// metrics.jsonl, summary.csv, TensorBoard records, trainer_state.json.
#include "apps/run/metrics.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>

#include "apps/program/log.h"
#include "apps/run/tensorboard.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/file_ops.h"
#include "tests/apps/temporary_run.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::TemporaryRun;

std::string content(const fs::path& path) { return read_whole_file(path, 1 << 20); }
void put(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }
JsonObject line(int64_t step) { return JsonObject().set("step", step).set("loss", 1.0 / 4); }

TEST(MetricsLog, ResumeCutsLaterStepsAndTheHalfWrittenTail) {
  TemporaryRun run;
  const fs::path file = run.path() / "metrics.jsonl";
  {
    MetricsLog log(run.path(), 0);
    for (int64_t step = 1; step <= 5; ++step) log.write(line(step));
  }
  const std::string whole = content(file);
  EXPECT_EQ(whole.substr(0, whole.find('\n')), "{\"step\": 1, \"loss\": 0.25}");
  // Cut anywhere, then resumed from step 3: steps 1 to 3 as far as they were written, then on.
  const size_t three = whole.find("{\"step\": 4");
  for (size_t cut = 0; cut <= whole.size(); ++cut) {
    put(file, whole.substr(0, cut));
    MetricsLog log(run.path(), 3);
    log.write(line(4));
    const size_t last_newline = whole.substr(0, std::min(cut, three)).rfind('\n');
    const std::string kept =
        last_newline == std::string::npos ? "" : whole.substr(0, last_newline + 1);
    EXPECT_EQ(content(file), kept + line(4).text() + "\n") << cut;
  }
  EXPECT_EQ(content(run.path() / "metrics.jsonl.bak"), whole);
  put(file, whole);
  MetricsLog fresh(run.path(), 0);
  EXPECT_EQ(content(file), "");
}

TEST(MetricsLog, AFullDiskIsAWarningAndLeavesWholeLines) {
  TemporaryRun run;
  MetricsLog log(run.path(), 0);
  log.write(line(1));
  testing::internal::CaptureStderr();
  set_file_hook([](const FileOp&) { return ENOSPC; });
  log.write(line(2));
  log.write(line(3));
  log.sync();
  set_file_hook({});
  const std::string warnings = testing::internal::GetCapturedStderr();
  EXPECT_EQ(warnings.find("warning"), warnings.rfind("warning")) << warnings;
  log.write(line(4));
  EXPECT_EQ(content(run.path() / "metrics.jsonl"), line(1).text() + "\n" + line(4).text() + "\n");
}

TEST(SummaryCsv, Golden) {
  TemporaryRun run;
  const fs::path file = run.path() / "summary.csv";
  {
    SummaryCsv csv(run.path());
    csv.row(0, {6.9, 6.5, 0.1, 2.25, 5e-7});
    csv.row(1, {5.0, std::nullopt, std::nullopt, std::nullopt, 0.001});
    csv.row(2, {4.5, 4.25, 10, 30, 1e-5});
  }
  const std::string golden =
      "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr\n"
      "0,6.9,6.5,0.1,2.25,5e-07\n"
      "1,5.0,,,,0.001\n"
      "2,4.5,4.25,10.0,30.0,1e-05\n";
  EXPECT_EQ(content(file), golden);
  put(file, golden + "3,1.0,hal");
  SummaryCsv resumed(run.path(), 2);
  resumed.row(2, {4.5, 4.25, 10, 30, 1e-5});
  EXPECT_EQ(content(file), golden);
  EXPECT_THROW(resumed.row(3, {1.0}), Error);
}

TEST(SummaryCsv, NumbersAsPythonPrintsThem) {
  EXPECT_EQ(python_number(0.1), "0.1");
  EXPECT_EQ(python_number(1e16), "1e+16");
  EXPECT_EQ(python_number(123456789012345680.0), "1.2345678901234568e+17");
  EXPECT_EQ(python_number(1e15), "1000000000000000.0");
  EXPECT_EQ(python_number(0.0001), "0.0001");
  EXPECT_EQ(python_number(0.00001), "1e-05");
  EXPECT_EQ(python_number(-0.0), "-0.0");
  EXPECT_EQ(python_number(std::nan("")), "nan");
  EXPECT_EQ(python_number(0.1f), "0.10000000149011612");
}

std::string hex(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", static_cast<unsigned char>(c));
    text += two;
  }
  return text;
}

TEST(TensorBoard, RecordsAndChecksums) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(masked_crc32c("123456789"), 0xc78ab0e5u);
  // time 1.5 = 3ff8000000000000; Event{1: time, 3: "brain.Event:2"}
  EXPECT_EQ(hex(version_event(1.5)), "09000000000000f83f1a0d627261696e2e4576656e743a32");
  EXPECT_EQ(hex(scalar_event(1.5, 300, "a", 0.5f)),
            "09000000000000f83f"
            "10ac02"
            "2a0a"
            "0a08"
            "0a0161"
            "150000003f");
  EXPECT_EQ(hex(start_event(1.5, 7)), "09000000000000f83f10073a020801");
  const std::string record = event_record("abc");
  EXPECT_EQ(record.size(), 8 + 4 + 3 + 4u);
  EXPECT_EQ(hex(record.substr(0, 8)), "0300000000000000");
  EXPECT_EQ(record.substr(12, 3), "abc");
}

// Reads a file record by record and checks both checksums of each.
std::vector<std::string> records_of(const std::string& bytes) {
  std::vector<std::string> payloads;
  for (size_t at = 0; at + 16 <= bytes.size();) {
    uint64_t length;
    uint32_t crc;
    std::memcpy(&length, bytes.data() + at, 8);
    std::memcpy(&crc, bytes.data() + at + 8, 4);
    EXPECT_EQ(crc, masked_crc32c(bytes.substr(at, 8)));
    payloads.push_back(bytes.substr(at + 12, length));
    std::memcpy(&crc, bytes.data() + at + 12 + length, 4);
    EXPECT_EQ(crc, masked_crc32c(payloads.back()));
    at += 16 + length;
  }
  return payloads;
}

TEST(TensorBoard, ResumedFilesBeginWithStart) {
  TemporaryRun run;
  {
    EventWriter first(run.path());
    first.scalar("train/loss", 2.5, 1);
    EventWriter second(run.path(), 2);
    second.scalar("train/loss", 2.0, 2);
    second.text("config", "x = 1", 2);
    second.image("samples", 1, 1, "png", 2);
  }
  std::vector<size_t> counts;
  for (const auto& entry : fs::directory_iterator(run.path())) {
    const auto records = records_of(content(entry.path()));
    counts.push_back(records.size());
    EXPECT_NE(records[0].find("brain.Event:2"), std::string::npos);
    if (records.size() == 5) {
      EXPECT_EQ(hex(records[1]).substr(18), "10023a020801");
    }
  }
  std::sort(counts.begin(), counts.end());
  EXPECT_EQ(counts, (std::vector<size_t>{2, 5}));
}

TEST(TrainerStateFile, RoundTripKeepsTheText) {
  TrainerState state;
  state.global_step = 3;
  state.epoch = 0.5;
  state.log_history = {
      JsonObject().set("step", 1).set("loss", 100000.0).set("learning_rate", 2e-5f).text(),
      JsonObject().set("step", 2).set("loss", std::nan("")).text()};
  const std::string text = trainer_state_text(state);
  const TrainerState back = parse_trainer_state(text, "trainer_state.json");
  EXPECT_EQ(back.global_step, 3);
  EXPECT_FALSE(back.best_metric.has_value());
  EXPECT_EQ(trainer_state_text(back), text);
  EXPECT_THROW(parse_trainer_state("{\"global_step\": -1}", "f"), Error);
  EXPECT_THROW(parse_trainer_state("{", "f"), Error);
}

}  // namespace
}  // namespace mullion
