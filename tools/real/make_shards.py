#!/usr/bin/env python3
"""Writes tests/real/shards and tests/real/shards.json: WebDataset shards as other tools write them,
and tests/real/imagenet: a miniature of ImageNet's official archives.

Shards come from webdataset's writer, Python's tarfile (ustar, GNU, pax) and GNU tar; the right values
are what webdataset's reader gives. The archives are a tar of the classes' tars and a flat one, as
ILSVRC2012 has them, of small pictures in tests/real/images: one PNG under a .JPEG name, a CMYK one, one
turned by EXIF, a grey one, a cut one. Needs webdataset, and SciPy for the devkit's table:
    python3 tools/real/make_shards.py
"""
import gzip, hashlib, io, json, os, shutil, subprocess, tarfile
import numpy as np
import scipy.io
import webdataset as wds

REAL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "real")
OUT = os.path.join(REAL, "shards")
MINI = os.path.join(REAL, "imagenet")
rows = []


def picture(name):
    with open(os.path.join(REAL, "images", name), "rb") as f:
        return f.read()


JPEG, OTHER, PNG = picture("rgb444.jpg"), picture("grey.jpg"), picture("rgb.png")


def members(tar, files, fmt=None, info=lambda i: i):
    for name, data in files:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(info(entry), io.BytesIO(data))


def plain(file, files, fmt=tarfile.USTAR_FORMAT, **kinds):
    path = os.path.join(OUT, file)
    with tarfile.open(path, "w", format=fmt) as tar:
        members(tar, files, **kinds)
    return path


def sample(key, label, data=JPEG, extension="jpg"):
    return [(f"{key}.{extension}", data), (f"{key}.cls", str(label).encode())]


def row(name, file, made_by, error=None):
    fields = {"name": name, "file": file, "made_by": made_by}
    if error:
        fields["error"] = error
    else:
        fields["samples"] = []
        dataset = wds.WebDataset(os.path.join(OUT, file), shardshuffle=False, empty_check=False)
        for s in dataset:
            data = next(s[k] for k in ("jpg", "jpeg", "png") if k in s)
            fields["samples"].append([s["__key__"], int(s["cls"]), hashlib.sha256(data).hexdigest()[:16]])
    rows.append(fields)


