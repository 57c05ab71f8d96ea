"""tests/real/models: LLaMA models as transformers saves them and as the package gguf writes them,
with the logits that transformers computes (f32), or what a refusal must name."""
import json
import os
import shutil

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType as Q
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaForSequenceClassification, LlamaModel

from llama_rows import MAJOR, Rows, config, logits, model

rows = Rows("models")
TOOL = f"transformers {transformers.__version__}"


def saved(name, made, how="save_pretrained", error=None, edit=None, oracle=True, note=None, **save):
    """A folder of save_pretrained, its config.json changed by `edit`, and what transformers reads."""
    name = f"{name}_tf{MAJOR}"
    path = rows.path(name)
    made.save_pretrained(path, **save)
    (path / "generation_config.json").unlink(missing_ok=True)
    if edit:
        text = json.loads((path / "config.json").read_text())
        edit(text)
        (path / "config.json").write_text(json.dumps(text, indent=2) + "\n")
    fields = {}
    if error:
        fields["error"] = error
    elif oracle:
        read = AutoModelForCausalLM.from_pretrained(path, torch_dtype=torch.float32).eval()
        fields["logits"] = logits(read)
    if note:
        fields["note"] = note
    rows.add(name, name, f"{TOOL}, {how}", **fields)
    return path


LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}


def folders():
    saved("f32", model(1))
    saved("bf16", model(2).bfloat16(), "bfloat16")
    saved("f16", model(3).half(), "float16")
    saved("sharded", model(4), "max_shard_size 8KB", max_shard_size="8KB")
    saved("tied", model(5, tie_word_embeddings=True), "tie_word_embeddings")
    saved("wide_heads", model(6, num_attention_heads=2, num_key_value_heads=1, head_dim=12),
          "head_dim 12 of width 16 and 2 heads")
    saved("many_eos", model(7, eos_token_id=[2, 3]), "a list of eos_token_id")

    def theta(value, **scaling):
        return dict(rope_theta=value, **({"rope_scaling": scaling} if scaling else {}))

    def theta5(value, **scaling):
        return dict(rope_parameters={"rope_theta": value, "rope_type": "default", **scaling})

    rope = theta if MAJOR == 4 else theta5
    saved("rope_theta", model(8, **rope(500.0)), "rope_theta 500")
    saved("rope_linear", model(9, **rope(10000.0, rope_type="linear", factor=4.0)), "linear, 4")
    saved("rope_llama3", model(10, **rope(500.0, **LLAMA3)), "llama3")
    refused = "is not supported"
    saved("rope_dynamic", model(11, **rope(10000.0, rope_type="dynamic", factor=4.0)), "dynamic",
          error=["config.json", "dynamic", refused])
    saved("rope_yarn", model(12, **rope(10000.0, rope_type="yarn", factor=4.0,
                                        original_max_position_embeddings=16)), "yarn",
          error=["config.json", "yarn", refused])
    saved("attention_bias", model(13, attention_bias=True), "attention_bias",
          error=["config.json", "attention_bias"])
    saved("mlp_bias", model(14, mlp_bias=True), "mlp_bias", error=["config.json", "mlp_bias"])
    saved("gelu", model(15, hidden_act="gelu"), "hidden_act gelu",
          error=["config.json", "hidden_act", "gelu"])
    saved("no_head", LlamaModel(config()), "LlamaModel",
          error=["config.json", "architectures", "LlamaModel"])
    saved("classifier", LlamaForSequenceClassification(config()), "LlamaForSequenceClassification",
          error=["config.json", "architectures", "LlamaForSequenceClassification"])
    saved("logit_scale", model(16), "and a key that LLaMA does not have",
          edit=lambda c: c.update(logit_scale=0.5), note=["config.json", "logit_scale", "0.5"])
    mistral = transformers.MistralForCausalLM(transformers.MistralConfig(
        **{k: v for k, v in config().to_dict().items()
           if k in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                    "num_attention_heads", "num_key_value_heads")}, head_dim=4,
        max_position_embeddings=64, sliding_window=4))
    saved("mistral", mistral, "MistralForCausalLM", error=["config.json", "model_type", "mistral"])


