"""The methods of a case set against each other: figures, linked overlays and files. No widgets: a page shows them."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch.nn import functional as F

from recommender.case import Standing, failed, standings
from runners import export, pictures
from runners.case import Case, Result
from runners.report import NOT_CLINICAL, img, png
from taxonomy import KB
from taxonomy.trust import trust, trust_in_words, weights
from trial import ARROWS, measured_rows
from views.results import View, drawn

SCALE = [[0.0, "#c0752b"], [0.5, "#eceff1"], [1.0, "#1f8a9c"]]
"""Behind the others, level with them, ahead of them: orange to teal, told apart by the colour-blind too."""
LINES = ("#1f8a9c", "#c0752b", "#8877c4", "#4d9a6a", "#b5485d", "#6b8291", "#a98b24", "#4a7fc1")
GREY = "#93a3ad"
"""Text and lines of charts: to be read on a dark and on a light page."""
GRID = 128
"""Sides of the grid of values behind a linked overlay at most."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The methods of a case that gave a map, and how they stand by what was measured.

    Attributes:
        kb: the knowledge base.
        case: the case.
        results: what came of each method.
    """

    kb: KB
    case: Case
    results: Sequence[Result]

    @cached_property
    def names(self) -> dict[str, Result]:
        """Name of a method (numbered, if it was run more than once) to its result, of those that gave a map."""
        found: dict[str, Result] = {}
        for one in self.results:
            if one.explanation is not None:
                name = self.kb.methods[one.method].name
                again = sum(other.method == one.method for other in found.values())
                found[f"{name} ({again + 1})" if again else name] = one
        return found

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that were tried on at least one map, by property."""
        found = dict.fromkeys(score.metric for one in self.names.values() for score in one.measured)
        return tuple(sorted(found, key=lambda one: self.kb.metrics[one].property))

    @cached_property
    def standings(self) -> Mapping[str, Mapping[str, Standing]]:
        """Name of a method to metric to its standing."""
        rows = [
            row
            for name, one in self.names.items()
            for row in measured_rows([one], "", self.kb, name)
            if self.kb.metrics[row.metric].direction
        ]
        return standings(rows, self.kb)

    @cached_property
    def failing(self) -> Mapping[str, tuple[str, ...]]:
        """Name of a method to the metrics by which it fails the randomisation test."""
        return failed(self.standings, self.kb, self.case.model.get("task"))

    def value(self, name: str, metric: str) -> float | None:
        """Return a score; None when it was not measured or is not defined."""
        return next((one.value for one in self.names[name].measured if one.metric == metric), None)

    def best(self, name: str, metric: str) -> bool:
        """Whether no other method is better by a metric."""
        own = self.standings.get(name, {}).get(metric)
        return own is not None and own.of > 1 and own.place < 2

    def head(self, metric: str) -> str:
        """Return the short name of a metric with the direction in which it is better."""
        about = self.kb.metrics[metric]
        return min((about.name.split(" (")[0], *about.aliases), key=len) + ARROWS[about.direction]

    @cached_property
    def properties(self) -> dict[str, dict[str, float]]:
        """Property to method name to the mean of its places there: 0 behind all others, 100 ahead of all.

        Each metric counts as far as it is trusted; one that is not trusted at all does not.
        """
        found: dict[str, dict[str, tuple[float, float]]] = {}
        for name, own in self.standings.items():
            for metric, one in own.items():
                if one.of > 1 and one.weight > 0:
                    places = found.setdefault(self.kb.metrics[metric].property, {})
                    total, weight = places.get(name, (0.0, 0.0))
                    share = 100 * (one.of - one.place) / (one.of - 1)
                    places[name] = total + one.weight * share, weight + one.weight
        return {
            key: {name: total / weight for name, (total, weight) in own.items()} for key, own in sorted(found.items())
        }

    @cached_property
    def trusted(self) -> str:
        """How far the metrics can be trusted, in a sentence; empty where none was judged."""
        return trust_in_words(self.kb, self.metrics)


