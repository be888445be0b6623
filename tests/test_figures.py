import importlib
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from support.synthetic_sweep import drifting, write_sweep

from analysis.arms import AXES
from analysis.load import COMMITTED_RESULTS, Results, curves_path, load_sweep, save_results
from analysis.tables import read_table
from figures import registry
from figures.made import COMMITTED_FIGURES, Made, save
from figures.names import NAMES, check_name
from figures.registry import FIGURES, FigureEntry
from figures.style import sequential_palette, style
from figures.transfer import make_transfer
from paper_repro.errors import ConfigError

ROOT = Path(__file__).parent.parent

command = importlib.import_module("figures.__main__")
main = command.main
ARMS = {"complete_d": drifting(0), "sp": drifting(-0.6)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    write_sweep(directory, "lr_width", ARMS, cliff=-3)
    return directory


@pytest.fixture(scope="module")
def figure(runs):
    return draw(runs, "lr_width")


def draw(runs_dir, sweep):
    with style():
        return make_transfer(load_sweep(runs_dir, sweep).runs, AXES["width"]).figure


def run_main(tmp_path, *arguments):
    folders = ["--results-dir", str(tmp_path / "results"), "--output-dir", str(tmp_path / "out")]
    return main([*arguments, *folders])


def test_fresh_results_become_parquet_figures_and_tables(runs, tmp_path, capsys):
    assert run_main(tmp_path, "lr_width", "--runs-dir", str(runs)) == 0
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert written == [
        *(f"out/data/lr_width_{frame}.csv" for frame in ("drifts", "fitted", "losses", "optima")),
        *("out/lr_width.png", "out/lr_width.svg", "results/lr_width.parquet"),
    ]
    printed = capsys.readouterr().out
    assert "Complete(d)P" in printed
    assert "holds" in printed
    assert "fails" in printed
    assert "Regime: beyond the bigram plateau" in printed
    for path in written:
        assert str(tmp_path / path) in printed


def test_another_sweep_is_drawn_the_same_way_under_its_own_name(tmp_path):
    write_sweep(tmp_path / "runs", "mine", ARMS, scales=(64, 128))
    arguments = ["lr_width", "--sweep", "mine", "--runs-dir", str(tmp_path / "runs")]
    assert run_main(tmp_path, *arguments) == 0
    assert (tmp_path / "out" / "mine.png").exists()
    assert (tmp_path / "results" / "mine.parquet").exists()


def test_fresh_results_stay_beside_the_records(tmp_path, monkeypatch):
    """Wherever the command runs; the committed ones are replaced on request alone."""
    write_sweep(tmp_path / "runs", "lr_width", ARMS, scales=(64, 128), seeds=2)
    committed = {"COMMITTED_RESULTS": tmp_path / "results", "COMMITTED_FIGURES": tmp_path / "out"}
    for name, folder in committed.items():
        monkeypatch.setattr(command, name, folder)
    monkeypatch.chdir(tmp_path)
    assert main(["lr_width", "--runs-dir", "runs"]) == 0
    kept = {path.name for path in (tmp_path / "runs" / "lr_width").glob("lr_width.*")}
    assert kept == {"lr_width.parquet", "lr_width.png", "lr_width.svg"}
    assert not any(folder.exists() for folder in committed.values())
    assert main(["lr_width", "--runs-dir", "runs", "--commit"]) == 0
    assert (tmp_path / "results" / "lr_width.parquet").exists()
    assert (tmp_path / "out" / "lr_width.png").exists()


def test_defaults_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = command._parser().parse_args([])
    assert command._folders(options, ("lr_width",)) == (COMMITTED_RESULTS, COMMITTED_FIGURES)
    assert (COMMITTED_RESULTS / "lr_width.parquet").is_file()
    assert (COMMITTED_FIGURES / "lr_width.png").is_file()


def test_a_figure_is_made_once(runs, tmp_path, monkeypatch):
    made = []

    def make(results):
        made.append(results)
        return FIGURES["lr_width"].make(results)

    monkeypatch.setitem(FIGURES, "counted", FigureEntry(make, ("lr_width",)))
    assert run_main(tmp_path, "counted", "--runs-dir", str(runs)) == 0
    assert len(made) == 1


def test_the_numbers_are_those_of_the_figure(runs, tmp_path):
    with style():
        made = make_transfer(load_sweep(runs, "lr_width").runs, AXES["width"])
        save(made, tmp_path, "x")
    losses = read_table(tmp_path / "data", "x_losses")
    dots = [line for line in made.figure.axes[0].lines if line.get_marker() == "."]
    drawn = sorted(y for line in dots for y in line.get_ydata() if math.isfinite(y))
    sp = losses[(losses["label"] == "SP") & (losses["loss"] < math.inf)]
    assert drawn == pytest.approx(sorted(sp["loss"]), rel=1e-5)
    assert set(losses[losses["loss"] == math.inf]["log2"]) == {-2.0}


def test_fitted_curves_go_through_the_means_and_are_least_at_their_optima(runs):
    with style():
        made = make_transfer(load_sweep(runs, "lr_width").runs, AXES["width"])
    panel = made.figure.axes[1]
    assert panel.get_title() == "Complete(d)P"
    curves = [line for line in panel.lines if len(line.get_xdata()) > 20]
    means = [line for line in panel.lines if line.get_marker() == "o"]
    fitted = made.frames["fitted"]
    fitted = fitted[fitted["label"] == "Complete(d)P"]
    for curve, mean, (_, row) in zip(curves, means, fitted.iterrows(), strict=True):
        x, y = curve.get_xdata(), curve.get_ydata()
        within = (mean.get_xdata() >= x[0]) & (mean.get_xdata() <= x[-1])
        assert within.sum() >= 3
        assert np.interp(mean.get_xdata()[within], x, y) == pytest.approx(
            mean.get_ydata()[within], abs=0.01
        )
        assert x[np.argmin(y)] == pytest.approx(row["optimum"], abs=0.1)
        assert row["optimum_low"] < row["optimum"] < row["optimum_high"]
        assert min(y) == pytest.approx(row["loss"], abs=0.002)


def test_a_figure_may_need_several_sweeps_and_their_curves(tmp_path, capsys, monkeypatch):
    for name in ("one", "two"):
        write_sweep(tmp_path / "runs", name, ARMS, scales=(64,), seeds=1)

    def make(one: Results, two: Results) -> Made:
        made = make_transfer(one.runs, AXES["width"])
        return Made(made.figure, {"curves": two.curves})

    entry = FigureEntry(make, ("one", "two"), curves=True)
    monkeypatch.setitem(registry.FIGURES, "both", entry)
    fresh = ["--runs-dir", str(tmp_path / "runs")]
    assert run_main(tmp_path, "both", *fresh) == 0
    numbers = read_table(tmp_path / "out" / "data", "both_curves")
    assert numbers.columns.tolist()[:3] == ["run_id", "step", "tokens"]
    assert curves_path(tmp_path / "results" / "one.parquet").exists()
    assert run_main(tmp_path, "both") == 0  # from the results, with their curves
    assert len(read_table(tmp_path / "out" / "data", "both_curves")) == len(numbers)
    others = ["--sweep", "two", "--sweep", "one"]
    assert run_main(tmp_path, "both", *others, *fresh) == 0
    assert (tmp_path / "out" / "two_both.png").exists()
    assert run_main(tmp_path, "both", "--sweep", "two") == 2
    assert "--sweep: both draws 2 sweeps (in place of one, two), got 1" in capsys.readouterr().err


def test_a_further_figure_of_another_sweep_does_not_overwrite_its_own():
    output = command._output_name
    assert output("lr_duration", ["mine"]) == "mine"
    assert output("loss_vs_tokens", ["mine"]) == "mine_loss_vs_tokens"
    assert output("loss_vs_tokens", None) == "loss_vs_tokens"


def test_a_figure_that_cannot_be_drawn_leaves_the_others(runs, tmp_path, capsys):
    results = load_sweep(runs, "lr_width")
    save_results(results, tmp_path / "results" / "lr_width.parquet")
    text = results.runs["config"].str.replace('"cosine"', '"wsd"')
    bad = replace(results, runs=results.runs.assign(config=text))
    save_results(bad, tmp_path / "results" / "lr_duration.parquet")
    save_results(results, tmp_path / "results" / "eps_fixes.parquet")  # drawn after the bad one
    assert run_main(tmp_path) == 2
    said = capsys.readouterr()
    assert "error: lr_duration: no run of" in said.err
    # They are made at once, and named in order.
    assert said.out.index("lr_width.png") < said.out.index("eps_fixes.png")
    written = {path.stem for path in (tmp_path / "out").iterdir()}
    assert {"lr_width", "eps_fixes"} <= written
    assert "lr_duration" not in written


def test_without_a_name_every_figure_with_results_is_made(runs, tmp_path, capsys):
    save_results(load_sweep(runs, "lr_width"), tmp_path / "results" / "lr_width.parquet")
    assert run_main(tmp_path) == 0
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"lr_width", "data"}
    assert "lr_depth: no results yet" in capsys.readouterr().out


