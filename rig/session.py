# SPDX-License-Identifier: GPL-2.0
"""One kernel with one set of tests: build both, boot, judge. Every command that boots
tests does it through here, so that they mean the same."""
import re
from dataclasses import dataclass
from pathlib import Path

from . import boot, build, common, image, splat, verdict
from .arch import NATIVE

# A CMA area, so that its free lists and its counter are not empty.
APPEND = 'cma=64M'
# What a test needs of the machine in every boot that is for it alone, or for it and others
# that need the same.
NEEDS = {'memcg_huge': 'numa=fake=2', 'memcg_nodes': 'numa=fake=2'}
# What the selftests bring with them: free_list_offline and free_list_all try to take memory
# offline of which they do not know whether it can go. It looks at each page with a reference
# (do_migrate_range), which whoever frees contiguous memory there at that moment warns of. Both
# go up the page frames, so they may meet at several; a range that is really in use is more.
EXPECTED = (splat.Allow(re.compile('page dumped because: unmovable page'),
                        'memory that cannot go offline says so', 'without these tests'),
            splat.Allow(re.compile(r'free_contig_range\S* \([1-9] pages are still in use'),
                        'memory that is going offline held a reference for a moment',
                        'without free_list_all'))
# Guest seconds, before the accelerator's factor.
LIMIT, SILENCE = 300, 60


@dataclass
class Extra:
    """A boot besides the one with all tests: what it is called, its comma list of tests, what
    is appended to the command line, and its memory."""
    name: str
    tests: str
    append: str = ''
    mem: str = '1G'


EXTRA = (
    # The tests that take memory offline want it all in one node.
    Extra('two nodes', 'memcg_huge,memcg_nodes'),
    # As the series of 2020 was booted when it crashed first: one lruvec a node.
    Extra('no memcg', 'verify_lru,verify_list_lru,lru_all', 'cgroup_disable=memory', '700M'),
)


@dataclass
class Session:
    """What was booted and what came of it."""
    config: str
    outdir: Path
    boot: boot.Boot
    verdict: verdict.Verdict

    @property
    def ok(self):
        """All three verdicts are good and nothing splatted."""
        return self.verdict.ok


def has_kunit(obj):
    """Does the built config run KUnit tests at boot?"""
    return 'CONFIG_KUNIT=y' in (Path(obj) / '.config').read_text().splitlines()


def needs(tests):
    """What a boot for this comma list of tests needs on the command line."""
    each = {NEEDS.get(name, '') for name in tests.split(',')}
    return each.pop() if len(each) == 1 else ''


def start(config, kernel, outdir, *, src=None, obj=None, tests_dir=None, tests='', smp=None,
          mem=None, append='', oom_ok=False, arch=NATIVE):
    """Boot `kernel` with the installed selftests of tests_dir, or without any, and judge.

    src: the tree the kernel was built from; obj: its build folder. tests: comma list of
    programs, '' for all. Without tests_dir the guest only has to boot, run a program
    and power off. Returns Session; what the guest said is in outdir."""
    src, obj = Path(src or common.LINUX), Path(obj or build.folder_of(config, arch))
    outdir = Path(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    common.end_of(outdir / 'verdict.json')
    trees = {'/lockstep/mm': tests_dir / 'mm'} if tests_dir else {}
    initrd = image.make_image(outdir / 'guest.cpio', tree_dirs=trees, arch=arch)
    if arch == NATIVE:
        append = f'{needs(tests)} {append}'.strip()
    how = {'mode': 'test', 'tests': tests} if tests_dir else {
        'mode': 'exec', 'exec_path': '/bin/true'}
    # The balloon, so that free pages are reported to somebody.
    done = boot.boot(kernel, initrd, outdir, balloon=True, smp=smp or common.count('SMP', 2),
                     mem=mem or common.setting('MEM', '1G'), limit=LIMIT, silence=SILENCE,
                     append=' '.join(filter(None, (APPEND, append, common.setting('APPEND', '')))),
                     arch=arch, **how)
    return Session(config, outdir, done, verdict.judge(
        outdir, qemu_exit=done.qemu_exit, ended=done.ended, console=done.console,
        results=done.results, nonce=done.nonce, tree=src, vmlinux=obj / 'vmlinux',
        expect='test' if tests_dir else 'exec', oom_ok=oom_ok, kunit=has_kunit(obj),
        allow=[*splat.load_allow(tree=src), *(EXPECTED if tests_dir else ())]))


def run(config, outdir, *, src=None, obj=None, tests_dir=None, optional=False, **kw):
    """Build the kernel of `config` from src into obj, then start() it."""
    obj = Path(obj or common.OUT / 'build' / config)
    kernel = build.kernel_image(config, src=src, obj=obj, optional=optional)
    return start(config, kernel, outdir, src=src, obj=obj, tests_dir=tests_dir, **kw)
