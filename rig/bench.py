# SPDX-License-Identifier: GPL-2.0
"""make bench: instructions an operation, base against series, under QEMU's -icount.

bench/README.md says what is measured and how; this is the host side: it builds
both production kernels, boots each twice, checks that the figures may be
compared, and judges the ratios by bench/thresholds."""
import json
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from . import common

HEADER = 'mm-lockstep-bench 1'
CALIBRATION = 0.001     # a tick must be an instruction within this
SPREAD = 0.005          # boots of one kernel agree within this, or the run fails
WORK = 0.01             # base and series count the same events within this an operation

# Both boots differ in what must not matter: random numbers, and where free memory ends.
BOOTS = (('1', '1G'), ('2', '1036M'))
# What can be measured, and which limits apply
CONFIGS = {'production': 'thresholds', 'production+debugvm': 'thresholds.debugvm'}
# Without ERMS a page is cleared by 512 instructions of 8 bytes, not by 4096 of one byte
# each, which would drown the fault's own. RTC and seed: no input from the host.
QEMU_ARGS = ('-cpu', 'max,-erms', '-rtc', 'clock=vm,base=2026-01-01')
# khugepaged would raise min_free_kbytes and with it the per-CPU lists.
APPEND = 'lockstep.cgroup=v2 transparent_hugepage=never'
LIMIT, SILENCE = 30, 15     # seconds of a boot, times boot.scale()


@dataclass
class Row:
    """One row of one boot; least and median: instructions an operation; events: counts that
    are the work, equal on every kernel; noted: counts that may differ."""
    unit: str
    ops: int
    least: float
    median: float
    events: dict
    noted: dict = field(default_factory=dict)
    source: str = ''


@dataclass
class Result:
    """One boot: rows by name, rows that the guest refused with its reason."""
    rows: dict = field(default_factory=dict)
    refused: dict = field(default_factory=dict)
    clocksource: str = ''


@dataclass
class Figure:
    """One row of one kernel over its boots: mean of the medians, and how far the boots are
    apart, as a share of the mean."""
    value: float
    spread: float
    row: Row


def parse(text, where='results'):
    """What the guest program printed, as Result. Fail: its error line, a line that is no
    line of the format, a calibration that is off, a cut-off or doubled output."""
    lines = [line.strip() for line in text.replace('\r', '').splitlines() if line.strip()]
    if not lines or lines[0] != HEADER:
        raise common.Fail(f'{where}: does not begin with "{HEADER}": the benchmark did not run')
    out, calibrated, sources, end = Result(), False, {}, None
    for line in lines[1:]:
        key, _, rest = line.partition(' ')
        words = rest.split()
        try:
            if end is not None:
                raise ValueError
            if key == 'error':
                raise common.Fail(f'{where}: the benchmark stopped: {rest}')
            if key == 'calibration':
                check_calibration(*map(int, words), where)
                calibrated = True
            elif key == 'clocksource':
                out.clocksource = rest
            elif key == 'source':
                sources[words[0]] = rest.partition(' ')[2]
            elif key == 'refused':
                once(words[0], out)
                out.refused[words[0]] = rest.partition(' ')[2]
            elif key == 'row':
                name, unit, ops, least, median, *events = words
                once(name, out)
                out.rows[name] = Row(unit, int(ops), float(least), float(median),
                                     counts(events, '='), counts(events, '~'),
                                     sources.get(name, ''))
                # least may be above median where a fixed part is subtracted from both
                if int(ops) < 1 or not all(0 < float(x) < float('inf') for x in (least, median)):
                    raise ValueError
            elif key == 'end':
                end = int(rest)
            else:
                raise ValueError
        except (ValueError, IndexError, TypeError):
            raise common.Fail(f'{where}: no line of a benchmark: {line!r}') from None
    if not calibrated:
        raise common.Fail(f'{where}: no calibration line, so a tick may be anything')
    if end is None or end != len(out.rows) + len(out.refused):
        raise common.Fail(f'{where}: cut off after {len(out.rows) + len(out.refused)} rows')
    return out


def counts(words, sign):
    """{event: count} of the words with that sign; ValueError when one has neither sign."""
    pairs = [re.fullmatch(r'(\w+)([=~])(-?\d+)', word) for word in words]
    if not all(pairs):
        raise ValueError
    return {m[1]: int(m[3]) for m in pairs if m[2] == sign}


