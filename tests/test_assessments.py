"""The rubric finds what is missing, and nothing else; the model answers leave nothing out."""

import copy

import pytest

from llmcourse.assessments import DOMAINS, FIELDS, RUBRIC, as_text, case, gaps, model_answer, priorities

each_case = pytest.mark.parametrize("domain", DOMAINS)


@each_case
def test_each_case_has_a_complete_model_answer(domain):
    assert gaps(model_answer(domain)) == []
    assert set(model_answer(domain)) == set(FIELDS)
    assert len(case(domain).split()) > 40


def test_an_empty_form_lacks_everything_and_dots_are_empty():
    assert gaps({}) == list(RUBRIC)
    assert gaps(dict.fromkeys(FIELDS, ...)) == list(RUBRIC)


def test_what_is_no_form_is_refused(without_shape_checks):
    with pytest.raises(TypeError, match="dictionary with the fields"):
        gaps(["use"])


def changed(field, value=None, **entry):
    """The law's assessment with another field, or with another entry in the first row of a list or in a table."""
    form = copy.deepcopy(model_answer("law"))
    if not entry:
        form[field] = value
    elif isinstance(form[field], list):
        form[field][0].update(entry)
    else:
        form[field].update(entry)
    return form


@pytest.mark.parametrize(
    ("form", "missing"),
    [
        (changed("use", ""), ["use"]),
        (changed("affected", ["tenants"]), ["affected", "harms"]),
        (changed("affected", "tenants and courts"), ["affected", "harms"]),
        (changed("harms", who="somebody else"), ["harms"]),
        (changed("harms", severity=5), ["harms"]),
        (changed("harms", what=...), ["harms"]),
        (changed("harms", id="another"), ["measured", "safeguards"]),
        (changed("harms", id="another", severity=2), []),
        (changed("measures", harm="nothing"), ["measured"]),
        (changed("measures", bound=""), ["bounds"]),
        (changed("measures", metric=None), ["bounds"]),
        (changed("measures", groups=["everybody"]), ["groups"]),
        (changed("measures", groups="each kind"), ["groups"]),
        (changed("safeguards", harm="nothing"), ["safeguards"]),
        (changed("safeguards", what=""), ["safeguards"]),
        (changed("safeguards", []), ["safeguards"]),
        (changed("oversight", minutes=0), ["oversight"]),
        (changed("oversight", minutes="many"), ["oversight"]),
        (changed("oversight", can_overrule="yes"), ["oversight"]),
        (changed("oversight", who=""), ["oversight"]),
        (changed("disclosure", ...), ["disclosure"]),
        (changed("redress", days=0), ["redress"]),
        (changed("redress", how=""), ["redress"]),
        (changed("limits", []), ["limits"]),
        (changed("decision", "perhaps"), ["decision"]),
        (changed("review", owner=""), ["review"]),
        (changed("review", "soon"), ["review"]),
    ],
)
def test_each_gap_is_found_by_its_name(form, missing):
    assert gaps(form) == missing


@each_case
def test_the_worst_harm_comes_first_and_the_text_holds_every_field(domain):
    form = model_answer(domain)
    levels = [level for level, _ in priorities(form)]
    assert levels == sorted(levels, reverse=True) and len(levels) == len(form["harms"])
    assert max(harm["severity"] * harm["likelihood"] for harm in form["harms"]) == levels[0]
    assert all(f"{field}:" in as_text(form) for field in FIELDS)
    assert "use: (missing)" in as_text({})


def test_a_model_answer_may_be_changed_without_harm():
    model_answer("law")["harms"].clear()
    assert gaps(model_answer("law")) == []


def test_there_is_no_other_case():
    for call in (case, model_answer):
        with pytest.raises(ValueError, match="there are medicine, law, finance"):
            call("sport")


def test_harms_that_nobody_can_name_are_no_harms_with_a_measure():
    form = copy.deepcopy(model_answer("medicine"))
    for harm in form["harms"]:
        del harm["id"]
    form["measures"] = [{name: value for name, value in form["measures"][0].items() if name != "harm"}]
    form["safeguards"] = [{"what": "something"}]
    assert {"harms", "measured", "safeguards"} <= set(gaps(form))
    twice = copy.deepcopy(model_answer("medicine"))
    twice["harms"][1]["id"] = twice["harms"][0]["id"]
    assert "harms" in gaps(twice)


def test_what_is_not_written_yet_can_be_sorted():
    assert priorities({"harms": [{"severity": 2, "likelihood": 3}]}) == [(6, "...")]


def test_blanks_and_copies_fill_no_form():
    form = copy.deepcopy(model_answer("medicine"))
    form |= {"use": "  ", "affected": ["...", "..."], "limits": ["..."]}
    form["oversight"]["minutes"] = True
    form["measures"][0]["groups"] = ["x", "x"]
    assert {"use", "affected", "limits", "oversight", "groups"} <= set(gaps(form))
    form["harms"][0]["id"] = ["no", "name"]
    assert "measured" in gaps(form)  # and nothing is raised
