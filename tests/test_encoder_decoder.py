"""The encoder-decoder is the paper's: as many parameters, torch's own numbers, padding without effect, a cache too."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from llmcourse.attention import causal_mask
from llmcourse.models import TRANSFORMER_BASE, TRANSFORMER_BIG, EncoderDecoder, count_parameters, load_model, save_model
from llmcourse.transformer import TransformerConfig

SMALL = TransformerConfig(n_vocab=11, n_source=9, context=12, d_model=16, n_heads=2, n_layers=2, pad=0)
each_place = pytest.mark.parametrize("norm_place", ["pre", "post"])


def small_model(seed=0, **changes):
    torch.manual_seed(seed)
    return EncoderDecoder(replace(SMALL, **changes)).eval()


def some_pair(B=2, S=7, T=5):
    generator = torch.Generator().manual_seed(3)
    return torch.randint(1, 9, (B, S), generator=generator), torch.randint(1, 11, (B, T), generator=generator)


@pytest.mark.parametrize(("config", "C", "W"), [(TRANSFORMER_BASE, 512, 2048), (TRANSFORMER_BIG, 1024, 4096)])
def test_base_and_big_have_as_many_parameters_as_the_paper_s_architecture(config, C, W):
    attention, feed_forward, norm = 4 * (C * C + C), C * W + W + W * C + C, 2 * C
    encoder, decoder = attention + feed_forward + 2 * norm, 2 * attention + feed_forward + 3 * norm
    with torch.device("meta"):
        model = EncoderDecoder(config)
    assert count_parameters(model) == 37_000 * C + 6 * encoder + 6 * decoder


def torch_twin(model: EncoderDecoder) -> nn.Transformer:
    """torch's own Transformer with the same weights; its last norms are there only where ours are."""
    config = model.config
    options = {
        "dim_feedforward": 4 * config.d_model, "dropout": 0.0, "batch_first": True, "activation": "gelu",
        "norm_first": config.norm_place == "pre",
    }  # fmt: skip
    last = config.norm_place == "pre"
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(config.d_model, config.n_heads, **options), config.n_layers,
        nn.LayerNorm(config.d_model) if last else None, enable_nested_tensor=False,
    )  # fmt: skip
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(config.d_model, config.n_heads, **options), config.n_layers,
        nn.LayerNorm(config.d_model) if last else None,
    )  # fmt: skip
    twin = nn.Transformer(config.d_model, config.n_heads, custom_encoder=encoder, custom_decoder=decoder)
    twin.batch_first = True  # the custom parts decide; the whole checks its inputs by this
    for theirs, ours in ((twin.encoder, model.encoder), (twin.decoder, model.decoder)):
        for layer, block in zip(theirs.layers, ours.blocks, strict=True):
            layer.load_state_dict(torch_weights(block))
        if last:
            theirs.norm.load_state_dict(ours.norm.state_dict())
    return twin.eval()


def torch_weights(block) -> dict[str, torch.Tensor]:
    weights = {}
    parts = {"self_attn": block.attention}
    norms = [block.attention_norm, block.feed_forward_norm]
    if hasattr(block, "cross_attention"):
        parts["multihead_attn"] = block.cross_attention
        norms.insert(1, block.cross_norm)
    for name, part in parts.items():
        for kind in ("weight", "bias"):
            stacked = [getattr(layer, kind) for layer in (part.query, part.key, part.value)]
            weights[f"{name}.in_proj_{kind}"] = torch.cat(stacked)
            weights[f"{name}.out_proj.{kind}"] = getattr(part.out, kind)
    for number, norm in enumerate(norms, start=1):
        weights |= {f"norm{number}.{kind}": getattr(norm, kind) for kind in ("weight", "bias")}
    for name, layer in {"linear1": block.feed_forward.expand, "linear2": block.feed_forward.contract}.items():
        weights |= {f"{name}.{kind}": getattr(layer, kind) for kind in ("weight", "bias")}
    return weights


@each_place
@pytest.mark.parametrize("seed", range(3))
def test_outputs_equal_torch_s_own_transformer_masks_included(norm_place, seed):
    model = small_model(seed, norm_place=norm_place, positions="learned")
    with torch.no_grad():  # norms begin as 1 and 0 and biases as 0, which would hide their absence
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    source, tokens = some_pair()
    source[1, 4:] = 0
    hidden = source == 0  # torch's convention is the opposite of ours: True where one may not look
    reference = torch_twin(model)(
        model.source_embedding(source), model.embedding(tokens), tgt_mask=~causal_mask(5),
        src_key_padding_mask=hidden, memory_key_padding_mask=hidden,
    )  # fmt: skip
    torch.testing.assert_close(model(source, tokens), model.head(reference), atol=1e-5, rtol=0)


