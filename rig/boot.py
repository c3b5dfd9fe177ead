# SPDX-License-Identifier: GPL-2.0
"""QEMU: which accelerator works here, a boot that always ends, a shell in the guest."""
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

from . import common, image
from .arch import NATIVE, guest

QEMU = NATIVE.qemu
KVM = '/dev/kvm'
INIT, END = 'MM-LOCKSTEP-INIT', 'MM-LOCKSTEP-END'

# What is emulated takes that much longer; measured, see scale().
SCALES = {'kvm': 1, 'tcg': 10, 'icount': 20}
ACCELS = {
    'kvm': ['-accel', 'kvm', '-cpu', 'host'],
    'tcg': ['-accel', 'tcg,thread=multi', '-cpu', 'max'],
    # Guest time counts instructions; sleep=off skips idle time.
    'icount': ['-accel', 'tcg', '-icount', 'shift=0,sleep=off', '-cpu', 'max'],
}
TRIAL_SECONDS = 15

# Seconds without KVM's speed-up; scale() multiplies them.
INIT_SILENCE = 8    # no init line yet and nothing printed
POWER_OFF = 10      # from the end line to QEMU's exit
CEILING = 3         # times the limit: a guest that prints forever ends too


@dataclass
class Boot:
    """One boot. ended: exit (QEMU ended by itself), hang (past the limit and silent,
    or silent before init, or no power-off), limit (past the ceiling). qemu_exit: its
    exit status, -N for signal N, never 0 when it had to be ended. seconds: wall
    time; init_seconds: until init's line, None when it never came."""
    qemu_exit: int
    ended: str
    console: Path
    results: Path
    nonce: str
    seconds: float
    init_seconds: float
    accel: str


def scale(name):
    """The factor on every timeout, host and guest, with the accelerator `name`."""
    return SCALES[name]


def qemu(arch=NATIVE):
    """Path of QEMU and its version line; Fail when it is not installed."""
    path = shutil.which(arch.qemu)
    if not path:
        raise common.Fail(f'{arch.qemu} is missing: apt-get install {arch.package}')
    done = common.run([path, '--version'], check=False)
    first = (done.stdout.splitlines() or [''])[0]
    if done.returncode or not first:
        raise common.Fail(f'{path} --version: exit {done.returncode}: {first or "no output"}')
    return path, first


def launcher(arch=NATIVE):
    """The start of QEMU's command line. util-linux's setpriv has the kernel end QEMU
    when we are killed without a chance to do it."""
    setpriv = shutil.which('setpriv')
    return [*([setpriv, '--pdeathsig', 'KILL'] if setpriv else []), qemu(arch)[0]]


def trial(kernel, where):
    """Boot `kernel` with KVM and nothing but a sentinel.
    Returns (works, certain, reason); not certain: the kernel may be at fault, not KVM."""
    where.mkdir(parents=True, exist_ok=True)
    word = secrets.token_hex(8)
    script = f'#!/bin/sh\necho KVM-TRIAL-{word} >/dev/kmsg\n/bin/busybox poweroff -n -f\n'
    common.write(where / 'trial.cpio', bytes(image.skeleton(script.encode())))
    console, log = where / 'console.log', where / 'qemu.log'
    console.write_bytes(b'')
    with open(log, 'wb') as err:
        child = common.spawn([
            *launcher(), *machine('256M', 1), *ACCELS['kvm'], '-kernel', kernel,
            '-initrd', where / 'trial.cpio', '-serial', f'file:{console}',
            '-append', f'{NATIVE.console} panic=-1 ignore_loglevel'], stdout=err, stderr=err)
        begun = time.monotonic()
        try:
            while child.poll() is None and time.monotonic() - begun < TRIAL_SECONDS:
                if word.encode() in console.read_bytes():
                    return True, True, 'a trial boot with KVM reached init'
                time.sleep(0.1)
            code, seen = child.poll(), console.read_bytes()
        finally:
            common.end(child, grace=2)
    if word.encode() in seen:
        return True, True, 'a trial boot with KVM reached init'
    if code is None:
        certain = not seen.strip()
        return False, certain, f'the trial boot with KVM hung, no init after {TRIAL_SECONDS} s'
    if code:
        text = first_error(log)
        return False, True, f'QEMU ended the trial boot with KVM, exit {code}: {text}'
    return False, False, 'the guest of the trial boot with KVM ended before init'


