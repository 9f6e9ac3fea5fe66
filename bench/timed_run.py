#!/usr/bin/env python3
"""Runs a machine and notes when its console says something: timed_run.py PREFIX MARKER LIMIT_S COMMAND...

Writes PREFIX.console (what it printed), PREFIX.errors and PREFIX.times (JSON: seconds to MARKER and to the end, peak
resident memory). Exit status 0 when the command's was 0.
"""
import json
import resource
import subprocess
import sys
import threading
import time


def main():
    prefix, marker, limit_s, command = sys.argv[1], sys.argv[2].encode(), float(sys.argv[3]), sys.argv[4:]
    with open(prefix + ".console", "wb") as console, open(prefix + ".errors", "wb") as errors:
        start = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        timer = threading.Timer(limit_s, child.kill)
        timer.start()
        marker_s = None
        seen = b""
        while chunk := child.stdout.read1(65536):
            if marker_s is None:
                seen += chunk
                if marker in seen:
                    marker_s = time.monotonic() - start
            console.write(chunk)
        status = child.wait()
        timer.cancel()
        wall_s = time.monotonic() - start
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(prefix + ".times", "w", encoding="utf-8") as file:
        json.dump({"marker_s": marker_s, "wall_s": wall_s, "status": status, "max_rss_kib": usage.ru_maxrss}, file)
    return 0 if status == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
