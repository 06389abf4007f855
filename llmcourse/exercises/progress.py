"""What you have solved, kept in one JSON file on your own machine."""

import contextlib
import datetime
import json
from pathlib import Path

from llmcourse.files import home, write_atomically


def path() -> Path:
    """The file that holds the progress."""
    return home() / "progress.json"


def load() -> dict[str, dict]:
    """Exercise names with how often they were tried and, when solved, on which day. Empty when nothing is recorded."""
    try:
        recorded = json.loads(path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(recorded, dict):
        return {}
    return {name: entry for name, entry in recorded.items() if _is_entry(entry)}


def _is_entry(entry: object) -> bool:
    """Whether an entry of the file can be read: somebody may have changed it."""
    return (
        isinstance(entry, dict)
        and {"tries", "solved"} <= set(entry)
        and isinstance(entry["tries"], int)
        and isinstance(entry["solved"], str | None)
    )


def record(exercise: str, *, solved: bool) -> None:
    """Count one try. A folder that cannot be written never gets in a learner's way: nothing is recorded then."""
    recorded = load()
    entry = recorded.setdefault(exercise, {"tries": 0, "solved": None})
    entry["tries"] += 1
    if solved and entry["solved"] is None:
        entry["solved"] = datetime.date.today().isoformat()
    with contextlib.suppress(OSError):
        write_atomically(path(), json.dumps(recorded, indent=2, sort_keys=True).encode())
