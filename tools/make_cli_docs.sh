#!/usr/bin/env bash
# Writes docs/cli.md (or to stdout: tools/make_cli_docs.sh -) from the programs' own --help. BIN names
# the folder of the programs, all of which must be built (./run build); build/bin where it is not set.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-build/bin}

verbs() { # verbs PROGRAM: one a line; nothing where the program has one job
  "$bin/$1" --help | sed -n '/^usage: [a-z_]* VERB/,/^VERB/s/^  \([a-z][a-z_-]*\) .*/\1/p'
}

write() {
  cat <<'TEXT'
# Programs and options

Made from `--help` by `tools/make_cli_docs.sh`. Values in parentheses are defaults. Every key can also
stand in a TOML file for `-c`; `--print-config` shows where each value came from. Results go to
stdout (with `--json` as one object in the last line), progress to stderr. Exit codes: 0 done, 1 any
other error, 2 usage or configuration, 3 bad input file, 4 disk or permission, 5 diverged, 6 out of
memory or device fault, 7 another rank is lost (docs/many.md), 75 stopped on request, saved and
resumable, 130 second Ctrl-C.
TEXT
  local program verb
  for program in data_llama train_llama eval_llama chat_llama tool_llama \
    data_tic train_tic eval_tic tool_tic report reproduce; do
    for verb in $(verbs "$program") ""; do
      # The program alone, where it has verbs, would only list them.
      [ -z "$verb" ] && [ -n "$(verbs "$program")" ] && continue
      printf '\n## %s\n\n```\n' "$program${verb:+ $verb}"
      "$bin/$program" $verb --help
      printf '```\n'
    done
  done
}

[ "${1:-}" = - ] && { write; exit; }
# Whole or not at all: a program that is not built ends this.
made=$(mktemp docs/cli.md.XXXXXX)
trap 'rm -f "$made"' EXIT
write >"$made"
chmod 644 "$made"
mv "$made" docs/cli.md
