# SPDX-License-Identifier: GPL-2.0
"""The load's kit: an ext4 image with this machine's compiler and a piece of the base kernel
to build, with its compile commands and reference objects. Made without root."""
import hashlib
import json
import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path

from . import arch, build, common, fetch, tree

# What is built again and again: 6 s of a CPU a pass; compilers of 20 to 130 MB, objects of 8
# to 220 kB. Emulated that is 210 s, hence shorter lists:
OBJECTS = ('lib/bitmap.o', 'lib/rbtree.o', 'lib/radix-tree.o', 'lib/string.o', 'lib/vsprintf.o',
           'lib/xarray.o', 'lib/kobject.o', 'lib/scatterlist.o', 'lib/list_sort.o', 'lib/sort.o',
           'lib/hexdump.o', 'lib/argv_split.o', 'lib/find_bit.o', 'lib/idr.o',
           'mm/interval_tree.o', 'mm/list_lru.o', 'mm/mremap.o')
LISTS = {
    'full': OBJECTS,
    'lean': tuple(name for name in OBJECTS if name not in (
        'lib/bitmap.o', 'lib/vsprintf.o', 'mm/interval_tree.o', 'mm/mremap.o')),
    'short': ('lib/rbtree.o', 'lib/list_sort.o', 'lib/sort.o', 'lib/hexdump.o', 'lib/argv_split.o',
              'lib/find_bit.o'),
}
# Its .config: reduced DWARF makes the objects larger, objtool changes them in place.
CONFIG = 'debug'
# Programs of the host that the guest's copy of the load runs.
PROGRAMS = ('gcc', 'as', 'ld', 'ar', 'nm', 'objcopy', 'make', 'mke2fs')
# Programs that the build makes and its commands run.
BUILT = ('scripts/basic/fixdep', 'tools/objtool/objtool')
# Headers on no list of dependencies: fixdep replaces them by the symbols they were asked for.
UNLISTED = ('include/generated/autoconf.h',)
# Every date in the image.
DATE = 1767225600
# Options that take a folder of this machine, and nothing the kit needs.
MAPS = re.compile(r'\s-f(?:macro|file|debug)-prefix-map=\S+')


def which(name):
    """The host's program `name`, not ccache under its name. Fail when it is missing."""
    # mke2fs is where only root looks.
    for folder in [*os.environ.get('PATH', '').split(':'), '/usr/sbin', '/sbin']:
        path = Path(folder or '.', name)
        if os.access(path, os.X_OK) and path.is_file() and path.resolve().name != 'ccache':
            return path
    raise common.Fail(f'{name}: not installed; run rig/deps.sh')


def libraries(program):
    """The shared libraries and the loader that `program` needs: {path: host file}."""
    done = common.run(['ldd', program], check=False, env={'LC_ALL': 'C'})
    if 'not a dynamic executable' in done.stdout or 'statically linked' in done.stdout:
        return {}
    lost = re.search(r'^\s*(\S+) => not found', done.stdout, re.M)
    if lost or done.returncode:
        raise common.Fail(f'{program}: {lost[1] + " not found" if lost else done.stdout.strip()}')
    paths = re.findall(r'(?:=> |^\s*)(/\S+) \(0x', done.stdout, re.M)
    return {path: Path(path).resolve() for path in paths}


def toolchain(programs=PROGRAMS, built=()):
    """{path in the kit: host file}: the programs below usr/bin, the compiler proper where gcc
    looks for it, and every shared library where the loader looks. built: more
    programs, whose libraries are wanted."""
    found = {}
    for name in programs:
        found[f'/usr/bin/{name}'] = which(name).resolve()
    if 'gcc' in programs:
        cc1 = common.run([which('gcc'), '-print-prog-name=cc1']).stdout.strip()
        if not os.path.isabs(cc1):
            raise common.Fail('gcc has no cc1: it is no GNU C compiler')
        # gcc looks beside its own folder, wherever that is.
        found['/usr/' + os.path.relpath(cc1, '/usr')] = Path(cc1).resolve()
    for program in [*found.values(), *built]:
        found.update(libraries(program))
    return found


def inside(name, src, obj):
    """A file that kbuild names, relative to the tree that it is in."""
    path = os.path.normpath(os.path.join(obj, name))
    return os.path.relpath(path, src if path.startswith(f'{src}/') else obj)


def dependencies(text, src, obj):
    """The files of a .cmd file's list of dependencies, relative to the tree."""
    listed = re.search(r'^deps_\S+ := \\\n((?:.*\\\n)*)', text, re.M)
    words = re.sub(r'\$\(wildcard [^)]*\)', '', listed[1]).replace('\\\n', ' ').split() \
        if listed else []
    return [inside(word, src, obj) for word in words]


