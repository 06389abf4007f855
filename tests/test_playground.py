"""The playground: what the page shows is what torch computes from the stored weights, after every change a reader makes.

The page is opened from a disk here; test_book.py opens it in the built book, from a disk and below a sub-path.
"""

import base64
import json
import random
import re
import time
from contextlib import contextmanager
from dataclasses import fields
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from playwright.sync_api import Page, expect

from llmcourse.attention import scaled_dot_product_attention
from llmcourse.generation import SamplingConfig, generate, next_token_probabilities
from llmcourse.models import GPT, load_model, save_model
from llmcourse.recording import ablate_heads, record_attention, record_heads
from llmcourse.tokenizers import BPETokenizer
from llmcourse.transformer import TransformerConfig
from llmcourse.visualize import playground
from llmcourse.visualize.page import static
from tests.axe import judged
from tests.browsing import blames

TEXTS = [
    playground.EXAMPLE,
    "The cat near the trees sleeps",
    "灯匠汉娜每天傍晚 put a lamp 在窗前。\n\n",
    "a 🦊🏳️‍🌈 é e\u0301 <script>alert(1)</script> </textarea>",
    "x",
]
SCRIPT = "<script>alert(1)</script>"
ENGINE = static("engine.js") + static("writing.js")
HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
MODEL, TOKENIZER = playground.load()
PRECISE = playground.load()[0].double()  # the same weights; float32 alone moves a probability by more than 1e-6


def ids_of(text: str) -> list[int]:
    return TOKENIZER.encode(text)


def test_stored_weights_are_16_bits_and_small_and_loaded_as_float32():
    assert sum(path.stat().st_size for path in playground.FOLDER.glob("model.safetensors")) < 1_500_000
    for name, weight in MODEL.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, weight.half().float()), name


def test_a_model_rounded_to_16_bits_computes_the_same_after_loading(tmp_path):
    torch.manual_seed(0)
    model = GPT(TransformerConfig(n_vocab=11, d_model=8, n_heads=2)).eval()
    save_model(model, tmp_path, torch.float16)
    loaded, tokens = load_model(tmp_path), torch.arange(8)[None]
    model.load_state_dict({name: weight.half().float() for name, weight in model.state_dict().items()})
    assert torch.equal(loaded(tokens), model(tokens))
    model.head.weight.data[0, 0] = 70_000
    with pytest.raises(ValueError, match=r"head\.weight holds numbers that torch\.float16 cannot"):
        save_model(model, tmp_path, torch.float16)
    save_model(model, tmp_path)
    assert load_model(tmp_path).head.weight[0, 0] == 70_000


def test_held_out_texts_stand_in_no_training_text():
    known, unseen = playground.corpus()
    assert len(unseen) > 3_000
    assert not [line for line in unseen.splitlines() if len(line) > 30 and line in known]


def test_the_stated_losses_are_those_of_the_stored_model():
    known, unseen = (torch.tensor(ids_of(text)) for text in playground.corpus())
    assert playground.measure(MODEL, known, unseen) == pytest.approx(playground.results(), abs=0.011)
    assert playground.results()["held_out"] < playground.results()["bigram"] - 0.3


@pytest.mark.slow
def test_training_anew_learns_and_stores_what_it_measured(tmp_path):
    results = playground.make(tmp_path, steps=2)
    assert load_model(tmp_path).config == MODEL.config
    assert (tmp_path / "tokenizer.json").read_bytes() == (playground.FOLDER / "tokenizer.json").read_bytes()
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert results["held_out"] > playground.results()["held_out"] + 1


def test_the_numbers_for_drawing_are_those_of_mulberry32():
    """The published generator's first numbers for seeds 0 and 1."""
    first = {seed: next(playground.mulberry32(seed)) for seed in (0, 1)}
    assert first == {0: 0.26642920868471265, 1: 0.6270739405881613}
    assert next(playground.mulberry32(2**32 + 1)) == first[1]


@pytest.mark.slow
def test_greedy_writing_is_what_generate_writes():
    prompt = torch.tensor([ids_of(playground.EXAMPLE)])
    expected = generate(MODEL, prompt, 150, SamplingConfig(temperature=0.0))[0, prompt.shape[1] :].tolist()
    written = playground.write(playground.EXAMPLE, 150, 5, SamplingConfig(temperature=0.0))
    assert written == TOKENIZER.decode(expected)
    with pytest.raises(ValueError, match="prompt is empty"):
        playground.write("", 3, 0)


