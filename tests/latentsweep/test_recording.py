"""The twin in memory keeps the promises that every recorder makes."""

from pathlib import Path

import pytest

from latentsweep.records.recorder import NOT_FINITE, MemoryRecorder, Recorder, StepRecord, check_key, finite

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def recorder() -> MemoryRecorder:
    recorder = MemoryRecorder()
    recorder.open_run("sweep", name="a sweep", kind="sweep")
    recorder.open_run("trial/1", name="trial 1", kind="trial", parent="sweep", params={"rate": 0.1})
    return recorder


def test_the_twin_is_a_recorder(recorder: MemoryRecorder) -> None:
    seam: Recorder = recorder
    seam.flush()
    assert seam.complete
    assert seam.run_id("trial/1") is not None
    assert seam.run_id("trial/2") is None


def test_the_same_records_sent_twice_leave_one_point_each(recorder: MemoryRecorder) -> None:
    records = [StepRecord(step, 1000 + step, {"loss": 1 / (1 + step)}) for step in range(3)]
    recorder.log("trial/1", records)
    recorder.log("trial/1", records)
    assert recorder.runs["trial/1"].curve("loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]


def test_nan_and_infinity_are_left_out_and_named_in_a_tag(recorder: MemoryRecorder) -> None:
    recorder.log("trial/1", [StepRecord(0, 0, {"loss": NAN, "norm": 1.0})])
    recorder.log("trial/1", [StepRecord(1, 1, {"kid": INF})])
    run = recorder.runs["trial/1"]
    assert run.curve("norm") == [(0, 1.0)]
    assert run.curve("loss") == run.curve("kid") == []
    assert run.tags[NOT_FINITE] == "kid, loss"


def test_a_record_of_nothing_finite_is_no_record() -> None:
    assert finite([StepRecord(0, 0, {"loss": NAN})]) == ([], {"loss"})


def test_a_run_opened_again_is_the_same_run_and_keeps_its_first_parameters(recorder: MemoryRecorder) -> None:
    recorder.log("trial/1", [StepRecord(0, 0, {"loss": 1.0})])
    recorder.open_run("trial/1", name="trial 1", kind="trial", parent="sweep", params={"rate": 0.2, "new": True})
    run = recorder.runs["trial/1"]
    assert run.curve("loss") == [(0, 1.0)]
    assert run.params == {"rate": "0.1", "new": "True"}
    assert run.tags["latentsweep.param.rate"] == "0.2"


def test_closed_names_the_runs_that_ended_until_they_are_opened_again(recorder: MemoryRecorder) -> None:
    recorder.close_run("trial/1", "pruned", tags={"why": "median"})
    assert recorder.closed() == {"trial/1"}
    assert recorder.runs["trial/1"].tags["why"] == "median"
    recorder.open_run("trial/1", name="trial 1", kind="trial", parent="sweep")
    assert recorder.closed() == set()


def test_what_is_said_at_the_end_is_what_would_have_been_said_before(recorder: MemoryRecorder) -> None:
    records = [StepRecord(1, 2, {"kid": 0.5, "fid": NAN})]
    recorder.close_run("trial/1", "finished", records=records, text="The best.", tags={"why": "median"})
    run = recorder.runs["trial/1"]
    assert (run.curve("kid"), run.tags[NOT_FINITE], run.tags["why"]) == ([(1, 0.5)], "fid", "median")
    assert (run.status, run.text) == ("finished", "The best.")
    recorder.close_run("trial/1", "finished")
    assert run.text == "The best."


def test_stale_children_are_closed_as_stopped_and_others_left_alone(recorder: MemoryRecorder) -> None:
    recorder.open_run("trial/2", name="trial 2", kind="trial", parent="sweep")
    recorder.close_run("trial/2", "failed")
    recorder.open_run("alone", name="retrain", kind="training")
    recorder.close_stale("sweep")
    assert {key: run.status for key, run in recorder.runs.items()} == {
        "sweep": "running",
        "trial/1": "stopped",
        "trial/2": "failed",
        "alone": "running",
    }
    assert recorder.closed() == {"trial/2"}, "what was left half written is written again"


def test_a_file_that_is_not_there_is_left_out(recorder: MemoryRecorder, tmp_path: Path) -> None:
    picture = tmp_path / "grid.png"
    recorder.log_file("trial/1", picture, "images")
    assert recorder.runs["trial/1"].files == {}
    picture.write_bytes(b"png")
    recorder.log_file("trial/1", picture, "images")
    assert recorder.runs["trial/1"].files == {"images/grid.png": picture}


def test_a_mistake_of_the_caller_is_an_error_at_once(recorder: MemoryRecorder) -> None:
    with pytest.raises(KeyError):
        recorder.log("trial/9", [])
    with pytest.raises(KeyError, match="not open"):
        recorder.open_run("trial/3", name="3", kind="trial", parent="nobody")
    with pytest.raises(ValueError, match="finished, failed, pruned"):
        recorder.close_run("trial/1", "done")  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["", "it's", "a b", "a`b", "/x", "a\nb"])
def test_a_key_that_could_not_be_searched_for_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        check_key(key)
