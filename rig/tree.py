# SPDX-License-Identifier: GPL-2.0
"""linux/: the base commit and the series on it, as an ordinary git tree to work in."""
import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from . import common, fetch
from .series import Patch, TOPICS, series

NOTES = 'refs/notes/lockstep'       # of each commit: its patch's topic/name
STATE = 'lockstep-tip'              # in .git, last: tip of the last import or export
BUILDING = 'lockstep-building'      # in .git, first: a tree that is not whole
AUTHOR = f'{common.IDENT["GIT_AUTHOR_NAME"]} <{common.IDENT["GIT_AUTHOR_EMAIL"]}>'
QUIET = ('-c', 'core.hooksPath=/dev/null', '-c', 'gc.auto=0', '-c', 'commit.gpgsign=false',
         '-c', 'core.splitIndex=false')
AM = (*QUIET, 'am', '--quiet', '--keep-cr', '--keep-non-patch', '--no-3way', '--no-scissors',
      '--committer-date-is-author-date')
WAIT = 300     # seconds that a second comer waits for the tree lock
_held = []


@contextlib.contextmanager
def locked():
    """The lock out/tree.lock, for everything that reads or writes patches/ and linux/; inside a holder in this process it is a no-op."""
    if _held:
        yield
        return
    with common.lock('tree', wait=WAIT):
        _held.append(1)
        try:
            for kind in ('am', 'export', 'check', 'canary'):    # of a run that was killed
                for old in common.OUT.glob(f'{kind}-????????'):
                    shutil.rmtree(old, ignore_errors=True)
            yield
        finally:
            _held.pop()


def make_tree():
    """make tree: linux/ as base plus series. Fail when that would lose work."""
    with locked():
        begun = time.monotonic()
        what = sync(common.LINUX, series(), guard=True)
        tip = common.git('rev-parse', '--short=12', 'lockstep', cwd=common.LINUX)
        common.say(f'{common.LINUX}: {what}: {len(series())} patches on '
                   f'{common.base()["release"]}, tip {tip} ({time.monotonic() - begun:.1f} s)')


def assemble(dest, base_only=False):
    """The series (or the bare base) as a git tree in the folder `dest`, which nobody edits:
    what was changed there is undone. Files that stay the same keep their mtime. Returns dest."""
    with locked():
        sync(Path(dest), [] if base_only else series(), guard=False)
    return Path(dest)


def series_commits(tree=None):
    """[(commit id, Patch)] of branch lockstep from the base on, in order."""
    tree = Path(tree or common.LINUX)
    return [(commit, Patch(topic, name, common.PATCHES / topic / f'{name}.patch', subject))
            for commit, topic, name, subject in named(tree)]


def fingerprint(patches):
    """sha256 over the base and the patches in order: what a tree was made from."""
    info = common.base()
    total = hashlib.sha256(f'{info["sha256"]} {info["base_tree"]}\n'.encode())
    for patch in patches:
        total.update(f'{patch.id} {fetch.sha256(patch.path)}\n'.encode())
    return total.hexdigest()


# What is there already.

def load(dest):
    """The state recorded in a tree as a dict, or None: never made, or not to be trusted."""
    try:
        found = json.loads((dest / '.git' / STATE).read_text())
        return found if found['tip'] and found['patches'] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(dest, **values):
    """Record the state, whole or not at all."""
    common.write(dest / '.git' / STATE, json.dumps(values) + '\n')


def changes(dest):
    """Paths with changes that are not committed, untracked ones too."""
    out = common.git('status', '--porcelain', '--untracked-files=normal', '--no-renames', cwd=dest)
    return [line.strip().split(' ', 1)[1].strip() for line in out.splitlines()]


def some(paths):
    """A few of the paths and how many more, for a one-line message."""
    return ', '.join(paths[:3]) + (f' and {len(paths) - 3} more' if len(paths) > 3 else '')


