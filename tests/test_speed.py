"""How fast the course's models are beside well-known ones: the same work, turn by turn in one run, as a ratio."""

from itertools import repeat

import pytest
import torch
from torch.nn import functional as F

from llmcourse.attention import causal_mask, scaled_dot_product_attention
from llmcourse.data import Batch
from llmcourse.interop import from_theirs
from llmcourse.masking import PreTrainingBatch
from llmcourse.models import GPT
from llmcourse.pretraining import pretraining_loss
from llmcourse.tokenizers.bpe import BYTES, BPETokenizer
from llmcourse.training import TrainConfig, next_token_loss, train
from llmcourse.transformer import TransformerConfig
from tests.benchmarks import peers, training
from tests.benchmarks.texts import sources
from tests.timing import speed_ratio

pytestmark = pytest.mark.slow


def small_gpt(**choices):
    torch.manual_seed(0)
    return GPT(TransformerConfig(n_vocab=65, context=128, d_model=192, n_heads=6, n_layers=4, **choices))


def loss_of(model, rows):
    return F.cross_entropy(model(rows.tokens).flatten(0, 1), rows.targets.flatten())


@pytest.mark.usefixtures("without_shape_checks")
def test_a_pretraining_step_is_faster_for_computing_the_vocabulary_at_hidden_words_only():
    """The reference library computes all positions; measured ratio with BERT's vocabulary of 30,522: 3.1."""
    from transformers import BertConfig, BertForPreTraining

    V, T, B = 30_522, 128, 8
    config = BertConfig(
        vocab_size=V, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    reference = BertForPreTraining(config)
    model = from_theirs(reference.state_dict(), config.to_dict())
    tokens, swapped = torch.randint(5, V, (B, T)), torch.randint(2, (B,))
    segments = (torch.arange(T) > T // 2).long().repeat(B, 1)
    targets = torch.where(torch.rand(B, T) < 0.15, tokens, -100)

    def our_loss():
        return pretraining_loss(model, PreTrainingBatch(tokens, segments, targets, swapped))

    def their_loss():
        return reference(input_ids=tokens, token_type_ids=segments, labels=targets, next_sentence_label=swapped).loss

    assert our_loss().item() == pytest.approx(their_loss().item(), abs=1e-4)
    assert speed_ratio(lambda: their_loss().backward(), lambda: our_loss().backward()) > 2


@pytest.mark.usefixtures("without_shape_checks")
def test_a_training_step_in_sixteen_bits_is_faster_and_starts_from_the_same_loss():
    """Attention's kernel alone made this slower than 1.2; measured with batch 8: 1.7. Costs 6 s."""
    rows = Batch(*torch.randint(65, (2, 8, 128)))
    plain, rough = (
        train(small_gpt(), repeat(rows), next_token_loss, TrainConfig(steps=100, rate=1e-5, precision=precision))
        for precision in ("float32", "bfloat16")
    )
    assert next(rough).loss == pytest.approx(next(plain).loss, abs=0.01)
    assert speed_ratio(lambda: next(plain), lambda: next(rough), rounds=5) > 1.25


@pytest.mark.usefixtures("without_shape_checks")
def test_a_training_step_is_not_slower_than_one_of_torchs_own_layers():
    """Measured: 1.0 to 1.07. The products are the same, so only waste could make it slower. Costs 8 s."""
    model, rows = small_gpt(positions="learned", bias=False), Batch(*torch.randint(65, (2, 8, 128)))
    ours, theirs = training.ours(model, rows), training.theirs(peers.TorchGPT(model), lambda of: loss_of(of, rows))
    assert ours.result() == pytest.approx(theirs.result(), abs=1e-4)
    assert speed_ratio(theirs.work, ours.work, rounds=5) > 0.85


@pytest.mark.usefixtures("without_shape_checks")
def test_a_long_causal_text_is_attended_to_faster_than_with_a_mask_that_the_kernel_has_to_read():
    """Measured at 1,024 positions: 1.9. Costs 1 s."""
    query, key, value = (torch.randn(1, 6, 1024, 32) for _ in range(3))
    mask = causal_mask(1024)

    def masked():
        return F.scaled_dot_product_attention(query, key, value, mask)

    def told():
        return scaled_dot_product_attention(query, key, value, mask)

    torch.testing.assert_close(told(), masked())
    assert speed_ratio(masked, told) > 1.2


def test_learning_merges_costs_what_they_change_and_not_the_whole_text():
    """A merge that counted all pairs anew would cost the same each time: 16 times the merges, 16 times the seconds.

    Measured with a quarter of a million characters: 2.5 times the seconds. Costs 3 s.
    """
    text = sources(250_000)
    few, many = (lambda n=n: BPETokenizer.train(text, len(BYTES) + n) for n in (128, 2048))
    assert speed_ratio(many, few, rounds=3) < 6
