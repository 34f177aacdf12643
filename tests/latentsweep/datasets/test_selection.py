"""Which files of a source are wanted: patterns, annotations by name and by content, and one contrast."""

from pathlib import Path, PurePosixPath

import pytest

from latentsweep.datasets.check import check
from latentsweep.datasets.preparation import prepare
from latentsweep.datasets.selection import Selection
from latentsweep.datasets.sources import SourceFile
from trainables.errors import DataError


def names(selection, *paths):
    return [str(file.relative) for file in selection.wanted([SourceFile(Path(p), PurePosixPath(p)) for p in paths])]


def own(home, source, **options):
    return prepare("mine", home=home, source=source, size=32, jobs=1, **options)


@pytest.fixture
def contrasts(tmp_path, head, write_nifti):
    """Three patients with a scan of two contrasts."""
    for number in range(3):
        for place, contrast in enumerate(("flair", "t1")):
            path = tmp_path / "source" / f"SECRET{number}" / f"p{number}_{contrast}.nii.gz"
            write_nifti(path, head(10 * place + number))
    return tmp_path / "source"


@pytest.mark.parametrize("pattern", ["*flair*", "*_FLAIR.nii", "a_flair.nii", "b/*", "b/a_fl??r.nii", "[b]/*"])
def test_a_pattern_fits_a_path_or_a_name_whatever_its_capitals(pattern):
    assert names(Selection((pattern,)), "b/a_flair.nii", "c/a_t1.nii") == ["b/a_flair.nii"]


def test_what_one_pattern_excludes_no_other_includes():
    chosen = Selection(("*flair*", "*t1*"), ("old/*", "*copy*"))
    assert names(chosen, "a_flair", "a_t1", "a_t2", "old/a_t1", "a_t1_copy") == ["a_flair", "a_t1"]


def test_patterns_that_leave_no_file_are_an_error_that_does_not_repeat_them(contrasts, tmp_path):
    with pytest.raises(DataError, match="leave none of 6: correct the patterns") as error:
        own(tmp_path, contrasts, selection=Selection(("*SECRET9*",)))
    assert "SECRET" not in str(error.value)


def test_the_demo_takes_no_patterns(tmp_path):
    with pytest.raises(DataError, match=r"leave out .* --include"):
        prepare("demo", home=tmp_path, selection=Selection(("*",)))


def test_prepare_and_check_read_what_patterns_choose(contrasts, tmp_path):
    selection = Selection(("*_flair*",))
    assert own(tmp_path, contrasts, selection=selection).manifest["counts"]["volumes"] == 3
    assert len(check("mine", home=tmp_path, source=contrasts, selection=selection, size=32, jobs=1).volumes) == 3


def test_other_patterns_are_another_preparation_and_stay_secret(contrasts, tmp_path):
    first = own(tmp_path, contrasts, selection=Selection(("*_flair*",), ("*SECRET0*",)))
    assert own(tmp_path, contrasts, selection=Selection(("*_flair*",), ("*SECRET0*",))).manifest == first.manifest
    assert "SECRET" not in str(first.manifest)
    with pytest.raises(DataError, match="with other settings"):
        own(tmp_path, contrasts, selection=Selection(("*_t1*",)))


def test_a_mask_is_paired_though_it_is_not_included(contrasts, tmp_path, head, write_nifti):
    for number in range(3):
        labels = (head(0) > 800).astype("uint8")
        write_nifti(contrasts / f"SECRET{number}" / f"p{number}_seg.nii.gz", labels)
    assert own(tmp_path / "one", contrasts, selection=Selection(("*_flair*",))).has_masks
    assert not own(tmp_path / "two", contrasts, selection=Selection(("*_flair*",), ("*_seg*",))).has_masks
