"""Runs a machine whose guest says `ticks: date SECONDS` now and then, and compares its clock with the host's.

    clock_drift.py REPORT COMMAND...

Passes the console through, ends with the command's exit status, and writes to REPORT: the drift in parts per million
(positive: the guest's clock is fast), the seconds that it was measured over, the number of readings. A line is late by
at least what the console takes, and by more when the computers are busy: so the quickest line of the first and
of the last third count.
"""
import re
import signal
import subprocess
import sys
import time


def main():
    report, command = sys.argv[1], sys.argv[2:]
    readings = []
    with subprocess.Popen(command, stdout=subprocess.PIPE) as machine:
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(name, lambda number, _frame: machine.send_signal(number))
        for line in machine.stdout:
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            date = re.match(rb"ticks: date (\d+)\.(\d{9})", line)
            if date:
                readings.append((now, now - int(date[1]) * 10**9 - int(date[2])))
        status = machine.wait()
    third = len(readings) // 3
    if third:
        first = min(readings[:third], key=lambda r: r[1])
        last = min(readings[-third:], key=lambda r: r[1])
        passed = last[0] - first[0]
        with open(report, "w", encoding="utf-8") as file:
            file.write(f"{(first[1] - last[1]) * 1e6 / passed:.1f} {passed / 1e9:.1f} {len(readings)}\n")
    sys.exit(status if status >= 0 else 128 - status)


main()
