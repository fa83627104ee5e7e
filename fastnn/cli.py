"""The command ``fastnn``."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import fastnn


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastnn", description="Small and medium neural networks, trained and served fast."
    )
    parser.add_argument("--version", action="version", version=f"fastnn {fastnn.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    demo_parser = commands.add_parser(
        "demo", help="train a network on the bundled images of digits, and save it"
    )
    demo_parser.add_argument("--epochs", type=int, default=40, help="passes over the data")
    demo_parser.add_argument("--seed", type=int, default=0, help="of weights, order and dropout")
    demo_parser.add_argument(
        "--out", type=Path, default=Path("digits.safetensors"), help="file to save the network in"
    )
    demo_parser.set_defaults(run=demo)

    info_parser = commands.add_parser("info", help="versions, the CPU, and the cache of kernels")
    info_parser.set_defaults(run=info)

    warmup_parser = commands.add_parser(
        "warmup",
        help="compile all kernels now, so that no process has to when it first needs them",
        description="""Compile all kernels now: into the cache of this user and this CPU
        (FASTNN_CACHE_DIR says where), or with --target for every CPU of a level and all users of
        the installed package, as for a container's image that runs on other machines than the one
        it is made on.""",
    )
    warmup_parser.add_argument(
        "--dtype",
        action="append",
        choices=("float32", "float64"),
        help="only those for models of this element type",
    )
    warmup_parser.add_argument(
        "--target",
        metavar="LEVEL",
        help="for all CPUs of a level, x86-64-v3 or x86-64-v4, as one file in the package",
    )
    warmup_parser.add_argument(
        "--out", type=Path, help="with --target: a folder for the file, in place of the package"
    )
    warmup_parser.set_defaults(run=warmup)

    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (OSError, RuntimeError, ValueError) as error:
        print(f"fastnn {options.command}: {error}", file=sys.stderr)
        return 1
    return status


def demo(options: argparse.Namespace) -> int:
    """Train on the digits, print accuracy and time a step, save the network."""
    (x, y), (x_test, y_test) = fastnn.datasets.load("digits")
    model = fastnn.Sequential(
        [
            fastnn.Dense(256, activation="relu"),
            fastnn.Dropout(0.3),
            fastnn.Dense(128, activation="relu"),
            fastnn.Dropout(0.3),
            fastnn.Dense(10, activation="softmax"),
        ],
        input_shape=x.shape[1:],
        seed=options.seed,
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    model.summary()
    print(f"training on {len(x)} images of 8x8 pixels")

    batch_size = 32
    # From the first epoch's beginning to the last one's end: without the compilation before.
    clock = Clock()
    model.fit(x, y, batch_size=batch_size, epochs=options.epochs, callbacks=[clock])
    scores = model.evaluate(x_test, y_test)
    print(f"test accuracy: {scores['accuracy']:.2%} on {len(x_test)} images never seen")
    steps = options.epochs * -(-len(x) // batch_size)
    if steps:
        print(f"time a step:   {clock.seconds / steps * 1e6:.1f} µs ({batch_size} images)")
    model.save(options.out)
    print(f'saved to:      {options.out}   (fastnn.load("{options.out}").predict(x))')
    return 0


class Clock(fastnn.Callback):
    """Adds up the seconds that epochs take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start."""
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stop."""
        self.seconds += time.perf_counter() - self._begin


def warmup(options: argparse.Namespace) -> int:
    """Compile all kernels, into the cache or for a level of CPUs; say where they are."""
    from fastnn.engine import ahead, cache, catalogue, compiler, packs
    from fastnn.training.progress import compiling

    keys = catalogue.every_key(options.dtype or catalogue.REALS)
    begin = time.perf_counter()
    if options.target is not None:
        folder = options.out or packs.FOLDER
        place = ahead.make_pack(options.target, folder, keys, compiling(1, options.target))
        compiled = len(keys)
    elif options.out is not None:
        raise ValueError("--out: only with --target")
    else:
        compiled = compiler.fill_cache(keys, compiling(1))
        pack = packs.chosen()
        place = cache.folder() if pack is None else packs.path_of(pack.level)
    seconds = time.perf_counter() - begin
    print(f"{len(keys)} kernels are in {place}; {compiled} were compiled now, in {seconds:.1f} s")
    return 0


def info(options: argparse.Namespace) -> int:
    """Print what a bug report needs."""
    from importlib.metadata import version

    import llvmlite.binding as llvm

    from fastnn.engine import cache, packs

    pack = packs.chosen()
    ops = cache.folder()
    compiled = len(list(ops.glob("*.bin"))) if ops.is_dir() else 0
    for name, value in (
        ("fastnn", fastnn.__version__),
        ("python", platform.python_version()),
        *((package, version(package)) for package in ("numpy", "numba", "llvmlite")),
        ("system", platform.platform()),
        ("cpu", llvm.get_host_cpu_name()),
        ("threads", str(fastnn.get_num_threads())),
        (
            "pack",
            "none" if pack is None else f"{packs.path_of(pack.level)} ({len(pack.ops)} kernels)",
        ),
        ("cache", f"{ops} ({compiled} kernels)"),
    ):
        print(f"{name:<9} {value}")
    return 0
