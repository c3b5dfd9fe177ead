# SPDX-License-Identifier: GPL-2.0
"""What every part of the rig shares: paths, errors, children, the lock, progress."""
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE = os.environ.get('BASE') or 'v6.1'
PATCHES = ROOT / 'patches' / BASE
LINUX = ROOT / 'linux'
OUT = Path(os.environ.get('OUT') or ROOT / 'out').resolve()
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'mm-lockstep'

IDENT = {
    'GIT_AUTHOR_NAME': 'mm-lockstep', 'GIT_AUTHOR_EMAIL': 'mm-lockstep@example.org',
    'GIT_COMMITTER_NAME': 'mm-lockstep', 'GIT_COMMITTER_EMAIL': 'mm-lockstep@example.org',
}


# Run from a git hook, git would look at the hook's repository instead of ours.
for _name in ('GIT_DIR', 'GIT_WORK_TREE', 'GIT_INDEX_FILE', 'GIT_OBJECT_DIRECTORY', 'GIT_PREFIX'):
    os.environ.pop(_name, None)
# What makes git take the same decisions on every machine.
PLAIN = {'GIT_CONFIG_GLOBAL': '/dev/null', 'GIT_CONFIG_NOSYSTEM': '1', 'LC_ALL': 'C.UTF-8'}


class Fail(Exception):
    """An error that ends the command: one line, what is wrong and what to do."""


def setting(name, default=None, choices=None):
    """A setting from the environment (make passes NAME=value on); '' is unset."""
    value = os.environ.get(name) or default
    if choices and value not in choices:
        raise Fail(f'{name}={value}: not one of {", ".join(choices)}')
    return value


def count(name, default=None):
    """A setting that is a whole number above 0."""
    value = os.environ.get(name)
    if not value:
        return default
    if not value.isdigit() or int(value) < 1:
        raise Fail(f'{name}={value}: must be a whole number above 0')
    return int(value)


def base(name=None):
    """The base file as a dict; every key below must be there."""
    path = ROOT / 'base' / (name or BASE)
    if not path.is_file():
        known = ', '.join(sorted(p.name for p in (ROOT / 'base').iterdir()))
        raise Fail(f'BASE={name or BASE}: no file base/{name or BASE}; known bases: {known}')
    found = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith('#'):
            key, eq, value = line.partition('=')
            if not eq:
                raise Fail(f'base/{path.name}: not key=value: {line!r}')
            found[key.strip()] = value.strip()
    for key in ('release', 'version', 'package', 'package_version', 'tarball',
                'sha256', 'base_tree', 'series_tree'):
        if not found.get(key):
            raise Fail(f'base/{path.name}: key {key} is missing')
    return found


# Children. Each runs in a process group of its own, so that ending the command
# ends make's compilers and QEMU too; none outlives us.
_children = set()


def spawn(cmd, **kw):
    """Popen in a new process group, ended with us."""
    kw.setdefault('stdin', subprocess.DEVNULL)
    child = subprocess.Popen([str(c) for c in cmd], start_new_session=True, **kw)
    _children.add(child)
    return child


def end(child, grace=5):
    """TERM, then KILL, the child's whole group."""
    for sig, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, sig)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(wait)
            break
    _children.discard(child)


def end_children():
    """End every child that still runs."""
    for child in list(_children):
        end(child)


def run(cmd, *, cwd=None, env=None, log=None, check=True, text_input=None, quiet=True,
        mix=True):
    """Run to the end. Returns CompletedProcess; output is in .stdout (stderr in it, unless
    mix is False) unless it goes to the open file `log`. check: non-zero raises Fail with
    the tail."""
    child = spawn(cmd, cwd=cwd, env={**os.environ, **(env or {})},
                  stdin=subprocess.PIPE if text_input is not None else subprocess.DEVNULL,
                  stdout=log or (subprocess.PIPE if quiet else None),
                  stderr=(subprocess.STDOUT if mix or log else subprocess.PIPE)
                  if (log or quiet) else None,
                  text=True, errors='replace')
    try:
        out, error = child.communicate(text_input)
    except BaseException:
        end(child)
        raise
    _children.discard(child)
    if check and child.returncode:
        tail = (error or out or '').strip().splitlines()[-1:] or ['no output']
        where = f', see {log.name}' if log else ''
        raise Fail(f'{" ".join(map(str, cmd[:4]))}: exit {child.returncode}: {tail[0]}'
                   f'{full(cwd or ".")}{where}')
    return subprocess.CompletedProcess(cmd, child.returncode, out, error)


