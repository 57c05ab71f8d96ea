"""What make_models.py and make_adapters.py share: a LLaMA of 10 thousand parameters, its logits for
eight tokens, and the lists of rows in tests/real.

Each script writes the rows of the transformers that is installed (requirements.txt has 4.51,
requirements_transformers5.txt has 5) and leaves the other version's rows as they are.
"""
import json
import pathlib
import shutil

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "real"
IDS = [1, 5, 9, 2, 7, 3, 11, 4]
MAJOR = int(transformers.__version__.split(".")[0])


def config(**changes):
    fields = dict(vocab_size=24, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                  num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                  initializer_range=0.3, bos_token_id=1, eos_token_id=2, pad_token_id=None)
    fields.update(changes)
    return LlamaConfig(**fields)


def model(seed=0, **changes):
    torch.manual_seed(seed)
    made = LlamaForCausalLM(config(**changes)).eval()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():  # norms of 1 would hide a norm that is not read
        for name, p in made.named_parameters():
            if "norm" in name:
                p.copy_(0.5 + torch.rand(p.shape, generator=generator))
    return made


def logits(of):
    with torch.no_grad():
        out = of(torch.tensor([IDS])).logits[0].float()
    return [[round(v, 6) for v in row] for row in out.tolist()]


class Rows:
    def __init__(self, family):
        self.file = ROOT / f"{family}.json"
        self.folder = ROOT / family
        self.folder.mkdir(exist_ok=True)
        self.rows = {}
        if self.file.exists():
            for row in json.loads(self.file.read_text())["rows"]:
                self.rows[row["name"]] = row

    def path(self, name):
        """An empty folder for a row's files."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def add(self, name, file, made_by, **fields):
        self.rows[name] = {"name": name, "file": file, "made_by": made_by, **fields}
        print(name, fields.get("error", ""))

    def write(self):
        rows = [json.dumps(self.rows[name]) for name in sorted(self.rows)]
        self.file.write_text('{"ids": %s,\n "rows": [\n  %s\n]}\n' % (IDS, ",\n  ".join(rows)))
