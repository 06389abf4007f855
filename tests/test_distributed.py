"""Several processes train as one does. The processes are real: `torchrun` starts this file as a module, see `work`."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import nn

from llmcourse import checkpoints, distributed, training
from llmcourse.bert import PreTrainingBert
from llmcourse.data import IGNORED, Batch, next_token_batch, random_windows, translation_batch
from llmcourse.distributed import Team, is_first_process
from llmcourse.experts import ExpertConfig, ExpertGPT, expert_loss
from llmcourse.masking import PreTrainingBatch
from llmcourse.models import GPT, EncoderDecoder
from llmcourse.pretraining import masked_loss
from llmcourse.training import TrainConfig, TrainingDiverged, next_token_loss, train, translation_loss
from llmcourse.transformer import TransformerConfig
from llmcourse.weights import load_tensors, save_tensors

ROOT = Path(__file__).parents[1]
ENGINES = {"whole": False, "sharded": True}
TINY = TransformerConfig(n_vocab=11, context=8, d_model=16, n_heads=2, dropout=0.0)


# What is trained, here with one process and under torchrun with several.


def new_model(kind=GPT, seed=0, **changes) -> nn.Module:
    torch.manual_seed(seed)
    settings = {name: getattr(TINY, name) for name in ("n_vocab", "context", "d_model", "n_heads", "dropout")} | changes
    return kind(TransformerConfig(**settings))


def sentences(size: int, seed: int = 1) -> Iterator[Batch]:
    """Endless batches whose rows are 1 to 7 tokens long: no two processes' shares count alike."""
    draw = random.Random(seed)
    while True:
        rows = [[draw.randrange(1, 11) for _ in range(draw.choice((1, 1, 2, 5, 7)))] for _ in range(size)]
        yield next_token_batch(rows, begin=0, pad=0)


def pairs(size: int) -> Iterator:
    for batch in sentences(2 * size):
        ids = [[token for token in row.tolist() if token > 0] or [1] for row in batch.targets]
        yield translation_batch(list(zip(ids[:size], ids[size:], strict=True)), begin=1, end=2, pad=0)


def hidden_words(size: int) -> Iterator[PreTrainingBatch]:
    for batch in sentences(size):
        nothing = torch.zeros(size, dtype=torch.long)
        yield PreTrainingBatch(batch.tokens, torch.zeros_like(batch.tokens), batch.targets, nothing)


def partly_frozen() -> nn.Module:
    model = new_model()
    model.blocks[0].requires_grad_(False)
    return model


JOBS = {  # what to train, on what, by which loss, and how
    "padded": (new_model, partial(sentences, 5), next_token_loss, {"steps": 50}),
    "accumulated": (new_model, partial(sentences, 5), next_token_loss, {"steps": 50, "accumulate": 2, "clip": 0.2}),
    "too few rows": (partial(new_model, tied=True), partial(sentences, 1), next_token_loss, {"steps": 8}),
    "pairs": (partial(new_model, EncoderDecoder, pad=0), partial(pairs, 5), translation_loss, {"steps": 8}),
    "unused parts": (partial(new_model, PreTrainingBert), partial(hidden_words, 5), masked_loss, {"steps": 8}),
    "frozen parts": (
        partly_frozen,
        partial(sentences, 6),
        next_token_loss,
        {"steps": 8, "rate_shares": {"head": 0.1}},
    ),
    "experts": (
        partial(new_model, partial(ExpertGPT, experts=ExpertConfig())),
        partial(sentences, 6),
        partial(expert_loss, balance=0.0),
        {"steps": 8},
    ),
    "muon": (new_model, partial(sentences, 5), next_token_loss, {"steps": 8, "optimiser": "muon"}),
}


def turns(n_processes: int) -> list[tuple[str, str]]:
    """Each job with each engine that can do it. Four processes on two cores are slow, and do the two long ones only."""
    jobs = list(JOBS) if n_processes == 2 else ["padded", "accumulated"]
    return [(job, engine) for job in jobs for engine in ENGINES if (job, engine) != ("muon", "sharded")]


