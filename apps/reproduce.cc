// Runs the papers' experiments, each row by the programs beside this one, and writes a page for
// each:
//   reproduce --list
//   reproduce sinklora/pilot sinklora/passkey --scale mini --seeds 3
//   reproduce all --scale paper --models DIR --data DIR --dry-run
#include <algorithm>

#include "apps/program/log.h"
#include "apps/program/main.h"
#include "apps/program/signals.h"
#include "apps/report/chart.h"
#include "apps/reproduce/child.h"
#include "apps/reproduce/estimate.h"
#include "apps/reproduce/page.h"
#include "apps/reproduce/sinklora.h"
#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

OptionTable make_table() {
  OptionTable table("reproduce", "Runs the papers' experiments: reproduce ID...");
  table.add_optional<std::vector<std::string>>(
      "reproduce.ids", "ID", "experiments, groups like sinklora/..., or all; --list shows them");
  table.add("reproduce.list", "--list", false, "print every experiment with what it takes");
  table
      .add("reproduce.scale", "--scale", "mini",
           "mini: made-up data; small: real small models and data; paper: the paper's own")
      .one_of(scale_names());
  table.add("reproduce.seeds", "--seeds", 1, "trainings of each arm").range(1, 1000);
  table.add_optional<fs::path>("reproduce.models", "--models", "folder of the models (not mini)");
  table.add_optional<fs::path>("reproduce.data", "--data", "folder of the data (not mini)");
  table.add("reproduce.output", "--output", "runs/reproduce",
            "folder for ID/SCALE/{report.html,table.md,results.json} and arms/");
  table.add_optional<std::vector<std::string>>(
      "reproduce.only", "--only", "only these arms, by the names in the tables, e.g. sf,s2+global");
  table
      .add("reproduce.limit", "--limit", 0,
           "the first so many questions of each evaluation that has such, said in the heading; 0: "
           "all")
      .at_least(0)
      .not_with("reproduce.smoke");
  table
      .add("reproduce.epochs", "--epochs", 0,
           "passes over the images of each training of tic/, said in the heading; 0: the scale's "
           "own")
      .at_least(0)
      .not_with("reproduce.smoke");
  table.add("reproduce.smoke", "--smoke", false,
            "two steps of each training, a sample of each evaluation: whether all of it runs");
  for (const char* key : {"reproduce.ids", "reproduce.scale", "reproduce.seeds", "reproduce.models",
                          "reproduce.data", "reproduce.output", "reproduce.only", "reproduce.limit",
                          "reproduce.epochs", "reproduce.smoke"})
    table.at(key).not_with("reproduce.list");
  table.add_common();
  for (const char* key : {"run.seed", "run.threads", "run.device"})
    table.at(key).only_where([](const Options&) { return false; },
                             "here: the calls have their own, which --dry-run shows");
  return table;
}

Scale scale_of(const std::string& name) {
  const auto& names = scale_names();
  return static_cast<Scale>(std::find(names.begin(), names.end(), name) - names.begin());
}

World world_of(const Options& options) {
  World world;
  world.scale = scale_of(options.get<std::string>("reproduce.scale"));
  world.smoke = options.get<bool>("reproduce.smoke");
  world.seeds = options.get<size_t>("reproduce.seeds");
  world.limit = options.get<int64_t>("reproduce.limit");
  world.epochs = options.get<int64_t>("reproduce.epochs");
  CHECK_AS(Fault::usage, world.scale != Scale::mini || world.epochs == 0,
           "--epochs: the scenes of --scale mini are fresh at every step");
  for (const auto& [key, flag] :
       {std::pair{"reproduce.models", "--models"}, {"reproduce.data", "--data"}})
    CHECK_AS(Fault::usage, world.scale != Scale::mini || !options.has(key), flag,
             ": --scale mini makes its model and data");
  world.models = options.has("reproduce.models") ? options.get<fs::path>("reproduce.models")
                                                 : fs::path("MODELS");
  world.data =
      options.has("reproduce.data") ? options.get<fs::path>("reproduce.data") : fs::path("DATA");
  // "data/" is "data": paths of jobs are compared with them (missing()).
  for (fs::path* folder : {&world.models, &world.data})
    if (!folder->has_filename() && folder->has_parent_path() && *folder != folder->root_path())
      *folder = folder->parent_path();
  return world;
}

