#!/usr/bin/env python3
"""Reads what bench/compare has collected and prints rows, ratios and geometric means: report.py DIRECTORY."""
import glob
import json
import math
import os
import re
import statistics
import sys

GROUPS = (("int", "integer"), ("fp", "floating point"), ("memory", "memory"), ("vector", "AVX2, FMA, AES, SHA"), ("os", "operating system"), ("more", "beside these"))
ROW = re.compile(r"^measure: (\S+) ([0-9.]+) ns/op (\S+)$")


def lines(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\r\n") for line in file]


def workloads(directory, side):
    """(group, name) -> median ns/op over the rounds, in the order of the first round."""
    samples = {}
    for path in sorted(glob.glob(os.path.join(directory, f"{side}.*.console"))):
        for line in lines(path):
            if match := ROW.match(line):
                samples.setdefault((match[3], match[1]), []).append(float(match[2]))
    return {key: statistics.median(values) for key, values in samples.items()}


def geometric_mean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values))


def ratio(a, b):
    return a / b if a and b else None


def cell(value, width=10, suffix="×"):
    return f"{'-':>{width}}" if value is None else f"{value:>{width - 1}.2f}{suffix}"


def number(value, width=14):
    return f"{'-':>{width}}" if value is None else f"{value:>{width},.1f}"


def spread(values, digits=1):
    """The median, and where there are several the range."""
    if not values:
        return "-"
    text = f"{statistics.median(values):.{digits}f}"
    return text + (f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else "")


def print_workloads(sides):
    keys = list(dict.fromkeys(key for side in sides.values() for key in side))
    if not keys:
        return
    print(f"{'workload':<14}{'native ns':>14}{'qemu ns':>14}{'pangea ns':>14}"
          f"{'qemu/nat.':>10}{'pan./nat.':>10}{'qemu/pan.':>10}")
    for group, title in GROUPS:
        rows = [key for key in keys if key[0] == group]
        ratios = {"qn": [], "pn": [], "qp": []}
        for key in rows:
            native, qemu, pangea = (sides[s].get(key) for s in ("native", "qemu", "pangea"))
            values = {"qn": ratio(qemu, native), "pn": ratio(pangea, native), "qp": ratio(qemu, pangea)}
            for name, value in values.items():
                if value is not None:
                    ratios[name].append(value)
            print(f"{key[1]:<14}{number(native)}{number(qemu)}{number(pangea)}"
                  f"{cell(values['qn'])}{cell(values['pn'])}{cell(values['qp'])}")
        if rows:
            means = {name: geometric_mean(values) if values else None for name, values in ratios.items()}
            print(f"{'= ' + title:<56}{cell(means['qn'])}{cell(means['pn'])}{cell(means['qp'])}\n")


def boot_seconds(directory, vcpus, name):
    values = []
    for path in glob.glob(os.path.join(directory, f"boot_{vcpus}-{name}.*.times")):
        with open(path, encoding="utf-8") as file:
            values.append(json.load(file)["marker_s"])
    return [v for v in values if v is not None]


def print_boots(directory):
    rows = {n: [boot_seconds(directory, n, name) for name in ("qemu-1", "pangea-1", "pangea-2")] for n in (1, 2, 4)}
    if not any(any(row) for row in rows.values()):
        return
    print("boot, from the start of the process to the first line of /init (medians, s; range)")
    print(f"{'vCPUs':<7}{'qemu':>22}{'one node':>22}{'two nodes':>22}{'qemu/one':>10}{'two/one':>10}")
    for n, row in rows.items():
        qemu, one, two = (statistics.median(values) if values else None for values in row)
        print(f"{n:<7}{''.join(f'{spread(values, 2):>22}' for values in row)}{cell(ratio(qemu, one))}{cell(ratio(two, one))}")
    print()


def spin_total(directory, name):
    totals = []
    for path in glob.glob(os.path.join(directory, f"spin-{name}.*.console")):
        for line in lines(path):
            if match := re.match(r"^spin: total (\d+) in ([0-9.]+) s", line):
                totals.append(int(match[1]) / float(match[2]))
    return statistics.median(totals) if totals else None


def print_span(directory):
    spins = {name: spin_total(directory, name) for name in
             ("native-1", "native-2", "qemu-1", "qemu-2", "pangea-1", "pangea-2")}
    if any(spins.values()):
        print("work of CPU-bound processes (batches per second)")
        for side in ("native", "qemu", "pangea"):
            one, two = spins[f"{side}-1"], spins[f"{side}-2"]
            if one and two:
                place = {"native": "CPU", "qemu": "vCPU"}.get(side, "node")
                print(f"  {side}: one on one {place} {one:,.0f}, two on two {place}s {two:,.0f}: {two / one:.2f}×")
        print()


