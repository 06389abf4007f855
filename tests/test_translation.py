"""Decoding equals loops without a cache and exhaustive search, and a translation shows where the model looked."""

import itertools
import math
import time

import pytest
import torch
from torch import nn

from llmcourse.attention import KVCache
from llmcourse.bleu import bleu
from llmcourse.corpora import lojic
from llmcourse.data import shuffled, source_rows, translation_batch, translation_batches
from llmcourse.evaluation import alignment_error_rate, attention_links, exact_match
from llmcourse.models import GPT, EncoderDecoder, count_parameters
from llmcourse.recording import record_attention
from llmcourse.tokenizers import WordTokenizer
from llmcourse.training import TrainConfig, seed_everything, train, translation_loss
from llmcourse.transformer import TransformerConfig
from llmcourse.translation import BEGIN, END, PAD, Translation, beam_search, cross_attention, greedy_decode, translate

SPECIAL = {"begin": 1, "end": 2}
CONFIG = TransformerConfig(n_vocab=7, n_source=8, context=12, d_model=16, n_heads=2, pad=0)


def small_model(seed=0, **changes):
    """Random weights, with a head sharp enough that the next token is not a coin flip."""
    torch.manual_seed(seed)
    model = EncoderDecoder(TransformerConfig(**{**vars(CONFIG), **changes})).eval()
    with torch.no_grad():
        model.head.weight.mul_(2.0)
    return model


def some_sources(lengths=(3, 5, 1, 4)):
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(3, 8, (n,), generator=generator).tolist() for n in lengths]


class Table(nn.Module):
    """A translation model whose next token depends on the last one alone, by a table of probabilities; 0 ends."""

    def __init__(self, rows, context=20):
        super().__init__()
        self.logits = torch.tensor(rows).log()
        self.config = TransformerConfig(n_vocab=len(rows), context=context)

    def new_cache(self):
        return [KVCache()]

    def encode(self, source):
        return torch.zeros(*source.shape, 1)

    def decode(self, tokens, memory, source, cache):
        return self.logits[tokens]


@torch.no_grad()
def log_probabilities(model, source, tokens):
    """log P of each of `tokens` after those before it, without a cache."""
    given = torch.tensor([[1, *tokens[:-1]]])
    rows = model(torch.tensor([[*source, 2]]), given)[0].log_softmax(dim=-1)
    return [row[token].item() for row, token in zip(rows, tokens, strict=True)]


@torch.no_grad()
def greedy_by_hand(model, source, n):
    tokens = [1]
    while len(tokens) <= n:
        best = int(model(torch.tensor([[*source, 2]]), torch.tensor([tokens]))[0, -1].argmax())
        if best == 2:
            break
        tokens.append(best)
    return tokens[1:]


@pytest.mark.parametrize("positions", ["rotary", "sinusoidal"])
@pytest.mark.parametrize("seed", range(6))
def test_greedy_decoding_of_a_batch_equals_a_loop_over_single_sentences_without_a_cache(seed, positions):
    model, sources = small_model(seed, positions=positions), some_sources()
    found = greedy_decode(model, source_rows(sources, end=2, pad=0), **SPECIAL, max_new=9)
    assert found == [greedy_by_hand(model, source, 9) for source in sources]


@pytest.mark.parametrize("seed", range(6))
def test_one_beam_is_greedy_decoding(seed):
    model, source = small_model(seed), source_rows(some_sources(), end=2, pad=0)
    results = beam_search(model, source, **SPECIAL, n_beams=1, max_new=9)
    assert [one.hypotheses[0].tokens for one in results] == greedy_decode(model, source, **SPECIAL, max_new=9)
    assert all(len(one.hypotheses) == 1 for one in results)


