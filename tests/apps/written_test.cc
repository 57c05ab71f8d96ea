// Tasks in which a model writes: topics and lines, on a model that says one thing.
#include <nlohmann/json.hpp>

#include "tensor/io/file.h"
#include "tests/apps/byte_llama.h"
#include "tests/apps/programs.h"

namespace mullion {
namespace {

class Written : public test::Programs {
 protected:
  Written() : Programs({"eval_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    const auto tokenizer = test::byte_tokenizer();
    Llama model(test::byte_config(*tokenizer, 128));
    // Whatever it reads, it writes the digit 7: all tokens look alike, and one row of the head
    // agrees with what they look like.
    for_each_parameter(model, [](const std::string& name, Tensor& p) {
      raw::fill(p, name.find("norm") != std::string::npos || name.find("embed") != std::string::npos
                       ? 1
                       : 0);
      if (name == "lm_head.weight") raw::fill(raw::slice(p, 0, '7', '7' + 1), 1);
    });
    save_llama(at("m"), model);
    write_tokenizer(*tokenizer, at("m"));
  }
};

TEST_F(Written, LinesTakeTheFirstNumber) {
  write_whole_file(
      at("2_lines.jsonl"),
      "{\"prompt\": \"line a is <7>, line b is <77>; a?\", \"expected_number\": 7777}\n"
      "{\"prompt\": \"other\", \"expected_number\": 7}\n");
  const std::string lines = "eval_llama lines -m m --data . --lines 2 --threads 1 --json ";
  const auto four = result(lines + "--max-tokens 4 --output out");
  EXPECT_EQ(four["results"][0]["lines"], 2);
  EXPECT_EQ(four["results"][0]["n"], 2);
  EXPECT_EQ(four["results"][0]["accuracy"], 0.5);
  const auto file = nlohmann::json::parse(test::contents(at(four["file"].get<std::string>())));
  EXPECT_EQ(file["results"]["lines_2"]["accuracy,none"], 0.5);
  EXPECT_EQ(result(lines + "--max-tokens 1 --kv h2o --kv-budget 4 -b 2")["results"][0]["accuracy"],
            0.5);
  EXPECT_EQ(result(lines + "--max-tokens 2")["results"][0]["accuracy"], 0.0);
  refused(lines + "--max-tokens 100", 2, {"sample 0", "context is 128"});
  refused(lines + "--lines 3", 3, {"3_lines.jsonl"});
  write_whole_file(at("4_lines.jsonl"), "{\"prompt\": \"a\", \"expected_number\": -1}\n");
  refused(lines + "--lines 4", 3, {"4_lines.jsonl: line 1", "expected_number"});
}

TEST_F(Written, TopicsAreFoundInTheAnswer) {
  write_whole_file(at("5_topics.jsonl"),
                   "{\"prompt\": \"a\", \"topics\": [\"The 77!\", \"x\"]}\n"
                   "{\"prompt\": \"b\", \"topics\": [\"seven\"]}\n");
  const std::string topic = "eval_llama topic -m m --data . --topics 5 --threads 1 --json ";
  const auto found = result(topic + "--template vicuna --rope-scaling linear --rope-factor 2");
  EXPECT_EQ(found["results"][0]["topics"], 5);
  EXPECT_EQ(found["results"][0]["accuracy"], 0.5);
  write_whole_file(at("1_topics.jsonl"), "{\"prompt\": \"a\", \"topics\": []}\n");
  refused("eval_llama topic -m m --data . --topics 1", 3, {"1_topics.jsonl: line 1", "topics"});
}

TEST_F(Written, LongBenchCutsTheMiddleAndAverages) {
  const std::string row = "{\"input\": \"Q\", \"context\": \"C\", \"answers\": ";
  write_whole_file(at("samsum.jsonl"),
                   row + "[\"777\"], \"all_classes\": null}\n" + row + "[\"8\"]}\n");
  write_whole_file(at("trec.jsonl"), row + "[\"7\"], \"all_classes\": [\"7\", \"77\", \"x\"]}\n");
  write_whole_file(at("lcc.jsonl"), row + "[\"7\"]}\n");
  write_whole_file(at("short.json"),
                   "{\"samsum\": \"{context}|{input}|{other}\", \"trec\": \"t\", \"lcc\": \"c\"}");
  const std::string longbench = "eval_llama longbench -m m --data . --threads 1 --json ";
  // The model's context has no room for what answers may take.
  refused(longbench + "--tasks samsum", 2, {"context is 128"});
  refused(longbench + "--tasks sams", 2, {"sams", "narrativeqa"});
  refused(longbench + "--tasks dureader", 2, {"dureader", "Chinese"});
  refused(longbench + "--tasks qasper", 3, {"qasper.jsonl"});
  refused(longbench + "--tasks lcc --prompts absent.json", 3, {"absent.json"});
  const auto all = result(longbench + "--tasks trec,lcc --max-length 9 --output out");
  EXPECT_EQ(all["prompts"], "this project's");
  EXPECT_EQ(all["shortened"], 2);
  EXPECT_EQ(all["results"][0]["task"], "trec");
  EXPECT_EQ(all["results"][0]["metric"], "accuracy");
  EXPECT_EQ(all["results"][0]["score"], 50);  // both "7" and "77" are in what it writes
  EXPECT_EQ(all["results"][1]["metric"], "edit-sim");
  EXPECT_EQ(all["results"][1]["score"], 3);  // of 64 sevens one is right: 2 / 65
  const auto samples = test::contents(at(all["file"].get<std::string>()));
  EXPECT_NE(samples.find("longbench_trec"), std::string::npos);
  EXPECT_FALSE(all.contains("average"));
}

TEST_F(Written, LEvalComparesExamsAndWords) {
  std::filesystem::create_directory(at("closed"));
  const auto file = [&](const std::string& name, const std::string& asked, const std::string& right,
                        const std::string& how) {
    write_whole_file(at("closed/" + name + ".jsonl"), "{\"input\": \"" + std::string(2000, 'd') +
                                                          " e f\", \"instructions\": [" + asked +
                                                          "], \"outputs\": [" + right +
                                                          "], \"evaluation\": \"" + how + "\"}\n");
  };
  file("gsm100", "\"q\"", "\"77\"", "exam");
  file("topic_retrieval_longchat", "\"q\", \"r\"", "\"7 7\", \"8\"", "exam");
  file("scientific_qa", "\"q\"", "\"77\"", "f1");
  file("financial_qa", "\"q\"", "\"77\"", "LLM");
  const std::string leval = "eval_llama leval -m m --data . --threads 1 --json --max-tokens 2 ";
  const std::string longer = " --rope-scaling linear --rope-factor 8";
  const auto exam = result(leval + "--tasks gsm100" + longer);
  EXPECT_EQ(exam["results"][0]["task"], "gsm100");
  EXPECT_EQ(exam["results"][0]["score"], 100);
  EXPECT_EQ(exam["shortened"], 1);  // to none of the document's three words
  const auto rest = result(leval + "--tasks topic_retrieval_longchat,scientific_qa" + longer);
  EXPECT_EQ(rest["results"].size(), 3u);
  EXPECT_EQ(rest["results"][0]["score"], 100);
  EXPECT_EQ(rest["results"][1]["score"], 0);
  EXPECT_EQ(rest["results"][2]["metric"], "f1");
  refused(leval + "--tasks financial_qa", 3, {"no question"});
  refused(leval + "--tasks gsm", 2, {"gsm", "coursera"});
  refused(leval + "--tasks quality", 3, {"quality.jsonl"});
  file("gsm100", "\"q\", \"r\"", "\"77\"", "exam");
  refused(leval + "--tasks gsm100", 3, {"gsm100.jsonl: line 1", "2 for 1 outputs"});
  file("gsm100", "\"q\"", "\"none\"", "exam");
  refused(leval + "--tasks gsm100", 3, {"gsm100.jsonl: line 1", "has no number"});
  file("quality", "\"q\"", "\"blank\"", "exam");
  refused(leval + "--tasks quality", 3, {"quality.jsonl: line 1", "A, B, C and D"});
  std::filesystem::remove(at("closed/quality.jsonl"));
  file("gsm100", "\"q\"", "\" \"", "exam");
  refused(leval + "--tasks gsm100", 3, {"gsm100.jsonl: line 1", "is empty"});
  file("gsm100", "\"q\"", "\"7\"", "f1");
  refused(leval + "--tasks gsm100", 3, {"evaluation: f1"});
}

TEST_F(Written, AllRunsASuiteOnOneModelAndGoesOn) {
  for (const char* folder : {"l", "t"}) std::filesystem::create_directory(at(folder));
  write_whole_file(at("l/2_lines.jsonl"),
                   "{\"prompt\": \"a?\", \"expected_number\": 7}\n"
                   "{\"prompt\": \"b?\", \"expected_number\": 8}\n");
  write_whole_file(at("t/5_topics.jsonl"), "{\"prompt\": \"a\"}\n");
  write_whole_file(at("t.txt"), "77777777 77777");
  write_whole_file(at("s.toml"),
                   "[text]\nverb = \"ppl\"\nprotocol = \"rolling\"\ndata = \"DATA/t.txt\"\n"
                   "ctx-size = [8]\n"
                   "[lines]\ndata = \"DATA/l\"\nlines = [2]\nmax-tokens = 1\n"
                   "[topic]\ndata = \"DATA/t\"\ntopics = 5\n"
                   "[rest]\nverb = \"topic\"\ndata = \"DATA/absent\"\n");
  const std::string all =
      "eval_llama all -m m --suite s.toml --data . --threads 1 --output out --json ";
  // A task that fails does not take the others down.
  const test::Answer first = run(all);
  EXPECT_EQ(first.code, 3) << first.log;
  for (const char* words : {"rest: left out, ./absent is not there", "5_topics.jsonl: line 1"})
    EXPECT_NE(first.log.find(words), std::string::npos) << first.log;
  size_t opened = 0;
  for (size_t at = 0; (at = first.log.find(" parameters, ", at)) != std::string::npos; ++at)
    ++opened;
  EXPECT_EQ(opened, 1u) << first.log;
  EXPECT_EQ(first.json()["failed"], nlohmann::json({"topic"}));
  // What was complete is not run again.
  write_whole_file(at("t/5_topics.jsonl"), "{\"prompt\": \"a\", \"topics\": [\"77\"]}\n");
  const test::Answer second = run(all);
  EXPECT_EQ(second.code, 0) << second.log;
  for (const char* words : {"lines: is complete", "text: is complete"})
    EXPECT_NE(second.log.find(words), std::string::npos) << second.log;
  const nlohmann::json answer = second.json();
  EXPECT_EQ(answer["results"]["lines_2"]["accuracy,none"], 0.5);
  EXPECT_EQ(answer["results"]["topic_5"]["accuracy,none"], 1.0);
  EXPECT_GT(answer["results"]["text"]["word_perplexity,none"], 1.0);
  // One file of results in lm-eval's layout, and the samples of each task.
  size_t results = 0, samples = 0;
  for (const auto& entry : std::filesystem::directory_iterator(at("out/m"))) {
    results += entry.path().filename().string().starts_with("results_");
    samples += entry.path().filename().string().starts_with("samples_");
  }
  EXPECT_EQ(results, 1u);
  EXPECT_EQ(samples, 2u);
  const auto file = nlohmann::json::parse(test::contents(at(answer["file"].get<std::string>())));
  EXPECT_EQ(file["results"], answer["results"]);
  EXPECT_EQ(file["n-samples"]["lines_2"]["original"], 2);
  EXPECT_EQ(result(all + "--tasks lines")["results"].size(), 1u);
  refused(all + "--tasks rest", 2, {"rest", "absent"});
  refused(all + "--tasks line", 2, {"line", "did you mean lines?"});
  refused("eval_llama all -m m --suite s.toml --data . --tasks lines", 2, {"--output"});
  write_whole_file(at("bad.toml"), "[x]\nverb = \"lined\"\n");
  refused("eval_llama all -m m --suite bad.toml --output o", 2, {"lined", "topic"});
  write_whole_file(at("bad.toml"), "[lines]\nlinez = 3\n");
  refused("eval_llama all -m m --suite bad.toml --output o", 2, {"suite: lines", "--linez"});
  write_whole_file(at("bad.toml"), "lines = 3\n");
  refused("eval_llama all -m m --suite bad.toml --output o", 2, {"bad.toml:1", "lines"});
}

// Two sections of one verb: each has samples of its own, whichever of them was stopped.
TEST_F(Written, SectionsOfOneVerbDoNotMeet) {
  std::filesystem::create_directory(at("l"));
  for (const char* file : {"l/2_lines.jsonl", "l/3_lines.jsonl"})
    write_whole_file(at(file),
                     "{\"prompt\": \"a?\", \"expected_number\": 7}\n"
                     "{\"prompt\": \"b?\", \"expected_number\": 8}\n");
  write_whole_file(at("s.toml"),
                   "[short]\nverb = \"lines\"\ndata = \"DATA/l\"\nlines = [2]\nmax-tokens = 1\n"
                   "[long]\nverb = \"lines\"\ndata = \"DATA/l\"\nlines = [3]\nmax-tokens = 2\n");
  const std::string all =
      "eval_llama all -m m --suite s.toml --data . --threads 1 --output out --json ";
  // The call that a section prints makes the same evaluation alone.
  const auto planned = result(all + "--dry-run");
  ASSERT_EQ(planned["tasks"].size(), 2u);
  for (const auto& call : planned["tasks"]) {
    EXPECT_NE(call.get<std::string>().find(" --model m "), std::string::npos) << call;
    EXPECT_EQ(run(call.get<std::string>()).code, 0) << call;
  }
  // What one has left when it was stopped is not the other's.
  write_whole_file(at("out/m/samples_short.part.jsonl"), "of another call\n");
  EXPECT_EQ(result(all + "--tasks long")["complete"], true);
  refused(all + "--tasks short", 2, {"samples_short.part.jsonl", "other options"});
  std::filesystem::remove(at("out/m/samples_short.part.jsonl"));
  const auto both = result(all);
  EXPECT_EQ(both["results"]["lines_2"]["accuracy,none"], 0.5);
  EXPECT_EQ(both["results"]["lines_3"]["accuracy,none"], 0.0);
  write_whole_file(at("bad.toml"), "[all]\nverb = \"lines\"\n");
  refused("eval_llama all -m m --suite bad.toml --output o", 2, {"bad.toml:1", "[all]"});
}

TEST_F(Written, LongBenchAsksTheFileForTheChosenSetsAlone) {
  write_whole_file(at("lcc.jsonl"),
                   "{\"input\": \"Q\", \"context\": \"C\", \"answers\": [\"7\"]}\n");
  write_whole_file(at("p.json"), "{\"lcc\": \"{context}{input}\"}");
  const std::string longbench =
      "eval_llama longbench -m m --data . --threads 1 --json --prompts p.json ";
  EXPECT_EQ(result(longbench + "--tasks lcc")["prompts"], "p.json");
  write_whole_file(at("trec.jsonl"),
                   "{\"input\": \"Q\", \"context\": \"C\", \"answers\": [\"7\"], "
                   "\"all_classes\": [\"7\"]}\n");
  refused(longbench + "--tasks lcc,trec", 3, {"p.json", "trec"});
}

}  // namespace
}  // namespace mullion
