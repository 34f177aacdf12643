"""Findings as text, tags and the table of the documents."""

from __future__ import annotations

from latentsweep.lints import LINTS, as_tags, as_text, catalogue, configuration_lints
from latentsweep.lints.finding import finding
from trainables.recipes import PAPER


def test_tags_hold_each_code_once_and_its_evidence() -> None:
    assert as_tags([]) == {}
    tags = as_tags([finding("overfit", "first"), finding("few-samples", "64"), finding("overfit", "second")])
    assert tags == {
        "latentsweep.lints": "overfit, few-samples",
        "latentsweep.lint.overfit": "first; second",
        "latentsweep.lint.few-samples": "64",
    }


def test_text_says_what_was_measured_and_what_to_do_warnings_first() -> None:
    assert as_text([]) == ""
    text = as_text([finding("few-samples", "64 images", "note"), *configuration_lints(PAPER)])
    lines = text.splitlines()
    assert lines[0].startswith("warning [frequency-inert] ")
    assert lines[-3:] == [
        f"note [few-samples] {LINTS['few-samples'].line}",
        "  measured: 64 images",
        f"  do: {LINTS['few-samples'].advice}",
    ]


def test_the_table_has_a_row_for_every_lint_and_its_advice_names_real_settings() -> None:
    table = catalogue().splitlines()
    assert table[0].count("|") == 4
    assert [row.split("`")[1] for row in table[2:]] == list(LINTS)
    assert all(row.count("|") == 4 for row in table)


def test_advice_names_settings_that_exist() -> None:
    import re

    known = {f"{section}.{field}" for section, fields in PAPER.to_dict().items() for field in fields}
    named = {name for lint in LINTS.values() for name in re.findall(r"\b[a-z]+\.[a-z_]+\b", lint.advice)}
    assert len(named) > 8
    assert named <= known