def older_forms():
    """What only transformers 4 writes."""
    legacy = saved("legacy_linear", model(20, rope_scaling={"type": "linear", "factor": 2.0}),
                   "type without rope_type",
                   edit=lambda c: c.update(rope_scaling={"type": "linear", "factor": 2.0}))
    assert "rope_type" not in json.loads((legacy / "config.json").read_text())["rope_scaling"]
    saved("pickle", model(21), "safe_serialization False", safe_serialization=False,
          error=["pytorch_model.bin", "pickle"])
    # A hub cache: the snapshot's files are links to blobs, whose names are hashes.
    name, made = "hub_cache_tf4", model(22)
    repo = rows.path(name) / "models--someone--tiny"
    made.save_pretrained(repo / "save", max_shard_size="8KB")
    (repo / "blobs").mkdir()
    snapshot = repo / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    for i, file in enumerate(sorted((repo / "save").iterdir())):
        blob = f"{i:040x}"
        file.rename(repo / "blobs" / blob)
        os.symlink(f"../../blobs/{blob}", snapshot / file.name)
    shutil.rmtree(repo / "save")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(snapshot.name)
    read = AutoModelForCausalLM.from_pretrained(snapshot).eval()
    rows.add(name, f"{name}/models--someone--tiny",
             f"{TOOL}, save_pretrained in huggingface_hub's layout", logits=logits(read))


def newer_reading():
    """Files that transformers 4 and 5 read differently; the values are those of 5."""
    tied = model(30, tie_word_embeddings=True)
    generator = torch.Generator().manual_seed(31)
    for name, same in (("tied_own_head", False), ("tied_same_head", True)):
        path = saved(name, tied, "tied, and an lm_head.weight", oracle=False,
                     note=None if same else ["tie_word_embeddings", "lm_head.weight"])
        tensors = load_file(path / "model.safetensors")
        embed = tensors["model.embed_tokens.weight"]
        tensors["lm_head.weight"] = (embed.clone() if same
                                     else 0.3 * torch.randn(embed.shape, generator=generator))
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
        read = AutoModelForCausalLM.from_pretrained(path).eval()
        assert torch.equal(read.lm_head.weight, tensors["lm_head.weight"])
        rows.rows[f"{name}_tf5"]["logits"] = logits(read)

    def scaling(**fields):
        def edit(c):
            c.pop("rope_parameters", None)
            c.update(fields)
        return edit

    inside = {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}
    saved("theta_in_scaling", model(32), "rope_theta in rope_scaling alone",
          edit=scaling(rope_scaling=inside))
    saved("theta_twice", model(33), "rope_theta twice, differing",
          edit=scaling(rope_scaling=inside, rope_theta=10000.0),
          error=["config.json", "rope_theta", "500", "10000"])


# ---- GGUF ----

