"""From a CSV to a submission: read labelled images, train, validate, and answer for the others.

The files have the format of Kaggle's competition *Digit Recognizer*, on MNIST: train.csv with the
columns label, pixel0, pixel1, ..., pixels from 0 to 255; test.csv without the label; and what is
handed in, submission.csv, with the columns ImageId, counted from 1, and Label. They are in a folder
beside the picture and called like it. Kaggle's own files are used where they are there; otherwise
the bundled digits, of 8x8 pixels, are written first, and with them solution.csv, which Kaggle keeps
to itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastnn
from fastnn.examples import _page
from fastnn.examples._page import Array


class Findings(NamedTuple):
    """What is handed in, and what is known of its worth."""

    submission: Path
    images: Array  # (N, pixels), 0 to 255
    answers: Array  # (N, 2), ImageId and Label, as read back
    solution: Array | None  # (N,), or None where nobody tells
    validation: float  # accuracy
    validation_rows: int


def read(path: Path, dtype: type = np.int64) -> Array:
    """The integers of a CSV file below its header."""
    return np.loadtxt(path, dtype, delimiter=",", skiprows=1, ndmin=2)


def write(path: Path, header: str, rows: Array) -> None:
    """Integers as a CSV file."""
    np.savetxt(path, rows, "%d", delimiter=",", header=header, comments="")


def write_answers(path: Path, labels: Array) -> None:
    """Labels in the form in which they are handed in."""
    write(path, "ImageId,Label", np.stack([np.arange(1, len(labels) + 1), labels], axis=1))


def write_digits(folder: Path) -> None:
    """The bundled digits as a competition would hand them out."""
    folder.mkdir(exist_ok=True)
    (x, y), (x_test, y_test) = fastnn.datasets.load("digits")
    pixels = ",".join(f"pixel{index}" for index in range(x.shape[1]))
    write(folder / "train.csv", f"label,{pixels}", np.column_stack([y, np.rint(255 * x)]))
    write(folder / "test.csv", pixels, np.rint(255 * x_test))
    write_answers(folder / "solution.csv", y_test)


def measure(options: _page.Options) -> Findings:
    """Read, train, hand in."""
    folder = options.out.with_suffix("")
    if not (folder / "train.csv").exists():
        write_digits(folder)
    training, images = (read(folder / name, np.uint8) for name in ("train.csv", "test.csv"))
    y, x = training[:, 0], training[:, 1:] / np.float32(255)

    kept = len(x) // 5  # for validation: its last rows
    model = fastnn.Sequential(
        [
            fastnn.Dense(256, activation="relu"),
            fastnn.Dropout(0.5),
            fastnn.Dense(10, activation="softmax"),
        ],
        seed=options.seed,
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[:-kept], y[:-kept], epochs=10 if options.quick else 20, verbose=0)
    validation = model.evaluate(x[-kept:], y[-kept:])["accuracy"]

    submission = folder / "submission.csv"
    write_answers(submission, model.predict(images / np.float32(255)).argmax(axis=1))
    known = folder / "solution.csv"
    solution = read(known)[:, 1] if known.exists() else None
    return Findings(submission, images, read(submission), solution, validation, kept)


def report(found: Findings) -> _page.Report:
    """What validation expects, and what the answers are worth where that is known."""
    ids, labels = found.answers.T
    n = len(found.images)
    claims = [
        (
            f"{found.submission} answers for {n} images, numbered from 1, a digit each",
            np.array_equal(ids, np.arange(1, n + 1)) and set(labels) <= set(range(10)),
        ),
        ("On validation rows more than nine of ten answers are right", found.validation > 0.9),
    ]
    rows: list[tuple[object, ...]] = [("validation", found.validation_rows, found.validation)]
    if found.solution is not None:
        score = float((labels == found.solution).mean())
        error = math.sqrt(score * (1 - score) * (1 / n + 1 / found.validation_rows))
        claims.append(
            (
                "Validation foretold the score, within 4 standard errors of the difference",
                abs(score - found.validation) < 4 * error,
            )
        )
        rows.append(("submission", n, score))
    return _page.Report(claims, ("accuracy of", "rows", "accuracy"), rows)


def draw(figure: Any, found: Findings) -> None:
    """The first images to be answered for, and some of those that went wrong."""
    labels = found.answers[:, 1]
    truth = labels if found.solution is None else found.solution
    wrong = truth != labels
    across = 10
    first = np.arange(min(2 * across, len(labels)))
    missed = np.flatnonzero(wrong)[:across]
    side = math.isqrt(found.images.shape[1])
    grid = figure.subplots(3, across)
    for axes in grid.flat:
        axes.axis("off")
    places = [*zip(grid[:2].flat, first, strict=False), *zip(grid[2], missed, strict=False)]
    for axes, index in places:
        axes.imshow(found.images[index].reshape(side, side), cmap="Greys")
        title = f"{labels[index]} (is {truth[index]})" if wrong[index] else labels[index]
        axes.set_title(title, fontsize="small", color="C3" if wrong[index] else "k")
    figure.suptitle(
        "The first images of the test file and the answers for them"
        + (f"; last row: wrong answers, of {wrong.sum()}" if len(missed) else "")
    )


def main(arguments: Sequence[str] | None = None) -> Findings:
    """Run the example."""
    return _page.show(__file__, __doc__ or "", arguments, measure, report, draw)


if __name__ == "__main__":
    main()
