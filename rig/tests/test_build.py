# SPDX-License-Identifier: GPL-2.0
"""Configs, locks, logs and warnings of rig.build and rig.warn; no kernel is built."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

from rig import build, common, warn
from rig.arch import GUESTS

# A make that does what the tests ask of a kernel's: allnoconfig honours KCONFIG_ALLCONFIG
# but for CONFIG_DEAF, bzImage writes an image unless mm/bad.c is there.
MAKE = r'''#!/bin/bash
echo "$*" >> "$CALLS"
env > "$CALLS.env"
src=$2
for word in "$@"; do case $word in
	O=*) obj=${word#O=};;
	KCONFIG_ALLCONFIG=*) all=${word#*=};;
	KCONFIG_CONFIG=*) config=${word#*=};;
	KSFT_INSTALL_PATH=*) install=${word#*=};;
esac; done
case " $* " in
*' allnoconfig '*) grep -v CONFIG_DEAF "$all" > "$config";;
*' bzImage '* | *' Image '*)
	mkdir -p "$obj/mm" "$obj/arch/x86/boot"
	[ -f "$src/mm/slow" ] && { 
		echo x > "$obj/mm/half.o"; echo $$ > "$src/mm/started.new"
		mv "$src/mm/started.new" "$src/mm/started"; exec sleep 60; }
	[ -f "$src/mm/bad.c" ] && {
		echo "  CC      mm/bad.o"
		echo "../../linux/mm/bad.c:3:5: error: 'y' undeclared"
		echo "make[2]: *** [mm/bad.o] Error 1"
		exit 2; }
	echo "  CC      mm/good.o"; echo x > "$obj/mm/good.o"; echo x > "$obj/vmlinux"
	echo x > "$obj/arch/x86/boot/bzImage"
	mkdir -p "$obj/arch/arm64/boot"; echo x > "$obj/arch/arm64/boot/Image";;
*' headers '*) ;;
*' install '*)
	mkdir -p "$install/mm"; echo mm:t1 > "$install/kselftest-list.txt"
	[ -f "$src/mm/none" ] || { echo '#!/bin/sh' > "$install/mm/t1"; chmod +x "$install/mm/t1"; }
	[ -f "$src/mm/dynamic" ] && cp "$(readlink -f /bin/bash)" "$install/mm/t2";;
esac
exit 0
'''


class Folder(unittest.TestCase):
    """A repository, a kernel tree and fake programs in a temporary folder."""

    def setUp(self):
        self.tmp = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, self.tmp)
        self.src, self.out, bin_ = self.tmp / 'linux', self.tmp / 'out', self.tmp / 'bin'
        for folder in ('configs', 'bin', 'linux/mm', 'linux/scripts/kconfig',
                       'linux/tools/testing/selftests/mm', 'linux/include/uapi/linux',
                       'linux/include/uapi/asm-generic', 'linux/arch/x86/include/uapi/asm'):
            (self.tmp / folder).mkdir(parents=True)
        self.config('common', 'CONFIG_A=y\nCONFIG_N=4\n')
        (self.tmp / 'configs/arch').mkdir()
        for name in ('x86_64', 'arm64'):
            self.config(f'arch/{name}', f'# {name}\n')
        self.config('debug', '# what it is\nCONFIG_B=y\n')
        self.config('lockdep', 'CONFIG_L=y\n# CONFIG_A is not set\n')
        self.config('production', 'CONFIG_P=y\n')
        (self.src / 'Kbuild').write_text('')
        (self.src / 'mm/Kconfig').write_text(
            ''.join(f'config {c}\n\tbool\n' for c in ('A', 'B', 'L', 'P', 'N', 'DEAF')))
        (self.src / 'tools/testing/selftests/mm/Makefile').write_text('')
        # of merge_config.sh only what the rig relies on: -O DIR/.config gets all fragments
        (self.src / 'scripts/kconfig/merge_config.sh').write_text(
            r'''shift 3; out=$1; shift
awk '{k = $0; sub(/^# /, "", k); sub(/[= ].*/, "", k); v[k] = $0} END {for (k in v) print v[k]}' \
    "$@" > "$out/.config"
''')
        common.git('init', '-q', cwd=self.src)
        common.git('add', '.', cwd=self.src)
        for name in build.PROGRAMS:
            if name not in ('git', 'gcc'):
                self.program(name, MAKE if name == 'make' else '#!/bin/sh\n')
        self.program('gcc', '#!/bin/sh\necho gcc 99\n')
        self.program('rsync', '#!/bin/sh\n')
        self.calls = self.tmp / 'calls'
        for patch in (mock.patch.object(common, 'ROOT', self.tmp),
                      mock.patch.object(common, 'OUT', self.out),
                      mock.patch.object(common, 'CACHE', self.tmp / 'cache'),
                      mock.patch.object(common, 'LINUX', self.src),
                      mock.patch.dict(os.environ, PATH=f'{bin_}:{os.environ["PATH"]}',
                                      CALLS=str(self.calls), JOBS='3')):
            patch.start()
            self.addCleanup(patch.stop)

    def config(self, name, text):
        (self.tmp / f'configs/{name}.config').write_text(text)

    def program(self, name, text):
        path = self.tmp / 'bin' / name
        path.write_text(text)
        path.chmod(0o755)

    def assertFails(self, what, function, *args, **kw):
        with self.assertRaisesRegex(common.Fail, what) as caught:
            function(*args, **kw)
        self.assertNotIn('\n', str(caught.exception))


class Config(Folder):
    def test_fragments_stack(self):
        def names(config):
            return [p.stem for p in build.fragments(config)]
        self.assertEqual(names('debug'), ['common', 'x86_64', 'debug'])
        self.assertEqual(names('production'), ['common', 'x86_64', 'production'])
        self.assertEqual(names('lockdep'), ['common', 'x86_64', 'debug', 'lockdep'])
        self.assertEqual(names('production+lockdep'), ['common', 'x86_64', 'production', 'lockdep'])

    def test_another_machine_has_its_own(self):
        found = build.fragments('debug', GUESTS['arm64'])
        self.assertEqual([p.stem for p in found], ['common', 'arm64', 'debug'])

    def test_unknown_config_names_the_known(self):
        for config in ('nope', 'debug+nope', '', '../debug'):
            self.assertFails('no configs/.*known: common, debug, lockdep, production',
                             build.fragments, config)

    def test_last_request_wins(self):
        asked = build.requests(build.fragments('lockdep'))
        self.assertEqual(asked['CONFIG_A'], ('n', 'lockdep.config'))
        self.assertEqual(asked['CONFIG_N'], ('4', 'common.config'))

    def test_bad_line_is_named(self):
        self.config('debug', 'CONFIG_B=y\nCONFIG_C\n')
        self.assertFails('configs/debug.config:2: .*CONFIG_C', build.requests, build.fragments('debug'))

    def test_config_is_merged_and_kept(self):
        obj = self.out / 'build/lockdep'
        self.assertTrue(build.configure('lockdep', self.src, obj))
        self.assertEqual(build.parse_config(obj / '.config')['CONFIG_N'], '4')
        before = (obj / '.config').stat().st_mtime_ns
        calls = self.calls.read_text()
        self.assertFalse(build.configure('lockdep', self.src, obj))
        self.assertEqual(self.calls.read_text(), calls)     # nothing was run
        # a changed input that gives the same .config leaves its time alone
        (self.src / 'mm/Kconfig').write_text((self.src / 'mm/Kconfig').read_text() + '# more\n')
        self.assertFalse(build.configure('lockdep', self.src, obj))
        self.assertNotEqual(self.calls.read_text(), calls)
        self.assertEqual((obj / '.config').stat().st_mtime_ns, before)

    def test_edited_config_is_replaced(self):
        obj = self.out / 'build/debug'
        build.configure('debug', self.src, obj)
        (obj / '.config').write_text('CONFIG_A=y\n')
        self.assertTrue(build.configure('debug', self.src, obj))
        self.assertIn('CONFIG_B', build.parse_config(obj / '.config'))

    def test_lost_symbol_is_named(self):
        self.config('debug', 'CONFIG_B=y\nCONFIG_DEAF=7\n')
        obj = self.out / 'build/debug'
        self.assertFails('CONFIG=debug: CONFIG_DEAF=7 asked for by configs/debug.config is not set',
                         build.configure, 'debug', self.src, obj)
        self.assertFalse((obj / '.config').exists())
        # optional accepts only what this kernel does not know
        self.assertFails('CONFIG_DEAF=7', build.configure, 'debug', self.src, obj, optional=True)
        (self.src / 'mm/Kconfig').write_text('config A\nmenuconfig B\nconfig N\n')
        self.assertTrue(build.configure('debug', self.src, obj, optional=True))

    def test_other_value_is_named(self):
        lines = build.missing({'CONFIG_A': ('n', 'x.config'), 'CONFIG_N': ('4', 'y.config'),
                               'CONFIG_Z': ('n', 'x.config')}, {'CONFIG_A': 'y', 'CONFIG_N': '8'})
        self.assertEqual(lines, ['CONFIG_A=n asked for by configs/x.config is y',
                                 'CONFIG_N=4 asked for by configs/y.config is 8'])


class Kernel(Folder):
    def test_image_and_what_make_is_told(self):
        with mock.patch.dict(os.environ, MAKEFLAGS='w -- CONFIG=x', KCFLAGS='-O3', CONFIG='debug',
                             ARCH='arm', CCACHE_DIR='/nowhere', LOCALVERSION='-me'):
            image = build.kernel_image()
        self.assertEqual(image, self.out / 'build/debug/arch/x86/boot/bzImage')
        call = self.calls.read_text().splitlines()[-1]
        self.assertIn(f'-C {self.src} O={self.out}/build/debug -j3 CC=ccache gcc', call)
        self.assertIn('-ffile-prefix-map=../../../linux/= ', call)
        env = Path(f'{self.calls}.env').read_text().splitlines()
        self.assertIn(f'CCACHE_DIR={self.tmp}/cache/ccache', env)
        self.assertIn(f'CCACHE_BASEDIR={self.tmp}', env)
        for name in ('MAKEFLAGS', 'KCFLAGS', 'ARCH', 'CONFIG', 'LOCALVERSION'):
            self.assertFalse([line for line in env if line.startswith(name + '=')], name)

    def test_another_machine(self):
        self.program('aarch64-linux-gnu-gcc', '#!/bin/sh\necho gcc 98\n')
        image = build.kernel_image('debug', arch=GUESTS['arm64'])
        self.assertEqual(image, self.out / 'build/debug-arm64/arch/arm64/boot/Image')
        call = self.calls.read_text().splitlines()[-1]
        for word in (f'O={self.out}/build/debug-arm64', 'ARCH=arm64', ' Image',
                     'CROSS_COMPILE=aarch64-linux-gnu-', 'CC=ccache aarch64-linux-gnu-gcc'):
            self.assertIn(word, call)

    def test_another_machine_without_its_compiler(self):
        real = shutil.which
        with mock.patch('rig.arch.shutil.which', lambda name: None if '-gcc' in name else real(name)):
            self.assertFails('aarch64-linux-gnu-gcc is not installed.*packages-cross.txt',
                             build.kernel_image, 'debug', arch=GUESTS['arm64'])

    def test_compile_error_is_first_error_line_and_log(self):
        (self.src / 'mm/bad.c').write_text('')
        self.assertFails(r"CONFIG=debug: mm/bad.c:3:5: error: 'y' undeclared, see .*/debug.log$",
                         build.kernel_image, 'debug')

    def test_unknown_config_leaves_nothing(self):
        self.assertFails('CONFIG=nope: no configs/nope.config', build.kernel_image, 'nope')
        self.assertFalse(self.out.exists())

    def test_no_kernel_tree(self):
        self.assertFails('no kernel tree; run make tree', build.kernel_image, 'debug', self.tmp)

    def test_space_in_folder(self):
        self.assertFails('space or a colon', build.kernel_image, 'debug', None, self.tmp / 'a b')

    def test_missing_program(self):
        with mock.patch.dict(os.environ, PATH='/nonexistent'):
            self.assertFails('make, gcc, ld.*rig/deps.sh', build.kernel_image, 'debug')

    def test_bad_jobs(self):
        with mock.patch.dict(os.environ, JOBS='many'):
            self.assertFails('JOBS=many', build.kernel_image, 'debug')

    def test_folder_in_use_is_refused(self):
        obj = self.out / 'build/debug'
        with build.folder_lock(obj):
            self.assertFails(rf'another run builds in {obj} \(pid {os.getpid()}\)',
                             build.kernel_image, 'debug')
        build.kernel_image('debug')

    def test_killed_build_is_not_trusted(self):
        """SIGKILL of the rig: its make still holds the lock; once that is gone, the half-written
        object goes and what was there before stays."""
        obj = self.out / 'build/debug'
        build.kernel_image('debug')
        old = time.time() - 100
        os.utime(obj / 'mm/good.o', (old, old))
        (self.src / 'mm/slow').write_text('')
        rig = subprocess.Popen([sys.executable, '-c', f'''
import sys; sys.path.insert(0, {str(Path(build.__file__).parent.parent)!r})
from pathlib import Path
from rig import build, common
for name in ('ROOT', 'OUT', 'CACHE', 'LINUX'):
    setattr(common, name, Path({str(self.tmp)!r}) / {{'ROOT': '', 'OUT': 'out', 'CACHE': 'cache',
                                                     'LINUX': 'linux'}}[name])
build.kernel_image('debug')'''])
        deadline = time.time() + 10
        while not (self.src / 'mm/started').exists():
            self.assertLess(time.time(), deadline)
            time.sleep(0.02)
        rig.kill()
        rig.wait()
        (self.src / 'mm/slow').unlink()
        self.assertFails('another run builds', build.kernel_image, 'debug')
        os.kill(int((self.src / 'mm/started').read_text()), signal.SIGKILL)
        while True:
            try:
                build.kernel_image('debug')
                break
            except common.Fail:
                self.assertLess(time.time(), deadline)
                time.sleep(0.02)
        self.assertFalse((obj / 'mm/half.o').exists())
        self.assertFalse((obj / '.building').exists())

    def test_clear_since(self):
        obj = self.tmp / 'o'
        for name in ('mm/old.o', 'mm/new.o', 'mm/.new.o.cmd', 'include/config/NEW', '.config'):
            (obj / name).parent.mkdir(parents=True, exist_ok=True)
            (obj / name).write_text('')
        os.utime(obj / 'mm/old.o', (1, 1))
        build.clear_since(obj, 1000)
        left = sorted(str(p.relative_to(obj)) for p in obj.rglob('*') if p.is_file())
        self.assertEqual(left, ['.config', 'include/config/NEW', 'mm/old.o'])


class Selftests(Folder):
    def test_installed_whole(self):
        dest = self.out / 'selftests/1'
        dest.mkdir(parents=True)
        (dest / 'old').write_text('')
        self.assertEqual(build.selftests(self.src, dest), dest)
        self.assertEqual(sorted(p.name for p in dest.iterdir()), ['kselftest-list.txt', 'mm'])
        self.assertEqual([p.name for p in dest.parent.iterdir()], ['1'])

    def test_missing_test_keeps_the_old(self):
        dest = self.out / 'selftests/1'
        build.selftests(self.src, dest)
        (self.src / 'tools/testing/selftests/mm/none').write_text('')
        self.assertFails('selftests mm:t1: listed and not installed', build.selftests, self.src, dest)
        self.assertTrue((dest / 'mm/t1').exists())

    def test_dynamic_program(self):
        (self.src / 'tools/testing/selftests/mm/dynamic').write_text('')
        self.assertFails('t2: not linked statically', build.selftests, self.src, self.out / 's')

    def test_unknown_folder(self):
        self.assertFails('selftests/nope: no selftests there', build.selftests, self.src,
                         self.out / 's', ('nope',))

    def test_nothing_stale(self):
        obj = self.out / 'build/selftests'
        build.selftests(self.src, self.out / 's')
        stale = obj / 'kselftest/mm/t1'
        stale.parent.mkdir(parents=True)
        stale.write_text('')
        build.selftests(self.src, self.out / 's')
        self.assertTrue(stale.exists())
        (self.src / 'include/uapi/linux/new.h').write_text('')
        build.selftests(self.src, self.out / 's')
        self.assertFalse(stale.exists())


class Logs(unittest.TestCase):
    def test_first_error(self):
        for log, line in (
                ('  CC a.o\n../../k/mm/a.c:1:2: error: bad\nmake: *** [x] Error 1\n', 'mm/a.c:1:2: error: bad'),
                ('ld: mm/a.o: undefined reference to `b\'\nmake: *** x\n', "ld: mm/a.o: undefined reference to `b'"),
                ('ERROR: modpost: x\n', 'ERROR: modpost: x'),
                ('a\nmake: *** No rule to make target b\nmore\n', 'make: *** No rule to make target b'),
                ('a\nb\n', 'b'), ('', 'no output')):
            self.assertEqual(build.first_error(log, Path('/x/k')), line)

    def test_warning_forms(self):
        log = """\
  CC      mm/a.o
