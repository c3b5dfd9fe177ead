# SPDX-License-Identifier: GPL-2.0
"""The machines that a kernel is built for, and the guest's machines among them."""
import shutil
import subprocess
from dataclasses import dataclass

from . import common


@dataclass(frozen=True)
class Arch:
    """A machine as kbuild knows it. prefix: of the compiler's name. The rest is for one that
    has a guest: image, the make target that is booted, and path, where it comes out; QEMU's
    program, the Debian package it is in, the machine, and the CPU that is emulated; the
    console's words on the kernel command line; where the results go in the guest, and QEMU's
    arguments for that port, with {} for the file."""
    name: str
    arch: str
    prefix: str = ''
    image: str = ''
    path: str = ''
    qemu: str = ''
    package: str = ''
    machine: str = ''
    cpu: str = ''
    console: str = ''
    results: str = ''
    port: tuple = ()
    elf: int = 0

    @property
    def uapi(self):
        """The folder under arch/ that it lives in."""
        return 'x86' if self.arch in ('x86_64', 'i386') else self.arch

    @property
    def compiler(self):
        """The name of its gcc."""
        return f'{self.prefix}gcc'

    def variables(self):
        """What make is given besides."""
        found = {'CC': f'ccache {self.compiler}'}
        return {'ARCH': self.arch, 'CROSS_COMPILE': self.prefix, **found} if self != NATIVE else found


NATIVE = Arch(
    'x86_64', 'x86_64', '', 'bzImage', 'arch/x86/boot/bzImage', 'qemu-system-x86_64',
    'qemu-system-x86', 'pc', 'max', 'console=ttyS0,115200 earlyprintk=serial,ttyS0,115200',
    '/dev/ttyS1', ('-serial', 'file:{}'), 62)
GUESTS = {a.name: a for a in (
    NATIVE,
    # The machine has one serial port, the results go through a second on PCI. Emulating
    # pointer authentication as real CPUs do it would cost half of the time.
    Arch('arm64', 'arm64', 'aarch64-linux-gnu-', 'Image', 'arch/arm64/boot/Image',
         'qemu-system-aarch64', 'qemu-system-arm', 'virt', 'max,pauth-impdef=on',
         'console=ttyAMA0 earlycon', '/dev/ttyS0',
         ('-chardev', 'file,id=results,path={}', '-device', 'pci-serial,chardev=results'), 183))}


def guest():
    """The machine that ARCH= names for the guest; x86_64 when it names none."""
    name = common.setting('ARCH', NATIVE.name)
    if name not in GUESTS:
        raise common.Fail(f'ARCH={name}: no guest of that kind; known: {", ".join(GUESTS)}')
    return GUESTS[name]


def version(arch=NATIVE):
    """The version line of its compiler."""
    if not shutil.which(arch.compiler):
        raise common.Fail(f'{arch.compiler} is not installed: run rig/deps.sh'
                          + ('' if arch == NATIVE else ' with PACKAGES=rig/packages-cross.txt'))
    return subprocess.run([arch.compiler, '--version'], capture_output=True, text=True,
                          check=True).stdout.splitlines()[0]
