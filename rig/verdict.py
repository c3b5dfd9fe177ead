# SPDX-License-Identifier: GPL-2.0
"""The verdict on one boot: QEMU's exit, the guest's end line and the results, each
judged apart, and a console without a splat. All must be good."""
import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from . import common, ktap, splat

TAIL = 40            # console lines shown on a failure
DECODE_LINES = 400   # lines of splats given to the decoder
DECODE_SECONDS = 60  # its limit
LOG = 15             # log lines shown a failed test

INIT = re.compile(r'MM-LOCKSTEP-INIT (\S+)\s*$')
END = re.compile(r'MM-LOCKSTEP-END (\S+) rc=(-?\d+)\s*$')
REGISTERS = re.compile(r'Code: |\b(?:R[A-DS][XIP]|RBP|R\d\d|CR2|FS|CS): ')
QUIET = re.compile(r'Kernel command line: .*?\b(quiet|loglevel=[0-4])(?:\s|$)')
# boot.py's word for how QEMU ended, and what it means
ENDED = {
    'exit': None,
    'hang': 'hang: the guest was past its limit and the console was silent; QEMU was ended',
    'limit': 'the guest was past its hard limit although it still wrote; QEMU was ended',
    'interrupt': 'the run was interrupted',
}


@dataclass
class Verdict:
    """What judge() found. `reasons` is empty iff `ok`; `seconds` in tests is guest time."""
    ok: bool = False
    reasons: list = field(default_factory=list)
    tests: list = field(default_factory=list)      # ktap.Test trees, one a program
    leaves: list = field(default_factory=list)     # the ktap.Tests that count
    splats: list = field(default_factory=list)
    counts: dict = field(default_factory=dict)
    checks: dict = field(default_factory=dict)     # qemu, sentinel, results, console: reasons
    tail: list = field(default_factory=list)
    decoded: str = ''
    console: str = ''
    results: str = ''


def _read(path):
    """(text, why not) of a file that the guest wrote."""
    if path is None:
        return '', 'none was written'
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        return '', e.strerror
    return data.decode(errors='replace'), '' if data.strip() else 'empty'


def _qemu(qemu_exit, ended):
    reasons = []
    if ended != 'exit':
        reasons.append(ENDED.get(ended) or f'QEMU was ended ({ended})')
    elif qemu_exit is None:
        reasons.append('QEMU gave no exit status')
    elif qemu_exit:
        how = f'by signal {-qemu_exit}' if qemu_exit < 0 else f'with exit {qemu_exit}'
        reasons.append(f'QEMU ended {how}')
    return reasons


def _sentinel(text, nonce):
    """The guest's first and last line, by any path: the kernel log or a terminal."""
    lines = splat.user_text(text).split('\n') + [
        line[splat.STAMP.search(line).end():] for line in splat.lines_of(text)
        if splat.STAMP.search(line)]
    begun = [m.group(1) for m in map(INIT.search, lines) if m]
    ended = [m.groups() for m in map(END.search, lines) if m]
    if not begun:
        return ['the guest did not reach init (no MM-LOCKSTEP-INIT line)']
    if begun != [nonce]:
        return [f'MM-LOCKSTEP-INIT of another run or more than one: {" ".join(begun)}, '
                f'this run is {nonce}']
    if not ended:
        return ['no MM-LOCKSTEP-END line: the guest died, or the console is cut off']
    if len(ended) > 1:
        return [f'{len(ended)} MM-LOCKSTEP-END lines']
    if ended[0][0] != nonce:
        return [f'MM-LOCKSTEP-END of another run: {ended[0][0]}, this run is {nonce}']
    if ended[0][1] != '0':
        return [f'the guest ended with rc={ended[0][1]}']
    return []


def _judge_tests(results, what):
    """Reasons from a ktap.Results."""
    reasons = [f'{what}: {problem}' for problem in results.problems]
    leaves = results.leaves()
    bad = [test for test in leaves if test.status not in ktap.GOOD]
    if bad:
        reasons.append(f'{what}: {len(bad)} of {len(leaves)} tests failed: '
                       + ', '.join(test.name for test in bad[:5])
                       + (' ...' if len(bad) > 5 else ''))
    elif leaves and not any(test.status == ktap.PASS for test in leaves):
        reasons.append(f'{what}: all {len(leaves)} tests were skipped, none passed')
    return reasons


