# SPDX-License-Identifier: GPL-2.0
"""The load's judgement on recorded outputs, its picture, and the soak's memory."""
import json
import os
import re
import shutil
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from rig import boot, common, kit, load, plot, soak, splat
from rig.tests.test_ktap import fake_tree

NONCE = '5eed0c0de5eed'
# Lines as the guest writes them; the numbers are of a run of the load on v6.1.176.
REPORT = '''version=1
shape=700M,memcg-v1
seconds=121
end=complete
result=ok
iterations=3
iterations.tmpfs=3
iterations.ext4=4
steps=91
steps_failed=0
objects_compared=91
objects_different=0
ballast_different=0
swap_in_pages=2560
swap_out_pages=51200
oom_kills=0
oom_kills_allowed=0
fs_errors=0
verify.free_lists=0
disturb.compact=done=12 failed=0
cleanup=complete
'''
NAMES = ('builds_ran', 'objects_identical', 'known_content', 'no_unexpected_oom', 'no_violation_growth', 'no_splat',
         'cleanup_complete', 'disturb_compact')
SAMPLES = ('seconds\tMemFree\tpswpin\tpswpout\tgroup_a\tpsi_mem_full\n'
           '0\t204800\t0\t0\t0\t0.00\n1\t102400\t256\t-\t1048576\t1.5\n2\t51200\t768\t512\t0\t9\n2\t5')


def ktap(bad=(), names=NAMES):
    """results.ktap with these tests failed."""
    lines = [f'{"not ok" if name in bad else "ok"} {n} {name}' for n, name in enumerate(names, 1)]
    return '\n'.join(['KTAP version 1', f'1..{len(names)}', *lines, ''])


