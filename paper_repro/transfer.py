"""`python -m paper_repro.transfer --from TUNED.yaml --to TARGET.yaml`: the numbers of a target.

TUNED.yaml has the hyperparameters as stated at the base, with the shape of the base under
`scaling`: what a search writes, or a part of a `RunConfig` of one's own. TARGET.yaml has the shape
of the target: its `model`, `train` and `data`, and under `scaling` how to get there. With `--model`
the parameters are those of a model of one's own, of the target's width and depth.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from paper_repro.command import command
from paper_repro.config import RunConfig, ScalingConfig, parse_run_config
from paper_repro.errors import ConfigError
from paper_repro.files import merged, read_yaml, write_atomically
from paper_repro.hyperparameters import ResolvedRun, check, resolve, scaling_of
from paper_repro.parameterization import BRANCHES, MODULES
from paper_repro.paths import check_writable, given_path
from paper_repro.schedules import lr_scale

if TYPE_CHECKING:  # torch takes a second to import, and most targets need none
    from paper_repro.apply import Parameterized, TrainerName

#: What of a base is its shape.
_BASE = tuple(name for name in ScalingConfig.model_fields if name.startswith("base_"))

EPILOG = """\
A tuned file, such as python -m sweeps.launch leaves of a search:

  scaling: {base_width: 32, base_depth: 4, base_batch_size: 4, base_tokens: 196_608}
  hyperparameters:
    lr: 0.02
    module_multipliers: {query: {lr: 2.0}}
    depth_multipliers: {lr: [1.0, 1.0, 0.8, 0.6]}

A target:

  model: {width: 128, depth: 8}
  train: {batch_size: 16, tokens: 3_145_728}
  scaling: {parameterization: complete_d, alpha: 1.0}

The learning rates are those at the peak of the schedule. Of a model of your own:

  python -m paper_repro.transfer --from tuned.yaml --to target.yaml --model my_models:llama

calls the function `llama(width, depth)` of my_models.py for the target and the base, both without
memory, as with `model: {factory: "my_models:llama"}` in the target. Multipliers are absorbed then,
as they are for trainers: nothing changes in the forward pass.

exit code: 0, or 2 if a file is wrong, the rules have no such target or the trainer no such form."""

FORMATS = ("table", "json", "torchtitan", "automodel", "megatron")


def transferred(tuned: Path, target: Path, model: dict[str, Any] | None = None) -> RunConfig:
    """The run of a target, with the hyperparameters and the base of a tuned file.

    Args:
        model: keys of its section `model`, over those of the file.

    Raises:
        ConfigError: naming the file and the key: one of them is wrong, the tuned file has no base,
            the target has hyperparameters or a base of its own, or a beta leaves (0, 1) there.
    """
    source, own = _section(tuned), _section(target)
    scaling = source.get("scaling") or {}
    for name in _BASE:
        if name not in scaling:
            raise ConfigError(f"{tuned}: scaling.{name}: expected the shape of the base")
        if name in (own.get("scaling") or {}):
            raise ConfigError(f"{target}: scaling.{name}: is the base's, {tuned} has it")
    if "hyperparameters" in own:
        raise ConfigError(f"{target}: hyperparameters: are the base's, {tuned} has them")
    parse_run_config(source, str(tuned))  # first by itself, for an error that names its file
    given = {key: section for key, section in own.items() if section is not None}
    given = merged(given, {"model": model} if model else {})
    try:
        config = parse_run_config(merged(source, given), str(target))
        check(config)
    except ConfigError as error:
        name = f"{target}: "
        raise ConfigError(f"{name}{str(error).removeprefix(name)}") from None
    return config


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add the options `--from` (as `tuned`) and `--to`, the files of `transferred`."""
    parser.add_argument(
        "--from", dest="tuned", type=given_path, required=True, metavar="TUNED.yaml"
    )
    parser.add_argument("--to", type=given_path, required=True, metavar="TARGET.yaml")


