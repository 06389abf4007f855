"""Which of our weights is which of theirs. One list of entries for each kind of model, read in both directions.

| ours | the `transformers` library | what is special |
|---|---|---|
| `GPT`, learned positions, pre-norm | GPT2LMHeadModel | query, key and value are one matrix; matrices are turned (Conv1D) |
| `PreTrainingBert`, `Bert`, learned positions, post-norm | BertForPreTraining, BertModel | names only |
| `EncoderDecoder`, sinusoidal positions, post-norm | MarianMTModel | the columns of the stream have another order |

Of their encoder-decoders MarianMT is the one that is the original Transformer, as ours is: BART normalises the embeddings
once more, and T5 has other positions and norms. Marian's position table holds all sines and then all cosines, where ours
alternates them. Sorting the columns of the whole residual stream makes one out of the other: no layer cares about their
order, as long as all agree.

Letters: C width of the model.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from llmcourse.bert import Bert, PreTrainingBert
from llmcourse.models import GPT, EncoderDecoder
from llmcourse.transformer import TransformerConfig
from llmcourse.weights import load_weights, mismatches


class Entry(NamedTuple):
    """One tensor of theirs, and what it is of ours."""

    theirs: str
    ours: tuple[str, ...]  # several lie one below the other in theirs
    turned: bool = False  # Conv1D keeps a matrix as (in, out), Linear as (out, in)
    stream: int | None = None  # the axis along the residual stream, where the order of its columns is another
    same_as: str | None = None  # the tensor of theirs that this one repeats, so that files may leave it out


def gpt_entries(model: GPT) -> Iterator[Entry]:
    """Ours in GPT2LMHeadModel."""
    yield Entry("transformer.wte.weight", ("embedding.tokens.weight",))
    yield Entry("transformer.wpe.weight", ("embedding.positions.weight",))
    for layer in range(model.config.n_layers):
        mine, other = f"blocks.{layer}", f"transformer.h.{layer}"
        for kind in ("weight", "bias"):
            parts = tuple(f"{mine}.attention.{part}.{kind}" for part in ("query", "key", "value"))
            yield Entry(f"{other}.ln_1.{kind}", (f"{mine}.attention_norm.{kind}",))
            yield Entry(f"{other}.attn.c_attn.{kind}", parts, turned=True)
            yield Entry(f"{other}.attn.c_proj.{kind}", (f"{mine}.attention.out.{kind}",), turned=True)
            yield Entry(f"{other}.ln_2.{kind}", (f"{mine}.feed_forward_norm.{kind}",))
            yield Entry(f"{other}.mlp.c_fc.{kind}", (f"{mine}.feed_forward.expand.{kind}",), turned=True)
            yield Entry(f"{other}.mlp.c_proj.{kind}", (f"{mine}.feed_forward.contract.{kind}",), turned=True)
    for kind in ("weight", "bias"):
        yield Entry(f"transformer.ln_f.{kind}", (f"norm.{kind}",))
    tied = "transformer.wte.weight" if model.config.tied else None
    yield Entry("lm_head.weight", ("head.weight",), same_as=tied)


BERT_BLOCK = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.expand": "intermediate.dense",
    "feed_forward.contract": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}


def bert_entries(model: Bert | PreTrainingBert) -> Iterator[Entry]:
    """Ours in BertModel, or with both heads in BertForPreTraining."""
    bert = "bert." if isinstance(model, PreTrainingBert) else ""
    for theirs, ours in (("word", "embedding.tokens"), ("position", "embedding.positions"), ("token_type", "segments")):
        yield Entry(f"{bert}embeddings.{theirs}_embeddings.weight", (f"{bert}{ours}.weight",))
    pairs = {f"{bert}embeddings.LayerNorm": f"{bert}embedding_norm"}
    for layer in range(model.config.n_layers):
        mine, other = f"{bert}encoder.blocks.{layer}", f"{bert}encoder.layer.{layer}"
        pairs |= {f"{other}.{theirs}": f"{mine}.{ours}" for ours, theirs in BERT_BLOCK.items()}
    pairs[f"{bert}pooler.dense"] = f"{bert}pooler"
    if bert:
        pairs |= {
            "cls.predictions.transform.dense": "masked_lm.dense",
            "cls.predictions.transform.LayerNorm": "masked_lm.norm",
            "cls.seq_relationship": "next_sentence.classify",
        }
    for theirs, ours in pairs.items():
        for kind in ("weight", "bias"):
            yield Entry(f"{theirs}.{kind}", (f"{ours}.{kind}",))
    if bert:
        words = "bert.embeddings.word_embeddings.weight" if model.config.tied else None
        yield Entry("cls.predictions.bias", ("masked_lm.decoder.bias",))
        yield Entry("cls.predictions.decoder.bias", ("masked_lm.decoder.bias",), same_as="cls.predictions.bias")
        yield Entry("cls.predictions.decoder.weight", ("masked_lm.decoder.weight",), same_as=words)


MARIAN_BLOCK = {  # our part, theirs, the axes of its weight and of its bias that lie along the stream
    "attention.query": ("self_attn.q_proj", 1, None),
    "attention.key": ("self_attn.k_proj", 1, None),
    "attention.value": ("self_attn.v_proj", 1, None),
    "attention.out": ("self_attn.out_proj", 0, 0),
    "attention_norm": ("self_attn_layer_norm", 0, 0),
    "cross_attention.query": ("encoder_attn.q_proj", 1, None),
    "cross_attention.key": ("encoder_attn.k_proj", 1, None),
    "cross_attention.value": ("encoder_attn.v_proj", 1, None),
    "cross_attention.out": ("encoder_attn.out_proj", 0, 0),
    "cross_norm": ("encoder_attn_layer_norm", 0, 0),
    "feed_forward.expand": ("fc1", 1, None),
    "feed_forward.contract": ("fc2", 0, 0),
    "feed_forward_norm": ("final_layer_norm", 0, 0),
}


def marian_entries(model: EncoderDecoder) -> Iterator[Entry]:
    """Ours in MarianMTModel."""
    shared, sides = model.config.n_source is None, ("encoder", "decoder")
    if shared:
        yield Entry("model.shared.weight", ("embedding.tokens.weight",), stream=1)
    for side, ours in zip(sides, ("source_embedding", "embedding"), strict=True):
        repeats = "model.shared.weight" if shared else None
        yield Entry(f"model.{side}.embed_tokens.weight", (f"{ours}.tokens.weight",), stream=1, same_as=repeats)
        for layer in range(model.config.n_layers):
            for mine, (other, *axes) in MARIAN_BLOCK.items():
                if side == "decoder" or not mine.startswith("cross"):
                    for kind, axis in zip(("weight", "bias"), axes, strict=True):
                        name = f"{side}.blocks.{layer}.{mine}.{kind}"
                        yield Entry(f"model.{side}.layers.{layer}.{other}.{kind}", (name,), stream=axis)
    words = "model.shared.weight" if shared else "model.decoder.embed_tokens.weight"
    yield Entry("lm_head.weight", ("head.weight",), stream=1, same_as=words if model.config.tied else None)


@dataclass(frozen=True)
class Form:
    """A kind of model of theirs: its entries, what our config must say, and where both configs say the same."""

    entries: Callable[[nn.Module], Iterator[Entry]]
    kinds: tuple[type, ...]  # ours; the first is the one with all heads
    architectures: tuple[str, ...]  # theirs, in the same order
    needs: dict[str, object]  # what must stand in our config
    names: dict[str, str]  # our field: theirs
    fixed: dict[str, object]  # what must stand in their config, if it says anything
    ignored: tuple[str, ...] = ()  # endings of tensors that are no weights: masks and tables


_ALL = {"norm": "layer", "bias": True, "qk_norm": False}
FORMS = {
    "gpt2": Form(
        gpt_entries, (GPT,), ("GPT2LMHeadModel",),
        _ALL | {"positions": "learned", "norm_place": "pre", "scaled_embedding": False, "n_source": None},
        {"n_vocab": "vocab_size", "context": "n_positions", "d_model": "n_embd", "n_heads": "n_head", "n_layers": "n_layer",
         "d_feed_forward": "n_inner", "activation": "activation_function", "norm_eps": "layer_norm_epsilon",
         "dropout": "resid_pdrop"},
        {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
        (".attn.bias", ".attn.masked_bias"),
    ),
    "bert": Form(
        bert_entries, (PreTrainingBert, Bert), ("BertForPreTraining", "BertModel"),
        _ALL | {"positions": "learned", "norm_place": "post", "scaled_embedding": False, "n_source": None},
        {"n_vocab": "vocab_size", "context": "max_position_embeddings", "d_model": "hidden_size",
         "n_heads": "num_attention_heads", "n_layers": "num_hidden_layers", "d_feed_forward": "intermediate_size",
         "activation": "hidden_act", "norm_eps": "layer_norm_eps", "dropout": "hidden_dropout_prob"},
        {"position_embedding_type": "absolute", "is_decoder": False},
        ("embeddings.position_ids", "embeddings.token_type_ids"),
    ),
    "marian": Form(
        marian_entries, (EncoderDecoder,), ("MarianMTModel",),
        _ALL | {"positions": "sinusoidal", "norm_place": "post", "norm_eps": 1e-5},
        {"context": "max_position_embeddings", "d_model": "d_model", "n_heads": "encoder_attention_heads",
         "n_layers": "encoder_layers", "d_feed_forward": "encoder_ffn_dim", "activation": "activation_function",
         "dropout": "dropout"},
        {"static_position_embeddings": True, "normalize_before": False, "normalize_embedding": False},
        (".embed_positions.weight",),
    ),
}  # fmt: skip
ACTIVATION_NAMES = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
USUAL = {  # what a config.json means where it says nothing; Marian's activation is not GPT-2's
    "n_inner": None, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.1,
    "hidden_act": "gelu", "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "dropout": 0.1,
}  # fmt: skip


def form_of(model: nn.Module) -> tuple[str, Form]:
    """The name and the form of theirs that our model has. Raises ValueError with every choice that has no place there."""
    found = [(name, form) for name, form in FORMS.items() if type(model) in form.kinds]
    if not found:
        known = ", ".join(kind.__name__ for form in FORMS.values() for kind in form.kinds)
        raise ValueError(f"{type(model).__name__} has no form in the transformers library; these have: {known}")
    name, form = found[0]
    config = model.config
    faults = [f"{key}={getattr(config, key)!r}" for key, value in form.needs.items() if getattr(config, key) != value]
    if config.n_kv_heads not in (None, config.n_heads):
        faults.append(f"n_kv_heads={config.n_kv_heads!r}")
    if config.d_feed_forward == 0:
        faults.append("d_feed_forward=0")
    if config.activation not in ACTIVATION_NAMES.values():
        faults.append(f"activation={config.activation!r}")
    if faults:
        needed = ", ".join(f"{key}={value!r}" for key, value in form.needs.items())
        raise ValueError(
            f"{form.architectures[0]} has no place for {', '.join(faults)}; train a {type(model).__name__} with {needed}"
        )
    return name, form


def describe(model: nn.Module) -> dict:
    """The `config.json` of theirs for our model, without the special tokens but padding, which are the tokenizer's matter."""
    name, form = form_of(model)
    config = model.config
    found = {theirs: getattr(config, ours) for ours, theirs in form.names.items()}
    activation = form.names["activation"]
    found[activation] = next(theirs for theirs, ours in ACTIVATION_NAMES.items() if ours == found[activation])
    width = 4 * config.d_model if config.d_feed_forward is None else config.d_feed_forward
    found[form.names["d_feed_forward"]] = width
    architecture = form.architectures[form.kinds.index(type(model))]
    found |= {"model_type": name, "architectures": [architecture], "dtype": "float32", "pad_token_id": config.pad}
    return found | _of_one_kind(name, model, found) | {"tie_word_embeddings": config.tied}


