# SPDX-License-Identifier: GPL-2.0
"""boot.py against fake QEMU programs: how a boot ends, which accelerator is taken."""
import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

from rig import boot, common
from rig.arch import GUESTS

FAKE = '''#!{python} -SE
import json, os, re, signal, sys, time
args = sys.argv[1:]
if '--version' in args:
    print('QEMU emulator version {version}')
    sys.exit()
with open('{dir}/calls', 'a') as f:
    f.write(json.dumps(args) + '\\n')
files = [a[5:] for n, a in enumerate(args) if args[n - 1] == '-serial' and a.startswith('file:')]
line = args[args.index('-append') + 1]
nonce = (re.findall(r'lockstep.nonce=(\\w+)', line) or [''])[0]
kvm = 'kvm' in args
con = open(files[0], 'w', buffering=1) if files else None
res = open(files[1], 'w', buffering=1) if len(files) > 1 else None
init = lambda: print('[    1.0] MM-LOCKSTEP-INIT ' + nonce + '\\r', file=con)
end = lambda rc=0: print(f'[    2.0] MM-LOCKSTEP-END {{nonce}} rc={{rc}}\\r', file=con)
{body}
'''


class FakeQemu(unittest.TestCase):
    """A folder with a kernel, an image, a cache, and a fake QEMU first on PATH."""

    def setUp(self):
        self.dir = Path(self.enterContext(tempfile.TemporaryDirectory())).resolve()
        self.enterContext(mock.patch.object(common, 'CACHE', self.dir / 'cache'))
        self.enterContext(mock.patch.object(common, 'OUT', self.dir / 'out'))
        self.enterContext(mock.patch.dict(boot.SCALES, kvm=1, tcg=1, icount=1))
        self.enterContext(mock.patch.object(boot, '_said', set()))
        (self.dir / 'bin').mkdir()
        env = {'PATH': f'{self.dir}/bin:{os.environ["PATH"]}'}
        self.enterContext(mock.patch.dict(os.environ, env))
        os.environ.pop('ACCEL', None)
        self.kernel, self.initrd = self.dir / 'bzImage', self.dir / 'guest.cpio'
        self.kernel.write_bytes(b'kernel')
        self.initrd.write_bytes(b'image')
        self.outdir = self.dir / 'boot'
        self.printed = self.enterContext(contextlib.redirect_stdout(io.StringIO()))

    def fake(self, body, version='7.2'):
        """Install a QEMU that does body."""
        path = self.dir / 'bin' / boot.QEMU
        path.write_text(FAKE.format(python=sys.executable, dir=self.dir, body=body,
                                    version=version))
        path.chmod(0o755)

    def calls(self):
        """What QEMU was called with."""
        path = self.dir / 'calls'
        return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []

    def boot(self, **kw):
        """boot() with limits of a moment."""
        kw = {'accel': 'tcg', 'limit': 30, 'silence': 30, **kw}
        return boot.boot(self.kernel, self.initrd, self.outdir, **kw)

    def assertFails(self, words, call, *args, **kw):
        """call fails with one line that has these words."""
        with self.assertRaisesRegex(common.Fail, words) as caught:
            call(*args, **kw)
        self.assertNotIn('\n', str(caught.exception))


