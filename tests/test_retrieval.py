"""BM25 equals a reference implementation and a sum by hand; dense scores are cosines; measures are those of the books."""

import itertools
import math
import random

import bm25s
import pytest
import torch

from llmcourse.corpora import kb
from llmcourse.retrieval import (
    BM25,
    DenseIndex,
    Pairs,
    SentenceEncoder,
    best_first,
    contrastive_loss,
    fuse,
    hits_at_k,
    mean_reciprocal_rank,
    pair_batches,
    words_of,
)
from llmcourse.transformer import TransformerConfig

TEXTS = ["the cat sleeps", "the old cat and the old dog", "a dog", "trees"]
WORDS = [text.split() for text in TEXTS]


def assert_same_order(ranking, reference):
    """Along our ranking the reference's scores, which are single precision, never rise."""
    assert sorted(ranking) == list(range(len(reference)))
    for better, worse in itertools.pairwise(ranking):
        assert reference[better] >= reference[worse] - 1e-5


def test_words_are_lower_case_and_without_signs():
    assert words_of("The KV-cache, in GPT-2?") == ["the", "kv", "cache", "in", "gpt", "2"]


def test_a_score_by_hand():
    """ "old" stands twice in one text of 7 words, in 1 of 4 texts; the mean length is 13/4."""
    idf = math.log(1 + (4 - 1 + 0.5) / (1 + 0.5))
    score = idf * 2 * 2.5 / (2 + 1.5 * (0.25 + 0.75 * 7 / (13 / 4)))
    assert BM25(WORDS).scores(["old"]) == pytest.approx([0, score, 0, 0])
    assert BM25(WORDS).scores(["old", "old", "nowhere"]) == pytest.approx([0, 2 * score, 0, 0])


def random_texts(seed, n=60):
    """Texts whose words are distributed as words are: few frequent ones, many rare ones."""
    generator = random.Random(seed)
    words = [f"w{i}" for i in range(80)]
    draw = lambda k: generator.choices(words, [1 / (i + 1) for i in range(80)], k=k)  # noqa: E731
    return [draw(generator.randint(1, 30)) for _ in range(n)], [draw(generator.randint(1, 6)) for _ in range(40)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.4), (1.2, 1.0), (2.0, 0.0)])
def test_ranking_and_scores_equal_those_of_a_reference_implementation(seed, k1, b):
    texts, asked = random_texts(seed)
    ours, reference = BM25(texts, k1=k1, b=b), bm25s.BM25(method="lucene", k1=k1, b=b)
    reference.index(texts, show_progress=False)
    for question in asked:
        known = [word for word in question if word in ours.postings]
        theirs = reference.get_scores(known) * (k1 + 1) if known else [0.0] * len(texts)  # Lucene leaves k1 + 1 out
        assert ours.scores(question) == pytest.approx(list(theirs), rel=1e-4, abs=1e-5)
        assert_same_order(ours.rank(question), theirs)


def test_the_reference_ranks_the_facts_of_a_knowledge_base_as_we_do():
    facts = kb.knowledge_base(0)
    texts = [words_of(fact.sentence) for fact in facts]
    ours, reference = BM25(texts), bm25s.BM25(method="lucene")
    reference.index(texts, show_progress=False)
    for one in kb.questions(facts)[:60]:
        question = [word for word in words_of(one.text) if word in ours.postings]
        theirs = reference.get_scores(question)
        assert_same_order(ours.rank(question), theirs)


def test_rare_words_tell_more_and_a_word_in_every_text_still_a_little():
    index = BM25([["a", "b"], ["a", "c"], ["a", "c"]])
    assert index.idf("b") > index.idf("c") > index.idf("a") > 0 == index.idf("never")


def test_equal_scores_keep_the_order_of_the_texts():
    assert best_first([1.0, 3.0, 1.0, 3.0]) == [1, 3, 0, 2]
    assert BM25([["x"], ["y"], ["x"]]).rank(["x"], 2) == [0, 2]


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="at least one text"):
        BM25([])
    with pytest.raises(ValueError, match="at least one text with a word"):
        BM25([[], []])
    with pytest.raises(ValueError, match=r"b=1\.5"):
        BM25(WORDS, b=1.5)
    with pytest.raises(ValueError, match="k1=-1"):
        BM25(WORDS, k1=-1)
    with pytest.raises(ValueError, match="at least one vector"):
        DenseIndex(torch.zeros(0, 3))


