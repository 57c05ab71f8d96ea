#!/usr/bin/env python3
"""Writes tests/golden/augment: three small pictures after every operation of automatic augmentation.

The operations are timm's own on Pillow, at five magnitudes and both directions, with bicubic and
bilinear interpolation where one is used. Needs timm, Pillow and NumPy:
    python3 tools/make_augment_goldens.py
index.json lists the pictures (PNG) and, for each, the cases in the order in which their pixels
(height x width x 3 bytes) follow one another in its .rgb file.
"""
import json, os
import numpy as np
import timm
from PIL import Image, ImageFilter
from timm.data import auto_augment as aa

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "augment")
MAGNITUDES = [0, 1.7, 5, 7.3, 10]
FILL = (124, 116, 104)
MOVES = ["Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"]
OPERATIONS = sorted(set(aa._RAND_TRANSFORMS) | set(aa._RAND_INCREASING_TRANSFORMS))
PLAIN = ["AutoContrast", "Equalize", "Invert"]


def scene(w, h, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w]
    r = 128 + 100 * np.sin(x / 5.0) * np.cos(y / 4.0)
    g = 60 + 150 * ((x // 5 + y // 4) % 2)
    b = 230.0 * x / w
    return np.clip(np.stack([r, g, b], -1) + rng.normal(0, 9, (h, w, 3)), 7, 246).astype(np.uint8)


def cases():
    for name in OPERATIONS:
        two_ways = name in MOVES or name[:-10] in ("Color", "Contrast", "Brightness", "Sharpness")
        for magnitude in [0] if name in PLAIN else MAGNITUDES:
            if name.startswith("Posterize") and aa.LEVEL_TO_ARG[name](magnitude, None)[0] == 0:
                continue  # no bit is kept: black, which newer Pillows refuse
            for sign in (1, -1) if two_ways else (1,):
                for how in ("bicubic", "bilinear") if name in MOVES else ("bicubic",):
                    yield {"op": name, "magnitude": magnitude, "sign": sign, "interpolation": how}
    yield {"op": "Grey"}
    for radius in (0.1, 0.45, 1.0, 1.6, 2.0):
        yield {"op": "Blur", "radius": radius}


def result(image, case):
    if case["op"] == "Grey":
        return aa.desaturate(image, 1.0)
    if case["op"] == "Blur":
        return image.filter(ImageFilter.GaussianBlur(radius=case["radius"]))
    aa._randomly_negate = lambda v: v * case["sign"]
    how = Image.BICUBIC if case["interpolation"] == "bicubic" else Image.BILINEAR
    hparams = {"img_mean": FILL, "interpolation": how}
    return aa.AugmentOp(case["op"], prob=1.0, magnitude=case["magnitude"], hparams=hparams)(image)


def main():
    os.makedirs(OUT, exist_ok=True)
    pictures = {"colour": scene(19, 13, 1), "tall": scene(11, 17, 2)}
    grey = scene(15, 15, 3)[..., 1]
    pictures["grey"] = np.stack([grey] * 3, -1)
    every = list(cases())
    for name, pixels in pictures.items():
        image = Image.fromarray(pixels)
        image.save(os.path.join(OUT, name + ".png"))
        with open(os.path.join(OUT, name + ".rgb"), "wb") as f:
            for case in every:
                f.write(np.asarray(result(image, case).convert("RGB"), dtype=np.uint8).tobytes())
    with open(os.path.join(OUT, "index.json"), "w") as f:
        f.write('{"timm": "%s", "pictures": %s,\n"cases": [\n' % (timm.__version__, json.dumps(list(pictures))))
        f.write(",\n".join(json.dumps(case) for case in every) + "\n]}\n")
    print(len(every), "cases of", len(pictures), "pictures")


main()
