"""Claims against evidence: every sentence of the corpus is read, every falsehood is one, and the verdicts are three."""

from dataclasses import replace
from itertools import islice, product

import pytest

from llmcourse.corpora import families, kb
from llmcourse.faithfulness import (
    ClaimChecker,
    planted_falsehoods,
    read_fact,
    reworded,
    split_claims,
    verdict,
    word_overlap,
)

ANA, FACT = ("ana", "silva"), kb.Fact(("ana", "silva"), "city", "oslo", 0)
KNOWN = families.world(0).facts["known"]
STRANGERS = tuple(dict.fromkeys(fact.person for fact in families.world(0).facts["test"]))


@pytest.mark.parametrize(("relation", "way"), list(product(kb.RELATIONS, range(3))))
def test_every_way_of_saying_a_fact_is_read_as_that_fact(relation, way):
    for value in kb.VALUES[relation]:
        fact = kb.Fact(ANA, relation, value, way)
        assert read_fact(fact.sentence) == fact


@pytest.mark.parametrize(
    "sentence",
    [
        "ana silva does not live in oslo .",
        "ana silva lives in oslo",
        "ana silva lives in oslo . no , she does not .",
        "ana lives in oslo .",
        "ana silva lives in baker .",
        "it is said that ana silva lives in oslo .",
        "oslo is the home of ana silva x",
        "",
    ],
)
def test_what_is_not_exactly_such_a_sentence_is_not_read(sentence):
    assert read_fact(sentence) is None


def test_a_text_is_split_into_sentences():
    assert split_claims("ana silva lives in oslo . ana silva owns a kite .") == [
        "ana silva lives in oslo .",
        "ana silva owns a kite .",
    ]
    assert split_claims(" . ") == []


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ([FACT], "supported"),
        ([replace(FACT, way=2)], "supported"),
        ([replace(FACT, value="lima")], "contradicted"),
        ([FACT, replace(FACT, value="lima")], "contradicted"),
        ([replace(FACT, person=("ana", "costa"))], "not found"),
        ([replace(FACT, relation="job")], "not found"),
        ([], "not found"),
    ],
)
def test_verdicts(evidence, expected):
    assert verdict(FACT, evidence) == expected


def test_true_claims_are_supported_in_other_words_by_the_sentence_that_says_so():
    checker = ClaimChecker([fact.sentence for fact in KNOWN])
    checked = [checker.check(replace(fact, way=(fact.way + 1) % 3).sentence) for fact in KNOWN[::7]]
    assert sum(one.verdict == "supported" for one in checked) / len(checked) > 0.95
    for one in checked:
        assert all(read_fact(checker.sentences[place]).person == read_fact(one.claim).person for place in one.evidence)


def test_each_kind_of_falsehood_is_false_and_none_is_supported():
    checker = ClaimChecker([fact.sentence for fact in KNOWN])
    true = {(fact.person, fact.relation, fact.value) for fact in KNOWN}
    planted = list(islice(planted_falsehoods(KNOWN, STRANGERS, 1), 120))
    assert {kind for kind, _ in planted} == {"value", "person", "stranger"}
    for kind, fact in planted:
        assert (fact.person, fact.relation, fact.value) not in true
        assert checker.check(fact.sentence).verdict != "supported"
        assert (fact.person in STRANGERS) == (kind == "stranger")


def test_falsehoods_are_the_same_for_the_same_seed():
    first, second, other = (list(islice(planted_falsehoods(KNOWN, STRANGERS, seed), 9)) for seed in (0, 0, 1))
    assert first == second != other


def test_a_citation_must_support_its_claim_itself():
    checker = ClaimChecker(["ana silva lives in oslo .", "oslo is the home of ana costa ."])
    assert checker.cites("the city of ana silva is oslo .", 0)
    assert not checker.cites("the city of ana silva is oslo .", 1)
    assert not checker.cites("the city of ana silva is lima .", 0)
    assert not checker.cites("oslo is cold .", 0)


def test_a_text_gets_a_verdict_for_each_sentence():
    checker = ClaimChecker(["ana silva lives in oslo .", "ana silva owns a kite ."])
    text = "ana silva lives in oslo . ana silva owns a boat . boris silva owns a kite . ana silva is kind ."
    verdicts = [one.verdict for one in checker.check_text(text)]
    assert verdicts == ["supported", "contradicted", "not found", "not read"]
    assert checker.check_text(text)[1].evidence == (1,)


def test_overlap_sees_words_and_no_negation():
    assert word_overlap("ana silva lives in oslo .", ["ana silva lives in oslo .", "x"]) == 1
    assert word_overlap("ana silva lives in lima .", ["ana silva lives in oslo ."]) == pytest.approx(0.8)
    assert word_overlap("a b", []) == 0
    assert word_overlap(".", ["a b"]) == 0  # no words, and none that overlap


def test_rewording_changes_every_sentence_and_no_fact():
    text = " ".join(fact.sentence for fact in KNOWN[:40]) + " ana silva is kind ."
    after = reworded(text)
    pairs = list(zip(split_claims(text), split_claims(after), strict=True))
    assert pairs[-1] == ("ana silva is kind .",) * 2
    for before, again in pairs[:-1]:
        assert before != again
        assert replace(read_fact(before), way=0) == replace(read_fact(again), way=0)
    assert reworded(text, 0.0) == text and reworded(text) == after != reworded(text, seed=1)
    half = [a == b for a, b in zip(split_claims(text), split_claims(reworded(text, 0.5)), strict=True)]
    assert 0.25 < sum(half) / len(half) < 0.75
    with pytest.raises(ValueError, match="a share"):
        reworded(text, 2)
