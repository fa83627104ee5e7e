"""asv's page of fastnn's past, with what it loads beside it: ``python -m benchmarks.dashboard``.

Publishes the results that are kept in ``benchmarks/results/asv``, puts the libraries that asv's
page would load from elsewhere beside it, and serves it on 127.0.0.1 until it is interrupted. The
libraries are fetched once, with npm, in the versions and with the checksums of
``package-lock.json``; ``.asv`` keeps them.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import RESULTS
from benchmarks.page.__main__ import PAGE

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

LIBRARIES = {
    "jquery-3.3.1.min.js": "jquery/dist/jquery.min.js",
    "jquery.flot.min.js": "flot/jquery.flot.js",
    "jquery.flot.time.min.js": "flot/jquery.flot.time.js",
    "jquery.flot.selection.min.js": "flot/jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "flot/jquery.flot.categories.js",
    "jquery.flot.orderBars.js": "flot-orderbars/js/jquery.flot.orderBars.js",
    "stupidtable.min.js": "stupid-table-plugin/stupidtable.min.js",
    "md5.min.js": "blueimp-md5/js/md5.min.js",
    "bootstrap.min.js": "bootstrap/dist/js/bootstrap.min.js",
    "bootstrap.min.css": "bootstrap/dist/css/bootstrap.min.css",
}
"""Where npm puts what the page of asv 0.6.6 asks for by these names."""

KEPT = "benchmarks/results/asv"
"""Where asv keeps its results, as asv.conf.json says."""

PEERS = "peers.html"
"""What ``python -m benchmarks.page`` made, as it is called here."""

LAST_LINK = '<li id="nav-li-regressions"><a href="#/regressions">Regressions</a></li>'
"""The last in the menu of asv's page."""

BESIDE = "libraries"
"""The folder beside the page."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish, and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=ROOT / ".asv" / "html", help="the page's folder"
    )
    parser.add_argument("--no-serve", action="store_true", help="only make the page")
    options = parser.parse_args(arguments)
    try:
        modules = fetched(ROOT / ".asv" / BESIDE)
        publish(ROOT, options.output)
        bring_home(options.output, modules)
        add_peers(options.output, RESULTS / PAGE)
    except (FileNotFoundError, ValueError, subprocess.CalledProcessError) as error:
        parser.error(str(error))
    print(f"written: {options.output / 'index.html'}")
    if not options.no_serve:
        serve(options.output)
    return 0


def fetched(folder: Path) -> Path:
    """npm's modules in `folder`, fetched unless they are there in the locked versions.

    Raises
    ------
    FileNotFoundError
        If they are not there, and npm is not installed.
    """
    lock, done = HERE / "package-lock.json", folder / "fetched.json"
    if done.is_file() and done.read_bytes() == lock.read_bytes():
        return folder / "node_modules"
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("dashboard: npm must be installed: apt-get install npm")
    folder.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    for name in ("package.json", lock.name):
        shutil.copy(HERE / name, folder)
    # No package of these has anything to run.
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=folder, check=True)
    shutil.copy(lock, done)
    return folder / "node_modules"


def publish(project: Path, folder: Path) -> None:
    """Write asv's page of a project's kept results; what is in `folder` is replaced.

    Raises
    ------
    ImportError
        If asv is not installed.
    FileNotFoundError
        If there are no results.
    ValueError
        If `folder` holds something else than such a page.
    """
    if importlib.util.find_spec("asv") is None:
        raise ImportError('dashboard: needs asv: pip install "fastnn[bench]"')
    if not (project / KEPT / "benchmarks.json").is_file():
        raise FileNotFoundError(f"dashboard: no results in {KEPT}; asv run makes some")
    # asv deletes the folder first, and then lays its scripts.
    if folder.exists() and any(folder.iterdir()) and not (folder / "asv.js").is_file():
        raise ValueError(f"--output must be a new folder or an older page, got {folder}")
    command = [sys.executable, "-m", "asv", "publish", "--no-pull"]
    subprocess.run([*command, "--html-dir", str(folder.resolve())], cwd=project, check=True)


def bring_home(folder: Path, modules: Path) -> None:
    """Let the page in `folder` load its libraries from beside it, and put them there.

    Raises
    ------
    ValueError
        If the page asks for one that is not among `LIBRARIES`.
    """
    index = folder / "index.html"
    text = index.read_text(encoding="utf-8")
    names: list[str] = []

    def local(tag: re.Match[str]) -> str:
        url = re.search(r'"(https?://[^"]+)"', tag.group())
        if url is None:
            return tag.group()
        name = url.group(1).rpartition("/")[2]
        if name not in LIBRARIES:
            raise ValueError(f"dashboard: a library of asv's page is not known: {name}")
        names.append(name)
        kept = re.sub(r'\s(integrity|crossorigin|referrerpolicy)="[^"]*"', "", tag.group())
        return kept.replace(url.group(1), f"{BESIDE}/{name}")

    text = re.sub(r"<(?:script|link)\b[^>]*>", local, text)
    (folder / BESIDE).mkdir(exist_ok=True)
    for name in names:
        shutil.copy(modules / LIBRARIES[name], folder / BESIDE / name)
    index.write_text(text, encoding="utf-8")


def add_peers(folder: Path, page: Path) -> None:
    """Link the page beside the peers, and of GPUs, from asv's, and put it there.

    Raises
    ------
    ValueError
        If asv's page has no such place for a link as it had.
    """
    index = folder / "index.html"
    text = index.read_text(encoding="utf-8")
    if text.count(LAST_LINK) != 1:
        raise ValueError("dashboard: asv's page has another menu than that of asv 0.6.6")
    link = f'<li><a href="{PEERS}">Beside the peers</a></li>'
    index.write_text(text.replace(LAST_LINK, f"{LAST_LINK}\n\t{link}"), encoding="utf-8")
    shutil.copy(page, folder / PEERS)


def serve(folder: Path) -> None:
    """Serve `folder` until interrupted."""
    with server_of(folder) as server:
        print(f"{address(server)}  (Ctrl-C ends)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def server_of(folder: Path) -> http.server.ThreadingHTTPServer:
    """A server of `folder` to this machine alone, on a free port."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    return http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)


def address(server: http.server.ThreadingHTTPServer) -> str:
    """Where a browser finds it."""
    return f"http://127.0.0.1:{server.server_port}/"


if __name__ == "__main__":
    raise SystemExit(main())
