#!/usr/bin/env python3
"""Caches that evict, written down once more in plain PyTorch, and compared with chat_llama.

    tools/oracle_kv_cache.py MODEL_FOLDER --trace FILE --tokens 200 --kv h2o --kv-budget 40 \
        [--kv-heavy 0.5] [--kv-sinks 0] [--kv-positions rolled] [--kv-scores max]

MODEL_FOLDER is a LLaMA in Hugging Face's form (f32). FILE is what `chat_llama complete --kv-trace
FILE` wrote: the ids of the prompt, and at every token, for every layer and key head, the positions that
are held. Both must be equal, token by token; a difference ends the comparison and shows the scores of
what was exchanged. Nothing here is shared with the
project: a head's cache is a list of positions with the keys and values that belong to them, and
every step builds attention anew from these lists.
"""
import argparse
import json
import math
import pathlib
import sys

import torch
from safetensors.torch import load_file

torch.set_grad_enabled(False)


class Model:
    def __init__(self, config, weights, dtype):
        self.c = c = config
        self.w = {name: w.to(dtype) for name, w in weights.items()}
        self.H = c["num_attention_heads"]
        self.G = c.get("num_key_value_heads", self.H)
        self.D = c.get("head_dim") or c["hidden_size"] // self.H
        self.layers = c["num_hidden_layers"]
        theta = c.get("rope_theta", 10000.0)
        self.freq = 1.0 / theta ** (torch.arange(0, self.D, 2, dtype=torch.float32) / self.D)
        self.dtype = dtype

    def norm(self, x, name):
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.c.get("rms_norm_eps", 1e-6))
        return x * scale * self.w[name]

    def rotate(self, x, positions):
        """x (n, D) at the positions (n)."""
        angle = (torch.tensor(positions, dtype=torch.float32)[:, None] * self.freq).double()
        cos, sin = angle.cos().to(self.dtype), angle.sin().to(self.dtype)
        a, b = x[:, : self.D // 2], x[:, self.D // 2 :]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def run(self, ids, positions, attend):
        """Logits of the last token; attend(layer, q, k, v) with (n, heads, D) of the new tokens."""
        x = self.w["model.embed_tokens.weight"][torch.tensor(ids)]
        for i in range(self.layers):
            w = lambda name: self.w[f"model.layers.{i}.{name}.weight"]
            y = self.norm(x, f"model.layers.{i}.input_layernorm.weight")
            q = (y @ w("self_attn.q_proj").T).view(-1, self.H, self.D)
            k = (y @ w("self_attn.k_proj").T).view(-1, self.G, self.D)
            v = (y @ w("self_attn.v_proj").T).view(-1, self.G, self.D)
            x = x + attend(i, q, k, v, positions).flatten(1) @ w("self_attn.o_proj").T
            y = self.norm(x, f"model.layers.{i}.post_attention_layernorm.weight")
            gate = torch.nn.functional.silu(y @ w("mlp.gate_proj").T)
            x = x + (gate * (y @ w("mlp.up_proj").T)) @ w("mlp.down_proj").T
        x = self.norm(x[-1:], "model.norm.weight")
        head = self.w.get("lm_head.weight", self.w["model.embed_tokens.weight"])
        return (x @ head.T)[0]


def load(folder, dtype):
    folder = pathlib.Path(folder)
    weights = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    return Model(json.loads((folder / "config.json").read_text()), weights, dtype)


class HeadCache:
    """What one key head of one layer holds: positions ascending, keys not rotated."""

    def __init__(self, query_heads):
        self.position, self.k, self.v = [], [], []
        self.score = [[] for _ in range(query_heads)]


class Oracle:
    def __init__(self, model, o, prompt_tokens):
        self.m, self.o = model, o
        self.share = model.H // model.G
        n = o.kv_budget
        is_part = n.endswith("%")
        self.budget = max(1, int(float(n[:-1]) * prompt_tokens / 100)) if is_part else int(n)
        by_score = math.floor(self.budget * o.kv_heavy) if o.kv == "h2o" else 0
        self.sinks = o.kv_sinks if o.kv_sinks is not None else (4 if o.kv == "sink" else 0)
        self.heavy = by_score - self.sinks if o.kv == "h2o" else 0
        self.recent = self.budget - self.sinks - self.heavy
        self.cache = [[HeadCache(self.share) for _ in range(model.G)] for _ in range(model.layers)]

    def total(self, head, i):
        scores = [s[i] for s in head.score]
        return max(scores) if self.o.kv_scores == "max" else sum(scores)

    def attend(self, layer, q, k, v, positions):
        m, result = self.m, torch.empty_like(q)
        for g in range(m.G):
            head = self.cache[layer][g]
            before = len(head.position)
            head.position += positions
            head.k += list(k[:, g])
            head.v += list(v[:, g])
            for s in head.score:
                s += [0.0] * len(positions)
            rolled = self.o.kv_positions == "rolled"
            places = list(range(len(head.position))) if rolled else head.position
            keys, values = m.rotate(torch.stack(head.k), places), torch.stack(head.v)
            order = torch.arange(len(places))
            for j in range(self.share):
                h = g * self.share + j
                query = m.rotate(q[:, h], places[before:])
                logits = query @ keys.T / math.sqrt(m.D)
                logits[order[None, :] > order[before:, None]] = -math.inf
                p = torch.softmax(logits, -1)
                result[:, h] = p @ values
                for i, add in enumerate(p.sum(0).tolist()):
                    head.score[j][i] += add
            self.evict(head)
        return result

    def evict(self, head):
        n = len(head.position)
        if n <= self.budget:
            return
        middle = range(self.sinks, n - self.recent)
        by_score = sorted(middle, key=lambda i: (-self.total(head, i), i))[: self.heavy]
        kept = sorted([*range(self.sinks), *by_score, *range(n - self.recent, n)])
        head.lost = {i: self.total(head, i) for i in middle if i not in by_score}
        head.least = min((self.total(head, i) for i in by_score), default=0.0)
        for name in ("position", "k", "v"):
            setattr(head, name, [getattr(head, name)[i] for i in kept])
        head.score = [[s[i] for i in kept] for s in head.score]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--ids", help="of the prompt, where there is no trace")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--kv", default="h2o")
    parser.add_argument("--kv-budget", default="40")
    parser.add_argument("--kv-heavy", type=float, default=0.5)
    parser.add_argument("--kv-sinks", type=int)
    parser.add_argument("--kv-positions", default="original")
    parser.add_argument("--kv-scores", default="sum")
    parser.add_argument("--trace")
    parser.add_argument("--f64", action="store_true")
    o = parser.parse_args()
    model = load(o.model, torch.float64 if o.f64 else torch.float32)
    trace = [json.loads(line) for line in open(o.trace)] if o.trace else None
    prompt = trace.pop(0)["prompt"] if trace else [int(x) for x in o.ids.split(",")]
    oracle = Oracle(model, o, len(prompt))
    logits = model.run(prompt, list(range(len(prompt))), oracle.attend)
    ids, compared = [], 0
    for step in range(o.tokens):
        token = int(logits.argmax())
        held = [[head.position[:] for head in layer] for layer in oracle.cache]
        ids.append(token)
        if trace:
            if step >= len(trace):
                sys.exit(f"the trace ends at step {step}")
            for i, layer in enumerate(held):
                for g, positions in enumerate(layer):
                    compared += 1
                    other = trace[step]["kept"][i][g]
                    if other != positions:
                        head = oracle.cache[i][g]
                        sys.exit(f"step {step}, layer {i}, head {g}: kept here only "
                                 f"{set(positions) - set(other)}, there only "
                                 f"{set(other) - set(positions)}; least kept score {head.least}, "
                                 f"lost {head.lost}")
            if trace[step]["token"] != token:
                sys.exit(f"step {step}: token {token} here, {trace[step]['token']} there")
        logits = model.run([token], [len(prompt) + step], oracle.attend)
    print(f"{len(ids)} tokens, budget {oracle.budget} = {oracle.sinks} sinks + {oracle.heavy} by "
          f"score + {oracle.recent} recent: {compared} kept sets equal")


if __name__ == "__main__":
    main()
