"""How committed numbers are compared: rounding passes, and a real change does not."""

import pandas as pd
import pytest
from support.numbers import assert_same_numbers, differing_numbers


def test_rounding_passes_and_a_change_does_not():
    table = pd.DataFrame({"loss": [1.5, float("nan")], "verdict": ["holds", "fails"]})
    assert_same_numbers(table, table.assign(loss=table["loss"] + 2e-5))
    for changed in (
        table.assign(loss=table["loss"] + 1e-3),
        table.assign(loss=table["loss"].fillna(1.5)),
        table.assign(verdict="holds"),
        table[:1],
    ):
        with pytest.raises(AssertionError):
            assert_same_numbers(table, changed)


def test_printed_numbers_may_tip_over_and_texts_may_not_change():
    assert differing_numbers("E  0.076 [−0.001, 0.14]", "E 0.077 [0.000, 0.14]") == []
    assert differing_numbers("E 0.076", "E 0.078") == [("0.076", "0.078")]
    assert differing_numbers("3 seeds", "4 seeds") == [("3", "4")]
    with pytest.raises(AssertionError):
        differing_numbers("SP holds", "SP fails")
