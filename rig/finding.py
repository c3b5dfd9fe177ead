# SPDX-License-Identifier: GPL-2.0
"""What a load found: from the verdict on its boot, and from the files that the guest wrote."""
import re
from dataclasses import dataclass
from pathlib import Path

from . import ktap, splat

# In front of the reason of what a disturber brings with it.
BROUGHT = 'expected of '
# Which kind of finding a failed test of the load stands for.
COVERS = {'objects_identical': 'corruption', 'builds_ran': 'corruption', 'known_content': 'corruption',
          'steps_succeeded': 'corruption', 'mapped_content': 'mapped', 'writers_survive': 'writer', 'no_splat': 'splat',
          'no_unexpected_oom': 'oom', 'no_violation_growth': 'violation'}
# What is zero when such a test did not look at anything: a machine too slow for the time it got.
LOOKED = {'objects_identical': 'objects_compared', 'builds_ran': 'objects_compared',
          'known_content': 'ballast_checked_kb'}
NEVER_KNOWN = ('panic', 'killed', 'corruption', 'broken')
# Events that make a finding for each thing that they name in front.
LOST = re.compile(r'(.*?): (\d+) of \d+ pages wrong')
KILLED = re.compile(r'(lru_gen \w+): OOM-killed')
WORDS = re.compile(r'(?:stderr|mm-lockstep): (.*)')    # the guest's for a reader
KINDS = ('panic', 'killed', 'corruption', 'mapped', 'oom', 'writer', 'splat', 'violation', 'cleanup', 'test', 'broken')


@dataclass
class Finding:
    """One thing that is not as it should be. seconds: of the load, None when unknown;
    known: reason and removal condition of the list's entry, '' when it is new."""
    kind: str
    text: str
    seconds: float = None
    known: str = ''


def read_report(path):
    """report.txt as {key: value}; {} when the guest wrote none."""
    try:
        lines = Path(path).read_text(errors='replace').splitlines()
    except OSError:
        return {}
    return dict(line.split('=', 1) for line in lines if '=' in line)


def number(report, key):
    """A count in the report; 0 when it is not there."""
    found = re.match(r'-?\d+', report.get(key, ''))
    return int(found[0]) if found else 0


def read_events(path):
    """events.log as [(seconds, kind, text)]."""
    try:
        lines = Path(path).read_text(errors='replace').splitlines()
    except OSError:
        return []
    parts = (line.split('\t', 2) for line in lines)
    return [(float(p[0]), p[1], p[2]) for p in parts
            if len(p) == 3 and re.fullmatch(r'\d+(\.\d+)?', p[0])]


