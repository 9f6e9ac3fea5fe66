#!/usr/bin/env python3
"""The house rules as a test: include arrows, bans, lengths, paths in documents, what lies where (rules.py).

usage: tidy.py [--root DIR] [--self-test]

Each finding is one line, `file:line: what: use X instead`; warnings do not count. The last line is
`N passed, N failed`: rules without a finding, and findings. --self-test gives every rule a small bad tree and expects
its finding, and the good neighbour of that tree and expects none.
"""
import argparse
import fnmatch
import os
import re
import sys
from collections import namedtuple

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import rules  # noqa: E402

Finding = namedtuple("Finding", "path line text")
CODE = (".h", ".cc", ".inc", ".proto")
DOCS = ("README.md", "ARCHITECTURE.md")
_TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])+\'', re.S)


def blank(text, strings):
    """The text without comments (and strings), line by line as before."""

    def gone(match):
        token = match.group(0)
        if not token.startswith("/") and not strings:
            return token
        return ('""' if not token.startswith("/") else " ") + "\n" * token.count("\n")

    return _TOKEN.sub(gone, text)


class Tree:
    """Files by path from the root. Remembers which exceptions were of use."""

    def __init__(self, files, top=None):
        self.files = files
        self.top = sorted(top if top is not None else {p.split("/")[0] for p in files})
        self.dirs = {p[:i] for p in files for i, c in enumerate(p) if c == "/"}
        self.used = set()
        self._views = {}

    @staticmethod
    def read(root):
        ignored = [".git"] + [line.strip().rstrip("/") for line in open(os.path.join(root, ".gitignore"))]
        keep = lambda name: not any(fnmatch.fnmatch(name, p) for p in ignored if p)  # noqa: E731
        files = {}
        for folder, dirs, names in os.walk(root):
            dirs[:] = [d for d in dirs if keep(d)]
            for name in filter(keep, names):
                path = os.path.join(folder, name)
                try:
                    with open(path, encoding="utf-8") as f:
                        files[os.path.relpath(path, root)] = f.read()
                except (UnicodeDecodeError, FileNotFoundError):  # binary; or gone while we looked
                    pass
        return Tree(files, filter(keep, os.listdir(root)))

    def code(self):
        return [p for p in sorted(self.files) if p.endswith(CODE)]

    def view(self, path, kind):
        """Lines of the file: kind "code", "strings" or "all" as in rules.BANS."""
        key = (path, kind)
        if key not in self._views:
            text = self.files[path]
            self._views[key] = (text if kind == "all" else blank(text, kind == "code")).split("\n")
        return self._views[key]

    def excused(self, rule, path, patterns):
        for p in patterns:
            if fnmatch.fnmatch(path, p):
                self.used.add((rule, p))
                return True
        return False

    def includes(self, path):
        """(line number, header, is it quoted)"""
        for n, line in enumerate(self.view(path, "strings"), 1):
            if m := re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line):
                yield n, m.group(2), m.group(1) == '"'


def room_of(path):
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "emu" else parts[0]


def matches(name, patterns):
    return any(fnmatch.fnmatch(name, p) for p in patterns)


def arrows(tree):
    for path in tree.code():
        room = room_of(path)
        allowed = rules.ROOMS.get(room, [])
        for n, header, quoted in tree.includes(path):
            target = room_of(header)
            if quoted and target not in rules.ROOMS:
                yield Finding(path, n, f'includes "{header}": use the path from the root instead')
            if target not in rules.ROOMS or target == room or not quoted:
                continue
            if "*" in allowed or target in allowed or header in allowed:
                continue
            hint = rules.ARROW_HINT.get((room, target), "an interface of the lower room, bound by emu/machine,")
            yield Finding(path, n, f"{room} may not include {header}: use {hint} instead")


