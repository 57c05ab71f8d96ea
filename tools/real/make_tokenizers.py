#!/usr/bin/env python3
"""Writes tests/real/tokenizers and tokenizers.json: tokenizer files in the forms that public tools
write, over made-up vocabularies, with the ids and texts of those tools.

A row's `cases` are [text, ids with special tokens in the text read as such, ids with them read as
plain text, the first ids decoded with special tokens shown, and left out], as the package tokenizers
(or sentencepiece, transformers) gives them.
    python3 tools/real/make_tokenizers.py
"""
import io, json, os, shutil, tempfile
import sentencepiece, tokenizers, transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "real")
OUT = os.path.join(ROOT, "tokenizers")
TOKENIZERS = "tokenizers " + tokenizers.__version__
SENTENCEPIECE = "sentencepiece " + sentencepiece.__version__
TRANSFORMERS = "transformers " + transformers.__version__
WORDS = ["the", "then", "lead", "leads", "leader", "and", "sand", "a", "in", "rain", "train", "of"]
CORPUS = [" ".join(WORDS[(i * k + k) % 12] for i in range(9)) + ", it's 2024!  x = 1;\n"
          for k in range(1, 12)] + ["é ü ß 漢 ok", "aaaa aa  aaa"]
TEXTS = ["", "lead", " lead", "  lead the", "the leader's rain ", "a  b   c\n\n  d\t\te\r\nf",
         "2024 12345 v1.5 x=1", "caf\u00e9 \u6f22\u5b57 \u0415\u0436 \U0001F600\u200d\U0001F680",
         "I'LL we'Re 'tis '''", "\u00a0x\u3000y\u2003", "\x01\x7f", "x<s>the</s> lead<s> rain",
         "rain<|user|>lead <|user|> the", "</s>", "the<s>", "the\u2581lead", "\u2581the \u2581 a ",
         "\u2581<s>\u2581the", "a<new>b <new> <new>the"]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+"
          r"[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
rows = []


def path(name):
    return os.path.join(OUT, name)


def cases(tokenizer):
    result = []
    for text in TEXTS:
        ids = []
        for plain in (False, True):
            tokenizer.encode_special_tokens = plain
            ids.append(tokenizer.encode(text, add_special_tokens=False).ids)
        texts = [tokenizer.decode(ids[0], skip_special_tokens=skip) for skip in (False, True)]
        result.append([text] + ids + texts)
    return result


