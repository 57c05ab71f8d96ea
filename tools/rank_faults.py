#!/usr/bin/env python3
"""Random faults of trainings of several ranks, each of which must end as docs/many.md says: within the
deadline, with the right exit code, its last checkpoint whole (the next injection goes on from it).

  BIN=build/bin tools/rank_faults.py --count 200 --seed 1

Faults: kill (-9), stop (SIGSTOP), term (TERM at one rank), late (a rank starts seconds later), missing (one
does not start), differ (another configuration), save (-9 while a checkpoint is written), nan (a constant in
one rank's memory is NaN for some steps), and with --cut, as root, a cut link between two network namespaces.
Each run spreads nothing, the optimizer or the weights as well, and goes on from what the one before has left
with another number of ranks. The last line counts them.
"""

import argparse
import collections
import json
import math
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

BIN = os.path.abspath(os.environ.get("BIN", "build/bin"))
PEER_TIMEOUT, RENDEZVOUS = 3.0, 3.0
SHARDS = {"none": (), "optimizer": ("--shard", "optimizer"), "full": ("--shard", "full", "--grad-checkpointing")}
ANGLE = struct.pack("<f", math.cos(1))  # of the table of rotary positions, which no step changes
NAN = struct.pack("<I", 0x7FC0DEAD)


def shell(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Hosts:
    """Two network namespaces with a cable between them."""

    names = ("mullion-a", "mullion-b")

    def __init__(self):
        self.remove()
        for name in self.names:
            shell("ip", "netns", "add", name)
        shell("ip", "link", "add", "mla", "netns", "mullion-a", "type", "veth", "peer", "name", "mlb",
              "netns", "mullion-b")
        for name, link, address in (("mullion-a", "mla", "10.77.0.1"), ("mullion-b", "mlb", "10.77.0.2")):
            shell("ip", "-n", name, "address", "add", address + "/24", "dev", link)
            for device in (link, "lo"):
                shell("ip", "-n", name, "link", "set", device, "up")

    def cut(self):
        shell("ip", "-n", "mullion-b", "link", "set", "mlb", "down")

    def mend(self):
        shell("ip", "-n", "mullion-b", "link", "set", "mlb", "up")

    @classmethod
    def remove(cls):
        for name in cls.names:
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)


class Poison:
    """While one lives, every place of a process's own memory that held ANGLE is NaN."""

    def __init__(self, pid):
        self.memory, self.places = open(f"/proc/{pid}/mem", "r+b", buffering=0), []
        for line in open(f"/proc/{pid}/maps"):
            span, rights, _, _, inode, *_ = line.split()
            begin, end = (int(x, 16) for x in span.split("-"))
            if not rights.startswith("rw") or inode != "0":
                continue
            try:
                self.memory.seek(begin)
                data = self.memory.read(end - begin)
            except OSError:
                continue
            at = data.find(ANGLE)
            while at >= 0:
                self.places += [begin + at] if at % 4 == 0 else []
                at = data.find(ANGLE, at + 1)
        self.put(ANGLE, NAN)

    def put(self, old, new):
        for place in self.places:
            self.memory.seek(place)
            if self.memory.read(4) == old:  # memory that is something else by now stays
                self.memory.seek(place)
                self.memory.write(new)

    def end(self):
        self.put(NAN, ANGLE)
        self.memory.close()


