"""Hidden words are hidden as often as they should be, specials never, words whole; pairs follow or come from elsewhere."""

import math
from itertools import islice

import pytest
import torch

from llmcourse.data import IGNORED
from llmcourse.masking import (
    FOLLOWS,
    SWAPPED,
    MaskingConfig,
    SentencePair,
    is_special,
    mask_tokens,
    pair_row,
    pretraining_batch,
    pretraining_batches,
    sentence_pairs,
)

PAD, CLS, SEP, MASK = 0, 1, 2, 3
CONFIG = MaskingConfig(n_vocab=54, mask=MASK, special=(PAD, CLS, SEP, MASK))
PLACES = {"begin": CLS, "separator": SEP, "pad": PAD}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def some_tokens(rows=2000, T=40):
    """Rows of two sentences and some padding; more special tokens than in real text, so that a slip would show."""
    tokens = torch.randint(4, 54, (rows, T), generator=generator(9))
    tokens[:, 0], tokens[:, 15], tokens[:, 30], tokens[:, 31:] = CLS, SEP, SEP, PAD
    return tokens


def within_five_sigma(hits, n, p):
    return abs(hits - n * p) <= 5 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize(("share", "masked", "random"), [(0.15, 0.8, 0.1), (0.4, 1.0, 0.0), (0.3, 0.2, 0.5)])
def test_shares_of_chosen_hidden_replaced_and_kept_tokens_are_those_of_the_config(share, masked, random):
    config = MaskingConfig(n_vocab=54, mask=MASK, special=CONFIG.special, share=share, masked=masked, random=random)
    tokens = some_tokens()
    shown, targets = mask_tokens(tokens, config, generator())
    chosen, ordinary = targets != IGNORED, int((tokens > MASK).sum())
    n = int(chosen.sum())
    assert within_five_sigma(n, ordinary, share)
    assert within_five_sigma(int((shown[chosen] == MASK).sum()), n, masked)
    same_by_chance = random / 50  # a random token may be the old one
    assert within_five_sigma(int((shown[chosen] == tokens[chosen]).sum()), n, 1 - masked - random + same_by_chance)
    changed = chosen & (shown != MASK) & (shown != tokens)
    assert within_five_sigma(int(changed.sum()), n, random * 49 / 50)
    if random:
        counts = torch.bincount(shown[changed], minlength=54)
        assert (counts[:4] == 0).all()
        assert all(within_five_sigma(int(count), int(changed.sum()), 1 / 50) for count in counts[4:])


def test_targets_are_the_old_tokens_where_chosen_and_nothing_changes_elsewhere():
    tokens = some_tokens()
    before = tokens.clone()
    shown, targets = mask_tokens(tokens, CONFIG, generator())
    chosen = targets != IGNORED
    assert torch.equal(tokens, before)
    assert torch.equal(targets[chosen], tokens[chosen])
    assert torch.equal(shown[~chosen], tokens[~chosen])


def test_special_tokens_are_never_chosen_even_when_all_others_are():
    config = MaskingConfig(n_vocab=54, mask=MASK, special=CONFIG.special, share=1.0)
    tokens = some_tokens(50)
    shown, targets = mask_tokens(tokens, config, generator())
    assert torch.equal(targets == IGNORED, is_special(tokens, CONFIG))
    assert torch.equal(is_special(tokens, CONFIG), tokens <= MASK)
    assert torch.equal(shown[tokens <= MASK], tokens[tokens <= MASK])


def test_each_choice_is_independent_of_its_neighbour():
    tokens = torch.full((4000, 2), 7)
    chosen = mask_tokens(tokens, CONFIG, generator()).targets != IGNORED
    assert within_five_sigma(int(chosen.all(dim=1).sum()), 4000, 0.15**2)


def test_a_mask_is_another_each_time_and_the_same_for_the_same_seed():
    tokens, one = some_tokens(20), generator()
    first, second = mask_tokens(tokens, CONFIG, one), mask_tokens(tokens, CONFIG, one)
    assert not torch.equal(first.targets, second.targets)
    assert torch.equal(mask_tokens(tokens, CONFIG, generator()).tokens, first.tokens)


def test_words_of_several_tokens_are_chosen_whole_and_as_often_as_single_ones():
    tokens = some_tokens(4000)
    starts = torch.zeros_like(tokens, dtype=torch.bool)
    starts[:, ::3] = True  # words of three tokens, cut by [SEP] at 15 and 30
    chosen = mask_tokens(tokens, CONFIG, generator(), starts).targets != IGNORED
    word = (3, 4, 5)
    assert torch.equal(chosen[:, 3], chosen[:, 4]) and torch.equal(chosen[:, 3], chosen[:, 5])
    assert within_five_sigma(int(chosen[:, word[0]].sum()), 4000, 0.15)
    assert torch.equal(chosen[:, 1], chosen[:, 2])  # [CLS] starts the first word and is not part of it
    assert torch.equal(chosen[:, 16], chosen[:, 17])
    both = int((chosen[:, 3] & chosen[:, 6]).sum())
    assert within_five_sigma(both, 4000, 0.15**2)
    assert not chosen[:, 15].any()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"share": 0.0}, r"share=0\.0"),
        ({"masked": 0.9, "random": 0.2}, "together"),
        ({"random": -0.1}, "negative"),
        ({"mask": 5}, "mask=5"),
        ({"special": (3, 54)}, "0 to 53"),
        ({"special": tuple(range(54))}, "no word"),
    ],
)
def test_an_impossible_masking_is_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        MaskingConfig(**{"n_vocab": 54, "mask": MASK, "special": CONFIG.special} | setting)


