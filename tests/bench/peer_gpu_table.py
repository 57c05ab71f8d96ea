"""The table of peer_gpu.py: the benches' lines beside those of PyTorch, a row a goal."""

import json

def find(lines, key, **wanted):
    """The value of `key` in the last line that has all of the wanted values, or why it has none."""
    for line in reversed(lines):
        if all(line.get(name) == value for name, value in wanted.items()):
            if key in line or "error" in line:
                return line.get(key, line.get("error"))
    return None


def rows(ours, peers):
    """(row of performance goals, what, our figure, its unit, the peer's, times faster); a figure may
    be the reason why there is none."""
    result = []

    def is_number(value):
        return isinstance(value, (int, float)) and value > 0

    def row(number, what, own, unit, peer, faster_is_less):
        ratio = "-" if isinstance(peer, str) else None
        if is_number(own) and is_number(peer):
            ratio = peer / own if faster_is_less else own / peer
        result.append((number, what, own, unit, peer, ratio))

    def sf(key):
        return find(ours, key, bench="attention", pattern="sf", tokens=32768)

    forward, backward = sf("forward_ms"), sf("backward_ms")
    both = forward + backward if forward and backward else None
    for backend, number in (("flash", "1a"), ("cudnn", "1b")):
        peer = find(peers, "forward_ms", peer="full", backend=backend, tokens=32768)
        row(number, f"SF-Attn forward 32k, full by {backend}", forward, "ms", peer, True)
    for backend in ("flash", "cudnn"):
        for what, number in (("full", "1c"), ("rolled s2", "1d/1e")):
            peer = find(peers, "both_ms", peer=what, backend=backend, tokens=32768)
            name = f"SF-Attn forward and backward 32k, {what} by {backend}"
            row(number, name, both, "ms", peer, True)
    peer = find(peers, "both_ms", peer="flex sf", tokens=32768)
    row("1e", "the same, FlexAttention with the same mask", both, "ms", peer, True)
    linear = find(ours, "time_ratio", bench="attention_linearity", pattern="sf", tokens=102400)
    row("1f", "SF-Attn time at 102,400 tokens over 32,768", linear, "", "-", True)
    for number, stage, size, way in (("2a", 0, 56, "unfold"), ("2b", 0, 56, "natten"), ("2c", 2, 14, "unfold"),
                                     ("2c", 2, 14, "natten"), ("2c", 2, 14, "dense")):
        own = find(ours, "fwd_bwd_us", bench="msa_conv", shape=f"tic-t stage {stage}", shift=False)
        peer = find(peers, "both_ms", peer=f"msa_conv {way}", size=size)
        row(number, f"MSA-Conv {size}² forward and backward, {way}", own and own / 1e3, "ms", peer, True)
        if way == "unfold":
            part = find(ours, "fwd_bwd_of_floor", bench="msa_conv", shape=f"tic-t stage {stage}", shift=False)
            row(number, f"MSA-Conv {size}², of the time of twelve copies", part, "", "-", True)
    own = find(ours, "img_s", bench="tic_step", amp="bf16")
    row("3", "TiC-T step, Swin-T compiled", own, "images/s", find(peers, "img_s", peer="swin-t"), False)
    row("3", "TiC-T step, unfold (batch 16)", own, "images/s",
        find(peers, "img_s", peer="tic-t unfold"), False)
    images = find(ours, "images", bench="tic_feed") or "JPEGs"
    workers = find(ours, "workers", bench="tic_feed") or "all"
    part = find(ours, "of_random", bench="tic_feed")
    row("3b", f"TiC-T step from {images}, by {workers} threads", part, "of the step on random images", "-", False)
    for number, tokens, pattern, backend in (("4a", 8192, "sf", "flash"), ("4b", 32768, "sf", "flash"),
                                             ("4c", 32768, "full", "cudnn"), ("4d", 102400, "sf", "flash")):
        own = find(ours, "tok_s", bench="llama_step", context=tokens, attn=pattern)
        peer = find(peers, "tok_s", peer="llama-7b peft", tokens=tokens, backend=backend)
        name = f"LoRA step of 7B at {tokens:,}, {pattern} here, full by {backend} there"
        row(number, name, own, "tokens/s", peer, False)
    for tokens in (8192, 32768, 102400):
        own = find(ours, "tensor_peak_gib", bench="llama_step", context=tokens, attn="sf")
        peer = find(peers, "peak_gib", peer="llama-7b peft", tokens=tokens, backend="flash")
        row("4e", f"peak memory of that step at {tokens}", own, "GiB", peer, True)
    return result


def markdown(table):
    def cell(value):
        if isinstance(value, str):
            return value.replace("|", "/")
        return "not measured" if value is None else f"{value:.4g}"

    lines = ["| row | what, and the peer | here | PyTorch | unit | times better |",
             "|---|---|---:|---:|---|---:|"]
    for number, what, own, unit, peer, ratio in table:
        cells = [number, what, cell(own), cell(peer), unit, cell(ratio)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def json_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.startswith("{")]
