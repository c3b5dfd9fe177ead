# SPDX-License-Identifier: GPL-2.0
"""make test: everything that CI checks. Each check counts; the last line is
"N passed, N failed", with ", N skipped" behind it when something was skipped."""
import json
import re
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from . import (bisect, build, common, export, fetch, lint, load, mail, maple, models, prove,
               session, tree, verdict, warn)

# No patch is begun after so many s of building, or of proving, nor after WHOLE s of everything;
# with the objects in ccache there is time for all. So they come last: what the tip does is always
# seen. LATELY, s: how far back what counts as changed lately reaches.
BUILDS, PROOFS, WHOLE = 15 * 60, 8 * 60, 70 * 60
LATELY = 6 * 3600
# Boots of the tip. The debug kernel runs every selftest on two CPUs; lockdep too, since
# it sees what debug cannot; production has nothing to verify and only has to boot.
BOOTS = (('debug', True), ('lockdep', True), ('production', False))


@dataclass
class Tally:
    """What passed, failed and was skipped, by name."""
    passed: list = field(default_factory=list)
    failed: list = field(default_factory=list)
    skipped: list = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def until(self, seconds):
        """When a part that may take so many s has to begin nothing any more, monotonic s."""
        return min(time.monotonic() + seconds, self.begun + WHOLE)

    def add(self, name, ok, why=''):
        """One check; a failure is printed as it comes."""
        (self.passed if ok else self.failed).append(name)
        if not ok:
            common.say(f'  FAIL {name}{": " + why if why else ""}')

    def skip(self, name, why):
        """One check that could not look; never counted as passed."""
        self.skipped.append(name)
        common.say(f'  SKIP {name}: {why}')

    def part(self, name, function):
        """Run a part; when it breaks off, that is one failure with its reason."""
        try:
            function(self)
        except common.Fail as e:
            self.add(name, False, str(e))
        except Exception:  # pylint: disable=broad-except
            self.add(name, False, traceback.format_exc())

    def line(self):
        """The closing line."""
        skipped = f', {len(self.skipped)} skipped' if self.skipped else ''
        return f'{len(self.passed)} passed, {len(self.failed)} failed{skipped}'


UNIT = '''
import json, sys, unittest
suite = unittest.defaultTestLoader.discover('rig/tests', top_level_dir='.')
class Result(unittest.TextTestResult):
    def __init__(self, *a, **k):
        super().__init__(*a, **k); self.good = []
    def addSuccess(self, test):
        super().addSuccess(test); self.good.append(test.id())
result = unittest.TextTestRunner(stream=sys.stderr, resultclass=Result).run(suite)
bad = [(t.id(), text.strip().splitlines()[-1]) for t, text in result.failures + result.errors]
bad += [(t.id(), 'passed, and was expected to fail') for t in result.unexpectedSuccesses]
json.dump({'good': result.good, 'bad': bad,
           'skipped': [(t.id(), why) for t, why in result.skipped]}, sys.stdout)
'''


def unit(tally):
    """The rig's own tests, in a process of their own."""
    log = common.OUT / 'test' / 'unit.log'
    log.parent.mkdir(parents=True, exist_ok=True)
    common.end_of(log)
    done = common.run([sys.executable, '-B', '-c', UNIT], cwd=common.ROOT, check=False)
    common.write(log, done.stdout)
    try:
        found = json.loads(re.search(r'\{"good".*\}', done.stdout)[0])
    except (TypeError, ValueError):
        raise common.Fail(f'the unit tests did not end, see {log}') from None
    for name in found['good']:
        tally.add(f'unit {name}', True)
    for name, why in found['bad']:
        tally.add(f'unit {name}', False, f'{why}, see {log}')
    for name, why in found['skipped']:
        tally.skip(f'unit {name}', why)


def linted(tally):
    """What needs no build."""
    for check, found in lint.findings_by_check().items():
        tally.add(f'lint {check}', not found, '\n    '.join(['', *found]))


def modelled(tally):
    """spin comes to the verdict that each model expects."""
    for search in models.check():
        tally.add(f'model {search.model} {search.variant}', search.ok,
                  f'expected {search.expected}, got {search.got}')


def mapled(tally):
    """The maple tree's tests in user space pass at the tip."""
    why = maple.check()
    tally.add('maple tree in user space', not why, why)


def round_trip(tally):
    """The series comes back from import and export as it is."""
    export.check()
    tally.add('make check', True)


def mailbox(tally):
    """git am takes the mbox and gives the tree of linux/; b4 am takes it, offline."""
    mail.mbox()
    box = common.OUT / f'mm-lockstep-{common.BASE}.mbox'
    want = common.git('rev-parse', 'refs/heads/lockstep^{tree}')
    total = len(tree.series())
    with tree.scratch(common.LINUX, 'refs/heads/base') as path:
        common.git(*tree.AM, box, cwd=path)
        got = common.git('rev-parse', 'HEAD^{tree}', cwd=path)
        tally.add('git am of the mbox', got == want, f'gives tree {got}')
    with tempfile.TemporaryDirectory(dir=common.OUT) as tmp:
        # A home of its own, so that b4 reads none of the user's settings; without a user
        # it dies, and attestation would look for keys in the network.
        settings = {'user.name': 'mm-lockstep', 'user.email': 'mm-lockstep@example.org',
                    'b4.attestation-policy': 'off'}
        env = {'HOME': tmp, 'XDG_CACHE_HOME': tmp, 'XDG_DATA_HOME': tmp,
               'GIT_CONFIG_COUNT': str(len(settings))}
        for n, (key, value) in enumerate(settings.items()):
            env |= {f'GIT_CONFIG_KEY_{n}': key, f'GIT_CONFIG_VALUE_{n}': value}
        done = common.run(['/usr/bin/b4', 'am', '-C', '-m', box, '-o', tmp], check=False,
                          cwd=tmp, env=env)
        taken = sum(p.read_text().count('\nSubject: [PATCH') for p in Path(tmp).glob('*.mbx'))
        tally.add('b4 am of the mbox', done.returncode == 0 and taken == total,
                  f'exit {done.returncode}, {taken} of {total} patches: {done.stdout.strip()[-300:]}')


