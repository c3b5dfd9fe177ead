# SPDX-License-Identifier: GPL-2.0
"""bench.py: what it reads, compares and refuses; no kernel and no QEMU."""
import contextlib
import io
import json
import os
import re
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

from rig import bench, boot, build, common, image, tree

GOOD = '''mm-lockstep-bench 1
clocksource tsc
calibration 200000 200004
source zap zap_pte_range()
row zap page 1000 400.000 400.500 pgfault=0 pgalloc=2 pgfree=1000
source split __split_vma()
row split call 100 9000.000 9010.000 pgfault=0 pgalloc~15 pgfree~-1
end 2
'''


def row(median=100.0, ops=1000, unit='page', **events):
    """A Row with pgfault=0 unless given."""
    return bench.Row(unit, ops, median, median, {'pgfault': 0, **events})


def result(**rows):
    """A Result with these rows."""
    return bench.Result(rows)


def figure(median, spread=0.0, **kw):
    """A Figure."""
    return bench.Figure(median, spread, row(median, **kw))


class Parse(unittest.TestCase):
    """The guest's lines."""

    def test_good(self):
        got = bench.parse(GOOD.replace('\n', '\r\n'))
        self.assertEqual(list(got.rows), ['zap', 'split'])
        self.assertEqual(got.rows['zap'], bench.Row(
            'page', 1000, 400.0, 400.5, {'pgfault': 0, 'pgalloc': 2, 'pgfree': 1000}, {},
            'zap_pte_range()'))
        self.assertEqual(got.rows['split'].events, {'pgfault': 0})
        self.assertEqual(got.rows['split'].noted, {'pgalloc': 15, 'pgfree': -1})
        self.assertEqual(got.clocksource, 'tsc')

    def refuses(self, text, why):
        with self.assertRaisesRegex(common.Fail, why):
            bench.parse(text)

    def test_least_above_median(self):
        """Both have a fixed part subtracted, each its own."""
        self.assertEqual(bench.parse(GOOD.replace('400.000', '400.600')).rows['zap'].least, 400.6)

    def test_refused_row_counts_for_the_end(self):
        got = bench.parse(GOOD.replace('end 2', 'refused deep the list is too long\nend 3'))
        self.assertEqual(got.refused, {'deep': 'the list is too long'})

    def test_empty_or_foreign(self):
        self.refuses('', 'did not run')
        self.refuses('TAP version 13\n' + GOOD, 'did not run')

    def test_calibration(self):
        self.refuses(GOOD.replace('200004', '200201'), 'calibration off.*200201')
        self.refuses(GOOD.replace('200004', '199799'), 'calibration off')
        self.refuses(GOOD.replace('calibration 200000 200004\n', ''), 'no calibration line')
        bench.parse(GOOD.replace('200004', '200200'))

    def test_error_line(self):
        self.refuses('mm-lockstep-bench 1\nerror mmap: Cannot allocate memory\n',
                     'stopped: mmap: Cannot allocate memory')

    def test_cut_off(self):
        self.refuses(GOOD.replace('end 2\n', ''), 'cut off after 2 rows')
        self.refuses(GOOD.replace('end 2', 'end 3'), 'cut off after 2 rows')
        self.refuses(GOOD + 'row late page 1 1 1\n', 'no line of a benchmark')

    def test_broken_lines(self):
        for old, new in (('400.000 400.500', '400.000'), ('400.000', 'nan'), ('400.000', '-4'),
                         ('400.500', 'inf'), ('row zap page 1000', 'row zap page 0'),
                         ('pgalloc=2', 'pgalloc'), ('pgalloc=2', 'pgalloc=x'), ('row split', 'row zap'),
                         ('source zap', 'noise zap'), ('200000 200004', '200000')):
            with self.subTest(new):
                self.refuses(GOOD.replace(old, new, 1), 'no line of a benchmark')


