#!/usr/bin/env python3
"""Writes tests/golden/images: small JPEG and PNG files of every kind with the pixels they mean.

JPEG pixels and resized pictures come from Pillow; PNG files are put together here from known
samples, so that their pixels owe nothing to a decoder. Needs Pillow and NumPy:
    python3 tools/make_image_goldens.py
Every X.rgb holds height x width x 3 bytes; index.json has the sizes and how each was made.
"""
import io, json, os, struct, sys, zlib
import numpy as np
from PIL import Image

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "images")
W, H = 61, 47
index = []


def scene(w=W, h=H, seed=1):
    """Smooth colours, hard edges and some noise, so that filters and chroma planes show."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w]
    r = 128 + 100 * np.sin(x / 7.0) * np.cos(y / 9.0)
    g = 255 * ((x // 8 + y // 8) % 2)
    b = 255.0 * x / w
    a = np.stack([r, g, b], -1) + rng.normal(0, 8, (h, w, 3))
    return np.clip(a, 0, 255).astype(np.uint8)


def add(file, data, rgb, **more):
    with open(os.path.join(OUT, file), "wb") as f:
        f.write(data)
    pixels(file, rgb, **more)


def pixels(file, rgb, **more):
    rgb = np.ascontiguousarray(rgb, dtype=np.uint8)
    name = more.get("name", file) + ".rgb"
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(rgb.tobytes())
    index.append(dict(more, file=file, pixels=name, height=rgb.shape[0], width=rgb.shape[1]))


def jpegs():
    rgb = Image.fromarray(scene())
    kinds = {
        "rgb444": dict(quality=92, subsampling=0), "rgb422": dict(quality=90, subsampling=1),
        "rgb420": dict(quality=85, subsampling=2),
        "progressive": dict(quality=85, subsampling=2, progressive=True),
        "restart": dict(quality=85, subsampling=2, restart_marker_blocks=2),
    }
    files = {name: (rgb, options) for name, options in kinds.items()}
    files["grey"] = (rgb.convert("L"), dict(quality=90))
    files["cmyk"] = (rgb.convert("CMYK"), dict(quality=95))
    for w, h in ((1, 1), (1, 19), (17, 1), (8, 8), (31, 16)):
        files[f"size{w}x{h}"] = (Image.fromarray(scene(w, h)), dict(quality=90, subsampling=2))
    for name, (image, options) in files.items():
        stream = io.BytesIO()
        image.save(stream, "JPEG", **options)
        decoded = Image.open(io.BytesIO(stream.getvalue())).convert("RGB")
        add(f"{name}.jpg", stream.getvalue(), np.asarray(decoded), kind="jpeg",
            tolerance=1 if name == "cmyk" else 0)


def chunk(tag, body):
    return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2)]


def packed(samples, depth):
    """Rows of samples [h, w, channels] as bytes, each row with filter type 0 before it."""
    rows = b""
    for row in samples:
        flat = row.reshape(-1)
        if depth == 16:
            body = flat.astype(">u2").tobytes()
        elif depth == 8:
            body = flat.astype(np.uint8).tobytes()
        else:
            per = 8 // depth
            flat = np.concatenate([flat, np.zeros(-len(flat) % per, flat.dtype)]).reshape(-1, per)
            shifts = np.arange(per - 1, -1, -1) * depth
            body = (flat.astype(np.uint32) << shifts).sum(1).astype(np.uint8).tobytes()
        rows += b"\0" + body
    return rows


def png(samples, depth, colour, interlace=0, before=b"", parts=1):
    h, w = samples.shape[:2]
    if interlace:
        raw = b"".join(packed(samples[y::dy, x::dx], depth) for x, y, dx, dy in ADAM7
                       if samples[y::dy, x::dx].size)
    else:
        raw = packed(samples, depth)
    data = zlib.compress(raw, 9)
    step = -(-len(data) // parts)
    idat = b"".join(chunk(b"IDAT", data[i:i + step]) for i in range(0, len(data), step))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + head + before + idat + chunk(b"IEND", b"")


def pngs():
    rgb = scene(29, 23, 2)
    grey = rgb[..., :1]
    alpha = scene(29, 23, 3)[..., :1]
    rng = np.random.default_rng(4)
    for depth in (1, 2, 4, 8, 16):
        top = (1 << depth) - 1
        levels = rng.integers(0, top + 1, grey.shape)
        shown = levels >> 8 if depth == 16 else levels * 255 // top
        for interlace in (0, 1):
            add(f"grey{depth}i{interlace}.png", png(levels, depth, 0, interlace),
                shown.repeat(3, -1), kind="png")
    for depth in (1, 2, 4, 8):
        count = min(1 << depth, 200)
        palette = rng.integers(0, 256, (count, 3)).astype(np.uint8)
        which = rng.integers(0, count, grey.shape)
        transparent = chunk(b"tRNS", bytes(range(0, count)))
        for interlace in (0, 1):
            add(f"palette{depth}i{interlace}.png",
                png(which, depth, 3, interlace, chunk(b"PLTE", palette.tobytes()) + transparent),
                palette[which[..., 0]], kind="png")
    wide = rng.integers(0, 65536, rgb.shape)
    text = chunk(b"tEXt", b"Comment\0nothing") + chunk(b"gAMA", struct.pack(">I", 45455))
    for interlace in (0, 1):
        add(f"rgb8i{interlace}.png", png(rgb, 8, 2, interlace, text, 3), rgb, kind="png")
        add(f"rgb16i{interlace}.png", png(wide, 16, 2, interlace), wide >> 8, kind="png")
        add(f"rgba8i{interlace}.png", png(np.concatenate([rgb, alpha], -1), 8, 6, interlace), rgb,
            kind="png")
        add(f"greyalpha8i{interlace}.png", png(np.concatenate([grey, alpha], -1), 8, 4, interlace),
            grey.repeat(3, -1), kind="png")
    stream = io.BytesIO()  # with the filters that an ordinary encoder chooses
    Image.fromarray(rgb).save(stream, "PNG", optimize=True)
    add("filtered.png", stream.getvalue(), rgb, kind="png")


def resized():
    source = Image.fromarray(scene(53, 41, 5))
    stream = io.BytesIO()
    source.save(stream, "PNG")
    with open(os.path.join(OUT, "resize_source.png"), "wb") as f:
        f.write(stream.getvalue())
    cases = [((53, 41), None), ((20, 20), None), ((112, 96), None), ((7, 90), None), ((1, 1), None),
             ((32, 24), (3.0, 2.0, 50.0, 40.0)), ((24, 32), (10.25, 5.5, 31.75, 29.125)),
             ((40, 40), (0.0, 0.0, 5.0, 5.0))]
    for filter_name, code in (("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)):
        for i, (size, box) in enumerate(cases):
            result = source.resize(size, code, box=box)
            pixels("resize_source.png", np.asarray(result), name=f"resize_{filter_name}{i}",
                   kind="resize", filter=filter_name, box=box or [0, 0, 53, 41])


def transformed():
    """What the usual training and evaluation transforms make of a JPEG, before normalisation."""
    image = Image.open(os.path.join(OUT, "rgb420.jpg")).convert("RGB")
    for i, (x, y, w, h, size) in enumerate([(0, 0, 61, 47, (48, 40)), (13, 5, 30, 33, (24, 24)),
                                            (20, 30, 9, 7, (32, 32)), (7, 9, 50, 38, (16, 20))]):
        result = image.crop((x, y, x + w, y + h)).resize(size, Image.BICUBIC)
        pixels("rgb420.jpg", np.asarray(result), name=f"crop{i}", kind="crop", crop=[x, y, w, h])
    for i, (size, percent) in enumerate([(28, 0.875), (32, 1.0), (64, 0.9)]):
        short = int(size / percent + 1e-6)
        resized_image = image.resize((int(short * W / H), short), Image.BICUBIC)
        left = int(round((resized_image.width - size) / 2.0))
        top = int(round((resized_image.height - size) / 2.0))
        result = resized_image.crop((left, top, left + size, top + size))
        pixels("rgb420.jpg", np.asarray(result), name=f"eval{i}", kind="eval", crop_pct=percent)


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    jpegs()
    pngs()
    resized()
    transformed()
    with open(os.path.join(OUT, "index.json"), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(entry) for entry in index) + "\n]\n")
    print(f"{len(index)} entries in {os.path.normpath(OUT)}", file=sys.stderr)
