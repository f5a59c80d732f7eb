"""A report as one HTML file that needs no network and no file beside it."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Iterable
from pathlib import Path

from diffuse_core.report_item import ReportItem

STYLE = """
body{font:15px/1.45 system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;
 color:#222;background:#f4f5f7;margin:0}
main{max-width:1120px;margin:0 auto;padding:24px 20px 60px}
h1{font-size:24px;margin:0 0 2px}
.about{color:#667;margin:0 0 18px}
nav{margin:0 0 18px;font-size:14px}
nav a{margin-right:14px;color:#2a5d9f;text-decoration:none;white-space:nowrap}
nav a:hover{text-decoration:underline}
section{background:#fff;border:1px solid #dde1e6;border-radius:6px;padding:14px 18px;
 margin:0 0 16px;overflow-x:auto}
h2{font-size:17px;margin:0 0 10px}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{padding:3px 12px 3px 0;text-align:right;white-space:nowrap}
th{border-bottom:2px solid #99a;font-weight:600}
td{border-bottom:1px solid #eceef1}
th:first-child,td:first-child,.words{text-align:left}
td.words{white-space:normal}
tbody tr:hover td{background:#f6f8fb}
p{margin:0 0 6px}
.text{white-space:pre-wrap}
.help{color:#556;font-size:13.5px;margin:6px 0 0}
.plot{width:100%;height:460px}
img{max-width:100%}
"""

DRAW = """
for (const [id, plot] of Object.entries(PLOTS)) {
  const axis = {zeroline: false, gridcolor: "#e6e9ee", linecolor: "#99a",
                mirror: true, showline: true, ticks: "outside", automargin: true};
  const layout = Object.assign({}, plot.layout);
  for (const name of Object.keys(layout).filter(k => /^[xy]axis/.test(k)))
    layout[name] = Object.assign({}, axis, layout[name]);
  Plotly.newPlot(id, plot.data, Object.assign({
    margin: {t: 16, r: 70, b: 55, l: 75}, hovermode: "closest", showlegend: true,
    font: {size: 13}, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
    legend: {orientation: "h", y: -0.24, yanchor: "top"}
  }, layout), {responsive: true, displaylogo: false});
}
"""

NO_PLOTLY = "Plots need plotly (pip install plotly); the JSON file has the figures."


def write_html(
    path: str | os.PathLike, title: str, about: str, items: Iterable[ReportItem]
) -> None:
    """Writes the report, whole or not at all.

    An item that can't be shown becomes a text that says why.

    Args:
        path: The file; its folder is made if it does not exist.
        title: Heading.
        about: A line below it.
        items: The pieces.
    """
    items = list(items)
    library = _library() if any(item.kind == "plot" for item in items) else None
    drawn: dict[str, dict] = {}
    sections, links = [], []
    for number, item in enumerate(items):
        name = f"item-{number}"
        try:
            body = _body(item, name, drawn, library is not None)
        except Exception as error:
            reason = f"This part of the report failed: {type(error).__name__}: {error}"
            body = _text(reason)
        heading = html.escape(item.title)
        sections.append(f'<section id="{name}"><h2>{heading}</h2>{body}</section>')
        links.append(f'<a href="#{name}">{heading}</a>')
    scripts = ""
    if drawn:
        plots = json.dumps(drawn).replace("</", "<\\/")
        scripts = (
            f"<script>{library}</script><script>const PLOTS={plots};{DRAW}</script>"
        )
    text = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f'<h1>{html.escape(title)}</h1><p class="about">{html.escape(about)}</p>'
        f"<nav>{' '.join(links)}</nav>{''.join(sections)}</main>{scripts}</body></html>"
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _library() -> str | None:
    """The source of plotly.js that comes with Python's plotly; None without it."""
    try:
        from plotly.offline import get_plotlyjs

        return get_plotlyjs().replace("</script", "<\\/script")
    except (ImportError, OSError):
        return None


def _body(item: ReportItem, name: str, drawn: dict[str, dict], can_plot: bool) -> str:
    if item.kind == "text":
        return _text(str(item.content))
    if item.kind == "table":
        return _table(item.content)
    if item.kind == "picture":
        data = base64.b64encode(Path(item.content).read_bytes()).decode()
        alt = html.escape(item.title, quote=True)
        return f'<img alt="{alt}" src="data:image/png;base64,{data}">'
    plot = {"data": item.content["data"], "layout": item.content.get("layout", {})}
    json.dumps(plot, allow_nan=False)
    note = _help(item.content.get("help", ""))
    if not can_plot:
        return _text(NO_PLOTLY) + note
    drawn[name + "-plot"] = plot
    return f'<div class="plot" id="{name}-plot"></div>{note}'


def _text(text: str) -> str:
    return f'<p class="text">{html.escape(text)}</p>'


def _help(text: str) -> str:
    return f'<p class="help">{html.escape(text)}</p>' if text else ""


def _table(rows) -> str:
    header, *body = [["" if c is None else str(c) for c in row] for row in rows]
    numeric = [
        all(_is_number(row[i]) for row in body if i < len(row) and row[i])
        for i in range(len(header))
    ]

    def cells(row: list[str], tag: str) -> str:
        return "".join(
            f"<{tag}{'' if i < len(numeric) and numeric[i] else ' class=words'}>"
            f"{html.escape(cell)}</{tag}>"
            for i, cell in enumerate(row)
        )

    head = f"<thead><tr>{cells(header, 'th')}</tr></thead>" if any(header) else ""
    lines = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in body)
    return f"<table>{head}<tbody>{lines}</tbody></table>"


def _is_number(text: str) -> bool:
    try:
        float(text.replace("%", "")) if text not in ("-", "inf") else None
    except ValueError:
        return False
    return True
