"""Intervals in sentences follow the tables, where it is clear which number they are."""

from __future__ import annotations

import runpy
from pathlib import Path

import pandas as pd

from analysis.load import COMMITTED_RESULTS

SCRIPT = runpy.run_path(str(Path(__file__).parent.parent / "docs/renumber.py"))
replacements, renumbered = SCRIPT["replacements"], SCRIPT["renumbered"]


def table(*drifts: float, labels: tuple[str, ...] = ("SP", "μP")) -> dict[str, pd.DataFrame]:
    rows = [
        {"label": label, "drift": drift, "drift_low": drift - 0.1, "drift_high": drift + 0.1}
        for label, drift in zip(labels, drifts, strict=True)
    ]
    return {"t.csv": pd.DataFrame(rows)}


def test_a_sentence_has_the_number_that_its_row_has_now():
    found = replacements(table(-0.5, 0.2), table(0.31, -0.6, labels=("μP", "SP")))
    text = "SP moves by −0.50 [−0.60, −0.40], μP by 0.2 [0.1, 0.3]; 7.0 [6.0, 8.0] is nobody's."
    after, ambiguous = renumbered(text, found)
    assert after == (
        "SP moves by −0.60 [−0.70, −0.50], μP by 0.3 [0.2, 0.4]; 7.0 [6.0, 8.0] is nobody's."
    )
    assert ambiguous == []


def test_an_exponent_is_also_printed_with_the_other_sign():
    text, _ = renumbered("η* ∝ D^−0.20 [−0.30, −0.10]", replacements(table(0.2, 9), table(0.4, 9)))
    assert text == "η* ∝ D^−0.40 [−0.50, −0.30]"


def test_what_was_printed_alike_and_differs_now_is_named_and_left():
    text = "Both move by 0.20 [0.10, 0.30]."
    same = replacements(table(0.2, 0.2), table(0.4, 0.4))
    assert renumbered(text, same) == ("Both move by 0.40 [0.30, 0.50].", [])
    apart = replacements(table(0.2, 0.2), table(0.4, 0.2))
    after, (line,) = renumbered(text, apart)
    assert after == text
    assert line == "1: 0.20 [0.10, 0.30] is 0.20 [0.10, 0.30] or 0.40 [0.30, 0.50]"


def test_what_another_command_renders_is_left_to_it():
    found = replacements(table(0.2, 0.9), table(0.4, 0.8))
    block = "<!-- a-b: python docs/results.py -->\n0.20 [0.10, 0.30]\n<!-- /a-b -->"
    text = f"0.20 [0.10, 0.30]\n{block}\n0.90 [0.80, 1.00]"
    after, _ = renumbered(text, found)
    assert after == f"0.40 [0.30, 0.50]\n{block}\n0.80 [0.70, 0.90]"


def test_every_row_of_a_committed_table_has_a_name_of_its_own():
    for path in COMMITTED_RESULTS.glob("*.csv"):
        rows = pd.read_csv(path).astype(str)
        names = [name for name in SCRIPT["NAMES"] if name in rows]
        assert not rows.duplicated(names).any(), path
