# SPDX-License-Identifier: GPL-2.0
"""The splat detector on recorded and composed consoles, and the allow-list."""
import tempfile
import unittest
from pathlib import Path

from rig import common, splat

CONSOLES = Path(__file__).parent / 'consoles'

# console: the splats in it as (kind, start of the headline)
EXPECTED = {
    'clean': [],
    'quotes': [],
    'kunit': [],
    'kunit-none': [],
    'verify-injected': [],
    'fault-injection': [],
    'null-deref': [('oops', 'BUG: kernel NULL pointer dereference, address: 0000000000000000')],
    'gpf': [('oops', 'general protection fault, probably for non-canonical address')],
    'oops-panic': [('oops', 'BUG: kernel NULL pointer dereference')],
    'vm-bug-on-page': [('bug', 'kernel BUG at mm/page_alloc.c:3645! (page dumped because: '
                               'VM_BUG_ON_PAGE(!page_count(page)))')],
    'warn': [('warn', 'WARNING: CPU: 1 PID: 44 at mm/page_counter.c:55 '
                      'page_counter_uncharge+0x5a/0x70 (page_counter underflow: -5 nr_pages=5)')],
    'interleaved': [('warn', 'WARNING: CPU: 1 PID: 45 at mm/page_counter.c:55')],
    'two-cpus': [('warn', 'WARNING: CPU: 0 PID: 70 at mm/vmscan.c:2231'),
                 ('warn', 'WARNING: CPU: 1 PID: 71 at mm/rmap.c:1290')],
    'list-del': [('list', 'list_del corruption. prev->next should be')],
    'refcount': [('refcount', 'refcount_t: underflow; use-after-free.')],
    'odebug': [('odebug', 'ODEBUG: free active (active state 0)')],
    'bad-page-state': [('badpage', 'BUG: Bad page state in process hostname  pfn:0339d')],
    'bad-page-map': [('badpage', 'BUG: Bad page map in process hostname'),
                     ('badpage', 'BUG: Bad page map in process sh'),
                     ('badpage', 'BUG: Bad page map in process init')],
    'rss-counter': [('badrss', 'BUG: Bad rss-counter state'), ('badrss', 'BUG: Bad rss-counter'),
                    ('badrss', 'BUG: non-zero pgtables_bytes')],
    'bad-swap-entry': [('swap', '_swap_info_get: Bad swap file entry')],
    'lockdep-circular': [('lockdep', 'WARNING: possible circular locking dependency detected')],
    'lockdep-rcu': [('lockdep', 'WARNING: suspicious RCU usage')],
    'lockdep-unlock': [('lockdep', 'WARNING: bad unlock balance detected!')],
    'sleeping': [('atomic', 'BUG: sleeping function called from invalid context at')],
    'scheduling-while-atomic': [('segfault', 'hostname[43]: segfault at 5e5188'),
                                ('atomic', 'BUG: scheduling while atomic: hostname/43')],
    'kasan': [('kasan', 'BUG: KASAN: use-after-free in anon_vma_interval_tree_remove')],
    'kcsan': [('kcsan', 'BUG: KCSAN: data-race in folio_batch_move_lru / lru_add_drain_cpu')],
    'ubsan': [('ubsan', 'UBSAN: array-index-out-of-bounds in mm/vmscan.c:412:21')],
    'slub': [('slub', 'BUG vm_area_struct (Not tainted): Poison overwritten')],
    'hung-task': [('hung', 'INFO: task sh:51 blocked for more than 4 seconds.'),
                  ('hung', 'INFO: task sh:51 blocked for more than 8 seconds.')],
    'rcu-stall': [('rcu', 'rcu: INFO: rcu_preempt self-detected stall on CPU')] * 2,
    'soft-lockup': [('lockup', 'watchdog: BUG: soft lockup - CPU#0 stuck for 11s!')],
    'panic': [('panic', 'Kernel panic - not syncing: sysrq triggered crash')],
    'oom-memcg': [('oom', 'hog invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL)')],
    'oom-global': [('oom', 'hog invoked oom-killer: gfp_mask=0x140dca')],
    'allocation-failure': [('allocfail', 'hostname: page allocation failure: order:3')],
    'segfault': [('segfault', 'segv[43]: segfault at 8 ip')],
    'storage': [('io', 'I/O error, dev vda'), ('io', 'Buffer I/O error on dev vda'),
                ('fs', 'EXT4-fs error (device vda)'), ('fs', 'XFS (loop0): Corruption detected'),
                ('swap', 'Read-error on swap-device')],
    'verify-violation': [('violation', 'mm_verify: free_lists: violation: list_type: pfn 0x10000'),
                         ('violation', 'mm_verify: free_lists: violation: nr_free: zone')],
    'unknown-trace': [('trace', 'Call Trace: below: something nobody has a pattern for')],
    'lost-head': [('warn', '---[ end trace 0000000000000000 ]---')],
}

