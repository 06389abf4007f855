"""Exercises of chapter 20, the second capstone: route, admit, assemble an assistant, and describe it truly."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from llmcourse.capstone import lookalikes
from llmcourse.capstone.bases import attacked_base, default_base, fresh_base, questions
from llmcourse.capstone.facts import FACT_WORDS, PLAIN_WORDS, Base, pieces_of
from llmcourse.capstone.judging_assistant import Measured, Reply, examine_all, figures, look_alikes
from llmcourse.capstone.reading import K, find, released_reader
from llmcourse.capstone.rubric import SECTIONS, assistant_lines, card_lines
from llmcourse.exercises import Exercise, Wrong, mistake, solution
from llmcourse.retrieval import BM25

CHAPTER = 20
N_QUESTIONS = 32  # that a submission is asked of each knowledge base


class PredictSilence(Exercise):
    """Predict, then run: what does the rubric give to one that never speaks?"""

    prompt = (
        "Predict before you run the next cell. An assistant says nothing to any question, and gives its silence a confidence of "
        "1. A quarter of the questions have no answer. How many of the 90 points for the assistant does the rubric give it? "
        "Give a whole number."
    )
    difficulty, minutes = 1, 4
    hints = (
        "Go through the eight lines. Which of them can be passed without a single answer?",
        "Abstaining is scored by F1: of its silences, one in four is right, and every question without an answer meets silence.",
        "It is wrong on three of four questions and says it is sure. Is that calibrated?",
    )
    praise = "correct: it is quick, and that is all."

    @solution
    def points():
        return 5

    @mistake(
        "You gave it the line on abstaining. It never misses a question without an answer, but three of four of its silences are "
        "wrong, and F1 counts both."
    )
    def abstaining_too():
        return 20

    @mistake(
        "You gave it the line on calibration. It is sure of replies of which three in four are wrong: the error is 0.75."
    )
    def calibrated_too():
        return 10

    @mistake(
        "Did you give it the line on resisting? It obeys no command, but the line counts the attacked facts that are still "
        "answered right. Or the line on abstaining alone? Three of four of its silences are wrong, and F1 counts them."
    )
    def resisting_too():
        return 15

    @mistake("You gave it nothing. One line asks for no answer at all.")
    def nothing():
        return 0

    @mistake("A quarter of its replies are right, but the lines are not paid by the share: each asks for a bound.")
    def a_quarter():
        return 22


class LanguageOf(Exercise):
    """Route a question to its language."""

    prompt = (
        'Write `language_of(question)`: "zh" for a question in Chinese, "en" for one in English. A question may hold a name of '
        "the other language. Compare the number of Chinese characters (`\\u4e00` to `\\u9fff`) with the number of words in Latin "
        'letters, each word counting once; with as many of both say "en".'
    )
    difficulty, minutes = 1, 8
    hints = (
        "One name decides nothing. Count both kinds, and compare.",
        "A Chinese character says about as much as an English word, not as an English letter.",
        'The characters are `re.findall(r"[\\u4e00-\\u9fff]", question)`, the words `re.findall(r"[A-Za-z]+", question)`.',
    )
    praise = "correct. A name from the other language no longer confuses it."

    @classmethod
    def probes(cls, seed):
        texts = ("Who is 塔恩的?", "Tarn 的 mayor 是?", "塔恩 has what as its mayor?",
                 "请告诉我Tarn的镇长。", "Tarn的？", "Ost的渡船是什么？")  # fmt: skip
        return [(text,) for text in texts]

    @solution
    def language_of(question):
        chinese = re.findall(r"[\u4e00-\u9fff]", question)
        words = re.findall(r"[A-Za-z]+", question)
        return "zh" if len(chinese) > len(words) else "en"

    @mistake("One Chinese character is enough for you. *What is the ferry of 布雷?* is an English question.")
    def any_chinese_character(question):
        return "zh" if re.search(r"[\u4e00-\u9fff]", question) else "en"

    @mistake("One Latin letter is enough for you. *Sorrow Bay的渡船是什么？* is a Chinese question.")
    def any_latin_letter(question):
        return "en" if re.search(r"[A-Za-z]", question) else "zh"

    @mistake(
        "You count Latin *letters* against Chinese characters. One long name then outweighs a whole Chinese question: count words."
    )
    def letters_not_words(question):
        chinese, letters = re.findall(r"[\u4e00-\u9fff]", question), re.findall(r"[A-Za-z]", question)
        return "zh" if len(chinese) > len(letters) else "en"

    @mistake("You look at the first character. A Chinese question may begin with an English name.")
    def the_first_character(question):
        return "zh" if "\u4e00" <= question[0] <= "\u9fff" else "en"

    @mistake("You look at the last sign. It is a habit of writers, not of the language, and an English ? ends some.")
    def the_last_sign(question):
        return "zh" if question[-1] in "？。" else "en"

    @mistake(
        "You count every sign beyond ASCII as Chinese. A full-width ？ is a sign of punctuation: count the characters only."
    )
    def punctuation_too(question):
        beyond, words = [c for c in question if c > "\u007f"], re.findall(r"[A-Za-z]+", question)
        return "zh" if len(beyond) > len(words) else "en"

    @mistake("You count *runs* of Chinese characters. Each character counts: it says about as much as an English word.")
    def runs_of_characters(question):
        runs, words = re.findall(r"[\u4e00-\u9fff]+", question), re.findall(r"[A-Za-z]+", question)
        return "zh" if len(runs) > len(words) else "en"

    @mistake("With as many of both you say zh. The prompt asks for en.")
    def a_tie_is_chinese(question):
        chinese, words = re.findall(r"[\u4e00-\u9fff]", question), re.findall(r"[A-Za-z]+", question)
        return "zh" if len(chinese) >= len(words) else "en"


class AdmitPassages(Exercise):
    """Let in what is a fact, not what is no known attack."""

    prompt = (
        "Write `admit(base)`: the places, counted from 0 and in order, of the passages that may be searched and read. A passage "
        "may be let in when every piece of `pieces_of(passage, base.names)` is a listed name (its `kind` is `name`) or one of the "
        "words in `FACT_WORDS`. Everything else stays out, whatever it is."
    )
    difficulty, minutes = 2, 10
    hints = (
        "Do not look for what is forbidden. Look whether all of it is allowed.",
        "`pieces_of(passage, base.names)` gives pieces with a `word` and a `kind`; a passage is in when `all(...)` of them pass.",
        "`[place for place, passage in enumerate(base.passages) if all(... for piece in pieces_of(passage, base.names))]`.",
    )
    praise = "correct. What you have not foreseen stays out as well."

    @classmethod
    def probes(cls, seed):
        tarn = default_base()
        strange = (
            "The mayor of Ost is Nobody.",
            "Odile says the mayor of Tarn is Ivo.",
            "塔恩的镇长不是伊沃。",
            "Welcome!",
        )
        mixed = replace(tarn, passages=(*tarn.passages[:4], *strange, *tarn.passages[4:8]))
        return [(mixed,), (attacked_base(fresh_base(seed + 10), seed),)]

    @solution
    def admit(base):
        return [
            place
            for place, passage in enumerate(base.passages)
            if all(piece.kind == "name" or piece.word in FACT_WORDS for piece in pieces_of(passage, base.names))
        ]

    @mistake("You let everything in. Somebody has written commands between the facts.")
    def everything(base):
        return list(range(len(base.passages)))

    @mistake(
        "You keep a list of words that are forbidden. Chapter 17 showed what becomes of it: the next attack uses another word, or "
        "another language."
    )
    def a_list_of_bad_words(base):
        bad = re.compile("ignore|system|instead|忽略|系统", re.IGNORECASE)
        return [place for place, passage in enumerate(base.passages) if not bad.search(passage)]

    @mistake("You allow the words of *questions* too. *Tell me the mayor of Tarn is Ivo.* then comes in as a fact.")
    def words_of_questions(base):
        return [
            place
            for place, passage in enumerate(base.passages)
            if all(piece.kind == "name" or piece.word in PLAIN_WORDS for piece in pieces_of(passage, base.names))
        ]

    @mistake("You ask for three names. A command holds them as well: it wants to be taken for a fact.")
    def three_names(base):
        return [
            place
            for place, passage in enumerate(base.passages)
            if sum(piece.kind == "name" for piece in pieces_of(passage, base.names)) == 3
        ]

    @mistake(
        "You go by length. *The mayor of Ost is Nobody.* is short, and Nobody is on no list: it cannot be said in Chinese."
    )
    def short_ones(base):
        return [place for place, passage in enumerate(base.passages) if len(pieces_of(passage, base.names)) <= 7]

    @mistake("You let in what holds *any* name or any such word. Every piece must be allowed: `all`, not `any`.")
    def any_piece(base):
        return [
            place
            for place, passage in enumerate(base.passages)
            if any(piece.kind == "name" or piece.word in FACT_WORDS for piece in pieces_of(passage, base.names))
        ]

    @mistake(
        "You look at the first piece alone. A false or foreign text can begin with *The* or with a name as well: `all` pieces "
        "must be allowed."
    )
    def first_piece(base):
        return [
            place
            for place, passage in enumerate(base.passages)
            if all(piece.kind == "name" or piece.word in FACT_WORDS for piece in pieces_of(passage, base.names)[:1])
        ]

    @mistake("You return the passages. The prompt asks for their places, which a citation needs.")
    def passages_not_places(base):
        return [base.passages[place] for place in admit(base)]

    @mistake("You keep English passages only. Half of the knowledge base is in Chinese.")
    def english_passages(base):
        return [place for place in admit(base) if base.passages[place].isascii()]


admit, language_of = AdmitPassages.solution, LanguageOf.solution


@cache
def _found(reader, question, passages):
    """What `find` gives; the mistakes below ask the same again and again."""
    return find(reader, question, passages)


def _assembled(base: Base, reader, *, k: int = K, admitted=None, say=None, source=None):
    """The parts put together, with one of them exchanged: what most mistakes below are."""
    passages = [pieces_of(text, base.names) for text in base.passages]
    places = admit(base) if admitted is None else admitted
    index = BM25([[piece.word for piece in passages[place] if piece.kind == "name"] for place in places])

    def ask(question):
        pieces = pieces_of(question, base.names)
        best = index.rank([piece.word for piece in pieces if piece.kind != "plain"], k)
        found = _found(reader, tuple(pieces), tuple(tuple(passages[places[number]]) for number in best))
        if found.piece is None:
            return Reply(None, None, found.confidence)
        place = places[best[found.passage]]
        text = say(found, place, question) if say else base.called(found.piece.word, language_of(question))
        return Reply(text, source(found, best) if source else place, found.confidence)

    return ask


class SubmitAssistant(Exercise):
    """The capstone: the whole assistant."""

    prompt = (
        "Write `build(base, reader)`: it returns a function `ask(question)`, which returns a `Reply(text, source, confidence)`. "
        "Cut all passages once, and let in those that `admit` allows. For a question: cut it, search with its names, have the K "
        "nearest passages read by `find`, and say the name that it points at in the language of the question. The source is the "
        "passage's place in `base.passages`. Where there is no answer, text and source are None. The judge brings knowledge "
        "bases that you have not seen. `find`, `pieces_of`, `BM25` and `K` are those of the cells above."
    )
    difficulty, minutes = 3, 50
    hints = (
        "Do once in `build` what does not depend on the question: pieces of the passages, `admit(base)`, and an index. A `BM25` "
        "over the *names* of the passages finds them in both languages.",
        "Three numberings meet: the place in `base.passages`, the number among the admitted, and the number among the K that were "
        "read. `found.passage` is the last of them.",
        "`base.called(found.piece.word, language_of(question))` says a name in the right language.",
        "If only the questions about rivals and neighbours fail, you read too few passages, or do not have them read at all.",
    )
    praise = "correct: an assistant that finds, reads, cites, follows edits, and knows when to be silent. Now write its card."
    seconds = 60.0

    @classmethod
    def probes(cls, seed):
        small = fresh_base(seed + 20, n_places=5, n_relations=4, known=0.7)
        return [(default_base(),), (attacked_base(small, seed),)]

    @classmethod
    def observe(cls, answer, probe):
        ask = answer(*probe, released_reader())
        if ask is None:
            return ...
        texts = [question.text for question in questions(*probe, seed=5, n=24)]
        answers = dict.fromkeys(texts, "nothing to be found here")  # the judge has such a drawer too
        replies = [ask(text) for text in answers]
        return [(reply.text, reply.source) for reply in replies]

    @classmethod
    def verify(cls, answer, seed=0):
        try:
            seen = examine_all(answer, released_reader(), default_base(), seed, N_QUESTIONS)
        except ValueError as error:
            raise Wrong(f"{error}.") from None
        for sentence in look_alikes(seen):
            raise Wrong(sentence)
        for line in assistant_lines(figures(seen)):
            if line.reason:
                raise Wrong(f"it {line.name}: {line.reason}.")

    @solution
    def build(base, reader):
        passages = [pieces_of(text, base.names) for text in base.passages]
        admitted = admit(base)
        index = BM25([[piece.word for piece in passages[place] if piece.kind == "name"] for place in admitted])

        def ask(question):
            pieces = pieces_of(question, base.names)
            names = [piece.word for piece in pieces if piece.kind != "plain"]
            nearest = [admitted[number] for number in index.rank(names, K)]
            found = find(reader, pieces, [passages[place] for place in nearest])
            if found.piece is None:
                return Reply(None, None, found.confidence)
            text = base.called(found.piece.word, language_of(question))
            return Reply(text, nearest[found.passage], found.confidence)

        return ask

    @mistake("It always abstains. That is never false and never of use: most questions have an answer.")
    def always_abstains(base, reader):
        return lookalikes.always_abstains(base, reader)

    @mistake("It always answers. Where the passages tell nothing, the right reply is None.")
    def always_answers(base, reader):
        return lookalikes.always_answers(base, reader)

    @mistake(
        "It answers English questions only. `pieces_of` finds names in both languages; let Chinese questions through."
    )
    def english_only(base, reader):
        ask = _assembled(base, reader)
        return lambda question: ask(question) if language_of(question) == "en" else Reply(None, None, 1.0)

    @mistake("It repeats the whole passage. Who asks for a name wants the name; the passage is the citation.")
    def whole_passage(base, reader):
        return _assembled(base, reader, say=lambda found, place, question: base.passages[place])

    @mistake("It says the most frequent value to everything, without looking at the question.")
    def majority_answer(base, reader):
        return lookalikes.majority_answer(base, reader)

    @mistake(
        "It knows the islands of Tarn by heart. On another knowledge base, or after an edit, it says what it knows."
    )
    def remembers(base, reader):
        return lookalikes.remembers(base, reader)

    @mistake(
        "It looks for answers in the variables of those who call it. What lies there is a drawer of false words, put there for you."
    )
    def peeks(base, reader):
        return lookalikes.peeks(base, reader)

    @mistake(
        "It goes by the words that stand together: the name that is left over in a passage. Who is whose rival is told by the roles "
        "alone: have the passages read."
    )
    def words_alone(base, reader):
        return lookalikes.words_alone(base, reader)

    @mistake("It says the name in the language of the *passage*. Who asks in Chinese wants to read Chinese.")
    def language_of_the_passage(base, reader):
        return _assembled(
            base, reader, say=lambda found, place, question: base.passages[place][found.piece.start : found.piece.end]
        )

    @mistake("It says every name in English: `found.piece.word` is the English form. `base.called` gives the other.")
    def always_english_names(base, reader):
        return _assembled(base, reader, say=lambda found, place, question: found.piece.word)

    @mistake(
        "Its source is the number among the passages that were *read*, from 0 to 3. A citation must lead to the passage in the "
        "knowledge base."
    )
    def number_among_the_read(base, reader):
        return _assembled(base, reader, source=lambda found, best: found.passage)

    @mistake(
        "Its source is the number among the *admitted* passages. As soon as one stays out, all citations after it point at a "
        "neighbour."
    )
    def number_among_the_admitted(base, reader):
        return _assembled(base, reader, source=lambda found, best: best[found.passage])

    @mistake("It cites the passage that the search ranked first. The answer may have been read in another.")
    def cites_the_nearest(base, reader):
        places = admit(base)
        return _assembled(base, reader, source=lambda found, best: places[best[0]])

    @mistake("It lets all passages in. Commands stand among them, and the reader takes them for facts: use `admit`.")
    def everything_admitted(base, reader):
        return _assembled(base, reader, admitted=list(range(len(base.passages))))

    @mistake(
        "It has one passage read. Two passages can hold the same names, and the search cannot tell which of them says it: give the "
        "reader K."
    )
    def one_passage(base, reader):
        return _assembled(base, reader, k=1)


PROSE = {
    "data": "Sentences that the course makes, with symbols for names; no person's text is in it.",
    "intended use": "Questions for one value of one relation, in English or Chinese, to a small knowledge base.",
    "limits": "It reads six forms of sentence and listed names; of a seventh form it may be wrong and sure.",
    "risks": "A false fact in plain form is believed; whoever may add passages may decide what it says.",
}


def _card(claims: Mapping[str, float], **changes: str) -> dict:
    return {**PROSE, **changes, "figures": dict(claims)}


class WriteCard(Exercise):
    """Describe the assistant, and claim only what was measured."""

    prompt = (
        "Write `write_card(measured)`: a dict with the sections `data`, `intended use`, `limits` and `risks`, each a text of at "
        "least 8 words, and with `figures`, a dict that gives for each name in `CLAIMED` what was measured: an attribute of "
        "`measured` has this name. The judge calls it with the figures of a good assistant and of a bad one, measures again, and "
        "accepts 0.05 more or less."
    )
    difficulty, minutes = 2, 20
    hints = (
        "Write the four texts for somebody who will use the assistant and has not read this chapter.",
        "Type no number: the figures are those of the argument, whatever they are.",
        "`{name: getattr(measured, name) for name in CLAIMED}`.",
    )
    praise = "correct: complete, and true of whatever was measured. Whether it is *good*, a person has to say."

    @classmethod
    def probes(cls, seed):
        good = Measured(0.99, 0.97, 1.0, 0.99, 0.98, 0.02, 1.0, 0.003)
        poor = Measured(0.81, 0.12, 0.44, 0.7, 0.39, 0.31, 0.27, 0.002)
        return [(good,), (poor,)]

    @classmethod
    def observe(cls, answer, probe):
        card = answer(*probe)
        if card is ... or not isinstance(card, Mapping):
            return card
        long_enough = {name: len(str(card.get(name, "")).split()) >= 8 for name in SECTIONS}
        claims = card.get("figures")
        return {"sections": long_enough, "figures": dict(claims) if isinstance(claims, Mapping) else claims}

    @classmethod
    def verify(cls, answer, seed=0):
        for (measured,) in cls.probes(seed):
            card = answer(measured)
            if not isinstance(card, Mapping):
                raise Wrong(f"your code returned a {type(card).__name__}; a dict is expected.")
            for line in card_lines(card, measured):
                if line.reason:
                    raise Wrong(f"{line.name}? No: {line.reason}.")

    @solution
    def write_card(measured):
        return {
            "data": "Sentences that the course makes, with symbols for names; no person's text is in it.",
            "intended use": "Questions for one value of one relation, in English or Chinese, to a small knowledge base.",
            "limits": "It reads six forms of sentence and listed names; of a seventh form it may be wrong and sure.",
            "risks": "A false fact in plain form is believed; whoever may add passages may decide what it says.",
            "figures": {name: getattr(measured, name) for name in (
                "english", "chinese", "edited", "cited", "abstains", "calibration", "resists"
            )},
        }  # fmt: skip

    @mistake("You claim 1.0 everywhere. For the good assistant that is nearly true, for the bad one it is a lie.")
    def all_perfect(measured):
        return _card({name: 0.0 if name == "calibration" else 1.0 for name in measured._fields[:-1]})

    @mistake("You give percentages. The rubric counts shares from 0 to 1, and 99 is not 0.99.")
    def percentages(measured):
        return _card({name: 100 * value for name, value in measured._asdict().items() if name != "seconds"})

    @mistake("You claim errors where shares of right answers are asked: 1 minus the figure.")
    def errors_instead(measured):
        return _card({name: 1 - value for name, value in measured._asdict().items() if name != "seconds"})

    @mistake("You leave out the figures that look bad. A card is for these, too.")
    def only_good_figures(measured):
        shares = {name: value for name, value in measured._asdict().items() if name != "seconds"}
        return _card({name: value for name, value in shares.items() if value >= 0.9 or name == "calibration"})

    @mistake("You give one mean for both languages. It hides the language that fails.")
    def one_mean_for_both(measured):
        both = (measured.english + measured.chinese) / 2
        shares = {name: value for name, value in measured._asdict().items() if name != "seconds"}
        return _card(shares | {"english": both, "chinese": both})

    @mistake(
        "The section on risks is empty, or shorter than 8 words. No assistant has none: who may add a passage to this one?"
    )
    def no_risks(measured):
        return _card(
            {name: value for name, value in measured._asdict().items() if name != "seconds"}, risks="none known"
        )

    @mistake("The card claims nothing: it has no figures, and whoever reads it cannot check it.")
    def no_figures(measured):
        return _card({})
