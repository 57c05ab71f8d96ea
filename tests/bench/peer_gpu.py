#!/usr/bin/env python3
"""PyTorch on a GPU beside the benches: attention, MSA-Conv, a TiC-T step, a LoRA step of 7B.

  peer_gpu.py                                    one JSON line a measurement
  peer_gpu.py --ours LINES.jsonl --table OUT.md  and the ratios to the benches' lines, as a table
  peer_gpu.py --part attention|images|llama|long --also LINES.jsonl ...
                                                 a part alone, and the table with what was measured
                                                 before; long is the LoRA step at 102,400 tokens,
                                                 which takes a minute and belongs to no other part
  peer_gpu.py --smoke                            tiny sizes on the CPU: that the code runs

bf16, random values, medians of several runs between synchronisations, warm. Attention: causal, 32
heads of 128, by FlashAttention and cuDNN where PyTorch has them; S2 as LongLoRA does it, by rolling
half of the heads and folding groups of a quarter into the batch; SF by FlexAttention, compiled.
MSA-Conv by unfold (tools/oracle_tic.py), by dense attention with a mask, and by NATTEN's fused
neighborhood attention where that is installed: its windows are moved inwards at a border, so that
all have 49 keys. timm's Swin-T, compiled, where timm is installed; transformers with PEFT where
those are. What cannot run says why and leaves its row empty; too little memory is a result.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from peer_gpu_table import json_lines, markdown, rows

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
DEVICE, SMOKE = "cuda", False
results = []
after_each = []  # called when a measurement has ended


def report(what, **values):
    results.append({"peer": what, **values})
    print(json.dumps(results[-1]), flush=True)


def attempt(what, function, *arguments, **names):
    """Other measurements go on when one is not possible here."""
    try:
        function(what, *arguments, **names)
    except torch.OutOfMemoryError:
        report(what, **names, error="out of memory")
    except ModuleNotFoundError as error:
        report(what, **names, error=f"{error.name} is not installed")
    except Exception as error:  # noqa: BLE001
        reason = str(error).strip() or type(error).__name__
        report(what, **names, error=reason.splitlines()[0][:200])
    gc.collect()
    torch.cuda.empty_cache()
    for call in after_each:
        call()


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def median_ms(f, budget=1.0):
    """Median of 5 to 20 batches of calls of f, each batch of 5 ms or more."""
    if SMOKE:
        budget = 0.01

    def batch(calls):
        synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            f()
        synchronize()
        return (time.perf_counter() - start) / calls

    batch(2)
    calls = max(1, min(1000, int(0.005 / batch(1)) + 1))
    times, stop = [], time.perf_counter() + budget
    while len(times) < 5 or (len(times) < 20 and time.perf_counter() < stop):
        times.append(batch(calls))
    return statistics.median(times) * 1e3


def forward_and_both(f, inputs):
    with torch.no_grad():
        forward = median_ms(lambda: f(*inputs))
    leaves = [x.detach().requires_grad_() for x in inputs]
    grad = torch.randn_like(f(*leaves))

    def both():
        torch.autograd.grad(f(*leaves), leaves, grad)

    return {"forward_ms": round(forward, 4), "both_ms": round(median_ms(both), 4)}


def full(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def rolled(q, k, v):
    """S2: half of the heads moved by half a group, groups as a batch."""
    b, h, n, d = q.shape
    g = n // 4

    def fold(x):
        x = torch.cat((x[:, : h // 2], x[:, h // 2 :].roll(-g // 2, dims=2)), dim=1)
        return x.reshape(b, h, n // g, g, d).transpose(1, 2).reshape(b * n // g, h, g, d)

    out = full(fold(q), fold(k), fold(v))
    out = out.reshape(b, n // g, h, g, d).transpose(1, 2).reshape(b, h, n, d)
    return torch.cat((out[:, : h // 2], out[:, h // 2 :].roll(g // 2, dims=2)), dim=1)


def attention(what, backend, tokens):
    f = {"full": full, "rolled s2": rolled}[what]
    inputs = [torch.randn(1, 32, tokens, 128, device=DEVICE, dtype=torch.bfloat16) for _ in "qkv"]
    with sdpa_kernel(BACKENDS[backend]):
        report(what, backend=backend, tokens=tokens, **forward_and_both(f, inputs))


def flex_sf(what, tokens, heads=32):
    """SF-Attn: the last quarter of the heads shifted by half a group, four sinks."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    group = tokens // 4

    def sees(b, h, i, j):
        move = (h >= heads - heads // 4) * (group // 2)
        return (i >= j) & (((i + move) // group == (j + move) // group) | (j < 4))

    mask = create_block_mask(sees, None, heads, tokens, tokens, device=DEVICE)
    compiled = flex_attention if SMOKE else torch.compile(flex_attention)
    inputs = [
        torch.randn(1, heads, tokens, 128, device=DEVICE, dtype=torch.bfloat16) for _ in "qkv"
    ]
    times = forward_and_both(lambda q, k, v: compiled(q, k, v, block_mask=mask), inputs)
    report(what, tokens=tokens, **times)


def dense_window(what, size, heads, batch):
    y, x = torch.arange(size).repeat_interleave(size), torch.arange(size).repeat(size)
    near = ((y[:, None] - y).abs() <= 3) & ((x[:, None] - x).abs() <= 3)
    mask = near.to(DEVICE)
    shape = (batch, heads, size * size, 32)
    inputs = [torch.randn(*shape, device=DEVICE, dtype=torch.bfloat16) for _ in "qkv"]
    times = forward_and_both(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask), inputs
    )
    report(what, size=size, heads=heads, batch=batch, **times)


def msa_conv(what, size, heads, batch):
    import oracle_tic

    shape = (batch, heads * 32, size, size)
    inputs = [torch.randn(*shape, device=DEVICE, dtype=torch.bfloat16) for _ in "qkv"]
    times = forward_and_both(
        lambda q, k, v: oracle_tic.msa_conv(q, k, v, heads=heads, kernel=[7, 7]), inputs
    )
    report(what, size=size, heads=heads, batch=batch, **times)


def natten_window(what, size, heads, batch):
    from natten.functional import na2d

    shape = (batch, size, size, heads, 32)
    inputs = [torch.randn(*shape, device=DEVICE, dtype=torch.bfloat16) for _ in "qkv"]
    times = forward_and_both(lambda q, k, v: na2d(q, k, v, kernel_size=(7, 7)), inputs)
    report(what, size=size, heads=heads, batch=batch, **times)


def train_step_seconds(step, steps, untimed=3):
    times = []
    for i in range(steps + untimed):
        synchronize()
        start = time.perf_counter()
        step()
        synchronize()
        if i >= untimed:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def image_step(what, batch, compiled=False, steps=10):
    if what == "swin-t":
        import timm

        model = timm.create_model("swin_tiny_patch4_window7_224")
    else:
        import oracle_tic

        model = oracle_tic.Tic(**oracle_tic.PRESETS["tic-t"])
    model = model.to(DEVICE).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=not SMOKE)
    side = 32 if SMOKE else 224
    images = torch.randn(batch, 3, side, side, device=DEVICE)
    labels = torch.randint(0, 1000, (batch,), device=DEVICE)
    forward = torch.compile(model) if compiled else model

    def step():
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = F.cross_entropy(forward(images), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    seconds = train_step_seconds(step, 1 if SMOKE else steps)
    report(what, batch=batch, compiled=compiled, img_s=round(batch / seconds, 1))


def llama_step(what, tokens, backend, steps=2, untimed=2):
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(max_position_embeddings=tokens, use_cache=False)  # the 7B shape
    if SMOKE:
        config = LlamaConfig(max_position_embeddings=tokens, use_cache=False, hidden_size=64, vocab_size=64,
                             intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    else:
        torch.cuda.reset_peak_memory_stats()
    config._attn_implementation = "sdpa"
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(DEVICE):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    model = get_peft_model(model, lora).train()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5)
    ids = torch.randint(0, config.vocab_size, (1, tokens), device=DEVICE)

    def step():
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    with sdpa_kernel(BACKENDS[backend]):
        seconds = train_step_seconds(step, steps, untimed)
    peak = 0 if SMOKE else torch.cuda.max_memory_allocated() / 2**30
    report(what, tokens=tokens, backend=backend, tok_s=round(tokens / seconds, 1), peak_gib=round(peak, 2))


def measure_attention():
    for tokens in (64,) if SMOKE else (8192, 32768):
        for backend in BACKENDS:
            attempt("full", attention, backend=backend, tokens=tokens)
            attempt("rolled s2", attention, backend=backend, tokens=tokens)
    attempt("flex sf", flex_sf, tokens=256 if SMOKE else 32768, heads=4 if SMOKE else 32)


def measure_images():
    large = dict(size=8, heads=1, batch=1) if SMOKE else dict(size=56, heads=3, batch=128)
    small = large if SMOKE else dict(size=14, heads=12, batch=128)
    attempt("msa_conv unfold", msa_conv, **large)
    attempt("msa_conv unfold", msa_conv, **small)
    attempt("msa_conv dense", dense_window, **small)
    attempt("msa_conv natten", natten_window, **large)
    attempt("msa_conv natten", natten_window, **small)
    attempt("tic-t unfold", image_step, batch=2 if SMOKE else 16)
    attempt("swin-t", image_step, batch=2 if SMOKE else 128, compiled=not SMOKE)


def measure_llama():
    if SMOKE:
        return attempt("llama-7b peft", llama_step, tokens=64, backend="flash", steps=1, untimed=0)
    attempt("llama-7b peft", llama_step, tokens=8192, backend="flash")
    attempt("llama-7b peft", llama_step, tokens=32768, backend="flash", untimed=1)
    attempt("llama-7b peft", llama_step, tokens=32768, backend="cudnn", steps=1, untimed=1)


def measure_long():
    # One step without a warm one: it takes most of a minute, which hides what the first one costs.
    tokens = 128 if SMOKE else 102400
    attempt("llama-7b peft", llama_step, tokens=tokens, backend="flash", steps=1, untimed=0)


PARTS = {"attention": measure_attention, "images": measure_images, "llama": measure_llama}


def main():
    global DEVICE, SMOKE
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ours", help="lines of the benches")
    parser.add_argument("--table", help="where the Markdown goes")
    parser.add_argument("--also", help="lines of an earlier call, for the table")
    parser.add_argument("--part", choices=[*PARTS, "long"], help="this part alone")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on the CPU")
    args = parser.parse_args()
    if args.smoke:
        DEVICE, SMOKE = "cpu", True
    elif not torch.cuda.is_available():
        sys.exit("peer_gpu: PyTorch sees no GPU")
    if args.also:
        results.extend(json_lines(args.also))
    report("machine", name="cpu" if SMOKE else torch.cuda.get_device_name(), torch=torch.__version__)
    ours = json_lines(args.ours) if args.ours else []

    def write():
        if args.table:
            with open(args.table, "w", encoding="utf-8") as file:
                file.write(markdown(rows(ours, results)))

    after_each.append(write)
    for name, measure in {**PARTS, "long": measure_long}.items():
        if name == args.part or (not args.part and name != "long"):
            measure()


if __name__ == "__main__":
    main()
