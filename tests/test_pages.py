"""What the pages say in words is true: labels, options, names, numbers, messages, output.

`test_readme.py` runs their code.
"""

import json
import re
import shlex
import tomllib
from colorsys import rgb_to_hls
from pathlib import Path
from typing import Any, get_args

import jsonschema
import numpy as np
import pytest
import typer
from hypothesis import settings

import napari_patchset
from napari_patchset import Split, Tiled, parse_filter, read_geojson
from napari_patchset.annotations.geojson import _CHUNK
from napari_patchset.annotations.polygons import _AT_ONCE, MAX_CLASSES
from napari_patchset.cli.app import COMMANDS, app
from napari_patchset.cli.settings import SETTINGS
from napari_patchset.exporting.plans.command_line import make_plan
from napari_patchset.exporting.plans.options import OPTIONS, format_bytes
from napari_patchset.jobs.executors import DEFAULT_MEMORY
from napari_patchset.patching import duplicates
from napari_patchset.patching.filters.measurements import limit_words
from napari_patchset.patching.filters.patch_filters import FILTERS
from napari_patchset.patching.splits.split import _MAX_RATIO
from napari_patchset.patching.strategies import STRATEGIES
from napari_patchset.patching.verdicts import _OTSU_BINS
from napari_patchset.patchset.layout import SHARD_BYTES
from napari_patchset.patchset.statistics import _MAX_INTEGERS
from napari_patchset.patchset.writers import FORMATS
from napari_patchset.preview.categories import CATEGORY_COLORS, PatchCategory
from napari_patchset.source import _WHOLE_TOLERANCE
from napari_patchset.stacks.retrying import N_ATTEMPTS
from napari_patchset.stacks.tiff.metadata import _MAX_PIXEL_SIZE
from napari_patchset.stacks.zarr.chunks import _MAX_FINGERPRINTED
from napari_patchset.stacks.zarr.remote import MAX_REQUESTS
from napari_patchset.stitching import stitched_image
from napari_patchset.stitching.blending import BLENDS
from napari_patchset.stitching.stitch import StitchOptions
from napari_patchset.training.lazy import DEFAULT_CACHE
from napari_patchset.verification.opened_set import FindingName
from support.documents import REPOSITORY, blocks, number, tables
from support.strategy_makers import source
from test_words import PAGES, texts

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
CONTRIBUTIONS = (REPOSITORY / "src" / "napari_patchset" / "napari.yaml").read_text("utf-8")

OF_NAPARI = {"File", "Plugins", "Open Sample", "Open Files as Stack", "Choose reader"}
OF_NAPARI |= {"Install/Uninstall Plugins"}
OF_QUPATH = {"Export objects as GeoJSON", "Export as FeatureCollection"}
OF_OTHER_PROGRAMS = {"--array", "--forcerun", "--help", "--retries"}
OF_OTHER_LIBRARIES = {"BoundedStack", "DataLoader", "ImageStackLoading", "MiB", "RawData"}
OF_OTHER_LIBRARIES |= {"TileExporter"}
MIB = 2**20


def page(name: str) -> str:
    """Return the prose of a page on one line, without its code blocks."""
    path = REPOSITORY / name if name == "README.md" else REPOSITORY / "docs" / f"{name}.md"
    return " ".join(re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.S | re.M).split())


def prose(path: Path) -> str:
    return re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def program_texts() -> set[str]:
    """Return all strings of the program."""
    modules = (REPOSITORY / "src").rglob("*.py")
    return {text for module in modules for _, text in texts(module, words=True)}


def test_every_label_in_italics_is_in_the_window() -> None:
    strings = program_texts()
    display = re.findall(r"(?:title|display_name): (.+)", CONTRIBUTIONS)
    known = {text.removesuffix(":").rstrip("…") for text in strings} | OF_NAPARI | OF_QUPATH
    known |= {*display, *(f"{each} (Patchset)" for each in display), limit_words("p10"), ""}
    known |= {text.partition(":")[0] for text in strings}  # "tiled: a regular grid"
    found = list[str]()
    for path in PAGES:
        text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", prose(path))
        for label in re.findall(r"(?<![*\w])\*(?![*\s])([^*\n]+)\*(?!\*)", text):
            if not label.endswith("."):  # the caption of a picture
                found += [f"{path.name}: {part}" for part in label.split(" > ")]
    unknown = [each for each in found if each.partition(": ")[2].rstrip("…") not in known]
    assert unknown == []
    assert len(found) > 60


