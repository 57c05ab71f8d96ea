#!/usr/bin/env python3
"""Writes tests/real/texts and texts.json: text files in the encodings that editors and Python write,
and files of token ids as numpy, llm.c and LongLoRA write them.

`text` rows hold the documents that Python reads, `ids` rows what numpy reads.
    python3 tools/real/make_texts.py
"""
import json, os, shutil
import numpy

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "real")
OUT = os.path.join(ROOT, "texts")
NUMPY = "numpy " + numpy.__version__
TEXT = "caf\u00e9 and na\u00efve,\r\nline two\n"
WIDE = TEXT + "\u6f22\u5b57 \U0001F600"
rows = []


def put(name, data, made_by, **fields):
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(data)
    rows.append({"name": name.replace(".", "_"), "file": name, "made_by": made_by, **fields})


def texts():
    put("plain.txt", WIDE.encode("utf-8"), "Python: utf-8", documents=[WIDE])
    for kind in ("txt", "md"):
        put(f"marked.{kind}", WIDE.encode("utf-8-sig"), "Python: utf-8-sig", documents=[WIDE])
    lines = [json.dumps({"text": t}, ensure_ascii=False) for t in (WIDE, "two")]
    put("marked.jsonl", "\r\n".join(lines).encode("utf-8-sig"), "Python: json, utf-8-sig",
        documents=[WIDE, "two"])
    put("marked.json", json.dumps([WIDE, {"text": "two"}]).encode("utf-8-sig"),
        "Python: json, utf-8-sig", documents=[WIDE, "two"])
    put("latin1.txt", TEXT.encode("latin-1"), "Python: latin-1", encoding="latin1",
        documents=[TEXT])
    put("latin1_unsaid.txt", TEXT.encode("latin-1"), "Python: latin-1",
        error=["latin1_unsaid.txt", "byte 3", "not UTF-8"])
    put("utf16.txt", WIDE.encode("utf-16"), "Python: utf-16", encoding="utf-16", documents=[WIDE])
    put("utf16be.txt", WIDE.encode("utf-16-be"), "Python: utf-16-be", encoding="utf-16be",
        documents=[WIDE])
    put("utf16_unsaid.txt", WIDE.encode("utf-16"), "Python: utf-16", error=["UTF-16"])
    put("nul.txt", b"one\0two", "Python: bytes", error=["nul.txt", "byte 3", "NUL"])
    put("cut.txt", WIDE.encode("utf-8")[:-1], "Python: utf-8, cut in a character",
        error=["cut.txt", "not UTF-8"])
    put("letter.pdf", b"%PDF-1.7\n1 0 obj\n", "a PDF's first lines", error=["letter.pdf", "PDF"])


def token_files():
    ids = numpy.array([1, 5, 300, 2, 65535], dtype="<u2")
    big = numpy.array([1, 128000, 9], dtype="<u4")

    def header(magic, version, count):
        words = numpy.zeros(256, dtype="<i4")
        words[:3] = magic, version, count
        return words.tobytes()
    put("llmc_gpt2.bin", header(20240520, 1, 5) + ids.tobytes(), NUMPY + ": llm.c's GPT-2 layout",
        ids=ids.tolist())
    put("llmc_llama3.bin", header(20240801, 7, 3) + big.tobytes(), NUMPY + ": llm.c's Llama 3 layout",
        ids=big.tolist())
    put("longlora.bin", ids.tobytes(), NUMPY + ": uint16 tofile (LongLoRA)", dtype="u16",
        ids=ids.tolist())
    put("plain.u32", big.tobytes(), NUMPY + ": uint32 tofile", dtype="u32", ids=big.tolist())
    put("unsaid.bin", ids.tobytes(), NUMPY + ": uint16 tofile", dtype="", error=["no header"])
    put("odd.bin", ids.tobytes()[:-1], NUMPY + ": uint16, cut", dtype="u16", error=["9 bytes"])
    put("short.bin", header(20240520, 1, 6) + ids.tobytes(), NUMPY + ": a count too large", dtype="",
        error=["says 6"])
    put("swapped.bin", ids.astype(">u2").tobytes().join([numpy.frombuffer(
        header(20240520, 1, 5), "<i4").astype(">i4").tobytes(), b""]), NUMPY + ": big-endian",
        dtype="", error=["big-endian"])
    name = os.path.join(OUT, "saved.npy")
    numpy.save(name, ids)
    put("saved.npy", open(name, "rb").read(), NUMPY + ": save", dtype="u16", error=["NumPy"])


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    texts()
    token_files()
    with open(os.path.join(ROOT, "texts.json"), "w") as f:
        lines = ",\n".join("    " + json.dumps(r) for r in rows)
        f.write('{\n  "rows": [\n' + lines + "\n  ]\n}\n")
    print(len(rows), "rows")
