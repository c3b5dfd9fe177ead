# SPDX-License-Identifier: GPL-2.0
"""make bisect over a small git tree, with builds that read their warnings from the source."""
import contextlib
import io
import json
import os
import shutil
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from rig import bisect, build, common, warn
from rig.series import Patch


def kernel_image(config, src, obj, log, optional=False):
    """A build: compiles what changed since the last one; WARN lines warn, BROKEN fails."""
    assert optional
    out, error = '', ''
    for path in sorted(src.glob('mm/*.c')):
        target, text = obj / 'mm' / f'{path.stem}.o', path.read_text()
        if 'NOT_IN ' + config in text or target.is_file() and target.read_text() == text:
            continue
        out += f'  CC      mm/{path.stem}.o\n'
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith('WARN '):
                out += f'{path}:{number}:1: warning: {line[5:]}\n'
        if 'BROKEN' in text:
            error = f'mm/{path.name}:1: error: broken'
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            (target.parent / f'.{path.stem}.o.cmd').write_text(f'  {src}/mm/all.h \\\n')
    log.write_text(out)
    if error:
        raise common.Fail(error)
    image = obj / 'bzImage'
    image.write_text('')
    return image


def w1(objects, config, src, obj, built, optional=False):
    """W=1: lines that start with STRICT warn."""
    found, absent = set(), []
    for name in objects:
        path = src / f'{name[:-2]}.c'
        if not path.is_file() or not (built / name).is_file():
            absent.append(name)
        elif 'W1_FAILS' in path.read_text():
            raise common.Fail(f'W=1: {name} broken')
        else:
            found |= warn.warnings(''.join(
                f'{path}:{n}: warning: {line[7:]}\n'
                for n, line in enumerate(path.read_text().splitlines(), 1) if line.startswith('STRICT ')), src)
    return found, absent


