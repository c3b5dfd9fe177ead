# SPDX-License-Identifier: GPL-2.0
"""Test results: KTAP read strictly, then judged by the kernel's own kunit_parser.

kunit_parser of 6.1 ignores indentation: where a program dies before its plan is
reached it takes the results of the next program for the missing ones. And
kselftest_harness of 6.1 prints skips without a name, which it does not see at all.
So the text is first read here by indentation, every plan and number is checked,
and what the parser gets is a canonical form of it with "# Subtest:" lines.
"""
import importlib.util
import io
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from . import common

PASS, FAIL, SKIP, CRASH, ERROR = 'PASS', 'FAIL', 'SKIP', 'CRASH', 'ERROR'
GOOD = (PASS, SKIP)

VERSION = re.compile(r'K?TAP version (\d+)$')
PLAN = re.compile(r'1\.\.(\d+)(?:\s*#\s*(.*))?$')
SUBTEST = re.compile(r'# Subtest: (.*)$')
RESULT = re.compile(r'(ok|not ok)(?: (\d+))?(?: - | |$)(.*)$')
DIRECTIVE = re.compile(r'(?:^|\s)#\s*((?:SKIP|TODO|XFAIL|TIMEOUT|exit=|signal=|time=).*)$', re.I)
RUNNING = re.compile(r'#\s+RUN\s+(\S+) \.\.\.$')
SECONDS = re.compile(r'#\s*(?:(?:time|seconds)[=:]|(\S+):)\s*(\d+(?:\.\d+)?)\s*(ms|s|)$', re.I)
STAMP = re.compile(r'^(?:<\d+>)?\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? ')


@dataclass
class Test:
    """One test: `name` as program.test, `status` one of PASS FAIL SKIP CRASH ERROR,
    `log` its lines, `seconds` guest seconds or None, `detail` why."""
    name: str
    status: str = CRASH
    log: list = field(default_factory=list)
    seconds: float = None
    detail: str = ''
    subtests: list = field(default_factory=list)

    def leaves(self):
        """The tests that count: the subtests, and the program itself where it is bad
        although no subtest of it is."""
        if not self.subtests:
            return [self]
        found = [leaf for sub in self.subtests for leaf in sub.leaves()]
        if self.status not in GOOD and all(leaf.status in GOOD for leaf in found):
            found.append(self)
        return found


@dataclass
class Results:
    """Every program, and every `problem` (one line each) that makes the text
    no complete account of the run, whatever the tests say."""
    programs: list
    problems: list

    def leaves(self):
        """All counting tests, in order."""
        return [leaf for program in self.programs for leaf in program.leaves()]


class _Level:
    """One block of results: what stands between a version line and the result after it."""

    def __init__(self, indent, name=''):
        self.indent, self.name = indent, name
        self.plan = None
        self.plan_note = ''
        self.version = False
        self.nodes, self.log, self.problems = [], [], []


class _Node:
    """One result line with the block before it."""

    def __init__(self, number, ok, name, directive, log, block):
        self.number, self.ok, self.name, self.directive = number, ok, name, directive
        self.log, self.block = log, block
        self.missing = False


