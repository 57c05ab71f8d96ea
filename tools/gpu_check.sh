#!/usr/bin/env bash
# Everything that only a GPU can show, in two calls of at most nine minutes each.
#   tools/gpu_check.sh --pack          on the developing machine: the libraries that the build needs,
#                                      into .carry/ (ignored by git), for a machine without packages
#   tools/gpu_check.sh check           on a machine with a GPU, nvcc, CMake and a C++ compiler: builds the
#                                      device's tests for this GPU, runs them and the checkers of
#                                      compute-sanitizer
#   tools/gpu_check.sh bench           builds the benches, on what `check` has built where that is there,
#                                      runs them, and PyTorch beside them where python3 has it
#   tools/gpu_check.sh STEP...         these steps alone, on what an earlier call has built
#   tools/gpu_check.sh --dry-run ...   without a GPU: configures, lists what the build would do, looks up
#                                      the tests, and runs the benches on the emulator (build/bin)
# Steps of check: configure build_tests tests collectives memcheck racecheck initcheck
# Steps of bench: configure build_benches attention msa_conv tic feed llama llama_long peer_attention
# peer_images peer_llama graph matmul timed ladder peer_long
# A step has a time limit, and is not begun with less time left than it needs. One that fails does not
# stop the others, but for the build's. gpu_check.json, gpu_check.md and gpu_check.log go to $OUT
# (build/gpu_check), anew after every step. BUDGET=540 is the time for all, BUILD the build folder
# (build/gpu), ARCHS the architectures (this GPU's), PROGRAMS the emulator's programs (build/bin).
# Exit status: 0 all steps passed, 1 some did not, 2 no GPU or compiler.
#
# The parts of this script: tools/gpu_check/*.sh.
# shellcheck disable=SC2034,SC2317
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
self=$PWD/tools/gpu_check.sh
out=${OUT:-build/gpu_check}
dry=${GPU_CHECK_DRY:-0} # also of the steps, which are calls of this script
carry=.carry
programs=${PROGRAMS:-build/bin}
budget=${BUDGET:-540}
not_shown=3 # a step's exit status: nothing failed, but something did not run

for part in pack steps report; do
  # shellcheck source=/dev/null
  . "tools/gpu_check/$part.sh"
done

# The steps in order: seconds that each needs on an H200 with 16 cores, and at most gets. Predicted:
# the builds from the compilers' processor time, the others from the operations that they do.
plan_of() { # plan_of check|bench: NAME NEEDS LIMIT
  case $1 in
    check)
      cat <<'PLAN'
configure 10 60
build_tests 90 300
tests 90 180
collectives 20 60
memcheck 30 60
racecheck 40 75
initcheck 30 60
PLAN
      ;;
    bench)
      cat <<'PLAN'
configure 10 60
build_benches 90 300
attention 30 60
msa_conv 15 30
tic 10 30
feed 15 45
llama 60 100
llama_long 55 90
peer_attention 40 80
peer_images 60 100
peer_llama 70 120
graph 15 40
matmul 15 40
timed 25 50
ladder 15 40
peer_long 60 100
PLAN
      ;;
  esac
}
times_of() { # times_of STEP: NEEDS LIMIT
  { plan_of check; plan_of bench; } | awk -v name="$1" '$1 == name { print $2, $3; exit }'
}
steps_of() { plan_of "$1" | cut -d ' ' -f 1; }

# ---- what the machine has

find_cuda() { # puts nvcc's folder first in PATH
  local folder
  command -v nvcc >/dev/null && return
  for folder in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda /opt/cuda; do
    [ -n "$folder" ] && [ -x "$folder/bin/nvcc" ] && PATH=$folder/bin:$PATH && return
  done
  return 1
}

