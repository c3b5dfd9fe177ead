# SPDX-License-Identifier: GPL-2.0
"""fetch: what is damaged, half-written or wrong is never trusted, and is said in one line."""
import hashlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

from rig import arch, common, export, fetch, tree
from rig.tests import fake

APT = r'''#!/bin/sh
# Stands in for apt-get: what it does is in the folder FAKE_APT.
for a; do
    case $a in
    indextargets) [ -f "$FAKE_APT/nolists" ] || cat "$FAKE_APT/targets"; exit 0 ;;
    update) echo update >> "$FAKE_APT/calls"
        [ -f "$FAKE_APT/network" ] && { rm -f "$FAKE_APT/nolists"; exit 0; }
        echo 'W: Failed to fetch http://mirror.example/dists/x  Could not resolve mirror.example'
        exit 100 ;;
    source) echo source >> "$FAKE_APT/calls"
        [ -f "$FAKE_APT/full" ] && { echo 'E: Write error - write (28: No space left on device)'
            exit 100; }
        [ -f "$FAKE_APT/tarball" ] && exec cp "$FAKE_APT/tarball" linux_6.1.176.orig.tar.xz
        echo "E: Can not find version '6.1.176-1' of package 'linux'"; exit 100 ;;
    download) echo "download $*" >> "$FAKE_APT/calls"
        [ -f "$FAKE_APT/deb" ] && exec cp "$FAKE_APT/deb" busybox-static_1_arm64.deb
        echo 'E: Unable to locate package busybox-static'; exit 100 ;;
    esac
done
'''


