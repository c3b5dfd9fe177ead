# SPDX-License-Identifier: GPL-2.0
"""A file system that is really full: a small tmpfs, which only root can mount."""
import os
import subprocess
import unittest
from unittest import mock

from rig import common, fetch, tree
from rig.tests import fake


@unittest.skipIf(os.geteuid(), 'only root can mount a tmpfs')
class DiskFull(fake.Case):
    """Nothing half-written is trusted, and with room made the same command works."""

    def setUp(self):
        super().setUp()
        self.small = self.tmp / 'small'
        self.small.mkdir()
        subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', self.small], check=True)
        self.addCleanup(subprocess.run, ['umount', '-l', self.small], check=True)
        self.filler = self.small / 'filler'

    def fill(self, left):
        """Leave so many bytes on the small file system."""
        free = os.statvfs(self.small)
        self.filler.write_bytes(b'x' * (free.f_bavail * free.f_bsize - left))

    def breaks(self, function):
        """It ends in one line, or in the OSError that __main__ makes one of."""
        with self.assertRaises((common.Fail, OSError)) as caught:
            function()
        self.assertRegex(str(caught.exception), '(?i)no space left')
        self.assertNotIn('\n', str(caught.exception))

    def test_write(self):
        self.fill(4096)
        path = self.small / 'f'
        self.breaks(lambda: common.write(path, b'y' * 65536))
        self.assertEqual([p.name for p in self.small.iterdir()], ['filler'])

    def test_cache(self):
        self.fill(16384)
        with mock.patch.object(common, 'CACHE', self.small / 'cache'), \
                mock.patch.object(fetch, 'NEED', 0):
            self.breaks(fetch.base_repo)
            self.filler.unlink()
            repo = fetch.base_repo()
            self.assertEqual(fake.git('rev-parse', 'refs/heads/base^{tree}', cwd=repo), self.tree_id)

    def test_tree(self):
        fetch.base_repo()
        self.fill(16384)
        with mock.patch.object(common, 'LINUX', self.small / 'linux'):
            self.breaks(tree.make_tree)
            self.filler.unlink()
            tree.make_tree()
            self.assertEqual(fake.git('rev-parse', 'HEAD^{tree}', cwd=common.LINUX), self.tree_id)
            self.assertEqual(fake.git('status', '--porcelain', cwd=common.LINUX), '')


if __name__ == '__main__':
    unittest.main()
