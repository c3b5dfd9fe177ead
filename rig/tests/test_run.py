# SPDX-License-Identifier: GPL-2.0
"""What make run boots."""
import tempfile
import unittest
from pathlib import Path

from rig import arch, run


class Plain(unittest.TestCase):
    """A kernel without verifiers."""

    def test_verifies(self):
        """Production and what is built on it has none, all that debugs has them."""
        self.assertEqual([run.verifies(config, arch.NATIVE) for config in
                          ('debug', 'lockdep', 'kasan', 'production', 'production+debugvm')],
                         [True, True, True, False, False])

    def test_others(self):
        """All tests but the one that asks for the options of a debug kernel."""
        with tempfile.TemporaryDirectory() as tmp:
            Path(tmp, 'mm').mkdir()
            Path(tmp, 'mm/tests.list').write_text(f'{run.DEBUGS}\nrmap_dirty\nvma_ops\n')
            self.assertEqual(run.others(Path(tmp)), 'rmap_dirty,vma_ops')


if __name__ == '__main__':
    unittest.main()
