"""Export one plan in a fresh process and print what it took.

That is bytes read and written, memory, CPU time, tiles, and how often it told how far annotations
were read and looked at.

usage: child.py PLAN.json
"""

import json
import resource
import sys
from pathlib import Path
from time import process_time

from measure import counted_tiles

from napari_patchset import ExportPlan, Progress, export


def main(plan_path: str) -> None:
    """Export, then print one JSON object."""
    plan = ExportPlan.model_validate_json(Path(plan_path).read_bytes())
    events = list[Progress]()
    with counted_tiles() as tiles:
        export(plan, progress=events.append).close()
    steps = {
        name: sum(event.stage == stage for event in events)
        for name, stage in {"readings": "read", "choices": "choose"}.items()
    }
    took = {"peak": peak_memory(), "tiles": len(tiles), "cpu_ms": round(1000 * process_time())}
    print(json.dumps({**transfers(), **took, **steps}))


def transfers() -> dict[str, int]:
    """Return the bytes that this process has read and written by system calls."""
    lines = Path("/proc/self/io").read_text().splitlines()
    counts = dict(line.split(": ") for line in lines)
    return {"read": int(counts["rchar"]), "written": int(counts["wchar"])}


def peak_memory() -> int:
    """Return the largest resident size in bytes.

    VmHWM is that of this program; `ru_maxrss` begins with the parent's.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(sys.argv[1])