def step(src, obj, target):
    """(command, files): how kbuild made obj/<target> of src, so that it works inside any copy
    of the kit's tree and gives the same object, and the files it reads."""
    path = obj / os.path.dirname(target) / f'.{os.path.basename(target)}.cmd'
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise common.Fail(f'{target}: the build left no {path.name}') from None
    found = re.match(rf'cmd_{re.escape(target)} := (.*)\n', text)
    source = re.search(r'^source_\S+ := (\S+)$', text, re.M)
    if not found or not source:
        raise common.Fail(f'{path}: no command in it')
    command = MAPS.sub('', found[1].replace(r'\#', '#').replace('$$', '$'))
    command = re.sub(r'^(\S*ccache )', '', command)
    command = re.sub(rf'(?<!\S)(-I\s?|){re.escape(str(src))}/', r'\1', command)
    command = re.sub(r'\s+;\s+', ' && ', command.strip())
    # DWARF names the folder; gcc leaves this option out of what it records of itself.
    command = re.sub(r' -c -o ', ' -fdebug-prefix-map="$PWD"=. -c -o ', command, count=1)
    folder, name = os.path.split(target)
    dep = f'{folder}/.{name[:-2]}.o.d'
    if f'-Wp,-MMD,{dep}' not in command or '"$PWD"' not in command:
        raise common.Fail(f'{path}: no kbuild command of the kind that the kit knows')
    # kbuild's own end of each step: many small files, read and written.
    command += (f' && scripts/basic/fixdep {dep} {target} kit > {folder}/.{name}.cmd'
                f' && rm -f {dep}')
    for place in (src, obj):
        if str(place) in command:
            raise common.Fail(f'{target}: {place} is left in its command: {command}')
    return command, [inside(source[1], src, obj), *dependencies(text, src, obj)]


def copy(source, dest):
    """A file into the kit: whole, no links, execute bits all or none."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, dest)
    dest.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def cut(src, obj, objects, dest):
    """Copy what the objects need from src and obj to dest/tree and write dest/build.list.
    Returns {object: command}. A file the compiler found outside of both is a Fail."""
    commands, files = {}, {*UNLISTED}
    for target in objects:
        commands[target], needs = step(src, obj, target)
        files.update(needs)
    for name in sorted(files):
        source = next((f / name for f in (obj, src) if (f / name).is_file()), None)
        if name.startswith('..') or source is None:
            raise common.Fail(f'{name}: needed by the objects and in neither {src} nor {obj}')
        copy(source, dest / 'tree' / name)
    for name in BUILT:
        copy(obj / name, dest / 'tree' / name)
    write_list(dest / 'build.list', commands)
    return commands


def write_list(path, commands):
    """A build.list: object, tab, command."""
    for target, command in commands.items():
        if re.search(r'[\t\n]', target + command):
            raise common.Fail(f'{target}: a tab or a line end in its command')
    common.write(path, ''.join(f'{t}\t{c}\n' for t, c in commands.items()))


def build_in(place, commands, ticker=None):
    """Run the commands in the tree `place`; {object: sha256}. Fail with the compiler's words."""
    sums = {}
    for target, command in commands.items():
        if ticker:
            ticker.tick(target)
        done = common.run(['sh', '-c', command], cwd=place, check=False,
                          env={'PATH': f'/usr/bin:/bin:{os.environ["PATH"]}', 'LC_ALL': 'C'})
        if done.returncode:
            raise common.Fail(f'kit: {target}: exit {done.returncode}: '
                              f'{(done.stdout.strip().splitlines() or ["no output"])[0]}')
        sums[target] = hashlib.sha256((place / target).read_bytes()).hexdigest()
    return sums


def references(folder, commands):
    """Build the cut tree twice, in two folders of different names: the objects must be equal.
    They become folder/ref with the list folder/sha256. Returns {object: sha256}."""
    ticker = common.Ticker('reference objects')
    sums = []
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix='ref-') as tmp:
        for place in (Path(tmp) / 'a', Path(tmp) / 'longer' / 'b'):
            shutil.copytree(folder / 'tree', place)
            sums.append(build_in(place, commands, ticker))
        for target in commands:
            if sums[0][target] != sums[1][target]:
                raise common.Fail(f'kit: {target} depends on the folder it is built in, or on time: '
                                  'it cannot be compared')
            copy(place / target, folder / 'ref' / target)
    ticker.done()
    write_sums(folder / 'sha256', sums[0])
    return sums[0]


def write_sums(path, sums):
    """A list as sha256sum -c reads it."""
    common.write(path, ''.join(f'{digest}  {target}\n' for target, digest in sums.items()))


def ext4(dest, size, folder=None, label='kit', options=''):
    """A raw ext4 image of `size` bytes at dest, with the folder's content when one is given.
    The same content gives the same image."""
    dest = Path(dest)
    dest.parent.mkdir(parents=True, exist_ok=True)
    uuid = '6d6d6c6f-636b-7374-6570-' + hashlib.sha256(label.encode()).hexdigest()[:12]
    tmp = dest.with_name(f'.{dest.name}.tmp')
    try:
        with open(tmp, 'wb') as f:
            f.truncate(size)
        common.run([which('mke2fs'), '-q', '-F', '-t', 'ext4', '-b', '4096', '-I', '256', '-m', '0',
                    '-L', label, '-U', uuid, '-E', f'hash_seed={uuid},root_owner=0:0',
                    *(['-O', options] if options else []),
                    *(['-d', folder] if folder else []), tmp],
                   env={'E2FSPROGS_FAKE_TIME': str(DATE), 'LC_ALL': 'C'})
        os.replace(tmp, dest)
    finally:
        tmp.unlink(missing_ok=True)
    return dest


