"""Exercises of chapter 13: map weights, read a config, pad, count bytes, find what a model breaks, and read a licence."""

import torch

from llmcourse.exercises import Exercise, Wrong, mistake, solution

CHAPTER = 13
ORDER = ("task", "language", "context", "licence", "memory", "privacy")  # of the conditions of a choice


class PredictCache(Exercise):
    """Predict, then run: how large is a cache with shared heads?"""

    prompt = (
        "Predict before you run the next cell. Mistral 7B has 32 layers, 32 heads of queries and 8 heads of keys and values, "
        "each 128 wide. It reads 4,096 tokens in float16, 2 bytes a number. How many MiB (1,048,576 bytes) does its cache of "
        "keys and values take? Give a number."
    )
    difficulty, minutes, tolerance = 1, 4, 1e-9
    hints = (
        "What is stored for one position in one layer? A key and a value for each of the 8 heads.",
        "2 · 8 · 128 numbers for a position and a layer; times 32 layers, 4,096 positions and 2 bytes.",
    )
    praise = "correct: 512 MiB. With a head of keys for each of its 32 heads of queries it would be 2 GiB."

    @solution
    def mebibytes():
        return 2 * 32 * 8 * 128 * 4096 * 2 / 2**20

    @mistake("You stored the keys and forgot the values. Both are needed for every later token.")
    def keys_only():
        return 32 * 8 * 128 * 4096 * 2 / 2**20

    @mistake("You counted the heads of the queries. Queries are not stored; the 8 heads of keys and values are.")
    def query_heads():
        return 2 * 32 * 32 * 128 * 4096 * 2 / 2**20

    @mistake("You counted 4 bytes a number. Float16 has 2.")
    def four_bytes():
        return 2 * 32 * 8 * 128 * 4096 * 4 / 2**20

    @mistake("You counted one layer. Each of the 32 keeps keys and values of its own.")
    def one_layer():
        return 2 * 8 * 128 * 4096 * 2 / 2**20


class MapAttention(Exercise):
    """From their attention weights to ours."""

    prompt = (
        "Write `map_attention(theirs)`. The dictionary holds GPT-2's `c_attn.weight` of shape (C, 3C), `c_attn.bias` of shape "
        "(3C,), `c_proj.weight` of shape (C, C) and `c_proj.bias`. Conv1D keeps a matrix as (in, out), and the three parts stand "
        "in the order query, key, value. Return a dictionary with `query.weight`, `query.bias`, and the same for `key`, "
        "`value` and `out`, each matrix as Linear keeps it: (out, in)."
    )
    difficulty, minutes = 2, 12
    hints = (
        "Turn the matrix first: then the three parts lie one below the other.",
        "`theirs['c_attn.weight'].T.chunk(3)` gives three matrices of shape (C, C).",
        "The bias is a vector: there is nothing to turn. `c_proj.weight` is square, so nothing would complain; turn it.",
    )
    praise = (
        "correct. A square matrix never complains about its orientation, so only numbers can show that it is right."
    )

    @classmethod
    def probes(cls, seed):
        draw = torch.Generator().manual_seed(seed)
        return [
            ({"c_attn.weight": torch.randn(C, 3 * C, generator=draw), "c_attn.bias": torch.randn(3 * C, generator=draw),
              "c_proj.weight": torch.randn(C, C, generator=draw), "c_proj.bias": torch.randn(C, generator=draw)},)
            for C in (4, 6)
        ]  # fmt: skip

    @solution
    def map_attention(theirs):
        names = ("query", "key", "value")
        ours = {f"{n}.weight": part for n, part in zip(names, theirs["c_attn.weight"].T.chunk(3), strict=True)}
        ours |= {f"{n}.bias": part for n, part in zip(names, theirs["c_attn.bias"].chunk(3), strict=True)}
        return ours | {"out.weight": theirs["c_proj.weight"].T, "out.bias": theirs["c_proj.bias"]}

    @mistake(
        "You cut out the right columns and did not turn them. Each part is square, so nothing complains; but Conv1D "
        "multiplies by W and Linear by its transpose."
    )
    def conv_not_turned(theirs):
        return _named(theirs, theirs["c_attn.weight"].chunk(3, dim=1)) | {"out.weight": theirs["c_proj.weight"]}

    @mistake("You turned `c_attn` and forgot `c_proj`. It is square, so it fits either way, and is wrong this way.")
    def out_not_turned(theirs):
        return _named(theirs, theirs["c_attn.weight"].T.chunk(3)) | {"out.weight": theirs["c_proj.weight"]}

    @mistake("You took the parts as key, query, value. GPT-2 has query first, then key, then value.")
    def key_first(theirs):
        return _named(theirs, theirs["c_attn.weight"].T.chunk(3), names=("key", "query", "value"))

    @mistake("You took the parts as query, value, key. GPT-2 has query first, then key, then value.")
    def value_second(theirs):
        return _named(theirs, theirs["c_attn.weight"].T.chunk(3), names=("query", "value", "key"))

    @mistake(
        "You reshaped the matrix instead of turning it. `reshape` keeps the numbers in their order of storage and only draws "
        "the lines elsewhere; `.T` moves them."
    )
    def reshaped(theirs):
        C = len(theirs["c_attn.weight"])
        return _named(theirs, theirs["c_attn.weight"].reshape(3 * C, C).chunk(3))

    @mistake(
        "You took every third row for the queries. Some models store the parts interleaved; GPT-2 stores all queries, then "
        "all keys, then all values."
    )
    def interleaved(theirs):
        weights = [theirs["c_attn.weight"].T[part::3] for part in range(3)]
        return _named(theirs, weights, [theirs["c_attn.bias"][part::3] for part in range(3)])


