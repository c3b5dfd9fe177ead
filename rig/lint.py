# SPDX-License-Identifier: GPL-2.0
"""make lint: what can be said about the patches and the rig without building anything."""
import concurrent.futures
import email
import email.policy
import functools
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import build, common

AUTHOR = '{GIT_AUTHOR_NAME} <{GIT_AUTHOR_EMAIL}>'.format(**common.IDENT)
WIDTH = 75
FORBIDDEN = re.compile(r'(Signed-off-by|Reviewed-by|Tested-by|Acked-by|Reported-by|Co-developed-by'
                       r'|Suggested-by):', re.I)
TAG = re.compile(r'(Fixes|Link|Closes|Cc|Selftest|No selftest|Depends-on): ?')
SELFTEST = re.compile(r'Selftest: (?P<path>[\w./-]+)#(?P<test>[\w.-]+)$')
WHY_NONE = re.compile(r'No selftest: \S.{9,}$')

# What checkpatch says and we accept, each with its reason.
ACCEPT = (
    # MAINTAINERS has one entry for a folder, in a patch of its own; checkpatch warns
    # about every new file and cannot see the entry.
    r'WARNING:FILE_PATH_CHANGES: ',
    # The kernel's own names for page flags. checkpatch knows them without the __.
    r'CHECK:CAMELCASE: Avoid CamelCase: <__(Set|Clear)Page[A-Z]\w*>$',
    # A verifier prints raw pointers as dump_page() does: for root, under DEBUG_VM, and
    # useless when hashed.
    r'WARNING:VSPRINTF_SPECIFIER_PX: ',
)

# Debian's python3 first: spdxcheck.py, which checkpatch runs, needs Debian's modules.
PATH = '/usr/bin:/bin:{}'

# Folders of the machines this was written on. Split, so that this file passes.
MACHINE = re.compile(r'(?<![\w.$}])/(?:wo' r'rk/(?:main|shared)|tmp/' r'w/|ro' r'ot/)')

# What checkpatch and kernel-doc need of a kernel when linux/ was not made yet.
KERNEL_PARTS = ('COPYING', 'CREDITS', 'Kbuild', 'Kconfig', 'MAINTAINERS', 'Makefile', 'README',
                'include', 'scripts', 'mm')
KERNEL_FOLDERS = ('Documentation', 'arch', 'drivers', 'fs', 'init', 'ipc', 'kernel', 'lib')


class Mail:
    """One patch file: subject, author, body (list of (line number, line)), touched paths."""

    def __init__(self, path):
        self.path = Path(path)
        self.text = self.path.read_text(encoding='utf-8', errors='replace')
        self.head = email.message_from_string(self.text, policy=email.policy.default)
        lines = self.text.splitlines()
        blank = lines.index('') if '' in lines else len(lines)
        numbered = list(enumerate(lines, 1))
        end = next((n for n, line in numbered[blank:] if line == '---'), len(lines) + 1)
        self.has_end = end <= len(lines)
        self.body = [(n, line) for n, line in numbered[blank + 1:] if n < end]
        self.touched, self.added = self._diff(lines[end - 1:])

    @staticmethod
    def _diff(lines):
        """The paths that the diff touches, and {path: text that it adds there}."""
        touched, added, path = [], {}, None
        for line in lines:
            found = re.match(r'diff --git a/(\S+) b/(\S+)$', line)
            if found:
                path = found[2]
                touched.append(path)
            elif path and line.startswith('+') and not line.startswith('+++ '):
                added[path] = added.get(path, '') + line[1:] + '\n'
        return touched, added

    def line_of(self, header):
        """The number of a header's line, 1 when it is not there."""
        for number, line in enumerate(self.text.splitlines(), 1):
            if line.startswith(header + ':'):
                return number
            if not line:
                break
        return 1


def shown(path):
    """A path as a finding names it: relative to the repository."""
    path = Path(path)
    return str(path.relative_to(common.ROOT) if path.is_relative_to(common.ROOT) else path)


def tracked(*patterns):
    """Files of the repository (tracked, or new and not ignored) that match."""
    listed = common.git('ls-files', '-co', '--exclude-standard', '--', *patterns, cwd=common.ROOT)
    return [common.ROOT / name for name in listed.splitlines() if (common.ROOT / name).is_file()]


