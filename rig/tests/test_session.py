# SPDX-License-Identifier: GPL-2.0
"""What a session's guest is given."""
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from rig import boot, session


class Start(unittest.TestCase):
    """The devices and the command line that selftests rely on."""

    def test_devices(self):
        """A CMA area, and a balloon that takes reports of free pages."""
        with tempfile.TemporaryDirectory() as tmp, \
                mock.patch.object(boot, 'boot') as booted, \
                mock.patch.object(session.image, 'make_image'), \
                mock.patch.object(session.verdict, 'judge'):
            Path(tmp, '.config').write_text('CONFIG_KUNIT=y\n')
            session.start('debug', 'bzImage', Path(tmp, 'out'), src=tmp, obj=tmp)
        self.assertIs(booted.call_args.kwargs['balloon'], True)
        self.assertIn('cma=64M', booted.call_args.kwargs['append'].split())

    def test_needs(self):
        """Tests that need the same get it, in one boot; with others they get nothing."""
        with mock.patch.object(session, 'NEEDS', {'a': 'x=1', 'b': 'x=1', 'c': 'y=2'}):
            self.assertEqual([session.needs(t) for t in ('a', 'a,b', 'a,c', 'a,d', 'd', '')],
                             ['x=1', 'x=1', '', '', '', ''])

    def test_extra(self):
        """Each boot besides the one with all tests gets what its tests need."""
        for extra in session.EXTRA:
            for name in extra.tests.split(','):
                self.assertIn(session.NEEDS.get(name, ''), (session.needs(extra.tests), ''))

    def test_offline_meets_free(self):
        """Some pages that memory going offline holds are let pass, a range in use is not."""
        def passes(n):
            text = f'WARNING: CPU: 1 at mm/page_alloc.c:1 free_contig_range+0xa6/0xb0 ({n} pages ' \
                   'are still in use!)'
            return any(entry.pattern.search(text) for entry in session.EXPECTED)
        self.assertEqual([passes(n) for n in (1, 2, 64, 512)], [True, True, False, False])


if __name__ == '__main__':
    unittest.main()
