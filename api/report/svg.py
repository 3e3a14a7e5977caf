"""A picture as SVG text: bars, lines and words, in colours for a light and a dark page. It loads nothing."""

from __future__ import annotations

from xml.sax.saxutils import escape as _escape

_STYLE = """
:root { --paper: #fff; --ink: #1d2733; --quiet: #66727f; --rule: #e3e7eb; --good: #2f7ebc; --bad: #cf4527; --gap: #9aa5b1 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14191f; --ink: #e6ebf0; --quiet: #96a2ae; --rule: #2a323b; --good: #5aa7e0; --bad: #f0714f; --gap: #55616d }
}
.paper { fill: var(--paper) }
text { font: 11px system-ui, sans-serif; fill: var(--quiet) }
.title { font-size: 15px; font-weight: 600; fill: var(--ink) }
.label { font-size: 12px; fill: var(--ink) }
.end { text-anchor: end }
.middle { text-anchor: middle }
line { stroke: var(--rule) }
.good { fill: var(--good) }
.bad { fill: var(--bad) }
.gap { fill: var(--gap) }
"""
_LEAST = 0.4
"""The width of what would be too narrow to be seen."""


def escape(text: str) -> str:
    """Also characters that XML cannot have."""
    legal = "".join(sign if sign >= " " or sign in "\t\n" else "\ufffd" for sign in text)
    return _escape(legal.encode(errors="replace").decode(), {'"': "&quot;"})


class Picture:
    """`width` and `height` in pixels. What is added later lies above."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self._parts: list[str] = []
        self._description = ""

    def describe(self, text: str) -> None:
        """For those who do not see it."""
        self._description = escape(text)

    def add_text(self, x: float, y: float, text: str, kind: str) -> None:
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(text)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float) -> None:
        self._parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def bar(self, x: float, y: float, width: float, height: float, kind: str, title: str) -> None:
        """`title`: what is told where the pointer rests, escaped."""
        room = 1 if height > 4 else 0
        shape = f'x="{x:.2f}" y="{y:.1f}" width="{max(_LEAST, width):.2f}" height="{height - room:.1f}" class="{kind}"'
        self._parts.append(f"<rect {shape}><title>{title}</title></rect>" if title else f"<rect {shape}/>")

    def cell(self, x: float, y: float, width: float, height: float, kind: str, opacity: float) -> None:
        faint = "" if opacity >= 1 else f' opacity="{opacity:.1f}"'
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"{faint}/>'
        )

    def text(self) -> str:
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{self._description}">',
                f"<style>{_STYLE}</style>",
                f'<rect class="paper" width="{self.width}" height="{self.height}"/>',
                *self._parts,
                "</svg>",
            ]
        )