def test_every_option_in_a_page_is_one_of_the_command() -> None:
    group = typer.main.get_command(app)
    context = typer.Context(group)
    commands = [group.get_command(context, name) for name in COMMANDS]  # type: ignore[attr-defined]
    options = {
        flag for each in commands for p in each.params for flag in (*p.opts, *p.secondary_opts)
    }
    for path in (*PAGES, REPOSITORY / "CHANGELOG.md"):
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", prose(path)))
        assert named <= options | OF_OTHER_PROGRAMS, path.name


def test_every_class_in_a_page_is_public() -> None:
    for path in (*PAGES, REPOSITORY / "CHANGELOG.md"):
        code = " ".join(re.findall(r"`([^`]+)`", prose(path)))
        named = set(re.findall(r"(?<![\w.\"'/])[A-Z][a-z]+(?:[A-Z][a-zA-Z]+|(?=\())", code))
        assert named <= {*napari_patchset.__all__, *OF_OTHER_LIBRARIES}, path.name


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("annotations", f"An image has at most {MAX_CLASSES} classes."),
        ("cluster", f"`--memory` ({format_bytes(DEFAULT_MEMORY)})"),
        ("cluster", f"A job owns whole shards of {SHARD_BYTES // MIB} MiB"),
        ("cluster", f"after {('no', 'one', 'two', 'three', 'four', 'five')[N_ATTEMPTS]} attempts"),
        ("patching", f"the largest distance of two hashes, 0 to {duplicates.MAX_DISTANCE} bits"),
        ("patching", f"look alike (a distance up to {duplicates.ALIKE})"),
        ("patchset-format", f"as many patches as fit into {SHARD_BYTES // MIB} MiB"),
        ("files", f"nor is anything above {_MAX_PIXEL_SIZE:g} µm"),
        ("patching", f"off by more than {_MAX_RATIO} times"),
        ("patching", f"from a histogram of {_OTSU_BINS} bins"),
        ("patching", f"A factor within {float(100 * _WHOLE_TOLERANCE):g} % of a whole number"),
        ("patchset-format", f"span less than 2^{_MAX_INTEGERS.bit_length() - 1}"),
        ("performance", f"within `--memory` ({DEFAULT_MEMORY // MIB} MiB)"),
        ("performance", f"is decoded {_CHUNK // 10**6} MB at a time"),
        ("performance", f"and {_AT_ONCE:_} outlines at a time are checked".replace("_", " ")),
        ("performance", f"is repeated {('', '', 'two', 'three', 'four')[N_ATTEMPTS - 1]} times"),
        ("performance", f"Up to {MAX_REQUESTS} requests overlap"),
        ("performance", f"The key is sampled from at most {_MAX_FINGERPRINTED} chunks"),
        ("stitching", f"a few shards of {stitched_image.SHARD_BYTES // MIB} MiB"),
        ("training", f"`cache={DEFAULT_CACHE // MIB} MiB`"),
    ],
)
def test_a_number_is_that_of_the_program(name: str, statement: str) -> None:
    assert statement in page(name)


@pytest.mark.gui
def test_a_number_is_that_of_the_window() -> None:
    from napari_patchset.plugin.canvas.drawn_outlines import MAX_SHAPES
    from napari_patchset.plugin.canvas.summary import MULTIPLE

    assert f"a file of more than {MAX_SHAPES} is used, but not drawn" in page("annotations")
    assert f"tells you when a size is not a multiple of {MULTIPLE}" in page("choosing")


def test_every_kind_is_described() -> None:
    described = page("patching")
    assert all(f"- **{kind.capitalize()}** " in described for kind in STRATEGIES)
    assert all(f"| `{blend}` |" in page("stitching") for blend in BLENDS)
    assert all(f"| `{each}` |" in page("patchset-format") for each in FORMATS)
    of_classes = {"share"}  # which the page of annotations describes
    for kind, model in FILTERS.items():
        assert kind in of_classes or f"| `{kind}` | {model.word or kind} |" in described


