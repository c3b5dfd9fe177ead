# SPDX-License-Identifier: GPL-2.0
"""The verdict: each way a boot can be bad is told, none of them passes."""
import json
import os
import re
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

from rig import common, splat, verdict
from rig.tests.test_ktap import fake_tree

CONSOLES = Path(__file__).parent / 'consoles'
NONCE = '5eed0c0de5eed'
GOOD = ('KTAP version 1\n1..1\n    TAP version 13\n    1..2\n    ok 1 global.order\n'
        '    ok 2 global.alignment\n# time=1.25\nok 1 verify_free_lists\n')


class Base(unittest.TestCase):
    """judge() on files in a temporary folder."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = Path(folder.name)
        self.tree = fake_tree(self.dir / 'tree')
        self.out = self.dir / 'out'

    def judge(self, console='clean', results=GOOD, text=None, **kw):
        """judge() of a console of the test data (or text) and results text (None: no file)."""
        self.dir.joinpath('console.log').write_bytes(
            (CONSOLES / f'{console}.log').read_bytes() if text is None else text.encode())
        path = self.dir / 'results.ktap'
        path.unlink(missing_ok=True)
        if results is not None:
            path.write_text(results)
        args = {'qemu_exit': 0, 'ended': 'exit', 'nonce': NONCE, 'tree': self.tree,
                'console': self.dir / 'console.log', 'results': path, **kw}
        return verdict.judge(self.out, **args)

    def bad(self, said, *args, reasons=1, **kw):
        """judge() says no, with this many reasons, one of which matches; the table
        gives it and the end of the console."""
        found = self.judge(*args, **kw)
        self.assertFalse(found.ok)
        self.assertEqual(len(found.reasons), reasons, found.reasons)
        self.assertTrue(any(re.search(said, reason) for reason in found.reasons), found.reasons)
        table = verdict.table(found)
        self.assertRegex(table, said)
        self.assertNotIn('  good:', table)
        for line in found.tail:
            self.assertIn(f'    | {line}', table)
        self.assertFalse(json.loads((self.out / 'verdict.json').read_text())['ok'])
        root = ElementTree.parse(self.out / 'junit.xml').getroot()
        self.assertNotEqual(root.get('failures'), '0')
        return found

    def console(self, name='clean'):
        """The text of a console of the test data."""
        return (CONSOLES / f'{name}.log').read_bytes().decode()


class Judging(Base):
    """Good and bad boots."""

    def test_clean(self):
        """Everything good."""
        found = self.judge()
        self.assertEqual((found.ok, found.reasons, found.splats), (True, [], []))
        self.assertEqual(found.counts, {
            'programs': 1, 'tests': 2, 'passed': 2, 'failed': 0, 'crashed': 0, 'errors': 0,
            'skipped': 0, 'splats': 0, 'splats_allowed': 0})
        table = verdict.table(found)
        self.assertRegex(table, r'verify_free_lists +2 +2 +0 +0 +1\.2\n')
        self.assertIn('good: 2 passed, 0 skipped', table)
        self.assertNotIn('    | ', table)

    def test_qemu(self):
        """QEMU's exit is judged although the guest's word is good."""
        self.bad('QEMU ended with exit 1', qemu_exit=1)
        self.bad('QEMU ended by signal 6', qemu_exit=-6)
        self.bad('no exit status', qemu_exit=None)

    def test_hang(self):
        """A hang, a limit and any other end by force are told as that."""
        cut = self.console().split('[    1.198730] MM-LOCKSTEP-END')[0]
        self.bad('hang: .*silent', text=cut, ended='hang', qemu_exit=-15, reasons=2)
        self.bad('past its hard limit', ended='limit', qemu_exit=-15)
        self.bad(r'QEMU was ended \(killed\)', ended='killed', qemu_exit=0)
        self.bad('hang', 'soft-lockup', ended='hang', qemu_exit=-15, reasons=3)

    def test_no_sentinel(self):
        """A panic ends QEMU with exit 0: no end line, so bad; also without the splat."""
        found = self.bad('no MM-LOCKSTEP-END', 'panic', results=GOOD, reasons=2)
        self.assertTrue(any('sysrq triggered crash' in reason for reason in found.reasons))
        text = ''.join(line for line in self.console().splitlines(True)
                       if 'MM-LOCKSTEP-END' not in line)
        self.bad('no MM-LOCKSTEP-END', text=text)

    def test_truncated_console(self):
        """Cut off anywhere before the end line's last digit, a console is bad."""
        text = self.console()
        end = text.index('MM-LOCKSTEP-END') + len(f'MM-LOCKSTEP-END {NONCE} rc=0')
        for cut in (0, 100, text.index('MM-LOCKSTEP-INIT'), end - 20, end - 1):
            self.bad('MM-LOCKSTEP-|empty', text=text[:cut])
        self.assertTrue(self.judge(text=text[:end] + '\r\n').ok)

    def test_no_console(self):
        """No console at all."""
        found = verdict.judge(self.out, qemu_exit=0, ended='exit', console=self.dir / 'gone',
                              results=None, nonce=NONCE, tree=self.tree, expect='boot')
        self.assertEqual(found.reasons, ['console: No such file or directory'])
        self.bad('empty', text='', ended='hang', qemu_exit=-15, reasons=2)

    def test_nonce(self):
        """Lines of another boot do not count, nor do two boots on one console."""
        self.bad('another run', nonce='0123456789')
        text = self.console()
        other = text.replace(f'END {NONCE}', 'END feed')
        self.bad('MM-LOCKSTEP-END of another run: feed', text=other)
        self.bad('more than one', text=text + text)
        line = f'[    1.300000] MM-LOCKSTEP-END {NONCE} rc=0\r\n'
        self.bad('2 MM-LOCKSTEP-END lines', text=text + line)

    def test_rc(self):
        """The guest's own status counts although every test passed."""
        self.bad('the guest ended with rc=3', text=self.console().replace('rc=0', 'rc=3'))
        self.bad('the guest ended with rc=124', text=self.console().replace('rc=0', 'rc=124'))

    def test_sentinel_split(self):
        """An end line from a terminal that a kernel record cut in two is whole."""
        text = self.console('warn').replace(
            f'MM-LOCKSTEP-END {NONCE} rc=0\r\n',
            f'MM-LOCK[    2.500000] ACPI: a record\r\nSTEP-END {NONCE} rc=0\r\n')
        found = self.bad('page_counter underflow', text=text)
        self.assertEqual(found.checks['sentinel'], [])

    def test_results_missing(self):
        """No results, empty results, blank results: all bad in a test boot."""
        self.bad('results file: No such file', results=None)
        self.bad('results file: empty', results='')
        self.bad('results file: empty', results='\n \n')
        found = self.judge(results=None, expect='boot')
        self.assertTrue(found.ok)

    def test_results_truncated(self):
        """Results cut off at any line are bad although END says rc=0."""
        lines = GOOD.splitlines(True)
        for cut in range(1, len(lines)):
            self.assertFalse(self.judge(results=''.join(lines[:cut])).ok, cut)

    def test_failures(self):
        """Failed tests, with their log in the table."""
        results = (CONSOLES / 'failures.ktap').read_text()
        found = self.bad(r'4 of 10 tests failed: verify_free_lists.alignment, verify_lru.test-2',
                         results=results, reasons=2)
        self.assertEqual(found.counts['passed'], 5)
        self.assertEqual((found.counts['failed'], found.counts['crashed'],
                          found.counts['skipped']), (2, 2, 1))
        table = verdict.table(found)
        self.assertIn('order.c:4:alignment:Expected 0 (0) == 0x1003 & 3 (3)', table)
        self.assertIn('TIMEOUT 45 seconds', table)
        self.assertRegex(table, r'\n  all +10 +5 +4 +1')

    def test_skips(self):
        """Skips are counted apart and listed; a run of skips alone has shown nothing."""
        found = self.judge(results=(CONSOLES / 'skips.ktap').read_text())
        self.assertTrue(found.ok)
        self.assertEqual((found.counts['passed'], found.counts['skipped']), (5, 1))
        self.assertIn('SKIP verify_free_lists.migratetype: SKIP no CMA area', verdict.table(found))
        self.assertIn('good: 5 passed, 1 skipped', verdict.table(found))
        self.bad('all 1 tests were skipped, none passed',
                 results='KTAP version 1\n1..1\nok 1 a # SKIP no root\n')

    def test_programs(self):
        """A program that was asked for and is not among the results."""
        self.assertTrue(self.judge(programs=['verify_free_lists']).ok)
        self.bad('swap_load did not run', programs=['verify_free_lists', 'swap_load'])

    def test_splats(self):
        """Every splat fails the run although every test passed."""
        for path in sorted(CONSOLES.glob('*.log')):
            text = path.read_bytes().decode(errors='replace')
            number = len(splat.scan(splat.lines_of(text)))
            found = self.judge(text=text)
            self.assertEqual(found.counts['splats'], number, path.name)
            if number:
                self.assertFalse(found.ok, path.name)
                self.assertEqual(len(found.checks['console']), number)

    def test_quotes(self):
        """A test that only talks about bugs passes."""
        self.assertTrue(self.judge('quotes').ok)
        self.assertTrue(self.judge('verify-injected').ok)

    def test_oom(self):
        """An OOM kill is bad, or let pass by the run and still told."""
        self.bad('oom: console line', 'oom-memcg')
        found = self.judge('oom-memcg', oom_ok=True)
        self.assertTrue(found.ok)
        self.assertEqual((found.counts['splats'], found.counts['splats_allowed']), (0, 1))
        self.assertIn('let pass: this run provokes the OOM killer', verdict.table(found))

    def test_allow(self):
        """An entry of the allow-list lets its splat pass, with its reason in the table."""
        entry = splat.Allow(re.compile('page_counter underflow'), 'a known one', 'when fixed')
        found = self.judge('warn', allow=[entry])
        self.assertTrue(found.ok)
        self.assertIn('let pass: a known one', verdict.table(found))

    def test_allowed_again(self):
        """What is let pass is told once, with how often; what is not is told each time."""
        found = self.judge('warn', allow=[splat.Allow(re.compile('page_counter underflow'),
                                                      'a known one', 'when fixed')])
        found.splats *= 3
        self.assertEqual(verdict.table(found).count('let pass, 3 times: a known one'), 1)
        found = self.judge('warn')
        found.splats *= 3
        self.assertEqual(verdict.table(found).count('splat, '), 3)

    def test_quiet(self):
        """A kernel told to be quiet cannot be judged."""
        for word in ('quiet', 'loglevel=3'):
            text = self.console().replace('Kernel command line: ', f'Kernel command line: {word} ')
            self.bad(f'{word} on the kernel command line', text=text)

    def test_kunit(self):
        """KUnit results that must be there: failing, none, fine."""
        self.bad('KUnit: 1 of 6 tests failed: free_lists.buddy_type', 'kunit', kunit=True)
        self.bad('KUnit: no results', kunit=True)
        self.bad('KUnit: the run: zero tests', 'kunit-none', kunit=True)
        text = re.sub(r'not ok 2', 'ok 2', self.console('kunit'))
        found = self.judge(text=text, kunit=True)
        self.assertTrue(found.ok, found.reasons)
        self.assertEqual(found.counts['programs'], 3)

    def test_all_reasons(self):
        """Every verdict is given, not only the first."""
        found = self.bad('results file', 'warn', results=None, qemu_exit=1, nonce='feed',
                         reasons=4)
        self.assertTrue(all(found.checks[check] for check in
                            ('qemu', 'sentinel', 'console', 'results')))
        for reason in found.reasons:
            self.assertNotIn('\n', reason)


