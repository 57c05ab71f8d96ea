#!/usr/bin/env bash
# Whether another project can use the libraries.
#   check.sh BUILD            installs the build BUILD into a folder of its own, find_package(Mullion)
#   check.sh BUILD --sources  builds the sources as a part of the other project, add_subdirectory
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
work=$build/package${2:+-sources}
rm -rf "$work/prefix" "$work/build"
options=(-G Ninja -DCMAKE_BUILD_TYPE=Release)
if command -v ccache >/dev/null; then options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
if [ "${2:-}" = --sources ]; then
  options+=(-DMULLION_SOURCE="$here/../..")
else
  cmake --install "$build" --prefix "$work/prefix" >"$build/install.log"
  options+=(-DCMAKE_PREFIX_PATH="$work/prefix")
fi
cmake -S "$here" -B "$work/build" "${options[@]}" >"$work.log" &&
  cmake --build "$work/build" --target fit -j "$(nproc)" >>"$work.log" || { cat "$work.log"; exit 1; }
"$work/build/fit"
