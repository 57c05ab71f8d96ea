#!/usr/bin/env python3
"""Perplexity by transformers' sliding window and by lm-eval's rolling one, on texts that
eval_llama ppl reads as well.

    tools/oracle_ppl.py pages WIKI.txt PAGES.jsonl --pages 3       a row a page; PAGES.txt: as one text
    tools/oracle_ppl.py sliding MODEL_FOLDER TEXT.txt --ctx-size 1024 --stride 512
    tools/oracle_ppl.py rolling MODEL_FOLDER PAGES.jsonl --ctx-size 1024

MODEL_FOLDER is the model in Hugging Face's form (tools/smollm2_to_hf.py). sliding is the loop of
transformers' page "Perplexity of fixed-length models"; it weighs a window by one token fewer than
it scores, so the sum over tokens is printed beside it. rolling is lm-eval's wikitext without its
detokenizer: loglikelihood_rolling of each page, words by re.split(r"\\s+"). Needs torch,
transformers; rolling lm-eval 0.4.
"""

import argparse
import json
import math
import os
import re
import tempfile

os.environ["HF_DATASETS_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"

TASK = """task: local_pages
dataset_path: json
dataset_kwargs: {{data_files: {{test: {pages}}}, cache_dir: {cache}}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: word_perplexity}}, {{metric: byte_perplexity}}, {{metric: bits_per_byte}}]
"""


def pages(o):
    """Pages begin at headings of the first level: a line " = Title = "."""
    text = open(o.text, encoding="utf-8", newline="").read()
    starts = [m.start() for m in re.finditer(r"^ = [^=\n]+ = *$", text, re.M)]
    ends = starts[1:] + [len(text)]
    chosen = [text[begin:end] for begin, end in zip(starts, ends)][:o.pages]
    with open(o.output, "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"text": page}, ensure_ascii=False) + "\n" for page in chosen)
    with open(os.path.splitext(o.output)[0] + ".txt", "w", encoding="utf-8", newline="") as f:
        f.write("".join(chosen))


def sliding(o):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(o.model, torch_dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(o.model)
    ids = tokenizer(open(o.text, encoding="utf-8", newline="").read(), return_tensors="pt").input_ids
    length, scored_to, theirs, weights, exact, count = ids.size(1), 0, 0.0, 0, 0.0, 0
    for begin in range(0, length, o.stride):
        end = min(begin + o.ctx_size, length)
        window, target = ids[:, begin:end], ids[:, begin:end].clone()
        target[:, : -(end - scored_to)] = -100
        with torch.no_grad():
            loss = model(window, labels=target).loss.item()
        valid = int((target != -100).sum())
        theirs, weights = theirs + loss * (valid - 1), weights + valid - 1
        predicted = int((target[:, 1:] != -100).sum())
        exact, count = exact + loss * predicted, count + predicted
        scored_to = end
        if end == length:
            break
    print(json.dumps({"perplexity": math.exp(theirs / weights), "tokens": count,
                      "perplexity_of_the_sum": math.exp(exact / count)}))


def rolling(o):
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "task.yaml"), "w") as f:
            f.write(TASK.format(pages=os.path.abspath(o.text), cache=folder))
        model = HFLM(pretrained=o.model, dtype="float32", device="cpu", batch_size=1,
                     max_length=o.ctx_size)
        result = lm_eval.simple_evaluate(
            model=model, tasks=["local_pages"], bootstrap_iters=0,
            task_manager=TaskManager(include_path=folder, include_defaults=False))
    print(json.dumps(result["results"]["local_pages"]))


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(required=True)
    for run, first in ((pages, "text"), (sliding, "model"), (rolling, "model")):
        verb = verbs.add_parser(run.__name__)
        verb.set_defaults(run=run)
        verb.add_argument(first)
        verb.add_argument("output" if run is pages else "text")
        verb.add_argument("--pages", type=int, default=3)
        verb.add_argument("--ctx-size", type=int, default=1024)
        verb.add_argument("--stride", type=int, default=512)
    o = parser.parse_args()
    o.run(o)


main()
