#!/usr/bin/env python3
"""Speed and memory of a LoRA training step by transformers + PEFT: f32, SDPA, batch 1, CPU.

  peer_llama_step.py --model HF_FOLDER --ctx-size 512 --steps 3 [--gradient-checkpointing]

LoRA on q k v o alone (--train-also embed,norm for more), random token ids, AdamW. One JSON line:
tokens a second by the median step, every step's seconds, peak resident memory. A context of 8,192
takes some 24 GB. --layers N cuts the model down for a trial.
"""

import argparse
import json
import resource
import statistics
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging


def build(args):
    config = AutoConfig.from_pretrained(args.model)
    config.num_hidden_layers = args.layers or config.num_hidden_layers
    config.use_cache = False
    model = AutoModelForCausalLM.from_pretrained(
        args.model, config=config, torch_dtype=torch.float32, attn_implementation="sdpa"
    )
    saved = ["embed_tokens", "input_layernorm", "post_attention_layernorm", "norm"]
    lora = LoraConfig(
        r=8,
        lora_alpha=16,
        lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        modules_to_save=saved if args.train_also != "none" else None,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, lora).train()
    if args.gradient_checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable()
    return model, config.vocab_size


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--ctx-size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=3, help="timed, after one that is not")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=0, help="0: all of them")
    parser.add_argument("--train-also", choices=["none", "embed,norm"], default="none")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    args = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model, vocabulary = build(args)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    seconds = []
    for step in range(args.steps + 1):
        ids = torch.randint(0, vocabulary, (1, args.ctx_size))
        began = time.perf_counter()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step:
            seconds.append(round(time.perf_counter() - began, 3))
    result = {
        "peer": "transformers+peft",
        "torch": torch.__version__,
        "ctx_size": args.ctx_size,
        "tok_s": round(args.ctx_size / statistics.median(seconds), 1),
        "step_seconds": seconds,
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
