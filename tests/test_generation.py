"""Tokens are drawn from exactly the distribution that the settings describe, and the context slides as it is said."""

import copy
import itertools
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from llmcourse.attention import LEAST_ROOM, KVCache
from llmcourse.data import Batch, pad_left
from llmcourse.generation import (
    CompiledSteps,
    OneRowLinear,
    SamplingConfig,
    columns_first,
    generate,
    next_token_probabilities,
    parts_at_hand,
    penalise_repetition,
    stream,
)
from llmcourse.models import GPT
from llmcourse.training import TrainConfig, next_token_loss, train
from llmcourse.transformer import TransformerConfig

LOGITS = torch.tensor([0.15, 0.5, 0.1, 0.25]).log()


class Table(nn.Module):
    """A model whose next token depends on the last one alone, by a table of probabilities."""

    def __init__(self, rows):
        super().__init__()
        self.logits = torch.tensor(rows).log()
        self.config = TransformerConfig(n_vocab=len(rows), context=50)

    def new_cache(self):
        return [KVCache()]

    def forward(self, tokens, cache=None):
        return self.logits[tokens]


def small_gpt(context=8):
    torch.manual_seed(0)
    return GPT(TransformerConfig(n_vocab=11, context=context, d_model=16, n_heads=2))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({}, [0.15, 0.5, 0.1, 0.25]),
        ({"temperature": 0.0}, [0, 1, 0, 0]),
        ({"temperature": 0.5}, [0.0225 / 0.345, 0.25 / 0.345, 0.01 / 0.345, 0.0625 / 0.345]),  # squares
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 2}, [0, 2 / 3, 0, 1 / 3]),
        ({"top_k": 99}, [0.15, 0.5, 0.1, 0.25]),
        ({"top_p": 0.01}, [0, 1, 0, 0]),  # the likeliest always stays
        ({"top_p": 0.6}, [0, 2 / 3, 0, 1 / 3]),  # 0.5 is not enough, the next one crosses the line
        ({"top_p": 0.8}, [1 / 6, 5 / 9, 0, 5 / 18]),
        ({"top_p": 1.0}, [0.15, 0.5, 0.1, 0.25]),
        ({"min_p": 0.4}, [0, 2 / 3, 0, 1 / 3]),  # at least 0.2
        ({"min_p": 0.3}, [1 / 6, 5 / 9, 0, 5 / 18]),  # 0.15 is just enough
        ({"min_p": 1.0}, [0, 1, 0, 0]),
        ({"top_k": 2, "top_p": 0.6}, [0, 1, 0, 0]),  # of the two left, the first holds 2/3
        ({"temperature": 0.5, "top_p": 0.8}, [0, 0.8, 0, 0.2]),  # 0.72, 0.18, ...
    ],
)
def test_the_distribution_of_four_tokens_worked_out_by_hand(setting, expected):
    found = next_token_probabilities(LOGITS, SamplingConfig(**setting))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


def filtered_by_loops(logits, temperature, top_k, top_p):
    """The definition over one row, with Python's own numbers."""
    weights = [math.exp(x / temperature) for x in logits]
    ranked = sorted(range(len(weights)), key=lambda i: -weights[i])[:top_k]
    total = sum(weights[i] for i in ranked)
    kept, held = [], 0.0
    for i in ranked:
        if top_p is not None and held >= top_p:
            break
        kept.append(i)
        held += weights[i] / total
    total = sum(weights[i] for i in kept)
    return [weights[i] / total if i in kept else 0.0 for i in range(len(weights))]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 3, 8])
