"""A training and a download survive what ends them: kill -9 at any moment, a full disk, a damaged file.

The processes are real, and killed from outside: see `surviving.py`, which forks them.
"""

import errno
import hashlib
import http.server
import io
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from llmcourse import cli, files
from llmcourse.checkpoints import previous_save
from llmcourse.files import require_writable
from llmcourse.models import load_model, save_model
from llmcourse.training import TrainConfig, TrainingDiverged, TrainingOutOfMemory, next_token_loss, train
from llmcourse.weights import load_tensors, save_tensors
from tests.surviving import OPTIONS, STEPS, STREAMS, new_model, windows
from tests.test_bad_input import judge

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked and killed")
KILLS = [10, pytest.param(200, marks=pytest.mark.soak)]
DISKS = ("slow", "fast")


class Forker:
    """Starts children of a process that has already loaded torch."""

    def __init__(self, complaints):
        self.complaints = complaints
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.surviving"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.complaints,
            text=True,
            cwd=Path(__file__).parents[1],
            env={**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"},
        )
        assert self.process.stdout.readline() == "ready\n", self.said()

    def run(self, run, kill_after=None, **arguments):
        """How a child ended: 0 when it came to its end, -9 when it was killed after so many seconds."""
        print(json.dumps({"run": run} | arguments), file=self.process.stdin, flush=True)
        child = int(self.process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)  # it is ours until the next line, even if it has ended
        print(file=self.process.stdin, flush=True)
        return os.waitstatus_to_exitcode(int(self.process.stdout.readline()))

    def stop(self):
        self.process.communicate()

    def said(self):
        """What the children complained of."""
        self.complaints.seek(0)
        return self.complaints.read()


@pytest.fixture(scope="module")
def forker():
    with tempfile.TemporaryFile("w+") as complaints:
        forker = Forker(complaints)
        yield forker
        forker.stop()


class Training:
    """One training in a folder, ended and begun again as often as a test likes, beside one that nothing interrupts."""

    def __init__(self, forker, folder, options, stream):
        self.forker, self.what = forker, {"options": options, "stream": stream}
        self.folder, self.path, self.log = folder, folder / "checkpoint.safetensors", folder / "log"
        folder.mkdir()

    def run(self, kill_after=None, **more):
        return self.forker.run(
            "train_and_save", kill_after, checkpoint=str(self.path), log=str(self.log), **self.what, **more
        )

    def steps(self):
        """What was logged of each step, however often it was done; a line that a kill cut off is left out."""
        found = {}
        for line in self.log.read_text().split("\n")[1:]:
            try:
                number, *values = json.loads(line)
            except ValueError:
                continue
            found.setdefault(number, set()).add(tuple(values))
        return found

    def left(self):
        return {path.name for path in self.folder.iterdir()} - {"log"}


def same_files(path, other):
    """Whether two checkpoints hold the same bits: the model, the optimisers, the random state, the steps done."""
    (mine, about), (theirs, about_theirs) = load_tensors(path), load_tensors(other)
    assert {name.partition(".")[0] for name in mine} == {"model", "optimiser", "random"}
    assert mine.keys() == theirs.keys()
    return about == about_theirs and all(torch.equal(mine[name], theirs[name]) for name in mine)