class Settings(unittest.TestCase):
    """thresholds, ROWS and PEER."""

    def setUp(self):
        self.dir = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.dict(os.environ))
        for name in ('ROWS', 'PEER'):
            os.environ.pop(name, None)

    def test_thresholds(self):
        path = self.dir / 'thresholds'
        path.write_text('# why\nzap  1.02\n\nsplit 0.98  # must gain\n')
        self.assertEqual(bench.thresholds(path), {'zap': 1.02, 'split': 0.98})
        for text in ('zap\n', 'zap x\n', 'zap 1 2\n', 'zap 1\nzap 1\n', 'zap nan\n', 'zap 0\n'):
            path.write_text(text)
            with self.subTest(text), self.assertRaisesRegex(common.Fail, r'thresholds:\d'):
                bench.thresholds(path)
        path.write_text('# nothing\n')
        with self.assertRaisesRegex(common.Fail, 'no row'):
            bench.thresholds(path)

    def test_repository_lists_every_row_of_the_program(self):
        text = (common.ROOT / 'bench/rows.c').read_text()
        names = re.findall(r'\.name = "(\w+)"', text)
        self.assertGreater(len(names), 11)
        self.assertEqual(sorted(names), sorted(bench.thresholds()))

    def test_every_config_has_limits_for_every_row(self):
        for config in bench.CONFIGS:
            os.environ['CONFIG'] = config
            self.addCleanup(os.environ.pop, 'CONFIG', None)
            self.assertEqual(list(bench.thresholds(bench.chosen()[1])), list(bench.thresholds()))
        os.environ['CONFIG'] = 'debug'
        with self.assertRaisesRegex(common.Fail, 'make bench measures production or'):
            bench.chosen()

    def test_rows(self):
        known = {'zap': 1, 'split': 1}
        self.assertEqual(bench.selected(known), ['zap', 'split'])
        os.environ['ROWS'] = 'split,split'
        self.assertEqual(bench.selected(known), ['split'])
        os.environ['ROWS'] = 'split,merge'
        with self.assertRaisesRegex(common.Fail, 'no row merge; rows are zap, split'):
            bench.selected(known)
        os.environ['ROWS'] = ','
        with self.assertRaisesRegex(common.Fail, 'names no row'):
            bench.selected(known)

    def test_peer(self):
        self.assertIsNone(bench.peer())
        path = self.dir / 'bzImage'
        os.environ['PEER'] = str(path)
        with self.assertRaisesRegex(common.Fail, 'PEER=.*no such file'):
            bench.peer()
        path.write_bytes(b'\x7fELF' + bytes(2000))
        with self.assertRaisesRegex(common.Fail, 'not a bzImage'):
            bench.peer()
        path.write_bytes(b'short')
        with self.assertRaisesRegex(common.Fail, 'not a bzImage'):
            bench.peer()
        path.write_bytes(bytes(0x1fe) + b'\x55\xaa\x00\x00HdrS' + bytes(100))
        self.assertEqual(bench.peer(), path.resolve())
        os.environ['PEER'] = str(self.dir)
        with self.assertRaisesRegex(common.Fail, 'no such file'):
            bench.peer()


class Figures(unittest.TestCase):
    """The boots of one kernel."""

    def test_mean_and_spread(self):
        found, wrong = bench.figures([result(zap=row(100)), result(zap=row(100.2))], ['zap'], 'base')
        self.assertEqual(wrong, [])
        self.assertAlmostEqual(found['zap'].value, 100.1)
        self.assertAlmostEqual(found['zap'].spread, 0.2 / 100.1)

    def test_boots_too_far_apart(self):
        boots = [result(zap=row(100)), result(zap=row(100.6))]
        self.assertRegex(bench.figures(boots, ['zap'], 'base')[1][0], 'zap: base: boots are 0.60%')

    def test_missing_row(self):
        boots = [result(zap=row()), result()]
        found, wrong = bench.figures(boots, ['zap'], 'series')
        self.assertEqual((found, wrong), ({}, ['zap: series: missing in the results']))

    def test_refused_row(self):
        boots = [bench.Result({}, {'zap': 'no file'}), result(zap=row())]
        self.assertEqual(bench.figures(boots, ['zap'], 'base'),
                         ({}, ['zap: base: refused: no file']))
        self.assertEqual(bench.figures(boots, ['zap'], 'peer', tolerant=True), ({}, []))

    def test_boots_with_different_work(self):
        boots = [result(zap=row(pgfree=1000)), result(zap=row(pgfree=900))]
        found, wrong = bench.figures(boots, ['zap'], 'base')
        self.assertEqual(found, {})
        self.assertIn('different work: pgfree 1.000 against 0.900', wrong[0])


