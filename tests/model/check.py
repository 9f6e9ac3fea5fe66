#!/usr/bin/env python3
"""Verifies coherence.pml with spin, and compares it with the code.

usage: check.py TRANSITIONS SOURCE_ROOT [--long]

Each configuration below is searched exhaustively. Then the kinds of messages, wants, payloads, orders and events of model
and code must be the same, and the transitions of the search those that TRANSITIONS (the code itself, taken everywhere
within the same limits) prints, except for those of UNSEEN and UNSEEN_LONG. Exit status 1 and the differences if not.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# name, flags. Together they reach every transition.
SHORT = [
    ('one page, 4 requests, 2 drops', ['-DP=1', '-DBUDGET=4', '-DDROPS=2']),
    ('two pages, 3 requests, 1 drop', ['-DP=2', '-DBUDGET=3']),
    ('a node is lost', ['-DP=1', '-DBUDGET=3', '-DLOSS']),
    ('two pages, room for one, 3 requests', ['-DP=2', '-DFRAMES=1', '-DBUDGET=3']),
]
LONG = [
    ('one page, 5 requests, 2 drops', ['-DP=1', '-DBUDGET=5', '-DDROPS=2']),
    ('two pages, 4 requests, 2 drops', ['-DP=2', '-DBUDGET=4', '-DDROPS=2']),
    ('two pages, room for one, 4 requests', ['-DP=2', '-DFRAMES=1', '-DBUDGET=4']),
]
# Transitions of the model that the code need not show, and why.
UNSEEN = {
    # The model offers a page to anybody first. The code begins with node 1 when the home, node 0, offers; node 1 is also who
    # grants to node 0 when there is another to wait for, and its Refuse was sent first. To begin with node 2 takes an
    # earlier round of refusals, which is more drops than there are here.
    'Refuse: Shared, granted, offered -> Shared, granted, offered',
}
# With --long the same late answer of node 2 also comes when the offer is over.
UNSEEN_LONG = {'Refuse: Shared, granted -> Shared, granted'}
EVENTS = ['asks to read', 'asks to write', 'claims', 'Fetch', 'Invalidate', 'Grant', 'Ack', 'hand-over ends', 'retires',
          'drops', 'Request', 'Done', 'beside a step of the other page', 'Offer', 'Refuse']
RIGHTS = ['Invalid', 'Shared', 'Modified']
ASKED = ['', ', asks (unsent)', ', asks', ', granted']
OWED = ['', ', owes (held)', ', hands over', ', drops', ', drops for an order']


def limits(flags):
    """A configuration as TRANSITIONS takes it."""
    given = dict(f[2:].split('=') for f in flags if '=' in f)
    return ','.join((given['P'], given['BUDGET'], given.get('DROPS', '1'), given.get('FRAMES', '0')))


def state(n):
    return RIGHTS[n % 3] + ASKED[n // 3 % 4] + OWED[n // 12 % 5] + (', offered' if n >= 60 else '')


def describe(t):
    return f'{EVENTS[t[0]]}: {state(t[1])} -> {state(t[2])}'


def transitions(text):
    return {tuple(map(int, line.split()[1:])) for line in text.splitlines() if line.startswith('T ')}


def verify(model, name, flags):
    with tempfile.TemporaryDirectory() as work:
        def run(*command, **more):
            return subprocess.run(command, cwd=work, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
        made = run('spin', '-a', *flags, str(model))
        if made.returncode or 'rror' in made.stdout:
            sys.exit(f'model: spin: {made.stdout}')
        run('gcc', '-O1', '-w', '-DSAFETY', '-DCOLLAPSE', '-DMEMLIM=8000', '-o', 'pan', 'pan.c', check=True)
        out = run('./pan', '-E', '-m1000000').stdout
        found = re.search(r'errors: (\d+)', out)
        states = re.search(r'([\d.e+]+) states, stored', out)
        whole = 'Search not completed' not in out and 'max search depth' not in out and 'out of memory' not in out
        if not found or int(found[1]) or not whole:
            trail = ''.join(re.findall(r'^pan:.*\n', out, re.M)) or out[-2000:]
            if (pathlib.Path(work) / 'coherence.pml.trail').exists():
                trail += run('spin', '-t', '-p', '-g', *flags, str(model)).stdout[-6000:]
            sys.exit(f'model: {name}: does not hold:\n{trail}')
        print(f'model: {name}: holds in all of {float(states[1]):.0f} states', flush=True)
        return transitions(out)


def enumerators(text, declaration):
    """The names of an enum or a variant."""
    body = re.search(declaration + r'\s*(?::\s*\w+\s*)?[{<]([^}>]*)[}>]', text)
    if not body:
        sys.exit(f'model: no {declaration} in the code')
    return set(re.findall(r'\b([A-Z]\w*)', re.sub(r'//.*', '', body[1])))


def mtypes(text, name):
    return set(re.findall(r'\w+', re.search(r'mtype:' + name + r' = \{([^}]*)\}', text)[1]))


def compare_names(model, room):
    message, state_h, events = ((room / f).read_text() for f in ('message.h', 'state.h', 'events.h'))
    orders = {n + 'Order' for n in enumerators(state_h, r'enum class Kind')} | {'NoOrder'}
    differences = []
    for name, of_code in (('kind', enumerators(message, r'enum class MsgKind')), ('want', enumerators(message, r'enum class Want')),
                          ('payload', enumerators(message, r'enum class Payload')), ('order', orders)):
        if of_code != mtypes(model, name):
            differences.append(f'{name}: the code has {sorted(of_code)}, the model {sorted(mtypes(model, name))}')
    told = re.search(r'Events of coherence/events.h:(.*?)\n \*\n', model, re.S)[1]
    of_code = enumerators(events, r'using Event = std::variant')
    named = {n for n in re.findall(r'\b[A-Z]\w*', told) if n.upper() != n}
    if of_code != named:
        differences.append(f'events: the code has {sorted(of_code)}, the model speaks of {sorted(named)}')
    return differences


def main():
    program, root = sys.argv[1], pathlib.Path(sys.argv[2])
    long = '--long' in sys.argv
    for tool in ('spin', 'gcc'):
        if not shutil.which(tool):
            print(f'model: skipped: no {tool}: install the packages of images/packages.sh')
            sys.exit(77)
    path = pathlib.Path(__file__).parent / 'coherence.pml'
    differences = compare_names(path.read_text(), root / 'coherence')
    configurations = SHORT + (LONG if long else [])
    of_model = set().union(*(verify(path, *c) for c in configurations))
    # Loss is no move of the code's clusters; without it that configuration is part of the first.
    command = [program] + [limits(flags) for _, flags in configurations if '-DLOSS' not in flags]
    run = subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True)
    of_code = transitions(run.stdout)
    unseen = {describe(t) for t in of_model - of_code}
    expected = UNSEEN | (UNSEEN_LONG if long else set())
    differences += [f'only in the model: {t}' for t in sorted(unseen - expected)]
    differences += [f'only in the code:  {describe(t)}' for t in sorted(of_code - of_model)]
    differences += [f'seen, though UNSEEN says it is not: {t}' for t in sorted(expected - unseen)]
    for d in differences:
        print('model:', d)
    if differences:
        sys.exit(f'model: {len(differences)} differences')
    print(f'model: the code takes {len(of_code)} of the {len(of_model)} transitions of the model, and no other')


main()
