"""Models go out to the transformers library and come back equal to the bit, and compute the same numbers in both."""

import http.server
import json
import os
import pickle
import random
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import save_file

from llmcourse.bert import Bert, PreTrainingBert
from llmcourse.interop import (
    BorrowedTokenizer,
    describe,
    from_theirs,
    load_pretrained,
    load_tokenizer,
    push,
    to_theirs,
)
from llmcourse.interop.forms import config_of
from llmcourse.models import GPT, EncoderDecoder, NGram
from llmcourse.tokenizers import WordTokenizer
from llmcourse.transformer import TransformerConfig

transformers = pytest.importorskip("transformers")
FORM = {
    "gpt": {"positions": "learned", "tied": True},
    "bert": {"positions": "learned", "norm_place": "post", "tied": True, "pad": 0},
    "marian": {"positions": "sinusoidal", "norm_place": "post", "tied": True, "pad": 0, "scaled_embedding": True},
}
KINDS = {"gpt": GPT, "bert": PreTrainingBert, "marian": EncoderDecoder}
THEIRS = {"gpt": "GPT2LMHeadModel", "bert": "BertForPreTraining", "marian": "MarianMTModel"}
SMALL = {"n_vocab": 23, "context": 12, "d_model": 16, "n_heads": 2, "n_layers": 2}


