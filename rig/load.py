# SPDX-License-Identifier: GPL-2.0
"""The swapping load in the guest: boot it with the kit, swap and a disk for its results,
then say what it did and what it found."""
import json
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import boot, build, common, fetch, image, kit, ktap, plot, splat, tree, verdict
from .finding import BROUGHT, COVERS, NEVER_KNOWN, findings, named, number, read_events, read_report

TARGETS = ('mm', 'mm/swapload')
KNOWN = Path(__file__).resolve().parent / 'known.txt'
# Two nodes to migrate between and a CMA area to fill, low: a memory block with CMA pages in
# it cannot go offline, and the lowest cannot anyway.
APPEND = 'numa=fake=2 cma=64M@0-128M'
SWAP = '1G'            # each of the two areas
RESULTS = 3 << 30      # bytes of the results' disk, sparse
SILENCE = 60           # s: swapload.sh says something every 10
SETUP = 120            # s: mounts, copies of the kit, and the cleaning up
INTERVAL = 10000       # ms between two runs of the verifiers
LIST = {'kvm': 'full', 'tcg': 'lean'}


@dataclass
class Shape:
    """One machine: MEM of the guest, kernel command line."""
    mem: str
    append: str


SHAPES = {
    # With ZONE_MOVABLE one memory block can go offline (7 of 11 tries; without it 2 of 13).
    # The others are without, since it keeps page types apart that are to meet.
    '700M,nomemcg': Shape('700M', 'cgroup_disable=memory movablecore=400M lockstep.cgroup=v1'),
    '700M,memcg-v1': Shape('700M', 'lockstep.cgroup=v1'),
    '1G,memcg-v1': Shape('1G', 'lockstep.cgroup=v1'),
    '1G,memcg-v2': Shape('1G', 'lockstep.cgroup=v2'),
    'scaled': Shape('2G', 'lockstep.cgroup=v2'),
}
ALIASES = {'700M,memcg': '700M,memcg-v1', '1G,memcg': '1G,memcg-v1'}

# Console reports that a disturber brings with it; they are counted and no findings.
SEGFAULT = r'\[\d+\]: segfault at '
EXPECTED = {
    'hotplug': r'page dumped because: (unmovable page|isolation failed|migration failure)',
    'writers': r'^swapload_writer invoked oom-killer|Killed process \d+ \(swapload_writer\)',
    # alloc_vmap_area() warns when a slab allocation that is hardly ever needed fails.
    'failslab': rf'invoked oom-killer|vmalloc error: size|WARNING: .* alloc_vmap_area\+|{SEGFAULT}',
    'fail_page_alloc': rf'page allocation failure|vmalloc error: size|SLUB: Unable to allocate|'
                       rf'invoked oom-killer|{SEGFAULT}',
    'fail_make_request': rf'I/O error|(Read|Write)-error on swap-device|{SEGFAULT}',
}
INJECTING = ('failslab', 'fail_page_alloc', 'fail_make_request')


@dataclass
class Outcome:
    """One load. report: report.txt's values; ok: it ran, and nothing new was found."""
    shape: str
    config: str
    outdir: Path
    seconds: float
    report: dict
    findings: list = field(default_factory=list)
    tests: list = field(default_factory=list)     # (name, detail, status)
    boot: verdict.Verdict = None                  # the verdict on the boot
    svg: str = ''

    @property
    def ok(self):
        """Objects were compared and every finding is a known one."""
        return number(self.report, 'objects_compared') > 0 and all(f.known for f in self.findings)


def shape_name(value):
    """A shape's name, from SHAPE= or a short form of it."""
    name = ALIASES.get(value, value)
    if name not in SHAPES:
        raise common.Fail(f'SHAPE={value}: not one of {" ".join(SHAPES)}')
    return name


def minutes_of(value):
    """MINUTES= as float."""
    if not re.fullmatch(r'\d+(\.\d+)?', str(value)) or float(value) <= 0:
        raise common.Fail(f'MINUTES={value}: must be a number above 0')
    return float(value)