@pytest.mark.parametrize("top_p", [None, 0.2, 0.7, 0.99])
def test_the_distribution_is_its_definition(temperature, top_k, top_p):
    logits = 2 * torch.randn(3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    config = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    found = next_token_probabilities(logits, config)
    for b, t in itertools.product(range(3), range(5)):
        expected = filtered_by_loops(logits[b, t].tolist(), temperature, top_k, top_p)
        assert found[b, t].tolist() == pytest.approx(expected, abs=1e-12)


def test_of_equals_top_k_keeps_exactly_k():
    found = next_token_probabilities(torch.zeros(6), SamplingConfig(top_k=2))
    assert found.tolist() == [0.5, 0.5, 0, 0, 0, 0]


@pytest.mark.parametrize("setting", [{}, {"top_p": 0.3}, {"min_p": 0.5}, {"top_k": 2}, {"temperature": 0.1}])
def test_of_one_possible_token_there_is_no_choice(setting):
    logits = torch.tensor([-math.inf, -math.inf, 3.0, -math.inf])
    assert next_token_probabilities(logits, SamplingConfig(**setting)).tolist() == [0, 0, 1, 0]


def test_a_top_p_of_1_keeps_all():
    logits = 5 * torch.randn(64, 4000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        next_token_probabilities(logits, SamplingConfig(top_p=1.0)), next_token_probabilities(logits, SamplingConfig())
    )


@pytest.mark.parametrize("setting", [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.8}, {"min_p": 0.4}])
def test_draws_follow_the_distribution_within_five_standard_deviations(setting):
    n, config = 20_000, SamplingConfig(seed=0, **setting)
    model = Table([[0.15, 0.5, 0.1, 0.25]] * 4)
    drawn = generate(model, torch.zeros(n, 1, dtype=torch.long), 1, config)[:, 1]
    expected = next_token_probabilities(LOGITS, config)
    counts = drawn.bincount(minlength=4)
    for p, count in zip(expected.tolist(), counts.tolist(), strict=True):
        assert abs(count - n * p) <= 5 * math.sqrt(n * p * (1 - p))


def test_each_token_is_drawn_from_what_follows_the_one_before():
    model = Table([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]])
    tokens = generate(model, torch.tensor([[0]] * 50), 30, SamplingConfig(seed=1))
    for before, after in zip(tokens[:, :-1].flatten().tolist(), tokens[:, 1:].flatten().tolist(), strict=True):
        assert model.logits[before, after] > -math.inf
    assert len({tuple(row) for row in tokens.tolist()}) > 40  # rows draw for themselves


@pytest.mark.parametrize("prompt_length", [1, 3, 8])
def test_greedy_text_equals_a_loop_without_a_cache_also_when_the_context_slides(prompt_length):
    model = small_gpt(context=8).eval()
    tokens = torch.randint(11, (2, prompt_length), generator=torch.Generator().manual_seed(2))
    expected, start = tokens, 0
    for _ in range(25):
        if expected.shape[1] - start > 8:
            start = expected.shape[1] - 4
        best = model(expected[:, start:])[:, -1].argmax(dim=-1, keepdim=True)
        expected = torch.cat([expected, best], dim=1)
    assert torch.equal(generate(model, tokens, 25, SamplingConfig(temperature=0.0)), expected)


def test_a_row_of_a_batch_is_continued_as_if_it_were_alone():
    model, prompts = small_gpt(), torch.randint(11, (4, 3), generator=torch.Generator().manual_seed(3))
    together = generate(model, prompts, 12, SamplingConfig(temperature=0.0))
    alone = [generate(model, row[None], 12, SamplingConfig(temperature=0.0)) for row in prompts]
    assert torch.equal(together, torch.cat(alone))


def test_a_context_of_one_token_is_enough():
    assert generate(small_gpt(context=1), torch.tensor([[3]]), 5).shape == (1, 6)


def test_the_prompt_stays_and_no_new_tokens_are_no_change():
    prompt = torch.tensor([[3, 1, 4]])
    assert torch.equal(generate(small_gpt(), prompt, 6)[:, :3], prompt)
    assert torch.equal(generate(small_gpt(), prompt, 0), prompt)


