# SPDX-License-Identifier: GPL-2.0
"""maple.py: what the program's output comes to, and which patches it concerns."""
import unittest
from unittest import mock

from rig import common, maple

GOOD = ' check_rev_seq test of 0-1000 19K in 76 active (885 total)\nmaple_tree: 859 of 859 tests passed\n'


class Verdict(unittest.TestCase):
    """Nothing but all tests of a program that ended is good."""

    def test_all_passed(self):
        self.assertEqual(maple.verdict(0, GOOD), '')

    def test_some_failed(self):
        self.assertIn('858 of 859', maple.verdict(0, GOOD.replace('859 of', '858 of')))

    def test_none(self):
        self.assertIn('0 of 0', maple.verdict(0, 'maple_tree: 0 of 0 tests passed\n'))

    def test_no_count(self):
        self.assertIn('does not say', maple.verdict(0, 'BUG at next_prev_test\n'))

    def test_aborted(self):
        self.assertIn('exit 134', maple.verdict(134, 'Assertion failed\n'))

    def test_too_slow(self):
        self.assertIn('not done', maple.verdict(124, ''))

    def test_undefined_behaviour(self):
        self.assertTrue(maple.verdict(0, 'x.c:1:2: runtime error: shift\n' + GOOD))

    def test_a_line_that_only_quotes_it(self):
        self.assertIn('does not say', maple.verdict(0, 'see maple_tree: 1 of 1 tests passed\n'))


class Concerns(unittest.TestCase):
    """A patch is looked at when it changes what is compiled."""

    def touched(self, *names):
        with mock.patch.object(common, 'git', return_value='\n'.join(names) + '\n'):
            return maple.concerns('HEAD', None)

    def test_the_tree(self):
        self.assertTrue(self.touched('mm/mmap.c', 'lib/maple_tree.c'))
        self.assertTrue(self.touched('include/linux/maple_tree.h'))
        self.assertTrue(self.touched('tools/testing/radix-tree/maple.c'))

    def test_its_users(self):
        self.assertFalse(self.touched('mm/mmap.c', 'include/linux/mm.h', 'lib/maple_tree.c.orig'))


if __name__ == '__main__':
    unittest.main()
