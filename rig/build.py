# SPDX-License-Identifier: GPL-2.0
"""Kernel configs, kernel builds and selftest builds, each in a folder of its own."""
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from . import common, warn
from .arch import NATIVE, guest, version

# Which fragments stand under a fragment; what is not named stands on common alone.
UNDER = {'lockdep': 'debug', 'kasan': 'debug', 'kcsan': 'debug'}

PROGRAMS = ('make', 'gcc', 'ld', 'ccache', 'bc', 'flex', 'bison', 'perl', 'git')

# Two builds of one source must give one kernel, in any folder and on any day.
FIXED = {
    'KBUILD_BUILD_TIMESTAMP': 'Thu Jan  1 00:00:00 UTC 2026',
    'KBUILD_BUILD_USER': 'mm', 'KBUILD_BUILD_HOST': 'lockstep', 'KBUILD_BUILD_VERSION': '1',
    'LC_ALL': 'C', 'TZ': 'UTC',
}

# Settings of the calling make or shell that would change the kernel's build unasked.
DROP = re.compile(r'(MAKE(FLAGS|LEVEL|OVERRIDES|FILES)|MFLAGS|GNUMAKEFLAGS|K(BUILD|CONFIG)_.*|KCFLAGS'
                  r'|KCPPFLAGS|KAFLAGS|[VCWOM]|CC|LD|AR|HOSTCC|LLVM|ARCH|SUBARCH|CROSS_COMPILE'
                  r'|C(PP)?FLAGS|LDFLAGS|LOCALVERSION|TARGETS|SKIP_TARGETS|FORCE_TARGETS|OUTPUT'
                  r'|INSTALL_.*|KSFT_.*|KHDR_INCLUDES|CONFIG|CONFIG_|CCACHE_.*)$')

REQUEST = re.compile(r'(?:(CONFIG_\w+)=(\S.*)|# (CONFIG_\w+) is not set)$')
STEP = re.compile(r'^  (CC|AS|AR|LD|HOSTCC)\b', re.M)
STEPS = 1720    # of a debug build from nothing; a finished build records its own


def fragments(config, arch=NATIVE):
    """The fragment files of a config, lowest first; `a+b` appends b's file to a's. Behind
    common comes what only the machine has."""
    first, *more = config.split('+')
    known = {p.stem: p for p in (common.ROOT / 'configs').glob('*.config')}
    names = [first]
    while names[0] in UNDER:
        names.insert(0, UNDER[names[0]])
    names = ['common', *names, *more]
    for name in names:
        if name not in known:
            raise common.Fail(f'CONFIG={config}: no configs/{name}.config; known: '
                              f'{", ".join(sorted(known))}, and a+b for b over a')
    found = [known[name] for name in dict.fromkeys(names)]
    return [found[0], common.ROOT / f'configs/arch/{arch.name}.config', *found[1:]]


def requests(files):
    """What fragments ask for: {symbol: (value, fragment's name)}, the last request wins."""
    asked = {}
    for path in files:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = REQUEST.match(line)
            if found:
                symbol = found[1] or found[3]
                asked[symbol] = (found[2] or 'n', path.name)
            elif line and not (line.startswith('#') and not line.startswith('# CONFIG_')):
                raise common.Fail(f'configs/{path.name}:{number}: neither CONFIG_X=value nor '
                                  f'"# CONFIG_X is not set": {line}')
    return asked


def parse_config(path):
    """The symbols that a .config sets: {symbol: value}; what is not set is not in it."""
    found = (REQUEST.match(line) for line in Path(path).read_text().splitlines())
    return {m[1]: m[2] for m in found if m and m[1] and m[2] != 'n'}


def kconfig_files(src):
    """Everything in src that decides how a .config comes out of its fragments."""
    listed = common.git('ls-files', '-co', '--exclude-standard', '--',
                        '*Kconfig*', 'scripts/kconfig', 'scripts/*.sh', cwd=src)
    return [src / name for name in listed.splitlines() if (src / name).is_file()]


def kconfig_symbols(files):
    """The names of all symbols that Kconfig files define, with CONFIG_ before."""
    symbol = re.compile(rb'^\s*(?:menu)?config\s+(\w+)', re.M)
    return {'CONFIG_' + name.decode() for path in files if path.name.startswith('Kconfig')
            for name in symbol.findall(path.read_bytes())}