def test_drawing_walks_along_the_vocabulary():
    probabilities = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0]).double()
    drawn = [playground._draw(probabilities, point) for point in (0.0, 0.2499, 0.25, 0.7499, 0.75, 0.9999, 1.0)]
    assert drawn == [1, 1, 3, 3, 4, 4, 4]


def test_the_example_that_needs_no_script_shows_the_model_s_numbers():
    html = playground.page("somewhere").html
    with torch.no_grad():
        probabilities = MODEL(torch.tensor([ids_of(playground.EXAMPLE)]))[0, -1].softmax(-1)
    for p in probabilities.topk(8).values.tolist():
        assert f"<td>{p:.2f}" in html
    for i in ids_of(playground.EXAMPLE):
        assert f"<td>{i}" in html


@torch.no_grad()
def test_what_the_page_s_prose_says_holds():
    """Three things to try: the word it finishes, the heads that do it, the head that looks at the token before."""
    ids = ids_of("The river said noth")
    logits = MODEL(torch.tensor([ids]))[0, -1]
    likeliest = logits.softmax(-1).max(dim=-1)
    assert TOKENIZER.piece(likeliest.indices) == "ing"
    assert likeliest.values > 0.5
    heads = [(layer, head) for layer in range(3) for head in range(4)]
    moved = {}
    for layer, head in heads:
        with ablate_heads(MODEL, {f"blocks.{layer}.attention": [head]}):
            changed = MODEL(torch.tensor([ids]))[0, -1]
        moved[layer, head] = (changed.softmax(-1) - logits.softmax(-1)).abs().sum().item() / 2
    assert set(sorted(heads, key=moved.get)[-2:]) == {(2, 0), (2, 1)}
    known, unseen = playground.corpus()
    for tokens in (ids, ids_of(unseen)[:128]):
        before = expected(tokens)["attention"].diagonal(-1, dim1=-2, dim2=-1).mean(-1)
        assert divmod(int(before.argmax()), 4) == (2, 0)
    assert round(len(known), -3) == 44_000
    greedy = {playground.write("The river", 20, seed, SamplingConfig(temperature=0.0)) for seed in (1, 2)}
    assert len(greedy) == 1


def test_the_engine_is_short_enough_to_read_and_asks_for_nothing():
    assert len(ENGINE.encode()) + len(static("views.js").encode()) < 30 * 1024
    for script in playground.scripts().values():
        assert not any(word in script for word in ("fetch(", "import(", "innerHTML", "XMLHttpRequest", "eval("))
    assert len(playground.page("somewhere").html) < 25_000  # before the click


# In a browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A page with the playground, and its scripts where the book keeps them."""
    folder = tmp_path_factory.mktemp("site")
    scripts = folder / "_static/playground"
    scripts.mkdir(parents=True)
    for name, script in playground.scripts().items():
        (scripts / name).write_text(script, encoding="utf-8")
    (folder / "book").mkdir()
    body = playground.page("../_static/playground").html
    (folder / "book/page.html").write_text(f"{HEAD}<title>p</title><main>{body}</main>", encoding="utf-8")
    return folder


@contextmanager
def opened(browser, site, load=True, **options):
    """The page, its model loaded; in the end it must have asked for its own files alone and logged nothing amiss."""
    faults, page = [], browser.new_page(**options)
    page.set_default_timeout(15_000)
    page.on("console", lambda message: faults.append(message.text) if blames(message) else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda asked: None if asked.url.startswith(site.as_uri()) else faults.append(asked.url))
    page.goto((site / "book/page.html").as_uri())
    if load:
        page.get_by_role("button", name="Load the model").click()
        expect(page.locator("[data-name=token]")).not_to_have_count(0)
        page.evaluate("globalThis.loaded = llmcourse.engine.load(llmcourse.model)")
    yield page
    page.close()
    assert faults == []


@pytest.fixture(scope="module")
def shared(browser, site):
    """One page for the tests that only ask its engine."""
    with opened(browser, site) as page:
        yield page