def do(name: str, **settings) -> SimpleNamespace:
    """Train one of the jobs and keep what it did."""
    make, batches, loss, plan = JOBS[name]
    model = make()
    steps = list(train(model, batches(), loss, TrainConfig(warm_up=5, **plan, **settings)))
    return SimpleNamespace(model=model, losses=[s.loss for s in steps], gradients=[s.gradient for s in steps])


def far(ours: dict, theirs: dict) -> float:
    """The largest difference between two models' weights."""
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


# What the processes do under torchrun. Each function writes down what it saw; the tests below read it.


def the_same(folder: Path) -> dict:
    """Every job, with both engines."""
    seen = {}
    for name, engine in turns(int(os.environ["WORLD_SIZE"])):
        done = do(name, sharded=ENGINES[engine])
        seen[f"{name}, {engine}"] = [done.losses, done.gradients]
        if is_first_process():
            save_tensors(folder / f"{name}, {engine}.weights", done.model.state_dict())
    return seen


def going_on(folder: Path) -> dict:
    """From one process's file, and writing one for it."""
    seen, writes = {}, []
    write = checkpoints.save_tensors
    checkpoints.save_tensors = lambda path, *rest, keep: (writes.append(Path(path).name), write(path, *rest, keep=keep))
    for engine, sharded in ENGINES.items():
        files = {"from": folder / f"{engine} from one.st", "for": folder / f"{engine} for one.st"}
        if is_first_process():
            shutil.copy(folder / "one.st", files["from"])
        torch.distributed.barrier()
        seen[f"{engine}, from one"] = do("padded", sharded=sharded, checkpoint=files["from"]).losses
        make, batches, loss, plan = JOBS["padded"]
        config = TrainConfig(warm_up=5, **plan, sharded=sharded, checkpoint=files["for"], checkpoint_every=20)
        list(islice(train(make(), batches(), loss, config), 27))
    return seen | {"writes": writes}


def no_number(folder: Path) -> dict:
    """Only in the last process's rows the loss is no number."""
    seen = {}
    for engine, sharded in ENGINES.items():
        model, n_seen = new_model(), 0

        def loss(model, batch):
            nonlocal n_seen
            n_seen += 1
            last = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
            return next_token_loss(model, batch) * (float("nan") if last and n_seen == 3 else 1.0)

        steps = []
        try:
            steps.extend(train(model, sentences(8), loss, TrainConfig(steps=9, sharded=sharded)))
        except TrainingDiverged as error:
            seen[engine] = [str(error), n_seen, model.head.weight.shape[0], bool(model.head.weight.isfinite().all())]
    return seen


def refused(folder: Path) -> dict:
    """What must not go on in silence, and what must still work afterwards."""
    seen = {}
    rank, config = int(os.environ["RANK"]), TrainConfig(steps=4, sharded=True)

    def words(action):
        try:
            return action()
        except ValueError as error:
            return str(error)

    def do_on(batches, **settings):
        return len(list(train(new_model(), batches, next_token_loss, TrainConfig(**settings))))

    seen["other streams"] = words(lambda: do_on(random_windows(torch.arange(99) % 11, 8, 4, seed=rank), steps=2))
    if rank == 0:
        shutil.copy(folder / "one.st", folder / "process 0.st")
    options = {"warm_up": 5, **JOBS["padded"][3], "checkpoint": folder / f"process {rank}.st"}
    seen["other files"] = words(lambda: do_on(sentences(5), **options))
    seen["other lengths"] = words(lambda: do_on([Batch(torch.ones(4, 3).long(), torch.ones(5, 3).long())], steps=1))
    model = new_model()
    seen["ran out"] = words(lambda: list(train(model, [next(sentences(4))], next_token_loss, config)))
    seen["still whole"] = list(model.head.weight.shape)
    model = new_model()
    steps = train(model, sentences(4), next_token_loss, config)
    next(steps)
    seen["used in the loop"] = words(lambda: model(torch.ones(1, 2, dtype=torch.long)))
    steps.close()
    moved = far(model.state_dict(), new_model().state_dict())
    losses = []
    for sharded in (False, True, False):  # the same model once more, three times
        again = TrainConfig(steps=4, sharded=sharded)
        losses.append([step.loss for step in train(model, sentences(4), next_token_loss, again)])
    seen["afterwards"] = [moved, *losses]
    return seen


