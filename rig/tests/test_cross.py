# SPDX-License-Identifier: GPL-2.0
"""make cross over a small git tree, with a make that reads its warnings from the source."""
import contextlib
import io
import json
import os
import shutil
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from rig import arch, build, common, cross


def make(src, obj, targets, log, tick=None, **variables):
    """Compiles every .c below the targets; WARN lines warn, BROKEN fails."""
    tick()
    assert variables['W'] == '1', variables
    bad = 0
    for target in targets:
        for path in sorted((src / target).glob('*.c')):
            text = path.read_text()
            log.write(f'  CC      {target}{path.stem}.o\n')
            for n, line in enumerate(text.splitlines(), 1):
                if line.startswith('WARN '):
                    log.write(f'{path}:{n}:1: warning: {line[5:]}\n')
            if f'BROKEN {variables.get("ARCH")}' in text:
                log.write(f'{target}{path.name}:1: error: broken\n')
                bad = 2
            else:
                (obj / target).mkdir(parents=True, exist_ok=True)
                (obj / target / f'{path.stem}.o').write_text(text)
    return bad


class Cross(unittest.TestCase):
    def setUp(self):
        self.tmp = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, self.tmp)
        self.src = self.tmp / 'out/cross/linux'
        self.src.mkdir(parents=True)
        common.git('init', '-q', '-b', 'lockstep', cwd=self.src)
        self.asked = []
        for patch in (mock.patch.object(common, 'OUT', self.tmp / 'out'),
                      mock.patch.object(build, 'make', make),
                      mock.patch.object(build, 'configure', self.configure),
                      mock.patch('rig.tree.assemble', lambda dest: dest),
                      mock.patch.object(arch, 'version', self.version),
                      mock.patch.dict(os.environ, ARCHS='m68k')):
            patch.start()
            self.addCleanup(patch.stop)
        self.commit('mm/a.c', 'WARN old\n')
        self.commit('arch/m68k/mm/b.c', '')
        common.git('branch', 'base', cwd=self.src)

    def configure(self, config, src, obj, optional, how, files):
        self.asked.append((config, optional, how.arch, [p.stem for p in files]))

    def version(self, how):
        if how.name == 's390x':
            raise common.Fail('s390x-linux-gnu-gcc is not installed')
        return f'{how.compiler} 12'

    def commit(self, file, text):
        path = self.src / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        common.git('add', '.', cwd=self.src)
        common.git('commit', '-q', '-m', file, cwd=self.src)

    def main(self):
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
            code = cross.main()
        return code, out.getvalue(), json.loads((self.tmp / 'out/cross/results.json').read_text())

    def test_clean(self):
        self.commit('mm/c.c', '')
        code, out, (result,) = self.main()
        self.assertEqual(code, 0, out)
        self.assertEqual((result['state'], result['objects'], result['before'], result['warnings']),
                         ('clean', 3, 1, []))
        self.assertIn('cross: 1 clean, 0 not', out)
        self.assertEqual(self.asked, [('m68k', True, 'm68k', ['common', 'mmu', 'm68k']),
                                      ('m68k', False, 'm68k', ['common', 'mmu', 'm68k'])])

    def test_a_new_warning_is_found_and_named(self):
        self.commit('arch/m68k/mm/b.c', 'WARN new\n')
        code, out, (result,) = self.main()
        self.assertEqual((code, result['state'], result['warnings']),
                         (1, 'warned', ['arch/m68k/mm/b.c: new']))
        self.assertIn('    arch/m68k/mm/b.c: new\n', out)

    def test_an_old_warning_that_moves_is_old(self):
        self.commit('mm/a.c', '\n\n\nWARN old\n')
        self.assertEqual(self.main()[0], 0)

    def test_what_does_not_compile_fails_on_its_machine_alone(self):
        self.commit('mm/a.c', 'BROKEN m68k\n')
        with mock.patch.dict(os.environ, ARCHS='m68k arm-nommu'):
            code, out, (m68k, arm) = self.main()
        self.assertEqual((code, m68k['state'], arm['state']), (1, 'failed', 'clean'))
        self.assertRegex(m68k['error'], 'series: mm/a.c:1: error: broken, see .*m68k-series.log')
        self.assertIn('cross: 1 clean, 1 not', out)

    def test_no_compiler(self):
        with mock.patch.dict(os.environ, ARCHS='s390x'):
            code, _, (result,) = self.main()
        self.assertEqual((code, result['state']), (1, 'failed'))
        self.assertIn('s390x-linux-gnu-gcc is not installed', result['error'])

    def test_nothing_built_is_no_success(self):
        with mock.patch.object(build, 'make', lambda *a, **k: 0):
            code, _, (result,) = self.main()
        self.assertEqual((code, result['state']), (1, 'failed'))
        self.assertIn('no object was made', result['error'])

    def test_unknown_machine(self):
        with mock.patch.dict(os.environ, ARCHS='vax'), self.assertRaisesRegex(common.Fail, 'ARCHS=vax'):
            cross.main()

    def test_every_machine_has_its_fragments(self):
        for name in cross.MACHINES:
            for path in cross.fragments(name):
                self.assertTrue(path.is_file(), path)
                self.assertTrue(build.requests([path]) or name == 'm68k', path)


class Packages(unittest.TestCase):
    def test_every_compiler_comes_from_a_package(self):
        listed = (common.ROOT / 'rig/packages-cross.txt').read_text()
        for how in [m[0] for m in cross.MACHINES.values()] + list(arch.GUESTS.values()):
            if how.prefix:
                self.assertRegex(listed, rf'(?m)^gcc-{how.prefix[:-1]} ')


class Guest(unittest.TestCase):
    def test_known_and_unknown(self):
        with mock.patch.dict(os.environ, ARCH=''):
            self.assertIs(arch.guest(), arch.NATIVE)
        with mock.patch.dict(os.environ, ARCH='arm64'):
            self.assertEqual(arch.guest().compiler, 'aarch64-linux-gnu-gcc')
        with mock.patch.dict(os.environ, ARCH='vax'), self.assertRaisesRegex(common.Fail, 'ARCH=vax'):
            arch.guest()

    def test_make_is_told_of_another_machine_only(self):
        self.assertEqual(arch.NATIVE.variables(), {'CC': 'ccache gcc'})
        self.assertEqual(arch.GUESTS['arm64'].variables(), {
            'ARCH': 'arm64', 'CROSS_COMPILE': 'aarch64-linux-gnu-', 'CC': 'ccache aarch64-linux-gnu-gcc'})


if __name__ == '__main__':
    unittest.main()