class Reports(Base):
    """verdict.json, junit.xml and the decoded traces."""

    def test_json(self):
        """Everything is in it."""
        self.judge('list-del', results=(CONSOLES / 'failures.ktap').read_text())
        data = json.loads((self.out / 'verdict.json').read_text())
        self.assertEqual(data['counts']['tests'], 10)
        self.assertEqual(data['splats'][0]['kind'], 'list')
        self.assertEqual(data['programs'][0]['guest_seconds'], 1.93)
        self.assertEqual(len(data['console_tail']), 40)
        self.assertEqual((data['nonce'], data['qemu_exit_status']), (NONCE, 0))

    def test_junit(self):
        """A suite a program, splats as failures of the console, counts that add up."""
        self.judge('bad-page-map', results=(CONSOLES / 'failures.ktap').read_text())
        root = ElementTree.parse(self.out / 'junit.xml').getroot()
        suites = {suite.get('name'): suite for suite in root}
        self.assertEqual(set(suites), {'verify_free_lists', 'verify_lru', 'swap_load',
                                       'verify_core', 'console', 'boot'})
        self.assertEqual(suites['console'].get('failures'), '3')
        self.assertIn('Bad page map', suites['console'][0][0].get('message'))
        self.assertEqual(len(root.findall('.//skipped')), int(root.get('skipped')))
        self.assertEqual(len(root.findall('.//failure')), int(root.get('failures')))
        self.assertEqual(len(root.findall('.//testcase')), int(root.get('tests')))

    def test_junit_is_xml_whatever_is_printed(self):
        """Control characters and markup of a test do not break the file."""
        self.judge(results='KTAP version 1\n1..1\n# \x00\x1b[31m <&>"]]> \ufffe\n'
                           'not ok 1 a<b>&"c"\x07\n')
        root = ElementTree.parse(self.out / 'junit.xml').getroot()
        self.assertIsNotNone(root.find(".//failure"))

    def decoder(self, body):
        """The tree's decode_stacktrace.sh, and a vmlinux that has debug information."""
        scripts = self.tree / 'scripts'
        scripts.mkdir(exist_ok=True)
        (scripts / 'decode_stacktrace.sh').write_text(body)
        vmlinux = self.dir / 'vmlinux'
        vmlinux.write_text('x')
        tools = self.dir / 'bin'
        tools.mkdir(exist_ok=True)
        (tools / 'readelf').write_text('#!/bin/sh\necho "[ 3] .debug_info PROGBITS"\n')
        (tools / 'readelf').chmod(0o755)
        patch = mock.patch.dict(os.environ, {'PATH': f'{tools}:{os.environ["PATH"]}'})
        patch.start()
        self.addCleanup(patch.stop)
        return vmlinux

    def test_decode(self):
        """The splat's lines go through the tree's script into table and file."""
        vmlinux = self.decoder('[ "$2" = auto ] && sed s/page_counter_uncharge.*/DECODED/\n')
        found = self.judge('warn', vmlinux=vmlinux)
        self.assertIn('DECODED', found.decoded)
        self.assertNotIn('R13:', found.decoded)
        self.assertIn('DECODED', verdict.table(found))
        self.assertEqual((self.out / 'splats.decoded').read_text(), found.decoded)
        self.assertEqual(self.judge('clean', vmlinux=vmlinux).decoded, '')

    def test_decode_without(self):
        """No vmlinux, no script, no debug information, a script that fails: no traces,
        and the verdict as before."""
        vmlinux = self.decoder('exit 1\n')
        self.assertEqual(self.bad('page_counter', 'warn', vmlinux=vmlinux).decoded, '')
        self.assertEqual(self.bad('page_counter', 'warn', vmlinux='/nonexistent').decoded, '')
        (self.dir / 'bin/readelf').write_text('#!/bin/sh\nexit 1\n')
        self.assertEqual(self.bad('page_counter', 'warn', vmlinux=vmlinux).decoded, '')
        (self.tree / 'scripts/decode_stacktrace.sh').unlink()
        self.assertEqual(self.bad('page_counter', 'warn', vmlinux=vmlinux).decoded, '')

    def test_decode_is_bounded(self):
        """A decoder that never ends is ended, with what it started."""
        vmlinux = self.decoder('sleep 100\n')
        begun = time.monotonic()
        with mock.patch.object(verdict, 'DECODE_SECONDS', 0.3):
            found = self.bad('page_counter', 'warn', vmlinux=vmlinux)
        self.assertLess(time.monotonic() - begun, 5)
        self.assertIn('took more than', found.decoded)

    def test_damaged_allow_list(self):
        """A damaged allow-list ends the command instead of letting everything pass."""
        with mock.patch.object(splat, 'ALLOW', self.dir / 'allow.txt'):
            (self.dir / 'allow.txt').write_text('pattern: x\n')
            with self.assertRaises(common.Fail):
                self.judge()


if __name__ == '__main__':
    unittest.main()
