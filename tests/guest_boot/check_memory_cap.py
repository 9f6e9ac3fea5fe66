#!/usr/bin/env python3
"""Checks what a `-stats` file says of nodes under -node-mem: check_memory_cap.py FILE NODES CAP_MIB KIND...

KIND: what must have happened, as the file spells it. Prints a summary."""
import json
import sys

PAGES_PER_MIB = 256


def check(condition, complaint):
    if not condition:
        sys.exit(complaint)


def main():
    path, nodes, cap_mib = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(path, encoding="utf-8") as file:
        records = json.load(file)["nodes"]
    check(len(records) == nodes, f"statistics of {len(records)} nodes")
    total = {}
    for node in records:
        memory, name = node["memory"], f"node {node['id']}"
        check(memory["cap_pages"] == cap_mib * PAGES_PER_MIB, f"{name}: cap of {memory['cap_pages']} pages")
        check(0 < memory["frames"] <= memory["frames_peak"] <= memory["cap_pages"], f"{name}: {memory}")
        # What the host says: pages set aside need not have been touched yet.
        check(0 < node["frames_mib"] <= memory["frames"] / PAGES_PER_MIB + 1, f"{name}: {node['frames_mib']} MiB resident")
        check(memory["frames_peak"] > memory["cap_pages"] * 0.9, f"{name}: never near its cap: {memory}")
        check(sum(v for k, v in memory.items() if k.startswith("evicted_")) > 1000, f"{name}: gave little up: {memory}")
        for key, value in memory.items():
            total[key] = total.get(key, 0) + value
    for kind in sys.argv[4:]:
        check(total[kind] > 0, f"{kind} never happened: {total}")
    check(total["evicted_dirty"] <= total["offers"], f"more pages taken than offered: {total}")
    print(", ".join(f"{total[k]} {k.removeprefix('evicted_')}" for k in ("evicted_clean", "evicted_stale", "evicted_zero", "evicted_dirty")))


if __name__ == "__main__":
    main()