def perturbed(kind, seed=0, **choices):
    """A model of ours whose biases and norms are not 0 and 1, which would hide their absence."""
    torch.manual_seed(seed)
    model = KINDS[kind](TransformerConfig(**(SMALL | FORM[kind] | choices))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def random_choices(seed, kind):
    """Sizes of every parity: odd widths of heads and layers, a vocabulary of 3, one position."""
    draw = random.Random(seed)
    n_heads = draw.choice([1, 2, 3, 5])
    width = n_heads * draw.choice([2, 6, 10]) if kind == "marian" else n_heads * draw.choice([3, 4, 5, 7])
    return {
        "n_heads": n_heads, "d_model": width, "n_layers": draw.choice([1, 2, 3]), "n_vocab": draw.choice([3, 31, 97]),
        "context": draw.choice([1, 7, 12, 33]), "d_feed_forward": draw.choice([None, 1, 13, 40]), "tied": draw.random() < 0.6,
        "activation": draw.choice(["gelu", "gelu_tanh", "relu"]), "dropout": draw.choice([0.0, 0.1]),
        "norm_eps": 1e-5 if kind == "marian" else draw.choice([1e-5, 1e-12, 1e-3]),
    }  # fmt: skip


def theirs_of(model):
    """Their model with our weights; every one of theirs is filled, and every one of ours is used."""
    description = describe(model)
    config = transformers.CONFIG_MAPPING[description["model_type"]](**description)
    theirs = getattr(transformers, description["architectures"][0])(config).eval()
    weights = to_theirs(model)
    found = theirs.load_state_dict(weights, strict=False)
    assert found.unexpected_keys == []
    assert all("embed_positions" in name for name in found.missing_keys)  # a table, computed and not learned
    return theirs


def padded_rows(n_vocab, T, seed=0):
    """Four rows of unequal length, filled up with 0 on the right."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, n_vocab, (4, T), generator=generator)
    for row, length in enumerate((T, max(1, T - 1), max(1, T // 2), 1)):
        tokens[row, length:] = 0
    return tokens


@pytest.mark.parametrize("seed", range(24))
def test_gpt_2_computes_what_ours_computes(seed):
    model = perturbed("gpt", seed, **random_choices(seed, "gpt"))
    tokens = torch.randint(model.config.n_vocab, (3, model.config.context))
    with torch.no_grad():
        ours, theirs = model(tokens), theirs_of(model)(tokens).logits
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)
    assert ours.std() > 0.1  # a comparison of zeros would say nothing


@pytest.mark.parametrize("seed", range(8))
def test_gpt_2_with_padding_at_the_left_computes_what_ours_computes(seed):
    model = perturbed("gpt", seed, **(random_choices(seed, "gpt") | {"context": 9}))
    tokens, padding = torch.randint(model.config.n_vocab, (3, 9)), torch.tensor([0, 3, 7])
    real = torch.arange(9) >= padding[:, None]
    with torch.no_grad():
        places = (real.cumsum(dim=1) - 1).clamp(min=0)
        theirs = theirs_of(model)(tokens, attention_mask=real.long(), position_ids=places).logits
        torch.testing.assert_close(theirs[real], model(tokens, padding=padding)[real], atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(24))
def test_bert_computes_what_ours_computes(seed):
    model = perturbed("bert", seed, **random_choices(seed, "bert"))
    tokens = padded_rows(model.config.n_vocab, model.config.context, seed)
    segments, real = torch.randint(2, tokens.shape), tokens != 0
    with torch.no_grad():
        theirs = theirs_of(model)(tokens, attention_mask=real.long(), token_type_ids=segments)
        ours, follows = model(tokens, segments), model.follows(tokens, segments)
    torch.testing.assert_close(theirs.prediction_logits[real], ours[real], atol=1e-4, rtol=0)
    torch.testing.assert_close(theirs.seq_relationship_logits, follows, atol=1e-4, rtol=0)
    assert ours[real].std() > 0.1


@pytest.mark.parametrize("seed", range(20))
def test_marian_computes_what_our_encoder_decoder_computes(seed):
    choices = random_choices(seed, "marian") | {"n_source": [None, 19, 50][seed % 3], "scaled_embedding": seed % 2 == 0}
    model = perturbed("marian", seed, **choices)
    source = padded_rows(model.config.n_source or model.config.n_vocab, model.config.context, seed)
    tokens = torch.randint(model.config.n_vocab, (4, model.config.context))
    with torch.no_grad():
        theirs = theirs_of(model)(source, attention_mask=(source != 0).long(), decoder_input_ids=tokens).logits
        torch.testing.assert_close(theirs, model(source, tokens), atol=1e-4, rtol=0)


def the_same(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_out_and_back_is_equal_to_the_bit(kind, seed):
    model = perturbed(kind, seed, **random_choices(seed, kind))
    back = from_theirs(to_theirs(model), describe(model))
    assert type(back) is type(model) and the_same(back, model)
    assert not back.training
    expected = replace(model.config, pad=model.config.pad)
    if expected.d_feed_forward == 4 * expected.d_model:
        expected = replace(expected, d_feed_forward=None)
    assert back.config == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [True, False])
def test_their_folder_comes_in_and_ours_is_opened_by_them_equal_to_the_bit(kind, tied, tmp_path):
    model = perturbed(kind, tied=tied)
    push(model, tmp_path / "ours")
    theirs = getattr(transformers, THEIRS[kind]).from_pretrained(tmp_path / "ours").eval()
    theirs.save_pretrained(tmp_path / "theirs")
    assert the_same(load_pretrained(tmp_path / "theirs"), model)
    assert the_same(load_pretrained(tmp_path / "ours"), model)
    expected = to_theirs(model)
    for name, tensor in theirs.state_dict().items():
        assert "embed_positions" in name or torch.equal(tensor, expected[name]), name


def test_an_encoder_without_heads_goes_out_and_comes_back():
    bert = perturbed("bert").bert
    back = from_theirs(to_theirs(bert), describe(bert))
    assert type(back) is Bert and the_same(back, bert)
    whole = perturbed("bert")
    assert the_same(from_theirs(to_theirs(whole), describe(whole), Bert), whole.bert)
    prefixed = {name: one for name, one in to_theirs(whole).items() if not name.startswith("cls.")}
    assert the_same(from_theirs(prefixed, describe(whole)), whole.bert)  # as a classifier's folder names an encoder
    classifier = prefixed | {"classifier.weight": torch.zeros(3, 16), "classifier.bias": torch.zeros(3)}
    assert the_same(from_theirs(classifier, describe(whole), Bert), whole.bert)
    with pytest.raises(ValueError, match=r"unexpected classifier\.bias; unexpected classifier\.weight"):
        from_theirs(classifier, describe(whole))  # nothing is left out that nobody asked to leave out


def test_older_names_and_half_precision_are_read():
    model = perturbed("bert")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): one
        for name, one in to_theirs(model).items() if not name.startswith("cls.predictions.decoder")
    }  # fmt: skip
    old["bert.embeddings.position_ids"] = torch.arange(12)[None]
    assert the_same(from_theirs(old, describe(model)), model)
    gpt = perturbed("gpt")
    bare = {name.removeprefix("transformer."): one for name, one in to_theirs(gpt).items() if name != "lm_head.weight"}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 12, 12)
    assert the_same(from_theirs(bare, describe(gpt)), gpt)
    halved = from_theirs({name: one.half() for name, one in to_theirs(gpt).items()}, describe(gpt))
    assert halved.head.weight.dtype == torch.float32
    torch.testing.assert_close(halved.head.weight, gpt.head.weight, atol=2e-3, rtol=1e-3)


def test_every_tensor_that_does_not_fit_is_named():
    model = perturbed("gpt", tied=False)
    weights = to_theirs(model)
    del weights["transformer.h.0.ln_1.bias"], weights["lm_head.weight"]
    weights["transformer.h.7.ln_1.bias"] = torch.zeros(16)
    weights["transformer.h.1.attn.c_attn.weight"] = torch.zeros(48, 16)  # as Linear keeps it
    with pytest.raises(ValueError, match="a box does not fit") as caught:
        from_theirs(weights, describe(model), source="a box")
    assert str(caught.value).split(": ", 1)[1].split("; ") == [
        "missing lm_head.weight",
        "missing transformer.h.0.ln_1.bias",
        "transformer.h.1.attn.c_attn.weight has shape (48, 16) instead of (16, 48)",
        "unexpected transformer.h.7.ln_1.bias",
    ]


def test_a_repeated_tensor_that_differs_is_named():
    model = perturbed("gpt")
    weights = to_theirs(model) | {"lm_head.weight": torch.zeros(23, 16)}
    with pytest.raises(ValueError, match=r"lm_head\.weight differs from transformer\.wte\.weight"):
        from_theirs(weights, describe(model))
    marian = perturbed("marian")
    with pytest.raises(ValueError, match="our head has no bias"):
        from_theirs(to_theirs(marian) | {"final_logits_bias": torch.ones(1, 23)}, describe(marian))


@pytest.mark.parametrize(
    ("kind", "choices", "named"),
    [
        ("gpt", {"positions": "rotary"}, "positions='rotary'"),
        ("gpt", {"norm": "rms"}, "norm='rms'"),
        ("gpt", {"n_kv_heads": 1}, "n_kv_heads=1"),
        ("gpt", {"activation": "swiglu"}, "activation='swiglu'"),
        ("gpt", {"d_feed_forward": 0}, "d_feed_forward=0"),
        ("bert", {"norm_place": "pre"}, "norm_place='pre'"),
        ("marian", {"positions": "learned", "norm_place": "pre"}, "positions='learned', norm_place='pre'"),
    ],
)
def test_a_model_without_a_form_of_theirs_is_refused_with_its_reasons(kind, choices, named):
    with pytest.raises(ValueError, match=f"has no place for {named}"):
        to_theirs(perturbed(kind, **choices))


def test_other_models_are_refused():
    with pytest.raises(ValueError, match="NGram has no form"):
        to_theirs(NGram(3))
    for description, message in [
        ({"model_type": "llama"}, "type 'llama'"),
        ({}, "type None"),
        ({"model_type": "gpt2", "vocab_size": 3}, "does not say n_positions, n_embd, n_head, n_layer"),
        (describe(perturbed("gpt")) | {"activation_function": "silu"}, "activation_function='silu'"),
        (describe(perturbed("bert")) | {"position_embedding_type": "relative_key"}, "relative_key"),
        (describe(perturbed("marian")) | {"decoder_layers": 3}, "decoder_layers=3"),
    ]:
        with pytest.raises(ValueError, match=message):
            config_of(description)
    model = perturbed("gpt")
    with pytest.raises(ValueError, match="no PreTrainingBert can be made of"):
        from_theirs(to_theirs(model), describe(model), PreTrainingBert)


def test_a_pickle_is_refused_and_never_opened(tmp_path):
    push(perturbed("gpt"), tmp_path)
    (tmp_path / "model.safetensors").unlink()

    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="a pickle, which can run code"):
        load_pretrained(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(describe(perturbed("gpt"))))
    with pytest.raises(ValueError, match=r"holds no model\.safetensors"):
        load_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no model on the hub can be called so"):
        load_pretrained(tmp_path / "nowhere")


def test_a_missing_library_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match="pip install huggingface_hub"):
        load_pretrained("someone/tiny")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ValueError, match="pip install tokenizers"):
        BorrowedTokenizer("anywhere")


@pytest.mark.slow
def test_nothing_of_theirs_is_needed_to_write_and_read_a_folder(tmp_path):
    push(perturbed("gpt"), tmp_path)
    blocked = ("transformers", "huggingface_hub", "tokenizers")
    program = (
        f"import sys\nsys.modules.update(dict.fromkeys({blocked}))\n"
        f"from llmcourse.interop import load_pretrained, push\n"
        f"push(load_pretrained({str(tmp_path)!r}), {str(tmp_path / 'again')!r})"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert the_same(load_pretrained(tmp_path / "again"), load_pretrained(tmp_path))


def in_two_files(model, folder):
    push(model, folder)
    (folder / "model.safetensors").unlink()
    weights = {name: one.contiguous() for name, one in to_theirs(model).items() if name != "lm_head.weight"}
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: weights[name] for name in held}, folder / file)
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


def test_weights_in_several_files_are_put_together_and_none_is_read_from_elsewhere(tmp_path):
    model = perturbed("gpt")
    index = in_two_files(model, tmp_path)
    assert the_same(load_pretrained(tmp_path), model)
    for elsewhere in ("../a.safetensors", "x.bin"):
        index["weight_map"]["transformer.wte.weight"] = elsewhere
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(ValueError, match="only safetensors beside it are read"):
            load_pretrained(tmp_path)


class Hub(http.server.SimpleHTTPRequestHandler):
    """As much of the hub as a download asks for: files under /<owner>/<name>/resolve/main/."""

    def send_head(self):
        self.path = self.path.replace("/resolve/main/", "/")
        return super().send_head()

    def send_error(self, code, message=None, explain=None):
        self.send_response(code)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()

    def end_headers(self):
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", f'"{abs(hash(self.path))}"')
        super().end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(tmp_path / "hub")))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def loaded_in_a_new_process(name, tmp_path, **environment):
    """What a fresh Python says, for the hub's address is read when its library is imported."""
    program = (
        f"from llmcourse.interop import load_pretrained\nm = load_pretrained({name!r})\n"
        "print(type(m).__name__, sum(p.double().sum().item() for p in m.parameters()))"
    )
    clean = {
        key: value for key, value in os.environ.items() if "proxy" not in key.lower() and not key.startswith("HF_")
    }
    settings = clean | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"} | environment
    return subprocess.run([sys.executable, "-c", program], env=settings, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_name_is_downloaded_once_and_found_again_offline(hub, tmp_path):
    model = perturbed("gpt")
    push(model, tmp_path / "hub/someone/tiny")
    said = f"GPT {sum(parameter.double().sum().item() for parameter in model.parameters())}\n"
    first = loaded_in_a_new_process("someone/tiny", tmp_path, HF_ENDPOINT=hub)
    assert first.stdout == said, first.stderr
    again = loaded_in_a_new_process("someone/tiny", tmp_path, HF_ENDPOINT=hub, HF_HUB_OFFLINE="1")
    assert again.stdout == said, again.stderr
    never = loaded_in_a_new_process("someone/else", tmp_path, HF_ENDPOINT=hub, HF_HUB_OFFLINE="1")
    assert "ValueError: someone/else/config.json is not on this machine" in never.stderr


@pytest.mark.slow
def test_a_pickle_on_the_hub_and_several_files_there(hub, tmp_path):
    in_two_files(model := perturbed("gpt"), tmp_path / "hub/someone/parts")
    found = loaded_in_a_new_process("someone/parts", tmp_path, HF_ENDPOINT=hub)
    assert found.stdout == f"GPT {sum(one.double().sum().item() for one in model.parameters())}\n", found.stderr
    push(model, tmp_path / "hub/someone/pickled")
    (tmp_path / "hub/someone/pickled/model.safetensors").rename(tmp_path / "hub/someone/pickled/pytorch_model.bin")
    refused = loaded_in_a_new_process("someone/pickled", tmp_path, HF_ENDPOINT=hub)
    assert "ValueError: someone/pickled holds its weights as pytorch_model.bin, a pickle" in refused.stderr
    empty = loaded_in_a_new_process("someone/nothing", tmp_path, HF_ENDPOINT=hub)
    assert "ValueError: someone/nothing holds no config.json" in empty.stderr


WORDS = ["the", "cat", "dog", "sees", "sleeps", "."]


def quiet(task, folder):
    return transformers.pipeline(task, model=str(folder), device="cpu")


def test_a_gpt_of_ours_writes_in_their_pipeline(tmp_path):
    tokenizer = WordTokenizer(WORDS, ("[PAD]", "[EOS]"))
    model = perturbed("gpt", n_vocab=len(tokenizer))
    push(model, tmp_path, tokenizer, card="# Tiny")
    assert (tmp_path / "README.md").read_text() == "# Tiny"
    writer = quiet("text-generation", tmp_path)
    text = writer("the cat", max_new_tokens=5, do_sample=False, return_full_text=False)[0]["generated_text"]
    ids, end = tokenizer.encode("the cat"), tokenizer.special_id("[EOS]")
    for _ in range(5):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == end:
            break
    kept = [i for i in ids[2:] if i not in tokenizer.special_tokens.values()]
    assert text.split() == tokenizer.decode(kept).split()


def test_a_bert_of_ours_fills_blanks_in_their_pipeline(tmp_path):
    tokenizer = WordTokenizer(WORDS, ("[PAD]", "[CLS]", "[SEP]", "[MASK]"))
    model = perturbed("bert", n_vocab=len(tokenizer))
    push(model, tmp_path, tokenizer)
    PAD, CLS, SEP, MASK = (tokenizer.special_id(name) for name in ("[PAD]", "[CLS]", "[SEP]", "[MASK]"))
    assert PAD == 0
    ids = [CLS, *tokenizer.encode("the cat sees the"), MASK, *tokenizer.encode("."), SEP]
    with torch.no_grad():
        probabilities = model(torch.tensor([ids]))[0, ids.index(MASK)].softmax(dim=-1)
    for guess in quiet("fill-mask", tmp_path)("the cat sees the [MASK] .", top_k=4):
        assert guess["score"] == pytest.approx(probabilities[guess["token"]].item(), abs=1e-5)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    pair = theirs("the cat", "sleeps .")
    assert pair["input_ids"] == [CLS, *tokenizer.encode("the cat"), SEP, *tokenizer.encode("sleeps ."), SEP]
    assert pair["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]
    hidden = transformers.AutoModel.from_pretrained(tmp_path).eval()(torch.tensor([ids])).last_hidden_state
    torch.testing.assert_close(hidden, model.bert(torch.tensor([ids])), atol=1e-4, rtol=0)
    assert load_tokenizer(tmp_path).vocabulary == tokenizer.vocabulary


def test_an_encoder_decoder_of_ours_writes_in_their_library_what_it_writes_here(tmp_path):
    tokenizer = WordTokenizer(WORDS, ("[PAD]", "[BOS]", "[EOS]"))
    model = perturbed("marian", n_vocab=len(tokenizer))
    push(model, tmp_path, tokenizer)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    source = torch.tensor([tokenizer.encode("the dog sees the cat .")])
    written = theirs.generate(source, max_new_tokens=6, num_beams=1, do_sample=False)[0].tolist()
    ids = [tokenizer.special_id("[BOS]")]
    while len(ids) < len(written):
        ids.append(int(model(source, torch.tensor([ids]))[0, -1].argmax()))
    assert written == ids and len(written) > 1


def test_a_tokenizer_of_another_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the tokenizer has 24 tokens and the model knows 23"):
        push(perturbed("gpt"), tmp_path, WordTokenizer([f"w{n}" for n in range(24)]))


def test_a_config_that_names_no_activation_means_the_family_s_own():
    description = describe(perturbed("marian"))
    del description["activation_function"]
    assert config_of(description).activation == "gelu"
