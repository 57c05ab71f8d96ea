#!/usr/bin/env python3
"""Writes tests/real/dropout and dropout.json: adapters of PEFT with lora_dropout, and the loss and the
gradients of A and B that PEFT computes in training mode where its dropout has this project's masks.

A mask is a function of (seed, projection, pass): element i of the input of a projection is kept where
number i of a stream of Philox4x32-10 (tensor/random.h) is below 1 - p.
    python3 tools/real/make_dropout.py      (with make_adapters.py's environment; its bases are there)
"""
import json
import numpy
import peft
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from llama_rows import Rows

MASK64 = (1 << 64) - 1
IDS = [[1, 5, 9, 2, 7, 3, 11, 4], [6, 6, 0, 23, 8, 14, 3, 2]]
SEED, PASS = 7, 12


def mix_bits(a, b):
    z = (a * 0x9E3779B97F4A7C15 + b + 0xD1B54A32D192ED03) & MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


def stream_of(name):  # FNV-1a
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK64
    return value


def philox(seed, stream, block):
    low = 0xFFFFFFFF
    c = [block & low, block >> 32, stream & low, stream >> 32]
    k = [seed & low, seed >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q & low, (p >> 32) ^ c[3] ^ k[1], p & low]
        k = [(k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low]
    return c


class FixedDropout(torch.nn.Module):
    def __init__(self, p, seed):
        super().__init__()
        self.p, self.seed = p, seed

    def forward(self, x):
        words = [w for block in range((x.numel() + 3) // 4) for w in philox(self.seed, PASS, block)]
        uniform = (numpy.array(words[:x.numel()]) >> 8).astype(numpy.float32) * numpy.float32(2**-24)
        kept = torch.from_numpy(uniform < numpy.float32(1 - self.p)).reshape(x.shape)
        return x * kept.to(x.dtype) / (1 - self.p)


def made(rows, name, p, **changes):
    fields = dict(r=2, lora_alpha=6, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM",
                  lora_dropout=p)
    fields.update(changes)
    base = AutoModelForCausalLM.from_pretrained(rows.folder.parent / "adapters" / "base")
    torch.manual_seed(3)
    model = get_peft_model(base, LoraConfig(**fields))
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "lora_" in key:
                value.copy_(0.3 * torch.randn(value.shape))
    path = rows.path(name)
    model.save_pretrained(path)
    (path / "README.md").unlink()
    config = json.loads((path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "someone/tiny"
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    model = model.double().train()
    for key, module in model.named_modules():
        if hasattr(module, "lora_dropout") and p > 0:
            projection = key.removeprefix("base_model.model.")
            seed = mix_bits(SEED, stream_of(projection + ".lora_dropout"))
            module.lora_dropout["default"] = FixedDropout(p, seed)
    ids = torch.tensor(IDS)
    logits = model(ids).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]),
                                             ids[:, 1:].reshape(-1))
    loss.backward()
    gradients = {}
    for key, value in model.named_parameters():
        if "lora_" in key:
            key = key.removeprefix("base_model.model.").replace(".default", "")
            gradients[key] = [round(v, 8) for v in value.grad.flatten().tolist()]
    rows.add(name, name, f"peft {peft.__version__}, lora_dropout {p}, {changes}", p=p, seed=SEED,
             tokens=IDS, loss=round(loss.item(), 8), gradients=gradients, **{"pass": PASS})


if __name__ == "__main__":
    rows = Rows("dropout")
    made(rows, "none", 0.0)
    made(rows, "tenth", 0.1)
    made(rows, "half", 0.5, r=3)
    made(rows, "all_projections", 0.3, target_modules=[
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
    rows.write()
