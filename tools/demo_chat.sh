# The third part of the demo, by tools/demo.sh --chat: a model is tuned on questions and answers in
# its small language, merged, exported and asked. Sourced there; uses its functions.

right_answers() { # right_answers ANSWERED: how many rows of 100 have the text that is right
  paste "$out/data/right.txt" <(sed -n 's/.*"text":" *\([A-Z]*\)".*/\1/p' "$1") | awk '$1 == $2' | wc -l
}

part_c() {
  local data=$out/data model=$out/lessons/last/model tuned_steps=100
  phase "C1. A small language, and questions about documents of it"
  program "$data/lessons.json" data_llama lexicon --rows $((steps * 64)) --length 32 --repeats 0.7 \
    --words spaced --first-row 3000000 --output "$data/lessons.bin" --model-dir "$data/spaced" \
    --seed "$seed"
  program "$data/ask.json" data_llama lookups --model "$data/spaced" --format prompts --pairs 8 \
    --count 800 --output "$data/ask" --seed "$seed"
  program "$data/held.json" data_llama lookups --model "$data/spaced" --format prompts --pairs 8 \
    --count 100 --first-row 6000000 --output "$data/held" --seed "$seed"
  local held=$data/held/8_prompts.jsonl
  sed 's/.*"completion":" *\([A-Z]*\)".*/\1/' "$held" >"$data/right.txt"
  sed 's/"completion":"[^"]*",\{0,1\}//; s/,}/}/' "$held" >"$data/questions.jsonl"
  say "asked: $(sed -n '1s/.*"prompt":"\([^"]*\)".*/\1/p' "$held")  answer: $(head -n 1 "$data/right.txt")"

  phase "C2. A LLaMA of 0.7 M parameters learns to look values up ($steps steps)"
  program "$data/lessons-run.json" train_llama pretrain --model-config "$data/spaced/config.json" \
    --data "$data/lessons.bin" --ctx-size 32 --batch-size 64 --max-steps "$steps" --lr 2e-3 \
    --warmup-steps 100 --attn full --full --grad-accum-steps 1 --weight-decay 0.01 \
    --opt-betas 0.9,0.95 --clip-grad 1 --no-shuffle --seed "$seed" --save-every 0 --log-every 100 \
    --output "$out" --name lessons
  say "loss of the last step: $(fixed "$(number final_loss <"$data/lessons-run.json")" 3) nats"

  phase "C3. train_llama sft: LoRA on $((tuned_steps * 16)) questions, of which only answers are learned"
  program "$data/tuned.json" train_llama sft --model "$model" --data "$data/ask/8_prompts.jsonl" \
    --template none --ctx-size 32 --attn full --batch-size 16 --grad-accum-steps 1 \
    --max-steps $tuned_steps --lr 2e-3 --warmup-steps 10 --seed "$seed" --save-every 0 --log-every 20 \
    --output "$out" --name tuned
  say "loss of the last step: $(fixed "$(number final_loss <"$data/tuned.json")" 3) nats"

  phase "C4. The model out of the door: merged into a folder, exported as GGUF"
  program "$data/merge.json" tool_llama merge --model "$model" --adapter "$out/tuned" -o "$out/merged"
  program "$data/export.json" tool_llama export --model "$out/merged" --format gguf --type q8_0 \
    -o "$out/tuned.gguf"
  say "$out/merged opens in transformers, $out/tuned.gguf ($(number bytes <"$data/export.json") bytes) in llama.cpp"

  phase "C5. 100 questions about documents that no training saw, 4 tokens of answer at most"
  local name place rows=() file
  for name in before after gguf; do
    case $name in
      before) place=$model ;;
      after) place=$out/merged ;;
      gguf) place=$out/tuned.gguf ;;
    esac
    file=$data/$name.jsonl
    program "$data/$name.json" chat_llama complete --model "$place" --jsonl "$data/questions.jsonl" \
      -n 4 --output "$file"
    local right ended
    right=$(right_answers "$file")
    ended=$(grep -c '"stop":"eos"' "$file" || true)
    say "$(printf '%-7s %3d of 100 answers are right and nothing else, %3d ended by themselves; the first: %s' \
      "$name" "$right" "$ended" "$(sed -n '1s/.*"text":"\([^"]*\)".*/\1/p' "$file")")"
    rows+=("[\"$name\", $right, $ended]")
  done
  local caption="Questions about documents of 8 pairs. Before the tuning the model goes on with the document; after it, it answers and ends. gguf: the exported file, in Q8_0."
  tables+=("{\"title\": \"Tuned on instructions\", \"columns\": [\"model\", \"right of 100\", \"ended by themselves\"], \"rows\": [$(quoted "${rows[@]}")], \"note\": \"$caption\"}")
  model_runs+=("$out/lessons" "$out/tuned")
}
