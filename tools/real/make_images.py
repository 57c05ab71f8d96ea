#!/usr/bin/env python3
"""Writes tests/real/images and images.json: JPEG and PNG files as public tools write them, the ways
in which such files are damaged, and files of other kinds under a picture's name.

The right pixels are Pillow's (convert("RGB"), as timm and torchvision read; exif_transpose for
upright ones), as raw RGB in X.rgb; rows with equal pixels share a file. The eval rows hold what
timm's evaluation transform makes of a picture, float32, channels last. Needs, beside
requirements.txt, the Debian packages libjpeg-turbo-progs, imagemagick, libimage-exiftool-perl and
libheif-examples:
    python3 tools/real/make_images.py
"""
import hashlib, io, json, os, struct, subprocess, zlib
import numpy as np
import PIL
from PIL import Image, ImageCms, ImageOps

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "real")
OUT = os.path.join(ROOT, "images")
PILLOW = "Pillow " + PIL.__version__
CJPEG, JPEGTRAN = "cjpeg 2.1.5", "jpegtran 2.1.5"
MAGICK, EXIFTOOL = "ImageMagick 6.9.11", "exiftool 12.57"
rows, stored = [], {}


def path(name):
    return os.path.join(OUT, name)


def put(name, data):
    with open(path(name), "wb") as f:
        f.write(data)


def get(name):
    with open(path(name), "rb") as f:
        return f.read()


def call(*command, data=None):
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def scene(w=45, h=34, seed=1):
    """Smooth colours, hard edges, noise; nothing is symmetric, so that turning shows."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w]
    r = 128 + 100 * np.sin(x / 7.0) * np.cos(y / 9.0)
    g = 255 * ((x // 8 + y // 8) % 2) * (x < w - 6)
    b = 255.0 * x / w
    a = np.stack([r, g, b], -1) + rng.normal(0, 6, (h, w, 3))
    return np.clip(a, 0, 255).astype(np.uint8)


RGB = Image.fromarray(scene())


def pixels(image):
    """The name of the file with these pixels."""
    data = np.ascontiguousarray(np.asarray(image), dtype=np.uint8).tobytes()
    key = hashlib.sha256(data).hexdigest()[:8]
    if key not in stored:
        stored[key] = key + ".rgb"
        put(stored[key], data)
    return stored[key]


def row(name, file, made_by, image=None, **more):
    """A file that is read; `image`: what it means, Pillow's decode where it is not given."""
    opened = image or Image.open(path(file)).convert("RGB")
    rows.append({"name": name, "file": file, "made_by": made_by, "width": opened.width,
                 "height": opened.height, "pixels": pixels(opened), **more})


def refused(name, file, made_by, *words):
    rows.append({"name": name, "file": file, "made_by": made_by, "error": list(words)})


