// A table from the flags of other tools to ours, for suggestions only.
#include "apps/options/foreign_flags.h"

#include <algorithm>

#include "tensor/words.h"

namespace mullion {

namespace {
struct Foreign {
  std::string_view names;  // of other tools, with spaces between
  std::string_view ours;   // with | between: the first that the program has, with a value if any
  std::string_view remark = "";
};

constexpr Foreign kForeign[] = {
    // Hugging Face's Trainer, TRL, PEFT and LongLoRA's scripts
    {"--learning-rate --base-lr", "--lr"},
    {"--per-device-train-batch-size --train-batch-size --micro-batch-size", "--batch-size"},
    {"--per-device-eval-batch-size --eval-batch-size --validation-batch-size", "--batch-size"},
    {"--gradient-accumulation-steps --accumulate-grad-batches", "--grad-accum-steps"},
    {"--num-train-epochs --num-epochs --max-epochs", "--epochs"},
    {"--num-train-steps --max-train-steps --max-iters --iters", "--max-steps"},
    {"--model-name-or-path --model-name --base-model --pretrained-model-name-or-path",
     "--model|--checkpoint"},
    {"--tokenizer-name --tokenizer-path --vocab", "--model"},
    {"--max-seq-length --max-seq-len --seq-len --seq-length --block-size --n-ctx --cutoff-len "
     "--context-length",
     "--ctx-size"},
    {"--output-dir --out-dir", "--output|--out"},
    {"--run-name --exp-name", "--name"},
    {"--train-file --dataset --dataset-name --dataset-path --data-path --train-data "
     "--training-data",
     "--data|--data-dir"},
    {"--validation-file --eval-file --eval-data --valid-data", "--val-data"},
    {"--bf16", "--amp bf16"},
    {"--fp16 --half --mixed-precision --amp-dtype --native-amp --apex-amp", "--amp",
     "off, tf32 or bf16"},
    {"--torch-dtype", "--dtype"},
    {"--tf32", "--amp tf32"},
    {"--warmup-ratio", "--warmup-steps|--warmup-epochs",
     "a number of them, not a share of the training"},
    {"--lr-scheduler-type --lr-scheduler --scheduler", "--lr-schedule|--sched"},
    {"--lr-sched --lr-schedule", "--sched"},
    {"--sched", "--lr-schedule"},
    {"--adam-beta1 --adam-beta2 --betas", "--opt-betas", "both, with a comma"},
    {"--adam-epsilon --eps --epsilon", "--opt-eps"},
    {"--optim --optimizer", "--opt"},
    {"--max-grad-norm --grad-clip --gradient-clip-val", "--clip-grad"},
    {"--wd", "--weight-decay"},
    {"--gradient-checkpointing --checkpoint-activations", "--grad-checkpointing"},
    {"--save-steps", "--save-every"},
    {"--save-total-limit", "--keep"},
    {"--logging-steps --logging-interval", "--log-every"},
    {"--eval-steps --evaluation-steps", "--eval-every"},
    {"--resume-from-checkpoint --resume-from --restart", "--resume"},
    {"--lora-r -r --rank", "--lora-rank"},
    {"--lora-target-modules --target-modules", "--lora-targets"},
    {"--modules-to-save", "--train-also"},
    {"--full-finetune --full-finetuning", "--full"},
    {"--use-flash-attn --flash-attn --attn-implementation --attention", "--attn"},
    {"--group-size-ratio", "--group-ratio"},
    {"--dataloader-num-workers --num-workers --workers", "--workers|--threads"},
    {"--manual-seed --random-seed --data-seed", "--seed"},
    {"--no-cuda --cpu --use-cpu", "--device cpu"},
    // timm
    {"--lr-scale --blr", "--lr-base"},
    {"--warmup-epoch", "--warmup-epochs"},
    {"--opt-beta", "--opt-betas"},
    {"--drop-path-rate --drop-block", "--drop-path"},
    {"--input-size --image-size --imgsz --resolution", "--img-size"},
    {"--auto-augment --randaugment --rand-augment --autoaugment", "--aa"},
    {"--label-smoothing", "--smoothing"},
    {"--random-erasing --random-erase --erasing", "--reprob"},
    {"--repeated-aug --aug-repeat", "--aug-repeats"},
    {"--ema --ema-decay", "--model-ema|--use-ema"},
    {"--pretrained --finetune --weights --load-from", "--initial-checkpoint|--checkpoint|--model"},
    {"--top-k", "--topk"},
    {"--topk", "--top-k"},
    {"--output-csv", "--csv|--results-file"},
    // llama.cpp
    {"--context-size --ctx", "--ctx-size"},
    {"-f --prompt-file", "--file|--data"},
    {"-n --n-predict --predict --max-new-tokens --max-length --num-predict", "--max-tokens"},
    {"-t --n-threads", "--threads"},
    {"-ngl --n-gpu-layers --gpu-layers --gpu", "--device cuda"},
    {"--temperature", "--temp"},
    {"--temp", "--temperature"},
    {"--repetition-penalty", "--repeat-penalty"},
    {"--lora --lora-adapter --peft-model --adapter-path", "--adapter|--initial-adapter|--model"},
    {"--hf-repo -hf", "--model", "a folder or file on this machine"},
};

bool has(const std::vector<std::string>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}
}  // namespace

std::string translated_flag(std::string_view flag, const std::vector<std::string>& known) {
  for (const Foreign& foreign : kForeign) {
    if (!has(split(foreign.names, ' '), flag)) continue;
    for (const std::string& ours : split(foreign.ours, '|')) {
      if (!has(known, ours.substr(0, ours.find(' ')))) continue;
      return foreign.remark.empty() ? ours : ours + " (" + std::string(foreign.remark) + ")";
    }
  }
  return "";
}

}  // namespace mullion