# --- figures ----------------------------------------------------------------------------------------------------------


def heatmap(found: Comparison) -> go.Figure:
    """Draw methods × metrics; the colour says who is ahead, a star who is best, a dash what has no number."""
    colours, texts, hover = [], [], []
    judged = {metric: f"<br>{escape(one.phrase)}" for metric, one in trust(found.kb).items()}
    for name in found.names:
        row: list[float | None] = []
        words: list[str] = []
        tips: list[str] = []
        for metric in found.metrics:
            value, own = found.value(name, metric), found.standings.get(name, {}).get(metric)
            fails = metric in found.failing.get(name, ())
            # grey where there is nothing to be ahead in
            row.append(None if own is None or own.of < 2 else (own.of - own.place) / (own.of - 1))
            mark = " ✗" if fails else " ★" if found.best(name, metric) else ""
            words.append("–" if value is None else f"{value:.2f}{mark}")
            told = "not defined, or not measured" if value is None else f"{value:.4g}"
            place = f"<br>place {own.place:g} of {own.of}" if own is not None and own.of > 1 else ""
            sane = "<br>fails: hardly changes under random weights" if fails else ""
            about = f"{escape(found.kb.metrics[metric].name)}: {told}{place}{sane}{judged.get(metric, '')}"
            tips.append(f"<b>{escape(name)}</b><br>{about}")
        colours.append(row)
        texts.append(words)
        hover.append(tips)
    figure = go.Figure(
        go.Heatmap(
            z=colours,
            x=[found.head(one) for one in found.metrics],
            y=list(found.names),
            text=texts,
            texttemplate="%{text}",
            hovertext=hover,
            hoverinfo="text",
            hoverongaps=True,
            colorscale=SCALE,
            zmin=0,
            zmax=1,
            xgap=3,
            ygap=3,
            textfont={"color": "#17232a", "size": 13},
            colorbar={"tickvals": [0, 1], "ticktext": ["behind", "ahead"], "thickness": 12, "len": 0.8},
        )
    )
    for y, (name, row) in enumerate(zip(found.names, colours, strict=True)):  # a gap draws no text of its own
        for x, colour in enumerate(row):
            if colour is None:
                figure.add_annotation(
                    x=x,
                    y=name,
                    text=texts[y][x],
                    showarrow=False,
                    font={"color": GREY, "size": 13},
                    hovertext=hover[y][x],
                )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(side="top", tickangle=-30, showgrid=False)
    figure.update_layout(height=190 + 44 * len(found.names), margin={"t": 110, "l": 10, "r": 10, "b": 10})
    return figure


def radar(found: Comparison) -> go.Figure | None:
    """Draw the mean place of each method by property: a radar, bars for two properties, nothing for fewer."""
    properties = found.properties
    if len(properties) < 2:
        return None
    figure = go.Figure()
    heads = [one.replace("_", " ") for one in properties]
    for number, name in enumerate(found.names):
        values = [properties[one].get(name) for one in properties]
        colour = LINES[number % len(LINES)]
        if len(heads) > 2:
            figure.add_scatterpolar(
                r=[*values, values[0]],
                theta=[*heads, heads[0]],
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 2},
                hovertemplate="%{theta}: %{r:.0f}<extra>" + escape(name) + "</extra>",
            )
        else:
            figure.add_bar(x=heads, y=values, name=name, marker={"color": colour})
    figure.update_polars(
        radialaxis={"range": [0, 100], "tickvals": [0, 50, 100], "gridcolor": GREY, "tickfont": {"color": GREY}},
        angularaxis={"gridcolor": GREY},
        bgcolor="rgba(0,0,0,0)",
    )
    figure.update_layout(
        height=460, margin={"t": 40, "l": 70, "r": 70, "b": 20}, legend={"orientation": "h", "y": -0.1}
    )
    return figure