Plan plan_of(const Experiment& experiment, const World& world) {
  Plan plan;
  plan.seeds = world.seeds;
  experiment.plan(plan, world);
  return plan;
}

// "S2 + global" and "s2+global" are one name.
std::string plain_name(const std::string& name) {
  std::string plain;
  for (const char c : name)
    if (std::isalnum(static_cast<unsigned char>(c)))
      plain += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return plain;
}

// The arms of --only by their plain names. Names may have commas of their own, at which the option
// was split: as many parts as make a name are one. Error(usage) for what names no arm.
std::vector<std::string> chosen_arms(const Options& options,
                                     const std::vector<const Experiment*>& chosen,
                                     const World& world) {
  std::vector<std::string> arms, plain, names;
  if (!options.has("reproduce.only")) return arms;
  for (const Experiment* e : chosen) {
    if (!e->unavailable(world.scale).empty()) continue;
    for (const Row& row : plan_of(*e, world).rows) {
      if (std::find(plain.begin(), plain.end(), plain_name(row.arm)) != plain.end()) continue;
      plain.push_back(plain_name(row.arm));
      names.push_back(row.arm);
    }
  }
  const auto parts = options.get<std::vector<std::string>>("reproduce.only");
  for (size_t begin = 0; begin < parts.size();) {
    size_t end = parts.size();
    std::string name;
    for (; end > begin; --end) {
      name.clear();
      for (size_t i = begin; i < end; ++i) name += plain_name(parts[i]);
      if (std::find(plain.begin(), plain.end(), name) != plain.end()) break;
    }
    CHECK_AS(Fault::usage, end > begin, "--only ", parts[begin],
             ": no arm of what was asked for, which are: ",
             joined(names, ", ", [](const std::string& arm) {
               return arm.find(',') == arm.npos ? arm : concat('"', arm, '"');
             }));
    arms.push_back(name);
    begin = end;
  }
  return arms;
}

// All of them where no arm is named.
std::vector<Row> chosen_rows(const Plan& plan, const std::vector<std::string>& arms) {
  if (arms.empty()) return plan.rows;
  std::vector<Row> rows;
  for (const Row& row : plan.rows)
    if (std::find(arms.begin(), arms.end(), plain_name(row.arm)) != arms.end()) rows.push_back(row);
  return rows;
}

// What the jobs read beneath --models and --data and is not there.
std::vector<Need> missing(const Experiment& e, const std::vector<Job>& jobs, const World& world) {
  std::vector<Need> list;
  if (world.scale == Scale::mini) return list;
  const std::vector<Need> known = e.background(world).needs;
  for (const Job& job : jobs)
    for (const std::string& word : job.arguments) {
      const bool below = word.starts_with(world.models.string() + "/") ||
                         word.starts_with(world.data.string() + "/");
      const bool is_listed = std::any_of(list.begin(), list.end(),
                                         [&](const Need& need) { return need.path == word; });
      if (!below || is_listed || fs::exists(word)) continue;
      Need need{word, "", ""};
      for (const Need& k : known)
        if (k.path == need.path) need = k;
      list.push_back(need);
    }
  return list;
}

std::string described(const Need& need) {
  std::string text = need.path.string();
  if (!need.what.empty()) text += ": " + need.what;
  return need.size.empty() ? text : text + ", " + need.size;
}

Outcome list_experiments(const Options& options) {
  std::string text;
  std::vector<JsonObject> list;
  for (const Experiment& e : experiments()) {
    JsonObject json;
    json.set("id", e.id).set("paper", e.paper).set("what", e.what);
    text += concat(e.id, "\n  ", e.paper, ": ", e.what, "\n");
    JsonObject scales;
    for (const std::string& name : scale_names()) {
      World world;
      world.scale = scale_of(name);
      if (const std::string why = e.unavailable(world.scale); !why.empty()) {
        text += concat("  ", name, ": not available: ", why, "\n");
        scales.set(name, JsonObject().set("unavailable", why));
        continue;
      }
      world.models = "MODELS";
      world.data = "DATA";
      const Plan plan = plan_of(e, world);
      const Rate rate = usual_rate(world.scale);
      const Estimate total = estimate(Runner::order(plan, plan.rows), rate);
      std::string needs;
      for (const Job& job : plan.jobs)
        for (const Need& need : e.background(world).needs)
          if (std::find(job.arguments.begin(), job.arguments.end(), need.path.string()) !=
                  job.arguments.end() &&
              needs.find(need.what) == needs.npos)
            needs += (needs.empty() ? "" : "; ") + described(need);
      text +=
          concat("  ", name, ": about ", hours_text(total.seconds), " on ", rate.where, ", ",
                 short_number(total.gib), " GiB", needs.empty() ? "" : "; needs " + needs, "\n");
      scales.set(name, JsonObject()
                           .set("hours", total.seconds / 3600)
                           .set("on", rate.where)
                           .set("gib", total.gib)
                           .set("needs", needs));
    }
    list.push_back(json.set("scales", scales));
  }
  text +=
      "Times are for one seed and each experiment by itself; arms that several share are run "
      "once.\n";
  print_text(options, text);
  return JsonObject().set("experiments", list);
}

