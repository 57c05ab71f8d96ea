// One row of variables a launcher, tried from the outermost in; contradictions are errors.
#include "apps/run/launch.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>

#include "tensor/check.h"

namespace mullion {
namespace {

enum Kind { kEnv, kPmi, kSlurm, kOmpi, kPmix };

struct Variables {
  Kind kind;
  const char *rank, *size, *local_rank, *local_size;
};

constexpr Variables kTable[] = {
    {kEnv, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    {kPmi, "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    {kSlurm, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", nullptr},
    {kOmpi, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {kPmix, "PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", nullptr},
};

constexpr int64_t kMostRanks = 1 << 16;

int64_t number(const Environment& variable, const char* name, int64_t unset, int64_t least,
               int64_t most) {
  const std::string text = name ? variable(name) : "";
  if (text.empty()) return unset;
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  CHECK_AS(Fault::usage, error == std::errc() && stop == end && value >= least && value <= most,
           name, "=", text, ": not a number from ", least, " to ", most);
  return value;
}
int64_t count_of_ranks(const Environment& variable, const char* name, int64_t unset) {
  return number(variable, name, unset, 1, kMostRanks);
}
int64_t id_of(const Environment& variable, const char* name) {  // of a job or step
  return number(variable, name, 0, 0, int64_t{1} << 40);
}

// What a launcher says; nothing where it did not start this process.
std::optional<Launch> read(const Variables& names, const Environment& variable) {
  if (names.kind == kSlurm) {
    // The rank of a batch script and of a shell in an allocation is there as well: without a step,
    // srun has not started this process, and the tasks of the job are not its ranks.
    if (variable(names.size).empty()) return std::nullopt;
  }
  if (variable(names.rank).empty() && variable(names.size).empty()) return std::nullopt;
  // Asked for alone: mpirun sets the rank of PMIx as well, srun its size with or without PMIx.
  if (names.kind == kPmix && (variable(names.rank).empty() || variable(names.size).empty()))
    return std::nullopt;
  Launch launch;
  launch.source = names.rank;
  launch.rank = number(variable, names.rank, -1, 0, kMostRanks - 1);
  launch.size = count_of_ranks(variable, names.size, -1);
  CHECK_AS(Fault::usage, launch.rank >= 0 && launch.size >= 1,
           launch.rank < 0 ? names.rank : names.size, " is unset, ",
           launch.rank < 0 ? names.size : names.rank, " is ",
           variable(launch.rank < 0 ? names.size : names.rank),
           "; --launcher none takes this process as alone");
  CHECK_AS(Fault::usage, launch.rank < launch.size, names.rank, "=", launch.rank, " of ",
           names.size, "=", launch.size);
  launch.by_mpi = names.kind == kPmi || names.kind == kOmpi || names.kind == kPmix;
  if (launch.size == 1) return launch;  // whose places are of no account
  launch.local_size = number(variable, names.local_size, 0, 1, launch.size);
  // Unset: as if the nodes' ranks followed one another.
  const int64_t local = launch.local_size > 0 ? launch.rank % launch.local_size : launch.rank;
  launch.local_rank = number(variable, names.local_rank, local, 0, launch.size - 1);
  CHECK_AS(Fault::usage, launch.local_size == 0 || launch.local_rank < launch.local_size,
           names.local_rank, "=", launch.local_rank, " of ", names.local_size, "=",
           launch.local_size);
  return launch;
}

int64_t port_of(const Environment& variable, int64_t unset) {
  return number(variable, "MASTER_PORT", unset, 1, 65535);
}

bool is_here(const std::string& host) {
  return host == "localhost" || host.starts_with("127.") || host == "::1";
}

void find_address_of_env(Launch& launch, const Environment& variable) {
  const std::string host = variable("MASTER_ADDR"), run = variable("TORCHELASTIC_RUN_ID");
  int64_t port = port_of(variable, 0);  // 0: unset
  launch.key = run;
  const bool one_node =
      launch.local_size == launch.size || (launch.local_size == 0 && is_here(host));
  if (one_node) {
    launch.local_size = launch.size;
    CHECK_AS(Fault::usage, port > 0 || !run.empty(), "RANK=", launch.rank,
             ": MASTER_PORT is unset: a number that the processes of this run alone share");
    launch.address = concat("unix:mullion-", port, "-", run);
    return;
  }
  CHECK_AS(Fault::usage, !host.empty() && port > 0, "RANK=", launch.rank, " of ", launch.size,
           ": MASTER_ADDR and MASTER_PORT, where rank 0 is, are needed");
  // torchrun listens at its port itself.
  if (variable("TORCHELASTIC_USE_AGENT_STORE") == "True") ++port;
  launch.address = concat(host, ":", port);
}

void find_address_of_slurm(Launch& launch, const Environment& variable) {
  const std::string job = variable("SLURM_JOB_ID"), step = variable("SLURM_STEP_ID");
  const int64_t nodes =
      count_of_ranks(variable, "SLURM_STEP_NUM_NODES", count_of_ranks(variable, "SLURM_NNODES", 1));
  launch.key = job + "." + step;
  if (nodes <= 1) {
    launch.local_size = launch.size;
    launch.address = concat("unix:mullion-", job, "-", step);
    return;
  }
  const char* name = "SLURM_STEP_NODELIST";
  if (variable(name).empty()) name = "SLURM_NODELIST";
  const std::string list = variable(name);
  CHECK_AS(Fault::usage, !list.empty(), "SLURM_PROCID=", launch.rank,
           ": SLURM_STEP_NODELIST is unset");
  const std::string first = first_host(list);
  CHECK_AS(Fault::usage, !first.empty(), name, "=", list, ": not a list of nodes");
  const int64_t number_of_run =
      13 * id_of(variable, "SLURM_JOB_ID") + id_of(variable, "SLURM_STEP_ID");
  const int64_t port = port_of(variable, 20000 + number_of_run % 20000);
  const std::string host = variable("MASTER_ADDR");
  launch.address = concat(host.empty() ? first : host, ":", port);
}

// A shell of several tasks (srun --ntasks N --pty bash) has the variables of a step as well, and
// hands them on to what it starts, which then is no rank; what srun starts in the job of such a
// shell is one, and has the job's name too. Nothing tells them apart.
void refuse_shell_of_slurm(const Launch& launch, const Environment& variable) {
  const std::string job = variable("SLURM_JOB_NAME");
  if (job != "bash" && job != "interactive") return;
  throw Error(concat("SLURM_JOB_NAME=", job, " and SLURM_STEP_NUM_TASKS=", launch.size,
                     ": a rank that srun has started, or a command of an interactive shell?"),
              Fault::usage, "--launcher slurm for ranks, --launcher none for one process");
}

// Of two that differ, whether the first is started by (within) the second.
bool is_inner(const Launch& inner, Kind kind, Kind outer, const Environment& variable) {
  if (outer != kSlurm) return false;
  return kind == kOmpi || kind == kPmi ||
         (kind == kEnv && !variable("TORCHELASTIC_RUN_ID").empty() && inner.size > 0);
}

}  // namespace

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

std::string machine_identity() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot;
  return std::getline(file, boot) && !boot.empty() ? boot : host_name();
}

std::vector<int> own_cores() {
  std::vector<int> cores;
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(core, &allowed)) cores.push_back(core);
    return cores;
  }
  for (int core = 0; core < ::sysconf(_SC_NPROCESSORS_ONLN); ++core) cores.push_back(core);
  return cores;
}

