#!/usr/bin/env python3
"""Speed of a TiC training step in PyTorch: f32, CPU, random images, AdamW.

  peer_tic.py --preset tic-n --img-size 32 --batch-size 64 --attention unfold
  peer_tic.py --preset tic-n --img-size 32 --batch-size 64 --attention dense
  peer_tic.py --preset tic-t --img-size 224 --batch-size 8 --attention unfold --steps 1

unfold: K and V copied once per tap (tools/oracle_tic.py). dense: scaled_dot_product_attention over
all pixels with a window mask, which is masked at the border and knows no shift. One JSON line:
images a second by the median step, every step's seconds, peak resident memory.
"""

import argparse
import functools
import json
import os
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import oracle_tic  # noqa: E402


@functools.lru_cache
def window_mask(height, width, kernel_height, kernel_width):
    """(pixels, pixels) bool: the key lies in the query's window."""
    y = torch.arange(height).repeat_interleave(width)
    x = torch.arange(width).repeat(height)
    near_y = (y[:, None] - y).abs() <= kernel_height // 2
    return near_y & ((x[:, None] - x).abs() <= kernel_width // 2)


def dense_window_attention(q, k, v, **options):
    """In place of oracle_tic.msa_conv, for odd kernels without dilation; (B, C, H, W)."""
    b, c, h, w = q.shape
    heads = options["heads"]
    q, k, v = (z.reshape(b, heads, c // heads, h * w).transpose(2, 3) for z in (q, k, v))
    mask = window_mask(h, w, *options["kernel"])
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(2, 3).reshape(b, c, h, w)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=oracle_tic.PRESETS, default="tic-n")
    parser.add_argument("--img-size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--attention", choices=["unfold", "dense"], default="unfold")
    parser.add_argument("--shift", choices=["group", "off"], default="off")
    parser.add_argument("--steps", type=int, default=5, help="timed, after one that is not")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.attention == "dense":
        if args.shift != "off":
            parser.error("--attention dense knows no shift")
        oracle_tic.msa_conv = dense_window_attention
    preset = {**oracle_tic.PRESETS[args.preset], "shift": args.shift}
    model = oracle_tic.Tic(**preset).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    seconds = []
    for step in range(args.steps + 1):
        images = torch.randn(args.batch_size, 3, args.img_size, args.img_size)
        labels = torch.randint(0, model.options["num_classes"], (args.batch_size,))
        began = time.perf_counter()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step:
            seconds.append(round(time.perf_counter() - began, 3))
    result = {
        "peer": f"torch {args.attention}",
        "torch": torch.__version__,
        "preset": args.preset,
        "img_size": args.img_size,
        "batch_size": args.batch_size,
        "img_s": round(args.batch_size / statistics.median(seconds), 2),
        "step_seconds": seconds,
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
