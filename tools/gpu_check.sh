#!/usr/bin/env bash
# Everything that only a GPU can show, in one call of at most ten minutes: builds the device's tests and
# the benches for this GPU, runs them, the checkers of compute-sanitizer, and PyTorch beside the benches.
#   tools/gpu_check.sh --pack          on the developing machine: the libraries that the build needs,
#                                      into .carry/ (ignored by git), for a machine without packages
#   tools/gpu_check.sh                 on a machine with a GPU, nvcc, CMake and a C++ compiler
#   tools/gpu_check.sh --dry-run       without a GPU: every step runs as far as it goes
#   tools/gpu_check.sh STEP...         these steps alone, on what an earlier call has built
# Steps: configure build tests attention msa_conv tic feed llama graph peers memcheck racecheck initcheck
# matmul ladder peer_long
# Each has a time limit, and a failed one does not stop the others. gpu_check.json, gpu_check.md and
# gpu_check.log go to $OUT (build/gpu_check), anew after every step. BUDGET=580 is the time for all,
# BUILD the build folder (build/gpu), ARCHS the architectures (this GPU's).
# Exit status: 0 all steps passed, 1 some did not, 2 no GPU or compiler.
#
# Steps are called by their names; the ` of Markdown is none of the shell's.
# shellcheck disable=SC2317,SC2016
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
self=$PWD/tools/gpu_check.sh
out=${OUT:-build/gpu_check}
build=$(realpath -m "${BUILD:-build/gpu}")
logs=$build/gpu_check_logs
carry=.carry
budget=${BUDGET:-580}
all_steps=(configure build tests attention msa_conv tic feed llama graph peers memcheck racecheck initcheck
  matmul ladder peer_long)
tests_of_checkers='AttentionOnDevice.TensorCoreLengths:AttentionOnDevice.Decoding'
tests_of_checkers+=':*MapKernels.MsaConvByTilesOnMapsOfEverySize*:*MapKernels.DepthwiseConvolution*'
tests_of_checkers+=':*RowKernels.RmsNormGradient*:*RowKernels.CrossEntropy*:*RowKernels.EmbeddingGradient*'
tests_of_checkers+=':*CoreKernels.SumsOverAnyAxis*:OptimizersOnDevice.*'

commit() { git describe --always --dirty 2>/dev/null || cat $carry/commit 2>/dev/null || echo unknown; }

# ---- packing

header_folder() { # header_folder HEADER PACKAGE: the include folder that has it
  local folder
  for folder in /usr/include/eigen3 /usr/include /usr/local/include /usr/local/include/eigen3; do
    if [ -f "$folder/$1" ]; then
      echo "$folder"
      return
    fi
  done
  echo "gpu_check: $1 was not found; it comes with $2" >&2
  return 1
}

pack() {
  local folder header directory package fresh=$carry.new
  rm -rf "$fresh"
  mkdir -p "$fresh/include" "$fresh/googletest"
  while read -r header directory package; do
    folder=$(header_folder "$header" "$package") || return 1
    cp -rL "$folder/$directory" "$fresh/include/" || return 1
  done <<'LIST'
Eigen/Core Eigen libeigen3-dev
nlohmann/json.hpp nlohmann nlohmann-json3-dev
CLI/CLI.hpp CLI libcli11-dev
toml++/toml.h toml++ libtomlplusplus-dev
stb/stb_image.h stb libstb-dev
LIST
  folder=${GOOGLETEST:-/usr/src/googletest/googletest}
  if [ ! -f "$folder/src/gtest-all.cc" ]; then
    echo "gpu_check: $folder/src is missing; it comes with libgtest-dev, or GOOGLETEST names it" >&2
    return 1
  fi
  cp -rL "$folder/include" "$folder/src" "$fresh/googletest/" || return 1
  commit >"$fresh/commit"
  rm -rf $carry
  mv "$fresh" $carry
  local kilobytes
  kilobytes=$(du -sk $carry | cut -f1)
  echo "$carry: $((kilobytes / 1024)) MiB"
  if [ "$kilobytes" -gt $((64 * 1024)) ]; then
    echo "gpu_check: more than 64 MiB" >&2
    return 1
  fi
}

