#!/usr/bin/env bash
# tools/gpu_check.sh on a machine of stubs: what it reports when things go well, and when one breaks.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/stubs" "$work/tree/tests/bench" "$work/tree/build/gpu/bin"
cp -r "$root/tools" "$work/tree/"
cp "$root"/tests/bench/peer_gpu*.py "$work/tree/tests/bench/"
cd "$work/tree" || exit 1

stub() { # stub NAME: a program, from standard input; BROKEN says what goes wrong in it
  { echo '#!/usr/bin/env bash'; cat; } >"$1"
  chmod +x "$1"
}
stub ../stubs/nvidia-smi <<'S'
[ "${BROKEN:-}" = gpu ] && exit 9
case $1 in *compute_cap*) echo 9.0 ;; *) echo 'Stub, "the" GPU' ;; esac
S
stub ../stubs/nvcc <<<'echo "Cuda compilation tools, release 13.0, V13.0.88"'
stub ../stubs/c++ <<<''
stub ../stubs/cmake <<'S'
echo "cmake $*" >>calls
case "$1 ${BROKEN:-}" in
  '--build build') echo 'error: expected ;' && exit 1 ;;
  '-S configure') echo 'CMake Error: no Eigen' && exit 1 ;;
esac
S
stub ../stubs/ctest <<'S'
echo "ctest $*" >>calls
while [ "$1" != --output-junit ]; do shift; done
{
  echo '<testsuite name="t" tests="2" failures="0" skipped="0">'
  echo '<testcase name="cuda: A.Works" classname="cuda: A.Works" time="1" status="run">'
  echo '</testcase>'
  echo '<testcase name="cuda: A.Breaks" classname="cuda: A.Breaks" time="1" status="run">'
  [ "${BROKEN:-}" != test ] || echo '<failure message=""/>'
  [ "${BROKEN:-}" != skip ] || echo '<skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/>'
  echo '</testcase></testsuite>'
} >"$2"
[ "${BROKEN:-}" != test ] || exit 8
S
stub ../stubs/compute-sanitizer <<'S'
echo "sanitizer $*" >>calls
[ "${BROKEN:-}" != sanitizer ] || { echo '========= Invalid __global__ read' && exit 9; }
[ "${BROKEN:-}" = nothing ] && echo '[  PASSED  ] 0 tests.' && exit
[ "${BROKEN:-}" = skip ] && echo '[  SKIPPED ] A.Breaks'
echo '[  PASSED  ] 9 tests.'
S
stub build/gpu/bin/test_cuda <<'S'
case "${BROKEN:-} $*" in pattern*Decoding) exit ;; esac
printf 'A.\n  Works\n'
S
for bench in attention msa_conv tic_step tic_feed llama_step matmul ladder; do
  stub build/gpu/bin/bench_$bench <<S
echo "bench_$bench \$*" >>calls
case "$bench \${BROKEN:-} \$*" in
  tic_step\ slow*) sleep 60 ;;
  llama_step\ memory*32768*full*) echo 'error: cuda: no memory' >&2 && exit 3 ;;
esac
case $bench in
  matmul) echo '{"bench": "matmul", "device": "cuda", "shape": "7b x W^T 1x2x3", "us": 20.0, "us_min": 19}' ;;
  llama_step) echo "{\"bench\": \"llama_step\", \"context\": \$(echo "\$*" |
    sed 's/.*--ctx-size \([0-9]*\).*/\1/'), \"attn\": \"sf\", \"step_s\": 2.5, \"step_s_min\": 2}" ;;
  *) echo '{"bench": "$bench", "value": 1}' ;;
esac
S
done
stub ../stubs/python3 <<'S'
[ "${BROKEN:-}" = torch ] && { echo "ModuleNotFoundError: No module named 'torch'" >&2; exit 1; }
case $2 in *'import nvidia'*) echo "${PACKAGES:-}" ;; esac
[ "$1" = -c ] && exit
echo "peer $*" >>calls
while [ "$1" != --table ]; do shift; done
echo '| row |' >"$2"
echo '{"peer": "full"}'
S
export PATH=$work/stubs:$PATH OUT=$work/out