def test_a_seed_repeats_itself_and_leaves_torchs_numbers_alone():
    model, prompt = small_gpt(), torch.tensor([[1, 2]])
    state = torch.get_rng_state()
    one, same, other = (generate(model, prompt, 40, SamplingConfig(seed=seed)) for seed in (7, 7, 8))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_seed_torchs_own_numbers_decide():
    model, prompt = small_gpt(), torch.tensor([[1, 2]])
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(generate(model, prompt, 40))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(generate(model, prompt, 40), drawn[2])


def test_dropout_is_off_and_no_gradient_is_kept():
    torch.manual_seed(0)
    model = GPT(TransformerConfig(n_vocab=11, context=8, d_model=16, n_heads=2, dropout=0.5)).train()
    one, same = (generate(model, torch.tensor([[1]]), 20, SamplingConfig(temperature=0.0)) for _ in range(2))
    assert torch.equal(one, same)


def test_the_penalty_divides_what_is_positive_and_multiplies_what_is_negative():
    logits, said = torch.tensor([[2.0, -2.0, 1.0, -1.0]]), torch.tensor([[0, 1, 0]])  # said twice counts once
    assert penalise_repetition(logits, said, 2.0).tolist() == [[1.0, -4.0, 1.0, -1.0]]


def test_a_strong_penalty_says_every_token_before_one_comes_again():
    model, greedy = Table([[0.4, 0.3, 0.2, 0.1]] * 4), SamplingConfig(temperature=0.0, repetition_penalty=50.0)
    assert generate(model, torch.tensor([[0]]), 3, greedy).tolist() == [[0, 1, 2, 3]]


def test_a_row_that_stopped_says_its_last_word_until_all_have():
    # 0 leads to 1, 1 to 2, 2 to 3, 3 to 0; both 2 and 3 end a text
    model = Table([[0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1.0], [1.0, 0, 0, 0]])
    prompts, config = torch.tensor([[0], [1]]), SamplingConfig(stop=(2, 3))
    assert generate(model, prompts, 9, config).tolist() == [[0, 1, 2], [1, 2, 2]]
    assert generate(model, prompts, 4).tolist() == [[0, 1, 2, 3, 0], [1, 2, 3, 0, 1]]


def test_a_stream_gives_the_same_tokens_one_by_one():
    model, prompt, config = small_gpt(), torch.tensor([[1, 2], [3, 4]]), SamplingConfig(seed=5)
    whole, steps = generate(model, prompt, 12, config), stream(model, prompt, 12, config)
    assert torch.equal(next(steps), whole[:, 2])
    assert torch.equal(torch.stack(list(steps), dim=1), whole[:, 3:])


@pytest.mark.parametrize("positions", ["rotary", "learned", "alibi"])
def test_unequal_prompts_are_continued_as_if_each_were_alone_also_when_the_context_slides(positions):
    torch.manual_seed(0)
    model = GPT(TransformerConfig(n_vocab=11, context=8, d_model=16, n_heads=2, positions=positions))
    rows, config = [[1, 2, 3, 4, 5], [6], [7, 8, 9]], SamplingConfig(temperature=0.0, repetition_penalty=1.3)
    tokens, padding = pad_left(rows, filler=10)
    assert padding.tolist() == [0, 4, 2]
    together = generate(model, tokens, 3, config, padding=padding)[:, 5:]
    alone = [generate(model, torch.tensor([row]), 3, config)[:, len(row) :] for row in rows]
    assert torch.equal(together, torch.cat(alone))
    assert generate(model, tokens, 20, config, padding=padding).shape == (3, 25)


def test_a_row_of_padding_alone_is_refused():
    with pytest.raises(ValueError, match=r"padding=\[0, 2\]"):
        generate(small_gpt(), torch.ones(2, 2, dtype=torch.long), 3, padding=torch.tensor([0, 2]))


