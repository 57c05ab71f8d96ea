#!/usr/bin/env python3
"""The peer of bench_jpeg: Pillow + torchvision on one thread, and both in turn.

    peer_jpeg.py FOLDER [PASSES] [BENCH_JPEG]

Decode, RandomResizedCrop(224, bicubic), RandomHorizontalFlip, ToTensor, Normalize: the usual
ImageNet training transform. With the path of the bench_jpeg program it runs that in turn with its
own passes and prints the ratio of the medians; all times are processor time.
"""
import json, os, statistics, subprocess, sys, time
os.environ["OMP_NUM_THREADS"] = "1"
import PIL
import torch
import torchvision
from PIL import Image
from torchvision import transforms

torch.set_num_threads(1)


def paths_below(root):
    return sorted(os.path.join(d, f) for d, _, files in os.walk(root) for f in files)


def one_pass(paths, transform):
    start = time.process_time()
    for path in paths:
        with open(path, "rb") as f:
            transform(Image.open(f).convert("RGB"))
    return len(paths) / (time.process_time() - start)


def main():
    root, passes = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    program = sys.argv[3] if len(sys.argv) > 3 else None
    paths = paths_below(root)
    transform = transforms.Compose([
        transforms.RandomResizedCrop(224, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
    one_pass(paths[:10], transform)
    peer, ours = [], []
    for _ in range(passes):
        peer.append(one_pass(paths, transform))
        if program:
            out = subprocess.run([program, root, "3"], check=True, capture_output=True, text=True)
            ours.append(json.loads(out.stdout)["median_img_s"])
    result = {"bench": "jpeg peer", "pillow": PIL.__version__,
              "torchvision": torchvision.__version__, "images": len(paths), "passes": passes,
              "peer_median_img_s": round(statistics.median(peer), 1),
              "peer_best_img_s": round(max(peer), 1)}
    if program:
        result["ours_median_img_s"] = round(statistics.median(ours), 1)
        result["ours_best_img_s"] = round(max(ours), 1)
        result["ratio"] = round(statistics.median(ours) / statistics.median(peer), 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
