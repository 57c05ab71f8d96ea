"""tests/real/adapters: adapters as PEFT saves them, with the logits that PEFT computes when it opens
them on their base (f32), or what a refusal must name."""
import json
import warnings

import peft
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from llama_rows import IDS, MAJOR, Rows, logits, model

warnings.simplefilter("ignore")
rows = Rows("adapters")
TOOL = f"peft {peft.__version__}"
QV = dict(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


def base(name):
    return AutoModelForCausalLM.from_pretrained(rows.folder / name).eval()


def make_bases():
    for name, tied in (("base", False), ("base_tied", True)):
        path = rows.path(name)
        model(100, tie_word_embeddings=tied).save_pretrained(path)
        (path / "generation_config.json").unlink()


def trained(on, config, seed=0, before=None):
    """The base with an adapter that three steps of something have changed."""
    torch.manual_seed(seed)
    made = get_peft_model(base(on), config)
    if before:
        before(made)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in made.parameters():
            if p.requires_grad:
                p.add_(0.2 * torch.randn(p.shape, generator=generator).to(p.dtype))
    return made.eval()


def saved(name, on="base", error=None, how="", edit=None, rename=None, before=None, save=None,
          note=None, compare=True, **changes):
    fields = dict(QV)
    fields.update(changes)
    made = trained(on, LoraConfig(**fields), before=before)
    name = f"{name}_peft{peft.__version__.split('.')[1]}"
    path = rows.path(name)
    made.save_pretrained(path, **(save or {}))
    (path / "README.md").unlink(missing_ok=True)
    file = path / "adapter_config.json"
    text = json.loads(file.read_text())
    text["base_model_name_or_path"] = "someone/tiny"
    if edit:
        edit(text)
    file.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    if rename:
        tensors = load_file(path / "adapter_model.safetensors")
        save_file({rename(k): v for k, v in tensors.items()}, path / "adapter_model.safetensors",
                  metadata={"format": "pt"})
    row = {"base": on}
    if error:
        row["error"] = error
    else:
        read = made if rename else PeftModel.from_pretrained(base(on), path).eval()
        row["logits"] = logits(read)
        if compare:  # PEFT reads what it has written
            assert max(abs(a - b) for x, y in zip(row["logits"], logits(made))
                       for a, b in zip(x, y)) < 1e-4, name
    if note:
        row["note"] = note
    rows.add(name, name, f"{TOOL}, {how or changes}", **row)
    return path


def converted(init):
    """Saved as PEFT's documentation says: the difference from the first pairs as plain LoRA."""
    name = f"{init}_converted_peft{peft.__version__.split('.')[1]}"
    path = rows.path(name)
    torch.manual_seed(3)
    made = get_peft_model(base("base"), LoraConfig(init_lora_weights=init, **QV))
    made.peft_config["default"].init_lora_weights = True
    made.save_pretrained(path / "first")
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in made.parameters():
            if p.requires_grad:
                p.add_(0.2 * torch.randn(p.shape, generator=generator))
    made.eval()
    values = logits(made)
    made.save_pretrained(path, path_initial_model_for_weight_conversion=str(path / "first"))
    for file in [*(path / "first").iterdir(), path / "README.md"]:
        file.unlink()
    (path / "first").rmdir()
    rows.add(name, name, f"{TOOL}, init_lora_weights {init}, converted on saving", base="base",
             logits=values)


def everywhere():
    saved("plain")
    saved("rslora", use_rslora=True)
    saved("patterns", rank_pattern={"layers.1.self_attn.q_proj": 4, "v_proj": 1},
          alpha_pattern={"layers.0.self_attn.v_proj": 16, "^model.layers.0.self_attn.q_proj": 1})
    saved("rslora_patterns", use_rslora=True, rank_pattern={"q_proj": 4})
    saved("regex_rank", rank_pattern={r".*layers\.\d\.self_attn.q_proj": 4},
          error=["adapter_config.json", "rank_pattern"])
    saved("one_layer", layers_to_transform=[1])
    saved("first_layer", layers_to_transform=[0], layers_pattern=["layers"])
    saved("without_k", target_modules=["q_proj", "k_proj", "v_proj"], exclude_modules=["k_proj"])
    saved("all_linear", target_modules="all-linear")
    saved("regex_targets", target_modules=r".*\.(q|v)_proj",
          error=["adapter_config.json", "target_modules"])
    saved("norms", modules_to_save=["input_layernorm", "post_attention_layernorm", "norm"])
    for on in ("base", "base_tied"):
        saved(f"head_{on}", on, modules_to_save=["lm_head"])
        saved(f"embedding_{on}", on, modules_to_save=["embed_tokens"])
        saved(f"both_{on}", on, modules_to_save=["embed_tokens", "lm_head"])
    saved("embedding_in_base", "base_tied", modules_to_save=["embed_tokens"], compare=False,
          how="an embedding that modules_to_save does not name, as save_embedding_layers leaves it",
          edit=lambda c: c.update(modules_to_save=None))
    saved("head_in_base", "base_tied", modules_to_save=["lm_head"],
          edit=lambda c: c.update(modules_to_save=None), error=["lm_head", "modules_to_save"])
    saved("save_embedding_layers", "base_tied", save=dict(save_embedding_layers=True))
    saved("gaussian", init_lora_weights="gaussian")
    saved("random_pairs", init_lora_weights=False)
    saved("eva", init_lora_weights="eva")
    for init in ("pissa", "pissa_niter_4", "olora"):
        saved(init, init_lora_weights=init, error=["adapter_config.json", "init_lora_weights", init])
        converted(init) if init != "pissa_niter_4" else None
    for init in ("loftq", "corda"):  # need scipy, and a pass over data: the name is what matters
        saved(init, edit=lambda c, init=init: c.update(init_lora_weights=init),
              how=f"init_lora_weights {init} put in by hand",
              error=["adapter_config.json", "init_lora_weights", init])
    saved("dora", use_dora=True, error=["adapter_config.json", "use_dora"])
    saved("bias", bias="all", error=["adapter_config.json", "bias"])
    saved("lora_bias", lora_bias=True, error=["adapter_config.json", "lora_bias"])
    saved("replicated", layer_replication=[[0, 2], [1, 2]],
          error=["adapter_config.json", "layer_replication"])
    saved("token_indices", trainable_token_indices=[3, 4],
          error=["adapter_config.json", "trainable_token_indices"])
    saved("embedding_pair", target_modules=["q_proj", "embed_tokens"], error=["embed_tokens", "names no module"])
    saved("head_pair", target_modules=["q_proj", "lm_head"], error=["lm_head", "names no module"])
    saved("classifier", edit=lambda c: c.update(task_type="SEQ_CLS"), how="task_type SEQ_CLS",
          error=["adapter_config.json", "task_type", "SEQ_CLS"])
    saved("unknown_key", edit=lambda c: c.update(use_new_thing=3), how="a key of the future",
          error=["adapter_config.json", "use_new_thing", "3"])
    saved("default_names", how="lora_A.default.weight, as a state_dict has it",
          rename=lambda k: k.replace(".weight", ".default.weight"))
    saved("missing_layer", how="a pair without its module in the configuration",
          edit=lambda c: c.update(target_modules=["q_proj"]), error=["v_proj", "belongs to no part"])
    saved("revision", edit=lambda c: c.update(revision="v2"), how="revision v2")


def ia3():
    made = get_peft_model(base("base"), peft.IA3Config(target_modules=["k_proj", "v_proj"],
                                                       feedforward_modules=[],
                                                       task_type="CAUSAL_LM"))
    name = "ia3_peft15"
    path = rows.path(name)
    made.save_pretrained(path)
    (path / "README.md").unlink()
    rows.add(name, name, f"{TOOL}, IA3", base="base", error=["adapter_config.json", "IA3"])


def newer():
    for init in ("orthogonal", "mica"):
        saved(init, init_lora_weights=init)
    saved("lora_ga", edit=lambda c: c.update(init_lora_weights="lora_ga"),
          error=["adapter_config.json", "init_lora_weights", "lora_ga"])
    saved("tied_embedding", "base_tied", modules_to_save=["embed_tokens"], ensure_weight_tying=True)
    saved("tied_head", "base_tied", modules_to_save=["lm_head"], ensure_weight_tying=True)
    saved("alora", alora_invocation_tokens=[5, 9],
          error=["adapter_config.json", "alora_invocation_tokens"])
    saved("target_parameters", target_parameters=["mlp.gate_proj.weight"],
          error=["adapter_config.json", "target_parameters"])


if MAJOR == 4:
    make_bases()
everywhere()
if MAJOR == 4:
    saved("pickle", save=dict(safe_serialization=False), error=["adapter_model.bin", "pickle"])
    ia3()
else:
    newer()
rows.write()
