# SPDX-License-Identifier: GPL-2.0
"""KTAP reading, with a small parser of the kernel parser's interface and, where a
kernel is at hand, with the kernel's own."""
import contextlib
import io
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from rig import common, ktap

CONSOLES = Path(__file__).parent / 'consoles'
FILES = ('kunit_parser.py', 'kunit_printer.py')

# The interface of the kernel's parser, reading the canonical form and no other.
FAKE_PARSER = '''
import enum, re
from kunit_printer import stdout
TestStatus = enum.Enum('TestStatus', 'SUCCESS FAILURE SKIPPED TEST_CRASHED NO_TESTS')
class Test:
    def __init__(self):
        self.name, self.status, self.subtests = '', TestStatus.TEST_CRASHED, []
def block(lines, indent):
    pad, tests = ' ' * indent, []
    assert lines.pop(0) == pad + 'KTAP version 1'
    if lines[0].startswith(pad + '# Subtest'):
        lines.pop(0)
    plan = int(re.fullmatch(pad + r'1\\.\\.(\\d+)', lines.pop(0)).group(1))
    while lines and lines[0].startswith(pad):
        test = Test()
        if lines[0].startswith(pad + '    '):
            test.subtests = block(lines, indent + 4)
        m = re.fullmatch(pad + r'(not )?ok (\\d+) ([^#]*?)( # SKIP)?', lines.pop(0))
        test.name = m.group(3)
        test.status = (TestStatus.SKIPPED if m.group(4) else
                       TestStatus.FAILURE if m.group(1) else TestStatus.SUCCESS)
        if any(t.status is TestStatus.TEST_CRASHED for t in test.subtests):
            test.status = TestStatus.TEST_CRASHED
        tests.append(test)
    while len(tests) < plan:
        tests.append(Test())
        stdout.print_with_timestamp('[ERROR] missing expected subtest!')
    return tests
def parse_run_tests(lines):
    stdout.print_with_timestamp('noise on stdout')
    main = Test()
    main.subtests = block(list(lines), 0)
    return main
'''
FAKE_PRINTER = '''
import sys
class Printer:
    def __init__(self, output):
        self.output = output
    def print_with_timestamp(self, text):
        print(text, file=self.output)
stdout = Printer(sys.stdout)
'''


def fake_tree(folder):
    """A kernel tree in which the parser is the small one above."""
    tools = Path(folder) / 'tools/testing/kunit'
    tools.mkdir(parents=True)
    for name, text in zip(FILES, (FAKE_PARSER, FAKE_PRINTER)):
        (tools / name).write_text(text)
    return Path(folder)


def real_tree(folder):
    """A tree with the kernel's own parser, from linux/ or the cache, or None."""
    if all((common.LINUX / 'tools/testing/kunit' / name).is_file() for name in FILES):
        return common.LINUX
    tools = Path(folder) / 'tools/testing/kunit'
    for repo in sorted(common.CACHE.glob('base-*.git')):
        texts = [subprocess.run(['git', 'show', f'refs/heads/base:tools/testing/kunit/{name}'],
                                cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                check=False) for name in FILES]
        if not any(done.returncode for done in texts):
            tools.mkdir(parents=True, exist_ok=True)
            for name, done in zip(FILES, texts):
                (tools / name).write_bytes(done.stdout)
            return Path(folder)
    return None


def data(name):
    """A file of the test data, as text."""
    return (CONSOLES / name).read_bytes().decode(errors='replace')


def brief(results):
    """(name, status) of every counting test."""
    return [(test.name, test.status) for test in results.leaves()]