def test_an_impossible_prompt_is_refused():
    with pytest.raises(ValueError, match="prompt is empty"):
        generate(small_gpt(), torch.zeros(1, 0, dtype=torch.long), 3)
    with pytest.raises(ValueError, match=r"prompt has 9 tokens .* context holds 8"):
        generate(small_gpt(), torch.zeros(1, 9, dtype=torch.long), 3)
    with pytest.raises(ValueError, match="0 to 10"):
        generate(small_gpt(), torch.tensor([[11]]), 3)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"temperature": -0.1}, r"temperature=-0\.1"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_p": 0.0}, r"top_p=0\.0"),
        ({"top_p": 1.5}, r"top_p=1\.5"),
        ({"min_p": 0.0}, r"min_p=0\.0"),
        ({"repetition_penalty": 0.5}, r"repetition_penalty=0\.5"),
    ],
)
def test_impossible_settings_are_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        SamplingConfig(**setting)


def test_a_greedy_choice_takes_nothing_from_torchs_own_numbers():
    state = torch.get_rng_state()
    generate(small_gpt(), torch.tensor([[1, 2]]), 10, SamplingConfig(temperature=0.0))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture
def steps(monkeypatch):
    """The tokens of each step that went through the program, where `torch.compile` gives back what it is given."""
    taken = []

    def compiled(read, **options):
        def program(x, cache):
            taken.append(tuple(x.shape[:2]))
            return read(x, cache)

        return program

    monkeypatch.setattr(torch, "compile", compiled)
    return taken


@pytest.fixture
def lookups(monkeypatch):
    """The names that torch looked up in its own dictionaries, after Python had found no attribute."""
    names, look = [], nn.Module.__getattr__
    monkeypatch.setattr(nn.Module, "__getattr__", lambda self, name: names.append(name) or look(self, name))
    return names


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_while_a_text_is_written_layers_and_weights_are_at_hand(lookups, positions):
    torch.manual_seed(0)
    model = GPT(TransformerConfig(n_vocab=11, context=8, d_model=16, n_heads=2, positions=positions, n_kv_heads=1))
    writing = stream(model, torch.tensor([[1, 2]]), 5)
    next(writing)
    lookups.clear()
    next(writing)
    assert set(lookups) <= {"cos", "sin", "table"}  # tensors that a module may exchange unseen
    writing.close()
    model.blocks[0].attention.query.weight  # noqa: B018
    assert lookups[-4:] == ["blocks", "attention", "query", "weight"]


def test_a_text_that_is_left_in_the_midst_leaves_a_model_as_it_was():
    model = small_gpt()
    before = [set(vars(module)) for module in model.modules()]
    first, second = (stream(model, torch.tensor([[1, 2]]), 5) for _ in range(2))
    next(first)
    next(second)
    first.close()
    next(second)  # the other text goes on
    with pytest.raises(ZeroDivisionError), parts_at_hand(model):
        raise ZeroDivisionError
    del second
    assert [set(vars(module)) for module in model.modules()] == before


def test_what_is_exchanged_while_a_text_is_written_counts_at_once():
    model, prompt, greedy = small_gpt(context=20), torch.tensor([[1, 2]]), SamplingConfig(temperature=0.0)
    says_three, says_four = torch.zeros(11, 16), torch.zeros(11, 16)
    model.norm = nn.LayerNorm(16, elementwise_affine=True)
    with torch.no_grad():
        model.norm.weight.zero_()
        model.norm.bias.fill_(1)
    says_three[3], says_four[4] = 1, 1
    writing = stream(model, prompt, 4, greedy)
    next(writing)
    model.head.weight = nn.Parameter(says_three)  # another weight
    assert next(writing).item() == 3
    model.head = nn.Linear(16, 11, bias=False)  # another layer
    model.head.weight = nn.Parameter(says_four)
    assert next(writing).item() == 4
    model.head.register_forward_hook(lambda *_: 5 * torch.eye(11)[None, 5:6])
    assert next(writing).item() == 5
    writing.close()
    assert isinstance(model.head, nn.Linear) and torch.equal(model.head.weight, says_four)
    assert "head" not in vars(model) and "weight" not in vars(model.head)


