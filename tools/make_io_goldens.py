#!/usr/bin/env python3
"""Writes tests/golden/io: small files by the PyPI packages safetensors and gguf, against which our
readers are tested. Needs numpy, safetensors and gguf; the files are committed, so only someone who
changes this script runs it.

  types.safetensors     one tensor of each element type, a scalar, an empty tensor, metadata
  blocks.gguf           one tensor of each GGUF type that is read, random blocks, metadata of each kind
  blocks.safetensors    the same tensors in f32, dequantised by the gguf package
  permute.safetensors   q rows in both orders, reordered as llama.cpp's converter does

and tests/fuzz/corpus: seeds of the fuzz harnesses.
"""
import json
import pathlib
import shutil

import gguf
import numpy as np
from safetensors.numpy import save_file
from safetensors import TensorSpec, serialize_file

out = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "io"
rng = np.random.default_rng(7)


def write_types():
    tensors, alive = {}, []

    def add(name, dtype, array):
        alive.append(array)  # a TensorSpec holds no reference
        tensors[name] = TensorSpec(dtype=dtype, shape=list(array.shape),
                                   data_ptr=array.ctypes.data, data_len=array.nbytes)

    values = np.array([[1.5, -2.0, 0.25], [3.0, 65504.0, -6e-8]])
    add("f32", "float32", values.astype(np.float32))
    add("f64", "float64", values)
    add("f16", "float16", values.astype(np.float16))
    add("bf16", "bfloat16", (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16))
    add("i64", "int64", np.array([-1, 2**40]))
    add("i32", "int32", np.array([-7, 8], np.int32))
    add("u8", "uint8", np.array([0, 255], np.uint8))
    add("bool", "bool", np.array([True, False]))
    add("scalar", "float32", np.array(4.0, np.float32))
    add("empty", "float32", np.zeros((0, 3), np.float32))
    serialize_file(tensors, out / "types.safetensors", {"format": "pt", "note": "caf\u00e9"})


