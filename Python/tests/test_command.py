"""python3 -m iommutables."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from iommutables.__main__ import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def test_find(capsys: pytest.CaptureFixture[str], examples: Path) -> None:
    image = str(examples / "vtd-crash" / "image.elf")
    status, out, _ = run(capsys, image)
    assert status == 0
    assert out.splitlines()[:2] == [
        "0x6a04000  VT-d root table, 0x1000 bytes, score 100",
        "  15 of 15 context entries legal, in 4 context tables",
    ]
    status, out, _ = run(capsys, image, "--format", "json", "find")
    found = json.loads(out)
    assert found[0]["address"] == "0x6a04000" and found[0]["certain"] is True


def test_walk(capsys: pytest.CaptureFixture[str], examples: Path) -> None:
    folder = examples / "vtd-crash"
    dump = [str(folder / "image.elf"), "--machine", str(folder / "machine.json")]
    status, out, _ = run(capsys, *dump, "walk", "00:03.0", "0xffefd123", "--write")
    assert status == 0 and out.splitlines()[-1] == "0x7663123"
    status, out, _ = run(capsys, *dump, "--format", "json", "walk", "00:03.0", "ffefd123")
    walk = json.loads(out)
    assert (walk["physical"], walk["bytes"], walk["access"]) == ("0x7663123", "0xedd", "read")
    assert walk["steps"][-1]["entry"]["words"] == ["0x7663003"] and walk["steps"][-1]["level"] == 1
    status, out, _ = run(capsys, *dump, "--format", "json", "walk", "00:03.0", "1000", "--write")
    assert status == 1 and json.loads(out)["fault"]["reason"] == "0x5"


def test_a_walk_through_what_the_dump_lacks_ends_unknown(
    capsys: pytest.CaptureFixture[str], examples: Path, tmp_path: Path
) -> None:
    image = bytearray((examples / "vtd-crash/image.elf").read_bytes())
    (headers,) = struct.unpack_from("<Q", image, 32)
    (count,) = struct.unpack_from("<H", image, 56)
    # The last table on the way, as README shows it.
    for place in range(headers, headers + 56 * count, 56):
        if struct.unpack_from("<Q", image, place + 24) == (0x7568000,):
            struct.pack_into("<QQ", image, place + 32, 0, 0)
    cut = tmp_path / "cut.elf"
    cut.write_bytes(image)
    dump = [str(cut), "--machine", str(examples / "vtd-crash/machine.json")]
    status, out, _ = run(capsys, *dump, "walk", "00:03.0", "0xffefd123", "--write")
    assert status == 2
    assert out.splitlines()[-1].startswith("unknown: where no memory answers, fault 0x7: ")
    status, out, _ = run(capsys, *dump, "--format", "json", "walk", "00:03.0", "ffefd123")
    assert status == 2 and "physical" not in json.loads(out) and "unknown" in json.loads(out)


def test_maps(capsys: pytest.CaptureFixture[str], examples: Path) -> None:
    folder = examples / "calgary"
    dump = [str(folder / "image.elf"), "--machine", str(folder / "machine.json")]
    status, out, _ = run(capsys, *dump, "maps")
    assert status == 0 and out.splitlines()[0] == "bus:00  0x26000..<0x2e000 -> 0xe7b8000 rw"
    status, out, _ = run(capsys, *dump, "--format", "json", "maps")
    tables = json.loads(out)["tables"]
    assert tables[0]["table"] == "bus:00" and tables[0]["runs"][0]["bytes"] == "0x8000"


def test_verify(capsys: pytest.CaptureFixture[str], examples: Path) -> None:
    folder = examples / "play"
    dump = [str(folder / "vtd.elf"), "--machine", str(folder / "vtd.json")]
    status, out, _ = run(capsys, *dump, "verify")
    assert status == 2 and out.splitlines()[-1] == "the Rule: unknown"
    devices = ["00:03.0", "01:01.0", "02:01.0"]
    status, out, _ = run(capsys, *dump, "verify", *devices)
    assert status == 0 and out.splitlines()[-1] == "the Rule: holds"
    status, out, _ = run(capsys, *dump, "--format", "json", "verify", *devices)
    rules = json.loads(out)["rules"]
    assert [rule["rule"] for rule in rules] == [f"R{number}" for number in range(1, 14)]


def test_bad_input_ends_with_two(capsys: pytest.CaptureFixture[str], examples: Path) -> None:
    status, _, err = run(capsys, "nowhere.elf")
    assert status == 2 and err.startswith("error: ")
    status, _, err = run(capsys, str(examples / "vtd-crash" / "image.elf"), "walk", "nobody", "0")
    assert status == 2 and "bus:device.function" in err


@pytest.mark.parametrize("arguments", [[], ["x", "dance"], ["x", "walk", "00:03.0", "zero"]])
def test_a_wrong_command_line_ends_with_64(arguments: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 64


def test_it_runs_as_a_module(examples: Path) -> None:
    image = str(examples / "vtd-crash" / "image.elf")
    done = subprocess.run(
        [sys.executable, "-m", "iommutables", image], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("0x6a04000")