def once(name, out):
    """ValueError when the row was there before."""
    if name in out.rows or name in out.refused:
        raise ValueError


def check_calibration(instructions, ticks, where):
    """Fail unless the guest's TSC advances by one an instruction."""
    if instructions < 1 or abs(ticks - instructions) > CALIBRATION * instructions:
        raise common.Fail(f'{where}: calibration off: a loop of {instructions} instructions took '
                          f'{ticks} ticks; guest time does not count instructions here')


def thresholds(path=None):
    """bench/thresholds as {row: largest ratio}, in its order. Fail names a wrong line."""
    path = Path(path or common.ROOT / 'bench' / 'thresholds')
    found = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.partition('#')[0].split()
        if not words:
            continue
        try:
            name, limit = words
            if name in found or not 0 < float(limit) < 100:
                raise ValueError
        except ValueError:
            raise common.Fail(f'bench/{path.name}:{number}: not "row ratio", or a row twice: '
                              f'{line!r}') from None
        found[name] = float(limit)
    if not found:
        raise common.Fail(f'bench/{path.name}: no row in it')
    return found


def selected(known):
    """The rows that ROWS=a,b names, else all; Fail names one that is unknown."""
    asked = common.setting('ROWS')
    if not asked:
        return list(known)
    names = list(dict.fromkeys(filter(None, re.split(r'[,\s]+', asked))))
    for name in names:
        if name not in known:
            raise common.Fail(f'ROWS={asked}: no row {name}; rows are {", ".join(known)}')
    if not names:
        raise common.Fail(f'ROWS={asked}: names no row; rows are {", ".join(known)}')
    return names


def peer():
    """PEER= as a checked path of an x86 bzImage, or None."""
    asked = common.setting('PEER')
    if not asked:
        return None
    path = Path(asked).expanduser().resolve()
    if not path.is_file():
        raise common.Fail(f'PEER={asked}: no such file; name a bzImage')
    with open(path, 'rb') as f:
        head = f.read(0x206)
    # Documentation/x86/boot.rst: boot_flag and header
    if head[0x1fe:0x200] != b'\x55\xaa' or head[0x202:0x206] != b'HdrS':
        raise common.Fail(f'PEER={asked}: not a bzImage (no x86 boot header); vmlinux will not do')
    return path


def work_differs(a, b):
    """Why two Rows did not do the same work, or ''."""
    if (a.unit, a.ops) != (b.unit, b.ops):
        return f'{a.ops} x {a.unit} against {b.ops} x {b.unit}'
    for name in sorted({*a.events, *b.events}):
        x, y = a.events.get(name), b.events.get(name)
        if x is None or y is None:
            return f'{name} is counted on one side only'
        # some operations take many pages each (fork), so the larger side counts too
        if abs(x - y) > WORK * max(a.ops, x, y):
            return f'{name} {x / a.ops:.3f} against {y / b.ops:.3f} an operation'
    return ''


def figures(results, names, what, tolerant=False):
    """({row: Figure} of one kernel over its boots, [what is wrong]). tolerant: rows that the
    guest refused, or that did different work in each boot, are just left out."""
    found, wrong = {}, []
    for name in names:
        refused = next((r.refused[name] for r in results if name in r.refused), '')
        rows = [r.rows[name] for r in results if name in r.rows]
        if refused:
            wrong += [] if tolerant else [f'{name}: {what}: refused: {refused}']
            continue
        if len(rows) != len(results):
            wrong.append(f'{name}: {what}: missing in the results')
            continue
        differs = next(filter(None, (work_differs(rows[0], r) for r in rows[1:])), '')
        if differs:
            wrong += [] if tolerant else [f'{name}: {what}: boots did different work: {differs}']
            continue
        value = sum(r.median for r in rows) / len(rows)
        spread = (max(r.median for r in rows) - min(r.median for r in rows)) / value
        if spread > SPREAD and not tolerant:
            wrong.append(f'{name}: {what}: boots are {spread:.2%} apart, more than {SPREAD:.1%}')
        found[name] = Figure(value, spread, rows[0])
    return found, wrong