CURVES: Mapping[str, str] = {
    "deletion": "Deletion: what matters most is taken away first, a good map falls fast",
    "insertion": "Insertion: it is put back first, a good map rises fast",
}


def curves(found: Comparison) -> go.Figure | None:
    """Draw the deletion and insertion curves of all methods, a click on a name hides its lines in both."""
    have = [
        metric
        for metric in CURVES
        if any(score.metric == metric and score.curve for one in found.names.values() for score in one.measured)
    ]
    if not have:
        return None
    figure = make_subplots(
        1, len(have), shared_yaxes=True, subplot_titles=[CURVES[one] for one in have], horizontal_spacing=0.04
    )
    for number, (name, one) in enumerate(found.names.items()):
        for column, metric in enumerate(have, 1):
            curve = next((score.curve for score in one.measured if score.metric == metric), None)
            if not curve:
                continue
            figure.add_scatter(
                x=np.linspace(0, 100, len(curve)),
                y=curve,
                name=name,
                legendgroup=name,
                showlegend=column == 1,
                mode="lines",
                line={"color": LINES[number % len(LINES)], "width": 2.5},
                hovertemplate="%{y:.3g}",
                row=1,
                col=column,
            )
    figure.update_xaxes(title="% of the image changed", showspikes=True, spikemode="across", spikethickness=1)
    figure.update_yaxes(title="the model's score", col=1)
    figure.update_layout(
        height=390,
        hovermode="x unified",
        margin={"t": 40, "l": 10, "r": 10, "b": 10},
        legend={"orientation": "h", "y": -0.2},
    )
    figure.update_annotations(font_size=13)
    return figure


# --- linked overlays --------------------------------------------------------------------------------------------------