class BootTest(FakeQemu):
    """How a boot ends."""

    def test_clean(self):
        self.fake("init(); res.write('KTAP version 1\\n1..0\\n'); end()")
        seen = []
        done = self.boot(on_results=seen.append, tests=['a', 'b'], smp=3, mem='700M')
        self.assertEqual((done.qemu_exit, done.ended, done.accel), (0, 'exit', 'tcg'))
        self.assertIsNotNone(done.init_seconds)
        self.assertEqual(b''.join(seen), b'KTAP version 1\n1..0\n')
        self.assertIn(f'END {done.nonce} rc=0', done.console.read_text())
        self.assertFalse((self.outdir / 'incomplete').exists())
        args = self.calls()[0]
        line = args[args.index('-append') + 1].split()
        for word in ('lockstep.mode=test', 'lockstep.tests=a,b', f'lockstep.nonce={done.nonce}',
                     'lockstep.scale=1', 'panic=-1', 'console=ttyS0,115200', 'ignore_loglevel'):
            self.assertIn(word, line)
        for pair in (('-smp', '3'), ('-m', '700M'), ('-accel', 'tcg,thread=multi')):
            self.assertEqual(args[args.index(pair[0]) + 1], pair[1])
        self.assertIn('-no-reboot', args)
        kept = json.loads((self.outdir / 'boot.json').read_text())
        self.assertEqual((kept['nonce'], kept['ended']), (done.nonce, 'exit'))
        self.assertEqual(self.printed.getvalue(), 'accelerator: tcg (asked for by the caller)\n')

    def test_another_machine(self):
        arm64 = GUESTS['arm64']
        self.fake("init(); end()")
        os.rename(self.dir / 'bin' / boot.QEMU, self.dir / 'bin' / arm64.qemu)
        done = self.boot(accel=None, arch=arm64)
        args = self.calls()[0]
        for pair in (('-machine', 'virt'), ('-cpu', 'max,pauth-impdef=on'),
                     ('-accel', 'tcg,thread=multi'), ('-device', 'pci-serial,chardev=results')):
            self.assertEqual(args[args.index(pair[0]) + 1], pair[1])
        self.assertIn(f'file,id=results,path={done.results}', args)
        line = args[args.index('-append') + 1].split()
        for word in ('console=ttyAMA0', 'lockstep.results=/dev/ttyS0', 'panic=-1'):
            self.assertIn(word, line)
        self.assertEqual(self.printed.getvalue(), 'accelerator: tcg (arm64 is emulated)\n')
        with mock.patch.dict(os.environ, ACCEL='kvm'):
            self.assertFails('ACCEL=kvm: not for ARCH=arm64', self.boot, accel=None, arch=arm64)

    def test_stale_results_are_gone(self):
        self.outdir.mkdir()
        for name in ('console.log', 'results.ktap', 'qemu.log', 'boot.json'):
            (self.outdir / name).write_text('old')
        self.fake('os.unlink(files[1]); init(); end()')
        done = self.boot()
        self.assertFalse(done.results.exists())
        self.assertNotIn('old', done.console.read_text())

    def test_panic_exits_0(self):
        self.fake("init(); print('Kernel panic - not syncing: x', file=con)")
        done = self.boot()
        self.assertEqual((done.qemu_exit, done.ended), (0, 'exit'))
        self.assertNotIn('MM-LOCKSTEP-END', done.console.read_text())

    def test_qemu_does_not_start(self):
        self.fake("print('qemu: warning: boring\\nqemu: could not do it', file=sys.stderr); "
                  "sys.exit(1)")
        self.assertFails(r'did not start \(exit 1\): qemu: could not do it; see .*qemu.log',
                         self.boot)
        self.assertTrue((self.outdir / 'incomplete').exists())
        self.assertFalse((self.outdir / 'boot.json').exists())

    def test_qemu_dies_later(self):
        self.fake("init(); print('qemu: killed', file=sys.stderr, flush=True); os.abort()")
        done = self.boot()
        self.assertEqual((done.qemu_exit, done.ended), (-signal.SIGABRT, 'exit'))
        self.assertEqual(boot.first_error(self.outdir / 'qemu.log'), 'qemu: killed')

    def hang(self, body, least, most, **kw):
        """Boot the fake until it is ended; it must take between least and most seconds."""
        self.fake(body)
        begun = time.monotonic()
        done = self.boot(**kw)
        taken = time.monotonic() - begun
        self.assertTrue(least <= taken <= most, f'{taken:.1f} s')
        self.assertNotEqual(done.qemu_exit, 0)
        pid = int((self.dir / 'pid').read_text())
        self.assertFalse(Path(f'/proc/{pid}').exists(), 'QEMU is left running')
        return done

    PID = "open('{dir}/pid', 'w').write(str(os.getpid())); "

    def body(self, text):
        """text with a first statement that leaves QEMU's pid."""
        return self.PID.format(dir=self.dir) + text

    def test_silent_before_init(self):
        with mock.patch.object(boot, 'INIT_SILENCE', 0.9):
            done = self.hang(self.body('time.sleep(60)'), 0.9, 5)
        self.assertEqual((done.ended, done.init_seconds), ('hang', None))

    def test_hang_is_limit_and_silence(self):
        done = self.hang(self.body('init(); time.sleep(60)'), 0.9, 5, limit=0.5, silence=0.9)
        self.assertEqual(done.ended, 'hang')
        # Silent for longer than `silence`, but not past the limit: no hang.
        self.fake('init(); time.sleep(1); end()')
        self.assertEqual(self.boot(limit=30, silence=0.2).ended, 'exit')
        # Past the limit, but results go on: no hang.
        self.fake("init()\nfor n in range(10): print(n, file=res); time.sleep(0.2)\nend()")
        self.assertEqual(self.boot(limit=1, silence=1.5).ended, 'exit')

    def test_chatter_ends_at_the_ceiling(self):
        body = self.body("init()\nwhile 1: print('x', file=con); time.sleep(0.05)")
        done = self.hang(body, 0.9, 5, limit=0.3, silence=5)
        self.assertEqual(done.ended, 'limit')

    def test_no_power_off(self):
        # Like QEMU, the fake exits 0 on TERM.
        with mock.patch.object(boot, 'POWER_OFF', 0.3):
            done = self.hang(self.body('signal.signal(15, lambda *_: sys.exit(0)); init(); end(); '
                                       'time.sleep(60)'), 0.3, 5)
        self.assertEqual(done.ended, 'hang')

    def test_deaf_to_term(self):
        with mock.patch.object(common.end, '__defaults__', (0.3,)):
            done = self.hang(self.body('signal.signal(15, signal.SIG_IGN); init(); time.sleep(60)'),
                             0.3, 5, limit=0.5, silence=0.9)
        self.assertEqual((done.ended, done.qemu_exit), ('hang', -signal.SIGKILL))

    def test_scale_counts_in_every_limit(self):
        self.fake('init(); time.sleep(1); end()')
        with mock.patch.dict(boot.SCALES, tcg=10):
            done = self.boot(limit=0.2, silence=0.2)
        self.assertEqual(done.ended, 'exit')
        self.assertIn('lockstep.scale=10', ' '.join(self.calls()[0]))

    def test_sentinel_of_another_nonce(self):
        self.fake("nonce = 'f00'; init(); end()")
        self.assertIsNone(self.boot().init_seconds)

    def test_sentinel_in_two_pieces(self):
        self.fake("con.write('MM-LOCK'); con.flush(); time.sleep(0.4); "
                  "con.write('STEP-INIT ' + nonce + '\\n'); end()")
        self.assertIsNotNone(self.boot().init_seconds)

    def test_interrupt(self):
        self.fake(self.body('init(); time.sleep(60)'))
        # Ignored in what a shell puts into the background.
        was = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, was)

        def interrupt():
            while not (self.outdir / 'console.log').exists() or \
                    not (self.outdir / 'console.log').read_text():
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
        thread = threading.Thread(target=interrupt)
        thread.start()
        with self.assertRaises(KeyboardInterrupt):
            self.boot()
            time.sleep(5)
        thread.join()
        self.assertTrue((self.outdir / 'incomplete').exists())
        self.assertFalse((self.outdir / 'boot.json').exists())
        self.assertFalse(Path(f'/proc/{(self.dir / "pid").read_text()}').exists())

    def test_nothing_is_left_when_we_are_killed(self):
        self.fake(self.body('init(); time.sleep(60)'))
        child = subprocess.Popen(
            [sys.executable, '-c', 'import sys; from rig import boot; '
             'boot.boot(*sys.argv[1:], accel="tcg")', self.kernel, self.initrd, self.outdir],
            cwd=common.ROOT, stdout=subprocess.DEVNULL)
        note, ends = self.dir / 'pid', time.monotonic() + 10
        while not (note.exists() and note.read_text()) and time.monotonic() < ends:
            time.sleep(0.05)
        child.kill()
        child.wait()
        gone = Path(f'/proc/{note.read_text()}')

        def runs():
            # Whoever inherits it may not have reaped it yet.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                return ') Z ' not in (gone / 'stat').read_text()
            return False
        while runs() and time.monotonic() < ends:
            time.sleep(0.05)
        self.assertFalse(runs())

    def test_full_disk(self):
        self.fake('init(); end()')
        with mock.patch.object(boot.shutil, 'disk_usage') as usage:
            usage.return_value.free = 0
            self.assertFails('no space left', self.boot)
        self.assertTrue((self.outdir / 'incomplete').exists())

    def test_icount(self):
        self.fake('init(); end()')
        self.assertEqual(self.boot(accel=None, icount=True, smp=4).accel, 'icount')
        args = self.calls()[0]
        self.assertEqual(args[args.index('-icount') + 1], 'shift=0,sleep=off')
        self.assertEqual(args[args.index('-smp') + 1], '1')

    def test_disks(self):
        self.fake('init(); end()')
        one, two = self.dir / 'a,b', self.dir / 'two'
        one.touch()
        two.touch()
        self.boot(disks=[one, (two, 'ro')], balloon=True)
        args = self.calls()[0]
        drives = [a for n, a in enumerate(args) if args[n - 1] == '-drive']
        self.assertIn('a,,b,format=raw', drives[0])
        self.assertNotIn('readonly', drives[0])
        self.assertIn('readonly=on', drives[1])
        self.assertIn('virtio-balloon-pci,free-page-reporting=on', args)

    def test_bad_input(self):
        self.fake('init(); end()')
        for words, kw in {
                'MEM=lots: must be a size': {'mem': 'lots'},
                'MEM=16M: the guest needs': {'mem': '16M'},
                'SMP=0: must be': {'smp': 0}, 'SMP=two: must be': {'smp': 'two'},
                'disk .*none: no such file': {'disks': [self.dir / 'none']},
                'takes no blanks': {'exec_path': '/a b'},
                'takes 2047': {'append': 'x' * 2000}}.items():
            self.assertFails(words, self.boot, **kw)
        self.kernel.unlink()
        self.assertFails('kernel .*bzImage: no such file', self.boot)
        self.assertFails('kernel .*bzImage: no such file', self.boot, accel=None)
        self.assertEqual(self.calls(), [])

    def test_qemu_missing(self):
        with mock.patch.dict(os.environ, PATH=str(self.dir)):
            self.assertFails('qemu-system-x86_64 is missing: apt-get install', self.boot)

    def test_piped(self):
        self.fake("init(); res.write('hello\\n'); end(3)")
        with mock.patch.object(sys, 'stdout', mock.Mock(buffer=io.BytesIO())) as out:
            code = boot.piped(self.kernel, self.initrd, self.outdir, accel='tcg')
        self.assertEqual((code, out.buffer.getvalue()), (3, b'hello\n'))
        self.fake('init()')
        with contextlib.redirect_stderr(io.StringIO()) as err:
            with mock.patch.object(sys, 'stdout', mock.Mock(buffer=io.BytesIO())):
                self.assertFails('ended before its script', boot.piped, self.kernel, self.initrd,
                                 self.outdir, accel='tcg')
        self.assertIn('MM-LOCKSTEP-INIT', err.getvalue())
        self.fake("init(); print('[    3.0] reboot: Power down', file=con)")
        self.assertEqual(boot.piped(self.kernel, self.initrd, self.outdir, accel='tcg'), 0)

    def test_shell_leaves_the_terminal_as_it_was(self):
        ours, theirs = pty.openpty()
        with open(theirs, 'r+b', buffering=0) as terminal, \
                mock.patch.object(sys, 'stdin', terminal):
            before = termios.tcgetattr(terminal)
            self.fake("import tty; tty.setraw(0); word = os.read(0, 3).decode(); "
                      "print('qemu: got ' + word, file=sys.stderr); sys.exit(word != 'yes')")
            kw = {'smp': 1, 'mem': '1G', 'append': '', 'disks': ()}
            for word in 'yes', 'no!':
                # Typed when QEMU has made the terminal raw, as a user would.
                typist = threading.Timer(0.5, os.write, (ours, word.encode()))
                typist.start()
                run = (boot.shell, self.kernel, self.initrd, self.outdir)
                with mock.patch.dict(os.environ, ACCEL='tcg'):
                    if word == 'yes':
                        self.assertEqual(run[0](*run[1:], **kw), 0)
                    else:
                        self.assertFails('exit 1: qemu: got no!', *run, **kw)
                typist.join()
                self.assertEqual(termios.tcgetattr(terminal), before)
        os.close(ours)
        self.assertIn('lockstep.mode=shell', ' '.join(self.calls()[0]))

    def test_scratch(self):
        self.assertEqual(boot.scratch(self.dir / 's', '3M').stat().st_size, 3 << 20)
        self.assertFails('SWAP=3: must be', boot.scratch, self.dir / 's', '3')


