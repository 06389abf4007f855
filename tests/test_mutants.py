"""Tests of the tests: each of these faults, planted in a copy of the package, must be noticed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import mutants

ROOT = Path(__file__).parents[1]
SECONDS = 120  # a mutant that takes longer loops forever

# (what stands in attention.py, what is put in its place)
ATTENTION = [
    # the formula
    ("query @ key.transpose(-2, -1) / math", "key @ query.transpose(-2, -1) / math"),
    ("key.transpose(-2, -1) / math.sqrt(query.shape[-1])", "key.transpose(-2, -1)"),
    ("key.transpose(-2, -1) / math.sqrt(query.shape[-1])", "key.transpose(-2, -1) / query.shape[-1]"),
    ("key.transpose(-2, -1) / math.sqrt(query.shape[-1])", "key.transpose(-2, -1) / math.sqrt(key.shape[-2])"),
    ("return scores.softmax(dim=-1)\n", "return scores.softmax(dim=-2)\n"),
    ("scores.masked_fill(~mask, -math.inf)", "scores.masked_fill(mask, -math.inf)"),
    ("scores.masked_fill(~mask, -math.inf)", "scores.masked_fill(~mask, 0.0)"),
    ("scores.masked_fill(~mask, -math.inf)", "scores.masked_fill(~mask, -9.0)"),
    ("scores.masked_fill(~mask, -math.inf)", "scores"),
    ("scores.masked_fill(~mask, -math.inf).softmax(dim=-1)", "scores.masked_fill(~mask, -math.inf).softmax(dim=-2)"),
    ("return weights.masked_fill(~mask, 0.0)", "return weights"),
    ("return weights.masked_fill(~mask, 0.0)", "return weights.nan_to_num(1 / mask.shape[-1])"),
    ("return weights.masked_fill(~mask, 0.0)", "return torch.where(weights.isnan(), 0.0 * weights, weights)"),
    ("None if is_causal else mask, is_causal=is_causal)", "None)"),
    ("None if is_causal else mask, is_causal=is_causal)", "is_causal=mask is not None)"),
    ("None if is_causal else mask, is_causal=is_causal)", "None if is_causal else mask)"),
    ("is_causal = mask is not None and", "is_causal ="),
    ("T == S > SHORT and _is_causal(mask)", "T == S > SHORT"),
    ("F.scaled_dot_product_attention(query, key, value, ", "F.scaled_dot_product_attention(query, key, key, "),
    # written out in 16 bits
    ("scores = (query / math.sqrt(query.shape[-1]))", "scores = query"),
    ("return scores.softmax(dim=-1) @ value", "return scores.softmax(dim=-2) @ value"),
    ("masked_fill(~mask, -math.inf)\n        blind", "masked_fill(mask, -math.inf)\n        blind"),
    ("(mask == -math.inf).all(dim=-1, keepdim=True)", "(mask == -math.inf).all(dim=-2, keepdim=True)"),
    (".masked_fill(blind, 0.0)\n\n", "\n\n"),
    # masks
    ("diagonal=S - T)", "diagonal=S - T + 1)"),
    ("diagonal=S - T)", "diagonal=S - T - 1)"),
    ("diagonal=S - T)", "diagonal=0)"),
    (".tril(diagonal=S - T)", ".triu(diagonal=S - T)"),
    ("    if S < T:", "    if False:"),
    ("tokens != pad", "tokens == pad"),
    # cache
    ("torch.cat([store[..., :start, :], new], dim=-2)", "torch.cat([new, store[..., :start, :]], dim=-2)"),
    ("store[..., start:end, :] = new", "pass"),
    ("longer[..., :start, :] = store[..., :start, :]", "pass"),
    ("or store.shape[-2] < end:", "or store.shape[-2] < start:"),
    ("if torch.is_grad_enabled() or not make_room:", "if not make_room:"),
    ("start, self._length = self._length, self._length + key.shape[-2]", "start = self._length"),
    ("self._keys[..., : self._length, :]", "self._keys"),
    ("self._values[..., : self._length, :]", "self._values"),
    ("self._length = min(self._length, length)", "self._length = length"),
    # heads
    ("x.unflatten(-1, (n_heads, -1)).transpose(1, 2)", "x.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2)"),
    ("x.transpose(1, 2).flatten(2)", "x.permute(0, 2, 3, 1).flatten(2)"),
    ("n_heads < 1 or d_model % n_heads", "d_model < n_heads"),
    (
        "return scaled_dot_product_attention(query, key, value, mask)",
        "return scaled_dot_product_attention(key, query, value, mask)",
    ),
    ("self.attend(query, key, value, mask)", "self.attend(query, key, value, None)"),
    ("return self.out(merge_heads(", "return (merge_heads("),
    ("self.out = nn.Linear(d_model, d_model, bias=bias)", "self.out = nn.Linear(d_model, d_model)"),
    # positions and the other sequence
    ("query = self.rotate(query, start)", "query = self.rotate(query, 0)"),
    ("key = self.rotate(key, start)", "key = self.rotate(key, 0)"),
    ("key = self.rotate(key, start)", "pass"),
    ("start = 0 if cache is None else len(cache)", "start = 0 if cache is None else len(cache) + 1"),
    ("self._keys_and_values(x if context is None else context,", "self._keys_and_values(x,"),
    ("split_heads(self.value(source), self.n_kv_heads)", "split_heads(self.key(source), self.n_kv_heads)"),
    ("if self.rotate is not None and context is None:", "if self.rotate is not None:"),
    ("if self.rotate is not None and is_own:", "if self.rotate is not None:"),
    ("if context is not None and cache is not None and start:", "if False:"),
    # masks of numbers, shared heads, rows of a cache
    ("scores + mask, mask != -math.inf", "scores - mask, mask != -math.inf"),
    ("scores + mask, mask != -math.inf", "scores + mask, mask != math.inf"),
    ('"B K S D -> B (K group) S D"', '"B K S D -> B (group K) S D"'),
    ("self.key.index_select(0, rows), self", "self.key, self"),
    (", self.value.index_select(0, rows)", ", self.value"),
    ("query = self.query_norm(query)", "pass"),
    ("key = self.key_norm(key)", "pass"),
]

# (file in tokenizers/, what stands there, what is put in its place)
TOKENIZERS = [
    ("base.py", "enumerate(pieces, start=len(names))", "enumerate(pieces, start=len(names) - 1)"),
    ("base.py", "for i, name in enumerate(names)}", "for i, name in enumerate(names, 1)}"),
    ("base.py", "if not 0 <= i < len(self):", "if not 0 <= i <= len(self):"),
    ("base.py", 'errors="replace"', 'errors="ignore"'),
    ("base.py", "self[word] = self._encode_word(word)", "self[word] = self._encode_word(word[:3])"),
    ("base.py", "write_atomically(path, ", "Path(path).write_bytes("),
    ("base.py", "if vocab_size < least:", "if vocab_size <= least:"),
    ("simple.py", '_separator = b" "', '_separator = b""'),
    ("bpe.py", "counts[pair] += count", "counts[pair] += 1"),
    (
        "bpe.py",
        "for pair in pairwise(word):\n            counts[pair]",
        "for pair in set(pairwise(word)):\n            counts[pair]",
    ),
    ("bpe.py", "i += 2", "i += 1"),
    ("bpe.py", "symbols[i] == left and", "symbols[i] >= left and"),
    ("bpe.py", "change[old] -= count", "change[old] -= 1"),
    ("bpe.py", "change[new] += count", "change[new] += 1"),
    ("bpe.py", "self._where[new].add(n)", "pass"),
    ("bpe.py", "(merged, n_merges), ", ""),
    ("bpe.py", "if difference]", "if difference > 0]"),
    ("bpe.py", "pieces = list(BYTES)", "pieces = sorted(BYTES)"),
    ("bpe.py", "key=lambda b: (b not in _PRINTABLE, b)", "key=lambda b: b"),
    ("bpe.py", "\\p{N}]+|\\s+(?!\\S)|\\s+", "\\p{N}]+|\\s+"),
    ("bpe.py", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}", " ?\\p{L}"),
    ("bpe.py", "0-9]+|\\s+(?!\\S)|\\s+", "0-9]+|\\s+"),
    ("bpe.py", "'s|'t|'re|'ve|'m|'ll|'d| ?[a-z", " ?[a-z"),
    ("bpe.py", "[!-~](?=[ \\n])|", "(?=[ \\n])|"),
    (
        "bpe.py",
        "key=lambda pair: self._ranks.get(pair, math.inf)",
        "key=lambda pair: (pair not in self._ranks, -len(pair[0] + pair[1]))",
    ),
    ("wordpiece.py", "return pair_count / (left_count * right_count)", "return pair_count"),
    ("wordpiece.py", 'merged = pair[0] + pair[1].removeprefix("##")', "merged = pair[0] + pair[1]"),
    ("wordpiece.py", 'mark = "##" if start else ""', 'mark = ""'),
    (
        "wordpiece.py",
        "range(min(len(word), start + self._longest), start, -1)",
        "range(min(len(word), start + self._longest), start + 1, -1)",
    ),
    ("wordpiece.py", "for b in word[start].encode()]", "for b in word[start].encode()[:1]]"),
    ("wordpiece.py", "| ?[^\\s\\p{L}\\p{M}\\p{N}]|", "| ?[^\\s\\p{L}\\p{M}\\p{N}]+|"),
    ("unigram.py", "if score > best[end]:", "if best[end] == -math.inf and score > best[end]:"),
    ("unigram.py", "range(max(0, end - longest), end)", "range(max(0, end - longest + 1), end)"),
    ("unigram.py", "score = best[start] + log_probabilities.get", "score = best[start] * log_probabilities.get"),
    ("unigram.py", "return pieces[::-1]", "return pieces"),
    ("unigram.py", "counts[piece] += n * count", "counts[piece] += count"),
    ("unigram.py", "loss[piece] = counts[piece] * (log_p - without)", "loss[piece] = counts[piece]"),
    ("unigram.py", "key=lambda piece: (-loss[piece], piece)", "key=lambda piece: (loss[piece], piece)"),
    ("unigram.py", "[BYTE_PIECES[b] for b in part.encode()]", "[BYTE_PIECES[b] for b in part[0].encode()]"),
]

MUTANTS = {
    "test_attention.py": [("attention.py", old, new) for old, new in ATTENTION],
    "test_tokenizers.py": [(f"tokenizers/{file}", old, new) for file, old, new in TOKENIZERS],
}


@pytest.mark.parametrize(("file", "old", "new"), [mutant for planted in MUTANTS.values() for mutant in planted])
def test_every_planted_fault_has_its_one_place(file, old, new):
    assert (ROOT / "llmcourse" / file).read_text(encoding="utf-8").count(old) == 1
    assert old != new


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forked processes")
@pytest.mark.parametrize("test_file", MUTANTS)
@pytest.mark.parametrize("every", [pytest.param(3, id="a third"), pytest.param(1, id="all", marks=pytest.mark.soak)])
def test_the_tests_notice_every_planted_fault(test_file, every, tmp_path):
    planted = MUTANTS[test_file][::every]
    shutil.copytree(ROOT / "llmcourse", tmp_path / "llmcourse", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    for name in ("__init__.py", "conftest.py", "browsing.py", "mutants.py", test_file):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",  # a mutant may be as long and as old as the file it replaces
        "OMP_NUM_THREADS": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    run = subprocess.run(
        [sys.executable, "-P", __file__, test_file, str(every)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    unchanged, *codes = json.loads(run.stdout)
    assert unchanged == pytest.ExitCode.OK
    results = zip(codes, planted, strict=True)
    # Any other code than that of a failed test (not importable, out of time) proves nothing about the tests.
    assert [(code, *mutant) for code, mutant in results if code != pytest.ExitCode.TESTS_FAILED] == []


# Automatic mutants (tests/mutants.py) that no test can notice, each with its reason.
EQUIVALENT = {
    "bleu brevity_penalty: return 1.0 if length >= reference_length else math.exp(1 - reference_length / length) "
    "=> return 1.0 if length > reference_length else math.exp(1 - reference_length / length)": "exp(1 - 1) is 1",
    "bleu _check: if len(lengths) < 2 or len(set(lengths)) > 1 or (not lengths[0]): => if len(lengths) < 2 or "
    "len(set(lengths)) > 1 or (not lengths[1]):": "all lengths are one number by then",
    "masking MaskingConfig.__post_init__: if min(self.masked, self.random) < 0 or self.masked + self.random > 1 + 1e-09: "
    "=> if min(self.masked, self.random) < 0 or self.masked + self.random >= 1 + 1e-09:": "the room is for rounding",
    "tokenizers/base Tokenizer.__init__: twice = Counter(pieces).most_common(1)[0][0] => twice = "
    "Counter(pieces).most_common(1)[-1][0]": "the list has one entry",
    "speculative _Reader.read: return self.model(tokens[:, self.start + len(self.cache[0]):], self.cache)[0] => return "
    "self.model(tokens[:, self.start + len(self.cache[0]):], self.cache)[-1]": "it reads one text",
    "translation greedy_decode: for row in (~ended).nonzero()[:, 0].tolist(): => for row in "
    "(~ended).nonzero()[:, -1].tolist():": "one axis gives one column",
    "translation greedy_decode: new = model.decode(new, memory, source, cache)[:, -1].argmax(dim=-1, keepdim=True) => new = "
    "model.decode(new, memory, source, cache)[:, -0].argmax(dim=-1, keepdim=True)": "one token is new",
    "optimisers build_optimisers: built.append(torch.optim.AdamW(_settings(for_adamw), betas=betas, fused=True)) => "
    "built.append(torch.optim.AdamW(_settings(for_adamw), betas=betas, fused=False))": "the same numbers, more slowly",
    "tokenizers/simple WordTokenizer._encode_word: nearest = difflib.get_close_matches(word[:LONGEST_SHOWN], self._ids, n=1, "
    "cutoff=0.0)[0] => nearest = difflib.get_close_matches(word[:LONGEST_SHOWN], self._ids, n=2, "
    "cutoff=0.0)[0]": "the nearest comes first",
    "tokenizers/wordpiece WordPieceTokenizer.__init__: self._longest = max(map(len, pieces), default=1) => self._longest = "
    "max(map(len, pieces), default=0)": "without pieces no word is looked up",
    "lengths rows_by_length: return list(ends.argsort(stable=True).chunk(n_groups)) => return "
    "list(ends.argsort(stable=False).chunk(n_groups))": "torch's sort is stable on a processor either way",
    "lengths : GROUP = 1024 => GROUP = 1023": "a choice",
    "lengths : GROUP = 1024 => GROUP = 1025": "a choice",
    "pretraining judgements: return model.next_sentence(model.bert.pool(model.bert(tokens, segments))).argmax(dim=-1) => "
    "return model.next_sentence(model.bert.pool(model.bert(tokens, segments))).argmax(dim=1)": "there are two axes",
    "pretraining masked_accuracy: return (logits.argmax(dim=-1) == batch.targets[chosen]).float().mean().item() => return "
    "(logits.argmax(dim=1) == batch.targets[chosen]).float().mean().item()": "there are two axes",
    "tokenizers/unigram viterbi: start_of = [0] * len(best) => start_of = [-1] * len(best)": "written before it is read",
}


def automatic(n: int, *modules: str) -> dict[str, list[tuple[str, str]]]:
    """The first n automatic mutants of each module, and what its tests made of each."""
    command = [sys.executable, "-m", "tests.mutants", str(n), *modules]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    return dict(map(json.loads, run.stdout.splitlines()))


def assert_nine_in_ten_are_noticed(found: dict[str, list[tuple[str, str]]]) -> None:
    """Of the mutants that could be tried at all and are not known to be equivalent."""
    for module, results in found.items():
        print(
            module,
            *(f"{result}: {text.partition(' ')[2]}" for text, result in results if result != "killed"),
            sep="\n  ",
        )
    counted = [result for results in found.values() for text, result in results if text not in EQUIVALENT]
    tried = [result for result in counted if result != "broken"]
    assert len(tried) > 0.8 * len(counted)
    assert sum(result != "survived" for result in tried) >= 0.9 * len(tried)
    flat = dict(pair for results in found.values() for pair in results)
    assert [text for text in EQUIVALENT if flat.get(text, "survived") != "survived"] == []  # listed, but noticed


def test_automatic_mutants_change_one_place_and_are_told_by_their_text():
    source = "def f(a, b):\n    if not a:\n        raise ValueError(1 + 1)\n    return g(a, b + 2)\n"
    found = mutants(source)
    assert sorted(mutant.text for mutant in found) == [
        "f: if not a: => if a:",
        "f: if not a: => if not not a:",
        "f: raise ValueError(1 + 1) => pass",
        "f: return g(a, b + 2) => return g(a, b + 1)",
        "f: return g(a, b + 2) => return g(a, b + 3)",
        "f: return g(a, b + 2) => return g(a, b - 2)",
        "f: return g(a, b + 2) => return g(b + 2, a)",
    ]
    assert len({mutant.source for mutant in found}) == 7
    assert {mutant.function for mutant in found} == {1}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forked processes")
def test_a_dozen_automatic_mutants_of_the_core_are_noticed():
    assert_nine_in_ten_are_noticed(automatic(3, "bleu", "data", "masking", "weights"))


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forked processes")
def test_nine_in_ten_automatic_mutants_of_the_core_are_noticed():
    assert_nine_in_ten_are_noticed(automatic(17))


def exit_code(test_file: str) -> int:
    """Run a test file in a fork, which saves importing torch again, up to its first failure."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1), os.dup2(silence, 2)
        os._exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", f"tests/{test_file}"]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def with_mutant(file: str, old: str, new: str, test_file: str) -> int:
    """The exit code with one fault planted."""
    path = Path("llmcourse", file)
    source = path.read_text(encoding="utf-8")
    if source.count(old) != 1:
        raise ValueError(f"{file} holds {old!r} {source.count(old)} times, and a mutant needs one place")
    path.write_text(source.replace(old, new), encoding="utf-8")
    try:
        return exit_code(test_file)
    finally:
        path.write_text(source, encoding="utf-8")


if __name__ == "__main__":
    import tokenizers  # noqa: F401
    import torch

    torch.testing.assert_close(torch.zeros(1), torch.zeros(1))  # imports 500 modules that each fork then has
    wanted, every = sys.argv[1], int(sys.argv[2])
    print(json.dumps([exit_code(wanted), *(with_mutant(*mutant, wanted) for mutant in MUTANTS[wanted][::every])]))
