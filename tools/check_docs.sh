#!/usr/bin/env bash
# Every line of the excerpts in docs/adding-an-op.md must still stand in the file it is said to be from.
set -euo pipefail
cd "$(dirname "$0")/.."
status=0 file="" inside=false
while IFS= read -r line; do
  case $line in
    "<!-- from "*) file=${line#<!-- from } file=${file% -->} ;;
    '```cpp') inside=true ;;
    '```') inside=false file="" ;;
    *)
      if $inside && [ -n "$file" ] && ! grep -qF -- "$line" "$file"; then
        echo "docs/adding-an-op.md: not in $file: $line" >&2
        status=1
      fi
      ;;
  esac
done <docs/adding-an-op.md
exit $status