def token(id, content, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": False, **flags}


def row(name, file, made_by, **fields):
    rows.append({"name": name, "file": file, "made_by": made_by, **fields})


def save(name, state, made_by, refused=None):
    """A tokenizer.json of this content; its ids, or the texts of our error."""
    text = json.dumps(state, ensure_ascii=False)
    with open(path(name + ".json"), "w", encoding="utf-8") as f:
        f.write(text)
    if refused:
        row(name, name + ".json", TOKENIZERS + ": " + made_by, error=refused)
    else:
        row(name, name + ".json", TOKENIZERS + ": " + made_by, cases=cases(Tokenizer.from_str(text)))


def byte_level():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_tokens([AddedToken("<|user|>", normalized=False)])
    return json.loads(t.to_str())


def byte_level_rows():
    base = byte_level()
    save("gpt2", base, "ByteLevel, merges as pairs")
    old = json.loads(json.dumps(base))
    old["model"]["merges"] = [" ".join(m) for m in base["model"]["merges"]]
    del old["model"]["type"]
    save("gpt2_old", old, "merges as strings, model without a type")

    def variant(name, made_by, refused=None, model=None, **parts):
        state = json.loads(json.dumps(base))
        state.update(parts)
        state["model"].update(model or {})
        save(name, state, made_by, refused)
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    split = {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False}
    llama3 = {"type": "Sequence", "pretokenizers": [split, {**level, "use_regex": False}]}
    variant("llama3", "the split of Llama 3", pre_tokenizer=llama3)
    variant("ignore_merges", "ignore_merges", pre_tokenizer=llama3, model={"ignore_merges": True})
    variant("digits", "Digits, ByteLevel (SmolLM2, StarCoder)", pre_tokenizer={
        "type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True},
                                              {**level, "use_regex": True}]})
    variant("nfc", "normalizer NFC", ["normalizer", "NFC"], normalizer={"type": "NFC"})
    variant("nfc_in_sequence", "normalizers in a Sequence", ["normalizer", "Lowercase, NFKC"],
            normalizer={"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "NFKC"}]})
    variant("prefix_space", "ByteLevel with add_prefix_space", ["add_prefix_space"],
            pre_tokenizer={**level, "add_prefix_space": True, "use_regex": True})
    variant("qwen_split", "the split of Qwen 2", ["pre_tokenizer Split", r"\p{N}|"], pre_tokenizer={
        "type": "Sequence", "pretokenizers": [
            {**split, "pattern": {"Regex": LLAMA3.replace("{1,3}", "")}},
            {**level, "use_regex": False}]})
    variant("whitespace", "pre-tokenizer Whitespace", ["pre_tokenizer", "Whitespace"],
            pre_tokenizer={"type": "Whitespace"})
    for flag in ("lstrip", "rstrip", "single_word"):
        added = [dict(t, **{flag: True}) if t["content"] == "</s>" else t for t in base["added_tokens"]]
        variant(flag, "AddedToken with " + flag, [flag, "</s>"], added_tokens=added)
    cut = {"truncation": {"direction": "Right", "max_length": 512, "strategy": "LongestFirst", "stride": 0},
           "padding": {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None,
                       "pad_id": 0, "pad_type_id": 0, "pad_token": "<s>"}}
    variant("truncation", "truncation and padding", **cut)
    rows[-1]["notes"] = ["truncation", "padding"]
    wordpiece = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    save("wordpiece", json.loads(wordpiece.to_str()), "WordPiece", ["model", "WordPiece"])
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0, False))
    save("unigram", json.loads(unigram.to_str()), "Unigram", ["model", "Unigram"])
    with open(path("cut.json"), "w", encoding="utf-8") as f:
        f.write(json.dumps(base)[:3000])
    row("cut", "cut.json", TOKENIZERS + ", cut at byte 3000", error=["cut.json"])