def accelerator(kernel=None, arch=NATIVE):
    """(QEMU arguments, name, reason). Another machine than this one is emulated. ACCEL=kvm|tcg decides; else KVM only after a
    trial boot of `kernel` reached init under it. The answer holds until the machine
    or QEMU changes: it is kept in the cache by boot id and QEMU version."""
    name = common.setting('ACCEL')
    if arch != NATIVE:
        if name == 'kvm':
            raise common.Fail(f'ACCEL=kvm: not for ARCH={arch.name}, which is not this machine')
        return [*ACCELS['tcg'][:-1], arch.cpu], 'tcg', f'{arch.name} is emulated'
    if name:
        if name not in ('kvm', 'tcg'):
            raise common.Fail(f'ACCEL={name}: neither kvm nor tcg')
        return ACCELS[name], name, f'ACCEL={name}'
    if not os.path.exists(KVM):
        return ACCELS['tcg'], 'tcg', f'no {KVM}'
    if not os.access(KVM, os.R_OK | os.W_OK):
        return ACCELS['tcg'], 'tcg', f'{KVM} may not be opened by this user'
    memo = common.CACHE / 'accelerator.json'
    key = f'{Path("/proc/sys/kernel/random/boot_id").read_text().strip()} {qemu()[1]}'
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        held = json.loads(memo.read_text())
        if held['key'] == key and held['name'] in ('kvm', 'tcg'):
            return ACCELS[held['name']], held['name'], f'{held["reason"]}; remembered'
    if kernel is None:
        return ACCELS['tcg'], 'tcg', 'no kernel to try KVM with'
    works, certain, reason = trial(kernel, common.OUT / 'kvm-trial')
    name = 'kvm' if works else 'tcg'
    if certain:
        common.write(memo, json.dumps({'key': key, 'name': name, 'reason': reason}))
    return ACCELS[name], name, reason


def first_error(log):
    """The first line of QEMU's own output that is no warning, else the first at all."""
    text = ''
    with contextlib.suppress(OSError):
        text = Path(log).read_text(errors='replace')
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ([x for x in lines if 'warning:' not in x] + lines + ['no message'])[0]


def machine(mem, smp, arch=NATIVE):
    """QEMU's arguments that every boot has."""
    found = re.fullmatch(r'([1-9]\d{0,6})([MG]?)(,slots=\d+,maxmem=[1-9]\d*[MG])?', str(mem))
    if not found:
        raise common.Fail(f'MEM={mem}: must be a size like 700M or 1G')
    if int(found[1]) << (10 if found[2] == 'G' else 0) < 128:
        # Below that the kernel dies before it can print.
        raise common.Fail(f'MEM={mem}: the guest needs at least 128M')
    if not re.fullmatch(r'[1-9]\d*', str(smp)):
        raise common.Fail(f'SMP={smp}: must be a whole number above 0')
    return ['-machine', arch.machine, '-display', 'none', '-nodefaults', '-no-user-config', '-no-reboot',
            '-m', str(mem), '-smp', str(smp)]


