"""Parameterisations side by side: runs, multipliers, coordinate checks, and how a notebook shows
them."""

import pandas as pd
import pytest
from matplotlib.figure import Figure
from support.synthetic_sweep import drifting, write_sweep

from analysis import compare
from analysis.arms import AXES, Arm
from analysis.compare import (
    check_coordinates,
    compare_multipliers,
    compare_slopes,
    compared_arms,
    count_runs,
    load_runs,
)
from analysis.load import load_sweep, save_results
from analysis.transfer import fit_transfer
from figures import notebook
from figures.coordinates import draw_coordinates
from figures.made import Made
from figures.metric import draw_metric
from figures.notebook import picture, show, show_made, show_metric
from paper_repro.errors import ConfigError
from paper_repro.parameterization import (
    PARAMETERIZATIONS,
    RULE_QUANTITIES,
    TENSOR_CLASSES,
    Ratios,
    Scaling,
    multipliers,
)

ARMS = {"complete_d": drifting(0), "sp": drifting(-0.6)}
RATIOS = Ratios(N=4, L=2, B=8, D=16)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder of results: a sweep along width and one along depth."""
    folder = tmp_path_factory.mktemp("results")
    write_sweep(folder / "runs", "lr_width", ARMS, scales=(32, 64, 128))
    write_sweep(folder / "runs", "lr_depth", ARMS, scales=(1, 2, 4), seeds=2, axis="depth")
    for name in ("lr_width", "lr_depth"):
        save_results(load_sweep(folder / "runs", name), folder / f"{name}.parquet")
    return folder


@pytest.fixture(autouse=True)
def _results(results, monkeypatch):
    monkeypatch.setattr(compare, "COMMITTED_RESULTS", results)
    monkeypatch.setattr(notebook, "COMMITTED_RESULTS", results)


def test_runs_of_the_arms_asked_for():
    arms = compared_arms(["sp", "mup"], 1.0)
    runs = load_runs("width", arms)
    assert set(runs["parameterization"]) == {"sp"}
    counts = count_runs(runs, arms, AXES["width"])
    assert counts.loc["SP"].tolist() == [27, 27, 27]
    assert counts.loc["μP"].tolist() == [0, 0, 0]


def test_alpha_chooses_runs_only_where_it_changes_them():
    halves = compared_arms(["sp", "complete_d"], 0.5)
    along_width = load_runs("width", halves)  # m_L is 1
    assert count_runs(along_width, halves, AXES["width"]).to_numpy().tolist() == [[27] * 3] * 2
    along_depth = load_runs("depth", halves)  # SP's rules have no α in them
    assert count_runs(along_depth, halves, AXES["depth"]).to_numpy().tolist() == [[18] * 3, [0] * 3]
    with pytest.raises(ConfigError, match=r"lr_depth: no run of Complete\(d\)P, α = ½"):
        load_runs("depth", halves[1:])


def test_wrong_axes_and_metrics_name_the_right_ones():
    with pytest.raises(ConfigError, match="axis 'batch': expected one of width, depth"):
        load_runs("batch", [Arm("sp")])
    with pytest.raises(ConfigError, match="axis 'batch': expected one of width, depth"):
        check_coordinates("batch", [Arm("sp")])
    with pytest.raises(ConfigError, match="metric 'drift': expected one of optimum, shift"):
        draw_metric(fit_transfer(load_runs("width", [Arm("sp")]), AXES["width"]), "drift")


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_multipliers_are_those_of_the_command(name):
    table = compare_multipliers([Arm(name, 0.75), Arm("sp_fan_in")], RATIOS).iloc[:, 0]
    expected = multipliers(Scaling(name, RATIOS, 0.75)).as_json()
    assert table["forward"].to_dict() == expected["multipliers"]
    assert table["steps"].tolist() == [expected["iterations"]]
    for quantity in RULE_QUANTITIES:
        rows = table[quantity].to_dict()
        for tensor_class in TENSOR_CLASSES:
            value = expected["tensor_classes"][tensor_class][quantity]
            assert rows.get(tensor_class, rows.get("all")) == value


def test_rows_that_are_equal_for_all_tensor_classes_are_one():
    table = compare_multipliers([Arm("sp"), Arm("complete_d")], RATIOS)
    assert table.loc["one_minus_beta1"].index.tolist() == ["all"]
    assert table.loc["lr"].index.tolist() == list(TENSOR_CLASSES)
    assert table.columns.tolist() == ["SP", "Complete(d)P"]


def measurements():
    """Changes that stay under Complete(d)P and grow as the width under SP."""
    return pd.DataFrame(
        [
            (name, "width", size, seed, 1, "change", "residual", float(size**slope))
            for name, slope in (("SP", 1), ("Complete(d)P", 0))
            for size in (32, 64, 128)
            for seed in (0, 1)
        ],
        columns=["arm", "axis", "size", "seed", "step", "kind", "quantity", "value"],
    )


def test_slopes_side_by_side():
    table = compare_slopes(measurements())
    assert table["SP"].tolist() == ["FAIL +1.00 ± 0.00", "FAIL (1 of 1)"]
    assert table["Complete(d)P"].tolist() == ["+0.00 ± 0.00", "PASS"]


def test_coordinates_are_drawn_relative_to_the_base():
    figure = draw_coordinates(measurements())
    assert [panel.get_title() for panel in figure.axes] == ["SP", "Complete(d)P"]
    changes = [panel.lines[0].get_ydata().tolist() for panel in figure.axes]
    assert changes == [pytest.approx([1, 2, 4]), pytest.approx([1, 1, 1])]


def test_a_metric_is_drawn_with_its_base_at_zero():
    runs = load_runs("width", [Arm("sp"), Arm("complete_d")])
    figure = draw_metric(fit_transfer(runs, AXES["width"]), "shift")
    (panel,) = figure.axes
    sp, complete_d = (container.lines[0].get_ydata() for container in panel.containers)
    assert list(sp) == pytest.approx([0.6, 0, -0.6], abs=0.15)
    assert list(complete_d) == pytest.approx([0, 0, 0], abs=0.15)


def test_show_draws_and_tells_the_numbers(capsys):
    show("lr_width")
    printed = capsys.readouterr().out
    assert "Image" in printed
    assert "Complete(d)P" in printed
    assert "holds" in printed
    show_metric("lr_width", "loss")
    assert capsys.readouterr().out.count("Image") == 1


def test_show_says_what_is_missing(monkeypatch):
    displayed = []
    monkeypatch.setattr(notebook, "display", displayed.append)
    show("lr_width", sweep="mine")
    assert [shown.data for shown in displayed] == ["<p>No results of sweep mine yet.</p>"]
    show_metric("lr_batch", "loss")
    assert displayed[1].data == "<p>No results of sweep lr_batch yet.</p>"
    with pytest.raises(ConfigError, match="no figure 'lr_widht'; there are lr_width"):
        show("lr_widht")


def test_what_was_made_is_shown(monkeypatch):
    displayed = []
    monkeypatch.setattr(notebook, "display", displayed.append)
    table = pd.DataFrame({"loss": ["1.8 [1.7, 1.9]"]}, index=pd.Index(["SP"], name=""))
    show_made(lambda: Made(Figure(), {}, {"Losses < 2": table}, ("a < b",)))
    image, caption, frame, paragraph = displayed
    assert image.data.startswith(b"\x89PNG")
    assert caption.data == "<p><b>Losses &lt; 2</b></p>"
    assert frame is table
    assert paragraph.data == "<p>a &lt; b</p>"


def test_a_picture_is_a_png():
    transfer = fit_transfer(load_runs("width", [Arm("sp")]), AXES["width"])
    assert picture(draw_metric, transfer, "optimum").data.startswith(b"\x89PNG")
