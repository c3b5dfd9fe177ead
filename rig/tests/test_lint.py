# SPDX-License-Identifier: GPL-2.0
"""make lint on a made-up repository: a clean one, and one fault of each kind."""
import contextlib
import io
import shutil
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from rig import common, lint

PATCH = """\
From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 2001
From: mm-lockstep <mm-lockstep@example.org>
Date: Thu, 1 Jan 2026 00:00:00 +0000
Subject: [PATCH] selftests/mm: add a test whose subject is folded in its
 mail header

What goes wrong, in plain words, and how.

    quoted output may be much longer than what is allowed in ordinary text, all of it
https://example.org/a/very/long/address/that/cannot/be/wrapped/anywhere/at/all/really

Selftest: tools/testing/selftests/mm/t.c#group.works
---
 tools/testing/selftests/mm/t.c | 1 +
 1 file changed, 1 insertion(+)
 create mode 100644 tools/testing/selftests/mm/t.c

diff --git a/tools/testing/selftests/mm/t.c b/tools/testing/selftests/mm/t.c
new file mode 100644
index 0000000000000000000000000000000000000000..0123456789abcdef0123456789abcdef01234567
--- /dev/null
+++ b/tools/testing/selftests/mm/t.c
@@ -0,0 +1 @@
+TEST_F(group, works)
"""

# Stand-ins for the kernel's scripts: they find the word they are made for.
CHECKPATCH = r'''
@ARGV = ($ARGV[-1]);
while (<>) {
    print "$ARGV:$.: WARNING:BAD_STYLE: bad style\n" if /BADSTYLE/;
    print "$ARGV:$.: $1\n" if /SAYS (.*)/;
    die "broken\n" if /BREAKS/;
    $bad = 1 if /SILENT/;
}
exit $bad;
'''
KERNEL_DOC = r'''
my $file = pop @ARGV;
open(my $f, '<', $file) or die;
while (<$f>) { if (/UNDESCRIBED/) { print STDERR "$file:$.: warning: not described\n"; $bad = 1 } }
exit $bad;
'''