_LINKED = """
<style>
  .linked { font: 14px/1.4 "Source Sans Pro", system-ui, sans-serif; color: INK; }
  .linked .tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(WIDTHpx, 1fr)); gap: 12px; }
  .linked .tile { min-width: 0; } .linked .name { font-weight: 600; margin: 0 0 4px; }
  .linked .frame { position: relative; overflow: hidden; cursor: crosshair; border-radius: 4px; background: #000;
                   touch-action: none; }
  .linked img { display: block; width: 100%; transform-origin: 0 0; image-rendering: auto; user-select: none; }
  .linked .h, .linked .v { position: absolute; background: #fff; mix-blend-mode: difference; pointer-events: none;
                           display: none; }
  .linked .h { left: 0; right: 0; height: 1px; } .linked .v { top: 0; bottom: 0; width: 1px; }
  .linked .dot { position: absolute; width: 13px; height: 13px; margin: -7px 0 0 -7px; border: 2px solid #fff;
                 box-shadow: 0 0 0 1px #000; border-radius: 50%; pointer-events: none; display: none; }
  .linked .told { min-height: 1.4em; margin: 4px 0 0; font-size: 13px; color: SOFT; }
  .linked .told b { color: INK; }
</style>
<div class="linked"><div class="tiles"></div></div>
<script>
(() => {
  const data = DATA, root = document.currentScript.previousElementSibling, tiles = [];
  let zoom = 1, left = 0, top = 0, pinned = null, drag = null;
  for (const one of data.tiles) {
    const tile = document.createElement('div');
    tile.className = 'tile';
    tile.innerHTML = '<p class="name"></p><div class="frame"><img draggable="false"><i class="h"></i>' +
      '<i class="v"></i><i class="dot"></i></div><p class="told">&nbsp;</p>';
    tile.querySelector('.name').textContent = one.name;
    const image = tile.querySelector('img');
    image.src = one.picture; image.alt = one.name;
    const part = { one, frame: tile.querySelector('.frame'), image, told: tile.querySelector('.told'),
      h: tile.querySelector('.h'), v: tile.querySelector('.v'), dot: tile.querySelector('.dot') };
    if (one.values) part.values = new Float32Array(Uint8Array.from(atob(one.values), c => c.charCodeAt(0)).buffer);
    if (part.values) part.sorted = part.values.map(Math.abs).sort();
    tiles.push(part);
    root.firstElementChild.append(tile);
    part.frame.addEventListener('pointermove', event => {
      const box = part.frame.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
      if (drag) { left = clamp(drag.left + drag.x - x); top = clamp(drag.top + drag.y - y); place(); }
      if (!pinned) show((x + left) / zoom, (y + top) / zoom);
    });
    part.frame.addEventListener('pointerleave', () => { drag = null; if (!pinned) hide(); });
    part.frame.addEventListener('pointerdown', event => {
      const box = part.frame.getBoundingClientRect();
      drag = { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height, left, top };
    });
    part.frame.addEventListener('pointerup', event => {
      const moved = drag && (left !== drag.left || top !== drag.top);
      drag = null;
      if (moved) return;
      const box = part.frame.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width + left) / zoom;
      const y = ((event.clientY - box.top) / box.height + top) / zoom;
      pinned = pinned ? null : { x, y };
      show(x, y);
    });
    part.frame.addEventListener('dblclick', () => { zoom = 1; left = top = 0; pinned = null; place(); });
    part.frame.addEventListener('wheel', event => {
      event.preventDefault();
      const box = part.frame.getBoundingClientRect();
      const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
      const before = zoom;
      zoom = Math.min(12, Math.max(1, zoom * (event.deltaY < 0 ? 1.2 : 1 / 1.2)));
      left = clamp((x + left) / before * zoom - x); top = clamp((y + top) / before * zoom - y);
      place();
      if (pinned) show(pinned.x, pinned.y); else show((x + left) / zoom, (y + top) / zoom);
    }, { passive: false });
  }
  const clamp = value => Math.min(zoom - 1, Math.max(0, value));
  function place() {
    for (const part of tiles) {
      part.image.style.transform = `translate(${-100 * left}%, ${-100 * top}%) scale(${zoom})`;
    }
    if (pinned) show(pinned.x, pinned.y);
  }
  function show(x, y) {
    if (x < 0 || y < 0 || x >= 1 || y >= 1) return hide();
    for (const part of tiles) {
      const px = 100 * (x * zoom - left), py = 100 * (y * zoom - top);
      for (const line of [part.h, part.v, part.dot]) line.style.display = 'block';
      part.h.style.top = py + '%'; part.v.style.left = px + '%';
      part.dot.style.left = px + '%'; part.dot.style.top = py + '%';
      if (!part.values) {
        const at = data.shape && data.shape.map((side, axis) => Math.floor((axis ? x : y) * side));
        part.told.textContent = at ? `row ${at[0]}, column ${at[1]}` : '';
        continue;
      }
      const [rows, columns] = part.one.grid;
      const value = part.values[Math.floor(y * rows) * columns + Math.floor(x * columns)];
      let low = 0, high = part.sorted.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (part.sorted[middle] < Math.abs(value)) low = middle + 1; else high = middle;
      }
      const share = 100 * low / part.sorted.length;
      const sign = !part.one.signed ? '' : value > 0 ? ', speaks for' : value < 0 ? ', speaks against' : '';
      part.told.innerHTML = `stronger than <b>${share.toFixed(0)} %</b> of the image${sign}`;
    }
  }
  function hide() {
    for (const part of tiles) {
      for (const line of [part.h, part.v, part.dot]) line.style.display = 'none';
      part.told.innerHTML = '&nbsp;';
    }
  }
})();
</script>
"""


