"""README.md and docs/ say nothing that is not so: links, paths, names, commands, arrows."""

import importlib
import json
import re
import shlex
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pandas as pd
import pytest
import yaml
from support.numbers import same_text

from analysis.studies import STUDIES
from figures.names import NAMES
from sweeps.expand import read_sweep

ROOT = Path(__file__).parent.parent
DOCS = [
    "README.md",
    "slurm/README.md",
    "figures/README.md",
    "analysis/CLAIMS.md",
    "analysis/results/README.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
]
ROOMS = ("paper_repro", "slurm", "sweeps", "analysis", "figures")

LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(#[^)\s]*)?\)")
PATH = re.compile(
    rf"(?<![\w/<.-])((?:{'|'.join(ROOMS)}|docs|tests|\.ci)/[\w./-]+\.(?:py|yaml|md|png|svg|parquet))"
)
NAME = re.compile(rf"`((?:{'|'.join(ROOMS)})(?:\.\w+)+)`")
COMMAND = re.compile(r"python -m ([\w.]+)")
INTERVAL = re.compile(r"−?\d+\.\d+ \[−?\d+\.\d+, −?\d+\.\d+\]")


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.fixture(params=DOCS)
def doc(request) -> str:
    return request.param


def test_links_lead_to_files(doc):
    targets = [target for target, _ in LINK.findall(read(doc)) if target]
    missing = [target for target in targets if not (ROOT / doc).parent.joinpath(target).exists()]
    assert not missing


def test_paths_exist(doc):
    assert not [path for path in PATH.findall(read(doc)) if not (ROOT / path).exists()]


def test_links_to_lines_show_what_they_name(doc):
    """The lines of a link hold a word that its own line of the document has in backticks."""
    for line in read(doc).splitlines():
        for target, anchor in LINK.findall(line):
            if not re.fullmatch(r"#L\d+(-L\d+)?", anchor):
                continue
            numbers = [int(number) for number in re.findall(r"\d+", anchor)]
            source = ((ROOT / doc).parent / target).read_text(encoding="utf-8").splitlines()
            shown = "\n".join(source[numbers[0] - 1 : numbers[-1]])
            assert any(f'"{word}"' in shown for word in re.findall(r"`(\w+)`", line)), (
                f"{doc}: {target}{anchor} shows {shown!r}"
            )


def test_links_within_documents_lead_to_headings(doc):
    for target, anchor in LINK.findall(read(doc)):
        if not anchor or anchor.startswith("#L"):
            continue
        text = ((ROOT / doc).parent / target).read_text(encoding="utf-8") if target else read(doc)
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor[1:] in slugs


def test_names_of_code_exist(doc):
    for name in NAME.findall(read(doc)):
        assert resolves(name), name


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        try:
            reduce(getattr, parts[length:], module)
        except AttributeError:
            return False
        return True
    return False


def test_commands_exist(doc):
    for name in COMMAND.findall(read(doc)):
        module = importlib.import_module(name)
        if hasattr(module, "__path__"):
            module = importlib.import_module(f"{name}.__main__")
        assert callable(module.main), name


def test_setup_is_two_lines_and_the_second_is_what_ci_runs():
    lines = re.findall(r"^ *(pip install .*)$", read("README.md"), re.MULTILINE)
    assert lines == [
        "pip install -c constraints.txt -e . && python -m sweeps.launch sweeps/lr_width.yaml",
        "pip install -c constraints.txt -e '.[test]' && pytest",
    ]
    assert set(lines[1].split(" && ")) <= set(read(".ci/run").splitlines())


def test_the_readme_is_short():
    assert len(read("README.md").splitlines()) <= 180


def blocks(path: str, language: str) -> list[str]:
    """The fenced code of a language in a document."""
    return re.findall(rf"^```{language}\n(.*?)^```", read(path), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("path", "runs"), [("README.md", 126), ("docs/sweeps.md", 126)])
def test_the_sweep_files_of_the_documents_are_valid(path, runs, tmp_path):
    whole = [block for block in blocks(path, "yaml") if block.startswith("name:")]
    file = tmp_path / "my_sweep.yaml"
    sweeps = []
    for example in whole:
        file.write_text(example, encoding="utf-8")
        sweeps.append(read_sweep(file))
    assert len(sweeps[0].runs) == runs
    assert all(sweep.searches for sweep in sweeps[1:])


EXAMPLES = [
    pytest.param(source, id=f"{path}-{number}")
    for path in ("README.md", "docs/library.md", "docs/sweeps.md")
    for number, source in enumerate(blocks(path, "python"), start=1)
]


@pytest.mark.parametrize("source", EXAMPLES)
def test_the_python_of_the_documents_runs(source, monkeypatch, capsys):
    """It prints something; where a comment has numbers, those."""
    for package in ("transformers", "accelerate"):
        if "transformers" in source:
            pytest.importorskip(package, reason=f"needs the extra peers: {package}")
    monkeypatch.chdir(ROOT)
    exec(compile(source, "<example>", "exec"), {})
    printed = capsys.readouterr().out
    assert printed
    stated = re.findall(r"^print\(.*\)  # ([\d. ]+)$", source, re.MULTILINE)
    for line, numbers in zip(printed.splitlines(), stated, strict=False):
        expected = [float(number) for number in numbers.split()]
        assert [float(number) for number in line.split()] == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_the_script_for_fsdp_runs_on_two_processes(tmp_path):
    """With the function `llama` of the example above it, and one step."""
    pytest.importorskip("transformers", reason="needs the extra peers: transformers")
    (trainer,) = [each for each in blocks("docs/library.md", "python") if "Trainer(" in each]
    (fsdp,) = [each for each in blocks("docs/library.md", "py") if "fully_shard" in each]
    llama = trainer[trainer.index("def llama") : trainer.index("with torch.device")]
    step = """
model = torch.compile(model, backend="eager")
tokens = torch.zeros(1, 8, dtype=torch.int64)
model(tokens, labels=tokens).loss.backward()
optimizer.step()
print(rules.table())
dist.destroy_process_group()
"""
    script = tmp_path / "train.py"
    imports = "from transformers import LlamaConfig, LlamaForCausalLM\n"
    whole = imports + llama + fsdp.replace("model = torch.compile(model)\n", "") + step
    script.write_text(whole, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    run = [*command, "--nproc-per-node", "2", str(script)]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("optimiser groups") == 2


def console_blocks() -> dict[str, list[str]]:
    """What README.md shows of the output of commands: `$ command`, then some of its lines."""
    shown: dict[str, list[str]] = {}
    for block in blocks("README.md", "console"):
        for line in block.splitlines():
            if line.startswith("$ "):
                lines = shown[line[2:]] = []
            else:
                lines.append(line)
    return shown


def output(command: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that a command `python -m …` prints."""
    _, _, module, *arguments = shlex.split(command)
    assert importlib.import_module(f"{module}.__main__").main(arguments) == 0
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_the_readme_shows_what_the_factors_command_prints(capsys):
    (command,) = [name for name in console_blocks() if "paper_repro.parameterization" in name]
    lines = console_blocks()[command]
    assert lines
    assert set(lines) <= set(output(command, capsys))


@pytest.mark.slow
def test_the_readme_shows_what_the_coordinate_check_prints(capsys):
    """But for slopes, which differ in the last digits between machines."""
    (command,) = [name for name in console_blocks() if "paper_repro.coordinate_check" in name]

    def masked(lines: list[str]) -> set[str]:
        return {re.sub(r"[+-]\d\.\d\d ± \d\.\d\d", "#", line) for line in lines}

    lines = console_blocks()[command]
    assert lines
    assert masked(lines) <= masked(output(command, capsys))


def test_the_table_of_the_documents_is_what_the_figure_prints(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "110")
    printed = output(f"python -m figures lr_width --output-dir {tmp_path}", capsys)
    (table,) = blocks("figures/README.md", "text")
    for line in filter(str.strip, table.splitlines()):
        assert any(same_text(line, other) for other in printed), line


def test_docs_name_no_private_place(doc):
    assert not re.search(r"/(work|tmp|root|home)/", read(doc))


def test_the_intervals_in_the_readme_are_those_of_the_claims():
    """Which are held to the tables of the committed results."""
    known = INTERVAL.findall(read("analysis/CLAIMS.md"))
    quoted = INTERVAL.findall(read("README.md"))
    assert len(quoted) > 10
    assert [interval for interval in quoted if interval not in known] == []


def committed(sweep: str) -> pd.DataFrame:
    return pd.read_parquet(ROOT / f"analysis/results/{sweep}.parquet")


#: In place of minutes in figures/README.md.
NOT_RUN = "not run yet"


def has_results(sweep: str) -> bool:
    return (ROOT / f"analysis/results/{sweep}.parquet").exists()


def test_the_scale_in_the_readme_is_that_of_the_committed_runs():
    known = dict.fromkeys(study.sweep for study in STUDIES.values())
    sweeps = [
        committed(sweep) for sweep in (*known, "tuned_global", "ladder") if has_results(sweep)
    ]
    runs = pd.concat([sweep[["parameters", "train.tokens"]] for sweep in sweeps])
    small, large = runs["parameters"].min() / 1e3, runs["parameters"].max() / 1e6
    short, long = (getattr(runs["train.tokens"], name)() / 1e6 for name in ("min", "max"))
    seeds = [sweep["seed"].nunique() for sweep in sweeps]
    readme = read("README.md")
    assert f"{small:.0f} thousand to {large:.1f} million parameters" in readme
    assert f"{short:.2f} to {long:.1f} million bytes" in readme
    assert f"{min(seeds)} to {max(seeds)} seeds" in readme


def test_the_minutes_of_the_figures_are_those_of_the_committed_runs():
    """Over two workers, within the range stated; that of README.md is the same."""
    page = read("figures/README.md")
    rows = re.findall(r"`sweeps/(\w+)\.yaml` \| ([^|]*) \|", page)
    others = page.count("| those above |") + page.count("| none of ours ")
    assert len(rows) + others == len(NAMES)
    for sweep, stated in rows:
        assert has_results(sweep) == (stated != NOT_RUN), sweep
        if stated == NOT_RUN:
            continue
        runs, file = committed(sweep), read_sweep(ROOT / f"sweeps/{sweep}.yaml")
        share = 1 if file.searches else len(file.runs) / len(runs)
        minutes = runs["wall_seconds"].sum() * share / 2 / 60
        low, *_, high = [int(number) for number in re.findall(r"\d+", stated) * 2]
        assert low - 0.5 <= minutes <= high + 0.5, (sweep, minutes)
        assert sweep != "lr_width" or f"{stated} minutes" in " ".join(read("README.md").split())


def test_the_citations_agree():
    """BibTeX in README.md and CITATION.cff."""
    (bibtex,) = blocks("README.md", "bibtex")
    cite = yaml.safe_load(read("CITATION.cff"))
    (paper,) = cite["references"]
    names = " and ".join(author["family-names"] for author in paper["authors"])
    (number,) = [name["value"].removeprefix("arXiv:") for name in paper["identifiers"]]
    for field in (
        f"title = {{{paper['title']}}}",
        f"author = {{{names}}}",
        f"year = {{{paper['year']}}}",
        f"eprint = {{{number}}}",
        f"title = {{{cite['title']}}}",
        f"author = {{{{{cite['authors'][0]['name']}}}}}",
        f"version = {{{cite['version']}}}",
        f"license = {{{cite['license']}}}",
    ):
        assert field in bibtex


def test_the_speeds_in_bfloat16_are_the_committed_ones():
    history = json.loads(read("analysis/results/benchmark_cpu_bfloat16.json"))["history"]
    kept = history[-1]["rows"]
    bundled, plain = (
        {row["width"]: row for row in kept if row["variant"] == variant}
        for variant in ("bundled", "plain")
    )
    lines = read("docs/performance.md").splitlines()
    for width, row in bundled.items():
        ratio = row["tokens_per_s"] / plain[width]["tokens_per_s"]
        hours = (row["runs_per_hour"], plain[width]["runs_per_hour"])
        cells = [f"{width}", f"{ratio:.2f}×", *(f"{runs:,.0f}" for runs in hours)]
        assert f"| {' | '.join(cells)} |" in lines
