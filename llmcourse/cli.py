"""The commands: `python -m llmcourse doctor | train | generate | translate | ask | progress | review`. Here, printing is the job."""

import argparse
import datetime
import hashlib
import math
import os
import platform
import shlex
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from importlib import metadata
from pathlib import Path

import torch

from llmcourse import __version__, passages
from llmcourse.asking import Book
from llmcourse.checkpoints import previous_save
from llmcourse.corpora import reference
from llmcourse.data import random_windows, shuffled, split, translation_batches, windows_in_order
from llmcourse.distributed import is_first_process
from llmcourse.evaluation import bits_per_byte, mean_loss
from llmcourse.exercises import MARKS, progress, reviewing
from llmcourse.exercises.course_map import by_chapter, next_step, state
from llmcourse.files import read_text, require_writable, write_atomically
from llmcourse.generation import SamplingConfig, generate
from llmcourse.models import GPT, EncoderDecoder, NGram, count_parameters, load_model, save_model
from llmcourse.sources import read_parallel
from llmcourse.tokenizers import BPETokenizer, Tokenizer
from llmcourse.training import (
    Loss,
    TrainConfig,
    next_token_loss,
    seed_everything,
    train,
    translation_loss,
)
from llmcourse.transformer import TransformerConfig
from llmcourse.translation import BEGIN, END, PAD, Translation, translate

PACKAGES = ("torch", "numpy", "matplotlib", "ipywidgets", "bertviz", "safetensors")


