import importlib
import math

import pytest
from matplotlib.colors import to_rgb
from support.synthetic_sweep import drifting, write_sweep

from analysis.axes import AXES
from analysis.load import load_sweep, save_results
from figures.registry import FIGURES
from figures.style import save, sequential_palette, style
from figures.transfer import draw_transfer

main = importlib.import_module("figures.__main__").main
ARMS = {"complete_d": drifting(0), "sp": drifting(-0.6)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    write_sweep(directory, "lr_width", ARMS, cliff=-3)
    return directory


@pytest.fixture(scope="module")
def figure(runs):
    with style():
        return draw_transfer(load_sweep(runs, "lr_width"), AXES["width"])


def run_main(tmp_path, *arguments):
    folders = ["--results-dir", str(tmp_path / "results"), "--output-dir", str(tmp_path / "out")]
    return main([*arguments, *folders])


def test_fresh_results_become_parquet_figures_and_tables(runs, tmp_path, capsys):
    assert run_main(tmp_path, "lr_width", "--runs-dir", str(runs)) == 0
    written = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert written == ["out/lr_width.png", "out/lr_width.svg", "results/lr_width.parquet"]
    printed = capsys.readouterr().out
    assert "Complete(d)P" in printed
    assert "holds" in printed
    assert "fails" in printed
    assert "Regime: beyond the bigram plateau" in printed
    for path in written:
        assert str(tmp_path / path) in printed


def test_another_sweep_is_drawn_the_same_way_under_its_own_name(tmp_path):
    write_sweep(tmp_path / "runs", "mine", ARMS)
    arguments = ["lr_width", "--sweep", "mine", "--runs-dir", str(tmp_path / "runs")]
    assert run_main(tmp_path, *arguments) == 0
    assert (tmp_path / "out" / "mine.png").exists()
    assert (tmp_path / "results" / "mine.parquet").exists()


def test_committed_results_give_the_same_bytes_every_time(runs, tmp_path):
    save_results(load_sweep(runs, "lr_width"), tmp_path / "results" / "lr_width.parquet")
    images = []
    for _ in range(2):
        assert run_main(tmp_path, "lr_width") == 0
        images.append(
            [(tmp_path / "out" / f"lr_width.{end}").read_bytes() for end in ("svg", "png")]
        )
    assert images[0] == images[1]


def test_a_further_figure_of_another_sweep_does_not_overwrite_its_own():
    output = importlib.import_module("figures.__main__")._output
    assert output("lr_duration", "mine") == "mine"
    assert output("duration_exponents", "mine") == "mine_duration_exponents"
    assert output("duration_exponents", None) == "duration_exponents"


def test_a_figure_that_cannot_be_drawn_leaves_the_others(runs, tmp_path, capsys):
    frame = load_sweep(runs, "lr_width")
    save_results(frame, tmp_path / "results" / "lr_width.parquet")
    bad = frame.assign(**{"train.schedule": "wsd"})
    save_results(bad, tmp_path / "results" / "lr_duration.parquet")
    save_results(frame, tmp_path / "results" / "eps_fixes.parquet")  # drawn after the bad ones
    assert run_main(tmp_path) == 2
    assert "error: lr_duration: no run of" in capsys.readouterr().err
    written = {path.stem for path in (tmp_path / "out").iterdir()}
    assert {"lr_width", "eps_fixes"} <= written
    assert "lr_duration" not in written


def test_without_a_name_every_figure_with_results_is_made(runs, tmp_path, capsys):
    save_results(load_sweep(runs, "lr_width"), tmp_path / "results" / "lr_width.parquet")
    assert run_main(tmp_path) == 0
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"lr_width"}
    assert "lr_depth: no results yet" in capsys.readouterr().out


def test_lr_depth_has_a_line_a_depth(tmp_path):
    write_sweep(tmp_path, "lr_depth", ARMS, scales=(1, 2, 4), seeds=2, axis="depth")
    with style():
        figure = FIGURES["lr_depth"].draw(load_sweep(tmp_path, "lr_depth"))
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "depth"
    assert [text.get_text() for text in legend.get_texts()][:3] == ["1", "2 (base)", "4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lr_widht"], "no figure 'lr_widht'; there are lr_width, lr_depth"),
        (["lr_width"], "lr_width.parquet: no such results"),
        (["--sweep", "mine"], "--sweep: needs the name of one figure"),
        (["lr_width", "--runs-dir", "nowhere"], "no records of sweep 'lr_width'"),
    ],
)
def test_bad_requests_are_one_line_and_exit_code_2(tmp_path, capsys, arguments, message):
    assert run_main(tmp_path, *arguments) == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert stderr.count("\n") == 1


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
    with style():
        figure = draw_transfer(load_sweep(tmp_path, "s"), AXES["width"])
    (panel,) = figure.axes
    (diamond,) = diamonds(panel)
    assert to_rgb(diamond.get_markerfacecolor()) == (1, 1, 1)
    assert "|" not in [line.get_marker() for line in panel.lines]


def test_everything_diverged_still_draws(tmp_path):
    write_sweep(tmp_path, "s", {"sp": drifting(0)}, scales=(64, 128), cliff=-math.inf)
    with style():
        figure = draw_transfer(load_sweep(tmp_path, "s"), AXES["width"])
        save(figure, tmp_path, "diverged")
    assert not diamonds(figure.axes[0])


def test_five_panels_leave_no_empty_sixth(tmp_path):
    arms = {name: drifting(0) for name in ("complete_d", "sp_fan_in", "completep", "mup", "sp")}
    write_sweep(tmp_path, "s", arms, scales=(32, 64), log2_lrs=range(-8, -3), seeds=2)
    with style():
        figure = draw_transfer(load_sweep(tmp_path, "s"), AXES["width"])
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["SP", "SP (1/fan-in init)", "μP", "CompleteP", "Complete(d)P"]


def test_palette_darkens_with_scale():
    def luminance(rgb):
        return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]

    shades = [luminance(colour) for colour in sequential_palette([32, 64, 128, 256]).values()]
    assert shades == sorted(shades, reverse=True)