def read_series():
    """The series file: (list of patch paths that exist, findings)."""
    series = common.PATCHES / 'series'
    if not series.is_file():
        return [], [f'{shown(series)}:1: not there']
    paths, found, seen = [], [], {}
    for number, line in enumerate(series.read_text().splitlines(), 1):
        name = line.strip()
        if not name or name.startswith('#'):
            continue
        path = common.PATCHES / name
        if name in seen:
            found.append(f'{shown(series)}:{number}: {name} stands on line {seen[name]} too')
        elif not re.fullmatch(r'[a-z0-9_]+/[a-zA-Z0-9._-]+\.patch', name):
            found.append(f'{shown(series)}:{number}: not topic/name.patch: {name}')
        elif not path.is_file():
            found.append(f'{shown(series)}:{number}: no such file: {name}')
        else:
            paths.append(path)
        seen.setdefault(name, number)
    for path in sorted(common.PATCHES.rglob('*.patch')):
        if str(path.relative_to(common.PATCHES)) not in seen:
            found.append(f'{shown(path)}:1: not in {shown(series)}')
    if not seen:
        found.append(f'{shown(series)}:1: names no patch')
    return paths, found


def mail_format(mail):
    """Findings on one patch's headers and changelog."""
    def at(line, what):
        found.append(f'{shown(mail.path)}:{line}: {what}')
    found = []
    first = mail.text.split('\n', 1)[0]
    if not re.fullmatch(r'From [0-9a-f]{40} Mon Sep 17 00:00:00 2001', first):
        at(1, 'first line is not that of git format-patch')
    author = str(mail.head['From'] or '')
    if author != AUTHOR:
        at(mail.line_of('From'), f'author is {author or "not there"}, must be {AUTHOR}')
    date = mail.head['Date']
    if date is None or getattr(date, 'datetime', None) is None:
        at(mail.line_of('Date'), 'no Date that can be read')
    where, subject = mail.line_of('Subject'), str(mail.head['Subject'] or '')
    tag, _, rest = subject.partition('] ')
    if tag != '[PATCH':
        at(where, f'subject does not start with "[PATCH] ": {subject}')
        rest = rest or subject
    if not re.match(r'[\w./-]+(, [\w./-]+)*: \S', rest):
        at(where, f'subject has no "file: " in front: {rest}')
    if len(rest) > WIDTH:
        at(where, f'subject has {len(rest)} characters, at most {WIDTH}')
    if rest.endswith('.'):
        at(where, 'subject ends in a full stop')
    if not mail.has_end:
        at(1, 'no --- line after the changelog')
    if not mail.touched:
        at(1, 'no diff in it')
    if not any(line.strip() and not TAG.match(line) for _, line in mail.body):
        at(where, 'no changelog')
    for number, line in mail.body:
        if FORBIDDEN.match(line.strip()):
            at(number, f'{line.split(":")[0].strip()}: only who submits the patch can add that')
        # quoted output is indented or starts with >; a lone long word (a URL) cannot be wrapped
        elif (len(line.expandtabs()) > WIDTH and not re.match(r'[\s>]', line)
              and not TAG.match(line) and ' ' in line.strip()):
            at(number, f'changelog line has {len(line.expandtabs())} columns, at most {WIDTH}')
    return found


def selftest_trailer(mail, added):
    """Findings on a patch's Selftest trailer; added: {path: text} of the series."""
    found, good = [], 0
    for number, line in mail.body:
        where = f'{shown(mail.path)}:{number}'
        if line.startswith('Selftest:'):
            match = SELFTEST.match(line)
            if not match:
                found.append(f'{where}: not "Selftest: path#test": {line}')
            elif match['path'] not in added:
                found.append(f'{where}: {match["path"]} is added by no patch of the series')
            elif not all(re.search(rf'\b{re.escape(part)}\b', added[match['path']])
                         for part in match['test'].split('.')):
                found.append(f'{where}: no test {match["test"]} in {match["path"]}')
            good += 1
        elif line.startswith('No selftest:'):
            if not WHY_NONE.match(line):
                found.append(f'{where}: no reason after "No selftest:"')
            good += 1
    if not good:
        found.append(f'{shown(mail.path)}:{mail.line_of("Subject")}: neither a trailer '
                     '"Selftest: path#test" nor a line "No selftest: reason"')
    return found


@functools.cache
def kernel_scripts():
    """A kernel folder whose scripts/ and include/ serve checkpatch and kernel-doc: linux/,
    or those parts of the base, taken from the cached repository once."""
    if (common.LINUX / 'scripts/checkpatch.pl').is_file():
        return common.LINUX
    parts = common.OUT / 'lint' / 'kernel'
    base = common.base()['base_tree']
    if parts.is_dir() and (parts / '.base').is_file() and (parts / '.base').read_text() == base:
        return parts
    from . import fetch
    repo = fetch.base_repo()
    parts.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parts.parent) as tmp:
        tar = Path(tmp, 'parts.tar')
        common.git('archive', '-o', str(tar), 'base', *KERNEL_PARTS, cwd=repo)
        root = Path(tmp, 'kernel')
        for folder in ('', *KERNEL_FOLDERS):
            (root / folder).mkdir()
        common.run(['tar', '-xf', tar, '-C', root])
        common.write(root / '.base', base)
        if parts.exists():
            shutil.rmtree(parts)
        os.rename(root, parts)
    return parts


