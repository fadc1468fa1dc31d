"""Put the tables of a benchmark's report into docs/performance.md, between its markers.

Usage: ``python scripts/paste_report.py DIR/report.md``
"""

import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- report: begin -->", "<!-- report: end -->"


def main() -> None:
    """Replace what is between the markers: the report without its title and its method."""
    report = Path(sys.argv[1]).read_text(encoding="utf-8")
    body = report.partition("\n")[2].partition("\n## Method\n")[0].strip()
    # A level lower: the page has a title and parts of its own.
    body = re.sub(r"^(#+) ", r"#\1 ", body, flags=re.MULTILINE)
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
