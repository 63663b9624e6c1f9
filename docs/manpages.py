#!/usr/bin/env python3
"""Writes a manual page for the tool and one for each command, from the tool's own help.

Usage: manpages.py TOOL DIRECTORY. Reads `TOOL --experimental-dump-help`.
"""
import json
import os
import subprocess
import sys

tool, directory = sys.argv[1:3]
help_ = json.loads(subprocess.run([tool, "--experimental-dump-help"], check=True,
                                  capture_output=True, text=True).stdout)["command"]


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in ".'" else line for line in text.split("\n"))


def names(argument):
    texts = []
    for name in argument.get("names") or []:
        dash = "-" if name["kind"] == "short" else "--"
        texts.append(dash + name["name"])
    return texts


def usage(argument):
    if argument["kind"] == "positional":
        text = f"<{argument['valueName']}>"
    else:
        text = (names(argument) or ["--?"])[-1]
        if argument["kind"] == "option":
            text += f" <{argument['valueName']}>"
    if argument.get("isRepeating"):
        text += " ..."
    return f"[{text}]" if argument.get("isOptional") else text


def page(path, command):
    title = "-".join(path)
    shown = [a for a in command.get("arguments", []) if a.get("shouldDisplay", True)]
    lines = [f".TH {title.upper()} 1", ".SH NAME",
             escape(f"{title} - {command.get('abstract', '').rstrip('.')}"), ".SH SYNOPSIS",
             ".nh", f".B {escape(' '.join(path))}"]
    lines += [escape(usage(a)) for a in shown]
    if command.get("subcommands"):
        lines.append(escape("<command>"))
    lines += [".hy", ".SH DESCRIPTION"]
    for paragraph in command.get("discussion", "").split("\n\n"):
        if paragraph.startswith("Example: "):
            lines += [".PP", "Example:", ".PP", ".nf", ".RS 4", escape(paragraph[9:]), ".RE", ".fi"]
        elif paragraph:
            lines += [".PP", escape(paragraph).replace("\n", "\n.br\n")]
    if shown:
        lines.append(".SH OPTIONS")
    for argument in shown:
        label = usage({**argument, "isOptional": False})
        spellings = names(argument)
        if len(spellings) > 1:
            label = ", ".join(spellings[:-1] + [label])
        text = " ".join(filter(None, [argument.get("abstract"), argument.get("discussion")]))
        if argument.get("defaultValue"):
            text += f" Default: {argument['defaultValue']}."
        lines += [".TP", f".B {escape(label)}", escape(text)]
    commands = [c for c in command.get("subcommands") or [] if c["commandName"] != "help"]
    if commands:
        lines.append(".SH COMMANDS")
        for child in commands:
            lines += [".TP", f".BR {escape(title + '-' + child['commandName'])} (1)",
                      escape(child.get("abstract", ""))]
    with open(os.path.join(directory, title + ".1"), "w") as file:
        file.write("\n".join(lines) + "\n")
    for child in commands:
        page(path + [child["commandName"]], child)


os.makedirs(directory, exist_ok=True)
page([help_["commandName"]], help_)