def killed_often(forker, folder, n_kills, *, careless=False):
    """Kill trainings at random moments until so many were hit; those that come to their end are compared with a whole one.

    Returns how many saves could not be read, how many trainings were finished, and how many kills fell into a save.
    """
    draw, hit, unreadable, finished, during = random.Random(0), 0, 0, 0, 0
    kinds = [(options, stream, "careless" if careless else disk)
             for options in OPTIONS for stream in STREAMS for disk in DISKS]  # fmt: skip
    whole, seconds = {}, {}
    while hit < n_kills:
        options, stream, disk = kinds[finished % len(kinds)]
        if (options, stream) not in whole:
            whole[options, stream] = Training(forker, folder / f"whole {options} {stream}", options, stream)
            assert whole[options, stream].run() == 0, forker.said()
        if (options, disk) not in seconds:
            timed, start = Training(forker, folder / f"timed {options} {disk}", options, stream), time.perf_counter()
            assert timed.run(disk=disk) == 0, forker.said()
            seconds[options, disk] = time.perf_counter() - start
        training, done, ended, n_ends = Training(forker, folder / f"{finished}", options, stream), 0, None, 0
        while ended != 0:
            expected = seconds[options, disk] * max(1 - done / STEPS, 0.4)
            moment = draw.uniform(0, expected) if hit < n_kills else None  # the last training may come to its end
            ended = training.run(kill_after=moment, disk=disk)
            assert ended in (0, -9), forker.said()
            hit, n_ends = hit + (ended == -9), n_ends + 1
            during += any(name.endswith(".part") for name in training.left())
            if not training.path.exists():
                assert done == 0
                continue
            try:
                reached = load_tensors(training.path)[1]["done"]
            except ValueError:
                unreadable += 1
                training.path.unlink()
                done = 0
                continue
            assert reached >= done, "a kill took back what had been saved"
            done = reached
        finished += 1
        if not careless:
            other = whole[options, stream]
            assert same_files(training.path, other.path)
            steps, theirs = training.steps(), other.steps()
            assert len(theirs) == STEPS
            assert all(steps[number] == theirs[number] for number in steps), "a step had other numbers or another rate"
            assert STEPS - len(steps) <= n_ends, "a kill between save and log costs its line, and no other"
            assert training.left() == {"checkpoint.safetensors", "checkpoint.previous.safetensors"}, "litter is left"
    return SimpleNamespace(unreadable=unreadable, finished=finished, during=during, hit=hit)


@pytest.mark.slow
def test_a_training_that_is_killed_while_it_draws_its_bar_holds_up_no_other(forker, tmp_path):
    assert forker.run("draw_a_bar", kill_after=1.0) == -signal.SIGKILL
    assert Training(forker, tmp_path / "next", "plain", "windows").run() == 0, forker.said()


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", KILLS)
def test_killed_at_any_moment_a_training_loses_nothing_that_was_saved_and_goes_on_to_the_same_bits(
    forker, tmp_path, n_kills
):
    seen = killed_often(forker, tmp_path, n_kills)
    print(seen)
    assert seen.unreadable == 0
    assert seen.hit >= n_kills
    assert seen.finished >= 2
    assert seen.during >= n_kills // 20, "so few kills fell into a save that they show little"


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", KILLS)
def test_saved_without_care_the_same_kills_leave_files_that_cannot_be_read(forker, tmp_path, n_kills):
    seen = killed_often(forker, tmp_path, n_kills, careless=True)
    print(seen)
    assert seen.unreadable >= n_kills / 10


class SlowServer(http.server.ThreadingHTTPServer):
    """Answers every request with the same content, in 20 pieces of some milliseconds each."""

    def __init__(self, content):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                with suppress(OSError):  # whoever asked was killed
                    for start in range(0, len(content), len(content) // 20):
                        self.wfile.write(content[start : start + len(content) // 20])
                        time.sleep(0.01)

            def log_message(self, *arguments):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}/data.bin"


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", KILLS)
def test_a_download_that_is_killed_leaves_no_half_file_and_the_next_one_is_whole(forker, tmp_path, n_kills):
    content = random.Random(0).randbytes(400_000)
    server, folder, draw = SlowServer(content), tmp_path / "downloads", random.Random(1)
    what = {"home": str(tmp_path), "address": server.address, "sha256": hashlib.sha256(content).hexdigest()}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        for _ in range(n_kills):
            ended = forker.run("fetch", kill_after=draw.uniform(0, 0.35), disk="slow", **what)
            assert ended in (0, -9)
            for path in folder.iterdir() if folder.exists() else ():
                if path.suffix == ".bin":
                    assert path.read_bytes() == content, "half a file, under the name of a whole one"
                    path.unlink()
        assert forker.run("fetch", **what) == 0
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    names = names_in(folder)
    assert [name.split("-")[1] for name in names] == ["data.bin", "data.bin.sha256"], "and nothing else"
    assert (folder / names[0]).read_bytes() == content


# What a disk, a folder or a file can do to a training.


def no_space(monkeypatch):
    """The disk is full from now on: the kernel itself says so."""
    monkeypatch.setattr(files.os, "fdopen", lambda handle, mode: os.close(handle) or io.FileIO("/dev/full", mode))


def read_only(monkeypatch):
    """The folder may be read and not written, for root too."""

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files.tempfile, "mkstemp", refuse)
    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)