@torch.no_grad()
def exhaustive(model, source, longest, length_penalty):
    """Every target that ends within `longest` tokens, the end included, with its score, the best first."""
    found = []
    for n in range(longest):
        targets = torch.tensor([[*words, 2] for words in itertools.product((0, 1, 3, 4, 5, 6), repeat=n)])
        given = torch.cat([torch.ones(len(targets), 1, dtype=torch.long), targets[:, :-1]], dim=1)
        rows = model(torch.tensor([[*source, 2]] * len(targets)), given).log_softmax(dim=-1)
        totals = rows.gather(-1, targets[:, :, None]).sum(dim=(1, 2))
        for total, words in zip(totals.tolist(), targets[:, :-1].tolist(), strict=True):
            found.append((total / (n + 1) ** length_penalty, total, words))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_a_wide_beam_finds_what_exhaustive_search_finds(length_penalty):
    """Targets of up to 3 words and the end: 1 + 6 + 36 + 216 of them."""
    model, (source,) = small_model(4), some_sources((4,))
    rows = source_rows([source], end=2, pad=0)
    (result,) = beam_search(model, rows, **SPECIAL, n_beams=1600, length_penalty=length_penalty, max_new=4)
    expected = exhaustive(model, source, 4, length_penalty)
    finished = [found for found in result.hypotheses if found.finished]
    assert [found.tokens for found in finished[:20]] == [words for _, _, words in expected[:20]]
    assert len(finished) == len(expected) == 259
    for found, (score, total, _) in zip(finished, expected, strict=True):
        assert found.log_probability == pytest.approx(total, abs=1e-4)
        assert found.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_log_probabilities_of_a_beam_are_those_of_its_tokens(seed):
    """Each beam goes on from its own past: with another beam's cache the numbers would differ."""
    model, sources = small_model(seed), some_sources()
    for source, result in zip(
        sources, beam_search(model, source_rows(sources, end=2, pad=0), **SPECIAL, n_beams=4, max_new=8), strict=True
    ):
        assert len(result.hypotheses) == 4
        for found in result.hypotheses:
            tokens = [*found.tokens, 2] if found.finished else found.tokens
            assert found.log_probability == pytest.approx(sum(log_probabilities(model, source, tokens)), abs=1e-4)
            assert found.score == pytest.approx(found.log_probability / len(tokens), abs=1e-5)
        ranks = [(found.finished, found.score) for found in result.hypotheses]
        assert ranks == sorted(ranks, reverse=True)


def test_a_sentence_of_a_batch_is_searched_as_if_it_were_alone():
    model, sources = small_model(2), some_sources()
    together = beam_search(model, source_rows(sources, end=2, pad=0), **SPECIAL, n_beams=3, max_new=8)
    for source, result in zip(sources, together, strict=True):
        alone = beam_search(model, source_rows([source], end=2, pad=0), **SPECIAL, n_beams=3, max_new=8)[0]
        assert [found.tokens for found in alone.hypotheses] == [found.tokens for found in result.hypotheses]


# The greedy way is a trap: after 1 the likeliest word is 2, after which nothing is sure; 3 leads to a sure end.
TRAP = Table(
    [
        [1.0, 0.0, 0.0, 0.0],  # 0, the end
        [0.0, 0.0, 0.6, 0.4],  # 1, the beginning
        [0.3, 0.0, 0.4, 0.3],
        [0.9, 0.0, 0.05, 0.05],
    ]
)


def test_all_beams_of_a_sentence_read_one_copy_of_its_source():
    model, seen = small_model(), []
    source = source_rows(some_sources(), end=2, pad=0)
    model.decoder.blocks[0].cross_attention.key.register_forward_hook(
        lambda layer, given, keys: seen.append(keys.shape)
    )
    beam_search(model, source, **SPECIAL, n_beams=3)
    assert seen == [(len(source), source.shape[1], 16)]


def test_a_beam_finds_the_better_target_that_greedy_decoding_misses():
    source = torch.tensor([[1]])
    assert greedy_decode(TRAP, source, begin=1, end=0, max_new=2) == [[2, 2]]
    (result,) = beam_search(TRAP, source, begin=1, end=0, n_beams=2, length_penalty=0.0, max_new=3)
    assert result.hypotheses[0].tokens == [3]
    assert result.hypotheses[0].log_probability == pytest.approx(math.log(0.4 * 0.9))


def test_the_tree_of_a_search_worked_out_by_hand():
    (result,) = beam_search(TRAP, torch.tensor([[1]]), begin=1, end=0, n_beams=2, length_penalty=0.0, max_new=3)
    tree = [[(node.token, node.parent, node.finished) for node in step] for step in result.steps]
    assert tree == [
        [(2, 0, False), (3, 0, False)],  # 0.6, 0.4
        [(0, 1, True), (2, 0, False)],  # 0.4 * 0.9 ends; 0.6 * 0.4 goes on, with one beam left
        [(2, 1, False)],
    ]
    values = [[math.exp(node.log_probability) for node in step] for step in result.steps]
    assert values == [pytest.approx([0.6, 0.4]), pytest.approx([0.36, 0.24]), pytest.approx([0.24 * 0.4])]
    assert [found.finished for found in result.hypotheses] == [True, False]


def test_without_length_normalisation_the_shorter_target_wins():
    """Ending at once has probability 0.4, two words and the end 0.6 * 0.8 * 0.8 = 0.384, a better mean per token."""
    model = Table([[1, 0, 0, 0], [0.4, 0, 0.6, 0], [0.1, 0, 0.1, 0.8], [0.8, 0, 0.1, 0.1]])
    best = {}
    for alpha in (0.0, 1.0):
        options = {"n_beams": 5, "length_penalty": alpha, "max_new": 4}
        best[alpha] = beam_search(model, torch.tensor([[1]]), begin=1, end=0, **options)[0].hypotheses[0]
    assert best[0.0].tokens == []
    assert best[0.0].score == pytest.approx(math.log(0.4))
    assert best[1.0].tokens == [2, 3]
    assert best[1.0].score == pytest.approx(math.log(0.384) / 3)


