// Instruction data: the shapes that tools write, templates, which tokens are learned, what is cut.
// The texts of the templates are those that transformers renders for the public models.
#include <gtest/gtest.h>

#include <filesystem>

#include "data/instruction_rows.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tests/apps/temporary_run.h"
#include "tests/data/chat_samples.h"

namespace mullion {
namespace {

using nlohmann::json;

class Instructions : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) const {
    const auto path = folder_.path() / name;
    write_whole_file(path, text);
    return path.string();
  }
  std::vector<Conversation> read(const std::string& text, const std::string& name = "a.jsonl",
                                 bool drop_bad = false) {
    std::vector<Conversation> rows;
    found_ = read_conversations(file(name, text), {.drop_bad = drop_bad}, [&](Conversation c) {
      rows.push_back(std::move(c));
      return true;
    });
    return rows;
  }
  // Expects Error(bad_file) with all words.
  void refused(const std::string& text, const std::vector<std::string>& words) {
    try {
      read(text);
      ADD_FAILURE() << "not refused: " << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::bad_file);
      for (const std::string& word : words)
        EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
            << word << ": " << error.what();
    }
  }
  // The learned stretches of a row, each in brackets.
  static std::string learned(const Tokenizer& t, const TextRow& row) {
    std::string text;
    for (size_t i = 0; i < row.ids.size(); ++i) {
      if (row.learned[i] && (i == 0 || !row.learned[i - 1])) text += "[";
      text += t.token_bytes(row.ids[i]);
      if (row.learned[i] && (i + 1 == row.ids.size() || !row.learned[i + 1])) text += "]";
    }
    return text;
  }
  std::string rendered(const std::string& name, const std::string& row, InstructionOptions o = {},
                       const std::string& chat_template = "", bool add_bos = false) {
    const auto tokenizer = test::chat_tokenizer(chat_template, add_bos);
    const ChatTemplate chat(name, *tokenizer);
    o.context = o.context > 0 ? o.context : 10'000;
    const InstructionRows rows({file("r.jsonl", row)}, o, chat, *tokenizer);
    counts_ = rows.counts();
    return learned(*tokenizer, rows.read(0));
  }

  test::TemporaryRun folder_;
  ConversationFile found_;
  InstructionCounts counts_;
};

TEST_F(Instructions, Shapes) {
  const std::vector<std::pair<std::string, std::string>> shapes = {
      {"instruction", R"({"instruction":"q","input":"","output":"a"})"},
      {"prompt", R"({"prompt":"q","completion":"a"})"},
      {"messages",
       R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]})"},
      {"sharegpt",
       R"({"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]})"},
  };
  for (const auto& [name, row] : shapes)
    for (const bool list : {false, true}) {
      const auto rows =
          list ? read("[" + row + ",\n" + row + "]", "a.json") : read(row + "\n" + row);
      ASSERT_EQ(rows.size(), 2u) << name;
      EXPECT_EQ(found_.shape, name);
      EXPECT_EQ(found_.rows, 2u);
      EXPECT_NE(rows[1].where.find(list ? ": row 2" : ": line 2"), std::string::npos);
      ASSERT_EQ(rows[0].turns.size(), 2u) << name;
      EXPECT_EQ(rows[0].turns[0].content, "q");
      EXPECT_EQ(rows[0].turns[1].content, "a");
    }
  EXPECT_TRUE(read(R"({"text":"all of it"})")[0].is_text);
}

TEST_F(Instructions, SystemHistoryAndFieldsThatNobodyReads) {
  const auto rows = read(
      R"({"instruction":"q","output":"a","system":"s","history":[["q0","a0"]],"answer":"x","text":"y"})");
  ASSERT_EQ(rows[0].turns.size(), 5u);
  EXPECT_EQ(rows[0].turns[0].role, Role::system);
  EXPECT_EQ(rows[0].turns[2].content, "a0");
  EXPECT_EQ(found_.not_used, (std::map<std::string, uint64_t>{{"answer", 1}, {"text", 1}}));
  read(
      R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a","weight":0}]})");
  EXPECT_EQ(found_.not_used.count("messages[].weight"), 1u);
}

