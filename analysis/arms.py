"""What is compared, and along what: arms, the axes of scale, and the study that each sweep is.

An arm is the rules by which the hyperparameters of a run follow its scale. Two arms may be the same
trainings, read differently. Along depth, SP and μP have no rule, so they are one. Along batch size,
"no rule" and "√κ on the learning rate alone" share every run: one run is at the stated rate η under
the first and at η/√κ under the second. `restated` turns runs of one arm into those of another, and
refuses unless every number that training takes is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import pandas as pd

from paper_repro.config import RunConfig, TrainConfig
from paper_repro.errors import ConfigError
from paper_repro.hyperparameters import resolve, resolve_parameter
from paper_repro.parameterization import BRANCHES, SDE_RULE, Label, Parameterization, SdeQuantity

LR = "hyperparameters.lr"
WEIGHT_DECAY = "hyperparameters.weight_decay"

#: How the names of config columns begin (the seed aside).
CONFIG_SECTIONS = ("model.", "data.", "train.", "scaling.", "hyperparameters.")

#: Names in print, in the order of print.
PARAMETERIZATION_NAMES: dict[Parameterization, str] = {
    "sp": "SP",
    "sp_fan_in": "SP (1/fan-in init)",
    "sp_embedding": "SP (embedding η × width)",
    "sp_full_alignment": "SP (full alignment)",
    "mup": "μP",
    "completep": "CompleteP",
    "complete_d": "Complete(d)P",
}
#: ε below this is small against the gradients of all tensor classes (docs/eps_rows.md).
LARGE_EPS = 1e-5

_BETAS: tuple[SdeQuantity, ...] = ("one_minus_beta1", "one_minus_beta2")
_SYMBOLS: dict[SdeQuantity, str] = {
    **{"lr": "η", "weight_decay": "λ", "eps": "ε"},
    **{"one_minus_beta1": "β₁", "one_minus_beta2": "β₂"},
}


def rule_text(quantities: Sequence[SdeQuantity]) -> str:
    """Quantities that follow batch size and tokens, as in a table: `all`, `none`, `lr eps`."""
    if tuple(quantities) == SDE_RULE:
        return "all"
    return " ".join(quantities) or "none"


def rule_quantities(text: str) -> tuple[SdeQuantity, ...]:
    """The reverse of `rule_text`."""
    return tuple(quantity for quantity in SDE_RULE if text == "all" or quantity in text.split())


@dataclass(frozen=True)
class Arm:
    """A parameterisation, the part of its rules in force, and the condition it is tried under."""

    parameterization: Parameterization
    alpha: float = 1.0
    sde_rule: tuple[SdeQuantity, ...] = SDE_RULE
    """The quantities that follow batch size and tokens; SP, μP and CompleteP have no such rule."""
    schedule: str = "cosine"
    qk_norm: bool = True
    eps: float = 1e-8
    """ε where it is so large that it takes part (`LARGE_EPS`); the default where it does not."""
    scaled_init: bool = False
    """Whether the matrices that end a residual branch start at 1/√m_L of their std, as in GPT-2,
    where it is 1/√(2 · depth). Their `module_multipliers` say so."""

    def columns(self) -> dict[str, Any]:
        """The arm as columns of a table (`ARM_COLUMNS`)."""
        return vars(self) | {"sde_rule": rule_text(self.sde_rule)}

    @property
    def label(self) -> str:
        """The arm in print; a part of the SDE rule stands for Complete(d)P, which alone has it."""
        parts = [PARAMETERIZATION_NAMES[self.parameterization]]
        if self.sde_rule != SDE_RULE:
            symbols = ", ".join(_SYMBOLS[quantity] for quantity in self.sde_rule)
            parts = [f"SDE rule on {symbols}".replace("β₁, β₂", "β") if symbols else "no SDE rule"]
        if self.alpha != 1:
            parts.append(f"α = {'½' if self.alpha == 0.5 else f'{self.alpha:g}'}")
        usual = Arm(self.parameterization)
        if self.schedule != usual.schedule:
            parts.append(self.schedule)
        if not self.qk_norm:
            parts.append("no QK norm")
        if self.eps != usual.eps:
            parts.append(f"ε = {self.eps:g}")
        if self.scaled_init:
            parts.append("1/√(2L) init")
        return ", ".join(parts)

    @classmethod
    def of(cls, config: RunConfig) -> Arm:
        """The arm of a run."""
        scaling = config.scaling
        return cls(
            scaling.parameterization,
            scaling.alpha,
            tuple(scaling.sde_rule),
            _schedule(config.train),
            config.model.qk_norm,
            eps if (eps := config.hyperparameters.eps) >= LARGE_EPS else cls.eps,
            config.model.depth != scaling.base_depth and _has_scaled_init(config),
        )


def _schedule(train: TrainConfig) -> str:
    """Its name; of a piecewise one also its points, for it says no more than that."""
    points = train.piecewise.get("lr", [])
    return " ".join([train.schedule, *(f"{p.at:g}:{p.factor:g}:{p.shape}" for p in points)])


def _has_scaled_init(config: RunConfig) -> bool:
    multipliers = config.hyperparameters.module_multipliers
    ratio = config.model.depth / config.scaling.base_depth
    of_branches = [multipliers.get(branch, {}).get("init_std", 1.0) for branch in BRANCHES]
    return all(math.isclose(each, ratio**-0.5, rel_tol=1e-3) for each in of_branches)


#: The columns of runs that say by which arm they are read.
ARM_COLUMNS = tuple(field.name for field in fields(Arm))


@dataclass(frozen=True)
class ScaleAxis:
    """A scale along which a hyperparameter may transfer."""

    name: str
    column: str
    base_column: str
    """The column with the scale at which hyperparameters are stated."""
    label: str
    """The axis in print."""

    def text(self, scale: int) -> str:
        """A scale in print: `256`, `147k`, `2.36M`."""
        for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
            if scale >= max(size, 10_000):
                return f"{scale / size:.3g}{unit}"
        return str(scale)


AXES = {
    axis.name: axis
    for axis in (
        ScaleAxis("width", "model.width", "scaling.base_width", "width"),
        ScaleAxis("depth", "model.depth", "scaling.base_depth", "depth"),
        ScaleAxis("batch_size", "train.batch_size", "scaling.base_batch_size", "batch size"),
        ScaleAxis("tokens", "train.tokens", "scaling.base_tokens", "tokens"),
    )
}

#: Data grown by the batch at a fixed number of steps (Figure 14 of arXiv 2512.22382).
ISO_STEPS = ScaleAxis(
    "iso_steps", "train.batch_size", "scaling.base_batch_size", "batch size at fixed steps"
)

#: The parameterisations of the paper's first question: one row each in the table of transfer.
COMPARED = (
    *(Arm("sp"), Arm("mup"), Arm("completep"), Arm("completep", 0.5)),
    *(Arm("complete_d"), Arm("complete_d", 0.5)),
)
NO_RULE = Arm("complete_d", sde_rule=())
LR_ONLY = Arm("complete_d", sde_rule=("lr",))
LR_AND_DECAY = Arm("complete_d", sde_rule=("lr", "weight_decay"))
#: PyTorch's λ × √κ applied to a decay in Loshchilov and Hutter's form (η·λ × √κ, where κ is right):
#: with η × √κ that leaves PyTorch's λ as it is.
ALL_BUT_DECAY = Arm("complete_d", sde_rule=("lr", "eps", *_BETAS))
WHOLE_RULE = Arm("complete_d")


def arms_of(runs: pd.DataFrame) -> list[Arm]:
    """The arms of runs in the order of print: by parameterisation, the whole rule last."""
    rows = runs[list(ARM_COLUMNS)].drop_duplicates().to_dict("records")
    found = [Arm(**{**row, "sde_rule": rule_quantities(row["sde_rule"])}) for row in rows]  # type: ignore[arg-type]

    def place(arm: Arm) -> tuple[Any, ...]:
        rule = [quantity in arm.sde_rule for quantity in SDE_RULE]
        condition = (not arm.qk_norm, arm.schedule, arm.eps, arm.scaled_init)
        order = list(PARAMETERIZATION_NAMES).index(arm.parameterization)
        return (order, condition, sum(rule), rule, arm.alpha)

    return sorted(found, key=place)


def configured_arms(runs: pd.DataFrame) -> set[Arm]:
    """The arms that runs were configured as, whatever they are read as."""
    return {Arm.of(RunConfig.model_validate_json(config)) for config in runs["config"].unique()}


def select(runs: pd.DataFrame, arm: Arm) -> pd.DataFrame:
    """The runs of an arm; an empty frame if it has none."""
    return runs[(runs[list(ARM_COLUMNS)] == pd.Series(arm.columns())).all(axis=1)]


def with_equivalents(
    runs: pd.DataFrame, hyperparameter: str, wanted: Sequence[Arm] = COMPARED
) -> pd.DataFrame:
    """The runs, and the same again under the name of every wanted arm that they are runs of too.

    At a scale where an arm has no run of its own, another may have trained what it would train (the
    base, above all). An arm without any run has those of another if it has all of them. The
    existing runs decide: where only those at the base are done, all arms are one.
    """
    trained = arms_of(runs)
    lent = [each for arm in trained for each in _lent(runs, arm, hyperparameter)]
    known = pd.concat([runs, *lent])
    parts = [known]
    for arm in wanted:
        if arm in trained:
            continue
        for other in trained:
            equivalent = restated(select(known, other), arm, hyperparameter)
            if equivalent is not None:
                parts.append(equivalent)
                break
    return pd.concat(parts, ignore_index=True)


def _lent(runs: pd.DataFrame, arm: Arm, hyperparameter: str) -> Iterator[pd.DataFrame]:
    """The runs of other arms, at scales where an arm has none, that are trainings of it."""
    scale = [axis.column for axis in AXES.values()]
    own = pd.MultiIndex.from_frame(select(runs, arm)[scale])
    missing = runs[~pd.MultiIndex.from_frame(runs[scale]).isin(own)]
    for _, at_scale in missing.groupby(scale):
        for other in arms_of(at_scale):
            equivalent = restated(select(at_scale, other), arm, hyperparameter)
            if equivalent is not None:
                yield equivalent
                break


def restated(runs: pd.DataFrame, arm: Arm, hyperparameter: str) -> pd.DataFrame | None:
    """The same runs read under another arm; None unless all of them are trainings of that arm.

    The arm's columns and the hyperparameter change; `run_id`, `config` and the other columns stay
    those of the training. Runs that differ only in the hyperparameter and the seed are judged
    together: what training takes is proportional to the one and does not depend on the other.

    Args:
        hyperparameter: the one column whose stated value may change, so that what it resolves to
            stays: `LR` or `WEIGHT_DECAY`.
    """
    config = [str(name) for name in runs if str(name).startswith(CONFIG_SECTIONS)]
    fixed = [name for name in (*config, *ARM_COLUMNS) if name != hyperparameter]
    varied = [name for name in fixed if runs[name].nunique(dropna=False) > 1]
    groups = runs.groupby(varied, sort=False, dropna=False) if varied else [((), runs)]
    parts = []
    for _, group in groups:
        # The highest value is zero only if all are, and then any factor is right.
        highest = group.iloc[int(group[hyperparameter].argmax())]
        factor = _restating_factor(_as_read(highest, hyperparameter), arm, hyperparameter)
        if factor is None:
            return None
        changed = {hyperparameter: group[hyperparameter] * factor}
        parts.append(group.assign(**arm.columns(), **changed))
    return pd.concat(parts).sort_index() if parts else None


def _as_read(row: pd.Series, hyperparameter: str) -> RunConfig:
    """The config of a run under the arm by which it is read."""
    content = RunConfig.model_validate_json(row["config"]).model_dump()
    rule = list(rule_quantities(row["sde_rule"]))
    content["scaling"] |= {name: row[name] for name in ("parameterization", "alpha")}
    content["scaling"]["sde_rule"] = rule
    section, name = hyperparameter.split(".")
    content[section][name] = float(row[hyperparameter])
    return RunConfig.model_validate(content)


def _restating_factor(config: RunConfig, arm: Arm, hyperparameter: str) -> float | None:
    """The factor on the stated value under which a run is a training of the arm; None if it is not.

    Every number that training takes has to agree.
    """
    trained = Arm.of(config)
    if astuple(trained)[3:6] != astuple(arm)[3:6]:  # schedule, QK norm, ε
        return None
    at_base_depth = config.model.depth == config.scaling.base_depth
    if trained.scaled_init != arm.scaled_init and not at_base_depth:
        return None
    section, name = hyperparameter.split(".")
    content = config.model_dump()
    content["scaling"] |= {
        "parameterization": arm.parameterization,
        "alpha": arm.alpha,
        "sde_rule": list(arm.sde_rule),
    }
    label = Label("hidden_weight", "query", 0)
    try:
        was = getattr(resolve_parameter(config, label), name)
        becomes = getattr(resolve_parameter(RunConfig.model_validate(content), label), name)
        factor = 1.0 if was == becomes else float(was / becomes)
        content[section][name] *= factor
        changed = resolve(RunConfig.model_validate(content)).numbers()
        numbers = zip(resolve(config).numbers(), changed, strict=True)
    except ConfigError:  # a beta leaves (0, 1) under that arm
        return None
    return factor if all(math.isclose(a, b, rel_tol=1e-9) for a, b in numbers) else None


def names(arms: Sequence[Arm]) -> str:
    """Arms in print."""
    return "; ".join(arm.label for arm in arms)
