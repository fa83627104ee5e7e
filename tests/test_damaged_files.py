"""Files that were damaged or made to harm: a clear error or the very model, at little cost."""

import json
import os
import stat
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import damage
import fastnn
from fastnn import serialization


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "net.safetensors"


def small(*layers: fastnn.Layer) -> fastnn.Sequential:
    return fastnn.Sequential([*layers, fastnn.Dense(9)], input_shape=9, seed=1)


def header_end(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


# Damage


def test_a_file_cut_off_anywhere_is_refused(path: Path) -> None:
    small().save(path)
    content = path.read_bytes()
    assert damage.survivors(path, (content[:length] for length in range(len(content)))) == 0


def test_a_checkpoint_cut_off_is_refused(path: Path) -> None:
    content = damage.checkpoint(path)
    lengths = np.random.default_rng(2).integers(len(content), size=100)
    assert damage.survivors(path, (content[:length] for length in lengths)) == 0


def test_a_changed_byte_of_the_header_is_noticed_or_means_nothing(path: Path) -> None:
    content = damage.checkpoint(path)
    # What means nothing: one kind of space for another, at the header's end.
    assert damage.survivors(path, damage.flips(content, 300, header_end(content))) < 3


def test_a_changed_bit_of_a_weight_is_noticed(path: Path) -> None:
    small().save(path)
    content = path.read_bytes()

    def damaged(place: int) -> bytes:
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]

    places = range(header_end(content), len(content), 3)
    assert damage.survivors(path, map(damaged, places)) == 0
    path.write_bytes(damaged(header_end(content)))
    with pytest.raises(ValueError, match=r"layers\.0\.bias is damaged: its checksum is another"):
        fastnn.load(path)


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**27, 2**40, 2**63, 2**64 - 1])
def test_a_wrong_length_of_the_header(length: int, path: Path) -> None:
    small().save(path)
    content = path.read_bytes()
    path.write_bytes(length.to_bytes(8, "little") + content[8:])
    with pytest.raises(ValueError, match="cannot be loaded"):
        fastnn.load(path)


# Files that say of themselves what is not so, or too much


def raw(path: Path, header: str, data: bytes = b"") -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + data)