../../../linux/mm/a.c: In function 'f':
../../../linux/mm/a.c:12:7: warning: unused variable 'x' [-Wunused-variable]
   12 |   int x;
/x/linux/mm/b.c:3: warning: Function parameter or member 'a' not described in 'g'
mm/c.o: warning: objtool: f+0x12: unreachable instruction
WARNING: modpost: vmlinux.o: section mismatch in reference: f (section: .text+0x10) -> g
ld: warning: mm/d.o: missing .note.GNU-stack section implies executable stack
ld: mm/e.o: warning: relocation against `x'
/x/linux/mm/f.c:5:9: warning: context imbalance in 'f' - wrong count at exit
mm/Kconfig:10:warning: leading whitespace ignored
/x/linux/mm/Makefile:7: warning: overriding recipe for target 'x'
../../../linux/mm/a.c:13:7: error: bad
"""
        self.assertEqual(warn.warnings(log, '/x/linux'), {
            ('mm/a.c', "unused variable 'x' [-Wunused-variable]"),
            ('mm/b.c', "Function parameter or member 'a' not described in 'g'"),
            ('mm/c.o', 'objtool: f: unreachable instruction'),
            ('', 'modpost: vmlinux.o: section mismatch in reference: f (section: .text) -> g'),
            ('', 'mm/d.o: missing .note.GNU-stack section implies executable stack'),
            ('mm/e.o', "relocation against `x'"),
            ('mm/f.c', "context imbalance in 'f' - wrong count at exit"),
            ('mm/Kconfig', 'leading whitespace ignored'),
            ('mm/Makefile', "overriding recipe for target 'x'"),
        })

    def test_moved_warning_is_the_same(self):
        a = warn.warnings('/x/k/mm/a.c:12:7: warning: w, first use at mm/a.c:10:2\n', '/x/k')
        b = warn.warnings('../../k/mm/a.c:99:1: warning: w, first use at mm/a.c:80:2\n', '/y/k')
        self.assertEqual(a, b)
        self.assertTrue(a)

    def test_static(self):
        with tempfile.NamedTemporaryFile() as f:
            f.write(b'#!/bin/sh\n')
            f.flush()
            self.assertTrue(build.is_static(f.name))
        self.assertFalse(build.is_static('/bin/sh'))