class AcceleratorTest(FakeQemu):
    """KVM is believed only after a trial."""

    def setUp(self):
        super().setUp()
        self.enterContext(mock.patch.object(boot, 'KVM', str(self.dir / 'kvm')))
        (self.dir / 'kvm').touch()
        self.enterContext(mock.patch.object(boot, 'TRIAL_SECONDS', 5))
        # The trial's init is its sentinel; the fake prints what it finds there.
        self.enterContext(mock.patch.object(
            boot.image, 'skeleton', lambda script: script))

    SENTINEL = ("import re as r; word = r.search('KVM-TRIAL-\\\\w+', "
                "open(args[args.index('-initrd') + 1]).read())[0]; ")

    def choice(self, *args):
        """name and reason"""
        return boot.accelerator(*(args or (self.kernel,)))[1:]

    def test_works(self):
        self.fake(self.SENTINEL + "assert kvm; print(word, file=con); time.sleep(60)")
        self.assertEqual(self.choice(), ('kvm', 'a trial boot with KVM reached init'))
        self.assertEqual(boot.accelerator(self.kernel)[0], ['-accel', 'kvm', '-cpu', 'host'])
        self.assertEqual(len(self.calls()), 1, 'the answer is remembered')
        self.assertEqual(self.choice(None)[0], 'kvm')

    def test_hang(self):
        self.fake('time.sleep(60)')
        begun = time.monotonic()
        with mock.patch.object(boot, 'TRIAL_SECONDS', 1):
            name, reason = self.choice()
        self.assertEqual(name, 'tcg')
        self.assertIn('hung', reason)
        self.assertLess(time.monotonic() - begun, 5)
        self.assertIn('remembered', self.choice()[1])
        self.assertEqual(len(self.calls()), 1)

    def test_abort(self):
        self.fake("print('error: failed to set MSR', file=sys.stderr, flush=True); os.abort()")
        name, reason = self.choice()
        self.assertEqual(name, 'tcg')
        self.assertIn('failed to set MSR', reason)

    def test_broken_kernel_is_not_held_against_kvm(self):
        self.fake("print('Kernel panic - not syncing', file=con)")
        self.assertEqual(self.choice()[0], 'tcg')
        self.choice()
        self.assertEqual(len(self.calls()), 2)

    def test_another_qemu_is_tried_again(self):
        self.fake('os.abort()')
        self.choice()
        self.fake('os.abort()', version='8.0')
        self.choice()
        self.assertEqual(len(self.calls()), 2)

    def test_damaged_memory_is_not_believed(self):
        common.CACHE.mkdir()
        for text in ('', '{"key"', '[]', '{"key": "x", "name": "kvm", "reason": ""}'):
            (common.CACHE / 'accelerator.json').write_text(text)
            self.fake('os.abort()')
            self.assertEqual(self.choice()[0], 'tcg')

    def test_setting(self):
        self.fake('os.abort()')
        for name in 'kvm', 'tcg':
            with mock.patch.dict(os.environ, ACCEL=name):
                self.assertEqual(self.choice(), (name, f'ACCEL={name}'))
        with mock.patch.dict(os.environ, ACCEL='hvf'):
            self.assertFails('ACCEL=hvf: neither', self.choice)
        self.assertEqual(self.calls(), [])

    def test_no_kvm(self):
        self.fake('os.abort()')
        with mock.patch.object(boot.os, 'access', lambda *a: False):
            self.assertEqual(self.choice()[0], 'tcg')
        self.assertEqual(self.choice(None), ('tcg', 'no kernel to try KVM with'))
        (self.dir / 'kvm').unlink()
        self.assertEqual(self.choice(), ('tcg', f'no {self.dir}/kvm'))
        self.assertEqual(self.calls(), [])


if __name__ == '__main__':
    unittest.main()
