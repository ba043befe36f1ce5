"""What `--json` prints: events of one schema, the last of them a summary or an error."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from napari_patchset.cli.report import MAX_STEPS, REPORT
from support.czi_maker import MakeCzi, SceneSpec
from support.documents import REPOSITORY

SCHEMA = REPOSITORY / "docs" / "events.schema.json"
SCENE = SceneSpec(rect=(0, 0, 64, 48), c=2)
JOB = ("a.patches.zarr", "--job", 0, "--of", 1)
PLAN = ("image.czi", "--patch-size", "8,8", "--filter", "std>p20", "--out", "a.patches.zarr")


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(SCHEMA.read_text("utf-8"))
    return content


@pytest.fixture
def events(
    run: Callable[..., tuple[int, str, str]], schema: dict[str, Any]
) -> Callable[..., list[dict[str, Any]]]:
    """Run a command with --json; require events of the schema, and nothing else."""

    def events(*words: object) -> list[dict[str, Any]]:
        code, out, err = run(*words, "--json")
        found = [json.loads(line) for line in out.splitlines()]
        for event in found:
            jsonschema.validate(event, schema)
            assert event["command"] == words[0]
        errors = [event["message"] for event in found if event["event"] == "error"]
        assert all(message in err for message in errors)
        assert errors or not err
        for event in found:
            for path in [event.get("path"), *event.get("files", ()), *event.get("removed", ())]:
                assert path is None or Path(path).is_absolute()
        *before, last = found
        assert last["event"] == ("error" if code not in (0, 1) else last["event"])
        assert last["event"] in ("summary", "error")
        assert not {"summary", "error"} & {event["event"] for event in before}
        assert [event["time"] for event in found] == sorted(event["time"] for event in found)
        return found

    return events


def test_the_schema_is_that_of_the_events(schema: dict[str, Any]) -> None:
    assert schema == runpy.run_path(str(REPOSITORY / "docs" / "schema.py"))["events_schema"]()


def test_every_step_of_an_export_reports_its_progress(events: Any, czi: MakeCzi) -> None:
    czi(SCENE)
    stages = {}
    for words in (("plan", *PLAN), ("score", *JOB), ("write", *JOB), ("finalize", JOB[0])):
        *progress, summary = events(*words)
        stages[words[0]] = list(dict.fromkeys(event["stage"] for event in progress))
        assert summary["event"] == "summary"
    assert stages == {
        "plan": ["open"],
        "score": ["score"],
        "write": ["write"],
        "finalize": ["finalize"],
    }
    assert {each["state"] for each in events("status", JOB[0])[-1]["exports"]} == {"complete"}
    for words in (("verify", JOB[0]), ("status", JOB[0]), ("clean", "."), ("finalize", JOB[0])):
        assert events(*words)[-1]["event"] == "summary"
    (Path(JOB[0]) / "all" / "image" / "c" / "0" / "0" / "0" / "0").unlink()
    *others, summary = events("verify", JOB[0], "--no-sources")
    assert [event["event"] for event in others].count("difference") == summary["differences"] == 1


def test_a_dry_run_writes_nothing_and_counts_what_the_export_writes(
    events: Any, czi: MakeCzi, tmp_path: Path
) -> None:
    czi(SCENE)
    words = ("image.czi", "--patch-size", "8,8", "--out", "a.patches.zarr")
    estimate = events("export", *words, "--dry-run")[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["image.czi"]
    made = events("export", *words)[-1]
    assert estimate["candidates"] == made["splits"]["all"] == 48
    assert estimate["bytes"] == 48 * 2 * 8 * 8 * 2 <= made["bytes"]
    assert (estimate["shards"], estimate["jobs"]) == (1, 1)
    assert estimate["estimated_seconds"] > 0


def test_an_error_is_the_last_event(events: Any, czi: MakeCzi) -> None:
    czi(SCENE)
    (error,) = events("export", "none.czi", "--out", "a.patches.zarr")[-1:]
    assert (error["event"], error["exit_code"]) == ("error", 1)
    assert "none.czi" in error["message"]


@pytest.mark.parametrize("is_set", [False, True])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("export", "none.czi", "--no-such"), "--no-such"),
        (("score", "a.patches.zarr", "--job", "many", "--of", 1), "'--job' 'many': "),
        (("export", "--out", "a.patches.zarr"), "name a file"),
        (("no-such",), "no-such"),
    ],
)
def test_wrong_usage_is_an_event_and_a_line(
    run: Callable[..., tuple[int, str, str]],
    schema: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[object, ...],
    message: str,
    is_set: bool,
) -> None:
    if is_set:
        monkeypatch.setenv("PATCHSET_JSON", "1")
    code, out, err = run(*words, *([] if is_set else ["--json"]))
    event = json.loads(out)
    jsonschema.validate(event, schema)
    assert (code, event["event"], event["exit_code"]) == (2, "error", 2)
    assert message in event["message"]
    assert err == f"patchset: {event['message']}\n"


def test_a_skipped_source_is_reported_once(events: Any, czi: MakeCzi) -> None:
    paths = [czi(SCENE, name="a.czi"), czi(SceneSpec(t=2, rect=(0, 0, 64, 48), c=2), name="b.czi")]
    paths[0].write_bytes(b"ZISRAWFILE" + bytes(100))
    found = events("export", *paths, "--patch-size", "8,8", "--out", "a.patches.zarr")
    assert [event["source"] for event in found if event["event"] == "skipped"] == [str(paths[0])]
    assert found[-1]["skipped"] == 1


def test_progress_of_many_items_is_few_events(capsys: pytest.CaptureFixture[str]) -> None:
    REPORT.begin("verify")
    REPORT.as_json = True
    try:
        for done in range(100_001):
            REPORT.progress("verify", done, 100_000)
    finally:
        REPORT.as_json = False
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= MAX_STEPS + 1
    assert json.loads(lines[-1])["done"] == 100_000
