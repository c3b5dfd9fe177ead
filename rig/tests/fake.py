# SPDX-License-Identifier: GPL-2.0
"""A tiny kernel with a base file, a cache and an empty series, all in one temp folder."""
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from rig import common, export, tree

FILES = {
    'Makefile': '# SPDX\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 176\n',
    'MAINTAINERS': 'THE REST\nM:\tnobody\n',
    '.gitignore': '*.o\nignored\n',
    '.gitattributes': '*.c diff=cpp\n',
    'ignored': 'tracked all the same\n',
    'mm/mmap.c': ''.join(f'int line{n};\n' for n in range(40)),
    'mm/rmap.c': 'int rmap;\n',
    'mm/vmscan.c': 'int shrink(void)\n{\nretry:\n' + ''.join(f'\tline{n}();\n' for n in range(9)),
    'mm/Makefile': 'obj-y := mmap.o rmap.o\n',
    'scripts/run.sh': '#!/bin/sh\n',
    'Documentation/a "b" c': 'odd name\n',
}
SERIES_TREE = '# a comment that stays\nseries_tree='


def tarball(path, top='linux-6.1.176', files=None):
    """Write the tiny kernel as .tar.xz."""
    with tarfile.open(path, 'w:xz') as tar:
        for name, text in (files or FILES).items():
            member = tarfile.TarInfo(f'{top}/{name}')
            member.size, member.mode = len(text), 0o755 if name.endswith('.sh') else 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo(f'{top}/Documentation/link')
        link.type, link.linkname = tarfile.SYMTYPE, '../Makefile'
        tar.addfile(link)


def git(*args, cwd, check=True, **env):
    """git as a user has it, not through the rig; stdout."""
    done = subprocess.run(['git', *map(str, args)], cwd=cwd, check=False, capture_output=True,
                          text=True, env={**os.environ, **common.IDENT, **common.PLAIN, **env})
    if check and done.returncode:
        raise AssertionError(f'git {args}: {done.stdout}{done.stderr}')
    return done.stdout.strip()


def repository(folder, files=None):
    """The tiny kernel as git itself sees it, in a new repository; its tree id."""
    folder.mkdir(parents=True)
    git('init', '-q', '--template=', '-b', 'main', '.', cwd=folder)
    for name, text in (files or FILES).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / 'scripts/run.sh').chmod(0o755)
    (folder / 'Documentation/link').symlink_to('../Makefile')
    git('add', '-A', '-f', '.', cwd=folder)
    git('commit', '-q', '-m', 'kernel', cwd=folder)
    return git('rev-parse', 'HEAD^{tree}', cwd=folder)


class Case(unittest.TestCase):
    """setUp makes self.tmp with repo/ (common.ROOT), cache/ and linux.tar.xz."""

    _made = _three = None

    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.tmp = Path(holder.name).resolve()
        self.root = self.tmp / 'repo'
        (self.root / 'patches/v6.1').mkdir(parents=True)
        self.tar = self.tmp / 'linux.tar.xz'
        if not Case._made:
            tarball(self.tar)
            Case._made = self.tar.read_bytes(), repository(self.tmp / 'once')
        self.tar.write_bytes(Case._made[0])
        self.tree_id = Case._made[1]
        self.base_file()
        git('init', '-q', '--template=', '.', cwd=self.root)
        for name, value in (('ROOT', self.root), ('BASE', 'v6.1'), ('OUT', self.root / 'out'),
                            ('PATCHES', self.root / 'patches/v6.1'),
                            ('LINUX', self.root / 'linux'), ('CACHE', self.tmp / 'cache')):
            patcher = mock.patch.object(common, name, value)
            patcher.start()
            self.addCleanup(patcher.stop)
        self.env(TARBALL=str(self.tar), LINUX='', DISCARD='', FORCE='', TREE='', **common.PLAIN)
        self.said = []
        patcher = mock.patch.object(common, 'say', self.said.append)
        patcher.start()
        self.addCleanup(patcher.stop)

    def env(self, **values):
        """Settings for the rest of the test."""
        patcher = mock.patch.dict(os.environ, values)
        patcher.start()
        self.addCleanup(patcher.stop)

    def base_file(self, **change):
        """Write base/v6.1 for the tarball as it is now."""
        values = {'release': 'v6.1.176', 'version': '6.1.176', 'package': 'linux',
                  'package_version': '6.1.176-1', 'tarball': 'linux_6.1.176.orig.tar.xz',
                  'sha256': hashlib.sha256(self.tar.read_bytes()).hexdigest(),
                  'base_tree': self.tree_id, **change}
        (self.root / 'base').mkdir(exist_ok=True)
        (self.root / 'base/v6.1').write_text(
            ''.join(f'{k}={v}\n' for k, v in values.items())
            + SERIES_TREE + change.get('series_tree', self.tree_id) + '\n')

    def fails(self, function, *words):
        """The Fail's text: one line, with every one of the words in it."""
        with self.assertRaises(common.Fail) as caught:
            function()
        text = str(caught.exception)
        self.assertNotIn('\n', text)
        for word in words:
            self.assertIn(word, text)
        return text

    def commit(self, subject, body='', **files):
        """Commit in linux/: names have __ for / and _dot_ for a dot; the value is appended."""
        for name, text in files.items():
            path = common.LINUX / name.replace('__', '/').replace('_dot_', '.')
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((path.read_text() if path.exists() else '') + text)
        git('add', '-A', '.', cwd=common.LINUX)
        git('commit', '-q', '-m', f'{subject}\n\n{body}', cwd=common.LINUX)
        return git('rev-parse', 'HEAD', cwd=common.LINUX)

    def three(self):
        """A tree with three exported patches; made once, then copied."""
        if Case._three:
            for name in ('repo', 'cache'):
                shutil.rmtree(self.tmp / name, ignore_errors=True)
                shutil.copytree(Path(Case._three.name) / name, self.tmp / name, symlinks=True)
            git('update-index', '-q', '--refresh', cwd=common.LINUX)
            return
        tree.make_tree()
        self.commit('mm/mmap: count lines', 'Body.\n\nMore.\n', mm__mmap_dot_c='int added;\n')
        self.commit('mm/verify: add the core', mm__verify__core_dot_c='int core;\n',
                    MAINTAINERS='\nVERIFY\nM:\tx\n')
        self.commit('selftests/mm: add a runner', tools__testing__selftests__mm__run_dot_sh='#!\n')
        export.export()
        Case._three = tempfile.TemporaryDirectory()
        for name in ('repo', 'cache'):
            shutil.copytree(self.tmp / name, Path(Case._three.name) / name, symlinks=True)

    def files(self, folder=None):
        """{name: bytes} of the repository without linux/, out/ and .git."""
        folder = folder or self.root
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*')
                if p.is_file() and p.relative_to(folder).parts[0] not in ('linux', 'out', '.git')}