def pack(folder, dest):
    """The kit's folder as an image without a journal, just large enough."""
    total, names = 0, ['']
    for where, dirs, files in os.walk(folder):
        for name in [*dirs, *files]:
            path = os.path.join(where, name)
            names.append(os.path.relpath(path, folder))
            total += 4096 + (os.lstat(path).st_size + 4095 & ~4095)
            os.utime(path, (DATE, DATE), follow_symlinks=False)
    os.utime(folder, (DATE, DATE))
    image = ext4(dest, (total * 21 // 20 >> 20) + 8 << 20, folder, 'kit', '^has_journal')
    # mke2fs takes over when a file was changed, which nobody can set on the host, and when it
    # was read, which it does itself.
    script = ''.join(f'set_inode_field "/{name}" {field} @{DATE}\n'
                     for name in names for field in ('ctime', 'atime'))
    done = common.run([which('debugfs'), '-w', '-f', '-', image], text_input=script)
    if 'set_inode_field:' in done.stdout.replace('debugfs: set_inode_field', ''):
        raise common.Fail(f'{image}: debugfs: {done.stdout.strip().splitlines()[-1]}')
    return image


def digest():
    """What the kit is made from, as one sha256: base, config, compiler, this file."""
    parts = [common.base()['base_tree'], Path(__file__).read_text()]
    parts += [path.read_text() for path in build.fragments(CONFIG)]
    parts += [f'{name} {hashlib.sha256(host.read_bytes()).hexdigest()}'
              for name, host in sorted(toolchain().items())]
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


def sound(folder, want):
    """Is the kit in `folder` made from `want` and whole?"""
    try:
        held = json.loads((folder / 'kit.json').read_text())
        return held['made_from'] == want and \
            held['image'] == fetch.sha256(folder / 'kit.img')
    except (OSError, ValueError, KeyError, TypeError):
        return False


def make_kit():
    """The kit's image, OUT/kit/kit.img, made when it is missing, damaged or of another
    compiler, config or base. kit.json beside it has the objects' sha256. A minute or two."""
    home = common.OUT / 'kit'
    with common.lock('kit'):
        want = digest()
        if not sound(home, want):
            make(home, want)
    return home / 'kit.img'


def make(home, want):
    """Build the objects once from the base, cut, build the references, pack."""
    common.end_of(home / 'kit.json')
    src, obj, log = home / 'linux', home / 'obj', home / 'kit.log'
    common.say('    kit: the base, a .config and its compile commands')
    tree.assemble(src, base_only=True)
    obj.mkdir(parents=True, exist_ok=True)
    build.configure(CONFIG, src, obj, optional=True)
    ticker = common.Ticker('kit')
    with open(log, 'w', encoding='utf-8') as f:
        status = build.make(src.resolve(), obj.resolve(), ['prepare', *OBJECTS], f,
                            CC='gcc', tick=lambda: ticker.tick(f'{build.count_steps(log)} steps'))
    ticker.done()
    if status:
        raise common.Fail(f'kit: {build.first_error(log.read_text(errors="replace"), src)}, see {log}')
    with tempfile.TemporaryDirectory(dir=home, prefix='cut-') as tmp:
        folder = Path(tmp) / 'kit'
        folder.mkdir(mode=0o755)
        commands = cut(src.resolve(), obj.resolve(), OBJECTS, folder)
        sums = references(folder, commands)
        for kind, targets in LISTS.items():
            write_list(folder / f'{kind}.list', {t: commands[t] for t in targets})
            write_sums(folder / f'{kind}.sha256', {t: sums[t] for t in targets})
        for name, host in toolchain(built=[obj / b for b in BUILT]).items():
            copy(host, folder / name.lstrip('/'))
        # swapload.sh looks there; mke2fs makes ext4 under that name.
        (folder / 'bin').symlink_to('usr/bin')
        (folder / 'usr/bin/mkfs.ext4').symlink_to('mke2fs')
        sizes = [p.stat().st_size for p in (folder / 'tree').rglob('*') if p.is_file()]
        pack(folder, home / 'kit.img')
    common.write(home / 'kit.json', json.dumps({
        'made_from': want, 'image': fetch.sha256(home / 'kit.img'), 'objects': sums,
        'tree_files': len(sizes),
        'tree_bytes': sum(sizes), 'compiler': arch.version()},
        indent=1) + '\n')
    # The base's files are in git, and 1.3 GB.
    shutil.rmtree(src, ignore_errors=True)
    shutil.rmtree(obj, ignore_errors=True)


def quoted(values):
    """{name: value} as lines that sh reads."""
    return ''.join(f'{name}={shlex.quote(str(value))}\n' for name, value in values.items())
