"""Out of this course and into it: models and tokenizers in the files of the Hugging Face libraries, and how to choose one.

- `forms.py`: which of our weights is which of theirs, and their `config.json`: GPT, Bert and EncoderDecoder;
- `folders.py`: a folder or a hub name into a model of ours, and a model of ours into a folder that they open;
- `tokenizer_files.py`: `tokenizer.json`, and the older pair `vocab.json` and `merges.txt`;
- `sentences.py`: a published sentence encoder in our `Bert`, and the vectors that it makes of texts;
- `memory.py`: how many bytes a model takes to run and to train;
- `choosing.py`: cards of published models, and which of them break your conditions.

Files are safetensors and JSON: nothing that is read here can run code. Writing needs neither of their libraries.
"""

from llmcourse.interop.choosing import CARDS, Card, Needs, rank_cards, violations
from llmcourse.interop.folders import load_pretrained, push
from llmcourse.interop.forms import describe, from_theirs, to_theirs
from llmcourse.interop.memory import Memory, cache_bytes, memory_to_run, memory_to_train
from llmcourse.interop.sentences import framed, load_minilm, minilm_folder, sentence_vectors
from llmcourse.interop.tokenizer_files import BorrowedTokenizer, load_tokenizer, save_tokenizer

__all__ = [
    "CARDS",
    "BorrowedTokenizer",
    "Card",
    "Memory",
    "Needs",
    "cache_bytes",
    "describe",
    "framed",
    "from_theirs",
    "load_minilm",
    "load_pretrained",
    "load_tokenizer",
    "memory_to_run",
    "memory_to_train",
    "minilm_folder",
    "push",
    "rank_cards",
    "save_tokenizer",
    "sentence_vectors",
    "to_theirs",
    "violations",
]
