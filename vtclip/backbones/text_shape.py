"""What a text tower is, from its configuration: weights, and how much of a prompt it reads."""

from typing import NamedTuple

from pydantic import Field

from vtclip.backbones.image_shape import Number, Part, Ratio

POOLINGS = ("argmax", "eos", "first", "last")
OWN_TOKENS = 12  # of a prompt behind what all have alike; the paper's datasets have 3 to 11 a name


class Weights(NamedTuple):
    """How many weights a text tower has."""

    layers: int
    embedding: int


# The text towers of Hugging Face's that open_clip names. Their own configurations are on the hub.
HUGGING_FACE = {
    "facebook/nllb-200-distilled-1.3B": Weights(503_000_000, 262_000_000),
    "facebook/nllb-200-distilled-600M": Weights(151_000_000, 262_000_000),
    "google/mt5-base": Weights(85_000_000, 192_000_000),
    "google/mt5-xl": Weights(1_157_000_000, 512_000_000),
    "roberta-base": Weights(85_000_000, 39_000_000),
    "xlm-roberta-base": Weights(85_000_000, 192_000_000),
    "xlm-roberta-large": Weights(302_000_000, 256_000_000),
}
OTHERS = HUGGING_FACE["xlm-roberta-large"]  # any other is reckoned as this one


class Text(Part):
    """A text tower."""

    context_length: Number = Field(default=77, description="tokens of a text")
    vocab_size: Number = Field(default=49408, description="known tokens")
    width: Number = Field(default=512, description="width of the layers")
    layers: Number = Field(default=12, description="number of layers")
    mlp_ratio: Ratio = Field(default=4.0, description="hidden width of a layer, by its width")
    no_causal_mask: bool = False
    embed_cls: bool = False
    pool_type: str = "argmax"
    hf_model_name: str | None = None
    hf_tokenizer_name: str | None = None

    @property
    def weights(self) -> Weights:
        """Those of the layers, and of the embedding."""
        if self.hf_model_name is not None:
            return HUGGING_FACE.get(self.hf_model_name, OTHERS)
        layers = self.layers * (4 + 2 * self.mlp_ratio) * self.width**2
        return Weights(round(layers), self.vocab_size * self.width)

    @property
    def is_causal(self) -> bool:
        """Whether a token sees what stands before it, and the end token is the feature."""
        plain = self.hf_model_name is None and not self.embed_cls
        return plain and not self.no_causal_mask and self.pool_type == "argmax"

    @property
    def prompt_tokens(self) -> int:
        """About how many tokens of a prompt go through the tower (vtclip.backbones.text_towers)."""
        return min(OWN_TOKENS, self.context_length) if self.is_causal else self.context_length

    def find_fault(self) -> tuple[str, str] | None:
        """What was found and what is expected, of a tower that gives no feature of a text."""
        if self.hf_model_name is None and self.pool_type not in POOLINGS:
            return f"pool_type {self.pool_type}", f"text_cfg with pool_type {', '.join(POOLINGS)}"
        return None

    @property
    def foreign(self) -> str | None:
        """What of it is made by Hugging Face's library; None for a tower that needs none."""
        if self.hf_model_name is not None:
            return f"text tower {self.hf_model_name}"
        if self.hf_tokenizer_name is not None:
            return f"tokenizer {self.hf_tokenizer_name}"
        return None


class Decoder(Part):
    """What a CoCa writes captions with: here it takes memory, and does nothing."""

    vocab_size: Number = Field(default=49408, description="known tokens")
    width: Number = Field(default=512, description="width of the layers")
    layers: Number = Field(default=12, description="number of layers")

    @property
    def weights(self) -> int:
        """A layer attends to texts, and a second one to the image."""
        return 2 * self.layers * 12 * self.width**2 + self.vocab_size * self.width