def missing(asked, actual, known=None):
    """Lines on the requests that a config does not honour. With `known`, symbols
    that this kernel does not have yet are accepted."""
    lines = []
    for symbol, (value, fragment) in asked.items():
        have = actual.get(symbol, 'n')
        if have != value and (known is None or symbol in known):
            lines.append(f'{symbol}={value} asked for by configs/{fragment} is '
                         f'{"not set" if have == "n" else have}')
    return lines


def configure(config, src, obj, optional=False, arch=NATIVE, files=None):
    """Make obj/.config from the config's fragments over allnoconfig and check that every
    request came through. optional: symbols that src does not know yet are accepted.
    files: these fragments instead of the config's. Returns True when .config changed; an equal one keeps its time, so nothing is rebuilt."""
    src, obj = Path(src).resolve(), Path(obj).resolve()
    files = files or fragments(config, arch)
    asked = requests(files)
    inputs = kconfig_files(src)
    digest = hashlib.sha256(f'{src}\n{optional}\n{version(arch)}\n'.encode())
    for path in [*files, *inputs]:
        data = path.read_bytes()
        digest.update(f'{path.name} {len(data)}\n'.encode() + data)
    stamp, target = obj / '.config.stamp', obj / '.config'
    if target.is_file():
        digest_now = digest.copy()
        digest_now.update(target.read_bytes())
        if stamp.is_file() and stamp.read_text() == digest_now.hexdigest():
            return False
    obj.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=obj, prefix='.merge') as tmp:
        with open(f'{tmp}/log', 'w+', encoding='utf-8') as log:
            common.run(['sh', src / 'scripts/kconfig/merge_config.sh', '-m', '-n', '-O', tmp, *files],
                       cwd=tmp, env={'CONFIG_': 'CONFIG_', 'KCONFIG_CONFIG': ''})
            os.rename(f'{tmp}/.config', f'{tmp}/merged')
            done = make(src, obj, ['allnoconfig'], log, KCONFIG_ALLCONFIG=f'{tmp}/merged',
                        KCONFIG_CONFIG=f'{tmp}/.config', **arch.variables())
            log.seek(0)
            if done:
                raise common.Fail(f'CONFIG={config}: {first_error(log.read(), src)}')
        lines = missing(asked, parse_config(f'{tmp}/.config'),
                        kconfig_symbols(inputs) if optional else None)
        if lines:
            raise common.Fail(f'CONFIG={config}: {"; ".join(lines)} in the final .config: a name that '
                              'this kernel lacks, or a dependency that is not met')
        data = Path(f'{tmp}/.config').read_bytes()
        changed = not target.is_file() or target.read_bytes() != data
        if changed:
            common.write(target, data)
    digest.update(data)
    common.write(stamp, digest.hexdigest())
    return changed


def environment(src, obj):
    """The environment of a kernel build: fixed stamps, and a ccache whose entries
    fit a clone in any other folder."""
    env = {k: v for k, v in os.environ.items() if not DROP.match(k)}
    env.update(FIXED)
    env.update(
        CCACHE_DIR=str(common.CACHE / 'ccache'), CCACHE_MAXSIZE='10G', CCACHE_NOHASHDIR='1',
        # Paths below the folder that holds both become relative, hence equal everywhere.
        CCACHE_BASEDIR=os.path.commonpath([src, obj]),
        # Headers that were generated a moment ago are still what their content says.
        CCACHE_SLOPPINESS='include_file_mtime,include_file_ctime')
    if os.environ.get('CCACHE_DISABLE'):
        env['CCACHE_DISABLE'] = '1'
    return env


def jobs():
    """How many compilers at a time: JOBS=, else the CPUs that we may use."""
    return common.count('JOBS', len(os.sched_getaffinity(0)))


def make(src, obj, targets, log, tick=None, folder=None, **variables):
    """The kernel's make into obj, output to the open file log. tick() is called twice a
    second. folder: run there instead of src (selftests). Returns make's exit status."""
    # ccache makes the paths in the objects relative to obj: take them back to what a
    # kernel built in its own folder shows (mm/swap.c), in __FILE__ and in DWARF. What
    # ccache does not take (.incbin) has the absolute path.
    rel = os.path.relpath(src, obj)
    flags = f'-ffile-prefix-map={rel}/= -ffile-prefix-map={src}/= -fdebug-prefix-map={obj}=.'
    given = {'CC': 'ccache gcc', 'HOSTCC': 'ccache gcc', 'LOCALVERSION': '', **variables}
    if folder is None:
        given['KCPPFLAGS'] = flags
    child = common.spawn(['make', '-C', folder or src, f'O={obj}', f'-j{jobs()}',
                          *(f'{k}={v}' for k, v in given.items()), *targets],
                         env=environment(src, obj), stdout=log, stderr=subprocess.STDOUT,
                         pass_fds=[held.fileno() for held in _held.values()])
    try:
        while True:
            try:
                return child.wait(0.5)
            except subprocess.TimeoutExpired:
                if tick:
                    tick()
    finally:
        # On Ctrl-C make gets its TERM here and removes the targets it was writing.
        common.end(child, grace=20)
        if child.returncode == -signal.SIGKILL:
            _killed.append(child.pid)


