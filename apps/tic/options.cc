// The options of train_tic, in the names and defaults of timm where it has them.
#include <algorithm>

#include "apps/options/device.h"
#include "apps/options/schedule_check.h"
#include "apps/tic/augment_options.h"
#include "apps/tic/class_names.h"
#include "apps/tic/image_data.h"
#include "apps/tic/training.h"

namespace mullion {

void add_tic_architecture(OptionTable& t) {
  t.add("model.name", "--model", "tic-t", "preset").one_of(tic_presets());
  t.add("model.block", "--block", "default",
        "global: the twin to compare with, each pixel of a map attends to all, learned positions "
        "(default: the preset's)")
      .one_of({"default", "tic", "global"});
  t.add("model.dim", "--embed-dim", 0,
        "channels of the first stage, doubled from stage to stage (0: the preset's)")
      .range(0, 4096);
  t.add("model.depths", "--depths", std::vector<int64_t>{},
        "blocks of each stage, e.g. 2,2,6,2 (default: the preset's)")
      .repeats();
  t.add("model.heads", "--num-heads", std::vector<int64_t>{},
        "attention heads of each stage, e.g. 3,6,12,24 (default: the preset's)")
      .repeats();
  t.add("model.mlp_ratio", "--mlp-ratio", 0, "hidden channels of the MLP by channels (0: 4)")
      .range(0, 64);
  t.add("model.patch", "--patch-size", 0, "side of the stem's patches (0: the preset's)")
      .range(0, 64);
  t.add("model.kernel", "--msa-kernel", 0, "side of the attention window (0: the preset's)")
      .range(0, 63);
  t.add("model.dilation", "--msa-dilation", 1,
        "pixels from one tap of the window to the next; above 1: --msa-variant dilated")
      .range(1, 16);
  t.add("model.variant", "--msa-variant", "standard",
        "of MSA-Conv; depthwise: each channel attends by itself, as a head of one channel")
      .one_of({"standard", "dilated", "depthwise"});
  t.add("model.border", "--msa-border", "zero_logit",
        "keys outside the map: zero vectors in the softmax (as released), or not seen")
      .one_of({"zero_logit", "masked"});
  t.add("model.shift", "--shift", "default",
        "cyclic shift of odd blocks; group: keys and values of each quarter of the heads in a "
        "direction of their own; per_layer: of all heads in one, another from block to block; "
        "roll_map: the whole map, rolled back afterwards (default: the preset's)")
      .one_of({"default", "group", "roll_map", "per_layer", "off"});
  t.add("model.shift_size", "--shift-size", 0, "pixels of the shift (0: the kernel)")
      .range(0, 1024)
      .not_with("model.shift", {"off"});
  t.add("model.pool", "--pool", "inter",
        "inter: the largest of 2 x 2 pixels between stages, then a 1 x 1 convolution; off: a "
        "convolution of 2 x 2 with stride 2 there; kv: the same, and keys and values averaged over "
        "2 x 2 pixels inside MSA-Conv")
      .one_of({"inter", "kv", "off"});
  t.add("model.mlp_dwconv", "--mlp-dwconv", false, "a depthwise convolution in the MLP");
}

OptionTable train_tic_table() {
  OptionTable t("train_tic",
                "Trains a TiC, a vision transformer of MSA-Conv, on a folder of images.");
  t.add_optional<std::string>(
       "data.dir", "--data-dir",
       "folder with train and val, as class folders or as shards, or \"cue\"")
      .required();
  t.add("data.train_split", "--train-split", "train", "folder below --data-dir");
  t.add("data.val_split", "--val-split", "", "folder below --data-dir (default: val, else test)");
  t.add("data.img_size", "--img-size", 0, "side of the images, pixels (0: 224; cue: 32)")
      .range(0, kMostImageSide);
  t.add("data.crop_pct", "--crop-pct", 0.875, "share kept by the centre crop of evaluation")
      .range(0.01, 1);
  t.add("data.interpolation", "--interpolation", "bicubic", "of resizing")
      .one_of({"bilinear", "bicubic"});
  t.add("data.exif", "--exif", "ignore", "turn photos upright by their EXIF orientation")
      .one_of({"ignore", "apply"});
  add_folder_options(t);
  add_class_names_option(t, "such a file in --data-dir");
  t.at("data.class_names").free_on_resume();
  t.add("data.workers", "-j,--workers", 1, "threads that make batches")
      .range(0, 256)
      .free_on_resume();
  t.add("data.cue_count", "--cue-count", 12000, "scenes an epoch of the cue task").at_least(1);
  t.add("data.cue_lessons", "--cue-lessons", 0,
        "epochs of the cue task over which the share of scenes with one glyph falls from 1 to 0")
      .at_least(0);

  add_tic_architecture(t);
  t.add_optional<std::string>("model.initial_checkpoint", "--initial-checkpoint",
                              "model folder or run to start from: its architecture and weights, "
                              "a new head where the classes are others");
  t.add("model.initial_ema", "--initial-ema", false,
        "start from the average that stands beside those weights")
      .only_with("model.initial_checkpoint");
  t.add("model.ema", "--model-ema", false, "keep an average of the weights");
  t.add("model.ema_decay", "--model-ema-decay", 0.9998, "of the average")
      .range(0, 0.999999999)
      .only_with("model.ema");
  t.add("model.ema_warmup", "--model-ema-warmup", true, "smaller decay at first")
      .only_with("model.ema");

  t.add("model.grad_checkpointing", "--grad-checkpointing", false,
        "recompute each block in the backward pass: less memory for a third more time")
      .logged_on_resume();

  add_augment_options(t);
  t.add("augment.repeats", "--aug-repeats", 0,
        "times that an image stands in an epoch, differently augmented, for a part of the images")
      .range(0, 100);

  t.add("optim.name", "--opt", "adamw", "optimizer").one_of({"adamw", "sgd"});
  t.add_optional<double>("optim.lr", "--lr", "highest learning rate (default: from --lr-base)")
      .range(0, 100);
  t.add("optim.lr_base", "--lr-base", 5e-4, "learning rate for --lr-base-size images a step")
      .range(0, 100)
      .not_with("optim.lr");
  t.add("optim.lr_base_size", "--lr-base-size", 512, "images").at_least(1).not_with("optim.lr");
  t.add("optim.weight_decay", "--weight-decay", 0.05, "none on norms and biases").range(0, 10);
  t.add("optim.layer_decay", "--layer-decay", 1.0,
        "factor of the learning rate from each block to the one before it; 1: all have the same")
      .range(0.01, 1);
  t.add("optim.betas", "--opt-betas", std::vector<double>{0.9, 0.999}, "of AdamW")
      .repeats()
      .range(0, 0.999999)
      .only_with("optim.name", {"adamw"});
  t.add("optim.eps", "--opt-eps", 1e-8, "of AdamW").range(0, 1).only_with("optim.name", {"adamw"});
  t.add("optim.momentum", "--momentum", 0.9, "of SGD")
      .range(0, 0.9999)
      .only_with("optim.name", {"sgd"});
  t.add("optim.clip_grad", "--clip-grad", 5.0, "largest norm of the gradient; 0: any").at_least(0);

  t.add("schedule.kind", "--sched", "cosine", "after the warm-up")
      .one_of({"cosine", "linear", "constant_with_warmup"});
  t.add("schedule.epochs", "--epochs", 300, "passes over the images")
      .at_least(1)
      .not_with("schedule.max_steps");
  t.add_optional<double>("schedule.warmup_epochs", "--warmup-epochs",
                         "of rising rate (default: 20, or a fifth of the epochs if that is less)")
      .range(0, 1e6);
  t.add("schedule.warmup_lr", "--warmup-lr", 5e-7, "first rate")
      .at_least(0)
      .only_where(
          [](const Options& o) {
            return !o.has("schedule.warmup_epochs") || o.get<double>("schedule.warmup_epochs") > 0;
          },
          "with --warmup-epochs 0");
  t.add("schedule.min_lr", "--min-lr", 5e-6, "last rate")
      .at_least(0)
      .not_with("schedule.kind", {"constant_with_warmup"});
  t.add("schedule.max_steps", "--max-steps", 0, "steps in all, instead of --epochs; 0: by epochs")
      .at_least(0);

  t.add("train.batch_size", "-b,--batch-size", 128, "images a micro-step").at_least(1);
  t.add("train.grad_accum_steps", "--grad-accum-steps", 1, "micro-steps a step").at_least(1);
  t.add("train.drop_path", "--drop-path", 0.2, "stochastic depth of the last block").range(0, 0.99);
  t.add("train.val_interval", "--val-interval", 1, "epochs between evaluations")
      .at_least(1)
      .not_with("eval.every");
  add_amp_option(t);
  add_graph_option(t);
  RunDefaults run;
  run.save_every = -1;
  run.save_unit = "steps (-1: an epoch)";
  run.keep = 3;
  run.log_every = 50;
  add_training_options(t, run);
  t.add("log.dataset_preview", "--dataset-preview", 0,
        "augmented images shown in the run's preview.png, as the network sees them")
      .range(0, 1000)
      .free_on_resume();
  tie_to_scenes(t, {"data.cue_count", "data.cue_lessons"},
                {"data.train_split", "data.val_split", "data.crop_pct", "data.interpolation",
                 "data.exif", "data.follow_links", "data.class_names"});
  for (const AugmentationKind& kind : augmentation_kinds())
    for (const AugmentOption& option : kind.options)
      if (kind.make) tie_to_scenes(t, {}, {"augment." + option.key});
  const auto on = [](const char* key) {
    return [key](const Options& o) { return o.get<double>(key) > 0; };
  };
  const auto mixup = on("augment.mixup"), cutmix = on("augment.cutmix");
  for (const char* key : {"augment.mixup_prob", "augment.mixup_off_epoch"})
    t.at(key).only_where([=](const Options& o) { return mixup(o) || cutmix(o); },
                         "where neither --mixup nor --cutmix is on");
  t.at("augment.mixup_switch_prob")
      .only_where([=](const Options& o) { return mixup(o) && cutmix(o); },
                  "where --mixup and --cutmix are not both on");
  add_tic_presets(t);
  t.add_common();
  return t;
}

void derive_intervals(Options& o, const TicSchedule& s) {
  const int64_t steps_per_epoch = s.steps_per_epoch;
  if (!o.has("schedule.warmup_epochs")) o.set("schedule.warmup_epochs", s.warmup_epochs, "derived");
  if (o.get<int64_t>("eval.every") == 0)
    o.set("eval.every",
          checked_product(o.get<int64_t>("train.val_interval"), steps_per_epoch,
                          "--val-interval x steps of an epoch"),
          "derived");
  if (o.get<int64_t>("save.every") < 0) o.set("save.every", steps_per_epoch, "derived");
}

TicConfig tic_config_of(const Options& o, int64_t num_classes, const TicConfig* start,
                        int64_t img_size) {
  const auto name = o.get<std::string>("model.name");
  const auto given = [&](const char* key) { return !start || !o.is_default(key); };
  CHECK_AS(Fault::usage, !start || !given("model.name") || start->preset == name, "--model ", name,
           ": the checkpoint to start from is a ", start ? start->preset : "");
  TicConfig c = start ? *start : tic_preset(name);
  c.num_classes = num_classes;
  using Numbers = std::vector<int64_t>;
  if (o.get<int64_t>("model.dim")) c.dim = o.get<int64_t>("model.dim");
  if (!o.get<Numbers>("model.depths").empty()) c.depths = o.get<Numbers>("model.depths");
  if (!o.get<Numbers>("model.heads").empty()) c.heads = o.get<Numbers>("model.heads");
  if (o.get<int64_t>("model.mlp_ratio")) c.mlp_ratio = o.get<int64_t>("model.mlp_ratio");
  if (o.get<int64_t>("model.patch")) c.patch = o.get<int64_t>("model.patch");
  if (o.get<int64_t>("model.kernel")) c.kernel_h = c.kernel_w = o.get<int64_t>("model.kernel");
  if (given("model.dilation")) c.dilation = o.get<int64_t>("model.dilation");
  if (given("model.variant")) from_name(o.get<std::string>("model.variant"), c.variant);
  if (o.is_default("model.variant") && c.variant == TicConfig::Variant::standard && c.dilation > 1)
    c.variant = TicConfig::Variant::dilated;
  if (given("model.border")) from_name(o.get<std::string>("model.border"), c.border);
  if (o.get<std::string>("model.shift") != "default")
    from_name(o.get<std::string>("model.shift"), c.shift);
  if (given("model.shift_size")) c.shift_size = o.get<int64_t>("model.shift_size");
  if (given("model.pool")) from_name(o.get<std::string>("model.pool"), c.pool);
  if (given("model.mlp_dwconv")) c.mlp_dwconv = o.get<bool>("model.mlp_dwconv");
  if (o.get<std::string>("model.block") != "default")
    from_name(o.get<std::string>("model.block"), c.block);
  if (c.is_global()) {
    if (c.positions == 0) c.positions = (img_size + c.patch - 1) / c.patch;
    for (const char* key : {"model.kernel", "model.dilation", "model.variant", "model.border",
                            "model.shift", "model.shift_size"})
      if (!o.is_default(key)) o.tell_idle(key, "with global attention");
  }
  if (c.variant == TicConfig::Variant::depthwise && !c.is_global() && !o.is_default("model.heads"))
    o.tell_idle("model.heads", "with --msa-variant depthwise, where each channel is a head");
  if (c.block == TicConfig::Block::released) {
    for (const char* key : {"model.mlp_ratio", "model.mlp_dwconv"})
      if (!o.is_default(key)) o.tell_idle(key, "in the released operator, which has no MLP");
    if (!o.is_default("model.pool") && c.pool != TicConfig::Pool::kv)
      o.tell_idle("model.pool",
                  "between blocks of the released operator, the last of a stage "
                  "having stride 2");
  }
  c.check();
  return c;
}

TicSchedule tic_schedule_of(const Options& o, int64_t train_size) {
  TicSchedule s;
  const int64_t batch = o.get<int64_t>("train.batch_size"),
                accum = o.get<int64_t>("train.grad_accum_steps");
  s.global_batch = checked_product(batch, accum, "--batch-size x --grad-accum-steps");
  if (train_size < s.global_batch)
    throw Error(concat("--batch-size: a step of ", s.global_batch,
                       " images is larger than the training set of ", train_size),
                Fault::usage,
                concat(train_size >= accum ? concat("-b ", train_size / accum)
                                           : concat("-b 1 --grad-accum-steps ", train_size),
                       " or less takes a step from the images there are"));
  s.batches_per_epoch = train_size / batch;  // whole ones: the loader leaves the rest out
  s.steps_per_epoch = s.batches_per_epoch / accum;
  const int64_t max_steps = o.get<int64_t>("schedule.max_steps");
  s.total_steps = max_steps ? max_steps
                            : checked_product(o.get<int64_t>("schedule.epochs"), s.steps_per_epoch,
                                              "--epochs x steps of an epoch");
  s.schedule.kind = schedule_kind(o.get<std::string>("schedule.kind"));
  const double base = o.get<double>("optim.lr_base");
  s.schedule.lr = o.has("optim.lr") ? o.get<double>("optim.lr")
                                    : base * static_cast<double>(s.global_batch) /
                                          static_cast<double>(o.get<int64_t>("optim.lr_base_size"));
  s.schedule.warmup_lr = o.get<double>("schedule.warmup_lr");
  s.schedule.min_lr = o.get<double>("schedule.min_lr");
  // Of small batches, where nobody has given either rate.
  const bool too_high =
      o.is_default("schedule.min_lr") && !o.has("optim.lr") && s.schedule.min_lr > s.schedule.lr;
  if (too_high) s.schedule.min_lr = s.schedule.lr / 100;
  constexpr double kMostWarmup = 20, kWarmupShare = 0.2;
  const auto steps_per_epoch = static_cast<double>(s.steps_per_epoch);
  s.warmup_epochs = o.has("schedule.warmup_epochs")
                        ? o.get<double>("schedule.warmup_epochs")
                        : std::min(kMostWarmup, kWarmupShare * static_cast<double>(s.total_steps) /
                                                    steps_per_epoch);
  // Rounded, so that a fifth of 100 steps is 20 of them in floating point as well.
  s.schedule.warmup_steps = static_cast<int64_t>(s.warmup_epochs * steps_per_epoch + 1e-6);
  s.schedule.total_steps = s.total_steps;
  check_rates(s.schedule);
  s.explanation = concat(
      "effective batch ", s.global_batch, " = ", batch, " x ", accum, ", lr ", s.schedule.lr,
      o.has("optim.lr")
          ? ""
          : concat(" = ", base, " x ", s.global_batch, "/", o.get<int64_t>("optim.lr_base_size")),
      ", ", s.steps_per_epoch, " steps an epoch, ", s.total_steps, " in all, the first ",
      s.schedule.warmup_steps, " of them warm-up");
  s.warnings = schedule_warnings(s.schedule, s.steps_per_epoch);
  if (too_high)
    s.warnings.push_back(concat("the highest rate, ", s.schedule.lr, ", is below the default of ",
                                "--min-lr: the last one is ", s.schedule.min_lr));
  return s;
}

}  // namespace mullion
