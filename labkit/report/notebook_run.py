"""Run one report notebook and turn it into one page: the program `DailyReporter` starts as a process of its own.

`python -m labkit.report.notebook_run NOTEBOOK OUTPUT_STEM NAME=TEXT…` writes `OUTPUT_STEM.ipynb` (executed by
papermill) and `OUTPUT_STEM.html`, and exits with 0 only if every cell ran. Otherwise its last line on stderr says what
went wrong. Meanwhile `OUTPUT_STEM.cells` tells how far it is (`labkit.report.progress`). All parameters are text.
Nothing here runs inside the lab: papermill and nbconvert are heavy and hold the interpreter lock.

The page makes no request: styles and pictures are in it, there is no script, and a Content-Security-Policy forbids
both to whatever a ledger may smuggle in.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from labkit.edge.lean_imports import ADDRESS_GRAMMAR, leave_out
from labkit.errors import ConfigError, LabkitError, ReportFailed
from labkit.report.headline import HEADLINE_MIME, Figures
from labkit.report.progress import CellsDone

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
FIGURES_META = "labkit-figures"
CELLS_SUFFIX = ".cells"


def run_notebook(notebook: Path, output_stem: Path, parameters: Mapping[str, str]) -> Path:
    """Execute `notebook` with `parameters`; returns the path of the HTML page.

    Raises:
        ConfigError: the notebook has no parameter of that name.
        ReportFailed: a cell raised, or the kernel died or could not start.
    """
    # Half of the start: the grammar, and `pyarrow` in case the notebook lies on a Hadoop cluster.
    leave_out(ADDRESS_GRAMMAR, "pyarrow")
    import nbformat
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillException, PapermillExecutionError

    known = papermill.inspect_notebook(str(notebook))
    for name in parameters:
        if name not in known:
            raise ConfigError(
                f"{notebook.name} has no parameter {name!r}; it has {', '.join(known) or 'none'}", field=name
            )
    executed = output_stem.with_suffix(".ipynb")
    # papermill adds one cell, which sets the parameters.
    source = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    cells = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in source.cells)
    try:
        papermill.execute_notebook(
            str(notebook), str(executed), parameters=dict(parameters), kernel_name="python3", progress_bar=False,
            on_cell_executed=CellsDone(output_stem.with_suffix(CELLS_SUFFIX), cells + bool(parameters)),
        )  # fmt: skip
    except PapermillExecutionError as error:
        print(error, file=sys.stderr)  # the traceback, for the log
        raise ReportFailed(f"{notebook.name}, cell {error.cell_index}: {error.ename}: {error.evalue}") from error
    except (PapermillException, CellTimeoutError, DeadKernelError, RuntimeError) as error:
        raise ReportFailed(f"{notebook.name}: {type(error).__name__}: {error}") from error
    page = output_stem.with_suffix(".html")
    page.write_text(to_page(executed), encoding="utf-8")
    return page


def to_page(executed: Path) -> str:
    """The executed notebook as one self-contained HTML page: inputs hidden, no script, nothing to fetch."""
    import nbformat
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    notebook = nbformat.read(str(executed), as_version=4)  # type: ignore[no-untyped-call]
    settings = Config()
    settings.TagRemovePreprocessor.enabled = True
    settings.TagRemovePreprocessor.remove_cell_tags = {"parameters", "injected-parameters"}
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="basic",
        config=settings,
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        require_js_url="",
        mathjax_url="",
        mermaid_js_url="",
        jquery_url="",
        html_manager_semver_range="",
    )
    # Widget state would make the page fetch its viewer from a network; a report has figures instead.
    notebook.metadata.pop("widgets", None)
    body, _ = exporter.from_notebook_node(notebook)
    figures = find_figures(notebook)
    title = f"{figures.day} · {figures.market}" if figures else executed.stem
    meta = "" if figures is None else figures_meta(figures)
    sections, body = with_sections(body)
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading in sections)
    nav = f'<nav><div><a href="index.html">All days</a>{links}</div></nav>'
    return page_around(f"labkit · {title}", f"{nav}<main>{body}</main>", meta)


def with_sections(body: str) -> tuple[list[tuple[str, str]], str]:
    """The second-level headings of an HTML fragment as (anchor, heading), and the fragment with these anchors."""
    sections: list[tuple[str, str]] = []

    def anchored(found: re.Match[str]) -> str:
        sections.append((f"section-{len(sections) + 1}", found[1]))
        return f'<h2 id="{sections[-1][0]}">{found[1]}</h2>'

    return sections, re.sub(r"<h2[^>]*>(.*?)</h2>", anchored, body, flags=re.DOTALL)


def page_around(title: str, body: str, meta: str = "") -> str:
    """A whole page around `body` (which is HTML already); `title` is text."""
    folder = resources.files("labkit.report")
    css = folder.joinpath("page.css").read_text() + folder.joinpath("fragments.css").read_text()
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{meta}'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,"><style>{css}</style></head>\n'
        f"<body>{body}</body></html>\n"
    )


def find_figures(notebook: Any) -> Figures | None:
    """The figures of the first headline among the outputs of a notebook."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if HEADLINE_MIME in output.get("data", {}):
                return msgspec.convert(output["data"][HEADLINE_MIME], Figures)
    return None


def figures_meta(figures: Figures) -> str:
    """The figures as a tag in a page's head, where the index finds them again."""
    return f'<meta name="{FIGURES_META}" content="{escape(msgspec.json.encode(figures).decode())}">'


def main(arguments: Sequence[str]) -> int:
    notebook, output_stem, *pairs = arguments
    parameters = dict(pair.split("=", 1) for pair in pairs)
    try:
        run_notebook(Path(notebook), Path(output_stem), parameters)
    except LabkitError as error:
        print(f"{error}".replace("\n", " "), file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
