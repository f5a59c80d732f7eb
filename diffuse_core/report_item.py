"""One piece of a report: what stages and plug-ins have to show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from diffuse_core.errors import PluginError

KINDS = ("text", "table", "plot", "picture")


@dataclass(frozen=True, eq=False)
class ReportItem:
    """One piece of the report of a run.

    Attributes:
        title: Heading.
        kind: "text", "table", "plot" or "picture".
        content: A string; a list of rows, the first of which is the header; a dict
            with the "data" and "layout" of plotly, and perhaps "help", a text for the
            reader; the path of a PNG file. JSON-serialisable.

    Raises:
        PluginError: The kind is none of the four.
    """

    title: str
    kind: str = "text"
    content: Any = field(default="")

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise PluginError(
                f"The report item {self.title!r} has the kind {self.kind!r}; it must "
                "be 'picture', 'text', 'table' or 'plot'."
            )
