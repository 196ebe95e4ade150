"""What reaches the terminal: names that others gave are shown there, and never obeyed."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from atcon.plain_text import printable


class Terminal(Console):
    """A console in whose texts no mark steers the terminal, whatever is printed."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Draw, with every mark replaced that does not print; rich's own controls stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else _plain(segment)

    def say(self, text: str, style: str | Style = "") -> None:
        """Print one line as it is: no markup, no colours for numbers, not wrapped."""
        self.print(Text(printable(text), style=style), soft_wrap=True)


def _plain(segment: Segment) -> Segment:
    lines = map(printable, segment.text.split("\n"))
    return Segment("\n".join(lines), segment.style)