@pytest.fixture
def page(browser, site):
    with opened(browser, site) as page:
        yield page


FORWARD = """([ids, off, source]) => {
    const engine = source ? new Function(`${source}; return engine;`)() : llmcourse.engine;
    const model = source ? engine.load(llmcourse.model) : loaded;
    const { logits, attention, residual } = engine.forward(model, ids, { off });
    const plain = (x) => (typeof x === "number" ? x : Array.from(x, plain));
    return plain([logits, ...attention, ...residual].map((part) => part));
}"""


def computed(page: Page, ids: list[int], off=None, source="", n_layers=3) -> dict[str, torch.Tensor]:
    """What the page's engine, or an engine of this source, computes."""
    logits, *rest = (torch.tensor(x).double() for x in page.evaluate(FORWARD, [ids, off or {}, source]))
    return {"logits": logits, "attention": torch.stack(rest[:n_layers]), "residual": torch.stack(rest[n_layers:])}


@torch.no_grad()
def expected(ids: list[int], silenced=None, model=MODEL) -> dict[str, torch.Tensor]:
    """What torch computes from the same weights, with these heads silenced by their mean."""
    residual = []
    watches = [block.register_forward_pre_hook(lambda _, x: residual.append(x[0][0])) for block in model.blocks]
    watches.append(model.blocks[-1].register_forward_hook(lambda _, x, y: residual.append(y[0])))
    layers = {f"blocks.{layer}.attention": heads for layer, heads in (silenced or {}).items()}
    with record_attention(model) as maps, ablate_heads(model, layers):
        logits = model(torch.tensor([ids]))[0]
    for watch in watches:
        watch.remove()
    attention = torch.stack([weights[0] for weights in maps.values()])
    return {"logits": logits, "attention": attention, "residual": torch.stack(residual)}


def assert_equal(found, wanted):
    for name, tolerance in {"attention": 1e-5, "residual": 5e-5, "logits": 5e-5}.items():
        torch.testing.assert_close(
            found[name], wanted[name].double(), atol=tolerance, rtol=0, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("text", [*TEXTS, playground.corpus()[1][:220]], ids=range(6))
def test_the_engine_computes_torch_s_numbers(shared, text):
    assert_equal(computed(shared, ids_of(text)), expected(ids_of(text)))


@pytest.mark.slow
@pytest.mark.parametrize("silenced", [{0: [1]}, {2: [3]}, {0: [0, 2], 1: [3]}], ids=str)
def test_silenced_heads_are_silent_in_the_way_of_ablate_heads(shared, silenced):
    ids = ids_of(TEXTS[1])
    off = {f"{layer}.{head}": "mean" for layer, heads in silenced.items() for head in heads}
    assert_equal(computed(shared, ids, off), expected(ids, silenced))
    assert (expected(ids)["logits"] - expected(ids, silenced)["logits"]).abs().max() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("vector", [torch.zeros(24), torch.linspace(-1, 1, 24)], ids=["zero", "given"])
def test_a_silenced_head_can_say_what_it_is_given(shared, vector):
    def instead(module, inputs, output):
        output[:, 2] = vector
        return output

    ids, handle = ids_of(TEXTS[0]), MODEL.blocks[1].attention.attend.register_forward_hook(instead)
    wanted = expected(ids)
    handle.remove()
    assert_equal(computed(shared, ids, {"1.2": vector.tolist()}), wanted)


CONFIGS = {
    "learned positions": {"positions": "learned", "bias": False},
    "no positions, tied": {"positions": "none", "tied": True, "d_feed_forward": 12},
    "rotary, one head": {"positions": "rotary", "rotary_base": 30.0, "n_heads": 1},
    "sinusoidal, post-norm": {"positions": "sinusoidal", "norm_place": "post", "scaled_embedding": True},
    "the original's": {"positions": "sinusoidal", "norm_place": "post", "activation": "relu", "tied": True},
    "ALiBi": {"positions": "alibi", "n_heads": 4},
    "rms": {"norm": "rms", "norm_eps": 1e-2},
    "post rms": {"norm": "rms", "norm_place": "post", "activation": "relu2"},
    "shared keys": {"n_heads": 4, "n_kv_heads": 2, "d_model": 16},
    "one key head": {"n_heads": 4, "n_kv_heads": 1, "d_model": 16, "positions": "alibi"},
    "swiglu": {"activation": "swiglu", "d_feed_forward": 20},
    "GPT-2's": {"activation": "gelu_tanh", "positions": "learned", "tied": True},
    "keys and queries of one size": {"qk_norm": True, "n_kv_heads": 1},
    "attention alone": {"d_feed_forward": 0, "norm_eps": 0.1},
    "Llama's": {"norm": "rms", "activation": "swiglu", "n_heads": 4, "n_kv_heads": 2, "d_model": 24, "bias": False},
}


def stir(model):
    """Give every number a chance to matter: norms and biases start at 1 and 0."""
    torch.manual_seed(1)
    for weight in model.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.3)
    return model


