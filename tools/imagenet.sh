#!/usr/bin/env bash
# From ImageNet-1K's archives to a table: the commands that docs/imagenet.md explains, in their order.
#   tools/imagenet.sh FOLDER
# FOLDER holds the three archives; all else is made there, and what is there already is gone on from.
# BIN: where the programs are (build/bin). FLAGS: more flags of the training.
set -euo pipefail
PATH=$(realpath "${BIN:-build/bin}"):$PATH
cd "$1"

data_tic prepare --train ILSVRC2012_img_train.tar --val ILSVRC2012_img_val.tar \
    --devkit ILSVRC2012_devkit_t12.tar.gz -o imagenet

data_tic check imagenet --list unreadable.txt || [ $? = 3 ]

data_tic pack imagenet -o shards --resize-short 256

# shellcheck disable=SC2086
train_tic --data-dir shards --preset imagenet-tic-t --workers 8 --output runs --name tic-t \
    --resume auto ${FLAGS:-}

eval_tic --data-dir imagenet --checkpoint runs/tic-t/last --use-ema --img-size 224,288 \
    --results-file table.md

tool_tic export --checkpoint runs/tic-t/last --use-ema --format onnx -o tic-t.onnx
