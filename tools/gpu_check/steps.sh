# Part of tools/gpu_check.sh: what each step does. A step is a function; its output is its log.
# shellcheck shell=bash disable=SC2154,SC2317
build_tests=(test_cuda)
build_benches=(bench_attention bench_msa_conv bench_tic_step bench_tic_feed bench_llama_step bench_matmul
  bench_ladder)
tests_of_checkers=(AttentionOnDevice.TensorCoreLengths AttentionOnDevice.Decoding
  '*MsaConvKernels.ByTilesOnMapsOfEverySize*' '*MapKernels.DepthwiseConvolution*'
  '*RowKernels.RmsNormGradient*' '*RowKernels.CrossEntropy*' '*RowKernels.EmbeddingGradient*'
  '*CoreKernels.SumsOverAnyAxis*' 'OptimizersOnDevice.*')
run_configure() {
  # Warnings of a compiler that nobody has tried yet are no reason to measure nothing; no PTX, which is
  # for other devices. Without libjpeg-turbo stb reads JPEGs; the only ones are the feed step's own.
  local options=(-DMULLION_CUDA=ON "-DMULLION_CUDA_ARCHS=${ARCHS:-$(architectures)}" -DMULLION_CUDA_PTX=OFF
    -DMULLION_WERROR=OFF -DMULLION_SIMT=OFF -DMULLION_TESTS=ON -DMULLION_BENCH=ON
    -DCMAKE_BUILD_TYPE=Release -DMULLION_STB_JPEG=ON)
  command -v ninja >/dev/null && options+=(-G Ninja)
  command -v ccache >/dev/null && options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  [ -d "$carry" ] && options+=("-DMULLION_CARRY=$PWD/$carry")
  cmake -S . -B "$build" "${options[@]}"
}

build_targets() {
  if [ "$dry" = 0 ]; then
    cmake --build "$build" -j "$(nproc)" --target "$@"
  elif [ -f "$build/build.ninja" ]; then # ninja -n stops where CMake would look at folders again
    ninja -C "$build" -t commands "$@" >"$logs/commands" || return
    echo "$(wc -l <"$logs/commands") commands for $*"
  else
    cmake --build "$build" --target "$@" -- -n | tail -n 1
  fi
}
run_build_tests() { build_targets "${build_tests[@]}"; }
run_build_benches() { build_targets "${build_benches[@]}"; }

the_tests() { # the program with the device's tests: without a GPU the emulator's has them as well
  local program
  for program in "$build/bin/test_cuda" $([ "$dry" = 0 ] || echo "$programs/test_simt"); do
    [ -x "$program" ] && echo "$program" && return
  done
  echo "gpu_check: $program was not built" >&2
  return 1
}

run_tests() { # a test that was skipped has shown nothing; those of several ranks are a step of their own
  local junit=$build/gpu_check.xml status=0 name count
  if [ "$dry" != 0 ]; then
    name=$(the_tests) && count=$("$name" --gtest_list_tests | grep -c '^  ')
    echo "${count:-0} tests in ${name:-none}"
    [ "${count:-0}" -gt 0 ] && return
    return 1
  fi
  rm -f "$junit"
  ctest --test-dir "$build" -L cuda -E ': Nccl[CR]' -j "$(($(nproc) < 8 ? $(nproc) : 8))" --output-on-failure \
    --no-tests=error --timeout 120 --output-junit "$junit" || status=1
  # ctest calls a skipped test passed. Names with the outcome, from its report.
  awk -F '"' '/<testcase/ { name = $2 } /<failure/ { print "failed: " name }
    /<skipped/ { print "skipped: " name }' "$junit" >"$logs/outcomes" || return 1
  cat "$logs/outcomes"
  echo "$(grep -c '<testcase' "$junit") tests, $(grep -c ^failed: "$logs/outcomes") failed," \
    "$(grep -c ^skipped: "$logs/outcomes") skipped"
  if [ "$status" = 0 ] && grep -q ^skipped: "$logs/outcomes"; then status=$not_shown; fi
  return "$status"
}

checker() { # checker TOOL: over a few tests; each of the patterns must name some, and none be skipped
  local program pattern log status=0
  program=$(the_tests) || return 1
  for pattern in "${tests_of_checkers[@]}"; do
    "$program" --gtest_list_tests --gtest_filter="$pattern" | grep -q '^  ' && continue
    echo "gpu_check: no test is called $pattern"
    status=1
  done
  if [ "$dry" != 0 ] || [ "$status" != 0 ]; then return "$status"; fi
  log=$(compute-sanitizer --tool "$1" --error-exitcode 9 "$program" \
    --gtest_filter="$(IFS=: && echo "${tests_of_checkers[*]}")" 2>&1) || status=1
  echo "$log"
  [ "$status" = 0 ] || return 1
  grep -q '\[  PASSED  \] [1-9]' <<<"$log" || return 1
  ! grep -q '\[  SKIPPED \]' <<<"$log" || return "$not_shown"
}
run_memcheck() { checker memcheck; }
run_racecheck() { checker racecheck; }
run_collectives() { # one rank a GPU, by NCCL; no more ranks than GPUs, for NCCL refuses two on one
  local program gpus filter='NcclCollective.*:NcclRanks.*' log status=0
  program=$(the_tests) || return 1
  gpus=$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | wc -l)
  if [ "$dry" != 0 ]; then
    "$program" --gtest_list_tests --gtest_filter="$filter" | grep '^  '
    return
  fi
  if [ "$gpus" -lt 2 ]; then
    filter='NcclCollective.*'
    echo "one GPU: a world of one rank, and NCCL's refusal of two ranks on it; sums over ranks need more GPUs"
  else
    echo "$gpus GPUs: worlds of 1 to $((gpus < 4 ? gpus : 4)) ranks"
  fi
  log=$("$program" --gtest_filter="$filter" 2>&1) || status=1
  echo "$log"
  [ "$status" = 0 ] || return 1
  ! grep -q '\[  SKIPPED \]' <<<"$log" || return "$not_shown"
}
run_initcheck() { MULLION_NO_POISON=1 checker initcheck; }