class Case(unittest.TestCase):
    """A folder as the guest leaves it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = Path(folder.name).resolve()
        self.tree = fake_tree(self.dir / 'tree')
        self.out = self.dir / 'out'
        self.out.mkdir()

    def judge(self, *, report=REPORT, events='', results=None, console='', rc=0, end=True,
              qemu_exit=0, ended='exit', known=(), disturb='default', samples=SAMPLES):
        """The Outcome of a recorded load; report None: the guest wrote none."""
        text = [f'[    3.000000] MM-LOCKSTEP-INIT {NONCE}', *console.splitlines()]
        if end:
            text.append(f'[  200.000000] MM-LOCKSTEP-END {NONCE} rc={rc}')
        (self.out / 'console.log').write_text('\r\n'.join(text) + '\r\n')
        (self.out / 'results.ktap').write_text(ktap() if results is None else results)
        for name, content in (('report.txt', report), ('events.log', events), ('samples.tsv', samples)):
            (self.out / name).unlink(missing_ok=True)
            if content is not None:
                (self.out / name).write_text(content)
        done = boot.Boot(qemu_exit, ended, self.out / 'console.log', self.out / 'results.ktap',
                         NONCE, 210.0, 3.0, 'tcg')
        return load.judge('debug', '700M,memcg-v1', self.out, done, disturb=disturb, linux=self.tree,
                          known=list(known))

    def kinds(self, outcome):
        """The kinds of what was found."""
        return [f.kind for f in outcome.findings]

    def changed(self, **values):
        """REPORT with other values."""
        lines = REPORT.splitlines()
        for key, value in values.items():
            key = key.replace('__', '.')
            lines = [line for line in lines if not line.startswith(f'{key}=')] + [f'{key}={value}']
        return '\n'.join(lines) + '\n'


# Findings as the base has them; what the series has mended is struck from rig/known.txt.
BASE_KNOWS = [splat.Allow(re.compile(pattern), 'the base does so', 'never') for pattern in (
    '^mapped: huge tmpfs mapping, read fault first:', '^writer: lru_gen on:')]


class Judgement(Case):
    """Each kind of end is told apart."""

    def test_a_good_load(self):
        outcome = self.judge()
        self.assertEqual((outcome.findings, outcome.ok, load.state(outcome)), ([], True, 'good'))
        text = (self.out / 'summary.txt').read_text()
        for part in ('3 (tmpfs 3, ext4 4)', '91, different 0', '51200 pages, 200 MB', 'done=12'):
            self.assertIn(part, text)
        held = json.loads((self.out / 'load.json').read_text())
        self.assertEqual((held['ok'], held['report']['iterations']), (True, '3'))

    def test_nothing_compared_is_not_good(self):
        outcome = self.judge(report=self.changed(objects_compared=0))
        self.assertEqual((outcome.ok, load.state(outcome)), (False, 'nothing compared'))

    def test_too_slow_is_no_corruption(self):
        outcome = self.judge(report=self.changed(objects_compared=0, ballast_checked_kb=0),
                             results=ktap(['objects_identical', 'builds_ran', 'known_content']))
        self.assertEqual(self.kinds(outcome), ['broken'] * 3)
        self.assertFalse(outcome.ok)

    def test_corruption(self):
        for key, kind in (('objects_different', 'corrupt'), ('ballast_different', 'ballast'), ('ksm_different', 'ksm'),
                          ('steps_failed', 'step_failed'), ('fs_errors', 'fs')):
            outcome = self.judge(report=self.changed(**{key: 1}), rc=0,
                                 results=ktap(['objects_identical', 'builds_ran', 'known_content']),
                                 events=f'12\tnote\tx\n44.5\t{kind}\tlib/x.o differs at 4096\n')
            self.assertEqual(self.kinds(outcome), ['corruption'], key)
            self.assertEqual(outcome.findings[0].seconds, 44.5)
            self.assertIn('differs at 4096', outcome.findings[0].text)
            self.assertFalse(outcome.ok)

    def test_mapped_files_stand_by_path(self):
        """Lost data of one path may be known while that of another is new."""
        huge = '20.0\tmapped\thuge tmpfs mapping, read fault first: 512 of 512 pages wrong after they were paged out\n'
        known = BASE_KNOWS
        bad = ktap(['mapped_content'], (*NAMES, 'mapped_content'))
        outcome = self.judge(report=self.changed(mapped_different=1024), events=huge + huge, results=bad, known=known)
        self.assertEqual((self.kinds(outcome), load.state(outcome)), (['mapped'], 'known'))
        self.assertIn('1024 pages lost in 2 rounds', outcome.findings[0].text)
        for new in ('file on a disk', 'first page of a file on a disk', 'huge tmpfs mapping, write fault first',
                    'tmpfs mapping of small pages, read fault first'):
            outcome = self.judge(report=self.changed(mapped_different=513), results=bad, known=known,
                                 events=huge + f'30.0\tmapped\t{new}: 1 of 512 pages wrong on the disk\n')
            self.assertEqual([(f.kind, bool(f.known), f.seconds) for f in outcome.findings],
                             [('mapped', True, 20), ('mapped', False, 30)], new)
            self.assertEqual(load.state(outcome), 'mapped')
        outcome = self.judge(report=self.changed(mapped_different=1), known=known)
        self.assertEqual((self.kinds(outcome), outcome.ok), (['mapped'], False))

    def test_a_known_mapped_file_covers_nothing_else(self):
        known = BASE_KNOWS
        huge = '20.0\tmapped\thuge tmpfs mapping, read fault first: 512 of 512 pages wrong after they were paged out\n'
        outcome = self.judge(report=self.changed(mapped_different=512, objects_different=1), known=known,
                             events=huge, results=ktap(['mapped_content', 'objects_identical'], (*NAMES, 'mapped_content')))
        self.assertEqual([(f.kind, bool(f.known)) for f in outcome.findings],
                         [('corruption', False), ('mapped', True)])

    def test_lost_objects_are_never_known(self):
        entry = splat.Allow(load.re.compile('^corruption: '), 'any', 'never')
        self.assertFalse(self.judge(report=self.changed(objects_different=1), known=[entry]).ok)

    def test_a_writer_that_was_killed(self):
        known = BASE_KNOWS
        console = ('[   50.000000] swapload_writer invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0\n'
                   '[   50.100000] Memory cgroup out of memory: Killed process 99 (swapload_writer)')
        for how, ok in (('on', True), ('off', False)):
            outcome = self.judge(report=self.changed(writers_killed=2), console=console, known=known,
                                 results=ktap(['writers_survive'], (*NAMES, 'writers_survive')),
                                 events=f'47\twriter\tlru_gen {how}: OOM-killed after 12 of 100 MB\n')
            self.assertEqual((self.kinds(outcome), outcome.ok), (['writer'], ok), how)
        other = console.replace('swapload_writer', 'cc1')
        self.assertFalse(self.judge(console=other, known=known).ok)

    def test_a_known_splat_stands_once(self):
        known = [splat.Allow(load.re.compile(r'^splat: WARNING: .* hugetlb_split\+'), 'any', 'never')]
        line = '[   6{0}.000000] WARNING: CPU: {0} PID: 8{0} at include/linux/fs.h:503 hugetlb_split+0x1{0}/0x230'
        cut = '[   60.000000] ------------[ cut here ]------------\n'
        end = '\n[   60.000000] ---[ end trace 0000000000000000 ]---\n'
        console = ''.join(cut + line.format(n) + end for n in (0, 1, 2))
        outcome = self.judge(console=console, known=known)
        self.assertEqual((self.kinds(outcome), outcome.ok), (['splat'], True))
        self.assertIn('(3 times)', outcome.findings[0].text)
        other = console.replace('hugetlb_split', 'unmap_region')
        self.assertFalse(self.judge(console=other, known=known).ok)

    def test_drift_is_shown_and_no_finding(self):
        outcome = self.judge(report=self.changed(drift__Committed_AS='3456 67456', drift__nr_mlock='0 0'))
        self.assertTrue(outcome.ok)
        self.assertIn('Committed_AS 3456 -> 67456', load.summary(outcome))
        self.assertNotIn('nr_mlock', load.summary(outcome))

    def test_panic(self):
        outcome = self.judge(report=None, end=False, results='KTAP version 1\n', console=(
            '[   90.000000] ------------[ cut here ]------------\n'
            '[   90.100000] kernel BUG at mm/swapfile.c:700!\n'
            '[   90.200000] Kernel panic - not syncing: Fatal exception'))
        self.assertEqual(self.kinds(outcome)[0], 'panic')
        self.assertNotIn('killed', self.kinds(outcome))
        self.assertEqual(load.state(outcome), 'panic')

    def test_killed(self):
        for how in ({'qemu_exit': -9}, {'ended': 'hang', 'qemu_exit': -15}, {'ended': 'limit'}, {}):
            outcome = self.judge(report=None, end=False, results='KTAP version 1\n',
                                 events='33.0\tnote\tlast\n', **how)
            self.assertEqual(self.kinds(outcome), ['killed'], how)
            self.assertEqual(outcome.findings[0].seconds, 33)

    def test_a_load_that_refused(self):
        outcome = self.judge(report=None, rc=4, results='1..0 # SKIP no swap\n',
                             console='[   4.000000] stderr: swapload: no swap: use -w')
        self.assertIn('broken', self.kinds(outcome))
        self.assertIn('rc=4: swapload: no swap', outcome.findings[0].text)
        self.assertFalse(outcome.ok)

    def test_an_oom_kill_allowed_and_not(self):
        console = ('[   50.000000] cc1 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0\n'
                   '[   50.100000] Memory cgroup out of memory: Killed process 99 (cc1)')
        outcome = self.judge(report=self.changed(oom_kills=1, oom_kills_allowed=1), console=console)
        self.assertEqual((outcome.findings, outcome.ok), ([], True))
        self.assertIn('1, allowed', load.summary(outcome))
        outcome = self.judge(report=self.changed(oom_kills=1), console=console,
                             events='47\toom\tcc1 was killed\n', results=ktap(['no_unexpected_oom']))
        self.assertEqual(self.kinds(outcome), ['oom'])
        self.assertEqual(outcome.findings[0].seconds, 47)

    def test_a_splat_is_found_even_when_the_load_saw_none(self):
        outcome = self.judge(console='[   60.000000] BUG: Bad page state in process cc1  pfn:12345')
        self.assertEqual(self.kinds(outcome), ['splat'])
        self.assertEqual(outcome.findings[0].seconds, 60)

    def test_what_an_injected_fault_brings_is_expected(self):
        console = '[   60.000000] cc1: page allocation failure: order:0, mode:0xcc0(GFP_KERNEL)'
        self.assertEqual(self.kinds(self.judge(console=console)), ['splat'])
        for disturb in ('default,+fail_page_alloc', 'all', 'fail_page_alloc'):
            outcome = self.judge(console=console, disturb=disturb)
            self.assertEqual((outcome.ok, outcome.findings), (True, []), disturb)
            self.assertIn('1 expected of a disturber', load.summary(outcome))
        self.assertFalse(self.judge(console=console, disturb='all,-fail_page_alloc').ok)
        # What really ran counts, not what was asked for.
        for said, ok in (('done=3', True), ('off', False), ('not available: no file', False)):
            outcome = self.judge(console=console, disturb='all',
                                 report=self.changed(disturb__failslab='off', disturb__fail_page_alloc=said))
            self.assertEqual(outcome.ok, ok, said)

    def test_a_stack_that_failslab_did_not_give(self):
        console = '[   60.000000] swapload_distur: vmalloc error: size 16384, vm_struct allocation failed'
        self.assertTrue(self.judge(console=console, disturb='failslab').ok)
        self.assertFalse(self.judge(console=console).ok)

    def test_pages_that_cannot_be_offlined(self):
        console = '[   60.000000] page dumped because: unmovable page'
        self.assertTrue(self.judge(console=console).ok)
        self.assertTrue(self.judge(console=console, disturb='-ksm').ok)
        self.assertFalse(self.judge(console=console, disturb='-hotplug').ok)
        self.assertFalse(self.judge(console=console, disturb='none').ok)
        self.assertFalse(self.judge(console=console.replace('unmovable page', 'VM_BUG_ON')).ok)

    def test_seconds_count_from_the_loads_begin(self):
        outcome = self.judge(console='[   60.000000] BUG: Bad page state in process cc1  pfn:12345',
                             report=self.changed(load_started_uptime='12.50'))
        self.assertEqual(outcome.findings[0].seconds, 47.5)

    def test_violations_known_and_new(self):
        entry = splat.Allow(load.re.compile('^violation: free_lists:'), 'v6.1 mixes types',
                            'with topic page_alloc')
        bad = ktap(['no_violation_growth'])
        outcome = self.judge(report=self.changed(verify__free_lists=7), results=bad, known=[entry])
        self.assertEqual((self.kinds(outcome), outcome.ok), (['violation'], True))
        self.assertEqual(load.state(outcome), 'known')
        self.assertIn('known violation: free_lists: 7', load.summary(outcome))
        outcome = self.judge(report=self.changed(verify__free_lists=7, verify__lru=1), results=bad,
                             known=[entry])
        self.assertEqual([bool(f.known) for f in outcome.findings], [True, False])
        self.assertEqual((outcome.ok, load.state(outcome)), (False, 'violation'))

    def test_a_dead_guest_is_never_known(self):
        entry = splat.Allow(load.re.compile('killed|panic|END'), 'any', 'never')
        self.assertFalse(self.judge(report=None, end=False, known=[entry]).ok)

    def test_a_disturber_that_did_nothing(self):
        results = ktap(['disturb_compact']).replace('not ok 8 disturb_compact',
                                                    'not ok 8 disturb_compact # see a.log: done=0')
        outcome = self.judge(results=results)
        self.assertEqual([(f.kind, f.text) for f in outcome.findings],
                         [('test', 'disturb_compact: see a.log: done=0 (FAIL)')])

    def test_left_behind(self):
        outcome = self.judge(report=self.changed(cleanup='loop0 swap'), results=ktap(['cleanup_complete']))
        self.assertEqual(self.kinds(outcome), ['cleanup'])

    def test_results_cut_off(self):
        outcome = self.judge(results=ktap().rsplit('ok 8', 1)[0])
        self.assertIn('broken', self.kinds(outcome))

    def test_without_samples_there_is_no_picture_and_a_reason(self):
        with mock.patch.object(common, 'say') as said:
            outcome = self.judge(samples=None)
        self.assertEqual(outcome.svg, '')
        self.assertIn('no picture', said.call_args_list[0][0][0])

    def test_the_list_of_known_findings_is_well_formed(self):
        for entry in splat.load_allow(load.KNOWN):
            self.assertTrue(entry.reason and entry.remove)


class Guest(Case):
    """What goes into the guest and what comes out."""

    def test_settings(self):
        for name, value in (('SHAPE', '800M'), ('MINUTES', '0'), ('MINUTES', 'ten'), ('INTERVAL', '-1'),
                            ('DISTURB', 'compact; reboot'), ('CONFIG', 'nope')):
            with mock.patch.dict(os.environ, {name: value}), \
                    self.assertRaisesRegex(common.Fail, f'{name}='):
                load.settings()
        with mock.patch.dict(os.environ, SHAPE='700M,memcg', MINUTES='0.5', DISTURB='+ksm,-thp'):
            self.assertEqual(load.settings(), {
                'config': 'debug', 'shape': '700M,memcg-v1', 'minutes': 0.5, 'interval': load.INTERVAL,
                'disturb': '+ksm,-thp'})

    def test_every_shape_is_a_machine(self):
        for name, shape in load.SHAPES.items():
            self.assertTrue(boot.machine(shape.mem, 2), name)
            self.assertEqual('nomemcg' in name, 'cgroup_disable=memory' in shape.append)
            self.assertEqual(name.endswith('v2') or name == 'scaled', 'cgroup=v2' in shape.append)

    def test_the_configuration_survives_the_shell(self):
        path = self.dir / 'conf'
        path.write_bytes(load.conf('lean', 5, ['-s', '1G,memcg-v1', "it's"]))
        done = common.run(['sh', '-c', f'. {path}; printf "%s|%s|%s" "$LIST" "$INTERVAL" "$ARGS"'])
        self.assertEqual(done.stdout, "lean|5|-s 1G,memcg-v1 it's")

    def test_results_come_back_from_the_disk_also_of_a_guest_that_died(self):
        folder = self.dir / 'disk'
        (folder / 'out').mkdir(parents=True)
        (folder / 'out/report.txt').write_text('end=complete\n')
        disk = kit.ext4(self.out / 'results.img', 16 << 20, folder)
        common.run([kit.which('debugfs'), '-w', '-R', 'ssv state 0', disk])   # not clean
        load.fetch_results(self.out)
        self.assertEqual(load.read_report(self.out / 'report.txt'), {'end': 'complete'})
        self.assertFalse((self.out / 'out').exists())

    def test_a_run_is_fed_and_leaves_no_disks(self):
        tests, kernel = self.dir / 'tests', self.dir / 'bzImage'
        (tests / 'mm/swapload').mkdir(parents=True)
        (tests / 'mm/swapload/swapload.sh').write_text('#!/bin/sh\n')
        kernel.write_bytes(b'kernel')
        (self.dir / 'kit.img').write_bytes(b'kit')
        given = {}

        def booted(_kernel, _initrd, outdir, **how):
            given.update(how)
            self.assertEqual([Path(d[0] if isinstance(d, tuple) else d).is_file() for d in how['disks']],
                             [True] * 4)
            if interrupted:
                raise KeyboardInterrupt
            return boot.Boot(0, 'exit', outdir / 'console.log', outdir / 'results.ktap', NONCE, 1, 1, 'tcg')

        with mock.patch.object(boot, 'boot', booted), mock.patch.object(common, 'say'), \
                mock.patch.object(kit, 'make_kit', lambda: self.dir / 'kit.img'), \
                mock.patch.object(boot, 'accelerator', lambda _: ([], 'tcg', '')), \
                mock.patch.object(load, 'judge', lambda *a, **k: 'judged'):
            for interrupted in (False, True):
                try:
                    done = load.run('debug', '1G,memcg-v2', 12, self.out, disturb='none', kernel=kernel,
                                    tests_dir=tests)
                    self.assertEqual(done, 'judged')
                except KeyboardInterrupt:
                    self.assertTrue(interrupted)
                self.assertEqual(list(self.out.glob('*.img')), [])
        self.assertEqual((given['mem'], given['disks'][0][1]), ('1G', 'ro'))
        self.assertIn('lockstep.cgroup=v2', given['append'])
        self.assertGreater(given['ceiling'] * boot.scale('tcg'), 12 * 60 + 600)
        archive = (self.out / 'guest.cpio').read_bytes()
        for text in (b"-m 12 -s 1G,memcg-v2 -x none -S 10 -w /dev/vdc,/dev/vdd", b'LIST=lean'):
            self.assertIn(text, archive)
        (tests / 'mm/swapload/swapload.sh').unlink()
        with self.assertRaisesRegex(common.Fail, 'has no load'):
            load.run('debug', '1G,memcg-v2', 1, self.out, kernel=kernel, tests_dir=tests)

    def test_a_disk_without_results(self):
        kit.ext4(self.out / 'results.img', 16 << 20)
        with mock.patch.object(common, 'say') as said:
            load.fetch_results(self.out)
        self.assertIn('no results', said.call_args[0][0])
        self.assertEqual(load.read_report(self.out / 'report.txt'), {})

    def test_progress_is_the_loads_last_word(self):
        progress = load.Progress()
        self.assertIsNone(progress(b'[ 1.0] Linux version\r\n'))
        self.assertEqual(progress(b'[ 9.0] stderr: 10/60 s, 3 objects\r\n[ 9.1] noise\r\n[ 9.2] std'),
                         '10/60 s, 3 objects')
        self.assertEqual(progress(b'err: 20/60 s\r\n'), '20/60 s')
        self.assertEqual(progress(b'[ 9.9] stderr: ' + b'x' * 150 + b'\r\n'), 'x' * 100)

    def test_damaged_lines_are_left_out(self):
        (self.out / 'events.log').write_text('1.5\tnote\ta b\tc\nnonsense\nx\ty\tz\n2')
        self.assertEqual(load.read_events(self.out / 'events.log'), [(1.5, 'note', 'a b\tc')])


class Short(Case):
    """What make test gets."""

    def rows(self, outcome):
        """short() with the load's Outcome as given."""
        with mock.patch.object(load, 'run', lambda *a, **k: outcome), mock.patch.object(common, 'say'):
            return {name: ok for name, ok, _ in load.short()}

    def test_good_known_and_new(self):
        rows = self.rows(self.judge())
        self.assertEqual(set(rows.values()), {True})
        self.assertEqual(len(rows), len(NAMES) + 2)
        entry = splat.Allow(load.re.compile('^violation: free_lists:'), 'mixes', 'with page_alloc')
        outcome = self.judge(report=self.changed(verify__free_lists=7), known=[entry],
                             results=ktap(['no_violation_growth']))
        self.assertEqual(set(self.rows(outcome).values()), {True})
        outcome = self.judge(report=self.changed(verify__lru=7), results=ktap(['no_violation_growth']))
        self.assertEqual({n for n, ok in self.rows(outcome).items() if not ok},
                         {'load no_violation_growth', 'load: nothing new found'})
        outcome = self.judge(results=ktap().replace('ok 8 disturb_compact',
                                                    'ok 8 disturb_compact # SKIP not available'))
        self.assertIsNone(self.rows(outcome)['load disturb_compact'])


