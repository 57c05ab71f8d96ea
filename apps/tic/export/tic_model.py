"""TiC in PyTorch: the model of this folder (config.json, model.safetensors), for use elsewhere.

    import torch, tic_model
    model = tic_model.load("FOLDER")                 # eval mode; needs torch and safetensors
    logits = model(images)                           # (B, 3, H, W), normalised as config.json says

With timm, `import tic_model` registers the model as "mullion_tic" with the sizes and numbers of
this folder, so that timm.create_model("mullion_tic", pretrained=True) loads it and timm's
validate.py, started from a script that imports this file first, measures it.

TiC is Zhang et al.'s (arXiv 2310.04134): self-attention inside convolution. The paper's abstract
and its operator are public; the model around them is Mullion's reconstruction. Any image size
works. Keys and values are copied once a tap here (unfold): clear, and slower than Mullion.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

FOLDER = Path(__file__).resolve().parent


def directions(size):
    """The four rolls of the Multi-Directional Cyclic Shift: down, up, right, left."""
    return [(size, 0), (-size, 0), (0, size), (0, -size)]


class MsaConv(nn.Module):
    """Each pixel attends to the window of keys around it; (B, H, W, C) in and out."""

    def __init__(self, dim, args, heads, shift, project):
        super().__init__()
        self.heads, self.shift = heads, shift
        self.kernel, self.dilation = tuple(args["kernel"]), args["dilation"]
        self.masked = args["border"] == "masked"
        self.pool = args["kv_pool"] if args["pool"] == "kv" else 1
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim) if project else None

    def taps(self, z):
        """(B, C, H, W) to (B, C, taps, H, W), zeros outside of the map."""
        pad = [self.dilation * (k - 1) // 2 for k in self.kernel]
        b, c, h, w = z.shape
        rows = F.unfold(z, self.kernel, dilation=self.dilation, padding=pad)
        return rows.view(b, c, -1, h, w)

    def keys(self, z):
        if self.pool > 1:
            z = F.avg_pool2d(z, self.pool, self.pool, ceil_mode=True, count_include_pad=False)
        kind, rolls = self.shift
        if kind == "groups":
            parts = z.chunk(len(rolls), dim=1)
            z = torch.cat([torch.roll(p, r, (2, 3)) for p, r in zip(parts, rolls)], 1)
        return z

    def forward(self, x):
        b, height, width, channels = x.shape
        q, k, v = (z.permute(0, 3, 1, 2) for z in self.qkv(x).chunk(3, dim=-1))
        kind, rolls = self.shift
        if kind == "map":
            q, k, v = (torch.roll(z, rolls[0], (2, 3)) for z in (q, k, v))
        k, v = self.keys(k), self.keys(v)
        inside = self.taps(torch.ones_like(k[:1, :1]))
        k, v = self.taps(k), self.taps(v)
        if self.pool > 1:  # the query at (y, x) stands in the cell (y // pool, x // pool)
            rows = torch.arange(height, device=x.device) // self.pool
            columns = torch.arange(width, device=x.device) // self.pool
            k, v, inside = (z[..., rows, :][..., columns] for z in (k, v, inside))
        split = (b, self.heads, channels // self.heads)
        q = q.reshape(*split, 1, height, width)
        k, v = (z.reshape(*split, -1, height, width) for z in (k, v))
        logits = (q * k).sum(2) * split[2] ** -0.5
        if self.masked:
            inside = inside > 0
            inside = inside | ~inside.any(2, keepdim=True)  # a window may lie outside as a whole
            logits = logits.masked_fill(~inside, float("-inf"))
        out = (logits.softmax(2).unsqueeze(2) * v).sum(3).reshape(b, channels, height, width)
        if kind == "map":
            out = torch.roll(out, tuple(-n for n in rolls[0]), (2, 3))
        out = out.permute(0, 2, 3, 1)
        return self.proj(out) if self.proj else out


class Mlp(nn.Module):
    def __init__(self, dim, args):
        super().__init__()
        hidden = args["mlp_ratio"] * dim
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = (
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden) if args["mlp_dwconv"] else None
        )
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x):
        x = self.fc1(x)
        if self.dwconv:
            x = self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.fc2(F.gelu(x))


class Block(nn.Module):
    def __init__(self, dim, args, heads, shift):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = MsaConv(dim, args, heads, shift, project=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, args)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ReleasedBlock(nn.Module):
    """The paper's released operator: relu(conv(O(z) + z)), z = LN(x)."""

    def __init__(self, dim, out_dim, args, heads, shift):
        super().__init__()
        kernel, d = tuple(args["kernel"]), args["dilation"]
        pad = tuple(d * (k - 1) // 2 for k in kernel)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = MsaConv(dim, args, heads, shift, project=False)
        self.conv = nn.Conv2d(dim, out_dim, kernel, out_dim // dim, pad, dilation=d, bias=False)

    def forward(self, x):
        z = self.norm1(x)
        return F.relu(self.conv((self.attn(z) + z).permute(0, 3, 1, 2))).permute(0, 2, 3, 1)


class PatchConv(nn.Module):
    """A convolution of stride p, then a norm; sizes that p does not divide get zeros at the end."""

    def __init__(self, dim, out_dim, side, pooled=False):
        super().__init__()
        self.side, self.pooled = side, pooled
        self.conv = nn.Conv2d(dim, out_dim, 1 if pooled else side, 1 if pooled else side)
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, x):
        if self.pooled:
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        else:
            x = F.pad(x, (0, -x.shape[3] % self.side, 0, -x.shape[2] % self.side))
        return self.norm(self.conv(x).permute(0, 2, 3, 1))


class Stage(nn.Module):
    def __init__(self, blocks, downsample):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.downsample(x.permute(0, 3, 1, 2)) if self.downsample else x


class Tic(nn.Module):
    """Images (B, in_chans, H, W) to logits (B, num_classes)."""

    def __init__(self, args):
        super().__init__()
        released = args["block"] == "released"
        self.num_classes = args["num_classes"]
        self.stem = PatchConv(args["in_chans"], args["dim"], args["patch"])
        stages, shifted = [], 0
        for i, depth in enumerate(args["depths"]):
            dim, last, blocks = args["dim"] << i, i + 1 == len(args["depths"]), []
            heads = dim if args["variant"] == "depthwise" else args["heads"][i]
            for j in range(depth):
                shift = self.shift_of(args, j, heads, shifted)
                shifted += j % 2
                if released:
                    out_dim = 2 * dim if j + 1 == depth and not last else dim
                    blocks.append(ReleasedBlock(dim, out_dim, args, heads, shift))
                else:
                    blocks.append(Block(dim, args, heads, shift))
            down = None
            if not last and not released:
                down = PatchConv(dim, 2 * dim, 2, pooled=args["pool"] == "inter")
            stages.append(Stage(blocks, down))
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, args["num_classes"])

    @staticmethod
    def shift_of(args, block, heads, shifted):
        """(what is rolled, by which (dy, dx)) of a block; every other one of a stage is shifted."""
        size = args["shift_size"] or max(args["kernel"])
        if block % 2 == 0 or args["shift"] == "off":
            return "nothing", []
        if args["shift"] == "roll_map":
            return "map", [(-size, -size)]
        if args["shift"] == "per_layer":
            return "groups", [directions(size)[shifted % 4]]
        if heads < 4:  # the channels are quartered
            return "groups", directions(size)
        return "groups", [directions(size)[4 * g // heads] for g in range(heads)]

    def forward_features(self, x):
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.norm(x)

    def forward(self, x):
        return self.head(self.forward_features(x).mean(dim=(1, 2)))


def config(folder=FOLDER):
    return json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))


def load(folder=FOLDER, weights="model.safetensors"):
    from safetensors.torch import load_file

    model = Tic(config(folder)["model_args"])
    model.load_state_dict(load_file(str(Path(folder) / weights)))
    return model.eval()


try:
    from timm.models import register_model
except ImportError:
    pass
else:

    @register_model
    def mullion_tic(pretrained=False, **kwargs):
        """The model of this file's folder; `num_classes` must be its own."""
        found = config()
        args = found["model_args"]
        for name in ("num_classes", "in_chans"):
            if kwargs.get(name) not in (None, args[name]):
                raise ValueError(f"{name} {kwargs[name]}: the folder's model has {args[name]}")
        model = load() if pretrained else Tic(args)
        model.pretrained_cfg = model.default_cfg = found["pretrained_cfg"]
        return model
