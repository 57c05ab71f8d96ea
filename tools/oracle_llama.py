#!/usr/bin/env python3
"""LLaMA by transformers, LoRA by PEFT, attention patterns by a dense mask: the reference for
eval_llama and train_llama. f32 on the CPU; every verb prints one JSON object.

  oracle_llama.py ppl --model HF_FOLDER --data F.bin --ctx-size 512 --protocol longlora
  oracle_llama.py adapter-ppl --model HF_FOLDER --adapter PEFT_FOLDER --data F.bin --ctx-size 512
  oracle_llama.py logits --model HF_FOLDER --ids 1,2,3 --output logits.safetensors
  oracle_llama.py init-adapter --model HF_FOLDER --output PEFT_FOLDER [--random]
  oracle_llama.py train --model HF_FOLDER --initial-adapter PEFT_FOLDER --data F.bin --attn sf \\
      --ctx-size 512 --batch-size 2 --max-steps 6 --output PEFT_FOLDER

--data: headerless little-endian u16 token ids (or u32 by --token-dtype), or a .txt file, tokenized
by the folder's tokenizer without a first token. Needs torch, transformers, peft, safetensors.
"""

import argparse
import json
import math
import resource
import time

import torch

ROWS_OF_MASK = {"full", "none", "segments", "fixed", "strided"}