def command(kernel, initrd, serial, accel, factor, nonce, *, mode, tests='', exec_path='',
            smp=2, mem='1G', append='', disks=(), balloon=False, qemu_args=(), arch=NATIVE):
    """QEMU's whole command line; every value checked, Fail names the wrong one."""
    for what, path in (('kernel', kernel), ('guest image', initrd),
                       *(('disk', d[0] if isinstance(d, tuple) else d) for d in disks)):
        if not Path(path).is_file():
            raise common.Fail(f'{what} {path}: no such file')
    if isinstance(tests, (list, tuple)):
        tests = ','.join(tests)
    for key, value in (('tests', tests), ('exec', exec_path)):
        if re.search(r'[\s"]', value):
            raise common.Fail(f'lockstep.{key}={value!r}: the kernel command line takes no blanks')
    # A judged guest prints everything and dies at its first oops; a shell lives on.
    judged = '' if mode == 'shell' else 'ignore_loglevel printk.devkmsg=on oops=panic'
    words = [arch.console, 'panic=-1', judged,
             # The watchdogs that init cannot set early enough.
             f'rcupdate.rcu_cpu_stall_timeout={min(300, 21 * factor)}',
             # The timer's test at boot measures in real time, and panics on a busy host.
             'no_timer_check',
             f'workqueue.watchdog_thresh={30 * factor}',
             f'lockstep.results={arch.results}' if arch != NATIVE else '',
             f'lockstep.mode={mode} lockstep.nonce={nonce} lockstep.scale={factor}']
    words += [f'lockstep.tests={tests}'] if tests else []
    words += [f'lockstep.exec={exec_path}'] if exec_path else []
    line = ' '.join([*filter(None, words), append]).strip()
    if len(line) > 2047:
        raise common.Fail(f'kernel command line of {len(line)} characters: x86 takes 2047; '
                          'shorten APPEND or the list of tests')
    cmd = [*launcher(arch), *machine(mem, smp, arch), *accel, '-kernel', kernel, '-initrd', initrd,
           *serial, '-append', line]
    for n, disk in enumerate(disks):
        path, *how = disk if isinstance(disk, tuple) else (disk,)
        # A comma ends an option; doubled it is one.
        drive = f'file={str(path).replace(",", ",,")},format=raw,if=none,id=d{n},cache=unsafe'
        cmd += ['-drive', drive + (',readonly=on' if 'ro' in how else ''),
                '-device', f'virtio-blk-pci,drive=d{n}']
    if balloon:
        cmd += ['-device', 'virtio-balloon-pci,free-page-reporting=on']
    return cmd + list(qemu_args)


class Tail:
    """What was appended to a file since the last look."""

    def __init__(self, path):
        self.path, self.at, self.last = path, 0, ''

    def more(self):
        """The new bytes; .last keeps the last whole line with something in it."""
        try:
            with open(self.path, 'rb') as f:
                f.seek(self.at)
                new = f.read()
        except FileNotFoundError:
            return b''
        self.at += len(new)
        for line in reversed(new.decode(errors='replace').replace('\r', '').splitlines()):
            if line.strip():
                self.last = line.strip()
                break
        return new


