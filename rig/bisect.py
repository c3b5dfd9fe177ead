# SPDX-License-Identifier: GPL-2.0
"""make bisect: every patch of the series must build, warn of nothing new, and boot."""
import dataclasses
import json
import re
import time

from . import build, common, maple, tree, warn

CONFIGS = 'debug production'
COMPILED = re.compile(r'^  (?:CC|AS) +(\S+\.o)$', re.M)


@dataclasses.dataclass
class Result:
    """One patch in one config. state: built, warned (something that its parent did not
    warn of), failed, or left out for want of time. unchecked: touched objects that this config does not build.
    boot: '' (not asked for), passed, failed, or why there was none. maple: the same, of the
    maple tree's tests in user space, for a patch that they concern."""
    patch: str
    config: str
    state: str = 'built'
    error: str = ''
    warnings: list = dataclasses.field(default_factory=list)
    checked: int = 0
    unchecked: list = dataclasses.field(default_factory=list)
    boot: str = ''
    maple: str = ''
    seconds: float = 0
    log: str = ''

    @property
    def good(self):
        """Whether nothing is to be said against the patch."""
        return (self.state == 'built' and not self.boot.startswith('failed')
                and not self.maple.startswith('failed'))


def select(patches, first=None, last=None):
    """The patches from FROM= to TO=, each a topic/name or a number from 1."""
    def index(name, value, default):
        if not value:
            return default
        ids = [p.id for p in patches]
        value = value.removesuffix('.patch')
        if value in ids:
            return ids.index(value)
        if value.isdigit() and 1 <= int(value) <= len(patches):
            return int(value) - 1
        raise common.Fail(f'{name}={value}: neither topic/name of a patch in the series nor a '
                          f'number from 1 to {len(patches)}')
    if not patches:
        raise common.Fail('the series is empty: no patch to build')
    begin = index('FROM', first, 0)
    end = index('TO', last, len(patches) - 1)
    if end < begin:
        raise common.Fail(f'TO={last} stands before FROM={first}')
    return patches[begin:end + 1]


def checkout(src, commit):
    """Put src at a commit; files that are the same keep their time."""
    common.git('checkout', '-q', '--detach', '--force', commit, cwd=src)


def full_build(config, src, obj, log):
    """Build a kernel where symbols of later patches may be unknown: (image or None, error,
    warnings of what was compiled)."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        image, error = build.kernel_image(config, src, obj, log, optional=True), ''
    except common.Fail as e:
        image, error = None, str(e)
    text = log.read_text(errors='replace') if log.is_file() else ''
    return image, error, warn.warnings(text, src)


class Walk:
    """One config's way through the series. The source is out/bisect/linux and the builds are
    in out/bisect/out/build/: as far apart as linux/ and out/build/, so that ccache, which
    sees relative paths, serves both."""

    def __init__(self, config, src, boot):
        self.config, self.src, self.boot = config, src, boot
        self.top = common.OUT / 'bisect'
        self.obj, self.w1 = (self.top / 'out' / kind / config for kind in ('build', 'w1'))
        self.at, self.error = None, ''

    def build(self, commit, name):
        """Check a commit out and build it: (image or None, error, warnings, log)."""
        checkout(self.src, commit)
        log = self.top / 'logs' / f'{name}-{self.config}.log'
        image, self.error, found = full_build(self.config, self.src, self.obj, log)
        self.at = commit
        return image, self.error, found, log

    def step(self, commit, patch):
        """Build one patch on its parent; returns its Result."""
        begun = time.monotonic()
        name = patch.replace('/', '-')
        parent = common.git('rev-parse', f'{commit}^', cwd=self.src)
        if self.at != parent:
            self.build(parent, 'parent')
        parent_error = self.error
        before, _, _ = self.strict(commit)
        image, error, found, log = self.build(commit, name)
        result = Result(patch, self.config, log=str(log))
        if image:
            after, error, absent = self.strict(commit)
            if after is not None:
                result.unchecked = absent
                result.checked = len(self.objects(commit)) - len(absent)
                new = self.new(parent, commit, name, found, log) | (after - (before or set()))
                result.warnings = sorted(f'{file}: {text}' if file else text for file, text in new)
                if before is None:
                    error = 'its parent does not compile with W=1, so every warning counts as new'
        result.state = 'failed' if not image or after is None else 'warned' if result.warnings else 'built'
        result.error = error + (' (nor does the parent build)' if error and parent_error else '')
        if image and self.boot:
            result.boot = self.boot(self.config, image, self.src, self.obj, f'{name}-{self.config}')
        result.seconds = round(time.monotonic() - begun, 1)
        return result

    def new(self, parent, commit, name, found, log):
        """Of the warnings in a full build's log, those that the parent lacks. The build was
        incremental, so what the parent says of the same objects is looked at on purpose."""
        if not found:
            return found
        objects = COMPILED.findall(log.read_text(errors='replace'))
        for at, what in ((parent, 'before'), (commit, 'after')):
            for path in objects:
                (self.obj / path).unlink(missing_ok=True)
            _, _, again, _ = self.build(at, f'{name}-{what}')
            if at == parent:
                found = found - again
        return found

    def objects(self, commit):
        """The objects that a commit touches, as far as what is built now tells."""
        return build.touched_objects(commit, self.src, self.obj)

    def strict(self, commit):
        """(W=1 and sparse warnings of the objects the commit touches at what is checked out,
        error, objects not built in this config); the warnings are None when one fails."""
        try:
            found, absent = build.w1(self.objects(commit), self.config, self.src, self.w1, self.obj,
                                     optional=True)
        except common.Fail as e:
            return None, str(e), []
        return found, '', absent


def boot_patch(config, kernel, src, obj, name):
    """Boot a kernel with the selftests of its own source; what came of it in a few words."""
    from . import session
    top, tests = common.OUT / 'bisect', None
    try:
        if (src / 'tools/testing/selftests/mm/Makefile').is_file():
            tests = build.selftests(src, top / 'tests', obj=top / 'out/build/selftests')
        done = session.start(config, kernel, top / 'boots' / name, src=src, obj=obj, tests_dir=tests)
    except common.Fail as e:
        return f'failed: {e}'
    if not done.ok:
        return f'failed: {done.verdict.reasons[0]}'
    return 'passed' if tests else 'passed, no selftests yet'


LEFT_OUT = 'left out'


def mapled(src, commit, patch):
    """What the maple tree's tests say of a patch in a few words."""
    if not maple.concerns(commit, src):
        return ''
    why = maple.check(commit, src, patch.replace('/', '-'))
    return f'failed: {why}' if why else 'passed'


