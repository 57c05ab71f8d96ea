// The options of train_llama, under the names and defaults of LongLoRA's fine-tune.py and
// Hugging Face's Trainer.
#include <algorithm>

#include "apps/llama/attention_options.h"
#include "apps/llama/context_ranks.h"
#include "apps/llama/instruction_options.h"
#include "apps/llama/lora_options.h"
#include "apps/llama/model_options.h"
#include "apps/llama/text_data.h"
#include "apps/llama/token_rows.h"
#include "apps/llama/training.h"
#include "apps/options/device.h"

namespace mullion {

namespace {
void add_model(OptionTable& table) {
  using std::filesystem::path;
  table
      .add_optional<path>("model.path", "-m,--model",
                          "Hugging Face folder of a LLaMA, a .gguf file, or a run's folder")
      .free_on_resume();
  table
      .add_optional<path>("model.config", "--model-config",
                          "config.json of a model to train from scratch, instead of --model")
      .free_on_resume();
  add_weights_option(table);
  table
      .add("model.grad_checkpointing", "--grad-checkpointing", false,
           "recompute each block in the backward pass: a tenth of the memory, a third more time")
      .logged_on_resume();
  table
      .add("model.recompute_mlp", "--recompute-mlp", "auto",
           "recompute norms and the inside of most MLPs: 0.6 of the memory, a twentieth more time; "
           "auto: in passes "
           "of 4,096 tokens and more")
      .one_of({"auto", "on", "off"})
      .not_with("model.grad_checkpointing")
      .free_on_resume();
}

void add_files(OptionTable& table, const std::string& what) {
  using Files = std::vector<std::string>;
  table.add_optional<Files>("data.train", "--data", what).repeats().required().free_on_resume();
  table.add_optional<Files>("data.val", "--val-data", "the same, to evaluate on")
      .repeats()
      .free_on_resume();
}

void add_texts(OptionTable& table) {
  add_files(table, "token files, texts, folders of texts, or patterns like 'tok/*.bin'");
  add_token_dtype(table);
  add_text_options(table);
}

void add_instructions(OptionTable& table) {
  add_files(table, "instructions: JSON lists or lines of JSON, or patterns");
  add_instruction_options(table);
  table.add("data.pack", "--pack,--packing", false,
            "several conversations in a row, each attended to as if alone; else rows are padded to "
            "the longest of their batch");
  add_encoding(table);
}

void add_rows(OptionTable& table) {
  table.add("data.shuffle", "--shuffle", true, "rows in a random order, else in file order");
  table.add("eval.max_rows", "--eval-max-rows", 16, "validation rows at most; 0: all")
      .only_with("data.val");
  table.add("context.size", "--ctx-size,--max-length,--model-max-length", 8192, "tokens a row")
      .at_least(2);
  add_rope_options(table);
}

// An adapter to start from has its own say, where --train-also says nothing.
bool trains_embedding(const Options& options) {
  const auto also = options.get<std::vector<std::string>>("lora.train_also");
  return options.get<bool>("lora.full") || options.has("model.config") ||
         (options.is_default("lora.train_also") && options.has("lora.initial_adapter")) ||
         std::find(also.begin(), also.end(), "embed") != also.end();
}

void add_optimizer(OptionTable& table, const std::string& steps_help) {
  table.add("train.batch_size", "-b,--batch-size", 1, "rows in one pass").at_least(1);
  table.add("train.grad_accum_steps", "--grad-accum-steps", 8, "passes a step").at_least(1);
  table.add("train.max_steps", "--max-steps", 1000, steps_help)
      .at_least(1)
      .not_with("train.epochs")
      .refused_idle()
      .free_on_resume();
  table.add_optional<double>("train.epochs", "--epochs", "passes over the data, instead of steps")
      .at_least(1e-9)
      .free_on_resume();
  table.add("optim.lr", "--lr", 2e-5, "highest learning rate").at_least(0);
  table.add_optional<double>("optim.lr_embed", "--lr-embed", "that of the embedding (unset: --lr)")
      .at_least(0)
      .only_where(trains_embedding, "where the embedding is not trained (--train-also)");
  table.add("optim.min_lr", "--min-lr", 0.0, "where cosine and linear end")
      .at_least(0)
      .not_with("optim.schedule", {"constant_with_warmup"});
  table.add("optim.schedule", "--lr-schedule", "constant_with_warmup", "shape of the rate")
      .one_of({"constant_with_warmup", "cosine", "linear"});
  table.add("optim.warmup_steps", "--warmup-steps", 20, "from rate 0; 0: no warm-up").at_least(0);
  table.add("optim.weight_decay", "--weight-decay", 0.0, "of all but norms").at_least(0);
  table.add("optim.betas", "--opt-betas", std::vector<double>{0.9, 0.95}, "of AdamW")
      .repeats()
      .range(0, 1);
  table.add("optim.eps", "--opt-eps", 1e-8, "of AdamW").at_least(0);
  table.add("optim.clip_grad", "--clip-grad", 1.0, "norm to clip the gradients to; 0: none")
      .at_least(0);
}

using Values = std::vector<std::pair<std::string, std::string>>;

void add_pretraining_presets(OptionTable& table) {
  const Values longlora = {{"context.size", "8192"},     {"attention.kind", "s2"},
                           {"train.batch_size", "1"},    {"train.grad_accum_steps", "8"},
                           {"model.dtype", "bf16"},      {"model.grad_checkpointing", "true"},
                           {"optim.betas", "0.9,0.999"}, {"optim.lr", "2e-5"}};
  Values sinklora = longlora;
  sinklora[1].second = "sf";
  sinklora[3].second = "1";
  sinklora[6].second = "0.9,0.95";
  table.preset("longlora-7b-8k", "LongLoRA's fine-tune.py at 8,192 tokens", longlora);
  table.preset("sinklora-7b-8k", "SinkLoRA's settings at 8,192 tokens", sinklora);
}

// SinkLoRA section 4.1 and its configuration; LongLoRA's LongAlpaca-16k.
void add_tuning_presets(OptionTable& table) {
  const Values common = {{"train.batch_size", "1"},
                         {"model.dtype", "bf16"},
                         {"model.grad_checkpointing", "true"},
                         {"optim.betas", "0.9,0.999"},
                         {"optim.lr", "2e-5"},
                         {"optim.warmup_steps", "20"},
                         {"save.keep", "2"}};
  const auto with = [&](Values more) {
    more.insert(more.begin(), common.begin(), common.end());
    return more;
  };
  for (const int64_t context : {8192, 16384, 32768})
    table.preset(concat("sinklora-sft-", context / 1024, "k"),
                 concat("SinkLoRA's tuning of a 7B or 8B model at ", context,
                        " tokens: 3 epochs, plain instructions"),
                 with({{"context.size", std::to_string(context)},
                       {"attention.kind", "sf"},
                       {"train.grad_accum_steps", "1"},
                       {"train.epochs", "3"},
                       {"data.template", "none"},
                       {"save.every", "512"}}));
  table.preset("longlora-sft-16k", "LongLoRA's tuning on LongAlpaca at 16,384 tokens: 5 epochs",
               with({{"context.size", "16384"},
                     {"attention.kind", "s2"},
                     {"train.grad_accum_steps", "8"},
                     {"train.epochs", "5"},
                     {"data.template", "llama2"},
                     {"save.every", "98"}}));
}
}  // namespace

OptionTable pretrain_table() {
  OptionTable table("train_llama pretrain",
                    "Extends a LLaMA's context by LoRA, or trains one from scratch");
  add_model(table);
  add_texts(table);
  add_rows(table);
  add_attention_options(table, "sf");
  add_lora_options(table);
  add_optimizer(table, "steps");
  add_amp_option(table);
  add_graph_option(table);
  add_context_parallel_option(table);
  add_training_options(table);
  add_pretraining_presets(table);
  return table;
}

OptionTable sft_table() {
  OptionTable table("train_llama sft", "Tunes a LLaMA on instructions, by LoRA or as a whole");
  add_model(table);
  add_instructions(table);
  add_rows(table);
  add_attention_options(table, "sf");
  add_lora_options(table);
  add_optimizer(table, "steps; where neither these nor --epochs are given, 3 epochs");
  add_amp_option(table);
  add_graph_option(table);
  // Documents are data that a recorded step would repeat.
  table.at("run.cuda_graph")
      .only_where(
          [](const Options& o) {
            return !o.get<bool>("data.pack") || o.get<std::string>("run.cuda_graph") != "on";
          },
          "with --pack, whose steps are not recorded");
  add_context_parallel_option(table);
  add_training_options(table);
  add_tuning_presets(table);
  return table;
}

}  // namespace mullion
