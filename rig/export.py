# SPDX-License-Identifier: GPL-2.0
"""make export and make check: commits to patches/ and the kernel-shaped folders, and the proof
that both say the same."""
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from . import common, fetch, tree
from . import series as series_file

# Every option that shapes a patch is fixed here, against git's own and the tree's configuration.
FORMAT = ('format-patch', '--quiet', '--no-signature', '--full-index', '--no-numbered',
          '--zero-commit', '--no-renames', '--no-base', '--abbrev=12', '-U3', '--stat=72',
          '--subject-prefix=PATCH', '--no-cover-letter', '--no-attach', '--no-thread',
          '--no-signoff', '--no-notes', '--no-to', '--no-cc', '--no-add-header', '--no-from',
          '--diff-algorithm=myers', '--indent-heuristic', '--src-prefix=a/', '--dst-prefix=b/',
          '--inter-hunk-context=0', '--no-ext-diff', '--no-textconv', '--no-color', '--summary',
          '--suffix=.patch')


def git_bytes(*args, cwd, data=b''):
    """git's raw output as bytes."""
    child = common.spawn(['git', *args], cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, env={**os.environ, **common.PLAIN})
    try:
        out, error = child.communicate(data)
    finally:
        common.end(child)
    if child.returncode:
        raise common.Fail(f'git {args[0]}: {error.decode(errors="replace").strip()[:200]}')
    return out


def formatted(repo, tip='refs/heads/lockstep', aloud=False):
    """({patch path below patches/: bytes}, [(topic, name)]) of base..tip."""
    rows = tree.named(repo, tip, aloud)
    with tempfile.TemporaryDirectory(prefix='export-', dir=common.OUT) as tmp:
        common.git(*FORMAT, '-o', tmp, f'refs/heads/base..{tip}', cwd=repo)
        files = sorted(Path(tmp).iterdir())
        if len(files) != len(rows):
            raise common.Fail(f'{len(rows)} commits gave {len(files)} patches: '
                              'no merges, no empty commits')
        texts = [f.read_bytes() for f in files]
    for (_, topic, name, _), text in zip(rows, texts):
        # Python's mailbox, and so b4, ends a mail at any line that starts so.
        bad = re.search(rb'^From .*', text[text.index(b'\n') + 1:], re.M)
        if bad:
            raise common.Fail(f'{topic}/{name}: a line of its text starts with "From ", where an mbox '
                              f'begins the next mail: reword "{bad[0].decode(errors="replace")}"')
    ids = [(topic, name) for _, topic, name, _ in rows]
    return {f'{t}/{n}.patch': text for (t, n), text in zip(ids, texts)}, ids


def same_patches(repo):
    """True when exporting the tree would change no patch and not their order."""
    files, ids = formatted(repo)
    return ids == series_file.entries() and all(
        (common.PATCHES / name).read_bytes() == text for name, text in files.items())


def blobs(repo, tip, paths):
    """{path: bytes} at commit `tip`."""
    out = git_bytes('cat-file', '--batch', cwd=repo,
                    data=''.join(f'{tip}:{p}\n' for p in paths).encode())
    found = {}
    for path in paths:
        size = int(out[:out.index(b'\n')].split()[2])
        start = out.index(b'\n') + 1
        found[path], out = out[start:start + size], out[start + size + 1:]
    return found


def kernel_files(repo, tip='refs/heads/lockstep'):
    """{path in this repository: (executable, bytes)}: the files that the series adds, and
    MAINTAINERS with the lines it adds."""
    span = f'refs/heads/base..{tip}'
    rows = common.git('diff', '--raw', '-z', '--no-renames', '--no-abbrev', '--diff-filter=A',
                      span, cwd=repo).split('\0')
    modes = {path: head.split()[1] for head, path in zip(rows[::2], rows[1::2])}
    for path, mode in modes.items():
        if '/' not in path or mode not in ('100644', '100755'):
            raise common.Fail(f'the series adds {path} (mode {mode}): only plain files below a '
                              'folder can be shown in this repository')
    found = {p: (modes[p] == '100755', data) for p, data in blobs(repo, tip, list(modes)).items()}
    diff = git_bytes('diff', '-U0', '--no-color', '--no-ext-diff', span, '--', 'MAINTAINERS',
                     cwd=repo)
    lines = [x[1:] for x in diff.splitlines(True) if x.startswith(b'+') and x[:4] != b'+++ ']
    if lines:
        found['MAINTAINERS'] = (False, b''.join(lines))
    return found