TEST_F(Instructions, BadRowsAreNamed) {
  const std::string good = R"({"instruction":"q","output":"a"})";
  const std::string turn = R"({"messages":[{"role":)";
  refused(good + "\n" + R"({"prompt":"q","completion":"a"})",
          {"a.jsonl: line 2", "prompt", "instruction", "it has: completion, prompt"});
  refused(R"({"instruction":"q","input":""})",
          {"line 1", "output", "missing", "input, instruction"});
  refused(good + "\n" + R"({"instruction":"q"})", {"line 2", "output", "missing"});
  refused(R"({"question":"q"})", {"line 1", "no known shape", "question"});
  refused(R"({"instruction":"q","output":"a","messages":[]})", {"two shapes", "messages"});
  refused(R"({"instruction":"q","output":""})", {"line 1", "output", "empty answer"});
  refused(R"({"instruction":"q","output":" \n"})", {"output", "empty answer"});
  refused(R"({"instruction":"","output":"a"})", {"instruction", "empty"});
  refused(R"({"instruction":"q","output":3})", {"output", "no string but 3"});
  refused(R"({"instruction":"q","output":"a","history":[["x"]]})", {"history[0]", "no pair"});
  refused(turn + R"("tool","content":"x"}]})", {"messages[0].role", "'tool'"});
  refused(turn + R"("assistant","content":"x"}]})", {"messages[0].content", "user's is due"});
  refused(turn + R"("user","content":"x"}]})", {"messages[0].content", "no answer to learn"});
  refused(turn + R"("user","content":[{"type":"text"}]}]})", {"messages[0].content", "no string"});
  refused(turn + R"("user","content":"x"},{"role":"user","content":"y"}]})",
          {"messages[1].content"});
  refused(turn + R"("user","content":"x"},{"role":"system","content":"y"}]})",
          {"messages[1]", "first"});
  refused(R"({"messages":[{"role":"user"}]})", {"messages[0].content", "missing"});
  refused(R"({"messages":[]})", {"messages", "empty"});
  refused(R"({"text":""})", {"text is empty"});
  refused("3", {"line 1", "no object but 3"});
  refused("{\"instruction\":\"q\",\"output\":\"\xff\"}", {"a.jsonl", "byte"});
  refused(good + "\n{", {"line 2"});
  refused("", {"no rows"});
}

TEST_F(Instructions, BadRowsAreCountedWhereAsked) {
  const auto rows = read(R"({"instruction":"q","output":"a"}
{"instruction":"q","output":""}
{"prompt":"q","completion":"a"}
{"instruction":"q2","output":"a"})",
                         "a.jsonl", true);
  EXPECT_EQ(rows.size(), 2u);
  EXPECT_EQ(found_.bad, 2u);
  EXPECT_NE(found_.first_bad.find("line 2"), std::string::npos);
}

TEST_F(Instructions, Templates) {
  const std::string two =
      R"({"messages":[{"role":"system","content":"S"},{"role":"user","content":"U1"},{"role":"assistant","content":"A1"},{"role":"user","content":"U2"},{"role":"assistant","content":"A2"}]})";
  EXPECT_EQ(
      rendered("chatml", two),
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n"
      "[A1<|im_end|>]\n<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n[A2<|im_end|>]\n");
  EXPECT_EQ(rendered("llama2", two),
            "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nU1 [/INST] [A1 </s>]<s>[INST] U2 [/INST] [A2 </s>]");
  const auto header = [](const std::string& role) {
    return "<|start_header_id|>" + role + "<|end_header_id|>\n\n";
  };
  EXPECT_EQ(rendered("llama3", two), "<s>" + header("system") + "S<|eot_id|>" + header("user") +
                                         "U1<|eot_id|>" + header("assistant") + "[A1<|eot_id|>]" +
                                         header("user") + "U2<|eot_id|>" + header("assistant") +
                                         "[A2<|eot_id|>]");
  EXPECT_EQ(rendered("zephyr", two),
            "<|system|>\nS</s>\n<|user|>\nU1</s>\n<|assistant|>\n[A1</s>]\n<|user|>\nU2</s>\n"
            "<|assistant|>\n[A2</s>]\n");
  EXPECT_EQ(rendered("vicuna", two), "S USER: U1 ASSISTANT: [A1</s>]USER: U2 ASSISTANT: [A2</s>]");
  EXPECT_EQ(rendered("none", two), "S\n\nU1[A1</s>]U2[A2</s>]");
  const std::string input = R"({"instruction":"I","input":"N","output":"O"})";
  EXPECT_EQ(rendered("none", input), "I\n\nN[O</s>]");
  EXPECT_EQ(rendered("llama2", input), "<s>[INST] I\nN [/INST] [O </s>]");
  EXPECT_EQ(rendered("alpaca", input),
            "Below is an instruction that describes a task, paired with an input that provides "
            "further context. Write a response that appropriately completes the request.\n\n"
            "### Instruction:\nI\n\n### Input:\nN\n\n### Response:[O</s>]");
  EXPECT_EQ(rendered("none", R"({"text":"plain"})", {}, "", true), "<s>[plain</s>]");
}