DOCUMENTS = [[[100 * d + s] for s in range(n)] for d, n in enumerate((4, 1, 3, 6))]


def test_half_of_the_pairs_follow_and_the_rest_come_from_two_documents():
    pairs = list(islice(sentence_pairs(DOCUMENTS, seed=1), 6000))
    follows = [pair for pair in pairs if pair.label == FOLLOWS]
    assert within_five_sigma(len(follows), 6000, 0.5)
    assert all(pair.second[0] == pair.first[0] + 1 for pair in follows)
    swapped = [pair for pair in pairs if pair.label == SWAPPED]
    assert all(pair.first[0] // 100 != pair.second[0] // 100 for pair in swapped)
    seconds = [pair.second[0] // 100 for pair in swapped if pair.first[0] // 100 == 0]
    for other in (1, 2, 3):  # each other document is as likely as the next
        assert within_five_sigma(seconds.count(other), len(seconds), 1 / 3)
    assert {pair.second[0] for pair in pairs} == {sentence[0] for document in DOCUMENTS for sentence in document}


def test_pairs_are_the_same_for_the_same_seed_and_need_two_documents():
    assert list(islice(sentence_pairs(DOCUMENTS, 3), 50)) == list(islice(sentence_pairs(DOCUMENTS, 3), 50))
    for documents in ([DOCUMENTS[0]], [[[1]], [[2]]]):
        with pytest.raises(ValueError, match="documents"):
            sentence_pairs(documents)


def test_a_document_without_a_sentence_is_refused():
    with pytest.raises(ValueError, match="a document has no sentence"):
        sentence_pairs([[[1], [2]], []])


def test_a_pair_is_laid_out_with_the_first_separator_in_the_first_segment():
    tokens, segments = pair_row(SentencePair([7, 8], [9], FOLLOWS), begin=CLS, separator=SEP)
    assert tokens == [CLS, 7, 8, SEP, 9, SEP]
    assert segments == [0, 0, 0, 0, 1, 1]


def test_a_batch_keeps_labels_pads_on_the_right_and_masks_anew():
    pairs = [SentencePair([7, 8, 9, 10], [11, 12], FOLLOWS), SentencePair([13], [14], SWAPPED)] * 40
    batch = pretraining_batch(pairs, CONFIG, generator(), **PLACES)
    assert batch.swapped.tolist() == [0, 1] * 40
    assert (batch.tokens[1::2, 5:] == PAD).all() and (batch.segments[1::2, 5:] == 0).all()
    whole = torch.where(batch.targets == IGNORED, batch.tokens, batch.targets)
    assert whole[0].tolist() == [CLS, 7, 8, 9, 10, SEP, 11, 12, SEP]
    stream = pretraining_batches(iter(pairs), 40, CONFIG, seed=2, **PLACES)
    one, other = stream
    assert not torch.equal(one.targets, other.targets)
    assert len(list(pretraining_batches(iter(pairs), 30, CONFIG, **PLACES))) == 2


def test_words_stay_whole_where_separators_stand_at_another_place_in_each_row():
    tokens = torch.full((4000, 12), 7)
    tokens[:, 0] = CLS
    tokens[::2, 4], tokens[1::2, 8] = SEP, SEP
    config = MaskingConfig(n_vocab=54, mask=MASK, special=CONFIG.special, share=0.5)
    chosen = mask_tokens(tokens, config, generator(), torch.zeros_like(tokens, dtype=torch.bool)).targets != IGNORED
    for rows, words in ((chosen[::2], (slice(1, 4), slice(5, 12))), (chosen[1::2], (slice(1, 8), slice(9, 12)))):
        for word in words:
            assert torch.equal(rows[:, word].any(dim=1), rows[:, word].all(dim=1))
            assert within_five_sigma(int(rows[:, word.start].sum()), 2000, 0.5)


def test_no_special_token_is_negative_and_shares_may_be_whole():
    with pytest.raises(ValueError, match="tokens run from 0 to 53"):
        MaskingConfig(n_vocab=54, mask=MASK, special=(-1, MASK))
    assert MaskingConfig(n_vocab=54, mask=0, special=(0,), share=1.0, masked=0.0, random=1.0).ordinary[0] == 1