class Compare(unittest.TestCase):
    """Base against series."""

    def test_ratio_and_limit(self):
        base, series = {'a': figure(100), 'b': figure(100)}, {'a': figure(101), 'b': figure(103)}
        ratios, wrong = bench.compare(base, series, {'a': 1.02, 'b': 1.02}, ['a', 'b'])
        self.assertEqual(ratios, {'a': 1.01, 'b': 1.03})
        self.assertEqual(wrong, ['b: 1.0300 of the base, limit 1.0200'])

    def test_judged_as_printed(self):
        base, series = {'a': figure(27167.7), 'b': figure(10000)}, \
            {'a': figure(27168.1), 'b': figure(10001)}
        wrong = bench.compare(base, series, {'a': 1.0, 'b': 1.0}, ['a', 'b'])[1]
        self.assertEqual(wrong, ['b: 1.0001 of the base, limit 1.0000'])

    def test_row_without_limit(self):
        wrong = bench.compare({'a': figure(1)}, {'a': figure(1)}, {}, ['a'])[1]
        self.assertEqual(wrong, ['a: no limit in bench/thresholds'])

    def test_unequal_work(self):
        for other in ({'pgfault': 11}, {'ops': 999}, {'unit': 'call'}, {'pgfree': 3}):
            with self.subTest(other):
                ratios, wrong = bench.compare({'a': figure(100)}, {'a': figure(90, **other)},
                                              {'a': 1.02}, ['a'])
                self.assertEqual(ratios, {})
                self.assertIn('not comparable', wrong[0])

    def test_slack_of_the_events(self):
        self.assertEqual(bench.work_differs(row(pgfree=1000), row(pgfree=1010)), '')
        self.assertIn('pgfree', bench.work_differs(row(pgfree=1000), row(pgfree=1011)))
        # a fork allocates many pages: 1 % of those
        self.assertEqual(bench.work_differs(row(ops=10, pgfree=300), row(ops=10, pgfree=303)), '')
        self.assertIn('30.000 against 30.400',
                      bench.work_differs(row(ops=10, pgfree=300), row(ops=10, pgfree=304)))

    def test_noted_events_may_differ(self):
        a, b = row(), row()
        a.noted['pgalloc'], b.noted['pgalloc'] = 1, 900
        self.assertEqual(bench.work_differs(a, b), '')

    def test_table(self):
        base, series = {'a': figure(100, 0.001)}, {'a': figure(110, 0.002)}
        text = bench.table(['a', 'gone'], base, series, {'a': 1.1}, {'a': 1.02})
        lines = [line.split() for line in text.splitlines()]
        self.assertEqual(lines[0], ['row', 'unit', 'base', 'series', 'ratio', 'limit', 'spread'])
        self.assertEqual(lines[1], ['a', 'page', '100.0', '110.0', '1.1000', '1.02', '0.200%'])
        self.assertEqual(lines[2], ['gone', '-', '-', '-', '-', '-', '-'])
        text = bench.table(['a', 'b'], {**base, 'b': figure(10)}, series, {'a': 1.1}, {'a': 1.02},
                           {'a': figure(120), 'b': figure(5, pgfault=900)})
        lines = [line.split() for line in text.splitlines()]
        self.assertEqual(lines[1][-2:], ['120.0', '1.2000'])
        self.assertEqual(lines[2][-2:], ['5.0', '-'], 'unequal work has no ratio')


class Program(unittest.TestCase):
    """The guest program is compiled and a broken one is a Fail."""

    def setUp(self):
        self.dir = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def test_compiles_static(self):
        made = bench.program(self.dir / 'out' / 'bench')
        self.assertTrue(build.is_static(made))
        self.assertEqual(os.listdir(made.parent), ['bench'])

    def test_error(self):
        (self.dir / 'bench').mkdir()
        (self.dir / 'bench/bench.c').write_text('int main(void) { return nothing; }\n')
        with mock.patch.object(common, 'ROOT', self.dir), self.assertRaises(common.Fail):
            bench.program(self.dir / 'out' / 'bench')
        self.assertEqual(os.listdir(self.dir / 'out'), [])