def busy(dest):
    """The git operation that is under way in a tree, or None."""
    names = {'rebase-merge': 'rebase', 'rebase-apply': 'rebase or am', 'MERGE_HEAD': 'merge',
             'CHERRY_PICK_HEAD': 'cherry-pick', 'REVERT_HEAD': 'revert', 'BISECT_LOG': 'bisect'}
    for name, what in names.items():
        path = common.git('rev-parse', '--git-path', name, cwd=dest)
        if (Path(dest) / path).exists():
            return what
    return None


def settled(dest, then):
    """Fail unless the tree is clean, at rest and on branch lockstep. `then`: what to do."""
    what = busy(dest)
    if what:
        raise common.Fail(f'{dest}: a {what} is under way: finish or abort it, then {then}')
    head = common.git('symbolic-ref', '-q', 'HEAD', cwd=dest, check=False).stdout.strip()
    if head != 'refs/heads/lockstep':
        raise common.Fail(f'{dest}: HEAD is {head.removeprefix("refs/heads/") or "detached"}, not '
                          f'branch lockstep: git checkout lockstep there, then {then}')
    dirty = changes(dest)
    if dirty:
        raise common.Fail(f'{dest}: changes that are not committed ({some(dirty)}): '
                          f'commit them, then {then}')


def guarded(dest, state):
    """Fail when the tree holds work that patches/ does not."""
    then = 'make export; or DISCARD=1 to throw them away'
    settled(dest, then)
    tip = common.git('rev-parse', 'refs/heads/lockstep', cwd=dest)
    if tip == state['tip']:
        return
    from . import export        # export needs this module
    if export.same_patches(dest):
        save(dest, **{**state, 'tip': tip, 'patches': fingerprint(series())})
        return
    raise common.Fail(f'{dest}: commits that are not exported (tip {tip[:12]}, last import or '
                      f'export {state["tip"][:12]}): {then}')


def at_tip(dest, tip):
    """Is branch lockstep checked out, at commit `tip`? A HEAD that is detached there would leave
    the branch behind when it moves on."""
    head = common.git('symbolic-ref', '-q', 'HEAD', cwd=dest, check=False).stdout.strip()
    at = common.git('rev-parse', '-q', '--verify', 'refs/heads/lockstep', cwd=dest, check=False)
    return head == 'refs/heads/lockstep' and at.stdout.strip() == tip


def discard(dest, tip):
    """Put the tree back to commit `tip` on branch lockstep; what is ignored by git stays."""
    shutil.rmtree(dest / '.git' / 'rebase-apply', ignore_errors=True)
    shutil.rmtree(dest / '.git' / 'rebase-merge', ignore_errors=True)
    (dest / '.git' / 'index.lock').unlink(missing_ok=True)
    old = common.git('rev-parse', '-q', '--verify', 'HEAD', cwd=dest, check=False).stdout.strip()
    common.git(*QUIET, 'checkout', '-q', '-f', '-B', 'lockstep', tip, cwd=dest)
    common.git('clean', '-q', '-f', '-d', cwd=dest)
    return old


# Making it.

def sync(dest, patches, guard):
    """Make `dest` the base plus `patches`. guard: refuse to lose work unless DISCARD=1.
    Returns what was done, a word or two."""
    git = dest / '.git'
    want = fingerprint(patches)
    if dest.exists() and not git.is_dir() and any(p.is_file() for p in dest.rglob('*')):
        raise common.Fail(f'{dest}: is there and was not made by `make tree`: move it away')
    state = load(dest)
    if not state and git.is_dir() and not (git / BUILDING).exists() and any(git.iterdir()):
        raise common.Fail(f'{dest}: a git tree that `make tree` did not make: move it away')
    if not state or (git / BUILDING).exists():
        if dest.exists():
            common.say(f'{dest}: was not finished: made again')
        return create(dest, patches, want)
    if state.get('updating'):
        common.say(f'{dest}: an update was interrupted: finished first')
        discard(dest, state['updating'])
        state = {'tip': state['updating'], 'patches': 'unknown'}
        save(dest, **state)
    if not guard or common.setting('DISCARD') == '1':
        if not at_tip(dest, state['tip']) or busy(dest) or changes(dest):
            old = discard(dest, state['tip'])
            if guard and old and old != state['tip']:
                common.say(f'{dest}: discarded; the old tip stays in the reflog as {old[:12]}')
    else:
        guarded(dest, state)
        state = load(dest)
    if state['patches'] == want:
        return 'unchanged'
    repo = fetch.base_repo()
    share(repo, dest)
    tip = apply(dest, patches)
    old = common.git('rev-parse', 'refs/heads/lockstep', cwd=dest)
    save(dest, **{**state, 'updating': tip})
    # Files that both tips have in common are not written: builds stay incremental.
    common.git(*QUIET, 'reset', '-q', '--keep', tip, cwd=dest)
    save(dest, tip=tip, patches=want)
    return 'updated' if tip != old else 'unchanged'


