#!/usr/bin/env python3
"""SmolLM2's GGUF file as a Hugging Face folder of f32 safetensors, by transformers' own conversion.

  smollm2_to_hf.py FILE.gguf FOLDER

The weights are the GGUF's dequantised ones, so that both files must give the same logits. Two
repairs: transformers 5 refuses to save what it loaded from GGUF until the quantizer is forgotten,
and its conversion loses the digit split of the pre-tokenizer `smollm` (each digit a word of its
own), which is put back into tokenizer.json. Needs torch, transformers, gguf.
"""

import argparse
import json
import os

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def read_json(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def write_json(path, content):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(content, f, ensure_ascii=False, indent=1)


def convert_model(source, folder):
    model = AutoModelForCausalLM.from_pretrained(
        os.path.dirname(source), gguf_file=os.path.basename(source), torch_dtype=torch.float32
    )
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)


def convert_tokenizer(source, folder):
    tokenizer = AutoTokenizer.from_pretrained(
        os.path.dirname(source), gguf_file=os.path.basename(source)
    )
    tokenizer.save_pretrained(folder)
    stray = os.path.join(folder, "tokenizer.model")  # the GGUF file itself under another name
    if os.path.exists(stray):
        os.remove(stray)
    path = os.path.join(folder, "tokenizer.json")
    content = read_json(path)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    content["normalizer"] = None
    content["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {**byte_level, "use_regex": True},
        ],
    }
    content["decoder"] = {**byte_level, "use_regex": True}
    content["post_processor"] = None
    content["model"].update(unk_token=None, fuse_unk=False, byte_fallback=False)
    write_json(path, content)
    path = os.path.join(folder, "tokenizer_config.json")
    write_json(path, {**read_json(path), "tokenizer_class": "PreTrainedTokenizerFast"})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf")
    parser.add_argument("folder")
    args = parser.parse_args()
    source = os.path.abspath(args.gguf)
    convert_model(source, args.folder)
    convert_tokenizer(source, args.folder)


if __name__ == "__main__":
    main()
