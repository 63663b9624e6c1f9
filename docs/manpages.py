#!/usr/bin/env python3
"""Writes a manual page for the tool and one for each command, from the tool's own help.

Usage: manpages.py TOOL DIRECTORY. Reads `TOOL --experimental-dump-help`.
"""
import json
import os
import re
import subprocess
import sys

tool, directory = sys.argv[1:3]
help_ = json.loads(subprocess.run([tool, "--experimental-dump-help"], check=True,
                                  capture_output=True, text=True).stdout)["command"]
# The tool tells by which name it was called; pages say that one.
name = help_["commandName"]
version = subprocess.run([tool, "--version"], check=True, capture_output=True, text=True).stdout.strip()

# What holds for every command: a sentence for each status.
EXIT_STATUS = [
    ("0", "All is well: the answer is yes, or the output was written."),
    ("1", "The answer is no: something that was checked does not hold."),
    ("2", "Input cannot be read, or what would tell is not in the dump: the answer is unknown."),
    ("64", "The command line is wrong."),
]
# Variables, and the option that a command must have for them to count.
ENVIRONMENT = [
    ("NO_COLOR", "color", "Set and not empty: no colours, unless \\fB\\-\\-color\\fR asks for them."),
    ("IOMMU_PAGER, PAGER", "pager",
     "The program that long output on a terminal goes through, the first of the two that is set; "
     "empty or \\fBcat\\fR for none. Without either, \\fBless\\fR(1)."),
    ("COLUMNS", None, "How wide help is written."),
]


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in ".'" else line for line in text.split("\n"))


def spell(name):
    return ("-" if name["kind"] == "short" else "--") + name["name"]


def spellings(argument):
    return [spell(name) for name in argument.get("names") or []]


def value(argument):
    return f"<{argument['valueName']}>"


def usage(argument):
    if argument["kind"] == "positional":
        text = value(argument)
    else:
        names = spellings(argument)
        # A flag with its opposite: either may be given.
        text = "|".join(names) if is_inverted(names) else names[-1]
        if argument["kind"] == "option":
            text += " " + value(argument)
    if argument.get("isRepeating"):
        text += " ..."
    return f"[{text}]" if argument.get("isOptional") else text


def is_inverted(names):
    return any(name.startswith("--no-") and "--" + name[5:] in names for name in names)


def described(argument):
    label = usage({**argument, "isOptional": False}).replace("|", ", ")
    if argument["kind"] != "positional" and not is_inverted(spellings(argument)):
        label = ", ".join(spellings(argument)[:-1] + [label])
    text = " ".join(filter(None, [argument.get("abstract"), argument.get("discussion")]))
    if argument.get("defaultValue") and "Default:" not in text:
        default = argument["defaultValue"]
        if is_inverted(spellings(argument)):
            default = {"true": spellings(argument)[0], "false": "--no-" + spellings(argument)[0][2:]}.get(
                default, default)
        text += f" Default: {default}."
    return [".TP", f".B {escape(label)}", escape(text)]


def merged(arguments):
    """One argument for a flag and its opposite, which the tool tells one by one."""
    result = []
    for argument in arguments:
        names = spellings(argument)
        last = result[-1] if result else None
        if last and argument["kind"] == "flag" and len(names) == 1 and names[0].startswith("--no-") \
                and "--" + names[0][5:] in spellings(last):
            result[-1] = {**last, "names": last["names"] + argument["names"],
                          "abstract": last.get("abstract") or argument.get("abstract"),
                          "defaultValue": last.get("defaultValue") or argument.get("defaultValue")}
        else:
            result.append(argument)
    return result


def section(title, lines):
    return [f".SH {title}"] + lines if lines else []


def paragraphs(texts):
    return [line for text in texts for line in [".PP", escape(text).replace("\n", "\n.br\n")]]


def page(path, command, siblings):
    title = "-".join(path)
    shown = merged([a for a in command.get("arguments", []) if a.get("shouldDisplay", True)])
    arguments = [a for a in shown if a["kind"] == "positional"]
    options = [a for a in shown if a["kind"] != "positional"]
    commands = [c for c in command.get("subcommands") or [] if c["commandName"] != "help"]

    texts = [t for t in command.get("discussion", "").split("\n\n") if t]
    examples = [t for t in texts if t.startswith("Example: ")]
    status = [t for t in texts if re.match("Exits |Exit status:", t)]
    description = [t for t in texts if t not in examples and t not in status]

    lines = [f'.TH {title.upper()} 1 "" "{name} {version}" "swift\\-iommu"', ".SH NAME",
             escape(f"{title} - {command.get('abstract', '').rstrip('.')}"), ".SH SYNOPSIS",
             ".nh", f".B {escape(' '.join(path))}"]
    lines += [escape(usage(a)) for a in options + arguments]
    if commands:
        default = any(c["commandName"] == command.get("defaultSubcommand") for c in commands)
        lines.append(escape("[<command>]" if default else "<command>"))
    lines.append(".hy")
    lines += section("DESCRIPTION", paragraphs(description or [command.get("abstract", "")]))
    lines += section("COMMANDS", [line for child in commands for line in [
        ".TP", f".BR {escape(title + '-' + child['commandName'])} (1)", escape(child.get("abstract", ""))]])
    lines += section("ARGUMENTS", [line for a in arguments for line in described(a)])
    lines += section("OPTIONS", [line for a in options for line in described(a)])
    lines += [".SH EXIT STATUS"]
    for number, text in EXIT_STATUS:
        lines += [".TP", f".B {number}", escape(text)]
    if len(path) > 1:
        lines += paragraphs(status)
    names = {spelling[2:] for a in options for spelling in spellings(a)}
    lines += section("ENVIRONMENT", [line for variable, option, text in ENVIRONMENT
                                     if option is None or option in names or len(path) == 1
                                     for line in [".TP", f".B {escape(variable)}", text]])
    lines += section("EXAMPLE" + "S" * (len(examples) > 1), [line for example in examples for line in [
        ".PP", ".nf", ".RS 4", escape(example[9:]), ".RE", ".fi"]])
    # The page above, those below, those beside.
    parent = ["-".join(path[:-1])] if len(path) > 1 else []
    others = parent + [f"{title}-{c['commandName']}" for c in commands] + [s for s in siblings if s != title]
    others = [f".BR {escape(name)} (1)" for name in others]
    others += [".BR makedumpfile (8)", ".BR crash (8)"] if len(path) == 1 else []
    lines += section("SEE ALSO", [name + "," for name in others[:-1]] + others[-1:])

    with open(os.path.join(directory, title + ".1"), "w") as file:
        file.write("\n".join(lines) + "\n")
    for child in commands:
        page(path + [child["commandName"]], child, [f"{title}-{c['commandName']}" for c in commands])


os.makedirs(directory, exist_ok=True)
page([name], help_, [])
