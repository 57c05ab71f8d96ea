#!/usr/bin/env python3
"""Metrics of written answers by the packages that papers use, on made-up pairs of texts.

  make_metric_goldens.py --leval DIR --longbench DIR -o tests/golden
      text_metrics.json  by rouge 1.0.1, rouge-score 0.1.2 and Python's difflib; F1 in SQuAD's
                         normal form and the share of numbers are written out below
      exam_answers.json  by the functions of L-Eval's Evaluation/auto_eval.py and em.py
                         (OpenLMLab/LEval cd34b05)
      longbench.json     by those of LongBench/metrics.py (THUDM/LongBench)
DIR: checkouts of them.
"""

import argparse
import ast
import contextlib
import difflib
import io
import json
import random
import re
import string
import types
from collections import Counter
from pathlib import Path

from rouge import Rouge
from rouge_score import rouge_scorer

WORDS = (
    "the a an The AN river rivers stone stones bright Paragraph 7 12 12 300 x1 don't co-operate "
    "re.turn e.g. ÉTÉ été Straße STRASSE naïve ΟΔΟΣ οδος İstanbul i̇stanbul “the” «a» the_a 雨 山川 "
    "Ünder under — ... ! , ; of in and to for with red red red blue green"
).split()
SPACES = [" "] * 12 + ["  ", "\n", "\t", " ", " ", "\x1f", ". ", ".", ". . "]
FIXED = [
    ("", ""),
    ("", "a word"),
    ("a word", ""),
    (".", "one"),
    (" . ", " "),
    ("the", "a"),
    ("The answer is 12.", "12"),
    ("١٢ and 12", "12"),
    ("one two one two", "two one two one"),
    ("same same", "same"),
    ("x" * 250 + "abc", "abc" + "x" * 250),
    ("ab" * 90 + "q", "q" + "ba" * 120),
]