on_gpu() { # on_gpu BENCH [ARGUMENT...]
  local program=$build/bin/$1 where=(--device cuda)
  if [ "$dry" != 0 ]; then
    program=$programs/simt_$1
    where+=(--smoke)
    [ "$1" != bench_tic_feed ] || program=$programs/$1 where=(--smoke) # loads images: on the CPU
  fi
  echo "\$ $*"
  "$program" "${@:2}" "${where[@]}"
}
each() { # each COMMAND ARGUMENTS...: once for every argument, a line of words; fails if one did
  local status=0 arguments
  for arguments in "${@:2}"; do
    # shellcheck disable=SC2086
    $1 $arguments || status=1
  done
  return "$status"
}
run_attention() { on_gpu bench_attention 0.3 --amp bf16; }
run_msa_conv() { on_gpu bench_msa_conv --amp bf16; }
run_tic() { each 'on_gpu bench_tic_step tic-t 224 128' '20 --amp bf16' '10 --amp tf32'; }
run_feed() { on_gpu bench_tic_feed "$build/feed_jpegs" tic-t 224 128 20 "$(nproc)" --amp bf16; }
llama_7b() { on_gpu bench_llama_step llama-7b --dtype bf16 --amp bf16 "$@"; }
run_llama() {
  each llama_7b '--ctx-size 8192 --attn sf --steps 3' '--ctx-size 8192 --attn full --steps 3' \
    '--ctx-size 32768 --attn sf --recompute mlp --steps 2' \
    '--ctx-size 32768 --attn full --recompute mlp --steps 2'
}
run_llama_long() { llama_7b --ctx-size 102400 --attn sf --recompute block --steps 1; }
run_graph() { # small steps, launch by launch and recorded
  local status=0
  each 'on_gpu bench_tic_step tic-n 32 64 20 --amp bf16' '' --cuda-graph || status=1
  each 'on_gpu bench_llama_step smollm2-135m --amp bf16 --ctx-size 512 --attn sf --steps 10' '' \
    --cuda-graph || status=1
  return "$status"
}
run_matmul() { each 'on_gpu bench_matmul' '7b --amp bf16' 'cube --amp tf32'; }

figures() { # figures FILE...: NAME<tab>TIME of the measurements that products decide
  sed -n 's/.*"bench": "matmul".*"shape": "\([^"]*\)", "us": \([0-9.]*\).*/\1, us\t\2/p
    s/.*"bench": "llama_step".*"context": \([0-9]*\), "attn": "\([^"]*\)".*"step_s": \([0-9.]*\).*/'"\
"'step of 7B, \1 tokens, \2, s\t\3/p' "$@" 2>/dev/null
}
run_timed() { # products by the fastest of cuBLASLt's candidates, beside what the steps before have
  local status=0 pairs
  export MULLION_CUDA_PRODUCTS=timed
  { # the bench's lines say so
    on_gpu bench_matmul 7b --amp bf16 || status=1
    llama_7b --ctx-size 8192 --attn sf --steps 3 || status=1
  } >"$logs/timed.lines"
  cat "$logs/timed.lines"
  pairs=$(awk -F '\t' 'NR == FNR { library[$1] = $2; next }
    $1 in library && $2 > 0 && !done[$1]++ {
      printf "{\"bench\": \"products\", \"what\": \"%s\", \"library\": %s, \"timed\": %s, \"times_faster\": %.3f}\n",
        $1, library[$1], $2, library[$1] / $2
    }' <(figures "$logs/matmul.log" "$logs/llama.log") <(figures "$logs/timed.lines"))
  echo "$pairs"
  if [ "$status" = 0 ] && [ -z "$pairs" ]; then
    echo "gpu_check: nothing to compare with; run the steps matmul and llama before" >&2
    return "$not_shown"
  fi
  return "$status"
}
run_ladder() { on_gpu bench_ladder 0.3; }

peer() { # peer PART: beside our figures and the other parts' so far
  local python=${MULLION_PYTHON:-python3} options=()
  if ! "$python" -c 'import torch'; then
    [ "$dry" = 0 ] && return 1
    return "$not_shown"
  fi
  [ "$dry" = 0 ] || options=(--smoke)
  cat "$logs"/{attention,msa_conv,tic,feed,llama,llama_long}.log 2>/dev/null | grep '^{' >"$logs/ours.jsonl"
  cat "$logs"/peer_*.log 2>/dev/null | grep '^{' >"$logs/theirs.jsonl"
  "$python" tests/bench/peer_gpu.py "${options[@]}" --part "$1" --ours "$logs/ours.jsonl" \
    --also "$logs/theirs.jsonl" --table "$logs/rows.md"
}
run_peer_attention() { peer attention; }
run_peer_images() { peer images; }
run_peer_llama() { peer llama; }
run_peer_long() { peer long; } # last: it may take more time than is left, or more memory than there is