class Base(fake.Case):
    """base_repo() from TARBALL=, and the cache."""

    def repos(self):
        """Everything in the cache that is no lock and no download."""
        return [p.name for p in common.CACHE.glob('*') if p.name not in ('lock', 'downloads')] \
            + [p.name for p in common.CACHE.glob('.*')]

    def test_tree_is_git_s_own(self):
        repo = fetch.base_repo()
        self.assertEqual(fake.git('rev-parse', 'base^{tree}', cwd=repo), self.tree_id)
        self.assertEqual(fake.git('log', '--format=%s|%an|%aI|%cI', 'base', cwd=repo),
                         'Linux 6.1.176|mm-lockstep|2026-01-01T00:00:00+00:00|'
                         '2026-01-01T00:00:00+00:00')
        self.assertEqual(len(list(repo.glob('objects/pack/*.pack'))), 1)

    def test_commit_id_is_deterministic(self):
        first = fake.git('rev-parse', 'base', cwd=fetch.base_repo())
        shutil.rmtree(common.CACHE)
        self.assertEqual(fake.git('rev-parse', 'base', cwd=fetch.base_repo()), first)

    def test_second_use_unpacks_nothing(self):
        fetch.base_repo()
        with mock.patch.object(fetch, 'import_tar', side_effect=AssertionError):
            fetch.base_repo()

    def test_wrong_sha(self):
        self.tar.write_bytes(self.tar.read_bytes() + b'x')
        self.fails(fetch.base_repo, 'TARBALL=', 'sha256')
        self.assertFalse(common.CACHE.exists())

    def test_wrong_sha_with_a_good_cache(self):
        fetch.base_repo()
        self.tar.write_bytes(b'x')
        self.fails(fetch.base_repo, 'sha256')

    def test_no_such_tarball(self):
        self.env(TARBALL='/nonexistent.tar.xz')
        self.fails(fetch.base_repo, 'no such file')

    def test_damaged_tarball(self):
        whole = self.tar.read_bytes()
        for broken in (whole[:len(whole) // 2], whole[:200] + b'\xff' * 40 + whole[240:], b'junk'):
            self.tar.write_bytes(broken)
            self.base_file()        # its sha256 is right, it is damaged all the same
            self.fails(fetch.base_repo, 'damaged archive')
            self.assertEqual(self.repos(), [])

    def test_other_tree(self):
        self.base_file(base_tree='0' * 40)
        self.fails(fetch.base_repo, 'base_tree')
        self.assertEqual(self.repos(), [])

    def rebuilt(self, word):
        """base_repo() says `word` and gives a sound repository."""
        repo = fetch.base_repo()
        self.assertEqual(len(self.said), 1, self.said)
        self.assertIn(word, self.said[0])
        self.assertIn('built again', self.said[0])
        self.assertEqual(fake.git('rev-parse', 'base^{tree}', cwd=repo), self.tree_id)
        fake.git('fsck', '--full', cwd=repo)

    def test_damaged_pack(self):
        pack = next(fetch.base_repo().glob('objects/pack/*.pack'))
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.chmod(0o644)
        pack.write_bytes(data)
        self.rebuilt(f'{pack.name} is damaged')

    def test_missing_index(self):
        next(fetch.base_repo().glob('objects/pack/*.idx')).unlink()
        self.rebuilt('is missing')

    def test_moved_ref(self):
        (fetch.base_repo() / 'refs/heads/base').write_text('0' * 40 + '\n')
        self.rebuilt('refs/heads/base is damaged')

    def test_half_written(self):
        (fetch.base_repo() / fetch.MARKER).unlink()
        self.rebuilt('half-written')

    def test_torn_seal(self):
        (fetch.base_repo() / fetch.MARKER).write_text('{"tree": ')
        self.rebuilt('seal')

    def test_interrupt_leaves_nothing_trusted(self):
        real = fetch.lzma.open

        class Stops(io.RawIOBase):
            """A stream in the middle of which the user presses Ctrl-C."""
            def __init__(self, f):
                self.stream, self.reads = real(f), 0

            def readable(self):
                return True

            def readinto(self, buffer):
                self.reads += 1
                if self.reads > 1:
                    self.stream.close()
                    raise KeyboardInterrupt
                return self.stream.readinto(memoryview(buffer)[:2048])

        with mock.patch.object(fetch.lzma, 'open', Stops), \
                self.assertRaises(KeyboardInterrupt):
            fetch.base_repo()
        self.assertEqual(self.repos(), [])
        self.assertEqual(common._children, set())
        fake.git('fsck', cwd=fetch.base_repo())

    def test_leftovers_of_a_killed_run_go(self):
        left = common.CACHE / '.tmp-abc'
        left.mkdir(parents=True)
        (left / 'x').touch()
        fetch.base_repo()
        self.assertFalse(left.exists())

    def test_no_space_before(self):
        with mock.patch.object(fetch.shutil, 'disk_usage', return_value=mock.Mock(free=10)):
            self.fails(fetch.base_repo, 'GB free', 'needed')
        self.assertEqual(self.repos(), [])

    def test_disk_full_while_unpacking(self):
        real = shutil.which('git')
        bin_ = self.tmp / 'bin'
        bin_.mkdir()
        (bin_ / 'git').write_text(
            f'#!/bin/sh\nfor a; do [ "$a" = fast-import ] && {{ head -c 300 >/dev/null\n'
            'echo "fatal: write error: No space left on device" >&2; exit 128; }; done\n'
            f'exec {real} "$@"\n')
        (bin_ / 'git').chmod(0o755)
        path = os.environ['PATH']
        self.env(PATH=f'{bin_}:{path}')
        self.fails(fetch.base_repo, 'No space left on device')
        self.assertEqual(self.repos(), [])
        self.env(PATH=path)
        fetch.base_repo()

    def test_two_at_once(self):
        code = (f'import sys; sys.path.insert(0, {str(Path(fetch.__file__).parents[1])!r})\n'
                'from pathlib import Path; from rig import common, fetch\n'
                f'common.ROOT = Path({str(self.root)!r})\n'
                f'common.PATCHES = Path({str(common.PATCHES)!r})\n'
                f'common.CACHE = Path({str(common.CACHE)!r})\n'
                'print(common.git("rev-parse", "base", cwd=fetch.base_repo()))')
        both = [subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
                for _ in range(2)]
        ids = [p.communicate()[0].splitlines()[-1] for p in both]
        self.assertEqual([p.returncode for p in both], [0, 0])
        self.assertEqual(ids[0], ids[1])


class Apt(fake.Case):
    """The tarball through apt, with a program that stands in for apt-get."""

    def setUp(self):
        super().setUp()
        self.apt = self.tmp / 'apt'
        (self.apt / 'bin').mkdir(parents=True)
        script = self.apt / 'bin/apt-get'
        script.write_text(APT)
        script.chmod(0o755)
        (self.apt / 'targets').write_text('Debian|http://mirror.example/debian/|stable|main\n'
                                          'Other|http://other.example/|x|main\n')
        (self.apt / 'network').touch()
        shutil.copy(self.tar, self.apt / 'tarball')
        self.env(TARBALL='', FAKE_APT=str(self.apt), PATH=f'{self.apt}/bin:{os.environ["PATH"]}')
        self.cached = common.CACHE / 'downloads' / 'linux_6.1.176.orig.tar.xz'

    def calls(self):
        """How often apt-get source ran."""
        path = self.apt / 'calls'
        return path.read_text().split().count('source') if path.exists() else 0

    def test_fetches_once(self):
        repo = fetch.base_repo()
        self.assertEqual(fake.git('rev-parse', 'base^{tree}', cwd=repo), self.tree_id)
        shutil.rmtree(repo)
        fetch.base_repo()
        self.assertEqual(self.calls(), 1)
        self.assertEqual(sorted(p.name for p in common.CACHE.iterdir()),
                         sorted([repo.name, 'downloads', 'lock']))

    def test_machine_without_lists(self):
        (self.apt / 'nolists').touch()
        fetch.base_repo()
        self.assertEqual((self.apt / 'calls').read_text().split(), ['update', 'update', 'source'])

    def test_no_lists_and_no_network(self):
        (self.apt / 'nolists').touch()
        (self.apt / 'network').unlink()
        self.fails(fetch.base_repo, 'no network')

    def test_wrong_cached_tarball_is_fetched_again(self):
        self.cached.parent.mkdir(parents=True)
        self.cached.write_bytes(b'short')
        fetch.base_repo()
        self.assertEqual(self.calls(), 1)
        self.assertIn('wrong sha256', self.said[0])
        self.assertEqual(hashlib.sha256(self.cached.read_bytes()).hexdigest(),
                         common.base()['sha256'])

    def test_wrong_sha_from_the_mirror(self):
        (self.apt / 'tarball').write_bytes(b'other')
        self.fails(fetch.base_repo, 'sha256', 'TARBALL=')
        self.assertFalse(self.cached.exists())

    def test_version_gone(self):
        (self.apt / 'tarball').unlink()
        self.fails(fetch.base_repo, 'linux=6.1.176-1', 'TARBALL=', 'LINUX=')

    def test_no_network(self):
        (self.apt / 'network').unlink()
        self.fails(fetch.base_repo, 'no network', 'TARBALL=')

    def test_disk_full_while_downloading(self):
        (self.apt / 'full').touch()
        self.fails(fetch.base_repo, 'no space left')
        self.assertFalse(self.cached.exists())

    def deb(self, machine):
        """The mirror has a busybox-static with a program for an ELF machine."""
        top = self.tmp / 'deb'
        (top / 'DEBIAN').mkdir(parents=True, exist_ok=True)
        (top / 'DEBIAN/control').write_text('Package: busybox-static\nVersion: 1\nArchitecture: '
                                            'arm64\nMaintainer: nobody\nDescription: x\n')
        (top / 'bin').mkdir(exist_ok=True)
        data = b'\x7fELF\2\1\1' + bytes(11) + bytes([machine, 0]) + b'text'
        (top / 'bin/busybox').write_bytes(data)
        common.run(['dpkg-deb', '--build', top, self.apt / 'deb'])
        return data

    def test_busybox_of_another_machine(self):
        arm64 = arch.GUESTS['arm64']
        data = self.deb(183)
        self.assertEqual(fetch.busybox(arm64), data)
        self.assertEqual(fetch.busybox(arm64), data)
        calls = [x for x in (self.apt / 'calls').read_text().splitlines() if 'download' in x]
        self.assertEqual(len(calls), 1)
        self.assertIn('APT::Architecture=arm64', calls[0])
        held = common.CACHE / 'downloads/busybox-arm64'
        held.write_bytes(b'half')
        self.assertEqual(fetch.busybox(arm64), data)
        self.assertEqual(held.read_bytes(), data)

    def test_busybox_of_the_wrong_machine(self):
        self.deb(62)
        self.fails(lambda: fetch.busybox(arch.GUESTS['arm64']), 'no program for arm64')

    def test_no_busybox(self):
        self.fails(lambda: fetch.busybox(arch.GUESTS['arm64']), 'Unable to locate package')

    def test_no_apt(self):
        with mock.patch.object(fetch.shutil, 'which', return_value=None):
            self.fails(fetch.base_repo, 'apt-get', 'TARBALL=')

    def test_no_debian_source(self):
        (self.apt / 'targets').write_text('Other|http://other.example/|x|main\n')
        self.fails(fetch.base_repo, 'no Debian mirror', 'LINUX=')


class Clone(fake.Case):
    """LINUX=: a kernel clone of the user's."""

    def clone(self, name='clone', **change):
        """A clone with tag v6.1.176; its tree is not the tarball's."""
        folder = self.tmp / name
        files = {k: change.get(k.replace('/', '__').replace('.', '_dot_'), v)
                 for k, v in fake.FILES.items()}
        fake.repository(folder, {**files, 'drivers/firmware.h': 'not in the tarball\n'})
        fake.git('tag', 'v6.1.176', cwd=folder)
        self.env(TARBALL='', LINUX=str(folder))
        return folder

    def test_tree_of_the_tag(self):
        folder = self.clone()
        want = fake.git('rev-parse', 'v6.1.176^{tree}', cwd=folder)
        (folder / 'mm/mmap.c').write_text('later\n')
        fake.git('commit', '-q', '-a', '-m', 'later', cwd=folder)
        repo = fetch.base_repo()
        self.assertEqual(fake.git('rev-parse', 'base^{tree}', cwd=repo), want)
        self.assertNotEqual(want, self.tree_id)
        shutil.rmtree(folder / '.git/objects')      # nothing is borrowed from the clone
        fake.git('fsck', '--full', cwd=repo)

    def test_series_applies_and_checks_on_a_clone(self):
        self.three()
        self.clone()
        export.check()
        shutil.rmtree(common.LINUX)
        tree.make_tree()
        self.assertTrue((common.LINUX / 'drivers/firmware.h').is_file())
        before = self.files()
        export.export()
        self.assertEqual(self.files(), before)

    def test_bad_clones(self):
        self.env(TARBALL='', LINUX=str(self.tmp))
        self.fails(fetch.base_repo, 'LINUX=', 'no git repository')
        folder = self.clone()
        fake.git('tag', '-d', 'v6.1.176', cwd=folder)
        self.fails(fetch.base_repo, 'no tag v6.1.176')
        self.clone('other', Makefile='VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 175\n')
        self.fails(fetch.base_repo, '6.1.175')

    def test_touched_file_differs(self):
        self.three()
        self.clone(mm__mmap_dot_c='int other;\n')
        self.fails(fetch.base_repo, 'mm/mmap.c', 'another')
