#!/usr/bin/env bash
# Kernels take structs of a dozen pointers and sizes, which compile when two of them are swapped:
# every call must name its arguments ({.x = ..., .y = ...}). Prints the calls that do not, and fails.
#   usage: tools/check_kernel_calls.sh [FILE...]      (all sources, unless files are given)
set -eu
cd "$(dirname "$0")/.."
names=$(grep -ohE 'KERNEL\(\w+, \w+' tensor/kernel_args/*.h | sed 's/.*, //' | sort -u | paste -sd '|')
files=("$@")
[ $# -gt 0 ] || mapfile -t files < <(git ls-files tensor autograd nn optim models data tests | grep -E '\.(cc|cu|cuh|h)$')
# The brace of the arguments, and the first thing in it, which may stand on the next line.
unnamed=$(grep -zoHE "(\.|::)((unary|unary_backward|binary)\[[^]]*\]|$names)\(\{\s*[^.}[:space:]]|\b[A-Za-z]+Args( \w+)?\{\s*[^.}[:space:]]" \
  "${files[@]}" | tr '\0' '\n' | grep -vE '^\S+:struct ' || true)
[ -z "$unnamed" ] || { echo "arguments of kernels without their names:"; echo "$unnamed"; exit 1; }