def failing_flush(monkeypatch):
    """All is taken, and is not there when the disk is asked to have it."""

    def refuse(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files.os, "fsync", refuse)


FAULTS = {"No space left on device": no_space, "Read-only file system": read_only, "Input/output error": failing_flush}


def training_in(folder, **changes):
    settings = {"steps": 9, "warm_up": 2, "checkpoint": folder / "checkpoint.safetensors", "checkpoint_every": 3}
    return train(new_model(), windows(), next_token_loss, TrainConfig(**settings | changes))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def faults_of(call, *wanted):
    """What is wrong with how a call is refused, judged as all bad inputs are."""
    return judge(call, wanted)


@pytest.mark.parametrize("reason", FAULTS)
def test_a_disk_that_fails_is_named_and_the_last_save_goes_on_to_the_same_bits(tmp_path, monkeypatch, reason):
    (tmp_path / "whole").mkdir()
    uninterrupted = list(training_in(tmp_path / "whole"))
    steps = training_in(tmp_path)
    first = list(islice(steps, 5))
    FAULTS[reason](monkeypatch)
    path = tmp_path / "checkpoint.safetensors"
    assert faults_of(lambda: next(steps), str(path), reason, "free some space", "as it was") == []
    monkeypatch.undo()
    assert load_tensors(path)[1]["done"] == 3
    assert not [name for name in names_in(tmp_path) if name.endswith(".part")]
    assert [*first[:3], *training_in(tmp_path)] == uninterrupted
    assert same_files(path, tmp_path / "whole" / "checkpoint.safetensors")


@pytest.mark.slow
def test_a_disk_that_fills_up_while_training_leaves_the_last_save_whole(forker, tmp_path):
    whole = Training(forker, tmp_path / "whole", "all", "drawn")
    assert whole.run() == 0
    training = Training(forker, tmp_path / "filled", "all", "drawn")
    assert training.run(full_after=4) == 1
    assert f"NotWritten: {training.path} could not be written (File too large)" in forker.said()
    assert load_tensors(training.path)[1]["done"] == 4
    assert training.left() == {"checkpoint.safetensors", "checkpoint.previous.safetensors"}
    assert training.run() == 0
    assert same_files(training.path, whole.path)
    assert training.steps() == {
        number: values for number, values in whole.steps().items() if number in training.steps()
    }


@pytest.mark.parametrize("reason", ["No space left on device", "Read-only file system"])
def test_a_place_that_cannot_be_written_is_told_before_the_first_step(tmp_path, monkeypatch, reason):
    if reason.startswith("No space"):
        monkeypatch.setattr(files.tempfile, "TemporaryFile", lambda dir: io.FileIO("/dev/full", "wb"))
    else:
        read_only(monkeypatch)
    seen = []
    assert faults_of(lambda: seen.extend(training_in(tmp_path)), "checkpoint.safetensors", reason) == []
    assert seen == []


