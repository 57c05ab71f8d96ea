#!/usr/bin/env python3
"""Writes tests/golden: small inputs with the outputs and gradients that PyTorch, transformers, PEFT
and timm compute for them. tests/golden/README.md says what each file holds.

  make_goldens.py [--output tests/golden] [--only msa_conv ops attention optim schedules llama tic]

A family is FAMILY.safetensors, tensors named CASE.TENSOR, and FAMILY.json with each case's options.
Values are computed in float64 on the CPU from seeds made of the cases' names. Needs torch, numpy,
safetensors; transformers and peft for llama; timm for schedules.
"""

import argparse
import os

import torch
import torch.nn.functional as F

import oracle_tic
from golden_family import F64, Family, random, write_json
from golden_models import make_llama, make_tic
from oracle_llama import visible_mask

# --- MSA-Conv ------------------------------------------------------------------------------------


def make_msa_conv(folder):
    family = Family("msa_conv", torch.float32)
    shifts = oracle_tic.directions
    cases = {  # name: (B, H, W, C), options
        "plain_3x3": ((2, 4, 3, 4), {}),
        "masked_3x3": ((1, 4, 3, 4), {"border": "masked"}),
        "kernel_1": ((1, 2, 3, 4), {"kernel": [1, 1]}),
        "kernel_5_heads_4": ((1, 6, 5, 4), {"kernel": [5, 5], "heads": 4}),
        "kernel_7_larger_than_map": ((1, 3, 4, 4), {"kernel": [7, 7], "heads": 2}),
        "masked_global": ((1, 3, 4, 4), {"kernel": [7, 7], "heads": 2, "border": "masked"}),
        "rectangular_3x5": ((1, 4, 6, 4), {"kernel": [3, 5], "heads": 2}),
        "rectangular_5x1_masked": ((1, 6, 3, 4), {"kernel": [5, 1], "border": "masked"}),
        "dilation_2": ((1, 6, 5, 2), {"dilation": 2, "heads": 1}),
        "dilation_3_masked": ((1, 7, 6, 2), {"dilation": 3, "heads": 2, "border": "masked"}),
        "even_kernel_dilation_2": ((1, 4, 5, 2), {"kernel": [2, 4], "dilation": 2}),
        "depthwise": ((1, 4, 4, 3), {"heads": 3}),
        "depthwise_masked": ((1, 3, 4, 3), {"heads": 3, "border": "masked"}),
        "one_row": ((1, 1, 7, 4), {"kernel": [5, 5], "heads": 2}),
        "one_pixel": ((2, 1, 1, 4), {}),
        "shift_heads_4": ((1, 5, 6, 8), {"heads": 4, "group_offsets": shifts(3)}),
        "shift_heads_6": (
            (1, 4, 5, 6),
            {"heads": 6, "group_offsets": oracle_tic.head_offsets(6, 6, 2)},
        ),
        "shift_one_head_by_quarters": ((1, 6, 5, 4), {"group_offsets": shifts(3)}),
        "shift_three_heads_by_quarters": (
            (1, 4, 5, 12),
            {"heads": 3, "group_offsets": shifts(2), "border": "masked"},
        ),
        "shift_depthwise_dilated": (
            (1, 6, 6, 8),
            {"heads": 8, "dilation": 2, "group_offsets": oracle_tic.head_offsets(8, 8, 3)},
        ),
        "shift_larger_than_map": (
            (1, 3, 2, 4),
            {"kernel": [5, 5], "heads": 4, "group_offsets": shifts(5)},
        ),
        "shift_one_direction": ((1, 4, 5, 4), {"heads": 2, "group_offsets": [[0, -3]]}),
        "shift_roll_map": ((1, 5, 4, 2), {"heads": 2, "map_offset": [-3, -3]}),
        "shift_roll_map_masked": (
            (1, 4, 5, 2),
            {"heads": 1, "map_offset": [-1, -1], "border": "masked"},
        ),
        "pool_kv_2": ((1, 6, 4, 4), {"heads": 2, "kv_pool": 2}),
        "pool_kv_2_odd_map_masked": ((1, 5, 7, 2), {"kv_pool": 2, "border": "masked"}),
        "pool_kv_3_shift": (
            (1, 6, 7, 4),
            {"heads": 4, "kv_pool": 3, "group_offsets": shifts(1)},
        ),
    }
    for name, (shape, options) in cases.items():
        options = {**oracle_tic.MSA_CONV_DEFAULTS, **options}

        def attend(q, k, v):
            z = oracle_tic.msa_conv(*(oracle_tic.to_nchw(t) for t in (q, k, v)), **options)
            return oracle_tic.to_nhwc(z)

        inputs = {n: random(f"{name}.{n}", *shape) for n in "qkv"}
        family.add(name, attend, inputs, shape=shape, **options)
    family.save(folder, layout="NHWC")