def _of_one_kind(name: str, model: nn.Module, found: Mapping) -> dict:
    """What only this kind of model has in its `config.json`."""
    config = model.config
    if name == "gpt2":
        return {"attn_pdrop": 0.0, "embd_pdrop": config.dropout, "bos_token_id": None, "eos_token_id": None}
    if name == "bert":
        bert = model.bert if isinstance(model, PreTrainingBert) else model
        return {"attention_probs_dropout_prob": 0.0, "type_vocab_size": bert.segments.num_embeddings}
    both = {f"decoder_{key.removeprefix('encoder_')}": found[key] for key in found if key.startswith("encoder_")}
    return both | {
        "vocab_size": config.n_source or config.n_vocab, "decoder_vocab_size": config.n_vocab,
        "share_encoder_decoder_embeddings": config.n_source is None, "scale_embedding": config.scaled_embedding,
        "is_encoder_decoder": True, "attention_dropout": 0.0, "activation_dropout": 0.0,
        "decoder_start_token_id": config.pad, "eos_token_id": None, "bos_token_id": None, "forced_eos_token_id": None,
    }  # fmt: skip


def config_of(description: Mapping) -> TransformerConfig:
    """Our config for a `config.json` of theirs. Raises ValueError when it names a model that ours is not."""
    name = description.get("model_type")
    if name not in FORMS:
        raise ValueError(f"config.json describes a model of type {name!r}; ours are the forms of {', '.join(FORMS)}")
    form = FORMS[name]
    usual = USUAL | ({"activation_function": "gelu"} if name == "marian" else {})
    fields = {ours: description.get(theirs, usual.get(theirs, ...)) for ours, theirs in form.names.items()}
    missing = [form.names[key] for key, value in fields.items() if value is ...]
    if missing:
        raise ValueError(f"config.json does not say {', '.join(missing)}; take the file that belongs to the weights")
    faults = [
        f"{key}={description[key]!r}" for key, value in form.fixed.items() if description.get(key, value) != value
    ]
    if fields["activation"] not in ACTIVATION_NAMES:
        faults.append(f"{form.names['activation']}={fields['activation']!r}")
    if name == "marian":
        twins = {one.replace("encoder_", "decoder_"): one for one in form.names.values() if one.startswith("encoder_")}
        faults += [f"{key}={description[key]!r}" for key, one in twins.items()
                   if description.get(key, description[one]) != description[one]]  # fmt: skip
        shared = description.get("share_encoder_decoder_embeddings", True)
        target = description.get("decoder_vocab_size") or description["vocab_size"]
        fields |= {"n_vocab": target, "n_source": None if shared else description["vocab_size"]}
        fields["scaled_embedding"] = description.get("scale_embedding", False)
    if faults:
        raise ValueError(f"a {form.kinds[0].__name__} of this course cannot compute with {', '.join(faults)}")
    if fields["d_feed_forward"] == 4 * fields["d_model"]:
        fields["d_feed_forward"] = None
    fields["activation"] = ACTIVATION_NAMES[fields["activation"]]
    pad = description.get("pad_token_id", 0 if name == "bert" else None)
    tied = description.get("tie_word_embeddings", True)
    return TransformerConfig(**(form.needs | fields), pad=pad, tied=tied)


