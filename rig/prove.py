# SPDX-License-Identifier: GPL-2.0
"""make prove: a patch's own test fails, or cannot pass, on the parent kernel and passes
on the patched one. Both are built and booted. A KUnit test is part of the kernel: the parent
is built with the patch's version of the test's file."""
import json
import re
import time
from dataclasses import asdict, dataclass

from . import build, common, session, tree

SELFTESTS = 'tools/testing/selftests/'
TRAILER = re.compile(r'^Selftest: (?P<path>[\w./-]+)#(?P<test>[\w.-]+)$', re.M)


@dataclass
class Proof:
    """One patch: status of the named test before and after, and what follows."""
    patch: str
    test: str
    parent: str
    patched: str
    ok: bool
    why: str


def trailer(text):
    """(path, test) of a changelog's Selftest trailer, or None."""
    found = TRAILER.search(text)
    return (found['path'], found['test']) if found else None


def program_of(path):
    """The name under which the results of a test's file stand: a program, or a KUnit suite."""
    return re.sub(r'\.c$', '', path.rsplit('/', 1)[-1])


def named(tests, program, test):
    """The results of the named test: it may have several variants, and a program that
    died or was left out has none."""
    return [leaf for t in tests if t.name == program for leaf in t.leaves()
            if leaf.name.rsplit('.', 1)[-1] == test]


def status(done, program, test):
    """One word for all variants: PASS when each of them passed and there is one."""
    found = named(done.verdict.tests, program, test)
    if not found:
        return 'MISSING'
    for word in ('CRASH', 'ERROR', 'FAIL', 'SKIP'):
        if any(leaf.status == word for leaf in found):
            return word
    return 'PASS'


def judge(patch, test, parent, patched, clean):
    """The proof's verdict. clean: the patched kernel's run had no splat and ended."""
    if parent == 'PASS':
        return Proof(patch, test, parent, patched, False, 'passes on the parent: it proves nothing')
    if patched != 'PASS':
        return Proof(patch, test, parent, patched, False, 'does not pass on the patched kernel')
    if not clean:
        return Proof(patch, test, parent, patched, False, 'the patched kernel splatted or did not end')
    return Proof(patch, test, parent, patched, True, 'proven')


def check_out(src, commit, side, path):
    """Put src at the patch or at its parent, which gets the patch's file of a KUnit test."""
    common.git('checkout', '-q', '--force', '--detach', commit if side == 'patched' else f'{commit}^',
               cwd=src)
    if side == 'parent' and not path.startswith(SELFTESTS):
        common.git('checkout', '-q', commit, '--', path, cwd=src)


def one(commit, patch, path, test, tests_dir, src, config):
    """Build and boot both kernels of a patch."""
    seen, program = {}, program_of(path)
    kunit = not path.startswith(SELFTESTS)
    for side in ('parent', 'patched'):
        check_out(src, commit, side, path)
        common.say(f'  {side}: {common.git("log", "-1", "--format=%s", cwd=src)}')
        seen[side] = session.run(config, common.OUT / 'prove' / patch.id / side, src=src,
                                 obj=common.OUT / 'bisect/out/build' / config,
                                 tests_dir=None if kunit else tests_dir, tests=program, optional=True)
        common.say(f'    {program} {test}: {status(seen[side], program, test)}')
    after = seen['patched']
    return judge(patch.id, f'{program}#{test}', status(seen['parent'], program, test),
                 status(after, program, test), not after.verdict.counts['splats'] and after.boot.ended == 'exit')


def prove(wanted=None, config='debug', until=None):
    """Prove the patches whose ids are in `wanted`, or all: a list of Proof. until:
    time.monotonic() after which none is begun; those are left out of the list."""
    tree.make_tree()
    # bisect's tree and build folders: what one built, the other need not.
    src = tree.assemble(common.OUT / 'bisect/linux')
    commits = tree.series_commits(src)
    chosen = [(c, p) for c, p in commits if not wanted or p.id in wanted]
    tests_dir = build.selftests(common.LINUX, common.OUT / 'selftests' / 'tip')
    proofs = []
    for n, (commit, patch) in enumerate(chosen, 1):
        if until and time.monotonic() > until:
            break
        found = trailer(common.git('log', '-1', '--format=%B', commit, cwd=src))
        common.say(f'[{n}/{len(chosen)}] {patch.id}{"" if found else ": names no selftest"}')
        if found:
            proofs.append(one(commit, patch, *found, tests_dir, src, config))
    return proofs


def known(wanted):
    """Fail on a name that is no patch's, or of a patch that names no test."""
    patches = {patch.id: patch for patch in tree.series()}
    for name in wanted:
        if name not in patches:
            raise common.Fail(f'PATCH={name}: not in the series; the patches are {", ".join(patches)}')
        if not trailer(patches[name].path.read_text(errors='replace')):
            raise common.Fail(f'PATCH={name}: its changelog names no selftest, see the line '
                              '"No selftest:" there')


def table(proofs):
    """Text table of proofs."""
    rows = [f'  {"patch":<36}{"test":<48}{"parent":<9}{"patched":<9}verdict']
    rows += [f'  {p.patch:<36}{p.test:<48}{p.parent:<9}{p.patched:<9}{p.why}' for p in proofs]
    return '\n'.join(rows)


def main():
    """Settings: PATCH=topic/name[,topic/name] or all, CONFIG. Exit 1 unless all are proven."""
    wanted = [w for w in common.setting('PATCH', '').split(',') if w]
    config = common.setting('CONFIG', 'debug')
    build.fragments(config)
    known(wanted)
    with common.lock():
        proofs = prove(wanted, config)
    common.write(common.OUT / 'prove' / 'prove.json',
                 json.dumps([asdict(p) for p in proofs], indent=1) + '\n')
    common.say(table(proofs))
    bad = sum(not p.ok for p in proofs)
    common.say(f'{len(proofs) - bad} proven, {bad} not')
    return 1 if bad or not proofs else 0