HEADERS = {
    "nested deep": '{"a":' * 100_000,
    "lists nested deep": "[" * 100_000,
    "no table": "[]",
    "nothing": "",
    "a shape that overflows": (
        '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'
    ),
    "more than there is": '{"a":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4000000]}}',
    "offsets the wrong way": '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}',
    "a number too long": '{"a":{"dtype":"F32","shape":[' + "9" * 5000 + '],"data_offsets":[0,4]}}',
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_lies(case: str, path: Path) -> None:
    raw(path, HEADERS[case])
    with pytest.raises(ValueError, match="cannot be loaded"):
        fastnn.load(path)


DESCRIPTIONS = {
    "nested deep": '{"format":2,"a":' * 100_000,
    "lists nested deep": '{"format":' + "[" * 100_000,
    "no table": "[2]",
    "a number too long": '{"format":' + "2" * 5000 + "}",
    "no checksum": '{"format":2}',
    "a checksum of another": '{"format":2,"checksum":"0"}',
    "a checksum that is none": '{"format":2,"checksum":[]}',
    "said twice": '{"format":2,"checksum":"0","format":1}',
}


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_a_description_that_is_none(case: str, path: Path) -> None:
    metadata = {"fastnn": DESCRIPTIONS[case]}
    save_file({"a": np.zeros(1, np.float32)}, path, metadata=metadata)
    with pytest.raises(ValueError, match="cannot be loaded"):
        fastnn.load(path)


def edited(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write the file again with its description changed, and the checksums right."""
    description, arrays = serialization.read(path)
    change(description)
    serialization.write(path, description, arrays)


def nested(description: dict[str, Any]) -> None:
    """A residual in a residual, and so on."""
    for _ in range(200):
        inner = {"layers": description["layers"], "name": None}
        description["layers"] = [{"class": "Residual", "config": inner}]


HUGE = 2**40

DEMANDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "units": lambda d: d["layers"][1]["config"].update(units=10**9),
    "more units": lambda d: d["layers"][1]["config"].update(units=10**18),
    "rows": lambda d: d.update(input_shape=[HUGE]),
    "rows of many dimensions": lambda d: d.update(input_shape=[HUGE, HUGE, HUGE]),
    "another layer": lambda d: d["layers"].append({"class": "Dense", "config": {"units": HUGE}}),
    "an initializer": lambda d: d["layers"][1]["config"].update(kernel_initializer="orthogonal"),
    "residuals in residuals": nested,
}


@pytest.mark.parametrize("case", DEMANDS)
def test_nothing_is_made_that_the_file_does_not_have(case: str, path: Path) -> None:
    small(fastnn.BatchNormalization()).save(path)
    edited(path, DEMANDS[case])
    tracemalloc.start()
    try:
        if case == "an initializer":  # which is not asked
            fastnn.load(path)
        else:
            with pytest.raises(ValueError, match="cannot be loaded"):
                fastnn.load(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_no_weights_are_drawn_for_a_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(fastnn.PReLU(), fastnn.BatchNormalization())
    model.save(path)
    with monkeypatch.context() as patch:
        patch.setattr(fastnn.initializers, "draw", None)
        loaded = fastnn.load(path)
    for own, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(own, theirs)


# Names of the user's


class Dense(fastnn.Layer):
    """A layer of the user's that is called as one of fastnn's."""

    def forward(self, x: Any, training: bool = False) -> Any:
        return 2 * x


def test_own_classes_take_no_place_of_ours(path: Path) -> None:
    model = small(Dense())
    model.save(path)
    with pytest.raises(ValueError, match=r"class Dense is not known; pass custom_objects="):
        fastnn.load(path)
    loaded = fastnn.load(path, custom_objects={"Dense": Dense})
    assert [type(layer) for layer in loaded.layers] == [Dense, fastnn.Dense]
    x = np.ones((2, 9), np.float32)
    assert loaded.predict(x).tobytes() == model.predict(x).tobytes()
    small().save(path)
    loaded = fastnn.load(path, custom_objects={"Dense": Dense})
    assert [type(layer) for layer in loaded.layers] == [fastnn.Dense]


def test_a_class_in_another_room_of_ours_can_be_given(path: Path) -> None:
    elsewhere = type("Elsewhere", (Dense,), {"__module__": "fastnn.elsewhere"})
    small(elsewhere()).save(path)
    with pytest.raises(ValueError, match="class Elsewhere is not known"):
        fastnn.load(path)
    assert type(fastnn.load(path, {"Elsewhere": elsewhere}).layers[0]) is elsewhere


def test_a_file_names_no_class_but_those_to_be_had(path: Path) -> None:
    for name in ("Layer", "Sequential", "Custom", "__import__", "os.system"):
        small().save(path)
        edited(path, lambda d, name=name: d["layers"][0].update({"class": name}))
        with pytest.raises(ValueError, match=f"class {name} is not known"):
            fastnn.load(path)


# How files are written


def test_the_file_is_on_the_disk_before_its_name_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_replace(source: Any, target: Any) -> None:
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    small().save(path)
    assert calls == ["file", "replace", "folder"]


def test_a_new_file_has_the_permissions_of_the_old(path: Path) -> None:
    small().save(path)
    for mode in (0o600, 0o640, 0o666):
        path.chmod(mode)
        small().save(path)
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_link_stays_one(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "net"
    path.symlink_to(target)
    for units in (1, 2):
        fastnn.Sequential([fastnn.Dense(units)], input_shape=3, seed=1).save(path)
        assert path.is_symlink()
        assert fastnn.load(target).output_shape == (units,)
    assert [file.name for file in target.parent.iterdir()] == ["net"]


def test_a_file_says_who_wrote_it(path: Path) -> None:
    small().save(path)
    with safe_open(path, framework="numpy") as file:
        described = json.loads(file.metadata()["fastnn"])
    assert described["fastnn"] == fastnn.__version__
    assert described["format"] == serialization.FORMAT


def test_arrays_are_read_in_parts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    model.save(path)
    monkeypatch.setattr(serialization, "PART_BYTES", 100)  # two rows of the kernel, and one more
    assert fastnn.load(path).parameters.tobytes() == model.parameters.tobytes()
