"""The ledger of the test split: each decision once, whatever befalls its writer."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from small_dataset import plant

from latentsweep.datasets.ledger import FILE, earlier_words, note_use, uses
from latentsweep.datasets.slices import PreparedDataset
from latentsweep.storage.home import Home
from trainables.data.settings import Fold
from trainables.errors import StoreError


def note(home: Home, dataset: PreparedDataset, name: str) -> int | None:
    return note_use(home, dataset, "train", name, "test", "subject")


def test_a_decision_is_told_how_many_others_were_noted_without_itself(tmp_path: Path) -> None:
    home = Home(tmp_path)
    dataset = plant(home)
    assert [note(home, dataset, name) for name in ("a", "b", "c")] == [0, 1, 2]


def test_the_same_decision_again_is_the_same_entry_and_later_ones_are_not_earlier(tmp_path: Path) -> None:
    home = Home(tmp_path)
    dataset = plant(home)
    first = [note(home, dataset, "a"), note(home, dataset, "b")] and uses(home, dataset.fingerprint)
    assert [note(home, dataset, "a"), note(home, dataset, "b"), note(home, dataset, "a")] == [0, 1, 0]
    assert uses(home, dataset.fingerprint) == first


def test_an_entry_says_when_what_and_by_which_rule(tmp_path: Path) -> None:
    home = Home(tmp_path)
    dataset = plant(home)
    note_use(home, dataset, "study", "tiny-study", "test", Fold(1, 5))
    (use,) = uses(home, dataset.fingerprint)
    assert (use.kind, use.name, use.split, use.dataset) == ("study", "tiny-study", "test", "tiny")
    assert use.rule == "subject, fold 1 of 5 (counted from 0)"
    assert use.time[:2] == "20"
    assert len((home.datasets / FILE).read_text().splitlines()) == 1


def test_the_validation_split_is_not_noted(tmp_path: Path) -> None:
    home = Home(tmp_path)
    dataset = plant(home)
    assert note_use(home, dataset, "evaluate", "a", "validation", "subject") is None
    assert not (home.datasets / FILE).exists()


def test_another_dataset_has_entries_of_its_own(tmp_path: Path) -> None:
    home = Home(tmp_path)
    one, other = plant(home, "one"), plant(home, "other")
    note(home, one, "a")
    assert note(home, other, "b") == 0
    assert [use.name for use in uses(home, one.fingerprint)] == ["a"]


@pytest.mark.parametrize("torn", ['{"fingerprint": "of ti', "", "\n", "\udc80"])
def test_a_torn_line_is_left_out_and_spoils_no_other(tmp_path: Path, torn: str) -> None:
    home = Home(tmp_path)
    dataset = plant(home)
    note(home, dataset, "a")
    with (home.datasets / FILE).open("ab") as file:
        file.write(torn.encode("utf-8", "surrogateescape"))
    assert note(home, dataset, "b") == 1
    assert [use.name for use in uses(home, dataset.fingerprint)] == ["a", "b"]


def test_a_home_of_an_older_version_has_none_on_record(tmp_path: Path) -> None:
    assert uses(Home(tmp_path), "of tiny") == []
    assert earlier_words("tiny", 0) == "the test split of tiny was used in 0 earlier decisions (none on record)"
    assert earlier_words("tiny", 1) == "the test split of tiny was used in 1 earlier decision"
    assert earlier_words("tiny", 7) == "the test split of tiny was used in 7 earlier decisions"


def test_the_ledger_lies_in_the_home_also_where_the_store_is_a_bucket(tmp_path: Path) -> None:
    dataset, there = plant(Home(tmp_path)), Home(tmp_path, "s3://bucket/prefix")
    note(there, dataset, "a")
    assert [use.name for use in uses(Home(tmp_path), dataset.fingerprint)] == ["a"]


def test_a_ledger_that_can_not_be_written_is_one_line_that_says_so(tmp_path: Path) -> None:
    home = Home(tmp_path)
    dataset = plant(home)
    (home.datasets / FILE).mkdir()
    with pytest.raises(StoreError, match="since it notes who reads the test split"):
        note(home, dataset, "a")


def note_many(root: Path, first: int) -> None:
    home = Home(root)
    dataset = PreparedDataset("tiny", home.datasets / "tiny", {"fingerprint": "of tiny"})
    for number in range(first, first + 20):
        note(home, dataset, f"decision {number % 30}")


def test_writers_at_once_lose_no_entry_and_make_none_twice(tmp_path: Path) -> None:
    plant(Home(tmp_path))
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=note_many, args=(tmp_path, first)) for first in (0, 10, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = (tmp_path / "datasets" / FILE).read_text().splitlines()
    assert len(lines) == len(uses(Home(tmp_path), "of tiny")) == 30
