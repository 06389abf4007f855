"""The commands, as a learner types them."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch

from llmcourse import cli
from llmcourse.exercises.start_here import PredictShares
from tests.timing import pace, seconds_of

SMALL = ["--steps", "30", "--vocab", "300", "--width", "32", "--layers", "1", "--context", "32", "--batch", "8"]
TEXT = "The lamp is lit. The river runs to the sea. Two sisters wait at the bridge, and the fox looks on. " * 40


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCOURSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture
def trained(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    assert cli.main(["train", "--text", str(tmp_path / "text.txt"), "--out", str(tmp_path / "model"), *SMALL]) == 0
    return tmp_path / "model"


def test_doctor_prints_versions_and_the_fingerprint(capsys):
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert torch.__version__.split("+")[0] in printed
    assert cli.fingerprint() in printed


def test_fingerprint_does_not_depend_on_what_ran_before():
    before = cli.fingerprint()
    torch.manual_seed(123)
    drawn = torch.rand(1)
    torch.manual_seed(123)
    assert cli.fingerprint() == before
    assert torch.rand(1) == drawn, "the fingerprint leaves the random state as it was"


def test_train_writes_a_model_that_generate_continues_with(trained, capsys):
    assert {path.name for path in trained.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    command = ["generate", "--model", str(trained), "The river", "--tokens", "60", "--seed", "1"]
    assert cli.main(command) == 0
    first = capsys.readouterr().out
    assert first.startswith("The river")
    assert cli.main(command) == 0
    assert capsys.readouterr().out == first


def test_the_same_seed_trains_the_same_model_and_both_losses_are_printed(trained, tmp_path, capsys):
    arguments = ["train", "--text", str(tmp_path / "text.txt"), "--out", str(tmp_path / "again"), *SMALL]
    assert cli.main(arguments) == 0
    report = capsys.readouterr().out
    assert re.search(r"bigram\s+\d\.\d+ nats per token", report)
    assert re.search(r"GPT\s+\d\.\d+ nats per token", report)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"caf\xe9 ole", "is not UTF-8: byte 0xe9 at position 3"), (b"  \n", "holds no text"), (b"short", "tokens")],
)
def test_a_text_that_cannot_be_used_gets_one_line(content, words, tmp_path, capsys):
    (tmp_path / "text.txt").write_bytes(content)
    assert cli.main(["train", "--text", str(tmp_path / "text.txt"), "--out", str(tmp_path / "model"), *SMALL]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_missing_files_get_one_line_that_says_what_to_do(tmp_path, capsys):
    assert cli.main(["generate", "--model", str(tmp_path), "Hello"]) == 1
    assert "make a model with `python -m llmcourse train" in capsys.readouterr().err
    assert cli.main(["train", "--text", str(tmp_path / "nowhere.txt")]) == 1
    assert "nowhere.txt" in capsys.readouterr().err


def test_an_empty_prompt_is_refused(trained, capsys):
    assert cli.main(["generate", "--model", str(trained), ""]) == 1
    assert "empty" in capsys.readouterr().err


def test_progress_lists_every_exercise_and_what_is_solved(capsys):
    PredictShares.check(0.75)
    assert cli.main(["progress"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"\u2713 PredictShares +solved on \d{4}-\d\d-\d\d", printed)
    assert re.search("\u25cb Attention +open", printed)
    assert printed.index("start here") < printed.index("language models") < printed.index("self attention")


def test_progress_survives_a_damaged_file(tmp_path, capsys):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "progress.json").write_text(json.dumps([1, 2]) + "{")
    assert cli.main(["progress"]) == 0
    assert "0 of" in capsys.readouterr().out


ENGLISH = ["the cat sees the boat", "the dog sees the cat", "a boat waits", "the dog waits"] * 5
FRENCH = ["le chat voit le bateau", "le chien voit le chat", "un bateau attend", "le chien attend"] * 5


@pytest.fixture
def parallel(tmp_path):
    """Writes two files and returns the command that trains on them."""

    def write(source=ENGLISH, target=FRENCH, encoding="utf-8"):
        for name, lines in (("source", source), ("target", target)):
            (tmp_path / f"{name}.txt").write_bytes("\n".join(lines).encode(encoding))
        files = ["--source", str(tmp_path / "source.txt"), "--target", str(tmp_path / "target.txt")]
        return ["train", *files, "--out", str(tmp_path / "model"), *SMALL]

    return write


@pytest.mark.slow
def test_two_files_of_sentences_make_a_model_that_translates_them_and_shows_the_alignment(parallel, tmp_path, capsys):
    command = parallel()
    command[command.index("--steps") + 1] = "150"
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "20 lines of" in printed
    assert re.search(r"validation loss, last 2 lines: \d\.\d+ nats per token", printed)
    expected = {"config.json", "model.safetensors", "source.json", "target.json"}
    assert {path.name for path in (tmp_path / "model").iterdir()} == expected
    assert cli.main(["translate", "--model", str(tmp_path / "model"), "the dog sees the cat"]) == 0
    translated, *alignment = capsys.readouterr().out.splitlines()
    assert translated == "le chien voit le chat"
    pieces = [re.fullmatch(r"  (\S+) +<-  (\S+)  \((\d+)%\)", line).groups() for line in alignment]
    assert "".join(piece for piece, _, _ in pieces) == translated.replace(" ", "")
    assert all(source in "the dog sees the cat" and 0 < int(share) <= 100 for _, source, share in pieces)


def broken(lines, number, line):
    return [*lines[: number - 1], line, *lines[number:]]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"target": FRENCH[:-1]}, "source.txt has 20 lines and .*target.txt has 19: line n of one"),
        ({"target": broken(FRENCH, 3, "  ")}, "line 3 of .*target.txt is empty"),
        ({"source": broken(ENGLISH, 7, "")}, "line 7 of .*source.txt is empty"),
        (
            {"target": broken(FRENCH, 1, "caf\u00e9"), "encoding": "latin-1"},
            "target.txt is not UTF-8: byte 0xe9 at position 3",
        ),
        ({"source": broken(ENGLISH, 2, "xyz " * 40)}, "line 2 has .* tokens; use --context"),
    ],
)
def test_files_that_do_not_fit_get_one_line(files, words, parallel, capsys):
    assert cli.main(parallel(**files)) == 1
    error = capsys.readouterr().err
    assert re.search(words, error)
    assert error.count("\n") == 1


def test_a_source_without_a_target_and_a_model_of_another_kind_are_refused(trained, parallel, tmp_path, capsys):
    command = parallel()
    del command[3:5]
    assert cli.main(command) == 1
    assert "give --source and --target together" in capsys.readouterr().err
    assert cli.main([*parallel(), "--text", str(tmp_path / "text.txt")]) == 1
    assert "give --source and --target together" in capsys.readouterr().err
    assert cli.main(["translate", "--model", str(trained), "the cat"]) == 1
    assert "model of another kind (GPT); make one with `train --source" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--sharded"]], ids=["whole", "sharded"])
def test_under_torchrun_two_processes_train_one_model_and_one_of_them_speaks(options, tmp_path, capsys):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    launcher = ["torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
    files = ["--text", str(tmp_path / "text.txt"), "--out", str(tmp_path / "model")]
    command = [sys.executable, "-m", *launcher, "-m", "llmcourse", "train", *files, *SMALL, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("saved to") == done.stdout.count("parameters for 30 steps") == 1
    nats = dict(re.findall(r"validation loss, (\w+) +([\d.]+) nats", done.stdout))
    assert float(nats["GPT"]) < 4  # of ln 300 = 5.7
    written = {path.name for path in (tmp_path / "model").iterdir()}
    assert written == {"config.json", "model.safetensors", "tokenizer.json"}
    assert cli.main(["generate", "--model", str(tmp_path / "model"), "The river", "--tokens", "5"]) == 0
    assert capsys.readouterr().out.startswith("The river")


@pytest.mark.slow
def test_on_real_english_the_default_beats_counting_clearly_within_minutes(tmp_path, capsys):
    before = pace()
    took = seconds_of(lambda: cli.main(["train", "--out", str(tmp_path / "model")]))
    assert took < 180 * max(before, pace())
    nats = dict(re.findall(r"validation loss, (\w+) +([\d.]+) nats", capsys.readouterr().out))
    assert float(nats["GPT"]) < float(nats["bigram"]) - 0.5