def disturbers_of(value):
    """DISTURB= for swapload.sh -x; which names there are it knows itself."""
    if not re.fullmatch(r'[+-]?[a-z_]+(,[+-]?[a-z_]+)*', value):
        raise common.Fail(f'DISTURB={value}: a comma list of names, +name and -name, or '
                          'default, none, all')
    return value


def conf(steps, interval, args):
    """/lockstep/load.conf."""
    return kit.quoted({'LIST': steps, 'INTERVAL': interval, 'ARGS': ' '.join(args)}).encode()


class Progress:
    """The load's last word on the console, for the progress line."""

    def __init__(self):
        self.held, self.word = '', None

    def __call__(self, data):
        self.held = (self.held + data.decode(errors='replace').replace('\r', ''))[-4096:]
        said = re.findall(r'stderr: (.*)\n', self.held)
        if said:
            self.word = said[-1][:100]
        return self.word


def run(config, shape, minutes, outdir, *, disturb='default', interval=INTERVAL, kernel=None,
        tests_dir=None, obj=None, steps=None, smp=None, more=(), known=None):
    """Boot `config`'s kernel in `shape` and load it for `minutes` guest minutes; Outcome, and
    everything the guest wrote in outdir. kernel, tests_dir: built ones instead of
    building; steps: which list of the kit; more: further words for swapload.sh."""
    shape, outdir = shape_name(shape), Path(outdir)
    kernel = kernel or build.kernel_image(config)
    obj = Path(obj or common.OUT / 'build' / config)
    tests_dir = tests_dir or build.selftests(common.LINUX, common.OUT / 'selftests' / 'load',
                                             targets=TARGETS)
    if not (tests_dir / 'mm/swapload/swapload.sh').is_file():
        raise common.Fail(f'{tests_dir}: no mm/swapload there: the series in linux/ has no load')
    if outdir.exists():
        shutil.rmtree(outdir)
    outdir.mkdir(parents=True)
    accel = boot.accelerator(kernel)[1]
    factor = boot.scale(accel)
    args = ['-m', f'{minutes:g}', '-s', shape, '-x', disturb, '-S', str(factor),
            '-w', '/dev/vdc,/dev/vdd', *more]
    initrd = image.make_image(outdir / 'guest.cpio', tree_dirs={'/lockstep/mm': tests_dir / 'mm'},
                              extra={'/lockstep/load.conf': conf(steps or LIST[accel], interval, args)})
    how = SHAPES[shape]
    mem = common.setting('MEM', how.mem) if shape == 'scaled' else how.mem
    try:
        disks = [(kit.make_kit(), 'ro'), kit.ext4(outdir / 'results.img', RESULTS, label='results'),
                 *(boot.scratch(outdir / f'swap{n}.img', SWAP) for n in (0, 1))]
        done = boot.boot(kernel, initrd, outdir, mode='exec', exec_path='/bin/load',
                         smp=smp or common.count('SMP', 2), mem=mem, disks=disks,
                         append=' '.join(filter(None, (APPEND, how.append, common.setting('APPEND', '')))),
                         limit=SILENCE, silence=SILENCE, on_console=Progress(),
                         ceiling=minutes * 60 / factor + 3 * SETUP)
        fetch_results(outdir)
    finally:
        for path in outdir.glob('*.img'):      # gigabytes, and nothing in them for a reader
            path.unlink()
    return judge(config, shape, outdir, done, obj=obj, disturb=disturb, known=known)


def fetch_results(outdir):
    """Copy what the guest wrote from its disk to outdir."""
    disk = outdir / 'results.img'
    # 0 to 2: clean or repaired; the guest may have died with its journal open.
    done = common.run([kit.which('e2fsck'), '-fy', disk], check=False)
    if done.returncode > 2:
        common.say(f'    {disk.name}: e2fsck: exit {done.returncode}: results may be incomplete')
    with_out = common.run([kit.which('debugfs'), '-R', f'rdump /out {outdir}', disk], check=False)
    folder = outdir / 'out'
    if folder.is_dir():
        for path in folder.iterdir():
            path.replace(outdir / path.name)
        folder.rmdir()
    else:
        common.say(f'    no results on the disk: {with_out.stdout.strip().splitlines()[-1:]}')