def visible_mask(heads, tokens, kind, group=0, shifted_heads=(), sinks=0, wrap="split", block=0,
                 last=1, stride=0):
    """(heads, T, T) bool: may query i of head h see key j. The rule of sinklora.md 2.3 and 2.4.

    segments: seg_h(t) = (t + shift_h) // group, seen iff j <= i and (same segment or j < sinks);
    wrap = roll_leaky: segments and causality by the slot (t - shift) mod T of the rolled copy.
    A group that holds all T tokens is full causal attention for every head.
    """
    assert kind in ROWS_OF_MASK, f"pattern {kind}"
    t = torch.arange(tokens)
    i, j = t[:, None], t[None, :]
    causal = j <= i
    if kind == "segments" and group >= tokens:
        kind = "full"
    if kind != "segments":
        mask = {
            "full": lambda: causal,
            "none": lambda: torch.ones_like(causal),
            "fixed": lambda: causal & ((i // block == j // block) | (j % block >= block - last)),
            "strided": lambda: causal & ((i - j < stride) | ((i - j) % stride == 0)),
        }[kind]()
        return mask.expand(heads, -1, -1).clone()
    rows = []
    for h in range(heads):
        shift = group // 2 if h in shifted_heads else 0
        if shift and wrap == "roll_leaky":
            slot = (t - shift) % tokens
            row = (slot[:, None] // group == slot // group) & (slot <= slot[:, None])
        else:
            segment = (t + shift) // group
            row = causal & (segment[:, None] == segment)
        rows.append(row | (causal & (j < sinks)))
    return torch.stack(rows)


def pattern_mask(args, heads):
    """The mask of --attn full, s2, s2-global, s2-sr or sf."""
    if args.attn == "full":
        return None
    ratio = 0.5 if args.attn in ("s2", "s2-global") else 0.25
    sinks = args.sinks if args.attn in ("sf", "s2-global") else 0
    group = args.group_size or int(args.ctx_size * args.group_ratio)
    shifted = range(math.floor(heads * (1 - ratio)), heads)
    return visible_mask(
        heads, args.ctx_size, "segments", group=group, shifted_heads=shifted, sinks=sinks
    )


def masked_attention(module, query, key, value, attention_mask, scaling, **_):
    """transformers' attention interface with module.visible (H, T, T), all scores in memory."""
    repeats = query.shape[1] // key.shape[1]
    key, value = (z.repeat_interleave(repeats, dim=1) for z in (key, value))
    scores = query @ key.transpose(-1, -2) * scaling
    weights = scores.masked_fill(~module.visible, float("-inf")).softmax(-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def use_pattern(model, mask):
    """Every layer's attention sees what `mask` says; None leaves the model's own full attention."""
    if mask is None:
        return
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS["visible_mask"] = masked_attention
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.config._attn_implementation = "visible_mask"
    for layer in base.model.layers:
        layer.self_attn.visible = mask


def lora_config(rank, alpha, embed_and_norm=True):
    from peft import LoraConfig

    saved = ["embed_tokens", "input_layernorm", "post_attention_layernorm", "norm"]
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        modules_to_save=saved if embed_and_norm else None,
        task_type="CAUSAL_LM",
    )


def load_model(args):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(args.model)
    if args.rope_factor != 1:
        config.rope_scaling = {"rope_type": "linear", "factor": float(args.rope_factor)}
        config.max_position_embeddings = int(config.max_position_embeddings * args.rope_factor)
    model = AutoModelForCausalLM.from_pretrained(
        args.model, config=config, torch_dtype=torch.float32, attn_implementation="sdpa"
    )
    if getattr(args, "adapter", None):
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, args.adapter)
    return model.eval()


def load_tokens(args):
    import numpy

    if args.data.endswith(".txt"):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(args.model)
        with open(args.data, encoding="utf-8", newline="") as f:
            ids = tokenizer(f.read(), add_special_tokens=False)["input_ids"]
        return torch.tensor(ids)
    dtype = {"u16": "<u2", "u32": "<u4"}[args.token_dtype]
    return torch.from_numpy(numpy.fromfile(args.data, dtype=dtype).astype("int64"))


def window_nll(model, ids, first):
    """Negative log-likelihoods of ids[first + 1:], each given all before it in the window."""
    logits = model(ids[None]).logits[0, first:-1].float()
    return torch.nn.functional.cross_entropy(logits, ids[first + 1 :], reduction="none").double()


@torch.no_grad()
def perplexity(model, tokens, args):
    """longlora: windows 0, 256, ... below len - ctx, the last one dropped, every token scored.
    llamacpp: disjoint windows, --bos put first where given, the second half scored."""
    n = args.ctx_size
    if args.protocol == "longlora":
        starts, first = list(range(0, len(tokens) - n, args.stride))[:-1], 0
    else:
        starts, first = list(range(0, len(tokens) - n + 1, n)), n // 2
    starts = starts[args.skip_windows :]
    if args.max_windows:
        starts = starts[: args.max_windows]
    means, count = [], 0
    for start in starts:
        ids = tokens[start : start + n].clone()
        if args.protocol == "llamacpp" and args.bos is not None:
            ids[0] = args.bos
        nll = window_nll(model, ids, first)
        means.append(nll.mean().item())
        count += len(nll)
    nll = sum(means) / len(means)
    return {
        "perplexity": math.exp(nll),
        "nll": nll,
        "windows": len(means),
        "tokens": count,
        "starts": starts,
        "window_nll": means,
    }


def run_ppl(args):
    result = perplexity(load_model(args), load_tokens(args), args)
    return {"protocol": args.protocol, "ctx_size": args.ctx_size, **result}


def run_logits(args):
    from safetensors.torch import save_file

    ids = torch.tensor([int(t) for t in args.ids.split(",")])
    with torch.no_grad():
        logits = load_model(args)(ids[None]).logits[0]
    save_file({"ids": ids, "logits": logits.contiguous()}, args.output)
    return {"shape": list(logits.shape), "argmax": logits.argmax(-1).tolist()}


def peft_model(args):
    from peft import PeftModel, get_peft_model

    torch.manual_seed(args.seed)
    base = load_model(args)
    if getattr(args, "initial_adapter", None):
        return PeftModel.from_pretrained(base, args.initial_adapter, is_trainable=True)
    return get_peft_model(base, lora_config(args.lora_rank, args.lora_alpha, not args.lora_only))


def run_init_adapter(args):
    """PEFT's own start (B = 0), or with --random every trained tensor perturbed."""
    model = peft_model(args)
    if args.random:
        with torch.no_grad():
            for name, p in model.named_parameters():
                if not p.requires_grad:
                    continue
                scale = {"lora_A": 0.02, "lora_B": 0.02}.get(name.split(".")[-3], 0.01)
                p.add_(torch.randn_like(p) * scale)
    model.save_pretrained(args.output)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {"adapter": args.output, "trained": trained}


def run_train(args):
    model = peft_model(args).train()
    use_pattern(model, pattern_mask(args, model.config.num_attention_heads))
    tokens = load_tokens(args)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=args.lr, betas=tuple(args.opt_betas), eps=1e-8, weight_decay=args.weight_decay
    )
    n, b, steps = args.ctx_size, args.batch_size, []
    for step in range(args.max_steps):
        began = time.time()
        factor = min(1.0, step / args.warmup_steps) if args.warmup_steps else 1.0
        for group in optimizer.param_groups:
            group["lr"] = args.lr * factor
        at = step * b * n
        rows = tokens[at : at + b * n].view(b, n)
        loss = model(rows, labels=rows).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, args.clip_grad or float("inf"))
        optimizer.step()
        optimizer.zero_grad()
        steps.append({"step": step + 1, "loss": loss.item(), "lr": args.lr * factor,
                      "grad_norm": norm.item(), "seconds": round(time.time() - began, 2)})
    if args.output:
        model.save_pretrained(args.output)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"steps": steps, "losses": [s["loss"] for s in steps], "peak_gib": round(peak, 2)}