class Bisect(unittest.TestCase):
    def setUp(self):
        self.tmp = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, self.tmp)
        self.src, self.commits, self.patches = self.tmp / 'out/bisect/linux', [], []
        self.src.mkdir(parents=True)
        common.git('init', '-q', '-b', 'lockstep', cwd=self.src)
        for patch in (mock.patch.object(common, 'ROOT', self.tmp),
                      mock.patch.object(common, 'OUT', self.tmp / 'out'),
                      mock.patch.object(build, 'kernel_image', kernel_image),
                      mock.patch.object(build, 'w1', w1),
                      mock.patch('rig.tree.assemble'),
                      mock.patch('rig.tree.series', lambda: self.patches),
                      mock.patch('rig.tree.series_commits', lambda src: self.commits)):
            patch.start()
            self.addCleanup(patch.stop)
        (self.tmp / 'configs').mkdir()
        for name in ('common', 'debug', 'production'):
            (self.tmp / f'configs/{name}.config').write_text('')
        self.commit('base', 'a', 'WARN old\nSTRICT old\n')

    def commit(self, name, file, text):
        """One more patch, which writes mm/<file>.c (or the file named)."""
        path = self.src / 'mm' / (file if '.' in file else f'{file}.c')
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        common.git('add', '.', cwd=self.src)
        common.git('commit', '-q', '-m', name, cwd=self.src)
        if name != 'base':
            patch = Patch('verify', name, self.tmp / name, name)
            self.patches.append(patch)
            self.commits.append((common.git('rev-parse', 'HEAD', cwd=self.src), patch))

    def run_all(self, configs=('debug',), boot=False, patches=None):
        with contextlib.redirect_stdout(io.StringIO()):
            return bisect.check_patches(patches or self.patches, configs, boot)

    def states(self, **kw):
        return [(r.patch.split('/')[1], r.state) for r in self.run_all(**kw)]

    def test_old_warnings_are_not_new(self):
        self.commit('moved', 'a', '\n\nWARN old\n\nSTRICT old\nmore\n')
        self.commit('other', 'b', 'fine\n')
        self.assertEqual(self.states(), [('moved', 'built'), ('other', 'built')])
        # and not in a second run either, when nothing is compiled for the parent
        self.assertEqual(self.states(), [('moved', 'built'), ('other', 'built')])

    def test_new_warning_is_found_each_time(self):
        self.commit('good', 'b', 'fine\n')
        self.commit('warns', 'b', 'WARN new\n')
        self.commit('keeps', 'b', '\nWARN new\n')
        for _ in range(2):
            results = self.run_all()
            self.assertEqual([r.state for r in results], ['built', 'warned', 'built'])
            self.assertEqual(results[1].warnings, ['mm/b.c: new'])
            self.assertFalse(results[1].good)

    def test_strict_warning_in_new_file(self):
        self.commit('strict', 'b', 'STRICT unused\n')
        result, = self.run_all()
        self.assertEqual((result.state, result.warnings, result.checked), ('warned', ['mm/b.c: unused'], 1))

    def test_failure_stops_nothing(self):
        self.commit('breaks', 'b', 'BROKEN\n')
        self.commit('also', 'c', 'fine\n')
        self.commit('mends', 'b', 'fine\n')
        results = self.run_all()
        self.assertEqual([r.state for r in results], ['failed', 'failed', 'built'])
        self.assertEqual(results[0].error, 'mm/b.c:1: error: broken')
        self.assertIn('nor does the parent build', results[1].error)

    def test_strict_failure_is_a_failure(self):
        self.commit('w1', 'b', 'W1_FAILS\n')
        result, = self.run_all()
        self.assertEqual((result.state, result.error), ('failed', 'W=1: mm/b.o broken'))

    def test_object_not_in_config_is_told(self):
        self.commit('absent', 'b', 'NOT_IN debug\nSTRICT unused\n')
        debug, production = self.run_all(configs=('debug', 'production'))
        self.assertEqual((debug.state, debug.checked, debug.unchecked), ('built', 0, ['mm/b.o']))
        self.assertEqual((production.state, production.checked), ('warned', 1))

    def test_header_touches_its_users(self):
        self.commit('header', 'all.h', 'x\n')
        result, = self.run_all()
        self.assertEqual((result.state, result.checked), ('built', 1))

    def test_boot_is_judged(self):
        self.commit('one', 'b', 'fine\n')
        for said, good in (('passed', True), ('failed: no end line', False)):
            with mock.patch.object(bisect, 'boot_patch', return_value=said):
                result, = self.run_all(boot=True)
            self.assertEqual((result.boot, result.good), (said, good))

    def test_select(self):
        for name in 'abc':
            self.commit(name, 'b', name)

        def ids(first=None, last=None):
            return ''.join(p.name for p in bisect.select(self.patches, first, last))
        self.assertEqual(ids(), 'abc')
        self.assertEqual(ids('verify/b'), 'bc')
        self.assertEqual(ids('2', '2'), 'b')
        self.assertEqual(ids(last='verify/b.patch'), 'ab')
        for first, last, what in (('verify/x', None, 'FROM=verify/x: neither'), ('0', None, 'FROM=0'),
                                  (None, '4', 'TO=4: .*1 to 3'), ('3', '1', 'TO=1 stands before')):
            with self.assertRaisesRegex(common.Fail, what):
                ids(first, last)
        with self.assertRaisesRegex(common.Fail, 'series is empty'):
            bisect.select([])

    def test_unknown_config_before_any_work(self):
        self.commit('one', 'b', 'fine\n')
        with self.assertRaisesRegex(common.Fail, 'no configs/nope.config'):
            self.run_all(configs=('debug', 'nope'))

    def test_main(self):
        self.commit('good', 'b', 'fine\n')
        self.commit('warns', 'b', 'WARN new\n')
        out = io.StringIO()
        with contextlib.redirect_stdout(out), mock.patch.dict(os.environ, CONFIG='debug,production'):
            self.assertEqual(bisect.main(), 1)
            with mock.patch.dict(os.environ, TO='verify/good'):
                self.assertEqual(bisect.main(), 0)
        self.assertIn('bisect: 2 built, 2 warned, 0 failed; ', out.getvalue())
        self.assertIn('bisect: 2 built, 0 warned, 0 failed; ', out.getvalue())
        self.assertEqual(len(json.loads((self.tmp / 'out/bisect/results.json').read_text())), 2)


class Touched(unittest.TestCase):
    def test_objects(self):
        tmp = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, tmp)
        src, obj = tmp / 'linux', tmp / 'obj'
        for name in ('mm/a.c', 'mm/gone.c', 'tools/testing/selftests/mm/t.c', 'include/linux/mm.h',
                     'Documentation/x.c'):
            (src / name).parent.mkdir(parents=True, exist_ok=True)
            (src / name).write_text('1')
        common.git('init', '-q', cwd=src)
        common.git('add', '.', cwd=src)
        common.git('commit', '-qm', 'base', cwd=src)
        for name in ('mm/a.c', 'tools/testing/selftests/mm/t.c', 'include/linux/mm.h',
                     'Documentation/x.c'):
            (src / name).write_text('2')
        (src / 'mm/verify').mkdir()
        (src / 'mm/verify/core.c').write_text('')
        (src / 'mm/gone.c').unlink()
        common.git('add', '-A', '.', cwd=src)
        common.git('commit', '-qm', 'patch', cwd=src)
        for name, header in (('mm/.b.o.cmd', 'include/linux/mm.h'), ('mm/.c.o.cmd', 'include/linux/mmm.h'),
                             ('mm/kasan/.d.o.cmd', 'include/linux/mm.h'), ('fs/.e.o.cmd', 'include/linux/mm.h')):
            (obj / name).parent.mkdir(parents=True, exist_ok=True)
            (obj / name).write_text(f'deps := \\\n  ../../linux/{header} \\\n')
        self.assertEqual(build.touched_objects('HEAD', src, obj),
                         ['mm/a.o', 'mm/b.o', 'mm/kasan/d.o', 'mm/verify/core.o'])


if __name__ == '__main__':
    unittest.main()
