"""Measures with builds that differ in where their functions lie, and judges goals by the worst of them.

usage: python3 placements.py GOALS-PROGRAM [ARGUMENT...]

The same objects are linked three times, behind 0, 16 and 32 bytes of nothing: functions begin at multiples
of 16, so that they lie otherwise in cache lines. Prints every ratio of each build; those with a goal count
by their worst. The rest of what a run prints, times among it, is in GOALS-PROGRAM.0.txt and so on.
Exits with 1 when a program does, for then an answer was wrong.
"""
import pathlib
import re
import subprocess
import sys

OFFSETS = [0, 16, 32]
RATIO = re.compile(r"^    (\S.* / .*?)  +(\d+\.\d+)(?:  (<=|>=) (\S+)  \w+)?$")
TITLE = re.compile(r"^(\S.*)$|^  (\S.*): ns per ")


def link(program, offset):
    """The program once more, so many bytes further on."""
    target = program.with_name(f"{program.name}-{offset}")
    filler = target.with_suffix(".o")
    source = f".text\n.balign 64\n.fill {offset}, 1, 0x90\n.section .note.GNU-stack,\"\",@progbits\n"
    subprocess.run(
        ["clang", "-c", "-x", "assembler", "-o", filler, "-"], input=source, text=True, check=True)
    objects = program.with_name(program.name + ".product") / "Objects.LinkFileList"
    # The package manager gives the entry point the name of its target.
    entry = f"--defsym=main={program.name}_main"
    subprocess.run(
        ["swiftc", "-o", target, "-Xlinker", entry, filler, f"@{objects}"], check=True)
    return target


def ratios(text):
    """Every ratio in order: subject, comparison, name; value, direction, bound."""
    found, subject, comparison = {}, "", ""
    for line in text.splitlines():
        title, ratio = TITLE.match(line), RATIO.match(line)
        if ratio:
            name, value, direction, bound = ratio.groups()
            found[subject, comparison, name] = (float(value), direction, bound)
        elif title and title[1]:
            subject = title[1].partition(":")[0]
        elif title:
            comparison = title[2]
    return found


def main():
    program = pathlib.Path(sys.argv[1])
    runs = []
    for offset in OFFSETS:
        built = link(program, offset)
        done = subprocess.run([built, *sys.argv[2:]], stdout=subprocess.PIPE, text=True)
        program.with_name(f"{program.name}.{offset}.txt").write_text(done.stdout)
        if done.returncode != 0:
            sys.exit(f"bench: {built} ended with {done.returncode}\n{done.stdout}")
        if not runs:
            print(done.stdout.partition("\n")[0])
        runs.append(ratios(done.stdout))
    missed, goals, headings = [], 0, (None, None)
    for key, (_, direction, bound) in runs[0].items():
        values = [run[key][0] for run in runs]
        for depth, heading in enumerate(key[:2]):
            if headings[: depth + 1] != key[: depth + 1]:
                print("\n" * (depth == 0) + "  " * depth + heading)
                headings = key[: depth + 1] + (None,) * (1 - depth)
        row = f"    {key[2]:44}" + "".join(f"{value:8.3f}" for value in values)
        if direction:
            goals += 1
            worst = max(values) if direction == "<=" else min(values)
            met = worst <= float(bound) if direction == "<=" else worst >= float(bound)
            row += f"  {direction} {bound}  {'met' if met else 'missed'}"
            if not met:
                missed.append(f"{key[0]}, {key[1]}: {key[2]} is {worst:.3f}, should be {direction} {bound}")
        print(row)
    print(f"\n{goals - len(missed)} of {goals} goals met in every build")
    for line in missed:
        print(f"  missed: {line}")


main()
