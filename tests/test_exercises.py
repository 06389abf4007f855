"""Every exercise there will ever be: its solution passes, its stub is open, its mistakes are told apart by name."""

import math
import threading
import time

import pytest
import torch

from llmcourse.exercises import NAN_BESIDES, Exercise, all_exercises, mistake, solution
from llmcourse.exercises.comparing import difference, same
from llmcourse.exercises.self_attention import Attention

EXERCISES = all_exercises()
MISTAKES = [
    # The first one of each exercise is fast: a process is forked for each.
    pytest.param(cls, name, id=f"{cls.__name__}-{name}", marks=[pytest.mark.slow] if place else [])
    for cls in EXERCISES
    for place, name in enumerate(cls.mistakes)
]
each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda cls: cls.__name__)


@pytest.fixture(autouse=True)
def own_progress_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path))


@each_exercise
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_the_solution_passes_on_every_seed(exercise, seed):
    torch.manual_seed(seed)
    exercise.verify(exercise.solution, seed)


@each_exercise
def test_the_solution_is_praised(exercise):
    feedback = exercise.check(exercise.solution)
    assert (feedback.status, feedback.message) == ("correct", exercise.praise), repr(feedback)


@pytest.mark.parametrize(("exercise", "name"), MISTAKES)
def test_each_mistake_is_rejected_with_its_own_words(exercise, name):
    feedback = exercise.check(exercise.mistakes[name].answer)
    assert feedback.status == "wrong"
    assert feedback.mistake == name, repr(feedback)
    assert feedback.message == exercise.mistakes[name].sentence


@each_exercise
def test_an_untouched_exercise_is_open(exercise):
    def stub(*arguments): ...
    def documented(*arguments):
        """To be written."""

    def raising(*arguments):
        raise NotImplementedError

    for blank in (None, ..., stub, documented, raising):
        assert exercise.check(blank).status == "open", blank


@each_exercise
def test_exercise_says_all_a_learner_needs(exercise):
    assert exercise.prompt and exercise.hints and exercise.__doc__
    assert exercise.difficulty in (1, 2, 3)
    assert 1 <= exercise.minutes <= 60
    assert len(exercise.mistakes) >= 2
    assert "def " in exercise.show_solution().code and "@solution" not in exercise.show_solution().code
    sentences = [wrong.sentence for wrong in exercise.mistakes.values()]
    assert len(set(sentences)) == len(sentences)
    assert all(sentence.endswith((".", "?")) for sentence in sentences)


def test_the_course_has_enough_exercises_and_mistakes():
    assert len(EXERCISES) >= 12
    assert len(MISTAKES) >= 50


def test_names_are_unique():
    names = [cls.__name__ for cls in EXERCISES]
    assert len(set(names)) == len(names)


class Negated(Exercise):
    """An exercise of the tests' own."""

    prompt, difficulty, minutes, hints = "Write `negate(x)`.", 1, 1, ("Use `-x`.", "Really.")

    @classmethod
    def probes(cls, seed):
        return [(torch.arange(3.0),), (torch.tensor([[-1.0, 2.0]]),)]

    @solution
    def negate(x):
        return -x

    @mistake("You took the absolute value.")
    def absolute(x):
        return x.abs()

    @mistake("You changed nothing.")
    def identity(x):
        return x


def _raises(x):
    raise KeyError("colour")


def _changes_input(x):
    x *= -1
    return x


def _loops(x):
    while True:
        pass


def _swallows(x):
    while True:
        try:  # noqa: SIM105
            time.sleep(0.01)
        except:  # noqa: E722 - the point of this answer
            pass


def _holds_the_interpreter(x):
    return sum(range(10**12))


def _ends_the_process(x):
    import os

    os._exit(3)