@pytest.mark.parametrize("config", [SamplingConfig(seed=0), SamplingConfig(temperature=0.0, stop=(3,)),
                                    SamplingConfig(repetition_penalty=1.5, top_k=3)])  # fmt: skip
def test_what_was_written_can_be_learned_from(config):
    """Tensors that are made in inference mode could not."""
    model = small_gpt(context=20)
    tokens = generate(model, torch.tensor([[1, 2], [2, 1]]), 8, config)
    assert not tokens.is_inference()
    next_token_loss(model.train(), Batch(tokens[:, :-1], tokens[:, 1:])).backward()
    assert model.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("tied", [False, True])
def test_columns_first_changes_where_weights_lie_and_nothing_else(tied):
    torch.manual_seed(0)
    plain = GPT(TransformerConfig(n_vocab=11, context=8, d_model=16, n_heads=2, tied=tied, positions="learned"))
    laid = copy.deepcopy(plain)
    assert columns_first(laid) is laid
    layers = [layer for layer in laid.modules() if isinstance(layer, nn.Linear)]
    assert layers and all(layer.weight.t().is_contiguous() for layer in layers)
    assert (laid.head.weight is laid.embedding.tokens.weight) == tied
    assert all(torch.equal(new, old) for new, old in zip(laid.parameters(), plain.parameters(), strict=True))
    tokens = torch.randint(11, (4, 9))
    batches, config = itertools.repeat(Batch(tokens[:, :-1], tokens[:, 1:])), TrainConfig(steps=5)
    plain_losses, laid_losses = (
        [step.loss for step in train(m, batches, next_token_loss, config)] for m in (plain, laid)
    )
    assert laid_losses == pytest.approx(plain_losses, rel=1e-4)
    assert laid.blocks[0].attention.query.weight.t().is_contiguous()
    greedy = SamplingConfig(temperature=0.0)
    assert torch.equal(generate(laid, tokens[:, :2], 6, greedy), generate(plain, tokens[:, :2], 6, greedy))


def test_weights_of_16_bits_stay_row_by_row():
    layers = [layer for layer in columns_first(small_gpt().bfloat16()).modules() if isinstance(layer, nn.Linear)]
    assert layers and all(layer.weight.is_contiguous() for layer in layers)


def test_a_program_of_a_step_reads_row_by_row(steps):
    fast = CompiledSteps(columns_first(small_gpt()))
    assert all(layer.weight.is_contiguous() for layer in fast.modules() if isinstance(layer, OneRowLinear))


def test_every_linear_layer_is_replaced_and_keeps_its_weights(steps):
    model = small_gpt()
    before, names = dict(model.named_parameters()), list(model.state_dict())
    linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    fast = CompiledSteps(model)
    assert fast.model is model and fast.config is model.config
    assert list(model.state_dict()) == names
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
    assert [name for name, part in model.named_modules() if isinstance(part, OneRowLinear)] == linear


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 1, 4), (3, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_for_one_row_computes_what_the_layer_does(monkeypatch, shape, bias):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 3, bias=bias), torch.randn(shape)
    torch.testing.assert_close(OneRowLinear(layer)(x), layer(x))
    spread = torch.randn(*shape, 2)[..., 0]  # whose numbers do not lie side by side
    torch.testing.assert_close(OneRowLinear(layer)(spread), layer(spread))