# One line of each kind of report in 6.1, as printk writes the message.
LINES = [
    ('oops', 'BUG: unable to handle page fault for address: ffffffffffffffd8'),
    ('oops', 'traps: PANIC: double fault, error_code: 0x0'),
    ('oops', 'double fault: 0000 [#1] PREEMPT SMP'),
    ('oops', 'BUG: TASK stack guard page was hit at ffffc90000000000 (stack is a..b)'),
    ('oops', 'Oops: 0002 [#1] PREEMPT SMP'),
    ('oops', 'divide error: 0000 [#1] SMP'),
    ('oops', 'sh: Corrupted page table at address 7f0000000000'),
    ('oops', 'Unable to handle kernel paging request at virtual address 00000010'),
    ('bug', 'kernel BUG at mm/rmap.c:1234!'),
    ('bug', 'BUG at mas_validate_gaps:7012 (1)'),
    ('bug', 'BUG: something no pattern knows'),
    ('badpage', 'BUG: Bad page cache in process sh  pfn:01234'),
    ('badpage', 'pagealloc: memory corruption'),
    ('lockup', 'BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 30s!'),
    ('lockup', 'NMI watchdog: Watchdog detected hard LOCKUP on cpu 1'),
    ('atomic', 'BUG: using __this_cpu_add() in preemptible [00000000] code: sh/43'),
    ('spinlock', 'BUG: spinlock bad magic on CPU#1, sh/43'),
    ('lockdep', 'WARNING: possible recursive locking detected'),
    ('lockdep', 'WARNING: inconsistent lock state'),
    ('lockdep', 'WARNING: held lock freed!'),
    ('lockdep', 'WARNING: sh/43 still has locks held!'),
    ('lockdep', 'WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected'),
    ('lockdep', '[ BUG: Invalid wait context ]'),
    ('lockdep', 'INFO: trying to register non-static key.'),
    ('lockdep', 'DEBUG_LOCKS_WARN_ON(1)'),
    ('lockdep', 'BUG: MAX_LOCKDEP_ENTRIES too low!'),
    ('rcu', 'rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:'),
    ('rcu', 'rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-... } 9 jiffies'),
    ('rcu', 'rcu: rcu_preempt kthread starved for 5252 jiffies! g-1047 f0x0'),
    ('rcu', 'INFO: rcu_tasks detected stalls on tasks:'),
    ('list', 'list_add corruption. next->prev should be prev (ffff), but was 0. (next=ffff).'),
    ('list', 'list_add double add: new=ffff, prev=ffff, next=ffff.'),
    ('kfence', 'BUG: KFENCE: use-after-free read in anon_vma_fork+0x1/0x2'),
    ('kmsan', 'BUG: KMSAN: uninit-value in anon_vma_fork+0x1/0x2'),
    ('slub', 'BUG kmalloc-64 (Tainted: G    B   W         ): Object already free'),
    ('swap', 'swap_info_get: Bad swap offset entry 3ffff'),
    ('swap', 'get_swap_device: Bad swap file entry 3ffff'),
    ('swap', '_swap_info_get: Unused swap offset entry 00000005'),
    ('oom', 'Out of memory: Killed process 43 (hog) total-vm:1kB'),
    ('oom', 'Memory cgroup out of memory: Killed process 45 (hog) total-vm:21536kB'),
    ('allocfail', 'kworker/u4:2: page allocation failure: order:0, mode:0x40d00'),
    ('allocfail', 'SLUB: Unable to allocate memory on node -1, gfp=0xcc0(GFP_KERNEL)'),
    ('leak', 'kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)'),
    ('segfault', 'traps: sh[43] general protection fault ip:41d10a sp:7ffd error:0 in sh[1+2]'),
    ('fs', 'XFS (loop0): Metadata corruption detected at xfs_agf_verify+0x1/0x2'),
    ('warn', 'WARNING: stack recursion on stack type 4'),
    ('pagedump', 'page dumped because: VM_WARN_ON_PAGE(1)'),
    ('lost', '** 57 printk messages dropped **'),
    ('lockdep', 'turning off the locking correctness validator.'),
    ('lockdep', 'INFO: lockdep is turned off.'),
    ('oom', 'Out of memory and no killable processes...'),
    ('oom', 'oom_reaper: unable to reap pid:43 (hog)'),
    ('allocfail', 'percpu: allocation failed, size=8 align=8 atomic=0, alloc from reserved chunk'),
    ('fs', 'VFS: Busy inodes after unmount of loop0. Self-destruct in 5 seconds.'),
    ('io', 'blk_update_request: I/O error, dev vda, sector 8'),
    ('hw', 'mce: [Hardware Error]: CPU 0: Machine Check: 0 Bank 1'),
    ('oops', 'unchecked MSR access error: RDMSR from 0x1 at rIP: 0xffff (f+0x1/0x2)'),
    ('oops', 'Oops: general protection fault'),
    ('warn', 'issue in sh'),
    ('panic', 'Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009'),
    ('panic', '---[ end Kernel panic - not syncing: Fatal exception ]---'),
]