# --- Single operators ----------------------------------------------------------------------------


def rotate_half(x):
    a, b = x.chunk(2, dim=-1)
    return torch.cat([-b, a], dim=-1)


def rope(x, positions, base):
    """(B, H, T, D), halves paired: (x_i, x_{i + D/2}) turn by position * base^(-2i/D)."""
    d = x.shape[-1]
    angles = positions.to(F64)[:, None] * base ** (-torch.arange(0, d, 2, dtype=F64) / d)
    angles = torch.cat([angles, angles], dim=-1)
    return x * angles.cos() + rotate_half(x) * angles.sin()


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def conv_nhwc(x, weight, bias=None, **options):
    return oracle_tic.to_nhwc(F.conv2d(oracle_tic.to_nchw(x), weight, bias, **options))


def make_ops(folder):
    family = Family("ops", torch.float32)
    x = random("ops.x", 2, 3, 10)
    weight, bias = 1 + 0.3 * random("ops.weight", 10), random("ops.bias", 10)
    add = family.add
    for eps in (1e-5, 0.1):
        name = "rms_norm" if eps < 1e-3 else "rms_norm_large_eps"
        add(name, lambda x, weight: rms_norm(x, weight, eps), {"x": x, "weight": weight}, eps=eps)
    add(
        "layer_norm",
        lambda x, weight, bias: F.layer_norm(x, (10,), weight, bias, 1e-5),
        {"x": 3 + x, "weight": weight, "bias": bias},
        eps=1e-5,
    )
    add("gelu_erf", lambda x: F.gelu(x), {"x": 3 * x})
    add("gelu_tanh", lambda x: F.gelu(x, approximate="tanh"), {"x": 3 * x})
    add("silu", F.silu, {"x": 3 * x})
    add("softmax", lambda x: x.softmax(-1), {"x": 3 * x})
    gate, up = 2 * random("ops.gate", 3, 7), random("ops.up", 3, 7)
    add("swiglu", lambda gate, up: F.silu(gate) * up, {"gate": gate, "up": up})
    add(
        "linear",
        F.linear,
        {"input": x, "weight": random("ops.linear", 4, 10), "bias": random("ops.lb", 4)},
    )
    lora = {"x": x, "weight": random("ops.w", 6, 10), "lora_A": random("ops.A", 2, 10)}
    lora["lora_B"] = random("ops.B", 6, 2)
    add(
        "lora_linear",
        lambda x, weight, lora_A, lora_B: x @ weight.T + 2.0 * (x @ lora_A.T) @ lora_B.T,
        lora,
        constants=("weight",),
        rank=2,
        alpha=4,
    )
    positions = torch.tensor([0, 1, 2, 3, 17, 4095])
    head = random("ops.rope", 1, 2, 6, 8)
    for name, factor in (("rope_half_split", 1), ("rope_half_split_linear_4", 4)):

        def turn(x, positions):
            return rope(x, positions.to(F64) / factor, 10000.0)

        add(name, turn, {"x": head, "positions": positions}, base=10000.0, linear_factor=factor)
    ids = torch.tensor([[1, 0, 4], [4, 4, 2]])
    add("embedding", F.embedding, {"input": ids, "weight": random("ops.table", 5, 3)})
    add_losses(family)
    add_convolutions(family)
    family.save(folder, layouts={"conv and pool": "NHWC activations, PyTorch weights"})


def add_losses(family):
    labels = torch.tensor([3, -100, 0, 10, 3])
    hidden, weight = random("loss.hidden", 5, 6), random("loss.weight", 11, 6)
    for name, reduction in (("vocabulary_loss_mean", "mean"), ("vocabulary_loss_sum", "sum")):

        def loss(hidden, weight, labels):
            return F.cross_entropy(
                hidden @ weight.T, labels.long(), reduction=reduction, ignore_index=-100
            )

        inputs = {"hidden": hidden, "weight": weight, "labels": labels}
        family.add(name, loss, inputs, ignore_index=-100)
    logits, classes = 2 * random("loss.logits", 4, 7), torch.tensor([0, 6, 2, 2])
    family.add(
        "cross_entropy_smoothing",
        lambda logits, labels: F.cross_entropy(logits, labels.long(), label_smoothing=0.1),
        {"logits": logits, "labels": classes},
        smoothing=0.1,
    )
    target = random("loss.target", 4, 7).softmax(-1)
    family.add(
        "cross_entropy_soft_target",
        lambda logits, target: F.cross_entropy(logits, target),
        {"logits": logits, "target": target},
        constants=("target",),
    )


