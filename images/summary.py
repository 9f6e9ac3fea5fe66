#!/usr/bin/env python3
"""Prints what a `-stats` file says, for a person: summary.py FILE.

Rows whose figures the file does not have are left out, so that an older or newer file can be read too.
"""
import json
import sys


def get(tree, *path, default=None):
    for key in path:
        if not isinstance(tree, dict) or key not in tree:
            return default
        tree = tree[key]
    return tree


def size(count):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024


def row(name, text):
    print(f"  {name:<22}{text}")


def latency(entry):
    text = f"{entry.get('count', 0):,}"
    if entry.get("count") and entry.get("p50_us") is not None:
        text += f" (p50 {entry['p50_us']:.0f} µs, p99 {entry.get('p99_us', 0):.0f} µs)"
    return text


def vcpu_rows(stats):
    for vcpu in stats.get("vcpus", []):
        parts = [f"{vcpu.get('instructions', 0) / 1e6:,.1f} M instructions"]
        if vcpu.get("mips") is not None:
            parts.append(f"{vcpu['mips']:,.1f} MIPS")
        if vcpu.get("tlb_misses") is not None:
            parts.append(f"{vcpu['tlb_misses']:,} TLB misses")
        if vcpu.get("halt_s") is not None:
            parts.append(f"halted {vcpu['halt_s']:.2f} s")
        row(f"vCPU {vcpu.get('id', '?')} on node {vcpu.get('node', '?')}", ", ".join(parts))


def node_rows(stats):
    for node in stats.get("nodes", []):
        parts = []
        for kind in ("read", "write"):
            entry = node.get(f"remote_faults_{kind}")
            if entry is not None:
                parts.append(f"{kind} {latency(entry)}")
        row(f"node {node.get('id', '?')}", "remote page faults: " + ", ".join(parts) if parts else "")
        parts = []
        if node.get("ipis_sent") is not None:
            parts.append(f"{node['ipis_sent']:,} IPIs sent")
        if node.get("bytes_sent") is not None:
            parts.append(f"{size(node['bytes_sent'])} sent, {size(node.get('bytes_received', 0))} received")
        if node.get("rss_mib") is not None:
            parts.append(f"{node['rss_mib']:.0f} MiB resident, {node.get('frames_mib', 0):.0f} MiB of it guest pages")
        if parts:
            row("", ", ".join(parts))


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        stats = json.load(file)
    if stats.get("boot_to_init_s") is not None:
        row("boot to init", f"{stats['boot_to_init_s']:.2f} s")
    if stats.get("wall_s") is not None:
        row("whole run", f"{stats['wall_s']:.2f} s")
    vcpu_rows(stats)
    node_rows(stats)
    if get(stats, "ipi_remote", "count") is not None:
        row("IPIs between nodes", latency(stats["ipi_remote"]))
    sent = [node.get("bytes_sent", 0) for node in stats.get("nodes", [])]
    if sent:
        row("bytes between nodes", size(sum(sent)))
    if stats.get("translations") is not None:
        text = f"{stats['translations']:,} blocks"
        if stats.get("translated_instructions") is not None:
            text += f", {stats['translated_instructions']:,} instructions"
        row("translated", text)
    hot = stats.get("hot_pages", [])[:5]
    for index, page in enumerate(hot):
        name = page["page"] if isinstance(page.get("page"), str) else hex(page.get("page", 0))
        symbol = f" {page['symbol']}" if page.get("symbol") else ""
        row("hottest pages" if index == 0 else "", f"{name}{symbol}: {page.get('count', 0):,} transfers, {page.get('wait_s', 0):.2f} s waited")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: summary.py STATS.json")
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"summary.py: {sys.argv[1]}: {error}")
