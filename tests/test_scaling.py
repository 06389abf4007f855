"""Scaling: the chain's numbers against enumeration and closed forms, the fits against laws that are known, the stored runs."""

import math
import tomllib

import pytest
import torch

from llmcourse import scaling_runs
from llmcourse.corpora.zipf import FAVOURITES, HABIT, ZipfChain
from llmcourse.models import count_parameters
from llmcourse.scaling import (
    BESIROGLU,
    HOFFMANN,
    LossSurface,
    ScalingLaw,
    fit_floor,
    fit_law,
    training_flops,
)

SIZES = [2_000, 5_000, 12_000, 30_000, 80_000]
SMALL = ZipfChain(12, seed=3)


def test_every_word_is_followed_by_some_word():
    torch.testing.assert_close(SMALL.probabilities.sum(dim=1), torch.ones(12, dtype=torch.float64))
    assert SMALL.probabilities.min() > 0


def test_four_favourites_a_word_and_the_rest_by_rank():
    ranks = 1 / torch.arange(1, 13, dtype=torch.float64)
    habit = SMALL.probabilities - (1 - HABIT) * ranks / ranks.sum()
    for row in habit:
        top = row.sort(descending=True).values
        torch.testing.assert_close(top[:4], HABIT * torch.tensor(FAVOURITES, dtype=torch.float64))
        torch.testing.assert_close(top[4:], torch.zeros(8, dtype=torch.float64))


def test_one_more_step_leaves_the_stationary_shares_as_they_are():
    share = SMALL.stationary
    torch.testing.assert_close(share @ SMALL.probabilities, share)
    assert share.sum().item() == pytest.approx(1)


def test_the_entropy_is_that_of_pairs_less_that_of_words():
    pairs = SMALL.stationary[:, None] * SMALL.probabilities
    of_pairs = -(pairs * pairs.log()).sum().item()
    assert SMALL.entropy() == pytest.approx(of_pairs - SMALL.unigram_entropy())
    assert 0 < SMALL.entropy() < SMALL.unigram_entropy() < math.log(12)


def test_texts_come_as_often_as_their_probability_says():
    words = SMALL.sample(20_000, 3, torch.Generator().manual_seed(0))
    seen = torch.bincount(words[:, 1] * 12 + words[:, 2], minlength=144) / len(words)
    expected = (SMALL.stationary[:, None] * SMALL.probabilities).flatten()
    sigma = (expected * (1 - expected) / len(words)).sqrt()
    assert ((seen - expected).abs() <= 5 * sigma).all()
    surprise = -SMALL.log_probabilities(words).mean().item()
    assert surprise == pytest.approx(SMALL.entropy(), abs=0.03)


def test_the_log_probability_of_a_text_by_hand():
    p = SMALL.probabilities
    found = SMALL.log_probabilities(torch.tensor([[0, 3, 1]]))
    torch.testing.assert_close(found, torch.stack([p[0, 3].log(), p[3, 1].log()])[None])


