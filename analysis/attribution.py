"""Per-module hyperparameters at the proxy: parts of them, and rules that need no search.

The runs are those of `sweeps/modules_arms.yaml`, the rules of comparison those of
`docs/per_module.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pandas as pd

from analysis.load import COMMITTED_RESULTS, Results
from analysis.speedup import compare_arms
from analysis.tuned import DERIVED, QUANTITIES, SPEEDUP, arms_of, read_arms, verdict
from paper_repro.config import RunConfig
from paper_repro.errors import ConfigError
from paper_repro.parameterization import MODULES, ModuleType
from paper_repro.statistics import CONFIDENCE, Interval

GLOBAL = "global"
PER_MODULE = "per module"
MORE = "global, searched on"
"""The global search gone on with from its optimum, with as many trials as per module."""
LAYERS = "η per layer"
"""From the per-module set, η searched for every module type in every block."""
WANG = "Wang's rule"

#: Learning rates of module types over that of the norms (arXiv 2502.19002).
WANG_RATIOS: dict[ModuleType, float] = {
    **{"embedding": 10.0, "query": 8.0, "key": 8.0, "mlp_in": 6.0, "mlp_out": 6.0},
    **{"value": 4.0, "attention_out": 4.0},
}
#: η under Wang's rule, over the tuned one.
WANG_RATES = (1.0, 0.5, 0.25, 0.125)
#: Rules that change the learning rate of one module type.
ONE_TYPE: dict[str, tuple[ModuleType, float]] = {
    "embedding η × 4": ("embedding", 4.0),
    "embedding η × 16": ("embedding", 16.0),
    "embedding η × 64": ("embedding", 64.0),
    "unembedding η ÷ 4": ("unembedding", 0.25),
}
_SYMBOLS = dict(
    zip(QUANTITIES, ("η", "λ", "ε", "β₁", "β₂", "init scales", "residuals"), strict=True)
)
_NAMES = {
    "lr_only": "η only",
    **{f"without_{quantity}": f"without {symbol}" for quantity, symbol in _SYMBOLS.items()},
    "shuffled": "shuffled",
    "shuffled_2": "shuffled 2",
    "shuffled_3": "shuffled 3",
}

Part = Literal["whole", "finer", "part", "rule", "control"]


def arms(results_dir: Path = COMMITTED_RESULTS) -> dict[str, tuple[Part, RunConfig]]:
    """All arms by name, with what each is."""
    names = {GLOBAL: "tuned_global", PER_MODULE: "tuned_modules", LAYERS: "tuned_layers"}
    names |= {MORE: "tuned_global_more"}
    names |= {_NAMES[name]: f"tuned_modules_{name}" for name in DERIVED}
    read = read_arms({name: results_dir / f"{file}.yaml" for name, file in names.items()})
    tuned, per_module = read[GLOBAL], read[PER_MODULE]
    kinds: dict[str, Part] = {GLOBAL: "whole", PER_MODULE: "whole", LAYERS: "finer"}
    found: dict[str, tuple[Part, RunConfig]] = {}
    for name, config in read.items():
        control = name == MORE or name.startswith("shuffled")
        found[name] = (kinds.get(name, "control" if control else "part"), config)
    found["types without depth"] = ("part", _with(per_module, depth_multipliers={}))
    types = per_module.hyperparameters.module_multipliers
    for module in types:
        without = _with(per_module, module_multipliers={**types, module: {}})
        found[without_type(module)] = ("part", without)
    for name, (module, factor) in ONE_TYPE.items():
        found[name] = ("rule", _with(tuned, module_multipliers={module: {"lr": factor}}))
    ratios = {module: {"lr": ratio} for module, ratio in WANG_RATIOS.items()}
    for share in WANG_RATES:
        rate = tuned.hyperparameters.lr * share
        found[f"{WANG}, η × {share:g}"] = ("rule", _with(tuned, module_multipliers=ratios, lr=rate))
    return found


def without_type(module: ModuleType) -> str:
    """The arm in which a module type has its global values."""
    return f"without {module.replace('_', ' ')}"


def _with(config: RunConfig, **update: object) -> RunConfig:
    hyperparameters = config.hyperparameters.model_copy(update=update)
    return config.model_copy(update={"hyperparameters": hyperparameters})


def attribution(results: Results, results_dir: Path = COMMITTED_RESULTS) -> pd.DataFrame:
    """A row an arm: its gain and speed-up over global, and what it lacks of the per-module set.

    Columns: `arm`, `part`, `seeds`, `loss` and `sd` (nats, over seeds); `gain` over the tuned
    global set, `speedup` over it, `lacks`, the loss above that of the per-module set, and
    `whole_speedup`, the speed-up of that set over the arm, with intervals over seeds, of `lacks` at
    the confidence for all module types together (Bonferroni), of η per layer at 95 %; `verdict` by
    the speed-up over global; `matters` for parts, whether the interval of `lacks` lies above 0;
    `gradient_norm`, the largest of all steps and seeds before clipping. Of Wang's rule there is one
    row, at the η that is best at the choosing seeds and text.

    Raises:
        ConfigError: a run is of no arm, or an arm has no runs.
    """
    known = arms(results_dir)
    of_run = arms_of(results.runs, {name: config for name, (_, config) in known.items()})
    chosen = _choose_rate(results.runs, of_run)
    reported = results.runs["train.eval_set"] != 0
    runs, of_run = results.runs[reported], of_run[reported]
    some = Results(runs, results.curves, results.trials)
    norms = results.curves.groupby("run_id")["gradient_norm"].max()
    rows = []
    for name, (part, _) in known.items():
        if (name.startswith(WANG) and name != chosen) or name not in set(of_run):
            continue
        own = runs[of_run == name]
        row: dict[str, object] = {"arm": name, "part": part, "seeds": len(own)}
        row |= {"loss": own["val_loss"].mean(), "sd": own["val_loss"].std()}
        if name != GLOBAL:
            (over,) = compare_arms(some, of_run, name, GLOBAL).to_dict("records")
            columns = [f"{effect}{end}" for effect in ("gain", "speedup") for end in _ENDS]
            row |= {column: over[column] for column in columns}
            speedup = Interval(*(over[f"speedup{end}"] for end in _ENDS))
            row["verdict"] = verdict(speedup, SPEEDUP)
        if part != "whole":
            looked_at = 1 if part == "finer" else len(_types(known))
            confidence = 1 - (1 - CONFIDENCE) / looked_at
            (under,) = compare_arms(some, of_run, PER_MODULE, name, confidence).to_dict("records")
            row |= {f"lacks{end}": under[f"gain{end}"] for end in _ENDS}
            (under_95,) = compare_arms(some, of_run, PER_MODULE, name).to_dict("records")
            row |= {f"whole_speedup{end}": under_95[f"speedup{end}"] for end in _ENDS}
            if part == "part":
                row["matters"] = "yes" if under["gain_low"] > 0 else "not decided"
        rows.append(row | {"gradient_norm": norms.reindex(own["run_id"]).max()})
    return pd.DataFrame(rows)


_ENDS = ("", "_low", "_high")


def _types(known: Mapping[str, object]) -> list[str]:
    return [name for name in map(without_type, MODULES) if name in known]


def _choose_rate(runs: pd.DataFrame, of_run: pd.Series) -> str:
    """The arm of Wang's rule with the least mean loss on the text of the searches."""
    choosing = runs.assign(arm=of_run)[runs["train.eval_set"] == 0]
    losses = choosing.groupby("arm")["val_loss"].mean()
    if losses.empty:
        raise ConfigError(f"{WANG}: no runs on the text of the searches (train.eval_set: 0)")
    return str(losses.idxmin())