def base_file(repo, tip='refs/heads/lockstep'):
    """The base file's text with series_tree as it is at `tip`. With a base whose tree is not
    base_tree (LINUX=) the id is unknown and the text stays."""
    text = (common.ROOT / 'base' / common.BASE).read_text()
    here = common.git('rev-parse', 'refs/heads/base^{tree}', cwd=repo)
    if here != common.base()['base_tree']:
        return text
    tip_tree = common.git('rev-parse', f'{tip}^{{tree}}', cwd=repo)
    return re.sub(r'^series_tree\s*=.*$', f'series_tree={tip_tree}', text, flags=re.M)


def render(repo, aloud=False):
    """{absolute path: (executable, bytes)}: everything `make export` writes."""
    files, ids = formatted(repo, aloud=aloud)
    order = common.PATCHES / 'series'
    old = order.read_text() if order.is_file() else ''
    want = {common.PATCHES / name: (False, text) for name, text in files.items()}
    if ids or order.is_file():
        want[order] = (False, series_file.order(ids, old).encode())
    want[common.ROOT / 'base' / common.BASE] = (False, base_file(repo).encode())
    for name, entry in kernel_files(repo).items():
        want[common.ROOT / name] = entry
    return want


def present(repo):
    """Files of this repository that only an export may have put there: patches, whatever lies
    in folders that the kernel has at its top, and what the patches as they lie here add."""
    found = set(common.PATCHES.glob('*/*.patch')) | {p for p in shown() if p.is_file()}
    tops = set(common.git('ls-tree', '-d', '--name-only', 'refs/heads/lockstep',
                          cwd=repo).splitlines())
    for top in tops:
        found |= {p for p in (common.ROOT / top).rglob('*') if not p.is_dir()}
    if (common.ROOT / 'MAINTAINERS').is_file():
        found.add(common.ROOT / 'MAINTAINERS')
    return found


def shown():
    """Where the files stand that the patches, as they lie in patches/, add."""
    texts = [p.read_text(errors='replace') for p in common.PATCHES.glob('*/*.patch')]
    return {common.ROOT / p for p in series_file.added(texts) if '/' in p}


def ours(paths):
    """Those of the paths that git tracks or that a patch in patches/ adds: safe to remove."""
    listed = common.git('ls-files', '-z', cwd=common.ROOT, check=False)
    tracked = set() if listed.returncode else {common.ROOT / p for p in listed.stdout.split('\0')}
    before = shown()
    return {p for p in paths if p in tracked or p in before or common.PATCHES in p.parents
            or p.name == 'MAINTAINERS'}


def export():
    """make export: branch lockstep of linux/ to patches/, series, the kernel-shaped folders and
    series_tree. All or nothing; unchanged files are not written."""
    with tree.locked():
        repo = common.LINUX
        state = tree.load(repo)
        if not state or state.get('updating'):
            raise common.Fail(f'{repo}: not a whole tree made by `make tree`: run make tree first')
        tree.settled(repo, 'make export')
        unchanged = state['patches'] == tree.fingerprint(series_file.series()) \
            if not state.get('exporting') else True
        if not unchanged and common.setting('FORCE') != '1':
            raise common.Fail(f'{common.PATCHES} changed since linux/ was made from it: export '
                              'would undo that; FORCE=1 does it, DISCARD=1 make tree takes patches/')
        refuse(repo)
        want = render(repo, aloud=True)
        old = ours(present(repo) - set(want))
        changed = {p: e for p, e in want.items() if not same(p, e)}
        tree.save(repo, **{**state, 'exporting': True})
        swap(changed, old)
        tip = common.git('rev-parse', 'refs/heads/lockstep', cwd=repo)
        # So that a new patch, too, keeps its name when its commit is reworded.
        tree.note(repo, ((c, f'{t}/{n}') for c, t, n, _ in tree.named(repo)))
        tree.save(repo, tip=tip, patches=tree.fingerprint(series_file.series()))
        for path in sorted(present(repo) - set(want)):
            common.say(f'left alone: {path.relative_to(common.ROOT)} (no patch adds it, '
                       'git does not track it)')
        common.say(f'exported {len(series_file.entries())} patches: {len(changed)} files written, '
                   f'{len(old)} removed')


