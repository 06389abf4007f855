"""Probabilistic finite-state grammars: text whose every probability is known exactly.

A grammar walks from state to state. Each step draws one arc: a word to say, and the state to go to. When no state has
two arcs with the same word, the words said so far tell the state, so the exact distribution of the next word is known,
and with it the lowest loss that any model can reach.
"""

import math
import random
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

START, END = "start", "end"


class Arc(NamedTuple):
    """One way to go on: say `word` with this probability, and be in `state`."""

    probability: float
    word: str
    state: Hashable


class Grammar:
    """Arcs by state, from `START` to `END`, without cycles: every sentence ends. Raises ValueError for any other graph."""

    def __init__(self, arcs: Mapping[Hashable, Sequence[Arc]]) -> None:
        if START not in arcs:
            raise ValueError(f"no arcs leave the state {START!r}, where every sentence begins")
        for state, choices in arcs.items():
            total, words = sum(arc.probability for arc in choices), [arc.word for arc in choices]
            if not math.isclose(total, 1.0):
                raise ValueError(f"the arcs of state {state!r} have probabilities that sum to {total}, not to 1")
            if min(arc.probability for arc in choices) <= 0:
                raise ValueError(f"state {state!r} has an arc that is never taken; leave it out")
            if len(set(words)) < len(words):
                raise ValueError(f"state {state!r} says one word on two arcs, so the words do not tell the state")
            for arc in choices:
                if arc.state != END and arc.state not in arcs:
                    raise ValueError(f"state {state!r} leads to {arc.state!r}, which has no arcs")
        try:
            TopologicalSorter({state: [arc.state for arc in choices] for state, choices in arcs.items()}).prepare()
        except CycleError as error:
            raise ValueError(f"the states {error.args[1]} form a cycle, so a sentence could be endless") from None
        self.arcs = arcs

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Every word the grammar can say, sorted."""
        return tuple(sorted({arc.word for choices in self.arcs.values() for arc in choices}))

    def sample(self, generator: random.Random) -> list[tuple[Hashable, str]]:
        """One sentence, as (state, word) pairs: the state says which part of the sentence the word plays."""
        state, path = START, []
        while state != END:
            choices = self.arcs[state]
            arc = generator.choices(choices, weights=[choice.probability for choice in choices])[0]
            path.append((state, arc.word))
            state = arc.state
        return path

    def next_words(self, prefix: Sequence[str]) -> dict[str, float]:
        """The exact P(next word | prefix); empty when the sentence is complete.

        Raises ValueError at the first word that the grammar cannot say there.
        """
        return {arc.word: arc.probability for arc in self.arcs.get(self._state_after(prefix), ())}

    def log_probability(self, sentence: Sequence[str]) -> float:
        """The exact log P of a whole sentence, in nats."""
        if self._state_after(sentence) != END:
            raise ValueError(f"{' '.join(sentence)!r} is the beginning of a sentence, not a whole one")
        return sum(math.log(self.next_words(sentence[:i])[word]) for i, word in enumerate(sentence))

    @cached_property
    def entropy(self) -> float:
        """How surprising a sentence is on average, in nats, to someone who knows the grammar."""
        return self._expected(lambda choices: -sum(arc.probability * math.log(arc.probability) for arc in choices))

    @cached_property
    def mean_length(self) -> float:
        """The average number of words in a sentence."""
        return self._expected(lambda choices: 1.0)

    @property
    def floor(self) -> float:
        """The entropy floor in nats per word: no model of this text can have a lower expected loss.

        Source: Shannon (1948), section 6 and theorem 9.
        """
        return self.entropy / self.mean_length

    def _state_after(self, prefix: Sequence[str]) -> Hashable:
        state = START
        for i, word in enumerate(prefix):
            after = {arc.word: arc.state for arc in self.arcs.get(state, ())}
            if word not in after:
                expected = ", ".join(sorted(after)) or "the end of the sentence"
                raise ValueError(
                    f"word {i} is {word!r}, and after {' '.join(prefix[:i])!r} only this can come: {expected}"
                )
            state = after[word]
        return state

    def _expected(self, of_state) -> float:
        """The expected sum of a quantity over the states of a walk, by one pass from the end to the start."""
        totals = {END: 0.0}

        def total(state: Hashable) -> float:
            if state not in totals:
                choices = self.arcs[state]
                totals[state] = of_state(choices) + sum(arc.probability * total(arc.state) for arc in choices)
            return totals[state]

        return total(START)
