# SPDX-License-Identifier: GPL-2.0
"""make cross: mm/ and the memory management of other machines, base and series, compiled
with W=1. Nothing is linked; what counts is that the series warns of nothing new."""
import dataclasses
import json
import shutil
import time
from pathlib import Path

from . import arch, build, common, tree, warn

# machine: (how it is built, folders besides mm/, fragments between common's and its own)
SMP = ('mmu', 'huge')
MACHINES = {
    'arm64': (arch.GUESTS['arm64'], ('arch/arm64/mm/',), SMP),
    's390x': (arch.Arch('s390x', 's390', 's390x-linux-gnu-'), ('arch/s390/mm/',), SMP),
    'ppc64le': (arch.Arch('ppc64le', 'powerpc', 'powerpc64le-linux-gnu-'), ('arch/powerpc/mm/',), SMP),
    'riscv64': (arch.Arch('riscv64', 'riscv', 'riscv64-linux-gnu-'), ('arch/riscv/mm/',), SMP),
    'i386': (arch.Arch('i386', 'i386'), ('arch/x86/mm/',), SMP),
    'i386-up': (arch.Arch('i386-up', 'i386'), ('arch/x86/mm/',), ('mmu',)),
    'arm-nommu': (arch.Arch('arm-nommu', 'arm', 'arm-linux-gnueabi-'), ('arch/arm/mm/',), ()),
    'm68k': (arch.Arch('m68k', 'm68k', 'm68k-linux-gnu-'), ('arch/m68k/mm/',), ('mmu',)),
}


@dataclasses.dataclass
class Result:
    """One machine. state: clean, warned (of something that the base does not warn of) or
    failed. before, objects: the base's warnings, the series' objects."""
    machine: str
    state: str = 'clean'
    compiler: str = ''
    objects: int = 0
    before: int = 0
    warnings: list = dataclasses.field(default_factory=list)
    error: str = ''
    seconds: float = 0


def fragments(machine):
    """The fragment files of a machine, lowest first."""
    folder = common.ROOT / 'configs/cross'
    return [folder / f'{name}.config' for name in ('common', *MACHINES[machine][2], machine)]


def compile_side(machine, src, obj, log, optional):
    """Compile what is checked out in src: (set of warnings, number of objects). Fail when
    something does not compile."""
    how, folders, _ = MACHINES[machine]
    targets = ['mm/', *folders]
    with build.folder_lock(obj):
        build.configure(machine, src, obj, optional, how, fragments(machine))
        # An object that is up to date prints no warnings; ccache repeats them.
        for name in targets:
            shutil.rmtree(obj / name, ignore_errors=True)
        ticker = common.Ticker(machine)
        with open(log, 'w', encoding='utf-8') as f:
            status = build.make(src, obj, targets, f, W='1', **how.variables(),
                                tick=lambda: ticker.tick(f'{build.count_steps(log)} steps'))
        ticker.done()
    text = log.read_text(errors='replace')
    if status:
        raise common.Fail(f'{build.first_error(text, src)}, see {log}')
    made = sum(1 for name in targets for _ in (obj / name).rglob('*.o'))
    if not made:
        raise common.Fail(f'no object was made, see {log}')
    return warn.warnings(text, src), made


def one(machine, src, sides):
    """Compile base and series for one machine. sides: ((name, commit), ...), the base first."""
    begun, result = time.monotonic(), Result(machine)
    top = common.OUT / 'cross'
    found = {}
    try:
        result.compiler = arch.version(MACHINES[machine][0])
        for name, commit in sides:
            common.git('checkout', '-q', '--detach', '--force', commit, cwd=src)
            found[name], result.objects = compile_side(
                machine, src, top / 'out/build' / machine, top / f'{machine}-{name}.log',
                name == 'base')
    except common.Fail as e:
        result.state, result.error = 'failed', f'{name if result.compiler else "compiler"}: {e}'
    else:
        before, after = found['base'], found['series']
        result.before = len(before)
        result.warnings = sorted(f'{file}: {text}' if file else text for file, text in after - before)
        result.state = 'warned' if result.warnings else 'clean'
    result.seconds = round(time.monotonic() - begun, 1)
    return result


def table(results):
    """A line a machine."""
    lines = [f'  {"machine":<12}{"state":<8}{"objects":>8}{"base warns":>12}{"new":>5}{"seconds":>9}  compiler']
    lines += [f'  {r.machine:<12}{r.state:<8}{r.objects:>8}{r.before:>12}{len(r.warnings):>5}{r.seconds:>9.1f}  '
              f'{r.compiler or "-"}' for r in results]
    return '\n'.join(lines)


def main():
    """make cross [ARCHS='arm64 m68k']; exit 1 unless all are clean."""
    names = common.setting('ARCHS', ' '.join(MACHINES)).replace(',', ' ').split()
    for name in names:
        if name not in MACHINES:
            raise common.Fail(f'ARCHS={name}: not one of {", ".join(MACHINES)}')
    results = []
    with common.lock():
        # As far from the builds as linux/ is from out/build: ccache sees relative paths.
        src = Path(tree.assemble(common.OUT / 'cross/linux'))
        sides = (('base', 'refs/heads/base'), ('series', 'refs/heads/lockstep'))
        for n, name in enumerate(names, 1):
            common.say(f'[{n}/{len(names)}] {name}')
            results.append(one(name, src, sides))
            for line in filter(None, (results[-1].error, *results[-1].warnings)):
                common.say(f'    {line}')
    common.write(common.OUT / 'cross/results.json',
                 json.dumps([dataclasses.asdict(r) for r in results], indent=1) + '\n')
    common.say(table(results))
    bad = sum(r.state != 'clean' for r in results)
    common.say(f'cross: {len(results) - bad} clean, {bad} not; {common.OUT / "cross/results.json"}')
    return 1 if bad else 0
