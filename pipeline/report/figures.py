"""Owns a study's figures as pages show them: with plotly inside, and how each is read."""

from __future__ import annotations

import base64
import functools
import gzip
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline.figures.parts import Plot
from pipeline.figures.plotly_renderer import interactive_figures

HOW_TO_READ: dict[str, str] = {
    "finalists": "Left of the dashed line is better than the baseline: the bar is the 95 % "
    "interval of the difference, paired by replicate. A hollow marker may be chance: its p-value, "
    "corrected for all finalists, is 5 % or more.",
    "validation_loss_by_type": "Each marker is a trial and each bar the median of the complete "
    "ones: look at the lowest markers for what a type can reach, at the bar for how easily.",
    "generalization_plane": "The further a trial stands above the dashed diagonal, the more it "
    "overfits; good trials are low, whether or not they are far to the left.",
    "lambda": "Where validation loss dips, the penalty helps; to the right of that it also costs; "
    "the dashed level is the best trial without a penalty.",
    "dropout": "The gap should shrink to the right; the right rate is where validation loss is "
    "lowest, not where the gap is.",
    "patience": "A level cloud says that patience hardly matters here, and a short one saves "
    "epochs.",
    "importances": "What decided validation loss over the whole space (f-ANOVA), and what tells "
    "the best tenth of the trials from the rest (PED-ANOVA): a long bar on one side alone is "
    "doubtful, what is short on both may stay at its default.",
    "learning_curves": "Training loss on the left, validation loss on the right, on one scale: "
    "curves that fall on the left and rise on the right overfit.",
    "weights": "A narrow, tall shape is a network whose penalty keeps weights small; only L1 and "
    "elastic net make any exactly zero, and those are left out of the shape.",
    "optimization_history": "The line falls whenever a trial beat all before it: once it has been "
    "level for long, more trials promise little.",
    "epochs": "Solid: epochs trained; hatched: epochs that were not, because a trial had stopped "
    "improving or was no match for others.",
}


@dataclass(frozen=True)
class Shown:
    """What a template needs to show figures.

    Attributes:
        captions: By name, its title and how it is read.
        packed: All of them as JSON, packed.
    """

    captions: dict[str, tuple[str, str]]
    packed: Markup


def shown(plots: Sequence[Plot]) -> Shown:
    """Titles and captions by name, and all figures for a script element."""
    captions, documents = {}, []
    for name, figure in interactive_figures(plots).items():
        title, caption = figure.layout.title, HOW_TO_READ[name]
        if title.subtitle.text:
            caption += f" {title.subtitle.text} Double-click to see everything."
        captions[name] = title.text, caption
        figure.update_layout(title=None)
        documents.append(f'"{name}": {figure.to_json()}')
    return Shown(captions, packed("{" + ",\n".join(documents) + "}"))


def render_figures(name: str, figures: Shown) -> str:
    """One HTML page of all figures, a window's height each, that needs no network.

    Args:
        name: The study's.
        figures: What it holds.
    """
    listed = [(figure, *caption) for figure, caption in figures.captions.items()]
    return template("figures.html").render(
        name=name, figures=listed, packed_figures=figures.packed, plotly=plotly_bundle()
    )


def template(name: str) -> jinja2.Template:
    """A template of a page, which escapes what it is given."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


@functools.cache
def plotly_bundle() -> Markup:
    """plotly.js, packed."""
    return packed(get_plotlyjs())


def packed(text: str) -> Markup:
    """Text as base64 of gzip: two fifths of its size, and no letter that ends a script element.

    The browser unpacks it.
    """
    content = gzip.compress(text.encode(), compresslevel=9, mtime=0)
    return Markup(base64.b64encode(content).decode("ascii"))
