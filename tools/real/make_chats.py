#!/usr/bin/env python3
"""Writes tests/real/chats and chats.json: conversations as transformers renders them by the chat
template of a tokenizer, and their ids.

The vocabularies are made up: all bytes, a few merges, and the special texts of the format. The
templates say what the published ones of SmolLM2, Llama 2, Llama 3 and TinyLlama say, in words of our own;
Vicuna's and Alpaca's formats are written as Jinja in the same way.
    python3 tools/real/make_chats.py
"""
import json, os, shutil
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "real")
OUT = os.path.join(ROOT, "chats")
MADE_BY = f"transformers {transformers.__version__}: apply_chat_template"

CHATML = """
{%- macro turn(m) -%}{{ "<|im_start|>" ~ m.role ~ "\\n" ~ m.content ~ "<|im_end|>\\n" }}{%- endmacro -%}
{%- if messages[0].role != "system" -%}
{{ turn({"role": "system", "content": SYSTEM}) }}
{%- endif -%}
{%- for m in messages -%}{{ turn(m) }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ "<|im_start|>assistant\\n" }}{%- endif -%}
"""
# Ours recognises a default where it stands literally in the template, as in SmolLM2's and Qwen's.
CHATML_DEFAULT = CHATML.replace(
    '{{ turn({"role": "system", "content": SYSTEM}) }}',
    '{{ "<|im_start|>system\\nYou answer in rhymes.<|im_end|>\\n" }}')
CHATML_PLAIN = CHATML.replace('messages[0].role != "system"', "false").replace("SYSTEM", '""')
CHATML_BOS = "{{ bos_token }}" + CHATML_PLAIN
CHATML_ONE_LINE = CHATML_PLAIN.replace("<|im_end|>\\n", "<|im_end|>")
CHATML_QUOTE = CHATML_DEFAULT.replace("in rhymes", "in Bob's rhymes")
MISTRAL = """
{{- bos_token }}
{%- for m in messages -%}
{{ "[INST] " ~ m.content ~ " [/INST]" if m.role == "user" else m.content ~ eos_token }}
{%- endfor -%}
"""
LLAMA3_KEEPS_SPACES = """
{%- for m in messages -%}{{ "<|start_header_id|>" ~ m.role ~ "<|end_header_id|>\\n\\n" ~ m.content ~ "<|eot_id|>" }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}{%- endif -%}
"""
LLAMA2 = """
{%- set ns = namespace(system="", rest=messages) -%}
{%- if messages[0].role == "system" -%}
{%- set ns.system = "<<SYS>>\\n" ~ messages[0].content ~ "\\n<</SYS>>\\n\\n" -%}
{%- set ns.rest = messages[1:] -%}
{%- endif -%}
{%- for m in ns.rest -%}
{%- set said = (ns.system ~ m.content if loop.first else m.content) | trim -%}
{%- if m.role == "user" -%}{{ bos_token ~ "[INST] " ~ said ~ " [/INST]" }}
{%- else -%}{{ " " ~ said ~ " " ~ eos_token }}
{%- endif -%}
{%- endfor -%}
"""
LLAMA3 = """
{%- macro head(role) -%}{{ "<|start_header_id|>" ~ role ~ "<|end_header_id|>\\n\\n" }}{%- endmacro -%}
{{ bos_token }}
{%- for m in messages -%}{{ head(m.role) ~ (m.content | trim) ~ "<|eot_id|>" }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ head("assistant") }}{%- endif -%}
"""
# As TinyLlama's: statements on lines of their own, which transformers takes away whole.
ZEPHYR = """
{% for m in messages %}
{% if m.role == "system" %}
{{ "<|system|>\\n" + m.content + eos_token }}
{% elif m.role == "user" %}
{{ "<|user|>\\n" + m.content + eos_token }}
{% else %}
{{ "<|assistant|>\\n" + m.content + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ "<|assistant|>" }}
{% endif %}
{% endfor %}
"""
ZEPHYR_ONE_LINE = """
{%- for m in messages -%}
{%- if m.role == "system" -%}{{ "<|system|>\\n" + m.content + eos_token }}
{%- elif m.role == "user" -%}{{ "<|user|>\\n" + m.content + eos_token }}
{%- else -%}{{ "<|assistant|>\\n" + m.content + eos_token }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ "<|assistant|>\\n" }}{%- endif -%}
"""
GLM = """
{%- for m in messages -%}{{ "<|" + m.role + "|>\\n" + m.content }}{%- endfor -%}
{%- if add_generation_prompt -%}{{ "<|assistant|>" }}{%- endif -%}
{#- <|system|> <|user|> -#}
"""
VICUNA = """
{%- set given = messages[0].role == "system" -%}
{{ (messages[0].content if given else "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions.") ~ " " }}
{%- for m in (messages[1:] if given else messages) -%}
{{ ("USER: " ~ m.content ~ " ASSISTANT:") if m.role == "user" else (" " ~ m.content ~ eos_token) }}
{%- endfor -%}
"""
ALPACA = """
{%- set given = messages[0].role == "system" -%}
{{ (messages[0].content if given else "Below is an instruction that describes a task. Write a response that appropriately completes the request.") ~ "\\n\\n" }}
{%- for m in (messages[1:] if given else messages) -%}
{{ ("### Instruction:\\n" ~ m.content ~ "\\n\\n### Response:") if m.role == "user" else (m.content ~ eos_token ~ "\\n\\n") }}
{%- endfor -%}
"""


