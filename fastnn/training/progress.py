"""What `fit` shows: a bar, a line an epoch, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any


def compiling(
    verbose: int, target: str = "this CPU, once"
) -> Callable[[Sequence[str], int, int], None] | None:
    """A report for ``compiler.prepare``: what is compiled, and how far it is.

    One line that changes on a terminal; elsewhere one at the beginning.
    """
    if not verbose:
        return None
    shown = sys.stderr.isatty() and verbose == 1
    said = False

    def report(running: Sequence[str], done: int, of: int) -> None:
        nonlocal said
        if shown:
            text = f"fastnn: compiled {done} of {of} kernels for {target}"
            if done < of and running:
                text += f"; now {', '.join(running)}"
            sys.stderr.write(f"\r{_fitting(text):<79}" + ("\n" if done == of else ""))
            sys.stderr.flush()
        elif not said:
            print(f"fastnn: compiling {of} kernels for {target}", file=sys.stderr)
        said = True

    return report


def _fitting(text: str) -> str:
    """The text cut to a terminal's 79 columns."""
    return text if len(text) <= 79 else text[:78] + "…"


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
                total=self._epochs * self._rows,
                initial=self._before,
                unit="row",
                unit_scale=True,
                dynamic_ncols=True,
            )
        self._bar.set_description_str(f"epoch {epoch + 1}/{self._epochs}", refresh=False)

    def advance(self, rows: int, figures: dict[str, Any]) -> None:
        """`rows` rows of the epoch are done; `figures` has its means so far."""
        if self._bar is not None:
            self._bar.set_postfix_str(_text(figures), refresh=False)
            self._bar.update(self._before + rows - self._bar.n)

    def end(self, epoch: int, logs: dict[str, Any]) -> None:
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


def _text(figures: dict[str, Any]) -> str:
    """All figures that are numbers, but for the learning rate."""
    numbers = {k: v for k, v in figures.items() if isinstance(v, float)}
    return ", ".join(f"{k}={v:.4g}" for k, v in numbers.items() if k != "learning_rate")