class Lint(unittest.TestCase):
    def setUp(self):
        self.tmp = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, self.tmp)
        for name, value in (('ROOT', self.tmp), ('OUT', self.tmp / 'out'), ('LINUX', self.tmp / 'linux'),
                            ('PATCHES', self.tmp / 'patches/v6.1')):
            patch = mock.patch.object(common, name, value)
            patch.start()
            self.addCleanup(patch.stop)
        lint.kernel_scripts.cache_clear()
        self.addCleanup(lint.kernel_scripts.cache_clear)
        self.put('.gitignore', '/linux/\n/out/\n')
        self.put('linux/scripts/checkpatch.pl', CHECKPATCH)
        self.put('linux/scripts/kernel-doc', KERNEL_DOC)
        self.put('configs/debug.config', '# why\nCONFIG_A=y\n\n# CONFIG_B is not set\n')
        self.put('rig/a.py', 'import os\nprint(os.sep)\n')
        self.put('rig/a.sh', '#!/bin/sh\necho "$1"\n')
        self.put('guest/init', '#!/bin/busybox sh\n')
        self.put('mm/verify/core.c', '/* fine */\n')
        self.put('patches/v6.1/series', '# topic\nverify/one.patch\n')
        self.put('patches/v6.1/verify/one.patch', PATCH)
        common.git('init', '-q', cwd=self.tmp)

    def put(self, name, text):
        path = self.tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def patch(self, old, new, text=PATCH):
        self.assertIn(old, text)
        self.put('patches/v6.1/verify/one.patch', text.replace(old, new, 1))

    def findings(self):
        counts = {}
        found = lint.findings_by_check(counts)
        self.assertEqual(list(found), list(counts))
        for lines in found.values():
            for line in lines:
                self.assertRegex(line, r'^[^:\s]+:\d+: ?\S|^[^:\s]+:\d+:\d+: ')
        return {name: lines for name, lines in found.items() if lines}

    def assertFinds(self, check, *what):
        """Exactly this check complains, once for each `what`."""
        found = self.findings()
        self.assertEqual(list(found), [check], found)
        self.assertEqual(len(found[check]), len(what), found)
        for line, wanted in zip(found[check], what):
            self.assertRegex(line, wanted)

    def assertOne(self, what, check=lint.mail_format):
        """The one patch has exactly this fault; without the other checks, for speed."""
        found = check(lint.Mail(self.tmp / 'patches/v6.1/verify/one.patch'))
        self.assertEqual(len(found), 1, found)
        self.assertRegex(found[0], what)

    def test_clean(self):
        self.assertEqual(self.findings(), {})
        counts = {}
        lint.findings_by_check(counts)
        self.assertEqual(counts['checkpatch'], 1)
        self.assertEqual(counts['kernel-doc'], 1)
        self.assertGreaterEqual(counts['shellcheck'], 1)

    def test_main(self):
        for text, status in (('fine', 0), ('BADSTYLE', 1)):
            self.patch('What goes', text)
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                self.assertEqual(lint.main(), status)
            self.assertEqual(out.getvalue().splitlines()[-1], f'lint: {status} findings')

    def test_series(self):
        self.put('patches/v6.1/series', 'verify/one.patch\nverify/none.patch\n../x.patch\nverify/one.patch\n')
        self.put('patches/v6.1/verify/two.patch', PATCH)
        self.assertFinds('series file', r'series:2: no such file: verify/none.patch',
                         r'series:3: not topic/name.patch', 'series:4: .*line 1 too',
                         r'two.patch:1: not in patches/v6.1/series')

    def test_no_series_is_not_clean(self):
        (self.tmp / 'patches/v6.1/series').unlink()
        (self.tmp / 'patches/v6.1/verify/one.patch').unlink()
        self.assertFinds('series file', 'series:1: not there')
        self.put('patches/v6.1/series', '# nothing\n')
        self.assertFinds('series file', 'series:1: names no patch')

    def test_mail_heads(self):
        for old, new, what in (
                ('From 0123', 'From 123', ':1: first line'),
                ('From: mm-lockstep <mm-lockstep@example.org>', 'From: A <a@example.org>', ':2: author is A'),
                ('From: mm-lockstep <mm-lockstep@example.org>\n', '', 'author is not there'),
                ('Thu, 1 Jan 2026 00:00:00 +0000', 'yesterday', ':3: no Date'),
                ('[PATCH]', '[PATCH 1/2]', ':4: subject does not start'),
                ('[PATCH] selftests/mm: add', '[PATCH] add', ':4: subject has no "file: "'),
                (' mail header', ' mail header and more', ':4: subject has 76 characters'),
                (' mail header', ' mail header.', ':4: subject ends in a full stop')):
            with self.subTest(what):
                self.patch(old, new)
                self.assertOne(what)

    def test_subject_lists_files(self):
        self.patch('selftests/mm: add a test whose subject is folded in its\n mail header',
                   'mm/rmap, mm/mmap: short')
        self.assertEqual(self.findings(), {})

    def test_changelog(self):
        self.patch('What goes wrong, in plain words, and how.', 'word ' * 15 + 'x')
        self.assertFinds('mail format', ':7: changelog line has 76 columns')
        self.patch('What goes wrong', '\tWhat goes ' + 'wrong ' * 20)
        self.assertEqual(self.findings(), {})

    def test_empty_changelog(self):
        text = PATCH[:PATCH.index('What')] + PATCH[PATCH.index('Selftest'):]
        self.patch('From', 'From', text)
        self.assertFinds('mail format', 'no changelog')

    def test_forbidden_trailers(self):
        for tag in ('Signed-off-by', 'Reviewed-by', 'Tested-by', 'Acked-by', 'Reported-by',
                    'Co-developed-by', 'signed-off-by', ' Acked-by'):
            with self.subTest(tag):
                self.patch('Selftest:', f'{tag}: A Name <a@example.org>\nSelftest:')
                self.assertOne(r':\d+: .*only who submits')

    def test_trailer(self):
        for new, what in (
                ('', 'neither a trailer'),
                ('Selftest: tools/testing/selftests/mm/t.c\n', ':12: not "Selftest: path#test"'),
                ('Selftest: tools/testing/selftests/mm/u.c#works\n', 'u.c is added by no patch'),
                ('Selftest: tools/testing/selftests/mm/t.c#group.fails\n', 'no test group.fails'),
                ('Selftest: tools/testing/selftests/mm/t.c#work\n', 'no test work'),
                ('No selftest:\n', 'no reason'),
                ('No selftest: -\n', 'no reason')):
            with self.subTest(what):
                self.patch('Selftest: tools/testing/selftests/mm/t.c#group.works\n', new)
                self.assertOne(what, lambda mail: lint.selftest_trailer(mail, mail.added))
        self.patch('Selftest: tools/testing/selftests/mm/t.c#group.works',
                   'No selftest: a comment alone changes')
        self.assertEqual(self.findings(), {})

    def test_trailer_looks_at_the_whole_series(self):
        """A test that another patch adds counts, wherever that patch stands; it must be one."""
        other = PATCH[:PATCH.index('diff --git')] + PATCH[PATCH.index('diff --git'):].replace(
            'selftests/mm/t.c', 'selftests/mm/u.c')
        self.put('patches/v6.1/verify/two.patch', other)
        for order in ('verify/two.patch\nverify/one.patch\n', 'verify/one.patch\nverify/two.patch\n'):
            self.put('patches/v6.1/series', order)
            self.assertEqual(self.findings(), {})
        (self.tmp / 'patches/v6.1/verify/one.patch').unlink()
        self.put('patches/v6.1/series', 'verify/two.patch\n')
        self.assertFinds('selftest trailer', 'two.patch:12: .*t.c is added by no patch')

    def test_checkpatch(self):
        self.patch('What goes', 'BADSTYLE goes')
        self.assertFinds('checkpatch', 'one.patch:7: checkpatch WARNING:BAD_STYLE: bad style')
        self.patch('What goes', 'BREAKS goes')
        self.assertFinds('checkpatch', 'one.patch:1: checkpatch: broken')
        self.patch('What goes', 'SILENT goes')
        self.assertFinds('checkpatch', 'ended with 1 and said nothing')

    def test_checkpatch_accepted(self):
        """What is accepted is accepted narrowly."""
        for said, good in (('WARNING:FILE_PATH_CHANGES: added file', True),
                           ('CHECK:CAMELCASE: Avoid CamelCase: <__SetPageBuddy>', True),
                           ('CHECK:CAMELCASE: Avoid CamelCase: <mySetPage>', False),
                           ('WARNING:FILE_PATH_CHANGES_X: added file', False)):
            self.patch('What goes wrong, in plain words, and how.', f'SAYS {said}')
            found = lint.checkpatch(self.tmp / 'patches/v6.1/verify/one.patch')
            self.assertEqual(found, [] if good else [f'patches/v6.1/verify/one.patch:7: checkpatch {said}'])

    def test_kernel_doc(self):
        self.put('mm/verify/core.c', '\n/** UNDESCRIBED */\n')
        self.assertFinds('kernel-doc', 'mm/verify/core.c:2: kernel-doc warning: not described')

    def test_shellcheck(self):
        self.put('guest/init', '#!/bin/sh\ncat $1\n')
        self.assertFinds('shellcheck', r'^guest/init:2:5: .*SC2086')

    def test_python(self):
        self.put('rig/a.py', 'import os\n')
        self.assertFinds('python', r"^rig/a.py:1:1: 'os' imported but unused")
        self.put('rig/a.py', '\nx = (\n')
        self.assertFinds('python', r'^rig/a.py:2: ')

    def test_missing_tool_is_no_pass(self):
        with mock.patch.object(lint, 'PATH', '/nonexistent'):
            with self.assertRaisesRegex(common.Fail, 'not installed: run rig/deps.sh'):
                lint.python([self.tmp / 'rig/a.py'])

    def test_configs(self):
        self.put('configs/debug.config', 'CONFIG_A=y\n# CONFIG_A is not set\nCONFIG_B\n# CONFIG_C off\n')
        self.assertFinds('configs', 'debug.config:2: CONFIG_A=n, and y above', ':3: neither', ':4: neither')

    def test_documents(self):
        table = '==== ====\n{}    text\n==== ====\n'
        self.put('Documentation/mm/a.rst', table.format('name ') + '\n:doc:`x`\n\n.. kernel-doc:: y\n')
        self.assertEqual(self.findings(), {})
        self.put('Documentation/mm/a.rst', table.format('too long'))
        self.assertFinds('documents', r'Documentation/mm/a.rst:\d+: .*Malformed table')

    def test_machine_names(self):
        # put together here, so that this file passes its own check
        self.put('README.md', 'x\ncd /' + 'root/x\n')
        self.assertFinds('machine names', 'README.md:2: names something of one machine: /' + 'root/')
        self.put('README.md', 'see $HOME/root/x and sysroot/x\n')
        self.assertEqual(self.findings(), {})

    def test_mirror_hosts(self):
        apt = self.tmp / 'out/apt'
        self.put('out/apt/sources.list', 'deb http://user@mirror.example.net/debian bookworm main\n')
        self.put('out/apt/sources.list.d/a.sources', 'Types: deb\nURIs: https://b.example.net/debian\n')
        hosts = lint.mirror_hosts(apt)
        self.assertEqual(hosts, {'mirror.example.net', 'b.example.net'})
        self.put('README.md', 'get it from\nmirror.example.net\n')
        self.assertEqual(len(lint.machine_names([self.tmp / 'README.md'], hosts)), 1)
        self.assertEqual(lint.machine_names([self.tmp / 'README.md'], set()), [])


class Parts(unittest.TestCase):
    def test_scripts_come_from_the_base_without_linux(self):
        """Without linux/ the base's scripts are taken out of its repository, once."""
        tmp = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, tmp)
        lint.kernel_scripts.cache_clear()
        self.addCleanup(lint.kernel_scripts.cache_clear)
        repo = tmp / 'repo'
        for part in lint.KERNEL_PARTS:
            path = repo / (f'{part}/x' if part.islower() else part)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('')
        common.git('init', '-q', '-b', 'base', cwd=repo)
        common.git('add', '.', cwd=repo)
        common.git('commit', '-qm', 'base', cwd=repo)
        with mock.patch.object(common, 'LINUX', tmp / 'none'), \
                mock.patch.object(common, 'OUT', tmp / 'out'), \
                mock.patch('rig.fetch.base_repo', return_value=repo) as fetched:
            root = lint.kernel_scripts()
            self.assertTrue((root / 'scripts/x').is_file())
            self.assertTrue((root / 'arch').is_dir())
            lint.kernel_scripts.cache_clear()
            self.assertEqual(lint.kernel_scripts(), root)
            fetched.assert_called_once()


if __name__ == '__main__':
    unittest.main()
