// Handlers in a thread of their own set flags; files STOP and SAVE in the run say the same.
#include "apps/program/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

#include "apps/program/log.h"
#include "tensor/check.h"

namespace mullion {

namespace {
// Written by the handler, so lock-free and without a mutex.
std::atomic<int> requested_signal{0};
std::atomic<int> interrupts{0};
std::atomic<bool> file_requested{false};
std::string other_reason;

constexpr struct {
  const char* name;
  int number;
} kSignals[] = {{"TERM", SIGTERM}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"INT", SIGINT}};

void on_signal(int number) {
  if (number == SIGINT && interrupts.fetch_add(1) > 0) ::_exit(kExitInterrupted);
  requested_signal.store(number);
}

// When this process began: what was asked of a run before is none of its business.
const std::filesystem::file_time_type began = std::filesystem::file_time_type::clock::now();
}  // namespace

void divert_stop_signals() {
  sigset_t all;
  sigemptyset(&all);
  for (const auto& known : kSignals) sigaddset(&all, known.number);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);  // also in every thread made from here on
  std::thread([all] {
    ::pthread_sigmask(SIG_UNBLOCK, &all, nullptr);
    while (true) ::pause();  // handlers run here
  }).detach();
}

void catch_stop_signals(const std::vector<std::string>& signals) {
  struct sigaction action {};
  action.sa_handler = on_signal;
  // Reads and writes in progress go on; no call of ours has to know of the signal.
  action.sa_flags = SA_RESTART;
  for (const std::string& name : signals) {
    int number = 0;
    for (const auto& known : kSignals) {
      if (name == known.name || name == std::string("SIG") + known.name) number = known.number;
    }
    CHECK_AS(Fault::usage, number != 0, "signal ", name, ": not one of TERM, USR1, USR2, INT");
    ::sigaction(number, &action, nullptr);
  }
  ::signal(SIGHUP, SIG_IGN);
}

bool stop_requested() { return requested_signal.load() != 0 || file_requested.load(); }

std::string stop_reason() {
  const int number = requested_signal.load();
  for (const auto& known : kSignals) {
    if (number == known.number) return std::string("SIG") + known.name;
  }
  return file_requested.load() ? other_reason : "";
}

void request_stop(const std::string& reason) {
  other_reason = reason;
  file_requested.store(true);
}

void clear_stop_request() {
  requested_signal.store(0);
  interrupts.store(0);
  file_requested.store(false);
}

RunSwitches::RunSwitches(const std::filesystem::path& run)
    : save_{run / "SAVE"}, stop_{run / "STOP"} {
  for (Switch* one : {&save_, &stop_}) {
    std::error_code absent;
    const auto touched = std::filesystem::last_write_time(one->file, absent);
    if (!absent && touched < began && take(*one))
      log_warning(one->file.string(), ": is older than this start of the run and does not count");
  }
}

RunSwitches::~RunSwitches() {
  take(save_);
  take(stop_);
}

bool RunSwitches::take(Switch& one) {
  std::error_code absent;
  const auto touched = std::filesystem::last_write_time(one.file, absent);
  if (absent || touched == one.seen) return false;
  if (::unlink(one.file.c_str()) == 0) return true;
  one.seen = touched;
  log_warning(one.file.string(), ": cannot be removed: ", std::strerror(errno),
              "; it counts again when it is touched");
  return true;
}

bool RunSwitches::save_requested() { return take(save_); }

bool RunSwitches::stop_requested() {
  if (take(stop_)) request_stop("RUN/STOP");
  return mullion::stop_requested();
}

}  // namespace mullion
