// What the TiC programs say of flags, images and checkpoints that are wrong.
#include "tensor/io/file.h"
#include "tests/apps/tic_programs.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::Answer;
using test::contents;

class TicWrongInput : public test::TicPrograms {};

TEST_F(TicWrongInput, WrongFlagsExitWith2) {
  refused(train_ + "--mixupp 1", 2, {"--mixupp", "did you mean --mixup?"});
  refused(train_ + "--img-size -3", 2, {"--img-size", "-3"});
  refused(train_ + "--msa-kernel 4 --msa-dilation 1", 2,
          {"kernel: 4x4", "dilation 1", "--msa-kernel"});
  refused(train_ + "--scale 0.9,0.5", 2, {"--scale 0.9,0.5: "});
  refused(train_ + "--model tic-m", 2, {"tic-m", "tic-rel-t"});
  refused(train_ + "-b 999", 2, {"999", "40"});
  refused("tool_tic predict --checkpoint x --img-size 16384 x.png", 2,
          {"--img-size", "16384", "8192"});
  EXPECT_FALSE(fs::exists(at("runs")));
  // Slow is allowed and explained.
  const Answer wide = run(train_ + "--max-steps 1 --msa-kernel 15 --name wide");
  EXPECT_EQ(wide.code, 0);
  EXPECT_NE(wide.log.find("windows of 15x15 on the map of 4x4 of stage 3"), std::string::npos)
      << wide.log;
}

TEST_F(TicWrongInput, WrongImagesExitWith3) {
  const auto other = [](std::string command) {
    return command.replace(command.find(" tree"), 5, " bad");
  };
  const auto fresh = [&] {
    fs::remove_all(at("bad"));
    fs::copy(at("tree"), at("bad"), fs::copy_options::recursive);
  };
  fresh();
  fs::copy(at("tree/val/0-plus"), at("bad/val/zebra"));
  refused(other(train_), 3, {"bad/val", "unknown", "zebra"});
  fresh();
  fs::create_directory(at("bad/train/hollow"));
  refused(other(train_), 3, {"bad/train", "hollow"});
  fresh();
  fs::resize_file(at("bad/val/2-ring/00001.png"), 300);
  // The step before the evaluation that failed is not lost.
  const std::string evaluated = other(train_) + "--max-steps 2 --model-ema --name e ";
  refused(evaluated, 3, {"bad/val/2-ring/00001.png", "saved first"});
  refused(evaluated + "--resume auto", 3, {"bad/val/2-ring/00001.png", "resumed at step 2"});
  fs::copy(at("tree/val/2-ring/00001.png"), at("bad/val/2-ring/00001.png"),
           fs::copy_options::overwrite_existing);
  EXPECT_EQ(result(evaluated + "--resume auto")["steps"], 2);
  ASSERT_EQ(run(train_ + "--max-steps 2 --model-ema --name f").code, 0);
  same_runs("runs/f", "runs/e",
            {"last/model.safetensors", "last/model_ema.safetensors", "summary.csv"});
  refused("train_tic --data-dir none", 3, {"none/train"});
  ASSERT_EQ(run(train_ + "--max-steps 1 --name x").code, 0);
  const std::string predict = "tool_tic predict --checkpoint runs/x ";
  fs::resize_file(at("bad/val/2-ring/00001.png"), 300);
  refused(predict + "bad/val/2-ring/00001.png", 3, {"bad/val/2-ring/00001.png"});
  write_whole_file(at("text.png"), "no picture");
  refused(predict + "text.png", 3, {"text.png", "neither JPEG nor PNG"});
  write_whole_file(at("cut.jpg"), std::string("\xff\xd8\xff\xe0\0\x10JFIF", 10));
  refused(predict + "cut.jpg", 3, {"cut.jpg", "JPEG"});
}

TEST_F(TicWrongInput, WrongCheckpointsAndSizes) {
  ASSERT_EQ(run(train_ + "--max-steps 1 --name a").code, 0);
  const std::string eval = "eval_tic --data-dir tree --checkpoint ck ";
  const auto fresh = [&] {
    fs::remove_all(at("ck"));
    fs::copy(at("runs/a/checkpoint-000001"), at("ck"));
    fs::remove(at("ck/COMPLETE"));
  };
  const auto with = [&](const char* key, const nlohmann::json& value) {
    fresh();
    auto config = nlohmann::json::parse(contents(at("ck/config.json")));
    config["model_args"][key] = value;
    write_whole_file(at("ck/config.json"), config.dump());
  };
  const auto without = [&](const std::vector<const char*>& keys) {
    fresh();
    auto config = nlohmann::json::parse(contents(at("ck/config.json")));
    for (const char* key : keys) config["model_args"].erase(key);
    write_whole_file(at("ck/config.json"), config.dump());
  };
  fresh();
  refused(eval + "--img-size 32,0x5 --results-file r.csv", 2, {"--img-size", "0x5"});
  refused(eval + "--img-size 4294967328", 2, {"--img-size", "4294967328"});
  EXPECT_FALSE(fs::exists(at("r.csv")));
  refused(eval + "--results-file none/r.csv", 4, {"none/r.csv"});
  refused(eval + "--use-ema", 3, {"model_ema.safetensors"});
  refused("eval_tic --data-dir tree --checkpoint none", 3, {"none"});
  fs::resize_file(at("ck/model.safetensors"), 100000);
  refused(eval, 3, {"ck/model.safetensors"});
  fresh();
  fs::resize_file(at("ck/config.json"), 200);
  refused(eval, 3, {"ck/config.json", "byte 200"});
  // A few bytes of JSON do not make the program allocate.
  with("depths", {1000000, 1000000, 1000000});
  refused(eval, 3, {"ck/config.json", "parameters"});
  with("mlp_ratio", 1000000);
  refused(eval, 3, {"ck/config.json", "parameters"});
  with("kernel", {4, 4});
  refused(eval, 3, {"ck/config.json", "kernel: 4x4"});
  // What a model computes is in the file, never guessed; only a word is said of what the weights'
  // shapes, or the head, would give away.
  for (const char* key : {"preset", "patch", "kernel", "dilation", "variant", "border", "shift",
                          "shift_size", "pool", "in_chans"}) {
    without({key});
    refused(eval, 3, {"ck/config.json", "model_args", key, "is missing"});
  }
  without({"dim", "depths", "heads", "num_classes", "block", "kv_pool", "mlp_ratio", "mlp_dwconv"});
  const Answer bare = run(eval);
  EXPECT_EQ(bare.code, 0) << bare.log;
  EXPECT_NE(bare.log.find("heads [2,4,8]"), std::string::npos) << bare.log;
  fresh();
  const std::string whole = contents(at("ck/config.json"));
  auto cut = nlohmann::json::parse(whole);
  cut["pretrained_cfg"].erase("interpolation");
  write_whole_file(at("ck/config.json"), cut.dump());
  const Answer named = run(eval);
  EXPECT_EQ(named.log.find("config.json"), named.log.rfind("config.json")) << named.log;
  with("border", "open");
  refused(eval, 3, {"ck/config.json", "border", "open"});
  with("mlp_ratio", 2);
  refused(eval, 3, {"ck/model.safetensors", "mlp.fc1", "[128, 32]", "[64, 32]"});
}

}  // namespace
}  // namespace mullion