def test_lr_depth_has_a_line_a_depth(tmp_path):
    write_sweep(tmp_path, "lr_depth", ARMS, scales=(1, 2, 4), seeds=2, axis="depth")
    with style():
        figure = FIGURES["lr_depth"].make(load_sweep(tmp_path, "lr_depth")).figure
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "depth"
    assert [text.get_text() for text in legend.get_texts()][:3] == ["1", "2 (base)", "4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lr_widht"], "no figure 'lr_widht'; there are lr_width, transfer_width"),
        (["lr_width"], "lr_width.parquet: no such results"),
        (["--sweep", "mine"], "--sweep: needs the name of one figure"),
        (["lr_width", "--commit"], "--commit: needs --runs-dir"),
        (["lr_width", "--runs-dir", "nowhere"], "no records of sweep 'lr_width'"),
        (["public_runs"], "public_runs_exponents.csv: no such table"),
        (
            ["public_runs", "--runs-dir", "nowhere"],
            "public_runs is drawn from tables, not from runs",
        ),
    ],
)
def test_bad_requests_are_one_line_and_exit_code_2(tmp_path, capsys, arguments, message):
    assert run_main(tmp_path, *arguments) == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert stderr.count("\n") == 1


def test_a_name_can_be_checked_without_the_code_that_draws():
    assert list(FIGURES) == list(NAMES)
    code = "import sys, figures.names; print('pandas' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT) == "False\n"
    with pytest.raises(ConfigError, match="no figure 'style'; there are lr_width,"):
        check_name("style")  # a module, but no figure