class Reading:
    """The tests, run with both parsers."""
    tree = None

    def parse(self, *lines):
        """parse_results() of these lines; nothing is printed."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            results = ktap.parse_results('\n'.join(lines) + '\n', self.tree)
        self.assertEqual(out.getvalue(), '')
        return results

    def problem(self, said, *lines):
        """These lines are no complete account, and the first problem says why."""
        results = self.parse(*lines)
        self.assertTrue(any(said in problem for problem in results.problems),
                        f'{said!r} not in {results.problems}')
        return results

    def test_skips(self):
        """Real harness output: a nameless skip has its name back, and is no pass."""
        results = self.parse(data('skips.ktap'))
        self.assertEqual(results.problems, [])
        self.assertEqual(brief(results), [
            ('verify_core.first', 'PASS'), ('verify_core.batching', 'PASS'),
            ('verify_free_lists.order', 'PASS'), ('verify_free_lists.migratetype', 'SKIP'),
            ('verify_free_lists.alignment', 'PASS'), ('verify_free_lists.zone.nr_free', 'PASS')])
        self.assertEqual([program.seconds for program in results.programs], [0.41, 2.07])
        self.assertIn('no CMA area', results.leaves()[3].detail)

    def test_failures(self):
        """Real harness output: a failure, a program that died, a timeout; the
        results of the program after the dead one stay its own."""
        results = self.parse(data('failures.ktap').replace('\n', '\r\n'))
        self.assertEqual(brief(results), [
            ('verify_free_lists.order', 'PASS'), ('verify_free_lists.migratetype', 'SKIP'),
            ('verify_free_lists.alignment', 'FAIL'), ('verify_free_lists.zone.nr_free', 'PASS'),
            ('verify_lru.first', 'PASS'), ('verify_lru.test-2', 'CRASH'),
            ('verify_lru.test-3', 'CRASH'), ('swap_load', 'FAIL'),
            ('verify_core.first', 'PASS'), ('verify_core.batching', 'PASS')])
        self.assertEqual(results.problems, ['verify_lru: 1 of 3 planned tests reported'])
        programs = {program.name: program for program in results.programs}
        self.assertEqual(programs['verify_lru'].status, 'CRASH')
        self.assertEqual(programs['verify_lru'].detail, 'exit=139')
        self.assertEqual(programs['swap_load'].detail, 'TIMEOUT 45 seconds')
        self.assertIn('Expected 0 (0) == 0x1003 & 3 (3)', '\n'.join(results.leaves()[2].log))

    def test_subtest_form(self):
        """The form with KTAP version and # Subtest lines reads the same."""
        lines = [re.sub(r'^    TAP version 13', '    KTAP version 1\n    # Subtest: ?', line)
                 for line in data('skips.ktap').split('\n')]
        for name in ('verify_core', 'verify_free_lists'):
            lines[next(n for n, x in enumerate(lines) if x.endswith('?'))] = (
                f'    KTAP version 1\n    # Subtest: {name}')
        self.assertEqual(brief(self.parse(*lines)), brief(self.parse(data('skips.ktap'))))
        self.assertEqual(self.parse(*lines).problems, [])

    def test_deeper_and_two_spaces(self):
        """Three levels, and an indentation of two."""
        results = self.parse('KTAP version 1', '1..1', '  TAP version 13', '  1..1',
                             '    KTAP version 1', '    1..2', '    ok 1 a', '    not ok 2 b',
                             '  not ok 1 inner', 'not ok 1 outer # exit=1')
        self.assertEqual(brief(results), [('outer.inner.a', 'PASS'), ('outer.inner.b', 'FAIL')])
        self.assertEqual(results.problems, [])

    def test_nothing(self):
        """No KTAP, a bare header, a plan of zero: never a pass."""
        for lines, said in (((), 'no version line'), (('garbage',), 'no version line'),
                            (('ok 1 a',), 'before the version line'),
                            (('KTAP version 1',), 'no plan'),
                            (('KTAP version 1', '1..0'), 'zero tests'),
                            (('KTAP version 1', '1..1', '    TAP version 13', 'ok 1 a'),
                             'a: zero tests')):
            self.problem(said, *lines)

    def test_plans(self):
        """A plan not reached, exceeded, missing or doubled."""
        head = 'KTAP version 1'
        results = self.problem('1 of 2 planned', head, '1..2', 'ok 1 a')
        self.assertEqual(brief(results), [('a', 'PASS'), ('test-2', 'CRASH')])
        self.problem('2 tests reported, 1 planned', head, '1..1', 'ok 1 a', 'ok 2 b')
        self.problem('no plan', head, 'ok 1 a')
        self.problem('a second plan', head, '1..1', '1..2', 'ok 1 a')
        self.problem('p: no plan', head, '1..1', '    TAP version 13', '    ok 1 a', 'ok 1 p')
        self.problem('p: 1 of 2 planned', head, '1..1', '    TAP version 13', '    1..2',
                     '    ok 1 a', 'ok 1 p')

    def test_absurd_plan(self):
        """A plan of a billion tests does not eat the machine."""
        results = self.problem('1 of 999999999 planned', 'KTAP version 1', '1..999999999', 'ok 1 a')
        self.assertLess(len(results.leaves()), 2000)

    def test_numbers_and_names(self):
        """Doubled, missing or unordered numbers, and doubled names."""
        head = ('KTAP version 1', '1..2')
        for lines in (('ok 1 a', 'ok 1 b'), ('ok 2 a', 'ok 1 b'), ('ok 1 a', 'ok 3 b'),
                      ('ok a', 'ok b')):
            self.problem('not 1 to 2 in order', *head, *lines)
        self.problem('test a is reported more than once', *head, 'ok 1 a', 'ok 2 a')

    def test_truncated(self):
        """Cut off at any line, real results are no complete account any more."""
        lines = data('skips.ktap').rstrip('\n').split('\n')
        for cut in range(len(lines)):
            self.assertTrue(self.parse(*lines[:cut]).problems, cut)
        whole = data('skips.ktap').rstrip('\n')
        self.assertTrue(self.parse(whole[:-len('verify_free_lists') - 3]).problems)

    def test_program_without_result(self):
        """The runner died after a program: it has no result line, and is a crash."""
        results = self.problem('no result line', 'KTAP version 1', '1..1',
                               '    TAP version 13', '    1..1', '    ok 1 a')
        self.assertIn(('unnamed-1', 'CRASH'), brief(results))
        results = self.problem('no result line', 'KTAP version 1', '1..2', '    KTAP version 1',
                               '    # Subtest: one', '    1..1', '    ok 1 a', 'not quite ok')
        self.assertEqual(brief(results), [('one.a', 'PASS'), ('one', 'CRASH'),
                                          ('test-2', 'CRASH')])

    def test_dead_after_its_tests(self):
        """A program that passes all and then dies is bad, and counts."""
        results = self.parse('KTAP version 1', '1..1', '    TAP version 13', '    1..1',
                             '    ok 1 a', 'not ok 1 p # exit=134')
        self.assertEqual(brief(results), [('p.a', 'PASS'), ('p', 'CRASH')])

    def test_ok_over_a_failure(self):
        """A program that says ok although a test of it failed is a problem."""
        results = self.problem('says ok although a failed', 'KTAP version 1', '1..1',
                               '    TAP version 13', '    1..1', '    not ok 1 a', 'ok 1 p')
        self.assertEqual(brief(results), [('p.a', 'FAIL')])

    def test_directives(self):
        """SKIP, TODO and XFAIL are no passes; a failed skip is a failure."""
        results = self.parse('KTAP version 1', '1..5', 'ok 1 a # SKIP why', 'ok 2 b # TODO later',
                             'ok 3 - c # XFAIL known', 'not ok 4 d # SKIP why',
                             'ok 5 e # time=1.5s')
        self.assertEqual(brief(results), [('a', 'SKIP'), ('b', 'SKIP'), ('c', 'SKIP'),
                                          ('d', 'FAIL'), ('e', 'PASS')])
        self.assertEqual(results.leaves()[4].seconds, 1.5)

    def test_skipped_program(self):
        """ksft_exit_skip(): a plan of zero with a reason."""
        results = self.parse('KTAP version 1', '1..1', '    TAP version 13',
                             '    1..0 # SKIP needs root', 'ok 1 p # SKIP exit=4')
        self.assertEqual((brief(results), results.problems), ([('p', 'SKIP')], []))

    def test_seconds(self):
        """Every form of the time, and a test's own talk of time that is none."""
        for line, seconds in (('# time=1.5', 1.5), ('# seconds: 2', 2.0), ('# time: 20 ms', 0.02),
                              ('# p: 3 s', 3.0), ('# q: 3 s', None), ('# worst time: 3 s', None)):
            results = self.parse('KTAP version 1', '1..1', '    KTAP version 1', '    # Subtest: p',
                                 '    1..1', '    ok 1 a', line, 'ok 1 p')
            self.assertEqual(results.programs[0].seconds, seconds, line)

    def test_hash_in_a_name(self):
        """6.1's parser does not see a result whose name has a #; we do."""
        results = self.parse('KTAP version 1', '1..1', 'not ok 1 page #3 of 4')
        self.assertEqual(brief(results), [('page #3 of 4', 'FAIL')])
        self.assertEqual(results.problems, [])

    def test_bail_out(self):
        """ksft_exit_fail_msg() is told."""
        self.problem('Bail out! no debugfs', 'KTAP version 1', '1..1', '    TAP version 13',
                     '    1..2', '    Bail out! no debugfs', 'not ok 1 p # exit=1')

    def test_two_streams(self):
        """Two runs in one file are no account of either."""
        once = data('skips.ktap')
        self.problem('a second version line', once + once)

    def test_kunit(self):
        """KUnit on a console: suites, parameter tests without a plan, other messages."""
        results = ktap.parse_console(data('kunit.log'), self.tree)
        self.assertEqual(results.problems, [])
        self.assertEqual(brief(results), [
            ('mm_verify.register_twice', 'PASS'), ('mm_verify.report', 'PASS'),
            ('mm_verify.inject', 'SKIP'), ('free_lists.order_of.order 0', 'PASS'),
            ('free_lists.order_of.order 10', 'PASS'), ('free_lists.buddy_type', 'FAIL')])
        none = ktap.parse_console(data('kunit-none.log'), self.tree)
        self.assertIn('the run: zero tests', none.problems)
        self.assertIsNone(ktap.parse_console(data('clean.log'), self.tree))
        cut = data('kunit.log').split('    ok 2 report')[0]
        self.assertTrue(ktap.parse_console(cut, self.tree).problems)