def test_the_colours_of_patches_have_the_names_of_the_pages() -> None:
    def hue(category: PatchCategory) -> float:
        rgb = [int(CATEGORY_COLORS[category][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        return 360 * rgb_to_hls(*rgb)[0]

    assert "Training patches are yellow, validation patches blue; the red ones" in page("README.md")
    assert "draws test patches in violet" in page("patching")
    assert 45 < hue(PatchCategory.TRAIN) < 65
    assert 180 < hue(PatchCategory.VAL) < 250
    assert 255 < hue(PatchCategory.TEST) < 320
    assert not 15 < hue(PatchCategory.REJECTED) < 345


def test_the_versions_and_examples_of_the_tests_are_those_of_the_pages() -> None:
    contributing = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    local, ci = (settings.get_profile(name).max_examples for name in ("local", "ci"))
    assert f"Hypothesis tries {local} examples, and {ci} in CI" in contributing
    (careamics,) = re.findall(
        r'"careamics==([\d.]+)"', (REPOSITORY / "noxfile.py").read_text("utf-8")
    )
    assert f"CAREamics ({careamics})" in page("frameworks")


def test_the_defaults_are_those_of_the_pages(tmp_path: Path) -> None:
    plan = make_plan(["cells.czi@0"], str(tmp_path / "a.patches.zarr"))
    tiled = plan.strategy
    assert isinstance(tiled, Tiled)
    assert "`Tiled` is the default of the command" in page("patching")
    assert (tiled.edge, tiled.small, tiled.min_covered) == ("shift", "error", 0.5)
    assert "| `shift` (default): moved back |" in page("patching")
    assert "An image smaller than a patch is an error, unless `small`" in page("patching")
    assert "cover less than half (`min_covered`)" in page("patching")
    assert (Split(val=0.1).by, tiled.min_inside) == ("auto", 1)
    assert '`by="auto"`, the default' in page("patching")
    assert "the share of each patch that must lie inside, 1 unless it is set" in page("annotations")
    assert (plan.codec, StitchOptions().codec, StitchOptions().fill) == ("none", "none", 0)
    assert "so `none` is the default, as of an export" in page("stitching")
    assert "they have the value of `--fill` (0)" in page("stitching")


def test_python_and_extras_are_those_of_the_package() -> None:
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(PYPROJECT["project"]["classifiers"]))
    assert f"Python {versions[0]} to {versions[-1]}:" in page("README.md")
    extras = set(PYPROJECT["project"]["optional-dependencies"])
    assert extras == {"napari", "remote", "distributed"}
    assert all(f"`{extra}`" in page("README.md") for extra in extras - {"napari"})
    assert (
        set(re.findall(r"pip install '(?:\.|napari-patchset)\[(\w+)\]'", page("cluster"))) <= extras
    )


def test_the_settings_are_those_of_the_page(run: Any, tmp_path: Path) -> None:
    listed = re.search(r"may be set for all commands: (.+?)\. The command", page("cluster"))
    assert listed is not None
    names = {name.replace("-", "_") for name in re.findall(r"`--([a-z-]+)`", listed[1])}
    assert names == set(SETTINGS)
    (text,) = (text for kind, _, text in blocks(REPOSITORY / "docs/cluster.md") if kind == "toml")
    file = tmp_path / "shown.toml"
    file.write_text(text.replace("/scratch/", ""), "utf-8")
    code, _, err = run("export", "none.czi", "--out", "a.patches.zarr", "--config", str(file))
    assert code == 1
    assert "none.czi" in err  # it is the file that is missing; the settings are taken


def test_the_event_that_is_shown_is_one_of_the_schema() -> None:
    (text,) = (text for kind, _, text in blocks(REPOSITORY / "docs/cluster.md") if kind == "json")
    schema = json.loads((REPOSITORY / "docs/events.schema.json").read_text("utf-8"))
    shown = json.loads(text)
    jsonschema.validate(shown, schema)
    assert Path(shown["path"]).is_absolute()


def test_what_messages_are_quoted_as_is_in_the_program() -> None:
    strings = "\n".join(program_texts())
    quoted = re.findall(r'"([^"`]+ [^"`]+)"', re.sub(r"`[^`]*`", "", page("messages")))
    assert len(quoted) >= 3
    assert [each for each in quoted if each not in strings] == []


def test_figures_that_follow_from_others_in_a_table_do() -> None:
    (rows,) = (rows for head, rows in tables("performance").items() if "| finalize |" in head)
    assert len(rows) >= 7
    for what, *steps, each, _ in rows:
        n = number(what) / (1000 if "candidates" in what else 1)
        total = sum(map(number, steps[:4]))
        rounding = 4 * 0.05 / n * 1000 + 0.05
        assert number(each) == pytest.approx(1000 * total / n, abs=rounding), what
    (rows,) = (rows for head, rows in tables("performance").items() if "| hann |" in head)
    most = max(number(cell) for row in rows for cell in row[1:])
    assert f"are stitched in at most {most:g} MB of memory" in page("performance")
    (rows,) = (rows for head, rows in tables("performance").items() if "for its key" in head)
    (one, key, _), (whole, *_) = ([number(cell) for cell in row[1:]] for row in rows)
    assert key == 2 * _MAX_FINGERPRINTED
    assert f"behind a URL of {(n_chunks := 1024):_} chunks".replace("_", " ") in page("performance")
    assert 0 < whole - key - n_chunks < one - key  # the rest is metadata


def test_what_a_million_outlines_take_is_what_was_measured(tmp_path: Path) -> None:
    measured = json.loads((REPOSITORY / "benchmarks" / "measured.json").read_text("utf-8"))
    rows = [each for each in measured["rows"] if each["name"].startswith("plan 1000000 outlines")]
    seconds = [each["ours"] for each in rows if each["name"].endswith("CPU time")]
    megabytes = [each["ours"] for each in rows if each["name"].endswith("peak")]
    text = page("performance")
    assert f"planned in {min(seconds):.0f} to {max(seconds):.0f} s of CPU time" in text
    assert f"At most {max(megabytes):.0f} MB are taken: 17 bytes a vertex and 68 an outline" in text
    angles = np.linspace(0, 2 * np.pi, 21)  # closed, as the outlines there
    ring = np.stack([20 + 9 * np.cos(angles), 20 + 9 * np.sin(angles)], 1).round(2).tolist()
    outline = {"type": "Polygon", "coordinates": [ring]}
    path = tmp_path / "a.geojson"
    for n in (100, 300):
        path.write_text(json.dumps({"type": "GeometryCollection", "geometries": n * [outline]}))
        assert read_geojson(path).nbytes == n * (21 * 17 + 68)
    (gigabytes,) = re.findall(r"stay, ([\d.]+) GB here", text)
    assert float(gigabytes) == pytest.approx((21 * 17 + 68) / 1000, abs=0.0051)


def test_every_filter_in_a_page_is_one() -> None:
    words = {*FILTERS, *(model.word for model in FILTERS.values() if model.word)}
    shape = re.compile(rf"(?:[\d.]+<)?({'|'.join(sorted(words))})\b[^ ]*[<>]")
    codes = [code for path in PAGES for code in re.findall(r"`([^`\n]+)`", prose(path))]
    filters = [code for code in codes if shape.match(code)]
    assert len(filters) > 20
    for text in filters:
        parse_filter(text)


COMPANIONS = {
    "--strategy random": "--count 5",
    "--strategy balanced": "--count 5 --classes mito=1",
    "--split-by": "--val 0.2",
    "--stratify": "--val 0.2",
}
"""What an option needs beside it, which a page that is about it alone does not repeat."""


def test_every_option_with_a_value_in_a_page_is_accepted() -> None:
    group = typer.main.get_command(app)
    command = group.get_command(parent := typer.Context(group), "export")
    flags = {flag for parameter in command.params for flag in parameter.opts}
    codes = [code for path in PAGES for code in re.findall(r"`(--[^`\n]+ [^`\n]+)`", prose(path))]
    n = 0
    for code in codes:
        words = shlex.split(code)
        is_placeholder = re.search(r"\b[A-Z]{2,}\b(?!\])|\.geojson|\.tif|\bannotations\b", code)
        if words[0] not in flags or (is_placeholder and "EGFP" not in code):
            continue
        for option, more in COMPANIONS.items():
            words += shlex.split(more) if option in code and more not in code else []
        out = "a.patches" if "--format" in code else "a.patches.zarr"
        context = command.make_context("export", ["a.czi@0", "--out", out, *words], parent=parent)
        with context:
            given = {option.name: context.params[option.name] for option in OPTIONS}
        make_plan(["a.czi@0"], out, **{name: each for name, each in given.items() if each})
        n += 1
    assert n > 30


def test_what_verify_finds_has_the_names_of_the_page() -> None:
    (rows,) = (rows for rows in tables("patchset-format").values() if rows[0][0] == "missing file")
    assert [row[0] for row in rows] == list(get_args(FindingName))


def test_every_target_of_make_is_one() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.M))
    for path in (*PAGES, REPOSITORY / "CONTRIBUTING.md"):
        named = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", path.read_text("utf-8"), re.M)
        assert {first or second for first, second in named} <= targets, path.name


