"""Arms: names, order, and the same trainings read under other rules."""

import json

import pandas as pd
import pytest
from support.synthetic_sweep import write_run

from analysis.arms import COMPARED, Arm, arms_of, restated, select, with_equivalents
from analysis.load import config_of, load_sweep
from paper_repro.config import SDE_RULE, RunConfig
from paper_repro.hyperparameters import training_numbers

LR = "hyperparameters.lr"
DECAY = "hyperparameters.weight_decay"


def runs(tmp_path, *configs) -> pd.DataFrame:
    """The frame of these runs, each with a loss that tells which it is."""
    for index, config in enumerate(configs):
        write_run(tmp_path, "s", RunConfig.model_validate(config), val_loss=1 + index / 100)
    return load_sweep(tmp_path, "s").sort_values("val_loss", ignore_index=True)


def config(batch_size=16, depth=2, lr=2**-6, **scaling):
    return {
        "model": {"depth": depth},
        "train": {"batch_size": batch_size},
        "scaling": scaling,
        "hyperparameters": {"lr": lr},
    }


def test_a_row_gives_its_config_back(tmp_path):
    full = config(batch_size=4, sde_rule=["lr"], alpha=0.5)
    full["hyperparameters"] |= {
        "module_multipliers": {"query": {"lr": 2.0}},
        "depth_multipliers": {"eps": [1.0, 2.0]},
    }
    full["train"]["clip"] = 1.0
    for content in (full, config()):
        wanted = RunConfig.model_validate(content)
        (row,) = runs(tmp_path / wanted.run_id, content).to_dict("records")
        assert config_of(row) == wanted
        assert config_of(row).run_id == row["run_id"]


def test_names_and_labels():
    assert Arm("complete_d").name == "complete_d"
    assert Arm("complete_d", 0.5, ("lr",)).name == "complete_d_alpha_0.5:lr"
    assert Arm("complete_d", sde_rule=()).name == "complete_d:none"
    assert Arm("mup", schedule="wsd", qk_norm=False, eps=1e-3).name == (
        "mup, wsd, no QK norm, eps 0.001"
    )
    assert Arm("complete_d", 0.5).label == "Complete(d)P, α = ½"
    label = Arm("complete_d", sde_rule=("lr", "one_minus_beta1", "one_minus_beta2")).label
    assert label == "SDE rule on η, β"


def test_order_is_by_parameterisation_and_the_whole_rule_comes_last(tmp_path):
    parts = [["lr", "eps"], list(SDE_RULE), [], ["lr"]]
    frame = runs(
        tmp_path, *(config(sde_rule=part) for part in parts), config(parameterization="sp")
    )
    names = ["sp", "complete_d:none", "complete_d:lr", "complete_d:lr+eps", "complete_d"]
    assert list(arms_of(frame)) == names


def test_no_rule_is_the_rule_on_the_rate_alone_at_another_stated_rate(tmp_path):
    """m_B = 4: the run at η without the rule is the one at η/2 with η × √m_B."""
    frame = runs(tmp_path, config(64, lr=2**-5, sde_rule=[]))
    (row,) = restated(frame, Arm("complete_d", sde_rule=("lr",)), LR).to_dict("records")
    assert row[LR] == pytest.approx(2**-6)
    assert json.loads(row["scaling.sde_rule"]) == ["lr"]
    assert row["val_loss"] == frame.loc[0, "val_loss"]
    was, becomes = config_of(frame.to_dict("records")[0]), config_of(row)
    assert training_numbers(was) == pytest.approx(training_numbers(becomes))


def test_weight_decay_is_restated_where_it_is_what_is_swept(tmp_path):
    frame = runs(tmp_path, config(64, sde_rule=["lr"]))
    both = Arm("complete_d", sde_rule=("lr", "weight_decay"))
    assert restated(frame, both, LR) is None
    (row,) = restated(frame, both, DECAY).to_dict("records")
    assert (row[DECAY], row[LR]) == (pytest.approx(0.05), 2**-6)


@pytest.mark.parametrize(
    "other",
    [Arm("complete_d"), Arm("complete_d", sde_rule=("lr", "eps")), Arm("sp", schedule="wsd")],
    ids=lambda arm: arm.name,
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
    (row,) = restated(frame, all_but_decay, DECAY).to_dict("records")
    assert row[DECAY] == pytest.approx(0.2)


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
    assert set(arms_of(added)) == {arm.name for arm in COMPARED}
    assert {len(select(added, arm)) for arm in COMPARED} == {2}  # those trained are not doubled
    losses = {arm.name: set(select(added, arm)["val_loss"]) for arm in COMPARED}
    assert losses["sp"] == losses["mup"] != losses["complete_d"]
    assert losses["completep_alpha_0.5"] == losses["complete_d_alpha_0.5"] != losses["completep"]
    assert losses["completep"] == losses["complete_d"]
