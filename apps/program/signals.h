// Requests to stop. TERM, USR1 and INT set one flag, which every long loop polls: training,
// evaluation, data preparation. The loop finishes its step, saves, and the program exits with 75
// (kExitStopped). A second INT leaves at once with 130. HUP is ignored: a closed terminal does not
// end a run.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace mullion {

inline constexpr int kExitStopped = 75;       // stopped on request, saved, resumable (EX_TEMPFAIL)
inline constexpr int kExitInterrupted = 130;  // second Ctrl-C

// From now on the stop signals reach one thread that does nothing else. Called first thing in a
// program, before any other thread exists.
// Note [Signals and generated code]: oneDNN's machine code may use the stack pointer for purposes
// of its own, and a signal frame written there destroys whatever it points to; so no thread that
// computes may ever take a signal.
void divert_stop_signals();
// `signals`: names without "SIG"; an unknown name is an Error(usage). Those not named keep their
// usual effect.
void catch_stop_signals(const std::vector<std::string>& signals = {"TERM", "USR1", "INT"});
bool stop_requested();
std::string stop_reason();  // "SIGTERM", "RUN/STOP", or "" where nothing was asked
void request_stop(const std::string& reason);
void clear_stop_request();  // for tests, and for programs that go on after Ctrl-C (chat)

// The files RUN/SAVE (save and go on) and RUN/STOP (save and end), made by `touch`. Each counts
// once: it is removed when it is seen, and at the end, where one that came too late would stop the
// next run; one that cannot be removed counts again when it is touched. One that was there before
// this process began does not count, and is told.
class RunSwitches {
 public:
  explicit RunSwitches(const std::filesystem::path& run);
  ~RunSwitches();
  RunSwitches(const RunSwitches&) = delete;
  RunSwitches& operator=(const RunSwitches&) = delete;
  bool save_requested();
  bool stop_requested();  // a STOP file, or a signal

 private:
  struct Switch {
    std::filesystem::path file;
    std::optional<std::filesystem::file_time_type> seen = {};  // of one that stayed
  };
  bool take(Switch& one);
  Switch save_, stop_;
};

}  // namespace mullion