def test_texts_are_the_same_for_the_same_seed():
    one, two = (SMALL.sample(4, 9, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two) and one.shape == (4, 9)
    with pytest.raises(ValueError, match="favourites"):
        ZipfChain(4)


@pytest.mark.parametrize("floor", [0.0, 1.7, 2.4])
def test_a_law_without_noise_is_found_again(floor):
    law = ScalingLaw(floor, 350.0, 0.8, 1.0)
    losses = [law.loss(size) for size in SIZES]
    found = fit_law(SIZES, losses, floor)
    assert (found.factor, found.exponent, found.r_squared) == pytest.approx((350.0, 0.8, 1.0))
    assert found.loss(1e6) == pytest.approx(law.loss(1e6))


@pytest.mark.parametrize("floor", [0.4, 2.4])
def test_a_floor_that_nobody_tells_is_found_too(floor):
    law = ScalingLaw(floor, 350.0, 0.8, 1.0)
    found = fit_floor(SIZES, [law.loss(size) for size in SIZES])
    assert (found.floor, found.factor, found.exponent) == pytest.approx((floor, 350.0, 0.8), rel=1e-3)


def test_without_a_floor_the_law_is_too_flat_and_falls_below_what_is_possible():
    law = ScalingLaw(2.4, 350.0, 0.8, 1.0)
    pure = fit_law(SIZES, [law.loss(size) for size in SIZES], floor=0.0)
    assert pure.exponent < 0.2 and pure.r_squared < 0.97
    assert pure.loss(1e9) < 2.4 < law.loss(1e9)


def test_a_floor_above_a_loss_and_too_few_sizes_are_refused():
    with pytest.raises(ValueError, match="the floor is too high"):
        fit_law([1, 2, 3], [3.0, 2.0, 1.0], floor=1.0)
    with pytest.raises(ValueError, match="at least 2 different sizes"):
        fit_law([5, 5], [3.0, 2.0], floor=1.0)
    with pytest.raises(ValueError, match="at least 4"):
        fit_floor([1, 2, 3], [3.0, 2.0, 1.5])


def test_compute_by_hand():
    assert training_flops(70e9, 1.4e12) == pytest.approx(5.88e23)


@pytest.mark.parametrize("surface", [HOFFMANN, BESIROGLU])
@pytest.mark.parametrize("flops", [1e18, 5.88e23])
def test_no_other_size_reaches_a_lower_loss_with_the_same_compute(surface, flops):
    best = surface.optimal_size(flops)
    losses = {share: surface.loss(best * share, flops / 6 / (best * share)) for share in (0.5, 0.95, 1.0, 1.05, 2.0)}
    assert min(losses, key=losses.get) == 1.0


def test_the_size_grows_with_compute_as_the_exponents_say():
    surface = LossSurface(floor=1.0, size_factor=3.0, size_exponent=0.5, data_factor=3.0, data_exponent=0.5)
    assert surface.optimal_size(6e12) == pytest.approx(1e6)  # of two equal terms, N = D
    assert surface.optimal_size(6e14) == pytest.approx(1e7)
    with pytest.raises(ValueError, match="flops=0"):
        surface.optimal_size(0)


def test_the_corrected_fit_asks_for_the_size_that_was_trained():
    assert BESIROGLU.optimal_size(training_flops(70e9, 1.4e12)) == pytest.approx(70e9, rel=0.1)


def test_stored_runs_are_those_of_the_plan_and_can_be_written_again():
    runs = scaling_runs.stored()
    assert [(one.width, one.steps, one.seed, one.n_words) for one in runs] == scaling_runs.plan()
    assert [scaling_runs.Run(**one) for one in tomllib.loads(scaling_runs.as_toml(runs))["run"]] == list(runs)
    for one in runs:
        assert one.parameters == count_parameters(scaling_runs.model_of(one.width, one.n_words))
        assert one.words_seen == one.steps * 32 * 32


@pytest.mark.parametrize("seed", scaling_runs.SEEDS)
def test_the_fitted_floor_of_the_stored_runs_is_near_the_entropy(seed):
    entropy = ZipfChain().entropy()
    runs = [one for one in scaling_runs.stored() if one.seed == seed and one.steps == scaling_runs.STEPS][:6]
    losses = [entropy + one.excess for one in runs]
    assert len({one.parameters for one in runs}) == 6
    assert fit_floor([one.parameters for one in runs], losses).floor == pytest.approx(entropy, rel=0.025)


def test_a_perfect_model_has_no_excess():
    class Oracle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", SMALL.probabilities.log().float())

        def forward(self, tokens):
            return self.table[tokens]

    assert scaling_runs.excess(Oracle(), SMALL) == pytest.approx(0, abs=1e-5)


def test_a_short_run_learns_and_says_what_it_was():
    one = scaling_runs.run(8, steps=20)
    assert (one.n_words, one.width, one.steps, one.seed, one.parameters) == (512, 8, 20, 0, 5208)
    assert 0.5 < one.excess < math.log(512)


def test_the_command_shows_what_is_stored(capsys):
    scaling_runs.main([])
    assert capsys.readouterr().out.count("[[run]]") == len(scaling_runs.plan())


def test_the_command_writes_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling_runs, "run", lambda *settings: scaling_runs.Run(512, 6, 3762, 1500, 0, 0.84444))
    scaling_runs.main([str(tmp_path / "runs.toml")])
    written = tomllib.loads((tmp_path / "runs.toml").read_text())["run"]
    assert len(written) == len(scaling_runs.plan()) and written[0]["excess"] == 0.8444


@pytest.mark.parametrize(
    ("sizes", "losses"),
    [([1, 2, 3], [3.0, math.nan, 2.5]), ([1, 2, 3], [math.inf, 2.8, 2.5]), ([1, math.nan, 3], [3.0, 2.8, 2.5])],
)
def test_a_training_that_failed_is_no_point_of_a_law(sizes, losses):
    with pytest.raises(ValueError, match="not a finite number"):
        fit_law(sizes, losses, 0)


def test_a_loss_of_0_leaves_no_room_for_a_floor():
    with pytest.raises(ValueError, match="no room for a floor"):
        fit_floor([1, 2, 3, 4], [3.0, 2.0, 1.0, 0.0])