def add_convolutions(family):
    x = random("conv.x", 1, 5, 4, 4)
    weights = {  # name: weight shape, options
        "conv_patch_2": ((3, 4, 2, 2), {"stride": 2}),
        "conv_1x1": ((3, 4, 1, 1), {}),
        "conv_3x3": ((3, 4, 3, 3), {"padding": 1}),
        "conv_3x3_dilation_2": ((3, 4, 3, 3), {"padding": 2, "dilation": 2}),
        "conv_3x3_stride_2": ((3, 4, 3, 3), {"padding": 1, "stride": 2}),
        "conv_3x3_depthwise": ((4, 1, 3, 3), {"padding": 1, "groups": 4}),
    }
    for name, (shape, options) in weights.items():
        inputs = {"x": x, "weight": random(name, *shape), "bias": random(name + "b", shape[0])}
        family.add(name, lambda x, weight, bias: conv_nhwc(x, weight, bias, **options), inputs,
                   **options)
    pools = {
        "max_pool_2_ceil": lambda z: F.max_pool2d(z, 2, 2, ceil_mode=True),
        "average_pool_2_ceil": lambda z: oracle_tic.average_pool(z, 2),
    }
    for name, pool in pools.items():
        family.add(name, lambda x: oracle_tic.to_nhwc(pool(oracle_tic.to_nchw(x))), {"x": x})
    family.add("global_average_pool", lambda x: x.mean(dim=(1, 2)), {"x": x})


# --- Attention patterns --------------------------------------------------------------------------


