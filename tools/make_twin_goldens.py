#!/usr/bin/env python3
"""Goldens of the global twin of TiC: timm's VisionTransformer, which a twin of one stage is.

  make_twin_goldens.py [FOLDER]      (default: tests/golden; needs torch, timm, safetensors)

Logits at the size of the table of positions, and at another, for which timm interpolates them, with
the gradients of all parameters. Names of parameters are the twin's.
"""

import functools
import os
import sys

import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from golden_family import random, write_json

SIZES = {"own_size": (16, 16), "other_size": (24, 12)}
NAMES = {"patch_embed.proj": "stem.conv", "patch_embed.norm": "stem.norm", "blocks.": "stages.0.blocks."}


def twin_name(name):
    for theirs, ours in NAMES.items():
        if name.startswith(theirs):
            return ours + name[len(theirs):]
    return name


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", "tests", "golden")
    norm = functools.partial(nn.LayerNorm, eps=1e-5)
    model = VisionTransformer(
        img_size=16, patch_size=4, num_classes=5, embed_dim=16, depth=2, num_heads=4, class_token=False,
        global_pool="avg", fc_norm=False, norm_layer=norm, embed_norm_layer=norm, dynamic_img_size=True,
    ).double().eval()
    tensors = {}
    with torch.no_grad():
        for name, p in model.named_parameters():
            is_norm = "norm" in name and name.endswith("weight")
            p.copy_(is_norm + 0.3 * random("twin." + name, *p.shape))
            tensors["parameters." + twin_name(name)] = p.detach().clone()
    cases = []
    for case, (height, width) in SIZES.items():
        x = random("twin." + case, 2, 3, height, width).requires_grad_()
        model.zero_grad()
        out = model(x)
        grad_out = random("twin.grad_out", *out.shape)
        out.backward(grad_out)
        tensors |= {f"{case}.input": x, f"{case}.out": out, f"{case}.grad_out": grad_out}
        tensors[f"{case}.grad.input"] = x.grad
        for name, p in model.named_parameters():
            if case == "own_size" and name != "pos_embed":
                continue
            tensors[f"{case}.grad.{twin_name(name)}"] = p.grad.clone()
        cases.append({"name": case})
    tensors = {name: t.detach().float().contiguous() for name, t in tensors.items()}
    path = os.path.join(folder, "tic_twin.safetensors")
    save_file(tensors, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)
    write_json(os.path.join(folder, "tic_twin.json"), {"cases": cases})


if __name__ == "__main__":
    main()