def disturbed(name, report, disturb):
    """Did the disturber `name` run? By the report; of a guest that wrote none by DISTURB."""
    said = report.get(f'disturb.{name}')
    if said is not None:
        return said != 'off' and not said.startswith('not available')
    words = [w.lstrip('+') for w in disturb.split(',')]
    default = name not in INJECTING and (words[0] == 'default' or words[0][0] == '-')
    return f'-{name}' not in words and (name in words or 'all' in words or default)


def expected(report, disturb):
    """Allow-list entries for what the disturbers of this run cause."""
    return [splat.Allow(re.compile(pattern), f'{BROUGHT}{name}', 'without it')
            for name, pattern in EXPECTED.items() if disturbed(name, report, disturb)]


def judge(config, shape, outdir, done, *, obj=None, disturb='default', known=None, linux=None):
    """The Outcome of a boot.Boot whose results are in outdir; writes load.json, summary.txt
    and load.svg there. known: entries of the list of known findings."""
    known = splat.load_allow(KNOWN, linux or common.LINUX) if known is None else known
    report, events = read_report(outdir / 'report.txt'), read_events(outdir / 'events.log')
    found = verdict.judge(
        outdir, qemu_exit=done.qemu_exit, ended=done.ended, console=done.console,
        results=done.results, nonce=done.nonce, tree=linux or common.LINUX,
        vmlinux=obj and obj / 'vmlinux', expect='exec',
        oom_ok=report.get('oom_kills_allowed') == '1',
        allow=[*splat.load_allow(tree=linux or common.LINUX), *expected(report, disturb)])
    text = done.results.read_text(errors='replace') if done.results.is_file() else ''
    parsed = ktap.parse_results(text, linux or common.LINUX) if text.strip() else None
    outcome = Outcome(shape, config, outdir, done.seconds, report, boot=found)
    outcome.findings = findings(found, report, events, parsed)
    for finding in outcome.findings:
        # Lost data of the builds and a guest that died are never let pass.
        entry = next((e for e in known if e.pattern.search(f'{finding.kind}: {finding.text}')), None)
        if entry and not finding.known and finding.kind not in NEVER_KNOWN:
            finding.known = f'{entry.reason}; goes {entry.remove}'
    outcome.tests = [(*named(leaf), leaf.status) for leaf in (parsed.leaves() if parsed else [])]
    try:
        plot.svg(outdir / 'samples.tsv', outdir / 'load.svg', f'{shape}, {config}')
        outcome.svg = str(outdir / 'load.svg')
    except common.Fail as e:
        common.say(f'    no picture: {e}')
    common.write(outdir / 'load.json', json.dumps(record(outcome), indent=1) + '\n')
    common.write(outdir / 'summary.txt', summary(outcome) + '\n')
    return outcome


def record(outcome):
    """The Outcome for load.json and the soak's state."""
    return {'shape': outcome.shape, 'config': outcome.config, 'ok': outcome.ok,
            'wall_seconds': outcome.seconds, 'report': outcome.report,
            'findings': [asdict(f) for f in outcome.findings], 'tests': outcome.tests,
            'svg': outcome.svg, 'folder': str(outcome.outdir)}


def state(outcome):
    """One word: how it came out."""
    new = [f.kind for f in outcome.findings if not f.known]
    if new:
        return new[0]
    if not number(outcome.report, 'objects_compared'):
        return 'nothing compared'
    return 'known' if outcome.findings else 'good'