def encode(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def ppm():
    return encode(RGB, "PPM")


def jpegs():
    for name, image, options in (
            ("rgb420", RGB, dict(quality=85, subsampling=2)),
            ("rgb422", RGB, dict(quality=85, subsampling=1)),
            ("rgb444", RGB, dict(quality=85, subsampling=0)),
            ("grey", RGB.convert("L"), dict(quality=85)),
            ("progressive", RGB, dict(quality=85, progressive=True)),
            ("optimized", RGB, dict(quality=40, optimize=True)),
            ("restart", RGB, dict(quality=85, subsampling=2, restart_marker_blocks=1)),
            ("icc", RGB, dict(quality=85, icc_profile=ImageCms.ImageCmsProfile(
                ImageCms.createProfile("sRGB")).tobytes())),
            ("cmyk", RGB.convert("CMYK"), dict(quality=90))):
        put(name + ".jpg", encode(image, "JPEG", **options))
        # Pillow rounds CMYK to RGB in another order.
        row(name, name + ".jpg", f"{PILLOW}: save({', '.join(sorted(options))})",
            tolerance=1 if name == "cmyk" else 0)
    put("mpo.jpg", encode(RGB, "MPO", save_all=True, append_images=[RGB.rotate(180)]))
    row("two_pictures", "mpo.jpg", PILLOW + ": MPO of two pictures; the first counts")
    for name, options in (("s440", ["-sample", "1x2"]), ("s411", ["-sample", "4x1"]),
                          ("s410", ["-sample", "4x2"]), ("s441", ["-sample", "1x4"]),
                          ("luma_sampled_less", ["-sample", "1x1,2x2,2x2"]),
                          ("rgb_stored", ["-rgb"]), ("restart_rows", ["-restart", "1"])):
        put(name + ".jpg", call("cjpeg", "-quality", "85", *options, data=ppm()))
        row(name, name + ".jpg", f"{CJPEG} {' '.join(options)}")
    put("arithmetic.jpg", call("cjpeg", "-arithmetic", data=ppm()))
    refused("arithmetic", "arithmetic.jpg", CJPEG + " -arithmetic", "arithmetic coding")
    put("jpegtran.jpg", call("jpegtran", "-progressive", "-restart", "1", data=get("rgb422.jpg")))
    row("progressive_restart", "jpegtran.jpg", JPEGTRAN + " -progressive -restart 1")
    put("magick_cmyk.jpg", call("convert", "ppm:-", "-colorspace", "CMYK", "-quality", "90",
                                "jpg:-", data=ppm()))
    row("magick_cmyk", "magick_cmyk.jpg", MAGICK + " -colorspace CMYK", tolerance=1)
    ycck = bytearray(get("magick_cmyk.jpg"))
    at = ycck.index(b"Adobe")
    put("ycck.jpg", bytes(ycck[:at + 11]) + b"\2" + bytes(ycck[at + 12:]))
    row("ycck", "ycck.jpg", MAGICK + " -colorspace CMYK, Adobe transform 2", tolerance=1)
    plain = get("magick_cmyk.jpg")
    at = plain.index(b"Adobe")
    put("plain_cmyk.jpg", plain[:at - 4] + plain[at + 12:])
    row("cmyk_without_adobe", "plain_cmyk.jpg", MAGICK + " -colorspace CMYK, Adobe's marker cut out",
        tolerance=1, notes=["CMYK"])
    put("magick.jpg", call("convert", "ppm:-", "-interlace", "JPEG", "-quality", "70",
                           "-comment", "by magick", "jpg:-", data=ppm()))
    row("magick_interlaced", "magick.jpg", MAGICK + " -interlace JPEG")


def damaged_jpegs():
    base = get("rgb420.jpg")
    jfif = base.index(b"JFIF\0") + 5
    put("jfif21.jpg", base[:jfif] + b"\2\1" + base[jfif + 2:])
    row("jfif_revision_2_1", "jfif21.jpg", PILLOW + ", revision set to 2.1", notes=["JFIF"])
    put("junk_eoi.jpg", base[:-2] + bytes(range(1, 60)) + base[-2:])
    row("bytes_before_eoi", "junk_eoi.jpg", PILLOW + ", 59 bytes before EOI", notes=["skipped"])
    first = base.index(b"\xff\xdb")
    put("junk_segment.jpg", base[:first] + b"junk\xff\0" + base[first:])
    row("bytes_between_segments", "junk_segment.jpg", PILLOW + ", 6 bytes before DQT",
        notes=["skipped"])
    put("trailing.jpg", base + b"MotionPhoto" * 20)
    row("bytes_after_eoi", "trailing.jpg", PILLOW + ", 220 bytes after EOI")
    marks = get("restart.jpg")
    places = [i for i in range(len(marks) - 1) if marks[i] == 0xFF and 0xD0 <= marks[i + 1] <= 0xD7]
    without = lambda which: b"".join(
        marks[(places[which[k - 1]] + 2 if k else 0):(places[i] if i is not None else len(marks))]
        for k, i in enumerate(which + [None]))
    put("lost_rst.jpg", without([3]))
    row("lost_restart_marker", "lost_rst.jpg", PILLOW + ": restart_marker_blocks=1, RST3 cut out",
        notes=["restart marker"])
    put("lost_rsts.jpg", without([1, 5]))
    row("lost_restart_markers", "lost_rsts.jpg", PILLOW + ": RST1 and RST5 cut out",
        notes=["restart marker"])
    put("lost_last.jpg", without([len(places) - 1]))
    row("lost_last_restart_marker", "lost_last.jpg", PILLOW + ": the last RST cut out",
        notes=["restart marker"])
    put("lost_two.jpg", without([2, 3]))
    refused("two_restart_markers_in_a_row", "lost_two.jpg", PILLOW + ": RST2 and RST3 cut out",
            "JPEG", "instead of RST2")
    put("lost_stretch.jpg", marks[:places[3]] + marks[places[4]:])
    refused("an_interval_missing", "lost_stretch.jpg", PILLOW + ": RST3 and what follows cut out",
            "JPEG", "instead of RST3")
    put("cut.jpg", base[:len(base) * 2 // 3])
    refused("cut", "cut.jpg", PILLOW + ", its first two thirds", "cut at byte")
    put("cut_closed.jpg", base[:len(base) * 2 // 3] + b"\xff\xd9")
    refused("cut_and_closed", "cut_closed.jpg", PILLOW + ", its first two thirds and EOI",
            "premature end of data")
    put("cut_restart.jpg", marks[:places[7]] + b"\xff\xd9")
    refused("cut_at_a_restart", "cut_restart.jpg", PILLOW + ", cut at RST7 and closed by EOI",
            "JPEG", "instead of RST7")
    deep = bytearray(base)
    deep[deep.index(b"\xff\xc0") + 4] = 12
    put("bits12.jpg", bytes(deep))
    refused("twelve_bits", "bits12.jpg", PILLOW + ", precision set to 12", "12 bits")


def exif(name, file, made_by, **more):
    """A row whose pixels as stored and upright are both known."""
    image = Image.open(path(file))
    upright = ImageOps.exif_transpose(image).convert("RGB")
    row(name, file, made_by, upright_pixels=pixels(upright), upright_width=upright.width,
        upright_height=upright.height, orientation=image.getexif().get(274, 0), **more)


def oriented():
    base = encode(RGB, "JPEG", quality=80)
    for value in range(1, 9):
        name = f"exif{value}.jpg"
        order = "II" if value % 2 else "MM"
        put(name, call("exiftool", "-n", f"-Orientation={value}", "-ExifByteOrder=" + order,
                       "-Make=Camera", "-", "-o", "-", data=base))
        exif(f"exif_{value}", name, f"{EXIFTOOL} -Orientation={value} -ExifByteOrder={order}",
             notes=["EXIF orientation ignored"] if value > 1 else [])
    data = Image.Exif()
    data[274] = 6
    put("exif_pillow.jpg", encode(RGB, "JPEG", quality=80, exif=data))
    exif("exif_by_pillow", "exif_pillow.jpg", PILLOW + ": save(exif=)", notes=["ignored"])
    put("thumb.jpg", encode(RGB.resize((16, 12)), "JPEG", quality=60))
    put("exif_thumbnail.jpg", call("exiftool", "-n", "-Orientation=8", "-ThumbnailImage<=" +
                                   path("thumb.jpg"), "-", "-o", "-", data=base))
    os.remove(path("thumb.jpg"))
    exif("exif_thumbnail", "exif_thumbnail.jpg", EXIFTOOL + " -ThumbnailImage", notes=["ignored"])
    put("xmp.jpg", call("exiftool", "-n", "-XMP-tiff:Orientation=3", "-", "-o", "-", data=base))
    exif("xmp_orientation", "xmp.jpg", EXIFTOOL + " -XMP-tiff:Orientation=3", notes=["ignored"])
    block = get("exif6.jpg")
    at = block.index(b"MM\0*")
    bad = {"exif_past_its_end": block[:at + 4] + b"\xff\xff\xff\xf0" + block[at + 8:],
           "exif_of_no_byte_order": block[:at] + b"XX" + block[at + 2:],
           "exif_orientation_9": block.replace(b"\1\x12\0\3\0\0\0\1\0\6", b"\1\x12\0\3\0\0\0\1\0\x09")}
    for name, data in bad.items():
        put(name + ".jpg", data)
        row(name, name + ".jpg", EXIFTOOL + ", then damaged", notes=["EXIF that cannot be read"],
            orientation=0)
    data = Image.Exif()
    data[274] = 5
    put("exif.png", encode(RGB, "PNG", exif=data))
    exif("png_exif", "exif.png", PILLOW + ": save(exif=)", notes=["ignored"])
    put("magick_exif.png", call("convert", "-", "png:-", data=get("exif7.jpg")))
    exif("png_exif_by_magick", "magick_exif.png", MAGICK + " of a JPEG with EXIF",
         notes=["ignored"])
    put("xmp.png", call("exiftool", "-n", "-XMP-tiff:Orientation=4", "-", "-o", "-",
                        data=encode(RGB, "PNG")))
    exif("png_xmp", "xmp.png", EXIFTOOL + " -XMP-tiff:Orientation=4", notes=["ignored"])


def chunk(tag, body):
    return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))


def pngs():
    small = Image.fromarray(scene(23, 17, 2))
    alpha = small.convert("RGBA")
    alpha.putalpha(Image.fromarray(scene(23, 17, 3)[..., 0]))
    palette = small.quantize(4)
    seen = ["transparency"]
    for name, image, options, notes in (
            ("rgb", small, {}, []), ("grey", small.convert("L"), {}, []),
            ("bits1", small.convert("1"), {}, []),
            ("palette", small.quantize(200), {}, []), ("palette2", palette, dict(bits=2), []),
            ("palette_trns", palette, dict(transparency=1), seen),
            ("rgba", alpha, {}, seen), ("grey_alpha", alpha.convert("LA"), {}, seen),
            ("rgb_trns", small, dict(transparency=(255, 0, 0)), seen),
            ("icc", small, dict(icc_profile=ImageCms.ImageCmsProfile(
                ImageCms.createProfile("sRGB")).tobytes()), [])):
        put(f"{name}.png", encode(image, "PNG", **options))
        row("png_" + name, f"{name}.png", f"{PILLOW}: mode {image.mode} {' '.join(options)}",
            notes=notes)
    samples = np.random.default_rng(5).integers(0, 65536, (17, 23)).astype(np.uint16)
    put("grey16.png", encode(Image.fromarray(samples), "PNG"))
    high = Image.fromarray((samples >> 8).astype(np.uint8)).convert("RGB")
    # Pillow's convert("RGB") cuts off above 255 here, which is nobody's picture.
    row("png_grey16", "grey16.png", PILLOW + ": mode I;16; right: the samples' high bytes", high,
        notes=["16 bits"])
    source = encode(small, "PPM")
    for name, options in (("interlaced", ["-interlace", "PNG"]), ("rgb16", ["-depth", "16", "-evaluate", "multiply", "0.93"]),
                          ("gamma", ["-gamma", "0.45455", "-define", "png:include-chunk=gAMA,cHRM"]),
                          ("depth4", ["-type", "Palette", "-colors", "13", "-depth", "4"])):
        put(f"magick_{name}.png", call("convert", "ppm:-", *options,
                                       "png48:-" if name == "rgb16" else "png:-", data=source))
        row("png_magick_" + name, f"magick_{name}.png", f"{MAGICK} {' '.join(options)}",
            notes=["16 bits"] if name == "rgb16" else [])
    put("animated.png", encode(small, "PNG", save_all=True,
                               append_images=[small.rotate(180)], duration=50))
    row("png_animated", "animated.png", PILLOW + ": APNG of two pictures", notes=["animated"])
    good = get("rgb.png")
    at = good.index(b"IDAT")
    bad = bytearray(good)
    bad[at + 20] ^= 4
    put("crc.png", bytes(bad))
    refused("png_crc", "crc.png", PILLOW + ", one bit of IDAT changed", "CRC", "chunk at byte")
    put("cut.png", good[:-30])
    refused("png_cut", "cut.png", PILLOW + ", 30 bytes cut off", "PNG", "bytes")
    put("photo.JPEG", good)
    row("png_named_jpeg", "photo.JPEG", PILLOW + ", as .JPEG")
    put("photo.PNG", get("rgb420.jpg"))
    row("jpeg_named_png", "photo.PNG", PILLOW + ", as .PNG")


def others():
    small = Image.fromarray(scene(16, 12, 2))
    for kind, options in (("WEBP", {}), ("GIF", {}), ("BMP", {}), ("TIFF", {}), ("AVIF", {}),
                          ("JPEG2000", {})):
        name = kind.lower()
        put(f"{name}.jpg", encode(small, kind, **options))
        shown = {"WEBP": "WebP", "JPEG2000": "JPEG 2000"}.get(kind, kind)
        refused("is_" + name, f"{name}.jpg", f"{PILLOW}: save as {kind}", shown, "not read")
    put("source.png", encode(small, "PNG"))
    call("heif-enc", "-q", "50", path("source.png"), "-o", path("photo.heic"))
    os.rename(path("photo.heic"), path("heic.jpg"))
    os.remove(path("source.png"))
    refused("is_heic", "heic.jpg", "heif-enc 1.15", "HEIC", "not read")
    put("lfs.jpg", b"version https://git-lfs.github.com/spec/v1\n"
        b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n")
    refused("git_lfs_pointer", "lfs.jpg", "git-lfs: clone without the files", "Git LFS")
    put("empty.jpg", b"")
    refused("zero_bytes", "empty.jpg", "a download that failed", "empty")
    put("page.jpg", b"\n<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n")
    refused("html_page", "page.jpg", "a download that was answered by a page", "HTML")


def evaluations():
    """timm.data.create_transform for evaluation; what the programs call img_size and crop_pct."""
    import timm
    from timm.data import create_transform
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    for number, (w, h, size, crop, interpolation) in enumerate((
            (61, 47, (32, 32), 0.875, "bicubic"), (47, 61, (33, 33), 0.9, "bicubic"),
            (101, 37, (31, 31), 0.7, "bicubic"), (39, 39, (39, 39), 1.0, "bicubic"),
            (20, 29, (40, 40), 0.95, "bicubic"), (64, 48, (29, 29), 0.875, "bilinear"))):
        name = f"eval{number}.png"
        image = Image.fromarray(scene(w, h, 10 + number))
        put(name, encode(image, "PNG"))
        transform = create_transform((3, *size), is_training=False, interpolation=interpolation,
                                     mean=mean, std=std, crop_pct=crop)
        tensor = transform(image).permute(1, 2, 0).contiguous().numpy().astype("<f4")
        put(f"eval{number}.f32", tensor.tobytes())
        rows.append({"name": f"timm_eval_{number}", "file": name, "img_size": list(size),
                     "made_by": f"timm {timm.__version__}: {interpolation}, crop_pct {crop}",
                     "crop_pct": crop, "interpolation": interpolation,
                     "tensor": f"eval{number}.f32"})


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    for name in os.listdir(OUT):
        os.remove(path(name))
    jpegs()
    damaged_jpegs()
    oriented()
    pngs()
    others()
    evaluations()
    with open(os.path.join(ROOT, "images.json"), "w") as f:
        lines = ",\n".join("    " + json.dumps(r) for r in rows)
        f.write('{\n  "rows": [\n' + lines + "\n  ]\n}\n")
    print(len(rows), "rows,", sum(os.path.getsize(path(n)) for n in os.listdir(OUT)), "bytes")