def spm_json():
    """A vocabulary like Llama 2's: byte tokens, spaces as U+2581."""
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    t.normalizer = normalizers.Replace(" ", "\u2581")
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=420, show_progress=False, max_token_length=6,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]))
    state = json.loads(t.to_str())
    state["added_tokens"] = state["added_tokens"][:3]
    state["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    return state


def metaspace_rows():
    base = spm_json()
    unstripped = {"type": "Sequence", "decoders": base["decoder"]["decoders"][:3]}
    legacy = [{"type": "Prepend", "prepend": "\u2581"},
              {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]

    def variant(name, made_by, refused=None, **parts):
        state = json.loads(json.dumps(base))
        state.update(parts)
        save(name, state, made_by, refused)
    variant("prepend_replace", "normalizer Prepend and Replace (Llama 2)",
            normalizer={"type": "Sequence", "normalizers": legacy})
    variant("replace_alone", "normalizer Replace", normalizer=legacy[1], decoder=unstripped)
    variant("replace_strip", "normalizer Replace, but a decoder that strips", normalizer=legacy[1])
    rows[-1]["notes"] = ["decoder [Replace, ByteFallback, Fuse, Strip]"]
    rows[-1]["cases"] = [c[:3] for c in rows[-1]["cases"]]
    sequence = {"type": "Sequence", "normalizers": legacy}
    variant("nested", "Sequence in a Sequence",
            normalizer={"type": "Sequence", "normalizers": [sequence]})
    variant("prepend_last", "Replace, then Prepend",
            normalizer={"type": "Sequence", "normalizers": legacy[::-1]})
    variant("prepend_twice", "Prepend twice", ["normalizer", "Prepend"],
            normalizer={"type": "Sequence", "normalizers": legacy[:1] + legacy})
    variant("strip_first", "Strip, Prepend, Replace", ["normalizer", "Strip"],
            normalizer={"type": "Sequence", "normalizers": [
                {"type": "Strip", "strip_left": True, "strip_right": True}] + legacy})
    variant("charsmap", "Precompiled (nmt_nfkc)", ["normalizer", "Precompiled"],
            normalizer={"type": "Sequence", "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": ""}] + legacy})
    # What transformers writes for add_tokens(["<new>"]): normalized, no special token.
    for normalized in (False, True):
        for special in (False, True):
            tokens = base["added_tokens"] + [token(len(base["model"]["vocab"]), "<new>",
                                                   normalized=normalized, special=special)]
            name = f"added{'_normalized' if normalized else ''}{'_special' if special else ''}"
            variant(name, f"AddedToken, normalized {normalized}, special {special}",
                    normalizer=sequence, added_tokens=tokens)
            variant(name + "_always", f"Metaspace always, normalized {normalized}, special {special}",
                    normalizer=None, added_tokens=tokens, pre_tokenizer={
                        "type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always",
                        "split": False})
    variant("specials_normalized", "special tokens that are normalized", normalizer=sequence,
            added_tokens=[{**t, "normalized": True} for t in base["added_tokens"]])
    without = [t for t in base["model"]["vocab"] if not (len(t) == 6 and t.startswith("<0x"))]
    for fuse in (False, True):
        variant(f"no_bytes{'_fuse' if fuse else ''}", f"byte_fallback without byte tokens, fuse_unk {fuse}",
                normalizer=sequence, model={**base["model"], "fuse_unk": fuse, "merges": [
                    m for m in base["model"]["merges"]], "vocab": {t: i for i, t in enumerate(without)}})
        variant(f"bytes{'_fuse' if fuse else ''}", f"byte_fallback, fuse_unk {fuse}",
                normalizer=sequence, model={**base["model"], "fuse_unk": fuse})
    variant("some_bytes", "a byte token is missing", ["255 byte tokens"], normalizer=sequence,
            model={**base["model"], "vocab": {t: i for i, t in enumerate(
                t for t in base["model"]["vocab"] if t != "<0xF0>")}})
    variant("no_fallback", "byte_fallback false", ["normalizer", "Prepend"], normalizer=sequence,
            model={**base["model"], "byte_fallback": False})
    variant("metaspace_decoder", "decoder Metaspace, which leaves <0x0A> in texts", normalizer=sequence,
            decoder={"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"})
    rows[-1]["notes"] = ["decoder [Metaspace]"]
    rows[-1]["cases"] = [c[:3] for c in rows[-1]["cases"]]

    def template(*single, **ids):
        return {"type": "TemplateProcessing", "pair": [], "single": list(single), "special_tokens": {
            t: {"id": t, "ids": [i], "tokens": [t]} for t, i in (("<s>", 1), ("</s>", 2), *ids.items())}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    bos, eos = ({"SpecialToken": {"id": t, "type_id": 0}} for t in ("<s>", "</s>"))
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    variant("post_sequence", "post_processor Sequence of ByteLevel and a template", normalizer=sequence,
            post_processor={"type": "Sequence", "processors": [level, template(bos, text, eos)]})
    rows[-1]["origins"] = {k: "tokenizer.json post_processor" for k in ("bos", "eos", "add_bos", "add_eos")}
    variant("two_templates", "post_processor Sequence of two templates", ["second TemplateProcessing"],
            normalizer=sequence, post_processor={"type": "Sequence", "processors": [
                template(bos, text), template(text, eos)]})
    variant("template_ids", "a template whose ids are not the vocabulary's",
            ["special_tokens gives '<s>' the ids [7]"], normalizer=sequence,
            post_processor=template(bos, text, **{"<s>": 7}))
    variant("template_two_bos", "a template with BOS twice", ["second token on its side"],
            normalizer=sequence, post_processor=template(bos, bos, text))
    space = {"type": "Metaspace", "replacement": "\u2581"}
    for scheme in ("first", "always", "never"):
        for split in (False, True):
            variant(f"metaspace_{scheme}{'_split' if split else ''}",
                    f"Metaspace, prepend_scheme {scheme}, split {split}", normalizer=None,
                    pre_tokenizer={**space, "prepend_scheme": scheme, "split": split},
                    decoder=unstripped if scheme == "never" else base["decoder"])
    for prefix in (True, False):
        variant(f"metaspace_old_{'prefix' if prefix else 'plain'}",
                f"Metaspace of old writers, add_prefix_space {prefix}", normalizer=None,
                pre_tokenizer={**space, "add_prefix_space": prefix,
                               **({} if prefix else {"prepend_scheme": "never"})},
                decoder=base["decoder"] if prefix else unstripped)
    variant("metaspace_underscore", "Metaspace with another replacement", ["replacement", "_"],
            normalizer=None, pre_tokenizer={**space, "replacement": "_", "prepend_scheme": "first"})


def sentencepiece_model(name, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 3), model_writer=model, hard_vocab_limit=False,
        minloglevel=2, **{"vocab_size": 330, "model_type": "bpe", "byte_fallback": True,
                          "normalization_rule_name": "identity", **options})
    with open(path(name), "wb") as f:
        f.write(model.getvalue())
    return model.getvalue()


