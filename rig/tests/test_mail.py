# SPDX-License-Identifier: GPL-2.0
"""mbox, am, canary and the heads of patches."""
import os
import re
from unittest import mock

from rig import canary, common, export, fetch, mail, series, tree
from rig.tests import fake
from rig.tests.fake import git


class Mail(fake.Case):
    """make mbox and make am."""

    def theirs(self):
        """Somebody's own kernel tree, TREE=."""
        folder = self.tmp / 'theirs'
        fake.repository(folder)
        git('config', 'user.name', 'Them', cwd=folder)
        git('config', 'user.email', 'them@example.org', cwd=folder)
        self.env(TREE=str(folder))
        return folder

    def test_mbox_applies(self):
        self.three()
        (common.PATCHES / 'cover-letter.md').write_text(
            '# mm: keep pairs in lockstep\n\nWhat it does.\n---\nFrom here on\n')
        mail.mbox()
        box = common.OUT / 'mm-lockstep-v6.1.mbox'
        first = box.read_bytes()
        self.assertIn(b'Subject: [PATCH 0/3] mm: keep pairs in lockstep\n', first)
        self.assertIn(b'Subject: [PATCH 3/3] selftests/mm: add a runner\n', first)
        ids = re.findall(rb'^Message-Id: (.+)$', first, re.M)
        self.assertEqual(len(set(ids)), 4)
        self.assertEqual(re.findall(rb'^In-Reply-To: (.+)$', first, re.M), [ids[0]] * 3)
        folder = self.theirs()
        git('am', '-q', box, cwd=folder)
        self.assertEqual(git('rev-parse', 'HEAD^{tree}', cwd=folder),
                         git('rev-parse', 'HEAD^{tree}', cwd=common.LINUX))
        mail.mbox()
        self.assertEqual(box.read_bytes(), first)

    def test_mbox_needs_a_cover_letter(self):
        self.fails(mail.mbox, 'empty')
        self.three()
        self.fails(mail.mbox, 'cover-letter.md')
        (common.PATCHES / 'cover-letter.md').write_text('no heading\n')
        self.fails(mail.mbox, 'heading')

    def test_am(self):
        self.three()
        folder = self.theirs()
        (folder / 'note.txt').write_text('untracked, stays\n')
        with mock.patch.dict(os.environ):
            mail.am()
            self.assertEqual(git('rev-parse', 'HEAD^{tree}', cwd=folder),
                             git('rev-parse', 'HEAD^{tree}', cwd=common.LINUX))
            self.assertEqual(git('log', '-1', '--format=%cn', cwd=folder), 'Them')
            mail.am()
        self.assertIn('3 were there already', self.said[-1])

    def test_conflict_leaves_the_tree_as_it_was(self):
        self.three()
        folder = self.theirs()
        (folder / 'mm/mmap.c').write_text(fake.FILES['mm/mmap.c'] + 'int theirs;\n')
        git('commit', '-q', '-a', '-m', 'theirs', cwd=folder)
        (folder / 'note.txt').write_text('untracked\n')
        before = mail.snapshot(folder), self.files(folder)
        self.fails(mail.am, 'mmap/count-lines', 'mm/mmap.c', 'as it was')
        self.assertEqual((mail.snapshot(folder), self.files(folder)), before)
        self.assertIsNone(tree.busy(folder))

    def test_later_conflict_takes_the_earlier_patches_back(self):
        self.three()
        folder = self.theirs()
        (folder / 'mm/verify').mkdir()
        (folder / 'mm/verify/core.c').write_text('theirs\n')
        git('add', '-A', '.', cwd=folder)
        git('commit', '-q', '-m', 'theirs', cwd=folder)
        before = mail.snapshot(folder), self.files(folder)
        self.fails(mail.am, 'verify/add-the-core', 'mm/verify/core.c')
        self.assertEqual((mail.snapshot(folder), self.files(folder)), before)

    def test_untracked_file_in_the_way(self):
        self.three()
        folder = self.theirs()
        (folder / 'mm/verify').mkdir()
        (folder / 'mm/verify/core.c').write_text('theirs\n')
        before = self.files(folder)
        self.fails(mail.am, 'verify/add-the-core', 'mm/verify/core.c')
        self.assertEqual(self.files(folder), before)

    def test_bad_trees(self):
        self.three()
        self.fails(mail.am, 'TREE is not set')
        self.env(TREE='/nonexistent')
        self.fails(mail.am, 'no such folder')
        self.env(TREE=str(self.tmp))
        self.fails(mail.am, 'not a git repository')
        self.env(TREE=str(self.root))
        self.fails(mail.am, 'no kernel')
        folder = self.theirs()
        self.env(TREE=str(folder / 'mm'))
        self.fails(mail.am, 'not the top')
        self.env(TREE=str(folder))
        (folder / 'mm/mmap.c').write_text('edited\n')
        self.fails(mail.am, 'mm/mmap.c', 'not committed')
        git('checkout', '-q', '.', cwd=folder)
        (folder / '.git/rebase-apply').mkdir()
        self.fails(mail.am, 'under way')