faults=0
expect() { # expect WHAT COMMAND...
  "${@:2}" >/dev/null && return
  echo "FAILED: $1"
  sed 's/^/    /' "$work/said"
  faults=$((faults + 1))
}
call() { # call STATUS [NAME=VALUE...] ARGUMENT...: the script's exit status and what it says
  local right=$1 status=0
  shift
  rm -f calls
  env "$@" >"$work/said" 2>&1 || status=$?
  expect "exit status $status of '$*', not $right" test "$status" = "$right"
}
said() { expect "'$1' is not said" grep -Eq "$1" "$work/said"; }
reported() { expect "'$1' is not in gpu_check.md" grep -Eq "$1" "$OUT/gpu_check.md"; }
check=tools/gpu_check.sh
step() { reported "^\| $1 \| $2 \|"; } # step NAME RESULT

call 0 $check check
for name in configure build_tests tests collectives memcheck racecheck initcheck; do step $name passed; done
reported 'Stub, "the" GPU'
expect 'the GPU in the JSON' grep -q 'Stub, \\"the\\" GPU' "$OUT/gpu_check.json"
expect 'warnings are no errors' grep -q 'cmake -S.*-DMULLION_WERROR=OFF' calls
expect 'for this GPU' grep -q 'cmake -S.*-DMULLION_CUDA_ARCHS=90a' calls
expect 'the tests alone are built' test "$(grep -- '--target' calls | sed 's/.*--target //')" = test_cuda

call 0 $check bench
for name in build_benches attention tic feed llama llama_long peer_attention timed peer_long; do
  step $name passed
done
expect 'no tests are built for the benches' grep -q -- '--target bench_attention bench_msa_conv' calls
expect 'six steps of 7B' test "$(grep -c 'bench_llama_step llama-7b' calls)" = 6
for what in '7b x W^T 1x2x3, us' 'step of 7B, 8192 tokens, sf, s'; do
  expect "the fastest products beside the library's: $what" \
    grep -qF "{\"bench\": \"products\", \"what\": \"$what\"" "$OUT/gpu_check.json"
done
expect 'measurements are in the JSON' grep -q '{"bench": "llama_step"' "$OUT/gpu_check.json"

# A failed build ends the call, and nothing that would need it passes.
for part in build configure; do
  call 1 BROKEN=$part $check check
  step tests not-built
  step initcheck not-built
  expect 'no test is run after a failed build' test "$(grep -c 'ctest\|sanitizer' calls)" = 0
done
call 1 BROKEN=build $check bench
step attention not-built
step peer_long not-built

# Tests that failed, were skipped, or are not there.
call 1 BROKEN=test $check check
step tests failed
reported '^failed: cuda: A.Breaks$'
reported '^2 tests, 1 failed, 0 skipped$'
step memcheck passed # the others are run all the same
call 1 BROKEN=skip $check check
step tests incomplete
reported '^skipped: cuda: A.Breaks$'
step memcheck incomplete
call 1 BROKEN=sanitizer $check memcheck
step memcheck failed
call 1 BROKEN=nothing $check memcheck
step memcheck failed
call 1 BROKEN=pattern $check memcheck
reported 'no test is called AttentionOnDevice.Decoding'
expect 'no checker over other tests than the named' test ! -e calls

# A bench that fails leaves the figures of the others, and fails its step.
call 1 BROKEN=memory $check llama
step llama failed
reported 'no memory'
expect 'all four are run' test "$(grep -c bench_llama_step calls)" = 4
expect 'three have figures' test "$(grep -c '"bench": "llama_step"' "$OUT/gpu_check.json")" = 3
rm -rf build/gpu/gpu_check_logs
call 1 $check timed
step timed incomplete
reported 'nothing to compare with'
call 1 BROKEN=torch $check peer_attention
step peer_attention failed

# Time: a step that hangs is stopped, and one that cannot end is not begun.
call 1 BROKEN=slow BUDGET=11 $check tic attention
step tic timed-out
step attention no-time-left
reported 'needs 30 s'

# A library that only a package of Python has.
mkdir -p "$work/python/nvidia/nccl/include"
touch "$work/python/nvidia/nccl/include/nccl.h"
call 0 PACKAGES="$work/python/nvidia" $check configure
said 'gpu_check: nccl of .*/python/nvidia/nccl$'
expect 'no other library is taken' test "$(grep -c 'gpu_check: .* of' "$work/said")" = 1

call 2 BROKEN=gpu $check check
said 'nvidia-smi shows no GPU'
call 2 $check checks
said 'no call or step is called checks'
call 2 $check
rm build/gpu/bin/test_cuda
call 1 $check memcheck
reported 'test_cuda was not built'

[ $faults = 0 ] && echo "as it should be" || exit 1
