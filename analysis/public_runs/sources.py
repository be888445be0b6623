"""The public repositories, and their runs as tables. Nothing of them is kept in this one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from paper_repro.errors import ConfigError

#: Where clones are looked for, below the working directory.
DEFAULT_FOLDER = Path("public_runs")


@dataclass(frozen=True)
class Source:
    """A public repository with training runs."""

    option: str
    """Of the command, without dashes."""
    repository: str
    """On GitHub, owner/name."""
    papers: str
    """arXiv ids."""
    licence: str
    data: str
    """The folder in it that must be there."""

    @property
    def url(self) -> str:
        return f"https://github.com/{self.repository}"

    @property
    def default(self) -> Path:
        """Where `git clone` puts it below `DEFAULT_FOLDER`."""
        return DEFAULT_FOLDER / self.repository.partition("/")[2]

    def folder(self, clone: Path) -> Path:
        """The folder with the data in a clone.

        Raises:
            ConfigError: it is not there; says how to get it.
        """
        if not (clone / self.data).is_dir():
            raise ConfigError(
                f"{clone / self.data}: no such folder; get it by: "
                f"git clone {self.url} {self.default}, or name it: --{self.option} DIR"
            )
        return clone / self.data


STEP_LAW = Source("steplaw", "step-law/steplaw", "2503.04715", "none", "data")
LR_SCHEDULING = Source(
    "lr-scheduling", "fabian-sp/lr-scheduling", "2405.18392, 2501.18965", "MIT", "data"
)
MULTI_POWER = Source(
    "multi-power", "thu-yao-01-luo/MultiPowerLaw", "2503.12811", "MIT", "loss_curve_repo"
)
SOURCES = (STEP_LAW, LR_SCHEDULING, MULTI_POWER)

#: Tokens in a sequence of the Step Law grids.
STEP_LAW_SEQUENCE = 2048


def read_dense(clone: Path) -> pd.DataFrame:
    """The dense grid of Step Law.

    Returns:
        One row a run: `model`, `size` (parameters without embeddings), `width`, `depth`, `tokens`,
        `batch` (tokens), `lr` (peak), `loss` (smoothed final training loss, nats).
    """
    runs = _read_csv(STEP_LAW.folder(clone) / "dense_lr_bs_loss.csv", ("N",))
    return _grid(runs, runs["N"], runs["N"].map(lambda n: f"{n / 1e6:.0f}M"))


def read_moe(clone: Path) -> pd.DataFrame:
    """The grid of Step Law's mixtures of experts; `size` is that of the activated parameters."""
    runs = _read_csv(STEP_LAW.folder(clone) / "moe_lr_bs_loss.csv", ("Na", "moe_name"))
    return _grid(runs, runs["Na"], runs["moe_name"])


def _grid(runs: pd.DataFrame, size: pd.Series, model: pd.Series) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": model,
            "size": size.astype(float),
            "width": runs["h"].astype(float),
            "depth": runs["numl"].astype(float),
            "tokens": runs["D"].astype(float),
            "batch": runs["bs"].astype(float) * STEP_LAW_SEQUENCE,
            "lr": runs["lr"].astype(float),
            "loss": runs["smooth loss"].astype(float),
        }
    )


def _read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    needed = [*columns, "h", "numl", "D", "bs", "lr", "smooth loss"]
    runs = read_numbers(path, needed)
    numbers = [name for name in needed if name != "moe_name"]
    if wrong := [n for n in numbers if not pd.api.types.is_numeric_dtype(runs[n])]:
        raise ConfigError(f"{path}: {wrong[0]}: expected numbers")
    if runs[needed].isna().any(axis=None) or (runs[["D", "bs", "lr"]] <= 0).any(axis=None):
        raise ConfigError(f"{path}: {', '.join(needed)}: expected a value above 0 in every row")
    return runs


def read_numbers(path: Path, columns: list[str]) -> pd.DataFrame:
    """A CSV file with these columns.

    Raises:
        ConfigError: it is not there, cannot be read, or has not these columns.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ConfigError(f"{path}: cannot be read as CSV: {error}") from None
    if missing := [name for name in columns if name not in table]:
        raise ConfigError(f"{path}: no column {', '.join(missing)}")
    return table


def read_schedules(clone: Path) -> pd.DataFrame:
    """The runs of lr-scheduling, each training once.

    Returns:
        One row a run: `model` (parameters and data), `schedule` (`wsd` or `cosine`), `cooldown`
        (its form; of cosine, the share of the peak at which it ends), `share` of the steps that
        decays (of cosine 1, warm-up aside), `steps`, `tokens`, `lr` (peak), `loss` (final
        validation loss, nats). A training that was published twice is one row, with the mean loss.
    """
    folder = LR_SCHEDULING.folder(clone)
    paths = sorted(folder.rglob("*.json"))
    if not paths:
        raise ConfigError(f"{folder}: no runs there (*.json)")
    runs = pd.DataFrame([row for path in paths if (row := _read_run(path))])
    keys = [name for name in runs if name != "loss"]
    return runs.groupby(keys, as_index=False).agg(loss=("loss", "mean"))


def _read_run(path: Path) -> dict[str, Any] | None:
    """A run; None of a schedule that is none of the two, or of which it is unknown how it ends."""
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
        config = run["config"]
        steps = int(config["iterations"])
        tokens = steps * config["sequence_length"] * config["batch_size"] * config["acc_steps"]
        if config["scheduler"] == "cos" and "cos_final_lr" in config:
            # A rate; −1 stands for a tenth of the peak, as the curves of such runs show.
            cooldown = "to 0.1" if config["cos_final_lr"] < 0 else "to 0"
            schedule, share = "cosine", 1.0
        elif config["scheduler"] == "wsd" and config["wsd_fract_decay"]:
            schedule, cooldown = "wsd", str(config.get("decay_type", "unknown"))
            share = round(float(config["wsd_fract_decay"]), 2)
        else:
            return None
        peak, size = float(config["lr"]), float(run["summary"]["parameters"])
        loss = float(run["summary"]["final-val/loss"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a run of {LR_SCHEDULING.repository}: {error!r}") from None
    return {
        "model": f"{size / 1e6:.0f}M, {config['dataset']}",
        "schedule": schedule,
        "cooldown": cooldown,
        "share": share,
        "steps": steps,
        "tokens": tokens * config["world_size"],
        "lr": peak,
        "loss": loss,
    }


def read_curves(clone: Path) -> pd.DataFrame:
    """The loss curves of MultiPowerLaw.

    Returns:
        One row a point: `model` (million parameters), `schedule` (the file's name), `step`, `lr`,
        `loss` (training, nats).
    """
    folder = MULTI_POWER.folder(clone)
    paths = sorted(folder.glob("csv_*/*.csv"))
    if not paths:
        raise ConfigError(f"{folder}: no curves there (csv_*/*.csv)")
    return pd.concat(
        [
            read_numbers(path, ["step", "lr", "loss"]).assign(
                model=path.parent.name.removeprefix("csv_"), schedule=path.stem
            )
            for path in paths
        ],
        ignore_index=True,
    )
