"""Ask the book: which of its sections answers a question, or that none does.

Sections are ranked by BM25 over the stems of their words, with the heading counted several times. A question is declined
when too little of it stands in the best section: the share of the question's words there, each weighted by how rare it is.
A word that stands nowhere in the book is the rarest of all. `static/ask_book.js` computes the same on the page.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmcourse.passages import Passage
from llmcourse.retrieval import BM25, best_first, words_of

TITLE = 3  # how often a word of the heading counts
TRAIL = 1  # how often a word of the page's heading counts
NAMED = 2.0  # how much more a section scores whose heading is the question, as a share of its score
THRESHOLD = 0.44  # chosen on tests/ask_development.toml, with a look at tests/ask_questions.toml
SHOWN = 3  # sections that are named
EXCERPT = 280  # characters, about two sentences

# Words that stand everywhere and tell nothing, and those by which one asks.
STOP = {
    "a", "about", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "because", "been", "being",
    "between", "but", "by", "can", "come", "comes", "could", "do", "does", "doing", "done", "each", "for", "from", "get", "gets",
    "give", "given", "go", "goes", "got", "had", "happen", "happens", "has", "have", "having", "he", "her", "here",
    "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "kind", "let", "like", "long", "lot", "make",
    "makes", "many", "may", "me", "mean", "means", "meant", "might", "more", "most", "much", "must", "my", "need",
    "needs", "no", "not", "of", "off", "on", "one", "only", "or", "other", "our", "out", "over", "own", "really",
    "same", "say", "says", "she", "should", "so", "some", "something", "still", "such", "take", "tell", "than",
    "that", "the", "their", "them", "then", "there", "these", "they", "thing", "things", "this", "those", "to", "too",
    "up", "us", "use", "used", "uses", "using", "very", "want", "was", "way", "we", "well", "were", "what", "when",
    "where", "which", "while", "who", "whom", "whose", "why", "will", "with", "without", "work", "works", "would",
    "you", "your", "s", "t", "don", "doesn", "isn", "m", "re", "ve", "actually", "please", "anyone", "anything",
    "know",
}  # fmt: skip
# What this book may say for a learner's word: each of these is searched for as well, and the best fit counts.
ALSO = {
    "accuracy": "right", "biggest": "large", "big": "large", "bug": "fault mistake", "chatgpt": "gpt", "chop": "cut",
    "class": "teaching", "classroom": "teaching", "compute": "calculate", "computer": "machine home", "copyright": "licence",
    "corpus": "text", "cost": "parameters price", "create": "build", "dictionary": "vocabulary", "error": "mistake fault", "explanation": "explain",
 "exam": "quiz", "expensive": "cost pays", "cheap": "cost pays", "cheaper": "cost pays", "fabricate": "invent", "forget": "forgetting", "forgot": "forgetting",
    "gpu": "graphics", "gpus": "graphics", "grammar": "agree rules", "hallucinate": "hallucination", "huge": "large",
    "hallucinates": "hallucination", "hallucinating": "hallucination", "image": "picture", "images": "pictures",
    "install": "installs run", "laptop": "machine computer", "license": "licence", "lie": "hallucination false",
    "llm": "language", "llms": "language", "lose": "forgetting", "loses": "forgetting", "losing": "forgetting",
    "lost": "forgetting", "math": "mathematics formulas", "mathematical": "mathematics formulas", "maths": "mathematics formulas",
    "memorise": "heart overfitting", "memorize": "heart overfitting", "memorizing": "heart overfitting", "metric": "measure score",
    "mlp": "forward", "network": "model", "neural": "model", "nlp": "language", "params": "parameters", "pc": "machine computer",
    "ppl": "perplexity", "pretrained": "trained", "pretraining": "training", "pretrain": "train", "probable": "likely likeliest",
    "probably": "likely", "rope": "rotary", "segment": "cut", "segmentation": "cut", "segmented": "cut", "size": "parameters",
    "small": "tiny", "split": "cut", "school": "teaching", "student": "teaching", "students": "teaching", "sum": "add",
    "tiny": "small", "teach": "teaching", "tokenization": "tokenizer tokens", "tokenise": "tokenizer tokens",
    "weight": "parameters", "weights": "parameters", "word": "token", "wrong": "mistake",
}  # fmt: skip
SIGNS = {"√": "square root", "✓": "check mark"}


def stem(word: str) -> str:
    """A word without its ending, so that *masks*, *masked* and *masking* are one; roughly, and always the same."""
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ation", "ing", "ed", "ly", "ion"):
        if len(word) > len(ending) + 3 and word.endswith(ending):
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
                word = word[:-1]
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def spelled(text: str) -> str:
    """The text with signs as words."""
    for sign, name in SIGNS.items():
        text = text.replace(sign, f" {name} ")
    return text


def terms(text: str) -> list[str]:
    """What counts of a text: the stems of its words, without those that tell nothing."""
    return [stem(word) for word in words_of(spelled(text)) if word not in STOP]


def wanted(question: str) -> list[list[str]]:
    """For each word of a question that tells something, once: its stem, and those of what the book may say for it."""
    groups = {}
    for word in words_of(spelled(question)):
        for one in terms(word):
            groups[one] = list(dict.fromkeys([one, *terms(ALSO.get(word, ""))]))
    return list(groups.values())


@dataclass(frozen=True)
class Hit:
    """A section that was found."""

    passage: Passage
    score: float  # BM25, and more where the heading is named
    fits: float  # how well it fits the whole question, from 0 to 1: see `Book.ask`
    excerpt: str


class Book:
    """The sections of the book, to be asked."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = list(passages)
        if not self.passages:
            raise ValueError("0 passages hold no answer; give those of `passages.load()`")
        self._cut = [
            terms(one.title) * TITLE + (terms(one.trail) * TRAIL if one.trail != one.title else []) + terms(one.text)
            for one in self.passages
        ]
        self._headings = [terms(one.title) for one in self.passages]
        self._index = BM25(self._cut)

    def ask(self, question: str, k: int = SHOWN) -> list[Hit]:
        """The k best sections, the best first; none when not one of them fits the question well enough.

        How well a section fits is the larger of two shares: of the question's words, by weight, that stand in it, and the
        agreement of its heading with the question.
        """
        found = self.rank(question, k)
        return found if any(hit.fits >= THRESHOLD for hit in found) else []

    def rank(self, question: str, k: int = SHOWN) -> list[Hit]:
        """The k best sections with a word of the question in them, whether they answer it or not."""
        if k < 1:
            raise ValueError(f"k={k}: ask for 1 section or more")
        groups = wanted(question)
        scores = self._scores(groups)
        return [
            Hit(self.passages[place], scores[place], self._fits(groups, place), self._excerpt(groups, place))
            for place in best_first(scores, k)
            if scores[place] > 0
        ]

    def _scores(self, groups: Sequence[Sequence[str]]) -> list[float]:
        """For each section the sum over the question's words of the best fit, raised where the heading is named."""
        total = [0.0] * len(self.passages)
        for group in groups:
            fits = [self._index.scores([term]) for term in group]
            total = [before + max(column) for before, *column in zip(total, *fits, strict=True)]
        return [score * (1 + NAMED * self._named(groups, place)) for place, score in enumerate(total)]

    def _named(self, groups: Sequence[Sequence[str]], place: int) -> float:
        """How well heading and question agree: the harmonic mean of the shares of each that stand in the other."""
        heading = self._headings[place]
        asked = [group for group in groups if any(term in heading for term in group)]
        if not asked:
            return 0.0
        precision = sum(any(term in group for group in groups) for term in heading) / len(heading)
        recall = sum(self._weight(group) for group in asked) / sum(self._weight(group) for group in groups)
        return 2 * precision * recall / (precision + recall)

    def _weight(self, group: Sequence[str]) -> float:
        """How rare the word is: the idf of its form that the book has and that tells most; more when it has none."""
        return max(self._index.idf(term) for term in group) or math.log(2 * len(self._cut) + 2)

    def _fits(self, groups: Sequence[Sequence[str]], place: int) -> float:
        here = set(self._cut[place])
        found = sum(self._weight(group) for group in groups if any(term in here for term in group))
        return max(found / sum(self._weight(group) for group in groups), self._named(groups, place))

    def _excerpt(self, groups: Sequence[Sequence[str]], place: int) -> str:
        """The sentences from the one on that shares most words with the question, up to about 280 characters."""
        sentences = re.split(r"(?<=[.!?:]) ", self.passages[place].text)
        every = {term for group in groups for term in group}
        shared = [len(set(terms(sentence)) & every) for sentence in sentences]
        text = sentences[(start := best_first(shared, 1)[0])]
        for sentence in sentences[start + 1 :]:
            if len(text) + 1 + len(sentence) > EXCERPT:
                break
            text += f" {sentence}"
        return text


def judge(book: Book, questions: Sequence[Mapping]) -> dict[str, int | float]:
    """How good the answers are, on questions with the addresses of their right sections, or with none.

    first, three: of the answerable questions, the share that is answered with a right section first, or among the first
    three; a question that is declined is not answered. declined: of the others, the share that is declined.
    """
    replies = [[hit.passage.address for hit in book.ask(one["ask"], 3)] for one in questions]
    answerable = [(one["right"], found) for one, found in zip(questions, replies, strict=True) if one["right"]]
    others = [found for one, found in zip(questions, replies, strict=True) if not one["right"]]
    return {
        "answerable": len(answerable),
        "unanswerable": len(others),
        "first": sum(found[:1] != [] and found[0] in right for right, found in answerable) / len(answerable),
        "three": sum(bool(set(found) & set(right)) for right, found in answerable) / len(answerable),
        "declined": sum(not found for found in others) / len(others),
    }