# Kernel lines that are no splat although they look a little like one.
ORDINARY = [
    'Kernel command line: console=ttyS0 lockstep.tests=BUG: panic=-1',
    'rcu: Hierarchical SRCU implementation.',
    'rcu: \tRCU restricting CPUs from NR_CPUS=8 to nr_cpu_ids=2.',
    'sysrq: Show Blocked State',
    'EXT4-fs (loop0): mounted filesystem with ordered data mode. Quota mode: disabled.',
    'XFS (loop0): Mounting V5 Filesystem',
    'XFS (loop0): Ending clean mount',
    'SGI XFS with security attributes, no debug enabled',
    'watchdog: Software watchdog disabled',
    '    # free_lists: EXPECTATION FAILED at mm/verify/free_lists_test.c:41',
    'not ok 3 kernel BUG at is only a name',
    '# WARNING: CPU: 0 PID: 1 at mm/x.c:1 is quoted',
    'mm_verify: free_lists: 118124 checked, 0 violations',
    'test: waits for "INFO: task sh:51 blocked for more than 4 seconds."',
    'tsc: Marking TSC unstable due to TSCs unsynchronized',
    'calibrate_delay_direct() dropping max bogoMips estimate 4 = 26183163',
]


def console(name):
    """A console log of the test data, as text."""
    with open(CONSOLES / f'{name}.log', newline='', encoding='utf-8', errors='replace') as f:
        return f.read()


def scan(text, **kw):
    """scan() of text."""
    return splat.scan(splat.lines_of(text), **kw)


def stamped(*messages, at=3.0):
    """Console text of kernel messages."""
    return ''.join(f'[{at + n / 1000:12.6f}] {message}\r\n'
                   for n, message in enumerate(('Linux version 6.1.176', *messages)))