def linked(found: Comparison, view: View, *, dark: bool = False, width: int = 250) -> str:
    """Return the image and all overlays as HTML: the place under the pointer is marked in all of them.

    The wheel zooms all, dragging moves all, a click pins the place, a double click shows the whole again. Under each
    picture stands how strong the map is there, compared with the rest of it.

    Args:
        found: the methods.
        view: slice, opacity, colours and outlines.
        dark: for a dark page.
        width: least width of a picture in pixels.
    """
    case = found.case
    tiles: list[dict[str, Any]] = [{"name": "Image", "picture": _data(drawn(case, view, bar=False))}]
    for name, one in found.names.items():
        assert one.explanation is not None
        values = case.place(one.explanation.values[0])
        plane = pictures.plane(case, values, *view.cut).values
        assert plane is not None
        size = [min(GRID, side) for side in plane.shape]
        small = F.interpolate(plane[None, None], size=size, mode="area")[0, 0].to(torch.float32).contiguous()
        tiles.append({
            "name": name,
            "picture": _data(drawn(case, view, one.explanation, bar=False)),
            "values": base64.b64encode(small.numpy().astype("<f4").tobytes()).decode(),
            "grid": size,
            "signed": one.explanation.signed,
        })  # fmt: skip
    shape = list(case.image.shape) if case.image.dims == 2 else None
    data = json.dumps({"tiles": tiles, "shape": shape}).replace("</", "<\\/")
    ink, soft = ("#e3ebef", "#9fb0ba") if dark else ("#1d2b33", "#5b7083")
    page = _LINKED.replace("INK", ink).replace("SOFT", soft).replace("WIDTH", str(width))
    return page.replace("DATA", data)


def _data(picture: pictures.Rgb) -> str:
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()


# --- files ------------------------------------------------------------------------------------------------------------


def table(found: Comparison) -> str:
    """Return the scores as CSV, a row for each method and metric."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["method", "id", "metric", "property", "better", "value", "place", "of", "best", "fails", "trust"])
    trusted = weights(found.kb)
    for name, one in found.names.items():
        for score in one.measured:
            about, own = found.kb.metrics[score.metric], found.standings.get(name, {}).get(score.metric)
            writer.writerow([
                name,
                one.method,
                score.metric,
                about.property,
                about.direction or "",
                "" if score.value is None else repr(score.value),
                "" if own is None else f"{own.place:g}",
                "" if own is None else own.of,
                found.best(name, score.metric),
                score.metric in found.failing.get(name, ()),
                trusted.get(score.metric, ""),
            ])  # fmt: skip
    return file.getvalue()


def data(found: Comparison) -> dict[str, Any]:
    """Return the record of the run, with how the methods stand, as plain data."""
    return export.record(found.case, found.results) | {
        "standings": {
            name: {metric: {"place": one.place, "of": one.of} for metric, one in own.items()}
            for name, own in found.standings.items()
        },
        "properties": found.properties,
    }


def picture(found: Comparison) -> bytes:
    """Return the image and all overlays side by side as PNG."""
    parts = [pictures.captioned(pictures.figure(found.case, None, side=360), "Image")]
    for name, one in found.names.items():
        parts.append(pictures.captioned(pictures.figure(found.case, one.explanation, side=360), name))
    return png(pictures.beside(parts))


def page(found: Comparison, view: View) -> str:
    """Return the whole comparison as one HTML page that works without a network."""
    figures = [one for one in (heatmap(found) if found.metrics else None, radar(found), curves(found)) if one]
    parts = []
    for number, one in enumerate(figures):
        parts.append(one.to_html(full_html=False, include_plotlyjs="inline" if number == 0 else False))
    name = escape(str(found.case.model["name"]))
    return f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Comparison: {name}</title>
<style>body {{ font: 15px/1.5 system-ui, sans-serif; color: #1d2b33; max-width: 1200px; margin: 0 auto; padding: 1rem }}
</style></head><body><h1>The methods side by side</h1><p><b>{name}</b></p><p>{escape(NOT_CLINICAL)}</p>
{img(pictures.figure(found.case, None, side=300), "the image that was explained")}
{linked(found, view)}{"".join(parts)}<p>{escape(found.trusted)}</p></body></html>
"""
