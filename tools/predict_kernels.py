#!/usr/bin/env python3
"""What the tensor-core kernels of attention and MSA-Conv should take on an H200, by arithmetic.

Counts, from the tiles of tensor/cuda/*.cu (read from the sources), the operations and bytes of one
launch, and divides them by what the device can do. Two bounds: all units overlap perfectly (the
longest of the times), and nothing overlaps (their sum). Every figure is predicted; a measurement on
a GPU replaces it. Prints the tables of docs/gpu.md.

Issue slots are counted in the machine code (tools/sass.py), which needs nvcc and nvdisasm: the
instructions of a kernel's main loop for each of its tensor-core instructions, times those that the
work needs. What lies outside of the loop, and what warps do that skip a tile, is not counted. Without
the two tools the column says so, and is left out of the bounds.
"""

import re
import sys
from math import ceil
from pathlib import Path

import sass

CUDA = Path(__file__).resolve().parent.parent / "tensor" / "cuda"

# Limits of an H200. GEMM and copy are measured figures published for such a GPU; the clock is the
# one that they imply for 16 exponentials a clock and multiprocessor.
GEMM = 790e12  # bf16 operations a second, by the warp-group instructions of cuBLAS
MMA_SHARE = 0.62  # of it that the 16x8x16 instruction reaches on this chip: an assumption
COPY = 4.3e12  # bytes read and written a second
SMS, CLOCK = 132, 1.75e9
EXP = SMS * 16 * CLOCK
SHARED = SMS * 128 * CLOCK  # bytes
F32 = SMS * 128 * CLOCK  # instructions of the f32 units
ISSUE = SMS * 4 * CLOCK  # instructions of warps: one a clock from each of four schedulers
MMA = 2 * 16 * 8 * 16  # operations of a tensor-core instruction of a warp
COUNTED = all(sass.tool(name) for name in ("nvcc", "nvdisasm"))


def source(name):
    path = next(CUDA.rglob(name), None)
    if not path:
        sys.exit(f"{name} is not among the CUDA kernels: nothing to predict from")
    return path.read_text()


def constant(name, pattern):
    """The number that a source has at a place; the prediction fails when the place is gone."""
    found = re.search(pattern, source(name))
    if not found:
        sys.exit(f"{name} has no longer {pattern!r}: this prediction is of another kernel")
    return int(found.group(1))


def per_product(file, kernel, _known={}):
    """Instructions of a kernel's main loop for each of its tensor-core instructions; 0 uncounted."""
    if not COUNTED:
        return 0
    if file not in _known:
        _known[file] = sass.loops_of_file(file, "sm_90a")
    way = _known[file][kernel]
    return way.instructions() / way.count["HMMA"]


class Work:
    """Operations and bytes of one launch or several; `code` is per_product() of the kernel."""

    def __init__(self, useful=0.0, mma=0.0, exps=0.0, f32=0.0, shared=0.0, memory=0.0, code=0.0):
        self.useful, self.mma, self.exps = useful, mma, exps
        self.f32, self.shared, self.memory = f32, shared, memory
        self.issue = mma / MMA * code

    def __add__(self, other):
        mine, its = vars(self), vars(other)
        total = Work()
        vars(total).update({key: mine[key] + its[key] for key in mine})
        return total

    def times(self):
        return {"issue slots": self.issue / ISSUE,
                "tensor cores": self.mma / (GEMM * MMA_SHARE), "exponentials": self.exps / EXP,
                "f32 units": self.f32 / F32, "shared memory": self.shared / SHARED,
                "device memory": self.memory / COPY}


# ---- SF-Attn: Llama-2-7B, one layer ----

HEADS, WIDTH, SINKS, TOKENS = 32, 128, 4, 32768


def segments(shift):
    """[begin, end) of the panes of a head, groups of a quarter of the context."""
    group = TOKENS // 4
    borders = sorted({0, TOKENS, *range(shift, TOKENS, group)})
    return list(zip(borders, borders[1:]))


