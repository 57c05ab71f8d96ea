#!/usr/bin/env python3
"""Writes tests/golden/kv_cache.json: what caches that evict hold at each step, and the text, by
tools/oracle_kv_cache.py in float64 on the small model of tests/golden/llama.

  make_cache_goldens.py [--golden tests/golden]

Each case: the options as chat_llama takes them, the prompt, the ids, and for each token picked the
positions held, [layer][key head]; `later`: a second block that is fed after the ids, and what is
held then. Needs torch, safetensors.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import load_file

from oracle_kv_cache import Model, Oracle

PROMPT = [7, 3, 11, 28, 5, 19, 3, 33, 12, 8, 21, 14, 30, 2, 17, 25, 9, 36, 4, 22]
LATER = [6, 13, 29, 10, 38]
CASES = [
    {"kv": "h2o", "kv_budget": "8"},
    {"kv": "h2o", "kv_budget": "75%", "kv_heavy": 0.3, "kv_scores": "max"},
    {"kv": "h2o", "kv_budget": "9", "kv_sinks": 2, "kv_positions": "rolled"},
    {"kv": "h2o", "kv_budget": "30", "kv_positions": "rolled", "kv_scores": "max"},
    {"kv": "sink", "kv_budget": "7", "kv_positions": "rolled"},
    {"kv": "local", "kv_budget": "6"},
]


def held(oracle):
    return [[head.position[:] for head in layer] for layer in oracle.cache]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--golden", default="tests/golden")
    folder = pathlib.Path(parser.parse_args().golden)
    config = next(c["config"] for c in json.loads((folder / "llama.json").read_text())["cases"]
                  if c["name"] == "untied")
    weights = {name.removeprefix("parameters."): w
               for name, w in load_file(folder / "llama.safetensors").items()
               if name.startswith("parameters.")}
    model = Model(config, weights, torch.float64)
    cases = []
    for case in CASES:
        options = argparse.Namespace(**{"kv_heavy": 0.5, "kv_sinks": None, "kv_scores": "sum",
                                        "kv_positions": "original", **case})
        oracle = Oracle(model, options, len(PROMPT))
        logits = model.run(PROMPT, list(range(len(PROMPT))), oracle.attend)
        ids, kept = [], []
        for step in range(24):
            ids.append(int(logits.argmax()))
            kept.append(held(oracle))
            logits = model.run(ids[-1:], [len(PROMPT) + step], oracle.attend)
        seen = len(PROMPT) + len(ids)
        logits = model.run(LATER, list(range(seen, seen + len(LATER))), oracle.attend)
        cases.append({**case, "prompt": PROMPT, "ids": ids, "kept": kept, "later": LATER,
                      "kept_after": held(oracle), "next": int(logits.argmax())})
    text = json.dumps({"cases": cases}, separators=(",", ":"))
    (folder / "kv_cache.json").write_text(text + "\n")


main()