def fingerprint() -> str:
    """A hash of what a seeded model computes, the same on every machine that computes as the book's did.

    Logits are rounded to two decimals: machines differ in the seventh.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT(TransformerConfig(n_vocab=50, context=32)).eval()
        with torch.no_grad():
            logits = model(torch.arange(32)[None])
    rounded = (logits * 100).round().to(torch.int32).numpy().tobytes()
    return hashlib.sha256(rounded).hexdigest()[:12]


def doctor(arguments: argparse.Namespace) -> int:
    """What is installed, and whether this machine computes what the book's did."""
    print(f"llmcourse {__version__}, Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    for name in PACKAGES:
        try:
            print(f"  {name:12} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            print(f"  {name:12} missing: python -m pip install {name}")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; a processor is enough"
    print(f"  threads      {torch.get_num_threads()} of {os.cpu_count()}\n  GPU          {device}")
    print(f"  fingerprint  {fingerprint()}")
    return 0


def train_command(arguments: argparse.Namespace) -> int:
    """Train a small GPT on text files, or a translation model on two files of which one translates the other.

    Under torchrun the processes train one model together, and only the first one prints and saves.
    """
    seed_everything(arguments.seed)
    if bool(arguments.source) != bool(arguments.target) or (arguments.source and arguments.text):
        raise ValueError("give --source and --target together to train a translation model, or --text for a GPT")
    if is_first_process():
        require_writable(_checkpoint(arguments))  # told now, and not at the first save
    with nullcontext() if is_first_process() else redirect_stdout(None):
        return _train_translation(arguments) if arguments.source else _train_gpt(arguments)


def _train_gpt(arguments: argparse.Namespace) -> int:
    text = "\n\n".join(read_text(path) for path in arguments.text) if arguments.text else reference.text()
    print(f"training a tokenizer of {arguments.vocab} tokens on {len(text.encode()):,} bytes")
    tokenizer = BPETokenizer.train(text, vocab_size=arguments.vocab)
    known, unseen = split(torch.tensor(tokenizer.encode(text)))
    config = TransformerConfig(n_vocab=len(tokenizer), context=arguments.context, **_sizes(arguments))
    model, batches = GPT(config), random_windows(known, config.context, arguments.batch, arguments.seed)
    _train_and_save(model, batches, next_token_loss, {"tokenizer": tokenizer}, arguments)
    if not is_first_process():
        return 0
    _report(model, tokenizer, known, unseen)
    print(
        f'saved to {arguments.out}; try: python -m llmcourse generate --model {shlex.quote(str(arguments.out))} "The"'
    )
    return 0


def _sizes(arguments: argparse.Namespace) -> dict:
    return {
        "d_model": arguments.width, "n_heads": max(1, arguments.width // 32), "n_layers": arguments.layers,
        "dropout": 0.1,  # a text of this size is seen several times, and would be learned by heart
    }  # fmt: skip


def _checkpoint(arguments: argparse.Namespace) -> Path:
    return arguments.out / "checkpoint.safetensors"


def _train_and_save(
    model: GPT | EncoderDecoder,
    batches: Iterator,
    loss: Loss,
    tokenizers: Mapping[str, Tokenizer],
    arguments: argparse.Namespace,
) -> None:
    """Train with a checkpoint, from which the same command goes on when it was interrupted.

    The checkpoint goes last: until then, whatever was not written can be written by the same command.
    """
    print(f"training {count_parameters(model):,} parameters for {arguments.steps} steps")
    checkpoint = _checkpoint(arguments)
    plan = TrainConfig(
        steps=arguments.steps, rate=arguments.rate, weight_decay=0.1, checkpoint=checkpoint, sharded=arguments.sharded
    )
    for _ in train(model, batches, loss, plan):
        pass
    if not is_first_process():
        return
    save_model(model, arguments.out)
    for name, tokenizer in tokenizers.items():
        tokenizer.save(arguments.out / f"{name}.json")
    for file in (checkpoint, previous_save(checkpoint)):
        file.unlink(missing_ok=True)


def _train_translation(arguments: argparse.Namespace) -> int:
    pairs = read_parallel(arguments.source, arguments.target)
    tokenizers = [
        _sentence_tokenizer(path, lines, arguments.vocab)
        for path, lines in zip((arguments.source, arguments.target), zip(*pairs, strict=True), strict=True)
    ]
    ids = [tuple(one.encode(line) for one, line in zip(tokenizers, pair, strict=True)) for pair in pairs]
    longest = max(range(len(ids)), key=lambda line: max(map(len, ids[line])))
    if (length := max(map(len, ids[longest]))) >= arguments.context:
        raise ValueError(f"line {longest + 1} has {length} tokens; use --context {length + 1} or cut it")
    known = ids[: max(1, len(ids) - len(ids) // 10)]
    special = {name: tokenizers[1].special_id(f"[{name.upper()}]") for name in ("begin", "end", "pad")}  # of both
    config = TransformerConfig(
        n_vocab=len(tokenizers[1]), n_source=len(tokenizers[0]), context=arguments.context, pad=special["pad"],
        **_sizes(arguments),
    )  # fmt: skip
    model, batches = EncoderDecoder(config), shuffled(known, arguments.seed)
    stream = translation_batches(batches, arguments.batch, **special)
    _train_and_save(
        model, stream, translation_loss, dict(zip(("source", "target"), tokenizers, strict=True)), arguments
    )
    if not is_first_process():
        return 0
    if unseen := ids[len(known) :]:
        nats = mean_loss(model, translation_batches(unseen, 16, **special))
        print(
            f"validation loss, last {len(unseen)} lines: {nats:.3f} nats per token ({math.log(config.n_vocab):.3f} blind)"
        )
    words = ("translate", "--model", str(arguments.out), pairs[0][0])
    print(f"saved to {arguments.out}; try: python -m llmcourse {shlex.join(words)}")
    return 0


def _sentence_tokenizer(path: Path, lines: Sequence[str], n_vocab: int) -> BPETokenizer:
    print(f"training a tokenizer of {n_vocab} tokens on {len(lines):,} lines of {path}")
    return BPETokenizer.train("\n".join(lines), vocab_size=n_vocab, special_tokens=(PAD, BEGIN, END))


def translate_command(arguments: argparse.Namespace) -> int:
    """Translate a sentence, and show which part of it each part of the translation was written from."""
    model = _load(arguments.model, EncoderDecoder, "train --source ... --target ...")
    tokenizers = [Tokenizer.load(arguments.model / f"{side}.json") for side in ("source", "target")]
    found = translate(model, arguments.sentence, *tokenizers, n_beams=arguments.beams)
    print(found)
    for line in _alignment_lines(found):
        print(line)
    return 0


def _load(folder: Path, kind: type, command: str) -> GPT | EncoderDecoder:
    """The model of a folder, if it is of the kind that a command needs."""
    model = load_model(folder)
    if not isinstance(model, kind):
        raise ValueError(f"{folder} holds a model of another kind ({type(model).__name__}); make one with `{command}`")
    return model


def _alignment_lines(found: Translation) -> list[str]:
    """Each piece of the target, the piece of the source that it was written from, and that piece's share."""
    width = max((len(found.target[t].strip()) for t, _ in found.alignment), default=0)
    return [
        f"  {found.target[t].strip():{width}}  <-  {found.source[s].strip()}  ({found.weights[t, s]:.0%})"
        for t, s in found.alignment
    ]


def _report(model: GPT, tokenizer: Tokenizer, known: torch.Tensor, unseen: torch.Tensor) -> None:
    """The loss on text that training did not see, beside a bigram model's of the same tokens."""
    pieces = windows_in_order(unseen, model.config.context, 16)
    n_bytes = len(tokenizer.decode(unseen.tolist()).encode("utf-8", "replace"))
    bigram = NGram(len(tokenizer), n=2, k=0.01).fit(known[None, :-1], known[None, 1:])
    for name, candidate in {"bigram": bigram, "GPT": model}.items():
        nats = mean_loss(candidate, pieces)
        bits = bits_per_byte(nats, len(unseen) - 1, n_bytes)
        print(f"validation loss, {name:6} {nats:.3f} nats per token, {bits:.3f} bits per byte")


def generate_command(arguments: argparse.Namespace) -> int:
    """Continue a prompt with a trained model."""
    model = _load(arguments.model, GPT, "train --text ...")
    tokenizer = Tokenizer.load(arguments.model / "tokenizer.json")
    prompt = torch.tensor([tokenizer.encode(arguments.prompt)], dtype=torch.long)
    sampling = SamplingConfig(
        temperature=arguments.temperature, top_k=arguments.top_k, top_p=arguments.top_p, seed=arguments.seed
    )
    print(tokenizer.decode(generate(model, prompt, arguments.tokens, sampling)[0].tolist()))
    return 0


def ask_command(arguments: argparse.Namespace) -> int:
    """Name the sections of the book that answer a question."""
    found = Book(passages.load()).ask(arguments.question, arguments.sections)
    if not found:
        print("This book does not seem to answer that. Try other words.")
    for hit in found:
        page = "" if hit.passage.trail == hit.passage.title else f" · {hit.passage.trail}"
        print(f"{hit.passage.title}{page}")
        print(textwrap.fill(hit.excerpt, 100, initial_indent="  ", subsequent_indent="  "))
        print(f"  {hit.passage.address}")
    return 0


def progress_command(arguments: argparse.Namespace) -> int:
    """Which exercises are solved, by chapter."""
    recorded, solved, total = progress.load(), 0, 0
    for chapter, exercises in by_chapter():
        print(chapter)
        for exercise in exercises:
            entry = recorded.get(exercise.__name__, {})
            words = {
                "correct": f"solved on {entry.get('solved')}",
                "wrong": f"tried {entry.get('tries')} \u00d7",
                "open": "open",
            }
            found = state(exercise)
            total, solved = total + 1, solved + (found == "correct")
            print(f"  {MARKS[found]} {exercise.__name__:24} {words[found]}")
    print(f"{solved} of {total} solved; kept in {progress.path()}")
    print(next_step())
    return 0


def review_command(arguments: argparse.Namespace) -> int:
    """Ask the quiz questions that are due, or write all of them as a deck for Anki."""
    if arguments.anki:
        write_atomically(arguments.anki, reviewing.anki(reviewing.cards()).encode())
        print(f"{len(reviewing.cards())} questions written; in Anki, choose File, Import, {arguments.anki}")
        return 0
    seed, right, asked = len(reviewing.load()), 0, 0
    for card in reviewing.due(_now(), arguments.count):
        options = card.shuffled(seed)
        chosen = _choose(card.ask, options)
        if chosen is None:
            break
        again = reviewing.answer(card, bool(chosen.get("right")), _now())
        asked, right = asked + 1, right + bool(chosen.get("right"))
        print(_wrapped(("\u2713 Right. " if chosen.get("right") else "\u2717 No. ") + chosen["why"]))
        if not chosen.get("right"):
            print(_wrapped(f"The answer is: {card.right['text']} {card.right['why']}"))
        print(f"  again on {again.astimezone():%Y-%m-%d, %H:%M}\n")
    print(f"{right} of {asked} right" if asked else "nothing is due")
    return 0


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _choose(question: str, options: Sequence[dict]) -> dict | None:
    """The option that is chosen at the keyboard; None for an empty line, or the end of what is typed."""
    letters = tuple("abcdefgh"[: len(options)])
    print(_wrapped(question))
    for letter, option in zip(letters, options, strict=True):
        print(textwrap.fill(f"{letter}) {option['text']}", 100, initial_indent="  ", subsequent_indent="     "))
    try:
        while (letter := input(f"{', '.join(letters)}, or Enter to stop: ").strip().lower()) not in (*letters, ""):
            print(f"One of {', '.join(letters)}, please.")
    except EOFError:  # nobody is there, or has pressed Ctrl-D
        letter = ""
    return options[letters.index(letter)] if letter else None


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, subsequent_indent="  ")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m llmcourse", description="The commands of the course.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("doctor", help="what is installed, and this machine's fingerprint")
    command.set_defaults(run=doctor)

    command = commands.add_parser("train", help="train a small GPT on text files, or a model that translates")
    command.set_defaults(run=train_command)
    command.add_argument("--text", nargs="+", type=Path, help="UTF-8 files; without, Python's own help texts")
    command.add_argument("--source", type=Path, help="UTF-8 file to learn to translate, one sentence a line")
    command.add_argument("--target", type=Path, help="its translation, line by line")
    command.add_argument("--out", type=Path, default=Path("model"), help="folder for model and tokenizer (model)")
    for name, default, words in (
        ("steps", 450, "how many steps"),
        ("vocab", 1024, "size of the vocabulary, in tokens"),
        ("width", 128, "width of the model"),
        ("layers", 3, "number of Transformer blocks"),
        ("context", 128, "longest sequence, in tokens"),
        ("batch", 16, "windows, or pairs of sentences, in a batch"),
        ("seed", 0, "the same seed gives the same model"),
    ):
        command.add_argument(f"--{name}", type=int, default=default, help=f"{words} ({default})")
    command.add_argument("--sharded", action="store_true", help="under torchrun: a share of the model on each process")
    command.add_argument("--rate", type=float, default=4e-3, help="highest learning rate (0.004)")

    command = commands.add_parser("generate", help="continue a prompt")
    command.set_defaults(run=generate_command)
    command.add_argument("prompt", help="the text to go on from")
    command.add_argument("--model", type=Path, default=Path("model"), help="the folder that train wrote (model)")
    command.add_argument("--tokens", type=int, default=100, help="how many tokens to add (100)")
    command.add_argument("--temperature", type=float, default=0.8, help="0 is greedy (0.8)")
    command.add_argument("--top-k", type=int, help="keep the k likeliest tokens")
    command.add_argument("--top-p", type=float, help="keep the likeliest tokens up to this share of probability")
    command.add_argument("--seed", type=int, help="the same seed writes the same text")

    command = commands.add_parser("translate", help="translate a sentence")
    command.set_defaults(run=translate_command)
    command.add_argument("sentence", help="the sentence to translate")
    command.add_argument("--model", type=Path, default=Path("model"), help="the folder that train wrote (model)")
    command.add_argument("--beams", type=int, default=4, help="how many beginnings to follow at once (4)")

    command = commands.add_parser("ask", help="which sections of the book answer a question")
    command.set_defaults(run=ask_command)
    command.add_argument("question", help="the question, in quotes")
    command.add_argument("--sections", type=int, default=3, help="how many sections to name (3)")

    command = commands.add_parser("progress", help="which exercises are solved")
    command.set_defaults(run=progress_command)

    command = commands.add_parser("review", help="the quiz questions that are due, by spaced repetition")
    command.set_defaults(run=review_command)
    command.add_argument("--count", type=int, default=10, help="how many questions at most (10)")
    command.add_argument("--anki", type=Path, help="write all questions as a deck that Anki imports, and ask none")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Expected faults are one line on stderr and exit code 1; 130 when it was interrupted."""
    parsed = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an old terminal may lack a sign
    try:
        return parsed.run(parsed)
    except KeyboardInterrupt:
        again = "; the same command goes on from the last save" if parsed.run is train_command else ""
        print(f"\nllmcourse: interrupted{again}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ArithmeticError, MemoryError) as error:
        print(f"llmcourse: {error}", file=sys.stderr)
        return 1
