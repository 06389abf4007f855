"""Claims: results that a chapter states, checked where they are stated.

A trained number differs a little from one machine to the next, so a notebook does not print it. It claims a bound, and
the claim prints the same line everywhere, or fails.
"""


class ClaimFailed(AssertionError):
    """A result that the text states does not hold on this machine."""


def claim(
    statement: str,
    value: float | bool | str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    equals: float | bool | str | None = None,
) -> None:
    """Print the statement with its bound when the value keeps it; raise ClaimFailed with the value when not.

    `equals` is exact. NaN keeps no bound.
    """
    bounds = {"at least": at_least, "at most": at_most, "exactly": equals}
    given = {words: bound for words, bound in bounds.items() if bound is not None}
    if not given:
        raise ValueError(f"claim({statement!r}) states nothing: give at_least, at_most or equals")
    if equals is not None and len(given) > 1:
        raise ValueError(f"claim({statement!r}): equals leaves nothing for at_least or at_most to say")
    kept = (
        (at_least is None or value >= at_least)
        and (at_most is None or value <= at_most)
        and (equals is None or value == equals)
    )
    condition = ", ".join(f"{words} {bound}" for words, bound in given.items())
    if not kept:
        raise ClaimFailed(f"{statement}: claimed {condition}, measured {value}")
    print(f"\u2713 {statement}: {condition}")
