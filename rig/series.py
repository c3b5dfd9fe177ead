# SPDX-License-Identifier: GPL-2.0
"""The series as it lies in patches/: the order file and the patches' heads."""
import dataclasses
import email.header
import email.parser
import re
from pathlib import Path

from . import common

TOPICS = {
    'verify': 'verifiers that audit the pairs below, from debugfs',
    'load': 'the swapping load, as a kselftest',
    'page_alloc': "a free page and the free list of its pageblock's migratetype",
    'memcontrol': "a folio's memcg and the statistics charged to it",
    'rmap': 'a page-table entry, the TLB, the mapcount and the anon_vma behind it',
    'vmscan': "PG_lru, the lruvec lock and the lruvec of the folio's memcg",
    'mmap': 'a VMA, its maple-tree entry and the rmap trees it hangs in',
}
LINE = re.compile(r'([a-z0-9_]+)/([A-Za-z0-9][A-Za-z0-9._+-]*)\.patch')


@dataclasses.dataclass(frozen=True)
class Patch:
    """One patch; .id is topic/name, .subject has no [PATCH] in front."""
    topic: str
    name: str
    path: Path
    subject: str

    @property
    def id(self):
        return f'{self.topic}/{self.name}'


def entries(folder=None):
    """The order file's (topic, name), checked; no order file and no patch is an empty series."""
    folder = Path(folder or common.PATCHES)
    order = folder / 'series'
    if not order.is_file():
        if any(folder.glob('*/*.patch')):
            raise common.Fail(f'{order}: missing, but there are patches: restore it with git')
        return []
    found = []
    for n, line in enumerate(order.read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith('#'):
            continue
        match = LINE.fullmatch(line)
        if not match:
            raise common.Fail(f'{order}:{n}: not topic/name.patch: {line!r}')
        if match.groups() in found:
            raise common.Fail(f'{order}:{n}: {line} stands there twice')
        if not (folder / line).is_file():
            raise common.Fail(f'{order}:{n}: no file {line}')
        found.append(match.groups())
    return found


def subject(text):
    """The subject of a mail's text, unfolded and decoded, without [PATCH ...]."""
    raw = email.parser.HeaderParser().parsestr(text.partition('\n\n')[0] + '\n\n')['Subject'] or ''
    raw = re.sub(r'\r?\n[ \t]', ' ', raw)
    whole = str(email.header.make_header(email.header.decode_header(raw)))
    return re.sub(r'^\[PATCH[^]]*\]\s*', '', whole)


def series(folder=None):
    """list[Patch] in order."""
    folder = Path(folder or common.PATCHES)
    found = []
    for topic, name in entries(folder):
        path = folder / topic / f'{name}.patch'
        found.append(Patch(topic, name, path, subject(path.read_text(errors='replace'))))
    return found


def touched(patches):
    """{path: blob id before the series} of every file that the patches change
    and that the base has; read from the `index old..new` lines."""
    first = {}
    for path, old, _ in changes(patches):
        first.setdefault(path, old)
    return {path: blob for path, blob in first.items() if blob.strip('0')}


def results(patches):
    """{path: blob id after the series} of every file that the patches leave changed."""
    last = {path: new for path, _, new in changes(patches)}
    return {path: blob for path, blob in last.items() if blob.strip('0')}


def changes(patches):
    """(path, old blob id, new blob id) of every file of every patch, in order."""
    for patch in patches:
        path = None
        for line in patch.path.read_text(errors='replace').splitlines():
            match = re.fullmatch(r'diff --git a/(.+) b/\1', line)
            if match:
                path = match[1]
                continue
            match = path and re.match(r'index ([0-9a-f]{40})\.\.([0-9a-f]{40})', line)
            if match:
                yield path, match[1], match[2]
                path = None


def added(texts):
    """Paths of the files that these patches' texts create."""
    return {path for text in texts
            for path in re.findall(r'^diff --git a/(.+) b/\1\nnew file mode', text, re.M)}


def order(ids, old=''):
    """The order file's text for these (topic, name): comments of the old text are kept,
    each before the patch it stood before; a topic's first patch has `# topic: ...`."""
    head, topics, before, pending = [], {}, {}, []
    lines = old.splitlines()
    for line in lines:
        match = LINE.fullmatch(line.strip())
        topic = re.match(r'# topic: (\w+)', line)
        if match:
            if pending:
                before[match.groups()] = pending
            pending = []
        elif topic:
            if not topics and not before:
                head, pending = pending, []
            topics[topic[1]] = line
        elif line.startswith('#'):
            pending.append(line)
    if not topics and not before:
        head, pending = pending, []
    out = head or [f'# Patches on {common.base()["release"]}, in order; written by `make export`.']
    seen = set()
    for topic, name in ids:
        if topic not in seen:
            seen.add(topic)
            what = TOPICS.get(topic)
            out += ['', topics.get(topic) or f'# topic: {topic}{": " + what if what else ""}']
        out += [*before.get((topic, name), []), f'{topic}/{name}.patch']
    return '\n'.join([*out, *pending]) + '\n'
