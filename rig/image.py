# SPDX-License-Identifier: GPL-2.0
"""The guest image: an initramfs (newc cpio) written without root and without cpio."""
import os
import shutil
import stat
import struct
from pathlib import Path, PurePosixPath

from . import common, fetch, kit
from .arch import NATIVE

# Programs of this machine that selftests look for, with their libraries: there is no static one.
BORROWED = ('mkfs.xfs',)

# guest path: (mode with type bits, content or link target, major, minor)
DIRS = ('bin', 'dev', 'etc', 'lockstep', 'lockstep/mm', 'mnt', 'proc', 'root', 'run',
        'sys', 'tmp', 'usr', 'var')
LINKS = {'sbin': 'bin', 'usr/bin': '../bin', 'usr/sbin': '../bin'}
# The kernel opens /dev/console before init can mount devtmpfs.
NODES = {'dev/console': (0o600, 5, 1), 'dev/null': (0o666, 1, 3), 'dev/kmsg': (0o600, 1, 11),
         'dev/ttyS0': (0o600, 4, 64), 'dev/ttyS1': (0o600, 4, 65)}


def interpreter(data):
    """The dynamic loader that the ELF file `data` asks for; '' when it is static or
    no ELF file. A damaged ELF file raises ValueError."""
    if data[:4] != b'\x7fELF':
        return ''
    try:
        wide, order = data[4] == 2, '<' if data[5] == 1 else '>'
        if wide:
            (off,), (size, n) = (struct.unpack_from(order + 'Q', data, 32),
                                 struct.unpack_from(order + 'HH', data, 54))
        else:
            (off,), (size, n) = (struct.unpack_from(order + 'I', data, 28),
                                 struct.unpack_from(order + 'HH', data, 42))
        for at in range(off, off + size * n, size or 1):
            kind, = struct.unpack_from(order + 'I', data, at)
            if kind == 3:  # PT_INTERP
                start, length = ((struct.unpack_from(order + 'Q', data, at + 8)[0],
                                  struct.unpack_from(order + 'Q', data, at + 32)[0]) if wide else
                                 (struct.unpack_from(order + 'I', data, at + 4)[0],
                                  struct.unpack_from(order + 'I', data, at + 16)[0]))
                return data[start:start + length].rstrip(b'\0').decode(errors='replace')
    except (struct.error, IndexError) as e:
        raise ValueError('damaged ELF file') from e
    return ''


def checked(host, data):
    """`data` of the host file, refused when the guest, which has no libraries, cannot run it."""
    try:
        loader = interpreter(data)
    except ValueError as e:
        raise common.Fail(f'{host}: {e}; build it again') from None
    if loader:
        raise common.Fail(f'{host}: dynamically linked ({loader}), the guest has no '
                          'libraries: link it with -static')
    return data


def read(host):
    """(mode, content) of a host file: execute bits are all or none."""
    host = Path(host)
    try:
        mode = host.stat().st_mode
        data = host.read_bytes()
    except OSError as e:
        raise common.Fail(f'{host}: cannot go into the guest image: {e.strerror}') from None
    return (0o755 if mode & 0o111 else 0o644), checked(host, data)


def busybox(arch=NATIVE):
    """Content of a static busybox, and the names of its applets. Another machine's is
    Debian's of the same release, so the names are those of ours."""
    found = shutil.which('busybox')
    if not found:
        raise common.Fail('busybox is missing: apt-get install busybox-static')
    data = Path(found).read_bytes()
    try:
        loader = interpreter(data)
    except ValueError:
        loader = 'damaged'
    if loader:
        raise common.Fail(f'{found} is no static program ({loader}): '
                          'apt-get install busybox-static')
    names = common.run([found, '--list']).stdout.split()
    if arch != NATIVE:
        data = checked(f'busybox for {arch.name}', fetch.busybox(arch))
    return data, [n for n in names if n != 'busybox' and '/' not in n]


