"""A stand-in for Hugging Face's transformers: as much of it as open_clip uses, on local folders.

The real library is optional, and no hub can be reached in a test.
"""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import open_clip
import torch
from torch import nn

WORDS = ("[PAD]", "[UNK]", "[START]", "[END]", "a", "cat", "of", "photo", "sea", "the", "x")


class Folder:
    """A folder's content that is kept as one JSON file."""

    file = ""

    def __init__(self, content: dict) -> None:
        self.content = content

    @classmethod
    def from_pretrained(cls, source, cache_dir=None, **keys):
        path = Path(source) / cls.file
        if not path.is_file():
            raise OSError(f"{source} is no folder with {cls.file}, and huggingface.co is away")
        return cls(json.loads(path.read_text()))

    def save_pretrained(self, folder) -> None:
        (Path(folder) / self.file).write_text(json.dumps(self.content))


class Tokens(dict):
    @property
    def input_ids(self):
        return self["input_ids"]


class AutoTokenizer(Folder):
    """One token a word; with a start token or, as SigLIP's, with none."""

    file = "tokenizer.json"

    def __call__(
        self, texts, return_tensors=None, max_length=None, padding=None, truncation=None,
        add_special_tokens=True,
    ):  # fmt: skip
        if isinstance(texts, str):
            return Tokens(input_ids=self.read(texts, add_special_tokens))
        rows = [self.read(text, add_special_tokens)[:max_length] for text in texts]
        return Tokens(input_ids=torch.tensor([row + [0] * (max_length - len(row)) for row in rows]))

    def read(self, text: str, special: bool) -> list[int]:
        words = self.content["words"]
        tokens = [words.index(word) if word in words else 1 for word in text.lower().split()]
        start = [2] if self.content["start"] else []
        return [*start, *tokens, 3] if special else tokens


class AutoConfig(Folder, SimpleNamespace):
    """The configuration of a text tower."""

    file = "config.json"

    def __init__(self, content: dict) -> None:
        Folder.__init__(self, content)
        self.__dict__.update(content)


class AutoModel(nn.Module):
    """A text tower of one layer."""

    def __init__(self, config) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layer = nn.TransformerEncoderLayer(config.hidden_size, 2, 32, batch_first=True)

    @classmethod
    def from_config(cls, config, add_pooling_layer=False):
        return cls(config)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings

    def forward(self, input_ids, attention_mask):
        hidden = self.layer(self.embeddings(input_ids), src_key_padding_mask=attention_mask == 0)
        return SimpleNamespace(last_hidden_state=hidden)


def install(monkeypatch) -> None:
    """Let `import transformers` find the stand-in."""
    library, outputs = ModuleType("transformers"), ModuleType("transformers.modeling_outputs")
    for name in ("AutoTokenizer", "AutoConfig", "AutoModel"):
        setattr(library, name, globals()[name])
    library.PretrainedConfig = AutoConfig
    for name in ("", "WithPooling", "WithPoolingAndCrossAttentions"):
        setattr(outputs, f"BaseModelOutput{name}", SimpleNamespace)
    monkeypatch.setitem(sys.modules, "transformers", library)
    monkeypatch.setitem(sys.modules, "transformers.modeling_outputs", outputs)
    importlib.reload(open_clip.hf_model)  # it was imported without


def write_files(folder: Path, *, start: bool = True) -> None:
    """A tokenizer, and the configuration of a text tower, as a hub has them."""
    folder.mkdir(parents=True, exist_ok=True)
    AutoTokenizer({"words": WORDS, "start": start}).save_pretrained(folder)
    AutoConfig(
        {
            "model_type": "bert", "hidden_size": 32, "vocab_size": len(WORDS), "pad_token_id": 0,
            "max_position_embeddings": 64, "is_encoder_decoder": False,
        }
    ).save_pretrained(folder)  # fmt: skip
