// The three scales of TiC's experiments, and the calls that train and judge a model.
#include "apps/reproduce/tic.h"

#include "apps/reproduce/rows.h"
#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {
namespace {

double tera_operations(double macs) { return 2 * macs / 1e12; }

// The recipe of the demo: scenes are fresh at every step, the first lessons have one glyph alone.
TicTask cue_task(bool smoke) {
  TicTask task{.name = "cue",
               .data = "cue",
               .about = "tic-n with patches of 4 pixels, 0.55 M parameters, the made-up cue task",
               .config = tic_preset("tic-n")};
  const int steps = smoke ? 2 : 2800, lessons = smoke ? 1 : 1000;
  task.config.patch = 4;
  task.config.mlp_dwconv = true;
  task.images = 64.0 * steps;
  task.judged = smoke ? 64 : 4000;
  task.training = words_in(concat(
      "--model tic-n --patch-size 4 --mlp-dwconv --cue-count 64 --batch-size 64 --cue-lessons ",
      lessons, " --max-steps ", steps, " --val-interval ", steps, " --lr 7e-4 --warmup-epochs ",
      smoke ? 0 : 100,
      " --weight-decay 0.05 --drop-path 0 --smoothing 0 --clip-grad 1 --save-every 700 "
      "--log-every 100"));
  task.evaluation = {"--cue-count", std::to_string(static_cast<int>(task.judged))};
  return task;
}

TicTask folder_task(const World& world, const std::string& name, const std::string& folder,
                    const std::string& preset, const TicConfig& config, int64_t side,
                    int64_t epochs, double epoch_images, double judged, int64_t batch) {
  const int64_t passes = world.scale == Scale::paper ? 8 : 1;  // a step, as the presets say
  TicTask task{
      .name = name,
      .data = (world.data / folder).string(),
      .config = config,
      .side = side,
      .images = world.smoke ? static_cast<double>(2 * passes * batch)
                            : static_cast<double>(epochs) * epoch_images,
      .epoch_images = epoch_images,
      .judged = judged,
      .batch = batch,
      .training = {"--preset", preset, "--workers", world.scale == Scale::paper ? "8" : "2"}};
  if (world.smoke) append(task.training, {"--max-steps", "2", "--warmup-epochs", "0"});
  return task;
}

// So many passes over a folder's images instead of the preset's; the runs' names say so.
void train_for(TicTask& task, int64_t epochs, const World& world) {
  task.name += concat("-", epochs, "ep");
  if (world.smoke) return;
  task.images = static_cast<double>(epochs) * task.epoch_images;
  append(task.training, {"--epochs", std::to_string(epochs)});
}

TicSetting mini(const World& world) {
  TicSetting s;
  s.ablation = cue_task(world.smoke);
  s.tasks = {s.ablation};
  s.sizes = {"32", "40", "48", "64", "80", "96", "32x48", "48x32"};
  s.train_sizes = world.smoke ? std::vector<int64_t>{32} : std::vector<int64_t>{32, 64, 128, 256};
  s.forward_sizes = s.twin_forward_sizes =
      world.smoke ? std::vector<int64_t>{64} : std::vector<int64_t>{512};
  return s;
}

TicSetting small(const World& world) {
  TicSetting s;
  s.needs = {{world.data / "cifar10", "CIFAR-10 as class folders, train and test", "55 MB"},
             {world.data / "imagenette2-160", "Imagenette of 160 pixels, train and val", "100 MB"}};
  TicConfig nano = tic_preset("tic-n");
  nano.mlp_dwconv = true;
  TicConfig coarse = nano;
  coarse.patch = 4;
  TicTask cifar =
      folder_task(world, "cifar10", "cifar10", "cifar10-tic-n", nano, 32, 20, 5e4, 1e4, 128);
  cifar.about = "tic-n with patches of 2 pixels, 0.55 M parameters, CIFAR-10 (JPEG)";
  TicTask imagenette = folder_task(world, "imagenette", "imagenette2-160", "imagenette-tic-n",
                                   coarse, 128, 30, 9469, 3925, 64);
  imagenette.about = "tic-n with patches of 4 pixels, Imagenette (JPEG)";
  s.tasks = {cifar, imagenette};
  s.ablation = cifar;
  if (world.epochs == 0) train_for(s.ablation, 12, world);
  s.sizes = {"24", "32", "40", "48", "64", "96", "32x48", "48x32"};
  s.measured = tic_preset(s.measured_preset = "tic-t");
  s.train_sizes = {224, 384, 512, 1024};
  s.forward_sizes = {2048};
  return s;
}

TicSetting paper(const World& world) {
  TicSetting s;
  s.needs = {{world.data / "imagenet",
              "ImageNet-1K as class folders or shards (data_tic prepare, pack)", "155 GB"}};
  const double epoch = 1281167, validation = 5e4;
  for (const char* model : {"tic-t", "tic-s", "tic-b"})
    s.tasks.push_back(folder_task(world, model, "imagenet", std::string("imagenet-") + model,
                                  tic_preset(model), 224, 300, epoch, validation, 128));
  s.ablation = folder_task(world, "tic-t-100ep", "imagenet", "imagenet-tic-t-100ep",
                           tic_preset("tic-t"), 224, 100, epoch, validation, 128);
  for (TicTask& task : s.tasks) task.about = task.name + ", ImageNet-1K";
  s.ablation.about = "tic-t, ImageNet-1K";
  // The presets keep an average, which docs/imagenet.md judges as well.
  for (TicTask& task : s.tasks) append(task.evaluation, {"--use-ema"});
  append(s.ablation.evaluation, {"--use-ema"});
  s.sizes = {"160", "224", "288", "384", "512", "1024", "224x320", "320x224"};
  s.measured = tic_preset(s.measured_preset = "tic-t");
  s.train_sizes = {224, 384, 512, 1024};
  s.forward_sizes = s.twin_forward_sizes = {2048};
  s.field_side = 448;
  s.device = {"--device", "cuda", "--amp", "bf16"};
  return s;
}

// About what a step keeps of an image beside the weights, fitted to measured steps
// (docs/results.md): so many floats for each channel of each pixel of a block.
double activation_bytes(const TicConfig& c, int64_t side) {
  constexpr double kFloats = 22;
  double bytes = 0,
         pixels = static_cast<double>(side * side) / static_cast<double>(c.patch * c.patch);
  for (size_t i = 0; i < c.depths.size(); ++i, pixels /= 4)
    bytes += 4 * kFloats * static_cast<double>(c.depths[i] * c.width(i)) * pixels;
  return bytes;
}

}  // namespace