def test_a_program_takes_single_tokens_behind_others_and_nothing_else(steps):
    fast, model, one = CompiledSteps(small_gpt(context=200)), small_gpt(context=200).eval(), torch.tensor([[1]])
    fast.eval()
    with torch.no_grad():
        cache = fast.new_cache()
        fast(one), fast(one, cache), fast(torch.tensor([[1, 2]]), cache)
        pair = fast.new_cache()
        fast(torch.tensor([[1], [2]]), pair), fast(torch.tensor([[1], [2]]), pair)
        fast(one, cache, torch.tensor([0]))
        fast.train()(one, cache)
        fast.eval()
    fast(one, cache)  # a gradient may be asked for
    assert not steps
    cache, plain = fast.new_cache(), model.new_cache()
    with torch.no_grad():
        fast(one, cache), model(one, plain)
        while len(cache[0]) < LEAST_ROOM + 2:
            torch.testing.assert_close(fast(one, cache), model(one, plain))
    # The last place of the store, and the step that makes a longer one, are the model's own.
    assert steps == [(1, 1)] * (LEAST_ROOM - 1)


def test_gradients_pass_through_layers_for_one_row(steps):
    grads = []
    for model in (small_gpt(), CompiledSteps(small_gpt())):
        model(torch.tensor([[1]])).sum().backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(grads[1], grads[0])


def test_a_text_written_in_compiled_steps_is_the_same(steps):
    prompt, greedy = torch.tensor([[1, 2, 3]]), SamplingConfig(temperature=0.0)
    assert torch.equal(
        generate(CompiledSteps(small_gpt()), prompt, 20, greedy), generate(small_gpt(), prompt, 20, greedy)
    )
    assert steps


COMPILED = """
import torch
from torch._dynamo.utils import counters
from llmcourse.generation import CompiledSteps, SamplingConfig, generate
from llmcourse.latent import LatentConfig, LatentGPT
from llmcourse.models import GPT
from llmcourse.transformer import TransformerConfig

sizes = {"n_vocab": 50, "context": 70, "d_model": 24, "n_heads": 2}
prompt, greedy = torch.tensor([[1, 2, 3]]), SamplingConfig(temperature=0.0)
for kind in (
    {},
    {"positions": "learned", "tied": True, "activation": "gelu_tanh"},
    {"positions": "alibi", "norm": "rms", "activation": "swiglu"},
    {"positions": "sinusoidal", "n_kv_heads": 1, "qk_norm": True, "norm_place": "post"},
    "latent",
):
    torch.manual_seed(0)
    config = TransformerConfig(**sizes, **({} if kind == "latent" else kind))
    model = LatentGPT(config, LatentConfig(d_latent=6, d_rope=4)) if kind == "latent" else GPT(config)
    plain = generate(model, prompt, 80, greedy)  # the context slides once
    assert len(plain.unique()) > 5
    fast, before = CompiledSteps(model), counters["stats"]["unique_graphs"]
    assert torch.equal(generate(fast, prompt, 80, greedy), plain), kind
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    changed = generate(model, prompt, 60, greedy)
    assert not torch.equal(changed, plain[:, :63])
    assert torch.equal(generate(fast, prompt, 60, greedy), changed), kind
    assert counters["stats"]["unique_graphs"] - before == 1, kind  # one program, whatever the length

half, steps = GPT(TransformerConfig(**sizes)).bfloat16().eval(), torch.tensor([[4, 5, 6, 7]])
with torch.no_grad():
    fast, cache = CompiledSteps(half).eval(), half.new_cache()
    found = torch.cat([fast(steps[:, t : t + 1], cache) for t in range(4)], dim=1)
    torch.testing.assert_close(found, half(steps), atol=5e-2, rtol=5e-2)
print("equal")
"""


@pytest.mark.slow
def test_compiled_steps_write_the_same_text_for_every_kind_of_model():
    """In a Python of its own: the checks of shapes that the tests put on the package cannot be compiled."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=300)
    assert done.stdout == "equal\n", done.stderr


def test_the_penalty_remembers_what_the_context_slid_over():
    model, prompt = small_gpt(), torch.tensor([[1, 2, 3]])
    config = SamplingConfig(temperature=0.0, repetition_penalty=2.0)
    plain = generate(model, prompt, 3 * model.config.context, config)
    assert torch.equal(generate(model, prompt, 3 * model.config.context, config, padding=torch.tensor([0])), plain)
