"""llama.cpp beside us, by its C API in the library of the PyPI package xllamacpp.

    peer_llama_cpp.py ppl MODEL.gguf TEXT [--ctx-size 512] [--windows 8]
    peer_llama_cpp.py bench MODEL.gguf [--threads 2] [--repetitions 3]

ppl is what llama-perplexity prints: of each window the second half is scored. bench prints tokens a
second of prompts and of decoding, as `tool_llama bench` does, the time from opening the file to the
first token, and resident memory. Structures whose layout differs from version to version are taken
as bytes; the fields that are set are found by their defaults, and the program stops where they are not.
"""

import argparse
import ctypes
import math
import resource
import time

import numpy as np
import xllamacpp

Blob = ctypes.c_byte * 1024  # more than any of these structures; a callee reads its own part


class Parameters(ctypes.Structure):
    _fields_ = [("bytes", Blob)]


class Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.c_void_p),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.c_void_p),
        ("n_seq_id", ctypes.c_void_p),
        ("seq_id", ctypes.c_void_p),
        ("logits", ctypes.c_void_p),
    ]


def library():
    name = xllamacpp.__path__[0] + "/xllamacpp.abi3.so"
    lib = ctypes.CDLL(name)
    for function in ("llama_model_default_params", "llama_context_default_params"):
        getattr(lib, function).restype = Parameters
    for function in ("llama_model_load_from_file", "llama_init_from_model", "llama_get_logits",
                     "llama_get_logits_ith", "llama_get_memory", "llama_model_get_vocab"):
        getattr(lib, function).restype = ctypes.c_void_p
    lib.llama_batch_get_one.restype = Batch
    lib.llama_vocab_get_add_bos.restype = ctypes.c_bool
    lib.llama_log_set(LOG, None)
    return lib


LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)


class Model:
    def __init__(self, path, context, threads):
        self.lib = lib = library()
        lib.llama_backend_init()
        self.model = ctypes.c_void_p(
            lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params()))
        assert self.model.value, path
        parameters = lib.llama_context_default_params()
        words = np.frombuffer(parameters.bytes, np.int32)
        assert list(words[:4]) == [512, 2048, 512, 1], words[:12]  # n_ctx n_batch n_ubatch n_seq_max
        at = [i for i in range(4, 8) if words[i] == words[i + 1] == 4]
        assert at, words[:12]  # n_threads, n_threads_batch
        words[0], words[1] = context, max(context, 2048)
        words[at[0]] = words[at[0] + 1] = threads
        self.context = ctypes.c_void_p(lib.llama_init_from_model(self.model, parameters))
        assert self.context.value, "no context"
        self.vocab = ctypes.c_void_p(lib.llama_model_get_vocab(self.model))
        self.size = lib.llama_vocab_n_tokens(self.vocab)

    def tokens(self, text):
        raw = text.encode()
        ids = (ctypes.c_int32 * (len(raw) + 8))()
        n = self.lib.llama_tokenize(self.vocab, raw, len(raw), ids, len(ids), False, False)
        assert n >= 0
        return np.array(ids[:n], np.int32)

    def clear(self):
        self.lib.llama_memory_clear(ctypes.c_void_p(self.lib.llama_get_memory(self.context)), True)

    def feed(self, ids, every=False):
        """Decodes ids behind the cache; the logits of the last, or of every one."""
        ids = np.ascontiguousarray(ids, np.int32)
        batch = self.lib.llama_batch_get_one(ids.ctypes.data_as(ctypes.c_void_p), len(ids))
        wanted = np.ones(len(ids), np.int8)
        if every:
            batch.logits = wanted.ctypes.data
        assert self.lib.llama_decode(self.context, batch) == 0
        rows = len(ids) if every else 1
        source = (self.lib.llama_get_logits(self.context) if every else
                  self.lib.llama_get_logits_ith(self.context, -1))
        array = ctypes.cast(source, ctypes.POINTER(ctypes.c_float * (rows * self.size)))
        return np.frombuffer(array.contents, np.float32).reshape(rows, self.size)


def perplexity(args):
    model = Model(args.model, args.ctx_size, args.threads)
    ids = model.tokens(open(args.text, encoding="utf-8").read())
    n, half = args.ctx_size, args.ctx_size // 2
    total, count = 0.0, 0
    for w in range(min(args.windows, len(ids) // n)):
        window = ids[w * n:(w + 1) * n].copy()
        fed = window.copy()
        if model.lib.llama_vocab_get_add_bos(model.vocab):
            fed[0] = model.lib.llama_vocab_bos(model.vocab)
        model.clear()
        logits = model.feed(fed, every=True)[half:n - 1].astype(np.float64)
        top = logits.max(axis=1)
        lse = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        total += (lse - logits[np.arange(len(lse)), window[half + 1:]]).sum()
        count += len(lse)
    print(f"perplexity {math.exp(total / count):.5f} over {count} tokens")


def bench(args):
    begin = time.perf_counter()
    model = Model(args.model, 4352, args.threads)
    first = np.arange(16, dtype=np.int32) + 5
    model.feed(first)
    print(f"start to first token: {time.perf_counter() - begin:.3f} s")
    ids = (np.arange(8192, dtype=np.int64) * 7919 % (model.size - 10) + 5).astype(np.int32)
    tests = [("pp512", 0, 512, 0), ("pp2048", 0, 2048, 0), ("tg64", 0, 0, 64),
             ("tg64 @ d4096", 4096, 0, 64)]
    for name, depth, prompt, decoded in tests:
        rates = []
        for repetition in range(args.repetitions + 1):
            model.clear()
            for at in range(0, depth, 2048):
                model.feed(ids[at:at + 2048])
            begin = time.perf_counter()
            if prompt:
                model.feed(ids[:prompt])
            for i in range(decoded):
                model.feed(ids[depth + i:depth + i + 1])
            rates.append((prompt + decoded) / (time.perf_counter() - begin))
        rates = rates[1:]
        print(f"{name:14} {np.mean(rates):9.2f} t/s  ({', '.join(f'{r:.2f}' for r in rates)})")
    print(f"resident memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.1f} MiB at most")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
verbs = parser.add_subparsers(required=True)
verb = verbs.add_parser("ppl")
verb.set_defaults(run=perplexity)
verb.add_argument("model")
verb.add_argument("text")
verb.add_argument("--ctx-size", type=int, default=512)
verb.add_argument("--windows", type=int, default=8)
verb.add_argument("--threads", type=int, default=2)
verb = verbs.add_parser("bench")
verb.set_defaults(run=bench)
verb.add_argument("model")
verb.add_argument("--threads", type=int, default=2)
verb.add_argument("--repetitions", type=int, default=3)
arguments = parser.parse_args()
arguments.run(arguments)
