"""Progress of long work: on a terminal a bar; in a log, where a bar would leave each of its states, a line a minute.

Imports nothing of ours.
"""

import sys
from typing import Any

from tqdm import tqdm

BAR_DELAY_S = 1  # a bar for less work would only flicker
LINE_EVERY_S = 60


class Bar(tqdm):  # type: ignore[type-arg]  # tqdm is generic in its stubs alone
    """tqdm's bar where stderr is a terminal; else lines like `    corpus: 42 %, about 7 min to go`.

    Args:
        options: of tqdm; `desc` names the work, and `delay` is that of the bar.
    """

    def __init__(self, *args: Any, **options: Any):
        self.on_terminal = sys.stderr.isatty()
        if not self.on_terminal:
            options |= {"delay": LINE_EVERY_S, "mininterval": LINE_EVERY_S, "maxinterval": LINE_EVERY_S, "leave": False}
        super().__init__(*args, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar, or write the line; tqdm calls this whenever it is time."""
        if self.on_terminal:
            super().display(msg, pos)
        elif msg is None:  # else it asks to clear the bar
            print(f"    {self.line()}", file=sys.stderr, flush=True)

    def line(self) -> str:
        """How far the work is, in words."""
        title, elapsed_s = self.desc.removesuffix(": "), self.format_dict["elapsed"]
        if not self.total or not self.n:
            return f"{title}: {self.n:,}{self.unit}"
        left_min = (self.total - self.n) * elapsed_s / self.n / 60
        return f"{title}: {100 * self.n / self.total:.0f} %, about {left_min:.0f} min to go"

    def close(self) -> None:
        """Take the bar off the terminal; a line stays."""
        if not self.on_terminal:
            self.disable = True
        super().close()
