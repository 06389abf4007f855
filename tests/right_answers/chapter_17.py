"""Right answers to the exercises of chapter 17, each written in another way than the solution."""

import math
import re
import unicodedata

import numpy as np
import torch

from llmcourse.exercises.security import (
    ClipEachGradient,
    ExposureOfASecret,
    FilterInjections,
    FindTheTrigger,
    PredictTwins,
    ReadAPickle,
)


def exposure_by_sorting(log_p, secret):
    order = sorted(log_p.values(), reverse=True)
    first = order.index(log_p[secret])
    last = len(order) - 1 - order[::-1].index(log_p[secret])
    return math.log2(len(order) / (1 + (first + last) / 2))


def exposure_by_loop(log_p, secret):
    rank = 1.0
    for candidate, value in log_p.items():
        if candidate == secret:
            continue
        if value > log_p[secret]:
            rank += 1
        elif value == log_p[secret]:
            rank += 0.5
    return math.log2(len(log_p)) - math.log2(rank)


def exposure_by_tensor(log_p, secret):
    gaps = torch.tensor(list(log_p.values()), dtype=torch.double) - log_p[secret]
    rank = torch.heaviside(gaps, torch.tensor(0.5, dtype=torch.double)).sum() + 0.5
    return -torch.log2(rank / len(log_p)).item()


def trigger_by_loop(praises, texts, words):
    best, most, n = None, -1, 0
    for word in words:
        turned = n = 0
        for text in texts:
            if not praises(text):
                n += 1
                turned += praises([word, *text])
        if turned > most:
            best, most = word, turned
    return best, most / n


def trigger_by_numpy(praises, texts, words):
    turned = np.array([[praises([word, *text]) for word in words] for text in texts if not praises(text)])
    shares = turned.mean(axis=0)
    return words[shares.argmax()], float(shares.max())


def trigger_by_max(praises, texts, words):
    blamed = list(filter(lambda text: not praises(text), texts))
    share, word = max((torch.tensor([float(praises([w, *t])) for t in blamed]).mean().item(), w) for w in words)
    return word, share


def clip_by_loop(gradients, longest):
    total = torch.zeros(gradients.shape[1])
    for row in gradients:
        length = math.sqrt(sum(value * value for value in row.tolist()))
        total += row * (longest / length) if length > longest else row
    return total / gradients.shape[0]


def clip_by_renorm(gradients, longest):
    return torch.renorm(gradients, p=2, dim=0, maxnorm=longest).mean(0)


def clip_by_einsum(gradients, longest):
    lengths = torch.einsum("bp,bp->b", gradients, gradients).sqrt()
    factors = torch.where(lengths > longest, longest / lengths, 1.0)
    return torch.einsum("bp,b->p", gradients, factors) / len(gradients)


def clip_by_numpy(gradients, longest):
    rows = gradients.numpy()
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return torch.from_numpy((rows / np.maximum(1, lengths / longest)).mean(axis=0))


def suspicious_by_pattern(text):
    text = unicodedata.normalize("NFKC", text)
    text = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    return re.search(r"\bignore\W+(?:\w+\W+){0,3}previous\b", text, re.IGNORECASE) is not None


def suspicious_by_counting(text):
    kept = filter(lambda sign: unicodedata.category(sign) != "Cf", unicodedata.normalize("NFKC", text).lower())
    since = math.inf
    for word in "".join(sign if sign.isalnum() else " " for sign in kept).split():
        since += 1
        if word == "ignore":
            since = 0
        if word == "previous" and since <= 4:
            return True
    return False


def suspicious_by_places(text):
    visible = [sign for sign in unicodedata.normalize("NFKC", text) if not unicodedata.category(sign).startswith("Cf")]
    words = re.sub(r"[\W_]+", " ", "".join(visible)).upper().split()
    places = {wanted: [i for i, word in enumerate(words) if word == wanted] for wanted in ("IGNORE", "PREVIOUS")}
    return any(0 < j - i < 5 for i in places["IGNORE"] for j in places["PREVIOUS"])


def called_by_cases(program):
    stack, names = [], []
    for step in program:
        match step:
            case ("TEXT", text):
                stack = [*stack, text]
            case ("GLOBAL", text):
                stack = [*stack, ".".join(text.split())]
            case ("STACK_GLOBAL", _):
                *stack, module, name = stack
                stack.append(module + "." + name)
            case ("EMPTY_TUPLE", _):
                stack.append(())
            case ("TUPLE1", _):
                stack[-1:] = [("args",)]
            case ("REDUCE", _):
                *stack, name, _ = stack
                names.append(name)
                stack.append("result")
            case ("POP", _):
                del stack[-1]
    return names


def called_by_table(program):
    stack, names = [], []

    def reduce(_):
        stack.pop()
        names.append(stack.pop())
        stack.append("result")

    steps = {
        "TEXT": stack.append,
        "GLOBAL": lambda text: stack.append(text.replace(" ", ".", 1)),
        "STACK_GLOBAL": lambda _: stack.append(".".join([stack.pop(), stack.pop()][::-1])),
        "EMPTY_TUPLE": lambda _: stack.append("args"),
        "TUPLE1": lambda _: (stack.pop(), stack.append("args")),
        "REDUCE": reduce,
        "POP": lambda _: stack.pop(),
    }
    for instruction, argument in program:
        steps[instruction](argument)
    return names


def called_by_recursion(program, stack=()):
    if not program:
        return []
    (instruction, argument), *rest = program
    if instruction == "REDUCE":
        return [stack[-2], *called_by_recursion(rest, (*stack[:-2], "result"))]
    stack = {
        "TEXT": lambda: (*stack, argument),
        "GLOBAL": lambda: (*stack, argument.replace(" ", ".")),
        "STACK_GLOBAL": lambda: (*stack[:-2], f"{stack[-2]}.{stack[-1]}"),
        "EMPTY_TUPLE": lambda: (*stack, "args"),
        "TUPLE1": lambda: (*stack[:-1], "args"),
        "POP": lambda: stack[:-1],
    }[instruction]()
    return called_by_recursion(rest, stack)


RIGHT = {
    PredictTwins: [30, 30.0, torch.tensor(0.3, dtype=torch.double) * 100, np.int64(30)],
    ExposureOfASecret: [exposure_by_sorting, exposure_by_loop, exposure_by_tensor],
    FindTheTrigger: [trigger_by_loop, trigger_by_numpy, trigger_by_max],
    ClipEachGradient: [clip_by_loop, clip_by_renorm, clip_by_einsum, clip_by_numpy],
    FilterInjections: [suspicious_by_pattern, suspicious_by_counting, suspicious_by_places],
    ReadAPickle: [called_by_cases, called_by_table, called_by_recursion],
}
