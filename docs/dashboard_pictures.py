"""Draws a dashboard as a small SVG: each panel at its place, with its series."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLUMN, ROW, GAP, TITLE = 40.0, 15.0, 4.0, 16.0
COLORS = ("#3274d9", "#37872d", "#e0752d", "#c4162a", "#8f3bb8", "#b8860b", "#1f9e9e", "#7c7c7c")
STYLE = "text{font:10px sans-serif;fill:#444}.v{fill:#888}.l{fill:none;stroke-width:1.3}.p{fill:#fff;stroke:#ddd}"


@dataclass(frozen=True)
class Sample:
    """One series at equal intervals. None: it had no value then."""

    legend: str
    values: tuple[float | None, ...]

    @property
    def maximum(self) -> float:
        return max((value for value in self.values if value is not None), default=0.0)


@dataclass(frozen=True)
class PicturePanel:
    """One panel. `place`: x, y, w and h in Grafana's grid."""

    title: str
    place: Mapping[str, int]
    samples: Sequence[Sample]
    format_value: Callable[[float], str]


@dataclass(frozen=True)
class Box:
    """A rectangle in the picture."""

    x: float
    y: float
    width: float
    height: float


def render_picture(panels: Sequence[PicturePanel]) -> str:
    bottom = max(panel.place["y"] + panel.place["h"] for panel in panels) * ROW
    body = "".join(map(render_panel, panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * COLUMN:g} {bottom:g}">'
        f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#f4f5f5"/>\n{body}</svg>\n'
    )


def render_panel(panel: PicturePanel) -> str:
    place = panel.place
    box = Box(place["x"] * COLUMN + GAP, place["y"] * ROW + GAP, place["w"] * COLUMN - GAP, place["h"] * ROW - GAP)
    maximum = max((sample.maximum for sample in panel.samples), default=0.0)
    chart = Box(box.x + GAP, box.y + TITLE, box.width - 2 * GAP, box.height - TITLE - GAP)
    lines = "".join(
        render_line(sample, chart, maximum, COLORS[number % len(COLORS)]) for number, sample in enumerate(panel.samples)
    )
    label = f"max {panel.format_value(maximum)}" if panel.samples else "no data"
    return (
        f'<rect class="p" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}"/>'
        f'<text x="{box.x + GAP:g}" y="{box.y + 11:g}">{escape(panel.title)}</text>'
        f'<text class="v" x="{box.x + box.width - GAP:g}" y="{box.y + 11:g}" text-anchor="end">{escape(label)}</text>\n'
        f"{lines}"
    )


def render_line(sample: Sample, chart: Box, maximum: float, color: str) -> str:
    """Draws a series from 0 to the panel's maximum, with a gap where it has no value."""
    step = chart.width / max(1, len(sample.values) - 1)
    commands, is_down = [], False
    for number, value in enumerate(sample.values):
        if value is not None:
            height = chart.height * max(0.0, value) / maximum if maximum else 0.0
            x, y = chart.x + number * step, chart.y + chart.height - height
            commands.append(f"{'L' if is_down else 'M'}{x:.0f} {y:.1f}")
        is_down = value is not None
    path = "".join(commands)
    return f'<path class="l" stroke="{color}" stroke-linecap="round" d="{path}"/>\n' if path else ""
