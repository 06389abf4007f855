"""Every view, built twice: the tests that hold for all views, whatever they show, go through `ALL`.

Who adds a view adds it here. Its tokens must hold those of `TOKENS` that look like HTML.
"""

from types import SimpleNamespace

import torch
from torch import nn

from llmcourse.answering import SPECIAL, PointingReader
from llmcourse.attention import causal_mask
from llmcourse.bert import PreTrainingBert
from llmcourse.calibration import confidence_and_choice
from llmcourse.models import GPT
from llmcourse.tokenizers import BPETokenizer, WordTokenizer
from llmcourse.transformer import TransformerConfig
from llmcourse.translation import beam_search
from llmcourse.visualize import (
    beams,
    bias,
    blocks,
    calibration,
    heads,
    knowledge,
    live,
    masks,
    preferences,
    views,
    widgets,
)
from llmcourse.visualize.security import Traced, trust_boundaries
from llmcourse.visualize.twins import side_by_side

TOKENS = ["the", "cat", "sat", "</script>", "<script>alert(1)</script>"]
TEXT = "the cat sat on the mat and that was that. 猫坐在垫子上。"


def example(seed=0, T=5, D=4):
    """Queries, keys and values of one head."""
    return torch.randn(3, T, D, generator=torch.Generator().manual_seed(seed)).double()


def random_maps(seed=0):
    """What `record_attention` collects: two layers of three heads, a batch of two."""
    generator = torch.Generator().manual_seed(seed)
    return {name: (2 * torch.randn(2, 3, 5, 5, generator=generator)).softmax(-1) for name in ("first", "second")}


def tokenizer():
    return BPETokenizer.train(TEXT * 2, 290)


def logits(seed=0, V=30):
    return 2 * torch.randn(V, generator=torch.Generator().manual_seed(seed)).double()


def words(V=30):
    return TOKENS + [f"word{i}" for i in range(V - len(TOKENS))]


def steps_view(seed=0, mask=None):
    return views.attention_steps(*example(seed), TOKENS, mask)


def heads_view(seed=0, keys=None):
    return views.attention_heads(random_maps(seed), TOKENS, keys)


def merges_view():
    return views.merge_steps(tokenizer(), TEXT)


def bars_view(seed=0):
    return views.next_token_bars(words(), logits(seed), exact=logits(seed + 1).softmax(-1), prefix="the </script>")


def flip_page():
    show = lambda n, kind: views.next_token_bars(words()[:n], logits(len(kind))[:n])  # noqa: E731
    return widgets.explore(show, n=[5, 9], kind=["a", "bb"]).page


def grid_view(seed=0):
    return heads.head_grid(random_maps(seed), TOKENS)


def neuron_view(seed=0, mask=None, D=4):
    query, key, _ = example(seed, D=D)
    return heads.neuron_view(query, key, TOKENS, mask)


OTHER_TOKENS = ["the", "dog", "sat", "down", "</script>", "<script>alert(1)</script>"]


def other_maps(seed=5):
    generator = torch.Generator().manual_seed(seed)
    return {name: (2 * torch.randn(1, 3, 6, 6, generator=generator)).softmax(-1) for name in ("first", "second")}


def compare_view(seed=0):
    return heads.compare(random_maps(seed), TOKENS, other_maps(), OTHER_TOKENS)


SOURCE = ["le", "chat", "</script>", "est", "assis", "<img src=x onerror=alert(1)>"]
GOLD = {(0, 0), (1, 1), (2, 3), (2, 4), (3, 2)}  # the last of TOKENS is linked to nothing


