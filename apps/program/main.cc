// Settings of the process, ranks, signals, the body, and one place that turns errors into codes.
#include "apps/program/main.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <system_error>

#include "apps/options/device.h"
#include "apps/options/nearest.h"
#include "apps/program/log.h"
#include "apps/program/rank_lines.h"
#include "apps/program/signals.h"
#include "apps/run/ranks.h"
#include "tensor/check.h"
#include "tensor/parallel.h"
#include "tensor/words.h"

namespace mullion {

namespace {
// Note [Passive waiting]
// OpenMP's threads spin between loops, which starves every other process of the machine; its
// runtime reads OMP_WAIT_POLICY before main starts. So the program starts itself once more with
// the variable set, unless the user has set it.
void wait_passively(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  ::setenv("OMP_WAIT_POLICY", "passive", 1);
  // By its own path rather than /proc/self/exe, by which top and pkill would know it as "exe".
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) ::execv(program.c_str(), argv);  // where this fails, the program goes on as it is
}

void settle_process(char** argv) {
  wait_passively(argv);
  // A reader that goes away (`| head`) ends its output, not the run.
  ::signal(SIGPIPE, SIG_IGN);
  divert_stop_signals();
}

void print(const std::string& text) {
  std::fflush(stdout);  // what the body printed comes first
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EPIPE) return;  // the reader has seen enough (`| head`)
    CHECK_AS(Fault::disk, n > 0, "stdout: cannot write the result: ", std::strerror(errno));
    done += static_cast<size_t>(n);
  }
}

}  // namespace

void print_text(const Options& options, const std::string& text) {
  if (!options.json && is_first_rank()) print(text);
}

void print_result(const Options& options, const std::string& line) {
  if (options.json)
    log_info(line);
  else if (is_first_rank())
    print(line + "\n");
}

namespace {
bool muted = false;  // another rank than the first gives no result
bool knows_ranks = false;

// Then the other ranks hear of it.
int report(const std::string& what, const std::string& hint, Fault fault, bool json) {
  const int code = static_cast<int>(fault);
  log_line(LogLevel::quiet, "error: " + what + (hint.empty() ? "" : "\n  try: " + hint));
  if (json && !muted) {
    try {
      print(JsonObject().set("error", what).set("exit_code", code).text() + "\n");
    } catch (const Error&) {
      // stdout is gone; the message is on stderr and the exit code tells the rest.
    }
  }
  if (knows_ranks) tell_waiting_ranks(what);
  abandon_ranks(what);
  return code;
}

template <typename Body>
int guarded(bool json, const Body& body) {
  const char* less = "a smaller --batch-size, a shorter context or smaller images";
  try {
    return body();
  } catch (const Error& error) {
    const bool unhinted = error.fault() == Fault::memory && error.hint().empty();
    return report(error.what(), unhinted ? less : error.hint(), error.fault(), json);
  } catch (const std::bad_alloc&) {
    return report("out of memory", less, Fault::memory, json);
  } catch (const std::filesystem::filesystem_error& error) {
    return report(error.what(), "", Fault::disk, json);
  } catch (const std::exception& error) {
    return report(error.what(), "", Fault::other, json);
  }
}

bool wants_json(const std::vector<std::string>& arguments) {
  return std::find(arguments.begin(), arguments.end(), "--json") != arguments.end();
}

// As parse_options() will read it; it may find errors before it gets there.
std::string launcher_in(const std::vector<std::string>& arguments) {
  const std::string flag = "--launcher";
  std::string launcher = "auto";
  for (size_t i = 0; i < arguments.size() && arguments[i] != "--"; ++i) {
    if (arguments[i] == flag && i + 1 < arguments.size()) launcher = arguments[i + 1];
    if (arguments[i].starts_with(flag + "=")) launcher = arguments[i].substr(flag.size() + 1);
  }
  return launcher;
}

bool has_ranks_options(const OptionTable& table) { return table.find("run.launcher") != nullptr; }

int run_options(const Options& options, const ProgramBody& body) {
  set_log_level(options.verbosity);
  if (knows_ranks) expect_ranks(options.get<std::string>("run.launcher"));
  for (const std::string& note : options.notes) log_info(note);
  set_num_threads(options.threads());
  try {
    bool has_work = true;
    if (!knows_ranks)
      refuse_ranks(options.program());
    else if (options.dry_run)
      has_work = plan_for_ranks(options);
    else
      join_ranks(options);
    if (!has_work) {
      leave_ranks([] {});
      return 0;
    }
    if (!options.device().starts_with("auto")) device_of(options);  // said before any work
    const Outcome outcome = body(options);
    leave_ranks([&] {
      if (options.json && is_first_rank()) print(outcome.result.text() + "\n");
    });
    return outcome.exit_code;
  } catch (const std::exception&) {
    muted = !is_first_rank();
    release_warnings();
    throw;
  }
}

std::string verb_of(const OptionTable& table) {
  return table.program().substr(table.program().find(' ') + 1);
}

std::string verbs_text(const std::string& about, const std::vector<Verb>& verbs) {
  const std::string program = verbs[0].table.program();
  std::string text =
      about + "\nusage: " + program.substr(0, program.find(' ')) + " VERB [options]\n\n";
  for (const Verb& verb : verbs) {
    std::string left = "  " + verb_of(verb.table);
    left.resize(std::max<size_t>(left.size() + 2, 16), ' ');
    text += left + verb.table.about() + "\n";
  }
  return text + "\nVERB --help lists the options of a verb.\n";
}
}  // namespace

int run_command(const std::vector<std::string>& arguments, const OptionTable& table,
                const ProgramBody& body) {
  knows_ranks = has_ranks_options(table);
  if (knows_ranks) expect_ranks(launcher_in(arguments));
  return guarded(wants_json(arguments), [&] {
    const ParsedOptions parsed = parse_options(table, arguments);
    if (parsed.options) return run_options(*parsed.options, body);
    print(parsed.answer);
    return 0;
  });
}

int run_command(const std::vector<std::string>& arguments, const std::string& about,
                const std::vector<Verb>& verbs) {
  if (!arguments.empty()) {
    for (const Verb& verb : verbs) {
      if (arguments[0] == verb_of(verb.table)) {
        return run_command({arguments.begin() + 1, arguments.end()}, verb.table, verb.body);
      }
    }
  }
  knows_ranks = std::any_of(verbs.begin(), verbs.end(),
                            [](const Verb& verb) { return has_ranks_options(verb.table); });
  if (knows_ranks) expect_ranks(launcher_in(arguments));
  return guarded(wants_json(arguments), [&] {
    const std::string first = arguments.empty() ? "" : arguments[0];
    if (first == "--help" || first == "-h") {
      print(verbs_text(about, verbs));
      return 0;
    }
    if (first == "--version") {
      return run_command(arguments, verbs[0].table, verbs[0].body);
    }
    std::vector<std::string> names;
    for (const Verb& verb : verbs) names.push_back(verb_of(verb.table));
    throw Error((first.empty() ? "which job? one of " : first + ": not one of ") + joined(names),
                Fault::usage, did_you_mean(first, names, "--help"));
  });
}

int run_program(int argc, char** argv, const OptionTable& table, const ProgramBody& body) {
  settle_process(argv);
  return run_command({argv + 1, argv + argc}, table, body);
}

int run_program(int argc, char** argv, const std::string& about, const std::vector<Verb>& verbs) {
  settle_process(argv);
  return run_command({argv + 1, argv + argc}, about, verbs);
}

}  // namespace mullion