// An experiment that a group brings along may be unavailable; one that was named may not, nor all.
int code_of_lost(const Options& options, const std::vector<std::string>& lost, bool any_done) {
  const auto ids = options.get<std::vector<std::string>>("reproduce.ids");
  const bool named = std::any_of(lost.begin(), lost.end(), [&](const std::string& id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  });
  return named || !any_done ? static_cast<int>(Fault::usage) : 0;
}

// Every command, and what it takes.
Outcome dry_run(const Options& options, const std::vector<const Experiment*>& chosen,
                const World& world, const fs::path& arms,
                const std::vector<std::string>& arms_asked) {
  Plan all;
  std::string text;
  std::vector<std::pair<const Experiment*, std::vector<Job>>> each;
  for (const Experiment* e : chosen) {
    if (!e->unavailable(world.scale).empty()) continue;
    const Plan plan = plan_of(*e, world);
    each.emplace_back(e, Runner::order(plan, chosen_rows(plan, arms_asked)));
    for (const Job& job : each.back().second) all.add(job);
  }
  const Rate here = measured_rate(world.scale, all.jobs, arms), usual = usual_rate(world.scale);
  std::vector<JsonObject> list;
  std::vector<std::string> ready, missed;
  // Without --models and --data only the calls are asked for.
  const bool given = options.has("reproduce.models") || options.has("reproduce.data");
  const auto times = [&](const std::vector<Job>& jobs, JsonObject& json) {
    const Estimate now = estimate(jobs, here), then = estimate(jobs, usual);
    json.set("tflop", now.tflop).set("gib", now.gib).set("hours_here", now.seconds / 3600);
    json.set("hours_usual", then.seconds / 3600);
    return concat(short_number(now.tflop), " TFLOP, ", short_number(now.gib), " GiB; ",
                  hours_text(now.seconds), " on ", here.where, "; ", hours_text(then.seconds),
                  " on ", usual.where, "\n");
  };
  for (const auto& [experiment, jobs] : each) {
    JsonObject json;
    std::vector<std::string> commands, lost;
    text += concat("== ", experiment->id, ": ", experiment->paper, ", ", experiment->what, "\n");
    for (const Job& job : jobs) {
      commands.push_back(quoted_command(job.program, job_arguments(job, arms)));
      text += commands.back() + "\n";
    }
    for (const Need& need : missing(*experiment, jobs, world)) {
      lost.push_back(described(need));
      text += "missing: " + lost.back() + "\n";
    }
    (lost.empty() || !given ? ready : missed).push_back(experiment->id);
    json.set("id", experiment->id).set("commands", commands).set("missing", lost);
    text += times(jobs, json) + "\n";
    list.push_back(json);
  }
  for (const Experiment* e : chosen)
    if (!e->unavailable(world.scale).empty()) {
      text += concat("== ", e->id, ": not available: ", e->unavailable(world.scale), "\n");
      missed.push_back(e->id);
    }
  JsonObject total;
  text += concat("all of it, shared arms once: ", all.jobs.size(), " commands, ",
                 times(all.jobs, total));
  print_text(options, text);
  return {JsonObject().set("experiments", list).set("total", total),
          code_of_lost(options, missed, !ready.empty())};
}

// Error(usage) for an option that changes nothing of what was chosen.
void require_effect(const World& world, const std::vector<const Experiment*>& chosen) {
  for (const Experiment* e : chosen)
    for (const auto& [flag, value, group] :
         {std::tuple{"--limit", world.limit, "sinklora/"}, {"--epochs", world.epochs, "tic/"}})
      CHECK_AS(Fault::usage, value == 0 || e->id.starts_with(group), flag, ": of ", group,
               " alone, not of ", e->id);
  if (world.epochs == 0) return;
  bool trains = false;
  for (const Experiment* e : chosen)
    for (const Job& job : plan_of(*e, world).jobs) trains = trains || job.trains;
  CHECK_AS(Fault::usage, trains, "--epochs: nothing is trained for ", chosen.front()->id);
}

