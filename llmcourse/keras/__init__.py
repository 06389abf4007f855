"""The Transformer of this course once more, in TensorFlow: the same names, the same shapes, the same numbers.

- `layers.py`: attention, positions, the block: twins of `attention.py` and `transformer.py`;
- `models.py`: Bert with both heads, and GPT: twins of `bert.py` and `models.py`;
- `copying.py`: weights from torch to TensorFlow and back, by name; and what every layer computed, on either side;
- `learning.py`: losses, AdamW and the training loop: twins of `pretraining.py`, `optimisers.py` and `training.py`.

Importing this imports TensorFlow, which nothing else in the package does. Three conventions differ. A Dense layer keeps
its matrix as (in, out) and computes x W; torch's Linear keeps (out, in) and computes x Wᵀ. Keras's LayerNormalization has
epsilon 1e-3 unless told otherwise, torch's LayerNorm 1e-5. And what torch calls `weight` is called kernel, embeddings,
gamma or scale. A boolean mask is True where one may look, in Keras's own layers too; torch's nn.MultiheadAttention means
the opposite.
"""

import os
import sys
from contextlib import suppress

# TensorFlow greets on stderr unless told not to; and without the second line it may sum in another order on each processor.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# Triton comes with torch where there may be a GPU. Loaded after TensorFlow, as torch's optimisers do, it ends the process.
if "tensorflow" not in sys.modules:
    with suppress(ImportError):
        import triton  # noqa: F401

try:
    import keras
    import tensorflow  # noqa: F401
except ImportError as error:
    raise ImportError(
        "llmcourse.keras is the TensorFlow twin of the models and needs TensorFlow: pip install tensorflow "
        "(tensorflow-cpu is smaller, where there is no GPU)"
    ) from error

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"Keras runs on {keras.backend.backend()} here; set the environment variable KERAS_BACKEND=tensorflow before "
        "the first import of keras"
    )

from llmcourse.keras.copying import copy_weights, record, torch_weights
from llmcourse.keras.layers import (
    DotProductAttention,
    Encoder,
    FeedForward,
    MultiHeadAttention,
    TransformerBlock,
    attention_weights,
    causal_mask,
    padding_mask,
    scaled_dot_product_attention,
)
from llmcourse.keras.learning import (
    AdamW,
    adamw,
    hidden_word_loss,
    masked_loss,
    mean_surprise,
    next_sentence_loss,
    next_token_loss,
    pretraining_loss,
    seed_everything,
    train,
    training_step,
)
from llmcourse.keras.models import GPT, Bert, MaskedLMHead, NextSentenceHead, PreTrainingBert

__all__ = [
    "GPT",
    "AdamW",
    "Bert",
    "DotProductAttention",
    "Encoder",
    "FeedForward",
    "MaskedLMHead",
    "MultiHeadAttention",
    "NextSentenceHead",
    "PreTrainingBert",
    "TransformerBlock",
    "adamw",
    "attention_weights",
    "causal_mask",
    "copy_weights",
    "hidden_word_loss",
    "masked_loss",
    "mean_surprise",
    "next_sentence_loss",
    "next_token_loss",
    "padding_mask",
    "pretraining_loss",
    "record",
    "scaled_dot_product_attention",
    "seed_everything",
    "torch_weights",
    "train",
    "training_step",
]