def test_a_file_where_a_folder_should_be_a_folder_where_a_file_should_be_and_proc_are_no_places(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place, words in {
        tmp_path / "file" / "checkpoint.safetensors": f"{tmp_path / 'file'} is a file, not a folder",
        tmp_path / "file" / "deeper" / "checkpoint.safetensors": f"{tmp_path / 'file'} is a file, not a folder",
        tmp_path: "is a folder",
        Path("/proc/llmcourse/checkpoint.safetensors"): "free some space there, or choose a folder",
        tmp_path / ("long" * 65): "File name too long",
    }.items():
        assert faults_of(lambda place=place: require_writable(place), str(place), words) == []
        assert faults_of(lambda place=place: next(training_in(tmp_path, checkpoint=place)), str(place)) == []
    assert (tmp_path / "file").read_text() == "mine"
    require_writable(tmp_path / "new" / "folder" / "checkpoint.safetensors")
    assert names_in(tmp_path) == ["file"], "looking leaves nothing behind"


def damaged_checkpoints(content):
    """A checkpoint in 20 lengths, and whole with one byte changed in its header, its tensors and its description."""
    for number in range(20):
        yield f"{number} of 20", content[: len(content) * number // 20]
    yield "one byte short", content[:-1]
    yield "one byte more", content + b"0"
    for at in (
        3,
        12,
        60,
        content.index(b"description") + 20,
        content.index(b"sha256") + 12,
        len(content) // 2,
        len(content) - 1,
    ):
        yield f"byte {at} changed", content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_a_damaged_checkpoint_is_refused_and_the_save_before_it_is_named_whole_and_goes_on(tmp_path):
    uninterrupted = list(training_in(tmp_path))
    path = tmp_path / "checkpoint.safetensors"
    content, last = path.read_bytes(), load_tensors(path)
    for name, damaged in damaged_checkpoints(content):
        path.write_bytes(damaged)
        found = faults_of(
            lambda: next(training_in(tmp_path)), str(path), str(previous_save(path)), "of step 6", "delete it"
        )
        assert found == [], name
        assert path.read_bytes() == damaged, "a damaged file is left for its owner to look at"
    path.write_bytes(previous_save(path).read_bytes())
    assert list(training_in(tmp_path)) == uninterrupted[6:]
    again = load_tensors(path)
    assert again[1] == last[1]
    assert all(torch.equal(again[0][name], last[0][name]) for name in last[0])
    for file in (path, previous_save(path)):
        file.write_bytes(b"")
    assert faults_of(lambda: next(training_in(tmp_path)), str(path), "delete it to begin again") == []


def test_files_of_another_kind_are_no_checkpoints_and_are_not_touched(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    others = {}
    torch.save({"weight": torch.zeros(3)}, tmp_path / "torch")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "old", _use_new_zipfile_serialization=False)
    save_model(new_model(), tmp_path / "model")
    save_tensors(tmp_path / "list", {"x": torch.zeros(1)}, {"done": 3})
    others["zip archive, as torch.save"] = (tmp_path / "torch").read_bytes()
    others["a pickle"] = (tmp_path / "old").read_bytes()
    others["holds tensors but no training"] = (tmp_path / "model" / "model.safetensors").read_bytes()
    others["no training"] = (tmp_path / "list").read_bytes()
    others["HDF5"] = b"\x89HDF\r\n\x1a\n" + bytes(99)
    others["not a whole safetensors file"] = b"%PDF-1.4 and so on"
    for words, content in others.items():
        path.write_bytes(content)
        assert faults_of(lambda: next(training_in(tmp_path)), str(path), words) == []
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate": 1e-4}, "rate 0.003, not 0.0001"),
        ({"steps": 12}, "steps 9, not 12"),
        ({"betas": (0.8, 0.9)}, "[0.9, 0.98]"),
    ],
)
def test_a_checkpoint_of_other_settings_names_them_and_stays(tmp_path, changes, words):
    list(islice(training_in(tmp_path), 4))
    content = (tmp_path / "checkpoint.safetensors").read_bytes()
    assert (
        faults_of(lambda: next(training_in(tmp_path, **changes)), str(tmp_path / "checkpoint.safetensors"), words) == []
    )
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == content


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    list(islice(training_in(tmp_path), 4))
    config = TrainConfig(steps=9, warm_up=2, checkpoint=tmp_path / "checkpoint.safetensors", checkpoint_every=3)
    others = (batch._replace(tokens=(batch.tokens + 1) % 11) for batch in windows())
    steps = train(new_model(), others, next_token_loss, config)
    assert faults_of(lambda: next(steps), str(config.checkpoint), "other batches", "same data and seed") == []
    with pytest.raises(ValueError, match="ran out at step 4 of 9"):
        next(train(new_model(), islice(windows(), 3), next_token_loss, config))