def summary(outcome):
    """The report for a reader."""
    r = outcome.report

    def pages(key):
        return f'{number(r, key)} pages, {number(r, key) * 4 / 1024:.0f} MB'
    lines = [f'  load {outcome.shape}, {outcome.config}: {state(outcome)}']
    rows = [('load', f'{r.get("seconds", "?")} s, ended: {r.get("end", "no report")}'),
            ('first finding', f'{r["first_finding_seconds"]} s: {r.get("first_finding", "")}'
             if 'first_finding_seconds' in r else 'none'),
            ('iterations', f'{r.get("iterations", 0)} (tmpfs {r.get("iterations.tmpfs", "?")}, '
                           f'ext4 {r.get("iterations.ext4", "?")})'),
            ('build steps', f'{r.get("steps", 0)}: {r.get("steps_failed", 0)} failed, '
                            f'{r.get("steps_killed_oom", 0)} OOM-killed, '
                            f'{r.get("steps_failed_expected", 0)} by injected faults, '
                            f'{r.get("steps_killed", 0)} ended with the time'),
            ('known content', f'{r.get("ballast_checked_kb", 0)} kB checked, different '
                              f'{r.get("ballast_different", 0)}; KSM {r.get("ksm_different", 0)}'),
            ('mapped files', f'{r.get("mapped_checked_kb", 0)} kB checked, different pages '
                             f'{r.get("mapped_different", 0)}'),
            ('objects compared', f'{r.get("objects_compared", 0)}, different {r.get("objects_different", 0)}'),
            ('swap in', pages('swap_in_pages')), ('swap out', pages('swap_out_pages')),
            ('swap errors', f'{r.get("swap_read_errors", 0)} read, {r.get("swap_write_errors", 0)} written'),
            ('OOM kills', f'{r.get("oom_kills", 0)}, '
                          f'{"allowed" if r.get("oom_kills_allowed") == "1" else "not allowed"}')]
    rows += [(key, value) for key, value in r.items() if key.startswith(('verify', 'disturb.'))]
    drift = [f'{key[6:]} {value.replace(" ", " -> ")}' for key, value in r.items()
             if key.startswith('drift.') and len(set(value.split())) > 1]
    rows.append(('drift', '; '.join(drift) or 'none'))
    passed = [s.allowed_by for s in outcome.boot.splats if s.allowed_by]
    rows.append(('splats', f'{len(outcome.boot.splats) - len(passed)}, let pass {len(passed)}, of them '
                           f'{sum(why.startswith(BROUGHT) for why in passed)} expected of a disturber'))
    lines += [f'    {name:<26}{value}' for name, value in rows]
    for f in outcome.findings:
        at = f' at {f.seconds:.0f} s' if f.seconds is not None else ''
        lines.append(f'    {"known" if f.known else "NEW"} {f.kind}{at}: {f.text}'
                     + (f' ({f.known})' if f.known else ''))
    if outcome.boot.decoded:
        lines += ['  stack traces:', *(f'      {line}' for line in outcome.boot.decoded.splitlines())]
    if any(f.kind in ('panic', 'killed', 'broken') for f in outcome.findings):
        lines += ['  end of the console:', *(f'    | {line}' for line in outcome.boot.tail[-15:])]
    return '\n'.join(lines)


def short():
    """The short load for make test: [(name, ok, why)]; ok None: skipped. At most 6 minutes
    emulated. Known findings are good, and the summary names them with their reasons."""
    outcome = run('debug', '700M,memcg-v1', 1.5, common.OUT / 'test' / 'load', steps='short')
    common.say(summary(outcome))
    good = {'PASS': True, 'SKIP': None}
    known = {COVERS.get(name) for name in COVERS} & {f.kind for f in outcome.findings if f.known} - \
        {f.kind for f in outcome.findings if not f.known}
    rows = []
    for name, detail, status in outcome.tests:
        ok = good.get(status, False)
        if ok is False and COVERS.get(name) in known:
            ok, detail = True, 'known'
        rows.append((f'load {name}', ok, detail))
    new = [f for f in outcome.findings if not f.known]
    rows.append(('load: nothing new found', not new, '; '.join(f'{f.kind}: {f.text}' for f in new)))
    rows.append(('load: objects compared', number(outcome.report, 'objects_compared') > 0,
                 f'see {outcome.outdir}'))
    return rows