class Canary(fake.Case):
    """What becomes of each patch on a newer kernel."""

    def newer(self, **change):
        """A sealed repository of the tiny kernel with other files."""
        path = self.tmp / 'newer.tar.xz'
        fake.tarball(path, files={k: change.get(k.replace('/', '__').replace('.', '_dot_'), v)
                                  for k, v in fake.FILES.items()})

        def build(repo):
            with fetch.lzma.open(path) as stream:
                fetch.import_tar(stream, repo, 'newer', 'newer')
        return fetch.cached('source-9.git', build)

    def results(self, source):
        return [(r.id, r.status, r.detail) for r in
                canary.attempt(source, fetch.base_repo(), series.series())]

    def test_kinds(self):
        self.three()
        self.commit('mm/rmap: fix', mm__rmap_dot_c='int fix;\n')
        export.export()
        with tree.locked():
            found = self.results(self.newer(
                mm__mmap_dot_c='int newer;\n' + fake.FILES['mm/mmap.c'],
                MAINTAINERS='THE BEST\nM:\tsome\n', mm__rmap_dot_c='int rmap;\nint fix;\n'))
        self.assertEqual(found, [
            ('mmap/count-lines', 'applies with offsets', 'hunks moved: 1, by up to 1 lines'),
            ('verify/add-the-core', 'conflict', 'MAINTAINERS'),
            ('verify/add-a-runner', 'applies', ''),
            ('rmap/fix', 'already there', '')])

    def test_three_way(self):
        self.three()
        lines = fake.FILES['mm/mmap.c'].replace('int line37;\n', 'int other37;\n')
        with tree.locked():
            found = self.results(self.newer(mm__mmap_dot_c=lines))
        self.assertEqual(found[0][:2], ('mmap/count-lines', 'applies by 3-way merge'))


class Parse(fake.Case):
    """Heads of patches."""

    def test_subjects(self):
        for text, want in (
                ('Subject: [PATCH] mm/mmap: a\n', 'mm/mmap: a'),
                ('Subject: [PATCH v2 3/9] mm/mmap: a\n b c\n', 'mm/mmap: a b c'),
                ('Subject: [PATCH] =?UTF-8?q?mm:=20=C3=BC?=\n', 'mm: ü'), ('X: y\n', '')):
            self.assertEqual(series.subject(text + '\nbody\n'), want)

    def test_touched_and_results(self):
        self.three()
        patches = series.series()
        self.assertEqual(sorted(series.touched(patches)), ['MAINTAINERS', 'mm/mmap.c'])
        self.assertEqual(fetch.compare_blobs(common.LINUX, series.results(patches), 'HEAD'), [])
        self.assertEqual(len(fetch.compare_blobs(common.LINUX, series.touched(patches), 'HEAD')), 2)
