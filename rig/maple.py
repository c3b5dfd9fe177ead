# SPDX-License-Identifier: GPL-2.0
"""make maple: the maple tree's tests in user space, tools/testing/radix-tree/maple, which
compile lib/maple_tree.c and lib/test_maple_tree.c with the address sanitizer."""
import os
import re
import shutil
import tarfile
import tempfile

from . import common

HOME = 'tools/testing/radix-tree'
# What is compiled, and what it includes.
FILES = (HOME, 'tools/include', 'tools/lib', 'tools/arch/x86/include', 'include/linux',
         'include/trace', 'lib/maple_tree.c', 'lib/test_maple_tree.c', 'lib/radix-tree.c',
         'lib/idr.c', 'lib/xarray.c', 'lib/test_xarray.c')
# Of a patch that changes none of these the tests would say what they say of its parent.
TESTED = re.compile(r'(lib/(test_)?maple_tree\.c|include/(linux|trace/events)/maple_tree\.h'
                    rf'|{HOME}/.*)$')
SECONDS = 1800
COUNT = re.compile(r'^maple_tree: (\d+) of (\d+) tests passed$', re.M)


def concerns(commit, src):
    """Whether a commit of src changes what the tests look at."""
    names = common.git('diff', '--name-only', f'{commit}^', commit, cwd=src).splitlines()
    return any(TESTED.match(name) for name in names)


def verdict(code, tail):
    """Why the tests have not passed, of the program's exit and the end of what it printed,
    or ''."""
    found = COUNT.findall(tail)
    if code in (124, 137):
        return f'not done after {SECONDS} s'
    if code or 'runtime error:' in tail:
        return f'exit {code}: {(tail.strip().splitlines() or ["no output"])[-1]}'
    if not found:
        return 'does not say how many tests passed'
    passed, total = map(int, found[-1])
    if passed != total or not total:
        return f'{passed} of {total} tests passed'
    return ''


def unpack(commit, src, dest):
    """What is compiled, as it is in a commit of src, into the folder dest."""
    shutil.rmtree(dest, ignore_errors=True)
    dest.mkdir(parents=True)
    with tempfile.NamedTemporaryFile(suffix='.tar', dir=dest.parent) as tar:
        common.git('archive', '-o', tar.name, commit, '--', *FILES, cwd=src)
        with tarfile.open(tar.name) as archive:
            archive.extractall(dest)


def check(commit='refs/heads/lockstep', src=None, name='tip'):
    """Compile and run the tests as they are in a commit: why they have not passed, or ''.
    What they print is in out/maple/NAME.log."""
    dest, log = common.OUT / 'maple' / name, common.OUT / 'maple' / f'{name}.log'
    with common.lock('maple'):
        unpack(commit, src or common.LINUX, dest)
        with open(log, 'w+', encoding='utf-8', errors='replace') as out:
            done = common.run(['make', '-s', f'-j{os.cpu_count()}', 'maple'], cwd=dest / HOME, log=out,
                              check=False)
            if done.returncode:
                return f'does not compile, see {log}'
            done = common.run(['timeout', '-k', '5', SECONDS, './maple'], cwd=dest / HOME, log=out,
                              check=False)
            out.seek(0, os.SEEK_END)
            out.seek(max(0, out.tell() - 65536))
            why = verdict(done.returncode, out.read())
        shutil.rmtree(dest)
    return f'{why}, see {log}' if why else ''


def main():
    """make maple: the tip; exit 1 unless all tests pass."""
    why = check()
    common.say(why or 'maple tree: all tests passed')
    return 1 if why else 0