def first_error(text, src=None):
    """The first line of a build log that says what is wrong, paths relative to src."""
    lines = text.splitlines()
    for sign in (r'(fatal )?error: |undefined reference|multiple definition|^ERROR: |No space left|^rsync: ',
                 r'\*\*\* '):
        for line in lines:
            if re.search(sign, line):
                return warn.relative(line, src) if src else line.strip()
    return lines[-1].strip() if lines else 'no output'


_killed = []  # makes that did not get to clean up
_held = {}    # folder: open lock file; make inherits it, so that an orphan still holds it


@contextlib.contextmanager
def folder_lock(obj):
    """One build at a time in a build folder. Also clears what a killed build left: files
    written since it began may be cut short, and ccache brings the good ones back fast."""
    obj.parent.mkdir(parents=True, exist_ok=True)
    path = obj.parent / f'{obj.name}.lock'
    with open(path, 'a+', encoding='ascii') as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            f.seek(0)
            raise common.Fail(f'another run builds in {obj} (pid {f.read().strip() or "unknown"}): '
                              'wait for it or end it') from None
        f.seek(0)
        f.truncate()
        f.write(f'{os.getpid()}\n')
        f.flush()
        _held[obj] = f
        busy = obj / '.building'
        try:
            if busy.exists():
                clear_since(obj, busy.stat().st_mtime)
            obj.mkdir(exist_ok=True)
            busy.write_bytes(b'')
            yield
            busy.unlink(missing_ok=True)
        except (common.Fail, KeyboardInterrupt):
            if not _killed:    # make has cleaned up after itself
                busy.unlink(missing_ok=True)
            raise
        finally:
            del _held[obj]


def clear_since(obj, when):
    """Remove the build products in obj that are not older than `when` (a stat time).
    Kconfig's markers (include/config) are empty and stay: only their times matter."""
    for folder, subs, names in os.walk(obj):
        if folder == str(obj / 'include'):
            subs[:] = [s for s in subs if s != 'config']
        for name in names:
            path = os.path.join(folder, name)
            if name not in ('.config', '.building') and os.lstat(path).st_mtime >= when:
                os.unlink(path)


def check_programs(names=PROGRAMS):
    """Fail unless every program is there."""
    absent = [name for name in names if not shutil.which(name)]
    if absent:
        raise common.Fail(f'{", ".join(absent)}: not installed; run rig/deps.sh')


def check_tree(src, obj):
    """Fail unless src is a kernel tree and both paths are ones that kbuild can take."""
    if not (src / 'Kbuild').is_file() or not (src / 'mm/Kconfig').is_file():
        raise common.Fail(f'{src}: no kernel tree; run make tree')
    for path in (src, obj):
        if re.search(r'[\s:]', str(path)):
            raise common.Fail(f'{path}: kbuild takes no folder with a space or a colon in its '
                              'name; use another folder (OUT= for the builds)')


def steps(obj, log):
    """A function that says how far a build is: '812 of 1720'."""
    total, done = obj / '.steps', 0
    expected = int(total.read_text()) if total.is_file() else STEPS
    fresh = not (obj / 'vmlinux').exists()
    if fresh:
        done = sum(name.endswith('.o') for _, _, names in os.walk(obj) for name in names)

    def text():
        now = done + count_steps(log)
        return f'{min(now, expected)} of {expected} steps' if fresh else f'{now} steps'
    return text


def count_steps(log):
    """How many compile, archive and link steps a log shows."""
    return len(STEP.findall(Path(log).read_text(errors='replace')))


def folder_of(config, arch=NATIVE):
    """Where a config's kernel is built."""
    return common.OUT / 'build' / (config if arch == NATIVE else f'{config}-{arch.name}')