def boot(kernel, initrd, outdir, *, mode='test', tests='', exec_path='', smp=2, mem='1G',
         append='', disks=(), limit=600, silence=120, icount=False, accel=None, balloon=False,
         qemu_args=(), on_results=None, on_console=None, ceiling=None, arch=NATIVE):
    """Boot the guest to its end and return Boot; outdir gets console.log, results.ktap,
    qemu.log and boot.json, and a file `incomplete` while it runs or when interrupted.

    limit, silence: seconds, times scale(): past the limit and silent for `silence` is a
    hang; past the ceiling, 3 times the limit when None, a guest that goes on printing is
    ended too. disks: raw files, or
    (file, 'ro'), as /dev/vda and so on. accel: kvm or tcg instead of accelerator().
    on_results, on_console: called with each new piece of the results, of the console; what
    on_console returns is shown as progress. Fail when QEMU cannot start."""
    outdir = Path(outdir)
    outdir.mkdir(parents=True, exist_ok=True)
    console, results, log = (outdir / n for n in ('console.log', 'results.ktap', 'qemu.log'))
    for stale in (console, results, log, outdir / 'boot.json'):
        stale.unlink(missing_ok=True)
    marker = outdir / 'incomplete'
    marker.write_text('this boot has not ended; trust nothing in this folder\n')

    if arch == NATIVE and icount:
        args, name, reason = ACCELS['icount'], 'icount', 'instructions are counted'
        smp = 1
    elif arch == NATIVE and accel:
        args, name, reason = ACCELS[accel], accel, 'asked for by the caller'
    else:
        if not Path(kernel).is_file():
            raise common.Fail(f'kernel {kernel}: no such file')
        args, name, reason = accelerator(kernel, arch)
    say_accelerator(name, reason)
    factor = scale(name)
    nonce = secrets.token_hex(8)
    serial = ['-serial', f'file:{console}', *(word.format(results) for word in arch.port)]
    cmd = command(kernel, initrd, serial, args, factor, nonce, mode=mode, tests=tests,
                  exec_path=exec_path, smp=smp, mem=mem, append=append, disks=disks,
                  balloon=balloon, qemu_args=qemu_args, arch=arch)
    console.touch()
    with open(log, 'wb') as err:
        begun = time.monotonic()
        child = common.spawn(cmd, stdout=err, stderr=err)
        try:
            ended, init_seconds = watch(child, console, results, nonce, limit * factor,
                                        silence * factor, factor, on_results, on_console,
                                        ceiling * factor if ceiling else None)
        finally:
            # Ctrl-C comes through here too; the marker stays then.
            common.end(child)
    seconds = time.monotonic() - begun
    if child.returncode and ended == 'exit' and not console.stat().st_size:
        raise common.Fail(f'QEMU did not start (exit {child.returncode}): {first_error(log)}; '
                          f'see {log}')
    if shutil.disk_usage(outdir).free < 1 << 20:
        raise common.Fail(f'{outdir}: no space left, what the guest printed may be lost')
    # QEMU exits 0 on TERM; that is not the guest's doing.
    code = child.returncode if ended == 'exit' else child.returncode or -signal.SIGTERM
    done = Boot(code, ended, console, results, nonce, round(seconds, 1),
                init_seconds, name)
    common.write(outdir / 'boot.json', json.dumps(
        {**done.__dict__, 'console': console.name, 'results': results.name,
         'command': [str(c) for c in cmd], 'reason': reason}, indent=1) + '\n')
    marker.unlink()
    return done


def watch(child, console, results, nonce, limit, silence, factor, on_results=None,
          on_console=None, ceiling=None):
    """Wait for QEMU's end or for a reason to end it: (ended, seconds until init)."""
    ceiling = ceiling or CEILING * limit
    shown = None
    out, res, ticker = Tail(console), Tail(results), common.Ticker('guest')
    begun = progress = time.monotonic()
    init = end_seen = None
    held = b''
    try:
        while True:
            running = child.poll() is None
            text, more = out.more(), res.more()
            now = time.monotonic()
            if more and on_results:
                on_results(more)
            if text and on_console:
                shown = on_console(text)
            if text or more:
                progress = now
            if text:
                held = held[-200:] + text  # a sentinel may come in two pieces
                if init is None and f'{INIT} {nonce}'.encode() in held:
                    init = round(now - begun, 1)
                if end_seen is None and f'{END} {nonce} rc='.encode() in held:
                    end_seen = now
            if not running:
                return 'exit', init
            quiet, past = now - progress, now - begun
            if end_seen and now - end_seen > POWER_OFF * factor:
                return 'hang', init
            if init is None and quiet > INIT_SILENCE * factor:
                return 'hang', init
            if past > limit and quiet > silence:
                return 'hang', init
            if past > ceiling:
                return 'limit', init
            ticker.tick(shown or res.last[:40] or out.last[:40])
            time.sleep(0.1)
    finally:
        ticker.done()


_said = set()


def say_accelerator(name, reason):
    """Which accelerator and why, once."""
    if (name, reason) not in _said:
        _said.add((name, reason))
        common.say(f'accelerator: {name} ({reason})')


