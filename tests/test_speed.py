"""How fast the course's models are beside well-known ones: the same work, turn by turn in one run, as a ratio."""

import pytest
import torch

from llmcourse.interop import from_theirs
from llmcourse.masking import PreTrainingBatch
from llmcourse.pretraining import pretraining_loss
from tests.timing import speed_ratio

pytestmark = pytest.mark.slow


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
