from math import comb

import numpy as np
import pytest
import torch

from a2mim.analysis.interaction_strength import draw_interactions, estimate_strength, interactions
from a2mim.analysis.interactions import (
    InteractionSettings,
    keep_present,
    log_odds,
    log_probability,
    logit,
    measure_image,
    projection,
)

GRID = 4
PLAYERS = GRID * GRID
RATIOS = (0.0, 0.3, 0.5, 0.8, 1.0)  # 0, 4, 7, 11, 14 of 14
# One pixel a cell: the image of ones, masked, is the indicator of who is present.
ONES = torch.ones(1, GRID, GRID)


def settings(**changes) -> InteractionSettings:
    return InteractionSettings(
        **{**dict(grid=GRID, pairs=20, contexts=10, ratios=RATIOS, batch_size=100), **changes}
    )


def cells(batch: torch.Tensor) -> torch.Tensor:
    return batch.flatten(1).double()


def product_of(members: list[int]):
    return lambda batch: cells(batch)[:, members].prod(dim=1)


def test_pairwise_terms_are_found_exactly_at_every_order():
    generator = torch.Generator().manual_seed(5)
    alone = torch.randn(PLAYERS, generator=generator, dtype=torch.float64)
    both = torch.randn(PLAYERS, PLAYERS, generator=generator, dtype=torch.float64)
    both = (both + both.T) / 2

    def value(batch):
        x = cells(batch)
        together = (x @ both * x).sum(dim=1) - x @ both.diagonal()
        return x @ alone + together / 2

    found = measure_image(value, ONES, 0, settings())
    expected = both[found['pairs'][:, 0], found['pairs'][:, 1]].numpy()
    error = np.nan_to_num(found['delta'] - expected[None, :, None])
    assert np.abs(error).max() < 1e-5
    measured = estimate_strength(np.stack([found['delta']] * 2), float(found['scale']))
    np.testing.assert_allclose(measured.relative, 1, atol=1e-5)
    np.testing.assert_allclose(measured.strength, np.abs(expected).mean(), rtol=1e-5)


@pytest.mark.parametrize('others', [1, 2, 3])
def test_a_product_of_players_is_found_as_often_as_the_context_holds_the_others(others):
    contexts = 4000
    chosen = settings(pairs=1, contexts=contexts)
    first, second = measure_image(product_of([0]), ONES, 0, chosen)['pairs'][0].tolist()
    rest = [player for player in range(PLAYERS) if player not in (first, second)][:others]
    found = measure_image(product_of([first, second, *rest]), ONES, 0, chosen)['delta']
    mean = interactions(found)[:, 0]
    for order, value in zip(chosen.orders, mean, strict=True):
        hits = comb(PLAYERS - 2 - others, order - others) if order >= others else 0
        p = hits / comb(PLAYERS - 2, order)
        assert abs(value - p) <= 4 * (p * (1 - p) / contexts) ** 0.5 + 1e-7


def test_an_additive_function_has_no_relative_strength():
    alone = torch.linspace(-3, 5, PLAYERS)
    found = measure_image(lambda batch: batch.flatten(1) @ alone, ONES, 0, settings())
    measured = estimate_strength(np.stack([found['delta']] * 2), float(found['scale']))
    assert np.isnan(measured.relative).all()
    assert measured.interacting == 0
    assert measured.strength.max() < 1e-5


def test_the_error_falls_with_the_square_root_of_the_contexts():
    counts, errors = (4, 16, 64, 256), []
    first, second = measure_image(product_of([0]), ONES, 0, settings(pairs=1))['pairs'][0].tolist()
    rest = [player for player in range(PLAYERS) if player not in (first, second)][:2]
    value = product_of([first, second, *rest])
    truth = comb(12, 5) / comb(14, 7)
    for count in counts:
        # The repetitions are one after another: contexts are independent.
        many = settings(pairs=1, contexts=300 * count, ratios=(0.5,), batch_size=4096)
        delta = measure_image(value, ONES, 0, many)['delta'].reshape(300, count)
        errors.append(np.sqrt(((delta.mean(axis=1) - truth) ** 2).mean()))
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(slope + 0.5) < 0.06
    exact = np.sqrt(truth * (1 - truth) / np.array(counts))
    np.testing.assert_allclose(errors, exact, rtol=0.15)