class Run:
    def __init__(self, folder, ranks, number, extra=(), delays=(), hosts=None):
        self.logs, self.processes = [], {}
        self.waiting = [(delays[r] if delays else 0, r) for r in range(ranks)]
        self.began, self.folder, self.ranks, self.number = time.monotonic(), folder, ranks, number
        self.extra, self.hosts = extra, hosts
        self.start_due()

    def start_due(self):
        for delay, rank in list(self.waiting):
            if delay is not None and time.monotonic() - self.began >= delay:
                self.waiting.remove((delay, rank))
                self.start(rank)

    def start(self, rank):
        n = self.ranks
        env = dict(os.environ, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(n),
                   LOCAL_WORLD_SIZE=str(n), MASTER_ADDR="localhost", OMP_NUM_THREADS="1",
                   OMP_WAIT_POLICY="passive", MASTER_PORT=str(20000 + (os.getpid() + self.number) % 20000))
        command = [BIN + "/train_llama", "pretrain", "--model-config", "tiny/config.json", "--data",
                   "made.bin", "--ctx-size", "64", "-b", "1", "--grad-accum-steps", "6", "--max-steps",
                   "10000000", "--lr-schedule", "constant_with_warmup", "--warmup-steps", "0", "--attn", "full",
                   "--lr", "1e-4", "--threads", "1", "--name", "x", "--resume", "auto",
                   "--peer-timeout", str(PEER_TIMEOUT), "--rendezvous-timeout", str(RENDEZVOUS), "-q"]
        command += [argument.replace("RANK", str(rank)) for argument in self.extra]
        if self.hosts:
            env.update(LOCAL_WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="10.77.0.1")
            command = ["ip", "netns", "exec", Hosts.names[rank]] + command
        log = open(f"{self.folder}/log-{rank}", "w")
        self.processes[rank] = subprocess.Popen(command, cwd=self.folder, env=env, stderr=log,
                                                stdout=subprocess.DEVNULL)

    def step(self):
        try:
            lines = open(self.folder + "/runs/x/metrics.jsonl").read().splitlines()
            return int(re.search(r'"step": ?(\d+)', lines[-1]).group(1))
        except (OSError, IndexError, AttributeError):
            return 0

    def losses(self):
        lines = open(self.folder + "/runs/x/metrics.jsonl").read().split("\n")[:-1]
        return [json.loads(line)["loss"] for line in lines]

    def wait_losses(self, good, deadline=60):
        begin = time.monotonic()
        while not good(self.losses()):
            if time.monotonic() - begin > deadline or any(p.poll() is not None for p in self.processes.values()):
                return False
            time.sleep(0.02)
        return True

    def wait_steps(self, more, deadline=300):
        begin, first = time.monotonic(), self.step()
        while self.step() < first + more and time.monotonic() - begin < deadline:
            self.start_due()
            if all(p.poll() is not None for p in self.processes.values()):
                return False
            time.sleep(0.02)
        return self.step() >= first + more

    def codes(self, deadline, but=()):
        end = time.monotonic() + deadline
        for rank, process in self.processes.items():
            if rank in but:
                continue
            try:
                process.wait(max(0.01, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return {r: p.returncode for r, p in self.processes.items() if r not in but}

    def log(self, rank):
        return open(f"{self.folder}/log-{rank}").read()

    def end(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def inject(kind, folder, ranks, number, draw, hosts):
    """What went wrong, or nothing."""
    victim = draw.randrange(ranks)
    others = [r for r in range(ranks) if r != victim]
    extra, delays = (), ()
    if kind == "late":
        delays = [draw.uniform(0, 1.5) if r == victim else 0 for r in range(ranks)]
    if kind == "missing":
        delays = [None if r == victim else 0 for r in range(ranks)]
    if kind == "differ":
        extra = ("--weight-decay", "0.RANK")
    extra += ("--save-every", "1" if kind == "save" else "5")
    if kind == "nan":
        extra += ("--max-skipped", "1000000")
    extra += SHARDS[draw.choice(sorted(SHARDS))]
    run = Run(folder, ranks, number, extra, delays, hosts if kind == "cut" else None)
    slack = 30  # seconds of a loaded machine
    try:
        if kind == "missing":
            codes = run.codes(RENDEZVOUS + 10 + slack)
            named = victim == 0 or re.search(rf"these did not come.*: {victim}\b", run.log(0))
            good = all(c == 7 for c in codes.values()) and named
            return None if good else f"codes {codes}, {run.log(others[0])[-300:]}"
        if kind == "differ":
            codes = run.codes(60)
            good = set(codes.values()) <= {2, 7} and "optim.weight_decay" in run.log(0) + run.log(1)
            return None if good else f"codes {codes}, {run.log(0)[-300:]}"
        if not run.wait_steps(draw.randrange(1, 12)):
            return f"no steps: {run.log(0)[-300:]}"
        time.sleep(draw.uniform(0, 0.1))
        process = run.processes[victim]
        if kind == "nan":
            before = len(run.losses())
            poison = Poison(process.pid)
            if not poison.places:
                return f"no table of angles in the memory of rank {victim}"
            left_out = run.wait_losses(lambda losses: "NaN" in losses[before:])
            poison.end()
            if not left_out:
                return f"no step was left out: {run.log(0)[-300:]}"
            if not run.wait_losses(lambda losses: "NaN" not in losses[-3:]):
                return f"losses stay NaN: {run.log(0)[-300:]}"
        if kind in ("term", "late", "nan"):
            process.send_signal(signal.SIGTERM)
            codes = run.codes(60)
            return None if set(codes.values()) == {75} else f"codes {codes}, {run.log(0)[-300:]}"
        if kind == "save":  # of step after step: at any place of one
            time.sleep(draw.uniform(0, 0.3))
        begin = time.monotonic()
        if kind == "cut":
            hosts.cut()
            others, victim = list(range(ranks)), None
        else:
            process.send_signal(signal.SIGSTOP if kind == "stop" else signal.SIGKILL)
        codes = run.codes(PEER_TIMEOUT + slack, but=() if victim is None else (victim,))
        took = time.monotonic() - begin
        named = victim is None or f"rank {victim} of {ranks}" in run.log(others[0])
        good = set(codes.values()) == {7} and named and "step " in run.log(others[0])
        return None if good else f"codes {codes} after {took:.1f} s, {run.log(others[0])[-300:]}"
    finally:
        run.end()
        if kind == "cut":
            hosts.mend()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--count", type=int, default=20)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--cut", action="store_true", help="also cut links (root, iproute2)")
    a = p.parse_args()
    for name in (signal.SIGTERM, signal.SIGINT):  # which a shell has its background jobs ignore
        signal.signal(name, lambda number, frame: sys.exit(128 + number))
    draw, folder, hosts = random.Random(a.seed), tempfile.mkdtemp(), None
    kinds = ["kill", "stop", "term", "late", "missing", "differ", "save", "nan"] + (["cut"] if a.cut else [])
    counts, failures = collections.Counter(), 0
    try:
        shell(BIN + "/data_llama", "lexicon", "--rows", "200", "--length", "64", "--output", folder + "/made.bin",
              "--model-dir", folder + "/tiny")
        hosts = Hosts() if a.cut else None
        for number in range(a.count):
            kind, ranks = draw.choice(kinds), draw.choice((2, 2, 3))
            wrong = inject(kind, folder, 2 if kind == "cut" else ranks, number, draw, hosts)
            counts[kind] += 1
            if wrong:
                failures += 1
                print(f"{number} {kind} of {ranks} ranks: {wrong}", flush=True)
    finally:
        if a.cut:
            Hosts.remove()
        shutil.rmtree(folder, ignore_errors=True)
        print(f"{sum(counts.values())} faults, {failures} ended otherwise than they must:",
              ", ".join(f"{kind} {n}" for kind, n in sorted(counts.items())))
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
