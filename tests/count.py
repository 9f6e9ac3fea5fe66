#!/usr/bin/env python3
"""Counts the cases of the last `meson test`: count.py MESON-LOGS-DIRECTORY.

Prints one line per failure and at the end `counts PASSED FAILED SKIPPED`. A GoogleTest program counts as its cases, any
other test as one; a program that crashed or ran out of time is at least one failure, whatever its cases say.
"""
import json
import os
import sys
import xml.etree.ElementTree as ElementTree


def cases_by_program(path):
    """Test program's name -> list of (case, "ok" | "failed" | "skipped")."""
    programs = {}
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        for case in suite.findall("testcase"):
            state = "ok"
            if case.find("failure") is not None or case.find("error") is not None:
                state = "failed"
            elif case.find("skipped") is not None or case.get("status") == "notrun":
                state = "skipped"
            name = f"{case.get('classname', suite.get('name', ''))}.{case.get('name', '')}"
            programs.setdefault(suite.get("name", ""), []).append((name, state))
    return programs


def belongs(suite_name, test_name):
    """meson writes `PROJECT.TEST.SUITE` for the suites of a GoogleTest program, TEST as in testlog.json."""
    return suite_name.partition(".")[2].startswith(test_name + ".")


def main():
    logs = sys.argv[1]
    programs = cases_by_program(os.path.join(logs, "testlog.junit.xml"))
    passed = failed = skipped = 0
    with open(os.path.join(logs, "testlog.json"), encoding="utf-8") as file:
        tests = [json.loads(line) for line in file if line.strip()]
    for test in tests:
        name = test["name"].rpartition(" / ")[2]
        cases = [case for suite, entries in programs.items() if belongs(suite, test["name"]) for case in entries]
        bad = [case for case, state in cases if state == "failed"]
        if test["result"] in ("OK", "EXPECTEDFAIL"):
            passed += max(1, sum(state == "ok" for _, state in cases))
        elif test["result"] == "SKIP":
            skipped += 1
            continue
        else:
            passed += sum(state == "ok" for _, state in cases)
            failed += max(1, len(bad))
            for case in bad or [f"({test['result'].lower()}, exit status {test.get('returncode')})"]:
                print(f"{name} {case}")
        skipped += sum(state == "skipped" for _, state in cases)
    print(f"counts {passed} {failed} {skipped}")


if __name__ == "__main__":
    main()
