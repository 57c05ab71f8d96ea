// chat_llama chat as a person and as a script use it.
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tensor/io/file.h"
#include "tests/apps/chat_model.h"
#include "tests/apps/programs.h"
#include "tests/shared_data.h"

namespace mullion {
namespace {

constexpr const char* kJinja =
    "{{ '<|im_start|>' ~ messages[0].role }} <|im_start|>system\\nSay seven.<|im_end|>\n";

class ChatTerminals : public test::Programs {
 protected:
  ChatTerminals() : Programs({"chat_llama", "data_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    test::write_chat_model(at("m"), 200, kJinja);
  }
  // A conversation by these lines, with 3 tokens an answer.
  std::string call(const std::string& lines, const std::string& more = "") const {
    return "printf '" + lines + "' | chat_llama chat -m m --threads 1 -n 3 --temp 0 " + more;
  }
};

TEST_F(ChatTerminals, AScriptIsALineATurn) {
  const auto told = result(call("one\\n\\ntwo \\\\\\nlines\\n//etc\\nlast", "--json"));
  const auto& m = told["messages"];
  ASSERT_EQ(m.size(), 8u);
  EXPECT_EQ(m[0]["content"], "one");
  EXPECT_EQ(m[2]["content"], "two \nlines");
  EXPECT_EQ(m[4]["content"], "/etc");
  EXPECT_EQ(m[6]["content"], "last");
  for (const int i : {1, 3, 5, 7}) EXPECT_EQ(m[i]["content"], "777");
  EXPECT_EQ(told["again"], 0);
  EXPECT_EQ(told["template"], "chatml");
  // A token a byte or special text: the system's turn, the user's, what comes before the answer. A
  // later turn begins with the last token of the answer before it and that answer's end.
  EXPECT_EQ(told["answers"][0]["fed"], 20 + 11 + 11);
  EXPECT_EQ(told["answers"][3]["fed"], 1 + 2 + 12 + 11);
  // stdout has the answers alone.
  const test::Answer plain = run(call("a\\nb\\n") + " >out");
  EXPECT_EQ(plain.code, 0) << plain.log;
  EXPECT_EQ(test::contents(at("out")), "777\n777\n");
  EXPECT_EQ(run("chat_llama chat -m m --threads 1 -n 3 </dev/null").code, 0);
  const auto first = result("chat_llama chat -m m --threads 1 -n 3 -p hello --json </dev/null");
  EXPECT_EQ(first["messages"][0]["content"], "hello");
}

// A turn is UTF-8 and nothing else: the error has no flags of programs that read files.
TEST_F(ChatTerminals, ALineThatIsNoTextIsNamedAndTheNextCounts) {
  const test::Answer told = run(call("a\\377b\\nb\\n", "--json"));
  ASSERT_EQ(told.code, 0) << told.log;
  EXPECT_EQ(told.json()["refused"], 1);
  EXPECT_EQ(told.json()["messages"].size(), 2u);
  EXPECT_NE(told.log.find("standard input: line 1: byte 1"), std::string::npos) << told.log;
  for (const char* flag : {"--encoding", "--token-dtype"})
    EXPECT_EQ(told.log.find(flag), std::string::npos) << told.log;
}

TEST_F(ChatTerminals, Commands) {
  const auto told =
      result(call("one\\n/system Be good.\\ntwo\\n/undo\\nthree\\n/retry\\n/set n 2\\n"
                  "four\\n/save c.jsonl\\n/save c.jsonl\\n",
                  "--json"));
  std::vector<std::string> contents;
  for (const auto& message : told["messages"]) contents.push_back(message["content"]);
  EXPECT_EQ(contents,
            (std::vector<std::string>{"Be good.", "one", "777", "three", "777", "four", "77"}));
  EXPECT_EQ(told["answers"].size(), 5u);
  EXPECT_EQ(nlohmann::json::parse(test::contents(at("c.jsonl")))["messages"], told["messages"]);
  EXPECT_EQ(run("data_llama instructions c.jsonl --model m -n 1 --ctx-size 200").code, 0);
  const auto log = [&](const std::string& lines) { return run(call(lines, ">out")).log; };
  for (const auto& [line, said] : std::vector<std::pair<std::string, std::string>>{
           {"/sytem x", "/system"},
           {"/undo", "no turn"},
           {"/retry", "no turn"},
           {"/save c.jsonl", "c.jsonl is there already"},
           {"/set tmp 1", "/set temp"},
           {"/set temp -1", "/set temp: -1"},
           {"/set temp", "needs a value"},
           {"/kv some 3", "some"},
           {"/kv h2o", "/kv h2o: "},
           {"/new x", "nothing after it"},
           {"<s>a", "BOS"}})
    EXPECT_NE(log(line + "\\n").find(said), std::string::npos) << line << "\n" << log(line + "\\n");
  for (const auto& [line, said] : std::vector<std::pair<std::string, std::string>>{
           {"/help", "/retry"},
           {"/set stop x, y\\n/set", "[\"x, y\"]"},
           {"/status", "of 200 tokens seen"},
           {"a\\n/history", "user: a\nassistant: 777"},
           {"a\\n/debug", "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n777<|im_end|>"},
           {"a\\n/debug", "ids  258 "},
           {"/kv sink 50 rolled\\na\\n/kv", "sink"}}) {
    log(line + "\\n");
    EXPECT_NE(test::contents(at("out")).find(said), std::string::npos) << line << "\n"
                                                                       << test::contents(at("out"));
  }
  EXPECT_EQ(result(call("a\\n/quit\\nb\\n", "--json"))["messages"].size(), 2u);
}

TEST_F(ChatTerminals, AFullContextIsSaid) {
  std::string lines;
  for (int i = 0; i < 8; ++i) lines += "a turn of some length\\n";
  const auto told = result(call(lines, "--json"));
  const std::string log = test::contents(at("log"));
  EXPECT_LT(told["messages"].size(), 16u);
  EXPECT_EQ(told["messages"].size() / 2 + told["refused"].get<size_t>(), 8u);
  for (const char* word : {"context is full", "200", "/new", "/kv sink"})
    EXPECT_NE(log.find(word), std::string::npos) << word << "\n" << log;
  // As that says: the conversation goes on.
  const auto on = result(call(lines + "/kv sink 64 rolled\\n" + lines, "--json"));
  EXPECT_EQ(on["messages"].size(), told["messages"].size() + 16);
  EXPECT_LE(on["cache"]["held"], 64);
  const auto cut = result("printf 'a\\n' | chat_llama chat -m m --threads 1 -n 0 --json");
  EXPECT_EQ(cut["answers"][0]["stop"], "context");
  EXPECT_NE(test::contents(at("log")).find("full"), std::string::npos);
}

TEST_F(ChatTerminals, WrongCallsAreRefused) {
  test::write_chat_model(at("plain"), 100, "");
  refused("chat_llama chat -m plain </dev/null", 2, {"auto", "no chat template", "chatml"});
  test::write_chat_model(at("odd"), 100, "{{ messages }}");
  refused("chat_llama chat -m odd </dev/null", 2, {"none of the known ones"});
  refused("chat_llama chat -m m --kv h2o </dev/null", 2, {"--kv-budget"});
}

// As a turn that does not fit: it is refused, and the conversation goes on.
TEST_F(ChatTerminals, LinesThatAreNoTextAreNoTurns) {
  const auto told = result(call("one\\na\\377b \\\\\\nand more\\ntwo\\n", "--json"));
  const std::string log = test::contents(at("log"));
  for (const char* word : {"lines 2 to 3", "UTF-8"})
    EXPECT_NE(log.find(word), std::string::npos) << word << "\n" << log;
  EXPECT_EQ(told["refused"], 1);
  ASSERT_EQ(told["messages"].size(), 4u);
  EXPECT_EQ(told["messages"][0]["content"], "one");
  EXPECT_EQ(told["messages"][2]["content"], "two");
}

TEST_F(ChatTerminals, APercentageIsOfTheFirstTurnAndSaysSo) {
  const auto told =
      result(call("one\\na longer second turn\\n", "--kv sink --kv-budget 50% --json"));
  const std::string log = test::contents(at("log"));
  // 20 of the system's turn, 22 of the first: see AScriptIsALineATurn.
  EXPECT_NE(log.find("the cache keeps 21 tokens a head, 50 % of this first turn"),
            std::string::npos)
      << log;
  EXPECT_EQ(log.find("the cache keeps"), log.rfind("the cache keeps")) << log;
  EXPECT_EQ(told["cache"]["held"], 21);
}

TEST_F(ChatTerminals, TurnsTakenBackAreNotCounted) {
  EXPECT_EQ(run(call("one\\n/undo\\n/status\\n") + " >out").code, 0);
  EXPECT_NE(test::contents(at("out")).find("context    0 of 200 tokens seen, room for 200"),
            std::string::npos)
      << test::contents(at("out"));
  // The last token of the first answer is seen with the second turn, and stays.
  EXPECT_EQ(run(call("one\\n/status\\ntwo\\n/undo\\n/status\\n") + " >out").code, 0);
  const std::string out = test::contents(at("out"));
  const size_t first = out.find("context    44 of 200 tokens seen, room for 156");
  EXPECT_NE(first, out.npos) << out;
  EXPECT_NE(out.find("context    45 of 200 tokens seen, room for 155", first), out.npos) << out;
}

// The program at a terminal of its own.
class Terminal {
 public:
  Terminal(const std::filesystem::path& program, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), program.string());
    std::vector<char*> list;
    for (std::string& argument : arguments) list.push_back(argument.data());
    list.push_back(nullptr);
    child_ = ::forkpty(&fd_, nullptr, nullptr, nullptr);
    if (child_ == 0) {
      ::execv(list[0], list.data());
      ::_exit(99);
    }
  }
  ~Terminal() {
    if (child_ > 0) ::kill(child_, SIGKILL), ::waitpid(child_, nullptr, 0);
    ::close(fd_);
  }
  void type(const std::string& keys) const {
    EXPECT_EQ(::write(fd_, keys.data(), keys.size()), std::ssize(keys));
  }
  // Whether `text` is shown within a minute, after what was waited for before.
  bool shows(const std::string& text) {
    for (int i = 0; i < 600; ++i) {
      const size_t found = shown_.find(text, at_);
      if (found != shown_.npos) {
        at_ = found + text.size();
        return true;
      }
      pollfd one{fd_, POLLIN, 0};
      if (::poll(&one, 1, 100) <= 0) continue;
      char block[4096];
      const ssize_t n = ::read(fd_, block, sizeof(block));
      if (n <= 0) return false;
      shown_.append(block, static_cast<size_t>(n));
    }
    return false;
  }
  int exit_code() {
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  const std::string& shown() const { return shown_; }

 private:
  int fd_ = -1;
  pid_t child_ = -1;
  std::string shown_;
  size_t at_ = 0;
};

TEST_F(ChatTerminals, CtrlCStopsTheAnswerAndThenTheChat) {
  test::write_chat_model(at("long"), 100'000, kJinja);
  Terminal t(program("chat_llama"),
             {"chat", "-m", at("long").string(), "--threads", "1", "-n", "0", "--temp", "0"});
  ASSERT_TRUE(t.shows("> ")) << t.shown();
  t.type("hello\n");
  ASSERT_TRUE(t.shows("777777777777")) << t.shown();
  t.type("\x03");
  ASSERT_TRUE(t.shows("(stopped)")) << t.shown();
  ASSERT_TRUE(t.shows("> ")) << t.shown();
  t.type("/set n 3\n");
  t.type("again\n");
  ASSERT_TRUE(t.shows("777\r\n")) << t.shown();
  ASSERT_TRUE(t.shows("> ")) << t.shown();
  t.type("\x03");
  ASSERT_TRUE(t.shows("Ctrl-C again")) << t.shown();
  t.type("\x03");
  EXPECT_EQ(t.exit_code(), 130) << t.shown();
}

TEST_F(ChatTerminals, EndOfInputEndsWell) {
  Terminal t(program("chat_llama"),
             {"chat", "-m", at("m").string(), "--threads", "1", "-n", "3", "--temp", "0"});
  ASSERT_TRUE(t.shows("> ")) << t.shown();
  t.type("one \\\n");
  ASSERT_TRUE(t.shows(". ")) << t.shown();
  t.type("more\n");
  ASSERT_TRUE(t.shows("777\r\n")) << t.shown();
  ASSERT_TRUE(t.shows("> ")) << t.shown();
  t.type(
      "a\xff"
      "b\n");
  ASSERT_TRUE(t.shows("UTF-8")) << t.shown();
  ASSERT_TRUE(t.shows("> ")) << t.shown();
  t.type("\x04");
  EXPECT_EQ(t.exit_code(), 0) << t.shown();
}

}  // namespace
}  // namespace mullion