def diamonds(panel):
    return [line for line in panel.lines if line.get_marker() == "D"]


def test_each_panel_marks_the_optima_of_its_parameterisation(figure):
    assert [panel.get_title() for panel in figure.axes] == ["SP", "Complete(d)P"]
    for panel, slope in zip(figure.axes, (-0.6, 0), strict=True):
        optima = [float(line.get_xdata()[0]) for line in diamonds(panel)]
        assert optima == pytest.approx([-6 + slope * k for k in (-1, 0, 1, 2)], abs=0.2)
        low, high = panel.get_ylim()
        assert all(low < line.get_ydata()[0] < high - 0.1 for line in diamonds(panel))


def test_the_grid_fills_the_width_however_wide_an_interval_is(figure):
    for panel in figure.axes:
        low, high = panel.get_xlim()
        rates = [x for line in panel.lines if line.get_marker() == "." for x in line.get_xdata()]
        assert (low, high) == pytest.approx((min(rates) - 0.4, max(rates) + 0.4))


def test_diverged_rates_are_crossed_at_the_upper_edge(figure):
    for panel in figure.axes:
        crosses = [line for line in panel.lines if line.get_marker() == "x"]
        assert [line.get_xdata().tolist() for line in crosses] == [[-2.0]] * 4
        assert all(0.8 < line.get_ydata()[0] < 1 for line in crosses)  # axes fraction


def test_legend_names_scales_and_markers(figure):
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[:4] == ["32", "64 (base)", "128", "256"]
    assert "a seed diverged" in labels
    assert "lowest, not bracketed" not in labels


def test_an_unbracketed_optimum_is_hollow_and_has_no_interval(tmp_path):
    write_sweep(tmp_path, "s", {"sp": drifting(0, base=-1)}, scales=(64,))
    (panel,) = draw(tmp_path, "s").axes
    (diamond,) = diamonds(panel)
    assert to_rgb(diamond.get_markerfacecolor()) == (1, 1, 1)
    assert "|" not in [line.get_marker() for line in panel.lines]


def test_everything_diverged_still_draws(tmp_path):
    write_sweep(tmp_path, "s", {"sp": drifting(0)}, scales=(64, 128), cliff=-math.inf)
    with style():
        made = make_transfer(load_sweep(tmp_path, "s").runs, AXES["width"])
        save(made, tmp_path, "diverged")
    assert not diamonds(made.figure.axes[0])


def test_five_panels_leave_no_empty_sixth(tmp_path):
    arms = {name: drifting(0) for name in ("complete_d", "sp_fan_in", "completep", "mup", "sp")}
    write_sweep(tmp_path, "s", arms, scales=(32, 64), log2_lrs=range(-8, -3), seeds=2)
    titles = [panel.get_title() for panel in draw(tmp_path, "s").axes]
    assert titles == ["SP", "SP (1/fan-in init)", "μP", "CompleteP", "Complete(d)P"]


def test_palette_darkens_with_scale():
    def luminance(rgb):
        return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]

    shades = [luminance(colour) for colour in sequential_palette([32, 64, 128, 256]).values()]
    assert shades == sorted(shades, reverse=True)