def compare(base, series, limits, names):
    """({row: ratio}, [what is wrong]): rows that did different work have no ratio."""
    ratios, wrong = {}, []
    for name in names:
        if name not in limits:
            wrong.append(f'{name}: no limit in bench/thresholds')
        if name not in base or name not in series:
            continue        # figures() said why
        differs = work_differs(base[name].row, series[name].row)
        if differs:
            wrong.append(f'{name}: not comparable, base and series did different work: {differs}')
            continue
        ratios[name] = series[name].value / base[name].value
        # Four digits, as printed: boots of one kernel differ by more than what is behind them.
        if name in limits and round(ratios[name], 4) > limits[name]:
            wrong.append(f'{name}: {ratios[name]:.4f} of the base, limit {limits[name]:.4f}')
    return ratios, wrong


def table(names, base, series, ratios, limits, other=None):
    """The results as text, a line a row; `other` adds the peer's columns."""
    head = f'{"row":<14}{"unit":<6}{"base":>11}{"series":>11}{"ratio":>9}{"limit":>8}{"spread":>9}'
    lines = [head + (f'{"peer":>11}{"peer/base":>11}' if other is not None else '')]
    for name in names:
        one = base.get(name) or series.get(name)
        cells = [f'{name:<14}{one.row.unit if one else "-":<6}']
        cells += [f'{f[name].value:>11.1f}' if name in f else f'{"-":>11}' for f in (base, series)]
        cells.append(f'{ratios[name]:>9.4f}' if name in ratios else f'{"-":>9}')
        cells.append(f'{limits[name]:>8.2f}' if name in limits else f'{"-":>8}')
        spreads = [f[name].spread for f in (base, series) if name in f]
        cells.append(f'{max(spreads):>9.3%}' if spreads else f'{"-":>9}')
        if other is not None:
            cells.append(f'{other[name].value:>11.1f}' if name in other else f'{"-":>11}')
            same = (name in other and name in base
                    and not work_differs(base[name].row, other[name].row))
            cells.append(f'{other[name].value / base[name].value:>11.4f}' if same else f'{"-":>11}')
        lines.append(''.join(cells))
    return '\n'.join(lines)


def program(dest):
    """Compile bench/*.c into a static program at dest; Fail with the compiler's words."""
    dest = Path(dest)
    dest.parent.mkdir(parents=True, exist_ok=True)
    sources = sorted((common.ROOT / 'bench').glob('*.c'))
    with tempfile.TemporaryDirectory(dir=dest.parent, prefix='.bench') as tmp:
        made = Path(tmp, 'bench')
        common.run(['gcc', '-O2', '-Wall', '-Wextra', '-Werror', '-static', '-o', made,
                    *sources, '-lm'], env={'LC_ALL': 'C'})
        os.replace(made, dest)
    return dest


def boot_once(kernel, initrd, outdir, seed, mem):
    """One boot of the benchmark; its Result. Fail: no end, a splat, an error in the guest."""
    from . import boot, verdict     # pylint: disable=import-outside-toplevel
    done = boot.boot(kernel, initrd, outdir, mode='exec', exec_path='/bench/run', icount=True,
                     smp=1, mem=mem, append=APPEND, limit=LIMIT, silence=SILENCE,
                     qemu_args=(*QEMU_ARGS, '-seed', seed))
    found = verdict.judge(outdir, qemu_exit=done.qemu_exit, ended=done.ended,
                          console=done.console, results=done.results, nonce=done.nonce,
                          tree=common.LINUX, expect='exec')
    results = Path(done.results)
    text = results.read_text(errors='replace').replace('\r', '') if results.exists() else ''
    if not found.ok:
        why = re.search(r'^error (.*)', text, re.M)
        if not why:
            common.say(verdict.table(found))
        raise common.Fail(f'{outdir.name}: {why[1] if why else found.reasons[0]}; '
                          f'see {done.console}')
    return parse(text, done.results)


def measure(what, kernel, initrd, outdir):
    """Every boot of BOOTS of one kernel: a list of Results."""
    return [boot_once(kernel, initrd, outdir / f'{what}-{n}', seed, mem)
            for n, (seed, mem) in enumerate(BOOTS, 1)]


def chosen():
    """(config, file of limits): CONFIG=production+debugvm is judged by limits of its own."""
    config = common.setting('CONFIG', 'production')
    if config not in CONFIGS:
        raise common.Fail(f'CONFIG={config}: make bench measures {" or ".join(CONFIGS)}')
    return config, common.ROOT / 'bench' / CONFIGS[config]


