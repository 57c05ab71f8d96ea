#!/usr/bin/env python3
"""Instructions of a kernel's main loop, counted in the machine code (SASS) that nvcc makes of it.

A warp issues at most one instruction a clock to its scheduler, so what a loop's turn costs is the
number of instructions on the way through it. Of several ways the one counted does most products of
tensor cores, among those most copies to shared memory, and among those has the fewest instructions:
the way through a whole tile that asks for the next one, needs no mask and brings no new maximum.
Loops within it count as often as their counter says, with rows that are neither missing nor looked
up in a list. Counted, not measured.

  tools/sass.py attention_forward.cu 'forward_kernel<128, false>' [--arch sm_90a]
  tools/sass.py FILE.cu                 every kernel of the file that has a loop of products

Needs nvcc and nvdisasm: of the CUDA toolkit, or of the package nvidia-cuda-nvdisasm from PyPI.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Part of an opcode, and what it is called in a table; the rest is addresses, masks and conversions.
KINDS = {"HMMA": "tensor cores", "LDSM": "ldmatrix", "LDGSTS": "copies", "MUFU": "exponentials",
         "FFMA": "f32", "FMUL": "f32", "FADD": "f32", "FMNMX": "f32"}


def tool(name):
    homes = [os.environ.get(n) for n in ("CUDA_HOME", "CUDA_PATH")] + ["/usr/local/cuda"]
    places = [shutil.which(name)] + [home + "/bin/" + name for home in homes if home]
    for folder in sys.path:  # nvidia-cuda-nvdisasm
        places += [str(p) for p in Path(folder or ".").glob(f"nvidia/cu*/bin/{name}")]
    return next((p for p in places if p and os.access(p, os.X_OK)), None)


def disassembled(path, arch):
    """The code of a file's kernels: {readable name: lines}."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = str(Path(folder) / "code.cubin")
        subprocess.run([tool("nvcc"), "-std=c++20", "-I.", '-DMULLION_CUBLASLT_FOLDER=""', f"-arch={arch}",
                        "-cubin", "-o", cubin, str(path)], cwd=ROOT, check=True)
        text = subprocess.run([tool("nvdisasm"), "-c", cubin], capture_output=True, text=True,
                              check=True).stdout
    kernels, lines = {}, None
    for line in text.splitlines():
        if found := re.match(r"\.text\.(\w+):", line):
            lines = kernels.setdefault(found.group(1), [])
        elif lines is not None:
            lines.append(line)
    names = subprocess.run(["c++filt"], input="\n".join(kernels), capture_output=True, text=True).stdout
    return {short(name): lines for name, lines in zip(names.splitlines(), kernels.values())}


def short(name):
    """forward_kernel<128, false> of void mullion::cuda::(anonymous namespace)::forward_kernel<...>(...)"""
    for pattern in (r"^void ", r"mullion::(cuda::)?", r"\(anonymous namespace\)::", r"_GLOBAL__N_\w*::",
                    r"\((int|bool|long)\)"):
        name = re.sub(pattern, "", name)
    depth = 0
    for i, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            return name[:i]
    return name


class Block:
    def __init__(self):
        self.code = []  # (opcode, text)
        self.next = []


def blocks_of(lines):
    """Basic blocks in the order of addresses, with their successors as indices."""
    blocks, labels, ends = [Block()], {}, []
    for line in lines:
        if found := re.match(r"(\.L_\w+):", line):
            if blocks[-1].code:
                blocks.append(Block())
            labels[found.group(1)] = len(blocks) - 1
            continue
        found = re.match(r"\s+/\*[0-9a-f]+\*/\s+(.*?) ;", line)
        if not found:
            continue
        text = found.group(1)
        opcode = re.sub(r"^@!?U?P\w+\s+", "", text).split()[0]
        blocks[-1].code.append((opcode, text))
        if opcode.split(".")[0] in ("BRA", "EXIT", "RET", "BRX", "JMP", "CALL", "KILL"):
            blocks.append(Block())
    for i, block in enumerate(blocks):
        opcode, text = block.code[-1] if block.code else ("", "")
        name = opcode.split(".")[0]
        always = not text.startswith("@") and not re.search(r"\bU?P\d", text)
        target = re.search(r"`\((\.L_\w+)\)", text)
        if name in ("BRA", "JMP") and target:
            block.next.append(labels[target.group(1)])
        ends_here = name in ("BRA", "JMP", "EXIT", "RET", "BRX", "KILL") and always and ".DIV" not in opcode
        if not ends_here and i + 1 < len(blocks):
            block.next.append(i + 1)
    return blocks


def loops_of(blocks):
    """Natural loops: {head: (blocks, ends of a turn)}."""
    before = [[] for _ in blocks]
    for i, block in enumerate(blocks):
        for j in block.next:
            before[j].append(i)
    everything = (1 << len(blocks)) - 1
    over = [everything] * len(blocks)  # the blocks that every way to this one passes, as bits
    over[0] = 1
    changed = True
    while changed:
        changed = False
        for i in range(1, len(blocks)):
            bits = everything
            for j in before[i]:
                bits &= over[j]
            bits |= 1 << i
            if bits != over[i]:
                over[i], changed = bits, True
    loops = {}
    for i, block in enumerate(blocks):
        for head in block.next:
            if i and over[i] != everything and over[i] >> head & 1:
                body, ends = loops.setdefault(head, ({head}, []))
                ends.append(i)
                waiting = [i]
                while waiting:
                    j = waiting.pop()
                    if j not in body:
                        body.add(j)
                        waiting += before[j]
    return loops