class Whole(unittest.TestCase):
    """main() with kernels and boots that are not there."""

    def setUp(self):
        self.dir = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.object(common, 'OUT', self.dir / 'out'))
        self.enterContext(mock.patch.dict(os.environ, {'ROWS': 'clean_zap,fork_exit', 'PEER': ''}))
        self.said = self.enterContext(contextlib.redirect_stdout(io.StringIO()))
        for name, value in (('base_kernel', 'base'), ('series_kernel', 'series')):
            self.enterContext(mock.patch.object(bench, name, return_value=value))
        self.enterContext(mock.patch.object(bench, 'describe', return_value='0123456789ab'))
        self.enterContext(mock.patch.object(bench, 'program', return_value=b''))
        self.image = self.enterContext(mock.patch.object(image, 'make_image'))
        self.figures = {'base': 400.0, 'series': 402.0}
        self.status, self.extra = 0, ''
        self.boots = []
        self.enterContext(mock.patch.object(boot, 'boot', self.boot))
        self.enterContext(mock.patch.object(tree, 'make_tree', side_effect=AssertionError))

    def boot(self, kernel, initrd, outdir, **kw):
        """Writes what a guest would have."""
        self.boots.append((kernel, kw))
        outdir.mkdir(parents=True)
        console, results = outdir / 'console.log', outdir / 'results.ktap'
        console.write_text(f'[    1.000000] MM-LOCKSTEP-INIT ab\n{self.extra}'
                           f'[    2.000000] MM-LOCKSTEP-END ab rc={self.status}\n')
        value = self.figures[kernel]
        results.write_text('mm-lockstep-bench 1\nerror mmap: no\n' if self.status else
                           'mm-lockstep-bench 1\ncalibration 200000 200000\n'
                           f'row clean_zap page 1000 {value} {value} pgfault=0 fixed~7\n'
                           f'row fork_exit call 100 9000 9000 pgfault=0\nend 2\n')
        return types.SimpleNamespace(qemu_exit=0, ended='exit', console=console, results=results,
                                     nonce='ab')

    def test_good(self):
        self.assertEqual(bench.main(), 0)
        self.assertEqual([k for k, _ in self.boots], ['base', 'base', 'series', 'series'])
        self.assertTrue(all(kw['icount'] and kw['smp'] == 1 for _, kw in self.boots))
        script = self.image.call_args.args[1]['/bench/run']
        self.assertEqual(script, b'#!/bin/sh\nexec /bench/bench clean_zap,fork_exit\n')
        held = json.loads((self.dir / 'out/bench/bench.json').read_text())
        self.assertEqual(held['ratio'], {'clean_zap': 1.005, 'fork_exit': 1.0})
        self.assertEqual(held['base']['clean_zap']['instructions'], 400.0)
        self.assertEqual(held['wrong'], [])
        self.assertIn('1.0050', (self.dir / 'out/bench/bench.txt').read_text())
        self.assertIn('1.0050', self.said.getvalue())

    def test_over_the_limit(self):
        self.figures['series'] = 500.0
        self.assertEqual(bench.main(), 1)
        self.assertIn('FAIL clean_zap: 1.2500 of the base', self.said.getvalue())

    def test_missing_row(self):
        os.environ['ROWS'] = 'clean_zap,munmap'
        self.assertEqual(bench.main(), 1)
        self.assertIn('FAIL munmap: base: missing in the results', self.said.getvalue())

    def test_guest_fails(self):
        self.status = 1
        with self.assertRaisesRegex(common.Fail, 'base-1: mmap: no'):
            bench.main()
        self.assertFalse((self.dir / 'out/bench/bench.json').exists())

    def test_splat(self):
        self.extra = '[    1.500000] BUG: Bad page state in process bench  pfn:1\n'
        with self.assertRaises(common.Fail):
            bench.main()
        self.assertIn('Bad page state', self.said.getvalue())

    def test_old_results_do_not_survive_a_failed_run(self):
        self.assertEqual(bench.main(), 0)
        self.status = 1
        for path in (self.dir / 'out/bench').glob('*-*'):
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
        with self.assertRaises(common.Fail):
            bench.main()
        self.assertFalse((self.dir / 'out/bench/bench.json').exists())

    def test_peer_is_a_column(self):
        path = self.dir / 'bzImage'
        path.write_bytes(bytes(0x1fe) + b'\x55\xaa\x00\x00HdrS')
        os.environ['PEER'] = str(path)
        self.figures[path.resolve()] = 800.0
        self.assertEqual(bench.main(), 0)
        self.assertIn('2.0000', self.said.getvalue())

    def test_second_run(self):
        with common.lock('bench'), self.assertRaisesRegex(common.Fail, 'another run'):
            bench.main()


if __name__ == '__main__':
    unittest.main()
