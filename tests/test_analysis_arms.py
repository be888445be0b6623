"""Arms: names, order, and the same trainings read under other rules."""

import pandas as pd
import pytest
from support.synthetic_sweep import write_run

from analysis.arms import (
    COMPARED,
    LR,
    WEIGHT_DECAY,
    Arm,
    arms_of,
    restated,
    rule_quantities,
    rule_text,
    select,
    with_equivalents,
)
from analysis.load import load_sweep
from paper_repro.config import RunConfig
from paper_repro.hyperparameters import resolve
from paper_repro.parameterization import BRANCHES, SDE_RULE


def runs(tmp_path, *configs) -> pd.DataFrame:
    """The frame of these runs, each with a loss that tells which it is."""
    for index, config in enumerate(configs):
        write_run(tmp_path, "s", RunConfig.model_validate(config), val_loss=1 + index / 100)
    return load_sweep(tmp_path, "s").runs.sort_values("val_loss", ignore_index=True)


def config(batch_size=16, depth=2, lr=2**-6, **scaling):
    return {
        "model": {"depth": depth},
        "train": {"batch_size": batch_size},
        "scaling": scaling,
        "hyperparameters": {"lr": lr},
    }


def test_columns_of_an_arm():
    assert Arm("mup", 0.5, ("lr", "eps"), "wsd", False, 1e-3).columns() == {
        "parameterization": "mup",
        "alpha": 0.5,
        "sde_rule": "lr eps",
        "schedule": "wsd",
        "qk_norm": False,
        "eps": 1e-3,
        "scaled_init": False,
    }
    for rule, text in ((SDE_RULE, "all"), ((), "none"), (("lr",), "lr")):
        assert (rule_text(rule), rule_quantities(text)) == (text, rule)


def test_labels():
    assert Arm("complete_d", sde_rule=()).label == "no SDE rule"
    assert Arm("mup", schedule="wsd", qk_norm=False, eps=1e-3).label == (
        "μP, wsd, no QK norm, ε = 0.001"
    )
    assert Arm("complete_d", 0.5).label == "Complete(d)P, α = ½"
    betas = [Arm("complete_d", sde_rule=(f"one_minus_beta{n}",)).label for n in (1, 2)]
    assert betas == ["SDE rule on β₁", "SDE rule on β₂"]
    label = Arm("complete_d", sde_rule=("lr", "one_minus_beta1", "one_minus_beta2")).label
    assert label == "SDE rule on η, β"


def test_a_small_eps_is_no_condition_and_a_large_one_is(tmp_path):
    content = [config() | {"hyperparameters": {"eps": eps}} for eps in (1e-8, 1.7e-7, 1e-2)]
    assert {arm.eps for arm in arms_of(runs(tmp_path, *content))} == {1e-8, 1e-2}


def branch_ends(init_std: float) -> dict[str, dict[str, float]]:
    return {branch: {"init_std": init_std} for branch in BRANCHES}


@pytest.mark.parametrize(("init_std", "expected"), [(0.5, True), (0.7, False)])
def test_the_scaled_init_is_seen_by_its_multipliers(tmp_path, init_std, expected):
    """1/√m_L at four times the base's depth."""
    content = config(depth=8, parameterization="mup")
    content["hyperparameters"]["module_multipliers"] = branch_ends(init_std)
    (arm,) = arms_of(runs(tmp_path, content))
    assert arm.scaled_init == expected
    assert Arm("mup", scaled_init=True).label == "μP, 1/√(2L) init"


def test_an_arm_without_a_run_at_the_base_has_those_of_another(tmp_path):
    """And only these: at four times the depth no arm here is another."""
    scaled = config(depth=8, parameterization="mup")
    scaled["hyperparameters"]["module_multipliers"] = branch_ends(0.5)
    frame = runs(
        tmp_path,
        *(config(lr=lr) for lr in (2**-6, 2**-5)),
        config(depth=8),
        config(depth=8, parameterization="mup"),
        scaled,
    )
    known = with_equivalents(frame, LR, ())
    base = frame["run_id"][:2].tolist()
    for arm in (Arm("mup"), Arm("mup", scaled_init=True), Arm("complete_d")):
        found = select(known, arm)
        assert found["model.depth"].value_counts().to_dict() == {2: 2, 8: 1}
        assert found.loc[found["model.depth"] == 2, "run_id"].tolist() == base
    assert len(known) == 3 * 3
    assert len(with_equivalents(frame, LR, (Arm("sp"),))) == 4 * 3


def test_order_is_by_parameterisation_and_the_whole_rule_comes_last(tmp_path):
    parts = [["lr", "eps"], list(SDE_RULE), [], ["lr"]]
    frame = runs(
        tmp_path, *(config(sde_rule=part) for part in parts), config(parameterization="sp")
    )
    labels = ["SP", "no SDE rule", "SDE rule on η", "SDE rule on η, ε", "Complete(d)P"]
    assert [arm.label for arm in arms_of(frame)] == labels