def tool(cmd, cwd=None):
    """A checker's (exit status, output); its absence is a Fail, not a pass."""
    try:
        done = subprocess.run([str(c) for c in cmd], cwd=cwd, capture_output=True, text=True,
                              errors='replace', stdin=subprocess.DEVNULL,
                              env={**os.environ, 'LC_ALL': 'C.UTF-8', 'PATH': PATH.format(
                                  os.environ.get('PATH', ''))})
    except FileNotFoundError:
        raise common.Fail(f'{cmd[0]} is not installed: run rig/deps.sh') from None
    return done.returncode, done.stdout + done.stderr


def checkpatch(path):
    """Findings of checkpatch.pl --strict on one patch."""
    kernel = kernel_scripts()
    status, out = tool(['perl', kernel / 'scripts/checkpatch.pl', '--strict', '--no-signoff',
                        '--terse', '--show-types', '--no-summary', '--color=never',
                        path], cwd=kernel)
    found, accept = [], re.compile('|'.join(ACCEPT))
    for line in out.splitlines():
        match = re.match(r'(?P<file>.+?):(?P<line>\d+): (?P<what>(?:ERROR|WARNING|CHECK):.*)$', line)
        if match:
            if not accept.match(match['what']):
                found.append(f'{shown(path)}:{match["line"]}: checkpatch {match["what"]}')
        elif line.strip() and not line.startswith('No typos will be found'):
            # what it says about itself (perl errors, missing word lists) is not a clean run
            found.append(f'{shown(path)}:1: checkpatch: {line.strip()}')
    if status and not out.strip():
        found.append(f'{shown(path)}:1: checkpatch ended with {status} and said nothing')
    return found


def kernel_doc(path):
    """Findings of kernel-doc on one source file."""
    status, out = tool(['perl', kernel_scripts() / 'scripts/kernel-doc', '-none', '-Werror', path],
                       cwd=common.ROOT)
    found = []
    for line in out.splitlines():
        match = re.match(r'(?P<file>.+?):(?P<line>\d+): (?P<what>.*)$', line)
        if match:
            found.append(f'{shown(path)}:{match["line"]}: kernel-doc {match["what"]}')
    if status and not found:
        found.append(f'{shown(path)}:1: kernel-doc: {out.strip() or status}')
    return found


def shell_scripts():
    """Every shell script of the repository."""
    return [path for path in tracked()
            if path.suffix == '.sh' or re.match(rb'#! ?/(usr/)?bin/(env )?(ba|da)?sh\b',
                                                path.read_bytes()[:64])]


def shellcheck(paths):
    """Findings of shellcheck."""
    if not paths:
        return []
    status, out = tool(['shellcheck', '-x', '-f', 'gcc', *paths], cwd=common.ROOT)
    found = [f'{shown(common.ROOT / line.split(":")[0])}:{line.split(":", 1)[1]}'
             for line in out.splitlines() if re.match(r'[^:]+:\d+:', line)]
    if status and not found:
        found.append(f'shellcheck:1: {out.strip() or status}')
    return found


def python(paths):
    """Findings of the compiler and of pyflakes."""
    found = []
    for path in paths:
        try:
            compile(path.read_bytes(), str(path), 'exec', dont_inherit=True)
        except SyntaxError as e:
            found.append(f'{shown(path)}:{e.lineno or 1}: {e.msg}')
    if found or not paths:
        return found
    status, out = tool(['pyflakes3', *paths], cwd=common.ROOT)
    found = [f'{shown(path)}:{line}' for path, _, line in
             (text.partition(':') for text in out.splitlines()) if line]
    if status and not found:
        found.append(f'pyflakes3:1: {out.strip() or status}')
    return found


# docutils, run by Debian's python3: a developer's own may lack it. Sphinx's roles and
# directives are none of docutils', so what it says of those is left out.
RST = """
import sys
from docutils.core import publish_doctree
for path in sys.argv[1:]:
    publish_doctree(open(path, encoding='utf-8').read(), source_path=path, settings_overrides={
        'report_level': 2, 'halt_level': 5, 'file_insertion_enabled': False})
"""
SPHINX = re.compile(r'interpreted text role|No role entry|directive type|No directive entry|'
                    r'role "|directive "')