def test_every_script_that_is_named_is_there() -> None:
    pattern = r"\b((?:benchmarks|docs|examples|workflows)/[\w/.-]+\.(?:py|json|md|nf|yaml))\b"
    for path in (*PAGES, REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "CHANGELOG.md"):
        named = set(re.findall(pattern, path.read_text("utf-8")))
        assert [each for each in named if not (REPOSITORY / each).exists()] == [], path.name


def test_every_strategy_and_split_in_a_line_of_a_page_is_one() -> None:
    classes = {name: getattr(napari_patchset, name) for name in ("Tiled", "Random", "Split")}
    pages = *PAGES, REPOSITORY / "CHANGELOG.md"
    codes = [code for path in pages for code in re.findall(r"`([^`\n]+\))`", prose(path))]
    calls = [code for code in codes if code.partition("(")[0] in classes]
    assert len(calls) >= 5
    for code in calls:
        needed = ", size=64, count=1)" if code.startswith("Random(") else ")"
        eval(code.removesuffix(")") + needed, classes)


def test_the_workflows_do_what_the_page_says_of_them() -> None:
    workflows = REPOSITORY / "workflows"
    rules = (workflows / "snakemake" / "Snakefile").read_text("utf-8")
    assert "Snakemake notes finished steps in `NAME.logs`" in page("cluster")
    assert 'OUT.parent / f"{OUT.name}.logs"' in rules
    assert "A job that is killed or preempted is tried again by Nextflow" in page("cluster")
    assert "retries: " not in rules  # which would try again what can't succeed
    module = (workflows / "nextflow" / "patchset" / "main.nf").read_text("utf-8")
    assert "stageAs: 'images/?/*'" in module  # files of one name, of several folders
    assert "find -L images -maxdepth 2 -mindepth 2 " in module
    config = (workflows / "nextflow" / "nextflow.config").read_text("utf-8")
    codes = {130, 143, 128 + 9}  # Ctrl-C and SIGTERM as of messages.md, and killed
    (listed,) = re.findall(r"exitStatus in \[([\d, ]+)\] \? 'retry'", config)
    assert set(map(int, listed.split(","))) == codes
    assert "| 130, 143 | stopped by Ctrl-C, by SIGTERM" in page("messages")


def test_an_unknown_codec_is_quoted_once(run: Any) -> None:
    commands = ("export", "a.czi"), ("stitch", "a.patches.zarr", "--predictions", "p.npy")
    for words in commands:
        _, _, err = run(*words, "--out", "a.patches.zarr", "--codec", "lz77")
        assert "'lz77'" in err
        assert "''" not in err


def test_sizes_in_the_advice_are_as_computed() -> None:
    plain, half = (
        len(Tiled(size=(64, 64), overlap=(o, o)).plan([source(1, 1, 2048, 2048)])) for o in (0, 32)
    )
    assert 3.8 < half / plain < 4
    assert "nearly four times as many" in page("choosing")
    assert 50 * 27 == 1350
    assert "27 planes give 1 350 patches" in page("choosing")
    assert pytest.approx(64 * 0.1) == 8 * 0.8
    assert "8 x 64 x 64 at steps of 0.8 µm and pixels of 0.1 µm is a cube" in page("choosing")