TicSetting tic_setting(const World& world) {
  TicSetting s = world.scale == Scale::mini    ? mini(world)
                 : world.scale == Scale::small ? small(world)
                                               : paper(world);
  if (world.epochs > 0) {
    for (TicTask& task : s.tasks) train_for(task, world.epochs, world);
    train_for(s.ablation, world.epochs, world);
  }
  s.world = world;
  return s;
}

std::vector<std::string> architecture_flags(const TicConfig& from, const TicConfig& to) {
  std::vector<std::string> words;
  const auto number = [&](const char* flag, int64_t was, int64_t is) {
    if (was != is) append(words, {flag, std::to_string(is)});
  };
  const auto name = [&](const char* flag, const std::string& was, const std::string& is) {
    if (was != is) append(words, {flag, is});
  };
  number("--patch-size", from.patch, to.patch);
  number("--msa-kernel", from.kernel_h, to.kernel_h);
  number("--msa-dilation", from.dilation, to.dilation);
  name("--block", to_name(from.block), to_name(to.block));
  name("--msa-variant", to_name(from.variant), to_name(to.variant));
  name("--msa-border", to_name(from.border), to_name(to.border));
  name("--shift", to_name(from.shift), to_name(to.shift));
  name("--pool", to_name(from.pool), to_name(to.pool));
  if (from.mlp_dwconv != to.mlp_dwconv)
    words.emplace_back(to.mlp_dwconv ? "--mlp-dwconv" : "--no-mlp-dwconv");
  return words;
}

std::vector<TicArm> strategy_arms(const TicConfig& both) {
  TicConfig alone = both, shift = both, pooling = both;
  alone.shift = pooling.shift = TicConfig::Shift::off;
  alone.pool = shift.pool = TicConfig::Pool::off;
  return {{"MSA-Conv alone", "alone", alone},
          {"+ shift", "shift", shift},
          {"+ pooling", "pooling", pooling},
          {"+ both", "both", both}};
}