def packed(model, folder) -> dict:
    """The model as the engine takes it, and the same weights for torch."""
    save_model(model, folder, torch.float16)
    weights = base64.b64encode((folder / "model.safetensors").read_bytes()).decode()
    config = json.loads((folder / "config.json").read_text())
    return {"config": config, "tokenizer": {"merges": []}, "weights": weights}


@contextmanager
def instead(page, source):
    """Let the page's engine compute another model."""
    page.evaluate(
        "source => { const kept = loaded; loaded = llmcourse.engine.load(source); loaded.kept = kept; }", source
    )
    yield
    page.evaluate("loaded = loaded.kept")


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_kind_of_gpt_is_computed(shared, tmp_path, name):
    torch.manual_seed(0)
    settings = {"n_vocab": 20, "context": 12, "d_model": 8, "n_heads": 2} | CONFIGS[name]
    source = packed(stir(GPT(TransformerConfig(**settings))), tmp_path)
    model, ids = load_model(tmp_path), [0, 19, 3, 3, 7, 1, 0, 5, 5, 5, 11, 2]
    with instead(shared, source):
        assert_equal(computed(shared, ids, n_layers=2), expected(ids, model=model))
        silenced = expected(ids, {0: [0]}, model=model)
        assert_equal(computed(shared, ids, {"0.0": "mean"}, n_layers=2), silenced)
        pieces = shared.evaluate(IN_PIECES, ids)
    torch.testing.assert_close(torch.tensor(pieces), expected(ids, model=model)["logits"], atol=5e-5, rtol=0)


def test_every_setting_of_a_transformer_is_computed_somewhere_above():
    """Whoever adds a setting or a choice must teach it to the engine, or see that it is refused."""
    tried = [TransformerConfig(n_vocab=20, **{"d_model": 8, "n_heads": 2} | config) for config in CONFIGS.values()]
    for field, kind in get_type_hints(TransformerConfig).items():
        values = {getattr(config, field) for config in tried}
        assert not get_args(kind) or get_origin(kind) is not Literal or values == set(get_args(kind)), field
    names = {field.name for field in fields(TransformerConfig)}
    block = ENGINE.split("const DEFAULTS = {")[1].split("};")[0]
    assert set(re.findall(r"(\w+):", block)) == names | {"kind"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "value"),
    [("kind", "EncoderDecoder"), ("n_source", 9), ("window", 4), ("positions", "relative"), ("norm", "batch"),
     ("activation", "mish"), ("norm_place", "both")],
)  # fmt: skip
def test_what_the_engine_cannot_compute_it_refuses_by_name(shared, setting, value):
    said = shared.evaluate(
        """([name, value]) => { const { config, weights } = llmcourse.model;
        try { llmcourse.engine.load({ config: { ...config, [name]: value }, weights }); } catch (error) { return `${error}`; } }""",
        [setting, value],
    )
    assert said == f"RangeError: This page cannot compute a model with {setting} {json.dumps(value)}."