def dense_attention(q, k, v, mask):
    """(B, H, T, D), K and V with fewer heads repeated; mask (H, T, T) of what is seen."""
    k, v = (z.repeat_interleave(q.shape[1] // z.shape[1], dim=1) for z in (k, v))
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v


def rolled_attention(q, k, v, group, shift_in, shift_out):
    """LongLoRA's roll, literally: heads of shift_in rolled by -s, causal groups, heads of shift_out
    rolled back by +s."""
    s, n = group // 2, q.shape[2]
    k, v = (z.repeat_interleave(q.shape[1] // z.shape[1], dim=1) for z in (k, v))

    def roll(z, heads, by):
        parts = [z[:, h].roll(by, 1) if h in heads else z[:, h] for h in range(z.shape[1])]
        return torch.stack(parts, dim=1)

    slot = torch.arange(n)
    mask = (slot[:, None] // group == slot // group) & (slot <= slot[:, None])
    out = dense_attention(*(roll(z, shift_in, -s) for z in (q, k, v)), mask)
    return roll(out, shift_out, s)


def make_attention(folder):
    family = Family("attention", torch.float32)
    sf = {"kind": "segments", "group": 4, "shifted_heads": [3], "sinks": 2}
    patterns = {  # name: (B, H, Hkv, T, D), pattern
        "full": ((1, 4, 2, 9, 2), {"kind": "full"}),
        "full_not_causal": ((1, 2, 2, 5, 4), {"kind": "none"}),
        "s2_split": ((1, 4, 4, 16, 2), {**sf, "shifted_heads": [2, 3], "sinks": 0}),
        "s2_split_sinks": ((1, 4, 2, 16, 2), {**sf, "shifted_heads": [2, 3]}),
        "s2_split_quarter": ((1, 4, 4, 16, 2), {**sf, "sinks": 0}),
        "sf": ((1, 4, 2, 16, 4), sf),
        "sf_batch_2": ((2, 4, 4, 8, 2), sf),
        "sf_9_heads_13_tokens": ((1, 9, 3, 13, 2), {**sf, "shifted_heads": [6, 7, 8]}),
        "sf_group_beyond_tokens": ((1, 4, 4, 6, 2), {**sf, "group": 8}),
        "sf_sinks_beyond_group": ((1, 4, 4, 12, 2), {**sf, "group": 2, "sinks": 4}),
        "sf_leaky_roll": ((1, 4, 4, 16, 2), {**sf, "wrap": "roll_leaky"}),
        "fixed": ((1, 2, 2, 14, 2), {"kind": "fixed", "block": 4, "last": 1}),
        "strided": ((1, 2, 2, 14, 2), {"kind": "strided", "stride": 4}),
    }
    for name, ((b, h, hkv, t, d), pattern) in patterns.items():
        mask = visible_mask(h, t, **pattern)
        inputs = {"q": random(f"{name}.q", b, h, t, d)}
        inputs.update({n: random(f"{name}.{n}", b, hkv, t, d) for n in "kv"})
        family.add(
            name,
            lambda q, k, v: dense_attention(q, k, v, mask),
            inputs,
            **pattern,
            visible_pairs=mask.sum((1, 2)).tolist(),
            future_pairs=mask.triu(1).sum((1, 2)).tolist(),
        )
    rolls = {  # the table of sinklora.md 2.2
        "roll_s2": ([2, 3], [2, 3]),
        "roll_s2_and_reassembly": ([3], [3]),
        "roll_shift_up_only": ([3], [2, 3]),
        "roll_shift_back_only": ([2, 3], [3]),
    }
    for name, (shift_in, shift_out) in rolls.items():
        inputs = {n: random(f"{name}.{n}", 1, 4, 8, 2) for n in "qkv"}
        family.add(
            name,
            lambda q, k, v: rolled_attention(q, k, v, 4, shift_in, shift_out),
            inputs,
            kind="roll",
            group=4,
            shift_in=shift_in,
            shift_out=shift_out,
        )
    family.save(folder, layout="(B, heads, T, D)")


# --- Optimizers and schedules --------------------------------------------------------------------


def make_optim(folder):
    family = Family("optim")
    adamw = {"optimizer": "adamw", "lr": 0.05, "betas": [0.9, 0.95], "eps": 1e-8}
    sgd = {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9}
    cases = {
        "adamw": {**adamw, "weight_decay": 0.0},
        "adamw_decay": {**adamw, "weight_decay": 0.1},
        "adamw_large_eps": {**adamw, "betas": [0.9, 0.999], "eps": 0.1, "weight_decay": 0.0},
        "sgd_momentum": {**sgd, "weight_decay": 0.0, "nesterov": False},
        "sgd_nesterov_decay": {**sgd, "weight_decay": 0.1, "nesterov": True},
        "sgd_plain": {**sgd, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False},
    }
    for name, options in cases.items():
        initial, grads = random(name, 7), random(name + ".grads", 10, 7)
        p = initial.clone().requires_grad_()
        keys = {k: v for k, v in options.items() if k != "optimizer"}
        kind = torch.optim.AdamW if options["optimizer"] == "adamw" else torch.optim.SGD
        optimizer, path = kind([p], **keys), []
        for g in grads:
            p.grad = g.clone()
            optimizer.step()
            path.append(p.detach().clone())
        tensors = {"initial": initial, "grads": grads, "after_step": torch.stack(path)}
        family.put(name, tensors, **options)
    for name, limit in (("clip_acts", 1.0), ("clip_does_nothing", 100.0)):
        grads = {"a": random(name + "a", 3, 2), "b": random(name + "b", 4)}
        params = {n: torch.zeros_like(g).requires_grad_() for n, g in grads.items()}
        for n, p in params.items():
            p.grad = grads[n].clone()
        norm = torch.nn.utils.clip_grad_norm_(params.values(), limit)
        clipped = {f"clipped_{n}": p.grad for n, p in params.items()}
        family.put(name, {**grads, **clipped, "norm": norm}, max_norm=limit)
    family.save(folder)


def make_schedules(folder):
    import timm.scheduler
    import transformers

    def factors(make, steps, **options):
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        schedule, out = make(optimizer, **options), []
        for _ in range(steps):
            out.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return {**options, "factors": out}

    constant = transformers.get_constant_schedule_with_warmup
    cosine = transformers.get_cosine_schedule_with_warmup
    linear = transformers.get_linear_schedule_with_warmup
    warm = {"num_warmup_steps": 4, "num_training_steps": 12}
    out = {
        "constant_with_warmup": factors(constant, 8, num_warmup_steps=5),
        "constant_without_warmup": factors(constant, 3, num_warmup_steps=0),
        "cosine_with_warmup": factors(cosine, 12, **warm),
        "cosine_without_warmup": factors(cosine, 12, **{**warm, "num_warmup_steps": 0}),
        "linear_with_warmup": factors(linear, 12, **warm),
    }
    options = {"t_initial": 12, "warmup_t": 3, "warmup_lr_init": 5e-7, "lr_min": 5e-6}
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    timm_cosine = timm.scheduler.CosineLRScheduler(optimizer, **options)
    rates = [timm_cosine._get_lr(t)[0] for t in range(15)]
    out["timm_cosine"] = {**options, "lr": 1e-3, "rate_at_t": rates}
    write_json(os.path.join(folder, "schedules.json"), out)


FAMILIES = {
    "msa_conv": make_msa_conv,
    "ops": make_ops,
    "attention": make_attention,
    "optim": make_optim,
    "schedules": make_schedules,
    "llama": make_llama,
    "tic": make_tic,
}


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", default=os.path.join(here, "..", "tests", "golden"))
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    args = parser.parse_args()
    os.makedirs(args.output, exist_ok=True)
    torch.set_num_threads(1)
    for name in args.only:
        FAMILIES[name](args.output)


if __name__ == "__main__":
    main()