def random_blocks(kind, rows, cols):
    """Random bytes whose f16 scales are ordinary numbers."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    data = rng.integers(0, 256, (rows, cols // block, size), dtype=np.uint8)
    scales = rng.normal(0, 0.05, (rows, cols // block, 2)).astype(np.float16).view(np.uint8)
    scales = scales.reshape(rows, cols // block, 4)
    if kind == gguf.GGMLQuantizationType.Q6_K:
        data[..., -2:] = scales[..., :2]
    elif kind in (gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q5_1):
        data[..., :4] = scales
    else:
        data[..., :2] = scales[..., :2]
    return data.reshape(rows, -1)


def write_blocks():
    writer = gguf.GGUFWriter(out / "blocks.gguf", "test")
    writer.add_uint8("k.u8", 200)
    writer.add_int8("k.i8", -5)
    writer.add_uint16("k.u16", 60000)
    writer.add_int32("k.i32", -70000)
    writer.add_uint32("k.u32", 4000000000)
    writer.add_uint64("k.u64", 2**63)
    writer.add_int64("k.i64", -(2**40))
    writer.add_float32("k.f32", 0.5)
    writer.add_float64("k.f64", 1e-300)
    writer.add_bool("k.bool", True)
    writer.add_string("k.string", "caf\u00e9")
    writer.add_array("k.strings", ["a", "", "\u2581b"])
    writer.add_array("k.floats", [0.5, -1.5])
    writer.add_array("k.ints", [1, -2, 3])
    expected = {}
    plain = rng.normal(0, 1, (3, 64)).astype(np.float32)
    writer.add_tensor("f32", plain)
    expected["f32"] = plain
    writer.add_tensor("f16", plain.astype(np.float16))
    expected["f16"] = plain.astype(np.float16).astype(np.float32)
    kinds = gguf.GGMLQuantizationType
    bf16 = gguf.quants.quantize(plain, kinds.BF16)
    writer.add_tensor("bf16", bf16, raw_dtype=kinds.BF16)
    expected["bf16"] = gguf.quants.dequantize(bf16, kinds.BF16)
    for kind in (kinds.Q8_0, kinds.Q4_0, kinds.Q4_1, kinds.Q5_0, kinds.Q5_1, kinds.Q6_K):
        cols = 512 if kind == kinds.Q6_K else 96
        data = random_blocks(kind, 2, cols)
        name = kind.name.lower()
        writer.add_tensor(name, data, raw_dtype=kind)
        expected[name] = gguf.quants.dequantize(data, kind).astype(np.float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, out / "blocks.safetensors", {"format": "pt"})


def write_permutation():
    heads, width, cols = 3, 8, 4
    hf = np.arange(heads * width * cols, dtype=np.float32).reshape(heads * width, cols)
    interleaved = hf.reshape(heads, 2, width // 2, cols).swapaxes(1, 2).reshape(hf.shape)
    save_file({"half_split": hf, "interleaved": np.ascontiguousarray(interleaved)},
              out / "permute.safetensors", {"format": "pt"})


def interleave(rows, heads):
    shape = rows.shape
    return rows.reshape(heads, 2, shape[0] // heads // 2, shape[1]).swapaxes(1, 2).reshape(shape)


def write_tiny_llama(path):
    """One layer, width 8, two query heads, one key-value head, heads of 4, ten tokens."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(12)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(10)
    writer.add_bos_token_id(1)
    writer.add_token_list([f"t{i}" for i in range(10)])
    shapes = {"token_embd": (10, 8), "output_norm": (8,), "blk.0.attn_norm": (8,),
              "blk.0.attn_q": (8, 8), "blk.0.attn_k": (4, 8), "blk.0.attn_v": (4, 8),
              "blk.0.attn_output": (8, 8), "blk.0.ffn_norm": (8,), "blk.0.ffn_gate": (12, 8),
              "blk.0.ffn_up": (12, 8), "blk.0.ffn_down": (8, 12)}
    for name, shape in shapes.items():
        data = rng.normal(0, 1, shape).astype(np.float32)
        if name.endswith(("attn_q", "attn_k")):
            data = np.ascontiguousarray(interleave(data, 2 if name.endswith("q") else 1))
        writer.add_tensor(name + ".weight", data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_corpus():
    corpus = out.parent.parent / "fuzz" / "corpus"
    for name in ("gguf", "safetensors", "json"):
        (corpus / name).mkdir(parents=True, exist_ok=True)
    write_tiny_llama(corpus / "gguf" / "llama.gguf")
    shutil.copyfile(out / "blocks.gguf", corpus / "gguf" / "blocks.gguf")
    shutil.copyfile(out / "types.safetensors", corpus / "safetensors" / "types.safetensors")
    shutil.copyfile(out / "permute.safetensors", corpus / "safetensors" / "permute.safetensors")
    model = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 512,
             "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 5,
             "num_attention_heads": 8, "num_key_value_heads": 4, "hidden_act": "silu",
             "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
             "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": [2, 3],
             "pad_token_id": None, "torch_dtype": "bfloat16"}
    scalings = {"none": None, "linear": {"type": "linear", "factor": 4.0},
                "llama3": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                           "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}
    for name, scaling in scalings.items():
        text = json.dumps(model | {"rope_scaling": scaling})
        (corpus / "json" / f"model_{name}.json").write_text(text)
    adapter = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "bias": "none",
               "target_modules": ["q_proj", "k_proj"], "modules_to_save": ["embed_tokens", "norm"],
               "rank_pattern": {}, "use_dora": False, "use_rslora": True}
    (corpus / "json" / "adapter.json").write_text(json.dumps(adapter, indent=2))
    odd = '[0, -0, 1e3, 1.5e-7, 18446744073709551616, "\\u00e9\\ud83d\\ude00\\n", {"": [[], {}]}, null, true]'
    (corpus / "json" / "values.json").write_text(odd)


if __name__ == "__main__":
    out.mkdir(parents=True, exist_ok=True)
    write_types()
    write_blocks()
    write_permutation()
    write_corpus()
