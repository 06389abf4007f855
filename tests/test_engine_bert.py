"""The engine's BERT: in Chromium it computes torch's numbers, for published and small forms, with padding and silenced heads."""

import base64
import json

import pytest
import torch

from llmcourse.bert import PreTrainingBert
from llmcourse.display import Html
from llmcourse.models import load_model, save_model
from llmcourse.recording import ablate_heads, record_attention
from llmcourse.transformer import TransformerConfig
from llmcourse.visualize.page import static

pytestmark = pytest.mark.slow
IDS = [5, 1, 7, 1, 6, 12, 19, 3, 6, 0, 0]  # 0 is padding
SEGMENTS = [0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0]
CONFIGS = {
    "published": {"positions": "learned", "norm_place": "post", "norm_eps": 1e-12, "tied": True},
    "published, large eps": {"positions": "learned", "norm_place": "post", "norm_eps": 0.1, "tied": True},
    "pre-norm": {"positions": "learned", "tied": True},
    "own matrix": {"positions": "sinusoidal", "norm_place": "post", "activation": "gelu_tanh"},
    "rotary": {"positions": "rotary", "norm": "rms", "activation": "swiglu", "n_kv_heads": 1, "d_model": 16},
    "ALiBi": {"positions": "alibi", "activation": "relu", "tied": True, "qk_norm": True},
    "no padding token": {"positions": "learned", "pad": None, "tied": True},
}


@pytest.fixture
def compute(open_page, tmp_path):
    """A function: what the page's engine, of this or of changed source, makes of a model and a text."""

    def compute(model, source=None, segments=SEGMENTS, off=None):
        save_model(model, tmp_path, torch.float16)
        weights = base64.b64encode((tmp_path / "model.safetensors").read_bytes()).decode()
        page = open_page(Html(f"<p>engine</p><script>{source or static('engine.js')}</script>", ""))
        found = page.evaluate(
            """([config, weights, ids, segments, off]) => {
                const plain = (x) => (typeof x === "number" ? x : Array.from(x, plain));
                const { logits, follows, attention, residual, last } = engine.forward(engine.load({ config, weights }), ids, { segments, off });
                return [logits, follows, attention, residual, last].map(plain); }""",
            [json.loads((tmp_path / "config.json").read_text()), weights, IDS, segments, off or {}],
        )
        names = ("logits", "follows", "attention", "residual", "last")
        return load_model(tmp_path), {name: torch.tensor(x).double() for name, x in zip(names, found, strict=True)}

    return compute


def small_bert(**settings):
    torch.manual_seed(0)
    model = PreTrainingBert(
        TransformerConfig(**{"n_vocab": 20, "context": 12, "d_model": 8, "n_heads": 2, "pad": 0} | settings)
    )
    for weight in model.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.3)
    return model.eval()


@torch.no_grad()
def expected(model, segments=SEGMENTS, off=None):
    inputs = torch.tensor([IDS]), None if segments is None else torch.tensor([segments])
    silenced = {f"bert.encoder.blocks.{layer}.attention": heads for layer, heads in (off or {}).items()}
    residual, blocks = [], model.bert.encoder.blocks
    watches = [block.register_forward_pre_hook(lambda _, x: residual.append(x[0][0])) for block in blocks]
    watches.append(blocks[-1].register_forward_hook(lambda _, x, y: residual.append(y[0])))
    with ablate_heads(model, silenced):
        with record_attention(model) as maps:
            logits = model(*inputs)[0]
        for watch in watches:
            watch.remove()
        follows, last = model.follows(*inputs)[0], model.bert(*inputs)[0]
    attention = torch.stack([weights[0] for weights in maps.values()])
    return {
        "logits": logits,
        "follows": follows,
        "attention": attention,
        "residual": torch.stack(residual),
        "last": last,
    }


def assert_equal(found, wanted):
    for name, tensor in wanted.items():
        tolerance = 1e-5 if name == "attention" else 5e-5
        torch.testing.assert_close(
            found[name], tensor.double(), atol=tolerance, rtol=0, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("name", CONFIGS)
def test_every_kind_of_bert_is_computed(compute, name):
    model, found = compute(small_bert(**CONFIGS[name]))
    assert_equal(found, expected(model))
    hidden = found["attention"][..., -2:].abs().max().item()
    assert hidden > 0.01 if CONFIGS[name].get("pad", 0) is None else hidden == 0


def test_without_segments_every_token_is_of_the_first_sentence(compute):
    model, found = compute(small_bert(**CONFIGS["published"]), segments=None)
    assert_equal(found, expected(model, None))
    assert (expected(model)["logits"] - expected(model, None)["logits"]).abs().max() > 0.1


@pytest.mark.parametrize("off", [{0: [1]}, {0: [0, 1], 1: [0]}], ids=str)
def test_silenced_heads_of_bert_are_silent_in_the_way_of_ablate_heads(compute, off):
    names = {f"{layer}.{head}": "mean" for layer, heads in off.items() for head in heads}
    model, found = compute(small_bert(**CONFIGS["published"]), off=names)
    assert_equal(found, expected(model, off=off))
    assert (expected(model)["logits"] - expected(model, off=off)["logits"]).abs().max() > 0.05


MUTANTS = {
    "padding seen": ("both ? tokens[s] === pad :", "both ? false :"),
    "reads one way": ("both ? tokens[s] === pad :", "both ? distance < 0 :"),
    "no segments": ('pick("bert.segments", segments?.[t] ?? 0)', 'pick("bert.segments", 0)'),
    "another eps": ("small = config.norm_eps", "small = 1e-5"),
    "no norm of the embedding": ('norm(model, "bert.embedding_norm", add(x', "((x) => x)(add(x"),
    "pre-norm": ('layer(norm_place === "pre" ? stream.map(normal) : stream)', "layer(stream.map(normal))"),
    "no bend in the head": ('"masked_lm.dense", x).map(bend)', '"masked_lm.dense", x)'),
    "no norm in the head": ('norm(model, "masked_lm.norm", linear(', "((x) => x)(linear("),
    "no bias of the words": ("bias = tensors[`${name}.bias`], C", "bias = name !== names.head && tensors[`${name}.bias`], C"),
    "pooled without tanh": ("last[0]).map(Math.tanh)", "last[0])"),
    "pooled from the end": ("last[0])", "last.at(-1))"),
}  # fmt: skip


@pytest.mark.parametrize("fault", MUTANTS)
def test_a_faulty_bert_does_not_pass(compute, fault):
    line, mutant = MUTANTS[fault]
    assert static("engine.js").count(line) == 1
    model, found = compute(small_bert(**CONFIGS["published, large eps"]), static("engine.js").replace(line, mutant))
    with pytest.raises(AssertionError, match="are not close"):
        assert_equal(found, expected(model))


def test_a_text_that_is_read_both_ways_cannot_go_on(compute, open_page, tmp_path):
    save_model(small_bert(), tmp_path, torch.float16)
    weights = base64.b64encode((tmp_path / "model.safetensors").read_bytes()).decode()
    page = open_page(Html(f"<p>engine</p><script>{static('engine.js')}</script>", ""))
    said = page.evaluate(
        """([config, weights]) => { const model = engine.load({ config, weights }), cache = engine.newCache(model);
            try { engine.forward(model, [1, 2], { cache }); engine.forward(model, [3], { cache }); } catch (error) { return `${error}`; } }""",
        [json.loads((tmp_path / "config.json").read_text()), weights],
    )
    assert said == "RangeError: BERT reads both ways: a text cannot go on"
