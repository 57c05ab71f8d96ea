#!/usr/bin/env bash
# Speed of two ranks of one thread against one process of two threads, the same steps: the quotient is 1
# where ranks cost nothing. On a quiet machine of two cores, with the programs in $BIN:
#   BIN=build/bin tools/rank_speed.sh [STEPS]
set -euo pipefail
BIN=$(realpath "${BIN:-build/bin}")
steps=${1:-30}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"$BIN/data_llama" lexicon --rows 800 --length 512 --output made.bin --model-dir tiny >/dev/null 2>&1

# Items a second: the median over the steps, without the first five.
rate() { # rate RUN KEY
  python3 - "$1" "$2" <<'PY'
import json, statistics, sys
lines = [json.loads(l) for l in open(f"runs/{sys.argv[1]}/metrics.jsonl")]
print(statistics.median([l[sys.argv[2]] for l in lines if l["split"] == "train"][5:]))
PY
}

compare() { # compare NAME KEY COMMAND...
  local name=$1 key=$2
  shift 2
  "$@" --threads 2 --name "$name-1x2" -q
  local port=$((20000 + $$ % 20000)) rank pids=()
  for rank in 0 1; do
    RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 MASTER_PORT=$port \
      "$@" --threads 1 --name "$name-2x1" -q &
    pids+=($!)
  done
  wait "${pids[@]}"
  python3 -c "
one, two = $(rate "$name-1x2" "$key"), $(rate "$name-2x1" "$key")
print(f'$name: 1 process x 2 threads {one:.1f} {\"$key\"}, 2 ranks x 1 thread {two:.1f}, quotient {two / one:.3f}')"
}

compare llama tok_s "$BIN/train_llama" pretrain --model-config tiny/config.json --data made.bin --ctx-size 512 \
  --attn sf -b 2 --grad-accum-steps 4 --max-steps "$steps" --lr 1e-3 --save-every 0
compare tic img_s "$BIN/train_tic" --data-dir cue --model tic-n --img-size 32 -b 16 --grad-accum-steps 4 \
  --max-steps "$steps" --cue-count 100000 --warmup-epochs 0 --workers 0