int share_of_cores(const std::vector<std::vector<int>>& cores, size_t mine) {
  double share = 0;
  for (const int core : cores[mine])
    share += 1.0 / static_cast<double>(std::count_if(
                       cores.begin(), cores.end(), [&](const std::vector<int>& others) {
                         return std::binary_search(others.begin(), others.end(), core);
                       }));
  constexpr double kRounding = 1e-9;  // thirds add up to a little less than one
  return std::max(1, static_cast<int>(share + kRounding));
}

// Character by character: what a name may have, and of brackets the first number.
std::string first_host(const std::string& nodes) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto is_named = [&](char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
  };
  std::string first;
  for (size_t at = 0; at < nodes.size() && nodes[at] != ','; ++at) {
    if (is_named(nodes[at])) {
      first += nodes[at];
      continue;
    }
    if (nodes[at] != '[') return "";
    const size_t close = nodes.find(']', at);
    if (close == std::string::npos) return "";
    const std::string numbers = nodes.substr(at + 1, close - at - 1);
    const size_t end = numbers.find_first_of(",-");
    const std::string number = numbers.substr(0, end);
    for (const char c : numbers)
      if (!is_digit(c) && c != ',' && c != '-') return "";
    if (number.empty()) return "";
    first += number;
    at = close;
  }
  return first;
}

std::optional<Launch> find_launch(const std::string& launcher, const Environment& variable,
                                  std::string* note) {
  if (launcher == "none") return std::nullopt;
  std::vector<std::pair<Kind, Launch>> found;
  for (const Variables& names : kTable) {
    const bool asked =
        (launcher == "auto" && names.kind != kPmix) || (launcher == "env" && names.kind == kEnv) ||
        (launcher == "slurm" && names.kind == kSlurm) ||
        (launcher == "mpi" &&
         (names.kind == kPmi || names.kind == kOmpi || (names.kind == kPmix && found.empty())));
    if (!asked) continue;
    if (const auto launch = read(names, variable)) found.emplace_back(names.kind, *launch);
  }
  if (found.empty()) {
    const int64_t tasks = count_of_ranks(variable, "SLURM_NTASKS", 1);
    if (launcher == "auto" && tasks > 1 && note)
      *note = concat("launch     SLURM_NTASKS is ", tasks,
                     ", but no srun has started this process: it computes alone");
    CHECK_AS(Fault::usage, launcher == "auto", "--launcher ", launcher,
             ": its variables are not there (",
             launcher == "env" ? "RANK, WORLD_SIZE"
             : launcher == "slurm"
                 ? "SLURM_PROCID, SLURM_STEP_NUM_TASKS"
                 : "OMPI_COMM_WORLD_RANK or PMI_RANK, which mpirun sets, or PMIX_RANK of "
                   "srun --mpi=pmix",
             ")");
    return std::nullopt;
  }
  auto chosen = found.front();
  for (const auto& other : found) {
    const bool same =
        other.second.rank == chosen.second.rank && other.second.size == chosen.second.size;
    // By sockets: whose PMI it is, and whether this program's MPI knows it, need not be known.
    if (same && chosen.first == kPmi && other.first == kSlurm) chosen = other;
    if (same || is_inner(chosen.second, chosen.first, other.first, variable)) continue;
    if (is_inner(other.second, other.first, chosen.first, variable)) {
      chosen = other;
      continue;
    }
    fail(Fault::usage, chosen.second.source, " says rank ", chosen.second.rank, " of ",
         chosen.second.size, ", ", other.second.source, " rank ", other.second.rank, " of ",
         other.second.size, ": --launcher env, slurm, mpi or none says which holds");
  }
  Launch launch = chosen.second;
  if (launch.size == 1) return std::nullopt;
  if (chosen.first == kSlurm && launcher == "auto") refuse_shell_of_slurm(launch, variable);
  if (chosen.first == kEnv) find_address_of_env(launch, variable);
  if (chosen.first == kSlurm) find_address_of_slurm(launch, variable);
  return launch;
}

}  // namespace mullion
