#!/usr/bin/env python3
"""MSA-Conv and TiC by unfold in PyTorch: the reference for the fused kernels and the model.

Nothing here is fast. K and V are copied once per tap (torch.nn.functional.unfold), so that the
formula stays visible, and PyTorch's autograd gives every gradient.

  oracle_tic.py check --input CASE.safetensors --options CASE.json --output OUT.safetensors
      computes outputs and gradients in float64 for one MSA-Conv ("op": "msa_conv") or for a whole
      model ("op": "tic"); compare them with the program under test. --dtype float32 for the other.
  oracle_tic.py params-macs [--size 224 ...]
      parameters and multiply-adds of the presets.

Files of `check`. MSA-Conv: q k v grad_out in, out grad_q grad_k grad_v out, all NHWC (B, H, W, C).
TiC: the model's parameters under their checkpoint names, `input` (B, in_chans, H, W) and `grad_out`
(B, classes) in; `out` and `grad.NAME` of every parameter and of `input` out. Options: see
MSA_CONV_DEFAULTS and TIC_DEFAULTS.
"""

import argparse
import json

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

MSA_CONV_DEFAULTS = {
    "heads": 1,
    "kernel": [3, 3],
    "dilation": 1,
    "border": "zero_logit",  # or "masked": keys outside the map get -inf
    "group_offsets": None,  # [[dy, dx], ...]: equal channel groups whose K and V are rolled
    "map_offset": None,  # [dy, dx]: q, k and v rolled alike, the output rolled back
    "kv_pool": 1,  # K and V averaged over r x r before the window
}

TIC_DEFAULTS = {
    "dim": 96,
    "depths": [2, 2, 6, 2],
    "heads": [3, 6, 12, 24],
    "kernel": [7, 7],
    "dilation": 1,
    "patch": 4,
    "in_chans": 3,
    "num_classes": 1000,
    "block": "tic",  # or "released"
    "variant": "standard",  # standard, dilated, depthwise (heads = channels)
    "border": "zero_logit",
    "shift": "group",  # off, group, roll_map, per_layer
    "shift_size": None,  # None: the kernel
    "pool": "inter",  # inter: max pool then 1x1; off: strided 2x2; kv: off, and K, V averaged
    "kv_pool": 2,  # r of pool = kv
    "mlp_ratio": 4,
    "mlp_dwconv": False,
    "layer_norm_eps": 1e-5,
}

PRESETS = {
    "tic-t": {},
    "tic-s": {"depths": [2, 2, 18, 2]},
    "tic-b": {"dim": 128, "depths": [2, 2, 18, 2], "heads": [4, 8, 16, 32]},
    "tic-rel-t": {
        "heads": [1, 1, 1, 1],
        "kernel": [3, 3],
        "block": "released",
        "shift": "off",
    },
    "tic-n": {
        "dim": 32,
        "depths": [2, 2, 2],
        "heads": [2, 4, 8],
        "kernel": [5, 5],
        "patch": 2,
        "num_classes": 10,
    },
}


def directions(size):
    """The four rolls of the Multi-Directional Cyclic Shift: down, up, right, left."""
    return [[size, 0], [-size, 0], [0, size], [0, -size]]


def roll_channel_groups(z, offsets):
    """(B, C, H, W) with equal channel groups, each rolled by its own (dy, dx)."""
    if not offsets:
        return z
    parts = z.chunk(len(offsets), dim=1)
    rolled = [torch.roll(p, tuple(o), dims=(2, 3)) for p, o in zip(parts, offsets)]
    return torch.cat(rolled, dim=1)


