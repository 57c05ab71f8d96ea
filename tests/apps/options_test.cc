// The option table: sources and their order, types, limits, misspelled names, printed config.
#include "apps/options/options.h"

#include <gtest/gtest.h>

#include <fstream>

#include "apps/options/foreign_flags.h"
#include "apps/options/nearest.h"
#include "tensor/check.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

OptionTable demo_table() {
  OptionTable table("train_demo", "A program for tests");
  table.add("train.batch_size", "-b,--batch-size", 128, "rows a step").at_least(1);
  table.add("train.max_steps", "--max-steps", 100, "steps").free_on_resume();
  table.add("train.grad_checkpointing", "--grad-checkpointing", true, "recompute the forward");
  table.add("train.no_shuffle", "--no-shuffle", false, "rows in file order");
  table.add("optim.lr", "--lr", 2e-5, "learning rate").range(0, 10);
  table.add("optim.betas", "--opt-betas", std::vector<double>{0.9, 0.999}, "decay of the moments")
      .repeats();
  table.add("eval.depth", "--depth", std::vector<double>{0}, "percent");
  table.add_optional<std::vector<fs::path>>("eval.runs", "--runs", "folders");
  table.add("attention.kind", "--attn", "full", "pattern").one_of({"full", "s2", "sf"});
  table.add("lora.targets", "--lora-targets", std::vector<std::string>{"q_proj", "v_proj"},
            "names");
  table.add("data.sizes", "--img-size", std::vector<int>{224}, "pixels");
  table.add("model.path", "-m,--model", "", "folder or file");
  table.add("eval.offset", "--offset", -1, "may be negative").range(-1, 5);
  table.add_optional<double>("optim.lr_embed", "--lr-embed", "learning rate of the embedding");
  table.preset("small", "little", {{"train.batch_size", "4"}, {"optim.betas", "0.8,0.9"}});
  table.preset("tiny", "less", {{"train.batch_size", "2"}});
  return table;
}

Options parse(const std::vector<std::string>& arguments) {
  ParsedOptions parsed = parse_options(demo_table(), arguments);
  EXPECT_TRUE(parsed.options.has_value()) << parsed.answer;
  return *parsed.options;
}

std::string error_of(const std::vector<std::string>& arguments) {
  try {
    parse_options(demo_table(), arguments);
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::usage);
    return std::string(error.what()) + " | " + error.hint();
  }
  return "no error";
}

std::string write_toml(const std::string& text) {
  const fs::path file =
      fs::path(testing::TempDir()) / ("options_test_" + std::to_string(::getpid()) + ".toml");
  std::ofstream(file) << text;
  return file.string();
}

TEST(Options, DefaultsFlagsAndTypes) {
  const Options none = parse({});
  EXPECT_EQ(none.get<int>("train.batch_size"), 128);
  EXPECT_TRUE(none.get<bool>("train.grad_checkpointing"));
  EXPECT_FALSE(none.has("optim.lr_embed"));
  EXPECT_EQ(none.seed(), 42u);
  EXPECT_EQ(none.get<std::vector<int64_t>>("data.sizes"), std::vector<int64_t>{224});

  const Options given = parse({"-b",
                               "16",
                               "--lr=1e-3",
                               "--no-grad-checkpointing",
                               "--opt-betas",
                               "0.9",
                               "0.95",
                               "--lora_targets",
                               "q_proj,k_proj",
                               "--img-size",
                               "160,224",
                               "320",
                               "--attn",
                               "sf",
                               "--offset",
                               "-1",
                               "--lr-embed",
                               "1",
                               "--no_shuffle",
                               "-vv",
                               "--json",
                               "--seed",
                               "7"});
  EXPECT_EQ(given.get<int64_t>("train.batch_size"), 16);
  EXPECT_DOUBLE_EQ(given.get<double>("optim.lr"), 1e-3);
  EXPECT_FALSE(given.get<bool>("train.grad_checkpointing"));
  EXPECT_TRUE(given.get<bool>("train.no_shuffle"));
  EXPECT_EQ(given.get<std::vector<double>>("optim.betas"), (std::vector<double>{0.9, 0.95}));
  EXPECT_EQ(given.get<std::vector<std::string>>("lora.targets"),
            (std::vector<std::string>{"q_proj", "k_proj"}));
  EXPECT_EQ(given.get<std::vector<int>>("data.sizes"), (std::vector<int>{160, 224, 320}));
  EXPECT_EQ(given.get<std::filesystem::path>("model.path"), "");
  EXPECT_DOUBLE_EQ(given.get<double>("optim.lr_embed"), 1);
  EXPECT_EQ(given.verbosity, 2);
  EXPECT_TRUE(given.json);
  EXPECT_EQ(given.seed(), 7u);
}