# cuBLASLt and NCCL may lie in Python's packages alone (nvidia-cublas, nvidia-nccl). Each is taken
# from there where neither the toolkit nor the system has its header.
find_libraries() {
  local site toolkit name folder
  site=$("${MULLION_PYTHON:-python3}" -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null) || return 0
  toolkit=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
  for name in cublasLt nccl; do
    [ -f "$toolkit/include/$name.h" ] || [ -f "/usr/include/$name.h" ] && continue
    for folder in "$site"/nccl "$site"/cublas "$site"/cu[0-9]*; do
      [ -f "$folder/include/$name.h" ] || continue
      echo "gpu_check: $name of $folder" >&2
      export CPATH=${CPATH:+$CPATH:}$folder/include
      export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder/lib
      break
    done
  done
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
  if [ "$dry" = 0 ]; then
    if ! command -v nvidia-smi >/dev/null; then
      echo "no NVIDIA driver (nvidia-smi was not found)"
    elif [ -z "$(gpu_field name)" ]; then
      echo "nvidia-smi shows no GPU"
    fi
  fi
}

# ---- running and reporting

results=() # NAME STATUS SECONDS LIMIT
failed=0
without_build=0 # a build has failed: what it would have built is not run
begun=$SECONDS

run_step() { # run_step NAME
  local name=$1 needs limit left status=0 begin=$SECONDS word=passed
  read -r needs limit <<<"$(times_of "$name")"
  left=$((budget - (SECONDS - begun)))
  [ "$limit" -le $left ] || limit=$left
  if [ $without_build = 1 ]; then
    word=not-built limit=0
    echo "not run: the build has failed" >"$logs/$name.log"
  elif [ "$needs" -gt $left ]; then
    word=no-time-left limit=0
    echo "not run: needs $needs s, and $left of $budget s are left" >"$logs/$name.log"
  else
    GPU_CHECK_DRY=$dry timeout -k 5 "$limit" "$self" --step "$name" >"$logs/$name.log" 2>&1 || status=$?
    case $status in
      0) ;;
      124 | 137) word=timed-out ;;
      "$not_shown") word=incomplete ;;
      *) word=failed ;;
    esac
  fi
  case $name:$word in
    configure:passed | build_*:passed) ;;
    configure:* | build_*:*) without_build=1 ;;
  esac
  # Without a GPU, PyTorch need not be there.
  [ $word = passed ] || [ $word:"$dry" = incomplete:1 ] || failed=1
  results+=("$name $word $((SECONDS - begin)) $limit")
  printf '%-15s %-12s %4d s\n' "$name" $word $((SECONDS - begin))
  [ $word = passed ] || tail -n 5 "$logs/$name.log" | sed 's/^/    /'
}

steps=()
while [ $# -gt 0 ]; do
  case $1 in
    --pack) pack; exit ;;
    --dry-run) dry=1 ;;
    --step) step=${2:-} && break ;;
    -h | --help) sed -n '2,/^#$/s/^# \{0,1\}//p' "$self"; exit ;;
    check | bench) mapfile -t -O ${#steps[@]} steps < <(steps_of "$1") ;;
    *)
      if [ -z "$(times_of "$1")" ]; then
        echo "gpu_check: no call or step is called $1; calls: check, bench; steps:" >&2
        { steps_of check; steps_of bench; } | sort -u | xargs >&2
        exit 2
      fi
      steps+=("$1")
      ;;
  esac
  shift
done
build=${BUILD:-build/gpu}
[ "$dry" = 0 ] || build=${BUILD:-build/gpu_dry}
build=$(realpath -m "$build")
logs=$build/gpu_check_logs
if [ -n "${step:-}" ]; then
  find_cuda
  "run_$step"
  exit
fi
if [ ${#steps[@]} = 0 ]; then
  echo "gpu_check: check, bench or steps? See --help" >&2
  exit 2
fi
lacking=$(missing)
if [ -n "$lacking" ]; then
  printf 'gpu_check: %s\n' "$lacking" >&2
  exit 2
fi
find_cuda
find_libraries
mkdir -p "$out" "$logs"
for step in "${steps[@]}"; do # what these steps said before
  rm -f "$logs/$step.log"
  case $step in peer_*) rm -f "$logs/rows.md" ;; esac
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