Outcome run(const Options& options) {
  if (options.get<bool>("reproduce.list")) return list_experiments(options);
  CHECK_AS(Fault::usage, options.has("reproduce.ids"), "which experiments? --list shows them");
  const World world = world_of(options);
  const auto chosen = chosen_experiments(options.get<std::vector<std::string>>("reproduce.ids"));
  require_effect(world, chosen);
  const bool has_language = std::any_of(chosen.begin(), chosen.end(), [](const Experiment* e) {
    return e->id.starts_with("sinklora/");
  });
  CHECK_AS(Fault::usage, has_language || !options.has("reproduce.models"),
           "--models: experiments of tic/ train their models from nothing and read none");
  const std::vector<std::string> arms_asked = chosen_arms(options, chosen, world);
  const auto output = options.get<fs::path>("reproduce.output");
  std::string scale = options.get<std::string>("reproduce.scale") + (world.smoke ? "-smoke" : "");
  const fs::path arms = output / "arms" / scale;
  scale = limited_name(world, scale);
  if (world.epochs > 0) scale += concat("-", world.epochs, "-epochs");
  if (options.dry_run) return dry_run(options, chosen, world, arms, arms_asked);
  catch_stop_signals();
  std::optional<Runner> runner;  // of the first experiment that can be run
  std::vector<JsonObject> done;
  std::vector<std::string> lost;
  bool goes_on = true;
  for (const Experiment* e : chosen) {
    if (!e->unavailable(world.scale).empty()) {
      log_warning(e->id, ": not available: ", e->unavailable(world.scale));
      lost.push_back(e->id);
      continue;
    }
    const Plan plan = plan_of(*e, world);
    const std::vector<Row> rows = chosen_rows(plan, arms_asked);
    const std::vector<Job> jobs = Runner::order(plan, rows);
    if (const std::vector<Need> needs = missing(*e, jobs, world); !needs.empty()) {
      for (const Need& need : needs) log_warning(e->id, ": missing ", described(need));
      lost.push_back(e->id);
      continue;
    }
    log_info("== ", e->id, ": ", e->paper, ", ", e->what, " (", scale, ", ", jobs.size(), " jobs)");
    if (!runner) runner.emplace(arms);
    if (!runner->run(jobs)) goes_on = false;
    const bool complete = rows.size() == plan.rows.size() &&
                          std::all_of(jobs.begin(), jobs.end(),
                                      [&](const Job& job) { return runner->is_complete(job); });
    const fs::path folder = output / e->id / scale;
    const std::string heading =
        e->background(world).heading + (world.smoke ? " (smoke: figures mean nothing)" : "");
    const std::vector<Measured> measured = measure(plan, rows, runner->answers());
    const bool any = std::any_of(measured.begin(), measured.end(),
                                 [](const Measured& m) { return m.ours.has_value(); });
    if (!goes_on && !any) continue;
    for (const Measured& m : measured)
      if (complete && !m.ours)
        log_warning(e->id, ": ", m.row.arm, ", ", m.row.metric, ": there is no figure");
    write_page(
        {*e, plan, scale, heading,
         world.scale == Scale::paper && !world.smoke && world.limit == 0 && world.epochs == 0,
         complete},
        measured, jobs, *runner, folder);
    print_result(options, concat(e->id, ": ", (folder / "report.html").string(),
                                 complete ? "" : " (not complete)"));
    done.push_back(JsonObject()
                       .set("id", e->id)
                       .set("complete", complete)
                       .set("results", (folder / "results.json").string())
                       .set("report", (folder / "report.html").string()));
  }
  const auto failures = runner ? runner->failures() : std::vector<std::string>();
  JsonObject json;
  json.set("experiments", done).set("not_available", lost).set("failures", failures);
  json.set("scale", scale).set("complete", goes_on && failures.empty() && lost.empty());
  if (!goes_on) return {json, kExitStopped};
  const int code = failures.empty() ? 0 : runner->failure_code();
  return {json, code != 0 ? code : code_of_lost(options, lost, !done.empty())};
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  return mullion::run_program(argc, argv, mullion::make_table(), mullion::run);
}
