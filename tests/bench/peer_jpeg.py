#!/usr/bin/env python3
"""The peer of bench_jpeg: Pillow + torchvision, or timm, on one thread, and both in turn.

    peer_jpeg.py FOLDER [PASSES] [BENCH_JPEG] [plain|recipe]

plain: decode, RandomResizedCrop(224, bicubic), RandomHorizontalFlip, ToTensor, Normalize: the usual
ImageNet training transform. recipe: timm's create_transform with RandAugment m9 and random erasing.
A folder with train-*.tar in it is read by webdataset, another by its files. With the path of the
bench_jpeg program it runs that in turn with its own passes and prints the ratio of the medians; all
times are processor time.
"""
import glob, io, json, os, statistics, subprocess, sys, time
os.environ["OMP_NUM_THREADS"] = "1"
import PIL
import torch
import torchvision
from PIL import Image
from torchvision import transforms

torch.set_num_threads(1)


def paths_below(root):
    return sorted(os.path.join(d, f) for d, _, files in os.walk(root) for f in files)


def files_of(root):
    for path in paths_below(root):
        with open(path, "rb") as f:
            yield f.read()


def shards_of(shards):
    import webdataset
    for image, _ in webdataset.WebDataset(shards, shardshuffle=False).to_tuple("jpg;png", "cls"):
        yield image


def one_pass(images, transform):
    start, count = time.process_time(), 0
    for data in images():
        transform(Image.open(io.BytesIO(data)).convert("RGB"))
        count += 1
    return count, count / (time.process_time() - start)


def transform_of(steps):
    if steps == "recipe":
        from timm.data import create_transform
        return create_transform(224, is_training=True, interpolation="bicubic",
                                auto_augment="rand-m9-mstd0.5-inc1", re_prob=0.25, re_mode="pixel")
    return transforms.Compose([
        transforms.RandomResizedCrop(224, interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.RandomHorizontalFlip(), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])


def main():
    root, passes = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    program = sys.argv[3] if len(sys.argv) > 3 else None
    steps = sys.argv[4] if len(sys.argv) > 4 else "plain"
    shards = sorted(glob.glob(os.path.join(root, "train-*.tar")))
    images = (lambda: shards_of(shards)) if shards else (lambda: files_of(root))
    transform = transform_of(steps)
    count, _ = one_pass(images, transform)
    peer, ours = [], []
    for _ in range(passes):
        peer.append(one_pass(images, transform)[1])
        if program:
            out = subprocess.run([program, root, "3", steps], check=True, capture_output=True, text=True)
            ours.append(json.loads(out.stdout)["median_img_s"])
    result = {"bench": "jpeg peer", "pillow": PIL.__version__,
              "torchvision": torchvision.__version__, "steps": steps,
              "from": "shards" if shards else "files", "images": count, "passes": passes,
              "peer_median_img_s": round(statistics.median(peer), 1),
              "peer_best_img_s": round(max(peer), 1)}
    if program:
        result["ours_median_img_s"] = round(statistics.median(ours), 1)
        result["ours_best_img_s"] = round(max(ours), 1)
        result["ratio"] = round(statistics.median(ours) / statistics.median(peer), 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