class _Reader:
    """Reads KTAP by indentation; .problems is what is wrong with the text itself."""

    def __init__(self, lines, plans_below=99):
        self.problems = []
        self.plans_below = plans_below    # blocks this deep or deeper need no plan
        self.top = None
        self.levels = []
        self.pending = None               # block that waits for its result line
        self.done = False
        for raw in lines:
            line = raw.expandtabs().rstrip()
            if line.strip():
                self._line(len(line) - len(line.lstrip()), line.strip())
            if self.done:
                break
        self._finish()

    def _where(self):
        return '.'.join(lv.name or '?' for lv in self.levels[1:]) or 'the run'

    def _close(self, indent):
        """Close every block deeper than `indent`."""
        while len(self.levels) > 1 and self.levels[-1].indent > indent:
            block = self.levels.pop()
            self._orphan()
            self.pending = block

    def _orphan(self):
        """The waiting block's own result line never came."""
        block, self.pending = self.pending, None
        if block:
            parent = self.levels[-1] if self.levels else self.top
            number = len(parent.nodes) + 1
            node = _Node(number, False, block.name or f'unnamed-{number}', '', [], block)
            node.missing = True
            parent.nodes.append(node)
            self.problems.append(f'{node.name}: no result line for the program')

    def _open(self, indent):
        self._close(indent)
        if self.levels[-1].indent < indent:
            self._orphan()
            self.levels.append(_Level(indent))
        return self.levels[-1]

    def _line(self, indent, text):
        if not self.levels:
            if VERSION.match(text):
                self.top = _Level(indent)
                self.top.version = True
                self.levels = [self.top]
            elif RESULT.match(text) or PLAN.match(text):
                self.problems.append(f'before the version line: {text}')
            return
        if VERSION.match(text):
            level = self._open(indent)
            if level.version or level.nodes:
                self._orphan()
                self.problems.append(f'{self._where()}: a second version line; '
                                     'one run must write one stream')
            level.version = True
        elif SUBTEST.match(text):
            level = self._open(indent)
            if level is not self.top:
                level.name = SUBTEST.match(text).group(1)
        elif PLAN.match(text):
            level, match = self._open(indent), PLAN.match(text)
            if level.plan is not None:
                self.problems.append(f'{self._where()}: a second plan: {text}')
            level.plan, level.plan_note = int(match.group(1)), match.group(2) or ''
        elif RESULT.match(text):
            self._result(indent, RESULT.match(text))
        else:
            # a line further out than the open block is of the program around it
            level = next((lv for lv in reversed(self.levels) if lv.indent <= indent), self.top)
            level.log.append(text)
            if text.startswith('Bail out!'):
                level.problems.append(text)

    def _result(self, indent, match):
        level = self._open(indent)
        rest = match.group(3)
        directive = DIRECTIVE.search(rest)
        name = (rest[:directive.start()] if directive else rest).strip()
        log, level.log = level.log, []
        if not name:
            # 6.1's harness prints a skip without its name: the RUN line has it
            ran = [m.group(1) for m in map(RUNNING.match, log) if m]
            name = ran[-1] if ran else f'unnamed-{match.group(2) or "?"}'
        number = int(match.group(2)) if match.group(2) else None
        block, self.pending = self.pending, None
        level.nodes.append(_Node(number, match.group(1) == 'ok', name,
                                 directive.group(1).strip() if directive else '', log, block))
        if block and not block.name:
            block.name = name
        if level is self.top and level.plan is not None and len(level.nodes) == level.plan \
                and self.plans_below != 99:
            self.done = True    # a console goes on after the last suite

    def _finish(self):
        if not self.top:
            self.problems.append('no KTAP: no version line')
            self.top = _Level(0)
            return
        self._close(self.top.indent)
        self._orphan()
        self._check(self.top, 'the run', 0)

    def _check(self, level, path, depth):
        """Plan, numbers, and that a parent's result fits its children's."""
        say = self.problems.append
        got = len(level.nodes)
        self.problems += [f'{path}: {problem}' for problem in level.problems]
        skipped = level.plan == 0 and level.plan_note.upper().startswith('SKIP')
        if level.plan is None:
            if depth < self.plans_below:
                say(f'{path}: no plan')
        elif got < level.plan:
            say(f'{path}: {got} of {level.plan} planned tests reported')
        elif got > level.plan:
            say(f'{path}: {got} tests reported, {level.plan} planned')
        if not got and not skipped:
            say(f'{path}: zero tests')
        numbers = [node.number for node in level.nodes if not node.missing]
        if numbers != list(range(1, len(numbers) + 1)):
            shown = ' '.join('-' if n is None else str(n) for n in numbers[:20])
            say(f'{path}: test numbers are not 1 to {len(numbers)} in order: {shown}')
        names = [node.name for node in level.nodes]
        for twice in sorted({name for name in names if names.count(name) > 1}):
            say(f'{path}: test {twice} is reported more than once')
        for node in level.nodes:
            if node.block:
                where = node.name if depth == 0 else f'{path}.{node.name}'
                self._check(node.block, where, depth + 1)
                bad = [sub.name for sub in node.block.nodes if not sub.ok]
                if node.ok and bad:
                    say(f'{where}: says ok although {bad[0]} failed')
        # what the plan promised and nobody reported
        for number in range(got + 1, min(level.plan or 0, got + 1000) + 1):
            node = _Node(number, False, f'test-{number}', '', [], None)
            node.missing = True
            level.nodes.append(node)


def _plain(name):
    """A name that 6.1's TEST_RESULT accepts: it takes any # for a directive."""
    return name.replace('#', '') or 'unnamed'


def _canonical(level, out, indent=0):
    """The block as 6.1's parser reads it without a mistake. Missing tests stay
    missing, so that the parser itself finds and counts them."""
    pad = ' ' * indent
    reported = [node for node in level.nodes if not node.missing or node.block]
    out.append(pad + 'KTAP version 1')
    if indent:
        out.append(f'{pad}# Subtest: {_plain(level.name)}')
    out.append(f'{pad}1..{len(level.nodes)}')    # planned or more; _check() caps it
    for number, node in enumerate(reported, 1):
        if node.block:
            node.block.name = node.name
            _canonical(node.block, out, indent + 4)
        skip = node.ok and re.match(r'SKIP|TODO|XFAIL', node.directive, re.I)
        out.append(f'{pad}{"ok" if node.ok else "not ok"} {number} {_plain(node.name)}'
                   + (' # SKIP' if skip else ''))
    return out