def with_dropout(folder: Path, *dying: str) -> dict:
    """Train with dropout and a checkpoint. dying: the numbers of the processes that are killed, once with each engine."""
    seen, attempt = {}, int(os.environ.get("ATTEMPT", 0))
    if dying:
        torch.distributed.init_process_group("gloo")  # a script may connect the processes itself
    for turn, (engine, sharded) in enumerate(ENGINES.items()):
        last = random.Random(f"{dying} {engine}").randrange(5, 29)
        path = folder / f"killed {engine}.st" if dying else None
        seed = 99 if path and path.exists() else 0  # other weights, until the file is read
        model = new_model(dropout=0.3, seed=seed)
        config = TrainConfig(steps=30, warm_up=5, checkpoint=path, checkpoint_every=4, sharded=sharded)
        losses = []
        for step in train(model, sentences(5), next_token_loss, config):
            losses.append(step.loss)
            if attempt == turn and step.number == last and os.environ["RANK"] in dying:
                os.kill(os.getpid(), signal.SIGKILL)
        seen[engine] = losses
        if is_first_process():
            save_tensors(folder / f"{'killed' if dying else 'whole'} {engine}.weights", model.state_dict())
    return seen


TASKS = {task.__name__: task for task in (the_same, going_on, no_number, refused, with_dropout)}


def work(folder: str, *tasks: str) -> None:
    """One process: do the tasks, given as `name` or `name:argument,argument`, and write down what was seen."""
    torch.set_num_threads(1)
    for task in tasks:
        name, _, arguments = task.partition(":")
        seen = TASKS[name](Path(folder), *filter(None, arguments.split(",")))
        (Path(folder) / f"{task}.{os.environ['RANK']}.json").write_text(json.dumps(seen), encoding="utf-8")