class Archive:
    """The files of the guest by path; bytes() is the newc archive, the same for the same files."""

    def __init__(self):
        self.files = {}

    def _add(self, path, mode, data=b'', dev=(0, 0)):
        pure = PurePosixPath('/' + str(path).lstrip('/'))
        if '..' in pure.parts or pure == PurePosixPath('/'):
            raise common.Fail(f'{path}: no path inside the guest')
        name = str(pure)[1:]
        for parent in list(pure.parents)[:-1]:
            held = self.files.setdefault(str(parent)[1:], (stat.S_IFDIR | 0o755, b'', (0, 0)))
            if not stat.S_ISDIR(held[0]):
                raise common.Fail(f'guest image: /{name} lies below {parent}, which is no folder')
        held = self.files.get(name)
        if held and held != (mode, data, dev):
            raise common.Fail(f'guest image: /{name} is given twice with different content')
        self.files[name] = (mode, data, dev)

    def folder(self, path, mode=0o755):
        """A folder; its parents come with it."""
        self._add(path, stat.S_IFDIR | mode)

    def file(self, path, data, mode=0o644):
        """A regular file."""
        self._add(path, stat.S_IFREG | mode, data)

    def link(self, path, target):
        """A symbolic link."""
        self._add(path, stat.S_IFLNK | 0o777, os.fsencode(target))

    def node(self, path, mode, major, minor):
        """A character device; an entry in the archive needs no root."""
        self._add(path, stat.S_IFCHR | mode, dev=(major, minor))

    def tree(self, guest, host):
        """Everything under the host folder: files, folders, links; nothing else may be there."""
        host = Path(host)
        if not host.is_dir():
            raise common.Fail(f'{host}: no such folder for the guest image')
        self.folder(guest) if str(guest).strip('/') else None
        for where, dirs, files in os.walk(host):
            for name in sorted(dirs + files):
                path = Path(where, name)
                inside = f'{guest}/{path.relative_to(host)}'
                if path.is_symlink():
                    self.link(inside, os.readlink(path))
                elif path.is_dir():
                    self.folder(inside)
                elif path.is_file():
                    mode, data = read(path)
                    self.file(inside, data, mode)
                else:
                    raise common.Fail(f'{path}: neither file, folder nor link; '
                                      'it cannot go into the guest image')

    def __bytes__(self):
        out = []
        # Sorted, a folder stands before what is in it.
        for ino, name in enumerate(sorted(self.files), 1):
            mode, data, dev = self.files[name]
            _entry(out, ino, name, mode, data, dev)
        _entry(out, 0, 'TRAILER!!!', 0, b'', (0, 0))
        blob = b''.join(out)
        return blob + bytes(-len(blob) % 512)


def _entry(out, ino, name, mode, data, dev):
    """One newc header, name and content; owner root, date 0."""
    raw = os.fsencode(name) + b'\0'
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (ino, mode, 0, 0, links, 0, len(data), 0, 0, *dev, len(raw), 0)
    head = b'070701' + b''.join(b'%08X' % f for f in fields) + raw
    out += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]


def skeleton(init, arch=NATIVE):
    """An archive with devices, busybox, its applets and `init` (bytes) as /init."""
    made = Archive()
    for name in DIRS:
        made.folder(name)
    for name, target in LINKS.items():
        made.link(name, target)
    for name, (mode, major, minor) in NODES.items():
        made.node(name, mode, major, minor)
    shell, applets = busybox(arch)
    made.file('bin/busybox', shell, 0o755)
    for name in applets:
        made.link('bin/' + name, 'busybox')
    if init is not None:
        made.file('init', init, 0o755)
    return made


def borrowed():
    """{guest path: (content, mode)} of BORROWED and what they are linked to, in a folder of
    their own: /lib is that of the load's compiler."""
    found = {}
    for name in BORROWED:
        program = kit.which(name).resolve()
        libraries = kit.libraries(program)
        loader = [Path(path).name for path in libraries if Path(path).name.startswith('ld-')]
        found[f'borrowed/{name}'] = (program.read_bytes(), 0o755)
        for path, host in libraries.items():
            found[f'borrowed/{Path(path).name}'] = (host.read_bytes(), 0o755)
        start = f'/borrowed/{loader[0]} --library-path /borrowed ' if loader else ''
        found[f'bin/{name}'] = (f'#!/bin/sh\nexec {start}/borrowed/{name} "$@"\n'.encode(), 0o755)
    return found


def make_image(dest, extra=None, tree_dirs=None, arch=NATIVE):
    """Write the guest's initramfs to `dest` and return it as Path.

    extra: {guest path: host Path or bytes (a program when it starts with #! or ELF)};
    tree_dirs: {guest folder: host folder}. guest/ of this repository is the root.
    It is not compressed: gunzip under emulation costs more than QEMU's copy.
    The file is left alone when its content would be the same. Fail names a missing
    file, a missing busybox or a program that is not linked statically."""
    dest = Path(dest)
    made = skeleton(None, arch)
    made.tree('', common.ROOT / 'guest')
    if arch == NATIVE:
        for guest, (data, mode) in borrowed().items():
            made.file(guest, data, mode)
    for guest, host in (tree_dirs or {}).items():
        made.tree(guest, host)
    for guest, host in (extra or {}).items():
        if isinstance(host, bytes):
            mode = 0o755 if host[:2] == b'#!' or host[:4] == b'\x7fELF' else 0o644
            made.file(guest, checked(guest, host), mode)
        else:
            mode, data = read(host)
            made.file(guest, data, mode)
    blob = bytes(made)
    if not (dest.is_file() and dest.stat().st_size == len(blob) and dest.read_bytes() == blob):
        common.write(dest, blob)
    return dest
