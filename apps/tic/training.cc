// Description, data and update from the options; batches are sent ahead of the step that uses them.
#include "apps/tic/training.h"

#include "apps/options/amp.h"
#include "apps/options/device.h"
#include "apps/program/log.h"
#include "apps/run/ranks.h"
#include "apps/tic/augment_options.h"
#include "apps/tic/class_names.h"
#include "apps/tic/evaluate.h"
#include "apps/tic/image_data.h"
#include "apps/tic/initial_checkpoint.h"
#include "apps/tic/parameter_groups.h"
#include "autograd/ops.h"
#include "data/cue_task.h"
#include "tensor/words.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
}  // namespace

int image_size(const Options& o) {
  if (o.get<int>("data.img_size")) return o.get<int>("data.img_size");
  return o.get<std::string>("data.dir") == "cue" ? 32 : 224;
}

void derive_crop(Options& o) {
  constexpr int kSmall = 64;  // pixels
  if (o.is_default("data.crop_pct") && image_size(o) <= kSmall)
    o.set("data.crop_pct", 1.0, "derived");
}

TicData open_tic_data(const Options& o) {
  TicData d;
  const std::string root = o.get<std::string>("data.dir");
  const bool cue = root == "cue";
  const int size = image_size(o);
  if (cue) {
    const CueOptions scene{size, size, false};
    d.classes = cue_class_names();
    d.normalization = CueDataset::normalization();
    d.train = std::make_unique<CueDataset>(scene, o.get<int64_t>("data.cue_count"), o.seed(), true,
                                           o.get<int64_t>("data.cue_lessons"));
    d.val = std::make_unique<CueDataset>(scene, 1000, 1000003, false);
    return d;
  }
  const ExifUse exif = exif_use(o.get<std::string>("data.exif"));
  const auto train =
      open_images(root, o.get<std::string>("data.train_split"), folder_options(o, nullptr));
  d.classes = train->classes();
  CHECK_AS(Fault::bad_file, d.classes.size() > 1, train->root(), ": only one class, ", d.classes[0],
           "; a class is a folder of images directly below");
  const std::string val_split = validation_split(root, o.get<std::string>("data.val_split"));
  CHECK_AS(Fault::bad_file, !val_split.empty(), root,
           ": has neither a folder val nor a folder test, nor shards of such a split");
  const auto val = open_images(root, val_split, folder_options(o, &d.classes));
  d.class_names = class_names(o, root, d.classes);
  if (d.class_names.empty())
    if (const auto start = initial_checkpoint(o);
        start && start->description.class_names.size() > 0)
      for (const int64_t row : start->rows_of_head(d.classes))
        d.class_names.push_back(start->description.class_names[static_cast<size_t>(row)]);
  d.train_folder = train;
  d.val_folder = val;
  const Interpolation interpolation = interpolation_of(o.get<std::string>("data.interpolation"));
  const TrainTransform augmented(augment_settings(o, size, interpolation, d.normalization));
  d.augmentation = augmented.describe();
  if (const std::string mix = describe(mix_options(augmented.settings())); !mix.empty())
    d.augmentation.push_back(mix);
  for (const AugmentSettings::Unused& option : augmented.unused())
    o.tell_idle("augment." + option.key, option.why);
  d.train = std::make_unique<ImageDataset>(train, augmented, exif);
  const EvalTransform transform{size, size, o.get<float>("data.crop_pct"), interpolation,
                                d.normalization};
  d.val = std::make_unique<ImageDataset>(val, transform, exif);
  return d;
}

void tell_of(const TicData& d) {
  if (!d.train_folder) return;
  log_info("augmentation: ", joined(d.augmentation));
  tell_of(*d.train_folder);
  tell_of(*d.val_folder);
  std::vector<std::string> same;
  for (const std::string& name : d.classes) {
    std::error_code absent;
    if (fs::equivalent(fs::path(d.train_folder->root()) / name,
                       fs::path(d.val_folder->root()) / name, absent))
      same.push_back(name);
  }
  if (!same.empty())
    log_warning(printable(d.val_folder->root()), ": ", same.size(), " of ", d.classes.size(),
                " classes are the training set's own folders: ", listing(same));
}

LoaderOptions train_loader_options(const Options& o, const TicSchedule& s, int64_t step) {
  LoaderOptions l;
  l.batch_size = o.get<int>("train.batch_size");
  l.workers = o.get<int>("data.workers");
  l.seed = o.seed();
  l.shuffle = l.drop_last = true;
  l.epochs = -1;
  // The loader goes on into the next pass over the images where a step's batches do not end with
  // one.
  const int64_t batch = step * o.get<int64_t>("train.grad_accum_steps");
  l.first_epoch = batch / s.batches_per_epoch;
  l.first_batch = batch % s.batches_per_epoch;
  l.rank = rank();
  l.world = rank_count();
  l.dealt = o.get<int64_t>("train.grad_accum_steps");
  l.bad_sample = BadSample::substitute;
  l.repeats = std::max(1, o.get<int>("augment.repeats"));
  l.mix = mix_options(augment_settings(o, 1, Interpolation::bicubic, {}));
  return l;
}