def rst(paths):
    """Findings of docutils on documents."""
    if not paths:
        return []
    status, out = tool(['/usr/bin/python3', '-c', RST, *paths], cwd=common.ROOT)
    found = [f'{shown(common.ROOT / match[1])}:{match[2]}: {match[3]}' for match in
             re.finditer(r'^(\S+?):(\d+): (\((?:WARNING|ERROR|SEVERE)/\d\) .*)$', out, re.M)
             if not SPHINX.search(match[3])]
    if status and not found:
        found.append(f'docutils:1: {(out.strip().splitlines() or [status])[-1]}')
    return found


def config_fragment(path):
    """Findings on one Kconfig fragment: its syntax, and no symbol with two values."""
    found, seen = [], {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = build.REQUEST.match(line)
        if match:
            symbol, value = match[1] or match[3], match[2] or 'n'
            if seen.setdefault(symbol, value) != value:
                found.append(f'{shown(path)}:{number}: {symbol}={value}, and {seen[symbol]} above')
        elif line and (not line.startswith('#') or line.startswith('# CONFIG_')):
            found.append(f'{shown(path)}:{number}: neither CONFIG_X=value nor '
                         f'"# CONFIG_X is not set": {line}')
    return found


def mirror_hosts(folder='/etc/apt'):
    """The host names in the machine's apt sources."""
    hosts = set()
    for path in [Path(folder, 'sources.list'), *Path(folder).glob('sources.list.d/*')]:
        if path.is_file():
            hosts.update(re.findall(r'\w+://(?:[^/@\s]+@)?([\w.-]+)', path.read_text(errors='replace')))
    return {h for h in hosts if '.' in h}


def machine_names(paths, hosts):
    """Findings of folders and mirrors of the machine this was written on."""
    host = re.compile('|'.join(rf'(?<![\w.-]){re.escape(h)}(?![\w-])' for h in hosts) or r'(?!)')
    found = []
    for path in paths:
        data = path.read_bytes()
        if b'\0' in data:
            continue
        for number, line in enumerate(data.decode(errors='replace').splitlines(), 1):
            match = MACHINE.search(line) or host.search(line)
            if match:
                found.append(f'{shown(path)}:{number}: names something of one machine: {match[0]}')
    return found


def findings_by_check(counts=None):
    """Every check and its findings, {name: ['file:line: what', ...]}. counts: a dict that
    gets the number of things each check looked at."""
    counts = {} if counts is None else counts
    paths, series = read_series()
    mails = [Mail(path) for path in paths]
    added, trailers = {}, []
    # A test follows what it tests: it may be added by a later patch.
    for mail in mails:
        for path, text in mail.added.items():
            added[path] = added.get(path, '') + text
    for mail in mails:
        trailers += selftest_trailer(mail, added)
    sources = tracked('mm/*.[ch]', 'include/*.h')
    scripts, modules = shell_scripts(), tracked('*.py')
    documents = tracked('Documentation/*.rst')
    configs = sorted((common.ROOT / 'configs').rglob('*.config'))
    everything = tracked()

    # checkpatch is a process a patch and takes nearly all the time.
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        checked = pool.map(checkpatch, [m.path for m in mails]) if mails and kernel_scripts() else []
        docs = pool.map(kernel_doc, sources) if sources and kernel_scripts() else []
        found = {
            'series file': series,
            'mail format': [f for mail in mails for f in mail_format(mail)],
            'selftest trailer': trailers,
            'checkpatch': [f for part in checked for f in part],
            'kernel-doc': [f for part in docs for f in part],
            'shellcheck': shellcheck(scripts),
            'python': python(modules),
            'documents': rst(documents),
            'configs': [f for path in configs for f in config_fragment(path)],
            'machine names': machine_names(everything, mirror_hosts()),
        }
    counts.update(zip(found, (1, len(mails), len(mails), len(mails), len(sources), len(scripts),
                              len(modules), len(documents), len(configs), len(everything))))
    return found


def main():
    """make lint: a line a finding, a table, exit 1 when there is any finding."""
    counts = {}
    found = findings_by_check(counts)
    for lines in found.values():
        for line in lines:
            common.say(line)
    for name, lines in found.items():
        common.say(f'  {name:<18}{counts[name]:>5} checked {len(lines):>5} findings')
    total = sum(map(len, found.values()))
    common.say(f'lint: {total} findings')
    return 1 if total else 0
