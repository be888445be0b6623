"""Laws of the optimum: the formulas as published, and what they cost on runs with a known truth."""

import math

import pytest

from paper_repro.optimum_laws import BATCH_LAWS, RATE_LAWS, Shape

BASE = Shape(size=1e8, width=512, depth=8, tokens=1e9, batch=2**17)
TARGET = Shape(size=4e8, width=1024, depth=8, tokens=16e9, batch=2**19)
RATE = {law.name: law for law in RATE_LAWS}
BATCH = {law.name: law for law in BATCH_LAWS}


def test_absolute_laws_are_the_formulas_of_their_papers():
    n, d = TARGET.size, TARGET.tokens
    assert RATE["Step Law"].at(TARGET) == pytest.approx(1.79 * n**-0.713 * d**0.307)
    assert RATE["DeepSeek"].at(TARGET) == pytest.approx(0.3118 * (6 * n * d) ** -0.125)
    assert RATE["Porian et al."].at(TARGET) == pytest.approx(3.7 * n**-0.36)
    assert BATCH["Step Law"].at(TARGET) == pytest.approx(0.58 * d**0.571)
    assert BATCH["DeepSeek"].at(TARGET) == pytest.approx(0.2920 * (6 * n * d) ** 0.3271)


@pytest.mark.parametrize(
    ("name", "octaves"),
    [
        ("none", 0),
        ("√(B/D)", (2 - 4) / 2),
        ("Complete(d)P's η alone, α = 1", -1 + (2 - 4) / 2),
        ("Complete(d)P's η alone, α = ½", -1 + (2 - 4) / 2),  # as deep as the base
        ("Bjorck et al.", -0.23 * 2 - 0.32 * 4),
        ("D^−0.3", -0.3 * 4),
        ("Everett et al., full alignment", -1),
        ("Everett et al., no alignment", -0.5),
        ("Step Law", -0.713 * 2 + 0.307 * 4),
        ("DeepSeek", -0.125 * 6),
    ],
)
def test_a_law_carries_an_optimum_by_its_exponents(name, octaves):
    carried = RATE[name].carried(0.01, BASE, TARGET)
    assert math.log2(carried / 0.01) == pytest.approx(octaves)


def test_depth_moves_the_rate_under_one_alpha_alone():
    deeper = BASE._replace(depth=32)
    moved = {
        name: RATE[f"Complete(d)P's η alone, α = {name}"].carried(1, BASE, deeper) for name in "1½"
    }
    assert moved == {"1": 1, "½": pytest.approx(0.5)}


def test_a_law_of_exponents_alone_has_no_value():
    with pytest.raises(ValueError, match="Bjorck et al.: has exponents alone"):
        RATE["Bjorck et al."].at(TARGET)


def test_names_are_unique_and_sources_stated():
    for laws in (RATE, BATCH):
        assert all(law.source or law.name in ("none", "√D") for law in laws.values())
    assert len(RATE) == len(RATE_LAWS)
    assert len(BATCH) == len(BATCH_LAWS)
