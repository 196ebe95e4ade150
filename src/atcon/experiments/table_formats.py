"""Tables with the paper's numbers, drawn as text, CSV, LaTeX and HTML."""

import csv
import html
import io
from collections.abc import Callable, Sequence

from atcon.experiments.paper_table import Entry, PaperTable, Row
from atcon.plain_text import as_text, printable

NOTHING = "–"
PAPER, HERE = "paper", "here"
PRINTED = "paper: as printed, a star as printed. "
NOTE = (
    "here: mean over seeds (95 % interval over seeds and test samples); difference from the row "
    "{against} (interval), p, and a star where it is significant after Holm's correction over the "
    "rows of the column."
)
_COLUMNS = (
    "metric", "network", "method", "per_class", "paper", "paper_low", "paper_high", "paper_star",
    "seeds", "value", "low", "high", "difference", "difference_low", "difference_high", "p", "star",
)  # fmt: skip
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$",
    "–": "--",
}  # fmt: skip
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; }}
body {{ padding: 0 1rem; }}
div {{ overflow-x: auto; }}
table {{ border-collapse: collapse; margin: 1rem 0 2rem; font-variant-numeric: tabular-nums; }}
caption {{ text-align: left; font-weight: 600; padding: .5rem 0; }}
th, td {{ padding: .3rem .7rem; text-align: left; border-bottom: 1px solid #8884; }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def text(tables: Sequence[PaperTable], title: str) -> str:
    """As Markdown, which terminals show well enough; the title is left to the page."""
    del title
    return "\n\n".join([_note(tables), *map(_markdown, tables)]) + "\n"


def comma_separated(tables: Sequence[PaperTable], title: str) -> str:
    """As CSV: a line per metric, row and size; the text of a cell never begins a formula."""
    del title
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for table in tables:
        for row in table.rows:
            names = (table.metric, as_text(row.network), as_text(row.title))
            for count, one in zip(table.sizes, row.entries, strict=True):
                writer.writerow([*names, count, *_numbers(one)])
    return buffer.getvalue()


def latex(tables: Sequence[PaperTable], title: str) -> str:
    """As LaTeX: a `tabular` per metric, for the package booktabs."""
    return "\n\n".join([f"% {printable(title)}", *map(_tabular, tables)]) + "\n"


def page(tables: Sequence[PaperTable], title: str) -> str:
    """As an HTML page that stands alone, for light and dark."""
    note = f"<p>{html.escape(_note(tables))}</p>"
    body = "\n".join([note, *map(_html_table, tables)])
    return _PAGE.format(title=html.escape(title), body=body)


FORMATS: dict[str, Callable[[Sequence[PaperTable], str], str]] = {
    "text": text,
    "csv": comma_separated,
    "latex": latex,
    "html": page,
}
"""How tables can be written."""


def _note(tables: Sequence[PaperTable]) -> str:
    entries = (one for table in tables for row in table.rows for one in row.entries)
    printed = PRINTED if any(one.printed for one in entries) else ""
    return printed + NOTE.format(against=tables[0].against)


def _lines(table: PaperTable) -> list[list[str]]:
    """Two lines per row of the table: the paper's, where it prints anything, and ours."""
    lines = []
    for row in table.rows:
        name = _name(row)
        if any(one.printed for one in row.entries):
            lines.append([name, PAPER, *map(_printed, row.entries)])
        lines.append([name, HERE, *map(_ours, row.entries)])
    return lines


def _heads(table: PaperTable) -> list[str]:
    return [table.title, "", *(f"N = {count}" for count in table.sizes)]


def _name(row: Row) -> str:
    return f"{row.network}, {row.title}" if row.network else row.title


def _printed(one: Entry) -> str:
    if one.printed is None:
        return NOTHING
    printed = one.printed
    ends = "" if printed.low is None else f" ({printed.low:.1f} to {printed.high:.1f})"
    return f"{printed.value:.1f}{'*' if printed.star else ''}{ends}"


def _ours(one: Entry) -> str:
    if one.value is None:
        return NOTHING
    ends = "" if one.low is None else f" ({one.low:.1f} to {one.high:.1f})"
    return f"{one.value:.1f}{ends}{_change(one)}"


def _change(one: Entry) -> str:
    change = one.difference
    if change is None:
        return ""
    star, p = "*" if change.star else "", "" if change.p is None else f", p {change.p:.3f}"
    ends = "" if change.low is None else f" ({signed(change.low)} to {signed(change.high)})"
    return f"; {signed(change.value)}{star}{ends}{p}"


def signed(value: float | None, digits: int = 1) -> str:
    """A difference with its sign, which is never lost."""
    return NOTHING if value is None else f"{value:+.{digits}f}".replace("-", "−")


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Draw a table of Markdown."""
    lines = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return printable(text).replace("|", "/")


def _markdown(table: PaperTable) -> str:
    return markdown(_heads(table), _lines(table))


def _tabular(table: PaperTable) -> str:
    rows = [" & ".join(map(_tex, line)) + r" \\" for line in _lines(table)]
    columns = "l" * (2 + len(table.sizes))
    head = " & ".join(map(_tex, _heads(table))) + r" \\"
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return "\n".join([begin, r"\toprule", head, r"\midrule", *rows, r"\bottomrule", end])


def _tex(value: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in printable(value))


def _html_table(table: PaperTable) -> str:
    title, _, *sizes = _heads(table)
    heads = "".join(f'<th scope="col">{html.escape(one)}</th>' for one in ("", "", *sizes))
    rows = [
        f'<tr><th scope="row">{html.escape(name)}</th>'
        + "".join(f"<td>{html.escape(one)}</td>" for one in cells)
        + "</tr>"
        for name, *cells in _lines(table)
    ]
    caption = f"<caption>{html.escape(title)}</caption>"
    return f"<div><table>{caption}<tr>{heads}</tr>\n" + "\n".join(rows) + "\n</table></div>"


def _numbers(one: Entry) -> list[object]:
    printed, change = one.printed, one.difference
    paper = [printed.value, printed.low, printed.high, int(printed.star)] if printed else [""] * 4
    ours = [one.seeds, one.value, one.low, one.high]
    gain = (
        [change.value, change.low, change.high, change.p, int(change.star)] if change else [""] * 5
    )
    return ["" if value is None else _rounded(value) for value in (*paper, *ours, *gain)]


def _rounded(value: object) -> object:
    return round(value, 5) if isinstance(value, float) else value
