// What tool_tic shows of a model: where it looks, how far it sees, what it takes; names of classes;
// the twin of global attention; the learning rate by depth.
#include <fstream>

#include "apps/tic/class_names.h"
#include "apps/tic/parameter_groups.h"
#include "data/decode.h"
#include "models/tic/model.h"
#include "tensor/io/file.h"
#include "tests/apps/programs.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::contents;

class TicLooks : public test::Programs {
 protected:
  TicLooks() : Programs({"train_tic", "eval_tic", "tool_tic", "data_tic"}) {}
  void make_tree(bool wordnet) const {
    ASSERT_EQ(run("data_tic cue --output tree --per-class 4").code, 0);
    if (!wordnet) return;
    for (const char* split : {"tree/train", "tree/val"}) {
      std::vector<fs::path> folders;
      for (const auto& entry : fs::directory_iterator(at(split))) folders.push_back(entry.path());
      std::sort(folders.begin(), folders.end());
      for (size_t i = 0; i < folders.size(); ++i)
        fs::rename(folders[i], at(split) / ("n0000000" + std::to_string(i)));
    }
  }
  const std::string train_ =
      "train_tic --data-dir tree --model tic-n --msa-kernel 3 -b 8 --img-size 32 --output runs "
      "--warmup-epochs 0 --lr 1e-3 --threads 1 --max-steps 1 --json ";
};

TEST_F(TicLooks, ClassesHaveTheirNamesWhereverTheyAreShown) {
  make_tree(true);
  write_whole_file(at("tree/synset_words.txt"),
                   "n00000000 tench, Tinca tinca\r\nn00000003 great \"grey\" owl\n");
  const test::Answer trained = run(train_ + "--name a");
  ASSERT_EQ(trained.code, 0) << trained.log;
  EXPECT_NE(trained.log.find("names of 2 of 10 classes"), std::string::npos) << trained.log;
  const auto config = nlohmann::json::parse(contents(at("runs/a/last/config.json")));
  EXPECT_EQ(config["label_descriptions"]["n00000000"], "tench, Tinca tinca");
  EXPECT_EQ(config["label_descriptions"].size(), 2u);

  const std::string image = "tree/val/n00000000/00000.png";
  const test::Answer told =
      run("tool_tic predict --checkpoint runs/a --topk 10 --csv p.csv " + image + " | tee out");
  EXPECT_EQ(told.code, 0) << told.log;
  EXPECT_NE(contents(at("out")).find("n00000000 tench, Tinca tinca 0."), std::string::npos);
  EXPECT_NE(contents(at("p.csv")).find("\"great \"\"grey\"\" owl\""), std::string::npos);
  const auto predicted = result("tool_tic predict --checkpoint runs/a --json " + image);
  EXPECT_EQ(predicted["images"][0]["top_names"].size(), 5u);

  const test::Answer judged =
      run("eval_tic --data-dir tree --checkpoint runs/a --per-class --confusion c.csv "
          "--confusion-picture c.svg --reliability r.svg --json");
  ASSERT_EQ(judged.code, 0) << judged.log;
  EXPECT_EQ(judged.json()["per_class"][0]["name"], "tench, Tinca tinca");
  EXPECT_EQ(judged.json()["per_class"][1]["name"], "");
  EXPECT_NE(contents(at("c.csv")).find("\"n00000000 tench, Tinca tinca\""), std::string::npos);
  EXPECT_NE(contents(at("c.svg")).find("n00000000 tench, Tinca"), std::string::npos);
  EXPECT_EQ(contents(at("r.svg")).find("<svg"), 0u);

  // Another file for a model that has names, and files that help nobody.
  write_whole_file(at("index.json"), R"({"0": ["n00000001", "goldfish"]})");
  const auto other = result(
      "tool_tic predict --checkpoint runs/a --topk 10 --json --class-names "
      "index.json " +
      image);
  EXPECT_NE(other.dump().find("goldfish"), std::string::npos);
  write_whole_file(at("alone.txt"), "tench, Tinca tinca\n");
  refused("tool_tic predict --checkpoint runs/a --class-names alone.txt " + image, 3,
          {"alone.txt, line 1", "WordNet id"});
  write_whole_file(at("strange.txt"), "n99999999 unicorn\n");
  refused(train_ + "--name b --class-names strange.txt", 3, {"strange.txt", "none of the 10"});
}

