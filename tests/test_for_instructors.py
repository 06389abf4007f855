"""What instructors are told is what the chapters say: minutes, names, commands and scores."""

import re

import pytest

from llmcourse.exercises import all_exercises
from tests import classroom, editions, slides, test_classroom
from tests.editions import exercises_of, minutes
from tests.notebooks import ROOT, number_of, paths, read

PAGE = (ROOT / "book/for-instructors.md").read_text(encoding="utf-8")
CHAPTERS = {number_of(path): read(path) for path in paths()}


def section(title: str) -> str:
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)[1]


def rows(title: str) -> list[list[str]]:
    """The rows of a section's first table, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_what_a_chapter_takes_is_what_it_says_itself():
    table = {row[0].split(" ")[0]: row for row in rows("What a chapter takes")}
    assert list(table) == list(CHAPTERS)
    for number, notebook in CHAPTERS.items():
        reading, working = minutes(notebook)
        assert table[number][0] == notebook.cells[0].source.splitlines()[0].removeprefix("# ")
        assert table[number][1:3] == [str(reading), str(working)]


def test_twelve_weeks_hold_the_course_with_its_minutes():
    weeks = rows("Twelve weeks")
    assert [row[0] for row in weeks] == [str(week) for week in range(1, 13)]
    held = [number for row in weeks for number in row[1].split(", ")]
    assert sorted(held) == sorted(set(CHAPTERS) - {"18c"}) and "18c" in section("Twelve weeks")
    for row in weeks:
        assert int(row[2]) == sum(sum(minutes(CHAPTERS[number])) for number in row[1].split(", "))


@pytest.mark.parametrize(("title", "chapters", "names"), [("Twelve weeks", 1, 5), ("Two days", 1, 3)])
def test_every_exercise_of_a_plan_stands_in_its_chapter(title, chapters, names):
    for row in rows(title):
        here = {one.__name__ for number in row[chapters].split(", ") for one in exercises_of(CHAPTERS[number])}
        named = re.findall(r"`(\w+)`", row[names])
        assert named and set(named) <= here, row


def test_the_work_of_a_block_of_the_two_days_fits_into_its_half():
    took = {exercise.__name__: exercise.minutes for exercise in all_exercises()}
    blocks = rows("Two days")
    assert len(blocks) == 8
    for row in blocks:
        assert 10 <= sum(took[name] for name in re.findall(r"`(\w+)`", row[3])) <= 45, row


def test_the_commands_of_grading_are_those_that_the_class_is_graded_with():
    told = re.findall(r"^nbgrader (\w+)", PAGE, re.MULTILINE)
    source = (ROOT / "tests/test_classroom.py").read_text(encoding="utf-8")
    given = re.findall(r'nbgrader\((?:course|tmp_path), "(\w+)"', source)
    assert set(told) == set(given) and len(told) == 4


def test_the_scores_that_are_told_are_those_of_the_class():
    told = {int(row[1]) for row in rows("Grading a class")}
    assert told == {int(score) for _, score in test_classroom.CLASS.values()} - {8, 10}  # some are half done
    assert f"({test_classroom.ALL} points)" in section("Grading a class")


def test_what_is_written_where_is_told():
    for folder in (editions.EDITIONS, slides.SLIDES, classroom.COURSE):
        assert folder.relative_to(ROOT).as_posix() in PAGE