def add_common(parser, data):
    parser.add_argument("--model", required=True, help="Hugging Face folder")
    parser.add_argument("--rope-factor", type=float, default=1, help="linear rope scaling")
    parser.add_argument("--threads", type=int, default=2)
    if data:
        parser.add_argument("--data", required=True)
        parser.add_argument("--token-dtype", choices=["u16", "u32"], default="u16")
        parser.add_argument("--ctx-size", type=int, default=512)


def add_ppl(verbs, name, adapter):
    parser = verbs.add_parser(name, help="perplexity" + (" with a PEFT adapter" * adapter))
    add_common(parser, data=True)
    if adapter:
        parser.add_argument("--adapter", required=True)
    parser.add_argument("--protocol", choices=["longlora", "llamacpp"], default="longlora")
    parser.add_argument("--stride", type=int, default=256, help="of longlora")
    parser.add_argument("--max-windows", type=int, default=0, help="0: all")
    parser.add_argument("--skip-windows", type=int, default=0)
    parser.add_argument("--bos", type=int, help="llamacpp: id put first in each window")
    parser.set_defaults(run=run_ppl)


def add_lora(parser):
    parser.add_argument("--lora-rank", type=int, default=8)
    parser.add_argument("--lora-alpha", type=float, default=16)
    parser.add_argument("--lora-only", action="store_true", help="embedding and norms frozen")
    parser.add_argument("--seed", type=int, default=0)


def add_train(verbs):
    parser = verbs.add_parser("train", help="LoRA, embedding and norms; rows in file order")
    add_common(parser, data=True)
    add_lora(parser)
    parser.add_argument("--initial-adapter")
    parser.add_argument("--output", help="folder for the trained adapter")
    parser.add_argument("--attn", choices=["full", "s2", "s2-global", "s2-sr", "sf"], default="sf")
    parser.add_argument("--group-ratio", type=float, default=0.25)
    parser.add_argument("--group-size", type=int, default=0)
    parser.add_argument("--sinks", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--max-steps", type=int, default=6)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--warmup-steps", type=int, default=0)
    parser.add_argument("--opt-betas", type=float, nargs=2, default=[0.9, 0.95])
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--clip-grad", type=float, default=0.0, help="0: none")
    parser.set_defaults(run=run_train)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    add_ppl(verbs, "ppl", adapter=False)
    add_ppl(verbs, "adapter-ppl", adapter=True)
    logits = verbs.add_parser("logits", help="logits of given ids to a safetensors file")
    add_common(logits, data=False)
    logits.add_argument("--adapter")
    logits.add_argument("--ids", required=True)
    logits.add_argument("--output", required=True)
    logits.set_defaults(run=run_logits)
    init = verbs.add_parser("init-adapter", help="a PEFT folder to start from")
    add_common(init, data=False)
    add_lora(init)
    init.add_argument("--random", action="store_true", help="nonzero B, perturbed embedding, norms")
    init.add_argument("--output", required=True)
    init.set_defaults(run=run_init_adapter)
    add_train(verbs)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(json.dumps(args.run(args)))


if __name__ == "__main__":
    main()