def _section(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping, sections of a run configuration")
    return content


def as_json(config: RunConfig) -> dict[str, Any]:
    """Every number of a run, by module type and block.

    The keys are those of `python -m paper_repro.parameterization --json`, with numbers in place of
    factors. `module_types` has weights (`query`) and, where there are any, biases (`query_bias`).
    Those in blocks have a mapping from block to numbers, from `"0"`; the others have the numbers.
    `residual` has the multipliers of both branches, from the first block to the last.
    """
    resolved = resolve(config)
    module_types: dict[str, Any] = {}
    for name, numbers in resolved.parameters.items():
        label = resolved.labels[name]
        tensor = _tensor(resolved, name)
        content = asdict(numbers) | {
            "init_variance": numbers.init_std**2,
            "one_minus_beta1": 1 - numbers.beta1,
            "one_minus_beta2": 1 - numbers.beta2,
        }
        if label.block is None:
            module_types[tensor] = content
        else:
            module_types.setdefault(tensor, {})[str(label.block)] = content
    return {
        "multipliers": {
            "residual": {
                branch: [multipliers[index] for multipliers in resolved.residual_multipliers]
                for index, branch in enumerate(BRANCHES)
            },
            "logits": resolved.logits_multiplier,
        },
        "iterations": scaling_of(config).iterations,
        "steps": config.steps,
        "module_types": module_types,
    }


def _tensor(resolved: ResolvedRun, name: str) -> str:
    label = resolved.labels[name]
    return label.module_type + ("_bias" if name.endswith(".bias") else "")


def target_rules(config: RunConfig) -> Parameterized:
    """The parameters of a target with multipliers absorbed: of `model.factory`, or of our GPT.

    Args:
        config: of the target, with the shape of the base.

    Raises:
        ConfigError: as `paper_repro.apply.factory.make_model` and `rules_of`.
    """
    import torch

    from paper_repro.apply.factory import make_model, rules_of
    from paper_repro.apply.parameterized import parameterize_run
    from paper_repro.model import GPT

    def gpt(width: int, depth: int) -> GPT:
        shape = config.model.model_copy(update={"width": width, "depth": depth})
        return GPT(shape, vocab_size=1, context=config.data.context)  # no rule asks for these

    model, scaling = config.model, config.scaling
    with torch.device("meta"):
        if model.factory:
            return rules_of(config, make_model(model))
        target, base = gpt(model.width, model.depth), gpt(scaling.base_width, scaling.base_depth)
        return parameterize_run(config, target, base, "paper_repro")


def rules_as_json(rules: Parameterized, config: RunConfig) -> dict[str, Any]:
    """Every number of a model: by optimiser group, and by parameter.

    `groups` have a regular expression that matches the names of their parameters and no others.
    """
    from paper_repro.apply.patterns import named_parameters, optimiser_groups

    groups = [
        {"pattern": group.pattern, "module_types": list(group.types), **asdict(group.numbers)}
        for group in optimiser_groups(named_parameters(rules))
    ]
    for group in groups:
        del group["init_std"]  # may differ within a group
    return {
        "iterations": scaling_of(config).iterations,
        "steps": config.steps,
        "groups": groups,
        "parameters": {
            name: asdict(numbers) | ({} if numbers.init_std else {"init": rules.gains[name]})
            for name, numbers in rules.numbers.items()
        },
    }


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print the numbers of a target; returns the exit code."""
    options = _parser().parse_args(argv)
    if options.output:
        check_writable(options.output.parent, "--output")
    _run(options)
    return 0


def _run(options: argparse.Namespace) -> None:
    stated = {"factory": options.model, "mapping": options.mapping, "tied": options.tied or None}
    model = {key: value for key, value in stated.items() if value is not None}
    config = transferred(options.tuned, options.to, model)
    form: Any = "json" if options.json else options.format
    foreign = config.model.factory is not None
    rules = target_rules(config) if foreign or form not in ("table", "json") else None
    if rules and form not in ("table", "json"):
        text = _exported(rules, config, form)
    else:
        content = rules_as_json(rules, config) if rules else as_json(config)
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    if options.output:
        write_atomically(options.output, lambda path: path.write_text(text, encoding="utf-8"))
    if form != "table":
        print(text, end="")
    elif rules:
        print(rules.table(), end="")
    else:
        _print(Console(), config)


def _exported(rules: Parameterized, config: RunConfig, trainer: TrainerName) -> str:
    from paper_repro.apply import export

    final = lr_scale(config.train, config.steps, config.steps)
    own_names = config.model.factory is not None
    made = export(rules, trainer, own_names=own_names, final_fraction=final)
    for warning in made.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return made.text


def _print(console: Console, config: RunConfig) -> None:
    """One row for the blocks of a tensor that have the same numbers."""
    resolved, ratios = resolve(config), scaling_of(config).ratios
    table = Table(
        title=f"{config.scaling.parameterization}: m_N = {ratios.N:g}, m_L = {ratios.L:g}, "
        f"m_B = {ratios.B:g}, m_D = {ratios.D:g}, α = {config.scaling.alpha:g}",
        box=None,
        pad_edge=False,
        collapse_padding=True,
        header_style="bold",
    )
    table.add_column("tensor", no_wrap=True)
    for heading in ("blocks", "lr η", "decay λ", "β1", "β2", "ε", "init std", "residual"):
        table.add_column(heading, justify="right", no_wrap=True)
    rows: dict[tuple[str, ...], list[int]] = {}
    for name, numbers in resolved.parameters.items():
        label = resolved.labels[name]
        residual = ""
        if label.block is not None and label.module_type in BRANCHES:
            branch = list(map(str, BRANCHES)).index(label.module_type)
            residual = f"{resolved.residual_multipliers[label.block][branch]:.4g}"
        cells = (
            _tensor(resolved, name),
            *(f"{value:.4g}" for value in (numbers.lr, numbers.weight_decay)),
            *(f"{value:.5g}" for value in (numbers.beta1, numbers.beta2)),
            f"{numbers.eps:.3g}",
            f"{numbers.init_std:.4g}" if numbers.init_std else "fixed",
            residual,
        )
        rows.setdefault(cells, []).extend([] if label.block is None else [label.block])
    order = [f"{module}{bias}" for module in MODULES for bias in ("", "_bias")]
    for row, blocks in sorted(rows.items(), key=lambda item: order.index(item[0][0])):
        table.add_row(row[0], _blocks(blocks, config.model.depth), *row[1:])
    console.print(table)
    console.print(
        f"{config.steps:,} steps of {config.train.batch_size} x {config.data.context} tokens; "
        f"logits × {resolved.logits_multiplier:.6g}; λ is PyTorch's: a step decays by η·λ",
        highlight=False,
    )


def _blocks(blocks: Sequence[int], depth: int) -> str:
    """Blocks in print: `all`, `3`, or `0-2` (those of a row follow each other)."""
    if len(blocks) == depth:
        return "all"
    return "-".join(map(str, dict.fromkeys((blocks[0], blocks[-1])))) if blocks else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paper_repro.transfer",
        description="The learning rates, decays, betas, ε, init scales and residual multipliers of "
        "every parameter of a target, from those tuned at a base.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_files(parser)
    parser.add_argument(
        "--model",
        metavar="MODULE:FUNCTION",
        help="the target's model.factory, a function from width and depth to a module; default: "
        "the GPT of this project, under the names of a trainer's own Llama or Qwen3",
    )
    parser.add_argument("--mapping", help="its model.mapping, the names of its parameters")
    parser.add_argument(
        "--tied", action="store_true", help="its model.tied: its unembedding is its embedding"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="what to print; default table"
    )
    parser.add_argument("--json", action="store_true", help="the same as --format json")
    parser.add_argument(
        "--output",
        type=given_path,
        metavar="FILE",
        help="write the trainer's form, or else the JSON, to a file too",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