def refuse(repo):
    """Fail on commits that no patch file can carry: merges, other authors, empty ones."""
    if common.git('merge-base', 'refs/heads/base', 'refs/heads/lockstep', cwd=repo,
                  check=False).stdout.strip() != common.git('rev-parse', 'refs/heads/base', cwd=repo):
        raise common.Fail(f'{repo}: branch lockstep does not start from branch base')
    rows = tree.log(repo)
    for commit, parents, _, subject, _ in rows:
        if len(parents.split()) != 1:
            raise common.Fail(f'{repo}: commit {commit[:12]} ("{subject}") is a merge: '
                              'rebase it away')
    for commit, _, author, subject, _ in rows:
        what = f'{repo}: commit {commit[:12]} ("{subject}")'
        if author != tree.AUTHOR:
            raise common.Fail(f'{what} has author {author}: the series has {tree.AUTHOR}; '
                              'git commit --amend --reset-author')
        if not common.git('diff-tree', '--no-commit-id', '--name-only', commit, cwd=repo):
            raise common.Fail(f'{what} changes nothing: drop it')


def same(path, entry):
    """True when the file is there with these bytes and this executable bit."""
    execute, data = entry
    return path.is_file() and path.read_bytes() == data and \
        bool(path.stat().st_mode & 0o100) == execute


def swap(changed, old):
    """Write the changed files, then remove the old: first all of it beside its place,
    so that a full disk or Ctrl-C changes nothing."""
    for left in common.ROOT.glob('.export-????????'):
        shutil.rmtree(left, ignore_errors=True)
    staged = Path(tempfile.mkdtemp(prefix='.export-', dir=common.ROOT))
    try:
        parts = []
        for n, (path, (execute, data)) in enumerate(changed.items()):
            part = staged / str(n)
            part.write_bytes(data)
            part.chmod(0o755 if execute else 0o644)
            parts.append((part, path))
            path.parent.mkdir(parents=True, exist_ok=True)
        for part, path in parts:
            os.replace(part, path)
        for path in old:
            path.unlink()
            folder = path.parent
            while folder != common.ROOT and not any(folder.iterdir()):
                folder.rmdir()
                folder = folder.parent
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def check():
    """make check: import into a tree of its own, export from that, compare. One line for each
    mismatch; Fail when there is one."""
    with tree.locked():
        patches = series_file.series()
        base = fetch.base_repo()
        with tempfile.TemporaryDirectory(prefix='check-', dir=common.OUT) as tmp:
            repo = Path(tmp) / 'linux'
            repo.mkdir()
            common.git('init', '-q', '--template=', '-b', 'lockstep', '.', cwd=repo)
            tree.share(base, repo, link=False)
            tip = tree.apply(repo, patches)
            common.git('update-ref', 'refs/heads/lockstep', tip, cwd=repo)
            # No work tree, but for .gitattributes: hunk headings depend on it.
            common.git('read-tree', 'HEAD', cwd=repo)
            shape = common.git('ls-files', '.gitattributes', '*/.gitattributes', cwd=repo)
            common.git('checkout-index', '--stdin', cwd=repo, text_input=shape)
            wrong = compare(repo, patches)
        for line in wrong:
            common.say(f'check: {line}')
        if wrong:
            raise common.Fail(f'check: {len(wrong)} mismatches: make tree && make export, '
                              'or restore the files with git')
        common.say(f'check: {len(patches)} patches, import and export give zero diff, '
                   f'series_tree {common.base()["series_tree"][:12]}')


def compare(repo, patches):
    """Lines on everything in which patches/ and this repository differ from an export of `repo`."""
    info, wrong = common.base(), []
    if common.git('rev-parse', 'refs/heads/base^{tree}', cwd=repo) == info['base_tree']:
        got = common.git('rev-parse', 'refs/heads/lockstep^{tree}', cwd=repo)
        if got != info['series_tree']:
            wrong.append(f'base/{common.BASE}: series_tree={info["series_tree"]}, '
                         f'the patches give {got}')
    else:
        wrong += [f'{path}: the patches give {got}, their index line says {want}' for path, want, got
                  in fetch.compare_blobs(repo, series_file.results(patches), 'refs/heads/lockstep')]
    want = render(repo)
    for path, entry in want.items():
        name = path.relative_to(common.ROOT)
        if path == common.ROOT / 'base' / common.BASE or same(path, entry):
            continue
        wrong.append(f'{name}: ' + ('differs from what the series gives' if path.is_file()
                                    else 'missing, the series gives it'))
    wrong += [f'{path.relative_to(common.ROOT)}: stands here, the series does not give it'
              for path in sorted(present(repo) - set(want))]
    return wrong
