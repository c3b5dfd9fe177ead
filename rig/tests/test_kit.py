# SPDX-License-Identifier: GPL-2.0
"""The kit: commands that work in any folder, everything they need, images without root."""
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from rig import common, kit

OPTIONS = ('-Wp,-MMD,lib/.x.o.d -nostdinc -I{src}/include -I./include -include '
           '{src}/include/linux/kconfig.h -D__KERNEL__ -fmacro-prefix-map={src}/= '
           '-ffile-prefix-map=../linux/= -fdebug-prefix-map={obj}=. -O2 -g -I {src}/lib -I ./lib')
CMD = ('cmd_lib/x.o := ccache gcc ' + OPTIONS + ' -DKBUILD_BASENAME=\'"x"\' -c -o lib/x.o {src}/lib/x.c   '
       '; ./tools/objtool/objtool --orc   lib/x.o\n\nsource_lib/x.o := {src}/lib/x.c\n\n'
       'deps_lib/x.o := \\\n    $(wildcard include/config/NUMA) \\\n  {src}/include/linux/kconfig.h \\\n'
       '  include/generated/made.h \\\n  ../linux/include/linux/relative.h \\\n\nlib/x.o: $(deps_lib/x.o)\n')


class Case(unittest.TestCase):
    """A source tree and a build folder with one object, as kbuild leaves them."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = Path(folder.name).resolve()
        self.src, self.obj = self.dir / 'linux', self.dir / 'obj'
        for name, text in (('linux/lib/x.c', '#include <linux/relative.h>\n#include <generated/made.h>\n'
                            'int x(void) { return MADE + sizeof(__FILE__); }\nconst char *f = __FILE__;\n'),
                           ('linux/include/linux/kconfig.h', '#include <generated/autoconf.h>\n'),
                           ('linux/include/linux/relative.h', '#pragma once\n'),
                           ('obj/include/generated/made.h', '#define MADE CONFIG_N\n'),
                           ('obj/include/generated/autoconf.h', '#define CONFIG_N 3\n'),
                           ('obj/scripts/basic/fixdep', '#!/bin/sh\necho "deps $1 $2"\n'),
                           ('obj/tools/objtool/objtool', '#!/bin/sh\ntest -f "$2"\n')):
            path = self.dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            if text.startswith('#!'):
                path.chmod(0o755)
        self.cmd = self.obj / 'lib/.x.o.cmd'
        self.cmd.parent.mkdir()
        self.recorded(CMD)

    def recorded(self, text):
        """What kbuild recorded of the object."""
        self.cmd.write_text(text.format(src=self.src, obj=self.obj))

    def fails(self, pattern, function, *args, **kw):
        """Fail with a line that matches."""
        with self.assertRaisesRegex(common.Fail, pattern):
            function(*args, **kw)


class Cut(Case):
    """From kbuild's records to a tree that compiles anywhere."""

    def test_the_command_names_no_folder_of_this_machine(self):
        command, files = kit.step(self.src, self.obj, 'lib/x.o')
        self.assertNotIn(str(self.dir), command)
        self.assertNotIn('ccache', command)
        self.assertNotIn('../linux', command)
        self.assertIn(' -Iinclude -I./include -include include/linux/kconfig.h ', command)
        self.assertIn(' -I lib -I ./lib ', command)
        self.assertIn(' -fdebug-prefix-map="$PWD"=. -c -o lib/x.o lib/x.c && ./tools/objtool/objtool', command)
        self.assertEqual(files, ['lib/x.c', 'include/linux/kconfig.h', 'include/generated/made.h',
                                 'include/linux/relative.h'])

    def test_the_cut_tree_builds_equal_objects_in_two_folders(self):
        folder = self.dir / 'cut' / 'kit'
        folder.mkdir(parents=True)
        commands = kit.cut(self.src, self.obj, ['lib/x.o'], folder)
        shutil.rmtree(self.src)     # nothing of it is needed any more
        shutil.rmtree(self.obj)
        sums = kit.references(folder, commands)
        data = (folder / 'ref/lib/x.o').read_bytes()
        self.assertEqual(sums, {'lib/x.o': hashlib.sha256(data).hexdigest()})
        self.assertNotIn(str(self.dir).encode(), data)
        done = subprocess.run(['sha256sum', '-c', '../sha256'], cwd=folder / 'ref', check=False,
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual((folder / 'build.list').read_text(), f'lib/x.o\t{commands["lib/x.o"]}\n')

    def test_an_object_that_knows_its_folder_is_refused(self):
        folder = self.dir / 'cut' / 'kit'
        folder.mkdir(parents=True)
        commands = kit.cut(self.src, self.obj, ['lib/x.o'], folder)
        commands['lib/x.o'] += ' && pwd >>lib/x.o'
        self.fails('lib/x.o depends on the folder', kit.references, folder, commands)
        self.assertFalse((folder / 'sha256').exists())

    def test_a_step_that_fails_is_named_with_the_compilers_word(self):
        folder = self.dir / 'cut' / 'kit'
        folder.mkdir(parents=True)
        (self.src / 'lib/x.c').write_text('#error no\n')
        commands = kit.cut(self.src, self.obj, ['lib/x.o'], folder)
        self.fails(r'lib/x.o: exit 1: lib/x.c:1:2: error: #error no', kit.references, folder, commands)

    def test_bad_records(self):
        self.fails('y.o: the build left no .y.o.cmd', kit.step, self.src, self.obj, 'lib/y.o')
        for text, why in (('nothing\n', 'no command'),
                          (CMD.replace('-Wp,-MMD,lib/.x.o.d ', ''), 'no kbuild command'),
                          (CMD.replace(' -D__KERNEL__', ' -DAT={obj}/x'), 'is left in its command')):
            self.recorded(text)
            self.fails(why, kit.step, self.src, self.obj, 'lib/x.o')
        self.recorded(CMD.replace('include/generated/made.h', '/usr/include/stdio.h'))
        self.fails(r'stdio\.h: needed by the objects and in neither', kit.cut, self.src, self.obj,
                   ['lib/x.o'], self.dir / 'kit')

    def test_the_lists_are_parts_of_the_whole(self):
        for name, targets in kit.LISTS.items():
            self.assertLessEqual(set(targets), set(kit.OBJECTS), name)
            self.assertGreater(len(targets), 3, name)
        self.fails('a tab', kit.write_list, self.dir / 'x', {'a.o': 'gcc\tx'})


class Toolchain(Case):
    """The host's programs with what they need."""

    def test_the_compiler_comes_with_its_parts(self):
        found = kit.toolchain()
        for name in ('/usr/bin/gcc', '/usr/bin/as', '/usr/bin/make', '/usr/bin/mke2fs',
                     '/lib64/ld-linux-x86-64.so.2'):
            self.assertIn(name, found)
        self.assertTrue(any(n.endswith('/cc1') for n in found))
        self.assertTrue(any('libc.so' in n for n in found))
        for host in found.values():
            self.assertTrue(host.is_file() and not host.is_symlink(), host)

    def test_ccache_under_the_compilers_name_is_passed_over(self):
        folder = self.dir / 'masks'
        folder.mkdir()
        (folder / 'ccache').write_text('#!/bin/sh\n')
        (folder / 'ccache').chmod(0o755)
        (folder / 'gcc').symlink_to('ccache')
        with mock.patch.dict(os.environ, PATH=f'{folder}:{os.environ["PATH"]}'):
            self.assertNotEqual(kit.which('gcc').resolve().name, 'ccache')
        self.fails('no-such-program: not installed', kit.which, 'no-such-program')

    def test_a_library_that_is_missing_is_named(self):
        ldd = self.dir / 'ldd'
        ldd.write_text('#!/bin/sh\necho "	libx.so.1 => not found"\n')
        ldd.chmod(0o755)
        with mock.patch.dict(os.environ, PATH=f'{self.dir}:{os.environ["PATH"]}'):
            self.fails('libx.so.1 not found', kit.libraries, '/bin/true')

    def test_a_static_program_needs_nothing(self):
        self.assertEqual(kit.libraries(kit.which('busybox')), {})


class Images(Case):
    """ext4 without root."""

    def debugfs(self, disk, command):
        """What debugfs says of a disk."""
        return common.run([kit.which('debugfs'), '-R', command, disk]).stdout

    def test_content_and_sameness(self):
        folder = self.dir / 'folder'
        (folder / 'sub').mkdir(parents=True)
        (folder / 'sub/file').write_text('content')
        (folder / 'bin').symlink_to('sub')
        a = kit.pack(folder, self.dir / 'a.img').read_bytes()
        time.sleep(1.1)     # another second, which no file's ctime may tell of
        (folder / 'sub/file').touch()
        b = kit.pack(folder, self.dir / 'b.img')
        self.assertEqual(a, b.read_bytes())
        self.assertIn('content', self.debugfs(b, 'cat /sub/file'))
        done = subprocess.run([kit.which('e2fsck'), '-fn', b], check=False, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_an_image_that_cannot_be_made_leaves_nothing(self):
        self.fails('mke2fs', kit.ext4, self.dir / 'x.img', 4096)
        self.assertEqual(list(self.dir.glob('*x.img*')), [])


class Kept(Case):
    """A kit is made again when it is not what it should be."""

    def setUp(self):
        super().setUp()
        self.made = []

        def make(home, want):
            self.made.append(want)
            home.mkdir(parents=True, exist_ok=True)
            (home / 'kit.img').write_bytes(b'image')
            (home / 'kit.json').write_text(json.dumps(
                {'made_from': want, 'image': hashlib.sha256(b'image').hexdigest()}))
        for patch in (mock.patch.object(common, 'OUT', self.dir / 'out'),
                      mock.patch.object(kit, 'make', make)):
            patch.start()
            self.addCleanup(patch.stop)

    def test_once(self):
        with mock.patch.object(kit, 'digest', lambda: 'one'):
            kit.make_kit()
            self.assertEqual(kit.make_kit(), self.dir / 'out/kit/kit.img')
        self.assertEqual(self.made, ['one'])

    def test_again_when_damaged_or_of_another_compiler(self):
        home = self.dir / 'out/kit'
        with mock.patch.object(kit, 'digest', lambda: 'one'):
            kit.make_kit()
            for spoil in (lambda: (home / 'kit.img').write_bytes(b'imagE'),
                          lambda: (home / 'kit.json').write_text('{'),
                          (home / 'kit.json').unlink, (home / 'kit.img').unlink):
                spoil()
                kit.make_kit()
        with mock.patch.object(kit, 'digest', lambda: 'two'):
            kit.make_kit()
        self.assertEqual(self.made, ['one'] * 5 + ['two'])


if __name__ == '__main__':
    unittest.main()
