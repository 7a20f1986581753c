"""What pages that medcurve writes share: one file without network, one look, tables, figures."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart by people with any common colour blindness (Okabe and Ito 2008, "Color Universal
# Design"), and by marker where there is no colour at all (print).
PALETTE: Final = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#3B8EC2", "#444444"),
    *("#6A3D9A", "#8C2D04"),  # as far from the others as two more can be
)
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", "*")

STYLE: Final[Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, copied and read aloud
    "svg.hashsalt": "medcurve",  # the same figure gives the same bytes
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica Neue", "Arial", "DejaVu Sans", "sans-serif"],
    "font.size": 10,
    "text.parse_math": False,  # a family's or a class's name may hold a dollar sign
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8a8a",
    "axes.labelcolor": "#333333",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.grid.axis": "y",
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
}


def render(package: str, template: str, values: Mapping[str, Any]) -> bytes:
    """A page from a template of ``package``; every value is escaped, and none may be missing.

    A template finds the pages' common style with ``{% include "style.css.j2" %}``.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("pipeline", ".")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(template).render(values).encode()


def data_uri(content: bytes, media_type: str = "image/png") -> str:
    """A file that stands in the page itself."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table in Markdown."""
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element whose ids begin with ``name``: a page holds several."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    # matplotlib's ids are digests of coordinates to the last bit, which the layout's solver does
    # not give twice alike: they are numbered in the order in which they appear.
    text = text[text.index("<svg") :]
    ids = dict.fromkeys(re.findall(r' id="([a-zA-Z][0-9a-f]{10})"', text))
    for number, digest in enumerate(ids):
        text = text.replace(digest, f"{digest[0]}{number}")
    # Not every "#" begins an id: fill="#0072b2" is a colour.
    return re.sub(r'( id="|href="#|\(#)', rf"\g<1>{name}-", text)