@pytest.mark.slow
@torch.no_grad()
def test_every_intermediate_is_kept(shared, tmp_path):
    torch.manual_seed(0)
    settings = {"n_vocab": 20, "context": 12, "d_model": 16, "n_heads": 4, "n_kv_heads": 2, "qk_norm": True}
    source = packed(stir(GPT(TransformerConfig(**settings))), tmp_path)
    model, ids = load_model(tmp_path), [0, 19, 3, 3, 7]
    with record_heads(model) as heads:
        model(torch.tensor([ids]))
    with instead(shared, source):
        parts = shared.evaluate(
            """ids => llmcourse.engine.forward(loaded, ids).parts.map((part) =>
            Object.fromEntries(Object.entries(part).map(([name, rows]) => [name, rows.map((row) => Array.from(row))])))""",
            ids,
        )
    for found, recorded in zip(parts, heads.values(), strict=True):
        merge = lambda x: x[0].transpose(0, 1).flatten(1)  # noqa: E731
        wanted = {"queries": merge(recorded.query), "keys": merge(recorded.key[:, ::2])}
        wanted |= {"values": merge(recorded.value[:, ::2])}
        wanted["read"] = merge(scaled_dot_product_attention(*recorded))
        for name, tensor in wanted.items():
            torch.testing.assert_close(torch.tensor(found[name]), tensor, atol=1e-5, rtol=0)


IN_PIECES = """ids => { const cache = llmcourse.engine.newCache(loaded);
    return [ids.slice(0, 4), ids.slice(4, 5), ids.slice(5)].flatMap((part) =>
        llmcourse.engine.forward(loaded, part, { cache }).logits.map((row) => Array.from(row))); }"""


@pytest.mark.slow
def test_a_cache_changes_nothing(shared):
    ids = ids_of(TEXTS[0])
    pieces = shared.evaluate(IN_PIECES, ids)
    torch.testing.assert_close(torch.tensor(pieces), expected(ids)["logits"], atol=5e-5, rtol=0)


