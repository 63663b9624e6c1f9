"""``python3 -m iommutables DUMP find|maps|walk|verify``: what the package sees in a dump."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Callable, Dict, List, NoReturn, Optional, Sequence

from . import (
    Fault,
    InterruptMessage,
    IOMMUError,
    Machine,
    Mapped,
    Memory,
    Outcome,
    Translation,
    __version__,
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(64, f"error: {message}\n")


def _number(given: str) -> int:
    return int(given, 16)


def _commands(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("text", "json"), default="text")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("find", help="tables, by their structure alone; also without a command")
    commands.add_parser("maps", help="every mapping, as runs")
    walk = commands.add_parser("walk", help="one request, entry by entry")
    walk.add_argument("device", metavar="DEVICE", help="such as 00:03.0")
    walk.add_argument("iova", metavar="IOVA", type=_number, help="hexadecimal, with 0x or without")
    walk.add_argument("--write", action="store_true", help="the device writes, instead of reads")
    walk.add_argument("--pasid", type=int, help="the address space within the device")
    verify = commands.add_parser("verify", help="the thirteen checks of the Kdump IO Rule")
    verify.add_argument(
        "devices", metavar="DEVICE", nargs="*", help="what the kdump kernel needs; else all that have a table"
    )


def parse_in_debugger(given: Sequence[str]) -> argparse.Namespace:
    """Arguments where a debugger has the dump."""
    parser = _Parser(prog="%iommu", description="What IOMMU tables in memory say.")
    _commands(parser)
    return parser.parse_args(given)


def _arguments(given: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = _Parser(
        prog="python3 -m iommutables", description="What IOMMU tables in a memory dump say."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("dump", metavar="DUMP", help="the parts of a split one separated by commas")
    parser.add_argument(
        "--machine", metavar="FILE", help="a machine file, instead of what the dump tells by itself"
    )
    _commands(parser)
    return parser.parse_args(given)


def _end(end: Translation) -> Dict[str, Any]:
    if isinstance(end, Mapped):
        return {"physical": hex(end.physical), "bytes": hex(end.byte_count)}
    if isinstance(end, InterruptMessage):
        return {"interrupt": True}
    fault = {"meaning": end.text}
    if end.number is not None:
        fault["reason"] = hex(end.number)
    return {"fault": fault}


def _find(memory: Memory, options: argparse.Namespace) -> int:
    found = memory.find()
    if options.format == "json":
        _print_json(
            [
                {
                    "kind": table.kind,
                    "address": hex(table.address),
                    "bytes": hex(table.byte_count),
                    "score": table.score,
                    "certain": table.is_certain,
                    "reasons": table.reasons,
                }
                for table in found
            ]
        )
    else:
        for table in found:
            print(f"{table.address:#x}  {table.kind}, {table.byte_count:#x} bytes, score {table.score}")
            for reason in table.reasons:
                print(f"  {reason}")
    return 0 if found else 1


def _maps(machine: Machine, memory: Memory, options: argparse.Namespace) -> int:
    maps = machine.maps(memory)
    if options.format == "json":
        tables: Dict[str, Dict[str, Any]] = {}
        for mapping in maps:
            table = tables.setdefault(mapping.owner, {"table": mapping.owner, "runs": []})
            if mapping.same_as is not None:
                table["shared_with"] = mapping.same_as
            elif mapping.is_pass_through:
                table["pass_through"] = mapping.access
            else:
                table["runs"].append(
                    {
                        "iova": hex(mapping.iova),
                        "bytes": hex(mapping.byte_count),
                        "physical": hex(mapping.physical),
                        "access": mapping.access,
                    }
                )
        _print_json({"tables": list(tables.values()), "unknown": maps.unknown})
    else:
        for mapping in maps:
            if mapping.same_as is not None:
                print(f"{mapping.owner}  as {mapping.same_as}")
            elif mapping.is_pass_through:
                print(f"{mapping.owner}  pass-through {mapping.access}")
            else:
                print(
                    f"{mapping.owner}  {mapping.iova:#x}..<{mapping.iova + mapping.byte_count:#x} -> "
                    f"{mapping.physical:#x} {mapping.access}"
                )
        for line in maps.unknown:
            print(f"unknown: {line}", file=sys.stderr)
    return 2 if maps.unknown else 0


def _walk(machine: Machine, memory: Memory, options: argparse.Namespace) -> int:
    walk = machine.walk(
        memory, options.device, options.iova, write=options.write, pasid=options.pasid
    )
    if options.format == "json":
        steps: List[Dict[str, Any]] = []
        for step in walk.steps:
            steps.append(
                {
                    "address": hex(step.address),
                    "index": hex(step.index),
                    "entry": {
                        "name": step.name,
                        "specification": step.specification,
                        "words": [hex(word) for word in step.words],
                        "meaning": step.meaning,
                    },
                }
            )
            if step.level is not None:
                steps[-1]["level"] = step.level
        answer: Dict[str, Any] = {
            "requester": options.device,
            "iova": hex(options.iova),
            "access": "write" if options.write else "read",
            "steps": steps,
            **_end(walk.end),
        }
        if options.pasid is not None:
            answer["pasid"] = options.pasid
        if walk.is_unknown:
            answer["unknown"] = "the entry that decides is not in the dump, or nothing is known of the unit"
        _print_json(answer)
    else:
        print(walk)
    if walk.is_unknown:
        return 2
    return 1 if isinstance(walk.end, Fault) else 0


def _verify(machine: Machine, memory: Memory, options: argparse.Namespace) -> int:
    found = machine.verify(memory, options.devices)
    words = {outcome: outcome.name.lower().replace("_", " ") for outcome in Outcome}
    if options.format == "json":
        _print_json(
            {
                "conclusion": words[found.conclusion],
                "rules": [
                    {
                        "rule": f"R{verdict.rule}",
                        "statement": verdict.statement,
                        "outcome": words[verdict.outcome],
                        "findings": verdict.findings,
                    }
                    for verdict in found.verdicts
                ],
            }
        )
    else:
        for verdict in found.verdicts:
            print(f"R{verdict.rule:<3} {words[verdict.outcome]:14} {verdict.statement}")
            for finding in verdict.findings:
                print(f"       {finding}")
        print(f"the Rule: {words[found.conclusion]}")
    return {Outcome.HOLDS: 0, Outcome.BROKEN: 1}.get(found.conclusion, 2)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, sort_keys=True))


def run(options: argparse.Namespace, memory: Memory, machine: Callable[[], Machine]) -> int:
    """Runs a command over a memory; `machine` is asked where the command wants one."""
    if options.command in (None, "find"):
        return _find(memory, options)
    command = {"maps": _maps, "walk": _walk, "verify": _verify}[options.command]
    return command(machine(), memory, options)


def main(given: Optional[Sequence[str]] = None) -> int:
    """Runs the command line; returns 0 when all is well, 1 for a no, 2 for what cannot be read."""
    options = _arguments(given)
    try:
        with Memory.open(*options.dump.split(",")) as memory:

            def machine() -> Machine:
                return Machine.open(options.machine) if options.machine else Machine.find(memory)

            return run(options, memory, machine)
    except IOMMUError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
