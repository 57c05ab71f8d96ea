#!/usr/bin/env bash
# A quantised model as it is stored, here and in llama.cpp (tools/peer_llama_cpp.py), in turn: prompts,
# decoding, start to first token, resident memory; then a LoRA step on the stored base against bf16.
#
#   tools/compare_llama_cpp.sh MODEL.gguf TEXT OUT [PYTHON]
#
# PYTHON has numpy and xllamacpp. TEXT is for the LoRA steps. About six minutes for SmolLM2-135M on
# two threads; nothing else should run. OUT is a folder, which gets every program's lines.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=${BIN:-$here/../build/bin}
model=$1 text=$2 out=$3 python=${4:-python3} threads=${THREADS:-2} rounds=${ROUNDS:-2}
mkdir -p "$out"
export OMP_NUM_THREADS=$threads OMP_WAIT_POLICY=passive

resident() { # COMMAND...: its output, then seconds and peak memory
  "$python" - "$@" <<'PY'
import resource, subprocess, sys, time
begin = time.perf_counter()
subprocess.run(sys.argv[1:], check=True)
took = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"{took:.3f} s, resident {peak:.1f} MiB at most", flush=True)
PY
}

for round in $(seq "$rounds"); do
  echo "== round $round: ours"
  resident "$bin/tool_llama" bench -m "$model" -p 512,2048 -n 64 -r 2 --threads "$threads"
  resident "$bin/tool_llama" bench -m "$model" -p 0 -n 64 -d 4096 -r 2 --threads "$threads"
  echo "== round $round: llama.cpp"
  "$python" "$here/peer_llama_cpp.py" bench "$model" --threads "$threads" --repetitions 2
done 2>&1 | tee "$out/speed.txt"

echo "== ours, from the start of the process to a first token; context of 2,048" | tee "$out/start.txt"
for round in 1 2 3; do
  resident "$bin/chat_llama" complete -m "$model" -p "Once upon a time" -n 1 --threads "$threads"
done 2>&1 | tee -a "$out/start.txt"

echo "== a LoRA step of 512 tokens" | tee "$out/lora.txt"
"$bin/data_llama" tokenize --model "$model" --data "$text" -o "$out/text.bin" >/dev/null
for weights in stored bf16 stored bf16; do
  rm -rf "$out/runs"
  echo "-- $weights"
  resident "$bin/train_llama" pretrain -m "$model" --data "$out/text.bin" --ctx-size 512 --attn sf -b 1 \
    --grad-accum-steps 4 --max-steps 4 --log-every 1 --train-also none --weights "$weights" \
    --output "$out/runs" --name x --threads "$threads"
done 2>&1 | grep -E "^--|step |tok/s|resident" | tee -a "$out/lora.txt"
