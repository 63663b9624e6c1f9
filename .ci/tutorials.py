"""Builds the package of each tutorial beside a clone of the project, and runs its commands.

    tutorials.py REPOSITORY
"""

import glob
import os
import re
import subprocess
import sys
import tempfile

repository = sys.argv[1]
environment = {name: value for name, value in os.environ.items() if name != "IOMMU_STRICT"}
failed = False


def blocks(page):
    """The fenced blocks of a page: what stands behind the fence, and the lines."""
    found, lines, inside = [], open(page, encoding="utf-8").read().split("\n"), None
    for line in lines:
        if line.startswith("```"):
            if inside is None:
                inside = (line[3:].split(), [])
            else:
                found.append(inside)
                inside = None
        elif inside is not None:
            inside[1].append(line)
    return found


def pattern(shown):
    """What lines of output look like: a line `…` is any number of lines, `…` in a line any text."""
    lines = ["(?:.*\n)*" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + "\n" for line in shown]
    return "".join(lines)


with tempfile.TemporaryDirectory() as work:
    # As it is in the working tree, under a name that is not the package's.
    subprocess.run(["git", "clone", "--quiet", "--local", repository, f"{work}/clone"], check=True)
    for page in sorted(glob.glob(f"{repository}/docs/tutorials/*.md")):
        found = blocks(page)
        files = [(words[1], lines) for words, lines in found if len(words) > 1]
        if not files:
            continue
        name = os.path.basename(page)
        # One directory for all: the project's own modules are built once.
        package = f"{work}/package"
        subprocess.run(["rm", "-rf", f"{package}/Sources", f"{package}/Tests", f"{package}/Package.swift"])
        written = set()
        for path, lines in files:
            os.makedirs(os.path.dirname(f"{package}/{path}"), exist_ok=True)
            with open(f"{package}/{path}", "a" if path in written else "w", encoding="utf-8") as file:
                # The blocks of one file follow each other.
                file.write("\n".join(lines) + "\n")
            written.add(path)
        for words, lines in found:
            if words or not lines or not lines[0].startswith("$ swift "):
                continue
            done = subprocess.run(lines[0][2:], shell=True, cwd=package, env=environment, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if re.fullmatch(pattern(lines[1:]), done.stdout):
                print(f"ok    {name}: {lines[0][2:]}")
            else:
                failed = True
                print(f"WRONG {name}: {lines[0][2:]}\n{done.stdout}{done.stderr[-3000:]}")
sys.exit(failed)