def bytes_to_unicode():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def tokenizer(specials, bos, eos, template):
    vocab = {c: i for i, c in enumerate(bytes_to_unicode().values())}
    merges = [("h", "e"), ("i", "n"), ("Ġ", "t"), ("Ġt", "he"), ("a", "s"), ("Ċ", "Ċ"), ("e", "r")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    raw = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(specials)
    made = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token=bos, eos_token=eos)
    made.chat_template = template
    return made


def said(*contents, system=None):
    turns = [{"role": "system", "content": system}] if system is not None else []
    for i, content in enumerate(contents):
        turns.append({"role": "assistant" if i % 2 else "user", "content": content})
    return turns


CONVERSATIONS = [
    said("What is the time?"),
    said("What is the time?", system="Be brief."),
    said("one", "the first answer", "two", "the other\n\none", "three"),
    said("one", "1", "two", system="You count in the way of others.\nAlways."),
    said("  spaces around  ", " an answer \n", "\n\nlines\n"),
    said("  spaces around  ", " an answer \n", "\tmore", system="  also here "),
    said("caf\u00e9 \u6f22\u5b57 \U0001F600", "na\u00efve", "\u3000wide spaces\u00a0"),
    said("", "", "?", system=""),
    said("a special text: <unused> [INST] USER: ### Response:"),
]

rows = []


def put(name, format_name, template, specials, bos, eos, auto=True):
    made = tokenizer(specials, bos, eos, template.strip())
    made.save_pretrained(os.path.join(OUT, name))
    for extra in ("special_tokens_map.json",):
        os.remove(os.path.join(OUT, name, extra))
    cases = []
    for messages in CONVERSATIONS:
        text = made.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = made.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
        cases.append({"messages": messages, "text": text, "ids": ids})
    rows.append({"name": name, "file": name, "made_by": MADE_BY, "template": format_name,
                 "auto": auto, "cases": cases})


def refuse(name, template, error):
    row = rows[-1]
    rows.append({"name": name, "file": row["file"], "made_by": MADE_BY, "template": template,
                 "error": error})


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    im = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    put("chatml", "chatml", CHATML_DEFAULT, im, "<|im_start|>", "<|im_end|>")
    put("chatml_without_default", "chatml", CHATML_PLAIN, im, "<|im_start|>", "<|im_end|>")
    plain = ["<s>", "</s>", *im[1:]]
    put("chatml_with_bos", "chatml", CHATML_BOS, plain, "<s>", "</s>")
    put("chatml_on_one_line", "chatml", CHATML_ONE_LINE, plain, "<s>", "</s>")
    put("chatml_with_a_quote", "chatml", CHATML_QUOTE, plain, "<s>", "</s>")
    put("llama2", "llama2", LLAMA2, ["<s>", "</s>"], "<s>", "</s>")
    refuse("llama2_has_no_chatml", "chatml", ["--template chatml", "no token <|im_start|>"])
    refuse("llama2_has_no_llama3", "llama3", ["--template llama3", "no token <|start_header_id|>"])
    put("llama3", "llama3", LLAMA3,
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
         "<|eot_id|>"], "<|begin_of_text|>", "<|end_of_text|>")
    put("llama3_keeps_spaces", "llama3", LLAMA3_KEEPS_SPACES,
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
         "<|eot_id|>"], "<|begin_of_text|>", "<|end_of_text|>")
    put("zephyr", "zephyr", ZEPHYR, ["<s>", "</s>"], "<s>", "</s>")
    put("zephyr_on_one_line", "zephyr", ZEPHYR_ONE_LINE, ["<s>", "</s>"], "<s>", "</s>")
    put("zephyr_with_bos", "zephyr", "{{ bos_token }}" + ZEPHYR_ONE_LINE, ["<s>", "</s>"], "<s>", "</s>")
    put("vicuna", "vicuna", VICUNA, ["<s>", "</s>"], "<s>", "</s>")
    put("alpaca", "alpaca", ALPACA, ["<s>", "</s>"], "<s>", "</s>")
    put("mistral", "none", MISTRAL, ["<s>", "</s>"], "<s>", "</s>", auto=False)
    rows.pop()
    rows.append({"name": "mistral_is_not_llama2", "file": "mistral", "made_by": MADE_BY,
                 "template": "auto", "error": ["--template auto", "none of the known ones"]})
    put("glm", "none", GLM, ["<s>", "</s>"], "<s>", "</s>", auto=False)
    rows.pop()
    rows.append({"name": "glm_is_not_zephyr", "file": "glm", "made_by": MADE_BY,
                 "template": "auto", "error": ["--template auto", "none of the known ones"]})
    put("unknown", "none", "{{ messages[0].content }}", ["<s>", "</s>"], "<s>", "</s>", auto=False)
    rows.pop()
    rows.append({"name": "unknown_template", "file": "unknown", "made_by": MADE_BY,
                 "template": "auto", "error": ["--template auto", "none of the known ones"]})
    with open(os.path.join(ROOT, "chats.json"), "w") as f:
        lines = ",\n".join("    " + json.dumps(row) for row in rows)
        f.write('{\n  "rows": [\n' + lines + "\n  ]\n}\n")


main()
