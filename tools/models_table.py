"""Writes the table of all built-in models at the top of docs/models.md.

python tools/models_table.py          writes it
python tools/models_table.py --check  exit status 1 if the page is not up to date
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from diffuse_core.descriptors import KINDS
from diffuse_core.registry import Registry

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
BEGIN = "<!-- table of tools/models_table.py -->"
END = "<!-- end of the table -->"


def table() -> str:
    """The table in Markdown, a row for each model, defaults in bold type.

    Headings of the same name are told apart as GitHub does: -1 for the second.
    """
    registry = Registry.discover({})
    lines = ["| kind | model | what it does |", "|---|---|---|"]
    seen: Counter = Counter()
    for kind in KINDS:
        selector = f"`{kind}.{KINDS[kind].selector}`"
        for model in registry.models(kind):
            name = model.plugin.name
            anchor = f"{name}-{seen[name]}" if seen[name] else name
            seen[name] += 1
            link = f"[{name}](#{anchor})"
            link = f"**{link}**" if model.plugin.default else link
            summary = " ".join(model.plugin.summary.split()).replace("|", "\\|")
            lines.append(f"| {selector} | {link} | {summary} |")
            selector = ""
    return "\n".join(lines)


def updated(text: str) -> str:
    """The page with a new table.

    Raises:
        ValueError: The marks around the table are missing.
    """
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    """Writes the page, or says whether it must be."""
    text = PAGE.read_text(encoding="utf-8")
    new = updated(text)
    if "--check" in sys.argv[1:]:
        if new != text:
            print(f"{PAGE} is not up to date: run python {sys.argv[0]}")
            return 1
        return 0
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