def rotary_rows(w, heads):
    """Half-split rows to interleaved ones, as llama.cpp's converter turns q and k."""
    return (w.reshape(heads, 2, w.shape[0] // heads // 2, w.shape[1]).swapaxes(1, 2)
            .reshape(w.shape))


def back(w, heads):
    return (w.reshape(heads, w.shape[0] // heads // 2, 2, w.shape[1]).swapaxes(1, 2)
            .reshape(w.shape))


GGUF_NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
              "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
              "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(hf):
    fixed = {"model.embed_tokens.weight": "token_embd.weight",
             "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}
    if hf in fixed:
        return fixed[hf]
    layer, rest = hf.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{GGUF_NAMES[rest.removesuffix('.weight')]}.weight"


def q6_k(shape, generator):
    """Random blocks: the package reads Q6_K and does not write it."""
    blocks = int(np.prod(shape)) // 256
    raw = generator.integers(0, 256, (blocks, 210), dtype=np.uint8)
    raw[:, 192:208] = generator.integers(-20, 20, (blocks, 16)).astype(np.int8).view(np.uint8)
    raw[:, 208:] = np.full((blocks, 1), 1e-3, np.float16).view(np.uint8)
    return raw.reshape(shape[0], -1)


def write_gguf(name, made, type_of=lambda n, w: Q.F32, error=None, keys=None, tensors=None,
               arch="llama", how="", factors=None):
    path = rows.path(name) / "model.gguf"
    c = made.config
    w = gguf.GGUFWriter(path, arch)
    w.add_type("model")
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_rope_dimension_count(c.hidden_size // c.num_attention_heads)
    w.add_vocab_size(c.vocab_size)
    if keys:
        keys(w)
    generator = np.random.default_rng(7)
    if factors is not None:
        w.add_tensor("rope_freqs.weight", np.array(factors, np.float32))
    for hf, p in made.named_parameters():
        if hf == "lm_head.weight" and c.tie_word_embeddings:
            continue
        heads = (c.num_attention_heads if ".q_proj." in hf
                 else c.num_key_value_heads if ".k_proj." in hf else 0)
        values = p.detach().numpy().astype(np.float32)
        if heads:
            values = rotary_rows(values, heads)
        kind = type_of(hf, values) if values.ndim == 2 else Q.F32
        if kind == Q.Q6_K:
            stored = q6_k(values.shape, generator)
        elif kind == Q.F16:
            stored = values.astype(np.float16)
        else:
            stored = gguf.quants.quantize(values, kind)
        read = gguf.quants.dequantize(stored, kind)
        if heads:
            read = back(read, heads)
        with torch.no_grad():
            p.copy_(torch.from_numpy(np.ascontiguousarray(read)))
        w.add_tensor(gguf_name(hf), stored, raw_dtype=kind)
    for extra, values in (tensors or {}).items():
        w.add_tensor(extra, values)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    fields = {"error": error} if error else {"logits": logits(made)}
    rows.add(name, f"{name}/model.gguf", f"gguf 0.19.0 {how}".strip(), **fields)


def ggufs():
    wide = dict(hidden_size=32, intermediate_size=32)
    write_gguf("gguf_f32", model(40), how="F32")
    write_gguf("gguf_tied", model(41, tie_word_embeddings=True), how="F32, no output.weight")
    for kind in (Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1):
        write_gguf(f"gguf_{kind.name.lower()}", model(42 + kind.value, **wide),
                   lambda n, w, kind=kind: kind, how=kind.name)
    write_gguf("gguf_q6_k", model(60, intermediate_size=256),
               lambda n, w: Q.Q6_K if w.shape[1] == 256 else Q.F32, how="Q6_K, made-up blocks")

    def scaling(kind=None, factor=None, old=None, **more):
        def add(w):
            if kind:
                w.add_string("llama.rope.scaling.type", kind)
            if factor:
                w.add_float32("llama.rope.scaling.factor", factor)
            if old:
                w.add_float32("llama.rope.scale_linear", old)
            for key, value in more.items():
                w.add_uint32("llama." + key, value)
        return add

    linear = dict(rope_scaling={"rope_type": "linear", "factor": 4.0})
    write_gguf("gguf_linear", model(61, **linear), keys=scaling("linear", 4.0), how="linear, 4")
    write_gguf("gguf_factor_alone", model(62, **linear), keys=scaling(factor=4.0),
               how="a factor without a type, which llama.cpp takes for linear")
    write_gguf("gguf_scale_linear", model(63, **linear), keys=scaling(old=4.0),
               how="rope.scale_linear of the first converters")
    write_gguf("gguf_none", model(64), keys=scaling("none", 4.0),
               how="scaling type none, and a factor that it leaves unused")
    made = model(65, rope_theta=500.0, rope_scaling=LLAMA3)
    plain = 500.0 ** (-np.arange(0, 4, 2) / 4)
    scaled = made.model.rotary_emb.inv_freq.numpy()

    def theta(w):
        w.add_rope_freq_base(500.0)
        w.add_uint32("llama.rope.scaling.original_context_length", 16)

    write_gguf("gguf_llama3", made, keys=theta, factors=plain / scaled, how="rope_freqs.weight")
    write_gguf("gguf_yarn", model(66), keys=scaling("yarn", 4.0), error=["model.gguf", "yarn"])
    write_gguf("gguf_attn_factor", model(67),
               keys=lambda w: (scaling("linear", 4.0)(w),
                               w.add_float32("llama.rope.scaling.attn_factor", 1.2)),
               error=["model.gguf", "attn_factor"])
    write_gguf("gguf_experts", model(68), keys=lambda w: w.add_expert_count(8),
               error=["model.gguf", "llama.expert_count"])
    write_gguf("gguf_bias", model(69), tensors={"blk.0.attn_q.bias": np.ones(16, np.float32)},
               error=["model.gguf", "blk.0.attn_q.bias"])
    write_gguf("gguf_qwen2", model(70), arch="qwen2", error=["model.gguf", "qwen2"])

    def split(w):
        w.add_uint16("split.no", 0)
        w.add_uint16("split.count", 2)
        w.add_int32("split.tensors.count", 40)

    write_gguf("gguf_split", model(71), keys=split, error=["model.gguf", "split.count"])
    path = rows.path("gguf_lora") / "adapter.gguf"
    w = gguf.GGUFWriter(path, "llama")
    w.add_type("adapter")
    w.add_string("adapter.type", "lora")
    w.add_float32("adapter.lora.alpha", 4.0)
    w.add_tensor("blk.0.attn_q.weight.lora_a", np.ones((2, 16), np.float32))
    w.add_tensor("blk.0.attn_q.weight.lora_b", np.ones((16, 2), np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    rows.add("gguf_lora", "gguf_lora/adapter.gguf", "gguf 0.19.0, general.type adapter",
             error=["adapter.gguf", "adapter"])


folders()
if MAJOR == 4:
    older_forms()
    ggufs()
else:
    newer_reading()
rows.write()
