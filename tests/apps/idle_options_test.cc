// Options that change nothing: every program tells them by name, and a saved configuration, which
// holds every key, is loaded without a word.
#include <fstream>

#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"
#include "tests/source_dir.h"

namespace mullion::test {
namespace {

class IdleOptions : public Programs {
 protected:
  IdleOptions()
      : Programs({"train_llama", "eval_llama", "chat_llama", "data_llama", "tool_llama",
                  "train_tic", "eval_tic", "tool_tic", "data_tic", "report"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    write_tiny_llama(at("tiny"));
    write_lexicon_tokens(at("a.bin"), 16);
    std::ofstream(at("text.txt")) << "a text";
  }
};

// Whatever becomes of the command, what has no effect is said, with what it would go with.
TEST_F(IdleOptions, AreToldByName) {
  const std::string llama = "train_llama pretrain -m tiny --data a.bin --ctx-size 32 --dry-run ";
  const std::string sft = "train_llama sft -m tiny --data a.json --ctx-size 32 --dry-run ";
  const std::string scratch =
      "train_llama pretrain --model-config tiny/config.json --data a.bin --ctx-size 32 --dry-run ";
  const std::string ppl = "eval_llama ppl -m tiny --data a.bin --ctx-size 32 ";
  const std::string choice = "eval_llama choice -m tiny --task openbookqa --data a.jsonl ";
  const std::string chat = "chat_llama complete -m tiny -n 1 -p t ";
  const std::string cue = "train_tic --data-dir cue --model tic-n --dry-run ";
  const std::string images = "train_tic --data-dir in --model tic-n --dry-run ";
  const std::vector<std::pair<std::string, std::vector<std::string>>> rows = {
      {llama + "--full --lora-rank 4", {"--lora-rank 4", "--full"}},
      {llama + "--full --lora-alpha 4", {"--lora-alpha 4", "--full"}},
      {llama + "--full --lora-dropout 0.1", {"--lora-dropout 0.1", "--full"}},
      {llama + "--full --lora-targets q_proj", {"--lora-targets q_proj", "--full"}},
      {llama + "--full --train-also norm", {"--train-also norm", "--full"}},
      {llama + "--full --base-name x", {"--base-name x", "--full"}},
      {scratch + "--lora-rank 4", {"--lora-rank 4", "--model-config"}},
      {llama + "--attn full --group-ratio 0.5", {"--group-ratio 0.5", "--attn full"}},
      {llama + "--attn full --group-size 8", {"--group-size 8", "--attn full"}},
      {llama + "--attn full --sinks 2", {"--sinks 2", "--attn full"}},
      {llama + "--attn random --sinks 2", {"--sinks 2", "--attn random"}},
      {llama + "--attn full --shift-heads 0.5", {"--shift-heads 0.5", "--attn full"}},
      {llama + "--attn shift-up-only --shift-heads 0.5", {"--shift-heads 0.5", "shift-up-only"}},
      {llama + "--group-size 8 --group-ratio 0.5", {"--group-ratio 0.5", "--group-size 8"}},
      {llama + "--eval-max-rows 4", {"--eval-max-rows 4", "--val-data"}},
      {llama + "--epochs 1 --max-steps 4", {"--max-steps 4", "--epochs 1"}},
      {llama + "--min-lr 1e-6", {"--min-lr", "constant_with_warmup (default)"}},
      {llama + "--train-also norm --lr-embed 1e-3", {"--lr-embed", "--train-also"}},
      {llama + "--grad-checkpointing --recompute-mlp on", {"--recompute-mlp on"}},
      {llama + "--text-field body", {"--text-field body", "JSON"}},
      {llama + "--encoding latin1", {"--encoding latin1", "token files"}},
      {llama + "--allow-mismatch data", {"--allow-mismatch data", "--resume no"}},
      {llama + "--save-every 0 --keep-every 3", {"--keep-every 3", "--save-every"}},
      {sft + "--pack --cuda-graph on", {"--cuda-graph on", "--pack"}},
      {ppl + "--protocol llamacpp --stride 8", {"--stride 8", "--protocol llamacpp"}},
      {ppl + "--protocol rolling --stride 8", {"--stride 8", "--protocol rolling"}},
      {ppl + "--protocol rolling --bos on", {"--bos on", "--protocol rolling"}},
      {ppl + "--group-ratio 0.5", {"--group-ratio 0.5", "--attn full (default)"}},
      {ppl + "--seed 3", {"--seed 3", "--attn random"}},
      {ppl + "--encoding latin1", {"--encoding latin1", "token files"}},
      {ppl + "--kv-budget 3", {"--kv-budget"}},
      {choice + "--fewshot-data b.jsonl", {"--fewshot-data b.jsonl", "--num-fewshot"}},
      {choice + "--no-log-samples", {"--no-log-samples", "--output"}},
      {choice + "--kv-budget 20%", {"--kv-budget 20%", "--kv full (default)"}},
      {choice + "--kv full,local --kv-budget 3 --kv-heavy 0.3", {"--kv-heavy", "h2o"}},
      {choice + "--seed 3", {"--seed 3", "random"}},
      {"eval_llama passkey -m tiny --seed 3", {"--seed 3", "--trials"}},
      {"eval_llama topic -m tiny --data x --seed 3", {"--seed 3"}},
      {"eval_llama lines -m tiny --data x --kv-sinks 3", {"--kv-sinks", "--kv full"}},
      {chat + "--top-k 5", {"--top-k 5", "--temp"}},
      {chat + "--top-p 0.5", {"--top-p 0.5", "--temp"}},
      {chat + "--min-p 0.5", {"--min-p 0.5", "--temp"}},
      {chat + "--seed 5", {"--seed 5", "--temp"}},
      {chat + "--encoding latin1", {"--encoding latin1", "--file"}},
      {chat + "--kv-mode mask", {"--kv-mode", "--kv full"}},
      {chat + "--rope-scaling linear", {"--rope-scaling linear", "--rope-factor"}},
      {"tool_llama export -m tiny --format gguf -o x.gguf --shard-size 1GB",
       {"--shard-size 1GB", "--format gguf"}},
      {"tool_llama export -m tiny --format peft -o x --shard-size 1GB", {"--format peft"}},
      {"tool_llama export -m tiny --format hf -o x --check text.txt", {"--check", "--format hf"}},
      {"tool_llama export -m tiny --format gguf-lora -o x --no-verify", {"--no-verify"}},
      {"tool_llama export -m tiny --format peft -o x --rope-factor 2", {"--rope-factor 2"}},
      {"tool_llama export -m tiny --format hf -o x --force", {"--force", "adapter"}},
      {"tool_llama export -m tiny --format hf -o x --seed 2", {"--seed 2", "random"}},
      {"tool_llama compare tiny tiny --ctx-size 32", {"--ctx-size 32", "--data"}},
      {"tool_llama compare tiny tiny --data text.txt --ctx-size 65", {"--ctx-size 65", "64"}},
      {"tool_llama compare tiny tiny --data text.txt --ctx-size 8 -n 40", {"--n-predict 40", "32"}},
      {"tool_llama info tiny --seed 4", {"--seed 4"}},
      {"data_llama info -m tiny --token-dtype u16", {"--token-dtype u16", "FILE"}},
      {"data_llama show -m tiny --text t a.bin", {"FILE a.bin", "--text t"}},
      {"data_llama show -m tiny --text t -n 3", {"--count 3", "--text t"}},
      {"data_llama show -m tiny --text t --begin 3", {"--begin 3", "--text t"}},
      {"data_llama split a.bin --seed 1", {"--seed 1"}},
      {"data_llama tokenize -m tiny --data text.txt -o t.bin --text-field x", {"--text-field x"}},
      {cue + "--model-ema-decay 0.9", {"--model-ema-decay 0.9", "--model-ema"}},
      {cue + "--no-model-ema-warmup", {"--no-model-ema-warmup", "--model-ema"}},
      {cue + "--lr 1e-3 --lr-base 1e-3", {"--lr-base", "--lr "}},
      {cue + "--lr 1e-3 --lr-base-size 64", {"--lr-base-size 64", "--lr "}},
      {cue + "--opt sgd --opt-eps 1e-3", {"--opt-eps", "--opt sgd"}},
      {cue + "--momentum 0.5", {"--momentum 0.5", "--opt adamw (default)"}},
      {cue + "--epochs 2 --max-steps 4", {"--epochs 2", "--max-steps 4"}},
      {cue + "--warmup-epochs 0 --warmup-lr 1e-5", {"--warmup-lr", "--warmup-epochs 0"}},
      {cue + "--sched constant_with_warmup --min-lr 1e-5", {"--min-lr", "constant_with_warmup"}},
      {cue + "--eval-every 4 --val-interval 2", {"--val-interval 2", "--eval-every 4"}},
      {cue + "--shift off --shift-size 2", {"--shift-size 2", "--shift off"}},
      {cue + "--exif apply", {"--exif apply", "--data-dir cue"}},
      {cue + "--color-jitter 0.3", {"--color-jitter 0.3", "--data-dir cue"}},
      {cue + "--mixup-prob 0.3", {"--mixup-prob 0.3", "--mixup"}},
      {cue + "--mixup 1 --mixup-switch-prob 0.3", {"--mixup-switch-prob 0.3", "--cutmix"}},
      {images + "--cue-count 100", {"--cue-count 100", "--data-dir in"}},
      {"eval_tic --data-dir cue --checkpoint x --crop-pct 0.9", {"--crop-pct 0.9", "cue"}},
      {"eval_tic --data-dir in --checkpoint x --cue-seed 9", {"--cue-seed 9", "in"}},
      {"tool_tic info --checkpoint x --model tic-s", {"--model tic-s", "--checkpoint x"}},
      {"data_tic pack in -o out --quality 90", {"--quality 90", "--resize-short"}},
      {"data_tic pack in -o out --no-shuffle --seed 3", {"--seed 3", "--shuffle"}},
      {"data_tic prepare --train t --val v -o o --devkit d --class-map m",
       {"--class-map m", "--val-labels"}},
      {"data_tic check in --seed 3", {"--seed 3"}},
      {"report x --image-count 3", {"--image-count 3", "--images"}},
  };
  for (const auto& [command, words] : rows) {
    // A size that others do not allow; and what a user would take for something else.
    if (command.find("compare tiny tiny --data") != std::string::npos ||
        words[0].starts_with("--kv-") || words[0].starts_with("--lora-") ||
        words[0].starts_with("--fewshot-data")) {
      refused(command, 2, words);
      continue;
    }
    const std::string log = run(command).log;
    const size_t at = log.find("has no effect");
    ASSERT_NE(at, std::string::npos) << command << "\n" << log;
    const size_t begin = log.rfind('\n', at) + 1;
    const std::string line = log.substr(begin, log.find('\n', at) - begin);
    for (const std::string& word : words)
      EXPECT_NE(line.find(word), std::string::npos) << command << ": " << word << "\n" << log;
  }
}

// --print-config holds every key with its default; loading it changes nothing and says nothing.
TEST_F(IdleOptions, SavedConfigurationsStayLoadable) {
  for (const std::string command :
       {"train_llama pretrain --full -m tiny --data a.bin --ctx-size 32 --epochs 1 --dry-run",
        "train_llama pretrain --attn full -m tiny --data a.bin --ctx-size 32 --dry-run",
        "train_tic --data-dir cue --model tic-n --opt sgd --max-steps 3 --dry-run",
        "eval_llama ppl -m tiny --data a.bin --ctx-size 32 --protocol llamacpp",
        "chat_llama complete -m tiny -n 2 -p t"}) {
    const std::string program = command.substr(0, command.find(" -"));
    EXPECT_EQ(run(command + " --print-config > c.toml").code, 0) << command;
    const std::string dry = command.ends_with("--dry-run") ? " --dry-run" : "";
    const Answer direct = run(command), loaded = run(program + " -c c.toml" + dry);
    EXPECT_EQ(loaded.code, 0) << command << "\n" << loaded.log;
    EXPECT_EQ(loaded.log.find("no effect"), std::string::npos) << command << "\n" << loaded.log;
    EXPECT_EQ(direct.code, 0) << command << "\n" << direct.log;
  }
}

// A file's own value that does not count is told with its place; the run goes on.
TEST_F(IdleOptions, OfAFileAreTold) {
  std::ofstream(at("c.toml")) << "[generate]\ntop_k = 7\n";
  const Answer answer = run("chat_llama complete -m tiny -p t -n 2 -c c.toml");
  EXPECT_EQ(answer.code, 0) << answer.log;
  EXPECT_NE(answer.log.find("c.toml:2: generate.top_k = 7: has no effect without --temp"),
            std::string::npos)
      << answer.log;
  // A preset's value gives way to a flag.
  const Answer preset =
      run("train_tic --data-dir cue --preset imagenet-tic-t --model tic-n --img-size 32 "
          "--no-model-ema --max-steps 2 --dry-run -b 8 --grad-accum-steps 1");
  EXPECT_EQ(preset.code, 0) << preset.log;
  EXPECT_NE(preset.log.find("preset imagenet-tic-t: model.ema_decay = 0.9999: has no effect"),
            std::string::npos)
      << preset.log;
}

// The length of a tuning and the crop of small images follow from other values; the saved
// configuration says what they were.
TEST_F(IdleOptions, WhatWasDerivedIsSaved) {
  const std::string golden = std::string(test::source_dir) + "/tests/golden/sft/";
  run("head -c 1000000 '" + golden + "rows.json' > rows.json");
  run("train_llama sft -m '" + golden +
      "model' --data rows.json --ctx-size 256 --pack -b 2 "
      "--grad-accum-steps 2 --attn full --name t --output runs");
  const std::string saved = contents(at("runs/t/config.toml"));
  EXPECT_NE(saved.find("epochs = 3.0"), std::string::npos) << saved;
  const Answer again = run("train_llama sft -c runs/t/config.toml --name u --dry-run --json");
  EXPECT_EQ(again.code, 0) << again.log;
  EXPECT_NE(again.log.find("epochs     3 are"), std::string::npos) << again.log;
  // A flag for the one replaces the file's value of the other, and says so.
  const Answer steps =
      run("train_llama sft -c runs/t/config.toml --name u --dry-run --json --max-steps 2");
  EXPECT_EQ(steps.code, 0) << steps.log;
  EXPECT_NE(steps.log.find("train.epochs = 3.0 gives way to --max-steps"), std::string::npos)
      << steps.log;
  EXPECT_EQ(steps.log.find("epochs     3 are"), std::string::npos) << steps.log;
  const Answer printed = run("train_llama sft -c runs/t/config.toml --max-steps 2 --print-config");
  EXPECT_EQ(printed.code, 0) << printed.log;
  run("train_tic --data-dir cue --model tic-n --max-steps 3 --print-config > tic.toml");
  const Answer epochs = run("train_tic -c tic.toml --epochs 2 --cue-count 16 -b 8 --dry-run");
  EXPECT_EQ(epochs.code, 0) << epochs.log;
  EXPECT_NE(epochs.log.find("max_steps = 3 gives way to --epochs"), std::string::npos)
      << epochs.log;
}

// Who asks for a plan gets a plan or a refusal, and never the work.
TEST_F(IdleOptions, DryRunsDoNothing) {
  for (const std::string command :
       {"data_llama info a.bin", "data_llama check a.bin", "data_llama show -m tiny --text a",
        "data_tic cue --output made", "eval_llama ppl -m tiny --data a.bin --ctx-size 32",
        "tool_llama info tiny", "tool_tic info --model tic-n"}) {
    const Answer answer = run(command + " --dry-run");
    EXPECT_EQ(answer.code, 2) << command << "\n" << answer.log;
    EXPECT_NE(answer.log.find("no plan"), std::string::npos) << command << "\n" << answer.log;
    EXPECT_EQ(answer.last, "") << command;
  }
  EXPECT_FALSE(std::filesystem::exists(at("made")));
  const Answer split = run("data_llama split a.bin --val-size 0.5 --dry-run");
  EXPECT_EQ(split.code, 0) << split.log;
  EXPECT_NE(split.last.find("a-train.bin would have"), std::string::npos) << split.last;
  EXPECT_FALSE(std::filesystem::exists(at("a-train.bin")));
}

TEST_F(IdleOptions, WhatIsReadIsNotWrittenOver) {
  const std::string split = "data_llama split a.bin --val-size 0.5 ",
                    tokens = contents(at("a.bin"));
  run("ln -s a.bin link.bin");
  refused(split + "--train-output s.bin --val-output ./s.bin", 2, {"both are ./s.bin"});
  for (const std::string output : {"--train-output a.bin", "--val-output ./link.bin"})
    refused(split + output, 2, {"is to be written, and is what is read"});
  refused("data_llama tokenize -m tiny --data text.txt -o text.txt", 2, {"text.txt: is to be"});
  EXPECT_TRUE(contents(at("a.bin")) == tokens);
  EXPECT_EQ(contents(at("text.txt")), "a text");
}

TEST_F(IdleOptions, CharactersThatTheVocabularyDoesNotHaveAreCounted) {
  const Answer answer = run("data_llama tokenize -m tiny --data text.txt -o t.bin --json");
  EXPECT_EQ(answer.json()["unknown"], 6) << answer.log;
  const std::string warning = "warning: 6 tokens are ";
  EXPECT_NE(answer.log.find(warning), std::string::npos) << answer.log;
  // The same token where the text spells it stands for itself.
  std::ofstream(at("two.txt")) << "</s>a text</s>";
  const Answer spelled =
      run("data_llama tokenize -m tiny --data two.txt --parse-specials -o t.bin --json");
  EXPECT_EQ(spelled.json()["unknown"], 6) << spelled.log;
  std::ofstream(at("words.txt")) << "</s></s>";
  const Answer none =
      run("data_llama tokenize -m tiny --data words.txt --parse-specials -o t.bin --json");
  EXPECT_EQ(none.json()["unknown"], 0) << none.log;
  EXPECT_EQ(none.log.find("vocabulary does not have"), std::string::npos) << none.log;
  // Training finds the tokens once, and says it every time.
  for (const char* name : {"first", "again"})
    EXPECT_NE(run("train_llama pretrain -m tiny --data text.txt --ctx-size 4 --attn full "
                  "--max-steps 1 --threads 1 --name " +
                  std::string(name))
                  .log.find(warning),
              std::string::npos)
        << name;
}

TEST_F(IdleOptions, NamesInAListStandThereOnce) {
  run("mkdir r");
  refused("report r ./r/", 2, {"RUN: ./r/ is there twice"});
  refused("eval_llama longbench -m tiny --data r --tasks en,en", 2, {"--tasks: en", "twice"});
  refused("eval_llama passkey -m tiny --depth 50,50.0", 2, {"--depth: 50", "twice"});
}

TEST_F(IdleOptions, WhatWasLeftForARunAndWhereItIsNow) {
  const std::string train =
      "train_llama pretrain -m tiny --data a.bin --ctx-size 32 --attn full "
      "--threads 1 --save-every 1 --max-steps ";
  ASSERT_EQ(run(train + "2 --name a").code, 0);
  run("mv runs/a runs/b; touch -d '1 hour ago' runs/b/STOP");
  const Answer on = run("train_llama pretrain --resume runs/b --max-steps 4 --json");
  EXPECT_EQ(on.code, 0) << on.log;
  EXPECT_EQ(on.json()["steps"], 4);
  EXPECT_NE(on.log.find("runs/b/STOP: is older than this start"), std::string::npos) << on.log;
  EXPECT_EQ(on.log.find("has no effect"), std::string::npos) << on.log;
  EXPECT_NE(contents(at("runs/b/config.toml")).find("name = \"b\""), std::string::npos);
}

TEST_F(IdleOptions, RowsOfStandardInputAndPartsOfShortPrompts) {
  const std::string complete = "chat_llama complete -m tiny -n 2 --threads 1 --json ";
  const std::string rows = "printf '{\"prompt\":\"ba=KO\"}\\n{\"prompt\":\"ba\"}\\n' | ";
  EXPECT_EQ(result(rows + complete + "--jsonl - -o o.jsonl")["rows"], 2);
  EXPECT_NE(contents(at("o.jsonl")).find("\"prompt\":\"ba=KO\""), std::string::npos);
  std::ofstream(at("set.jsonl")) << R"({"prompt": "ba", "max_tokens": 5})";
  EXPECT_NE(run(complete + "--jsonl set.jsonl").log.find("line 1: max_tokens sets nothing"),
            std::string::npos);
  refused(complete + "--jsonl o.jsonl -o nowhere/o.jsonl --dry-run", 3, {"text"});
  const Answer sink = run(complete + "-p ba --kv sink --kv-budget 20%");
  EXPECT_EQ(sink.code, 0) << sink.log;
  EXPECT_NE(sink.log.find("4 sinks, at least 5 tokens"), std::string::npos) << sink.log;
  EXPECT_NE(run("tool_tic bench --model tic-n --img-size 32 --repeats 1 --mode infer --amp bf16 "
                "--device cpu")
                .log.find("--amp bf16: has no effect on the CPU"),
            std::string::npos);
}

// A reader that has seen enough is no error.
TEST_F(IdleOptions, AReaderMayLeave) {
  const Answer answer = run("tool_llama info -m tiny | head -n 1");
  EXPECT_EQ(answer.log.find("error"), std::string::npos) << answer.log;
  const Answer gone = run("(sleep 0.2; data_llama show -m tiny --text 'ba=KO' -v) | true");
  EXPECT_EQ(gone.log.find("error"), std::string::npos) << gone.log;
  EXPECT_EQ(run("tool_llama info tiny -m tiny").code, 2);
  EXPECT_EQ(run("tool_llama info").code, 2);
}

// One file under two names is taken twice, and said.
TEST_F(IdleOptions, AFileGivenTwiceIsTold) {
  run("ln -s a.bin b.bin; mkdir texts; cp text.txt texts/t.txt; ln -s ../texts/t.txt texts/u.txt");
  const Answer tokens = run(
      "train_llama pretrain -m tiny --data a.bin b.bin a.bin --ctx-size 32 --attn full --dry-run");
  EXPECT_EQ(tokens.code, 0) << tokens.log;
  EXPECT_NE(tokens.log.find("b.bin is a.bin again"), std::string::npos) << tokens.log;
  EXPECT_NE(tokens.log.find("a.bin is there again"), std::string::npos) << tokens.log;
  for (const std::string texts : {"texts", "texts/t.txt texts/u.txt"}) {
    const Answer answer =
        run("data_llama tokenize -m tiny --data " + texts + " -o t.bin --dry-run");
    EXPECT_NE(answer.log.find("texts/u.txt is texts/t.txt again"), std::string::npos) << answer.log;
  }
}

TEST_F(IdleOptions, APromptIsUtf8AndAnEndByTheContextIsSaid) {
  refused("chat_llama complete -m tiny -n 2 -p \"$(printf 'ab\\377')\"", 2,
          {"--prompt", "byte 2", "UTF-8"});
  refused("data_llama show -m tiny --text \"$(printf 'ab\\377')\"", 2, {"--text", "byte 2"});
  const Answer cut = run("chat_llama complete -m tiny -n 500 --ignore-eos --json");
  EXPECT_EQ(cut.json()["stop"], "context");
  EXPECT_NE(cut.log.find("the context ends after"), std::string::npos) << cut.log;
  EXPECT_NE(cut.log.find("of the 500"), std::string::npos) << cut.log;
}

// A huge number is refused by the option that has it, in every program.
TEST_F(IdleOptions, HugeNumbersNameTheirOption) {
  refused("train_tic --data-dir cue --model tic-n --epochs 9000000000000000000 --dry-run", 2,
          {"--epochs", "9e+18", "at most"});
  refused(
      "train_tic --data-dir cue --model tic-n --epochs 1000000000000000 -b 1 --dry-run "
      "--cue-count 1000000000000000",
      2, {"--epochs", "too large"});
  refused(
      "train_tic --data-dir cue --model tic-n -b 1000000000000000 --grad-accum-steps "
      "1000000000000000 --dry-run",
      2, {"--batch-size", "too large"});
  refused(
      "train_llama pretrain -m tiny --data a.bin --ctx-size 32 --dry-run -b 1000000000000000 "
      "--grad-accum-steps 1000000000000000",
      2, {"--batch-size x --grad-accum-steps"});
  struct Program {
    std::string name;
    std::vector<std::string> verbs;
  };
  for (const Program& p : std::vector<Program>{
           {"train_llama", {"pretrain", "sft"}},
           {"eval_llama", {"ppl", "choice", "passkey", "topic", "lines"}},
           {"chat_llama", {"complete"}},
           {"data_llama", {"tokenize", "show", "lexicon", "instructions", "compose", "split"}},
           {"tool_llama", {"merge", "export", "compare", "info"}},
           {"train_tic", {""}},
           {"eval_tic", {""}},
           {"tool_tic", {"info", "predict"}},
           {"data_tic", {"prepare", "check", "pack", "stats", "cue"}},
           {"report", {""}}})
    for (const std::string& verb : p.verbs) {
      const std::string help = [&] {
        run(p.name + " " + verb + " --help > help");
        return contents(at("help"));
      }();
      for (size_t at = help.find(" N "); at != std::string::npos; at = help.find(" N ", at + 1)) {
        const size_t begin = help.rfind("--", at);
        const std::string flag = help.substr(begin, at - begin);
        if (flag.ends_with("seed") || flag.find(' ') != std::string::npos) continue;
        refused(p.name + " " + verb + " " + flag + " 9223372036854775807", 2,
                {": 9223372036854775808 is "});
      }
    }
}

}  // namespace
}  // namespace mullion::test