def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr('a2mim.analysis.interaction_strength.BOOTSTRAPS', 300)
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(150):
        of_image = rng.exponential(1.0, (25, 1, 1, 1))
        delta = of_image * np.array([1.0, 3.0])[None, :, None, None]
        delta = delta + rng.uniform(-0.5, 0.5, (25, 2, 10, 1))
        delta = np.abs(delta)  # E|I| from the same law, below
        low, high = estimate_strength(delta, 1.0).strength_interval[:, 1]
        inside += low <= TRUE_STRENGTH <= high
    assert 0.86 <= inside / 150 <= 1.0


def true_strength() -> float:
    """E|3e + u|, e exponential, u uniform in ±0.5, by quadrature."""
    e = np.linspace(0, 40, 40001)
    u = np.linspace(-0.5, 0.5, 201)
    inner = np.abs(3 * e[:, None] + u).mean(axis=1) * np.exp(-e)
    return float(((inner[1:] + inner[:-1]) / 2).sum() * (e[1] - e[0]))


TRUE_STRENGTH = true_strength()


def test_chance_is_the_strength_of_interactions_that_are_none():
    noise = np.random.default_rng(1).normal(0, 2, (20, 1, 50, 40))
    found = estimate_strength(noise, 1.0)
    np.testing.assert_allclose(found.chance, 2 / 40**0.5 * (2 / np.pi) ** 0.5, rtol=0.03)
    np.testing.assert_allclose(found.strength, found.chance, rtol=0.06)


def test_interactions_in_one_image_of_many_have_no_interval():
    delta = np.zeros((12, 3, 5, 2))
    delta[8] = 1
    found = estimate_strength(delta, 1.0)
    assert found.interacting == 1
    np.testing.assert_allclose(found.relative, 1)
    assert np.isnan(found.relative_interval).all()


def test_the_legend_says_what_has_no_curve_or_no_interval():
    none, one, all_of_them = np.zeros((3, 12, 2, 5, 2))
    one[8] = 1
    all_of_them += np.random.default_rng(0).normal(size=all_of_them.shape)
    deltas = dict(none=none, one=one, all=all_of_them)
    found = {label: estimate_strength(delta, 1.0) for label, delta in deltas.items()}
    legend = draw_interactions(found, (0, 14), PLAYERS).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        'none (no interactions)',
        'one (no interval: 1 image(s) interact)',
        'all',
    ]


def test_one_image_has_no_interval():
    with pytest.raises(ValueError, match='needs at least 2'):
        estimate_strength(np.ones((1, 2, 3, 4)), 1.0)


def test_masked_images_are_those_of_a_plain_loop():
    image = torch.randn(3, 8, 12)
    present = torch.rand(5, PLAYERS) < 0.5
    found = keep_present(image, present)
    for b in range(5):
        for row in range(8):
            for column in range(12):
                cell = row // 2 * GRID + column // 3
                expected = image[:, row, column] * float(present[b, cell])
                assert torch.equal(found[b, :, row, column], expected)


def test_batch_size_changes_nothing():
    value = product_of([0, 1, 5, 6])
    one, other = (measure_image(value, ONES, 3, settings(batch_size=n)) for n in (4, 4096))
    np.testing.assert_array_equal(one['delta'], other['delta'])


def test_an_order_has_the_same_contexts_whatever_else_is_measured():
    value = product_of([0, 1, 5, 6])
    few = measure_image(value, ONES, 3, settings(ratios=(0.5,)))['delta'][0]
    np.testing.assert_array_equal(few, measure_image(value, ONES, 3, settings())['delta'][2])


def test_outputs_are_probabilities_of_the_label():
    logits = torch.randn(6, 4, dtype=torch.float64)
    p = logits.exp()[:, 2] / logits.exp().sum(dim=1)
    torch.testing.assert_close(log_odds(logits, 2), (p / (1 - p)).log())
    torch.testing.assert_close(log_probability(logits, 2), p.log())
    torch.testing.assert_close(logit(logits, 2), logits[:, 2])


def test_projection_of_the_whole_image_is_its_length():
    whole = torch.tensor([3.0, 4.0])
    batch = torch.stack([whole, torch.tensor([-4.0, 3.0])])
    torch.testing.assert_close(projection(batch, whole), torch.tensor([5.0, 0.0]))
