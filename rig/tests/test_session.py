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


if __name__ == '__main__':
    unittest.main()