def interactive():
    """make boot: a shell in the guest, on this terminal. Settings: CONFIG, SMP, MEM,
    APPEND, ACCEL, SWAP=size. When stdin is no terminal, its lines are run as a script
    in the guest; the exit status is the script's."""
    from . import build  # pylint: disable=import-outside-toplevel
    config = common.setting('CONFIG', 'debug')
    smp, mem = common.count('SMP', 2), common.setting('MEM', '1G')
    append = common.setting('APPEND', '')
    arch = guest()
    outdir = common.OUT / 'boot'
    machine(mem, smp, arch)
    with common.lock('boot'):
        disks = []
        swap = common.setting('SWAP')
        if swap:
            disks.append(scratch(outdir / 'swap.img', swap))
            append += ' lockstep.swap=/dev/vda'
        kernel = build.kernel_image(config, arch=arch)
        tests = build.selftests(common.LINUX, common.OUT / 'selftests' / 'boot', arch=arch)
        trees = {'/lockstep/mm': tests / 'mm'}
        if sys.stdin.isatty():
            return shell(kernel, image.make_image(outdir / 'guest.cpio', tree_dirs=trees, arch=arch),
                         outdir, smp=smp, mem=mem, append=append, disks=disks, arch=arch)
        script = b'#!/bin/sh\nexec 2>&1\ncd /root\n' + sys.stdin.buffer.read()
        initrd = image.make_image(outdir / 'guest.cpio', {'/lockstep/stdin': script}, trees, arch)
        return piped(kernel, initrd, outdir, smp=smp, mem=mem, append=append, disks=disks,
                     arch=arch)


def scratch(path, size):
    """An empty raw disk of `size` (like 512M), sparse."""
    found = re.fullmatch(r'([1-9]\d*)([MG])', size)
    if not found:
        raise common.Fail(f'SWAP={size}: must be a size like 512M or 2G')
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'wb') as f:
        f.truncate(int(found[1]) << {'M': 20, 'G': 30}[found[2]])
    return path


def piped(kernel, initrd, outdir, **kw):
    """Run /lockstep/stdin in the guest; its output is printed as it comes."""
    def show(data):
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    done = boot(kernel, initrd, outdir, mode='exec', exec_path='/lockstep/stdin',
                on_results=show, **kw)
    text = done.console.read_text(errors='replace').replace('\r', '')
    found = re.search(rf'{END} {done.nonce} rc=(\d+)$', text, re.M)
    if found:
        return int(found[1])
    if done.ended == 'exit' and not done.qemu_exit and 'reboot: Power down' in text:
        return 0  # the script itself switched the guest off
    print('\n'.join(text.splitlines()[-20:]), file=sys.stderr)
    raise common.Fail(f'the guest ended before its script did ({done.ended}, QEMU exit '
                      f'{done.qemu_exit}); see {done.console}')


def shell(kernel, initrd, outdir, *, smp, mem, append, disks, arch=NATIVE):
    """The guest's shell on this terminal, which is left as it was found; console.log
    in outdir keeps what it showed. Returns 0; Fail when QEMU ends with an error."""
    args, name, reason = accelerator(kernel, arch)
    say_accelerator(name, reason)
    console, log = outdir / 'console.log', outdir / 'qemu.log'
    port = f'stdio,id=con,mux=on,signal=off,logfile={str(console).replace(",", ",,")}'
    size = os.get_terminal_size(sys.stdin.fileno())
    if size.lines and size.columns:
        append = f'lockstep.tty={size.lines}x{size.columns} {append}'
    cmd = command(kernel, initrd,
                  ['-chardev', port, '-serial', 'chardev:con', '-mon', 'chardev=con'],
                  args, scale(name), secrets.token_hex(8), mode='shell', smp=smp, mem=mem,
                  append=append, disks=disks, arch=arch)
    terminal = termios.tcgetattr(sys.stdin)
    outdir.mkdir(parents=True, exist_ok=True)
    console.unlink(missing_ok=True)
    with open(log, 'wb') as err:
        child = common.spawn(cmd, stdin=sys.stdin, stderr=err)
        try:
            code = child.wait()
        finally:
            common.end(child)
            with contextlib.suppress(termios.error):  # the terminal may be gone
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, terminal)
    if code:
        raise common.Fail(f'QEMU ended with exit {code}: {first_error(log)}')
    return 0
