"""tests/real/blocks: values and what other tools store them as, and blocks and what they stand for.

blocks.gguf: `values` by the PyPI package gguf in each of its types. wide.gguf: `values` by ggml's own
quantiser, from the extension of the PyPI package xllamacpp (GGML_LIBRARY names its file
xllamacpp.abi3.so). read.gguf: made-up blocks of every type, their extremes among them, and `TYPE.values`,
what gguf reads in them."""
import ctypes
import json
import os
import pathlib

import gguf
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "real"
TYPES = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]
WIDE = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
READ = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
# Where the f16 scales of a block begin.
SCALES = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2),
          "Q6_K": (208,)}


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


def wide_values():
    random = np.random.default_rng(2)
    x = random.standard_normal((20, 256)).astype(np.float32)
    x *= np.exp(random.uniform(-6, 3, (20, 1))).astype(np.float32)
    x[0] = 0
    x[1] = -0.75
    x[2] = np.abs(x[2])
    x[3] = -np.abs(x[3])
    x[4, 32:64] = 0  # a group of nothing
    x[5, 64:] *= 1e-4  # groups whose scale is 0 in 6 bits of the largest one's
    x[6] = np.round(x[6])
    x[7] *= 1e-7
    x[8] = random.standard_t(2, 256)  # outliers
    x[9, :] = 0
    x[9, 100] = 3
    return x


def ggml_quantised(x, kind):
    library = ctypes.CDLL(os.environ["GGML_LIBRARY"])
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + 3 * [ctypes.c_int64] + [
        ctypes.c_void_p]
    library.ggml_quantize_init(int(kind))
    block, size = gguf.GGML_QUANT_SIZES[kind]
    out = np.zeros(x.size // block * size, np.uint8)
    written = library.ggml_quantize_chunk(int(kind), x.ctypes.data, out.ctypes.data, 0, *x.shape, None)
    assert written == out.size
    return out.reshape(len(x), -1)


def made_up_blocks(name):
    """Random bytes below scales that are ordinary, zero, negative, the least and the largest of f16; then all
    bits set, and none."""
    random = np.random.default_rng(sum(name.encode()))
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    rows = random.integers(0, 256, (8, size), dtype=np.uint8)
    rows[6, :], rows[7, :] = 255, 0
    scales = np.array([0.0123, -0.37, 0.0, 6e-8, 65504, -65504, 1, -1], np.float16)
    for k, at in enumerate(SCALES.get(name, (0,))):
        rows[:, at:at + 2] = np.roll(scales, k).view(np.uint8).reshape(8, 2)
    return rows


def write(name, tensors):
    writer = gguf.GGUFWriter(ROOT / "blocks" / name, "llama")
    for tensor, data, kind in tensors:
        writer.add_tensor(tensor, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


KIND = gguf.GGMLQuantizationType
(ROOT / "blocks").mkdir(exist_ok=True)
x = values()
write("blocks.gguf",
      [("values", x, None)] + [(n, gguf.quants.quantize(x, KIND[n]), KIND[n]) for n in TYPES])
wide = wide_values()
write("wide.gguf", [("values", wide, None)] + [(n, ggml_quantised(wide, KIND[n]), KIND[n]) for n in WIDE])
made_up = {n: made_up_blocks(n) for n in READ}
tensors = []
for name, blocks in made_up.items():
    with np.errstate(over="ignore"):
        right = gguf.quants.dequantize(blocks, KIND[name])
    assert np.isfinite(right).all()
    tensors += [(name, blocks, KIND[name]), (name + ".values", right, None)]
write("read.gguf", tensors)
rows = [{"name": name, "file": "blocks.gguf", "type": name,
         "made_by": f"gguf 0.19.0, quants.quantize to {name}"} for name in TYPES]
rows += [{"name": "ggml_" + name, "file": "wide.gguf", "type": name,
          "made_by": f"xllamacpp 2026.10.11549, ggml_quantize_chunk to {name}"} for name in WIDE]
rows += [{"name": "read_" + name, "file": "read.gguf", "type": name, "values": name + ".values",
          "made_by": f"gguf 0.19.0, quants.dequantize of {name}"} for name in READ]
(ROOT / "blocks.json").write_text(json.dumps({"rows": rows}, indent=1) + "\n")