class Picture(Case):
    """samples.tsv to SVG."""

    def test_curves(self):
        (self.out / 's.tsv').write_text(SAMPLES)
        samples = plot.read(self.out / 's.tsv')
        self.assertEqual(samples['seconds'], [0, 1, 2])          # the cut line is left out
        self.assertEqual(samples['pswpout'], [0, None, 512])
        drawn = {title: curves for title, _, curves in plot.panes(samples)}
        self.assertEqual(dict(drawn['memory']), {'free': [200, 100, 50]})
        self.assertEqual(dict(drawn['swap in and out']), {'in': [None, 1, 2]})
        self.assertEqual(dict(drawn['groups']), {'a': [0, 1, 0]})
        self.assertNotIn('LRU lists', drawn)

    @unittest.skipUnless(shutil.which('gnuplot'), 'no gnuplot here')
    def test_svg(self):
        (self.out / 's.tsv').write_text(SAMPLES)
        made = plot.svg(self.out / 's.tsv', self.out / 'x.svg', 'title "quoted"_x').read_text()
        for text in ('</svg>', 'memory', 'PSI', 'title "quoted"_x'):
            self.assertIn(text, made.replace('&quot;', '"'))

    def test_bad_samples(self):
        for text in ('', 'seconds\tMemFree\n', 'what\tever\n1\t2\n'):
            (self.out / 's.tsv').write_text(text)
            with self.assertRaisesRegex(common.Fail, 'no samples'):
                plot.svg(self.out / 's.tsv', self.out / 'x.svg', '')
        self.assertFalse((self.out / 'x.svg').exists())