std::unique_ptr<Tic> make_tic_model(const Options& o, const TicConfig& config,
                                    const std::vector<std::string>& classes, Device device) {
  auto model = std::make_unique<Tic>(config);
  model->initialize(o.seed());
  if (const auto start = initial_checkpoint(o)) start->load(*model, classes);
  move_to(*model, spreads_weights(o) ? Device{} : device);
  model->set_compute_type(apply_amp(o, *model));
  model->set_recompute(o.get<bool>("model.grad_checkpointing"));
  set_trainable(*model, [](const std::string&) { return true; });
  return model;
}

SharedStep tic_shared_step(const Options& o) {
  return {o.get<int64_t>("train.grad_accum_steps"), 1, o.get<bool>("model.grad_checkpointing")};
}

int64_t tic_states(const Options& o) {
  return (o.get<std::string>("optim.name") == "sgd" ? 1 : 2) + (o.get<bool>("model.ema") ? 1 : 0);
}

RankedTraining tic_ranked(const Options& o, const TicConfig& config, Device device) {
  Tic model(config);
  set_trainable(model, [](const std::string&) { return true; });
  return {.step = tic_shared_step(o),
          .weights = WeightSizes(model, model.blocks(), device.type),
          .states = tic_states(o),
          .rest_stays = true};
}

TicUpdate make_tic_update(const Options& o, Tic& model, Device device) {
  std::vector<NamedParameter> parameters = trainable_parameters(model);
  std::vector<ParameterGroup> groups =
      tic_parameter_groups(parameters, model.config(), o.get<double>("optim.weight_decay"),
                           o.get<double>("optim.layer_decay"));
  const auto betas = o.get<std::vector<double>>("optim.betas");
  CHECK_AS(Fault::usage, betas.size() == 2, "--opt-betas: ", betas.size(), " numbers, expected 2");
  UpdateOptions options{.max_norm = o.get<double>("optim.clip_grad"),
                        .graph = graph_use(o, device)};
  if (has_ranks() && !ranks()) return {};  // there is nobody to share with
  // Reductions between stages belong to no block, and their backward passes come between theirs.
  const ModelUnits units{model, model.blocks(), device, true};
  auto full = spread_over_ranks(o, tic_shared_step(o), parameters, groups, options, units);
  auto optimizer = o.get<std::string>("optim.name") == "sgd"
                       ? make_sgd(groups, {o.get<double>("optim.momentum"), false})
                       : make_adamw(groups, {betas[0], betas[1], o.get<double>("optim.eps")});
  if (o.get<bool>("model.ema"))
    options.average =
        std::make_unique<Ema>(options.shard ? options.shard->own(parameters) : parameters,
                              o.get<double>("model.ema_decay"), o.get<bool>("model.ema_warmup"));
  const auto images_a_step =
      o.get<int64_t>("train.batch_size") * o.get<int64_t>("train.grad_accum_steps");
  auto step = std::make_unique<UpdateStep>(
      parameters, std::move(optimizer),
      [&model, rate = o.get<double>("train.drop_path"), seed = o.seed(),
       scale = 1.0 / static_cast<double>(images_a_step)](const UpdateStep::Inputs& in) {
        const TicTraining training{rate, seed, in[2]};
        const Tensor logits = model(in[0], &training);
        return in[1].dtype() == DType::i64 ? cross_entropy(logits, in[1], scale)
                                           : soft_cross_entropy(logits, in[1], scale);
      },
      std::move(options));
  return {std::move(full), std::move(step)};
}

TicDescription describe_tic(const Options& o, const TicConfig& config, const TicData& data) {
  const int size = data.train->shape().height;
  return {config,
          data.classes,
          data.normalization,
          o.get<float>("data.crop_pct"),
          interpolation_of(o.get<std::string>("data.interpolation")),
          size,
          exif_use(o.get<std::string>("data.exif")),
          data.class_names};
}

TicBatches::TicBatches(const Dataset& data, const LoaderOptions& options, Device device)
    : shape_(data.shape()), loader_(data, options), device_(device) {}

TicBatch TicBatches::fetch() {
  loader_.next(batch_);
  TicBatch b{images_of(batch_, shape_, device_), Tensor::from(batch_.labels, {batch_.count}), {}};
  const auto targets = static_cast<int64_t>(batch_.targets.size());
  if (targets > 0)
    b.targets = Tensor::from(batch_.targets, {batch_.count, targets / batch_.count}, device_);
  return b;
}

TicBatch TicBatches::next() {
  TicBatch b = ahead_ ? std::move(*ahead_) : fetch();
  ahead_.reset();
  return b;
}

void TicBatches::send_ahead() {
  if (device_.type != DeviceType::cpu) ahead_ = fetch();
}

}  // namespace mullion
