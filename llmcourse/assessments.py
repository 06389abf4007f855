"""Impact assessments: who can be harmed by a system's misleading output, how it would be noticed, and who answers for it.

An assessment is a form with named fields, so that what is missing can be found. Completeness is all that a program can judge:
whether the answers are true and the decision is right is for people to discuss, those concerned among them. The rubric is
the course's own; the questions in it follow Raji et al. (2020) and Mitchell et al. (2019).
"""

import copy
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from llmcourse.files import read_text

Assessment = Mapping[str, Any]  # see `FIELDS`
FIELDS = {
    "use": "the decision that the output feeds, and who takes it",
    "affected": "the groups concerned, those who never see the system too",
    "harms": "a list: each with id, what, who (one of affected), severity (1 to 4), likelihood (1 to 4)",
    "measures": "a list: each with harm (an id), metric, bound, and groups (a list) for which it is taken apart",
    "safeguards": "a list: each with harm (an id) and what, which says what is done",
    "oversight": "a table: who checks, minutes (a number) for each case, and can_overrule (True or False)",
    "disclosure": "what the people affected are told, and when",
    "redress": "a table: how they contest a result, and days (a number) within which they are answered",
    "limits": "questions for which the system must not be used",
    "decision": "use, use with limits, or do not use",
    "review": "a table: the owner, and after, the event or date after which all of this is done again",
}
DECISIONS = ("use", "use with limits", "do not use")
SEVERE = 3  # from here on a harm needs a safeguard and a measure of its own
DOMAINS = ("medicine", "law", "finance")


def _filled(value: Any) -> bool:
    """Whether something was written: no empty text, list or table, no dots, and no list of such."""
    if isinstance(value, str):
        return value.strip() not in ("", "...")
    if isinstance(value, list | tuple | Mapping):
        return any(map(_filled, value.values() if isinstance(value, Mapping) else value))
    return value is not None and value is not ...


def _listed(assessment: Assessment, field: str) -> list[Mapping]:
    """The entries of a list, without what is no table."""
    value = assessment.get(field)
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list | tuple) else []


def _severe(assessment: Assessment) -> set:
    return {str(harm.get("id")) for harm in _listed(assessment, "harms") if _level(harm, "severity") >= SEVERE}


def _level(harm: Mapping, name: str) -> int:
    level = harm.get(name)
    return level if level in (1, 2, 3, 4) else 0


def _several(value: Any) -> bool:
    """Whether a list has two entries or more that are filled and not the same."""
    return isinstance(value, list | tuple) and len({str(one).strip() for one in value if _filled(one)}) >= 2


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _entry(assessment: Assessment, field: str, name: str) -> Any:
    value = assessment.get(field)
    return value.get(name) if isinstance(value, Mapping) else None


def _harms_are_rated(assessment: Assessment) -> bool:
    harms, affected = _listed(assessment, "harms"), assessment.get("affected")
    named = {str(harm.get("id")) for harm in harms}
    return (
        _several(harms)
        and len(named) == len(harms)
        and all(
            _filled(harm.get("id"))
            and _filled(harm.get("what"))
            and isinstance(affected, list | tuple)
            and harm.get("who") in affected
            and _level(harm, "severity") > 0
            and _level(harm, "likelihood") > 0
            for harm in harms
        )
    )


def _each_severe_harm_in(assessment: Assessment, field: str) -> bool:
    return bool(_listed(assessment, "harms")) and _severe(assessment) <= {
        str(entry["harm"])
        for entry in _listed(assessment, field)
        if _filled(entry.get("harm")) and any(_filled(value) for name, value in entry.items() if name != "harm")
    }


def _measured_apart(assessment: Assessment) -> bool:
    measures = _listed(assessment, "measures")
    return bool(measures) and all(_several(one.get("groups")) for one in measures)


def _bounded(assessment: Assessment) -> bool:
    measures = _listed(assessment, "measures")
    return bool(measures) and all(_filled(one.get("metric")) and _filled(one.get("bound")) for one in measures)