def judge(outdir, *, qemu_exit, ended, console, results, nonce, tree, vmlinux=None,
          expect='test', oom_ok=False, allow=None, kunit=False, programs=None):
    """Judge one boot and write verdict.json and junit.xml into outdir.

    qemu_exit: QEMU's exit status; ended: 'exit' when QEMU ended by itself, else
    boot.py's word (hang, limit, ...); console, results: the guest's two files; nonce:
    of this boot; tree: kernel tree whose kunit_parser reads KTAP; vmlinux: for stack
    traces; expect: 'test' when results must be there, any other word when only the
    boot counts; allow: allow-list entries, None reads rig/allow.txt; kunit: the console
    must hold KUnit results; programs: names that must be among the results.
    Fail: a damaged allow-list, no parser in the tree."""
    allow = splat.load_allow(tree=tree) if allow is None else allow
    found = Verdict(console=str(console or ''), results=str(results or ''))
    checks = found.checks
    checks['qemu'] = _qemu(qemu_exit, ended)

    text, missing = _read(console)
    lines = splat.lines_of(text)
    checks['sentinel'] = [f'console: {missing}'] if missing else _sentinel(text, nonce)
    found.splats = splat.scan(lines, allow, oom_ok)
    checks['console'] = [f'{s.kind}: console line {s.line_no}: {s.text}'
                         for s in found.splats if not s.allowed_by]

    hidden = QUIET.search(text)
    if hidden:
        checks['console'].append(f'console: {hidden.group(1)} on the kernel command line hides '
                                 'warnings: nobody could look')

    checks['results'] = []
    if expect == 'test':
        output, missing = _read(results)
        if missing:
            checks['results'].append(f'results file: {missing}')
        else:
            parsed = ktap.parse_results(output, tree)
            found.tests += parsed.programs
            checks['results'] += _judge_tests(parsed, 'results')
        names = [program.name for program in found.tests]
        checks['results'] += [f'results: {name} did not run'
                              for name in programs or () if name not in names]
    if kunit:
        parsed = ktap.parse_console(text, tree)
        if parsed is None:
            checks['results'].append('KUnit: no results on the console')
        else:
            found.tests += parsed.programs
            checks['results'] += _judge_tests(parsed, 'KUnit')

    found.leaves = [leaf for program in found.tests for leaf in program.leaves()]
    found.counts = counts(found)
    found.reasons = [reason for check in ('qemu', 'sentinel', 'console', 'results')
                     for reason in checks[check]]
    found.ok = not found.reasons
    while lines and not lines[-1].strip():
        lines.pop()
    found.tail = lines[-TAIL:]
    if any(not s.allowed_by for s in found.splats):
        found.decoded = decode(text, vmlinux, tree, found.splats)
    outdir = Path(outdir)
    common.write(outdir / 'verdict.json', to_json(found, qemu_exit, ended, nonce))
    common.write(outdir / 'junit.xml', to_junit(found))
    if found.decoded:
        common.write(outdir / 'splats.decoded', found.decoded)
    return found


def counts(found):
    """Tests by status and splats, as numbers."""
    def number(*statuses):
        return sum(test.status in statuses for test in found.leaves)
    return {'programs': len(found.tests), 'tests': len(found.leaves),
            'passed': number(ktap.PASS), 'failed': number(ktap.FAIL),
            'crashed': number(ktap.CRASH), 'errors': number(ktap.ERROR),
            'skipped': number(ktap.SKIP),
            'splats': sum(not s.allowed_by for s in found.splats),
            'splats_allowed': sum(bool(s.allowed_by) for s in found.splats)}


def _has_debug_info(vmlinux):
    done = common.run(['readelf', '-SW', vmlinux], check=False)
    return not done.returncode and '.debug_info' in done.stdout


def decode(console_text, vmlinux, tree, splats=None):
    """The splats' lines with file and line beside each symbol, by the tree's
    scripts/decode_stacktrace.sh. '' without splats, vmlinux, debug information or
    script; at most DECODE_SECONDS seconds of wall time, then a line that says so."""
    if splats is None:
        splats = splat.scan(splat.lines_of(console_text))
    script = Path(tree or '.') / 'scripts/decode_stacktrace.sh'
    if not vmlinux or not Path(vmlinux).is_file() or not script.is_file():
        return ''
    # registers and code bytes stand on the console; decoding them needs an assembler
    wanted = [line for s in splats if not s.allowed_by for line in [*s.context, '']
              if not REGISTERS.search(line)][:DECODE_LINES]
    try:
        if not wanted or not _has_debug_info(vmlinux):
            return ''
        child = common.spawn(['bash', script, vmlinux, 'auto'], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             text=True, errors='replace')
    except OSError:
        return ''    # no readelf or no bash: the raw trace has to do
    try:
        out, _ = child.communicate('\n'.join(wanted) + '\n', timeout=DECODE_SECONDS)
    except subprocess.TimeoutExpired:
        return f'(decoding took more than {DECODE_SECONDS} s and was ended)\n'
    finally:
        common.end(child)
        child.stdin.close()
        child.stdout.close()
    return out if not child.returncode else ''


def to_json(found, qemu_exit, ended, nonce):
    """Everything as JSON text; the units are in the keys."""
    def test(t):
        return {'name': t.name, 'status': t.status, 'detail': t.detail,
                'guest_seconds': t.seconds, 'log': t.log,
                'subtests': [test(sub) for sub in t.subtests]}
    return json.dumps({
        'ok': found.ok, 'reasons': found.reasons, 'counts': found.counts,
        'checks': found.checks, 'nonce': nonce,
        'qemu_exit_status': qemu_exit, 'qemu_ended': ended,
        'programs': [test(program) for program in found.tests],
        'splats': [{'kind': s.kind, 'console_line': s.line_no, 'text': s.text,
                    'fatal': s.fatal, 'allowed_by': s.allowed_by, 'context': s.context}
                   for s in found.splats],
        'console': found.console, 'results': found.results, 'console_tail': found.tail,
    }, indent=1) + '\n'