class WithSmallParser(Reading, unittest.TestCase):
    """Always runs."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree = fake_tree(folder.name)

    def test_no_parser(self):
        """A tree that is no kernel is one clear line."""
        with self.assertRaisesRegex(common.Fail, 'kunit_printer.py: missing'):
            ktap.parse_results('KTAP version 1\n1..1\nok 1 a\n', '/nonexistent')

    def test_disagreement(self):
        """Where the kernel's parser sees something else, that is told."""
        parser = self.tree / 'tools/testing/kunit/kunit_parser.py'
        for old, new, said in (
                ('tests.append(test)', 'tests[:] = [test]', 'the kernel parser'),
                ('m.group(3)', '"other"', 'the kernel parser other'),
                ('TestStatus.FAILURE if m.group(1) else', '', 'the kernel parser says PASS')):
            parser.write_text(FAKE_PARSER.replace(old, new))
            results = self.problem(said, 'KTAP version 1', '1..2', 'not ok 1 a', 'ok 2 b')
            self.assertTrue(results.problems)
        parser.write_text(FAKE_PARSER.replace("main = Test()", "main = Test()\n"
                                              "    stdout.print_with_timestamp('[ERROR] odd')"))
        self.problem('kernel parser: odd', 'KTAP version 1', '1..1', 'ok 1 a')

    def test_later_interface(self):
        """Later kernels take the printer as an argument."""
        parser = self.tree / 'tools/testing/kunit/kunit_parser.py'
        parser.write_text(FAKE_PARSER.replace('from kunit_printer import stdout', '')
                          .replace('parse_run_tests(lines)', 'parse_run_tests(lines, printer)')
                          .replace('stdout.print', 'printer.print'))
        results = self.parse('KTAP version 1', '1..1', 'ok 1 a')
        self.assertEqual((brief(results), results.problems), ([('a', 'PASS')], []))

    def test_leaves_no_trace(self):
        """No .pyc in the tree, no module left behind."""
        with mock.patch.dict(os.environ):
            self.parse('KTAP version 1', '1..1', 'ok 1 a')
        self.assertEqual(sorted(p.name for p in (self.tree / 'tools/testing/kunit').iterdir()),
                         sorted(FILES))


class WithKernelParser(Reading, unittest.TestCase):
    """Runs where linux/ or the cached base is at hand; skipped and said so elsewhere."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.tree = real_tree(folder.name)
        if cls.tree is None:
            raise unittest.SkipTest('no kernel tree yet: run make tree')

    def test_why_canonical(self):
        """What 6.1's parser makes of the raw text: the reason for the canonical form."""
        # pylint: disable-next=protected-access
        test, _ = ktap._kernel_parse(data('skips.ktap').split('\n'), self.tree)
        if test.counts.skipped:
            self.skipTest('this kernel reads nameless skips')
        self.assertEqual((test.counts.passed, test.counts.skipped), (6, 0))


if __name__ == '__main__':
    unittest.main()
