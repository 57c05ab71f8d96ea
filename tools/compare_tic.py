#!/usr/bin/env python3
"""Every preset family and option of TiC against the unfold reference: outputs and all gradients.

Shallow models with random weights, odd sizes, in float32 here and in float64 in PyTorch. The error
of a tensor is its largest difference over its largest element; a case fails above 1e-5.

  compare_tic.py --dump build/bin/dump_tic [--case NAME ...]
needs torch and safetensors; dump_tic is built with -DMULLION_BENCH=ON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import torch
from oracle_tic import PRESETS, TIC_DEFAULTS, Tic
from safetensors.torch import load_file, save_file

LIMIT = 1e-5
TINY = {"depths": [2, 2], "dim": 16, "heads": [2, 4], "patch": 2, "kernel": [3, 3]}
# name: (preset, options, height, width); depths stay at 2 or 3 blocks a stage
CASES = {
    "tic-n": ("tic-n", {}, 32, 32),
    "tic-n odd": ("tic-n", {}, 29, 35),
    "tic-n 1 pixel": ("tic-n", {}, 1, 1),
    "tic-t": ("tic-t", {"depths": [2, 2, 2, 2]}, 64, 48),
    "tic-t odd": ("tic-t", {"depths": [1, 2, 2, 1]}, 45, 71),
    "tic-s": ("tic-s", {"depths": [1, 1, 3, 1]}, 50, 33),
    "tic-b": ("tic-b", {"depths": [1, 1, 2, 1]}, 37, 41),
    "tic-rel-t": ("tic-rel-t", {"depths": [2, 2, 2, 2]}, 49, 39),
    "released, k 5, dilation 2": (
        "tic-rel-t",
        {**TINY, "heads": [1, 1], "kernel": [5, 5], "dilation": 2},
        19,
        23,
    ),
    "released, shift group": ("tic-rel-t", {**TINY, "heads": [1, 1], "shift": "group"}, 21, 18),
}
for border in ("zero_logit", "masked"):
    for shift in ("off", "group", "roll_map", "per_layer"):
        options = {**TINY, "depths": [4, 2], "border": border, "shift": shift}
        CASES[f"{border}, shift {shift}"] = ("tic-n", options, 21, 26)
    for pool in ("inter", "off", "kv"):
        CASES[f"{border}, pool {pool}"] = ("tic-n", {**TINY, "border": border, "pool": pool}, 27, 22)
CASES.update(
    {
        "shift by 2": ("tic-n", {**TINY, "shift_size": 2}, 21, 26),
        "shift beyond the map": ("tic-n", {**TINY, "shift_size": 40}, 13, 17),
        "one head, shift": ("tic-n", {**TINY, "heads": [1, 2]}, 21, 26),
        "pool kv 3, shift": ("tic-n", {**TINY, "pool": "kv", "kv_pool": 3}, 27, 22),
        "dilated 2": ("tic-n", {**TINY, "variant": "dilated", "dilation": 2}, 27, 22),
        "dilated 3, masked": (
            "tic-n",
            {**TINY, "variant": "dilated", "dilation": 3, "border": "masked"},
            27,
            22,
        ),
        "even kernel 4, dilation 2": ("tic-n", {**TINY, "kernel": [4, 4], "dilation": 2}, 27, 22),
        "depthwise": ("tic-n", {**TINY, "variant": "depthwise"}, 21, 26),
        "depthwise, masked, pool kv": (
            "tic-n",
            {**TINY, "variant": "depthwise", "border": "masked", "pool": "kv"},
            21,
            26,
        ),
        "dwconv": ("tic-n", {**TINY, "mlp_dwconv": True}, 21, 26),
        "kernel 5": ("tic-n", {**TINY, "kernel": [5, 5]}, 21, 26),
        "kernel 7": ("tic-n", {**TINY, "kernel": [7, 7]}, 21, 26),
        "kernel 3x7": ("tic-n", {**TINY, "kernel": [3, 7]}, 21, 26),
        "kernel 1": ("tic-n", {**TINY, "kernel": [1, 1]}, 21, 26),
        "kernel 7, masked, tiny map": (
            "tic-n",
            {**TINY, "kernel": [7, 7], "border": "masked"},
            5,
            3,
        ),
        "patch 4, 1 channel, ratio 2": (
            "tic-n",
            {**TINY, "patch": 4, "in_chans": 1, "mlp_ratio": 2},
            30,
            41,
        ),
    }
)


def random_inputs(model, height, width):
    data = {}
    for name, p in model.named_parameters():
        # Norm weights about 1; matrices so that signals keep their size and logits spread.
        scale = 0.3 if p.dim() == 1 else p[0].numel() ** -0.5
        data[name] = torch.randn_like(p) * scale + float("norm" in name and "weight" in name)
    classes, chans = model.options["num_classes"], model.options["in_chans"]
    data["input"] = torch.randn(2, height, width, chans)
    data["grad_out"] = torch.randn(2, classes)
    return {k: v.detach().float().contiguous() for k, v in data.items()}


def reference(model, data):
    data = {k: v.double() for k, v in data.items()}
    x = data.pop("input").requires_grad_()
    grad_out = data.pop("grad_out")
    model = model.double()
    model.load_state_dict(data)
    out = model(x.permute(0, 3, 1, 2))
    out.backward(grad_out)
    grads = {f"grad.{n}": p.grad for n, p in model.named_parameters()}
    return {"out": out.detach(), "grad.input": x.grad, **grads}


def compare(case, dump, folder):
    preset, changes, height, width = case
    options = {**TIC_DEFAULTS, **PRESETS[preset], "num_classes": 10, **changes}
    model = Tic(**options)
    data = random_inputs(model, height, width)
    args = {k: v for k, v in options.items() if v is not None and k != "layer_norm_eps"}
    paths = [os.path.join(folder, n) for n in ("args.json", "in.safetensors", "out.safetensors")]
    with open(paths[0], "w") as f:
        json.dump({"preset": preset, **args}, f)
    save_file(data, paths[1])
    subprocess.run([dump, *paths], check=True)
    ours, theirs = load_file(paths[2]), reference(model, data)
    assert set(ours) == set(theirs), set(ours) ^ set(theirs)
    errors = {}
    for name, want in theirs.items():
        assert ours[name].shape == want.shape, name
        # A gradient that is 0 but for rounding (the bias of k without a border) has no scale of
        # its own; it is held against the gradient of the whole layer's weight.
        scale = want.abs().max()
        if name.endswith("qkv.bias"):
            scale = torch.maximum(scale, theirs[name[:-4] + "weight"].abs().max())
        errors[name] = float((ours[name] - want).abs().max() / scale)
    return errors


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dump", required=True)
    parser.add_argument("--case", nargs="+", choices=list(CASES), default=list(CASES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    failed = 0
    for name in args.case:
        torch.manual_seed(1)
        with tempfile.TemporaryDirectory() as folder:
            errors = compare(CASES[name], args.dump, folder)
        worst = max(errors, key=errors.get)
        ok = errors[worst] <= LIMIT
        failed += not ok
        print(
            f"{name:32} out {errors['out']:.1e}  worst {errors[worst]:.1e} ({worst}), "
            f"{len(errors)} tensors{'' if ok else '  ABOVE ' + str(LIMIT)}",
            flush=True,
        )
    print(f"{len(args.case) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
