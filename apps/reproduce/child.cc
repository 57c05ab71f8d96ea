// fork(), exec() and a pipe for stdout; the child dies with its parent.
#include "apps/reproduce/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "apps/program/command_text.h"
#include "apps/program/signals.h"
#include "tensor/check.h"

namespace mullion {
namespace {

constexpr int kPollMilliseconds = 100;

[[noreturn]] void become(const std::filesystem::path& program, std::vector<char*>& words, int out,
                         int log, pid_t parent) {
  // A group of its own: Ctrl-C reaches this program, which passes one request on.
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(kExitStopped);
  const int none = ::open("/dev/null", O_RDONLY);
  if (none < 0 || ::dup2(none, 0) < 0 || ::dup2(out, 1) < 0 || ::dup2(log, 2) < 0) ::_exit(127);
  ::execv(program.c_str(), words.data());
  ::_exit(127);
}

std::string last_line(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

}  // namespace

std::filesystem::path program_folder() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}

ChildResult run_child(const std::filesystem::path& program,
                      const std::vector<std::string>& arguments, const std::filesystem::path& log) {
  CHECK_AS(Fault::usage, ::access(program.c_str(), X_OK) == 0, program.string(),
           ": the program is not there; it is built with this one");
  std::vector<std::string> texts = {program.string()};
  texts.insert(texts.end(), arguments.begin(), arguments.end());
  std::vector<char*> words;
  for (std::string& text : texts) words.push_back(text.data());
  words.push_back(nullptr);
  const int errors = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  CHECK_AS(Fault::disk, errors >= 0, log.string(), ": ", std::strerror(errno));
  int ends[2] = {-1, -1};
  CHECK(::pipe2(ends, O_CLOEXEC) == 0, "no pipe: ", std::strerror(errno));
  const pid_t self = ::getpid(), child = ::fork();
  if (child == 0) become(program, words, ends[1], errors, self);
  ::close(ends[1]);
  ::close(errors);
  CHECK(child > 0, "no process: ", std::strerror(errno));

  std::string text;
  bool signalled = false;
  while (true) {
    if (!signalled && stop_requested()) {
      ::kill(child, SIGTERM);
      signalled = true;
    }
    pollfd ready{.fd = ends[0], .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, kPollMilliseconds) <= 0) continue;
    char block[4096];
    const ssize_t n = ::read(ends[0], block, sizeof block);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(block, static_cast<size_t>(n));
    // Only the last line counts, and programs print tables.
    if (text.size() > (1 << 20)) text.erase(0, text.rfind('\n', text.size() - 2) + 1);
  }
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), last_line(text)};
}

std::string quoted_command(const std::string& program, const std::vector<std::string>& arguments) {
  std::string line = program;
  for (const std::string& argument : arguments) line += " " + quoted_for_shell(argument);
  return line;
}

}  // namespace mullion
