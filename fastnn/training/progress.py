"""What `fit` shows: a bar, a line an epoch, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def compiling(verbose: int) -> Callable[[str, int, int], None] | None:
    """A report for ``compiler.prepare``: one line that says what is compiled, and how far it is."""
    if not verbose:
        return None
    shown = sys.stderr.isatty() and verbose == 1

    def report(name: str, done: int, of: int) -> None:
        if name:
            text = f"fastnn: compiling kernels for this CPU, once: {name} ({done + 1} of {of})"
        else:
            text = f"fastnn: compiled {of} kernels for this CPU, kept for next time"
        if shown:
            sys.stderr.write(f"\r{text:<79}" + ("" if name else "\n"))
            sys.stderr.flush()
        elif done == 0:
            print(f"fastnn: compiling {of} kernels for this CPU, once", file=sys.stderr)

    return report


class Progress:
    """Shows the epochs of one `fit`.

    Parameters
    ----------
    verbose : {0, 1, 2}
        0 is silent, 1 a bar over all epochs, 2 a line for each.
    epochs : int
        How many there will be.
    rows : int
        Rows in each.
    """

    def __init__(self, verbose: int, epochs: int, rows: int) -> None:
        self._verbose, self._epochs, self._rows = verbose, epochs, rows
        self._before = 0
        self._bar: Any = None

    def begin(self, epoch: int) -> None:
        """An epoch begins."""
        self._before = epoch * self._rows
        if self._verbose != 1:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=self._epochs * self._rows, unit="row", unit_scale=True, dynamic_ncols=True
            )
        self._bar.set_description_str(f"epoch {epoch + 1}/{self._epochs}", refresh=False)

    def advance(self, rows: int, figures: dict[str, float]) -> None:
        """`rows` rows of the epoch are done; `figures` has its means so far."""
        if self._bar is not None:
            self._bar.set_postfix_str(_text(figures), refresh=False)
            self._bar.update(self._before + rows - self._bar.n)

    def end(self, epoch: int, logs: dict[str, float]) -> None:
        """An epoch is done."""
        if self._verbose == 2:
            print(f"epoch {epoch + 1}/{self._epochs}: {_text(logs)}")
        self.advance(self._rows, logs)

    def close(self) -> None:
        """Leave the line, with the last figures on it."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
            self._bar = None


def _text(figures: dict[str, float]) -> str:
    return ", ".join(f"{k}={v:.4g}" for k, v in figures.items() if k != "learning_rate")
