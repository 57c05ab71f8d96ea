#!/usr/bin/env bash
# Both papers in miniature, from data made on the spot; `./run demo` builds the programs and calls it.
#   tools/demo.sh [--all-arms] [--chat] [--seed N] [--output DIR] [--part a|b] [--steps N]
# --all-arms   also the ablations: S2 with sinks, S2 with S&R; the shift and the pooling each alone
# --chat       instead: a model tuned on questions, merged, exported and asked
# --steps N    of the base LLaMA's first lessons, where it learns to look values up (2000)
# Leaves DIR (default: runs/demo, or runs/demo-2, ... where that is taken): the runs, results.json
# and report.html. Everything it prints comes from the programs' own results.
set -euo pipefail
cd "$(dirname "$0")/.."

seed=42 out="" all=false parts="a b" steps=2000
while [ $# -gt 0 ]; do
  case "$1" in
    --all-arms) all=true ;;
    --chat) parts=c ;;
    --seed) seed=$2; shift ;;
    --output) out=$2; shift ;;
    --part) parts=$2; shift ;;
    --steps) steps=$2; shift ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
  shift
done
if [ -z "$out" ]; then
  out=runs/demo
  for ((n = 2; ; ++n)); do [ -e "$out" ] || break; out=runs/demo-$n; done
fi
if [ -e "$out" ]; then echo "$out: exists; remove it or name another --output" >&2; exit 2; fi
bin=build/bin
mkdir -p "$out/data"
log=$out/demo.log

begin=$SECONDS phase_begin=$SECONDS phase=""
finish_phase() {
  [ -z "$phase" ] || printf '   (%d s)\n' $((SECONDS - phase_begin))
  phase=""
}
phase() { # phase TEXT: what happens next; the time of the last one is printed
  finish_phase
  phase=$1 phase_begin=$SECONDS
  printf '\n== %s\n' "$1"
}
say() { printf '   %s\n' "$*"; }
fail() {
  echo "the demo stopped in: $phase" >&2
  tail -n 5 "$log" >&2
}
trap fail ERR

# The programs' progress goes to the log; the last line of stdout, one JSON object, to FILE.
program() { # program FILE NAME ARGUMENT...
  local file=$1 name=$2
  shift 2
  echo "$name $*" >>"$log"
  "$bin/$name" "$@" --json 2>>"$log" | tail -n 1 >"$file"
}
number() { # number KEY: its value in the JSON object on stdin
  sed -n "s/.*\"$1\": \"\{0,1\}\([^,}\"]*\).*/\1/p" | head -n 1
}
among() { # among FILE KEY VALUE: the object of {"results": [...]} in which KEY is VALUE
  tr '}' '\n' <"$1" | grep "\"$2\": \"\{0,1\}$3\"\{0,1\}\(,\|$\)" | head -n 1
}
fixed() { awk -v x="$1" -v n="$2" 'BEGIN { printf "%.*f", n, x }'; }
share() { # share BEFORE ARM FULL: the arm's part of full attention's improvement, percent
  awk -v b="$1" -v a="$2" -v f="$3" 'BEGIN { if (b > f) printf "%.0f", 100 * (b - a) / (b - f); else printf "-" }'
}
quoted() { local IFS=,; echo "$*"; }

cat <<TEXT
Mullion's demo: two papers in miniature.
This is a miniature: models of under a million parameters and made-up data, in minutes. It shows what
the two methods do and how they compare; it says nothing about the size of the effect elsewhere.
Results go to $out, the programs' progress to $log.
TEXT

tables=() notes=()

