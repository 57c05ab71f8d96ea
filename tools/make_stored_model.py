"""Writes a GGUF file of Llama-2's 7B shape (or another) whose matrices are made-up blocks of Q4_K,
tensor by tensor, so that a model larger than memory in f32 can be trained and timed as it is stored.

    make_stored_model.py OUT.gguf [--layers 32] [--width 4096] [--inner 11008] [--heads 32]

Its weights have mean 0 and a deviation of 0.02; it has no tokenizer, so data are token files.
"""

import argparse
import struct

import numpy as np

F32, Q4_K, U32, FLOAT, STRING = 0, 12, 4, 6, 8
ALIGNMENT = 32


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def q4_k(random, rows, width):
    """Blocks of d, m | 12 bytes of scales | 128 of nibbles: x = d s q - m t, and m = 7.5 d."""
    blocks = np.empty((rows * width // 256, 144), np.uint8)
    blocks[:] = random.integers(0, 256, blocks.shape, np.uint8)
    d = 0.02 / 210
    blocks[:, :4] = np.frombuffer(np.array([d, 7.5 * d], np.float16).tobytes(), np.uint8)
    return blocks


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("output")
    for name, value in (("layers", 32), ("width", 4096), ("inner", 11008), ("heads", 32),
                        ("vocabulary", 32000), ("context", 4096)):
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    tensors = [("token_embd.weight", (a.vocabulary, a.width)), ("output_norm.weight", (a.width,)),
               ("output.weight", (a.vocabulary, a.width))]
    square, wide, tall = (a.width, a.width), (a.inner, a.width), (a.width, a.inner)
    for i in range(a.layers):
        tensors += [(f"blk.{i}.{name}.weight", shape) for name, shape in (
            ("attn_norm", (a.width,)), ("ffn_norm", (a.width,)), ("attn_q", square),
            ("attn_k", square), ("attn_v", square), ("attn_output", square), ("ffn_gate", wide),
            ("ffn_up", wide), ("ffn_down", tall))]
    pairs = [("general.architecture", STRING, "llama"), ("general.name", STRING, "made-up"),
             ("llama.context_length", U32, a.context), ("llama.embedding_length", U32, a.width),
             ("llama.block_count", U32, a.layers), ("llama.feed_forward_length", U32, a.inner),
             ("llama.attention.head_count", U32, a.heads),
             ("llama.attention.head_count_kv", U32, a.heads),
             ("llama.attention.layer_norm_rms_epsilon", FLOAT, 1e-5)]
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    for key, kind, value in pairs:
        form = {U32: "<I", FLOAT: "<f"}.get(kind)
        head += text(key) + struct.pack("<I", kind)
        head += text(value) if kind == STRING else struct.pack(form, value)
    offset = 0
    sizes = []
    for name, shape in tensors:
        kind = Q4_K if len(shape) == 2 else F32
        size = shape[0] * shape[1] // 256 * 144 if kind == Q4_K else 4 * shape[0]
        head += text(name) + struct.pack("<I", len(shape))
        head += b"".join(struct.pack("<Q", n) for n in reversed(shape))
        head += struct.pack("<IQ", kind, offset)
        offset += -(-size // ALIGNMENT) * ALIGNMENT
        sizes.append(size)
    random = np.random.default_rng(1)
    with open(a.output, "wb") as out:
        out.write(head + bytes(-len(head) % ALIGNMENT))
        for (name, shape), size in zip(tensors, sizes):
            if len(shape) == 1:
                np.ones(shape, np.float32).tofile(out)
            else:
                for row in range(0, shape[0], 1024):
                    q4_k(random, min(1024, shape[0] - row), shape[1]).tofile(out)
            out.write(bytes(-size % ALIGNMENT))


main()
