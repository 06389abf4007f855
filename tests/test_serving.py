"""Inference at scale: the cache's formula against real caches and published counts, a decoding step by hand."""

import pytest
import torch

from llmcourse.attention import LEAST_ROOM
from llmcourse.latent import LatentConfig, LatentGPT
from llmcourse.models import GPT, GPT_2, count_parameters
from llmcourse.planning import Machine
from llmcourse.serving import cache_bytes, cache_numbers, decoding, read_parameters, ridge
from llmcourse.transformer import TransformerConfig

SIZES = {"n_vocab": 20, "context": 32, "d_model": 24, "n_layers": 3}
MACHINE = Machine(name="ours", memory=1e6, flops=4e6, utilisation=0.5, bandwidth=1e5, link=1e6)


def held(cache):
    """Bytes of what a cache holds."""
    return sum(part.nbytes for layer in cache for part in (layer.key, layer.value))


def kept_free(cache):
    """Positions for which a cache has room, of the layer that has most."""
    return max(
        part.untyped_storage().nbytes() * len(layer) // part.nbytes
        for layer in cache
        for part in (layer.key, layer.value)
    )


@pytest.mark.parametrize("kind", ["multi-head", "grouped", "multi-query", "latent"])
@torch.no_grad()
def test_a_real_cache_takes_the_bytes_of_the_formula(kind):
    latent = LatentConfig(d_latent=7, d_rope=2) if kind == "latent" else None
    config = TransformerConfig(**SIZES, n_heads=6, n_kv_heads={"grouped": 2, "multi-query": 1}.get(kind))
    model = LatentGPT(config, latent) if latent else GPT(config)
    cache = model.new_cache()
    model(torch.zeros(5, 9, dtype=torch.long), cache)
    for _ in range(3):
        model(torch.zeros(5, 1, dtype=torch.long), cache)
    assert held(cache) == cache_bytes(config, 5 * 12, latent=latent, bytes_each=4)
    assert kept_free(cache) <= max(2 * 12, LEAST_ROOM), "tokens to come find room for as many again, not more"
    numbers = {"multi-head": 2 * 3 * 24, "grouped": 2 * 3 * 8, "multi-query": 2 * 3 * 4, "latent": 3 * 9}[kind]
    assert cache_numbers(config, latent) == numbers


@pytest.mark.parametrize(
    ("n_layers", "n_heads", "multi_head", "latent"),
    [(27, 16, 110.6, 15.6), (60, 56, 860.2, 34.6)],  # thousands of numbers a token
    ids=["small", "large"],
)
def test_the_counts_are_those_of_deepseek_v2_s_own_comparison(n_layers, n_heads, multi_head, latent):
    # DeepSeek-AI (2024), the appendix's table of MLA against MHA; heads of 128, a latent of 512 and a rotated key of 64.
    config = TransformerConfig(n_vocab=1, d_model=n_heads * 128, n_heads=n_heads, n_layers=n_layers)
    widths = LatentConfig(d_latent=512, d_rope=64)
    assert round(cache_numbers(config) / 1000, 1) == multi_head
    assert round(cache_numbers(config, widths) / 1000, 1) == latent
    of_one_group = cache_numbers(TransformerConfig(n_vocab=1, d_model=n_heads * 128, n_heads=n_heads, n_kv_heads=1))
    assert cache_numbers(config, widths) / n_layers / (of_one_group / 2) == 2.25  # "equal to GQA with only 2.25 groups"


def test_the_cache_shrank_by_93_per_cent():
    # The same paper's abstract: against DeepSeek 67B, of 95 layers and 8 shared heads; section 3.2.3: to 6 bits a number.
    older = TransformerConfig(n_vocab=1, d_model=8192, n_heads=64, n_kv_heads=8, n_layers=95)
    newer = TransformerConfig(n_vocab=1, d_model=16_384, n_heads=128, n_layers=60)
    left = cache_bytes(newer, latent=LatentConfig(d_latent=512, d_rope=64), bytes_each=6 / 8) / cache_bytes(older)
    assert round(1 - left, 3) == 0.933


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_looking_up_reads_no_table(tied, positions):
    model = GPT(TransformerConfig(**SIZES, tied=tied, positions=positions))
    matrices = count_parameters(model.blocks) + count_parameters(model.norm) + count_parameters(model.head)
    assert read_parameters(model.config) == matrices


def test_a_step_by_hand():
    config = TransformerConfig(**SIZES)
    one, P = decoding(config, MACHINE, 4, 10), read_parameters(config)
    assert one.weight_bytes == 2 * P and one.cache_bytes == 4 * 10 * 2 * 2 * 3 * 24
    assert one.flops == 4 * (2 * P + 4 * 3 * 10 * 24)
    assert one.memory_seconds == pytest.approx((2 * P + 11_520) / 1e5)
    assert one.compute_seconds == pytest.approx(one.flops / 2e6)
    assert one.tokens_a_second == pytest.approx(4 / max(one.memory_seconds, one.compute_seconds))
    assert one.intensity == pytest.approx(one.flops / (2 * P + 11_520))


def test_more_texts_are_free_until_the_ridge_and_not_beyond():
    config = TransformerConfig(**SIZES)
    assert ridge(MACHINE) == 2e6 / 1e5
    one, before, after, twice = (decoding(config, MACHINE, batch, 0) for batch in (1, 20, 40, 80))
    assert before.tokens_a_second == pytest.approx(20 * one.tokens_a_second) and before.bound == "memory"
    assert twice.tokens_a_second == pytest.approx(after.tokens_a_second) and after.bound == "compute"
    assert decoding(config, MACHINE, 10**6, 0).tokens_a_second == pytest.approx(20 * one.tokens_a_second)


def test_long_texts_wait_for_their_caches_however_many_they_are():
    config = TransformerConfig(**SIZES, n_heads=4)
    shared = TransformerConfig(**SIZES, n_heads=4, n_kv_heads=1)
    fast = Machine(name="fast", memory=1e12, flops=1e12, utilisation=1.0, bandwidth=1e5, link=1e6)
    many, more = (decoding(config, fast, batch, 10**6) for batch in (100, 200))
    assert more.tokens_a_second == pytest.approx(many.tokens_a_second, rel=0.01)
    assert decoding(shared, fast, 100, 10**6).tokens_a_second == pytest.approx(4 * many.tokens_a_second, rel=0.01)


def test_weights_of_half_the_bytes_are_read_twice_as_fast():
    two, one = (decoding(GPT_2["small"], MACHINE, 1, 0, weight_bytes=size) for size in (2, 1))
    assert one.tokens_a_second == pytest.approx(2 * two.tokens_a_second) and not two.fits
    assert decoding(TransformerConfig(**SIZES), MACHINE, 1, 0).fits


def test_a_step_of_nothing_is_refused():
    with pytest.raises(ValueError, match="batch=0"):
        decoding(TransformerConfig(**SIZES), MACHINE, 0, 5)