def plain(text):
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def word_f1(answer, right):
    a, b = plain(answer), plain(right)
    shared = sum((Counter(a) & Counter(b)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(a), shared / len(b)
    return 2 * precision * recall / (precision + recall)


def number_share(answer, number):
    runs = re.findall(r"\d+", answer)
    return sum(run == number for run in runs) / len(runs) if runs else 0.0


def summary_rouge_l(answer, right):
    try:
        return Rouge().get_scores([answer], [right])[0]["rouge-l"]["f"]
    except ValueError:  # a text without a sentence
        return 0.0


def made_up(random_, count):
    text = ""
    for _ in range(count):
        text += random_.choice(WORDS) + random_.choice(SPACES)
    return text


def pairs():
    random_ = random.Random(7)
    result = list(FIXED)
    while len(result) < 200:
        right = made_up(random_, random_.randint(1, 40))
        answer = made_up(random_, random_.randint(1, 40))
        if random_.random() < 0.6:  # some of the right answer's words
            words = right.split(" ")
            begin = random_.randrange(len(words))
            answer += " ".join(words[begin : begin + random_.randint(1, 20)])
        result.append((answer, right))
    return result


def functions_of(file, **names):
    """The functions of a source, without what it imports and runs."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    tree.body = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    space = {"re": re, "string": string, "Counter": Counter, "difflib": difflib, **names}
    exec(compile(tree, str(file), "exec"), space)
    return space


ANSWERS = [
    "", "A", "AB", "B.", "(C) because", "The answer is B) or C.", "AC", "CA D", "DBB", "BCD", "E",
    "no letter", "A. one B. two Question D.", "Answer: C ", " D", "A and B", "ABD ", "A\nB\n",
    "The answer is 12.", "The answer is $1,234.50 .", "The answer is\n3", "so 3 + 4 = 7 apples",
    "first 5\n\nthen 9", "none", "The answer is x12y. The answer is 4", "7.", "12", "12.0",
    "The value of the call is [1, 2]", "the final output is [[1, 2] , [3]] done now yes no",
    "will be 5.0 printed", "[ [1], [2] ]", "True", "it is false, I think", "Untrue?", "falsehood",
    "True [fact: False]", "The History of Rome", "history ofrome", "topic: the history of Rome.",
    "ΟΔΟΣ", "İ", "a\u00a0b", "1e3", "nan", "inf",
]
RIGHTS = [
    "A", "B", "AB", "ACD", "(B) It is so.", "(D)", "C. D", "x", "12", "7", "1234", "1000", "[1 2]",
    "5", "[[1], [2]]", "[[1, 2], [3]]", "The history of Rome", "the", "true", "false", "nan", "οδος",
]


def exam_rows(checkout):
    folder = Path(checkout) / "Evaluation"
    exact = functions_of(folder / "em.py")["exact_match_score"]
    one, several = (
        functions_of(folder / "auto_eval.py", args=types.SimpleNamespace(pred_file=name))
        for name in ("quality", "coursera")
    )
    answers = [
        {
            "answer": answer,
            "letter": one["process_output_mc"](answer),
            "letters": several["process_output_mc"](answer),
            "number": one["process_math"](answer),
            "code": one["process_gt_code"](answer),
            "judgement": one["process_output_judge"](answer + "[fact: ]")[0],
        }
        for answer in ANSWERS
    ]
    rights = [{"right": right, "letters": one["process_gt_mc"](right)} for right in RIGHTS]
    with contextlib.redirect_stdout(io.StringIO()):
        exact_scores = [[exact(a, r) for r in RIGHTS] for a in ANSWERS]
    printed = [[one["process_output_code"](a, r) for r in RIGHTS] for a in ANSWERS]
    return {"answers": answers, "rights": rights, "exact": exact_scores, "printed": printed}


def ratio_in_percent(a, b):
    """fuzzywuzzy's without the C package."""
    return int(round(100 * difflib.SequenceMatcher(None, a, b).ratio()))


CLASSES = ["Food", "Other", "Other food", "Food of the day", "day", "of", "the day", "Sport"]
CODE = [
    "", "x = 1", "\n\nx = 1\ny = 2", "# note\nx = 1", "// c\n`a`\n  return x;", "```\nx=1\n```",
    "#", "x = 1  # sum\nreturn x", "    if (a == b) {", "return self.value(" + "a, " * 90 + ")",
]


def longbench_rows(checkout):
    metrics = functions_of(
        Path(checkout) / "LongBench" / "metrics.py",
        fuzz=types.SimpleNamespace(ratio=ratio_in_percent),
    )
    rows = []
    for right in CLASSES:
        for answer in [*CLASSES, "", "Food of the day and Sport", "\nOther food\nSport", "no"]:
            line = answer.lstrip("\n").split("\n")[0]
            score = metrics["classification_score"](line, right, all_classes=CLASSES)
            rows.append({"set": "trec", "answer": answer, "right": right, "score": score})
    for right in CODE:
        for answer in CODE:
            score = metrics["code_sim_score"](answer, right)
            rows.append({"set": "lcc", "answer": answer, "right": right, "score": score})
    for answer in ["Paragraph 12", "12 or 13", "", "Paragraph 1, 12", "none", "112"]:
        score = metrics["retrieval_score"](answer, "Paragraph 12")
        row = {"set": "passage_retrieval_en", "answer": answer, "right": "Paragraph 12"}
        rows.append({**row, "score": score})
        score = metrics["count_score"](answer, "12")
        rows.append({"set": "passage_count", "answer": answer, "right": "12", "score": score})
    return {"classes": CLASSES, "rows": rows}


def write(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(rows, f, ensure_ascii=False, indent=0)
        f.write("\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--leval", required=True)
    parser.add_argument("--longbench", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    rows = []
    for answer, right in pairs():
        google = scorer.score(right, answer)
        rows.append(
            {
                "answer": answer,
                "right": right,
                "plain": plain(answer),
                "f1": word_f1(answer, right),
                "rouge_l_of_summary": summary_rouge_l(answer, right),
                "rouge": [google[k].fmeasure for k in ("rouge1", "rouge2", "rougeL")],
                "similarity": difflib.SequenceMatcher(None, answer, right).ratio(),
                "twelves": number_share(answer, "12"),
            }
        )
    write(args.output / "text_metrics.json", rows)
    write(args.output / "exam_answers.json", exam_rows(args.leval))
    write(args.output / "longbench.json", longbench_rows(args.longbench))


if __name__ == "__main__":
    main()
