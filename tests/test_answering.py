"""The reader sees no padding and no future when it must not; an answer stands where the knowledge base says it does."""

from itertools import islice

import pytest
import torch
from torch import nn

from llmcourse.answering import (
    CLS,
    NO_ANSWER,
    PAD,
    SEP,
    SPECIAL,
    KnowledgeBase,
    PointingReader,
    lay,
    may_answer,
    reading_batch,
    reading_batches,
    reading_loss,
    repeat_loss,
    repeats,
    word_span,
)
from llmcourse.bert import Bert
from llmcourse.corpora import kb
from llmcourse.tokenizers import WordTokenizer
from llmcourse.training import TrainConfig, train
from llmcourse.transformer import TransformerConfig

TOKENIZER = WordTokenizer(kb.words(), SPECIAL)
SENTENCES = ["oslo is the home of ana silva .", "ana silva works as a pilot .", "ana costa lives in lima ."]


def new_reader(seed=0, **settings):
    torch.manual_seed(seed)
    config = {"n_vocab": len(TOKENIZER), "context": 64, "d_model": 16, "n_heads": 2, "pad": 0} | settings
    return PointingReader(TransformerConfig(**config)).eval()


def batch_of(n, seed=0, **choices):
    return reading_batch(TOKENIZER, list(islice(kb.examples(seed, **choices), n)))


def test_a_row_is_cls_sentences_sep_question():
    question = "what does ana silva own ?"
    laid = lay(TOKENIZER, SENTENCES[:2], question)
    words = [TOKENIZER.piece(token) for token in laid.tokens]
    assert words == [CLS, *SENTENCES[0].split(), *SENTENCES[1].split(), SEP, *question.split()]
    assert laid.segments == [0] * 17 + [1] * 6
    assert laid.starts == [1, 9]
    with pytest.raises(ValueError, match="'zurich' is none of the"):
        lay(TOKENIZER, ["ana silva lives in zurich ."], "where does ana silva live ?")


def test_the_answer_s_place_is_the_one_in_the_evidence():
    frames = list(islice(kb.examples(3, unanswerable=0.3), 200))
    batch = reading_batch(TOKENIZER, frames)
    for frame, tokens, place in zip(frames, batch.tokens, batch.places.tolist(), strict=True):
        if frame.answer is None:
            assert place == NO_ANSWER and TOKENIZER.piece(int(tokens[place])) == CLS
            continue
        assert TOKENIZER.piece(int(tokens[place])) == frame.answer
        before = sum(len(sentence.split()) for sentence in frame.sentences[: frame.evidence])
        assert before < place - 0 <= before + len(frame.sentences[frame.evidence].split())


def test_repeats_repeat_and_their_beginning_is_random():
    batch = next(repeats(50, 200, length=40, seed=1))
    rows = torch.cat([batch.tokens, batch.targets[:, -1:]], dim=1)
    assert torch.equal(batch.tokens[:, 1:], batch.targets[:, :-1])
    periods = []
    for row in rows:
        fits = [p for p in range(4, 17) if torch.equal(row[4 + p :], row[4:-p])]
        assert fits, row
        periods.append(fits[0])
    assert set(periods) == set(range(4, 17))
    assert torch.equal(next(repeats(50, 4, seed=1)).tokens, next(repeats(50, 4, seed=1)).tokens)
    assert len(rows[:, :4].unique()) == 50


def test_only_cls_and_words_of_the_sentences_may_be_pointed_at():
    batch, reader = batch_of(8), new_reader()
    allowed = reader(batch.tokens, batch.segments).isfinite()
    assert torch.equal(allowed, may_answer(batch.segments))
    for tokens, row in zip(batch.tokens, allowed, strict=True):
        separator = tokens.tolist().index(TOKENIZER.special_id(SEP))
        assert row[:separator].all() and not row[separator:].any()


def test_padding_changes_no_score():
    batch, reader = batch_of(8), new_reader()
    together = reader(batch.tokens, batch.segments)
    for row in range(8):
        length = int((batch.tokens[row] != TOKENIZER.special_id(PAD)).sum())
        alone = reader(batch.tokens[row : row + 1, :length], batch.segments[row : row + 1, :length])
        torch.testing.assert_close(together[row : row + 1, :length], alone, atol=1e-5, rtol=1e-5)


def test_from_left_to_right_no_state_knows_what_comes_later_and_both_ways_it_does():
    reader, tokens = new_reader(), torch.randint(3, len(TOKENIZER), (1, 10))
    changed = tokens.clone()
    changed[0, 7] = (changed[0, 7] - 2) % (len(TOKENIZER) - 3) + 3
    for causal, is_same in ((True, True), (False, False)):
        before, after = (reader.encode(row, causal=causal)[0, :7] for row in (tokens, changed))
        assert torch.allclose(before, after, atol=1e-6) == is_same


def test_a_mask_of_bert_is_joined_with_that_of_its_padding():
    torch.manual_seed(0)
    bert = Bert(TransformerConfig(n_vocab=20, context=8, d_model=8, n_heads=2, pad=0)).eval()
    tokens, everywhere = torch.tensor([[4, 5, 6, 0, 0]]), torch.ones(5, 5, dtype=torch.bool)
    torch.testing.assert_close(bert(tokens, mask=everywhere), bert(tokens))
    own = bert(tokens, mask=torch.eye(5, dtype=torch.bool))
    torch.testing.assert_close(own[:, 1:2], bert(tokens[:, 1:2]))  # a word that sees itself alone; rotary: no place


