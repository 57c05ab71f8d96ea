// train_llama sft as a user calls it, against six steps of transformers and PEFT, and what must
// hold by itself: packing and padding change nothing, a resumed run goes on with the same bits,
// rows that cannot be used are named.
#include "tensor/io/file.h"
#include "tests/apps/programs.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Sft : public test::Programs {
 protected:
  Sft() : Programs({"train_llama", "data_llama"}) {}

  static fs::path golden(const std::string& name) {
    return fs::path(test::source_dir) / "tests/golden/sft" / name;
  }
  static json read(const std::string& name) { return json::parse(test::contents(golden(name))); }
  static std::string six_steps(const std::string& more) {
    return "train_llama sft --model '" + golden("model").string() + "' --data '" +
           golden("rows.json").string() + "' --ctx-size 256 --attn full --max-steps 6 --output . " +
           "--initial-adapter '" + golden("adapter").string() +
           "' --train-also none --batch-size 2 --grad-accum-steps 2 --lr 5e-3 --warmup-steps 0 "
           "--opt-betas 0.9,0.95 --no-shuffle " +
           more;
  }
  void as_transformers(const std::string& run) const {
    const json expected = read("expected.json")["steps"];
    const auto lines = metrics(run);
    ASSERT_EQ(lines.size(), expected.size()) << run;
    for (size_t i = 0; i < lines.size(); ++i) {
      EXPECT_NEAR(lines[i]["loss"], expected[i]["loss"], 2e-5) << run << ' ' << i;
      const double norm = expected[i]["grad_norm"];
      EXPECT_NEAR(lines[i]["grad_norm"], norm, 2e-4 * norm) << run << ' ' << i;
      EXPECT_EQ(lines[i]["targets"], expected[i]["targets"]) << run << ' ' << i;
    }
  }
};

TEST_F(Sft, SixStepsAsTransformersAndPeft) {
  ASSERT_EQ(run(six_steps("--name padded")).code, 0);
  as_transformers("padded");
  const auto template_in = json::parse(test::contents(at("padded/last/adapter/longctx.json")));
  EXPECT_EQ(template_in["template"], "chatml");
}

TEST_F(Sft, TheIdsAndTargetsAreThoseOfTransformers) {
  const json expected = read("expected.json");
  const auto shown = result("data_llama instructions '" + golden("rows.json").string() +
                            "' --model '" + golden("model").string() + "' -n 24 --json");
  ASSERT_EQ(shown["samples"].size(), expected["ids"].size());
  for (size_t i = 0; i < expected["ids"].size(); ++i) {
    EXPECT_EQ(shown["samples"][i]["ids"], expected["ids"][i]) << i;
    EXPECT_EQ(shown["samples"][i]["learned"], expected["learned"][i]) << i;
  }
  EXPECT_EQ(shown["template"], "chatml");
  EXPECT_EQ(shown["files"][0]["shape"], "messages");
}

// The rows of a packed step are other ones, so one step over all rows is compared.
TEST_F(Sft, PackedRowsAreThoseOfSeparateOnes) {
  const std::string all = "--max-steps 1 --grad-accum-steps 1 ";
  ASSERT_EQ(run(six_steps(all + "--batch-size 24 --name apart")).code, 0);
  const std::string rows = run(six_steps(all + "--pack --dry-run")).log;
  const size_t begin = rows.find("24 rows in ");
  ASSERT_NE(begin, std::string::npos) << rows;
  const int packed = std::stoi(rows.substr(begin + 11));
  EXPECT_LT(packed, 24);
  ASSERT_EQ(
      run(six_steps(all + "--pack --batch-size " + std::to_string(packed) + " --name packed")).code,
      0);
  const json apart = metrics("apart")[0], together = metrics("packed")[0];
  EXPECT_EQ(apart["targets"], together["targets"]);
  EXPECT_NEAR(apart["loss"], together["loss"], 1e-5 * apart["loss"].get<double>());
  EXPECT_NEAR(apart["grad_norm"], together["grad_norm"], 1e-5 * apart["grad_norm"].get<double>());
}

TEST_F(Sft, AResumedRunHasTheSameBits) {
  const std::string how = "--shuffle --lora-dropout 0.1 --save-every 2 ";
  for (const std::string pack : {"", "--pack "}) {
    const std::string a = pack.empty() ? "a" : "ap", b = pack.empty() ? "b" : "bp";
    ASSERT_EQ(run(six_steps(how + pack + "--name " + a)).code, 0);
    ASSERT_EQ(run(six_steps(how + pack + "--max-steps 3 --name " + b)).code, 0);
    ASSERT_EQ(run(six_steps(how + pack + "--resume auto --name " + b)).code, 0);
    same_runs(a, b, {"last/adapter/adapter_model.safetensors", "last/optimizer.safetensors"});
  }
}

TEST_F(Sft, LongRowsAndDropoutAct) {
  ASSERT_EQ(run(six_steps("--ctx-size 60 --name short")).code, 0);
  EXPECT_NE(metrics("short")[0]["loss"], metrics("short")[1]["loss"]);
  ASSERT_EQ(run(six_steps("--lora-dropout 0.3 --name dropped")).code, 0);
  ASSERT_EQ(run(six_steps("--name kept")).code, 0);
  EXPECT_EQ(metrics("dropped")[0]["loss"], metrics("kept")[0]["loss"]);  // B = 0
  EXPECT_NE(metrics("dropped")[2]["loss"], metrics("kept")[2]["loss"]);
}

TEST_F(Sft, EpochsAndValidation) {
  const auto end =
      result("train_llama sft --model '" + golden("model").string() + "' --data '" +
             golden("rows.json").string() + "' --val-data '" + golden("rows.json").string() +
             "' --ctx-size 256 --attn full --epochs 2 --batch-size 4 "
             "--grad-accum-steps 1 --eval-max-rows 0 --output . --name e --json");
  EXPECT_EQ(end["steps"], 12);
  EXPECT_GT(end["perplexity"], 1);
  refused(six_steps("--epochs 1 --name both"), 2, {"--epochs", "--max-steps"});
}

TEST_F(Sft, RefusesWhatCannotBeLearned) {
  const auto with = [&](const std::string& rows) {
    write_whole_file(at("rows.jsonl"), rows);
    return "train_llama sft --model '" + golden("model").string() +
           "' --data rows.jsonl --ctx-size 64 --attn full --output . --name x ";
  };
  const std::string good = R"({"instruction":"q","output":"a"})";
  refused(with(good + "\n" + R"({"instruction":"q","output":""})"), 3,
          {"rows.jsonl: line 2: output: an empty answer", "--bad-rows drop"});
  refused(with(good + "\n" + R"({"messages":[]})"), 3, {"line 2", "shape messages", "instruction"});
  refused(with(R"({"instruction":"<|im_start|>user q","output":"a"})"), 3,
          {"line 1: instruction: begins with the BOS"});
  refused(
      with(R"({"instruction":"q","output":")" + std::string(400, 'x') + "\"}") + "--truncate skip",
      3, {"no row is left", "1 are longer than 64"});
  refused(with(R"({"instruction":")" + std::string(400, 'x') + R"(","output":"a"})") +
              "--truncate right",
          3, {"1 of 1 rows have nothing left to learn at 64 tokens", "line 1"});
  refused(with(good) + "--template llama3", 2, {"llama3", "<|start_header_id|>"});
  refused(with(good) + "--attn s2-leaky", 2, {"--attn s2-leaky"});
  EXPECT_FALSE(fs::exists(at("x")));
}

}  // namespace
}  // namespace mullion