def cross_heads(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {f"head {i}": (2 * torch.randn(5, 6, generator=generator)).softmax(-1) for i in range(2)}


def alignment_view(seed=0):
    return heads.alignment(cross_heads(seed), SOURCE, TOKENS, GOLD)


FRAMES = {100: 2, 0: 0, 10: 1}  # the step of each checkpoint, and the seed of its maps
CURVES = {"loss of </script>": {0: 3.5, 5: 2.5, 10: 2.0, 100: 1.25}, "share": {10: 0.25, 50: 0.75}}


def dynamics_view():
    return heads.dynamics({step: random_maps(seed) for step, seed in FRAMES.items()}, TOKENS, CURVES, log_x=True)


def stream(seed=0, C=6):
    """What `stream_parts` finds: four parts of a stream over five tokens."""
    generator = torch.Generator().manual_seed(seed)
    names = ("embedding", "blocks.0.attention", "blocks.0.feed_forward", "</script>")
    return {name: torch.randn(5, C, generator=generator).double() for name in names}


def stream_view(seed=0, direction=None):
    return blocks.residual_stream(stream(seed), TOKENS, position=2, direction=direction)


def clock_pair(seed=0, D=8):
    return torch.randn(2, D, generator=torch.Generator().manual_seed(seed)).double()


def clock_view(seed=0, D=8):
    return blocks.rope_clock(*clock_pair(seed, D), base=100.0, positions=12, names=("</script>", "cat"))


def painter_view(seed=0, layers=1):
    mask = torch.rand(5, 5, generator=torch.Generator().manual_seed(seed)) < 0.4
    return masks.mask_painter(TOKENS, mask, layers=layers, output=4)


def small_gpt(seed=0, V=12, **settings):
    """A model whose predictions and heads differ clearly."""
    torch.manual_seed(seed)
    model = GPT(TransformerConfig(**{"n_vocab": V, "context": 12, "d_model": 16, "n_heads": 2} | settings)).eval()
    for weight in model.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.2)
    return model


LIVE_IDS = [0, 3, 4, 2, 1, 0, 7]  # of `words`: two of them look like HTML


def lens_view(seed=0):
    return live.logit_lens(small_gpt(seed), LIVE_IDS, words(12))


def ablate_view(seed=0, **opens):
    return live.ablate(small_gpt(seed), torch.tensor([LIVE_IDS]), words(12), **opens)


class TableModel(nn.Module):
    """A model of which everything is known: a table (V, V) says what follows each token; it needs no source."""

    def __init__(self, table):
        super().__init__()
        self.table, self.config = table, SimpleNamespace(context=12)

    def encode(self, source):
        return source[..., None].float()

    def new_cache(self):
        return []

    def decode(self, tokens, memory, source, cache=None):
        return self.table[tokens].log()


PIECES = ["[BEGIN]", "[END]", *TOKENS]


def follow_table(seed=0):
    """Probabilities of what follows each of `PIECES`; nothing says [BEGIN], and no text is empty."""
    scores = 1.6 * torch.randn(7, 7, generator=torch.Generator().manual_seed(seed)).double()
    scores[:, 0] = scores[0, 1] = -torch.inf
    return scores.softmax(-1)


def beam_trace(seed=0, n_beams=4, length_penalty=1.0, max_new=8):
    source, choices = torch.tensor([[2, 1]]), {"n_beams": n_beams, "length_penalty": length_penalty}
    return beam_search(TableModel(follow_table(seed)), source, begin=0, end=1, max_new=max_new, **choices)[0]


def beams_view(seed=0, n_beams=4, **choices):
    return beams.beam_tree(beam_trace(seed, n_beams), PIECES.__getitem__, **choices)


BLANKS = "the cat [MASK] . it [MASK] again ."


def small_bert(seed=0):
    """A BERT and the words it knows, of which two look like HTML."""
    torch.manual_seed(seed)
    special = ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = WordTokenizer([*TOKENS, "it", "again", "slept", ".", ","], special)
    config = TransformerConfig(
        n_vocab=len(tokenizer),
        context=16,
        d_model=16,
        n_heads=2,
        positions="learned",
        norm_place="post",
        tied=True,
        pad=0,
    )
    model = PreTrainingBert(config).eval()
    for weight in model.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.3)
    return model, tokenizer


def blanks_view(seed=0, text=BLANKS, **opens):
    return live.fill_blanks(*small_bert(seed), text, **opens)


FACTS = [f"the cat sat {TOKENS[3]} .", f"{TOKENS[4]} slept .", "it sat again .", "the cat slept .", "it slept again ."]
ASKED = f"it {TOKENS[4]} ?"


def small_reader(seed=0):
    """A reader of facts and the words it knows, of which two look like HTML."""
    torch.manual_seed(seed)
    tokenizer = WordTokenizer([*TOKENS, "it", "again", "slept", ".", "?"], SPECIAL)
    settings = {"n_vocab": len(tokenizer), "context": 40, "d_model": 16, "n_heads": 2, "bias": False, "pad": 0}
    reader = PointingReader(TransformerConfig(**settings)).eval()
    for weight in reader.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.3)
    return reader, tokenizer


