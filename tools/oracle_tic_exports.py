#!/usr/bin/env python3
"""tool_tic's exports in PyTorch and onnxruntime.

  oracle_tic_exports.py variants --bin build/bin
      made-up models of every variant of MSA-Conv, border, shift and pooling: both exports against
      tools/oracle_tic.py at four sizes; onnx.checker reads each file
  oracle_tic_exports.py images --bin build/bin --checkpoint RUN --sizes 32,48,64 IMAGE...
      the exports of a trained model on real images against what tool_tic predict says; each image
      is resized and cropped by Pillow first, as the last pass of resizing is rounded to whole
      levels there and not here
  oracle_tic_exports.py validate --bin build/bin --checkpoint RUN FOLDER
      all images of class folders: what eval_tic and tool_tic predict say, against the PyTorch
      export behind timm's dataset and loader as its validate.py sets them up

Needs torch, safetensors, Pillow, onnx and onnxruntime, for validate timm, where the file also
registers its models.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parent))
import oracle_tic  # noqa: E402

BASE = {
    "dim": 8,
    "depths": [2, 2, 4],
    "heads": [1, 2, 4],
    "kernel": [3, 5],
    "patch": 2,
    "num_classes": 5,
}
VARIANTS = [
    {},
    {"border": "masked"},
    {"shift": "roll_map"},
    {"shift": "per_layer"},
    {"shift": "off", "pool": "off"},
    {"pool": "kv", "kv_pool": 2},
    {"pool": "kv", "kv_pool": 3, "border": "masked"},
    {"variant": "depthwise"},
    {"dilation": 2},
    {"dilation": 2, "kernel": [4, 2], "border": "masked"},
    {"mlp_dwconv": True},
    {"block": "released", "heads": [1, 1, 1], "kernel": [3, 3], "shift": "off"},
    {"heads": [4, 4, 8]},
]


def run(args, *command):
    program = str(Path(args.bin) / command[0])
    done = subprocess.run([program, *map(str, command[1:])], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return done.stdout


def exported(args, checkpoint, folder):
    """The model of both exports: functions from images (B, 3, H, W) to logits."""
    run(args, "tool_tic", "export", "--checkpoint", checkpoint, "-o", folder / "torch")
    file = folder / "model.onnx"
    run(args, "tool_tic", "export", "--checkpoint", checkpoint, "--format", "onnx", "-o", file)
    onnx.checker.check_model(onnx.load(str(file)), full_check=True)
    session = onnxruntime.InferenceSession(str(file))
    spec = importlib.util.spec_from_file_location("tic_model", folder / "torch" / "tic_model.py")
    sys.modules["tic_model"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.load()

    def by_torch(x):
        with torch.no_grad():
            return model(x).numpy()

    return by_torch, lambda x: session.run(None, {"images": x.numpy()})[0]


def made_up_folder(folder, options):
    """A checkpoint as train_tic writes it, with random weights; and its model in oracle_tic."""
    model = oracle_tic.Tic(**options)
    args = {**oracle_tic.TIC_DEFAULTS, **options, "preset": "tic-n"}
    args.pop("layer_norm_eps")
    args["shift_size"] = args["shift_size"] or 0
    folder.mkdir()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    pretrained = {
        "input_size": [3, 32, 32],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "crop_mode": "center",
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
        "num_classes": 5,
    }
    config = {
        "architecture": "tic-n",
        "num_classes": 5,
        "global_pool": "avg",
        "label_names": list("abcde"),
        "model_args": args,
        "pretrained_cfg": pretrained,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return model


def check_variants(args):
    largest = 0
    for number, variant in enumerate(VARIANTS):
        torch.manual_seed(number)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            model = made_up_folder(folder / "model", {**BASE, **variant})
            exports = exported(args, folder / "model", folder)
            for size in [(32, 32), (13, 9), (1, 1), (17, 30)]:
                x = torch.randn(2, 3, *size)
                with torch.no_grad():
                    right = model(x).numpy()
                errors = [float(np.abs(right - export(x)).max()) for export in exports]
                largest = max(largest, *errors)
                if max(errors) > 1e-5:
                    sys.exit(f"{variant} at {size}: {errors}")
    print(f"{len(VARIANTS)} variants, 4 sizes: largest difference {largest:.2e}")


def check_images(args):
    from PIL import Image, ImageOps

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exports = exported(args, args.checkpoint, folder)
        pretrained = json.loads((folder / "torch" / "config.json").read_text())["pretrained_cfg"]
        mean, std = (torch.tensor(pretrained[k]).view(3, 1, 1) for k in ("mean", "std"))
        for size in args.sizes:
            files = []
            for i, file in enumerate(args.images):
                image = ImageOps.fit(Image.open(file).convert("RGB"), (size, size), Image.BICUBIC)
                files.append(folder / f"{i}.png")
                image.save(files[-1])
            said = run(args, "tool_tic", "predict", "--checkpoint", args.checkpoint, "--img-size",
                       size, "--crop-pct", 1, "--probabilities", "--json", *files)
            said = json.loads(said.strip().splitlines()[-1])["images"]
            worst, equal = [0.0, 0.0], 0
            for file, row in zip(files, said):
                pixels = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
                x = ((pixels - mean) / std)[None]
                right = np.log(np.array(row["probabilities"]))
                found = [torch.tensor(e(x)[0]).log_softmax(0).numpy() for e in exports]
                equal += all(p.argmax() == right.argmax() for p in found)
                worst = [max(w, float(np.abs(p - right).max())) for w, p in zip(worst, found)]
            print(f"{size}: {equal} of {len(said)} predictions equal, largest difference of a "
                  f"log-probability {worst[0]:.1e} (torch) {worst[1]:.1e} (onnxruntime)")


def check_validate(args):
    import timm.data

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        by_torch, _ = exported(args, args.checkpoint, folder)
        pretrained = json.loads((folder / "torch" / "config.json").read_text())["pretrained_cfg"]
        config = timm.data.resolve_data_config(pretrained_cfg=pretrained)
        dataset = timm.data.create_dataset("", root=args.folder)
        loader = timm.data.create_loader(
            dataset,
            input_size=config["input_size"],
            batch_size=args.batch_size,
            use_prefetcher=False,
            interpolation=config["interpolation"],
            mean=config["mean"],
            std=config["std"],
            crop_pct=config["crop_pct"],
            crop_mode=config["crop_mode"],
            num_workers=0,
            persistent_workers=False,
        )
        logits, labels = [], []
        for x, y in loader:
            logits.append(by_torch(x))
            labels.append(y.numpy())
        logits, labels = np.concatenate(logits), np.concatenate(labels)
    files = dataset.filenames(absolute=True)
    predictions = logits.argmax(1)
    said = run(args, "eval_tic", "--data-dir", args.folder, "--checkpoint", args.checkpoint,
               "--json")
    top1 = json.loads(said.strip().splitlines()[-1])["top1"]
    differ, worst = [], 0.0
    for start in range(0, len(files), 1000):
        part = files[start : start + 1000]
        said = run(args, "tool_tic", "predict", "--checkpoint", args.checkpoint,
                   "--probabilities", "--json", *part)
        for i, row in enumerate(json.loads(said.strip().splitlines()[-1])["images"], start):
            right = torch.tensor(logits[i]).log_softmax(0).numpy()
            found = np.log(np.array(row["probabilities"]))
            worst = max(worst, float(np.abs(found - right).max()))
            if found.argmax() != predictions[i]:
                differ.append(files[i])
    print(f"{len(files)} images of {config['input_size']}: top-1 {100 * (predictions == labels).mean():.2f} % by "
          f"timm's loader and the export, {top1:.2f} % by eval_tic; {len(differ)} predictions of "
          f"tool_tic differ, log-probabilities by up to {worst:.1e}", *differ[:10])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    variants = verbs.add_parser("variants", help="made-up models of every variant")
    variants.set_defaults(check=check_variants)
    images = verbs.add_parser("images", help="a trained model on images")
    images.add_argument("--checkpoint", required=True)
    images.add_argument("--sizes", type=lambda s: [int(n) for n in s.split(",")], required=True)
    images.add_argument("images", nargs="+")
    images.set_defaults(check=check_images)
    validate = verbs.add_parser("validate", help="class folders, by timm's loader")
    validate.add_argument("--checkpoint", required=True)
    validate.add_argument("--batch-size", type=int, default=256)
    validate.add_argument("folder")
    validate.set_defaults(check=check_validate)
    for verb in (variants, images, validate):
        verb.add_argument("--bin", default="build/bin")
    args = parser.parse_args()
    args.check(args)


if __name__ == "__main__":
    main()