def kernel_image(config=None, src=None, obj=None, log=None, optional=False, arch=NATIVE):
    """Build a kernel; returns the path of its image, vmlinux is beside in obj.
    config: CONFIG= or debug. src: linux/. obj: folder_of(config). log: <obj>.log.
    optional: see configure(). Raises Fail with the first error and the log's path."""
    config = config or common.setting('CONFIG', 'debug')
    fragments(config)       # a wrong name leaves no folder behind
    src = Path(src or common.LINUX).resolve()
    obj = Path(obj or folder_of(config, arch)).resolve()
    log = Path(log or f'{obj}.log')
    check_programs()
    check_tree(src, obj)
    with folder_lock(obj):
        configure(config, src, obj, optional, arch)
        fresh = not any(obj.glob('*/*.o'))
        ticker = common.Ticker(f'kernel {config}')
        with open(log, 'w', encoding='utf-8') as f:
            where = steps(obj, log)
            status = make(src, obj, [arch.image], f, tick=lambda: ticker.tick(where()),
                          **arch.variables())
        ticker.done()
        if status:
            raise common.Fail(f'CONFIG={config}: {first_error(log.read_text(errors="replace"), src)}, '
                              f'see {log}')
        image = obj / arch.path
        if not image.is_file():
            raise common.Fail(f'CONFIG={config}: the build made no {image}, see {log}')
        if fresh:
            common.write(obj / '.steps', str(count_steps(log)))
    return image


def kernel():
    """make kernel CONFIG=...: build one config of linux/ and say where the kernel is."""
    common.say(f'kernel: {kernel_image(arch=guest())}')


def touched_objects(commit, src, obj):
    """The objects that a commit of src concerns, sorted: of each source file it changes or
    adds, and of each header the objects in its folder and in mm/ that were built with it,
    by the dependencies recorded in the build folder obj."""
    names = common.git('diff', '--name-only', '--diff-filter=d', f'{commit}^', commit,
                       cwd=src).splitlines()
    names = [n for n in names if n.split('/')[0] not in ('tools', 'scripts', 'samples', 'usr',
                                                         'Documentation')]
    found = {f'{n[:-2]}.o' for n in names if n.endswith(('.c', '.S'))}
    headers = [n for n in names if n.endswith('.h')]
    for folder in {'mm', *(os.path.dirname(n) for n in headers)} if headers else ():
        for path in Path(obj, folder).rglob('.*.o.cmd'):
            text = path.read_text(errors='replace')
            if any(re.search(rf'[\s/]{re.escape(n)}\s', text) for n in headers):
                found.add(str(path.relative_to(obj).parent / path.name[1:-4]))
    return sorted(found)


def linked_objects(obj):
    """The objects that the kernel built in obj consists of. An object file that lies about
    may be another commit's; what the archives list was linked."""
    archives = [obj / name for name in ('vmlinux.a', 'lib/lib.a', 'arch/x86/lib/lib.a')]
    found = set()
    for path in archives:
        if path.is_file():
            found.update(common.run(['ar', 't', path], cwd=obj).stdout.split())
    return {os.path.relpath(name, obj) if os.path.isabs(name) else name for name in found}


def w1(objects, config, src, obj, built, optional=False):
    """Compile these objects with W=1 and sparse in the build folder obj, which is for that
    alone. built: the folder of a full build of the same source. Returns (set of warnings
    as warn.warnings() gives them, objects that this config does not build). Fail when
    one does not compile; the log is <obj>.log."""
    src, obj, log = Path(src).resolve(), Path(obj).resolve(), Path(f'{obj}.log')
    linked = linked_objects(Path(built))
    present = [name for name in objects if name in linked and
               any((src / name).with_suffix(s).is_file() for s in ('.c', '.S'))]
    absent = [name for name in objects if name not in present]
    if not present:
        return set(), absent
    check_programs((*PROGRAMS, 'sparse'))
    with folder_lock(obj):
        configure(config, src, obj, optional)
        for name in present:        # an object that is up to date prints no warnings
            (obj / name).unlink(missing_ok=True)
        with open(log, 'w', encoding='utf-8') as f:
            ticker = common.Ticker(f'W=1 {config}')
            status = make(src, obj, present, f, W='1', C='1', CHECK='sparse',
                          tick=lambda: ticker.tick(f'{count_steps(log)} steps'))
            ticker.done()
        text = log.read_text(errors='replace')
    if status:
        raise common.Fail(f'CONFIG={config} W=1: {first_error(text, src)}, see {log}')
    for name in present:
        if not (obj / name).is_file():
            raise common.Fail(f'CONFIG={config} W=1: {name} was not built, see {log}')
    return warn.warnings(text, src), absent


