// The launcher's variables say who is waited for and where; reasons travel as the ranks would.
#include "apps/run/rank_start.h"

#include <algorithm>
#include <optional>

#include "apps/program/log.h"
#include "apps/program/rank_lines.h"
#include "apps/run/launch.h"
#include "tensor/check.h"
#include "tensor/cpu/mpi_collective.h"
#include "tensor/cpu/socket_transport.h"
#include "tensor/exchange_collective.h"

namespace mullion {
namespace {

constexpr double kPatience = 5;  // seconds, of others that start as this one did

struct Start {
  std::optional<Launch> launch;  // none: alone, or the variables are wrong
  bool came = false;
};
Start& start() {
  static Start the_start;
  return the_start;
}

}  // namespace

std::string launcher_in(const std::vector<std::string>& arguments) {
  const std::string flag = "--launcher";
  std::string found = "auto";
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == flag && i + 1 < arguments.size()) found = arguments[i + 1];
    if (arguments[i].starts_with(flag + "=")) found = arguments[i].substr(flag.size() + 1);
  }
  const bool is_known = found == "none" || found == "env" || found == "slurm" || found == "mpi";
  return is_known ? found : "auto";
}

void name_rank(const std::string& launcher) {
  std::optional<Launch>& launch = start().launch;
  try {
    launch = find_launch(launcher, own_variable, nullptr);
  } catch (const Error&) {  // thrown again where the ranks are to meet
    launch.reset();
  }
  if (!launch)
    clear_log_rank();
  else if (launch->rank == 0)
    set_log_rank("");
  else
    set_log_rank(concat("rank ", launch->rank, " of ", launch->size, " (node ", host_name(), ")"));
}

int64_t launched_rank() { return start().launch ? start().launch->rank : 0; }

void rank_comes() { start().came = true; }

// Over MPI this process joins the others as if it computed, for nothing else ends their wait: each
// gives its reason, and those who compute none (meet() in ranks.cc).
void tell_waiting_ranks(const std::string& why, const std::function<void()>& say) {
  const std::optional<Launch> launch = start().launch;
  if (!launch || start().came) return say();
  const bool is_first = launch->rank == 0;
  if (is_first) say();
  rank_comes();
  std::unique_ptr<Communicator> group;
  std::vector<std::string> reasons = {""};  // of all ranks, or of the first
  try {
    if (launch->by_mpi) {
      group = make_communicator(connect_mpi(kPatience));
      reasons = gather_texts(*group, why);
    } else {
      reasons[0] = tell_why_not({.rank = launch->rank,
                                 .size = launch->size,
                                 .address = launch->address,
                                 .key = launch->key,
                                 .rendezvous_seconds = kPatience,
                                 .peer_seconds = kPatience,
                                 .why_not = why});
    }
  } catch (const Error&) {  // nobody waits, or it is the launcher's variables that are wrong
  }
  if (!is_first && reasons[0] != why) say();
  const bool some_compute = std::find(reasons.begin(), reasons.end(), "") != reasons.end();
  if (group && some_compute) group->abandon(why);
}

void refuse_ranks(const std::string& program) {
  std::optional<Launch> launch;
  try {
    launch = find_launch("auto", own_variable, nullptr);
  } catch (const Error& error) {
    log_warning(error.what(), "; ", program, " knows no ranks and does the whole work");
    return;
  }
  if (!launch) return;
  // At every rank: a launcher ends rank 0 as well when another one is refused.
  throw Error(concat(program, ": is rank ", launch->rank, " of ", launch->size, " by ",
                     launch->source, ", but knows no ranks: each would do the whole work"),
              Fault::usage, concat("start it without the launcher, or without ", launch->source));
}

}  // namespace mullion
