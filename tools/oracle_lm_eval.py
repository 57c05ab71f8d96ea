#!/usr/bin/env python3
"""OpenBookQA, WinoGrande or COPA by lm-eval on local files, and every sample beside those of
eval_llama choice.

    tools/oracle_lm_eval.py MODEL_FOLDER TEST.jsonl TRAIN.jsonl --shots 5 --limit 100 SAMPLES.jsonl
    tools/oracle_lm_eval.py MODEL_FOLDER winogrande_test.json winogrande_test.json --shots 0 \
        --task winogrande SAMPLES.jsonl

MODEL_FOLDER is the model in Hugging Face's form (tools/smollm2_to_hf.py), SAMPLES.jsonl what
`eval_llama choice --output` wrote for the same rows under a full cache. acc and acc_norm must be
equal on every sample, and each log-likelihood within 5e-5 a token: over 64 choices of OpenBookQA a
forward in f32 was up to 0.8e-5 (ours) and 1.1e-5 (torch's) from one in float64, and torch's
log_softmax in f32 is up to 0.9e-5 too high; over all 2,000 the extremes are further out. Needs
lm-eval 0.4, torch, transformers.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import xml.etree.ElementTree

os.environ["HF_DATASETS_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
import lm_eval  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

FILES = """task: local_{task}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {test}, train: {train}}}, cache_dir: {cache}}}
output_type: multiple_choice
test_split: test
fewshot_split: train
fewshot_config: {{sampler: first_n}}
num_fewshot: {shots}
"""
OPENBOOKQA = """doc_to_text: "{{question.stem}}"
doc_to_target: "{{['A', 'B', 'C', 'D'].index(answerKey)}}"
doc_to_choice: "{{question.choices | map(attribute='text') | list}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
# Of the other tasks the texts are lm-eval's own code.
OWN = {"winogrande": "winogrande/preprocess_winogrande.py", "copa": "super_glue/copa/utils.py"}


def rows_of(task, file, folder):
    """The file as lines with the fields that lm-eval's code takes."""
    if task == "openbookqa":
        return os.path.abspath(file)
    if task == "winogrande":
        form = re.compile(r"sentence: (.*)\n\nOption1: (.*) Option2: (.*) Answer format:", re.S)
        rows = [dict(zip(("sentence", "option1", "option2"),
                         form.search(r["instruction"]).groups()), answer=r["answer"][-1])
                for r in json.load(open(file))]
    else:
        rows = [{"premise": i.find("p").text, "choice1": i.find("a1").text,
                 "choice2": i.find("a2").text, "question": i.get("asks-for"),
                 "label": int(i.get("most-plausible-alternative")) - 1}
                for i in xml.etree.ElementTree.parse(file).getroot()]
    path = os.path.join(folder, os.path.basename(file) + ".jsonl")
    with open(path, "w") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def texts_of(task, folder):
    if task == "openbookqa":
        return OPENBOOKQA
    source = os.path.join(os.path.dirname(lm_eval.__file__), "tasks", OWN[task])
    shutil.copy(source, os.path.join(folder, "texts.py"))
    return "".join(f"{f}: !function texts.{f}\n"
                   for f in ("doc_to_text", "doc_to_target", "doc_to_choice")) + (
        "metric_list: [{metric: acc}]\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("test")
    parser.add_argument("train")
    parser.add_argument("samples")
    parser.add_argument("--task", choices=["openbookqa", *OWN], default="openbookqa")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--theirs", help="file to keep lm-eval's samples in, or to take them from")
    o = parser.parse_args()
    if o.theirs and os.path.exists(o.theirs):
        compare(json.load(open(o.theirs)), o.samples)
    with tempfile.TemporaryDirectory() as folder:
        text = FILES.format(task=o.task, test=rows_of(o.task, o.test, folder),
                            train=rows_of(o.task, o.train, folder), shots=o.shots, cache=folder)
        with open(os.path.join(folder, "task.yaml"), "w") as out:
            out.write(text + texts_of(o.task, folder))
        model = HFLM(pretrained=o.model, dtype="float32", device="cpu", batch_size=4)
        result = lm_eval.simple_evaluate(
            model=model, tasks=["local_" + o.task], limit=o.limit, bootstrap_iters=0,
            task_manager=TaskManager(include_path=folder, include_defaults=False))
    theirs = [{k: s[k] for k in ("doc_id", "acc", "acc_norm", "filtered_resps") if k in s}
              for s in sorted(result["samples"]["local_" + o.task], key=lambda s: s["doc_id"])]
    if o.theirs:
        json.dump(theirs, open(o.theirs, "w"))
    compare(theirs, o.samples)


def compare(theirs, samples):
    if not os.path.exists(samples):
        sys.exit(f"{samples}: not there; {len(theirs)} samples of lm-eval")
    ours = [json.loads(line) for line in open(samples)]
    worst = 0
    bad = len(theirs) != len(ours)
    for a, b in zip(theirs, ours):
        bad |= any(a[m] != b[m] for m in ("acc", "acc_norm") if m in a)
        for x, y, n in zip(a["filtered_resps"], b["filtered_resps"], b["tokens"]):
            worst = max(worst, abs(float(x[0]) - y) / n)
    print({m: sum(s[m] for s in theirs) / len(theirs) for m in ("acc", "acc_norm")
           if m in theirs[0]})
    print(f"{len(ours)} samples, {'DIFFERENT' if bad else 'equal'}; largest difference {worst:.2g} "
          "a token")
    sys.exit(bad or worst > 5e-5)


main()
