#!/usr/bin/env bash
# Whether the code in the documents is the code that is built: a block that follows a line
# "<!-- from FILE -->" must occur in FILE word for word; and whether docs/cli.md is what the programs
# print (tools/make_cli_docs.sh writes it): those in the folder BIN, build/bin where it is not set.
set -euo pipefail
cd "$(dirname "$0")/.."

awk '
  function check(   text, line) {
    while ((getline line < source) > 0) text = text line "\n"
    close(source)
    ++blocks
    if (text == "" || index("\n" text, "\n" block) == 0 && index(text, trimmed) == 0) {
      printf "%s:%d: this code is not in %s\n", FILENAME, FNR, source
      bad = 1
    }
  }
  /^<!-- from .* -->$/ { source = $3; waiting = 1; next }
  waiting && /^```/ && !inside { inside = 1; block = ""; next }
  inside && /^```/ {
    trimmed = substr(block, 1, length(block) - 1)  # a line may go on after the excerpt
    check()
    inside = waiting = 0
    next
  }
  inside { block = block $0 "\n" }
  END { if (!bad) printf "%d excerpts are as in the sources\n", blocks; exit bad }
' README.md docs/*.md

tools/make_cli_docs.sh - | diff -u docs/cli.md - || {
  echo "docs/cli.md is out of date: run tools/make_cli_docs.sh" >&2
  exit 1
}
