# SPDX-License-Identifier: GPL-2.0
"""models.py: what pan says and what follows, a canned text a case; then spin and gcc themselves
on models of a few lines; and the models of the repository as far as their headers go."""
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from rig import common, models
from rig import test as rig_test

PROVEN = '''Depth=      10 States=  1.8e+03 Transitions= 2.02e+03 Memory=   128.391

(Spin Version 6.5.2 -- 6 December 2019)
	+ Breadth-First Search
	+ Partial Order Reduction

Full statespace search for:
	never claim         	- (none specified)
	assertion violations	+
	cycle checks       	- (disabled by -DSAFETY)
	invalid end states	+

State-vector 60 byte, depth reached 43, errors: 0
    42637 states, stored
	    2172 nominal states (stored-atomic)

unreached in proctype cpu
	free_type.pml:141, state 70, "-end-"
	(1 of 70 states)

pan: elapsed time 0.1 seconds
'''
STOPPED = PROVEN.replace('2019)\n', '2019)\nWarning: Search not completed\n')
REFUTED = ('pan:1: assertion violated  !(misplaced) (at depth 8)\npan: wrote x.pml.trail\n'
           + STOPPED.replace('errors: 0', 'errors: 1'))

GOOD = '''/*
 * expect: BASE refuted lost, SERIES proven
 */
byte a, lost;
active proctype q()
{
	_nr_pr == 1;
	lost = 2 - a;
	assert(lost == 0)
}
active [2] proctype p()
{
	byte seen;
#ifdef BASE
	seen = a; a = seen + 1;
#elif defined(SERIES)
	atomic { seen = a; a = seen + 1 }
#endif
}
'''


class Verdict(unittest.TestCase):
    """pan's output."""

    def test_proven(self):
        self.assertEqual(models.verdict(PROVEN), 'proven')

    def test_refuted(self):
        """The search stops at the first error, which does not make it less of one."""
        self.assertEqual(models.verdict(REFUTED), 'refuted !(misplaced)')

    def test_cut(self):
        """Each with errors: 0, as pan prints it."""
        for text in (STOPPED, 'error: max search depth too small\n' + PROVEN,
                     'pan: reached -DMEMLIM bound\n' + PROVEN, 'pan: out of memory\n' + PROVEN,
                     PROVEN.replace('Full', 'Bit'), PROVEN.replace('Full statespace', 'Partial')):
            self.assertRegex(models.verdict(text), '^cut: ')

    def test_no_end(self):
        for text in ('', PROVEN.split('State-vector')[0], 'Segmentation fault\n'):
            self.assertEqual(models.verdict(text), 'broken: pan did not end')

    def test_other_error(self):
        self.assertEqual(models.verdict(REFUTED.replace('assertion violated  !(misplaced)',
                                                        'invalid end state')),
                         'broken: invalid end state')
        self.assertEqual(models.verdict(PROVEN.replace('errors: 0', 'errors: 1')),
                         'broken: 1 errors without a name')

    def test_vacuous(self):
        self.assertEqual(
            models.verdict(PROVEN.replace('state 70, "-end-"', 'state 9, "block = to"')),
            'vacuous: line 141 is never reached: block = to')

    def test_same(self):
        """By the expected name only when found and replayed assertion are about it."""
        def same(expression, expected, replayed='assert((a==listed))'):
            text = f'spin: text of failed {"assertion: " + replayed if replayed else ""}'
            return models.same(f'refuted {expression}', models.REPLAYED.search(text), expected)
        self.assertEqual(same('(a==listed)', 'refuted a'), 'refuted a')
        self.assertEqual(same('(a==listed)', 'refuted list'), 'refuted (a==listed)')
        self.assertEqual(same('(a==listed)', 'proven'), 'refuted (a==listed)')
        self.assertRegex(same('(b==listed)', 'refuted b'), '^broken: .*trail does not replay')
        self.assertRegex(same('(a==listed)', 'refuted a', ''), '^broken: .*trail does not replay')


class Case(unittest.TestCase):
    """A folder of models."""

    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.home = Path(holder.name).resolve()
        self.said = []
        for name, value in (('OUT', self.home / 'out'), ('ROOT', self.home),
                            ('say', self.said.append)):
            patcher = mock.patch.object(common, name, value)
            patcher.start()
            self.addCleanup(patcher.stop)
        (self.home / 'models').mkdir()

    def model(self, text, name='m'):
        """Write a model."""
        path = self.home / f'models/{name}.pml'
        path.write_text(text)
        return path

    def got(self, text):
        """What each variant came to."""
        self.model(text)
        return [s.got for s in models.check()]


