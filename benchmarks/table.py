"""One table of what every benchmark measured last, with its date; what was not measured says so.

python benchmarks/table.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROWS = Path(__file__).parent / "reports" / "rows"
WORDS = {True: "yes", False: "NO", None: ""}
NOT_MEASURED = [
    ("aggregate steps per second of 8 fused trials", "8 trials one after the other", "4 times (GPU)"),
    ("training steps and sampling on a GPU", "the faster of diffusers and MONAI", "2 to 4 times"),
    ("trials packed on a GPU by fractions", "one after the other", ""),
]
"""What wants a card: (what, against, at least)."""


def main() -> int:
    rows: list[tuple[dict[str, Any], str]] = []
    for path in sorted(ROWS.glob("*.json")):
        found = json.loads(path.read_text())
        rows += [(row, f"{path.stem}, {found['date']}") for row in found["rows"]]
    print("| what | against | at least | measured | holds | benchmark |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row, origin in rows:
        cells = (row["what"], row["against"], row["at_least"], row["measured"], WORDS[row["holds"]], origin)
        print("| " + " | ".join(map(str, cells)) + " |")
    for cells in NOT_MEASURED:
        print("| " + " | ".join((*cells, "not measured: no GPU here", "", "")) + " |")
    return int(any(row["holds"] is False for row, _ in rows))


if __name__ == "__main__":
    raise SystemExit(main())