MUTANTS = {
    "q and k swapped": ("row = attend(query, keys, at, from,", "row = attend(keys[start + t], queries, from, at,"),
    "no root of D": ("dot / Math.sqrt(D)", "dot"),
    "no mask": ("tokens[s] === pad : distance < 0)", "tokens[s] === pad : false)"),
    "mask off by one": (": distance < 0)", ": distance < Math.min(1, start + t))"),
    "turned the wrong way": ("x[a] * cos - x[b] * sin", "x[a] * cos + x[b] * sin"),
    "neighbours turned": ("const a = at + i, b = a + D / 2", "const a = at + 2 * i, b = a + 1"),
    "no last norm": ("stream.map((x) => norm(model, names.norm, x))", "stream"),
    "values not blended": ("weight * values[s][from + d]", "weight * values[t][from + d]"),
    "post-norm": ('norm_place === "pre" ? sum : sum.map(normal)', "sum.map(normal)"),
    "the other gelu": ("0.5 * x * (1 + erf(x / Math.SQRT2))", "bends.gelu_tanh(x)"),
    "norm by n - 1": ("(v - mean) ** 2, 0) / x.length", "(v - mean) ** 2, 0) / (x.length - 1)"),
    "no bias": ("bias ? bias[i] : 0", "0"),
    "half numbers without their 1": ("1 + fraction / 1024", "fraction / 1024"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", MUTANTS)
def test_a_faulty_engine_does_not_pass(shared, fault):
    line, mutant = MUTANTS[fault]
    ids, source = ids_of(TEXTS[1]), ENGINE
    assert source.count(line) == 1
    assert_equal(computed(shared, ids, source=source), expected(ids))
    with pytest.raises(AssertionError, match=r"are not close"):
        assert_equal(computed(shared, ids, source=source.replace(line, mutant)), expected(ids))


@pytest.mark.slow
def test_erf_is_that_of_torch_to_double_precision(shared):
    x = torch.cat([torch.linspace(-8, 8, 4001), torch.tensor([1e-300, -1e-9, 5.899999, 5.900001, 40.0])]).double()
    found = torch.tensor(shared.evaluate("x => x.map(llmcourse.engine.erf)", x.tolist()), dtype=torch.float64)
    torch.testing.assert_close(found, x.erf(), atol=1e-14, rtol=1e-13)


def adversarial() -> list[str]:
    """Texts on which two tokenizers that differ anywhere would differ."""
    nasty = "\u00a0\u0085\u200b\u200d\ufeff\u2028\u3000\x1c\x1f\x00\t\n\r\v\f \u180e' 's'S'll’s ²½Ⅷ٣e\u0301ßİıſ漢字🦊🏽️_-<>&%"
    draw = random.Random(0)
    strings = ["".join(draw.choices(nasty + "aZ09 ", k=40)) for _ in range(200)]
    every = [chr(i) for i in range(0x20000) if not 0xD800 <= i < 0xE000]
    planes = ["".join(f"a{c} {c}" for c in every[i : i + 4096]) for i in range(0, len(every), 4096)]
    return [*TEXTS, "", " ", "   a", "a   ", " \n \n", "I'll we've don't'", *strings, *planes]


@pytest.mark.slow
def test_page_and_python_cut_every_text_the_same(shared):
    texts = adversarial()
    found = shared.evaluate("texts => texts.map((text) => llmcourse.engine.encode(loaded, text))", texts)
    for text, ids in zip(texts, found, strict=True):
        assert ids == ids_of(text), repr(text[:80])
    back = shared.evaluate("all => all.map((ids) => llmcourse.engine.decode(loaded, ids))", found)
    assert back == texts


@pytest.mark.slow
def test_page_and_python_show_every_token_and_broken_text_the_same(shared):
    shown = shared.evaluate("loaded.pieces.map((_, id) => llmcourse.engine.piece(loaded, id))")
    assert shown == [TOKENIZER.piece(i) for i in range(len(TOKENIZER))]
    draw = random.Random(0)
    broken = [draw.choices(range(len(TOKENIZER)), k=30) for _ in range(200)]
    broken += [[TOKENIZER.encode(c)[0] for c in "a"] + draw.choices(range(256), k=8) for _ in range(200)]
    found = shared.evaluate("all => all.map((ids) => llmcourse.engine.decode(loaded, ids))", broken)
    assert found == [TOKENIZER.decode(ids) for ids in broken]


@pytest.mark.slow
def test_two_merges_of_one_piece_and_overlaps_are_cut_the_same(shared):
    merges = [("a", "b"), ("b", "c"), ("ab", "c"), ("a", "bc"), ("a", "a"), ("aa", "a"), ("é"[0], "a")]
    tokenizer = BPETokenizer([(left.encode("latin-1"), right.encode("latin-1")) for left, right in merges])
    texts = ["abc", "aabc", "aaa", "aaaa", "aaaaa", "bcabcab", "éa"]
    script = """([merges, texts]) => {
        const config = { ...loaded.config, positions: "none" };
        const model = llmcourse.engine.load({ config, tokenizer: { merges }, weights: llmcourse.model.weights });
        return texts.map((text) => llmcourse.engine.encode(model, text)); }"""
    assert shared.evaluate(script, [merges, texts]) == [tokenizer.encode(text) for text in texts]


# The page itself


def column(page: Page, number=0) -> dict[int, float]:
    """The probabilities drawn in a column of bars, by token."""
    rows = page.locator(".column").nth(number).locator("[data-name=probability]")
    drawn = rows.evaluate_all("rows => rows.map(({ dataset: d }) => [+d.row, +d.value])")
    assert len(drawn) == 15
    return dict(drawn)


def assert_bars(page, ids, config=None, silenced=None, number=0):
    logits = expected(ids, silenced, PRECISE)["logits"][-1]
    probabilities = next_token_probabilities(logits, config or SamplingConfig())
    found = column(page, number)
    for token, p in found.items():
        assert abs(p - probabilities[token].item()) < 1e-6
    assert sorted(found.values(), reverse=True) == list(found.values())
    assert min(found.values()) >= probabilities.sort(descending=True).values[15].item() - 1e-6


def assert_heads(page, ids, layer, head, silenced=None):
    cells = page.locator("td[data-name=weights]").evaluate_all(
        "cells => cells.map(({ dataset: d }) => [+d.row, +d.column, +d.value])"
    )
    T = min(len(ids), 24)
    wanted = expected(ids, silenced)["attention"][layer, head, -T:, -T:]
    assert len(cells) == T * T
    for i, j, weight in cells:
        assert abs(weight - wanted[i, j].item()) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("text", [*TEXTS, "The river said nothing. " * 12], ids=range(6))
def test_what_is_typed_is_cut_and_computed(page, text):
    page.get_by_label("Your text").fill(text)
    ids = ids_of(text)
    shown = page.locator("[data-name=token]").evaluate_all("chips => chips.map((chip) => +chip.dataset.value)")
    assert shown == ids
    assert page.locator("[data-name=token] b").all_inner_texts() == [
        playground.visible(t) for t in TOKENIZER.tokens(text)
    ]
    assert_bars(page, ids)
    page.get_by_role("combobox", name="Layer").select_option("2")
    page.get_by_role("combobox", name="Head").select_option("3")
    assert_heads(page, ids, 2, 3)
    page.get_by_label("Your text").press_sequentially(" x")  # the choice stays
    assert_heads(page, ids_of(text + " x"), 2, 3)
    assert page.locator(".stage script").count() == 0


@pytest.mark.slow
def test_the_sliders_compute_what_generate_draws_from(page):
    ids, config = ids_of(playground.EXAMPLE), {}
    for label, name, value in [("Temperature", "temperature", 0.7), ("Top-k", "top_k", 40), ("Top-p", "top_p", 0.6)]:
        page.get_by_role("slider", name=label, exact=True).fill(str(value))
        config[name] = value
        assert_bars(page, ids, SamplingConfig(**config))
    page.get_by_role("slider", name="Temperature", exact=True).fill("0")
    assert_bars(page, ids, SamplingConfig(temperature=0.0))


@pytest.mark.slow
def test_switching_heads_off_changes_bars_and_heads_beside_the_intact_bars(page):
    ids = ids_of(playground.EXAMPLE)
    expect(page.locator(".column >> visible=true")).to_have_count(1)
    page.get_by_role("button", name="Switch off layer 0, head 1").click()
    page.get_by_role("button", name="Switch off layer 1, head 2").click()
    silenced = {0: [1], 1: [2]}
    expect(page.locator(".column >> visible=true")).to_have_count(2)
    assert_bars(page, ids)
    assert_bars(page, ids, silenced=silenced, number=1)
    page.get_by_role("slider", name="Temperature", exact=True).fill("0.5")
    assert_bars(page, ids, SamplingConfig(temperature=0.5), silenced, number=1)
    row = page.locator(".column").nth(1).locator("li").first
    share = float(row.locator(".tick").evaluate("tick => tick.style.getPropertyValue('--share')"))
    intact = next_token_probabilities(expected(ids, model=PRECISE)["logits"][-1], SamplingConfig(temperature=0.5))
    assert abs(share - intact[int(row.get_attribute("data-row"))].item()) < 1e-6
    page.get_by_role("combobox", name="Layer").select_option("2")
    assert_heads(page, ids, 2, 0, silenced)
    page.get_by_role("button", name="All heads on").click()
    expect(page.locator(".column >> visible=true")).to_have_count(1)
    assert_heads(page, ids, 2, 0)


def written(page: Page) -> str:
    expect(page.get_by_text("Done after 30 tokens.")).to_be_visible()
    return page.locator(".written b").evaluate("added => added.textContent")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "seed", "settings"),
    [
        (playground.EXAMPLE, 1, {}),
        ("从前，", 42, {"temperature": 0.8, "top_k": 20}),
        ("The river said nothing. " * 18, 7, {"top_p": 0.9}),  # longer than the context, which then overflows
        (SCRIPT, 0, {"temperature": 0.0}),
    ],
    ids=["English", "Chinese", "long", "greedy"],
)
def test_page_and_python_write_the_same_for_the_same_seed(page, prompt, seed, settings):
    page.get_by_label("Your text").fill(prompt)
    labels = {"temperature": "Temperature", "top_k": "Top-k", "top_p": "Top-p"}
    for name, value in settings.items():
        page.get_by_role("slider", name=labels[name], exact=True).fill(f"{value:g}")
    page.get_by_label("Seed").fill(str(seed))
    page.get_by_role("button", name="Write 30 tokens").click()
    assert written(page) == playground.write(prompt, 30, seed, SamplingConfig(**settings))
    assert page.locator(".written").evaluate("p => p.firstChild.textContent") == prompt