TEST_F(TicLooks, AttentionIsDrawnForOneHeadAndForAll) {
  make_tree(false);
  ASSERT_EQ(run(train_ + "--name a").code, 0);
  const std::string call = "tool_tic attention tree/val/0-plus/00000.png --checkpoint runs/a ";
  const auto all = result(call + "--layer 3 --at 3,28 -o all.png --json");
  ASSERT_EQ(all["heads"].size(), 4u);
  EXPECT_EQ(all["map"], (nlohmann::json{8, 8}));
  for (const auto& head : all["heads"]) {
    EXPECT_GT(head["inside"].get<double>(), 0);
    EXPECT_LE(head["inside"].get<double>(), 1 + 1e-5);
  }
  const Image sheet = read_image(at("all.png").string());
  EXPECT_EQ(sheet.width, 2 * 224 + 4);
  EXPECT_EQ(sheet.height, sheet.width);
  const auto one = result(call + "--layer 0 --head 1 -o one.png --json");
  EXPECT_EQ(one["heads"].size(), 1u);
  EXPECT_EQ(read_image(at("one.png").string()).width, 224);
  refused(call + "--layer 6 -o x.png", 2, {"--layer 6", "0 to 5"});
  refused(call + "--head 2 -o x.png", 2, {"--head 2", "heads 0 to 1"});
  refused(call + "--at 3,32 -o x.png", 2, {"--at 3,32", "0 to 31"});
  EXPECT_FALSE(fs::exists(at("x.png")));
}

TEST_F(TicLooks, ReceptiveFieldsHaveRadii) {
  const auto arms = result(
      "tool_tic receptive-field --model tic-n --msa-kernel 3 --images 2 -o field.png --json");
  ASSERT_EQ(arms["results"].size(), 4u);
  EXPECT_EQ(arms["results"][0]["name"], "plain");
  for (const auto& arm : arms["results"]) {
    EXPECT_GT(arm["radius_50"].get<double>(), 0);
    EXPECT_GE(arm["radius_90"].get<double>(), arm["radius_50"].get<double>());
    EXPECT_LE(arm["radius_90"].get<double>(), 32);
  }
  EXPECT_EQ(read_image(at("field.png").string()).height, 224);
  // What cannot matter is told.
  const std::string one = "tool_tic receptive-field --model tic-n --msa-kernel 3 -o field.png ";
  for (const auto& [call, flag] :
       {std::pair{"--images 1 --shift off", "--shift off: has no effect"},
        {"--images 1 --pool off", "--pool off: has no effect"},
        {"--images 1 --data-dir cue --val-split x", "--val-split x: has no effect"}}) {
    const test::Answer told = run(one + call);
    EXPECT_EQ(told.code, 0) << told.log;
    EXPECT_NE(told.log.find(flag), std::string::npos) << told.log;
  }
  make_tree(false);
  ASSERT_EQ(run(train_ + "--name a").code, 0);
  const test::Answer given =
      run("tool_tic receptive-field --checkpoint runs/a --data-dir tree --images 1000 --seed 3 -o "
          "f.png");
  EXPECT_EQ(given.code, 0) << given.log;
  for (const char* words : {"--seed 3: has no effect", "--images 1000: there are "})
    EXPECT_NE(given.log.find(words), std::string::npos) << given.log;
}

TEST_F(TicLooks, NamesThatMatchNoClassAreTold) {
  make_tree(false);
  write_whole_file(at("tree/synset_words.txt"), "n01440764 tench, Tinca tinca\n");
  const test::Answer trained = run(train_ + "--name a");
  EXPECT_EQ(trained.code, 0) << trained.log;
  EXPECT_NE(trained.log.find("tree/synset_words.txt: has a name for none of the"),
            std::string::npos)
      << trained.log;
}

TEST_F(TicLooks, FineTuningNeedsAModelToStartFrom) {
  make_tree(false);
  refused(train_ + "--preset finetune", 2, {"--preset finetune", "--initial-checkpoint"});
  refused(train_ + "--preset finetune --dry-run", 2, {"--initial-checkpoint"});
}

// A token of the last map is 8 pixels wide, whatever the side: at 33 the fifth stands over the
// edge.
TEST_F(TicLooks, TokensLieWhereTheyAreWhenTheSideIsNoMultipleOfThem) {
  make_tree(false);
  ASSERT_EQ(run(train_ + "--name a").code, 0);
  const auto seen_from = [&](int pixel) {
    const std::string at = std::to_string(pixel);
    return result(
        "tool_tic attention tree/val/0-plus/00000.png --checkpoint runs/a --img-size 33 "
        "--layer 4 --at " +
        at + "," + at + " -o a.png --json")["heads"];
  };
  const auto here = seen_from(16);
  EXPECT_EQ(seen_from(19), here);
  EXPECT_EQ(seen_from(23), here);
  EXPECT_NE(seen_from(24), here);
  EXPECT_NE(seen_from(15), here);
  const auto radius = [&](int side) {
    return result(
               "tool_tic receptive-field --checkpoint runs/a --images 8 -o f.png --json "
               "--img-size " +
               std::to_string(side))["radius_50"]
        .get<double>();
  };
  const double even = radius(40);
  for (const int side : {33, 36, 41}) EXPECT_NEAR(radius(side), even, 0.25 * even) << side;
}

