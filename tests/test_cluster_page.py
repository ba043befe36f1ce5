"""The scripts of docs/cluster.md: run with a stand-in for the scheduler, or at least read."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from packaging.version import Version

from napari_patchset import PatchSet, __version__
from napari_patchset.cli.app import app
from support.czi_maker import MakeCzi, SceneSpec
from support.documents import REPOSITORY, blocks, run_command

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[int, str, str]]
PAGE = REPOSITORY / "docs" / "cluster.md"

SBATCH = """#!/bin/bash
for word; do case $word in
    --array=*-*) tasks=$(seq ${word#*=0-}); tasks="0 $tasks";;
    --array=*) tasks=$(tr , ' ' <<< ${word#*=});;
    --*) ;;
    *) break;;
esac; shift; done
export SLURM_ARRAY_TASK_COUNT=$(wc -w <<< "$tasks")
for SLURM_ARRAY_TASK_ID in ${tasks:-none}; do
    export SLURM_ARRAY_TASK_ID
    bash "$@" || exit 1
done
echo 7
"""
"""What Slurm does, one task after the other."""

PATCHSET = '#!/bin/bash\nprintf "%q " patchset "$@" >> commands\necho >> commands\n'
"""Notes the commands, which then run in this process: a new one each takes a second."""


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_the_slurm_scripts_make_a_set(
    tmp_path: Path, czi: MakeCzi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    czi(SceneSpec(id=0, rect=(0, 0, 160, 130), t=2, c=2), name="cells.czi")
    names = re.findall(r"^`(\w+\.sh)`", PAGE.read_text("utf-8"), re.MULTILINE)
    scripts = [text for language, _, text in blocks(PAGE) if language == "bash"]
    for name, text in zip(names, scripts, strict=True):
        Path(name).write_text(text)
    for name, text in (("sbatch", SBATCH), ("patchset", PATCHSET)):
        Path(name).write_text(text)
        Path(name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    subprocess.run(["bash", "submit.sh"], check=True, capture_output=True)
    again = [text for language, _, text in blocks(PAGE) if language == "sh" and "sbatch" in text]
    subprocess.run(["bash", "-c", *again], check=True, capture_output=True)
    noted = [shlex.split(line) for line in Path("commands").read_text().splitlines()]
    assert [words[1] for words in noted] == [
        *("plan", *["score"] * 16, *["write"] * 16, "finalize"),
        *["write"] * 2,
    ]
    assert [words[3:] for words in noted[-2:]] == [
        ["--job", str(job), "--of", "16"] for job in (7, 15)
    ]
    noted.append(noted.pop(-3))  # what is submitted again comes before `finalize`
    for words in noted:
        run_command(words, monkeypatch)
    patches = PatchSet("cells.patches.zarr")
    assert len(patches["train"]) + len(patches["val"]) > 6


WORKFLOWS = REPOSITORY / "workflows"


@pytest.mark.parametrize(
    ("path", "n"),
    [
        (PAGE, 1),
        (WORKFLOWS / "nextflow" / "patchset" / "main.nf", 4),
        (WORKFLOWS / "snakemake" / "Snakefile", 4),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_every_command_is_one(path: Path, n: int) -> None:
    text = path.read_text("utf-8")
    if path == PAGE:
        text = "\n".join(text for kind, _, text in blocks(path) if kind == "console")
    group = typer.main.get_command(app)
    found = [words for words in _commands(text) if words[0] != "--version"]
    assert len(found) == n
    parent = typer.Context(group)
    for name, *arguments in found:
        group.get_command(parent, name).make_context(name, arguments, parent=parent).close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
@pytest.mark.parametrize("options", [["--filter", "max>0"], []], ids=["filter", "no filter"])
def test_nextflow_starts_as_many_jobs_as_have_work_of_each_step(
    run: Run, czi: MakeCzi, options: list[str]
) -> None:
    module = (WORKFLOWS / "nextflow" / "patchset" / "main.nf").read_text("utf-8")
    words = (czi(SceneSpec(rect=(0, 0, 512, 512))), "--patch-size", "8", *options)
    _, out, _ = run("plan", *words, "--out", "a.patches.zarr", "--json")
    Path("plan.json").write_text(out)
    summary = json.loads(out.splitlines()[-1])
    assert summary["score_jobs"] == (4 if options else 0)
    shell = "\n".join(re.findall(r"^ +([A-Z_]+=\\\$\(sed .*)", module, re.MULTILINE))
    shell = shell.replace("\\$", "$").replace("\\\\", "\\")
    names = re.findall(r"env\('(\w+)'\)", module)
    echo = " ".join(f"${name}" for name in names)
    found = subprocess.run(
        ["bash", "-c", f"{shell}\necho {echo}"], capture_output=True, text=True, check=True
    ).stdout
    assert list(map(int, found.split())) == [summary["score_jobs"], summary["jobs"]]
    closure = re.search(r"planned.flatMap \{ meta, out, (\w+), (\w+) ->\n(.*?)\n +\}", module, re.S)
    assert closure is not None
    to_score, to_write, body = closure.groups()
    assert f"of = Math.max(1, Math.min(jobs, {to_score} as int))" in body
    assert f"writers = Math.min(jobs, {to_write} as int)" in body


def test_snakemake_has_no_output_that_it_would_delete_with_the_set() -> None:
    text = (WORKFLOWS / "snakemake" / "Snakefile").read_text("utf-8")
    outputs = re.findall(r"^    output:\n((?: {8}.*\n)+)", text, re.MULTILINE)
    assert len(outputs) == 4
    assert [each for each in outputs if not each.strip().startswith("touch(LOGS / ")] == []


def test_the_containers_have_this_version() -> None:
    files = WORKFLOWS / "nextflow" / "patchset" / "main.nf", WORKFLOWS / "snakemake" / "Snakefile"
    found = [re.findall(r"patchset/patchset:([\w.]+)", each.read_text("utf-8")) for each in files]
    release = Version(__version__).base_version
    assert found == [[release] * 4, [release]]


def _commands(text: str) -> Iterator[list[str]]:
    """Yield the words after `patchset` of each command, with a number for each variable."""
    text = re.sub(r'"\n\s+"', "", text)  # Python joins these
    text = re.sub(r"\{args\}|\{params.(options|overwrite)\}", "", text).replace("$ ", " ")
    for line in re.findall(r'^\s*"?patchset ([^\n">]+)', text, re.MULTILINE):
        words = re.sub(r"--log-file \S+", "", re.sub(r"\$?\{[^}]*\}", "3", line))
        yield shlex.split(words.rstrip("$"))