def facts_view(seed=0, question=ASKED, **opens):
    return knowledge.ask_facts(*small_reader(seed), FACTS, question, **opens)


def answers(seed=0, N=80, K=4):
    """Logits of a few choices and the right ones, with the three decimals that the page keeps."""
    generator = torch.Generator().manual_seed(seed)
    scores = (3000 * torch.randn(N, K, generator=generator).double()).round() / 1000
    return scores, torch.randint(K, (N,), generator=generator)


def answered(seed=0):
    """How sure each answer is, and whether it is right."""
    scores, labels = answers(seed)
    confidence, choice = confidence_and_choice(scores)
    return confidence, choice == labels


def reliability_view(seed=0, **opens):
    return calibration.reliability(*answers(seed), **opens)


def selective_view(seed=0, **opens):
    return calibration.selective(*answered(seed), **opens)


def traced_example(seed=0):
    zones = ["system", "document", "document", "assistant", "assistant"]
    return Traced(TOKENS, zones, [1, 2], 3, random_maps(seed))


def boundaries_view(seed=0, said=0):
    return trust_boundaries({f"model {i} </script>": traced_example(i) for i in (seed, seed + 1)}, said=said)


ALL = {
    "attention_steps": lambda: [steps_view(0, causal_mask(5)), steps_view(1)],
    "attention_heads": lambda: [heads_view(0), heads_view(1, [f"k{i}" for i in range(5)])],
    "merge_steps": lambda: [merges_view(), merges_view()],
    "next_token_bars": lambda: [bars_view(0), bars_view(1)],
    "head_grid": lambda: [grid_view(0), grid_view(1)],
    "neuron_view": lambda: [neuron_view(0, causal_mask(5)), neuron_view(1, D=16)],
    "compare": lambda: [compare_view(0), compare_view(1)],
    "alignment": lambda: [alignment_view(0), alignment_view(1)],
    "dynamics": lambda: [dynamics_view(), dynamics_view()],
    "residual_stream": lambda: [stream_view(0, torch.arange(6.0)), stream_view(1)],
    "rope_clock": lambda: [clock_view(0), clock_view(1, D=2)],
    "mask_painter": lambda: [painter_view(0), painter_view(1, layers=3)],
    "logit_lens": lambda: [lens_view(0), lens_view(1)],
    "ablate": lambda: [ablate_view(0), ablate_view(1, off={0: [1]}, position=3)],
    "beam_tree": lambda: [beams_view(0), beams_view(1, 2, opens=2)],
    "fill_blanks": lambda: [blanks_view(0, f"the {TOKENS[3]} {TOKENS[4]} [MASK] ."), blanks_view(1)],
    "ask_facts": lambda: [facts_view(0), facts_view(1, "it sat ?", k=2)],
    "reliability": lambda: [reliability_view(0, fitted=2.5), reliability_view(1, n_bins=5)],
    "selective": lambda: [selective_view(0, best=[(0.5, 0.1), (1.0, 0.3)]), selective_view(1)],
    "trust_boundaries": lambda: [boundaries_view(0), boundaries_view(1, said=1)],
    "flip_book": lambda: [flip_page(), flip_page()],
}


def decided_view(seed=0):
    scores, labels = torch.rand(20, generator=torch.Generator().manual_seed(seed)), torch.arange(20) % 3 == 0
    return bias.decided(labels, scores, ["a", TOKENS[4]] * 10, {"a": 0.5, TOKENS[4]: 0.3})


def replies_view(beta=0.5):
    return preferences.best_replies({TOKENS[4]: 0.7, TOKENS[3]: 0.3}, {TOKENS[4]: 0.0, TOKENS[3]: 1.0}, beta)


def twins_view(seed=0):
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(1, 5, 4, generator=generator) for name in ("embedding", TOKENS[4])}
    return side_by_side(tensors, {name: tensor + 1e-6 for name, tensor in tensors.items()}, TOKENS)


STILL = {  # views that need no script
    "decided": lambda: [decided_view(0), decided_view(1)],
    "best_replies": lambda: [replies_view(), replies_view(0.1)],
    "side_by_side": lambda: [twins_view(0), twins_view(1)],
}