TEST_F(TicLooks, BenchCountsWhatAStepTakes) {
  const auto found = result(
      "tool_tic bench --model tic-n --msa-kernel 3 --img-size 16,32 -b 1,2 --repeats 1 --json");
  ASSERT_EQ(found["results"].size(), 8u);  // two modes
  EXPECT_EQ(found["results"][0]["mode"], "infer");
  for (const auto& row : found["results"]) {
    EXPECT_GT(row["img_s"].get<double>(), 0);
    EXPECT_GT(row["mib"].get<double>(), 0);
  }
  EXPECT_GT(found["results"][4]["mib"], found["results"][0]["mib"]);  // backward keeps more
}

TEST_F(TicLooks, TheTwinIsTrainedAndTakesOtherSizes) {
  make_tree(false);
  const test::Answer trained = run(train_ + "--block global --name g");
  ASSERT_EQ(trained.code, 0) << trained.log;
  EXPECT_NE(trained.log.find("the twin of tic-n with global attention"), std::string::npos);
  EXPECT_NE(trained.log.find("--msa-kernel"), std::string::npos) << "idle, and not told";
  const auto sized =
      result("eval_tic --data-dir tree --checkpoint runs/g --img-size 32,48,24x40 --json");
  EXPECT_EQ(sized["results"].size(), 3u);
  const auto config = nlohmann::json::parse(contents(at("runs/g/last/config.json")));
  EXPECT_EQ(config["model_args"]["block"], "global");
  EXPECT_EQ(config["model_args"]["positions"], 16);
  // Its checkpoint starts another training as it is.
  EXPECT_EQ(run("train_tic --data-dir tree --initial-checkpoint runs/g -b 8 --img-size 32 --output "
                "runs --warmup-epochs 0 --lr 1e-3 --max-steps 1 --layer-decay 0.7 --name h")
                .code,
            0);
  const auto seen = result(
      "tool_tic attention tree/val/0-plus/00000.png --checkpoint runs/h --layer 2 -o g.png --json");
  EXPECT_NEAR(seen["heads"][0]["inside"], 1, 1e-4);
  refused("tool_tic export --checkpoint runs/g -o out", 2, {"twin"});
}

// By timm 1.0.15: param_groups_layer_decay of a SwinTransformer with depths 2, 2, 2.
TEST(LayerDecay, RatesAreThoseOfTimmsSwin) {
  const TicConfig c = tic_preset("tic-n");
  Tic model(c);
  const auto groups = tic_parameter_groups(named_parameters(model), c, 0.05, 0.75);
  const std::pair<const char*, double> known[] = {
      {"stem.conv.weight", 0.13348388671875},
      {"stages.0.blocks.0.attn.qkv.weight", 0.177978515625},
      {"stages.0.blocks.1.norm2.bias", 0.2373046875},
      {"stages.0.downsample.conv.weight", 0.31640625},
      {"stages.1.blocks.0.mlp.fc1.bias", 0.31640625},
      {"stages.1.blocks.1.mlp.fc2.weight", 0.421875},
      {"stages.1.downsample.norm.weight", 0.5625},
      {"stages.2.blocks.1.attn.proj.weight", 0.75},
      {"norm.weight", 0.75},
      {"head.weight", 1.0}};
  size_t parameters = 0, found = 0;
  for (const ParameterGroup& group : groups) {
    parameters += group.parameters.size();
    for (const NamedParameter& p : group.parameters) {
      EXPECT_EQ(group.weight_decay, p.value.rank() >= 2 ? 0.05 : 0) << p.name;
      for (const auto& [name, scale] : known)
        if (p.name == name) {
          EXPECT_NEAR(group.lr_scale, scale, 1e-12) << name;
          ++found;
        }
    }
  }
  EXPECT_EQ(found, std::size(known));
  EXPECT_EQ(parameters, named_parameters(model).size());
  EXPECT_EQ(tic_parameter_groups(named_parameters(model), c, 0.05, 1).size(), 2u);
}

}  // namespace
}  // namespace mullion