def test_a_folder_without_a_model_names_what_is_missing_and_how_to_make_it(tmp_path):
    assert faults_of(lambda: load_model(tmp_path), str(tmp_path), "config.json", "train --out") == []
    save_model(new_model(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert faults_of(lambda: load_model(tmp_path), str(tmp_path), "model.safetensors", "train --out") == []


# Numbers and memory.


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_names_step_rate_and_advice_and_the_last_save_stays(tmp_path, value):
    def loss(model, batch):
        seen.append(0)
        return next_token_loss(model, batch) * (value if len(seen) == 5 else 1)

    seen, path = [], tmp_path / "checkpoint.safetensors"
    config = TrainConfig(steps=9, warm_up=0, schedule="constant", rate=0.02, checkpoint=path, checkpoint_every=2)
    with pytest.raises(TrainingDiverged) as error:
        list(train(new_model(), windows(), loss, config))
    words = str(error.value)
    assert "\n" not in words
    assert all(word in words for word in ("step 5", str(value), "rate of 0.02", "try a third of the rate", "warm_up"))
    assert load_tensors(path)[1]["done"] == 4
    assert all(weight.isfinite().all() for name, weight in load_tensors(path)[0].items() if name.startswith("model."))


MEMORY = {
    "a GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "a GPU's library": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "Linux": RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
    "Windows": RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes."),
    "Apple": RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GB)"),
    "Python": MemoryError(),
}


@pytest.mark.parametrize("who", MEMORY)
def test_memory_that_ends_says_what_to_reduce(tmp_path, who):
    def loss(model, batch):
        seen.append(0)
        if len(seen) == 5:
            raise MEMORY[who]
        return next_token_loss(model, batch)

    seen, path = [], tmp_path / "checkpoint.safetensors"
    config = TrainConfig(steps=9, checkpoint=path, checkpoint_every=2)
    model = new_model()
    with pytest.raises(TrainingOutOfMemory) as error:
        list(train(model, windows(), loss, config))
    words = str(error.value)
    assert "\n" not in words
    assert all(word in words for word in ("step 5", "batches of 4 x 8", "half of the rows", "accumulate=2", "context"))
    assert error.value.__cause__ is MEMORY[who]
    assert load_tensors(path)[1]["done"] == 4
    assert not model.training


def test_memory_that_really_ends_is_recognised():
    def loss(model, batch):
        return next_token_loss(model, batch) + torch.empty(2**60).sum()

    with pytest.raises(TrainingOutOfMemory, match="step 1 needs more memory"):
        list(train(new_model(), windows(), loss, TrainConfig(steps=1)))


def test_another_fault_of_the_readers_loss_is_not_taken_for_missing_memory():
    def loss(model, batch):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        list(train(new_model(), windows(), loss, TrainConfig(steps=1)))


# The command.


def command(tmp_path, out, *more):
    (tmp_path / "text.txt").write_text("The lamp is lit. The river runs to the sea, and the fox looks on. " * 40)
    small = ["--steps", "8", "--vocab", "280", "--width", "32", "--layers", "1", "--context", "16", "--batch", "4"]
    return cli.main(["train", "--text", str(tmp_path / "text.txt"), "--out", str(out), *small, *more])


def test_an_unusable_out_is_told_before_anything_is_computed(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(cli.BPETokenizer, "train", lambda *arguments, **options: pytest.fail("it began to work"))
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        assert command(tmp_path, out) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert str(out) in said
        assert "choose a folder that you may write to" in said
    read_only(monkeypatch)
    assert command(tmp_path, tmp_path / "model") == 1
    assert "Read-only file system" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_a_command_that_was_killed_while_it_wrote_its_results_ends_as_if_it_had_not(tmp_path, monkeypatch, capsys):
    assert command(tmp_path, tmp_path / "whole") == 0
    monkeypatch.setattr(cli, "save_model", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    assert command(tmp_path, tmp_path / "model") == 130
    monkeypatch.undo()
    monkeypatch.setattr(cli.BPETokenizer, "save", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    assert command(tmp_path, tmp_path / "model") == 130
    assert "tokenizer.json" not in names_in(tmp_path / "model")
    monkeypatch.undo()
    assert command(tmp_path, tmp_path / "model") == 0
    assert names_in(tmp_path / "model") == ["config.json", "model.safetensors", "tokenizer.json"]
    for name in names_in(tmp_path / "whole"):
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_what_stops_a_training_is_one_line_at_the_command_too(tmp_path, monkeypatch, capsys):
    for error, words in (
        (TrainingDiverged("at step 3 ..."), "at step 3"),
        (TrainingOutOfMemory("step 1 ..."), "step 1"),
    ):

        def stop(*arguments, error=error):
            raise error

        monkeypatch.setattr(cli, "train", stop)
        assert command(tmp_path, tmp_path / "model") == 1
        said = capsys.readouterr().err
        assert said.startswith(f"llmcourse: {words}")
        assert said.count("\n") == 1