def heads():
    """(number of heads, their segments)."""
    return [(HEADS * 3 // 4, segments(0)), (HEADS // 4, segments(TOKENS // 8))]


def visible_pairs():
    pairs = 0
    for count, panes in heads():
        for begin, end in panes:
            n = end - begin
            pairs += count * (n * (n + 1) // 2 + (min(begin, SINKS) * n if begin else 0))
    return pairs


def query_tiles(keys):
    """(tiles that blocks of 128 queries fetch, tiles that their warps of 32 compute)."""
    fetched = computed = 0
    for count, panes in heads():
        for begin, end in panes:
            listed = SINKS if begin else 0
            for block in range(begin, end, 128):
                last = min(block + 128, end)
                fetched += count * ceil((listed + last - begin) / keys)
                for warp in range(block, last, 32):
                    computed += count * ceil((listed + warp + 32 - begin) / keys)
    return fetched, computed


ROW = WIDTH * 2  # bytes


def attention_forward():
    warps = constant("attention_forward.cu", r"kWarps = (\d+), kM = 2, kKeys")
    keys = constant("attention_forward.cu", r"kKeys = D == 64 \? 64 : kStrided \? 32 : (\d+);")
    assert warps == 4
    fetched, computed = query_tiles(keys)
    scores = computed * 32 * keys
    tensors = 4 * TOKENS * HEADS * ROW + TOKENS * HEADS * 4
    return Work(
        useful=4 * WIDTH * visible_pairs(), mma=scores * 2 * 2 * WIDTH, exps=scores,
        f32=5 * scores,  # maximum, scale and shift, sum, half a rounding, its share of the rest
        # k and v written once a block, read by every warp, which reads its rows of q again
        shared=fetched * 2 * keys * ROW + computed * (2 * keys + 32) * ROW, memory=tensors,
        code=per_product("attention_forward.cu", "forward_kernel<128, false>"))


def attention_backward():
    keys = constant("attention_backward.cu", r"kWarps = 4, kM = 2, kKeys = (\d+);")
    rows = constant("attention_backward.cu", r"kTileRows = D == 64 && !kNarrowForm \? 32 : (\d+)>")
    constant("attention_backward.cu", r"kWarps = D == 128 && !kNarrow \? (8) : 4;")
    fetched, computed = query_tiles(keys)
    scores = computed * 32 * keys
    tensor = TOKENS * HEADS * ROW
    queries = Work(mma=scores * 3 * 2 * WIDTH, exps=scores, f32=6 * scores,
                   shared=fetched * 2 * keys * ROW + computed * (3 * keys + 2 * 32) * ROW,
                   memory=5 * tensor,
                   code=per_product("attention_backward.cu", "query_gradient_kernel<128, false>"))
    tiles = lists = 0
    for count, panes in heads():
        for begin, end in panes:
            tiles += count * sum(ceil((end - key) / rows) for key in range(begin, end, 128))
            lists += count * ceil((end - begin) / rows) if begin else 0
    pairs = tiles * 128 * rows + lists * 16 * rows
    # Each of 8 warps reads the tile of q and do twice: as right operand and transposed.
    key_side = Work(mma=pairs * 4 * 2 * WIDTH, exps=pairs, f32=7 * pairs,
                    shared=tiles * (2 + 8 * 4) * rows * ROW + tiles * 8 * 2 * 16 * ROW,
                    memory=6 * tensor,
                    code=per_product("attention_backward.cu", "key_gradient_kernel<128, 64>"))
    delta = Work(memory=2 * tensor)
    useful = Work(useful=10 * WIDTH * visible_pairs())
    return queries + key_side + delta + useful


# ---- MSA-Conv: the stages of TiC-T, k = 7, batch 128 ----

BATCH, HEAD, KERNEL = 128, 32, 7


def msa_tiles(size, pixel_bytes):
    """The rule of make_msa_tiles()."""
    most = constant("msa_conv_tile.cuh", r"kTileBytes = (\d+) \* 1024")
    up = lambda n, to: (n + to - 1) // to * to
    height, width = min(up(size, 2), 16), min(up(size, 8), 16)
    while (height + KERNEL - 1) * (width + KERNEL - 1) * pixel_bytes > most * 1024:
        if height >= width or width == 8:
            height = up(height // 2, 2)
        else:
            width = 8
    return height, width


def msa_conv(size, heads_):
    constant("msa_conv_mma.cuh", r"kColumns = K \+ (7), kPixels = \(K \+ 1\) \* kColumns")
    height, width = msa_tiles(size, 2 * HEAD * 2 + 8)
    window = ceil((KERNEL + 1) * (KERNEL + 7) / 16) * 16
    tiles = ceil(size / height) * ceil(size / width)
    strips = ceil(size / 2) * ceil(size / 8)  # of 2 x 8 pixels, those within the map
    maps = BATCH * heads_
    halo = (height + KERNEL - 1) * (width + KERNEL - 1)
    scores = maps * strips * 16 * window
    tensor = maps * size * size * HEAD * 2
    fill = maps * tiles * 2 * halo * HEAD * 2
    pixels = maps * size * size
    read = maps * strips * window * HEAD * 2  # one map's window, by all strips
    code = per_product("msa_conv_mma.cu", "msa_conv_mma_kernel<32, 7>")
    forward = Work(useful=4 * HEAD * 49 * pixels, mma=scores * 2 * 2 * HEAD, exps=scores,
                   f32=6 * scores, shared=fill + 2 * read, memory=4 * tensor + pixels * 4, code=code)
    code = per_product("msa_conv_mma_backward.cu", "msa_conv_mma_backward_kernel<32, 7>")
    backward = Work(useful=10 * HEAD * 49 * pixels, mma=scores * 7 * 2 * HEAD, exps=2 * scores,
                    f32=14 * scores, shared=2 * fill + 7 * read, memory=8 * tensor + pixels * 4, code=code)
    return (height, width), tensor, forward, backward


# ---- tables ----


def micro(seconds):
    return f"{seconds * 1e6:,.0f}"


def line(name, tile, work, floor):
    times = work.times()
    longest = max(times, key=times.get)
    best = times[longest]
    # Issuing an instruction is a part of what its unit does, not a further wait.
    worst = max(best, sum(t for unit, t in times.items() if unit != "issue slots"))
    cells = [name, tile, f"{work.useful * 1e-9:,.1f}", f"{work.mma * 1e-9:,.1f}",
             f"{work.memory * 1e-6:,.0f}",
             *(micro(t) if COUNTED or unit != "issue slots" else "not counted"
               for unit, t in times.items()), longest,
             f"{micro(best)} to {micro(worst)}", f"{floor / worst:.2f} to {floor / best:.2f}"]
    print("| " + " | ".join(cells) + " |")


def main():
    head = ["launches", "tile", "useful GFLOP", "tensor-core GFLOP", "MB moved"]
    head += [name + " µs" for name in Work().times()] + ["bound by", "predicted µs",
                                                         "predicted part of the roof"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * 2 + "---:|" * 9 + "---|---:|---:|")
    forward, backward = attention_forward(), attention_backward()
    for name, tile, work in [("SF-Attn 32k forward", "128 queries x 48 keys", forward),
                             ("SF-Attn 32k backward", "128 x 32; 128 keys x 64", backward)]:
        line(name, tile, work, max(work.useful / GEMM, work.memory / COPY))
    for size, heads_ in [(56, 3), (28, 6), (14, 12), (7, 24)]:
        (height, width), tensor, forward, backward = msa_conv(size, heads_)
        name, tile = f"MSA-Conv {size}² x {heads_ * HEAD}", f"{height} x {width}"
        line(name + " forward", tile, forward, 4 * tensor / COPY)
        line(name + " forward and backward", tile, forward + backward, 12 * tensor / COPY)


if __name__ == "__main__":
    main()