def full(path):
    """Words for the end of an error when the disk of `path` is full, else ''. Programs
    name the file that they could not write, seldom the reason."""
    try:
        return ' (no space left on its disk)' if shutil.disk_usage(path).free < 1 << 16 else ''
    except OSError:
        return ''


def git(*args, cwd=LINUX, check=True, env=None, text_input=None):
    """git, fixed identity, no user or system configuration; returns stdout stripped
    (check=False: the CompletedProcess, with stderr in stdout)."""
    done = run(['git', *args], cwd=cwd, check=check, text_input=text_input, mix=not check,
               env={**IDENT, **PLAIN, **(env or {})})
    return done.stdout.strip() if check else done


def write(path, data):
    """Write a file whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, tmp = tempfile.mkstemp(dir=path.parent, prefix='.' + path.name)
    try:
        with os.fdopen(handle, 'wb') as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        os.chmod(tmp, 0o644)
        os.replace(tmp, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(tmp)
        raise


def end_of(path):
    """Remove a result of an earlier run, so that it cannot pass for this one's."""
    Path(path).unlink(missing_ok=True)


@contextlib.contextmanager
def lock(name='run', wait=0):
    """One holder at a time of out/<name>.lock; the file holds the pid. wait: seconds to
    wait for another holder, said once, before that is a Fail."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f'{name}.lock'
    with open(path, 'a+', encoding='ascii') as f:
        end, said = time.monotonic() + wait, False
        while True:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                f.seek(0)
                pid = f.read().strip() or 'unknown'
                if time.monotonic() >= end:
                    raise Fail(f'another run has {path} (pid {pid}): wait for it or end it') from None
            if not said:
                say(f'waiting for {path} (pid {pid})')
                said = True
            time.sleep(0.2)
        f.seek(0)
        f.truncate()
        f.write(f'{os.getpid()}\n')
        f.flush()
        os.set_inheritable(f.fileno(), False)
        yield


class Stages:
    """Progress: which of how many, elapsed, and a table of times at the end."""

    def __init__(self, *names):
        self.names, self.times, self.start = names, [], time.monotonic()

    @contextlib.contextmanager
    def stage(self, name, expected=''):
        """One stage; prints its number before and its seconds after."""
        n = self.names.index(name) + 1
        say(f'[{n}/{len(self.names)}] {name}{" (" + expected + ")" if expected else ""}')
        begun = time.monotonic()
        try:
            yield
        finally:
            self.times.append((name, time.monotonic() - begun))

    def table(self):
        """The times, a line a stage and the sum."""
        total = time.monotonic() - self.start
        rows = [*self.times, ('total', total)]
        return '\n'.join(f'  {name:<28}{secs:8.1f} s' for name, secs in rows)


class Ticker:
    """A line that moves on a terminal and is printed now and then in a log."""

    def __init__(self, what, every=30):
        self.what, self.every = what, every
        self.start = self.last = time.monotonic()
        self.tty = sys.stderr.isatty()

    def tick(self, detail=''):
        """Call often; prints when it is due."""
        now = time.monotonic()
        if now - self.last < (0.5 if self.tty else self.every):
            return
        self.last = now
        line = f'    {self.what}: {detail} {now - self.start:.0f} s'
        print(f'\r{line:<78.78}' if self.tty else line,
              end='' if self.tty else '\n', file=sys.stderr, flush=True)

    def done(self):
        """Clear the moving line."""
        if self.tty:
            print(f'\r{"":<78}\r', end='', file=sys.stderr, flush=True)


def say(line):
    """A line for the user."""
    print(line, flush=True)