# ---- what the machine has

find_cuda() { # puts nvcc's folder first in PATH
  local folder
  command -v nvcc >/dev/null && return
  for folder in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda /opt/cuda; do
    [ -n "$folder" ] && [ -x "$folder/bin/nvcc" ] && PATH=$folder/bin:$PATH && return
  done
  return 1
}

gpu_field() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | head -n 1; }

architectures() { # of this GPU as MULLION_CUDA_ARCHS wants them
  local capability
  capability=$(gpu_field compute_cap | tr -d .)
  case $capability in
    90) echo 90a ;;
    [0-9]*) echo "$capability" ;;
    *) echo 90a ;;
  esac
}

missing() { # one line for each thing without which nothing can be done
  find_cuda || echo "nvcc was not found; set CUDA_HOME"
  command -v cmake >/dev/null || echo "cmake was not found"
  command -v c++ >/dev/null || command -v g++ >/dev/null || echo "no C++ compiler was found"
  if [ $dry = 0 ]; then
    if ! command -v nvidia-smi >/dev/null; then
      echo "no NVIDIA driver (nvidia-smi was not found)"
    elif [ -z "$(gpu_field name)" ]; then
      echo "nvidia-smi shows no GPU"
    fi
  fi
}

# ---- steps: each is a function; its output is its log

run_configure() {
  local options=(-DMULLION_CUDA=ON "-DMULLION_CUDA_ARCHS=${ARCHS:-$(architectures)}" -DMULLION_SIMT=OFF
    -DMULLION_TESTS=ON -DMULLION_BENCH=ON -DCMAKE_BUILD_TYPE=Release
    -DMULLION_STB_JPEG=ON) # where there is no libjpeg-turbo; the only JPEGs read are the feed step's own
  command -v ninja >/dev/null && options+=(-G Ninja)
  command -v ccache >/dev/null && options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  [ -d "$carry" ] && options+=("-DMULLION_CARRY=$PWD/$carry")
  cmake -S . -B "$build" "${options[@]}"
}

run_build() {
  cmake --build "$build" -j "$(nproc)" --target test_cuda bench_attention bench_msa_conv \
    bench_tic_step bench_tic_feed bench_llama_step bench_matmul bench_ladder
}

run_tests() { # a test that was skipped has shown nothing
  local junit=$build/gpu_check.xml status=0 skipped
  rm -f "$junit"
  ctest --test-dir "$build" -L cuda -j "$(($(nproc) < 8 ? $(nproc) : 8))" --output-on-failure \
    --no-tests=error --timeout 120 --output-junit "$junit" || status=$?
  skipped=$(sed -n 's/.*[[:space:]]skipped="\([0-9]*\)".*/\1/p' "$junit" | head -n 1)
  echo "skipped: ${skipped:-unknown}"
  [ "${skipped:-1}" = 0 ] || status=1
  return "$status"
}

checker() { # checker TOOL [OPTION...]: over a few tests; at least one must have run
  local log
  log=$(compute-sanitizer --tool "$@" --error-exitcode 9 "$build/bin/test_cuda" \
    --gtest_filter="$tests_of_checkers" 2>&1)
  local status=$?
  echo "$log"
  [ "$status" = 0 ] && grep -q '\[  PASSED  \] [1-9]' <<<"$log"
}
run_memcheck() { checker memcheck; }
run_racecheck() { checker racecheck; }
run_initcheck() { MULLION_NO_POISON=1 checker initcheck; }