TEST_F(Instructions, TheTokenizersOwnTemplate) {
  const std::string smollm =
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
      "'<|im_start|>system\\nYou help.<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + "
      "message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}";
  const std::string row = R"({"prompt":"q","completion":"a"})";
  for (const char* name : {"auto", "chatml"})
    EXPECT_EQ(rendered(name, row, {}, smollm),
              "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
              "<|im_start|>assistant\n[a<|im_end|>]\n");
  EXPECT_EQ(
      rendered("auto", row, {},
               "{{ bos_token + '[INST] ' }}<<SYS>>{{ ' ' + content.strip() + ' ' + eos_token }}"),
      "<s>[INST] q [/INST] [a </s>]");
  // Mistral's: no BOS before later turns, other spaces. Others have no spaces around answers.
  EXPECT_THROW(rendered("auto", row, {}, "{{ '<s>' + '[INST] ' }}<<SYS>>{{ content + '</s>' }}"),
               Error);
  EXPECT_THROW(rendered("auto", row, {}, "{{ bos_token }}{{ '[INST] ' }}"), Error);
  EXPECT_EQ(rendered("auto", row, {},
                     "{{ '<s>' + '[INST] ' + content.strip() ~ \" \" ~ eos_token }}<<SYS>>"),
            "<s>[INST] q [/INST] [a </s>]");
  EXPECT_THROW(rendered("auto", row), Error);
  EXPECT_THROW(rendered("auto", row, {}, "{{ something }}"), Error);
  // A template whose tokens the tokenizer lacks.
  const auto plain = make_tokenizer(parse_tokenizer_json(test::json_sample().dump(), "sample"));
  EXPECT_THROW(ChatTemplate("chatml", *plain), Error);
}

TEST_F(Instructions, WhatIsLearned) {
  const std::string two =
      R"({"messages":[{"role":"user","content":"U1"},{"role":"assistant","content":"A1"},{"role":"user","content":"U2"},{"role":"assistant","content":"A2"}]})";
  EXPECT_EQ(rendered("none", two, {.last_turn = true}), "U1A1</s>U2[A2</s>]");
  EXPECT_EQ(rendered("none", two, {.mask_prompt = false}), "[U1A1</s>U2A2</s>]");
  EXPECT_EQ(counts_.targets, counts_.tokens - 1);  // nobody predicts the first
  // Two newlines are one token, which the answer begins in.
  EXPECT_EQ(rendered("none", R"({"prompt":"a","completion":"aa"})"), "[aaa</s>]");
}