def base_kernel(config='production'):
    """The kernel of the bare base. Folders lie to each other as linux/ and
    out/build/ do, so that ccache knows every file that the series leaves alone."""
    from . import build, tree   # pylint: disable=import-outside-toplevel
    home = common.OUT / 'base'
    src = tree.assemble(home / 'linux', base_only=True)
    return build.kernel_image(config, src=src, obj=home / 'out' / 'build' / config, optional=True)


def series_kernel(config='production'):
    """The kernel of linux/ as it stands (made first when it is not there)."""
    from . import build, tree   # pylint: disable=import-outside-toplevel
    if not (common.LINUX / 'Kbuild').is_file():
        tree.make_tree()
    return build.kernel_image(config)


def describe(src):
    """Commit of a tree, '+' after it when files differ from it."""
    head = common.git('rev-parse', '--short=12', 'HEAD', cwd=src)
    dirty = common.git('status', '--porcelain', '--untracked-files=no', cwd=src)
    return head + ('+' if dirty else '')


def as_json(base, series, ratios, limits, other, wrong, trees):
    """What bench.json holds."""
    def one(found):
        return {name: {'unit': f.row.unit, 'ops': f.row.ops, 'instructions': round(f.value, 3),
                       'least': f.row.least, 'spread': round(f.spread, 6),
                       'events': f.row.events, 'noted': f.row.noted, 'source': f.row.source}
                for name, f in found.items()}
    return {'format': 1, 'trees': trees, 'boots': [dict(zip(('seed', 'mem'), b)) for b in BOOTS],
            'base': one(base), 'series': one(series),
            'ratio': {k: round(v, 6) for k, v in ratios.items()},
            'limit': {k: limits[k] for k in ratios if k in limits},
            **({'peer': one(other)} if other is not None else {}), 'wrong': wrong}


def main():
    """make bench. Settings: ROWS=a,b, PEER=bzImage, JOBS, CONFIG. Results: out/bench/bench.json and
    bench.txt. Returns 1 when a row is over its limit, missing, or not comparable."""
    from . import image         # pylint: disable=import-outside-toplevel
    config, path = chosen()
    limits = thresholds(path)
    names = selected(limits)
    other_kernel = peer()
    outdir = common.OUT / 'bench'
    with common.lock('bench'):
        for stale in ('bench.json', 'bench.txt'):
            (outdir / stale).unlink(missing_ok=True)
        stages = common.Stages('kernel of the series', 'kernel of the base', 'guest program',
                               'boots of the base', 'boots of the series',
                               *(['boots of the peer'] if other_kernel else []))
        with stages.stage('kernel of the series', 'first time 10 min'):
            kernel = series_kernel(config)
        with stages.stage('kernel of the base', 'first time 3 min'):
            bare = base_kernel(config)
        with stages.stage('guest program'):
            rows = ','.join(names) if common.setting('ROWS') else ''
            run = f'#!/bin/sh\nexec /bench/bench {rows}\n'.encode()
            initrd = image.make_image(outdir / 'guest.cpio', {
                '/bench/bench': program(outdir / 'bench'), '/bench/run': run})
        with stages.stage('boots of the base'):
            base, wrong = figures(measure('base', bare, initrd, outdir), names, 'base')
        with stages.stage('boots of the series'):
            series, more = figures(measure('series', kernel, initrd, outdir), names, 'series')
        other = None
        if other_kernel:
            with stages.stage('boots of the peer'):
                other, _ = figures(measure('peer', other_kernel, initrd, outdir), names, 'peer',
                                   tolerant=True)
        ratios, over = compare(base, series, limits, names)
        wrong += more + over
        text = table(names, base, series, ratios, limits, other)
        trees = {'base': describe(common.OUT / 'base' / 'linux'), 'series': describe(common.LINUX),
                 **({'peer': str(other_kernel)} if other_kernel else {})}
        common.write(outdir / 'bench.json', json.dumps(
            as_json(base, series, ratios, limits, other, wrong, trees), indent=1) + '\n')
        common.write(outdir / 'bench.txt', text + '\n' + ''.join(f'FAIL {w}\n' for w in wrong))
    common.say(f'\nInstructions an operation; base {trees["base"]}, series {trees["series"]}')
    common.say(text)
    for line in wrong:
        common.say(f'FAIL {line}')
    common.say(stages.table())
    common.say(f'{outdir / "bench.json"}: {len(ratios)} of {len(names)} rows compared, '
               f'{len(wrong)} failed')
    return 1 if wrong else 0
