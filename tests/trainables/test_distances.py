"""The distances against closed forms, clean-fid's own functions and simulation."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import scipy.linalg

import trainables.measures.torchvision_operators  # noqa: F401
from trainables.errors import DataError
from trainables.measures.distances import (
    bootstrap_fid,
    bootstrap_kid,
    frechet_distance,
    interval,
    kernel_by_group,
    kernel_by_image,
    kernel_distance,
    kernel_within_groups,
)


def normal(count: int, width: int = 8, *, seed: int, shift: float = 0.0, spread: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(shift, spread, (count, width))).astype(np.float32)


def cubed(a: np.ndarray, b: np.ndarray) -> float:
    """The kernel of two images."""
    return float((a.astype(float) @ b.astype(float) / len(a) + 1) ** 3)


def alike(subjects: np.ndarray, *, seed: int, each: int = 6, shift: float = 0.0, alone: float = 0.3) -> np.ndarray:
    """Slices about the ``subjects`` (G, d), ``each`` of them a subject."""
    rows = subjects.repeat(each, axis=0) + shift
    return (rows + alone * normal(*rows.shape, seed=seed)).astype(np.float32)


def names(groups: int, prefix: str = "s", each: int = 6) -> list[str]:
    return [f"{prefix}{g}" for g in range(groups) for _ in range(each)]


def bootstrap_error(x: np.ndarray, y: np.ndarray, **options: Any) -> float:
    """The standard error of the kernel distance, as the reference takes it from the resamples."""
    return float(np.std(bootstrap_kid(x, y, **options), ddof=1))


@pytest.mark.parametrize(("n", "m", "d"), [(40, 40, 8), (30, 50, 8), (12, 9, 5)])
def test_frechet_distance_is_the_closed_form_with_a_matrix_square_root(n: int, m: int, d: int) -> None:
    x, y = normal(n, d, seed=0), normal(m, d, seed=1, shift=0.3, spread=1.5)
    a, b = np.cov(x.astype(float), rowvar=False), np.cov(y.astype(float), rowvar=False)
    offset = x.mean(axis=0, dtype=float) - y.mean(axis=0, dtype=float)
    expected = offset @ offset + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_is_exact_with_fewer_images_than_features() -> None:
    x, y = normal(6, 64, seed=0).astype(float), normal(9, 64, seed=1).astype(float)
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ b @ root), 0, None)).sum()
    offset = x.mean(axis=0) - y.mean(axis=0)
    assert frechet_distance(x, y) == pytest.approx(offset @ offset + np.trace(a + b) - 2 * shared, rel=1e-6)


def test_frechet_distance_is_cleanfids() -> None:
    from cleanfid.fid import fid_from_feats

    x, y = normal(50, 16, seed=2), normal(60, 16, seed=3, shift=0.2)
    assert frechet_distance(x, y) == pytest.approx(fid_from_feats(x, y), rel=1e-6)


def test_frechet_distance_of_a_set_to_itself_is_zero_and_never_below() -> None:
    x = normal(20, 100, seed=0)
    assert 0 <= frechet_distance(x, x) < 1e-9


def test_frechet_distance_of_a_shift_is_its_squared_length() -> None:
    x = normal(30, 4, seed=0)
    assert frechet_distance(x, x + np.float32(2)) == pytest.approx(16, rel=1e-5)


def test_frechet_distance_of_many_draws_is_that_of_their_gaussians() -> None:
    generator = np.random.default_rng(7)
    means = generator.normal(size=(2, 4))
    roots = generator.normal(size=(2, 4, 4))
    first, second = roots @ roots.transpose(0, 2, 1)
    shared = np.trace(scipy.linalg.sqrtm(first @ second).real)
    expected = np.sum((means[0] - means[1]) ** 2) + np.trace(first) + np.trace(second) - 2 * shared
    x, y = (mean + generator.normal(size=(100_000, 4)) @ root.T for mean, root in zip(means, roots, strict=True))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=0.01)


def test_kernel_distance_is_cleanfids_where_it_takes_all_samples() -> None:
    from cleanfid.fid import kernel_distance as cleanfids

    x, y = normal(40, seed=0), normal(40, seed=1, shift=0.5)
    assert kernel_distance(x, y) == pytest.approx(cleanfids(x, y, num_subsets=1), rel=1e-5)


def test_kernel_distance_is_the_plain_sum_over_pairs_also_for_different_numbers() -> None:
    x, y = normal(4, seed=0).astype(float), normal(6, seed=1).astype(float)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 8 + 1) ** 3)

    expected = (
        np.mean([k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
        + np.mean([k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
        - 2 * np.mean([k(a, b) for a in x for b in y])
    )
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_is_unbiased_under_one_distribution() -> None:
    values = [kernel_distance(normal(12, seed=2 * i), normal(20, seed=2 * i + 1)) for i in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 20
    assert min(values) < 0


def test_pairs_of_one_group_are_left_out_within_the_sets_and_between_them() -> None:
    x, y = normal(5, seed=0), normal(6, seed=1, shift=0.4)
    of_x, of_y = ["a", "a", "b", "c", "c"], ["b", "d", "d", "a", "b", "d"]

    def mean(first: np.ndarray, second: np.ndarray, theirs: list[str], others: list[str]) -> float:
        pairs = [
            (a, b) for a, g in zip(first, theirs, strict=True) for b, h in zip(second, others, strict=True) if g != h
        ]
        return float(np.mean([cubed(a, b) for a, b in pairs]))

    within = mean(x, x, of_x, of_x) + mean(y, y, of_y, of_y)
    assert kernel_distance(x, y, of_x, of_y) == pytest.approx(within - 2 * mean(x, y, of_x, of_y), rel=1e-9)
    apart = [f"other {name}" for name in of_y]
    assert kernel_distance(x, y, of_x, apart) == pytest.approx(within - 2 * mean(x, y, of_x, apart), rel=1e-9)


def test_a_set_of_one_group_alone_counts_by_its_images() -> None:
    x, y = normal(5, seed=0), normal(6, seed=1, shift=0.4)
    assert kernel_distance(x, y, ["one"] * 5, ["one"] * 6) == pytest.approx(kernel_distance(x, y))
    assert kernel_distance(x, y, None, ["one"] * 6) == pytest.approx(kernel_distance(x, y))
    with pytest.raises(DataError, match="one group for each of 6 images, got 4"):
        kernel_distance(x, y, None, ["one"] * 4)


def test_the_distance_of_slices_of_other_subjects_is_0_on_average_only_without_pairs_of_one_subject() -> None:
    apart, all_pairs = [], []
    for i in range(300):
        x, y = (alike(normal(12, seed=4 * i + side), seed=4 * i + side + 2) for side in (0, 1))
        apart.append(kernel_distance(x, y, names(12), names(12, "t")))
        all_pairs.append(kernel_distance(x, y))
    assert abs(np.mean(apart)) < 3 * np.std(apart) / np.sqrt(300)
    assert np.mean(all_pairs) > 20 * np.std(apart) / np.sqrt(300)


def test_the_distance_of_slices_of_the_same_subjects_is_0_on_average_only_without_pairs_of_one_subject() -> None:
    apart, named_apart = [], []
    for i in range(300):
        subjects = normal(12, seed=3 * i)
        x, y = (alike(subjects, seed=3 * i + side) for side in (1, 2))
        apart.append(kernel_distance(x, y, names(12), names(12)))
        named_apart.append(kernel_distance(x, y, names(12), names(12, "t")))
    assert abs(np.mean(apart)) < 3 * np.std(apart) / np.sqrt(300)
    assert np.mean(named_apart) < -20 * np.std(apart) / np.sqrt(300)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_too_few_images_broken_features_and_different_widths_are_one_line_errors(distance) -> None:
    good = normal(5, seed=0)
    broken = good.copy()
    broken[2, 3] = np.nan
    for bad, text in [(good[:1], "at least 2 images"), (broken, "finite"), (good[:, :4], "one extractor")]:
        with pytest.raises(DataError, match=text) as caught:
            distance(good, bad)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("shift", "highest"), [(0.0, 3.0), (0.6, 1.3)])
def test_bootstrap_error_is_the_spread_over_fresh_draws(shift: float, highest: float) -> None:
    pairs = [(normal(40, seed=2 * i), normal(60, seed=2 * i + 1, shift=shift)) for i in range(200)]
    spread = np.std([kernel_distance(x, y) for x, y in pairs])
    error = np.mean([bootstrap_error(x, y, resamples=50, seed=i) for i, (x, y) in enumerate(pairs[:40])])
    assert 0.8 < error / spread < highest


def test_a_resample_of_the_frechet_distance_is_that_of_its_repeated_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainables.measures import distances as module

    x, y = normal(7, 12, seed=0), normal(9, 12, seed=1, shift=0.4)
    groups = ["a", "a", "b", "c", "c", "c", "d", "e", "e"]
    drawn_x, drawn_y = np.array([[2.0, 0, 1, 1, 3, 0, 0], [1.0] * 7]), np.array([[0, 3.0, 1, 1, 0], [1.0] * 5])
    drawn = iter([drawn_x, drawn_y])
    monkeypatch.setattr(module, "_draws", lambda codes, resamples, generator: next(drawn))
    got = bootstrap_fid(x, y, resamples=2, seed=0, groups_y=groups)
    rows_x = np.repeat(np.arange(7), [2, 0, 1, 1, 3, 0, 0])
    rows_y = np.repeat(np.arange(9), [0, 0, 3, 1, 1, 1, 1, 0, 0])
    np.testing.assert_allclose(got, [frechet_distance(x[rows_x], y[rows_y]), frechet_distance(x, y)], rtol=1e-9)


def test_the_bootstrap_of_the_frechet_distance_has_the_spread_of_fresh_draws() -> None:
    pairs = [(normal(60, seed=2 * i), normal(60, seed=2 * i + 1, shift=0.6)) for i in range(150)]
    spread = np.std([frechet_distance(x, y) for x, y in pairs])
    errors = [bootstrap_fid(x, y, resamples=50, seed=i).std(ddof=1) for i, (x, y) in enumerate(pairs[:30])]
    assert 0.8 < np.mean(errors) / spread < 1.3


def test_whole_subjects_spread_the_frechet_distance_more_where_their_slices_are_alike() -> None:
    subjects = np.repeat(np.arange(10), 8)
    y = normal(10, seed=0)[subjects] + 0.1 * normal(80, seed=1)
    x = normal(80, seed=2, shift=0.5)
    by_row = bootstrap_fid(x, y, resamples=200, seed=0).std()
    by_subject = bootstrap_fid(x, y, resamples=200, seed=0, groups_y=[f"s{i}" for i in subjects]).std()
    assert by_subject > 1.5 * by_row


def test_an_interval_is_about_the_estimate_where_the_percentiles_of_its_draws_are_not() -> None:
    x, y = normal(30, 256, seed=0), normal(30, 256, seed=1)
    estimate, draws = frechet_distance(x, y), bootstrap_fid(x, y, resamples=200, seed=0)
    low, high = interval(estimate, draws)
    assert (low + high) / 2 == pytest.approx(estimate)
    assert high - low == pytest.approx(2 * 1.96 * draws.std(ddof=1), rel=1e-4)
    assert np.quantile(draws, 0.025) > estimate


@pytest.mark.parametrize("shift", [0.4, 0.8])
def test_an_interval_holds_the_distance_of_the_distributions_as_often_as_it_says(shift: float) -> None:
    large = [(normal(400, seed=1000 + i), normal(400, seed=2000 + i, shift=shift)) for i in range(20)]
    truth = np.mean([kernel_distance(x, y) for x, y in large])
    held = 0
    for i in range(150):
        x, y = normal(50, seed=2 * i), normal(50, seed=2 * i + 1, shift=shift)
        low, high = interval(kernel_distance(x, y), bootstrap_kid(x, y, resamples=60, seed=i))
        held += low <= truth <= high
    assert held / 150 > 0.88


def test_bootstrap_error_of_whole_subjects_is_larger_where_their_slices_are_alike() -> None:
    subjects = np.repeat(np.arange(10), 8)
    y = normal(10, seed=0)[subjects] + 0.1 * normal(80, seed=1)
    x = normal(80, seed=2, shift=0.5)
    by_row = bootstrap_error(x, y, resamples=200, seed=0)
    by_subject = bootstrap_error(x, y, resamples=200, seed=0, groups_y=[f"s{i}" for i in subjects])
    assert by_subject > 1.5 * by_row


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("bootstrap", [bootstrap_kid, bootstrap_fid])
def test_bootstrap_error_by_subject_is_the_spread_over_fresh_subjects(bootstrap: Any, shared: bool) -> None:
    sets, of_x, of_y = [], names(30, each=3), names(30, "s" if shared else "t", each=3)
    for i in range(120):
        subjects = normal(30, seed=4 * i)
        others = subjects if shared else normal(30, seed=4 * i + 1)
        sets.append((alike(subjects, seed=4 * i + 2, each=3), alike(others, seed=4 * i + 3, each=3, shift=0.8)))
    if bootstrap is bootstrap_kid:
        spread = np.std([kernel_distance(x, y, of_x, of_y) for x, y in sets])
    else:
        spread = np.std([frechet_distance(x, y) for x, y in sets])
    draws = [bootstrap(x, y, resamples=60, seed=0, groups_x=of_x, groups_y=of_y) for x, y in sets[:30]]
    assert 0.75 < np.mean([each.std(ddof=1) for each in draws]) / spread < 1.3


def test_every_resample_of_few_groups_has_pairs() -> None:
    x, y = normal(6, seed=0), normal(9, seed=1)
    draws = bootstrap_kid(x, y, resamples=500, seed=0, groups_x=["a"] * 3 + ["b"] * 3, groups_y=["b", "c", "d"] * 3)
    assert np.isfinite(draws).all()


def test_repeated_rows_do_not_shift_the_bootstrap() -> None:
    x, y = normal(15, 2048, seed=0), normal(15, 2048, seed=1)
    distances = bootstrap_kid(x, y, resamples=500, seed=0)
    assert abs(distances.mean() - kernel_distance(x, y)) < 0.2 * distances.std()


def test_what_groups_are_called_changes_nothing() -> None:
    random = np.random.default_rng(5)
    x, y = random.normal(size=(12, 8)), random.normal(size=(12, 8))
    errors = [
        bootstrap_error(x, y, resamples=50, seed=0, groups_y=[name for name in called for _ in range(4)])
        for called in (("a", "b", "c"), ("z", "b", "a"))
    ]
    assert errors[0] == errors[1]


def test_groups_of_one_image_each_are_the_same_as_no_groups() -> None:
    x, y = normal(10, seed=0), normal(12, seed=1)
    each = [f"{i:02d}" for i in range(12)]
    assert bootstrap_error(x, y, resamples=20, seed=3, groups_y=each) == pytest.approx(
        bootstrap_error(x, y, resamples=20, seed=3)
    )


def test_a_single_subject_and_two_images_still_give_a_finite_error() -> None:
    x, y = normal(2, seed=0), normal(5, seed=1)
    assert np.isfinite(bootstrap_error(x, y, resamples=50, seed=0, groups_y=["one"] * 5))
    with pytest.raises(DataError, match="groups"):
        bootstrap_error(x, y, resamples=50, seed=0, groups_y=["one"] * 4)


def test_the_bootstrap_is_repeatable_and_quick() -> None:
    x, y = normal(200, 2048, seed=0), normal(200, 2048, seed=1)
    start = time.thread_time()
    first = bootstrap_error(x, y, resamples=200, seed=0)
    assert time.thread_time() - start < 2
    start = time.thread_time()
    bootstrap_fid(x, y, resamples=200, seed=0)
    assert time.thread_time() - start < 3
    assert first == bootstrap_error(x, y, resamples=200, seed=0) != bootstrap_error(x, y, resamples=200, seed=1)


def test_the_kernel_within_groups_is_the_distances_own_part_and_pairs_no_two_of_a_group() -> None:
    x, y = normal(12, seed=0, shift=0.4), normal(9, seed=1)
    groups = ["b", "a", "a", "b", "c", "c", "c", "a", "b"]
    within = kernel_within_groups(y, groups)
    assert (within.groups, within.sizes) == (("b", "a", "c"), (3, 3, 3))
    assert within.pairs.tolist() == [[0, 9, 9], [9, 0, 9], [9, 9, 0]]
    assert within.sums.diagonal().tolist() == [0, 0, 0]
    cross = sum(total for total, _ in kernel_by_group(x, y, groups).values()) / len(y)
    of_x = kernel_within_groups(x, ["x"] * len(x))
    expected = of_x.sums.sum() / of_x.pairs.sum() + within.sums.sum() / within.pairs.sum() - 2 * cross
    assert kernel_distance(x, y, groups_y=groups) == pytest.approx(expected)
    once, twice = within.resample(np.array([[1.0, 1.0, 1.0], [2.0, 1.0, 0.0]]))
    assert once == pytest.approx(within.sums.sum() / within.pairs.sum())
    assert twice == pytest.approx(within.sums[0, 1] / 9)


def test_the_kernel_by_group_is_what_the_distance_subtracts() -> None:
    x, y = normal(7, 5, seed=3), normal(9, 5, seed=4, shift=0.3)
    groups = ["b", "a", "a", "b", "c", "c", "c", "a", "b"]
    found = kernel_by_group(x, y, groups)
    assert [count for _, count in found.values()] == [3, 3, 3]
    assert list(found) == ["b", "a", "c"]
    subtracted = 2 * sum(total for total, _ in found.values()) / len(y)
    within = [kernel_within_groups(x, [str(i) for i in range(7)]), kernel_within_groups(y, groups)]
    alike_pairs = sum(each.sums.sum() / each.pairs.sum() for each in within)
    assert kernel_distance(x, y, groups_y=groups) == pytest.approx(alike_pairs - subtracted)


def test_the_kernel_by_image_is_its_influence_on_the_distance() -> None:
    x, y = normal(150, seed=0, shift=0.3), normal(40, seed=1)
    found = np.array(kernel_by_image(x, y))
    others = [np.mean([cubed(x[3], x[j]) for j in range(150) if j != 3]), np.mean([cubed(x[3], each) for each in y])]
    assert found[3] == pytest.approx(others[0] - others[1])
    without = [kernel_distance(np.delete(x, i, axis=0), y) for i in range(150)]
    changes = kernel_distance(x, y) - np.array(without)
    assert changes == pytest.approx(2 * (found - found.mean()) / 150, rel=0.03, abs=1e-4)


def test_the_kernel_by_image_gives_the_error_of_the_distance_over_other_draws_of_the_images() -> None:
    y = normal(60, seed=1)
    drawn = [normal(80, seed=i, shift=0.6) for i in range(2, 202)]
    spread = np.std([kernel_distance(x, y) for x in drawn])
    errors = [2 * np.std(kernel_by_image(x, y), ddof=1) / np.sqrt(80) for x in drawn[:50]]
    assert 0.85 < np.mean(errors) / spread < 1.15