def sentencepiece_rows():
    plain = [t for t in TEXTS if "<s>" not in t and "</s>" not in t]
    for name, made_by, options in (
            ("spm_bpe", "BPE with byte fallback", {"remove_extra_whitespaces": False}),
            ("spm_spaces", "remove_extra_whitespaces", {}),
            ("spm_no_prefix", "no dummy prefix", {"add_dummy_prefix": False,
                                                  "remove_extra_whitespaces": False}),
            ("spm_symbols", "user_defined_symbols", {"user_defined_symbols": "<|user|>",
                                                     "remove_extra_whitespaces": False}),
            ("spm_surface", "unk_surface", {"byte_fallback": False, "unk_surface": "[?]",
                                            "remove_extra_whitespaces": False}),
            ("spm_unk", "without byte fallback", {"byte_fallback": False,
                                                  "remove_extra_whitespaces": False})):
        model = sentencepiece_model(name + ".model", **options)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        row(name, name + ".model", SENTENCEPIECE + ": " + made_by,
            cases=[[t, processor.encode(t), processor.encode(t),
                    *[processor.decode(processor.encode(t))] * 2] for t in plain])
    with open(path("rules.tsv"), "w", encoding="utf-8") as f:
        f.write("FF41\t61\n")
    sentencepiece_model("spm_charsmap.model", normalization_rule_tsv=path("rules.tsv"))
    os.remove(path("rules.tsv"))
    row("spm_charsmap", "spm_charsmap.model", SENTENCEPIECE + ": normalization_rule_tsv",
        error=["normalizer_spec 'user_defined'", "precompiled_charsmap"])
    sentencepiece_model("spm_suffix.model", treat_whitespace_as_suffix=True)
    row("spm_suffix", "spm_suffix.model", SENTENCEPIECE + ": treat_whitespace_as_suffix",
        error=["treat_whitespace_as_suffix"])
    sentencepiece_model("spm_unigram.model", model_type="unigram", vocab_size=300)
    row("spm_unigram", "spm_unigram.model", SENTENCEPIECE + ": unigram", error=["unigram"])


