# SPDX-License-Identifier: GPL-2.0
"""Tests of rig.prove: what a trailer names, and which kernel its test runs on."""
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from rig import common, prove


class Trailers(unittest.TestCase):
    def test_parts(self):
        text = 'mm: x\n\nWords.\n\nSelftest: mm/page_alloc_test.c#merge_of_types\n'
        self.assertEqual(prove.trailer(text), ('mm/page_alloc_test.c', 'merge_of_types'))
        self.assertIsNone(prove.trailer('mm: x\n\nNo selftest: a document.\n'))

    def test_program(self):
        self.assertEqual(prove.program_of('mm/page_alloc_test.c'), 'page_alloc_test')
        self.assertEqual(prove.program_of('tools/testing/selftests/mm/verify_core.c'), 'verify_core')
        self.assertEqual(prove.program_of('tools/testing/selftests/mm/check_config.sh'), 'check_config.sh')


class Checkout(unittest.TestCase):
    """A KUnit test is in the kernel: the parent gets the patch's version of it, alone."""

    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.src = Path(tmp.name)
        self.git('init', '-q')
        self.commit('old')
        self.patch = self.commit('new')

    def git(self, *args):
        return common.git(*args, cwd=self.src)

    def commit(self, word):
        for name in ('code.c', 'mm/x_test.c', 'tools/testing/selftests/mm/x.c'):
            path = self.src / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(word)
        self.git('add', '-A')
        self.git('commit', '-q', '-m', word)
        return self.git('rev-parse', 'HEAD')

    def words(self, side, path):
        prove.check_out(self.src, self.patch, side, path)
        return [(self.src / name).read_text() for name in ('code.c', 'mm/x_test.c')]

    def test_kunit(self):
        for _ in range(2):      # what the first leaves does not keep the second from it
            self.assertEqual(self.words('parent', 'mm/x_test.c'), ['old', 'new'])
            self.assertEqual(self.words('patched', 'mm/x_test.c'), ['new', 'new'])

    def test_user_space(self):
        self.assertEqual(self.words('parent', 'tools/testing/selftests/mm/x.c'), ['old', 'old'])

    def test_unknown_file(self):
        with self.assertRaises((common.Fail, subprocess.CalledProcessError)):
            prove.check_out(self.src, self.patch, 'parent', 'mm/none.c')


class Judgement(unittest.TestCase):
    def test_all(self):
        for parent, patched, clean, ok in (('FAIL', 'PASS', True, True), ('MISSING', 'PASS', True, True),
                                           ('PASS', 'PASS', True, False), ('FAIL', 'FAIL', True, False),
                                           ('FAIL', 'SKIP', True, False), ('FAIL', 'PASS', False, False)):
            self.assertEqual(prove.judge('a/b', 't', parent, patched, clean).ok, ok, (parent, patched, clean))

    def test_names(self):
        patch = mock.Mock(id='a/b', path=Path(__file__))
        with mock.patch.object(prove.tree, 'series', lambda: [patch]):
            with self.assertRaisesRegex(common.Fail, 'not in the series'):
                prove.known(['a/c'])


if __name__ == '__main__':
    unittest.main()