@each_place
@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal", "alibi"])
def test_a_cached_pass_equals_the_whole_pass_for_every_prefix(positions, norm_place):
    model, (source, tokens) = small_model(positions=positions, norm_place=norm_place), some_pair()
    source[0, 5:] = 0
    whole, memory = model(source, tokens), model.encode(source)
    for n in range(1, 5):
        cache = model.new_cache()
        pieces = [model.decode(part, memory, source, cache) for part in (tokens[:, :n], tokens[:, n:])]
        torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=0)


@each_place
@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal", "alibi"])
def test_neighbouring_rows_share_a_source_as_if_each_had_its_own(positions, norm_place):
    """Six targets of two sources: the first three of the first, as the beams of a search are."""
    model, (source, _) = small_model(positions=positions, norm_place=norm_place), some_pair()
    source[0, 5:] = 0
    tokens = torch.randint(1, 11, (6, 5), generator=torch.Generator().manual_seed(4))
    whole, memory, cache = model(source.repeat_interleave(3, dim=0), tokens), model.encode(source), model.new_cache()
    torch.testing.assert_close(model.decode(tokens, memory, source), whole, atol=1e-5, rtol=0)
    pieces = [model.decode(part, memory, source, cache) for part in (tokens[:, :2], tokens[:, 2:])]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=0)
    assert all(of_source.key.shape[0] == 2 for _, of_source in cache)


@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal", "alibi"])
def test_padding_of_the_source_changes_nothing(positions):
    model, (source, tokens) = small_model(positions=positions), some_pair()
    padded = torch.cat([source, torch.zeros(2, 4, dtype=torch.long)], dim=1)
    torch.testing.assert_close(model(padded, tokens), model(source, tokens), atol=1e-5, rtol=0)
    assert not torch.allclose(small_model(positions=positions, pad=None)(padded, tokens), model(source, tokens))


def test_only_a_source_with_padding_has_a_mask():
    """A mask that hides nothing would be read by every layer, and change nothing."""
    model, (source, tokens) = small_model(), some_pair()
    seen = []
    for block in model.decoder.blocks:
        block.cross_attention.attend.register_forward_pre_hook(lambda _, given: seen.append(given[3]))
    model(source, tokens)
    assert seen == [None, None]
    source[1, 5:] = 0
    model(source, tokens)
    assert [mask.flatten(1).sum(dim=1).tolist() for mask in seen[2:]] == [[7, 5], [7, 5]]


def test_a_target_token_sees_its_past_and_the_whole_source():
    model, (source, tokens) = small_model(), some_pair()
    before = model(source, tokens)
    for t in range(5):
        changed = tokens.clone()
        changed[:, t] = changed[:, t] % 10 + 1
        assert torch.equal(model(source, changed)[:, :t], before[:, :t])
        assert (model(source, changed)[:, t:] != before[:, t:]).any(dim=-1).all()
    for s in range(7):
        changed = source.clone()
        changed[:, s] = changed[:, s] % 8 + 1
        assert (model(changed, tokens) != before).any(dim=-1).all()


def test_one_vocabulary_has_one_embedding():
    shared = small_model(n_source=None, tied=True, scaled_embedding=True)
    assert shared.source_embedding is shared.embedding
    assert shared.head.weight is shared.embedding.tokens.weight
    separate = count_parameters(small_model()) - 9 * 16 - 11 * 16
    assert count_parameters(shared) == separate


def test_a_saved_model_comes_back_equal(tmp_path):
    model, (source, tokens) = small_model(), some_pair()
    save_model(model, tmp_path)
    assert torch.equal(load_model(tmp_path)(source, tokens), model(source, tokens))


def test_foreign_and_too_many_tokens_are_refused_on_both_sides():
    model, (source, tokens) = small_model(), some_pair()
    with pytest.raises(ValueError, match=r"9.*0 to 8"):
        model(source.clamp(min=9), tokens)
    with pytest.raises(ValueError, match=r"11.*0 to 10"):
        model(source, tokens + 10)
    with pytest.raises(ValueError, match=r"14 tokens .* context holds 12"):
        model(source.repeat(1, 2), tokens)
    with pytest.raises(ValueError, match=r"15 tokens .* context holds 12"):
        model(source, tokens.repeat(1, 3))