def test_no_rule_is_the_rule_on_the_rate_alone_at_another_stated_rate(tmp_path):
    """m_B = 4: the run at η without the rule is the one at η/2 with η × √m_B."""
    frame = runs(tmp_path, config(64, lr=2**-5, sde_rule=[]))
    (row,) = restated(frame, Arm("complete_d", sde_rule=("lr",)), LR).to_dict("records")
    assert row[LR] == pytest.approx(2**-6)
    assert row["sde_rule"] == "lr"
    for same in ("val_loss", "run_id", "config"):
        assert row[same] == frame.loc[0, same]
    was, becomes = (
        RunConfig.model_validate(config(64, lr=lr, sde_rule=rule))
        for lr, rule in ((2**-5, []), (2**-6, ["lr"]))
    )
    assert resolve(was).numbers() == pytest.approx(resolve(becomes).numbers())


def test_runs_of_several_scales_rates_and_seeds_are_restated_each_as_its_scale_has_it(tmp_path):
    """And back again to what they were."""
    frame = runs(
        tmp_path,
        *(
            config(batch, lr=lr, sde_rule=[]) | {"seed": seed}
            for batch in (16, 64)
            for lr in (2**-6, 2**-5)
            for seed in (0, 1)
        ),
    )
    there = restated(frame, Arm("complete_d", sde_rule=("lr",)), LR)
    factors = (there[LR] / frame[LR]).groupby(frame["train.batch_size"]).unique()
    assert {size: list(factor) for size, factor in factors.items()} == {16: [1.0], 64: [0.5]}
    back = restated(there, Arm("complete_d", sde_rule=()), LR)
    pd.testing.assert_frame_equal(back, frame)


def test_weight_decay_is_restated_where_it_is_what_is_swept(tmp_path):
    frame = runs(tmp_path, config(64, sde_rule=["lr"]))
    both = Arm("complete_d", sde_rule=("lr", "weight_decay"))
    assert restated(frame, both, LR) is None
    (row,) = restated(frame, both, WEIGHT_DECAY).to_dict("records")
    assert (row[WEIGHT_DECAY], row[LR]) == (pytest.approx(0.05), 2**-6)


@pytest.mark.parametrize(
    "other",
    [Arm("complete_d"), Arm("complete_d", sde_rule=("lr", "eps")), Arm("sp", schedule="wsd")],
    ids=lambda arm: arm.label,
)
def test_other_trainings_are_refused(tmp_path, other):
    frame = runs(tmp_path, config(64, sde_rule=[]))
    assert restated(frame, other, LR) is None


@pytest.mark.parametrize("other", ["complete_d", "completep", "mup", "sp"])
@pytest.mark.parametrize("trained", ["complete_d", "completep", "mup", "sp"])
def test_along_width_every_parameterisation_is_a_training_of_its_own(tmp_path, trained, other):
    """If only by the ε of QK norms, embedding or unembedding."""
    content = config(parameterization=trained) | {"model": {"width": 128}}
    same = restated(runs(tmp_path, content), Arm(other), LR) is not None
    assert same == (trained == other)


def test_decay_in_the_other_form_is_the_whole_rule_restated(tmp_path):
    """PyTorch's λ × √m_B with η × √m_B is η·λ × m_B: leaving λ alone states it twice as large."""
    frame = runs(tmp_path, config(64))
    all_but_decay = Arm("complete_d", sde_rule=tuple(q for q in SDE_RULE if q != "weight_decay"))
    (row,) = restated(frame, all_but_decay, WEIGHT_DECAY).to_dict("records")
    assert row[WEIGHT_DECAY] == pytest.approx(0.2)


def test_an_arm_whose_betas_are_out_of_bounds_is_no_training(tmp_path):
    """m_B = 16 without a rule trains; the whole linear rule has no β there."""
    assert restated(runs(tmp_path, config(256, sde_rule=[])), Arm("complete_d"), LR) is None


def test_one_run_that_differs_is_enough_to_refuse(tmp_path):
    """At the base all rules agree; at twice the depth they do not."""
    at_base = config(parameterization="sp")
    assert restated(runs(tmp_path / "1", at_base), Arm("complete_d"), LR) is not None
    both = runs(tmp_path / "2", at_base, config(depth=4, parameterization="sp"))
    assert restated(both, Arm("complete_d"), LR) is None


def test_arms_that_are_the_same_trainings_are_added_under_their_names(tmp_path):
    """Along depth: SP is μP, and CompleteP is Complete(d)P at either α."""
    frame = runs(
        tmp_path,
        *(config(depth=depth, parameterization="mup") for depth in (2, 4)),
        *(config(depth=depth, alpha=alpha) for depth in (2, 4) for alpha in (0.5, 1.0)),
    )
    added = with_equivalents(frame, LR)
    assert set(arms_of(added)) == set(COMPARED)
    assert {len(select(added, arm)) for arm in COMPARED} == {2}  # those trained are not doubled
    losses = {arm: set(select(added, arm)["val_loss"]) for arm in COMPARED}
    sp, mup, completep, completep_half, complete_d, complete_d_half = losses.values()
    assert sp == mup != complete_d
    assert completep_half == complete_d_half != completep
    assert completep == complete_d