def stream_order(d_model: int) -> Tensor:
    """For each column of Marian's residual stream the column of ours: first all sines, then all cosines."""
    return torch.cat([torch.arange(0, d_model, 2), torch.arange(1, d_model, 2)])


def to_theirs(model: nn.Module) -> dict[str, Tensor]:
    """Our weights under their names and in their shapes: what their model's `load_state_dict` takes.

    Raises ValueError when the model has no form of theirs.
    """
    name, form = form_of(model)
    ours, theirs = model.state_dict(), {}
    order = stream_order(model.config.d_model)
    for entry in form.entries(model):
        tensor = torch.cat([ours[part] for part in entry.ours])
        if entry.stream is not None:
            tensor = tensor.index_select(entry.stream, order.to(tensor.device))
        theirs[entry.theirs] = tensor.t() if entry.turned and tensor.dim() == 2 else tensor
    if name == "marian":
        theirs["final_logits_bias"] = torch.zeros(1, model.config.n_vocab, device=model.head.weight.device)
    return theirs


def from_theirs(
    tensors: Mapping[str, Tensor], description: Mapping, kind: type | None = None, source: object = "the file"
) -> nn.Module:
    """Our model with their weights, ready to use.

    description: their `config.json`. kind: `Bert` to take the encoder of a BERT and leave its heads, whatever they are;
    None takes all that is there. Raises ValueError that names every tensor that is missing, unexpected or of another shape.
    """
    config = config_of(description)
    form = FORMS[description["model_type"]]
    given = _cleaned(tensors, description["model_type"], form)
    if kind is Bert:
        given = _without_heads(given)
    kind = kind or (form.kinds[-1] if not any(name.startswith("cls.") for name in given) else form.kinds[0])
    if kind not in form.kinds:
        raise ValueError(f"{source} holds a {form.architectures[0]}, which no {kind.__name__} can be made of")
    model = kind(config, description.get("type_vocab_size", 2)) if kind is Bert else kind(config)
    if kind is Bert:
        given = {name.removeprefix("bert."): one for name, one in given.items()}
    given = _checked(given, model, form, source)
    ours: dict[str, Tensor] = {}
    back = stream_order(config.d_model).argsort()
    for entry in form.entries(model):
        tensor = given[entry.theirs].t() if entry.turned and given[entry.theirs].dim() == 2 else given[entry.theirs]
        tensor = tensor if entry.stream is None else tensor.index_select(entry.stream, back)
        ours |= zip(entry.ours, tensor.chunk(len(entry.ours)), strict=True)
    load_weights(model, ours, str(source))
    return model.eval()


