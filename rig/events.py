# SPDX-License-Identifier: GPL-2.0
"""make events: what fixed reclaim jobs cost in events, base against series: how often a
lruvec lock is taken, how many pages are scanned for one that is reclaimed, how often reclaim
sleeps. bench/events.sh is the guest's side; bench/README.md says what is counted."""
import json
import re

from . import bench, boot, common, image, verdict

HEADER = 'mm-lockstep-events 1'
CONFIG = 'production+events'
BOOTS = ('1', '2')      # seeds
VERSIONS = ('v1', 'v2')     # of cgroups
LIMIT, SILENCE = 120, 60    # seconds of a boot, times boot.scale()
QEMU_ARGS = ('-rtc', 'clock=vm,base=2026-01-01')
# What a job of the series may have more than the base: boots of one kernel differ too.
LIMIT_RATIO = 1.05
# A count this small is noise, whatever its ratio.
SMALL = 20
# figure: (unit, of what the ratio is made, smaller is better)
FIGURES = {
    'lru_lock': ('acquisitions a page reclaimed', lambda c: c['lru_lock'] / stolen(c)),
    'scanned': ('pages scanned a page reclaimed',
                lambda c: (c['pgscan_file'] + c['pgscan_anon']) / stolen(c)),
    'throttled': ('sleeps in reclaim_throttle()', lambda c: c['mm_vmscan_throttled']),
    'waits': ('waits for one folio', lambda c: c['folio_wait_writeback']),
    'killed': ('jobs that did not end well', lambda c: int(c['rc'] != 0)),
    'ms': ('virtual milliseconds', lambda c: c['ms']),
}
JUDGED = ('lru_lock', 'scanned', 'killed')


def stolen(counts):
    """Pages that a job had reclaimed; 1 when none, so that a ratio is one."""
    return max(1, counts['pgsteal_file'] + counts['pgsteal_anon'])


def parse(text, where='results'):
    """{job: {count: number}} of what the guest printed. Fail: its error line, a line that is
    none of the format, output that is cut off."""
    lines = [line.strip() for line in text.replace('\r', '').splitlines() if line.strip()]
    error = next((line for line in lines if line.startswith('error ')), '')
    if error:
        raise common.Fail(f'{where}: the guest stopped: {error[6:]}')
    if not lines or not lines[0].startswith(HEADER + ' '):
        raise common.Fail(f'{where}: does not begin with "{HEADER}": the jobs did not run')
    if lines[-1] != 'end':
        raise common.Fail(f'{where}: cut off after {len(lines) - 1} jobs')
    jobs = {}
    for line in lines[1:-1]:
        key, _, rest = line.partition(' ')
        words = rest.split()
        pairs = [re.fullmatch(r'(\w+)=(-?\d+)', word) for word in words[1:]]
        if key != 'job' or not words or words[0] in jobs or not pairs or not all(pairs):
            raise common.Fail(f'{where}: no line of a job: {line!r}')
        jobs[words[0]] = {m[1]: int(m[2]) for m in pairs}
    return jobs


def boot_once(kernel, initrd, outdir, seed, version):
    """One boot: its jobs as parse() has them. Fail: a splat, no end, an error in the guest."""
    done = boot.boot(kernel, initrd, outdir, mode='exec', exec_path='/bench/events.sh',
                     icount=True, smp=1, mem='1G', append=f'lockstep.cgroup={version}',
                     limit=LIMIT, silence=SILENCE, qemu_args=(*QEMU_ARGS, '-seed', seed))
    found = verdict.judge(outdir, qemu_exit=done.qemu_exit, ended=done.ended,
                          console=done.console, results=done.results, nonce=done.nonce,
                          tree=common.LINUX, expect='exec', oom_ok=True)
    if not found.ok:
        text = done.results.read_text(errors='replace') if done.results.exists() else ''
        why = re.search(r'^error (.*)', text, re.M)
        raise common.Fail(f'{outdir.name}: {why[1] if why else found.reasons[0]}; '
                          f'see {done.console}')
    return parse(done.results.read_text(errors='replace'), done.results)


