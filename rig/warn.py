# SPDX-License-Identifier: GPL-2.0
"""Warnings in build logs, in a form that can be compared before and after a patch."""
import os
import re

# gcc, as, sparse: file:line[:col]: warning: text [-Woption]
PLACED = re.compile(r'^(?P<file>[^\s:]+):(?:\d+:)*\s*(?P<kind>warning|error): (?P<text>.*)$')
# kernel-doc of 6.1 prints its own warnings in the same form; objtool and modpost do not:
OBJTOOL = re.compile(r'^(?P<file>\S+\.o): warning: objtool: (?P<text>.*)$')
MODPOST = re.compile(r'^(?P<kind>WARNING|ERROR): modpost: (?P<text>.*)$')
LINKER = re.compile(r'^(?:ld|\S*/ld): (?:(?P<file>\S+\.[oa]): )?warning: (?P<text>.*)$')
KCONFIG = re.compile(r'^(?P<file>[^\s:]*Kconfig\S*):\d+:warning: (?P<text>.*)$')
MAKE = re.compile(r'^(?P<file>\S*Makefile\S*):\d+: (?:warning: )?(?P<text>(?:overriding|ignoring) .*)$')


def relative(line, src):
    """A line of a log with the paths into src relative to it."""
    line = line.strip().replace(f'{os.path.normpath(src)}/', '')
    # the build folder's way to the source, as ccache writes it; src's own name ends it
    return re.sub(rf'(?:\.\./)+(?:[^\s:]*/)?{re.escape(os.path.basename(src))}/', '', line)


def _steady(text):
    """Text without what moves when unrelated lines move: line numbers, offsets, addresses."""
    text = re.sub(r'\+0x[0-9a-f]+(/0x[0-9a-f]+)?', '', text)
    text = re.sub(r'0x[0-9a-f]+', '0x', text)
    return re.sub(r'(?<=[\w.]):\d+(:\d+)?', '', text).strip()


def warnings(log_text, src):
    """The warnings in a build log: a set of (file, text). gcc, as, ld, sparse, kernel-doc,
    objtool, modpost and Kconfig forms; paths relative to src, line numbers taken out."""
    found = set()
    for line in log_text.splitlines():
        line = relative(line, src)
        for form in (OBJTOOL, MODPOST, LINKER, KCONFIG, MAKE, PLACED):
            match = form.match(line)
            if match:
                got = match.groupdict()
                if got.get('kind') == 'error':
                    break
                kind = 'objtool: ' if form is OBJTOOL else 'modpost: ' if form is MODPOST else ''
                found.add((got.get('file') or '', kind + _steady(got['text'])))
                break
    return found