TEST(Options, TheLastOfSeveralEqualFlagsIsTakenAndTheOthersAreSaid) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(parse({"-b", "3", "-b", "5"}).get<int>("train.batch_size"), 5);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "warning: --batch-size is given several times: the last, 5, is taken, 3 is not\n");
  testing::internal::CaptureStderr();
  parse({"-b", "5", "--batch-size", "5"});
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Options, LaterSourcesWin) {
  const std::string file =
      write_toml("preset = \"tiny\"\n[optim]\nlr = 1\n[train]\nmax_steps = 7\n");
  const Options from_file = parse({"-c", file});
  EXPECT_EQ(from_file.get<int>("train.batch_size"), 2);
  EXPECT_EQ(from_file.source("train.batch_size"), "preset tiny");
  EXPECT_DOUBLE_EQ(from_file.get<double>("optim.lr"), 1);
  EXPECT_EQ(from_file.source("train.max_steps"), file + ":5");
  const Options with_flags = parse({"-c", file, "--preset", "small", "--max-steps", "9"});
  EXPECT_EQ(with_flags.get<int>("train.batch_size"), 4);
  EXPECT_EQ(with_flags.get<int>("train.max_steps"), 9);
  EXPECT_EQ(with_flags.source("train.max_steps"), "flag");
}

TEST(Options, AChoiceMayBeInLargeLetters) {
  EXPECT_EQ(parse({"--attn", "S2"}).get<std::string>("attention.kind"), "s2");
  EXPECT_EQ(parse({"--attn", "sf"}).get<std::string>("attention.kind"), "sf");
}

TEST(Options, MistakesNameTheNearest) {
  EXPECT_EQ(error_of({"--bach-size", "3"}),
            "unknown flag --bach-size | did you mean --batch-size?");
  EXPECT_EQ(error_of({"--attn", "sff"}),
            "--attn: \"sff\" is not one of full, s2, sf | did you mean sf?");
  EXPECT_EQ(error_of({"--preset", "tinny"}), "unknown preset tinny | did you mean tiny?");
  EXPECT_EQ(error_of({"-b", "-3"}), "--batch-size: -3 is not at least 1 | ");
  EXPECT_EQ(error_of({"-b", "3.5"}), "--batch-size: \"3.5\" is not an integer | ");
  EXPECT_EQ(error_of({"-b", "99999999999999999999"}),
            "--batch-size: 99999999999999999999 is too large for an integer | ");
  EXPECT_EQ(error_of({"--lr", "nan"}), "--lr: nan is not a finite number | ");
  EXPECT_EQ(error_of({"--lr", "11"}), "--lr: 11 is not in [0, 10] | ");
  EXPECT_NE(error_of({"--lr"}).find("--lr"), std::string::npos);
  EXPECT_EQ(error_of({"surplus"}), "unexpected argument surplus | train_demo --help");
  EXPECT_EQ(error_of({"--attn", "--dry-run"}),
            "--attn: its value is missing, --dry-run behind it is a flag | --attn=--dry-run where "
            "that is meant");
  EXPECT_EQ(error_of({"-b", "--max_steps=3"}),
            "-b: its value is missing, --max-steps=3 behind it is a flag | -b--max-steps=3 where "
            "that is meant");
  EXPECT_EQ(error_of({"--attn=", "sf"}),
            "--attn=: its value is missing | --attn VALUE, or --attn '' where it may be empty");
  EXPECT_EQ(error_of({"-c", "--json"}),
            "-c: its value is missing, --json behind it is a flag | -c--json where that is meant");
}