def _parser(tree):
    """The module tools/testing/kunit/kunit_parser.py of a kernel tree, and the
    buffer that it prints into. Fail: no such file."""
    folder = Path(tree) / 'tools/testing/kunit'
    made = {}
    kept = sys.modules.get('kunit_printer')
    try:
        for name in ('kunit_printer', 'kunit_parser'):
            path = folder / f'{name}.py'
            if not path.is_file():
                raise common.Fail(f'{path}: missing; TREE must be a kernel tree of 5.19 or later')
            spec = importlib.util.spec_from_file_location(name, path)
            made[name] = importlib.util.module_from_spec(spec)
            if name == 'kunit_printer':
                sys.modules[name] = made[name]
            # no .pyc files in a tree whose state git watches
            keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
            try:
                spec.loader.exec_module(made[name])
            finally:
                sys.dont_write_bytecode = keep
    finally:
        sys.modules.pop('kunit_printer', None)
        if kept:
            sys.modules['kunit_printer'] = kept
    return made['kunit_parser'], made['kunit_printer']


def _kernel_parse(lines, tree):
    """The kernel parser's Test for these lines, and its [ERROR] lines."""
    parser, printer = _parser(tree)
    out = io.StringIO()
    quiet = printer.Printer(out)
    # 6.1 prints through a global, later kernels take the printer as an argument
    if 'stdout' in vars(parser):
        parser.stdout = quiet
    args = (lines, quiet) if parser.parse_run_tests.__code__.co_argcount > 1 else (lines,)
    test = parser.parse_run_tests(*args)
    errors = [line.split('[ERROR]', 1)[1].strip()
              for line in out.getvalue().splitlines() if '[ERROR]' in line]
    return test, errors


def _seconds(name, *texts):
    """Guest seconds from "# time=1.5", "# time=20 ms" or "# NAME: 3 s"."""
    for text in texts:
        match = SECONDS.match(text)
        if match and match.group(1) in (None, name):
            return float(match.group(2)) / (1000 if match.group(3) == 'ms' else 1)
    return None


def _build(node, judged, path, results):
    """Our Test from our node and the kernel parser's Test for it."""
    name = re.sub(r'^global\.', '', node.name) if path else node.name
    full = f'{path}.{name}' if path else name
    status = {'SUCCESS': PASS, 'FAILURE': FAIL, 'SKIPPED': SKIP,
              'TEST_CRASHED': CRASH}.get(judged.status.name, ERROR)
    block_log = node.block.log if node.block else []
    test = Test(full, status, node.log + block_log, detail=node.directive)
    # a program's own time stands before or in its result line
    test.seconds = _seconds(node.name, '# ' + node.directive, *reversed(node.log),
                            *reversed(block_log))
    if node.missing:
        test.status = CRASH
        test.detail = 'no result line' if node.block else 'not run: the program ended before it'
    elif re.match(r'exit=(12[89]|1[3-9]\d|2\d\d)\b|signal=', node.directive):
        test.status = CRASH
    if not node.ok and test.status in GOOD:
        results.problems.append(f'{full}: not ok, but the kernel parser says {test.status}')
        test.status = FAIL
    if node.block:
        _pair(node.block.nodes, judged.subtests, full, test.subtests, results)
    return test


def _pair(nodes, judged, path, into, results):
    """Walk our blocks and the kernel parser's side by side."""
    if len(nodes) != len(judged):
        results.problems.append(f'{path or "the run"}: we count {len(nodes)} tests, '
                                f'the kernel parser {len(judged)}')
    for node, test in zip(nodes, judged):
        if not node.missing and test.name != _plain(node.name):
            results.problems.append(f'{path or "the run"}: we read test {node.name}, '
                                    f'the kernel parser {test.name}')
        into.append(_build(node, test, path, results))


def _parse(reader, tree):
    results = Results([], list(reader.problems))
    if not reader.top.nodes:
        return results
    judged, errors = _kernel_parse(_canonical(reader.top, []), tree)
    _pair(reader.top.nodes, judged.subtests, '', results.programs, results)
    if errors and not results.problems:
        results.problems += [f'kernel parser: {error}' for error in errors]
    return results


def parse_results(text, tree):
    """results.ktap (text; \\r tolerated) judged with the parser of kernel tree `tree`.
    Returns Results; never raises on bad KTAP. Fail: no parser in the tree."""
    return _parse(_Reader(text.replace('\r', '').split('\n')), tree)


def parse_console(text, tree):
    """The KUnit suites on a console log, or None where the console has no KTAP.
    Parameter tests (third level) have no plan in 6.1 and need none."""
    lines = [STAMP.sub('', line) for line in text.replace('\r', '').split('\n')
             if STAMP.match(line)] or text.replace('\r', '').split('\n')
    for start, line in enumerate(lines):
        if VERSION.match(line):
            return _parse(_Reader(lines[start:], plans_below=2), tree)
    return None
