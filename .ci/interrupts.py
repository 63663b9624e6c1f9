#!/usr/bin/env python3
"""Compares a listing of interrupt remapping entries, on standard input, with a table of what they are.

Destinations of the table are the field as it stands: without extended mode the APIC id is its bits 15:8.
"""
import csv
import sys


def rows(lines):
    return csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)


truth = {}
with open(sys.argv[1], encoding="utf-8") as file:
    for row in rows(file):
        truth[int(row["#index"])] = (
            row["source-id"], int(row["vector"], 16), int(row["destination"], 16) >> 8,
            row["destination-mode"], row["delivery-mode"], row["trigger"], row["redirection-hint"],
            row["low"], row["high"])

modes = {"fixed": "0", "lowest priority": "1", "SMI": "2", "NMI": "4", "INIT": "5", "ExtINT": "7"}
found = {}
for row in rows(line for line in sys.stdin if not line.startswith("#unknown")):
    low, high = row["raw"].split()
    found[int(row["index"], 16)] = (
        row["source"], int(row["vector"], 16), int(row["destination"], 16), row["mode"],
        modes[row["delivery"]], row["trigger"], row["hint"], low, high)

wrong = [index for index in sorted(truth.keys() | found.keys()) if truth.get(index) != found.get(index)]
for index in wrong:
    print(f"{sys.argv[1]}: entry {index}: expected {truth.get(index)}, found {found.get(index)}")
print(f"{sys.argv[1]}: {len(truth)} interrupts, {len(wrong)} wrong")
sys.exit(1 if wrong or not truth else 0)