def create(dest, patches, want):
    """A new tree; until its state is recorded, at the end, it counts as unfinished."""
    shutil.rmtree(dest, ignore_errors=True)
    repo = fetch.base_repo()
    git = dest / '.git'
    git.mkdir(parents=True)
    (git / BUILDING).touch()
    common.git('init', '-q', '--template=', '-b', 'lockstep', '.', cwd=dest)
    configure(dest)
    share(repo, dest)
    tip = apply(dest, patches)
    common.git('update-ref', 'refs/heads/lockstep', tip, cwd=dest)
    common.git(*QUIET, '-c', 'checkout.workers=0', 'reset', '-q', '--hard', cwd=dest)
    save(dest, tip=tip, patches=want)
    (git / BUILDING).unlink()
    return 'made'


def configure(dest):
    """Identity, and patch names that survive rebase and commit --amend."""
    for key, value in (
            ('user.name', common.IDENT['GIT_AUTHOR_NAME']),
            ('user.email', common.IDENT['GIT_AUTHOR_EMAIL']), ('commit.gpgsign', 'false'),
            ('notes.rewriteRef', NOTES), ('notes.rewriteMode', 'ignore')):
        common.git('config', key, value, cwd=dest)


def share(repo, dest, link=True):
    """The cache's objects and its commit as branch base. link: hard links (or copies), so that
    the tree outlives the cache; else by reference, for trees that are thrown away."""
    objects = dest / '.git' / 'objects'
    if not link:
        common.write(objects / 'info' / 'alternates', f'{repo / "objects"}\n')
    else:
        for path in sorted((repo / 'objects').rglob('*'), key=lambda p: p.suffix == '.idx'):
            here = objects / path.relative_to(repo / 'objects')
            if not path.is_file() or here.exists():
                continue
            here.parent.mkdir(parents=True, exist_ok=True)
            place(path, here)
            if here.suffix == '.pack':
                # git gc would spend minutes on packing the base anew.
                here.with_suffix('.keep').touch()
    commit = common.git('rev-parse', 'refs/heads/base', cwd=repo)
    common.git('update-ref', 'refs/heads/base', commit, cwd=dest)


def place(source, target):
    """Hard link, or copy where there can be none; the name appears only when it is whole."""
    tmp = target.with_name(f'.tmp-{target.name}')
    tmp.unlink(missing_ok=True)
    try:
        os.link(source, tmp)
    except OSError:
        shutil.copy2(source, tmp)
    os.replace(tmp, target)


@contextlib.contextmanager
def scratch(dest, commit):
    """A detached work tree of `dest` with a full index and no files in it: git am writes
    the files that it touches, and the real work tree keeps its mtimes."""
    common.git('worktree', 'prune', cwd=dest)
    with tempfile.TemporaryDirectory(prefix='am-', dir=common.OUT) as tmp:
        path = Path(tmp) / 'w'
        try:
            common.git(*QUIET, 'worktree', 'add', '-q', '--detach', '--no-checkout', path, commit,
                       cwd=dest)
            common.git('read-tree', 'HEAD', cwd=path)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            common.git('worktree', 'prune', cwd=dest)