part_a() {
  local base=$out/base data=$out/data
  local lora_steps=80 early=40 base_steps=1000
  phase "A1. A language in which context helps: every document has a lexicon of its own"
  program "$data/lessons.json" data_llama lexicon --rows $((steps * 64)) --length 32 --repeats 0.7 \
    --first-row 3000000 --output "$data/lessons.bin" --model-dir "$data/short" --seed "$seed"
  program "$data/train-128.json" data_llama lexicon --rows $((base_steps * 32)) --length 128 \
    --output "$data/train-128.bin" --model-dir "$data/tiny" --seed "$seed"
  program "$data/train-512.json" data_llama lexicon --rows $((lora_steps * 8)) --length 512 \
    --first-row 1000000 --output "$data/train-512.bin" --seed "$seed" --model-dir "$data/long"
  program "$data/test-512.json" data_llama lexicon --rows 97 --length 512 --first-row 2000000 \
    --output "$data/test-512.bin" --seed "$seed" --model-dir "$data/long"
  say "$("$bin/data_llama" show "$data/test-512.bin" --model "$data/tiny" -n 17 2>>"$log" | tail -n 1)..."

  # Looking a value up takes two layers that are of no use without each other, so nothing happens
  # for thousands of steps and then all at once. In short documents full of repeats it takes few.
  local training=(--attn full --full --grad-accum-steps 1 --weight-decay 0.01 --opt-betas 0.9,0.95
    --clip-grad 1 --no-shuffle --seed "$seed" --save-every 0 --log-every 100 --output "$out")
  phase "A2. A LLaMA of 0.7 M parameters: $steps steps of first lessons, 32 tokens with many repeats"
  program "$data/lessons-run.json" train_llama pretrain --model-config "$data/tiny/config.json" \
    --data "$data/lessons.bin" --ctx-size 32 --batch-size 64 --max-steps "$steps" --lr 2e-3 \
    --warmup-steps 100 --lr-schedule constant_with_warmup --name lessons "${training[@]}"
  say "loss of the last step: $(fixed "$(number final_loss <"$data/lessons-run.json")" 3) nats"
  phase "A2. The same model learns the language itself at 128 tokens ($base_steps steps)"
  program "$data/base.json" train_llama pretrain --model "$out/lessons/last/model" \
    --data "$data/train-128.bin" --ctx-size 128 --batch-size 32 --max-steps $base_steps --lr 3e-3 \
    --warmup-steps 50 --lr-schedule cosine --name base "${training[@]}"
  say "loss of the last step: $(fixed "$(number final_loss <"$data/base.json")" 3) nats"
  local model=$base/last/model
  mkdir -p "$base/eval"
  perplexity() { # perplexity FILE SIZES ARGUMENT...
    local file=$1 sizes=$2
    shift 2
    program "$file" eval_llama ppl --data "$data/test-512.bin" --ctx-size "$sizes" --stride 512 \
      --batch-size 8 "$@"
  }
  perplexity "$base/eval/trained.json" 32,64,128 --model "$model"
  perplexity "$base/eval/interpolated.json" 128,256,512 --model "$model" \
    --rope-scaling linear --rope-factor 4
  local at_128 before
  at_128=$(among "$base/eval/trained.json" ctx_size 128 | number perplexity)
  before=$(among "$base/eval/interpolated.json" ctx_size 512 | number perplexity)
  say "perplexity at 128 tokens: $(fixed "$at_128" 2)"
  # Whoever knows keys and values by frequency alone reaches 26 to 28; looking values up, 14.
  if awk -v p="$at_128" 'BEGIN { exit !(p > 20) }'; then
    local unready="The base model knows the words but does not look values up yet (that is learned at once, at some point, and brings the perplexity to about 14): the comparison of attentions below says little. --steps 4000 gives it longer lessons."
    say "$unready"
    notes+=("\"$unready\"")
  fi
  # The same weights at 512 tokens without interpolation: only the configuration's limit differs.
  cp -r "$model" "$data/unscaled"
  sed -i 's/"max_position_embeddings": 128/"max_position_embeddings": 512/' "$data/unscaled/config.json"
  perplexity "$base/eval/extrapolated.json" 256,512 --model "$data/unscaled"
  local extrapolated
  extrapolated=$(among "$base/eval/extrapolated.json" ctx_size 512 | number perplexity)
  say "perplexity at 512 tokens, Position Interpolation by 4, before any training: $(fixed "$before" 2)"
  say "(without interpolation $(fixed "$extrapolated" 2): this small language extrapolates by itself; a large one does not)"

  local arms=(full s2 sf)
  $all && arms=(full s2 s2-global s2-sr sf)
  declare -A first last
  local arm
  for arm in "${arms[@]}"; do
    phase "A3. Extension to 512 tokens: LoRA, trained under '$arm' attention, evaluated under full attention"
    program "$data/$arm.json" train_llama pretrain --model "$model" --data "$data/train-512.bin" \
      --ctx-size 512 --attn "$arm" --lora-rank 8 --lora-alpha 64 --train-also embed,norm \
      --batch-size 8 --grad-accum-steps 1 --max-steps $lora_steps --lr 2e-3 --warmup-steps 10 \
      --opt-betas 0.9,0.95 --no-shuffle --seed "$seed" --save-every $early --keep-every $early \
      --log-every 20 --output "$out" --name "$arm"
    mkdir -p "$out/$arm/eval"
    perplexity "$out/$arm/eval/after-$early.json" 128,256,512 --model "$model" \
      --adapter "$out/$arm/$(printf 'checkpoint-%06d' $early)/adapter"
    perplexity "$out/$arm/eval/after-$lora_steps.json" 128,256,512 --model "$model" \
      --adapter "$out/$arm/last/adapter"
    first[$arm]=$(among "$out/$arm/eval/after-$early.json" ctx_size 512 | number perplexity)
    last[$arm]=$(among "$out/$arm/eval/after-$lora_steps.json" ctx_size 512 | number perplexity)
    say "$(grep '^attention' "$log" | tail -n 1)"
    say "perplexity at 512 tokens: $(fixed "${first[$arm]}" 2) after $early steps, $(fixed "${last[$arm]}" 2) after $lora_steps"
  done

  phase "A4. What the first paper claims, and what came out here"
  local line="   %-12s %10s %10s %22s %22s %14s\n" rows=() claim early_share last_share
  printf "$line" "trained under" "$early steps" "$lora_steps steps" "of full's gain ($early)" \
    "of full's gain ($lora_steps)" "paper's claim"
  for arm in "${arms[@]}"; do
    case $arm in sf) claim="92 %" ;; s2) claim="39 %" ;; *) claim="" ;; esac
    early_share=$(share "$before" "${first[$arm]}" "${first[full]}")
    last_share=$(share "$before" "${last[$arm]}" "${last[full]}")
    printf "$line" "$arm" "$(fixed "${first[$arm]}" 2)" "$(fixed "${last[$arm]}" 2)" \
      "$early_share %" "$last_share %" "$claim"
    rows+=("[\"$arm\", $(fixed "${first[$arm]}" 3), $(fixed "${last[$arm]}" 3), \"$early_share %\", \"$last_share %\", \"$claim\"]")
  done
  local caption="Perplexity at 512 tokens under full attention; before the training, interpolated: $(fixed "$before" 2). The claims are the SinkLoRA paper's, for a model of 7 billion parameters on PG-19; the share is (before - arm) / (before - full)."
  say "$caption"
  tables+=("{\"title\": \"Context extension: trained under each attention, evaluated under full\", \"columns\": [\"trained under\", \"$early steps\", \"$lora_steps steps\", \"of full's gain, $early steps\", \"of full's gain, $lora_steps steps\", \"the paper's claim\"], \"rows\": [$(quoted "${rows[@]}")], \"note\": \"$caption\"}")
  notes+=("\"Perplexity of the base model at its own 128 tokens: $(fixed "$at_128" 2); at 512 tokens under Position Interpolation, untrained: $(fixed "$before" 2); without interpolation: $(fixed "$extrapolated" 2), since this small language extrapolates by itself.\"")
  model_runs+=("$out/lessons" "$base" "${arms[@]/#/$out/}")
}

