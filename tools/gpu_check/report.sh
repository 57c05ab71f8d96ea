# Part of tools/gpu_check.sh: the reports, of the machine and the results so far.
# shellcheck shell=bash disable=SC2154,SC2016
quoted() { printf '"%s"' "$(tr -d '\000-\037' <<<"$1" | sed 's/[\\"]/\\&/g')"; }

facts() { # the machine and the state of the sources, as KEY<tab>VALUE
  local gpu driver
  gpu=$(gpu_field name) driver=$(gpu_field driver_version)
  printf '%s\t%s\n' date "$(date -u '+%Y-%m-%d %H:%M UTC')" gpu "${gpu:-none}" driver "${driver:-none}" \
    cuda "$(nvcc --version | sed -n 's/.*, V\(.*\)/\1/p')" commit "$(commit)"
}

write_json() {
  local key value separator='' name word seconds limit
  printf '{\n'
  while IFS=$'\t' read -r key value; do
    printf '  "%s": %s,\n' "$key" "$(quoted "$value")"
  done < <(facts)
  printf '  "steps": ['
  for result in "${results[@]}"; do
    read -r name word seconds limit <<<"$result"
    printf '%s\n    {"name": "%s", "status": "%s", "seconds": %d, "limit": %d}' "$separator" "$name" \
      "$word" "$seconds" "$limit"
    separator=,
  done
  printf '\n  ],\n  "measurements": ['
  separator=''
  while read -r line; do
    printf '%s\n    %s' "$separator" "$line"
    separator=,
  done < <(for result in "${results[@]}"; do grep '^{.*}$' "$logs/${result%% *}.log"; done)
  printf '\n  ]\n}\n'
}

write_markdown() {
  local key value name word seconds limit
  printf '# GPU check\n\n| | |\n|---|---|\n'
  while IFS=$'\t' read -r key value; do printf '| %s | %s |\n' "$key" "$value"; done < <(facts)
  printf '\n| step | result | seconds | limit |\n|---|---|---:|---:|\n'
  for result in "${results[@]}"; do
    read -r name word seconds limit <<<"$result"
    printf '| %s | %s | %d | %d |\n' "$name" "$word" "$seconds" "$limit"
  done
  if [ -s "$logs/rows.md" ]; then
    printf '\n'
    cat "$logs/rows.md"
  fi
  for result in "${results[@]}"; do
    read -r name word seconds limit <<<"$result"
    if [ "$word" != passed ]; then
      printf '\n## %s: %s, the end of its log\n\n```\n%s\n```\n' "$name" "$word" "$(tail -n 25 "$logs/$name.log")"
    elif [ "$name" = ladder ]; then
      printf '\n## %s\n\n%s\n' "$name" "$(cat "$logs/$name.log")"
    elif grep -q '^{' "$logs/$name.log"; then
      printf '\n## %s\n\n```\n%s\n```\n' "$name" "$(grep '^[${]' "$logs/$name.log")"
    fi
  done
}
