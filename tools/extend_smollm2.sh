#!/usr/bin/env bash
# The SinkLoRA paper's claim on a real small model: SmolLM2-135M under Position Interpolation by 4 at
# 1,024 tokens, trained under five attentions from one seed, always evaluated under full attention.
#   tools/extend_smollm2.sh TRAIN_FOLDER EVAL_BOOK [--steps 60] [--arms "full sf s2-global s2-sr s2"]
#                           [--output DIR]
# TRAIN_FOLDER holds books as .txt, taken in the order of their names; EVAL_BOOK is another one.
# LoRA r 8, alpha 16 on q k v o, embedding and norms trained, 3e-4 after 5 warm-up steps, betas
# 0.9/0.95, one row of 1,024 tokens a step in file order. Prints perplexities and the fraction of
# full attention's improvement; what is already in DIR is not computed again.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
books=$1 book=$2 steps=60 arms="full sf s2-global s2-sr s2" out=runs/extend-smollm2
shift 2
while [ $# -gt 0 ]; do
  case "$1" in
    --steps) steps=$2 ;;
    --arms) arms=$2 ;;
    --output) out=$2 ;;
    *) echo "$1: unknown" >&2; exit 2 ;;
  esac
  shift 2
done
bin=${MULLION_BIN:-build/bin}
model=$(tools/fetch_smollm2.sh)
mkdir -p "$out"
[ -f "$out/train.bin" ] ||
  "$bin/data_llama" tokenize --model "$model" --data "$books"/*.txt --output "$out/train.bin"
[ -f "$out/eval.bin" ] ||
  "$bin/data_llama" tokenize --model "$model" --data "$book" --output "$out/eval.bin"

perplexity() { # perplexity NAME ARGUMENT...: of eight windows of 1,024 tokens
  local file=$out/$1.json
  shift
  [ -s "$file" ] ||
    "$bin/eval_llama" ppl -m "$model" --data "$out/eval.bin" --ctx-size 1024 --stride 1024 \
      --max-windows 8 --json "$@" 2>>"$out/log" | tail -n 1 >"$file"
  sed -n 's/.*"perplexity": \([0-9.]*\).*/\1/p' "$file"
}
stops=()
for stop in 10 20 40 60; do [ "$stop" -le "$steps" ] && stops+=("$stop"); done

printf 'without interpolation %.1f, ' "$(perplexity plain)"
before=$(perplexity untrained --rope-scaling linear --rope-factor 4)
printf 'interpolated by 4 and untrained %.1f\n' "$before"
printf '%-12s' "perplexity"
printf ' %8s' "${stops[@]}"
printf '   of full'"'"'s improvement at these steps\n'
declare -A full
for arm in $arms; do
  [ -e "$out/$arm/last" ] ||
    "$bin/train_llama" pretrain -m "$model" --data "$out/train.bin" --ctx-size 1024 --attn "$arm" \
      --rope-scaling linear --rope-factor 4 --batch-size 1 --grad-accum-steps 1 --max-steps "$steps" \
      --lr 3e-4 --warmup-steps 5 --opt-betas 0.9,0.95 --clip-grad 0 --no-shuffle --seed 42 \
      --save-every 10 --keep-every 10 --output "$out" --name "$arm" --json >/dev/null 2>>"$out/log"
  printf '%-12s' "$arm"
  shares=""
  for stop in "${stops[@]}"; do
    value=$(perplexity "$arm-$stop" --adapter "$out/$arm/checkpoint-$(printf %06d "$stop")/adapter")
    printf ' %8.2f' "$value"
    [ "$arm" = full ] && full[$stop]=$value
    shares+=$(awk -v b="$before" -v a="$value" -v f="${full[$stop]:-0}" \
      'BEGIN { if (f > 0) printf " %6.3f", (b - a) / (b - f) }')
  done
  printf '  %s\n' "$shares"
done
