# SPDX-License-Identifier: GPL-2.0
"""make models: spin searches every models/*.pml in each of its variants. What a model
expects stands in its header, see models/README.md; a search that was cut proves nothing."""
import re
import shutil
import time
from dataclasses import dataclass

from . import common

EXPECT = re.compile(r'\bexpect: *(.*?),? *(?:\*/)?$', re.M)
WANTED = re.compile(r'(?P<variant>[A-Z]\w*(?:\+[A-Z]\w*)*) (?P<verdict>proven|refuted \w+)')
MEGABYTES, SECONDS = 2048, 300      # a search, and each program, may take
# Breadth first: the trail of a refutation is the shortest there is.
GCC = ('gcc', '-w', '-DBFS', '-DSAFETY', f'-DMEMLIM={MEGABYTES}', '-o', 'pan', 'pan.c')

# What pan says, with "errors: 0" and exit status 0, when it did not look everywhere.
CUT = ('Search not completed', 'max search depth too small', 'reached -DMEMLIM bound',
       'out of memory', 'Bit statespace search', 'Hash-Compact')
END = re.compile(r'^State-vector \d+ byte, depth reached \d+.*, errors: (\d+)$', re.M)
ERROR = re.compile(r'^pan:\d+: (.*?) \(at depth \d+\)$', re.M)
STORED = re.compile(r'^ *([\d.e+]+) states, stored', re.M)
UNREACHED = re.compile(r'^\t\S+?:(\d+), state \d+, "(?!-end-")(.*)"$', re.M)
REPLAYED = re.compile(r'^spin: text of failed assertion: assert\((.*)\)$', re.M)


@dataclass
class Search:
    """One model in one variant: the verdict that its header expects and the one got."""
    model: str
    variant: str
    expected: str
    got: str = ''
    states: int = 0
    seconds: float = 0.0

    @property
    def ok(self):
        """Whether they are the same."""
        return self.got == self.expected


def expectations(path):
    """{variant: expected verdict} of a model's header. Fail: a line that cannot be read, a
    variant twice or of a word that the model does not use, no proof or no refutation."""
    text, found = path.read_text(), {}
    used = set(re.findall(r'\w+', EXPECT.sub('', text)))
    for part in (p.strip() for line in EXPECT.findall(text) for p in line.split(',')):
        match = WANTED.fullmatch(part)
        if not match:
            raise common.Fail(f'{path.name}: not "VARIANT proven" or "VARIANT refuted assertion": '
                              f'"{part}"')
        variant = match['variant']
        if variant in found:
            raise common.Fail(f'{path.name}: expects {variant} twice')
        for word in (*variant.split('+'), match['verdict'].split()[-1]):
            if word not in used | {'proven'}:
                raise common.Fail(f'{path.name}: expects {part}: no {word} in the model')
        found[variant] = match['verdict']
    if len({verdict.split()[0] for verdict in found.values()}) != 2:
        raise common.Fail(f'{path.name}: must expect a proof and a refutation: a check that cannot '
                          'fail shows nothing')
    return found


def verdict(out):
    """What pan's output comes to: 'proven', 'refuted EXPRESSION', or why it is neither."""
    end, error = END.search(out), ERROR.search(out)
    if not end:
        return 'broken: pan did not end'
    if error:
        kind, _, expression = error[1].partition('assertion violated')
        return f'refuted {expression.strip()}' if not kind else f'broken: {error[1]}'
    cut = next((words for words in CUT if words in out), None)
    if cut or 'Full statespace search' not in out:
        return f'cut: {cut or "not a full search"}'
    if end[1] != '0':
        return f'broken: {end[1]} errors without a name'
    unreached = UNREACHED.search(out)
    if unreached:
        return f'vacuous: line {unreached[1]} is never reached: {unreached[2]}'
    return 'proven'


def names(expression):
    """The words of an assertion's expression."""
    return re.findall(r'[A-Za-z_]\w*', expression)


def tool(*cmd, cwd, check=True):
    """A program's output. Fail: not there, too slow, or (check) a bad exit."""
    done = common.run(['timeout', '-k', '5', SECONDS, *cmd], cwd=cwd, check=False)
    if done.returncode == 127:
        raise common.Fail(f'{cmd[0]} is missing: apt-get install {cmd[0]}')
    if done.returncode in (124, 137):
        raise common.Fail(f'{cmd[0]}: not done after {SECONDS} s')
    if check and done.returncode:
        why = re.search(r'^.*\b(?:Error|error):? .*$', done.stdout, re.M)
        raise common.Fail(f'{cmd[0]}: exit {done.returncode}: '
                          f'{why[0] if why else done.stdout.strip()[-200:]}')
    return done.stdout


def search(path, variant, expected, home):
    """Search one variant in a folder of its own below `home`; a refutation's trail is
    replayed to home/MODEL.VARIANT.trail.txt and must end in the same assertion."""
    found, begun = Search(path.stem, variant, expected), time.monotonic()
    folder, trail = home / path.stem / variant, home / f'{path.stem}.{variant}.trail.txt'
    shutil.rmtree(folder, ignore_errors=True)
    common.end_of(trail)
    folder.mkdir(parents=True)
    shutil.copy(path, folder)
    defines = [f'-D{word}' for word in variant.split('+')]
    try:
        tool('spin', '-a', *defines, path.name, cwd=folder)
        tool(*GCC, cwd=folder)
        out = tool('./pan', cwd=folder, check=False)
        common.write(folder / 'pan.txt', out)
        found.got = verdict(out)
        stored = STORED.search(out)
        found.states = int(float(stored[1])) if stored else 0
        if found.got.startswith('refuted '):
            replay = tool('spin', '-t', '-p', '-g', '-l', *defines, path.name, cwd=folder, check=False)
            common.write(trail, replay)
            found.got = same(found.got, REPLAYED.search(replay), expected)
    except common.Fail as e:
        found.got = f'broken: {e}'
    found.seconds = time.monotonic() - begun
    return found


def same(got, replayed, expected):
    """The verdict of a refutation: by the name that was expected when the assertion, found
    and replayed, is about it."""
    if not replayed or names(replayed[1]) != names(got.partition(' ')[2]):
        return f'broken: {got}, and its trail does not replay'
    return expected if expected.split()[-1] in names(replayed[1]) else got


def check(folder=None, home=None):
    """Search every model of a folder in every variant: [Search], told as they come."""
    folder, home = folder or common.ROOT / 'models', home or common.OUT / 'models'
    paths = sorted(folder.glob('*.pml'))
    if not paths:
        raise common.Fail(f'{folder}: no model in it')
    plan = [(path, *item) for path in paths for item in expectations(path).items()]
    with common.lock('models'):
        common.say(HEAD)
        found = []
        for path, variant, expected in plan:
            found.append(search(path, variant, expected, home))
            common.say(line(found[-1]))
    return found


HEAD = f'  {"model":<18}{"variant":<28}{"expected":<24}{"got":<24}{"states":>8}{"seconds":>9}'


def line(s):
    """A search as a line of the table."""
    return (f'  {s.model:<18}{s.variant:<28}{s.expected:<24}{s.got:<24}{s.states:>8}'
            f'{s.seconds:>9.1f}{"" if s.ok else "  NOT AS EXPECTED"}')


def main():
    """make models: exit 1 unless every verdict is as expected."""
    found = check()
    bad = sum(not s.ok for s in found)
    common.say(f'{len(found) - bad} as expected, {bad} not; trails in {common.OUT / "models"}')
    return 1 if bad else 0
