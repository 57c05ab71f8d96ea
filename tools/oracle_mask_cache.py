#!/usr/bin/env python3
"""The simulation of evicting caches that was published with H2O, by transformers, and every sample beside those of
eval_llama choice --kv-mode mask.

    tools/oracle_mask_cache.py MODEL_FOLDER SAMPLES.jsonl [--limit 50] [--kv h2o|local] [--kv-budget 20] [--f64]

MODEL_FOLDER is the model in Hugging Face's form (tools/smollm2_to_hf.py), SAMPLES.jsonl what `eval_llama choice --kv h2o
--kv-budget P% --kv-mode mask --output` wrote. The rule (h2o_hf/utils_lm_eval of the published code): one pass over the
whole text of L tokens; a key's score is the sum of its attention over all queries, later ones too; a head keeps the
floor(L P / 200) keys of the highest scores and, for each query, its own key and the floor(L P / 200) before it; softmax
once more over what is kept. `local` keeps the floor(L P / 100) before it and none by score. Where query heads share keys,
scores are summed over those that do. Prints the largest difference of a log-probability and that of all of them summed.
"""
import argparse
import json
import math

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

torch.set_grad_enabled(False)
options = None


def attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **_):
    kv_heads, share = key.shape[1], query.shape[1] // key.shape[1]
    n = query.shape[2]
    key, value = key.repeat_interleave(share, 1), value.repeat_interleave(share, 1)
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    logits = (query @ key.transpose(-1, -2) * scaling).masked_fill(~causal, -math.inf)
    scores = logits.softmax(-1, dtype=torch.float32).sum(-2)  # (1, heads, keys)
    scores = scores.view(1, kv_heads, share, n).sum(2).repeat_interleave(share, 1)
    by_score = int(n * options.kv_budget / 200) if options.kv == "h2o" else 0
    recent = int(n * options.kv_budget / (200 if options.kv == "h2o" else 100))
    heavy = torch.zeros_like(scores, dtype=torch.bool)
    heavy.scatter_(-1, scores.topk(by_score, -1).indices, True)
    age = torch.arange(n)[:, None] - torch.arange(n)[None, :]
    keep = (heavy[:, :, None, :] | (age <= recent)) & causal
    weights = logits.masked_fill(~keep, -math.inf).softmax(-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), None


def main():
    global options
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("samples")
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--kv", choices=["h2o", "local"], default="h2o")
    parser.add_argument("--kv-budget", type=float, default=20, help="percent of the text")
    parser.add_argument("--f64", action="store_true", help="compute there in float64")
    options = parser.parse_args()
    ALL_ATTENTION_FUNCTIONS["h2o_simulation"] = attention
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(
        options.model, torch_dtype=torch.float64 if options.f64 else torch.float32,
        attn_implementation="h2o_simulation")
    largest, ours, theirs, count = 0.0, 0.0, 0.0, 0
    for line in list(open(options.samples))[:options.limit]:
        sample = json.loads(line)
        for i, (found,) in enumerate(sample["resps"]):
            call = sample["arguments"][f"gen_args_{i}"]
            before = tokenizer(call["arg_0"]).input_ids
            ids = tokenizer(call["arg_0"] + call["arg_1"]).input_ids
            logits = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
            total = sum(logits[t - 1, ids[t]].item() for t in range(len(before), len(ids)))
            largest = max(largest, abs(total - found))
            ours, theirs, count = ours + found, theirs + total, count + 1
    print(f"{count} choices: largest difference {largest:.2e}; sums {ours:.6f} here, {theirs:.6f} there, "
          f"difference {abs(ours - theirs):.2e}")


if __name__ == "__main__":
    main()