class Consoles(unittest.TestCase):
    """Whole consoles."""

    def test_every_console(self):
        """The kinds, headlines and number of reports on each console."""
        for name, expected in EXPECTED.items():
            with self.subTest(name):
                found = scan(console(name))
                self.assertEqual([s.kind for s in found], [kind for kind, _ in expected])
                for s, (_, headline) in zip(found, expected):
                    self.assertTrue(s.text.startswith(headline), s.text)
                    self.assertIsNone(s.allowed_by)

    def test_all_files_are_tested(self):
        """No console lies there unused, none is long."""
        names = {path.stem for path in CONSOLES.glob('*.log')}
        self.assertEqual(names, set(EXPECTED))
        for name in names:
            self.assertLess(console(name).count('\n'), 200, name)

    def test_every_line(self):
        """Each kind of report is found by its line alone, and named rightly."""
        for kind, message in LINES:
            with self.subTest(message):
                found = scan(stamped(message))
                self.assertEqual([s.kind for s in found], [kind])
                self.assertEqual(found[0].line_no, 2)

    def test_ordinary_lines(self):
        """Ordinary messages are no splats."""
        for message in ORDINARY:
            with self.subTest(message):
                self.assertEqual(scan(stamped(message)), [])

    def test_context_is_the_report(self):
        """The report's lines, from its head to its end and no further."""
        found = scan(console('list-del'))[0]
        self.assertIn('cut here', found.context[0])
        self.assertIn('end trace', found.context[-1])
        self.assertEqual(len(found.context), 30)
        found = scan(console('kasan'))[0]
        self.assertIn('=====', found.context[0])
        self.assertTrue(any('Freed by task 70' in line for line in found.context))
        self.assertFalse(any('MM-LOCKSTEP' in line for line in found.context))
        found = scan(console('vm-bug-on-page'))[0]
        self.assertIn('page:(____ptrval____)', found.context[0])

    def test_interleaved_user_text(self):
        """A kernel record in the middle of a program's line is seen, and the
        program's line is whole again without it."""
        text = console('interleaved')
        self.assertIn('none[    1.723050] WARNING: CPU: 1', text)
        self.assertEqual(len(scan(text)), 1)
        user = splat.user_text(text)
        self.assertIn('# worker 1: checked 4096 pages, BUG: none, WARNING: none\n', user)
        self.assertNotIn('page_counter.c', user)

    def test_program_text_is_not_the_kernels(self):
        """Without a stamp on a stamped console only full forms count."""
        head = stamped('Run /init as init process')
        self.assertEqual(scan(head + 'BUG: I am a program\nOops, I am one too\n'), [])
        self.assertEqual(scan(head + '# [    1.000000] BUG: a test quotes the log\n'), [])
        found = scan(head + 'Kernel panic - not syncing: said without a stamp\n')
        self.assertEqual([s.kind for s in found], ['panic'])

    def test_lost_messages(self):
        """The kernel's own note that messages were lost has no stamp."""
        found = scan(stamped('Run /init') + '** 12 printk messages dropped **\r\n')
        self.assertEqual([s.kind for s in found], ['lost'])

    def test_without_stamps(self):
        """A console of printk.time=0 is judged line by line."""
        found = scan('Linux version 6.1.176\nBUG: Bad rss-counter state mm:0 type:1 val:2\n')
        self.assertEqual([s.kind for s in found], ['badrss'])

    def test_caller_and_level(self):
        """printk's caller and level fields do not hide a message."""
        found = scan('[    0.000000][    T0] Linux version 6.1\n'
                     '<1>[    1.000000][   T43] BUG: Bad page state in process sh  pfn:1\n')
        self.assertEqual([s.kind for s in found], ['badpage'])

    def test_after_the_gap(self):
        """A second report is not swallowed by the first, near or far."""
        near = stamped('BUG: Bad page state in process a  pfn:1', 'Call Trace:', ' f+0x1/0x2',
                       'BUG: Bad page state in process b  pfn:2')
        self.assertEqual(len(scan(near)), 2)
        far = stamped('BUG: Bad page state in process a  pfn:1') + stamped('Call Trace:', at=60)
        self.assertEqual([s.kind for s in scan(far)], ['badpage', 'trace'])

    def test_splat_in_a_wanted_report(self):
        """Fault injection's own trace is no splat, what follows it is."""
        text = console('fault-injection').replace(
            'MM-LOCKSTEP-END', 'BUG: Bad page state in process sh  pfn:1')
        self.assertEqual([s.kind for s in scan(text)], ['badpage'])
        text = stamped('FAULT_INJECTION: forcing a failure.', 'Call Trace:', ' </TASK>',
                       'Call Trace:', ' other+0x1/0x2')
        self.assertEqual([s.kind for s in scan(text)], ['trace'])

    def test_truncated_report(self):
        """A report that the console's end cuts off is one."""
        text = console('warn')
        cut = text[:text.index('page_counter underflow')]
        self.assertEqual([s.kind for s in scan(cut)], ['warn'])

    def test_garbage(self):
        """Any bytes are read, none of them raise."""
        self.assertEqual(scan(''), [])
        self.assertEqual(scan('\0\ufffd\r\r\n[ 1.2\n[    1.000000]'), [])