@pytest.mark.slow
def test_writing_with_a_silenced_head_is_another_text_and_can_be_stopped(page):
    page.get_by_role("button", name="Write 30 tokens").click()
    intact = written(page)
    page.get_by_role("button", name="Switch off layer 0, head 0").click()
    page.get_by_role("button", name="Switch off layer 2, head 1").click()
    page.get_by_role("button", name="Write 30 tokens").click()
    assert written(page) != intact
    page.evaluate(
        """() => { const button = (name) => [...document.querySelectorAll("button")].find((b) => b.textContent === name);
        button("Write 30 tokens").click();
        requestAnimationFrame(() => requestAnimationFrame(() => button("Stop").click())); }"""
    )
    expect(page.get_by_text("Stopped after")).to_be_visible()
    n_written = int(page.locator(".written").get_attribute("data-count"))
    assert n_written < 30
    page.wait_for_timeout(100)
    assert int(page.locator(".written").get_attribute("data-count")) == n_written


@pytest.mark.slow
def test_no_text_is_no_error(page):
    page.get_by_label("Your text").fill("")
    expect(page.get_by_text("Type something")).to_be_visible()
    assert page.locator("[data-name=probability] >> visible=true").count() == 0
    page.get_by_label("Your text").fill("a")
    assert_bars(page, ids_of("a"))