def head_offsets(heads, channels, size):
    """Offsets of equal channel groups: head g has direction floor(4g/heads), and below four heads
    the channels are quartered."""
    if heads < 4:
        assert channels % 4 == 0, f"{channels} channels cannot be quartered"
        return directions(size)
    return [directions(size)[4 * g // heads] for g in range(heads)]


def average_pool(z, r):
    """Mean over r x r cells; a cell cut by the border is the mean of what is inside."""
    return F.avg_pool2d(z, r, r, ceil_mode=True, count_include_pad=False) if r > 1 else z


def taps_of(z, kernel, dilation):
    """(B, C, H, W) to (B, C, T, H, W): tap t of pixel r is z(r + delta_t), 0 outside the map."""
    pad = [dilation * (k - 1) // 2 for k in kernel]
    b, c, h, w = z.shape
    # An even kernel with even dilation pads alike on both sides, as an odd one does.
    out = F.unfold(z, tuple(kernel), dilation=dilation, padding=tuple(pad))
    return out.view(b, c, kernel[0] * kernel[1], h, w)


def msa_conv(q, k, v, **options):
    """Steps 2 to 4 of docs/tic.md, section 2, with heads; q, k, v and the result (B, C, H, W)."""
    o = {**MSA_CONV_DEFAULTS, **options}
    kernel, dilation, heads = o["kernel"], o["dilation"], o["heads"]
    assert all(n % 2 == 1 or dilation % 2 == 0 for n in kernel), "even kernel with odd dilation"
    b, channels, height, width = q.shape
    if o["map_offset"]:
        q, k, v = (torch.roll(z, tuple(o["map_offset"]), dims=(2, 3)) for z in (q, k, v))
    r = o["kv_pool"]
    k, v = (roll_channel_groups(average_pool(z, r), o["group_offsets"]) for z in (k, v))
    inside = taps_of(torch.ones_like(k[:1, :1]), kernel, dilation)
    k_taps, v_taps = (taps_of(z, kernel, dilation) for z in (k, v))
    if r > 1:  # the query at (y, x) stands in the cell (y // r, x // r)
        y = torch.arange(height) // r
        x = torch.arange(width) // r
        inside, k_taps, v_taps = (z[..., y, :][..., x] for z in (inside, k_taps, v_taps))
    c = channels // heads
    q = q.reshape(b, heads, c, height, width)
    k_taps = k_taps.reshape(b, heads, c, -1, height, width)
    v_taps = v_taps.reshape(b, heads, c, -1, height, width)
    logits = torch.einsum("bgcyx,bgctyx->bgtyx", q, k_taps) * c**-0.5
    if o["border"] == "masked":
        blind = inside.sum(2, keepdim=True) == 0  # only with an even kernel in a tiny map
        logits = logits.masked_fill((inside == 0) & ~blind, float("-inf"))
    elif o["border"] != "zero_logit":
        raise ValueError(f"border {o['border']}")
    out = torch.einsum("bgtyx,bgctyx->bgcyx", logits.softmax(2), v_taps)
    out = out.reshape(b, channels, height, width)
    if o["map_offset"]:
        out = torch.roll(out, tuple(-n for n in o["map_offset"]), dims=(2, 3))
    return out


def to_nchw(z):
    return z.permute(0, 3, 1, 2)


def to_nhwc(z):
    return z.permute(0, 2, 3, 1)


class Attention(nn.Module):
    """qkv and proj around msa_conv; (B, H, W, C) in and out."""

    def __init__(self, dim, options, project):
        super().__init__()
        self.options = options
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim) if project else None

    def forward(self, x):
        q, k, v = (to_nchw(z) for z in self.qkv(x).chunk(3, dim=-1))
        out = to_nhwc(msa_conv(q, k, v, **self.options))
        return self.proj(out) if self.proj else out


class Mlp(nn.Module):
    def __init__(self, dim, ratio, dwconv):
        super().__init__()
        hidden = ratio * dim
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden) if dwconv else None
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x):
        x = self.fc1(x)
        if self.dwconv:
            x = to_nhwc(self.dwconv(to_nchw(x)))
        return self.fc2(F.gelu(x))