def turns(blocks, body, end):
    """How often a counted loop turns: its last comparison is with a number."""
    for opcode, text in reversed(blocks[end].code):
        found = re.match(r"ISETP\.(?:NE|LT)\S* U?P\d, U?PT, (R\d+), (0x[0-9a-f]+),", text)
        if found:
            register, limit = found.group(1), int(found.group(2), 16)
            for i in body:
                for _, other in blocks[i].code:
                    step = re.match(rf"(?:VIADD {register}, {register}|IADD3 {register}, {register}),"
                                    r" (0x[0-9a-f]+)", other)
                    if step:
                        return limit // int(step.group(1), 16)
    return 1


class Way:
    """What lies on a way through code."""

    def __init__(self, code=()):
        self.count = Counter(opcode.split(".")[0] for opcode, _ in code)

    def plus(self, other, times=1):
        result = Way()
        for way, n in ((self, 1), (other, times)):
            for name, count in way.count.items():
                result.count[name] += n * count
        return result

    def instructions(self):
        return sum(self.count.values())

    def rank(self):
        return self.count["HMMA"], self.count["LDGSTS"], -self.instructions()

    def rank_of_inner(self):  # a loop of copies: rows that are there, by no list in memory
        loads = self.count["LD"] + self.count["LDG"]
        return self.count["HMMA"], self.count["LDGSTS"], -loads, self.instructions()

    def kinds(self):
        """{kind: instructions}, the rest last."""
        result = dict.fromkeys(KINDS.values(), 0) | {"other": 0}
        for name, count in self.count.items():
            result[KINDS.get(name, "other")] += count
        return result


def best_way(blocks, loops, head, body, ends, rank=Way.rank):
    """Through one turn of a loop, inner loops taken as often as they turn."""
    inner = {h: loops[h] for h in loops if h != head and h in body and loops[h][0] < body}
    outermost = {h: l for h, l in inner.items()
                 if not any(h in other[0] for g, other in inner.items() if g != h and other[0] > l[0])}
    inside = {j: h for h, (its, _) in outermost.items() for j in its}
    known = {}

    def way_from(i):
        """To the end of the turn, from block i on; None where the loop is left."""
        if i not in body:
            return None
        if i in known:
            return known[i]
        known[i] = None
        if i in inside:
            its_head = inside[i]
            its_body, its_ends = outermost[its_head]
            turn = best_way(blocks, loops, its_head, its_body, its_ends, Way.rank_of_inner)
            here = Way().plus(turn, turns(blocks, its_body, its_ends[0])) if turn else Way()
            exits = {j for k in its_body for j in blocks[k].next if j not in its_body}
            last = False
        else:
            here, exits, last = Way(blocks[i].code), set(blocks[i].next), i in ends
        ways = [Way()] if last else []
        ways += [w for w in (way_from(j) for j in exits if j != head) if w is not None]
        if ways:
            known[i] = max((here.plus(w) for w in ways), key=rank)
        return known[i]

    return way_from(head)


def main_loop(lines):
    """The way through a turn of the loop with most products of tensor cores, None without one."""
    blocks = blocks_of(lines)
    loops = loops_of(blocks)
    best = None
    for head, (body, ends) in loops.items():
        way = best_way(blocks, loops, head, body, ends)
        if way and way.count["HMMA"] and (best is None or way.rank() > best.rank()):
            best = way
    return best


def loops_of_file(name, arch):
    """{kernel: Way}."""
    sys.setrecursionlimit(10000)
    path = next((ROOT / "tensor" / "cuda").rglob(name), None)
    if not path:
        sys.exit(f"sass.py: {name} is not among the CUDA kernels")
    ways = {kernel: main_loop(lines) for kernel, lines in disassembled(path, arch).items()}
    return {kernel: way for kernel, way in ways.items() if way}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("kernel", nargs="?", default="", help="beginning of its name")
    parser.add_argument("--arch", default="sm_90a")
    args = parser.parse_args()
    for name in ("nvcc", "nvdisasm"):
        if not tool(name):
            sys.exit(f"sass.py: {name} was not found")
    kinds = list(dict.fromkeys(KINDS.values())) + ["other"]
    print("| " + " | ".join([f"kernel ({args.arch})", "instructions a turn", *kinds]) + " |")
    print("|---" + "|---:" * (len(kinds) + 1) + "|")
    for kernel, way in loops_of_file(args.file, args.arch).items():
        if kernel.startswith(args.kernel):
            counts = way.kinds()
            print("| " + " | ".join([f"`{kernel}`", str(way.instructions()),
                                     *(str(counts[kind]) for kind in kinds)]) + " |")


if __name__ == "__main__":
    main()