def small_encoder(pad=0):
    torch.manual_seed(0)
    return SentenceEncoder(TransformerConfig(n_vocab=30, context=16, d_model=16, n_heads=2, n_layers=1, pad=pad)).eval()


def test_a_dense_score_is_the_cosine_whatever_the_lengths():
    vectors = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    question = torch.randn(8, generator=torch.Generator().manual_seed(1))
    cosines = torch.cosine_similarity(vectors, question[None]).tolist()
    assert DenseIndex(vectors * 7).scores(question * 3) == pytest.approx(cosines, abs=1e-6)
    assert DenseIndex(vectors).rank(question, 2) == sorted(range(5), key=lambda i: -cosines[i])[:2]


def test_a_text_s_vector_has_length_1_and_does_not_depend_on_padding():
    encoder, tokens = small_encoder(), torch.tensor([[5, 6, 7, 0, 0], [8, 9, 1, 2, 3]])
    vectors = encoder(tokens)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(encoder(tokens[:1, :3])[0], vectors[0])


def test_the_contrastive_loss_is_the_cross_entropy_of_the_choice():
    class Table(torch.nn.Module):
        def forward(self, tokens):
            return torch.eye(3)[tokens[:, 0]]

    right = Pairs(torch.tensor([[0], [1], [2]]), torch.tensor([[0], [1], [2]]))
    by_hand = -math.log(math.e**2 / (math.e**2 + 2))
    assert contrastive_loss(Table(), right, temperature=0.5).item() == pytest.approx(by_hand)
    same = Pairs(torch.tensor([[0], [0], [0]]), torch.tensor([[1], [1], [1]]))
    assert contrastive_loss(Table(), same).item() == pytest.approx(math.log(3))


def test_pairs_stay_together_and_are_padded():
    pairs = [([i], [i, i + 10]) for i in range(1, 8)] + [([8, 8], [8])]
    batch = next(pair_batches(pairs, 8, pad=0, seed=1))
    assert batch.questions.shape == batch.texts.shape == (8, 2)
    assert torch.equal(batch.questions[:, 0], batch.texts[:, 0])
    assert sorted(batch.texts[:, 0].tolist()) == list(range(1, 9))


RANKINGS = [[3, 1, 2], [1, 2, 3], [2, 3, 1]]


def test_hits_and_reciprocal_ranks_by_hand():
    right = [{3}, {3}, {9}]
    assert [hits_at_k(RANKINGS, right, k) for k in (1, 2, 3)] == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert mean_reciprocal_rank(RANKINGS, right) == pytest.approx((1 + 1 / 3 + 0) / 3)
    several = [{1, 2}, {2, 3}, {1}]  # the first right one counts
    assert mean_reciprocal_rank(RANKINGS, several) == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)
    assert hits_at_k(RANKINGS, several, 2) == pytest.approx(2 / 3)


def test_measures_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="3 rankings for 1 questions"):
        hits_at_k(RANKINGS, [{1}], 1)
    with pytest.raises(ValueError, match="k=0"):
        hits_at_k(RANKINGS, [{1}] * 3, 0)
    with pytest.raises(ValueError, match="0 rankings"):
        mean_reciprocal_rank([], [])


def test_fused_rankings_equal_a_sum_by_hand():
    one, other = [0, 1, 2, 3], [3, 1, 0, 2]
    shares = [sum(1 / (60 + ranking.index(text) + 1) for ranking in (one, other)) for text in range(4)]
    assert fuse(one, other) == sorted(range(4), key=lambda text: -shares[text])
    assert fuse(one) == one
    assert fuse([0, 1, 2], [1, 2, 0]) == [1, 0, 2]  # their places add up to 3, 4 and 5
    assert fuse([0, 1, 2], [2, 1, 0], k=0)[-1] == 1  # two second places are worth no more than a first one and a third
    for rankings in ([], [[0, 1], [0, 2]], [[0, 0]]):
        with pytest.raises(ValueError, match="each with every text once"):
            fuse(*rankings)


def test_settings_at_the_edge_of_the_possible_are_taken():
    BM25(WORDS, k1=0, b=0), BM25(WORDS, b=1)
    with pytest.raises(ValueError, match=r"b=-0\.1"):
        BM25(WORDS, b=-0.1)