@pytest.mark.slow
def test_nothing_is_loaded_before_the_click_and_soon_after_it(browser, site):
    asked = []
    with opened(browser, site, load=False) as page:
        page.on("request", lambda request: asked.append(request.url.rsplit("/")[-1]))
        expect(page.get_by_role("table", name="The likeliest tokens to come next")).to_be_visible()
        expect(page.get_by_text("With JavaScript you could")).to_have_count(0)
        assert asked == []
        began = time.monotonic()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("[data-name=probability]")).to_have_count(30 - 15)
        seconds = time.monotonic() - began
        assert seconds < 3
        assert sorted(asked) == ["model.js", "playground.js"]
        expect(page.get_by_label("Your text")).to_be_focused()
        assert page.locator(".example >> visible=true").count() == 0
        assert page.evaluate("Object.keys(llmcourse).sort()") == [
            "engine",
            "model",
            "nextTokenProbabilities",
            "playground",
        ]


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_can_be_asked_for_again(browser, site, tmp_path):
    scripts = site / "_static/playground"
    hidden = scripts.rename(tmp_path / "hidden")
    page = browser.new_page()
    page.goto((site / "book/page.html").as_uri())
    page.get_by_role("button", name="Load the model").click()
    expect(page.get_by_text("could not be loaded")).to_be_visible()
    hidden.rename(scripts)
    page.get_by_role("button", name="Load the model").click()
    expect(page.locator("[data-name=token]")).not_to_have_count(0)
    page.close()


@pytest.mark.slow
def test_without_javascript_one_example_stands_there(browser, site):
    with opened(browser, site, load=False, java_script_enabled=False) as page:
        expect(page.get_by_text("With JavaScript you could")).to_be_visible()
        assert page.locator("td >> visible=true").count() > 15


@pytest.mark.slow
def test_on_a_phone_nothing_scrolls_sideways_and_a_finger_fits(browser, site):
    with opened(browser, site, viewport={"width": 360, "height": 740}, has_touch=True, reduced_motion="reduce") as page:
        for text in ("w" * 300, playground.EXAMPLE):
            page.get_by_label("Your text").fill(text)
            page.get_by_role("button", name="Switch off layer 1, head 3").tap()
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
        sizes = page.locator(".stage button >> visible=true").evaluate_all(
            "buttons => buttons.map((b) => Math.min(b.getBoundingClientRect().height, b.getBoundingClientRect().width))"
        )
        assert min(sizes) >= 24
        page.get_by_role("button", name="Write 30 tokens").tap()
        assert written(page)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_the_playground_is_accessible_while_it_is_used(browser, site, mode):
    with opened(browser, site, color_scheme=mode) as page:
        for text in (playground.EXAMPLE, "The river said nothing. " * 20):
            page.get_by_label("Your text").fill(text)
            page.get_by_role("button", name="Switch off layer 1, head 3").click()
            page.get_by_role("button", name="Write 30 tokens").click()
            assert written(page)
            passed, broken = judged(page)
            assert {"color-contrast", "label", "list"} <= passed
            assert broken == []