def _named(theirs, weights, biases=None, names=("query", "key", "value")):
    """What `map_attention` returns, of parts that a wrong answer has cut or named otherwise."""
    biases = theirs["c_attn.bias"].chunk(3) if biases is None else biases
    ours = {f"{name}.weight": part for name, part in zip(names, weights, strict=True)}
    ours |= {f"{name}.bias": part for name, part in zip(names, biases, strict=True)}
    return ours | {"out.weight": theirs["c_proj.weight"].T, "out.bias": theirs["c_proj.bias"]}


class ReadTheConfig(Exercise):
    """What a config says, and what it means where it says nothing."""

    prompt = (
        "Write `settings(config)` for a `config.json` as a dictionary. Return a dictionary with `norm_eps`, `activation` and "
        "`tied`. With `model_type` `'gpt2'` the keys are `layer_norm_epsilon` (1e-5 if absent) and `activation_function` "
        "(`'gelu_new'` if absent); with `'bert'` they are `layer_norm_eps` (1e-12 if absent) and `hidden_act` (`'gelu'` if "
        "absent). Our names are `'gelu'` for `'gelu'` and `'gelu_tanh'` for `'gelu_new'`. `tie_word_embeddings` is True if "
        "absent."
    )
    difficulty, minutes, tolerance = 1, 10, 0.0
    hints = (
        "`config.get(key, usual)` takes the usual value where the key is absent.",
        "Two families, two sets of keys, two usual values: begin with `if config['model_type'] == 'bert':`.",
        "'gelu_new' is the tanh approximation. 'gelu' is the exact function.",
    )
    praise = "correct. Epsilon and activation have no weight, so no list of missing keys would have told you."

    @classmethod
    def probes(cls, seed):
        return [
            ({"model_type": "gpt2"},),
            ({"model_type": "bert"},),
            ({"model_type": "gpt2", "layer_norm_epsilon": 1e-6, "activation_function": "gelu"},),
            ({"model_type": "bert", "layer_norm_eps": 1e-5, "hidden_act": "gelu_new", "tie_word_embeddings": False},),
        ]

    @solution
    def settings(config):
        if config["model_type"] == "bert":
            eps, activation = config.get("layer_norm_eps", 1e-12), config.get("hidden_act", "gelu")
        else:
            eps, activation = config.get("layer_norm_epsilon", 1e-5), config.get("activation_function", "gelu_new")
        ours = {"gelu": "gelu", "gelu_new": "gelu_tanh"}[activation]
        return {"norm_eps": eps, "activation": ours, "tied": config.get("tie_word_embeddings", True)}

    @mistake(
        "Your BERT divides by a variance with 1e-5 added, which is torch's usual value. BERT's usual value is 1e-12. On states "
        "of ordinary size you would hardly see it, on small ones you would."
    )
    def torch_eps_for_bert(config):
        return ReadTheConfig.solution({"layer_norm_eps": 1e-5} | config)

    @mistake("You gave GPT-2 the usual value of BERT's norm, 1e-12. GPT-2's is 1e-5.")
    def bert_eps_for_gpt(config):
        return ReadTheConfig.solution({"layer_norm_epsilon": 1e-12} | config)

    @mistake("You look for `layer_norm_eps` in both. GPT-2's key is `layer_norm_epsilon`, and you never read it.")
    def one_key_for_both(config):
        return ReadTheConfig.solution({key: value for key, value in config.items() if key != "layer_norm_epsilon"})

    @mistake("You call every GELU 'gelu'. 'gelu_new' is another function, the tanh approximation: ours is 'gelu_tanh'.")
    def one_gelu(config):
        return ReadTheConfig.solution(config) | {"activation": "gelu"}

    @mistake("You swapped the two: 'gelu_new' is the tanh approximation, 'gelu' the exact function.")
    def gelus_swapped(config):
        right = ReadTheConfig.solution(config)
        return right | {"activation": {"gelu": "gelu_tanh", "gelu_tanh": "gelu"}[right["activation"]]}

    @mistake(
        "Where the config says nothing you take the head as untied. These families tie it: the file holds no head, and an "
        "untied one would stay random."
    )
    def untied_if_absent(config):
        return ReadTheConfig.solution({"tie_word_embeddings": False} | config)

    @mistake("You always tie the head. When the config says False, the file holds a head of its own, and you drop it.")
    def always_tied(config):
        return ReadTheConfig.solution(config) | {"tied": True}


