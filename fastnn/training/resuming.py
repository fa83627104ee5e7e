"""Where a fit stands: what a checkpoint keeps of it beside the model, and how another goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastnn import checks, serialization
from fastnn.callbacks import Callback
from fastnn.serialization import Content
from fastnn.training.history import History

if TYPE_CHECKING:
    import numpy.typing as npt

    from fastnn.metrics import Tally
    from fastnn.model import Sequential
    from fastnn.training.fit import Fitting

    Array = npt.NDArray[Any]

PREFIX = "fit."
"""Names of arrays that a file has beside the model's begin so."""

OF_MODEL = ("dtype", "input_shape", "layers")
"""What of a model's description must be the same in the model that goes on."""


def arguments(fitting: Fitting) -> dict[str, Any]:
    """What must be the same in a fit that goes on: of the data, types and shapes."""
    kinds = {
        f"{prefix}{name}": None if array is None else f"{array.dtype} {array.shape}"
        for prefix, data in (("", fitting.data), ("validation ", fitting.validation))
        for name, array in zip(("x", "y", "weights"), data or (None,) * 3, strict=False)
    }
    return {
        **kinds,
        "batch_size": fitting.batch,
        "shuffle": fitting.shuffle,
        "compiled": _plain(fitting.model.get_config())["compiled"],
    }


def content(fitting: Fitting, tally: Tally) -> Content:
    """All of a checkpoint: the model, and where its fit stands."""
    model = fitting.model
    standing = {
        "arguments": fitting.arguments,
        "epoch": fitting.epoch,
        "first": fitting.first,
        "sums": tally.taken(model.state) if fitting.first else None,
        "stopped": bool(model.stop_training),
        "history": fitting.history.arrays(),
        "callbacks": [
            {"class": type(callback).__name__, "state": callback.state()}
            for callback in remembering(fitting.callbacks)
        ],
    }
    described, arrays = serialization.separated(standing, PREFIX.rstrip("."))
    return Content({**model.get_config(), "fit": described}, {**model._arrays(), **arrays})


def remembering(callbacks: list[Callback]) -> list[Callback]:
    """Those that have a state."""
    return [callback for callback in callbacks if type(callback).state is not Callback.state]


class Standing(NamedTuple):
    """A checkpoint that a fit can go on from.

    Attributes
    ----------
    model : Content
        The description of the model, and its arrays by their names in a file.
    epoch, first : int
        How many epochs are done, and how many rows of the next one.
    sums : ndarray or None
        What that epoch has added up.
    stopped : bool
        Whether a callback has ended training.
    history : History
    callbacks : list
        The states of those that have one.
    arguments : dict
        Those with which the fit began.
    """

    model: Content
    epoch: int
    first: int
    sums: Array | None
    stopped: bool
    history: History
    callbacks: list[dict[str, Any]]
    arguments: dict[str, Any]

    def restore(self, model: Sequential) -> None:
        """Bring `model`, which fits, to where this one stood."""
        assert model.optimizer is not None
        config = self.model.description
        for name, array in model._arrays().items():
            array[...] = self.model.arrays[name]
        rate = config["compiled"]["optimizer"]["config"].get("learning_rate")
        if isinstance(rate, (int, float)):  # else a schedule, which is the same
            model.optimizer.learning_rate = rate
        model._take_counts(config)
        model.stop_training = self.stopped


def find(path: str | os.PathLike[str], fitting: Fitting) -> Standing | None:
    """The checkpoint to go on from, refused if it does not fit; None in a folder without files.

    Raises
    ------
    FileNotFoundError
        If there is no such file or folder.
    ValueError
        If it cannot be loaded, or is of another fit.
    """
    place = Path(path)
    if not place.is_dir():
        standing = _read(place)
        _check(standing, place, fitting)
        return standing
    # A temporary file of a process that was killed begins with a dot. Of files of one moment, the
    # longer name has the larger number.
    files = [file for file in place.iterdir() if file.is_file() and not file.name.startswith(".")]
    newest = sorted(files, key=lambda f: (f.stat().st_mtime_ns, len(f.name), f.name), reverse=True)
    failures = []
    for file in newest:
        try:
            standing = _read(file)
        except ValueError as error:
            failures.append(str(error))
            continue
        _check(standing, file, fitting)
        return standing
    if failures:
        raise ValueError(
            f"fit: resume_from: no file in {place} can be gone on from: {'; '.join(failures)}"
        )
    return None


def _read(path: Path) -> Standing:
    """The checkpoint in a file, all of it in memory and undamaged."""
    with serialization.opened(path) as file:
        if "fit" not in file.description:
            raise ValueError("it holds no fit to go on from; the callback Checkpoint writes such")
        described, arrays = file.content()
        fit = serialization.joined(described["fit"], arrays)
        of_model = {name: a for name, a in arrays.items() if not name.startswith(PREFIX)}
        return Standing(
            model=Content(described, of_model),
            epoch=checks.integer("load", "epoch", fit["epoch"], 0),
            first=checks.integer("load", "first", fit["first"], 0),
            sums=fit["sums"],
            stopped=bool(fit["stopped"]),
            history=History.of(fit["history"]),
            callbacks=list(fit["callbacks"]),
            arguments=dict(fit["arguments"]),
        )


def _check(standing: Standing, path: Path, fitting: Fitting) -> None:
    """Refuse a checkpoint of another fit."""
    model, config = fitting.model, standing.model.description
    here = {"fit": fitting.arguments, **_plain({k: model.get_config()[k] for k in OF_MODEL})}
    there = {"fit": standing.arguments, **{k: config[k] for k in OF_MODEL}}
    if here["fit"]["compiled"] == config["compiled"]:  # a model that was loaded from the file
        here["fit"] = {**here["fit"], "compiled": standing.arguments["compiled"]}
    found = _difference(there, here, "")
    kinds = [type(callback).__name__ for callback in remembering(fitting.callbacks)]
    found = found or _difference([each["class"] for each in standing.callbacks], kinds, "callbacks")
    if found:
        raise ValueError(f"fit: resume_from: {os.fspath(path)} is of another fit: {found}")
    rows = len(fitting.data.x)
    if standing.first % fitting.batch or standing.first >= rows:
        raise ValueError(f"fit: resume_from: no step of {rows} rows begins at {standing.first}")
    own, given = model._arrays(), standing.model.arrays
    if set(own) != set(given):
        raise ValueError(f"fit: resume_from: arrays are {sorted(given)}, not {sorted(own)}")
    for name, array in own.items():
        kinds = [f"{each.dtype} {each.shape}" for each in (array, given[name])]
        if kinds[0] != kinds[1]:
            raise ValueError(f"fit: resume_from: {name} must be {kinds[0]}, got {kinds[1]}")


def _difference(there: Any, here: Any, place: str) -> str | None:
    """Where two descriptions are not the same, and what stands there; None: nowhere."""
    if isinstance(there, dict) and isinstance(here, dict) and set(there) == set(here):
        pairs = [(f"{place}.{key}", there[key], here[key]) for key in there]
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = [(f"{place}.{i}", *both) for i, both in enumerate(zip(there, here, strict=True))]
    else:
        place = place.removeprefix(".")
        return None if there == here else f"{place} is {there!r} there and {here!r} here"
    return next((found for p, t, h in pairs if (found := _difference(t, h, p))), None)


def _plain(value: Any) -> Any:
    """`value` as it comes back out of a file."""
    return json.loads(json.dumps(value))