def check_patches(patches, configs, boot=False, until=None, trees=False):
    """Build patches (of tree.series(), in order) in each config, one config after the other,
    and compare the warnings of each with its parent's. Returns list[Result]; raises only
    when it cannot look at all. boot: also boot each that builds; until: time.monotonic()
    after which none is begun, those are `left out`. trees: run the maple tree's tests too,
    once a patch that they concern."""
    src = common.OUT / 'bisect/linux'
    for config in configs:
        build.fragments(config)
    tree.assemble(src)
    commits = {patch.id: commit for commit, patch in tree.series_commits(src)}
    results = []
    for number, config in enumerate(configs):
        walk = Walk(config, src, boot_patch if boot else None)
        for n, patch in enumerate(patches):
            done, total = number * len(patches) + n + 1, len(configs) * len(patches)
            if until and time.monotonic() > until:
                results.append(Result(patch.id, config, LEFT_OUT))
                continue
            common.say(f'[{done}/{total}] {config}: {patch.id}')
            results.append(walk.step(commits[patch.id], patch.id))
            if trees and not number:
                results[-1].maple = mapled(src, commits[patch.id], patch.id)
            show(results[-1])
    return results


def show(result):
    """The findings on one patch, indented."""
    for line in filter(None, (result.error, *result.warnings, result.maple and f'maple tree: {result.maple}')):
        common.say(f'    {line}')
    for name in result.unchecked:
        common.say(f'    {name}: not built in this config')


def table(results):
    """A line a patch and config."""
    width = max(len(r.patch) for r in results)
    lines = [f'  {"patch":<{width}}  {"config":<12}{"state":<8}{"W=1":>4}  {"seconds":>7}  boot']
    lines += [f'  {r.patch:<{width}}  {r.config:<12}{r.state:<8}{r.checked:>4}  {r.seconds:>7.1f}  '
              f'{r.boot or "-"}' for r in results]
    return '\n'.join(lines)


def main():
    """make bisect [CONFIG='debug production'] [FROM=] [TO=] [BOOT=1]; exit 1 unless all are good."""
    configs = common.setting('CONFIG', CONFIGS).replace(',', ' ').split()
    boot = common.setting('BOOT', '0', ('0', '1')) == '1'
    patches = select(tree.series(), common.setting('FROM'), common.setting('TO'))
    with common.lock():
        results = check_patches(patches, configs, boot, trees=True)
    common.write(common.OUT / 'bisect/results.json',
                 json.dumps([dataclasses.asdict(r) for r in results], indent=1) + '\n')
    common.say(table(results))
    bad = sum(not r.good for r in results)
    states = [sum(r.state == s for r in results) for s in ('built', 'warned', 'failed')]
    booted = f', {sum(r.boot.startswith("passed") for r in results)} booted' if boot else ''
    common.say('bisect: {} built, {} warned, {} failed{}; {}'.format(
        *states, booted, common.OUT / 'bisect/results.json'))
    return 1 if bad else 0
