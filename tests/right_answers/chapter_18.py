"""Right answers to an exercise of chapter 18, each written in another way than the solution."""

import math

import numpy as np
import torch

from llmcourse.exercises.scaling import ComputeOptimalSize, Excess, FitAboveTheFloor, WhatLimits


def limit_by_products(half, full, floor, larger):
    if full <= floor + 0.02:
        return "text"
    return "training" if (half - full) * (full - floor) > (full - larger) * (half - floor) else "size"


def limit_by_what_is_left(half, full, floor, larger):
    above = full - floor
    left = {"size": (larger - floor) / above, "training": above / (half - floor)}
    return min(left, key=left.get) if above > 0.02 else "text"


def limit_by_cases(half, full, floor, larger):
    match full - floor:
        case above if above > 0.02 and 1 - above / (half - floor) > 1 - (larger - floor) / above:
            return "training"
        case above if above > 0.02:
            return "size"
    return "text"


def fit_by_polyfit(sizes, losses, floor):
    slope, start = np.polyfit(np.log(sizes), np.log(np.asarray(losses) - floor), 1)
    return float(np.exp(start)), float(-slope)


def fit_by_lstsq(sizes, losses, floor):
    x = torch.tensor(sizes, dtype=torch.double).log()
    y = (torch.tensor(losses, dtype=torch.double) - floor).log()
    found = torch.linalg.lstsq(torch.stack([torch.ones_like(x), x], 1), y[:, None]).solution
    return math.exp(found[0].item()), -found[1].item()


def fit_by_covariance(sizes, losses, floor):
    table = np.cov(np.log(sizes), [math.log(loss - floor) for loss in losses])
    slope = table[0, 1] / table[0, 0]
    level = np.mean(np.log(np.asarray(losses) - floor)) - slope * np.mean(np.log(sizes))
    return math.exp(level), -float(slope)


def size_by_minimum(flops, A, alpha, B, beta):
    n = ((alpha * A) / (beta * B) * (flops / 6) ** beta) ** (1 / (alpha + beta))
    return n, flops / 6 / n


def size_by_logarithms(flops, A, alpha, B, beta):
    n = (math.log(alpha * A / beta / B) + beta * math.log(flops / 6)) / (alpha + beta)
    d = (math.log(beta * B / alpha / A) + alpha * math.log(flops / 6)) / (alpha + beta)
    return math.exp(n), math.exp(d)


def size_by_numpy(C, A, a, B, b):
    sides = ((1, b), (-1, a))
    return tuple(float((a * A / (b * B)) ** (s / (a + b)) * np.power(C / 6, e / (a + b))) for s, e in sides)


def excess_by_means(p, true):
    return float(np.mean(np.log(true) - np.log(p)))


def excess_by_loop(p, true):
    return sum(math.log(t / g) for g, t in zip(p, true, strict=True)) / len(p)


def excess_by_torch(p, true):
    return (torch.tensor(true, dtype=torch.double) / torch.tensor(p, dtype=torch.double)).log().mean().item()


RIGHT = {
    FitAboveTheFloor: [fit_by_polyfit, fit_by_lstsq, fit_by_covariance],
    ComputeOptimalSize: [size_by_minimum, size_by_logarithms, size_by_numpy],
    Excess: [excess_by_means, excess_by_loop, excess_by_torch],
    WhatLimits: [limit_by_products, limit_by_what_is_left, limit_by_cases],
}
