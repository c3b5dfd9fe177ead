# SPDX-License-Identifier: GPL-2.0
"""An SVG of a load's samples, by gnuplot: memory, swap, LRU lists, groups, PSI, progress."""
import shutil
import tempfile
from pathlib import Path

from . import common

MB, PAGE = 1 / 1024, 4 / 1024
# (title, axis, [(label, column, factor)], also the rate of growth); a column that was not
# sampled is left out.
PANES = (
    ('memory', 'MB', [('free', 'MemFree', MB), ('available', 'MemAvailable', MB),
                      ('cached', 'Cached', MB), ('shmem', 'Shmem', MB), ('anon', 'Anon', MB),
                      ('dirty', 'Dirty', MB), ('KSM sharing', 'ksm_sharing', PAGE)], False),
    ('swap in and out', 'MB/s', [('in', 'pswpin', PAGE), ('out', 'pswpout', PAGE)], True),
    ('swap left', 'MB', [('free', 'SwapFree', MB)], False),
    ('LRU lists', 'MB', [(name.replace('_', ' '), name, MB) for name in
                         ('active_anon', 'inactive_anon', 'active_file', 'inactive_file',
                          'unevictable')], False),
    ('groups', 'MB', [(f'{name[-1] if name[-2] == "_" else name[6] + " swap"}', name, 1 / (1 << 20))
                      for name in ('group_a', 'group_b', 'group_a_swap', 'group_b_swap')], False),
    ('PSI, 10 s average', '%', [('memory some', 'psi_mem_some', 1), ('memory full', 'psi_mem_full', 1),
                                ('io full', 'psi_io_full', 1)], False),
    ('found', 'number', [('violations', 'verify_violations', 1), ('OOM kills', 'oom_kill', 1)], False),
    ('done', 'number', [('objects compared', 'objects_compared', 1)], False),
)


def read(path):
    """samples.tsv as {column: [float or None]}; lines that are cut off are left out. Fail
    when there is no sample."""
    try:
        lines = Path(path).read_text(errors='replace').splitlines()
    except OSError as e:
        raise common.Fail(f'{path}: {e.strerror}') from None
    header = lines[0].split('\t') if lines else []
    rows = [line.split('\t') for line in lines[1:]]
    rows = [row for row in rows if len(row) == len(header)]
    if not rows or header[0] != 'seconds':
        raise common.Fail(f'{path}: no samples in it')

    def number(text):
        try:
            return float(text)
        except ValueError:
            return None
    return {name: [number(row[n]) for row in rows] for n, name in enumerate(header)}


def rate(seconds, values):
    """The growth a second between neighbours; None where it is not known."""
    found = [None]
    for n in range(1, len(values)):
        step = (seconds[n] or 0) - (seconds[n - 1] or 0)
        known = step > 0 and None not in (values[n], values[n - 1])
        found.append((values[n] - values[n - 1]) / step if known else None)
    return found


def panes(samples):
    """[(title, axis, [(label, values)])] of what was sampled and is not all zero or unknown."""
    found = []
    for title, axis, curves, growing in PANES:
        drawn = []
        for label, column, factor in curves:
            values = samples.get(column, [])
            if growing and values:
                values = rate(samples['seconds'], values)
            if any(values):
                drawn.append((label, [None if v is None else v * factor for v in values]))
        if drawn:
            found.append((title, axis, drawn))
    return found


def script(drawn, dest, data, title):
    """gnuplot's script; column 1 of `data` is the second, then every curve in order."""
    def quote(text):
        return '"' + str(text).replace('\\', '\\\\').replace('"', '\\"') + '"'
    lines = [f'set terminal svg size 1000,{180 * len(drawn) + 40} dynamic font "sans,11" '
             'background "white"', f'set output {quote(dest)}', 'set datafile missing "?"',
             'set grid', 'set key outside right top vertical maxcols 1 spacing 0.8', 'set rmargin 24', 'set lmargin 10',
             'set yrange [0:*]', 'set encoding utf8',
             f'set multiplot layout {len(drawn)},1 title {quote(title)} noenhanced']
    column = 2
    for number, (name, axis, curves) in enumerate(drawn, 1):
        lines += [f'set title {quote(name)} noenhanced offset 0,-0.6', f'set ylabel {quote(axis)}']
        if number == len(drawn):
            lines.append('set xlabel "seconds of the load"')
        parts = []
        for label, _ in curves:
            parts.append(f'{quote(data)} using 1:{column} with lines lw 1.4 title {quote(label)} noenhanced')
            column += 1
        lines.append('plot ' + ', '.join(parts))
    return '\n'.join([*lines, 'unset multiplot', ''])


def svg(samples_path, dest, title):
    """Draw samples.tsv to the SVG file `dest`, whole or not at all. Returns dest. Fail:
    no samples, no gnuplot, gnuplot's first error."""
    gnuplot = shutil.which('gnuplot')
    if not gnuplot:
        raise common.Fail('gnuplot is missing: apt-get install gnuplot-nox')
    samples = read(samples_path)
    drawn = panes(samples)
    if not drawn:
        raise common.Fail(f'{samples_path}: nothing but zeros')
    curves = [values for _, _, part in drawn for _, values in part]
    with tempfile.TemporaryDirectory() as tmp:
        data, made = Path(tmp) / 'data', Path(tmp) / 'out.svg'
        data.write_text(''.join(
            ' '.join('?' if v is None else f'{v:.6g}' for v in row) + '\n'
            for row in zip(samples['seconds'], *curves)))
        done = common.run([gnuplot, '-'], text_input=script(drawn, made, data, title), check=False)
        text = made.read_bytes() if made.is_file() else b''
        if done.returncode or b'</svg>' not in text:
            raise common.Fail(f'gnuplot: exit {done.returncode}: '
                              f'{(done.stdout.strip().splitlines() or ["no picture"])[-1]}')
    common.write(dest, text)
    return Path(dest)