def findings(found, report, events, parsed):
    """Every Finding of one load, the worst kind first: from the verdict on the boot, report.txt,
    events.log and the results."""
    out = []

    def add(kind, text, seconds=None, known=''):
        out.append(Finding(kind, text, seconds, known))

    def first(*kinds):
        """The first event of these kinds: (text with ': ' before it, seconds)."""
        return next(((f': {text}', when) for when, kind, text in events if kind in kinds), ('', None))

    zero = float(report.get('load_started_uptime') or 0)
    panic = [s for s in found.splats if s.fatal or 'Kernel panic' in s.text]
    died = found.checks['qemu'] + [r for r in found.checks['sentinel'] if 'rc=' not in r]
    if panic:
        add('panic', panic[0].text, since(panic[0], zero))
    elif died:
        add('killed', '; '.join(died), events[-1][0] if events else None)
    else:
        for reason in found.checks['sentinel']:
            words = [m[1] for m in map(WORDS.search, found.tail) if m]
            add('broken', ': '.join([reason, *words[-1:]]))
        if not report:
            add('broken', 'the load wrote no report.txt')
    for key, what, kinds in (('objects_different', 'objects are not as they were built before', ('corrupt',)),
                             ('ballast_different', 'pages of the ballast changed by themselves', ('ballast',)),
                             ('ksm_different', 'pages that KSM merged changed by themselves', ('ksm', 'corrupt')),
                             ('steps_failed', 'build steps failed without a cause', ('step_failed',)),
                             ('fs_errors', 'errors of the file system on the loop device', ('fs',))):
        if number(report, key):
            add('corruption', f'{number(report, key)} {what}{first(*kinds)[0]}', first(*kinds)[1])
    for what, texts, when in named_events(events, 'mapped', LOST):
        pages = sum(int(LOST.match(text)[2]) for text in texts)
        add('mapped', f'{what}: {pages} pages lost in {len(texts)} rounds, first{texts[0].removeprefix(what)}', when)
    for what, texts, when in named_events(events, 'writer', KILLED):
        add('writer', f'{what}: {len(texts)} OOM kills in the group that only writes, first{texts[0].removeprefix(what)}', when)
    for key, kind in (('mapped_different', 'mapped'), ('writers_killed', 'writer')):
        if number(report, key) and not any(f.kind == kind for f in out):
            add(kind, f'{key}={number(report, key)}, and no event says what')
    if number(report, 'oom_kills') and report.get('oom_kills_allowed') == '0':
        add('oom', f'{number(report, "oom_kills")} OOM kills that the shape does not allow{first("oom")[0]}',
            first('oom')[1])
    for s in found.splats:
        if (s.allowed_by or '').startswith(BROUGHT):
            continue
        if s not in panic and not (s.kind == 'oom' and (s.allowed_by or any(f.kind == 'oom' for f in out))):
            add('violation' if s.kind == 'violation' else 'splat', s.text,
                since(s, zero), s.allowed_by or '')
    seen = {f.text.split(':')[1].strip(): f for f in out if f.kind == 'violation' and ':' in f.text}
    for key, value in report.items():
        name = key.removeprefix('verify.')
        if name != key and number(report, key):
            # Counted each time, printed once: the print says of what kind they are.
            known = seen[name].known if name in seen else ''
            add('violation', f'{name}: {value} violations counted', first('verify')[1], known)
    if report.get('cleanup', 'complete') != 'complete':
        add('cleanup', f'left behind: {report["cleanup"]}')
    have = {f.kind for f in out}
    if parsed:
        for leaf in parsed.leaves():
            name, detail = named(leaf)
            kind = COVERS.get(name, 'cleanup' if name == 'cleanup_complete' else 'test')
            if name in LOOKED and not number(report, LOOKED[name]) and not have & {'panic', 'killed', 'corruption'}:
                kind, detail = 'broken', detail or 'looked at nothing'
            if leaf.status not in ktap.GOOD and (kind in ('test', 'broken') or kind not in have):
                add(kind, f'{name}{": " + detail if detail else ""} ({leaf.status})')
        if not have & {'panic', 'killed'}:
            out += [Finding('broken', f'results: {problem}') for problem in parsed.problems]
    return sorted(once(out), key=lambda f: KINDS.index(f.kind))


def named_events(events, kind, pattern):
    """[(what, texts, seconds of the first)] of the events of a kind, by the pattern's first group."""
    found = {}
    for when, this, text in events:
        if this == kind and pattern.match(text):
            found.setdefault(pattern.match(text)[1], ([], when))[0].append(text)
    return [(what, texts, when) for what, (texts, when) in found.items()]


def once(found):
    """Splats that differ in numbers alone stand once, with how many there were."""
    kept = {}
    for n, f in enumerate(found):
        key = (f.known, re.sub(r'\b(0x)?[0-9a-f]*\d[0-9a-f]*\b', 'N', f.text)) if f.kind == 'splat' else n
        kept.setdefault(key, []).append(f)
    for first, *more in kept.values():
        if more:
            first.text += f' ({len(more) + 1} times)'
    return [same[0] for same in kept.values()]


def named(leaf):
    """(name, detail) of a test of the load: what stands behind a # explains it."""
    name, _, detail = leaf.name.partition(' # ')
    return name.strip(), ' '.join(filter(None, (detail.strip(), leaf.detail)))


def since(found, zero):
    """Seconds from guest uptime `zero` to a splat's first stamped line; None without one."""
    stamps = (splat.STAMP.search(line) for line in found.context)
    return next((round(float(at[1]) - zero, 1) for at in stamps if at), None)