class Expectations(Case):
    """The header."""

    def test_read(self):
        text = ('/* expect: BASE refuted x, SERIES proven */\n/*\n * expect: BASE+ONE refuted x,\n */\n'
                'BASE SERIES ONE x')
        self.assertEqual(models.expectations(self.model(text)),
                         {'BASE': 'refuted x', 'SERIES': 'proven', 'BASE+ONE': 'refuted x'})

    def refuses(self, header, why):
        with self.assertRaisesRegex(common.Fail, why):
            models.expectations(self.model(f'/*\n{header}\n */\nBASE SERIES x\n'))

    def test_refused(self):
        self.refuses(' * nothing', 'a proof and a refutation')
        self.refuses(' * expect: SERIES proven', 'a proof and a refutation')
        self.refuses(' * expect: BASE refuted x', 'a proof and a refutation')
        self.refuses(' * expect: BASE refuted', 'not "VARIANT proven".*"BASE refuted"')
        self.refuses(' * expect: base proven', 'not "VARIANT')
        self.refuses(' * expect: BASE proven SERIES proven', 'not "VARIANT')
        self.refuses(' * expect: BASE refuted x, BASE proven', 'expects BASE twice')
        self.refuses(' * expect: BASE refuted x, SERIES+TWO proven', 'no TWO in the model')
        self.refuses(' * expect: BASE refuted y, SERIES proven', 'no y in the model')

    def test_no_model(self):
        with self.assertRaisesRegex(common.Fail, 'no model in it'):
            models.check()

    def test_of_the_repository(self):
        """Each can be read, and README.md describes each."""
        home = Path(models.__file__).parent.parent / 'models'
        paths = list(home.glob('*.pml'))
        self.assertTrue(paths)
        for path in paths:
            self.assertIn('SERIES', models.expectations(path))
            self.assertIn(f'## {path.name}', (home / 'README.md').read_text())


class Search(Case):
    """spin, gcc and pan."""

    def test_as_expected(self):
        self.model(GOOD)
        self.assertEqual(models.main(), 0)
        self.assertIn('2 as expected, 0 not', self.said[-1])
        trail = (self.home / 'out/models/m.BASE.trail.txt').read_text()
        self.assertIn('text of failed assertion: assert((lost==0))', trail)
        self.assertFalse((self.home / 'out/models/m.SERIES.trail.txt').exists())
        # a trail of an earlier run does not stay
        self.assertEqual(self.got(GOOD.replace('seen = a; a', 'atomic { seen = a; a', 1)
                                  .replace('+ 1;', '+ 1 }', 1)), ['proven', 'proven'])
        self.assertFalse((self.home / 'out/models/m.BASE.trail.txt').exists())
        self.assertEqual(models.main(), 1)
        self.assertIn('NOT AS EXPECTED', ''.join(self.said))
        self.assertIn('1 as expected, 1 not', self.said[-1])

    def test_other_verdicts(self):
        self.assertEqual(self.got(GOOD.replace('	lost = 2', '	assert(a == 2); lost = 2')),
                         ['refuted (a==2)', 'proven'])
        self.assertEqual(self.got(GOOD.replace('#elif', 'false;\n#elif')),
                         ['broken: invalid end state', 'proven'])
        self.assertEqual(self.got(GOOD.replace('SERIES)', 'SERIES)\n	if :: a == 5 -> a = 0 :: else fi;'))[1],
                         'vacuous: line 17 is never reached: a = 0')

    def test_not_compiled(self):
        self.assertRegex(self.got(GOOD.replace('seen + 1;', 'seen + ;'))[0],
                         r'^broken: spin: exit 1: .*syntax error')
        self.assertRegex(self.got(GOOD.replace('#elif', '	c_code { nonsense(; };\n#elif'))[0],
                         '^broken: gcc: exit 1: .*error: ')

    def test_cut(self):
        """By memory, with errors: 0; and by time."""
        small = [w if 'MEMLIM' not in w else '-DMEMLIM=1' for w in models.GCC]
        with mock.patch.object(models, 'GCC', small):
            self.assertEqual(self.got(GOOD), ['cut: Search not completed'] * 2)
        with mock.patch.object(models, 'SECONDS', 1):
            with self.assertRaisesRegex(common.Fail, 'not done after 1 s'):
                models.tool('sleep', '20', cwd=self.home)

    def test_missing_program(self):
        with self.assertRaisesRegex(common.Fail, 'no-such-spin is missing'):
            models.tool('no-such-spin', cwd=self.home)

    def test_part_of_make_test(self):
        self.model(GOOD.replace('BASE refuted lost', 'BASE proven, OTHER refuted lost')
                   .replace('#ifdef BASE', '#if defined(BASE) || defined(OTHER)'))
        tally = rig_test.Tally()
        rig_test.modelled(tally)
        self.assertEqual((tally.passed, tally.failed),
                         (['model m OTHER', 'model m SERIES'], ['model m BASE']))


if __name__ == '__main__':
    unittest.main()