def good():
    version = f"webdataset {wds.__version__}"
    with wds.TarWriter(os.path.join(OUT, "tarwriter.tar"), mtime=0) as sink:
        for i, (data, ext) in enumerate([(JPEG, "jpg"), (PNG, "png"), (OTHER, "jpg")]):
            sink.write({"__key__": f"sample{i:06d}", ext: data, "cls": i % 2, "json": {"i": i}})
    row("webdataset_TarWriter", "tarwriter.tar", f"{version}, TarWriter")
    with wds.TarWriter(os.path.join(OUT, "folders.tar"), mtime=0) as sink:
        for i in range(3):
            sink.write({"__key__": f"n0144/a{i}", "jpg": JPEG, "cls": i, "txt": "a word"})
    row("webdataset_keys_with_folders", "folders.tar", f"{version}, TarWriter, keys with a slash")
    files = sample("a", 1) + sample("b", 0, PNG, "png")
    for fmt, name in ((tarfile.USTAR_FORMAT, "ustar"), (tarfile.GNU_FORMAT, "gnu"), (tarfile.PAX_FORMAT, "pax")):
        plain(f"{name}.tar", files, fmt)
        row(f"tarfile_{name}", f"{name}.tar", f"Python tarfile, {name}")
        long = sample("d/" * 60 + "x" * 90, 3) + sample("last", 2)
        plain(f"{name}_long.tar", long, fmt)
        row(f"tarfile_{name}_long_names", f"{name}_long.tar", f"Python tarfile, {name}, names of more than 100 bytes")
    plain("upper.tar", [("A.JPG", JPEG), ("A.cls", b"0\n"), ("B.JPEG", OTHER), ("B.cls", b" 1"[1:])])
    rows.append({"name": "upper_case_extensions", "file": "upper.tar", "made_by": "Python tarfile",
                 "samples": [["A", 0, hashlib.sha256(JPEG).hexdigest()[:16]], ["B", 1, hashlib.sha256(OTHER).hexdigest()[:16]]]})
    work = os.path.join(OUT, "work")
    os.makedirs(work)
    for name, data in sample("k1", 4) + sample("k2", 5, OTHER) + [("k2.seg.png", PNG)]:
        with open(os.path.join(work, name), "wb") as f:
            f.write(data)
    tool = subprocess.run(["tar", "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    for fmt in ("gnu", "pax", "v7"):
        file = f"gnutar_{fmt}.tar"
        subprocess.run(["tar", "--sort=name", f"--format={fmt}", "--owner=0", "--group=0", "--mtime=@0",
                        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime" if fmt == "pax" else "--no-xattrs",
                        "-cf", os.path.join(OUT, file), "."], cwd=work, check=True)
        row(f"gnu_tar_{fmt}", file, f"{tool}, --format={fmt}, a folder \".\"")
    shutil.rmtree(work)


def bad():
    files = sample("a", 1) + sample("b", 0)
    path = plain("whole.tar", files)
    data = open(path, "rb").read()
    os.remove(path)

    def write(file, content, error, what):
        with open(os.path.join(OUT, file), "wb") as f:
            f.write(content)
        row(file.removesuffix(".tar"), file, "Python tarfile, " + what, error)

    write("cut_in_picture.tar", data[:2000], ["cut_in_picture.tar", "cut"], "cut within a member")
    content = 512 + len(JPEG) + -len(JPEG) % 512 + 1024
    write("cut_between.tar", data[:content], ["cut_between.tar", "closing zero blocks"], "cut between members")
    write("cut_in_header.tar", data[:content + 100], ["cut_in_header.tar", "cut in a header"], "cut in a header")
    broken = bytearray(data)
    broken[content + 5] ^= 1
    write("checksum.tar", bytes(broken), ["checksum.tar", "wrong checksum", str(content)], "one bit of a header wrong")
    write("empty.tar", b"", ["empty.tar", "empty file"], "empty")
    write("no_tar.tar", JPEG[:2048], ["no_tar.tar", "no tar archive"], "a JPEG under this name")
    write("zeros.tar", bytes(10240), ["zeros.tar", "no samples"], "without members")
    header = tarfile.TarInfo("huge.jpg")
    header.size = 1 << 40
    write("size_lies.tar", header.tobuf(tarfile.GNU_FORMAT) + bytes(1024), ["size_lies.tar", "huge.jpg", "cut, or the size is wrong"], "a size of 2^40")

    def member(file, name, error, what, kind=None, link=""):
        def change(entry):
            if kind is not None and entry.name == name:
                entry.type, entry.linkname, entry.size = kind, link, 0
            return entry
        plain(file, sample("a", 1) + [(name, b"" if kind else JPEG)], info=change)
        row(file.removesuffix(".tar"), file, "Python tarfile, " + what, error)

    member("dotdot.tar", "x/../../evil.jpg", ["dotdot.tar", "\"..\""], "a name with ..")
    member("absolute.tar", "/tmp/evil.jpg", ["absolute.tar", "absolute name"], "an absolute name")
    member("symlink.tar", "b.jpg", ["symlink.tar", "symbolic link", "b.jpg"], "a symbolic link", tarfile.SYMTYPE, "/etc/passwd")
    member("hardlink.tar", "b.jpg", ["hardlink.tar", "hard link"], "a hard link", tarfile.LNKTYPE, "a.jpg")
    member("device.tar", "b.jpg", ["device.tar", "device"], "a device", tarfile.CHRTYPE)
    for file, content, error, what in (
            ("no_class.tar", sample("a", 1) + [("b.jpg", JPEG)], ["no_class.tar/b", ".cls"], "a sample without a class"),
            ("no_picture.tar", sample("a", 1) + [("b.cls", b"1")], ["no_picture.tar/b", "no picture"], "a sample without a picture"),
            ("two_pictures.tar", sample("a", 1) + [("a.png", PNG)], ["two_pictures.tar/a", "two pictures"], "two pictures of a key"),
            ("apart.tar", [("a.jpg", JPEG), ("a.cls", b"0")] + sample("b", 1) + [("a.json", b"{}")], ["apart.tar/a", "do not stand together"], "a key that comes again"),
            ("bad_class.tar", [("a.jpg", JPEG), ("a.cls", b"dog")], ["bad_class.tar/a.cls", "dog"], "a class that is no number"),
            ("negative.tar", [("a.jpg", JPEG), ("a.cls", b"-1")], ["negative.tar/a.cls", "-1"], "a negative class")):
        plain(file, content)
        row(file.removesuffix(".tar"), file, "Python tarfile, " + what, error)


# Sorted ids and, as in ILSVRC2012, other numbers for them in the devkit.
CLASSES = ["n01440764", "n01443537", "n02105855"]
DEVKIT = {"n01440764": 3, "n01443537": 1, "n02105855": 2}


def archive(path, files):
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        members(tar, files)


def devkit(labels):
    """The labels and their table as the devkit has them: ids, then other synsets, in a MATLAB file."""
    synsets = np.zeros((len(DEVKIT) + 1, 1), dtype=[(k, object) for k in ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images")])
    for i, (wnid, n) in enumerate(sorted(DEVKIT.items(), key=lambda item: item[1]) + [("n00001740", 4)]):
        synsets[i, 0] = (np.array([[n]], dtype=np.uint16), wnid, f"name {n}", "what it is", np.array([[0.0]]), np.zeros((1, 0)), np.array([[0.0]]), np.array([[6.0]]))
    mat = io.BytesIO()
    scipy.io.savemat(mat, {"other": np.arange(3.0), "synsets": synsets}, do_compression=True)
    mat = mat.getvalue()
    mat = b"MATLAB 5.0 MAT-file".ljust(116) + mat[116:]  # without the day
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        members(tar, [("ILSVRC2012_devkit_t12/readme.txt", b"a miniature\n"),
                      ("ILSVRC2012_devkit_t12/data/meta.mat", mat),
                      ("ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
                       "".join(f"{DEVKIT[w]}\n" for w in labels).encode())])
    with open(os.path.join(MINI, "devkit.tar.gz"), "wb") as f:
        f.write(gzip.compress(packed.getvalue(), mtime=0))


def miniature():
    pictures = [JPEG, OTHER, picture("rgb420.jpg"), picture("progressive.jpg"), picture("restart.jpg")]
    special = {("n02105855", 1): PNG, ("n02105855", 2): picture("cmyk.jpg"), ("n01440764", 1): picture("exif6.jpg"),
               ("n01440764", 2): picture("grey.jpg"), ("n01443537", 3): picture("cut.jpg")}
    outer = []
    for wnid in CLASSES:
        inner = io.BytesIO()
        with tarfile.open(fileobj=inner, mode="w", format=tarfile.GNU_FORMAT) as tar:
            members(tar, [(f"{wnid}_{i * 17 + 3}.JPEG", special.get((wnid, i), pictures[i % 5])) for i in range(6)])
        outer.append((f"{wnid}.tar", inner.getvalue()))
    archive(os.path.join(MINI, "train.tar"), outer)
    labels = [CLASSES[i] for i in (2, 0, 1, 1, 2, 0)]
    flat = [(f"ILSVRC2012_val_{i + 1:08d}.JPEG", pictures[i % 5]) for i in range(6)]
    archive(os.path.join(MINI, "val.tar"), flat)
    archive(os.path.join(MINI, "val_short.tar"), flat[:5])

    def text(name, lines):
        with open(os.path.join(MINI, name), "w") as f:
            f.write("\n".join(lines) + "\n")

    text("val_wnids.txt", labels)
    text("ground_truth.txt", [str(DEVKIT[w]) for w in labels])
    text("map_clsloc.txt", [f"{w} {n} name_{n}" for w, n in DEVKIT.items()])
    text("places.txt", [str(CLASSES.index(w)) for w in labels])
    text("LOC_val_solution.csv", ["ImageId,PredictionString"] +
         [f"ILSVRC2012_val_{i + 1:08d},{w} 1 2 30 40 " for i, w in reversed(list(enumerate(labels)))])
    devkit(labels)
    text("val_other_class.txt", labels[:-1] + ["n15075141"])
    text("val_missing_class.txt", [CLASSES[0]] * 3 + [CLASSES[1]] * 3)


for folder in (OUT, MINI):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
good()
bad()
miniature()
with open(os.path.join(REAL, "shards.json"), "w") as f:
    f.write('{"rows": [\n' + ",\n".join(json.dumps(r) for r in rows) + "\n]}\n")
print(len(rows), "rows")
