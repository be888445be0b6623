"""Comparing computed numbers with committed ones, whatever processor computed them.

Bytes, and digits of a printed number, change with the processor, BLAS and releases of numpy and
scipy. Measured: without AVX-512, without AVX2, and with OpenBLAS's oldest kernels (Prescott) in
place of its AVX-512 ones, no number of the committed tables moves by more than 2e-7 nats or octaves
(those of the laws: a bootstrap of fits amplifies rounding; all others by less than 1e-9), nor by
4e-7 of an amplitude; fits that end at 1e-8 in place of 1e-10, as another release of scipy might,
move them by 2e-6. Files keep six significant digits. A run whose loss moves by 0.01 nats moves
some number by 0.001 or more.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

#: Nats, octaves and the like: 50 times what was measured of another solver, 500 of a processor.
ABSOLUTE = 1e-4
#: Share of a number: ten times the rounding in files.
RELATIVE = 5e-5

_NUMBER = re.compile(r"[-−+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def assert_same_numbers(written: pd.DataFrame, made: pd.DataFrame) -> None:
    """Hold a table as it was committed to one that was made again; what is no number is equal.

    Empty text is NaN in files.
    """
    made = made.reset_index(drop=True).replace("", np.nan)
    pd.testing.assert_frame_equal(written, made, check_dtype=False, rtol=RELATIVE, atol=ABSOLUTE)


def differing_numbers(one: str, other: str) -> list[tuple[str, str]]:
    """The numbers in which two texts differ by more than one of the last digit printed.

    Rounding may so tip over; the width of columns, which follows from the numbers, may too.

    Raises:
        AssertionError: the texts differ beside their numbers.
    """
    assert _skeleton(one) == _skeleton(other)
    pairs = zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True)
    return [pair for pair in pairs if not _close(*pair)]


def same_text(one: str, other: str) -> bool:
    """Whether two texts differ at most in the last digits of their numbers."""
    return _skeleton(one) == _skeleton(other) and not differing_numbers(one, other)


def _skeleton(text: str) -> str:
    return re.sub(r"\s+", "", _NUMBER.sub("#", text))


def _close(one: str, other: str) -> bool:
    digits = [len(text.partition(".")[2]) for text in (one, other)]
    unit = 10.0 ** -min(digits) if min(digits) else 0.0  # whole numbers are counts
    values = [float(text.replace("−", "-")) for text in (one, other)]
    return abs(values[0] - values[1]) <= 1.01 * unit