on_gpu() { # on_gpu BENCH [ARGUMENT...]
  echo "\$ $*"
  "$build/bin/$1" "${@:2}" --device cuda
}
run_attention() { on_gpu bench_attention 0.3 --amp bf16; }
run_msa_conv() { on_gpu bench_msa_conv --amp bf16; }
run_tic() {
  local status=0
  on_gpu bench_tic_step tic-t 224 128 20 --amp bf16 || status=$?
  on_gpu bench_tic_step tic-t 224 128 10 --amp tf32 || status=$?
  return "$status"
}
run_feed() { on_gpu bench_tic_feed "$build/feed_jpegs" tic-t 224 128 20 "$(nproc)" --amp bf16; }
run_llama() {
  local status=0 common=(llama-7b --dtype bf16 --amp bf16)
  on_gpu bench_llama_step "${common[@]}" --ctx-size 8192 --attn sf --steps 3 || status=$?
  on_gpu bench_llama_step "${common[@]}" --ctx-size 8192 --attn full --steps 3 || status=$?
  on_gpu bench_llama_step "${common[@]}" --ctx-size 32768 --attn sf --recompute mlp --steps 2 || status=$?
  on_gpu bench_llama_step "${common[@]}" --ctx-size 32768 --attn full --recompute mlp --steps 2 || status=$?
  on_gpu bench_llama_step "${common[@]}" --ctx-size 102400 --attn sf --recompute block --steps 1 || status=$?
  return "$status"
}
run_graph() { # small steps, launch by launch and recorded
  local status=0 how
  for how in "" --cuda-graph; do
    # shellcheck disable=SC2086
    on_gpu bench_tic_step tic-n 32 64 20 --amp bf16 $how || status=$?
    # shellcheck disable=SC2086
    on_gpu bench_llama_step smollm2-135m --amp bf16 --ctx-size 512 --attn sf --steps 10 $how || status=$?
  done
  return "$status"
}
run_matmul() {
  local status=0
  on_gpu bench_matmul 7b --amp bf16 || status=$?
  on_gpu bench_matmul cube --amp tf32 || status=$?
  return "$status"
}
run_ladder() { on_gpu bench_ladder 0.3; }
peer() { # peer [ARGUMENT...]
  local python=${MULLION_PYTHON:-python3}
  "$python" -c 'import torch' || return 1
  cat "$logs"/{attention,msa_conv,tic,feed,llama}.log 2>/dev/null | grep '^{' >"$logs/ours.jsonl"
  "$python" tests/bench/peer_gpu.py --ours "$logs/ours.jsonl" --table "$logs/rows.md" "$@"
}
run_peers() { peer; }
# Last, because it may take more time than is left, or more memory than there is.
run_peer_long() {
  local also=()
  [ -f "$logs/peers.log" ] && also=(--also "$logs/peers.log")
  peer --long "${also[@]}"
}

limit_of() { # seconds
  case $1 in
    build) echo 300 ;;
    tests) echo 150 ;;
    memcheck | racecheck | initcheck) echo 50 ;;
    attention | llama) echo 75 ;;
    peers | peer_long) echo 120 ;;
    *) echo 45 ;;
  esac
}

# ---- running and reporting

results=() # NAME STATUS SECONDS LIMIT
failed=0
begun=$SECONDS

run_step() { # run_step NAME
  local name=$1 limit left status begin=$SECONDS word=passed
  limit=$(limit_of "$name") left=$((budget - (SECONDS - begun)))
  [ "$limit" -le $left ] || limit=$left
  if [ "$limit" -lt 5 ]; then
    word=no-time-left failed=1 limit=0
    echo "no time left" >"$logs/$name.log"
  else
    timeout -k 5 "$limit" "$self" --step "$name" >"$logs/$name.log" 2>&1
    status=$?
    case $status in
      0) ;;
      124 | 137) word=timed-out failed=1 ;;
      *) word=failed failed=1 ;;
    esac
  fi
  results+=("$name $word $((SECONDS - begin)) $limit")
  printf '%-10s %-12s %4d s\n' "$name" $word $((SECONDS - begin))
  [ $word = passed ] || tail -n 5 "$logs/$name.log" | sed 's/^/    /'
}

quoted() { printf '"%s"' "$(tr -d '\000-\037' <<<"$1" | sed 's/[\\"]/\\&/g')"; }