def folders():
    """Folders of save_pretrained and of converters, with tokens added."""
    def folder(name, model="spm_bpe.model", **files):
        os.makedirs(path(name))
        shutil.copy(path(model), os.path.join(path(name), "tokenizer.model"))
        for file, content in files.items():
            with open(os.path.join(path(name), file + ".json"), "w", encoding="utf-8") as f:
                f.write(content if isinstance(content, str) else json.dumps(content))
        return path(name)
    size = sentencepiece.SentencePieceProcessor(model_file=path("spm_bpe.model")).get_piece_size()
    ids = {"<|im_start|>": size, "<|im_end|>": size + 1}
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "unk_token": "<unk>",
              "eos_token": "<|im_end|>", "legacy": True, "add_bos_token": True, "add_eos_token": False}
    specials = {"additional_special_tokens": list(ids)}
    name = folder("added_tokens", added_tokens=ids, tokenizer_config=config,
                  special_tokens_map=specials)
    chat = "<|im_start|>the lead<|im_end|> rain"
    slow = transformers.LlamaTokenizer.from_pretrained(name)
    row("added_tokens", "added_tokens", TRANSFORMERS + ": added_tokens.json beside tokenizer.model",
        cases=[[chat, transformers.LlamaTokenizerFast.from_pretrained(name)(
            chat, add_special_tokens=False)["input_ids"], None]], size=len(slow), bos=slow.bos_token_id,
        eos=slow.eos_token_id, origins={"eos": "tokenizer_config.json eos_token",
                                        "bos": "tokenizer_config.json bos_token",
                                        "add_bos": "tokenizer_config.json add_bos_token"})
    saved = transformers.LlamaTokenizer.from_pretrained(name)
    saved.save_pretrained(path("saved_slow"))
    row("saved_slow", "saved_slow", TRANSFORMERS + ": LlamaTokenizer.save_pretrained",
        cases=rows[-1]["cases"], size=len(saved), bos=saved.bos_token_id, eos=saved.eos_token_id,
        origins={"eos": "tokenizer_config.json eos_token"})
    nonlegacy = folder("not_legacy", tokenizer_config=dict(config, eos_token="</s>", legacy=False))
    fast = transformers.LlamaTokenizerFast.from_pretrained(nonlegacy)
    row("not_legacy", "not_legacy", TRANSFORMERS + ": tokenizer.model with legacy false",
        cases=[[t, fast(t, add_special_tokens=False)["input_ids"], None] for t in TEXTS
               if "\u00a0" not in t], size=len(fast), bos=fast.bos_token_id, eos=fast.eos_token_id)
    # Tokens that are no special ones, as add_tokens(["<new>"]) adds them: with flags and without.
    def decoder(**flags):
        return {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in (
            token(0, "<unk>", special=True), token(1, "<s>", special=True),
            token(2, "</s>", special=True), token(size, "<new>", **flags))}
    plain = {**config, "eos_token": "</s>"}
    for name, files in (
            ("new_token", {"tokenizer_config": plain, "added_tokens": {"<new>": size}}),
            ("new_token_raw", {"tokenizer_config": {**plain, "added_tokens_decoder": decoder()}}),
            ("new_token_normalized", {"tokenizer_config": {
                **plain, "added_tokens_decoder": decoder(normalized=True)}}),
            ("new_token_not_legacy", {"tokenizer_config": {
                **plain, "legacy": False, "added_tokens_decoder": decoder(normalized=True)}})):
        fast = transformers.LlamaTokenizerFast.from_pretrained(folder(name, **files))
        row(name, name, TRANSFORMERS + ": a token that is not special beside tokenizer.model",
            cases=[[t, fast(t, add_special_tokens=False)["input_ids"], None] for t in TEXTS
                   if "\u00a0" not in t], size=len(fast), bos=1, eos=2)
    folder("eos_of_generation", generation_config={"eos_token_id": [2, 5], "bos_token_id": 1})
    row("eos_of_generation", "eos_of_generation", TRANSFORMERS + ": generation_config.json alone",
        cases=[], size=size, bos=1, eos=2,
        origins={"eos": "tokenizer.model trainer_spec", "more_eos": "generation_config.json eos_token_id"})
    nfc = json.loads(open(path("nfc.json"), encoding="utf-8").read())
    folder("unread_json", tokenizer=nfc)
    row("unread_json", "unread_json", "a tokenizer.json with NFC beside tokenizer.model",
        error=["tokenizer.json", "NFC", "tokenizer.model beside it is not taken"])
    folder("cut_json", tokenizer=json.dumps(nfc)[:2000])
    row("cut_json", "cut_json", "a cut tokenizer.json beside tokenizer.model",
        error=["tokenizer.json", "tokenizer.model beside it is not taken"])
    folder("lfs_json", tokenizer="version https://git-lfs.github.com/spec/v1\noid sha256:"
           + "0" * 64 + "\nsize 1842767\n")
    row("lfs_json", "lfs_json", "git clone without git lfs", error=["Git LFS pointer", "1842767"])
    folder("gap", added_tokens={"<pad>": size + 3})
    row("gap", "gap", "added_tokens.json with a gap", error=["added_tokens.json", "<pad>", "gap"])
    folder("contradiction", added_tokens={"<pad>": 7})
    row("contradiction", "contradiction", "added_tokens.json against the vocabulary",
        error=["added_tokens.json", "id 7"])