class Allowed(unittest.TestCase):
    """What is let pass, and the list that says so."""

    def load(self, text):
        """load_allow() of a file with this text."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'allow.txt'
            path.write_text(text)
            return splat.load_allow(path)

    def test_oom_by_run(self):
        """An OOM kill is a splat unless the run provokes it."""
        for name in ('oom-memcg', 'oom-global'):
            self.assertIsNone(scan(console(name))[0].allowed_by)
            self.assertTrue(scan(console(name), oom_ok=True)[0].allowed_by)

    def test_oom_ok_lets_nothing_else_pass(self):
        """oom_ok is for the OOM killer alone, and for no panic in it."""
        for name in EXPECTED:
            for s in scan(console(name), oom_ok=True):
                self.assertEqual(bool(s.allowed_by), s.kind == 'oom', name)
        text = stamped('hog invoked oom-killer: gfp_mask=0xcc0',
                       'Kernel panic - not syncing: Out of memory: system-wide panic_on_oom')
        found = scan(text, oom_ok=True)
        self.assertEqual([(s.kind, bool(s.allowed_by)) for s in found],
                         [('oom', True), ('panic', False)])
        text = stamped('hog invoked oom-killer: gfp_mask=0xcc0', 'Call Trace:', ' </TASK>',
                       'BUG: Bad page state in process hog  pfn:1')
        self.assertEqual([bool(s.allowed_by) for s in scan(text, oom_ok=True)], [True, False])

    def test_entry(self):
        """An entry lets its headline pass and nothing else."""
        allow = self.load('# note\npattern: page_counter\\.c:55\nreason: known\nremove: fixed\n')
        self.assertEqual(scan(console('warn'), allow=allow)[0].allowed_by, 'known')
        self.assertIsNone(scan(console('list-del'), allow=allow)[0].allowed_by)
        # the pattern is searched in the headline, not in the registers below it
        allow = self.load('pattern: hostname\nreason: r\nremove: c\n')
        self.assertIsNone(scan(console('list-del'), allow=allow)[0].allowed_by)

    def test_no_panic(self):
        """A report that panicked is never let pass."""
        allow = self.load('pattern: NULL pointer|panic\nreason: r\nremove: c\n')
        self.assertIsNone(scan(console('oops-panic'), allow=allow)[0].allowed_by)
        self.assertIsNone(scan(console('panic'), allow=allow)[0].allowed_by)
        self.assertTrue(scan(console('null-deref'), allow=allow)[0].allowed_by)

    def test_entries_need_everything(self):
        """An entry without pattern, reason or removal condition is an error."""
        whole = {'pattern': 'x', 'reason': 'y', 'remove': 'z'}
        for key in whole:
            for value in (None, ''):
                text = ''.join(f'{k}: {v}\n' if k != key else f'{k}:\n'
                               for k, v in whole.items() if k != key or value is not None)
                with self.assertRaisesRegex(common.Fail, f'no {key}:'):
                    self.load(text)

    def test_damaged_lists(self):
        """Other damage is one clear line too."""
        for text, said in (('pattern: (\nreason: r\nremove: c\n', 'pattern'),
                           ('pattern: .*\nreason: r\nremove: c\n', 'matches every line'),
                           ('because: r\n', 'not pattern:, reason:'),
                           ('pattern: a\npattern: b\n', 'a second pattern:')):
            with self.assertRaisesRegex(common.Fail, said):
                self.load(text)
        with self.assertRaisesRegex(common.Fail, 'no such'):
            splat.load_allow('/nonexistent')

    def test_until(self):
        """An entry is over for a kernel whose source has the text, and for no other."""
        text = 'pattern: x\nreason: y\nremove: z\nuntil: mm/a.c#the_fix(\n'
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder)
            (tree / 'list').write_text(text)
            (tree / 'mm').mkdir()
            for source, count in ((None, 1), ('old();\n', 1), ('void the_fix(int)\n', 0)):
                if source:
                    (tree / 'mm/a.c').write_text(source)
                self.assertEqual(len(splat.load_allow(tree / 'list', tree)), count, source)
            self.assertEqual(len(splat.load_allow(tree / 'list')), 1)
        for wrong in ('', 'mm/a.c', '#text', 'a file#text'):
            with self.assertRaisesRegex(common.Fail, 'FILE#TEXT'):
                self.load(f'pattern: x\nreason: y\nremove: z\nuntil: {wrong}\n')

    def test_the_projects_list(self):
        """rig/allow.txt loads; each entry is used by nothing that must be found."""
        allow = splat.load_allow()
        for name in EXPECTED:
            for s in scan(console(name), allow=allow):
                self.assertIsNone(s.allowed_by, name)


if __name__ == '__main__':
    unittest.main()
