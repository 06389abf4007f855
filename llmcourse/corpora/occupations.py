"""`occ`: sentences in which an occupation makes a pronoun likely, exactly as likely as was planted.

    the nurse said that she was tired .
    the pilot with the radio said that he lost his key .
    tom said that he was late .

The planted numbers are invented for the experiment: they are no statistics of any country, and the other way round would
serve as well (`PLANTED` is an argument). Three more things are planted, each to be met in a measurement:

- the tool in the sentence goes with the occupation, so it still tells of it where the occupation is deleted: a *proxy*;
- the doctor often speaks of `it`, so P(she) alone says little about the doctor: normalise over the pronouns;
- two people have names, and their pronouns are facts of this text, which a mitigation should keep.

The corpus has two pronouns because it is small, not because people have two.
"""

import random
from collections.abc import Iterator, Mapping, Sequence

from llmcourse.corpora.grammar import END, START, Arc, Grammar

PLANTED = {
    "nurse": 0.9, "librarian": 0.8, "teacher": 0.7, "cook": 0.6, "doctor": 0.5,
    "writer": 0.4, "lawyer": 0.3, "pilot": 0.2, "engineer": 0.1,
}  # fmt: skip  # P(she | occupation), among he and she
TOOLS = {
    "clipboard": ("nurse", "librarian", "teacher"),
    "notebook": ("cook", "doctor", "writer"),
    "radio": ("lawyer", "pilot", "engineer"),
}
NAMES = {"anna": "she", "tom": "he"}
NEUTRAL = "person"  # who says no occupation; P(she) is the mean of the planted ones
POSSESSIVE = {"she": "her", "he": "his"}
STATES = ("tired", "late")
P_NAME, P_NEUTRAL = 0.15, 0.1  # how sentences begin; else with an occupation, all alike
P_TOOL, P_OWN_TOOL = 0.5, 0.8  # that a tool is named, and that it is the one that goes with the occupation
P_IT, P_IT_DOCTOR = 0.1, 0.6  # that somebody speaks of something else
P_KEY = 0.4  # that a key is lost


def _speaker(arcs: dict, name: object, p_she: float, p_it: float, tools: Mapping[str, float]) -> None:
    """From the state after the speaker's word to the pronoun: [with the TOOL] said that he, she or it."""
    said, tool = ("said", name), ("tool", name)
    arcs[name] = [Arc(P_TOOL, "with", (*tool, "the")), Arc(1 - P_TOOL, "said", said)]
    arcs[(*tool, "the")] = [Arc(1.0, "the", tool)]
    arcs[tool] = [Arc(p, word, (*tool, "said")) for word, p in tools.items()]
    arcs[(*tool, "said")] = [Arc(1.0, "said", said)]
    arcs[said] = [Arc(1.0, "that", ("that", name))]
    shares = {"she": p_she * (1 - p_it), "he": (1 - p_she) * (1 - p_it), "it": p_it}
    arcs[("that", name)] = [Arc(p, word, ("after", word)) for word, p in shares.items() if p]


def _tools(occupation: str) -> dict[str, float]:
    """P(tool | occupation): its own tool most of the time, each other one as often as the rest leaves."""
    other = (1 - P_OWN_TOOL) / (len(TOOLS) - 1)
    return {tool: P_OWN_TOOL if occupation in users else other for tool, users in TOOLS.items()}


def occupation_grammar(planted: Mapping[str, float] = PLANTED) -> Grammar:
    """The grammar of `occ`; planted: P(she | occupation) for each occupation, strictly between 0 and 1."""
    if set(planted) != set(PLANTED) or not all(0 < p < 1 for p in planted.values()):
        raise ValueError(f"planted={dict(planted)}: give each of {', '.join(PLANTED)} a probability between 0 and 1")
    people = (1 - P_NAME - P_NEUTRAL) / (1 - P_NAME)
    arcs: dict = {START: [Arc(P_NAME / len(NAMES), name, name) for name in NAMES]}
    arcs[START].append(Arc(1 - P_NAME, "the", "speaker"))
    arcs["speaker"] = [Arc(people / len(planted), occupation, occupation) for occupation in planted]
    arcs["speaker"].append(Arc(1 - people, NEUTRAL, NEUTRAL))
    for occupation, p in planted.items():
        _speaker(arcs, occupation, p, P_IT_DOCTOR if occupation == "doctor" else P_IT, _tools(occupation))
    even = dict.fromkeys(TOOLS, 1 / len(TOOLS))
    _speaker(arcs, NEUTRAL, sum(planted.values()) / len(planted), P_IT, even)
    for name, pronoun in NAMES.items():
        _speaker(arcs, name, float(pronoun == "she"), P_IT, even)
    for pronoun, possessive in POSSESSIVE.items():
        arcs[("after", pronoun)] = [Arc(1 - P_KEY, "was", "state"), Arc(P_KEY, "lost", ("lost", pronoun))]
        arcs[("lost", pronoun)] = [Arc(1.0, possessive, "key")]
    arcs[("after", "it")] = [Arc(1.0, "was", "it was")]
    arcs["it was"] = [Arc(1.0, "late", "stop")]
    arcs["state"] = [Arc(1 / len(STATES), word, "stop") for word in STATES]
    arcs["key"] = [Arc(1.0, "key", "stop")]
    arcs["stop"] = [Arc(1.0, ".", END)]
    return Grammar(arcs)


