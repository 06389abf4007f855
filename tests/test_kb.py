"""`kb` keeps its promises: seeded frames, ceilings that agree with counting, held-out people, true evidence, true edits."""

from itertools import islice

import pytest

from llmcourse.corpora import kb


def frames(n=400, seed=0, **choices):
    return list(islice(kb.examples(seed, **choices), n))


def name_of(question):
    """The person that a question names."""
    names = [word for word in question.split() if word in kb.FIRST_NAMES + kb.SURNAMES]
    assert len(names) == 2
    return tuple(names)


def relation_of(question):
    """The relation that a question asks for, from its words alone."""
    found = [
        r for r, forms in kb.QUESTIONS.items() for f in forms if f.format(name=" ".join(name_of(question))) == question
    ]
    assert len(found) == 1
    return found[0]


def parsed(sentence):
    """(person, relation, value) of a sentence, from its words alone."""
    person = name_of(sentence)
    (value,) = [word for word in sentence.split() if any(word in values for values in kb.VALUES.values())]
    return person, next(relation for relation, values in kb.VALUES.items() if value in values), value


def test_the_same_seed_gives_the_same_frames_and_another_one_others():
    assert frames(50) == frames(50)
    assert frames(50) != frames(50, seed=1)


def test_a_frame_has_two_people_with_two_relations_and_values_that_differ():
    for frame in frames():
        facts = [parsed(sentence) for sentence in frame.sentences]
        assert len({person for person, _, _ in facts}) == 2
        assert len({(person, relation) for person, relation, _ in facts}) == 4
        assert len({relation for _, relation, _ in facts}) == 2
        assert len({value for _, _, value in facts}) == 4


def test_evidence_and_answer_are_those_of_the_person_and_relation_that_were_asked_for():
    for frame in frames():
        person, relation, value = parsed(frame.sentences[frame.evidence])
        assert (person, relation, value) == (name_of(frame.question), relation_of(frame.question), frame.answer)


def test_an_unanswerable_question_asks_for_what_no_fact_of_the_frame_says():
    kinds = set()
    for frame in frames(unanswerable=1.0):
        assert frame.evidence is None and frame.answer is None
        facts = [parsed(sentence) for sentence in frame.sentences]
        asked = (name_of(frame.question), relation_of(frame.question))
        assert asked not in [fact[:2] for fact in facts]
        kinds.add(asked[0] in [person for person, _, _ in facts])
    assert kinds == {True, False}  # a relation that is not told, and a person who is not there
    share = sum(frame.answer is None for frame in frames(2000, unanswerable=0.3)) / 2000
    assert 0.26 < share < 0.34


def test_held_out_people_are_new_combinations_of_known_words():
    assert len(kb.HELD_OUT) == 20 and len(kb.SEEN) == 80 and not set(kb.HELD_OUT) & set(kb.SEEN)
    for part in (0, 1):
        assert {person[part] for person in kb.HELD_OUT} == {person[part] for person in kb.SEEN}
    assert {name_of(sentence) for frame in frames() for sentence in frame.sentences} <= set(kb.SEEN)
    asked = {name_of(frame.question) for frame in frames(people=kb.HELD_OUT, unanswerable=0.5)}
    assert asked == set(kb.HELD_OUT)


def test_every_way_and_every_form_occurs_and_every_word_is_in_the_vocabulary():
    seen = frames(2000) + frames(200, style="triples") + frames(200, style="one way")
    used = {word for frame in seen for text in (*frame.sentences, frame.question) for word in text.split()}
    assert used == set(kb.words())
    assert all(
        f.sentences[0].split()[0] in kb.FIRST_NAMES for f in frames(100, style="one way") if "works" in f.sentences[0]
    )
    assert {len(sentence.split()) for frame in frames(50, style="triples") for sentence in frame.sentences} == {5}


def shortcut_by_counting(shortcut, n=4000):
    """The same accuracy by counting: in each frame, the chance of a blind choice among the facts that fit."""
    total = 0.0
    for frame in frames(n):
        asked = (name_of(frame.question), relation_of(frame.question))
        facts = [kb.Fact(*parsed(sentence)) for sentence in frame.sentences]
        fitting = [i for i, fact in enumerate(facts) if kb.SHORTCUTS[shortcut](fact, *asked)]
        total += (frame.evidence in fitting) / len(fitting)
    return total / n


@pytest.mark.parametrize("shortcut", kb.SHORTCUTS)
def test_the_exact_ceilings_agree_with_counting(shortcut):
    assert kb.shortcut_accuracy(shortcut) == pytest.approx(shortcut_by_counting(shortcut), abs=0.02)


def test_the_ceilings_are_those_of_the_two_by_two_design():
    exact = {"any fact": 1 / 4, "relation only": 1 / 2, "name only": 1 / 2, "name and relation": 1}
    assert {name: kb.shortcut_accuracy(name) for name in exact} == exact
    assert kb.shortcut_accuracy("first name and relation") == 7 / 8  # one time in four the first name is shared


def test_half_of_the_pairs_share_one_name_and_never_both():
    shared = []
    for frame in frames(2000):
        first, second = {name_of(sentence) for sentence in frame.sentences}
        shared.append((first[0] == second[0], first[1] == second[1]))
    assert (True, True) not in shared
    for kind, share in {(False, False): 0.5, (True, False): 0.25, (False, True): 0.25}.items():
        assert shared.count(kind) / 2000 == pytest.approx(share, abs=0.05)


def test_a_knowledge_base_knows_each_thing_once_and_its_questions_the_truth():
    facts = kb.knowledge_base(1)
    assert len({(fact.person, fact.relation) for fact in facts}) == len(facts) == 90 * 3 - 18
    assert [parsed(fact.sentence) for fact in facts] == [(f.person, f.relation, f.value) for f in facts]
    asked = kb.questions(facts, 2)
    assert len(asked) == 300 and sum(one.answer is None for one in asked) == 48
    for one in asked:
        assert (name_of(one.text), relation_of(one.text)) == (one.person, one.relation)
        if one.answer is None:
            assert (one.person, one.relation) not in [(fact.person, fact.relation) for fact in facts]
        else:
            fact = facts[one.evidence]
            assert (fact.person, fact.relation, fact.value) == (one.person, one.relation, one.answer)


def test_an_edit_changes_the_value_of_a_fifth_and_nothing_else():
    facts = kb.knowledge_base(0)
    after, changed = kb.edited(facts, 0.2, seed=3)
    assert len(changed) == 50 == round(0.2 * 252)
    for place, (old, new) in enumerate(zip(facts, after, strict=True)):
        assert (old.person, old.relation, old.way) == (new.person, new.relation, new.way)
        assert (old.value != new.value) == (place in changed)
        assert new.value in kb.VALUES[new.relation]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kb.examples(style="french"), "style='french'"),
        (lambda: kb.examples(unanswerable=1.5), "unanswerable=1.5 is a share"),
        (lambda: kb.examples(people=kb.SEEN[:2]), "2 people are too few"),
        (lambda: kb.shortcut_accuracy("luck"), "'luck' is no shortcut"),
        (lambda: kb.knowledge_base(unknown=90, incomplete=10), "leave nobody of 100 people"),
        (lambda: kb.edited([], 2.0), "share=2.0 is a share"),
    ],
)
def test_impossible_wishes_are_refused_in_words(call, words, without_shape_checks):
    with pytest.raises(ValueError, match=words):
        call()
