"""Every block of Python in docs/python.md, with what it prints."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def blocks(root: Path) -> List[Tuple[str, str]]:
    text = (root / "docs" / "python.md").read_text()
    return [(found[1], found[2]) for found in BLOCK.finditer(text)]


def test_blocks_print_what_stands_below_them(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    names: Dict[str, Any] = {}
    all_blocks = blocks(root)
    count = 0
    for index, (kind, text) in enumerate(all_blocks):
        if kind != "python":
            continue
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out):
                exec(compile(text, f"docs/python.md, block {index + 1}", "exec"), names)
        except ModuleNotFoundError as error:
            if error.name != "drgn":
                raise
            continue
        following = all_blocks[index + 1]
        assert following[0] == "text", "a block of Python has its output below it"
        assert out.getvalue() == following[1]
        count += 1
    assert count >= 7


def test_commands_print_what_stands_below_them(root: Path) -> None:
    count = 0
    for kind, text in blocks(root):
        if kind == "text" and text.startswith("$ python3 -m iommutables "):
            command, _, wanted = text.partition("\n")
            done = subprocess.run(
                [sys.executable, *command.split()[2:]], cwd=root, capture_output=True, text=True
            )
            assert done.stdout == wanted
            count += 1
    assert count == 1