// SentencePiece puts a space before a text and after a control token, which no template wrote.
TEST_F(Instructions, SentencePieceTokensFindTheirPlaces) {
  const auto tokenizer =
      make_tokenizer(parse_sentencepiece_model(test::spm_sample().bytes(), "sample"));
  for (const std::string name : {"llama2", "vicuna", "none"}) {
    const ChatTemplate chat(name, *tokenizer);
    const std::string row =
        R"({"messages":[{"role":"user","content":"the é x"},{"role":"assistant","content":"and the"},{"role":"user","content":" aaaa"},{"role":"assistant","content":"an"}]})";
    const InstructionRows rows({file("r.jsonl", row)}, {.context = 10'000}, chat, *tokenizer);
    const std::string text = learned(*tokenizer, rows.read(0));
    const std::string gap = name == "llama2" ? " " : "";
    for (const std::string answer : {"and the", "an"})
      EXPECT_TRUE(text.find("[ " + answer + gap + "</s>]") != std::string::npos ||
                  text.find("[" + answer + gap + "</s>]") != std::string::npos)
          << text;
    EXPECT_EQ(std::count(text.begin(), text.end(), ']'), name == "llama2" ? 6 : 2) << text;
  }
}

TEST_F(Instructions, BosInTheTextIsRefused) {
  for (const char* name : {"llama2", "none"}) try {
      rendered(name, R"({"instruction":"<s>[INST] q","output":"a"})");
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("line 1: instruction: begins with the BOS"),
                std::string::npos)
          << error.what();
    }
}

TEST_F(Instructions, TruncationKeepsTheAnswer) {
  // 26 letters, an answer of two tokens and its end.
  const std::string row = R"({"prompt":"bcdfgijklmopqrsuvwxyzBCDFG","completion":"XY"})";
  const auto cut = [&](int64_t context, Truncate how) {
    InstructionOptions o;
    o.context = context, o.truncate = how, o.max_without_target = 1;
    return rendered("none", row, o);
  };
  EXPECT_EQ(cut(29, Truncate::middle), "bcdfgijklmopqrsuvwxyzBCDFG[XY</s>]");
  EXPECT_EQ(counts_.truncated, 0u);
  EXPECT_EQ(cut(10, Truncate::middle), "bcdfDFG[XY</s>]");
  EXPECT_EQ(counts_.truncated, 1u);
  EXPECT_EQ(counts_.answers_cut, 0u);
  EXPECT_EQ(cut(4, Truncate::middle), "b[XY</s>]");
  EXPECT_EQ(cut(2, Truncate::middle), "[XY]");
  EXPECT_EQ(counts_.answers_cut, 1u);
  EXPECT_EQ(cut(28, Truncate::right), "bcdfgijklmopqrsuvwxyzBCDFG[XY]");
  EXPECT_THROW(cut(26, Truncate::right), Error);  // no row is left
  EXPECT_THROW(cut(28, Truncate::skip), Error);
  // What a template writes after the answer goes first.
  InstructionOptions o;
  o.context = 22;  // of 23
  EXPECT_EQ(rendered("chatml", R"({"prompt":"q","completion":"a"})", o),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[a<|im_end|>]");
  EXPECT_EQ(counts_.truncated, 0u);
}

TEST_F(Instructions, AnAnswerThatTruncationCutsIsNotLearned) {
  const std::string row =
      R"({"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"bcdfgijklm"},)"
      R"({"role":"user","content":"r"},{"role":"assistant","content":"X"}]})";
  const std::string first = "[bcdfgijklm<|im_end|>]", last = "[X<|im_end|>]";
  bool was_cut = false, was_whole = false;
  for (int64_t context = 16; context < 60; ++context) {
    InstructionOptions o;
    o.context = context;
    std::string text = rendered("chatml", row, o);
    const size_t at = text.find(first);
    if (at != std::string::npos) text.erase(at, first.size());
    ASSERT_NE(text.find(last), std::string::npos) << text;
    text.erase(text.find(last), last.size());
    EXPECT_EQ(text.find('['), std::string::npos) << context << ": " << text;
    EXPECT_EQ(counts_.answers_cut, at == std::string::npos) << context;
    (at == std::string::npos ? was_cut : was_whole) = true;
  }
  EXPECT_TRUE(was_cut && was_whole);
}

TEST_F(Instructions, RowsWithoutATargetAreCountedAndRefused) {
  const auto tokenizer = test::chat_tokenizer();
  const ChatTemplate chat("none", *tokenizer);
  std::string text;
  const std::string longer(40, 'b');
  for (int i = 0; i < 40; ++i)
    text += "{\"prompt\":\"" + (i < 2 ? longer : "q") + "\",\"completion\":\"a\"}\n";
  InstructionOptions o;
  o.context = 30, o.truncate = Truncate::right;
  const InstructionRows rows({file("a.jsonl", text)}, o, chat, *tokenizer);  // 5 %
  EXPECT_EQ(rows.counts().without_target, 2u);
  EXPECT_EQ(rows.size(), 38);
  EXPECT_NE(rows.notes()[0].where.find("line 1"), std::string::npos);
  EXPECT_EQ(rows.notes()[0].tokens, 42);
  text += "{\"prompt\":\"" + longer + "\",\"completion\":\"a\"}\n";
  try {
    InstructionRows({file("a.jsonl", text)}, o, chat, *tokenizer);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::bad_file);
    EXPECT_NE(std::string(error.what()).find("3 of 41 rows"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace mullion