class TicBlock(nn.Module):
    def __init__(self, dim, o, options):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=o["layer_norm_eps"])
        self.attn = Attention(dim, options, project=True)
        self.norm2 = nn.LayerNorm(dim, eps=o["layer_norm_eps"])
        self.mlp = Mlp(dim, o["mlp_ratio"], o["mlp_dwconv"])

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ReleasedBlock(nn.Module):
    """LayerNorm, then steps 1 to 5 of docs/tic.md, section 2: ReLU(conv(O(z) + z)), z = LN(x). The convolution has
    the attention's kernel, dilation and padding; the last one of a stage has stride 2 and doubles
    the channels in place of a downsample: this project's choice."""

    def __init__(self, dim, out_dim, o, options):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=o["layer_norm_eps"])
        self.attn = Attention(dim, options, project=False)
        d = o["dilation"]
        pad = tuple(d * (k - 1) // 2 for k in o["kernel"])
        self.conv = nn.Conv2d(
            dim, out_dim, tuple(o["kernel"]), out_dim // dim, pad, dilation=d, bias=False
        )

    def forward(self, x):
        z = self.norm1(x)
        return to_nhwc(F.relu(self.conv(to_nchw(self.attn(z) + z))))


class Downsample(nn.Module):
    def __init__(self, dim, o):
        super().__init__()
        self.pooled = o["pool"] == "inter"
        size = 1 if self.pooled else 2
        self.conv = nn.Conv2d(dim, 2 * dim, size, stride=size)
        self.norm = nn.LayerNorm(2 * dim, eps=o["layer_norm_eps"])

    def forward(self, x):
        x = to_nchw(x)
        if self.pooled:
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        else:  # odd sizes round up here too: a row and a column of zeros at the end
            x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        return self.norm(to_nhwc(self.conv(x)))


class Stem(nn.Module):
    def __init__(self, o):
        super().__init__()
        self.patch = o["patch"]
        self.conv = nn.Conv2d(o["in_chans"], o["dim"], self.patch, stride=self.patch)
        self.norm = nn.LayerNorm(o["dim"], eps=o["layer_norm_eps"])

    def forward(self, x):
        p = self.patch
        x = F.pad(x, (0, -x.shape[3] % p, 0, -x.shape[2] % p))
        return self.norm(to_nhwc(self.conv(x)))


class Stage(nn.Module):
    def __init__(self, blocks, downsample):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.downsample(x) if self.downsample else x


class Tic(nn.Module):
    """Images (B, in_chans, H, W) to logits (B, num_classes); names as in the checkpoint."""

    def __init__(self, **options):
        super().__init__()
        unknown = set(options) - set(TIC_DEFAULTS)
        assert not unknown, f"unknown options {unknown}"
        o = self.options = {**TIC_DEFAULTS, **options}
        self.stem = Stem(o)
        stages, shifted = [], 0
        for i, depth in enumerate(o["depths"]):
            dim, blocks = o["dim"] << i, []
            for j in range(depth):
                options = self.attention_options(i, j, dim, shifted)
                last = i + 1 == len(o["depths"])
                if o["block"] == "released":
                    out_dim = 2 * dim if j + 1 == depth and not last else dim
                    blocks.append(ReleasedBlock(dim, out_dim, o, options))
                else:
                    blocks.append(TicBlock(dim, o, options))
                shifted += j % 2
            released = o["block"] == "released"
            stages.append(Stage(blocks, None if last or released else Downsample(dim, o)))
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(dim, eps=o["layer_norm_eps"])
        self.head = nn.Linear(dim, o["num_classes"])

    def attention_options(self, stage, block, dim, shifted):
        """Odd blocks of a stage are shifted; `shifted` counts those before this one."""
        o = self.options
        heads = dim if o["variant"] == "depthwise" else o["heads"][stage]
        out = {k: o[k] for k in ("kernel", "dilation", "border")}
        out.update(heads=heads, kv_pool=o["kv_pool"] if o["pool"] == "kv" else 1)
        size = max(o["kernel"]) if o["shift_size"] is None else o["shift_size"]
        if block % 2 == 0 or o["shift"] == "off" or size == 0:
            return out
        if o["shift"] == "group":
            out["group_offsets"] = head_offsets(heads, dim, size)
        elif o["shift"] == "per_layer":
            out["group_offsets"] = [directions(size)[shifted % 4]]
        elif o["shift"] == "roll_map":
            out["map_offset"] = [-size, -size]
        else:
            raise ValueError(f"shift {o['shift']}")
        return out

    def forward(self, x):
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.norm(x).mean(dim=(1, 2)))