def test_every_step_of_the_tree_leads_back_to_its_hypotheses():
    model = small_model(3)
    for result in beam_search(model, source_rows(some_sources(), end=2, pad=0), **SPECIAL, n_beams=4, max_new=8):
        ends = []
        for depth, step in enumerate(result.steps):
            assert all(not result.steps[depth - 1][node.parent].finished for node in step if depth)
            for node in step:
                if node.finished or depth == 7:
                    tokens, at = [], node
                    for level in range(depth, -1, -1):
                        tokens.append(at.token)
                        at = result.steps[level - 1][at.parent] if level else None
                    ends.append(tokens[::-1][: len(tokens) - node.finished])
        assert sorted(ends) == sorted(found.tokens for found in result.hypotheses)


@pytest.mark.parametrize("decode", [greedy_decode, beam_search])
def test_dropout_is_off_and_no_gradient_is_kept(decode):
    model, source = small_model(dropout=0.5).train(), source_rows(some_sources(), end=2, pad=0)
    assert decode(model, source, **SPECIAL) == decode(model, source, **SPECIAL)
    assert not model.training


@pytest.mark.parametrize("decode", [greedy_decode, beam_search])
def test_the_limit_is_inside_the_context(decode):
    never_ends = Table([[1.0, 0.0], [0.0, 1.0]], context=15)
    for asked, written in ((None, 14), (15, 15), (3, 3)):
        found = decode(never_ends, torch.ones(1, 2, dtype=torch.long), begin=1, end=0, max_new=asked)[0]
        tokens = found if isinstance(found, list) else found.hypotheses[0].tokens
        assert len(tokens) == written
    with pytest.raises(ValueError, match="max_new=16: this model can write 1 to 15 tokens"):
        decode(never_ends, torch.ones(1, 2, dtype=torch.long), begin=1, end=0, max_new=16)
    greedy_decode(small_model(), source_rows(some_sources(), end=2, pad=0), **SPECIAL, max_new=12)


def test_a_search_ends_when_all_its_beams_have():
    ends_at_once = Table([[1.0, 0.0], [1.0, 0.0]])
    (result,) = beam_search(ends_at_once, torch.tensor([[1]]), begin=1, end=0, n_beams=1, max_new=9)
    assert [[node.finished for node in step] for step in result.steps] == [[True]]


@pytest.mark.parametrize("setting", [{"n_beams": 0}, {"length_penalty": -1.0}])
def test_impossible_searches_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        beam_search(TRAP, torch.tensor([[1]]), begin=1, end=0, **setting)


def test_cross_attention_is_that_of_every_layer_and_row_t_is_before_word_t_is_read():
    model, source = small_model(), source_rows(some_sources(), end=2, pad=0)
    tokens = torch.tensor([[1, 3, 4, 5]] * 4)
    weights = cross_attention(model, source, tokens)
    assert weights.shape == (2, 4, 2, 4, 6)
    with record_attention(model) as maps:
        model(source, tokens)
    torch.testing.assert_close(weights[1], maps["decoder.blocks.1.cross_attention"])
    hidden = (source == 0)[None, :, None, None, :].expand_as(weights)
    assert hidden.any() and (weights[hidden] == 0).all()
    changed = tokens.clone()
    changed[:, 2] = 6
    other = cross_attention(model, source, changed)
    torch.testing.assert_close(other[..., :2, :], weights[..., :2, :])
    assert not torch.allclose(other[..., 2, :], weights[..., 2, :])
    with pytest.raises(ValueError, match="GPTOfTwo has no cross-attention"):
        cross_attention(GPTOfTwo(), source, tokens)


def test_cross_attention_is_shown_without_dropout():
    model, source = small_model(dropout=0.5).train(), source_rows(some_sources(), end=2, pad=0)
    tokens = torch.tensor([[1, 3, 4, 5]] * 4)
    torch.testing.assert_close(cross_attention(model, source, tokens), cross_attention(model, source, tokens))


class GPTOfTwo(GPT):
    def __init__(self):
        super().__init__(TransformerConfig(n_vocab=8, context=8, d_model=16, n_heads=2))

    def forward(self, source, tokens):
        return super().forward(tokens)