TicArm twin_arm(const TicConfig& config, int64_t side) {
  TicArm twin{"global attention", "global", config};
  twin.config.block = TicConfig::Block::global;
  twin.config.positions = side / config.patch;
  return twin;
}

std::string train_tic(Plan& plan, const TicSetting& s, const TicTask& task, const TicArm& arm,
                      size_t seed) {
  Job job{.name = concat("tic-", task.name, "-", arm.tag, "-s", seed),
          .program = "train_tic",
          .arguments = {"--data-dir", task.data, "--img-size", std::to_string(task.side)},
          .seed = static_cast<int64_t>(seed),
          .trains = true,
          .arm = arm.label};
  append(job.arguments, task.training);
  append(job.arguments, architecture_flags(task.config, arm.config));
  append(job.arguments, {"--seed", std::to_string(seed)});
  append(job.arguments, s.device);
  const auto macs = static_cast<double>(tic_macs(arm.config, task.side, task.side));
  const double halved = s.device.empty() ? 1 : 0.5;  // activations of bf16
  job.cost = {3 * tera_operations(macs * task.images),
              (16 * tic_parameters(arm.config) +
               halved * static_cast<double>(task.batch) * activation_bytes(arm.config, task.side)) /
                  0x1p30};
  return plan.add(job);
}

// The last weights, not the best: those were chosen on the images that are judged.
std::string eval_tic(Plan& plan, const TicSetting& s, const TicTask& task, const TicArm& arm,
                     size_t seed, const std::vector<std::string>& sizes) {
  const std::string run = train_tic(plan, s, task, arm, seed);
  std::string name = "eval-" + run;
  double macs = 0;
  for (const std::string& size : sizes) {
    const int64_t height = std::stoll(size), cross = static_cast<int64_t>(size.find('x'));
    const int64_t width = size.find('x') == size.npos
                              ? height
                              : std::stoll(size.substr(static_cast<size_t>(cross) + 1));
    macs += static_cast<double>(tic_macs(arm.config, height, width));
  }
  if (sizes.size() > 1) name += "-sizes";
  Job job{.name = name,
          .program = "eval_tic",
          .arguments = {"--data-dir", task.data, "--checkpoint", "@" + run + "/last", "--img-size",
                        joined(sizes, ",")},
          .cost = {tera_operations(macs * task.judged), 1}};
  append(job.arguments, task.evaluation);
  append(job.arguments, s.device);
  return plan.add(job);
}

std::vector<std::string> judged_jobs(Plan& plan, const TicSetting& s, const TicTask& task,
                                     const TicArm& arm) {
  std::vector<std::string> jobs;
  for (size_t seed = 1; seed <= plan.seeds; ++seed)
    jobs.push_back(eval_tic(plan, s, task, arm, seed, {std::to_string(task.side)}));
  return jobs;
}

namespace {

// The models and data that an experiment is of, and for how long.
std::string heading(const std::string& experiment, const TicSetting& s) {
  const std::string scale = scale_names()[static_cast<size_t>(s.world.scale)];
  if (experiment == "tic/cost") return concat(scale, ": ", s.measured_preset);
  std::vector<std::string> about;
  for (const TicTask& task :
       experiment == "tic/classification" ? s.tasks : std::vector{s.ablation}) {
    const bool counts = task.epoch_images > 0 && !s.world.smoke;
    about.push_back(counts ? concat(task.about, ", ", task.images / task.epoch_images, " epochs")
                           : task.about);
  }
  return concat(scale, ": ", joined(about, "; "));
}

}  // namespace

std::vector<Experiment> tic_experiments() {
  std::vector<Experiment> all;
  for (auto part : {tic_ablations, tic_sizes})
    for (Experiment& experiment : part()) {
      experiment.background = [id = experiment.id](const World& world) -> Background {
        const TicSetting s = tic_setting(world);
        return {heading(id, s), s.needs};
      };
      all.push_back(std::move(experiment));
    }
  return all;
}

}  // namespace mullion
