"""`families`: the rules are in the facts as often as planted, and what is best follows from them."""

import pytest

from llmcourse.corpora import families, kb

WORLD = families.world(0)


def test_three_groups_of_different_people_with_three_facts_each():
    people = {group: {fact.person for fact in facts} for group, facts in WORLD.facts.items()}
    assert [len(group) for group in people.values()] == [300, 300, 300]
    assert len(set.union(*people.values())) == 900
    for facts in WORLD.facts.values():
        assert len({(fact.person, fact.relation) for fact in facts}) == len(facts) == 900
        assert all(fact.value in kb.VALUES[fact.relation] for fact in facts)


@pytest.mark.parametrize("relation", ["city", "job"])
def test_the_usual_value_is_as_frequent_as_planted(relation):
    facts = [fact for group in WORLD.facts.values() for fact in group if fact.relation == relation]
    hits = sum(WORLD.usual(fact.person, relation) == fact.value for fact in facts)
    planted = families.PLANTED[relation]
    assert hits / len(facts) == pytest.approx(planted, abs=4 * (planted * (1 - planted) / len(facts)) ** 0.5)
    assert WORLD.usual(("ana", "silva"), "thing") is None


def test_things_follow_from_nothing():
    things = [fact.value for facts in WORLD.facts.values() for fact in facts if fact.relation == "thing"]
    assert all(things.count(value) / len(things) == pytest.approx(1 / 8, abs=0.055) for value in kb.VALUES["thing"])


def test_the_same_seed_makes_the_same_world():
    assert families.world(1) == families.world(1) != WORLD


def test_best_accuracy_and_risk_by_hand():
    assert families.best_accuracy() == pytest.approx((0.85 + 0.6 + 0.125) / 3)
    assert families.best_risk(1 / 3) == pytest.approx(0.15)
    assert families.best_risk(0.1) == pytest.approx(0.15)
    assert families.best_risk(2 / 3) == pytest.approx((0.15 + 0.4) / 2)
    assert families.best_risk(1.0) == pytest.approx(1 - families.best_accuracy())
    with pytest.raises(ValueError, match="above 0"):
        families.best_risk(0)


def test_every_sentence_and_question_is_made_of_the_vocabulary():
    words = set(families.words())
    for fact in WORLD.facts["known"][:300]:
        assert set(fact.sentence.split()) | set(kb.question(fact.person, fact.relation).split()) <= words