def _xml(text):
    """Text without the characters that XML 1.0 cannot hold."""
    return re.sub(r'[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]', '?', str(text))


def to_junit(found):
    """JUnit XML: a suite a program; a suite `console` with a case a splat; a suite
    `boot` with QEMU's exit, the sentinel and the results file."""
    root = ElementTree.Element('testsuites', name='mm-lockstep')
    total = {'tests': 0, 'failures': 0, 'skipped': 0}

    def suite(name, cases):
        node = ElementTree.SubElement(root, 'testsuite', name=_xml(name))
        tally = {'tests': len(cases), 'failures': 0, 'skipped': 0}
        for case, seconds, kind, message, text in cases:
            leaf = ElementTree.SubElement(node, 'testcase', classname=_xml(name), name=_xml(case))
            if seconds is not None:
                leaf.set('time', f'{seconds:.3f}')
            if kind:
                tally['skipped' if kind == 'skipped' else 'failures'] += 1
                ElementTree.SubElement(leaf, kind, message=_xml(message)).text = _xml(text)
        for key, value in tally.items():
            node.set(key, str(value))
            total[key] += value

    for program in found.tests:
        cases = []
        for test in program.leaves():
            short = test.name[len(program.name) + 1:] or test.name
            kind = {ktap.PASS: '', ktap.SKIP: 'skipped'}.get(test.status, 'failure')
            cases.append((short, test.seconds, kind, test.detail or test.status,
                          '\n'.join(test.log)))
        suite(program.name, cases)
    denied = [s for s in found.splats if not s.allowed_by]
    suite('console', [(f'{s.kind} line {s.line_no}', None, 'failure', s.text,
                       '\n'.join(s.context)) for s in denied]
          or [('no splat', None, 'failure' if found.checks['console'] else '',
               *(found.checks['console'] or ['']), '')])
    suite('boot', [(check, None, 'failure' if found.checks[check] else '',
                    (found.checks[check] or [''])[0], '\n'.join(found.checks[check]))
                   for check in ('qemu', 'sentinel', 'results')])
    for key, value in total.items():
        root.set(key, str(value))
    return ('<?xml version="1.0" encoding="UTF-8"?>\n'
            + ElementTree.tostring(root, encoding='unicode') + '\n')


def _seconds(program):
    """Guest seconds of a program: its own, else the sum of its tests', else unknown."""
    if program.seconds is not None:
        return f'{program.seconds:.1f}'
    known = [sub.seconds for sub in program.subtests if sub.seconds is not None]
    return f'{sum(known):.1f}' if known else '-'


def table(found):
    """The verdict for a reader: a row a program, then every failure, splat and reason,
    and the end of the console where anything is wrong."""
    rows = []
    for program in found.tests:
        leaves = program.leaves()
        rows.append((program.name, len(leaves), *(
            sum(leaf.status in group for leaf in leaves) for group in
            ((ktap.PASS,), (ktap.FAIL, ktap.CRASH, ktap.ERROR), (ktap.SKIP,))), _seconds(program)))
    total = [sum(row[column] for row in rows) for column in range(1, 5)]
    width = max([len('program'), *(len(row[0]) for row in rows)])
    out = []

    def line(name, tests, passed, failed, skipped, seconds):
        out.append(f'  {name:<{width}}{tests:>7}{passed:>8}{failed:>8}{skipped:>9}{seconds:>9}')

    if rows:
        line('program', 'tests', 'passed', 'failed', 'skipped', 'seconds')
        for row in rows:
            line(*row)
        if len(rows) > 1:
            line('all', *total, '')
    for test in found.leaves:
        if test.status in ktap.GOOD:
            continue
        out.append(f'  {test.status} {test.name}' + (f': {test.detail}' if test.detail else ''))
        out += [f'      {entry}' for entry in test.log[-LOG:]]
    for test in found.leaves:
        if test.status == ktap.SKIP:
            out.append(f'  {test.status} {test.name}: {test.detail or "no reason given"}')
    same = {}
    for s in found.splats:
        # What is let pass may come a hundred times; its first says it.
        key = (s.kind, s.text) if s.allowed_by else len(same)
        same.setdefault(key, []).append(s)
    for first, *more in same.values():
        out.append(f'  splat, {first.kind}, console line {first.line_no}: {first.text}'
                   + (f' (let pass{f", {1 + len(more)} times" if more else ""}: '
                      f'{first.allowed_by})' if first.allowed_by else ''))
    if found.decoded:
        out += ['  stack traces:', *(f'      {entry}' for entry in found.decoded.splitlines())]
    if found.ok:
        out.append(f'  good: {found.counts["passed"]} passed, {found.counts["skipped"]} skipped')
        return '\n'.join(out)
    out += [f'  last {len(found.tail)} lines of {found.console or "the console"}:',
            *(f'    | {entry}' for entry in found.tail)]
    out += ['  BAD:', *(f'    - {reason}' for reason in found.reasons)]
    return '\n'.join(out)
