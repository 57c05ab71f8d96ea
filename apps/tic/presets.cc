// The recipes of train_tic --preset.
#include "apps/tic/training.h"

namespace mullion {
namespace {

// The recipe of DeiT and Swin; images a step are those of one device, the rate follows from them.
void add_imagenet_presets(OptionTable& t) {
  const auto add = [&](const std::string& model, const char* drop_path, int epochs) {
    const std::string name =
        concat("imagenet-", model, epochs == 300 ? std::string() : concat("-", epochs, "ep"));
    t.preset(name, concat(model, " on ImageNet-1K, ", epochs, " epochs, effective batch 1,024"),
             {{"model.name", model},
              {"model.ema", "true"},
              {"model.ema_decay", "0.9999"},
              {"data.img_size", "224"},
              {"augment.auto", "rand-m9-mstd0.5-inc1"},
              {"augment.mixup", "0.8"},
              {"augment.cutmix", "1"},
              {"augment.reprob", "0.25"},
              {"augment.smoothing", "0.1"},
              {"schedule.epochs", std::to_string(epochs)},
              {"schedule.warmup_epochs", epochs == 300 ? "20" : "5"},
              {"train.batch_size", "128"},
              {"train.grad_accum_steps", "8"},
              {"train.drop_path", drop_path}});
  };
  add("tic-t", "0.2", 300);
  add("tic-s", "0.3", 300);
  add("tic-b", "0.5", 300);
  add("tic-t", "0.1", 100);
}

// Small pictures that a CPU learns in an hour or so. A depthwise convolution in the MLP saves the
// model from learning what neighbours are; so few epochs need no regularization by depth.
void add_small_presets(OptionTable& t) {
  t.preset("cifar10-tic-n", "tic-n on CIFAR-10, 20 epochs",
           {{"model.name", "tic-n"},
            {"model.mlp_dwconv", "true"},
            {"data.img_size", "32"},
            {"augment.smoothing", "0.1"},
            {"optim.lr", "0.002"},
            {"schedule.epochs", "20"},
            {"schedule.warmup_epochs", "1"},
            {"train.batch_size", "128"},
            {"train.drop_path", "0"},
            {"train.val_interval", "2"}});
  t.preset("imagenette-tic-n", "tic-n with patches of 4 on Imagenette at 128 pixels, 30 epochs",
           {{"model.name", "tic-n"},
            {"model.patch", "4"},
            {"model.mlp_dwconv", "true"},
            {"data.img_size", "128"},
            {"augment.scale", "0.35,1"},
            {"augment.smoothing", "0.1"},
            {"optim.lr", "0.001"},
            {"schedule.epochs", "30"},
            {"schedule.warmup_epochs", "2"},
            {"train.batch_size", "64"},
            {"train.drop_path", "0.05"},
            {"train.val_interval", "2"}});
}

// From a trained model to other classes: a lower rate, ever lower towards the image, where features
// are general already (as BEiT and DeiT III are fine-tuned).
void add_finetuning_preset(OptionTable& t) {
  t.preset("finetune", "from --initial-checkpoint to other images, 30 epochs",
           {{"optim.lr_base", "2.5e-4"},
            {"optim.layer_decay", "0.75"},
            {"schedule.epochs", "30"},
            {"schedule.warmup_epochs", "3"},
            {"augment.smoothing", "0.1"},
            {"train.batch_size", "64"},
            {"train.drop_path", "0.1"}});
}

}  // namespace

void add_tic_presets(OptionTable& t) {
  add_imagenet_presets(t);
  add_small_presets(t);
  add_finetuning_preset(t);
}

}  // namespace mullion