def private_headers(tree):
    for path in tree.code():
        for n, header, _ in tree.includes(path):
            for pattern, files, instead in rules.PRIVATE_HEADERS:
                if fnmatch.fnmatch(header, pattern) and not matches(path, files):
                    yield Finding(path, n, f"includes <{header}>: use {instead} instead")
            if matches(header, rules.SOCKET_HEADERS) and not tree.excused("sockets", path, dict(rules.SOCKET_FILES)):
                yield Finding(path, n, f"raw socket (<{header}>): use transport/endpoint.h instead")
            if matches(header, rules.PURE.get(room_of(path), [])):
                yield Finding(path, n, f"{room_of(path)} is pure and may not know <{header}>: use an event, an "
                                       "action or an argument of Protocol::step instead")


def bans(tree):
    for path in sorted(tree.files):
        for name, pattern, instead, exceptions, kind in rules.BANS:
            if kind != "all" and not path.endswith(CODE):
                continue
            for n, line in enumerate(tree.view(path, kind), 1):
                if (m := re.search(pattern, line)) and not tree.excused(name, path, exceptions):
                    yield Finding(path, n, f"{name} ({m.group(0).strip()}): use {instead} instead")
        if path.endswith(".h"):
            for name, pattern, instead in rules.HEADER_BANS:
                for n, line in enumerate(tree.view(path, "code"), 1):
                    if re.search(pattern, line):
                        yield Finding(path, n, f"{name}: use {instead} instead")


_LOCAL = re.compile(r"\s*(?:inline\s+)?(?:static|thread_local|constinit)\b(?!_)(?!.*\b(?:const|constexpr|consteval)\b)"
                    r"[^()=;{]*\w\s*(?:\[[^\]]*\]\s*)?(?:[=;{]|$)")
_NAMESPACE = re.compile(
    r"(?:(?:inline|extern|static|thread_local|constinit)\s+)*"
    r"(?!using\b|namespace\b|struct\b|class\b|enum\b|union\b|template\b|typedef\b|return\b|friend\b|public\b|private\b"
    r"|protected\b|concept\b|goto\b|case\b|default\b|requires\b|else\b|do\b|extern\b)"
    r"(?!.*\b(?:const|constexpr)\b[^=;{]*[=;{])[A-Za-z_][\w:]*(?:<[^=;()]*>)?[\s*&]+[A-Za-z_][\w:]*(?:\[[^\]]*\])?"
    r"\s*(?:=(?!=)|;|\{)")


def mutable_globals(tree):
    """What a line shows: `static` and `thread_local` variables anywhere, and variables at the left margin."""
    for path in tree.code():
        if path.endswith((".inc", ".proto")):
            continue
        for n, line in enumerate(tree.view(path, "code"), 1):
            if _LOCAL.match(line) or _NAMESPACE.match(line):
                if not tree.excused("globals", path, rules.GLOBALS):
                    yield Finding(path, n, f"mutable global ({line.strip()[:60]}): use a member of whoever owns it "
                                           "instead, or const")


def lengths(tree):
    for path in sorted(tree.files):
        lines = tree.files[path].count("\n")
        limit, why = next((m, w) for p, m, w in rules.MAX_LINES if fnmatch.fnmatch(path, p))
        if lines > limit:
            yield Finding(path, lines, f"{lines} lines, at most {limit} ({why}): use two files instead")
        elif lines > rules.WARN_LINES:
            yield Finding(path, lines, f"warning: {lines} lines: use two files, each with one idea, instead")
        if path.endswith(".cc"):
            yield from function_lengths(tree, path)


def function_lengths(tree, path):
    """clang-format puts a function's first line and its closing brace at the same indent."""
    begin = None
    for n, line in enumerate(tree.view(path, "code"), 1):
        if re.match(r"[A-Za-z_][^=;]*\([^;]*$", line):
            begin = n
        elif line == "}" and begin:
            if n - begin > rules.MAX_FUNCTION_LINES and not path.endswith("_test.cc"):
                yield Finding(path, begin, f"warning: a function of {n - begin + 1} lines: use two instead")
            begin = None


def document_words(text):
    """(line number, word) of what stands in backticks, and of commands in indented blocks."""
    for n, line in enumerate(text.split("\n"), 1):
        spans = re.findall(r"`([^`]+)`", line)
        if line.startswith("    "):
            spans += [w for w in line.split() if w.startswith("./")]
        for span in spans:
            yield n, span