def itself():
    """The tests of the load, in the guest, on the debug kernel: that it sees a page that was
    changed on purpose, a killed step, Ctrl-C, and runs again after all of them.
    [(name, ok, why)] as short()'s."""
    outdir, obj = common.OUT / 'test' / 'load-itself', common.OUT / 'build' / 'debug'
    outdir.mkdir(parents=True, exist_ok=True)
    kernel = build.kernel_image('debug')
    tests_dir = build.selftests(common.LINUX, common.OUT / 'selftests' / 'load', targets=TARGETS)
    found = test_itself(kernel, tests_dir, outdir, obj)
    rows = [(f'load itself: {named(leaf)[0]}', {'PASS': True, 'SKIP': None}.get(leaf.status, False),
             named(leaf)[1] or f'see {outdir}') for leaf in found.leaves]
    return [*rows, ('load itself: boot', found.ok, '; '.join(found.reasons[:3]))]


def test_itself(kernel, tests_dir, outdir, obj, linux=None):
    """Boot swapload_selftest.sh; the Verdict."""
    initrd = image.make_image(outdir / 'guest.cpio', tree_dirs={'/lockstep/mm': tests_dir / 'mm'},
                              extra={'/lockstep/load.conf': conf('selftest', 0, [])})
    try:
        disks = [(kit.make_kit(), 'ro'), kit.ext4(outdir / 'results.img', RESULTS, label='results')]
        done = boot.boot(kernel, initrd, outdir, mode='exec', exec_path='/bin/load', mem='1G',
                         smp=common.count('SMP', 2), disks=disks, append=APPEND, limit=SETUP,
                         silence=SILENCE, on_console=Progress())
    finally:
        for path in outdir.glob('*.img'):
            path.unlink()
    # It breaks things on purpose: the console has to be free of what only the kernel does.
    return verdict.judge(
        outdir, qemu_exit=done.qemu_exit, ended=done.ended, console=done.console, oom_ok=True,
        results=done.results, nonce=done.nonce, tree=linux or common.LINUX, vmlinux=obj / 'vmlinux',
        allow=[*splat.load_allow(tree=linux or common.LINUX), *expected({}, 'default')])


def settings():
    """What make load was told, checked before anything is built."""
    config = common.setting('CONFIG', 'debug')
    build.fragments(config)
    interval = common.setting('INTERVAL', str(INTERVAL))
    if not interval.isdigit():
        raise common.Fail(f'INTERVAL={interval}: milliseconds, or 0 for no verifier')
    return {'config': config, 'shape': shape_name(common.setting('SHAPE', '700M,memcg-v1')),
            'minutes': minutes_of(common.setting('MINUTES', '30')), 'interval': int(interval),
            'disturb': disturbers_of(common.setting('DISTURB', 'default'))}


def main():
    """make load. Settings: MINUTES, SHAPE, CONFIG, DISTURB, INTERVAL (ms), SMP, APPEND, MEM (of
    the shape `scaled`). Exit 1 when it found something new."""
    how = settings()
    stages = common.Stages('the base and the series', f'build the {how["config"]} kernel',
                           'build the selftests', 'the kit', 'the load')
    with common.lock():
        with stages.stage('the base and the series'):
            fetch.base_repo()
            tree.make_tree()
        with stages.stage(f'build the {how["config"]} kernel'):
            kernel = build.kernel_image(how['config'])
        with stages.stage('build the selftests'):
            tests = build.selftests(common.LINUX, common.OUT / 'selftests' / 'load', targets=TARGETS)
        with stages.stage('the kit', 'two minutes when cold'):
            kit.make_kit()
        with stages.stage('the load', f'{how["minutes"]:g} min and the set-up'):
            outcome = run(how['config'], how['shape'], how['minutes'],
                          common.OUT / 'load' / f'{how["shape"]}-{how["config"]}',
                          disturb=how['disturb'], interval=how['interval'], kernel=kernel,
                          tests_dir=tests)
    common.say('\n' + summary(outcome) + '\n')
    common.say(stages.table())
    common.say(f'\nlogs and load.svg in {outcome.outdir}')
    return 0 if outcome.ok else 1
