#!/usr/bin/env bash
# Whether the pictures beside this script are what the program (first argument) draws.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$1" "$folder"
here=$(dirname "$0")
for picture in "$folder"/*.svg "$here"/*.svg; do
  cmp "$folder/$(basename "$picture")" "$here/$(basename "$picture")"
done