def exists(tree, path, folder):
    """A file, a folder, a program or a pattern, from the root or the document's folder; a bare name also below those
    or beside the folder."""
    word = path[2:] if path.startswith("./") else path
    if word.startswith(("build/", "build-")):
        return True  # made by the build
    for base in ("", folder + "/"):
        full = os.path.normpath(base + word) if ".." in word else base + word
        if full.rstrip("/") in tree.files or full.rstrip("/") in tree.dirs or full + ".cc" in tree.files:
            return True
        if "*" in full and any(fnmatch.fnmatch(p, full) for p in tree.files):
            return True
    near = (folder + "/", os.path.dirname(folder) + "/")
    return "/" not in word and any(p.endswith("/" + word) and p.startswith(near) for p in tree.files)


def documents(tree):
    known = None
    for path in sorted(p for p in tree.files if p.endswith(DOCS)):
        for n, word in document_words(tree.files[path]):
            is_path = re.fullmatch(r"(?:\.{1,2}/)?[\w.*-]*\w[\w.*-]*(?:/[\w.*-]+)*/?", word) and (
                "/" in word or re.search(r"\w\.(?:h|cc|inc|md|py|sh|proto|asl|S|c|build|\*)$", word))
            if is_path and not exists(tree, word, os.path.dirname(path)):
                if (path, word) not in rules.NOT_PATHS:
                    yield Finding(path, n, f"`{word}` does not exist: use a path that does instead")
                else:
                    tree.used.add(("not a path", (path, word)))
            if m := re.fullmatch(r"(?:\w+::)+(\w+)(?:\(\))?|(\w+)\(\)", word):
                if known is None:
                    known = set(re.findall(r"\w+", "\n".join(tree.files[p] for p in tree.code())))
                if not word.startswith("std::") and (m.group(1) or m.group(2)) not in known:
                    yield Finding(path, n, f"`{word}` is named nowhere in the code: use a name that is instead")


def readmes(tree):
    for room in rules.README_ROOMS:
        if f"{room}/README.md" not in tree.files:
            yield Finding(room, 1, f"no README: use {room}/README.md (what for, what it includes, invariants, how to "
                                   "add) instead")


def top_level(tree):
    for name in tree.top:
        if name not in rules.TOP_LEVEL:
            yield Finding(name, 1, "is no room of the house (DESIGN section 3): use a folder of one instead")


def stale_exceptions(tree):
    """Runs last. General exceptions (those with a reason of one word) may rest."""
    rows = [("sockets", p, w) for p, w in rules.SOCKET_FILES] + [("globals", p, w) for p, w in rules.GLOBALS.items()]
    rows += [(name, p, w) for name, _, _, exceptions, _ in rules.BANS if name != "raw socket"
             for p, w in exceptions.items()]
    for name, pattern, why in sorted(set(rows)):
        if (name, pattern) not in tree.used and " " in why:
            there = any(fnmatch.fnmatch(p, pattern) for p in tree.files)
            yield Finding("tests/tidy/rules.py", 1, ("" if there else "warning: ") + f"exception {pattern} ({name}) "
                                                    "excuses nothing: use no row instead")
    for key in rules.NOT_PATHS:
        if ("not a path", key) not in tree.used:
            yield Finding("tests/tidy/rules.py", 1, f"NOT_PATHS {key} excuses nothing: use no row instead")


CHECKS = [arrows, private_headers, bans, mutable_globals, lengths, documents, readmes, top_level, stale_exceptions]


def run(tree):
    passed = failed = 0
    for check in CHECKS:
        found = list(check(tree))
        for f in found:
            print(f"{f.path}:{f.line}: {f.text}")
        hard = sum(not f.text.startswith("warning") for f in found)
        failed += hard
        passed += hard == 0
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--root", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    p.add_argument("--self-test", action="store_true")
    args = p.parse_args()
    if args.self_test:
        import self_test
        return self_test.run()
    return run(Tree.read(os.path.abspath(args.root)))


if __name__ == "__main__":
    sys.exit(main())
