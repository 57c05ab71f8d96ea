"""Goldens of whole models, for make_goldens.py: small LLaMAs by transformers and PEFT, small TiCs by
oracle_tic.py."""

import torch

import oracle_tic
from golden_family import F64, Family, generator, random
from oracle_llama import lora_config, use_pattern, visible_mask

LLAMA = {
    "vocab_size": 40,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}


def llama_model(**config):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**{**LLAMA, **config}, attn_implementation="eager")
    model = LlamaForCausalLM(config).to(F64).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = 0.3 if p.dim() > 1 else 0.2
            p.copy_((p.dim() == 1) + scale * random(name, *p.shape))
    return model


def make_llama(folder):
    family = Family("llama", torch.float32)
    generator_ids = generator("llama.ids")
    ids = torch.randint(0, 40, (2, 16), generator=generator_ids)
    family.put("ids", {"input": ids})
    variants = {
        "tied": {"tie_word_embeddings": True},
        "untied": {"tie_word_embeddings": False},
        "rope_linear": {"rope_scaling": {"type": "linear", "factor": 4.0}},
        "rope_llama3": {"rope_scaling": LLAMA3},
    }
    for name, config in variants.items():
        model = llama_model(**config)
        if name == "untied":  # every variant starts from these
            family.put("parameters", dict(model.named_parameters()))
        out = model(ids, labels=ids)
        out.loss.backward()
        grads = {n: p.grad for n, p in model.named_parameters()}
        if name != "untied":  # what the variant changes
            part = "embed_tokens" if name == "tied" else "layers.0.self_attn"
            grads = {n: g for n, g in grads.items() if part in n}
        tensors = {"logits": out.logits, "loss": out.loss}
        tensors.update({f"grad.{n}": g for n, g in grads.items()})
        family.put(name, tensors, config={**LLAMA, **config})
    add_lora_run(family)
    family.save(folder)


def add_lora_run(family):
    """Six AdamW steps of LoRA, embedding and norms under SF-Attn, by PEFT."""
    from peft import get_peft_model, get_peft_model_state_dict

    pattern = {"kind": "segments", "group": 4, "shifted_heads": [3], "sinks": 2}
    model = get_peft_model(llama_model(tie_word_embeddings=True), lora_config(rank=2, alpha=4))
    model = model.to(F64)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.copy_(0.2 * random(name, *p.shape))
    initial = {n: t.clone() for n, t in get_peft_model_state_dict(model).items()}
    use_pattern(model, visible_mask(4, 16, **pattern))
    trained = [p for p in model.parameters() if p.requires_grad]
    options = {"lr": 0.01, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.0}
    optimizer, losses = torch.optim.AdamW(trained, **options), []
    rows = torch.randint(0, 40, (12, 16), generator=generator("llama.rows"))
    for step in range(6):
        batch = rows[2 * step : 2 * step + 2]
        loss = model(batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    tensors = {"rows": rows, "losses": torch.stack(losses)}
    tensors.update({f"initial.{n}": t for n, t in initial.items()})
    for n, t in get_peft_model_state_dict(model).items():
        if "layers.0.self_attn" in n or n.endswith("model.norm.weight"):
            tensors[f"final.{n}"] = t
    config = {**LLAMA, "tie_word_embeddings": True}
    family.put("lora_sf", tensors, config=config, pattern=pattern, rank=2, alpha=4,
               rows_per_step=2, optimizer=options)


TIC = {
    "dim": 4,
    "depths": [2, 2],
    "heads": [2, 4],
    "kernel": [3, 3],
    "patch": 2,
    "num_classes": 3,
    "mlp_ratio": 4,
}


def make_tic(folder):
    """A parameter's value depends on its name and shape alone, so that variants share the stored
    ones."""
    family = Family("tic", torch.float32)
    images = random("tic.images", 1, 3, 10, 12)
    family.put("images", {"input": images})
    variants = {
        "default": {},
        "released": {"block": "released", "heads": [1, 1], "shift": "off"},
        "pool_kv": {"pool": "kv"},
        "roll_map_masked": {"shift": "roll_map", "shift_size": 1, "border": "masked"},
        "per_layer_dilated": {"shift": "per_layer", "shift_size": 2, "dilation": 2, "pool": "off"},
        "depthwise_mlp_dwconv": {"variant": "depthwise", "mlp_dwconv": True},
    }
    stored = {}
    for name, options in variants.items():
        model = oracle_tic.Tic(**{**TIC, **options}).to(F64)
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for n, p in parameters.items():
                shape = "x".join(map(str, p.shape))
                is_norm = "norm" in n and n.endswith("weight")
                p.copy_(is_norm + 0.3 * random(f"{n}.{shape}", *p.shape))
                stored.setdefault(f"{n}.{shape}", p.detach().clone())
        x = images.clone().requires_grad_()
        out = model(x)
        grad_out = random("tic.grad_out", *out.shape)
        out.backward(grad_out)
        tensors = {"out": out, "grad_out": grad_out, "grad.input": x.grad}
        kept = ("stem.conv", "stages.0.blocks.1.", "downsample.conv", "dwconv")
        for n, p in parameters.items():  # all of two variants, of the others what they change
            if name in ("default", "released") or any(part in n for part in kept):
                tensors[f"grad.{n}"] = p.grad
        family.put(name, tensors, options=model.options)
    family.put("parameters", stored)
    family.save(folder)
