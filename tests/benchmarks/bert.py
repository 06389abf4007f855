"""A pre-training step of BERT: hidden words and second sentences, with the published vocabulary and with a small one."""

from functools import cache

import torch
from torch import Tensor, nn

from llmcourse.interop import from_theirs
from llmcourse.masking import PreTrainingBatch
from llmcourse.pretraining import pretraining_loss
from tests.benchmarks.measuring import OURS, Comparison, Contestant
from tests.benchmarks.training import ours, theirs

T, B, LAYERS, C = 128, 16, 4, 256


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
def batch(n_vocab: int) -> PreTrainingBatch:
    """Pairs of full length, with 15 of 100 words to be named."""
    made = torch.Generator().manual_seed(0)
    tokens = torch.randint(5, n_vocab, (B, T), generator=made)
    targets = torch.where(torch.rand(B, T, generator=made) < 0.15, tokens, -100)
    segments = (torch.arange(T) > T // 2).long().repeat(B, 1)
    return PreTrainingBatch(tokens, segments, targets, torch.randint(2, (B,), generator=made))


def row(n_vocab: int, plain: float, rough: float) -> Comparison:
    """The step with one vocabulary."""

    def our_step(**choices: object) -> Contestant:
        model = from_theirs(reference(n_vocab).state_dict(), reference(n_vocab).config.to_dict())
        return ours(model, batch(n_vocab), pretraining_loss, **choices)

    def their_loss(model: nn.Module) -> Tensor:
        given = batch(n_vocab)
        return model(
            input_ids=given.tokens,
            token_type_ids=given.segments,
            labels=given.targets,
            next_sentence_label=given.swapped,
        ).loss

    def their_step() -> Contestant:
        return theirs(reference(n_vocab), their_loss)

    return Comparison(
        title=f"BERT, pre-training, vocabulary {n_vocab:,}",
        unit=f"a training step: {LAYERS} layers, d={C}, T={T}, batch {B}",
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


ROWS = {"bert-30522": row(30_522, 3.5, 7.0), "bert-2048": row(2_048, 1.4, 2.6)}