def ends():
    """What AutoTokenizer puts around a text, by class, template and the two keys of the configuration."""
    tree = json.loads(open(path("gpt2.json"), encoding="utf-8").read())
    text = {"Sequence": {"id": "A", "type_id": 0}}
    bos, eos = ({"SpecialToken": {"id": t, "type_id": 0}} for t in ("<s>", "</s>"))
    templates = [None, *({"type": "TemplateProcessing", "pair": [], "single": single, "special_tokens": {
        t: {"id": t, "ids": [i], "tokens": [t]} for i, t in enumerate(("<s>", "</s>"))}}
        for single in ([bos, text], [text, eos]))]
    keys = [{}, {"add_bos_token": True}, {"add_bos_token": False},
            {"add_bos_token": True, "add_eos_token": True}, {"add_eos_token": True},
            {"add_bos_token": None}]
    found = []

    def ask(template, model_type, config):
        files = {"tokenizer": {**tree, "post_processor": template}, "config": {"model_type": model_type},
                 **({"tokenizer_config": config} if config is not None else {})}
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as f:
                    json.dump(content, f)
            ids = transformers.AutoTokenizer.from_pretrained(folder)("lead")["input_ids"]
        found.append({"config": files["config"], "tokenizer_config": config, "post_processor": template,
                      "ids": ids})

    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "</s>"}
    for kind in ("LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", "GPT2Tokenizer",
                 "CodeLlamaTokenizerFast", "GemmaTokenizerFast", "CohereTokenizerFast",
                 "GPTNeoXTokenizerFast", None):
        for template in templates:
            for flags in keys:
                ask(template, "llama", {**names, **({"tokenizer_class": kind} if kind else {}), **flags})
    for template in templates:
        for model_type in ("llama", "mistral", "gpt2"):
            ask(template, model_type, None)
        ask(template, "gpt_neox", names)
        ask(template, "gpt_neox", {**names, "add_bos_token": True})
        ask(template, "llama", {"add_eos_token": True})
    row("ends", "gpt2.json", TRANSFORMERS + ": AutoTokenizer", cases=[], ends=found)


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    byte_level_rows()
    metaspace_rows()
    sentencepiece_rows()
    folders()
    ends()
    with open(os.path.join(ROOT, "tokenizers.json"), "w") as f:
        lines = ",\n".join("    " + json.dumps(r) for r in rows)
        f.write('{\n  "rows": [\n' + lines + "\n  ]\n}\n")
    print(len(rows), "rows")
