#!/usr/bin/env python3
"""Checks that a `-stats` file says something true of a run: check_stats.py FILE NODES VCPUS."""
import json
import sys


def check(condition, complaint):
    if not condition:
        sys.exit(complaint)


def main():
    path, nodes, vcpus = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    try:
        with open(path, encoding="utf-8") as file:
            stats = json.load(file)
    except (OSError, ValueError) as error:
        sys.exit(f"no statistics: {error}")
    check(0 < stats["boot_to_init_s"] < stats["wall_s"], "boot_to_init_s is not between 0 and wall_s")
    check(sorted(v["id"] for v in stats["vcpus"]) == list(range(vcpus)), "vcpus are not 0 .. N-1")
    check(sorted(n["id"] for n in stats["nodes"]) == list(range(nodes)), "nodes are not 0 .. N-1")
    for vcpu in stats["vcpus"]:
        check(vcpu["instructions"] > 100_000, f"vCPU {vcpu['id']} ran {vcpu['instructions']} instructions")
        check(vcpu["mips"] > 0, f"vCPU {vcpu['id']} has no MIPS")
        check(0 <= vcpu["node"] < nodes, f"vCPU {vcpu['id']} is on node {vcpu['node']}")
    check(len({v["node"] for v in stats["vcpus"]}) == min(nodes, vcpus), "vCPUs are not spread over the nodes")
    if nodes == 1:
        return
    for node in stats["nodes"]:
        faults = node["remote_faults_read"]["count"] + node["remote_faults_write"]["count"]
        has_vcpu = any(v["node"] == node["id"] for v in stats["vcpus"])
        check(not has_vcpu or faults > 0, f"node {node['id']} had no remote fault")
        check(node["bytes_sent"] > 0 and node["bytes_received"] > 0, f"node {node['id']} sent or received nothing")
        received, in_part = node["pages_received"], node["pages_received_in_part"]
        check(in_part <= received, f"node {node['id']} received {in_part} of {received} pages in part")
        if vcpus >= nodes:  # else nobody there writes to what others have
            check(in_part > 0, f"node {node['id']} received only whole pages")
        for kind in ("remote_faults_read", "remote_faults_write"):
            entry = node[kind]
            if entry["count"]:
                check(0 < entry["p50_us"] <= entry["p99_us"], f"node {node['id']}: {kind} percentiles")
    if vcpus > 1:
        check(stats["ipi_remote"]["count"] > 0, "no IPI between nodes")


if __name__ == "__main__":
    try:
        main()
    except (KeyError, TypeError) as error:
        sys.exit(f"the file lacks {error}")