UNUSUAL = {
    "raises": (_raises, "raised KeyError: 'colour'"),
    "NaN": (lambda x: -x * float("nan"), "NaN in 3 of 3 places"),
    "shape": (lambda x: -x[:1], "has shape (1,); shape (3,) is expected"),
    "dtype": (lambda x: (-x).double(), "dtype torch.float64; torch.float32 is expected"),
    "kind": (lambda x: [0.0], "returned a list; a tensor is expected"),
    "None": (lambda x: x.neg() and None if x.numel() == 1 else print(end=""), "returned None. Is a `return` missing?"),
    "value": (lambda x: -x + torch.tensor([0.0, 0.5])[:1] * 0 - 1, "expected -0, got -1"),
    "input": (_changes_input, "changes the arguments"),
    "loop": (_loops, "had not finished after"),
    "bare except": (_swallows, "had not finished after"),
    "native loop": (_holds_the_interpreter, "had not finished after"),
    "exit": (lambda x: exit(), "raised SystemExit"),
    "os._exit": (_ends_the_process, "ended the Python process"),
    "arguments": (lambda: 1, "raised TypeError"),
    "not a function": (7, "pass the function itself, without calling it: check(negate)"),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_answers_get_a_clear_message_in_time(case):
    answer, words = UNUSUAL[case]
    began = time.monotonic()
    feedback = Negated.check(answer)
    assert time.monotonic() - began < 5
    assert feedback.status == "wrong"
    assert words in feedback.message


@pytest.mark.parametrize(
    ("observed", "expected", "tolerance", "words"),
    [
        (7.0, 6.0, 1e-5, "expected 6, got 7."),
        (1.6330001, 1.633, 1e-9, "expected 1.633, got 1.6330001."),
        ([1.63304], [1.633], 1e-5, "right in 0 of 1 places; at [0] expected 1.633, got 1.63304."),
        ([100.9, 2.5], [100.0, 2.0], 0.01, "right in 1 of 2 places; at [1] expected 2, got 2.5."),
        ([-math.inf, 1.0], [-math.inf, 2.0], 1e-5, "right in 1 of 2 places; at [1] expected 2, got 1."),
        ([1_000_001], [1_000_000], 1e-5, "right in 0 of 1 places; at [0] expected 1000000, got 1000001."),
    ],
)
def test_a_difference_is_told_with_the_exercises_tolerance_and_digits_enough(observed, expected, tolerance, words):
    if isinstance(expected, list):
        observed, expected = torch.tensor(observed), torch.tensor(expected)
    assert not same(observed, expected, tolerance)
    assert difference(observed, expected, tolerance).endswith(words)


def _with_nan(y, place):
    y = y.clone()
    y[..., place] = float("nan")
    return y


def test_a_known_mistake_is_named_also_where_nan_is_left_besides():
    feedback = Negated.check(lambda x: _with_nan(x, -1))
    assert (feedback.mistake, feedback.message) == ("identity", "You changed nothing." + NAN_BESIDES)
    undecided = (lambda x: _with_nan(x, 0), lambda x: _with_nan(-x, 0), lambda x: x * float("nan"))
    for answer in undecided:  # two mistakes fit, the right answer fits, everything fits
        feedback = Negated.check(answer)
        assert feedback.mistake is None
        assert "holds NaN in" in feedback.message


@pytest.mark.parametrize(("name", "width", "hides"), [("no_scale", 0.0, True), ("inverted_mask", 0.5, False)])
def test_two_mistakes_in_attention_are_both_told(name, width, hides):
    def attention(query, key, value, mask):
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** width
        if mask is not None:
            scores = scores.masked_fill(mask != hides, float("-inf"))
        return scores.softmax(dim=-1) @ value

    feedback = Attention.check(attention)
    assert feedback.mistake == name
    assert feedback.message.endswith(NAN_BESIDES)


def test_check_works_after_two_threads_computed():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.randn(600, 600) @ torch.randn(600, 600)
        assert Negated.check(lambda x: -1 * x).status == "correct"
    finally:
        torch.set_num_threads(threads)


def test_what_the_answer_prints_is_shown_with_the_feedback():
    def chatty(x):
        print("x is", x.tolist())
        return x

    feedback = Negated.check(chatty)
    assert "x is [0.0, 1.0, 2.0]" in feedback.printed
    assert feedback.mistake == "identity"
    assert "x is" in repr(feedback)


def test_a_wrong_prediction_is_not_told_the_right_one():
    from llmcourse.exercises.self_attention import PredictScale

    feedback = PredictScale.check(7.3)
    assert feedback.status == "wrong"
    assert "1" not in feedback.message


def test_feedback_shows_a_learners_text_as_text():
    def injecting(x):
        raise ValueError("<script>alert(1)</script>")

    assert "<script>" not in Negated.check(injecting)._repr_html_()


def test_a_record_that_somebody_changed_is_no_obstacle():
    from llmcourse.exercises import progress

    progress.path().write_text('{"Negated": {"tries": null, "solved": null}, "Doubled": 3}', encoding="utf-8")
    assert progress.load() == {}
    progress.record("Negated", solved=True)
    assert progress.load()["Negated"]["tries"] == 1


def test_progress_counts_tries_and_remembers_the_first_success():
    from llmcourse.exercises import progress

    Negated.check(lambda x: x)
    Negated.check(Negated.solution)
    Negated.check(None)
    assert progress.load()["Negated"]["tries"] == 2
    assert progress.load()["Negated"]["solved"] is not None


def test_a_folder_that_cannot_be_written_does_not_get_in_the_way(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path / "file" / "below"))
    assert Negated.check(Negated.solution).status == "correct"


def test_hints_go_from_vague_to_precise_and_stop_at_the_last():
    assert "Hint 1 of 2: Use `-x`." in repr(Negated.hint())
    assert repr(Negated.hint(99)) == repr(Negated.hint(2))


@pytest.mark.parametrize("case", ["loop", "raises", "NaN", "input"])
def test_the_thread_that_replaces_the_fork_elsewhere_judges_the_same(case, monkeypatch):
    from llmcourse.exercises import limits

    monkeypatch.setattr(limits.sys, "platform", "win32")
    monkeypatch.setattr(Negated, "seconds", 1.0)
    answer, words = UNUSUAL[case]
    assert words in Negated.check(answer).message
    for thread in [one for one in threading.enumerate() if one.name == limits.THREAD]:
        thread.join(1)
        assert not thread.is_alive()  # or it would slow down all that the learner does next