facts() { # the machine and the state of the sources, as KEY<tab>VALUE
  local gpu driver
  gpu=$(gpu_field name) driver=$(gpu_field driver_version)
  printf '%s\t%s\n' date "$(date -u '+%Y-%m-%d %H:%M UTC')" gpu "${gpu:-none}" driver "${driver:-none}" \
    cuda "$(nvcc --version | sed -n 's/.*, V\(.*\)/\1/p')" commit "$(commit)"
}

write_json() {
  local key value separator='' name word seconds limit
  printf '{\n'
  while IFS=$'\t' read -r key value; do
    printf '  "%s": %s,\n' "$key" "$(quoted "$value")"
  done < <(facts)
  printf '  "steps": ['
  for result in "${results[@]}"; do
    read -r name word seconds limit <<<"$result"
    printf '%s\n    {"name": "%s", "status": "%s", "seconds": %d, "limit": %d}' "$separator" "$name" \
      "$word" "$seconds" "$limit"
    separator=,
  done
  printf '\n  ],\n  "measurements": ['
  separator=''
  while read -r line; do
    printf '%s\n    %s' "$separator" "$line"
    separator=,
  done < <(for result in "${results[@]}"; do grep '^{.*}$' "$logs/${result%% *}.log"; done)
  printf '\n  ]\n}\n'
}

write_markdown() {
  local key value name word seconds limit
  printf '# GPU check\n\n| | |\n|---|---|\n'
  while IFS=$'\t' read -r key value; do printf '| %s | %s |\n' "$key" "$value"; done < <(facts)
  printf '\n| step | result | seconds | limit |\n|---|---|---:|---:|\n'
  for result in "${results[@]}"; do
    read -r name word seconds limit <<<"$result"
    printf '| %s | %s | %d | %d |\n' "$name" "$word" "$seconds" "$limit"
  done
  if [ -s "$logs/rows.md" ]; then
    printf '\n'
    cat "$logs/rows.md"
  fi
  for result in "${results[@]}"; do
    read -r name word seconds limit <<<"$result"
    if [ "$word" != passed ]; then
      printf '\n## %s: %s, the end of its log\n\n```\n%s\n```\n' "$name" "$word" "$(tail -n 25 "$logs/$name.log")"
    elif [ "$name" = ladder ]; then
      printf '\n## %s\n\n%s\n' "$name" "$(cat "$logs/$name.log")"
    elif grep -q '^{' "$logs/$name.log"; then
      printf '\n## %s\n\n```\n%s\n```\n' "$name" "$(grep '^[${]' "$logs/$name.log")"
    fi
  done
}

dry=0
steps=()
while [ $# -gt 0 ]; do
  case $1 in
    --pack) pack; exit ;;
    --dry-run) dry=1 ;;
    --step) find_cuda; "run_$2"; exit ;;
    -h | --help) sed -n '2,14s/^# \{0,1\}//p' "$self"; exit ;;
    *)
      if ! declare -F "run_$1" >/dev/null; then
        echo "gpu_check: no step is called $1; steps: ${all_steps[*]}" >&2
        exit 2
      fi
      steps+=("$1")
      ;;
  esac
  shift
done
[ ${#steps[@]} -gt 0 ] || steps=("${all_steps[@]}")
lacking=$(missing)
if [ -n "$lacking" ]; then
  printf 'gpu_check: %s\n' "$lacking" >&2
  exit 2
fi
find_cuda
mkdir -p "$out" "$logs"
for step in "${steps[@]}"; do
  rm -f "$logs/$step.log"
  [ "$step" != peers ] || rm -f "$logs/rows.md"
done
for step in "${steps[@]}"; do
  run_step "$step"
  write_json >"$out/gpu_check.json"
  write_markdown >"$out/gpu_check.md"
  for result in "${results[@]}"; do
    printf '==== %s\n' "$result"
    cat "$logs/${result%% *}.log"
  done >"$out/gpu_check.log"
done
echo "$out/gpu_check.md, $out/gpu_check.json"
exit $failed