part_b() {
  local data=$out/data/cue
  phase "B1. The cue task: 100 pictures a class as PNG files"
  program "$out/data/cue.json" data_tic cue --output "$data" --per-class 100 --seed "$seed"
  say "$(find "$data" -name '*.png' | wc -l) files in $data; a picture's class is the shape of the glyph in the cue's colour"

  local arms=(both neither) arm
  $all && arms=(both neither shift pooling)
  declare -A top1
  local rows=() tic_steps=2800 lessons=1000
  # An epoch is a step, so that each batch has as many scenes of every class: otherwise the chance
  # numbers of the classes are all that the first thousand steps follow.
  train_arm() { # train_arm ARM SWITCH...
    local arm=$1
    shift
    program "$out/data/tic-$arm.json" train_tic --data-dir cue --cue-count 64 --batch-size 64 \
      --cue-lessons $lessons --max-steps $tic_steps --val-interval 800 --model tic-n --patch-size 4 \
      --mlp-dwconv --lr 7e-4 --warmup-epochs 100 --weight-decay 0.05 --drop-path 0 --smoothing 0 \
      --clip-grad 1 --seed "$seed" --threads "$threads" --save-every 0 --log-every 100 \
      --output "$out" --name "tic-$arm" "$@"
  }
  # Two arms at a time, each on half of the cores: batches this small do not fill more.
  local threads=$((($(nproc) + 1) / 2)) running=() pid
  phase "B2. TiC-nano with both of its strategies and with less: $tic_steps steps each, the first $lessons with easier scenes"
  for arm in "${arms[@]}"; do
    local switches=()
    case $arm in
      neither) switches=(--shift off --pool off) ;;
      shift) switches=(--pool off) ;;
      pooling) switches=(--shift off) ;;
    esac
    train_arm "$arm" "${switches[@]}" &
    running+=($!)
    [ ${#running[@]} -eq 2 ] || continue
    local status=0
    for pid in "${running[@]}"; do wait "$pid" || status=$?; done
    [ $status -eq 0 ]
    running=()
  done
  for arm in "${arms[@]}"; do
    mkdir -p "$out/tic-$arm/eval"
    program "$out/tic-$arm/eval/png.json" eval_tic --data-dir "$data" --checkpoint "$out/tic-$arm"
    program "$out/tic-$arm/eval/sizes.json" eval_tic --data-dir cue --checkpoint "$out/tic-$arm" \
      --img-size 32,40,48,32x48
    top1[$arm]=$(number top1 <"$out/tic-$arm/eval/png.json")
    say "$arm: top-1 on the PNG files $(fixed "${top1[$arm]}" 1) % (chance: 10 %); training loss at the end: $(fixed "$(number final_loss <"$out/data/tic-$arm.json")" 3)"
  done

  phase "B3. What the second paper's two strategies do here"
  local line="   %-10s %10s %10s %10s %10s %10s\n" size cells name
  printf "$line" "strategies" "PNG files" 32x32 40x40 48x48 32x48
  for arm in "${arms[@]}"; do
    cells=()
    for size in 32 40 48 32x48; do
      cells+=("$(fixed "$(among "$out/tic-$arm/eval/sizes.json" img_size $size | number top1)" 1)")
    done
    printf "$line" "$arm" "$(fixed "${top1[$arm]}" 1)" "${cells[@]}"
    rows+=("[\"$arm\", $(fixed "${top1[$arm]}" 1), $(quoted "${cells[@]}")]")
  done
  local caption="Top-1 in percent, chance is 10; who recognises shapes but not the cue can reach 50. One set of weights, trained at 32x32, serves every size: the same scenes lie somewhere on a larger canvas. The first $lessons of $tic_steps steps have easier scenes too, with one glyph, a share that falls from 1 to 0; the evaluation has none."
  say "$caption"
  tables+=("{\"title\": \"TiC-nano on the cue task\", \"columns\": [\"strategies\", \"PNG files\", \"32x32\", \"40x40\", \"48x48\", \"32x48\"], \"rows\": [$(quoted "${rows[@]}")], \"note\": \"$caption\"}")
  model_runs+=("${arms[@]/#/$out/tic-}")
  images=(--images "$data/val")
}

. tools/demo_chat.sh
model_runs=() images=()
for part in $parts; do "part_$part"; done

phase "Report"
printf '{"title": "What came out", "notes": [%s], "tables": [%s]}\n' \
  "$(quoted '"A miniature: models of under a million parameters on made-up data. Everything below was computed by this run; the papers'"'"' claims are marked as theirs."' "${notes[@]}")" \
  "$(quoted "${tables[@]}")" >"$out/results.json"
program "$out/data/report.json" report "${model_runs[@]}" --title "Mullion: two papers in miniature" \
  --extra "$out/results.json" "${images[@]}" --output "$out/report.html"
say "$out/report.html (open it in a browser), $out/report.md"
finish_phase
printf '\nDone in %d s. To try next:\n' $((SECONDS - begin))
if [[ $parts == *a* ]]; then
  cat <<TEXT
  $bin/chat_llama complete --model $out/base/last/model --adapter $out/sf/last/adapter -p "ba=KO de=LU fi=ZA de=" -n 1
  $bin/eval_llama ppl --model $out/base/last/model --adapter $out/sf/last/adapter --data $out/data/test-512.bin --ctx-size 256,512 --stride 512
TEXT
fi
if [[ $parts == *b* ]]; then
  cat <<TEXT
  $bin/eval_tic --data-dir $out/data/cue --checkpoint $out/tic-both --img-size 32,64
  $bin/tool_tic predict --checkpoint $out/tic-both $out/data/cue/val/0-plus/00000.png
TEXT
fi
if [[ $parts == *c* ]]; then
  cat <<TEXT
  $bin/chat_llama complete --model $out/tuned.gguf --jsonl $out/data/questions.jsonl -n 4
  $bin/chat_llama serve --model $out/merged --port 8000
TEXT
fi
echo "  tools/demo.sh --all-arms      # the ablations too, about twice the time"