def is_static(path):
    """Whether an ELF file needs no dynamic loader; files that are no ELF are fine too."""
    with open(path, 'rb') as f:
        data = f.read()
    if data[:4] != b'\x7fELF':
        return True
    offset, size, number = (int.from_bytes(data[a:b], 'little')
                            for a, b in ((32, 40), (54, 56), (56, 58)))
    kinds = (int.from_bytes(data[at:at + 4], 'little')
             for at in range(offset, offset + size * number, size))
    return 3 not in kinds      # PT_INTERP


def forget_stale(src, obj, targets, arch=NATIVE):
    """Remove built selftests when something changed that their Makefiles do not watch:
    another source folder, a header, a Makefile."""
    tests = src / 'tools/testing/selftests'
    digest = hashlib.sha256(f'{src} {version(arch)}\n'.encode())
    for folder in (tests, *(tests / t for t in targets), src / 'mm', src / 'include/uapi/linux',
                   src / 'include/uapi/asm-generic', src / f'arch/{arch.uapi}/include/uapi/asm'):
        for path in sorted(folder.iterdir()):
            if path.suffix in ('.h', '.mk') or folder.parts[-1] in targets and path.name == 'Makefile':
                data = path.read_bytes()
                digest.update(f'{path.name} {len(data)}\n'.encode() + data)
    stamp = obj / '.selftests.stamp'
    if not stamp.is_file() or stamp.read_text() != digest.hexdigest():
        stamp.unlink(missing_ok=True)
        if (obj / 'kselftest').exists():
            shutil.rmtree(obj / 'kselftest')
        common.write(stamp, digest.hexdigest())


def selftests(src, dest, targets=('mm',), obj=None, arch=NATIVE):
    """Build selftest folders of src, linked statically, and install them to dest, which
    is replaced whole: dest/run_kselftest.sh, dest/kselftest-list.txt, dest/<target>/.
    A test that does not build, or is listed and not installed, is a Fail."""
    src, dest = Path(src).resolve(), Path(dest).absolute()
    obj = Path(obj or folder_of('selftests', arch)).resolve()
    log = Path(f'{obj}.log')
    check_programs((*PROGRAMS, 'rsync'))
    check_tree(src, obj)
    tests = src / 'tools/testing/selftests'
    for target in targets:
        if not (tests / target / 'Makefile').is_file():
            raise common.Fail(f'{tests / target}: no selftests there')
    dest.parent.mkdir(parents=True, exist_ok=True)
    with folder_lock(obj), tempfile.TemporaryDirectory(dir=dest.parent, prefix='.install') as tmp:
        forget_stale(src, obj, targets, arch)
        with open(log, 'w', encoding='utf-8') as f:
            # The exit status of kselftest's own make is lost by its last loop, so the
            # targets are built with FORCE_TARGETS and looked for one by one afterwards.
            status = (make(src, obj, ['headers'], f, **arch.variables()) or
                      make(src, obj, ['install'], f, folder=tests, TARGETS=' '.join(targets),
                           SKIP_TARGETS='', FORCE_TARGETS='1', USERLDFLAGS='-static',
                           KSFT_INSTALL_PATH=f'{tmp}/tests', **arch.variables()))
        text = log.read_text(errors='replace')
        if status:
            raise common.Fail(f'selftests {" ".join(targets)}: {first_error(text, src)}, see {log}')
        listed = Path(tmp, 'tests/kselftest-list.txt')
        names = listed.read_text().split() if listed.is_file() else []
        for target in targets:
            if not any(name.startswith(f'{target}:') for name in names):
                raise common.Fail(f'selftests {target}: no test installed, see {log}')
        for name in names:
            path = Path(tmp, 'tests', name.replace(':', '/'))
            if not os.access(path, os.X_OK):
                raise common.Fail(f'selftests {name}: listed and not installed as a program, see {log}')
        for path in Path(tmp, 'tests').rglob('*'):
            if path.is_file() and not is_static(path):
                raise common.Fail(f'selftests {path.name}: not linked statically, so it cannot run in '
                                  'the guest')
        os.chmod(f'{tmp}/tests', 0o755)
        if dest.exists():
            os.rename(dest, f'{tmp}/old')
        os.rename(f'{tmp}/tests', dest)
    return dest
