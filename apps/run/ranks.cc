// One group for the process; questions to all ranks, and the end that tells the others why.
#include "apps/run/ranks.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <sstream>

#include "apps/options/device.h"
#include "apps/program/log.h"
#include "apps/program/rank_lines.h"
#include "apps/run/launch.h"
#include "apps/run/rank_collectives.h"
#include "apps/run/rank_devices.h"
#include "tensor/check.h"
#include "tensor/cpu/mpi_collective.h"
#include "tensor/cpu/socket_transport.h"
#include "tensor/exchange_collective.h"
#include "tensor/parallel.h"

namespace mullion {
namespace {

struct Here {
  std::shared_ptr<Communicator> group;  // null: alone
  bool plans = false;                   // a dry run, in which the group is not asked
  int64_t planned = 0;                  // ranks of --ranks
  bool came = false;                    // to where ranks meet, or left it alone
  std::string launcher = "auto";        // expect_ranks()
};
Here& here() {
  static Here* the_ranks = new Here;  // after an error connections last as long as the process
  return *the_ranks;
}
std::shared_ptr<Communicator>& group() { return here().group; }

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// The threads of this rank: its part of its machine's cores.
int threads_here(const std::string& machine) {
  std::string mine = machine + "\n";
  for (const int core : own_cores()) mine += std::to_string(core) + " ";
  std::vector<std::vector<int>> cores;  // of the ranks of this machine
  size_t place = 0;
  const auto texts = gather_texts(*group(), mine);
  for (size_t r = 0; r < texts.size(); ++r) {
    if (!texts[r].starts_with(machine + "\n")) continue;
    if (static_cast<int64_t>(r) == rank()) place = cores.size();
    std::istringstream numbers(texts[r].substr(machine.size()));
    cores.emplace_back();
    for (int core = 0; numbers >> core;) cores.back().push_back(core);
  }
  return share_of_cores(cores, place);
}
}  // namespace

void add_rank_options(OptionTable& table) {
  table
      .add(
          "run.launcher", "--launcher", "auto",
          "who started the ranks: by the variables of torchrun (env), srun (slurm) or mpirun (mpi)")
      .one_of({"auto", "none", "env", "slurm", "mpi"})
      .free_on_resume();
  table
      .add("run.peer_timeout", "--peer-timeout", 120.0,
           "seconds without a sign of a rank that is waited for, after which all end")
      .range(2, 1e6)
      .free_on_resume();
  table
      .add("run.rendezvous_timeout", "--rendezvous-timeout", 120.0,
           "seconds for all ranks to come, after which the missing are named")
      .range(0.1, 1e6)
      .free_on_resume();
  table.add("run.share_device", "--share-device", false, "several ranks may have one GPU")
      .free_on_resume();
  add_collectives_option(table);
}

namespace {
// The program and every option must be the same, but for paths and what belongs to a machine.
NamedTexts shared_options(const Options& options) {
  NamedTexts fields = {{"version", MULLION_VERSION},
                       {"program", options.program()},
                       {"--dry-run", options.dry_run ? "given" : "not given"}};
  for (const OptionSpec& spec : options.table().specs()) {
    const bool of_the_run = spec.key.starts_with("run.");
    if (spec.key == "run.seed" || spec.key == "run.amp" ||
        (!spec.is_path && spec.key != "data.file" && spec.key != "data.workers" && !of_the_run))
      fields.emplace_back(spec.key, toml_text(options.value(spec.key)));
  }
  return fields;
}

void refuse_recorded_steps(const Options& options) {
  CHECK_AS(
      Fault::usage,
      !options.table().find("run.cuda_graph") || options.get<std::string>("run.cuda_graph") != "on",
      "--cuda-graph on: steps of several ranks are not recorded, for gradients are added up "
      "over them between backward and update");
}

std::unique_ptr<Transport> connect(const Options& options, const Launch& launch) {
  const auto patience = options.get<double>("run.peer_timeout");
  if (!launch.by_mpi)
    return connect_sockets({.rank = launch.rank,
                            .size = launch.size,
                            .address = launch.address,
                            .key = launch.key,
                            .rendezvous_seconds = options.get<double>("run.rendezvous_timeout"),
                            .peer_seconds = patience});
  auto transport = connect_mpi(patience);
  CHECK_AS(Fault::usage, transport->rank() == launch.rank && transport->size() == launch.size,
           launch.source, " says rank ", launch.rank, " of ", launch.size, ", MPI rank ",
           transport->rank(), " of ", transport->size(),
           ": this program's MPI is not the one of mpirun");
  return transport;
}

// All ranks, each with its device and its part of the cores, and the same options; `devices` of
// all.
void meet(const Options& options, const Launch& launch, std::vector<RankDevice>& devices) {
  here().came = true;
  std::unique_ptr<Transport> transport = connect(options, launch);
  const std::string node = transport->node(launch.rank);
  group() = make_communicator(std::move(transport));
  set_log_rank(is_first_rank() ? "" : group()->name(rank()));
  const RankDevice mine = choose_rank_device(options, node, launch.local_rank);
  devices = gather_rank_devices(options, *group(), mine);
  const int threads = threads_here(mine.machine);
  if (options.threads() == 0 && variable("OMP_NUM_THREADS").empty()) set_num_threads(threads);
  const auto banners =
      gather_texts(*group(), concat("rank ", launch.rank, " of ", launch.size, " from ",
                                    launch.source, ", node ", node, ", device ", mine.name, ", ",
                                    num_threads(), num_threads() == 1 ? " thread" : " threads"));
  for (const std::string& banner : banners) {
    constexpr int64_t kShown = 32;
    if (&banner - banners.data() < kShown) log_info("launch     ", banner);
  }
  require_same_on_all_ranks(shared_options(options));
  if (has_ranks()) refuse_recorded_steps(options);
}

// Which rank this is on the way to the others; nothing where it is none, or where nobody can tell.
std::optional<Launch> expected_launch() {
  // Where another launcher is named than that of the variables, it is this rank that is wrong.
  for (const std::string& launcher : {here().launcher, std::string("auto")}) {
    try {
      return find_launch(launcher, variable, nullptr);
    } catch (const Error&) {  // said when the ranks are to meet
    }
  }
  return std::nullopt;
}
}  // namespace

void expect_ranks(const std::string& launcher) {
  here().launcher = launcher;
  const auto launch = expected_launch();
  set_log_speaker(
      launch ? concat("rank ", launch->rank, " of ", launch->size, " (node ", host_name(), ")")
             : "");
}

bool plan_for_ranks(const Options& options) {
  const auto launch = find_launch(here().launcher, variable, nullptr);
  const auto asked = options.table().find("run.ranks") ? options.get<int64_t>("run.ranks") : 0;
  CHECK_AS(Fault::usage, !launch || asked == 0 || asked == launch->size, "--ranks ", asked, ": ",
           launch->source, " is of ", launch->size, " ranks");
  here().planned = asked;
  if (launch) {
    std::vector<RankDevice> devices;
    meet(options, *launch, devices);
    plan_collectives(options, group().get(), devices);
    here().plans = true;
    return launch->rank == 0;
  }
  here().came = true;
  if (has_ranks()) refuse_recorded_steps(options);
  if (asked > 0) plan_collectives(options, nullptr, {});
  return true;
}

void join_ranks(const Options& options) {
  std::string note;
  const auto launch = find_launch(here().launcher, variable, &note);
  if (!note.empty()) log_info(note);
  if (!launch) {
    here().came = true;
    for (const char* key :
         {"run.peer_timeout", "run.rendezvous_timeout", "run.share_device", "run.collectives"})
      if (!options.is_default(key)) options.tell_idle(key, "in a process that is alone");
    return;
  }
  std::vector<RankDevice> devices;
  meet(options, *launch, devices);
  group() = rank_collectives(options, group(), devices);
}

void tell_waiting_ranks(const std::string& why) {
  constexpr double kPatience = 5;  // seconds, of others that start as this one did
  if (here().came) return;
  here().came = true;
  try {
    const auto launch = expected_launch();
    if (!launch || launch->by_mpi) return;  // mpirun itself ends the others
    connect_sockets({.rank = launch->rank,
                     .size = launch->size,
                     .address = launch->address,
                     .key = launch->key,
                     .rendezvous_seconds = kPatience,
                     .peer_seconds = kPatience,
                     .why_not = why});
  } catch (const Error&) {  // nobody waits
  }
}

void refuse_ranks(const std::string& program) {
  std::optional<Launch> launch;
  try {
    launch = find_launch("auto", variable, nullptr);
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

void leave_ranks(const std::function<void()>& last_words) {
  tell_warnings_of_ranks();
  if (group()) group()->barrier();
  last_words();
  if (!group()) return;
  try {
    group()->barrier();
  } catch (const Error& error) {
    if (!is_first_rank() || error.fault() != Fault::peer_lost) throw;  // its words are out
  }
  group().reset();
}

void abandon_ranks(const std::string& why) {
  if (group()) group()->abandon(why);
}

Communicator* ranks() { return here().plans ? nullptr : group().get(); }
int64_t rank() { return group() ? group()->rank() : 0; }
int64_t rank_count() { return group() ? group()->size() : std::max<int64_t>(1, here().planned); }
bool has_ranks() { return rank_count() > 1; }

void first_rank_first(const std::function<void()>& work) {
  if (!ranks()) return work();
  if (is_first_rank()) work();
  ranks()->barrier();
  if (!is_first_rank()) work();
}

std::string text_of_first_rank(const std::string& mine) {
  return ranks() ? gather_texts(*ranks(), is_first_rank() ? mine : "").front() : mine;
}

std::vector<double> sum_over_ranks(std::vector<double> values) {
  if (!ranks()) return values;
  Tensor x = Tensor::from(values, {std::ssize(values)});
  ranks()->all_reduce(x);
  return x.to_vector<double>();
}

std::vector<std::string> texts_of_ranks(const std::string& mine) {
  return ranks() ? gather_texts(*ranks(), mine) : std::vector<std::string>{mine};
}

void require_same_on_all_ranks(const NamedTexts& fields) {
  if (!ranks()) return;
  // Names have no line ends; of values only a hash would be as long as the others'.
  std::string lines;
  for (const auto& [name, value] : fields) {
    std::string line = name + "=" + value;
    std::replace(line.begin(), line.end(), '\n', ' ');
    lines += line + "\n";
  }
  const auto texts = gather_texts(*ranks(), lines);
  for (size_t r = 1; r < texts.size(); ++r) {
    if (texts[r] == texts[0]) continue;
    std::istringstream first(texts[0]), other(texts[r]);
    std::string a, b;
    while (std::getline(first, a) && std::getline(other, b) && a == b) {
    }
    const std::string field = a.substr(0, a.find('='));
    fail(Fault::usage, ranks()->name(static_cast<int64_t>(r)), " differs from ", ranks()->name(0),
         " in ", field, ": ", b.substr(b.find('=') + 1), " and ", a.substr(a.find('=') + 1));
  }
}

void tell_warnings_of_ranks() {
  if (!ranks() || !any_rank(has_warnings())) return;
  std::string mine;
  for (const std::string& text : take_warnings()) mine += text + '\0';
  const auto texts = texts_of_ranks(mine);
  if (!is_first_rank()) return;
  std::map<std::string, std::vector<int64_t>> said_by;
  std::vector<std::string> in_order;
  for (size_t r = 0; r < texts.size(); ++r)
    for (size_t at = 0; at < texts[r].size(); at = texts[r].find('\0', at) + 1) {
      const std::string text = texts[r].c_str() + at;
      std::vector<int64_t>& by = said_by[text];
      if (by.empty()) in_order.push_back(text);
      if (by.empty() || by.back() != static_cast<int64_t>(r)) by.push_back(static_cast<int64_t>(r));
    }
  for (const std::string& text : in_order) {
    const std::vector<int64_t>& by = said_by[text];
    if (by.front() == 0) continue;
    log_warning(ranks()->name(by.front()),
                by.size() == 1 ? "" : concat(" and ", by.size() - 1, " more"), ": ", text);
  }
  take_warnings();  // these
}

bool any_rank(bool mine) { return sum_over_ranks({mine ? 1.0 : 0.0})[0] > 0; }

void check_ranks() {
  using Clock = std::chrono::steady_clock;
  static Clock::time_point next;
  if (!ranks() || Clock::now() < next) return;
  ranks()->check_peers();
  next = Clock::now() + std::chrono::milliseconds(100);
}

}  // namespace mullion
