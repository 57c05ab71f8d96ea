"""tests/real/blocks: values and what the PyPI package gguf stores them as, all in one GGUF file."""
import json
import pathlib

import gguf
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "real"
TYPES = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]


def values():
    random = np.random.default_rng(1)
    x = random.standard_normal((48, 64)).astype(np.float32)
    x *= np.exp(random.uniform(-6, 3, (48, 1))).astype(np.float32)
    x[0] = 0
    x[1] = -0.75  # all the same
    x[2] = np.abs(x[2])
    x[3] = -np.abs(x[3])
    x[4, 1::2] = 0
    x[5] = np.tile([1, -1], 32)  # two of largest magnitude: the first one counts
    x[6] = np.round(x[6]) / 2 + 0.0  # halves, which have to be rounded; no -0, whose minimum is either
    x[7] *= 1e-6  # scales that f16 rounds to a few bits
    return x


x = values()
(ROOT / "blocks").mkdir(exist_ok=True)
writer = gguf.GGUFWriter(ROOT / "blocks" / "blocks.gguf", "llama")
writer.add_tensor("values", x)
for name in TYPES:
    kind = gguf.GGMLQuantizationType[name]
    writer.add_tensor(name, gguf.quants.quantize(x, kind), raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
rows = [{"name": name, "file": "blocks.gguf",
         "made_by": f"gguf 0.19.0, quants.quantize to {name}"}
        for name in TYPES]
(ROOT / "blocks.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")
