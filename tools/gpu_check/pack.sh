# Part of tools/gpu_check.sh: the libraries that a build on a machine without packages needs, in .carry/.
# shellcheck shell=bash disable=SC2154,SC2317
commit() { git describe --always --dirty 2>/dev/null || cat "$carry/commit" 2>/dev/null || echo unknown; }

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
  rm -rf "$carry"
  mv "$fresh" "$carry"
  local kilobytes
  kilobytes=$(du -sk "$carry" | cut -f1)
  echo "$carry: $((kilobytes / 1024)) MiB"
  if [ "$kilobytes" -gt $((64 * 1024)) ]; then
    echo "gpu_check: more than 64 MiB" >&2
    return 1
  fi
}
