# SPDX-License-Identifier: GPL-2.0
"""What make test counts."""
import io
import tempfile
import unittest
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

from rig import build, test


class Warned(unittest.TestCase):
    """The tip's build."""

    def counted(self, text):
        """(passed, failed) after a build with that log; None: without one."""
        tally = test.Tally()
        with tempfile.TemporaryDirectory() as tmp, redirect_stdout(io.StringIO()), \
                mock.patch.object(build, 'folder_of', lambda config: Path(tmp, config)):
            if text is not None:
                Path(tmp, 'some+more.log').write_text(text)
            test.warned(tally, 'some+more')
        return len(tally.passed), len(tally.failed)

    def test_warned(self):
        """A warning fails; so does a build without a log."""
        warning = 'mm/mmap.c:1:2: warning: unused variable x [-Wunused-variable]\n'
        self.assertEqual(self.counted('  CC      mm/mmap.o\n'), (1, 0))
        self.assertEqual(self.counted('  CC      mm/mmap.o\n' + warning), (0, 1))
        self.assertEqual(self.counted(None), (0, 1))
        skew = 'make[2]: warning:  Clock skew detected.  Your build may be incomplete.\n'
        self.assertEqual(self.counted('  CC      mm/mmap.o\n' + skew), (1, 0))


if __name__ == '__main__':
    unittest.main()
