#!/usr/bin/env python3
"""Six steps of tuning a tiny LLaMA on conversations by transformers and PEFT, for tests/golden/sft.

Targets are what transformers' assistant mask marks: each assistant turn and its end token. A step's
loss is the sum over the targets of all its rows divided by their number, as TRL's SFTTrainer has it
with assistant_only_loss. Rows are padded on the right. Run with torch 2.6, transformers 4.51, peft
0.15, tokenizers 0.21:

  python tools/make_sft_goldens.py tests/golden/sft
"""
import json
import os
import random
import sys

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

STEPS, BATCH, PASSES, LR = 6, 2, 2, 5e-3
SYSTEM = "You answer in few words."
HEAD = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\\n" + SYSTEM + "<|im_end|>\\n' }}{% endif %}")
PLAIN = (HEAD + "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
         "'\\n' }}{% endfor %}")
MARKED = (HEAD + "{% if message['role'] == 'assistant' %}{{ '<|im_start|>assistant\\n' }}"
          "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}"
          "{% else %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
          "'<|im_end|>' + '\\n' }}{% endif %}{% endfor %}")


def conversations():
    rng = random.Random(7)
    words = ("river stone apple seven green door music winter paper light north garden silver "
             "yellow table cloud bread horse").split()
    rows = []
    for i in range(STEPS * BATCH * PASSES):
        turns = [{"role": "system", "content": "Be kind."}] if i % 5 == 0 else []
        for _ in range(1 + i % 3 // 2):
            asked = rng.sample(words, rng.randint(2, 9))
            turns.append({"role": "user", "content": "Which come first?\n\n" + ", ".join(asked)})
            # Answers of different lengths; some begin or end with spaces and line breaks.
            answer = " and ".join(asked[:rng.randint(1, 4)])
            if i % 4 == 3:
                answer = "\n" + answer + "\n\nThat is all."
            turns.append({"role": "assistant", "content": answer})
        rows.append({"messages": turns})
    rows[5]["messages"][-2]["content"] += " <|im_end|> done"  # a special text in a turn
    return rows


def tokenizer(rows):
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe.train_from_iterator(
        [turn["content"] for row in rows for turn in row["messages"]] + [SYSTEM, "system user"],
        trainers.BpeTrainer(vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                            special_tokens=[AddedToken(t, special=True) for t in special],
                            show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=special[1],
                                   eos_token=special[2], pad_token=special[2],
                                   unk_token=special[0])


def main(folder):
    torch.manual_seed(1)
    torch.use_deterministic_algorithms(True)
    rows = conversations()
    encode = tokenizer(rows)
    config = LlamaConfig(vocab_size=len(encode), hidden_size=32, intermediate_size=48,
                         num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0,
                         initializer_range=0.1, tie_word_embeddings=True, bos_token_id=1,
                         eos_token_id=2, pad_token_id=2)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder + "/model")
    encode.chat_template = PLAIN
    encode.save_pretrained(folder + "/model")
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
                      task_type="CAUSAL_LM")
    model = get_peft_model(model, lora)
    model.save_pretrained(folder + "/adapter")
    trained = [p for p in model.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(trained, lr=LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=0)

    expected = {"steps": [], "ids": [], "learned": []}
    encoded = []
    for row in rows:
        both = encode.apply_chat_template(row["messages"], chat_template=MARKED, return_dict=True,
                                          return_assistant_tokens_mask=True)
        assert both["input_ids"] == encode.apply_chat_template(row["messages"])
        encoded.append((both["input_ids"], both["assistant_masks"]))
        expected["ids"].append(both["input_ids"])
        expected["learned"].append(both["assistant_masks"])
    for step in range(STEPS):
        of_step = encoded[step * BATCH * PASSES:(step + 1) * BATCH * PASSES]
        targets = sum(sum(mask[1:]) for _, mask in of_step)
        total = 0.0
        for begin in range(0, len(of_step), BATCH):
            batch = of_step[begin:begin + BATCH]
            longest = max(len(ids) for ids, _ in batch)
            pad = [longest - len(ids) for ids, _ in batch]
            ids = torch.tensor([i + [2] * n for (i, _), n in zip(batch, pad)])
            mask = torch.tensor([[1] * len(i) + [0] * n for (i, _), n in zip(batch, pad)])
            labels = torch.tensor([[t if m else -100 for t, m in zip(i, marks)] + [-100] * n
                                   for (i, marks), n in zip(batch, pad)])
            logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(
                logits.reshape(-1, logits.shape[-1]).double(), labels[:, 1:].reshape(-1),
                ignore_index=-100, reduction="sum") / targets
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0).item()
        adamw.step()
        adamw.zero_grad()
        expected["steps"].append({"loss": total, "grad_norm": norm, "targets": targets})
    with open(folder + "/rows.json", "w") as out:
        json.dump(rows, out, indent=0)
    with open(folder + "/expected.json", "w") as out:
        json.dump(expected, out)
    for name in ("model/generation_config.json", "adapter/README.md"):
        if os.path.exists(folder + "/" + name):
            os.remove(folder + "/" + name)


main(sys.argv[1])
