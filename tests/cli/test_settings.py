"""Settings: the command line, then the environment, then a file; and the log."""

import logging
from pathlib import Path
from typing import Any

import pytest
import typer

from napari_patchset.cli.app import COMMANDS, app
from napari_patchset.cli.settings import RUNNING, SETTINGS
from support.czi_maker import MakeCzi, SceneSpec

NO_SETTINGS = {"job", "of", "config", "dry_run", "yes", "sources"}
"""Options of the group that say what is done, not how."""


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collect the options that `score` passes on."""
    options = list[dict[str, Any]]()
    target = "napari_patchset.cli.export.score_job"
    monkeypatch.setattr(target, lambda *_, **more: options.append(more) or ())
    return options


SCORE = ("score", "a.patches.zarr", "--job", 0, "--of", 1)


def test_the_command_line_goes_before_the_environment_and_that_before_the_file(
    run: Any, taken: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        'workers = 2\nmemory = "1MiB"\n[score]\nmemory = "3MiB"\n[write]\nworkers = 9\n'
    )
    monkeypatch.setenv("PATCHSET_CONFIG", str(file))
    run(*SCORE)
    monkeypatch.setenv("PATCHSET_WORKERS", "3")
    run(*SCORE)
    run(*SCORE, "--workers", 4)
    assert [each["threads"] for each in taken] == [2, 3, 4]
    assert {each["memory"] for each in taken} == {3 * 2**20}


def test_the_file_is_named_on_the_command_line(run: Any, taken: Any, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("workers = 7\n")
    run(*SCORE, "--config", "other.toml")
    assert taken[0]["threads"] == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('patch_size = "8,8"\n', "patch_size is not a setting; they are"),
        ("workers = \n", "not a TOML file"),
        ('workers = "many"\n', "bad.toml: workers = 'many': "),
        ("[score]\nworkers = 0\n", "bad.toml: workers = 0: "),
        ("[scor]\nworkers = 2\n", "[scor] is no command; they are info, "),
    ],
)
def test_a_bad_file_is_one_line(
    run: Any, taken: Any, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "bad.toml").write_text(text)
    code, out, err = run(*SCORE, "--config", "bad.toml")
    assert (code, out, err.count("\n"), taken) == (1, "", 1, [])
    assert message in err


def test_json_may_be_a_setting(run: Any, taken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHSET_JSON", "1")
    assert '"event": "summary"' in run(*SCORE)[1]


def test_every_option_on_how_a_command_runs_is_a_setting() -> None:
    group, found = typer.main.get_command(app), set[str]()
    for name in COMMANDS:
        parameters = group.get_command(typer.Context(group), name).params  # type: ignore[attr-defined]
        of_group = [p for p in parameters if getattr(p, "rich_help_panel", "") == RUNNING]
        found |= {max(p.opts, key=len).removeprefix("--").replace("-", "_") for p in of_group}
    assert found - NO_SETTINGS == set(SETTINGS)


def test_the_log_is_appended_to_a_file(run: Any, czi: MakeCzi, tmp_path: Path) -> None:
    path = czi(SceneSpec(rect=(0, 0, 64, 48)))
    words = ("export", path, "--patch-size", "16,16", "--out", "a.patches.zarr")
    code, _, err = run(*words, "--log-file", "logs/a.log")
    assert (code, err.count("\n")) == (1, 1)
    assert "there is no folder logs" in err
    (tmp_path / "logs").mkdir()
    assert run(*words, "--log-file", "logs/a.log")[0] == 0
    assert run(*words, "--log-file", "logs/a.log")[0] == 1
    log = (tmp_path / "logs" / "a.log").read_text()
    assert "export" in log.splitlines()[0]
    assert "written: 12 of 12" in log
    assert log.count("ERROR") == 1
    assert not [each for each in logging.root.handlers if isinstance(each, logging.FileHandler)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_that_can_not_be_written_is_one_line(run: Any, czi: MakeCzi) -> None:
    path = czi(SceneSpec(rect=(0, 0, 64, 48)))
    words = ("export", path, "--patch-size", "16,16", "--out", "a.patches.zarr")
    code, out, err = run(*words, "--log-file", "/dev/full")
    assert (code, out.count("\n")) == (0, 1)
    assert err == "patchset: /dev/full: No space left on device; the log ends here.\n"


@pytest.mark.parametrize(("flags", "shows"), [((), False), (("-v",), False), (("-vv",), True)])
def test_the_log_is_shown_on_demand(run: Any, czi: MakeCzi, flags: Any, shows: bool) -> None:
    path = czi(SceneSpec(rect=(0, 0, 64, 48)))
    words = ("export", path, "--patch-size", "16,16", "--out", "a.patches.zarr")
    code, out, err = run(*words, *flags)
    assert (code, out.count("\n")) == (0, 1)
    assert ("INFO" in err) == bool(flags)
    assert ("wrote shard 0 of all/image" in err) == shows