WORDS = occupation_grammar().words


def sentences(seed: int = 0, planted: Mapping[str, float] = PLANTED) -> Iterator[tuple[str, ...]]:
    """An endless stream of sentences, the same for the same seed on every machine."""
    grammar, generator = occupation_grammar(planted), random.Random(seed)
    while True:
        yield tuple(word for _, word in grammar.sample(generator))


def every_sentence(planted: Mapping[str, float] = PLANTED) -> dict[tuple[str, ...], float]:
    """All sentences of the grammar, a few hundred, with their exact probabilities."""
    grammar, found = occupation_grammar(planted), {}
    paths: list[tuple[object, tuple[str, ...], float]] = [(START, (), 1.0)]
    while paths:
        state, words, p = paths.pop()
        if state == END:
            found[words] = p
        else:
            paths += [(arc.state, (*words, arc.word), p * arc.probability) for arc in grammar.arcs[state]]
    return found


def corpus(n: int = 3000, seed: int = 0, planted: Mapping[str, float] = PLANTED) -> list[tuple[str, ...]]:
    """n sentences in random order, each standing there as often as its probability says, to within one.

    A random draw of this size would miss the planted probabilities by about 0.03; here what is planted is what the text
    says. For a random draw take `sentences`. Raises ValueError for n below 1.
    """
    if n < 1:
        raise ValueError(f"n={n}: a corpus has at least 1 sentence")
    expected = {words: n * p for words, p in every_sentence(planted).items()}
    by_rest = sorted(expected, key=lambda words: (int(expected[words]) - expected[words], words))
    missing = n - sum(map(int, expected.values()))  # what rounding down lost goes to the largest rests
    extra = set(by_rest[:missing])
    text = [words for words in sorted(expected) for _ in range(int(expected[words]) + (words in extra))]
    random.Random(seed).shuffle(text)
    return text


def prompts(speaker: str) -> list[tuple[str, ...]]:
    """The four beginnings that end where the pronoun comes: without a tool, and with each of the three.

    speaker: an occupation, `NEUTRAL`, or a name. Raises ValueError for anybody else.
    """
    if speaker not in (*PLANTED, NEUTRAL, *NAMES):
        raise ValueError(
            f"{speaker!r} does not speak in this corpus; choose one of {', '.join((*PLANTED, NEUTRAL, *NAMES))}"
        )
    who = (speaker,) if speaker in NAMES else ("the", speaker)
    return [(*who, *tool, "said", "that") for tool in ((), *(("with", "the", tool) for tool in TOOLS))]


def without_occupation(words: Sequence[str]) -> tuple[str, ...]:
    """The sentence with its occupation, if it has one, replaced by `person`."""
    return tuple(NEUTRAL if word in PLANTED else word for word in words)


def proxy_probability(tool: str, planted: Mapping[str, float] = PLANTED) -> float:
    """P(she | tool), among he and she, when the occupation was deleted: what the tool alone gives away, exactly.

    The mean over all who may have spoken, `person` among them, by Bayes' rule. Raises ValueError for another tool.
    """
    if tool not in TOOLS:
        raise ValueError(f"{tool!r} is no tool of this corpus; choose one of {', '.join(TOOLS)}")
    share = (1 - P_NAME - P_NEUTRAL) / len(planted)
    weights = {
        occupation: share * _tools(occupation)[tool] * (1 - (P_IT_DOCTOR if occupation == "doctor" else P_IT))
        for occupation in planted
    }
    neutral = P_NEUTRAL / len(TOOLS) * (1 - P_IT)
    she = sum(weight * planted[occupation] for occupation, weight in weights.items())
    she += neutral * sum(planted.values()) / len(planted)
    return she / (sum(weights.values()) + neutral)