def _cleaned(tensors: Mapping[str, Tensor], name: str, form: Form) -> dict[str, Tensor]:
    """The weights alone, under the newest of the names that they have had."""
    given = {}
    for key, tensor in tensors.items():
        if name == "gpt2" and not key.startswith(("transformer.", "lm_head.")):
            key = f"transformer.{key}"  # of a model that was saved without its head
        if name == "bert":
            key = key.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if not key.endswith(form.ignored):
            given[key] = tensor
    return given


def _without_heads(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """A BERT's encoder alone. Beside heads, of whatever kind, its names begin with "bert."; alone they need not."""
    return {key: tensor for key, tensor in given.items() if key.startswith("bert.")} or given


def _checked(given: dict[str, Tensor], model: nn.Module, form: Form, source: object) -> dict[str, Tensor]:
    """All tensors of their model, those that files leave out filled in; or the ValueError that names all faults."""
    given, bias = dict(given), given.get("final_logits_bias")
    expected = to_theirs(model)
    repeats = {entry.theirs: entry.same_as for entry in form.entries(model) if entry.same_as}
    faults = []
    if bias is not None and bias.any():
        faults.append("final_logits_bias is not zero, and our head has no bias")
    if "final_logits_bias" in expected:
        given.setdefault("final_logits_bias", expected["final_logits_bias"])
    for name, original in repeats.items():
        if original not in given and name in given:  # either of the two may be the one that is in the file
            given[original] = given[name]
        if name not in given and original in given:
            given[name] = given[original]
        elif name in given and not torch.equal(given[name], given[original]):
            faults.append(f"{name} differs from {original}, which config.json says it repeats")
    faults += mismatches(expected, given)
    if faults:
        raise ValueError(f"{source} does not fit its config.json: {'; '.join(sorted(faults))}")
    return given
