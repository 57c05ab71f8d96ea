"""A family of goldens: its cases, its two files, and the numbers that go in."""

import json
import os
import zlib

import torch
from safetensors.torch import save_file

F64 = torch.float64


class Family:
    """Cases of one file; `add` computes gradients of every float input by autograd."""

    def __init__(self, name, dtype=F64):
        self.name, self.dtype, self.tensors, self.cases = name, dtype, {}, []

    def add(self, case, function, inputs, constants=(), **options):
        """inputs: {name: tensor}; those in `constants` or of integer type get no gradient."""
        inputs = {n: t.clone() for n, t in inputs.items()}
        leaves = {n: t for n, t in inputs.items() if t.is_floating_point() and n not in constants}
        for t in leaves.values():
            t.requires_grad_()
        out = function(*inputs.values())
        grad_out = random(f"{case}.grad_out", *out.shape)
        grads = torch.autograd.grad(out, list(leaves.values()), grad_out)
        results = {"grad_out": grad_out, "out": out}
        results.update({f"grad_{n}": g for n, g in zip(leaves, grads)})
        self.put(case, {**inputs, **results}, **options)

    def put(self, case, tensors, **options):
        for name, t in tensors.items():
            t = t.detach()
            t = t.to(self.dtype) if t.is_floating_point() else t.to(torch.int32)
            self.tensors[f"{case}.{name}"] = t.contiguous().clone()
        self.cases.append({"name": case, **options})

    def save(self, folder, **extra):
        write_json(os.path.join(folder, f"{self.name}.json"), {**extra, "cases": self.cases})
        path = os.path.join(folder, f"{self.name}.safetensors")
        save_file(self.tensors, path, metadata={"format": "pt"})
        os.chmod(path, 0o644)  # safetensors gives no one else a look


def write_json(path, content):
    with open(path, "w") as f:
        json.dump(content, f, indent=1)
        f.write("\n")


def generator(name):
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def random(name, *shape):
    """Normal numbers that float32 holds exactly."""
    values = torch.randn(shape, generator=generator(name), dtype=torch.float32)
    return values.to(F64)
