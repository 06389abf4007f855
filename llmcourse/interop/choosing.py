"""Choosing a pretrained model: cards with what their authors published, and the conditions that each of them breaks.

A choice begins with what may not happen. `violations` names every condition that a model breaks; `rank_cards` puts those
first that break none, and among them the one that needs the least memory. Nothing here says which model is *good* at your
task: that is measured on your own examples, with the two or three that are left.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from llmcourse.interop.memory import bytes_of, cache_bytes

# What a licence allows. Read the text itself before you ship: this is a summary for choosing, no legal advice.
LICENCES = {
    "Apache-2.0": {"commercial": True, "restricted uses": False},
    "MIT": {"commercial": True, "restricted uses": False},
    "Llama 2 Community": {"commercial": True, "restricted uses": True},  # an acceptable-use policy; a limit on users
    "BigScience RAIL 1.0": {"commercial": True, "restricted uses": True},  # an attachment of forbidden uses
    "CC-BY-NC-4.0": {"commercial": False, "restricted uses": False},
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What must be known of a model before it is tried."""

    name: str
    tasks: frozenset[str]  # embed, classify, generate, translate: what it does, or is commonly tuned to do
    languages: frozenset[str]  # two-letter codes; of many, those that this course asks for
    parameters: int
    context: int  # tokens that it was made to read at once; the table of positions may have room for more
    licence: str  # a key of LICENCES
    n_layers: int
    d_head: int
    n_kv_heads: int = 0  # heads of keys and values in its cache; 0 for an encoder, which keeps none
    hosted: bool = False  # whether the text leaves your machine

    def bytes_needed(self, length: int, dtype: str = "float16") -> float:
        """Weights, and the cache of one text of `length` tokens."""
        weights = self.parameters * bytes_of(dtype)
        if not self.n_kv_heads:
            return weights
        return weights + cache_bytes(
            n_layers=self.n_layers, n_kv_heads=self.n_kv_heads, d_head=self.d_head, length=length, dtype=dtype
        )


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Your conditions. None or False asks for nothing."""

    task: str
    language: str = "en"
    length: int = 256  # tokens of the longest text, answer included
    commercial: bool = False
    no_restricted_uses: bool = False  # whether a list of forbidden uses cannot be accepted
    memory: int | float | None = None  # bytes
    dtype: str = "float16"
    private: bool = False  # whether a text may not leave the machine
    seconds_per_token: int | float | None = None  # when it generates
    bandwidth: int | float = 50e9  # bytes that the machine reads from memory in a second


def least_seconds_per_token(card: Card, needs: Needs) -> float:
    """About the least where a pass gives one token: it reads nearly every weight, and the cache, once. 0 for an encoder.

    For an encoder-decoder it is too high: the encoder reads the source only once.
    """
    return card.bytes_needed(needs.length, needs.dtype) / needs.bandwidth if card.n_kv_heads else 0.0


def violations(card: Card, needs: Needs) -> list[str]:
    """Every condition that the model breaks, in words; an empty list when it may be tried."""
    licence, found = LICENCES[card.licence], []
    if needs.task not in card.tasks:
        found.append(f"does not {needs.task}")
    if needs.language not in card.languages:
        found.append(f"does not read {needs.language}")
    if needs.length > card.context:
        found.append(f"reads {card.context} tokens, not {needs.length}")
    if needs.commercial and not licence["commercial"]:
        found.append(f"{card.licence} forbids commercial use")
    if needs.no_restricted_uses and licence["restricted uses"]:
        found.append(f"{card.licence} lists forbidden uses")
    needed = card.bytes_needed(min(needs.length, card.context), needs.dtype)
    if needs.memory is not None and needed > needs.memory:
        found.append(f"needs {needed / 1e9:.1f} GB, not {needs.memory / 1e9:.1f}")
    if needs.private and card.hosted:
        found.append("sends your text away")
    seconds = least_seconds_per_token(card, needs)
    if needs.seconds_per_token is not None and seconds > needs.seconds_per_token:
        found.append(f"takes at least {seconds:.2f} s a token, not {needs.seconds_per_token:.2f}")
    return found


def rank_cards(cards: Sequence[Card], needs: Needs) -> list[tuple[Card, list[str]]]:
    """The cards with what each breaks: fewest first, and of equals the one that needs the least memory."""
    judged = [(card, violations(card, needs)) for card in cards]
    return sorted(
        judged, key=lambda one: (len(one[1]), one[0].bytes_needed(min(needs.length, one[0].context), needs.dtype))
    )


_EN, _MANY = frozenset({"en"}), frozenset({"en", "de", "fr", "es", "zh", "hi", "ar"})
# Sizes, contexts and licences as published with the weights.
CARDS = (
    Card(name="all-MiniLM-L6-v2", tasks=frozenset({"embed"}), languages=_EN, parameters=22_713_216, context=256,
         licence="Apache-2.0", n_layers=6, d_head=32),
    Card(name="BERT base, uncased", tasks=frozenset({"classify"}), languages=_EN, parameters=109_482_240, context=512,
         licence="Apache-2.0", n_layers=12, d_head=64),
    Card(name="BERT base, multilingual", tasks=frozenset({"classify"}), languages=_MANY, parameters=177_853_440,
         context=512, licence="Apache-2.0", n_layers=12, d_head=64),
    Card(name="GPT-2 small", tasks=frozenset({"generate"}), languages=_EN, parameters=124_439_808, context=1024,
         licence="MIT", n_layers=12, d_head=64, n_kv_heads=12),
    Card(name="NLLB-200 distilled 600M", tasks=frozenset({"translate"}), languages=_MANY, parameters=615_073_792,
         context=512, licence="CC-BY-NC-4.0", n_layers=12, d_head=64, n_kv_heads=16),
    Card(name="Llama 2 7B", tasks=frozenset({"generate"}), languages=_EN, parameters=6_738_415_616, context=4096,
         licence="Llama 2 Community", n_layers=32, d_head=128, n_kv_heads=32),
    Card(name="Mistral 7B v0.1", tasks=frozenset({"generate"}), languages=_EN, parameters=7_241_732_096, context=8192,
         licence="Apache-2.0", n_layers=32, d_head=128, n_kv_heads=8),
    Card(name="BLOOM 7B1", tasks=frozenset({"generate"}), languages=_MANY - {"de"}, parameters=7_069_016_064,
         context=2048, licence="BigScience RAIL 1.0", n_layers=30, d_head=128, n_kv_heads=32),
)  # fmt: skip
