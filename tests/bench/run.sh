#!/usr/bin/env bash
# Measures against PyTorch, ours and theirs in turn, and prints the ratio of the medians: ./run bench [WHAT...]
# WHAT: tic (TiC-nano step against unfold and dense attention), tic-t (TiC-T at 224), llama (LoRA steps of
# SmolLM2-135M at 512 and 2,048 tokens), llama-8k (at 8,192: SF-Attn and full attention here, full
# there; the peer needs 22 GB), linearity (SF-Attn's time at 16,384 tokens over that at 4,096), jpeg
# FOLDER (of JPEGs, or of shards as data_tic pack writes them). Default: tic llama. PyTorch goes into a virtual environment below build/, or is taken from
# the interpreter that MULLION_PYTHON names. ROUNDS=3 is the number of turns. On a GPU: tools/gpu_check.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${ROUNDS:-3}
python=${MULLION_PYTHON:-build/bench-python/bin/python}
if [ ! -x "$python" ]; then
  python3 -m venv build/bench-python
  build/bench-python/bin/pip install -q torch torchvision transformers==4.51.3 peft==0.15.2 safetensors gguf pillow numpy timm webdataset
fi
gguf=models_cache/SmolLM2-135M-Instruct.Q4_1.gguf hf=models_cache/smollm2-hf
fetch_models() {
  [ -f $gguf ] || tools/fetch_smollm2.sh
  [ -d $hf ] || "$python" tools/smollm2_to_hf.py $gguf $hf
}
value() { sed -n "s/.*\"$1\": *\([0-9.]*\).*/\1/p" | tail -n 1; }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

compare() { # compare TITLE KEY OURS -- THEIRS: the rates of both commands, run in turn
  local title=$1 key=$2 ours=() theirs=() a="" b=""
  shift 2
  while [ "$1" != -- ]; do ours+=("$1"); shift; done
  shift
  theirs=("$@")
  for ((i = 0; i < rounds; ++i)); do
    a+="$("${ours[@]}" | value "$key")"$'\n'
    b+="$("${theirs[@]}" | value "$key")"$'\n'
  done
  a=$(printf '%s' "$a" | median) b=$(printf '%s' "$b" | median)
  awk -v t="$title" -v a="$a" -v b="$b" 'BEGIN { printf "%-52s %9.1f %9.1f   %.2fx\n", t, a, b, a / b }'
}

[ $# -gt 0 ] || set -- tic llama
printf '%-52s %9s %9s   %s\n' "medians of $rounds rounds" here PyTorch ratio
while [ $# -gt 0 ]; do
  case $1 in
    tic)
      for attention in unfold dense; do
        compare "TiC-nano step 32x32, batch 64, images/s ($attention)" img_s \
          build/bin/bench_tic_step tic-n 32 64 10 -- \
          "$python" tests/bench/peer_tic.py --preset tic-n --img-size 32 --batch-size 64 --attention $attention
      done
      ;;
    tic-t)
      compare "TiC-T step 224x224, batch 8, images/s (unfold)" img_s \
        build/bin/bench_tic_step tic-t 224 8 2 -- \
        "$python" tests/bench/peer_tic.py --preset tic-t --img-size 224 --batch-size 8 --attention unfold --steps 1
      ;;
    llama)
      fetch_models
      for context in 512 2048; do
        compare "LoRA step at $context tokens, full attention, tokens/s" tok_s \
          build/bin/bench_llama_step $gguf --ctx-size $context --steps 3 -- \
          "$python" tests/bench/peer_llama_step.py --model $hf --ctx-size $context
      done
      ;;
    llama-8k)
      fetch_models
      for attention in sf full; do
        compare "LoRA step at 8192 tokens, $attention here, full there, tokens/s" tok_s \
          build/bin/bench_llama_step $gguf --ctx-size 8192 --attn $attention --recompute mlp --steps 1 -- \
          "$python" tests/bench/peer_llama_step.py --model $hf --ctx-size 8192 --steps 1
        peak=$(build/bin/bench_llama_step $gguf --ctx-size 8192 --attn $attention --recompute mlp --steps 1 |
          value rss_peak_gib)
        printf '%-52s %9.2f\n' "  peak memory of that step here, GiB" "$peak"
      done
      ;;
    linearity)
      OMP_WAIT_POLICY=passive build/bin/bench_attention | grep '"sf".*over_4096'
      ;;
    jpeg)
      for steps in plain recipe; do
        "$python" tests/bench/peer_jpeg.py "$2" "$rounds" build/bin/bench_jpeg $steps
      done
      shift
      ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
  shift
done
