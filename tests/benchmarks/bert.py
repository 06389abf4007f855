"""A pre-training step of BERT: hidden words and second sentences, with the published vocabulary and with a small one.

Once on pairs of sentences as they are found in a text, where most rows are shorter than the longest; once on rows that
are all full.
"""

from functools import cache
from itertools import islice

import torch
from torch import Tensor, nn

from llmcourse.interop import from_theirs
from llmcourse.masking import MaskingConfig, PreTrainingBatch, pretraining_batch, sentence_pairs
from llmcourse.pretraining import pretraining_loss
from tests.benchmarks import texts
from tests.benchmarks.measuring import OURS, Comparison, Contestant
from tests.benchmarks.training import ours, theirs

T, LAYERS, C = 128, 4, 256
SENTENCES, FULL = 32, 16  # rows of a batch
SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")


@cache
def reference(n_vocab: int) -> nn.Module:
    """The reference library's model."""
    from transformers import BertConfig, BertForPreTraining

    torch.manual_seed(0)
    return BertForPreTraining(
        BertConfig(
            vocab_size=n_vocab, hidden_size=C, num_hidden_layers=LAYERS, num_attention_heads=4, intermediate_size=4 * C,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip


@cache
def sentences() -> PreTrainingBatch:
    """Pairs of sentences of documentation, in a vocabulary of 2,048; each is cut where a row would outgrow T."""
    tokenizer, documents = texts.sentences(2_048, SPECIAL)
    documents = [[sentence[: (T - 3) // 2] for sentence in one] for one in documents]
    pad, begin, separator, mask = map(tokenizer.special_id, SPECIAL)
    masking = MaskingConfig(n_vocab=len(tokenizer), mask=mask, special=(pad, begin, separator, mask))
    pairs = list(islice(sentence_pairs(documents), SENTENCES))
    draws = torch.Generator().manual_seed(0)
    return pretraining_batch(pairs, masking, draws, begin=begin, separator=separator, pad=pad)


@cache
def full(n_vocab: int) -> PreTrainingBatch:
    """Pairs of full length, with 15 of 100 words to be named."""
    made = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, n_vocab, (FULL, T), generator=made)
    targets = torch.where(torch.rand(FULL, T, generator=made) < 0.15, tokens, -100)
    segments = (torch.arange(T) > T // 2).long().repeat(FULL, 1)
    return PreTrainingBatch(tokens, segments, targets, torch.randint(2, (FULL,), generator=made))


def row(n_vocab: int, rows: str, plain: float, rough: float) -> Comparison:
    """The step with one vocabulary."""

    @cache
    def batch() -> PreTrainingBatch:
        return full(n_vocab) if rows == "full rows" else sentences()

    def our_step(**choices: object) -> Contestant:
        model = from_theirs(reference(n_vocab).state_dict(), reference(n_vocab).config.to_dict())
        return ours(model, batch(), pretraining_loss, **choices)

    def their_loss(model: nn.Module) -> Tensor:
        given = batch()
        filled = given.tokens != 0
        return model(
            input_ids=given.tokens,
            attention_mask=None if filled.all() else filled.long(),
            token_type_ids=given.segments,
            labels=given.targets,
            next_sentence_label=given.swapped,
        ).loss

    def their_step() -> Contestant:
        return theirs(reference(n_vocab), their_loss)

    return Comparison(
        title=f"BERT, pre-training, vocabulary {n_vocab:,}, {rows}",
        unit=f"a training step: {LAYERS} layers, d={C}, "
        + (f"T={T}, batch {FULL}" if rows == "full rows" else f"T at most {T}, batch {SENTENCES}"),
        reference="transformers",
        contestants={
            OURS: our_step,
            f"{OURS}, bfloat16": lambda: our_step(precision="bfloat16"),
            "transformers": their_step,
        },
        goals={OURS: plain, f"{OURS}, bfloat16": rough},
        tolerance=3e-2,  # of a loss of about 11, with bfloat16 among the contestants
        rounds=5,
    )


ROWS = {
    "bert-30522": row(30_522, "sentences", 3.5, 7.0),
    "bert-2048": row(2_048, "sentences", 1.4, 2.6),
    "bert-full-30522": row(30_522, "full rows", 3.5, 7.0),
    "bert-full-2048": row(2_048, "full rows", 1.4, 2.6),
}