// A list names each of its elements once, as paths each place, whoever says it.
TEST(Options, ListsHaveNothingTwice) {
  const std::string file = write_toml("[lora]\ntargets = [\"q\", \"v\", \"q\"]\n");
  for (const auto& [arguments, says] :
       std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--lora-targets", "q,v,q"}, "--lora-targets: q is there twice"},
           {{"--lora-targets", "q", "--lora-targets", "q"}, "--lora-targets: q is there twice"},
           {{"-c", file}, ":2: lora.targets: q is there twice"},
           {{"--img-size", "32,64,32"}, "--img-size: 32 is there twice"},
           {{"--depth", "50,5e1"}, "--depth: 50 is there twice"},
           {{"--runs", "/tmp", "/usr/../tmp/"}, "--runs: /usr/../tmp/ is there twice"}})
    EXPECT_NE(error_of(arguments).find(says), std::string::npos) << error_of(arguments);
  EXPECT_EQ(parse({"--opt-betas", "0.9,0.9"}).get<std::vector<double>>("optim.betas"),
            (std::vector<double>{0.9, 0.9}));
}

// Flags of Hugging Face's Trainer, timm and llama.cpp, of which the nearest by letters is another.
TEST(Options, FlagsOfOtherToolsAreTranslated) {
  EXPECT_EQ(error_of({"--learning_rate", "1e-4"}),
            "unknown flag --learning-rate | --lr, its name here");
  EXPECT_EQ(error_of({"--per-device-train-batch-size=3"}),
            "unknown flag --per-device-train-batch-size | --batch-size, its name here");
  EXPECT_EQ(error_of({"--num-gpus", "3"}).find("its name here"), std::string::npos);
  const std::vector<std::string> known = {"--amp", "--lr", "--warmup-epochs", "--model",
                                          "--device"};
  EXPECT_EQ(translated_flag("--bf16", known), "--amp bf16");
  EXPECT_EQ(translated_flag("-ngl", known), "--device cuda");
  EXPECT_EQ(translated_flag("--model-name-or-path", known), "--model");
  EXPECT_EQ(translated_flag("--warmup-ratio", known),
            "--warmup-epochs (a number of them, not a share of the training)");
  EXPECT_EQ(translated_flag("--max-seq-length", known), "");  // the program has no --ctx-size
}

TEST(Options, TomlMistakesNameFileLineAndNearest) {
  const auto toml_error = [](const std::string& text) {
    const std::string file = write_toml(text);
    std::string what = error_of({"-c", file});
    for (size_t at; (at = what.find(file)) != std::string::npos;)
      what.replace(at, file.size(), "F");
    return what;
  };
  EXPECT_EQ(toml_error("[train]\nbatch_sise = 3\n"),
            "F:2: unknown key train.batch_sise | did you mean batch_size?");
  EXPECT_EQ(toml_error("[trian]\nbatch_size = 3\n"),
            "F:1: unknown section [trian] | did you mean [train]?");
  EXPECT_EQ(toml_error("[train]\nlr = 1\n"),
            "F:2: unknown key train.lr | did you mean [optim] lr?");
  EXPECT_EQ(toml_error("batch_size = 3\n"),
            "F:1: unknown key batch_size outside any section | did you mean [train] batch_size?");
  EXPECT_EQ(toml_error("[train]\n\nbatch_size = \"3\"\n"),
            "F:3: train.batch_size is text, should be integer | ");
  EXPECT_EQ(toml_error("[train]\nbatch_size = 1.5\n"),
            "F:2: train.batch_size is a number with a fraction, should be integer | ");
  EXPECT_EQ(toml_error("[train]\nbatch_size = 0\n"),
            "F:2: train.batch_size: 0 is not at least 1 | ");
  EXPECT_EQ(toml_error("[optim]\nbetas = [0.9, true]\n"),
            "F:2: optim.betas is a boolean, should be list of numbers | ");
  EXPECT_EQ(toml_error("[optim]\nlr = inf\n"), "F:2: optim.lr is not a finite number | ");
  EXPECT_NE(toml_error("[train]\nbatch_size = 3\nbatch_size = 4\n").find("F:3"), std::string::npos);
  EXPECT_NE(toml_error("[train\n").find("F:1"), std::string::npos);
  EXPECT_NE(error_of({"-c", "/nonexistent.toml"}).find("/nonexistent.toml"), std::string::npos);
}

