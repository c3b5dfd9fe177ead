# SPDX-License-Identifier: GPL-2.0
"""tree, export, check: nothing is lost, and a round trip changes nothing."""
import os
import re
import shutil
from unittest import mock

from rig import common, export, fetch, series, tree
from rig.tests import fake
from rig.tests.fake import git


class Tree(fake.Case):
    """make tree and assemble()."""

    def tip(self):
        return git('rev-parse', 'HEAD', cwd=common.LINUX)

    def test_empty_series(self):
        tree.make_tree()
        self.assertEqual(git('rev-parse', 'HEAD^{tree}', cwd=common.LINUX), self.tree_id)
        self.assertEqual(git('status', '--porcelain', cwd=common.LINUX), '')
        self.assertEqual(series.series(), [])
        export.check()

    def test_cache_can_go(self):
        tree.make_tree()
        shutil.rmtree(common.CACHE)
        git('fsck', '--full', cwd=common.LINUX)
        with mock.patch.object(fetch, 'base_repo', side_effect=AssertionError):
            tree.make_tree()        # unchanged: nothing is fetched
        self.assertIn('unchanged', self.said[-1])

    def test_ids_are_reproducible(self):
        self.three()
        shutil.rmtree(common.LINUX)
        tree.make_tree()
        first = self.tip()
        shutil.rmtree(common.LINUX)
        with mock.patch.dict(common.IDENT, GIT_COMMITTER_DATE='2001-01-01T00:00:00Z'):
            tree.make_tree()
        self.assertEqual(self.tip(), first)

    def test_refuses_uncommitted(self):
        self.three()
        (common.LINUX / 'mm/mmap.c').write_text('edited\n')
        self.fails(tree.make_tree, 'mm/mmap.c', 'make export', 'DISCARD=1')
        self.assertEqual((common.LINUX / 'mm/mmap.c').read_text(), 'edited\n')

    def test_refuses_untracked(self):
        tree.make_tree()
        (common.LINUX / 'mm/new.c').write_text('new\n')
        self.fails(tree.make_tree, 'mm/new.c')

    def test_refuses_unexported(self):
        tree.make_tree()
        commit = self.commit('mm/rmap: change', mm__rmap_dot_c='int more;\n')
        self.fails(tree.make_tree, 'not exported', 'make export', 'DISCARD=1')
        self.assertEqual(self.tip(), commit)

    def test_refuses_unexported_when_patches_changed(self):
        self.three()
        commit = self.commit('mm/rmap: change', mm__rmap_dot_c='int more;\n')
        (common.PATCHES / 'series').write_text('mmap/count-lines.patch\n')
        self.fails(tree.make_tree, 'not exported')
        self.assertEqual(self.tip(), commit)

    def test_refuses_other_branch_and_rebase(self):
        self.three()
        git('checkout', '-q', '-b', 'mine', cwd=common.LINUX)
        self.fails(tree.make_tree, 'mine', 'git checkout lockstep')
        git('checkout', '-q', 'lockstep', cwd=common.LINUX)
        git('rebase', '-q', '-i', 'base', cwd=common.LINUX, check=False,
            GIT_SEQUENCE_EDITOR='sed -i 1s/pick/edit/')
        self.fails(tree.make_tree, 'rebase')
        self.fails(export.export, 'rebase')

    def test_discard(self):
        self.three()
        tip = self.tip()
        self.commit('mm/rmap: change', mm__rmap_dot_c='int more;\n')
        (common.LINUX / 'mm/mmap.c').write_text('edited\n')
        (common.LINUX / 'mm/new.c').write_text('new\n')
        self.env(DISCARD='1')
        tree.make_tree()
        self.assertEqual(self.tip(), tip)
        self.assertEqual(git('status', '--porcelain', cwd=common.LINUX), '')

    def test_reworded_but_equal_is_exported(self):
        self.three()
        git('commit', '-q', '--amend', '--no-edit', cwd=common.LINUX,
            GIT_COMMITTER_DATE='2001-01-01T00:00:00Z')
        tree.make_tree()

    def test_foreign_folders_are_left_alone(self):
        common.LINUX.mkdir()
        (common.LINUX / 'thesis.txt').write_text('x')
        self.fails(tree.make_tree, 'move it away')
        git('init', '-q', '.', cwd=common.LINUX)
        self.fails(tree.make_tree, 'move it away')
        self.assertTrue((common.LINUX / 'thesis.txt').exists())

    def test_unfinished_tree_is_made_again(self):
        self.three()
        os.replace(common.LINUX / '.git' / tree.STATE, common.LINUX / '.git' / tree.BUILDING)
        (common.LINUX / 'mm/mmap.c').unlink()
        tree.make_tree()
        self.assertIn('was not finished', self.said[-2])
        self.assertEqual(git('status', '--porcelain', cwd=common.LINUX), '')

    def test_interrupted_making_is_not_trusted(self):
        for place in ('configure', 'share', 'apply', 'save'):
            with mock.patch.object(tree, place, side_effect=KeyboardInterrupt), \
                    self.assertRaises(KeyboardInterrupt):
                tree.make_tree()
            self.assertIsNone(tree.load(common.LINUX))
        tree.make_tree()
        self.assertEqual(git('rev-parse', 'HEAD^{tree}', cwd=common.LINUX), self.tree_id)

    def drop_first(self):
        """Take the first patch out of the series; the tree's files then differ in one file."""
        lines = (common.PATCHES / 'series').read_text().splitlines()
        (common.PATCHES / 'series').write_text(
            '\n'.join(x for x in lines if x != 'mmap/count-lines.patch') + '\n')

    def test_update_keeps_the_mtime_of_equal_files(self):
        self.three()
        files = [p for p in common.LINUX.rglob('*') if p.is_file() and '.git' not in p.parts]
        for path in files:
            os.utime(path, (1e9, 1e9), follow_symlinks=False)
        self.drop_first()
        tree.make_tree()
        changed = [str(p.relative_to(common.LINUX)) for p in files if p.stat().st_mtime != 1e9]
        self.assertEqual(changed, ['mm/mmap.c'])
        self.assertEqual(git('status', '--porcelain', cwd=common.LINUX), '')
        self.assertEqual(git('rev-list', '--count', 'base..', cwd=common.LINUX), '2')

    def test_interrupted_update_is_finished(self):
        self.three()
        self.drop_first()
        real = common.git

        def stops(*args, **kw):
            if 'reset' in args:
                (common.LINUX / 'mm/mmap.c').write_text('torn')
                (common.LINUX / '.git/index.lock').touch()
                raise KeyboardInterrupt
            return real(*args, **kw)
        with mock.patch.object(common, 'git', stops), self.assertRaises(KeyboardInterrupt):
            tree.make_tree()
        self.fails(export.export, 'make tree')
        tree.make_tree()
        self.assertEqual(git('status', '--porcelain', cwd=common.LINUX), '')
        self.assertEqual((common.LINUX / 'mm/mmap.c').read_text(), fake.FILES['mm/mmap.c'])

    def test_patch_that_does_not_apply(self):
        self.three()
        tip = self.tip()
        path = common.PATCHES / 'mmap/count-lines.patch'
        path.write_text(path.read_text().replace(' int line39', ' int line99'))
        self.fails(tree.make_tree, 'mmap/count-lines', 'does not apply', 'mm/mmap.c')
        self.assertEqual(self.tip(), tip)
        self.assertEqual(git('status', '--porcelain', cwd=common.LINUX), '')
        self.assertIsNone(tree.busy(common.LINUX))

    def test_assemble(self):
        self.three()
        dest = self.tmp / 'elsewhere'
        self.assertEqual(tree.assemble(dest), dest)
        want = git('rev-parse', 'HEAD^{tree}', cwd=common.LINUX)
        self.assertEqual(git('rev-parse', 'HEAD^{tree}', cwd=dest), want)
        first = tree.series_commits(dest)[0][0]
        git('checkout', '-q', '--detach', first, cwd=dest)
        (dest / 'mm/rmap.c').write_text('spoilt')
        tree.assemble(dest)
        self.assertEqual(git('status', '--porcelain', cwd=dest), '')
        self.assertEqual(git('symbolic-ref', 'HEAD', cwd=dest), 'refs/heads/lockstep')
        self.assertEqual(git('rev-parse', 'HEAD^{tree}', cwd=dest), want)
        bare = tree.assemble(self.tmp / 'bare', base_only=True)
        self.assertEqual(git('rev-parse', 'HEAD^{tree}', cwd=bare), self.tree_id)

    def test_assemble_moves_the_branch(self):
        """Also when the last use left HEAD detached at the tip, as make cross does."""
        self.three()
        dest = self.tmp / 'elsewhere'
        tree.assemble(dest)
        git('checkout', '-q', '--detach', 'lockstep', cwd=dest)
        path = common.PATCHES / 'verify/add-a-runner.patch'
        path.write_text(path.read_text().replace('Subject: ', 'Subject: again: '))
        tree.assemble(dest)
        self.assertEqual(git('symbolic-ref', 'HEAD', cwd=dest), 'refs/heads/lockstep')
        self.assertEqual(git('log', '-1', '--format=%s', 'lockstep', cwd=dest)[:6], 'again:')

    def test_series_commits(self):
        self.three()
        found = tree.series_commits()
        self.assertEqual([p.id for _, p in found],
                         ['mmap/count-lines', 'verify/add-the-core', 'verify/add-a-runner'])
        self.assertEqual([p for _, p in found], series.series())
        self.assertEqual(found[-1][0], self.tip())

    def test_second_run_at_once(self):
        with common.lock('tree'):
            with mock.patch.object(tree, 'WAIT', 0.3):
                self.fails(tree.make_tree, 'another run', str(os.getpid()))

    def test_bad_order_files(self):
        self.three()
        order = common.PATCHES / 'series'
        text = order.read_text()
        for bad, word in (('nope/x.patch\n', 'no file'), ('mm\n', 'not topic'),
                          ('../../etc/x.patch\n', 'not topic'),
                          ('mmap/count-lines.patch\n', 'twice')):
            order.write_text(text + bad)
            self.fails(tree.make_tree, 'series:', word)
        order.unlink()
        self.fails(tree.make_tree, 'series', 'missing')