SOURCE_WORDS = WordTokenizer(["the", "cat", "sleeps"], special_tokens=(PAD, BEGIN, END))
TARGET_WORDS = WordTokenizer(["ta", "mira", "dor"], special_tokens=(PAD, BEGIN, END))


def test_a_translation_prints_as_its_text_and_carries_the_attention_of_the_best_beam():
    model = small_model(5, n_vocab=6, n_source=6)
    found = translate(model, "the cat sleeps", SOURCE_WORDS, TARGET_WORDS, max_new=6)
    ids = [SOURCE_WORDS.encode("the cat sleeps")]
    best = beam_search(model, source_rows(ids, end=2, pad=0), **SPECIAL, max_new=6)[0].hypotheses[0]
    assert repr(found) == found.text == TARGET_WORDS.decode(best.tokens)
    assert found.source == ["the", "cat", "sleeps", END]
    assert found.target == [TARGET_WORDS.piece(i) for i in best.tokens] + [END] * best.finished
    with record_attention(model) as maps:
        model(torch.tensor([[*ids[0], 2]]), torch.tensor([[1, *best.tokens]]))
    expected = maps["decoder.blocks.1.cross_attention"][0].mean(dim=0)[: len(found.target)]
    torch.testing.assert_close(found.weights, expected)
    words = len(found.target) - (END in found.target)
    assert found.alignment == [(t, int(expected[t, :3].argmax())) for t in range(words)]


def test_an_alignment_links_words_only_though_the_end_gets_most_attention():
    weights = torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.1, 0.6], [0.0, 0.0, 1.0]])
    assert Translation("x y", ["a", "b", END], ["x", "y", END], weights).alignment == [(0, 1), (1, 0)]
    assert Translation("x y", ["a", "b", END], ["x", "y"], weights[:2]).alignment == [(0, 1), (1, 0)]


def test_what_cannot_be_translated_says_why():
    model = small_model(n_vocab=6, n_source=6)
    with pytest.raises(ValueError, match="the sentence is empty"):
        translate(model, " ", SOURCE_WORDS, TARGET_WORDS)
    with pytest.raises(ValueError, match="'dog' is none of the 3 known words"):
        translate(model, "the dog", SOURCE_WORDS, TARGET_WORDS)
    with pytest.raises(ValueError, match="not a special token"):
        translate(model, "the cat", SOURCE_WORDS, WordTokenizer(["ta"]))


@pytest.mark.slow
def test_a_small_model_translates_unseen_sentences_of_lojic_and_its_heads_together_find_the_alignment():
    """300 steps on 3,000 pairs. Over seeds 0 to 2: exact match 1.000, BLEU 100.00, alignment 0.999 and more."""
    seed_everything(0)
    corpus, special = lojic.corpus(), {**SPECIAL, "pad": 0}
    english, translated = (
        WordTokenizer.train(" ".join(word for pair in corpus.train for word in side(pair)), (PAD, BEGIN, END))
        for side in (lambda pair: pair.source, lambda pair: pair.target)
    )

    def ids(pairs):
        return [(english.encode(" ".join(pair.source)), translated.encode(" ".join(pair.target))) for pair in pairs]

    model = EncoderDecoder(
        TransformerConfig(n_vocab=len(translated), n_source=len(english), context=32, dropout=0.1, pad=0)
    )
    assert 235_000 < count_parameters(model) < 245_000
    batches = translation_batches(shuffled(ids(corpus.train)), 64, **special)
    began = time.process_time()
    for _ in train(model, batches, translation_loss, TrainConfig(steps=300)):
        pass
    assert time.process_time() - began < 120

    gold, test = [list(pair.target) for pair in corpus.test], ids(corpus.test)
    source = source_rows([row for row, _ in test], end=2, pad=0)
    greedy = [translated.decode(row).split() for row in greedy_decode(model, source, **SPECIAL)]
    beams = [one.hypotheses[0].tokens for one in beam_search(model, source, **SPECIAL)]
    for found in (greedy, [translated.decode(row).split() for row in beams]):
        assert exact_match(found, gold) >= 0.99
        assert bleu(found, gold) >= 99
    batch = translation_batch(test, **special)
    weights = cross_attention(model, batch.source, batch.tokens)[-1].mean(dim=1)
    links = [attention_links(weights[i, : len(p.target), : len(p.source)]) for i, p in enumerate(corpus.test)]
    assert 1 - alignment_error_rate(links, [pair.alignment for pair in corpus.test]) >= 0.97
    shown = translate(model, "the small cat finds a red boat today", english, translated)
    assert repr(shown) == "velu ta mira selka nu bardu ronku gidem"
    agreeing = set(shown.alignment) & set(lojic.translate(shown.source[:-1]).alignment)
    assert len(agreeing) >= 7