class Soak(Case):
    """The matrix, what it remembers, its summary."""

    def setUp(self):
        super().setUp()
        self.ran = []
        self.how = {'configs': ['debug', 'lockdep'], 'shapes': ['700M,nomemcg', '1G,memcg-v2'],
                    'minutes': 1.0, 'disturb': 'default', 'interval': '0'}
        self.kernels = {}
        for config in self.how['configs']:
            self.kernels[config] = self.dir / config
            self.kernels[config].write_text(config)
        patch = mock.patch.object(common, 'say')
        patch.start()
        self.addCleanup(patch.stop)

    def run_one(self, config, shape, how, kernel, tests, folder):    # pylint: disable=unused-argument
        """A load that takes no time; the second one is interrupted once."""
        self.ran.append((config, shape))
        if self.ran == [('debug', '700M,nomemcg'), ('debug', '1G,memcg-v2')]:
            raise KeyboardInterrupt
        bad = shape == '1G,memcg-v2'
        return {'shape': shape, 'config': config, 'ok': not bad, 'state': 'splat' if bad else 'good',
                'report': {'iterations': '2', 'objects_compared': '9', 'swap_out_pages': '512',
                           'seconds': '60'}, 'wall_seconds': 1, 'folder': str(folder),
                'findings': [{'kind': 'splat', 'text': f'pfn 0x{len(self.ran)}a bad', 'seconds': 3,
                              'known': ''}] if bad else []}

    def soak(self):
        """The records of one call."""
        return soak.soak(self.how, self.dir / 'soak', self.kernels, None, run=self.run_one)

    def test_it_goes_on_where_it_was_interrupted(self):
        with self.assertRaises(KeyboardInterrupt):
            self.soak()
        records = self.soak()
        self.assertEqual([(r['config'], r['shape']) for r in records],
                         [(c, s) for c in self.how['configs'] for s in self.how['shapes']])
        self.assertEqual(self.ran.count(('debug', '700M,nomemcg')), 1)
        self.assertEqual(len(self.ran), 5)
        self.kernels['lockdep'].write_text('built again')
        self.soak()
        self.assertEqual(self.ran[5:], [('lockdep', '700M,nomemcg'), ('lockdep', '1G,memcg-v2')])

    def test_what_did_not_run_is_tried_again(self):
        self.how['shapes'], self.how['configs'] = ['700M,nomemcg'], ['debug']
        for state in soak.AGAIN:
            soak.soak(self.how, self.dir / 'soak', self.kernels, None,
                      run=lambda *args, state=state: {**self.run_one(*args), 'state': state})
        self.soak()
        self.soak()
        self.assertEqual(len(self.ran), 3)

    def test_a_damaged_state_is_not_trusted(self):
        (self.dir / 'soak').mkdir()
        for text in ('{', '[]', '{"version": 0, "done": {}}'):
            (self.dir / 'soak/state.json').write_text(text)
            self.assertEqual(soak.read_state(self.dir / 'soak/state.json'), {})
            self.assertTrue((self.dir / 'soak/state.damaged').is_file())

    def test_the_summary_has_each_finding_once(self):
        self.ran.append(None)
        text = soak.summary(self.soak())
        self.assertEqual(text.count('NEW splat'), 1)
        self.assertIn('in 1G,memcg-v2 debug; 1G,memcg-v2 lockdep', text)
        self.assertIn('2 of 4 loads without a new finding', text)
        self.assertRegex(text, r'all +8 +36 +0 +8\n')

    def test_known_findings_stand_once_a_reason(self):
        records = [{'shape': s, 'config': 'debug', 'ok': True, 'state': 'known', 'report': {}, 'findings': [
            {'kind': 'violation', 'text': f'of {s}', 'seconds': 1, 'known': 'mixes; goes with x'}]}
                   for s in soak.SHAPES]
        text = soak.summary(records)
        self.assertEqual(text.count('known violation'), 1)
        self.assertIn('4 of 4 loads', text)

    def test_a_load_that_cannot_run_is_a_record(self):
        with mock.patch.object(load, 'run', side_effect=common.Fail('no kit')):
            held = soak.run_one('debug', '1G,memcg-v2', {**self.how}, None, None, self.dir)
        self.assertEqual((held['state'], held['ok'], held['findings'][0]['text']),
                         ('not run', False, 'no kit'))

    def test_settings(self):
        with mock.patch.dict(os.environ, SHAPES='700M,memcg 1G,memcg-v2', CONFIGS='debug', MINUTES='5'):
            how = soak.settings()
        self.assertEqual((how['shapes'], how['configs'], how['minutes']),
                         (['700M,memcg-v1', '1G,memcg-v2'], ['debug'], 5.0))
        for name, value in (('SHAPES', '2G'), ('CONFIGS', 'debug nope'), ('INTERVAL', 'x')):
            with mock.patch.dict(os.environ, {name: value}), self.assertRaisesRegex(common.Fail, '='):
                soak.settings()


if __name__ == '__main__':
    unittest.main()