class Packages(unittest.TestCase):
    """deps.sh with fake dpkg-query, apt-get, id and sudo."""

    def setUp(self):
        self.tmp = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.tmp)
        (self.tmp / 'list').write_text('# head\none  # why\ntwo\n')
        for name in ('dirname', 'sed', 'grep', 'mktemp', 'rm', 'tail', 'env', 'cat', 'bash'):
            (self.tmp / name).symlink_to(shutil.which(name))
        self.program('id', 'echo 0')
        self.program('dpkg-query', r'printf "ii one\nun two\n"')
        self.program('apt-get', 'echo "$*" >> "$T/calls"; [ -z "$BROKEN" ] || { echo E: broken; exit 100; }')

    def program(self, name, text):
        path = self.tmp / name
        path.write_text(f'#!{shutil.which("bash")}\n{text}\n')
        path.chmod(0o755)

    def deps(self, **env):
        done = subprocess.run([shutil.which('bash'), common.ROOT / 'rig/deps.sh'], text=True,
                              capture_output=True, stdin=subprocess.DEVNULL,
                              env={'PATH': str(self.tmp), 'T': str(self.tmp),
                                   'PACKAGES': str(self.tmp / 'list'), **env})
        calls = self.tmp / 'calls'
        return done.returncode, done.stderr.strip(), calls.read_text() if calls.exists() else ''

    def test_installs_what_is_missing(self):
        status, err, calls = self.deps()
        self.assertEqual((status, err), (0, ''))
        self.assertRegex(calls, r'update\n.* install --no-install-recommends two\n$')

    def test_nothing_missing_runs_nothing(self):
        self.program('dpkg-query', r'printf "ii one\nhi two\n"')
        self.assertEqual(self.deps(), (0, '', ''))

    def test_skip(self):
        self.assertEqual(self.deps(SKIP_DEPS='1'), (0, '', ''))

    def test_apt_fails(self):
        status, err, _ = self.deps(BROKEN='1')
        self.assertEqual((status, err), (1, 'mm-lockstep: apt-get update: E: broken'))

    def test_neither_root_nor_sudo(self):
        self.program('id', 'echo 1000')
        status, err, calls = self.deps()
        self.assertEqual((status, calls), (1, ''))
        self.assertRegex(err, '^mm-lockstep: missing packages: two; neither root nor sudo.*SKIP_DEPS=1$')

    def test_sudo_refuses(self):
        self.program('id', 'echo 1000')
        self.program('sudo', 'exit 1')
        status, err, calls = self.deps()
        self.assertEqual((status, calls), (1, ''))
        self.assertRegex(err, 'missing packages: two; sudo refuses.*SKIP_DEPS=1')

    def test_no_apt(self):
        (self.tmp / 'apt-get').unlink()
        status, err, _ = self.deps()
        self.assertEqual(status, 1)
        self.assertRegex(err, '^mm-lockstep: no apt-get here.*one two.*SKIP_DEPS=1$')

    def test_every_package_has_a_reason(self):
        for line in (common.ROOT / 'rig/packages.txt').read_text().splitlines():
            self.assertRegex(line, r'^#|^[a-z0-9.+-]+ +# \S')


if __name__ == '__main__':
    unittest.main()
