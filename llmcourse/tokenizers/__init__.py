"""Tokenizers: from text to whole numbers and back, five ways on one base class.

Read the files in this order; each class adds one idea:

- `base.py`: what all share: a vocabulary, special tokens, encode, decode, save, load;
- `simple.py`: whole words (`WordTokenizer`), single characters (`CharTokenizer`);
- `bpe.py`: bytes, and merges of the most frequent neighbours (`BPETokenizer`);
- `wordpiece.py`: merges of the neighbours that attract each other most (`WordPieceTokenizer`);
- `unigram.py`: a probability for every piece, and the likeliest way to cut a word (`UnigramTokenizer`).

Conventions. A text is cut into words first, and no token crosses a word. In the last three tokenizers a space
belongs to the word after it (" the" is one word), so that nothing is lost: they give back any Unicode text
unchanged. A *piece* is what a token stands for. Special tokens take the first ids, and only `special_id`
gives them out: "[MASK]" typed by a user stays six characters of text. A tokenizer is smaller than
`vocab_size` when its text cannot yield more pieces.
"""

from llmcourse.tokenizers.base import Tokenizer
from llmcourse.tokenizers.bpe import BPETokenizer, count_pairs, merge_pair
from llmcourse.tokenizers.simple import CharTokenizer, WordTokenizer
from llmcourse.tokenizers.unigram import UnigramTokenizer, viterbi
from llmcourse.tokenizers.wordpiece import WordPieceTokenizer, wordpiece_score

__all__ = [
    "BPETokenizer",
    "CharTokenizer",
    "Tokenizer",
    "UnigramTokenizer",
    "WordPieceTokenizer",
    "WordTokenizer",
    "count_pairs",
    "merge_pair",
    "viterbi",
    "wordpiece_score",
]