RUBRIC: dict[str, tuple[str, Callable[[Assessment], bool]]] = {
    "use": ("say which decision the output feeds, and who takes it", lambda a: _filled(a.get("use"))),
    "affected": (
        "name at least two groups of people who are affected, not only those who use the system",
        lambda a: _several(a.get("affected")),
    ),
    "harms": (
        "give at least two harms, each with an id of its own, what, who (one of the affected), severity and likelihood "
        "from 1 to 4",
        _harms_are_rated,
    ),
    "measured": (
        f"give each harm of severity {SEVERE} or more a measure: a harm that nobody counts is not noticed",
        lambda a: _each_severe_harm_in(a, "measures"),
    ),
    "bounds": ("give each measure a metric and the bound at which you would stop", _bounded),
    "groups": ("take each measure for at least two groups: an average hides whom it fails", _measured_apart),
    "safeguards": (
        f"give each harm of severity {SEVERE} or more a safeguard that names it",
        lambda a: _each_severe_harm_in(a, "safeguards"),
    ),
    "oversight": (
        "say who checks, how many minutes they have for a case, and that they can overrule the system",
        lambda a: (
            _filled(_entry(a, "oversight", "who"))
            and _positive(_entry(a, "oversight", "minutes"))
            and _entry(a, "oversight", "can_overrule") is True
        ),
    ),
    "disclosure": ("say what the people affected are told, and when", lambda a: _filled(a.get("disclosure"))),
    "redress": (
        "say how a result is contested, and within how many days it is answered",
        lambda a: _filled(_entry(a, "redress", "how")) and _positive(_entry(a, "redress", "days")),
    ),
    "limits": ("name at least one question for which the system must not be used", lambda a: _filled(a.get("limits"))),
    "decision": (f"decide: {', '.join(DECISIONS)}", lambda a: a.get("decision") in DECISIONS),
    "review": (
        "name an owner, and the event or date after which this is done again",
        lambda a: _filled(_entry(a, "review", "owner")) and _filled(_entry(a, "review", "after")),
    ),
}


def gaps(assessment: Assessment) -> list[str]:
    """The entries of `RUBRIC` that an assessment does not fulfil, in its order; none is complete, not yet right."""
    if not isinstance(assessment, Mapping):
        given = type(assessment).__name__
        raise TypeError(f"an assessment is a dictionary with the fields {', '.join(FIELDS)}, not a {given}")
    return [name for name, (_, fulfilled) in RUBRIC.items() if not fulfilled(assessment)]


def priorities(assessment: Assessment) -> list[tuple[int, str]]:
    """Severity times likelihood of each harm with what it is, the largest first: where to begin, not what to accept."""
    rated = [
        (_level(harm, "severity") * _level(harm, "likelihood"), harm.get("what", "..."))
        for harm in _listed(assessment, "harms")
    ]
    return sorted(rated, key=lambda pair: -pair[0])


@cache
def _cases() -> Mapping[str, Mapping[str, Any]]:
    return tomllib.loads(read_text(Path(__file__).with_suffix(".toml")))


def case(domain: str) -> str:
    """The description of an invented case: medicine, law or finance."""
    _check(domain)
    return _cases()[domain]["case"].strip()


def model_answer(domain: str) -> dict[str, Any]:
    """An assessment of the case that is complete by `RUBRIC`: one of many that would be."""
    _check(domain)
    return copy.deepcopy(_cases()[domain]["assessment"])


def _check(domain: str) -> None:
    if domain not in DOMAINS:
        raise ValueError(f"there is no case {domain!r}; there are {', '.join(DOMAINS)}")


def as_text(assessment: Assessment) -> str:
    """An assessment to read: a field a line, and an entry of a list a line."""
    lines = []
    for field in FIELDS:
        entries = _listed(assessment, field)
        lines.append(f"{field}: {_inline(assessment.get(field, '(missing)'))}" if not entries else f"{field}:")
        lines += [f"  - {_inline(entry)}" for entry in entries]
    return "\n".join(lines)


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_inline(part)}" for name, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
