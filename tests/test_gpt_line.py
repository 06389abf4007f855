"""GPT-1, 2 and 3 have the parameters of their papers' architectures, and GPT-2 computes what the reference library does."""

import pytest
import torch

from llmcourse.interop import to_theirs
from llmcourse.models import GPT, GPT_1, GPT_2, GPT_3, count_parameters
from llmcourse.transformer import TransformerConfig


def counted(V, T, C, L, *, last_norm=True):
    """Embeddings; per layer 4 projections, 2 feed-forward layers of width 4C and 2 norms; the last norm; a tied head."""
    layer = 4 * (C * C + C) + (C * 4 * C + 4 * C) + (4 * C * C + C) + 2 * 2 * C
    return V * C + T * C + L * layer + 2 * C * last_norm


@pytest.mark.parametrize(
    ("config", "sizes", "published"),
    [
        (GPT_1, (40_478, 512, 768, 12), 116_534_784),
        (GPT_2["small"], (50_257, 1024, 768, 12), 124_439_808),
        (GPT_2["medium"], (50_257, 1024, 1024, 24), 354_823_168),
        (GPT_2["large"], (50_257, 1024, 1280, 36), 774_030_080),
        (GPT_2["xl"], (50_257, 1024, 1600, 48), 1_557_611_200),
        (GPT_3, (50_257, 2048, 12_288, 96), None),  # the paper gives billions only
    ],
    ids=["GPT-1", "small", "medium", "large", "xl", "GPT-3"],
)
def test_the_line_has_the_papers_parameters_to_the_unit(config, sizes, published):
    with torch.device("meta"):  # shapes without numbers: 175 billion of them take no memory
        model = GPT(config)
    assert count_parameters(model) == counted(*sizes, last_norm=config.norm_place == "pre")
    assert count_parameters(model) == published if published else round(count_parameters(model) / 1e9) == 175


@pytest.mark.parametrize(
    ("V", "T", "C", "H", "L"), [(50, 20, 16, 2, 1), (97, 33, 24, 3, 2), (300, 64, 60, 5, 3), (11, 9, 8, 1, 4)]
)
def test_gpt_2_computes_what_the_reference_library_computes(V, T, C, H, L):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = TransformerConfig(
        n_vocab=V, context=T, d_model=C, n_heads=H, n_layers=L, positions="learned", activation="gelu_tanh", tied=True
    )
    torch.manual_seed(V)
    model = GPT(config).eval()
    with torch.no_grad():  # biases begin as 0 and norms as 1, which would hide their absence
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    reference = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=T, n_embd=C, n_head=H, n_layer=L)).eval()
    reference.load_state_dict(to_theirs(model))
    tokens = torch.randint(V, (3, T))
    torch.testing.assert_close(model(tokens), reference(tokens).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("positions", ["rotary", "learned", "sinusoidal", "alibi", "none"])
def test_padding_at_the_left_changes_nothing_cached_or_not(positions):
    torch.manual_seed(0)
    model = GPT(TransformerConfig(n_vocab=11, context=12, d_model=16, n_heads=2, positions=positions)).eval()
    rows, padding = [torch.randint(11, (1, n)) for n in (8, 5, 1)], torch.tensor([0, 3, 7])
    padded = torch.cat([torch.cat([torch.full((1, 8 - row.shape[1]), 9), row], dim=1) for row in rows])
    whole = model(padded, padding=padding)
    for row, mine, left in zip(rows, whole, padding.tolist(), strict=True):
        torch.testing.assert_close(mine[left:], model(row)[0], atol=1e-5, rtol=0)
    for n in range(1, 8):
        cache = model.new_cache()
        pieces = [model(part, cache, padding) for part in (padded[:, :n], padded[:, n:])]
        for mine, other, left in zip(torch.cat(pieces, dim=1), whole, padding.tolist(), strict=True):
            torch.testing.assert_close(mine[left:], other[left:], atol=1e-5, rtol=0)
