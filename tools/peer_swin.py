#!/usr/bin/env python3
"""A Swin transformer of the size of a TiC, trained in PyTorch for as long.

  peer_swin.py DATA --minutes 60 --threads 2

The peer of `train_tic --preset imagenette-tic-n --data-dir DATA --max-minutes 60 --threads 2`: timm's
SwinTransformer (shifted windows of 4 x 4, patch merging) with the widths, depths and heads of tic-n,
timm's dataset, augmentation and loader with the preset's settings, AdamW, warm-up and a cosine over
all epochs. `--epochs` is what the time is enough for: the cosine ends there, and a run that is
stopped by `--minutes` before says so. One JSON line: top-1 at the end, images a second, parameters.

Needs torch and timm. Data: class folders DATA/train and DATA/val.
"""

import argparse
import json
import math
import os
import time

import torch
from timm.data import create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.models.swin_transformer import SwinTransformer

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def loader_of(args, split, train):
    options = {"scale": (0.35, 1.0), "hflip": 0.5, "color_jitter": None} if train else {}
    return create_loader(
        create_dataset("", root=os.path.join(args.data, split)),
        input_size=(3, args.img_size, args.img_size),
        batch_size=args.batch_size,
        is_training=train,
        use_prefetcher=False,
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
        crop_pct=1.0 if train else 0.875,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        **options,
    )


def rate_at(step, steps, warmup, peak):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def top1(model, loader):
    model.eval()
    right = count = 0
    with torch.no_grad():
        for x, y in loader:
            right += int((model(x).argmax(1) == y).sum())
            count += len(y)
    return 100 * right / count


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--img-size", type=int, default=128)
    parser.add_argument("--minutes", type=float, default=60, help="of training")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warmup-epochs", type=int, default=2)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--drop-path", type=float, default=0.05)
    parser.add_argument("--smoothing", type=float, default=0.1)
    parser.add_argument("--window", type=int, default=4)
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 2, 2])
    parser.add_argument("--heads", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--max-steps", type=int, default=0, help="0: no limit")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    train, val = loader_of(args, "train", True), loader_of(args, "val", False)
    model = SwinTransformer(
        img_size=args.img_size,
        patch_size=4,
        window_size=args.window,
        embed_dim=args.dim,
        depths=args.depths,
        num_heads=args.heads,
        num_classes=len(train.dataset.reader.class_to_idx),
        drop_path_rate=args.drop_path,
    )
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": args.weight_decay}, {"params": plain, "weight_decay": 0}]
    )
    loss_of = LabelSmoothingCrossEntropy(args.smoothing)
    steps, warmup = args.epochs * len(train), args.warmup_epochs * len(train)
    start, step, images, stopped = time.monotonic(), 0, 0, False
    for epoch in range(args.epochs):
        model.train()
        for x, y in train:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, steps, warmup, args.lr)
            optimizer.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            step, images = step + 1, images + len(y)
            stopped = time.monotonic() - start > 60 * args.minutes or step == args.max_steps
            if stopped:
                break
        seconds = time.monotonic() - start
        print(f"epoch {epoch + 1}/{args.epochs}  loss {loss.item():.4f}  {images / seconds:.0f} img/s  "
              f"{seconds / 60:.1f} min", flush=True)
        if stopped:
            break
    result = {
        "peer": "swin",
        "parameters": sum(p.numel() for p in model.parameters()),
        "top1": round(top1(model, val), 3),
        "epochs": step / len(train),
        "whole": step == steps,
        "img_s": round(images / seconds, 1),
        "minutes": round(seconds / 60, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