class PadOnTheLeft(Exercise):
    """A batch for a model that writes, as their library wants it."""

    prompt = (
        "Write `left_padded(rows, pad)` for a list of lists of ids. A model that writes goes on at the end of each row, so short "
        "rows are filled up on the left. Return three tensors of whole numbers, each of shape (rows, longest): the ids with "
        "`pad` in front; the mask, 1 at ids of the row and 0 at padding; and the positions, 0, 1, 2, ... from each row's own "
        "first id, and 0 at padding. GPT-2 has no padding token, and its end-of-text token is often used as one, so `pad` may "
        "also stand inside a row."
    )
    difficulty, minutes = 2, 10
    hints = (
        "`[pad] * (T - len(row)) + row` fills up one row. T is the longest length.",
        "Make the mask of the lengths, not of the values: an id that equals `pad` may belong to the text.",
        "`mask.cumsum(dim=1) - 1` counts 0, 1, 2, ... from the first 1 on. What stands before it?",
    )
    praise = "correct. Forgetting the mask or the positions raises no error in their library; the text only gets worse."

    @classmethod
    def probes(cls, seed):
        longer = [[7 + seed, 3, 0, 9, 2], [4, 0], [5], [0, 8, 6]]
        return [(longer, 0), ([[9, 1], [2, 9, 9, 3]], 9)]

    @classmethod
    def observe(cls, answer, probe):
        parts = answer(*probe)
        if not isinstance(parts, tuple | list) or not all(isinstance(part, torch.Tensor) for part in parts):
            return parts
        return tuple(part.long() if part.dtype in (torch.int32, torch.int16, torch.int8) else part for part in parts)

    @solution
    def left_padded(rows, pad):
        T = max(len(row) for row in rows)
        tokens = torch.tensor([[pad] * (T - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (T - len(row)) + [1] * len(row) for row in rows])
        return tokens, mask, (mask.cumsum(dim=1) - 1).clamp(min=0)

    @mistake("You filled up on the right. The model would go on after the padding, and not after the text.")
    def on_the_right(rows, pad):
        T = max(len(row) for row in rows)
        tokens = torch.tensor([row + [pad] * (T - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (T - len(row)) for row in rows])
        return tokens, mask, (mask.cumsum(dim=1) - 1).clamp(min=0) * mask

    @mistake("Your mask is upside down: 1 means *look here*. The model would read the padding and skip the text.")
    def mask_inverted(rows, pad):
        tokens, mask, positions = PadOnTheLeft.solution(rows, pad)
        return tokens, 1 - mask, positions

    @mistake(
        "You made the mask with `tokens != pad`. Where the end-of-text token is also the padding, that hides a real token of "
        "the text. Use the lengths."
    )
    def mask_of_values(rows, pad):
        tokens, _, _ = PadOnTheLeft.solution(rows, pad)
        mask = (tokens != pad).long()
        return tokens, mask, (mask.cumsum(dim=1) - 1).clamp(min=0)

    @mistake(
        "Your mask is right and your positions count the padding: a short row begins at 3, say, where it was trained to "
        "begin at 0."
    )
    def positions_of_columns(rows, pad):
        tokens, mask, _ = PadOnTheLeft.solution(rows, pad)
        return tokens, mask, torch.arange(tokens.shape[1]).expand_as(tokens).clone()

    @mistake("Your positions begin at 1. The first id of a row has position 0: subtract 1 from the running sum.")
    def positions_from_one(rows, pad):
        tokens, mask, _ = PadOnTheLeft.solution(rows, pad)
        return tokens, mask, mask.cumsum(dim=1)

    @mistake(
        "Padding has position -1 in your answer, and the table has no such row: an error, or its last row. Clamp at 0."
    )
    def negative_positions(rows, pad):
        tokens, mask, _ = PadOnTheLeft.solution(rows, pad)
        return tokens, mask, mask.cumsum(dim=1) - 1


class CountTheBytes(Exercise):
    """A memory calculator, for running and for training."""

    prompt = (
        "Write `bytes_needed(model, length, batch, each, training)`. `model` is a dictionary with `parameters`, `layers`, `heads`, "
        "`kv_heads` and `d_head`; `each` is the number of bytes of one number. To run, count the weights and the cache of "
        "`batch` rows of `length` positions. To train with AdamW (`training` is True), count the weights, the gradients and "
        "AdamW's two moments; a model in training keeps no cache."
    )
    difficulty, minutes, tolerance = 1, 10, 0.01
    hints = (
        "The cache holds a key and a value: for each layer, row, head of keys, position, and number of the head.",
        "`2 * layers * batch * kv_heads * length * d_head` numbers.",
        "To train: four numbers a parameter.",
    )
    praise = "correct to 1 %. What is left out is the activations, which depend on how much is recomputed."

    @classmethod
    def probes(cls, seed):
        small = {"parameters": 10_000 + seed, "layers": 3, "heads": 8, "kv_heads": 2, "d_head": 16}
        large = {"parameters": 50_000 + seed, "layers": 6, "heads": 6, "kv_heads": 6, "d_head": 32}
        return [(small, 50, 3, 4, False), (small, 20, 2, 2, True), (large, 128, 1, 2, False)]

    @solution
    def bytes_needed(model, length, batch, each, training):
        if training:
            return 4 * model["parameters"] * each
        cache = 2 * model["layers"] * batch * model["kv_heads"] * length * model["d_head"]
        return (model["parameters"] + cache) * each

    @mistake("Your cache holds keys and no values. Both are kept: there is a factor of 2.")
    def no_values(model, length, batch, each, training):
        return _total(model, _cached(model, length, batch) // 2, each, training)

    @mistake("You count the heads of the queries. Where heads of keys are shared, only `kv_heads` of them are kept.")
    def all_heads(model, length, batch, each, training):
        return _total(model, _cached(model | {"kv_heads": model["heads"]}, length, batch), each, training)

    @mistake("You forgot the batch. Each row has a cache of its own; only the weights are shared.")
    def one_row(model, length, batch, each, training):
        return _total(model, _cached(model, length, 1), each, training)

    @mistake("You count the cache of one layer. Every layer has its own.")
    def one_layer(model, length, batch, each, training):
        return _total(model, _cached(model | {"layers": 1}, length, batch), each, training)

    @mistake("AdamW keeps two moments of each parameter, and you count one: weights, gradients, moment, moment.")
    def one_moment(model, length, batch, each, training):
        return _total(model, _cached(model, length, batch), each, training, n_kept=3)

    @mistake("In training you count the weights alone. A gradient and two moments of each come on top.")
    def weights_alone(model, length, batch, each, training):
        return _total(model, _cached(model, length, batch), each, training, n_kept=1)

    @mistake(
        "You add the cache in training too. All positions are computed at once there, so no cache is needed; what is kept for "
        "the backward pass are activations, which are not counted here."
    )
    def cache_in_training(model, length, batch, each, training):
        cache = _cached(model, length, batch)
        return _total(model, cache, each, training) + (cache * each if training else 0)

    @mistake("You count numbers, not bytes: multiply by `each`.")
    def numbers_for_bytes(model, length, batch, each, training):
        return _total(model, _cached(model, length, batch), 1, training)


def _cached(model, length, batch):
    """Numbers in a cache."""
    return 2 * model["layers"] * batch * model["kv_heads"] * length * model["d_head"]


def _total(model, cache, each, training, n_kept=4):
    """Bytes of a model, of parts that a wrong answer has counted otherwise."""
    return (n_kept * model["parameters"] if training else model["parameters"] + cache) * each


class BrokenConditions(Exercise):
    """Which conditions does a model break?"""

    prompt = (
        "Write `broken(card, needs)`: the list of conditions that the card breaks, in this order: `'task'`, `'language'`, "
        "`'context'`, `'licence'`, `'memory'`, `'privacy'`. A card has `tasks` and `languages` (sets), `context`, `commercial` "
        "(whether the licence allows it), `parameters`, and `hosted` (whether texts leave the machine). The needs are "
        "`task`, `language`, `length`, `commercial`, `memory` in bytes, `each` (bytes a parameter) and `private`. Exactly "
        "fitting is fitting."
    )
    difficulty, minutes = 2, 12
    hints = (
        "Six `if`s, each with an `append`. Do not stop at the first.",
        "A licence without commercial use breaks nothing for somebody who does not ask for it.",
        "Memory: `card['parameters'] * needs['each'] > needs['memory']`.",
    )

    @classmethod
    def probes(cls, seed):
        card = {"tasks": {"embed"}, "languages": {"en", "de"}, "context": 512, "commercial": False, "parameters": 100 + seed,
                "hosted": True}  # fmt: skip
        needs = {"task": "embed", "language": "de", "length": 512, "commercial": False, "memory": 2 * (100 + seed), "each": 2,
                 "private": False}  # fmt: skip
        return [
            (card, needs | {"task": "generate", "length": 513}),
            (card, needs | {"language": "fr", "commercial": True, "private": True, "memory": 10}),
            (card, needs | {"memory": 2 * (100 + seed) - 1, "length": 100}),
            (card | {"hosted": False, "commercial": True}, needs | {"private": True, "commercial": True}),
            (card | {"hosted": False, "commercial": True}, needs | {"each": 4, "memory": 3 * (100 + seed)}),
        ]

    @solution
    def broken(card, needs):
        found = []
        if needs["task"] not in card["tasks"]:
            found.append("task")
        if needs["language"] not in card["languages"]:
            found.append("language")
        if needs["length"] > card["context"]:
            found.append("context")
        if needs["commercial"] and not card["commercial"]:
            found.append("licence")
        if card["parameters"] * needs["each"] > needs["memory"]:
            found.append("memory")
        if needs["private"] and card["hosted"]:
            found.append("privacy")
        return found

    @mistake(
        "You stop at the first broken condition. Who chooses wants to see all: one may be negotiable and another not."
    )
    def first_only(card, needs):
        return BrokenConditions.solution(card, needs)[:1]

    @mistake("A text of exactly `context` tokens fits. Compare with `>`, not `>=`.")
    def strict_context(card, needs):
        found = BrokenConditions.solution(card, needs)
        if needs["length"] == card["context"]:
            found.append("context")
        return sorted(found, key=ORDER.index)

    @mistake(
        "A model that takes all of the memory, and no byte more, fits: exactly fitting is fitting, so `>`, not `>=`."
    )
    def strict_memory(card, needs):
        found = BrokenConditions.solution(card, needs)
        if card["parameters"] * needs["each"] == needs["memory"]:
            found.append("memory")
        return sorted(found, key=ORDER.index)

    @mistake("You reject a non-commercial licence although nobody asked for commercial use.")
    def licence_always(card, needs):
        found = [one for one in BrokenConditions.solution(card, needs) if one != "licence"]
        found += [] if card["commercial"] else ["licence"]
        return sorted(found, key=ORDER.index)

    @mistake(
        "You ask whether licence and wish differ. A licence that allows commercial use is also right for somebody who does "
        "not ask for it."
    )
    def licence_differs(card, needs):
        found = [one for one in BrokenConditions.solution(card, needs) if one != "licence"]
        found += ["licence"] if card["commercial"] != needs["commercial"] else []
        return sorted(found, key=ORDER.index)

    @mistake("You count 2 bytes a parameter whatever is asked. The needs say how many: `needs['each']`.")
    def always_two_bytes(card, needs):
        return BrokenConditions.solution(card, needs | {"each": 2})

    @mistake("You compare parameters with bytes. A parameter takes `each` bytes.")
    def parameters_for_bytes(card, needs):
        found = [one for one in BrokenConditions.solution(card, needs) if one != "memory"]
        found += ["memory"] if card["parameters"] > needs["memory"] else []
        return sorted(found, key=ORDER.index)

    @mistake("You reject every hosted model, although this text may leave the machine.")
    def hosted_always(card, needs):
        found = [one for one in BrokenConditions.solution(card, needs) if one != "privacy"]
        return found + (["privacy"] if card["hosted"] else [])

    @mistake("You forgot the licence. It is no number, and decides before all numbers.")
    def no_licence(card, needs):
        return [one for one in BrokenConditions.solution(card, needs) if one != "licence"]

    @mistake("You forgot privacy: a model that runs elsewhere receives every text that it reads.")
    def no_privacy(card, needs):
        return [one for one in BrokenConditions.solution(card, needs) if one != "privacy"]


class ReadTheLicence(Exercise):
    """What a licence allows is what it says, not what its name suggests."""

    prompt = (
        "Read the licence above and judge six plans. A: a company studies the model and earns nothing with it. B: a shop "
        "puts it behind a paid service. C: a student publishes a fine-tuned version under the same licence and names the source. "
        "D: the same without naming the source. E: a clinic uses it, unpaid, to decide alone who is treated. F: a teacher "
        "sells a book of poems that the model wrote. Let `allowed()` return the letters of all plans that are allowed as one "
        "string, such as `'AB'`."
    )
    difficulty, minutes = 1, 6
    hints = (
        "Paragraph 1 forbids a use, not a kind of person or firm.",
        "Paragraph 4 is about what the model writes, not about the model.",
    )
    praise = "correct: A, C and F. A licence is a text with definitions; its name decides nothing."

    @classmethod
    def verify(cls, answer, seed=0):
        given = answer()
        if not isinstance(given, str) or not set(given) <= set("ABCDEF"):
            raise Wrong("give the letters of the allowed plans as one string, such as 'AB'.")
        right = sum((plan in given) == (plan in cls.solution()) for plan in "ABCDEF")
        if right < 6:
            raise Wrong(f"{right} of the six plans are judged as the licence does. Read each paragraph once more.")

    @solution
    def allowed():
        return "ACF"

    @mistake("A is allowed: paragraph 1 forbids earning with the model, and says nothing of who you are.")
    def companies_forbidden():
        return "CF"

    @mistake("D is not allowed: paragraph 2 asks for the source to be named.")
    def no_attribution():
        return "ACDF"

    @mistake("E is not allowed: paragraph 3 forbids it, paid or not. A licence can forbid uses as well as sales.")
    def only_money_counts():
        return "ACEF"

    @mistake(
        "F is allowed: paragraph 4 lets you sell what the model writes. This differs between licences, so look it up."
    )
    def outputs_covered():
        return "AC"

    @mistake("B is not allowed: a paid service is earning with the model, and paragraph 1 names it.")
    def services_allowed():
        return "ABCF"