def measure(what, kernel, initrd, outdir):
    """{job: [counts of each boot]} of one kernel, jobs named with their cgroup version."""
    found = {}
    for version in VERSIONS:
        for seed in BOOTS:
            jobs = boot_once(kernel, initrd, outdir / f'{what}-{version}-{seed}', seed, version)
            for name, counts in jobs.items():
                found.setdefault(f'{version}.{name}', []).append(counts)
    return found


def mean(boots, figure):
    """A figure's mean over the boots of one kernel."""
    return sum(FIGURES[figure][1](c) for c in boots) / len(boots)


def compare(base, series):
    """(rows, what is wrong): a row is (job, figure, base, series)."""
    rows, wrong = [], []
    for job in base:
        if job not in series:
            wrong.append(f'{job}: not run on the series')
            continue
        # Of a job that was killed on the base there is nothing to compare.
        killed = mean(base[job], 'killed') > 0
        for figure in FIGURES:
            a, b = mean(base[job], figure), mean(series[job], figure)
            rows.append((job, figure, a, b))
            if figure in JUDGED and not (killed and figure != 'killed') \
                    and b > a * LIMIT_RATIO and b - a > 0.001:
                wrong.append(f'{job}: {FIGURES[figure][0]}: {b:.3f}, base {a:.3f}')
        # Either way of sleeping may replace the other.
        a, b = (mean(k[job], 'throttled') + mean(k[job], 'waits') for k in (base, series))
        if not killed and b > a * LIMIT_RATIO + SMALL:
            wrong.append(f'{job}: sleeps: {b:.1f}, base {a:.1f}')
    wrong += [f'{job}: not run on the base' for job in series if job not in base]
    return rows, wrong


def table(rows):
    """The rows as text."""
    lines = [f'{"job":<18}{"figure":<11}{"base":>11}{"series":>11}{"ratio":>9}  unit']
    for job, figure, a, b in rows:
        ratio = f'{b / a:>9.3f}' if a else f'{"-":>9}'
        lines.append(f'{job:<18}{figure:<11}{a:>11.3f}{b:>11.3f}{ratio}  {FIGURES[figure][0]}')
    return '\n'.join(lines)


def main():
    """make events. Results: out/events/events.json and events.txt. Returns 1 when a job of the
    series took more than the base's."""
    outdir = common.OUT / 'events'
    with common.lock('events'):
        for stale in ('events.json', 'events.txt'):
            (outdir / stale).unlink(missing_ok=True)
        stages = common.Stages('kernel of the series', 'kernel of the base',
                               'boots of the base', 'boots of the series')
        with stages.stage('kernel of the series', 'first time 12 min'):
            kernel = bench.series_kernel(CONFIG)
        with stages.stage('kernel of the base', 'first time 12 min'):
            bare = bench.base_kernel(CONFIG)
        initrd = image.make_image(outdir / 'guest.cpio', {
            '/bench/events.sh': (common.ROOT / 'bench' / 'events.sh').read_bytes()})
        with stages.stage('boots of the base'):
            base = measure('base', bare, initrd, outdir)
        with stages.stage('boots of the series'):
            series = measure('series', kernel, initrd, outdir)
        rows, wrong = compare(base, series)
        text = table(rows)
        common.write(outdir / 'events.json', json.dumps(
            {'format': 1, 'base': base, 'series': series, 'wrong': wrong}, indent=1) + '\n')
        common.write(outdir / 'events.txt', text + '\n' + ''.join(f'FAIL {w}\n' for w in wrong))
    common.say(text)
    for line in wrong:
        common.say(f'FAIL {line}')
    common.say(stages.table())
    common.say(f'{outdir / "events.json"}: {len(rows)} figures compared, {len(wrong)} failed')
    return 1 if wrong else 0
