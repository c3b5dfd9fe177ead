# SPDX-License-Identifier: GPL-2.0
"""The guest image: what cpio reads back, and what is refused."""
import os
import re
import shutil
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from rig import common, image
from rig.arch import GUESTS


def parse(blob):
    """{name: (mode, uid, gid, mtime, data, rdev)} of a newc archive, read independently."""
    found, at = {}, 0
    while True:
        assert blob[at:at + 6] == b'070701', at
        f = [int(blob[at + 6 + 8 * n:at + 14 + 8 * n], 16) for n in range(13)]
        name = blob[at + 110:at + 110 + f[11] - 1].decode()
        start = (at + 110 + f[11] + 3) & ~3
        if name == 'TRAILER!!!':
            assert not blob[start:].strip(b'\0')
            return found
        assert name not in found, name
        found[name] = (f[1], f[2], f[3], f[5], blob[start:start + f[6]], (f[9], f[10]))
        at = (start + f[6] + 3) & ~3


def elf(interp=None, wide=True):
    """A minimal ELF file, with a PT_INTERP header when interp is given."""
    name = (interp or '').encode() + b'\0'
    if wide:
        head = b'\x7fELF\x02\x01\x01' + bytes(9) + struct.pack(
            '<HHIQQQIHHHHHH', 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        part = struct.pack('<IIQQQQQQ', 3 if interp else 1, 4, 120, 0, 0, len(name), len(name), 1)
    else:
        head = b'\x7fELF\x01\x01\x01' + bytes(9) + struct.pack(
            '<HHIIIIIHHHHHH', 2, 3, 1, 0, 52, 0, 0, 52, 32, 1, 0, 0, 0)
        part = struct.pack('<IIIIIIII', 3 if interp else 1, 84, 0, 0, len(name), len(name), 4, 1)
    return head + part + name


class ImageTest(unittest.TestCase):
    """Runs in a folder of its own; busybox is a fake that costs nothing."""

    def setUp(self):
        self.dir = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.dest = self.dir / 'out' / 'guest.cpio'
        self.enterContext(mock.patch.object(
            image, 'busybox', lambda arch=None: (elf(), ['sh', 'mount', 'ls'])))

    def test_content(self):
        tests = self.dir / 'tests'
        (tests / 'sub').mkdir(parents=True)
        (tests / 'run.sh').write_text('#!/bin/sh\n')
        (tests / 'run.sh').chmod(0o700)
        (tests / 'sub' / 'data').write_text('x' * 5)
        (tests / 'sub' / 'data').chmod(0o600)
        (tests / 'link').symlink_to('run.sh')
        (tests / 'folder-link').symlink_to('sub')
        image.make_image(self.dest, {'/lockstep/stdin': b'#!/bin/sh\necho\n', '/etc/note': b'hi'},
                         {'/lockstep/mm': tests})
        found = parse(self.dest.read_bytes())
        self.assertEqual(found['init'][0], 0o100755)
        self.assertEqual(found['init'][4], (common.ROOT / 'guest/init').read_bytes())
        self.assertEqual(found['lockstep/mm/run.sh'][0], 0o100755)
        self.assertEqual(found['lockstep/mm/sub/data'][:5], (0o100644, 0, 0, 0, b'xxxxx'))
        self.assertEqual(found['lockstep/mm/link'][0::4], (0o120777, b'run.sh'))
        self.assertEqual(found['lockstep/mm/folder-link'][0::4], (0o120777, b'sub'))
        self.assertEqual(found['lockstep/stdin'][0], 0o100755)
        self.assertEqual(found['etc/note'][0], 0o100644)
        self.assertEqual(found['bin/mount'][0::4], (0o120777, b'busybox'))
        self.assertEqual(found['dev/console'][0], 0o020600)
        self.assertEqual(found['dev/console'][5], (5, 1))
        self.assertEqual(found['dev/ttyS1'][5], (4, 65))
        self.assertEqual({entry[1:4] for entry in found.values()}, {(0, 0, 0)})
        for name in found:
            if '/' in name:
                parent = name.rpartition('/')[0]
                self.assertEqual(found[parent][0] & 0o170000, 0o040000, name)
                self.assertLess(list(found).index(parent), list(found).index(name))

    def test_cpio_agrees(self):
        image.make_image(self.dest)
        listed = subprocess.run(['busybox', 'cpio', '-t'], input=self.dest.read_bytes(), check=True,
                                capture_output=True).stdout.decode().split()
        self.assertEqual(listed, list(parse(self.dest.read_bytes())))

    def test_deterministic_and_left_alone(self):
        src = self.dir / 'f'
        src.write_text('one')
        image.make_image(self.dest, {'/a': src, '/b': b'2'})
        first = self.dest.read_bytes()
        os.utime(self.dest, ns=(0, 0))
        os.utime(src, ns=(5, 5))
        image.make_image(self.dest, {'/b': b'2', '/a': src})
        self.assertEqual(self.dest.stat().st_mtime_ns, 0)
        other = image.make_image(self.dir / 'other', {'/a': src, '/b': b'2'})
        self.assertEqual(other.read_bytes(), first)
        src.write_text('two')
        image.make_image(self.dest, {'/a': src, '/b': b'2'})
        self.assertEqual(parse(self.dest.read_bytes())['a'][4], b'two')
        # Damage of the same size is seen.
        self.dest.write_bytes(bytes(len(first)))
        image.make_image(self.dest, {'/a': src, '/b': b'2'})
        self.assertEqual(parse(self.dest.read_bytes())['a'][4], b'two')

    def refused(self, words, *args):
        """make_image fails with one line that has these words, and writes nothing."""
        with self.assertRaisesRegex(common.Fail, words) as caught:
            image.make_image(self.dest, *args)
        self.assertNotIn('\n', str(caught.exception))
        self.assertFalse(self.dest.parent.exists() and list(self.dest.parent.iterdir()))

    def test_dynamic_program_refused(self):
        for wide in True, False:
            tests = self.dir / f'tests{wide}'
            tests.mkdir()
            (tests / 'good').write_bytes(elf(wide=wide))
            (tests / 'bad').write_bytes(elf('/lib/ld.so.2', wide))
            self.refused(r'bad: dynamically linked \(/lib/ld.so.2\).*-static', {}, {'/x': tests})
            (tests / 'bad').unlink()
            image.make_image(self.dir / 'good.cpio', {}, {'/x': tests})

    def test_damaged_elf_refused(self):
        self.refused('damaged ELF', {'/x': elf('/lib/ld.so')[:70]})
        self.refused('damaged ELF', {'/x': b'\x7fELF'})

    def test_real_compiler_output(self):
        # Python itself, found by PT_INTERP as the dynamic linker of this machine finds it.
        program = Path('/proc/self/exe').resolve()
        out = subprocess.run(['readelf', '-l', program], capture_output=True, text=True,
                             check=True).stdout
        asked = re.search(r'interpreter: (.*)\]', out)
        self.assertEqual(image.interpreter(program.read_bytes()), asked[1] if asked else '')

    def test_bad_input_refused(self):
        self.refused('nowhere: cannot go into the guest image: No such file',
                     {'/x': self.dir / 'nowhere'})
        self.refused('nowhere: no such folder', {}, {'/x': self.dir / 'nowhere'})
        self.refused('no path inside', {'/../x': b''})
        self.refused('given twice', {'/init': b'other'})
        self.refused('no folder', {'/init/below': b'x'})
        tests = self.dir / 'fifo'
        tests.mkdir()
        os.mkfifo(tests / 'pipe')
        self.refused('pipe: neither file', {}, {'/x': tests})


class BusyboxTest(unittest.TestCase):
    """Which busybox is taken."""

    def setUp(self):
        self.bin = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.dict(os.environ, PATH=str(self.bin)))

    def test_missing(self):
        with self.assertRaisesRegex(common.Fail, 'apt-get install busybox-static'):
            image.busybox()

    def test_dynamic(self):
        (self.bin / 'busybox').write_bytes(elf('/lib/ld.so.2'))
        (self.bin / 'busybox').chmod(0o755)
        with self.assertRaisesRegex(common.Fail, 'no static program.*busybox-static'):
            image.busybox()

    def test_applets(self):
        (self.bin / 'busybox').write_text('#!/bin/sh\necho sh\necho busybox\necho ls\n')
        (self.bin / 'busybox').chmod(0o755)
        data, names = image.busybox()
        self.assertEqual((data[:2], names), (b'#!', ['sh', 'ls']))

    def test_another_machine_has_its_own_program(self):
        self.test_applets()
        arm64 = GUESTS['arm64']
        with mock.patch('rig.fetch.busybox', lambda arch: elf() + arch.name.encode()):
            data, names = image.busybox(arm64)
        self.assertEqual((data[-5:], names), (b'arm64', ['sh', 'ls']))
        with mock.patch('rig.fetch.busybox', lambda arch: elf('/lib/ld-linux-aarch64.so.1')), \
                self.assertRaisesRegex(common.Fail, 'busybox for arm64: dynamically linked'):
            image.busybox(arm64)


class GuestScripts(unittest.TestCase):
    """guest/: what the shell and shellcheck say."""

    def test_syntax_and_shellcheck(self):
        scripts = [common.ROOT / 'guest' / n for n in ('init', 'bin/to-kmsg', 'etc/profile')]
        for path in scripts:
            subprocess.run(['sh', '-n', path], check=True)
        for path in scripts[:2]:
            self.assertTrue(os.access(path, os.X_OK), path)
        if not shutil.which('shellcheck'):
            self.fail('shellcheck is missing: apt-get install shellcheck')
        done = subprocess.run(['shellcheck', '-s', 'sh', *scripts], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, ''))


if __name__ == '__main__':
    unittest.main()