// Every key misspelled by one letter, in every place, is refused: in TOML and as a flag.
TEST(Options, NoMisspelledKeyPasses) {
  const OptionTable table = demo_table();
  for (const OptionSpec& spec : table.specs()) {
    const size_t dot = spec.key.find('.');
    for (size_t i = 0; i < spec.key.size(); ++i) {
      if (i == dot) continue;
      std::string wrong = spec.key;
      wrong[i] = wrong[i] == 'x' ? 'y' : 'x';
      const std::string file =
          write_toml("[" + wrong.substr(0, dot) + "]\n" + wrong.substr(dot + 1) + " = 1\n");
      EXPECT_NE(error_of({"-c", file}).find("unknown"), std::string::npos) << wrong;
    }
    std::string flag = flag_names(spec).back();
    for (size_t i = 2; i < flag.size(); ++i) {
      std::string wrong = flag;
      wrong[i] = wrong[i] == 'x' ? 'y' : 'x';
      EXPECT_NE(error_of({wrong, "1"}).find("unknown flag"), std::string::npos) << wrong;
    }
  }
}

TEST(Options, PrintedConfigRepeatsTheRun) {
  const std::vector<std::string> arguments = {"--preset", "small", "--lr",
                                              "0.1",      "-m",    "a \"quoted\" \\ path\twith ü"};
  const ParsedOptions printed = [&] {
    std::vector<std::string> all = arguments;
    all.push_back("--print-config");
    return parse_options(demo_table(), all);
  }();
  ASSERT_FALSE(printed.options.has_value());
  EXPECT_NE(printed.answer.find("lr = 0.1  # number in [0, 10]; default 2e-05; from flag\n"),
            std::string::npos)
      << printed.answer;
  EXPECT_NE(
      printed.answer.find("batch_size = 4  # integer at least 1; default 128; from preset small"),
      std::string::npos);
  EXPECT_NE(printed.answer.find("# lr_embed = unset; number; from default\n"), std::string::npos);
  const Options first = parse(arguments);
  const Options second = parse({"-c", write_toml(printed.answer)});
  EXPECT_EQ(first.to_toml(false), second.to_toml(false));
  EXPECT_EQ(first.identity(), second.identity());
  for (const auto& [key, value] : first.identity()) EXPECT_NE(key, "train.max_steps");
}

TEST(Options, HelpShowsGroupsDefaultsAndLimits) {
  const std::string help = parse_options(demo_table(), {"--help"}).answer;
  for (const char* part : {"[train]\n", "-b, --batch-size N", "rows a step; at least 1 (128)",
                           "--no-grad-checkpointing", "pattern; one of full, s2, sf (full)",
                           "--preset NAME", "(0.9", "--seed N"}) {
    EXPECT_NE(help.find(part), std::string::npos) << part << "\n" << help;
  }
  EXPECT_NE(parse_options(demo_table(), {"--list-presets"}).answer.find("tiny: less"),
            std::string::npos);
  EXPECT_NE(parse_options(demo_table(), {"--completion-bash"}).answer.find("--batch-size"),
            std::string::npos);
}

TEST(Options, PositionalArgumentsAndRequiredOnes) {
  OptionTable table("tool_demo", "A tool");
  table.add("predict.images", "IMAGE", std::vector<std::string>{}, "images").required();
  table.add("predict.sizes", "--sizes", std::vector<int>{1}, "sizes");
  const auto parsed = parse_options(table, {"--sizes", "1,2", "a.jpg", "b.jpg"});
  EXPECT_EQ(parsed.options->get<std::vector<std::string>>("predict.images"),
            (std::vector<std::string>{"a.jpg", "b.jpg"}));
  EXPECT_EQ(parsed.options->get<std::vector<int>>("predict.sizes"), (std::vector<int>{1, 2}));
  EXPECT_THROW(parse_options(table, {}), Error);
}

TEST(Options, DerivedValuesAreChecked) {
  Options options = parse({});
  options.set("train.batch_size", int64_t{3}, "derived");
  EXPECT_EQ(options.get<int>("train.batch_size"), 3);
  EXPECT_EQ(options.source("train.batch_size"), "derived");
  EXPECT_THROW(options.set("train.batch_size", int64_t{0}, "derived"), Error);
  EXPECT_THROW(options.set("train.batch_size", 1.0, "derived"), Error);
  EXPECT_THROW(options.get<double>("train.batch_size"), Error);
  EXPECT_THROW(options.get<double>("optim.lr_embed"), Error);
  EXPECT_THROW(options.get<int>("train.nothing"), Error);
}

TEST(NearestName, CountsSwapsAsOne) {
  EXPECT_EQ(edit_distance("model", "modle"), 1u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(nearest_name("zzzzzz", {"batch", "lr"}), "");
}

}  // namespace
}  // namespace mullion