def apply(dest, patches):
    """git am the patches on branch base, away from the work tree; returns the tip and
    notes each commit's topic/name. The commit ids depend on base and patches alone."""
    base = common.git('rev-parse', 'refs/heads/base', cwd=dest)
    if not patches:
        return base
    with scratch(dest, base) as path:
        done = common.git(*AM, *(p.path.resolve() for p in patches), cwd=path, check=False)
        if done.returncode:
            raise common.Fail(f'{failed_patch(path, patches)} does not apply to '
                              f'{common.base()["release"]} plus the patches before it: '
                              f'{first_error(done.stdout)}')
        commits = common.git('rev-list', '--reverse', f'{base}..HEAD', cwd=path).split()
    if len(commits) != len(patches):
        raise common.Fail(f'{len(patches)} patches made {len(commits)} commits: '
                          'one file must hold one mail')
    note(dest, zip(commits, (p.id for p in patches)))
    return commits[-1]


def failed_patch(path, patches):
    """The .id of the patch at which git am stands in work tree `path`."""
    where = path / common.git('rev-parse', '--git-path', 'rebase-apply/next', cwd=path)
    try:
        return patches[int(where.read_text()) - 1].id
    except (OSError, ValueError, IndexError):
        return 'the series'


def first_error(text):
    """The line of git's output that says why."""
    lines = text.strip().splitlines() or ['git am failed']
    return next((x for x in lines if re.match('error|fatal', x)), lines[0])


def note(dest, names):
    """Record topic/name for commits, in one go; other commits keep theirs."""
    fixed = f'{common.IDENT["GIT_AUTHOR_NAME"]} <{common.IDENT["GIT_AUTHOR_EMAIL"]}>'
    text = f'feature done\ncommit {NOTES}\ncommitter {fixed} {fetch.DATE} +0000\ndata 6\nnames\n\n'
    if has_notes(dest):
        text += f'from {NOTES}^0\n'
    for commit, name in names:
        text += f'N inline {commit}\ndata {len(name) + 1}\n{name}\n\n'
    common.git('fast-import', '--quiet', '--force', '--date-format=raw', cwd=dest,
               text_input=text + 'done\n')


def has_notes(dest):
    """True when the tree has notes at all: git log warns when told to show none."""
    return not common.git('rev-parse', '-q', '--verify', NOTES, cwd=dest, check=False).returncode


def log(dest, tip='refs/heads/lockstep'):
    """[(commit, parents, author, subject, note)] from base to tip, oldest first."""
    notes = [f'--notes={NOTES}'] if has_notes(dest) else ['--no-notes']
    out = common.git('log', '--reverse', '--topo-order', *notes,
                     '--format=%H%x01%P%x01%an <%ae>%x01%s%x01%N%x02', f'refs/heads/base..{tip}',
                     cwd=dest)
    return [tuple(entry.strip('\n').split('\x01')) for entry in out.split('\x02') if entry.strip()]


def named(dest, tip='refs/heads/lockstep', aloud=False):
    """[(commit, topic, name, subject)]: from the commit's note, else from the patch of equal
    subject in patches/, else made from the subject. aloud: say what was chosen anew."""
    known = {p.subject: (p.topic, p.name) for p in series()}
    rows = log(dest, tip)
    noted = [re.match(r'(\w+)/([\w.+-]+)\s*$', row[4].split('\n')[0]) for row in rows]
    taken = {m.groups() for m in noted if m}
    found, used, topic = [], set(), 'verify'
    for (commit, _, _, subject, _), match in zip(rows, noted):
        pick = match and match.groups()
        if not pick or pick in used:
            pick = known.get(subject)
            if not pick or pick in used or pick in taken:
                pick = invent(subject, topic, used | taken)
                if aloud:
                    common.say(f'new patch {"/".join(pick)}: {subject}')
        used.add(pick)
        topic = pick[0]
        found.append((commit, *pick, subject))
    return found


def invent(subject, previous, taken):
    """(topic, name) for a new patch: the topic its prefix names, else the one before it."""
    prefix, colon, rest = subject.rpartition(': ')
    match = re.match(r'mm/(\w+)', prefix)
    topic = match[1] if match and match[1] in TOPICS else previous
    slug = re.sub(r'[^a-z0-9]+', '-', (rest if colon else subject).lower()).strip('-')
    stem = slug[:60].strip('-') or 'patch'
    name, n = stem, 1
    while (topic, name) in taken:
        n += 1
        name = f'{stem}-{n}'
    return topic, name