def lately():
    """Ids of the patches whose files the last commits changed, those within LATELY of the
    newest; of all when this is no git checkout."""
    series = tree.series()
    try:
        since = int(common.git('log', '-1', '--format=%ct', cwd=common.ROOT)) - LATELY
        # Uncommitted work is the latest.
        names = common.git('log', f'--since={since}', '--format=', '--name-only', cwd=common.ROOT) \
            + '\n' + common.git('diff', '--name-only', 'HEAD', cwd=common.ROOT)
    except common.Fail:
        return [p.id for p in series]
    changed = set(names.split())
    return [p.id for p in series if str(p.path.relative_to(common.ROOT)) in changed]


def in_turn():
    """The patches to look at first, and the others."""
    first = set(lately())
    return ([p for p in tree.series() if p.id in first], [p for p in tree.series() if p.id not in first])


def patches(tally):
    """Each patch builds in each config without a warning its parent did not have: the ones
    that changed lately, then the others as far as time allows."""
    until = tally.until(BUILDS)
    for part in filter(None, in_turn()):
        for result in bisect.check_patches(part, ('debug', 'production'), until=until):
            name = f'build {result.config} {result.patch}'
            if result.state == bisect.LEFT_OUT:
                tally.skip(name, 'no time was left; make bisect builds all')
            else:
                tally.add(name, result.good, '; '.join(filter(None, (result.error, *result.warnings))))


def boots(tally):
    """The tip boots and its selftests and KUnit tests pass, in three configs."""
    tests_dir = build.selftests(common.LINUX, common.OUT / 'selftests' / 'tip')
    for config, with_tests in BOOTS:
        booted(tally, config, common.OUT / 'test' / config,
               tests_dir=tests_dir if with_tests else None)
        warned(tally, config)
        # One config is enough for the other machines.
        for extra in session.EXTRA if config == BOOTS[0][0] else ():
            booted(tally, config, common.OUT / 'test' / config / extra.name.replace(' ', '-'),
                   what=extra.name, tests_dir=tests_dir, tests=extra.tests, append=extra.append,
                   mem=extra.mem)


def warned(tally, config):
    """The tip built without a warning of a file, which the base has none of; of what was not
    compiled anew, as in a second run, the log says nothing."""
    log = build.folder_of(config).with_suffix('.log')
    text = log.read_text(errors='replace') if log.is_file() else ''
    found = sorted(': '.join(w) for w in warn.warnings(text, common.LINUX)
                   if '.' in w[0])
    tally.add(f'build {config} tip', bool(text) and not found, '; '.join(found) or f'no {log}')


def booted(tally, config, outdir, what='', tests='', **kw):
    """Boot, and count the boot and each test that was asked for."""
    name = f'{config}, {what}:' if what else config
    try:
        done = session.run(config, outdir, tests=tests, **kw)
    except common.Fail as e:
        tally.add(f'{name} boot', False, str(e))
        return
    common.say(verdict.table(done.verdict))
    tally.add(f'{name} boot', done.ok, f'see {outdir}')
    for program in done.verdict.tests:
        if tests and program.name not in tests.split(','):
            continue
        for leaf in program.leaves():
            if leaf.status == 'SKIP':
                tally.skip(f'{name} {leaf.name}', leaf.detail)
            else:
                tally.add(f'{name} {leaf.name}', leaf.status == 'PASS', leaf.detail)


def proofs(tally):
    """Each patch that names a selftest is proven by it: in the same order, as far as time
    allows."""
    until = tally.until(PROOFS)
    for part in in_turn():
        wanted = [p.id for p in part if prove.trailer(p.path.read_text(errors='replace'))]
        done = prove.prove(wanted, until=until) if wanted else []
        for proof in done:
            tally.add(f'prove {proof.patch}', proof.ok, proof.why)
        for name in wanted[len(done):]:
            tally.skip(f'prove {name}', 'no time was left; make prove proves all')


def loaded(tally):
    """The short load and the tests of the load."""
    for name, ok, why in [*load.short(), *load.itself()]:
        tally.skip(name, why) if ok is None else tally.add(name, ok, why)


PARTS = (('unit tests of the rig', unit), ('lint', linted), ('models', modelled), ('maple tree', mapled),
         ('import and export', round_trip), ('mailbox', mailbox),
         ('the tip boots and passes', boots), ('the load', loaded), ('each patch builds', patches),
         ('each patch is proven', proofs))


def main():
    """Run every part; a part that breaks off does not stop the next. Exit 1 on failures."""
    tally = Tally()
    stages = common.Stages('the base and the series', *(name for name, _ in PARTS))
    with common.lock():
        with stages.stage('the base and the series'):
            fetch.base_repo()
            tree.make_tree()
        for name, function in PARTS:
            with stages.stage(name):
                tally.part(name, function)
    common.say('')
    common.say(stages.table())
    if tally.failed:
        common.say('\nfailed:\n' + '\n'.join(f'  {name}' for name in tally.failed))
    common.say(tally.line())
    return 1 if tally.failed or not tally.passed else 0