def test_the_score_is_the_formula():
    batch, reader = batch_of(3), new_reader()
    nn.init.normal_(reader.ask.weight), nn.init.normal_(reader.offer.weight)
    hidden = reader.bert(batch.tokens, batch.segments)
    for row in range(3):
        last = int((batch.tokens[row] != 0).sum()) - 1
        assert TOKENIZER.piece(int(batch.tokens[row, last])) == "?"
        asks = reader.ask.weight @ hidden[row, last]
        by_hand = asks @ (reader.offer.weight @ hidden[row, 5]) / 4
        torch.testing.assert_close(reader(batch.tokens, batch.segments)[row, 5], by_hand, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_both_losses_learn_one_batch_by_heart():
    reader = new_reader(d_model=32)
    batch, repeated = batch_of(8, unanswerable=0.3), next(repeats(len(TOKENIZER), 4, length=12))
    for loss, data, steps in ((repeat_loss, repeated, 150), (reading_loss, batch, 80)):
        before = loss(reader, data).item()
        for _ in train(reader, iter([data] * steps), loss, TrainConfig(steps=steps, rate=5e-3, warm_up=5)):
            pass
        assert loss(reader, data).item() < 0.2 * before
    assert torch.equal(reader(batch.tokens, batch.segments).argmax(dim=1), batch.places)


def test_batches_go_on_without_end():
    stream = reading_batches(TOKENIZER, kb.examples(0), size=4)
    assert len(next(stream).places) == len(next(stream).places) == 4


def test_a_reader_without_padding_is_refused():
    with pytest.raises(ValueError, match=r"config\.pad"):
        new_reader(pad=None)


class Rule(nn.Module):
    """A reader that is always right about who lives where: it knows the words and no more."""

    def forward(self, tokens, segments):
        words = [TOKENIZER.piece(int(token)) for token in tokens[0]]
        person = words[words.index(SEP) + 3 : words.index(SEP) + 5]
        scores = torch.full((1, len(words)), -9.0)
        scores[0, 0] = 0.0
        start = 1
        for stop in [i + 1 for i, word in enumerate(words) if word == "." and i < words.index(SEP)]:
            for i in range(start, stop):
                if words[i] in kb.VALUES["city"] and any(words[j : j + 2] == person for j in range(start, stop)):
                    scores[0, i] = 5.0
            start = stop
        return scores


def test_an_answer_comes_with_its_sentence_its_span_and_what_was_read():
    base = KnowledgeBase(SENTENCES, Rule(), TOKENIZER)
    found = base.ask("where does ana silva live ?", k=2)
    assert (found.text, found.evidence, found.span) == ("oslo", 0, (0, 4))
    found = base.ask("where does ana costa live ?", k=2)
    assert (found.text, found.evidence) == ("lima", 2)
    assert SENTENCES[2][slice(*found.span)] == "lima"
    assert found.retrieved[0] == 2 and len(found.retrieved) == 2
    assert 0.9 < found.confidence <= 1


def test_without_an_answer_it_says_so_and_still_what_it_read():
    found = KnowledgeBase(SENTENCES, Rule(), TOKENIZER).ask("where does hugo novak live ?", k=3)
    assert (found.text, found.evidence, found.span) == (None, None, None)
    assert sorted(found.retrieved) == [0, 1, 2]


def test_an_edit_changes_the_answer_at_once():
    base = KnowledgeBase(SENTENCES, Rule(), TOKENIZER)
    base.edit(0, "the city of ana silva is quito .")
    assert base.ask("where does ana silva live ?").text == "quito"
    base.edit(2, "hugo novak lives in turin .")
    assert base.ask("where does hugo novak live ?", k=1).retrieved == (2,)  # the index was made anew
    with pytest.raises(ValueError, match="'zurich'"):
        base.edit(0, "ana silva lives in zurich .")
    assert base.sentences[0] == "the city of ana silva is quito ."


class SameFirstName(nn.Module):
    """An encoder that looks at nothing but the first names of a text."""

    def forward(self, tokens):
        names = torch.tensor([TOKENIZER.encode(name)[0] for name in kb.FIRST_NAMES])
        return (tokens[:, :, None] == names).any(dim=1).float() + 0.01


def test_an_encoder_finds_instead_of_bm25_and_below_the_threshold_nothing_is_read():
    sentences = [*SENTENCES, "hugo novak lives in turin ."]
    base = KnowledgeBase(sentences, Rule(), TOKENIZER, encoder=SameFirstName(), threshold=0.9)
    found = base.ask("where does hugo novak live ?", k=1)
    assert (found.text, found.retrieved) == ("turin", (3,))
    assert base.scores("where does hugo novak live ?")[3] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="k=0"):
        base.ask("where does greta novak live ?", k=0)
    nobody = base.ask("where does greta novak live ?", k=2)
    assert (nobody.text, nobody.confidence, nobody.evidence) == (None, 0.0, None)
    base.edit(0, "greta novak lives in quito .")
    assert base.ask("where does greta novak live ?", k=1).text == "quito"


def test_the_span_of_a_word_counts_characters():
    for sentence in ("the baker is called ana silva .", " the  baker is\tcalled ana silva . "):
        assert [sentence[slice(*word_span(sentence, n))] for n in range(7)] == sentence.split()
