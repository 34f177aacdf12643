import pytest

from latentsweep.datasets.splits import join_subjects, rank_subjects, slice_splits, split_sizes, subject_splits

SUBJECTS = [f"case-{number}" for number in range(20)]


@pytest.mark.parametrize(("count", "sizes"), [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (20, (14, 3, 3))])
def test_every_split_gets_a_subject_from_three_on_and_train_comes_first(count, sizes):
    assert split_sizes(count) == sizes


@pytest.mark.parametrize("count", range(200))
def test_the_sizes_add_up(count):
    assert sum(split_sizes(count)) == count
    assert min(split_sizes(count)) >= (count >= 3)


def test_the_split_of_a_subject_depends_on_identifiers_and_seed_alone():
    splits = subject_splits(rank_subjects(SUBJECTS))
    assert splits == subject_splits(rank_subjects(list(reversed(SUBJECTS))))
    assert splits != subject_splits(rank_subjects(SUBJECTS, seed=43))


def test_the_split_by_slice_has_the_shares_and_ignores_the_order():
    splits = slice_splits(200)
    assert (splits.count("train"), splits.count("validation"), splits.count("test")) == (140, 30, 30)
    assert splits[:140] != ["train"] * 140
    assert splits == slice_splits(200)


def test_subjects_that_share_an_image_join_under_the_first_ranked():
    groups = join_subjects(["a", "b", "c", "d", "e"], {"b": {"1", "2"}, "c": {"3"}, "d": {"2", "4"}, "e": {"4", "5"}})
    assert groups == {"a": "a", "b": "b", "c": "c", "d": "b", "e": "b"}


def test_a_late_link_joins_two_groups_under_the_first_ranked():
    groups = join_subjects(["a", "b", "c", "d"], {"a": {"1"}, "b": {"2"}, "c": {"2"}, "d": {"1", "2"}})
    assert set(groups.values()) == {"a"}