def torchrun(n: int, *arguments: str, attempt: int = 0) -> subprocess.CompletedProcess:
    """Start a module in n processes that talk over this machine alone."""
    options = ["--standalone", "--local-addr", "127.0.0.1"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "--nproc-per-node", str(n), "-m", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "ATTEMPT": str(attempt)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def seen_by_all(n: int, folder: Path, task: str) -> list[dict]:
    return [json.loads((folder / f"{task}.{rank}.json").read_text(encoding="utf-8")) for rank in range(n)]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """Every job by one process, and its file after 20 of 50 steps."""
    path = tmp_path_factory.mktemp("one") / "one.st"
    make, batches, loss, plan = JOBS["padded"]
    config = TrainConfig(warm_up=5, **plan, checkpoint=path, checkpoint_every=20)
    list(islice(train(make(), batches(), loss, config), 20))
    return SimpleNamespace(path=path, did={name: do(name) for name in JOBS})


@pytest.fixture(
    scope="module",
    params=[pytest.param(2, id="two processes"), pytest.param(4, id="four processes", marks=pytest.mark.soak)],
)
def several(request, one_process, tmp_path_factory):
    """What several processes did with all of it."""
    n, folder = request.param, tmp_path_factory.mktemp("several")
    shutil.copy(one_process.path, folder / "one.st")
    tasks = ["the_same", "going_on", "no_number", "refused", "with_dropout"]
    done = torchrun(n, "tests.test_distributed", str(folder), *tasks)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(n=n, folder=folder, errors=done.stderr, seen={t: seen_by_all(n, folder, t) for t in tasks})


@pytest.mark.slow
def test_several_processes_compute_one_process_s_numbers(several, one_process):
    expected = turns(several.n)
    assert all(list(seen) == [f"{job}, {engine}" for job, engine in expected] for seen in several.seen["the_same"])
    for job, engine in expected:
        name, did = f"{job}, {engine}", one_process.did[job]
        rough = 100 if job == "muon" else 1  # torch's Muon computes its steps in 16 bits
        for losses, gradients in (seen[name] for seen in several.seen["the_same"]):
            assert losses == pytest.approx(did.losses, rel=0, abs=rough * 1e-5), name
            assert gradients == pytest.approx(did.gradients, rel=rough * 1e-4), name
        weights, theirs = load_tensors(several.folder / f"{name}.weights")[0], did.model.state_dict()
        for bias in [one for one in theirs if one.endswith("key.bias")]:
            # Without rotary positions it shifts all of a query's scores alike and has no gradient; AdamW scales up
            # what rounding leaves there.
            del weights[bias], theirs[bias]
        assert far(weights, theirs) < rough * 1e-4, name
        assert far(weights, {one: JOBS[job][0]().state_dict()[one] for one in weights}) > 1e-2, name  # they did move


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_one_process_s_file_is_gone_on_from_by_several_and_theirs_by_one(several, one_process, engine, tmp_path):
    whole = one_process.did["padded"]
    for seen in several.seen["going_on"]:
        assert seen[f"{engine}, from one"] == pytest.approx(whole.losses[20:], rel=0, abs=1e-5)
    path = tmp_path / "theirs.st"  # their file: they left after 27 steps, and had saved after 20
    shutil.copy(several.folder / f"{engine} for one.st", path)
    assert load_tensors(path)[1]["done"] == 20
    back = do("padded", checkpoint=path)
    assert back.losses == pytest.approx(whole.losses[20:], rel=0, abs=1e-5)
    assert far(back.model.state_dict(), whole.model.state_dict()) < 1e-4


@pytest.mark.slow
def test_only_the_first_process_writes_and_shows_progress(several):
    writes = [seen["writes"] for seen in several.seen["going_on"]]
    assert writes[0] == [f"{engine} {way} one.st" for engine in ENGINES for way in ("from", "for")]
    assert writes[1:] == [[]] * (several.n - 1)
    assert "Warning" not in several.errors


@pytest.mark.slow
def test_a_loss_that_is_no_number_in_one_process_s_rows_stops_all_at_that_step(several):
    for seen in several.seen["no_number"]:
        assert seen.keys() == ENGINES.keys()
        for words, n_seen, n_rows, finite in seen.values():
            assert words.startswith("at step 3 the loss is nan and its gradient nan")
            assert (n_seen, n_rows, finite) == (3, 11, True)  # the weights are those of before the step


@pytest.mark.slow
def test_processes_that_would_train_something_else_are_found_before_the_first_step(several):
    for seen in several.seen["refused"]:
        assert f"process 1 of {several.n} differs from process 0 (first batch)" in seen["other streams"]
        assert f"process 1 of {several.n} differs from process 0 (steps already done)" in seen["other files"]
        assert "parts of a batch have [4, 5] rows" in seen["other lengths"]


@pytest.mark.slow
def test_a_sharded_model_cannot_be_used_in_the_loop_and_is_whole_however_it_ends(several):
    for seen in several.seen["refused"]:
        assert "its weights are spread over the processes" in seen["used in the loop"].replace("this model's", "its")
        assert "ran out at step 2 of 4" in seen["ran out"]
        assert seen["still whole"] == [11, 16]
        moved, *losses = seen["afterwards"]
        assert 0 < moved < 0.01
        assert seen["afterwards"] == several.seen["refused"][0]["afterwards"]
        assert losses[0][0] > losses[1][0] > losses[2][0]  # the same batch, each time a little better


@pytest.mark.slow
def test_each_process_draws_its_own_dropout_and_all_report_the_same_step(several):
    first = several.seen["with_dropout"][0]
    assert all(seen == first for seen in several.seen["with_dropout"])
    model, config = new_model(dropout=0.3), TrainConfig(steps=1, warm_up=5)
    alike = next(train(model, sentences(5), next_token_loss, config)).loss
    assert first["whole"][0] != pytest.approx(alike, abs=1e-4)
    assert first["sharded"] == pytest.approx(first["whole"], abs=1e-4)  # the engines drop out the same places


@pytest.mark.slow
def test_killed_at_a_random_step_they_go_on_to_the_same_bits(several):
    """Two die together; of four the third one dies, and torchrun stops the others. Then they are started anew."""
    dying = {2: "0,1", 4: "2"}[several.n]
    task = f"with_dropout:{dying}"
    for attempt in range(3):  # once killed with each engine
        done = torchrun(several.n, "tests.test_distributed", str(several.folder), task, attempt=attempt)
        assert (done.returncode == 0) == (attempt == 2), done.stderr
        assert attempt == 2 or "(exitcode: -9)" in done.stderr, done.stderr
    for engine in ENGINES:
        killed, _ = load_tensors(several.folder / f"killed {engine}.weights")
        whole, _ = load_tensors(several.folder / f"whole {engine}.weights")
        assert all(torch.equal(killed[name], whole[name]) for name in whole)
    for seen, uninterrupted in zip(
        seen_by_all(several.n, several.folder, task), several.seen["with_dropout"], strict=True
    ):
        assert seen["sharded"] == uninterrupted["sharded"][-len(seen["sharded"]) :]
        assert 0 < len(seen["sharded"]) < 30


# Without torchrun.


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_every_row_is_one_process_s_and_their_shares_add_up_to_1(size):
    batch = next(sentences(5))
    batch.targets[3] = IGNORED
    total = training._weight(batch)
    team = [
        Team(losses=nn.Identity(), model=nn.Identity(), device=torch.device("cpu"), number=i, size=size)
        for i in range(size)
    ]
    assert torch.equal(torch.cat([one.rows(batch).tokens for one in team]), batch.tokens)
    parts = [training._own_part(one, batch, training._weight, total) for one in team]
    assert sum(share for _, share in parts) == pytest.approx(1)
    for rows, share in parts:
        assert training._weight(rows) > 0  # a mean over these is a number, also where it counts nothing
        assert share in (0, training._weight(rows) / total)


def test_a_process_without_rows_of_its_own_takes_part_and_counts_nothing():
    class Numbers(NamedTuple):
        values: torch.Tensor

    team = [
        Team(losses=nn.Identity(), model=nn.Identity(), device=torch.device("cpu"), number=i, size=3) for i in range(3)
    ]
    parts = [training._own_part(one, Numbers(torch.ones(2, 1)), training._weight, 2) for one in team]
    assert [(len(rows.values), share) for rows, share in parts] == [(1, 0.5), (1, 0.5), (2, 0.0)]


def test_a_process_is_told_its_number_by_torchrun(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert is_first_process()
    monkeypatch.setenv("RANK", "1")
    assert not is_first_process()


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    device, chosen, on_gpu = distributed._device, [], nn.Linear(1, 1)
    on_gpu.parameters = lambda: iter([SimpleNamespace(device=torch.device("cuda", 0))])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device(on_gpu, False) == torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device(new_model(), True) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device(new_model(), False) == torch.device("cpu")
    assert device(new_model(), True) == torch.device("cuda", 1)
    assert chosen == [1, 1]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="process 2 of this machine has no GPU of its own; use --nproc-per-node 2"):
        device(on_gpu, False)
    with pytest.raises(ValueError, match="'meta' cannot be trained by several processes; move it to cpu or cuda"):
        device(nn.Linear(1, 1, device="meta"), False)


@pytest.mark.parametrize(
    ("setting", "words"), [({"optimiser": "muon"}, "optimiser='muon'"), ({"compiled": True}, "compiled=True")]
)
def test_what_needs_whole_matrices_is_refused_with_shares(setting, words):
    with pytest.raises(ValueError, match=f"{words} needs whole matrices"):
        TrainConfig(steps=1, sharded=True, **setting)


def test_one_process_alone_shards_nothing(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    short = {"padded": (*JOBS["padded"][:3], {"steps": 3})}
    monkeypatch.setitem(JOBS, "padded", short["padded"])
    alone, asked = do("padded"), do("padded", sharded=True)
    assert asked.losses == alone.losses
    assert far(asked.model.state_dict(), alone.model.state_dict()) == 0


if __name__ == "__main__":
    work(*sys.argv[1:])