class Export(fake.Case):
    """make export and make check."""

    def test_round_trip(self):
        self.three()
        before = self.files()
        self.assertIn('mm/verify/core.c', before)
        self.assertEqual(before['MAINTAINERS'], b'\nVERIFY\nM:\tx\n')
        self.assertNotIn('mm/mmap.c', before)
        export.check()
        shutil.rmtree(common.LINUX)
        tree.make_tree()
        times = {p: p.stat().st_mtime_ns for p in self.root.rglob('patches/**/*') if p.is_file()}
        export.export()
        self.assertEqual(self.files(), before)
        self.assertEqual(times, {p: p.stat().st_mtime_ns for p in times})   # nor rewritten
        self.assertEqual(common.base()['series_tree'],
                         git('rev-parse', 'HEAD^{tree}', cwd=common.LINUX))

    def test_form_of_a_patch(self):
        self.three()
        text = (common.PATCHES / 'mmap/count-lines.patch').read_text()
        self.assertTrue(text.startswith('From ' + '0' * 40 + ' Mon Sep 17 00:00:00 2001\n'))
        self.assertIn('\nSubject: [PATCH] mm/mmap: count lines\n', text)
        self.assertRegex(text, r'\nindex [0-9a-f]{40}\.\.[0-9a-f]{40} 100644\n')
        self.assertFalse(re.search(r'^-- $', text, re.M))

    def test_configuration_does_not_matter(self):
        self.three()
        before = self.files()
        for key, value in (('format.signOff', 'true'), ('format.numbered', 'true'),
                           ('format.attach', 'x'), ('diff.noprefix', 'true'),
                           ('format.to', 'a@b'), ('diff.algorithm', 'patience'),
                           ('format.subjectPrefix', 'X'), ('format.headers', 'X-A: b\n'),
                           ('core.abbrev', '7'), ('diff.context', '9'), ('format.from', 'true'),
                           ('format.coverLetter', 'true'), ('format.signature', 'me')):
            git('config', key, value, cwd=common.LINUX)
        export.export()
        self.assertEqual(self.files(), before)

    def test_hunk_headings_are_git_s_for_c(self):
        self.three()
        self.commit('mm/vmscan: more', mm__vmscan_dot_c='\tmore();\n')
        export.export()
        self.assertIn('@@ int shrink(void)\n', series.series()[-1].path.read_text())
        export.check()

    def test_comments_stay(self):
        self.three()
        order = common.PATCHES / 'series'
        order.write_text(order.read_text().replace('# topic: verify', '# topic: verify, my words')
                         .replace('verify/add-a-runner', '# why it is last\nverify/add-a-runner'))
        want = order.read_text()
        self.commit('mm/rmap: more', mm__rmap_dot_c='int more;\n')
        self.env(FORCE='1')
        export.export()
        self.assertTrue(order.read_text().startswith(want))
        self.assertIn('# topic: rmap', order.read_text())
        self.assertIn('# a comment that stays', (self.root / 'base/v6.1').read_text())

    def test_names_survive_amend_rebase_and_squash(self):
        self.three()
        linux = common.LINUX
        git('commit', '-q', '--amend', '-m', 'selftests/mm: run them all', cwd=linux)
        self.commit('fixup! mm/mmap: count lines', mm__mmap_dot_c='int fixed;\n')
        git('rebase', '-q', '-i', '--autosquash', 'base', cwd=linux, GIT_SEQUENCE_EDITOR='true')
        git('rebase', '-q', '-i', 'base', cwd=linux, GIT_SEQUENCE_EDITOR='sed -i 1{h\\;d}\\;2{G}')
        export.export()
        self.assertEqual([p.id for p in series.series()],
                         ['verify/add-the-core', 'mmap/count-lines', 'verify/add-a-runner'])
        self.assertEqual(series.series()[2].subject, 'selftests/mm: run them all')
        self.assertIn('+int fixed;', series.series()[1].path.read_text())
        export.check()

    def test_new_commit_takes_topic_from_prefix_or_predecessor(self):
        self.three()
        self.commit('mm/rmap: more!', mm__rmap_dot_c='int a;\n')
        self.commit('Docs/mm: tell', Documentation__mm__x_dot_rst='x\n')
        self.commit('mm/rmap: more?', mm__rmap_dot_c='int b;\n')
        export.export()
        self.assertEqual([p.id for p in series.series()][3:],
                         ['rmap/more', 'rmap/tell', 'rmap/more-2'])
        self.assertTrue(any('rmap/tell' in line for line in self.said))

    def test_dropped_patch_takes_its_files_along(self):
        self.three()
        (self.root / 'mm/mine.c').write_text('not from the series\n')
        git('reset', '-q', '--hard', 'HEAD~2', cwd=common.LINUX)
        export.export()
        files = self.files()
        self.assertEqual([x for x in files if x.endswith('.patch')],
                         ['patches/v6.1/mmap/count-lines.patch'])
        self.assertNotIn('mm/verify/core.c', files)
        self.assertNotIn('MAINTAINERS', files)
        self.assertFalse((self.root / 'tools').exists())
        self.assertIn('mm/mine.c', files)
        self.assertTrue(any('left alone: mm/mine.c' in line for line in self.said))
        self.fails(export.check, '1 mismatch')

    def test_own_files_are_never_removed(self):
        self.three()
        for name in ('rig/x.py', 'guest/init', 'base/v7'):
            (self.root / name).parent.mkdir(exist_ok=True)
            (self.root / name).write_text('ours\n')
        git('add', '-A', '.', cwd=self.root)
        self.commit('mm/verify: drop the core', mm__rmap_dot_c='int x;\n')
        git('rm', '-q', 'mm/verify/core.c', cwd=common.LINUX)
        git('commit', '-q', '--amend', '--no-edit', cwd=common.LINUX)
        export.export()
        self.assertLessEqual({'rig/x.py', 'guest/init', 'base/v7'}, set(self.files()))
        self.assertNotIn('mm/verify/core.c', self.files())

    def unchanged(self, *words):
        """export fails with these words and writes nothing."""
        before = self.files()
        self.fails(export.export, *words)
        self.assertEqual(self.files(), before)
        self.assertEqual(list(self.root.glob('.export*')), [])

    def test_refuses_uncommitted(self):
        self.three()
        (common.LINUX / 'mm/mmap.c').write_text('edited\n')
        self.unchanged('mm/mmap.c', 'commit')

    def test_refuses_wrong_author(self):
        self.three()
        (common.LINUX / 'mm/rmap.c').write_text('x\n')
        git('commit', '-q', '-a', '-m', 'mm/rmap: x', '--author=A <a@b>', cwd=common.LINUX)
        self.unchanged('A <a@b>', 'mm/rmap: x', '--reset-author')

    def test_refuses_a_text_that_an_mbox_would_cut(self):
        self.three()
        (common.LINUX / 'mm/rmap.c').write_text('x\n')
        git('commit', '-q', '-a', '-m', 'mm/rmap: x\n\nOne.\n\nFrom there it goes on.',
            cwd=common.LINUX)
        self.unchanged('reword "From there it goes on."')

    def test_refuses_merges_empty_commits_and_odd_files(self):
        self.three()
        git('commit', '-q', '--allow-empty', '-m', 'mm/rmap: nothing', cwd=common.LINUX)
        self.unchanged('changes nothing')
        git('reset', '-q', '--hard', 'HEAD^', cwd=common.LINUX)
        git('merge', '-q', '-s', 'ours', '--no-ff', '-m', 'merge', git(
            'commit-tree', 'base^{tree}', '-p', 'base', '-m', 'side', cwd=common.LINUX),
            cwd=common.LINUX)
        self.unchanged('merge')
        git('reset', '-q', '--hard', 'HEAD^', cwd=common.LINUX)
        self.commit('mm/rmap: top', README='x\n')
        self.unchanged('README')

    def test_refuses_to_undo_changed_patches(self):
        self.three()
        path = common.PATCHES / 'mmap/count-lines.patch'
        path.write_text(path.read_text().replace('Body.', 'Pulled.'))
        self.unchanged('changed since', 'FORCE=1')

    def test_refuses_without_a_tree(self):
        self.unchanged('make tree')

    def test_full_disk_changes_nothing(self):
        self.three()
        self.commit('mm/rmap: more', mm__rmap_dot_c='int a;\n', mm__verify__b_dot_c='b\n')
        real, seen = export.Path.write_bytes, []

        def full(path, data):
            seen.append(path)
            if len(seen) == 3:
                raise OSError(28, 'No space left on device')
            return real(path, data)
        before = self.files()
        with mock.patch.object(export.Path, 'write_bytes', full), self.assertRaises(OSError):
            export.export()
        self.assertEqual(self.files(), before)
        export.export()
        export.check()

    def test_interrupted_swap_is_finished_by_the_next_export(self):
        self.three()
        self.commit('mm/rmap: more', mm__rmap_dot_c='int a;\n', mm__verify__b_dot_c='b\n')
        real, seen = os.replace, []

        def stops(old, new):
            if '.export-' in str(old):
                seen.append(new)
                if len(seen) == 2:
                    raise KeyboardInterrupt
            return real(old, new)
        with mock.patch.object(os, 'replace', stops), self.assertRaises(KeyboardInterrupt):
            export.export()
        self.fails(tree.make_tree)
        export.export()
        export.check()

    def test_check_names_every_mismatch(self):
        self.three()
        path = common.PATCHES / 'mmap/count-lines.patch'
        path.write_text(path.read_text() + '-- \n2.39.5\n')
        (self.root / 'mm/verify/core.c').write_text('edited here\n')
        (self.root / 'tools/testing/selftests/mm/run.sh').unlink()
        (common.PATCHES / 'mmap/stray.patch').write_text('x')
        self.base_file(series_tree='0' * 40)
        self.fails(export.check, '5 mismatches')
        text = '\n'.join(self.said)
        for word in ('count-lines.patch: differs', 'core.c: differs', 'run.sh: missing',
                     'stray.patch: stands here', 'series_tree'):
            self.assertIn(word, text)
        self.assertEqual([p.name for p in common.OUT.iterdir()], ['tree.lock'])