def macs(o, height, width):
    """Multiply-adds of one image; norms, softmax, pooling and additions are not counted."""
    dim, t = o["dim"], o["kernel"][0] * o["kernel"][1]
    height, width = -(-height // o["patch"]), -(-width // o["patch"])
    total = height * width * o["in_chans"] * o["patch"] ** 2 * dim
    for i, depth in enumerate(o["depths"]):
        pixels, last = height * width, i + 1 == len(o["depths"])
        if not last:
            height, width = -(-height // 2), -(-width // 2)
        total += depth * pixels * (3 * dim * dim + 2 * t * dim)
        if o["block"] == "released":
            total += (depth - 1) * pixels * t * dim * dim
            total += height * width * t * dim * dim * (1 if last else 2)
        else:
            ratio = o["mlp_ratio"]
            dwconv = 9 * ratio * dim if o["mlp_dwconv"] else 0
            total += depth * pixels * (dim * dim + 2 * ratio * dim * dim + dwconv)
            taps = 1 if o["pool"] == "inter" else 4
            total += 0 if last else height * width * 2 * dim * dim * taps
        dim *= 1 if last else 2
    return total + dim * o["num_classes"]


def run_check(args):
    with open(args.options) as f:
        options = json.load(f)
    dtype = getattr(torch, args.dtype)
    data = {k: v.to(dtype) for k, v in load_file(args.input).items()}
    grad_out = data.pop("grad_out")
    if options.pop("op") == "msa_conv":
        out = check_msa_conv(data, grad_out, options)
    else:
        out = check_tic(data, grad_out, options)
    save_file({k: v.detach().contiguous() for k, v in out.items()}, args.output)


def check_msa_conv(data, grad_out, options):
    leaves = {n: data[n].clone().requires_grad_() for n in ("q", "k", "v")}
    out = to_nhwc(msa_conv(*(to_nchw(z) for z in leaves.values()), **options))
    grads = torch.autograd.grad(out, list(leaves.values()), grad_out)
    return {"out": out, **{f"grad_{n}": g for n, g in zip(leaves, grads)}}


def check_tic(data, grad_out, options):
    x = data.pop("input").clone().requires_grad_()
    model = Tic(**options).to(grad_out.dtype)
    model.load_state_dict(data)
    out = model(x)
    out.backward(grad_out)
    grads = {f"grad.{n}": p.grad for n, p in model.named_parameters()}
    return {"out": out, "grad.input": x.grad, **grads}


def run_params_macs(args):
    table = {}
    for name, preset in PRESETS.items():
        o = {**TIC_DEFAULTS, **preset}
        with torch.device("meta"):
            params = sum(p.numel() for p in Tic(**preset).parameters())
        table[name] = {"params": params, "macs": {str(s): macs(o, s, s) for s in args.size}}
    print(json.dumps(table))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    check = verbs.add_parser("check", help="outputs and gradients of a case in a file")
    check.add_argument("--input", required=True)
    check.add_argument("--options", required=True)
    check.add_argument("--output", required=True)
    check.add_argument("--dtype", default="float64", choices=["float64", "float32"])
    check.set_defaults(run=run_check)
    count = verbs.add_parser("params-macs", help="parameters and multiply-adds of the presets")
    count.add_argument("--size", type=int, nargs="+", default=[224, 384, 512, 1024])
    count.set_defaults(run=run_params_macs)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
