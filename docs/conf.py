"""How Sphinx builds the pages: python -m sphinx -W --keep-going -b html docs build/docs   (extra [docs])"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

import dae_lightning
from dae_lightning import threads

threads.settle()  # for the kernel that runs the lesson

ROOT = Path(__file__).parent.parent

project = html_title = "dae_lightning"
author = copyright = "the dae_lightning authors"
release = dae_lightning.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["conf.py", "reference.py", "make_page_picture.py"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# the lesson is a script, whose cells are run when the pages are built; not again while they are as they were
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
nb_execution_in_temp = True  # what it writes is no source
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_ipywidgets_js: dict[str, str] = {}  # or the progress bars of the lesson fetch their script from the network

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # as they are written

html_theme = "furo"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_math_renderer = "mathml"
html_search_scorer = str(ROOT / "docs" / "scorer.js")
html_copy_source = False
html_show_search_summary = False  # a browser would have to fetch it, which it cannot for a page opened from disk

OUTSIDE = {"../SECURITY.md": "security.md", "../benchmarks/README.md": "benchmarks.md"}
TRY = (  # what the page of page.md compares
    ("sigma2", "experiment=fast_sigma2"),
    ("any_sigma", "experiment=any_sigma", "+trainer.max_steps=850"),
)


def make_page(app: Sphinx) -> None:
    """Train two models on letters, in seconds, and export the page that page.md shows."""
    file = Path(app.outdir, "dae.html")
    if app.builder.format != "html" or file.exists():
        return
    for name, *overrides in TRY:
        folder = f"hydra.run.dir={app.doctreedir}/runs/{name}"
        command("train", "data=glyphs", "figures=false", "resume=auto", folder, *overrides)
    runs = ",".join(f"'{app.doctreedir}/runs/{name}'" for name, *_ in TRY)
    command("export", "format=page", f"checkpoint=[{runs}]", f"output={file}")


def link_to_pages(app: Sphinx, page: str, source: list[str]) -> None:
    """A link to a file outside of this folder, as a reader of the repository follows it, leads to the page of it."""
    for file, instead in OUTSIDE.items():
        source[0] = source[0].replace(f"]({file})", f"]({instead})")


def command(name: str, *arguments: str) -> None:
    program = f"from dae_lightning.cli.main import {name}; {name}()"
    subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, check=True)


def as_restructured_text(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with `code`: there a star is a star."""
    parts = re.split(r"`+([^`]+)`+", "\n".join(lines))  # text, code, text, ...
    texts = [part.replace("*", r"\*").replace("|", r"\|") for part in parts[::2]]
    codes = [f"``{part}``" for part in parts[1::2]]
    lines[:] = "".join(part for pair in zip(texts, [*codes, ""], strict=True) for part in pair).split("\n")


def inline_math(writer: Any, node: nodes.Element) -> None:
    """MathML, which browsers show without a script."""
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block_of_math(writer: Any, node: nodes.Element) -> None:
    text = node.astext().replace("{aligned}", "{split}")  # the converter knows it by this name only
    writer.body.append(f"<div class='math'>{convert(text, display='block')}</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (inline_math, None), (block_of_math, None))
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)  # napoleon's is 500
    app.connect("builder-inited", make_page)
    app.connect("source-read", link_to_pages)
