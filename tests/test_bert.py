"""BERT is the published model: its sizes to the unit, its numbers beside the reference library, both directions at once."""

from dataclasses import replace

import pytest
import torch

from llmcourse.bert import BERT_BASE, BERT_LARGE, Bert, MaskedLMHead, PreTrainingBert
from llmcourse.interop import from_theirs
from llmcourse.models import count_parameters, load_model, save_model
from llmcourse.recording import record_attention
from llmcourse.transformer import TransformerConfig

SMALL = TransformerConfig(
    n_vocab=31, context=12, d_model=16, n_heads=2, n_layers=2, positions="learned", norm_place="post", norm_eps=1e-12,
    tied=True, pad=0,
)  # fmt: skip


def reference(seed, d_model, n_heads, n_layers, d_hidden, n_vocab=31, context=12):
    """A model of the reference library with random weights of size 0.3, norms and biases included."""
    from transformers import BertConfig, BertForPreTraining

    config = BertConfig(
        vocab_size=n_vocab, hidden_size=d_model, num_hidden_layers=n_layers, num_attention_heads=n_heads,
        intermediate_size=d_hidden, max_position_embeddings=context, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(seed)
    model = BertForPreTraining(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def ours_like(theirs):
    """Our model with the weights of theirs; every one of ours is filled, and every one of theirs is used."""
    return from_theirs(theirs.state_dict(), theirs.config.to_dict())


def some_input(n_vocab=31, T=12, seed=3):
    """Three rows of two sentences, of different lengths, filled up with 0."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, n_vocab, (3, T), generator=generator)
    segments = torch.zeros_like(tokens)
    segments[0, 5:], segments[1, 3:], segments[2, 8:] = 1, 1, 1
    for row, length in enumerate((T, 7, 9)):
        tokens[row, length:], segments[row, length:] = 0, 0
    return tokens, segments


@pytest.mark.parametrize(
    "sizes", [(16, 2, 2, 64), (24, 3, 1, 40), (32, 4, 3, 128), (8, 1, 4, 32), (20, 5, 2, 60)], ids=str
)
def test_hidden_states_and_both_heads_equal_the_reference_library(sizes):
    theirs = reference(sum(sizes), *sizes)
    ours, (tokens, segments) = ours_like(theirs), some_input()
    real = tokens != 0
    with torch.no_grad():
        expected = theirs(
            input_ids=tokens, token_type_ids=segments, attention_mask=real.long(), output_hidden_states=True
        )
        hidden = ours.bert(tokens, segments)
        near = {"atol": 1e-4, "rtol": 0}
        torch.testing.assert_close(hidden[real], expected.hidden_states[-1][real], **near)
        torch.testing.assert_close(ours(tokens, segments)[real], expected.prediction_logits[real], **near)
        torch.testing.assert_close(ours.follows(tokens, segments), expected.seq_relationship_logits, **near)
    assert expected.prediction_logits.std() > 0.5  # a comparison of zeros would say nothing


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "published"), [(BERT_BASE, 109_482_240), (BERT_LARGE, 335_141_888)], ids=["base", "large"]
)
def test_parameters_are_those_of_the_published_models_to_the_unit(config, published):
    from transformers import BertConfig, BertForPreTraining

    V, T, C, L = config.n_vocab, config.context, config.d_model, config.n_layers
    norm, linear = 2 * C, C * C + C
    block = 4 * linear + norm + (C * 4 * C + 4 * C) + (4 * C * C + C) + norm
    encoder = (V + T + 2) * C + norm + L * block + linear
    heads = linear + norm + V + 2 * C + 2  # the decoder's matrix is the embedding
    assert encoder == published
    theirs = BertConfig(hidden_size=C, num_hidden_layers=L, num_attention_heads=config.n_heads, intermediate_size=4 * C)
    with torch.device("meta"):
        assert count_parameters(Bert(config)) == published
        assert count_parameters(PreTrainingBert(config)) == published + heads
        whole = BertForPreTraining(theirs)
    assert count_parameters(whole.bert) == published
    assert count_parameters(whole) == published + heads


def small_bert(seed=0, **changes):
    torch.manual_seed(seed)
    return PreTrainingBert(replace(SMALL, **changes)).eval()


@pytest.mark.parametrize("place", ["pre", "post"])
@pytest.mark.parametrize("positions", ["learned", "rotary", "sinusoidal", "alibi"])
def test_every_position_is_seen_from_both_sides_and_padding_from_none(positions, place):
    model, (tokens, segments) = small_bert(positions=positions, norm_place=place), some_input()
    before = model(tokens, segments)
    for t in range(7):
        changed = tokens.clone()
        changed[1, t] = changed[1, t] % 30 + 1
        after = model(changed, segments)
        assert (after[1, :7] != before[1, :7]).any(dim=-1).all()
        assert torch.equal(after[[0, 2]], before[[0, 2]])
    torch.testing.assert_close(model(tokens[1:2, :7], segments[1:2, :7])[0], before[1, :7], atol=1e-5, rtol=0)


def test_segments_are_told_apart_and_none_is_the_first_everywhere():
    model, (tokens, segments) = small_bert(), some_input()
    assert not torch.allclose(model(tokens, segments), model(tokens), atol=1e-3)
    assert torch.equal(model(tokens), model(tokens, torch.zeros_like(tokens)))


def test_logits_of_gathered_states_are_those_of_the_whole_row():
    model, (tokens, segments) = small_bert(), some_input()
    chosen = torch.zeros_like(tokens, dtype=torch.bool)
    chosen[0, 3], chosen[2, 1], chosen[2, 6] = True, True, True
    gathered = model.masked_lm(model.bert(tokens, segments)[chosen])
    assert gathered.shape == (3, SMALL.n_vocab)
    torch.testing.assert_close(gathered, model(tokens, segments)[chosen])


def test_a_tied_decoder_is_the_embedding_and_learns_with_it():
    tied, apart = small_bert(), small_bert(tied=False)
    assert tied.masked_lm.decoder.weight is tied.bert.embedding.tokens.weight
    assert count_parameters(apart) - count_parameters(tied) == SMALL.n_vocab * SMALL.d_model
    assert MaskedLMHead(SMALL).decoder.weight.shape == (SMALL.n_vocab, SMALL.d_model)


def test_the_second_sentence_is_judged_by_the_first_position_alone():
    model, (tokens, segments) = small_bert(), some_input()
    hidden = model.bert(tokens, segments)
    changed = hidden.clone()
    changed[:, 1:] += 1.0
    assert torch.equal(model.bert.pool(changed), model.bert.pool(hidden))
    torch.testing.assert_close(
        model.follows(tokens, segments), model.next_sentence((hidden[:, 0] @ model.bert.pooler.weight.T).tanh())
    )  # its bias starts at 0


def test_the_maps_of_every_layer_can_be_watched_and_hide_padding():
    model, (tokens, segments) = small_bert(), some_input()
    with record_attention(model) as maps:
        model(tokens, segments)
    assert list(maps) == ["bert.encoder.blocks.0.attention", "bert.encoder.blocks.1.attention"]
    for weights in maps.values():
        assert (weights.masked_select((tokens == 0)[:, None, None]) == 0).all()


@pytest.mark.parametrize("changes", [{}, {"tied": False, "norm_place": "pre", "positions": "rotary"}])
def test_a_saved_model_comes_back_equal_to_the_bit(tmp_path, changes):
    model, (tokens, segments) = small_bert(**changes), some_input()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert torch.equal(loaded(tokens, segments), model(tokens, segments))
    assert torch.equal(loaded.follows(tokens, segments), model.follows(tokens, segments))


def test_what_cannot_be_read_is_refused():
    model = small_bert()
    with pytest.raises(ValueError, match="13 tokens"):
        model(torch.ones(1, 13, dtype=torch.long))
    with pytest.raises(ValueError, match="0 to 30"):
        model(torch.tensor([[31]]))
    with pytest.raises(ValueError, match="n_segments=0"):
        Bert(SMALL, n_segments=0)