def round_trips(directory):
    """Name -> medians in µs of each round trip that bench/transport_bench has measured, one for each round."""
    trips = {}
    for path in sorted(glob.glob(os.path.join(directory, "round_trip.*.json"))):
        try:
            with open(path, encoding="utf-8") as file:
                rows = json.load(file)["benchmarks"]
        except (OSError, ValueError, KeyError):
            continue
        for row in rows:
            if row.get("p50_us"):
                trips.setdefault(row["name"].split("/iterations")[0], []).append(row["p50_us"])
    return trips


def load_stats(directory):
    """Kind of run -> the statistics of its rounds on two nodes."""
    runs = {}
    for path in sorted(glob.glob(os.path.join(directory, "*-pangea-2.*.stats"))):
        try:
            with open(path, encoding="utf-8") as file:
                runs.setdefault(os.path.basename(path).split("-")[0], []).append(json.load(file))
        except (OSError, ValueError):
            pass
    return runs


def describe_faults(rounds, kind, bare):
    """What remote page faults of one node cost; `rounds`: its statistics, one for each."""
    entries = [e for e in (node.get(f"remote_faults_{kind}", {}) for node in rounds) if e.get("count")]
    if not entries:
        return []
    p50, p99 = (statistics.median([e.get(key, 0) for e in entries]) for key in ("p50_us", "p99_us"))
    against = ", ".join(f"{p50 / us:.2f}× {name}" for name, us in bare.items())
    return [f"{kind} faults {statistics.median([e['count'] for e in entries]):,.0f} p50 {p50:.0f} µs p99 {p99:.0f} µs"
            + (f" ({against})" if against else "")]


def print_stats(directory):
    trips = round_trips(directory)
    if trips:
        print("round trips between two processes, 16 B there and 4 KiB back (p50, µs)")
        for name, values in trips.items():
            print(f"  {name}: {spread(values)}")
        print()
    bare = {name: statistics.median(values) for name, values in trips.items() if name.startswith("Bare/")}
    for kind, rounds in load_stats(directory).items():
        print(f"two nodes, {kind}" + (f" (medians of {len(rounds)})" if len(rounds) > 1 else ""))
        for nodes in zip(*(stats.get("nodes", []) for stats in rounds)):
            faults = describe_faults(nodes, "read", bare) + describe_faults(nodes, "write", bare)
            beyond = statistics.median([node.get("rss_mib", 0) - node.get("frames_mib", 0) for node in nodes])
            pages, in_part = (statistics.median([node.get(key, 0) for node in nodes])
                              for key in ("pages_received", "pages_received_in_part"))
            print(f"  node {nodes[0].get('id')}: {', '.join(faults)}; {pages:,.0f} pages received, of {in_part:,.0f} only what"
                  f" had changed; {beyond:.0f} MiB beyond its guest pages")
        ipis = [e for e in (stats.get("ipi_remote", {}) for stats in rounds) if e.get("count")]
        if ipis:
            p50 = statistics.median([e.get("p50_us", 0) for e in ipis])
            against = ", ".join(f"{p50 / us:.2f}× {name}" for name, us in bare.items())
            print(f"  IPIs between nodes: {statistics.median([e['count'] for e in ipis]):,.0f} p50 {p50:.0f} µs" + (f" ({against})" if against else ""))
        print()


def print_keys(directory):
    """What CURVE adds to a remote page fault: for each node and kind, the median of the rounds' p50 with and without."""
    runs = load_stats(directory)
    for run, what in (("boot", "a boot"), ("prove", "a boot and the programs of prove")):
        if f"open_{run}" not in runs or f"keys_{run}" not in runs:
            continue
        print(f"remote page faults of {what} with CURVE keys against the same link without (medians of p50, µs)")
        ratios = []
        for node in range(2):
            for kind in ("read", "write"):
                sides = [[entry["p50_us"] for stats in runs[f"{side}_{run}"]
                          for entry in [stats["nodes"][node][f"remote_faults_{kind}"]] if entry.get("count")]
                         for side in ("keys", "open")]
                if all(sides):
                    with_keys, without = (statistics.median(values) for values in sides)
                    ratios.append(with_keys / without)
                    print(f"  node {node} {kind}: {spread(sides[0])} against {spread(sides[1])}: {ratios[-1]:.2f}×")
        if ratios:
            print(f"  geometric mean: {geometric_mean(ratios):.2f}×")
        print()


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: report.py DIRECTORY")
    directory = sys.argv[1]
    print_workloads({side: workloads(directory, side) for side in ("native", "qemu", "pangea")})
    print_boots(directory)
    print_span(directory)
    print_stats(directory)
    print_keys(directory)


if __name__ == "__main__":
    main()
