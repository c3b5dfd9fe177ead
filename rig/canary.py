# SPDX-License-Identifier: GPL-2.0
"""make canary: does the series still apply to the newest linux-source that apt offers?"""
import lzma
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import common, fetch, tree
from .series import changes, series


@dataclass
class Result:
    """What became of one patch: a status of STATUSES and the details."""
    id: str
    status: str
    detail: str


STATUSES = ('applies', 'applies with offsets', 'applies by 3-way merge', 'conflict',
            'already there')


def main():
    """Print one table. The verdict is not a failure: Fail only when it could not look."""
    patches = series()
    if not patches:
        raise common.Fail('the series is empty: nothing to try')
    with tree.locked():
        repo, version = newest()
        results = attempt(repo, fetch.base_repo(), patches)
    common.say(f"linux-source {version} (Debian's patches included):")
    width = max(len(r.id) for r in results)
    for r in results:
        common.say(f'  {r.id:<{width}}  {r.status}{": " + r.detail if r.detail else ""}')
    common.say('  ' + ', '.join(f'{sum(r.status == s for r in results)} {s}' for s in STATUSES))


def package(info):
    """The binary package that ships a base's source line: v6.1.176 -> linux-source-6.1."""
    return 'linux-source-' + '.'.join(info['version'].split('.')[:2])


def newest():
    """(verified repository of the newest linux-source that apt offers, its version). Older
    ones are removed from the cache."""
    name = package(common.base())
    with tempfile.TemporaryDirectory(prefix='canary-', dir=common.OUT) as tmp:
        options = fetch.apt_sources('deb', Path(tmp))
        out = common.run(['apt-cache', *options, 'policy', name], check=False).stdout
        found = re.search(r'Candidate: (\S+)', out)
        if not found or found[1] == '(none)':
            raise common.Fail(f'the mirror has no package {name}')
        version = found[1]

        def build(repo):
            fetch.apt([*options, 'download', f'{name}={version}'], tmp, f'fetching {name} {version}',
                      f'the mirror has no package {name}={version}')
            unpack(next(Path(tmp).glob('*.deb')), repo, f'{name} {version}')
        repo_name = f'source-{re.sub("[^0-9A-Za-z.-]", "_", version)}.git'
        repo = fetch.cached(repo_name, build)
    for old in common.CACHE.glob('source-*.git'):
        if old != repo:
            shutil.rmtree(old, ignore_errors=True)
    return repo, version


def unpack(deb, repo, what):
    """Commit the source tarball inside a linux-source package to refs/heads/base of `repo`."""
    child = common.spawn(['dpkg-deb', '--fsys-tarfile', deb], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL)
    try:
        with tarfile.open(fileobj=child.stdout, mode='r|', bufsize=1 << 16) as tar:
            for member in tar:
                if re.fullmatch(r'(\./)?usr/src/linux-source-[\d.]+\.tar\.xz', member.name):
                    with lzma.open(tar.extractfile(member)) as stream:
                        fetch.import_tar(stream, repo, what, what)
                    return
        raise common.Fail(f'{deb.name}: no usr/src/linux-source-*.tar.xz in it')
    except tarfile.TarError as e:
        raise common.Fail(f'{deb.name}: {e}') from None
    finally:
        child.stdout.close()
        common.end(child)


def attempt(source, base, patches):
    """list[Result] of every patch tried in order on `source`'s base commit; a patch that
    conflicts is left out and the rest are tried. `base` lends the blobs for 3-way merges."""
    results = []
    ticker = common.Ticker('trying the series')
    with tempfile.TemporaryDirectory(prefix='canary-', dir=common.OUT) as tmp:
        repo = Path(tmp) / 'linux'
        repo.mkdir()
        common.git('init', '-q', '--template=', '-b', 'lockstep', '.', cwd=repo)
        tree.share(source, repo, link=False)
        common.write(repo / '.git/objects/info/alternates',
                     f'{source / "objects"}\n{base / "objects"}\n')
        # Only the files that the series touches: a 3-way merge needs them, and them alone.
        common.git('config', 'core.sparseCheckout', 'true', cwd=repo)
        common.write(repo / '.git/info/sparse-checkout', ''.join(
            sorted({f'/{path}\n' for path, _, _ in changes(patches)})))
        common.git(*tree.QUIET, 'reset', '-q', '--hard', 'refs/heads/base', cwd=repo)
        for n, patch in enumerate(patches, 1):
            results.append(Result(patch.id, *one(repo, patch)))
            ticker.tick(f'{n}/{len(patches)}')
    ticker.done()
    return results


def one(repo, patch):
    """(status, detail) of one patch in work tree `repo`, applied if it can be."""
    file = patch.path.resolve()
    back = common.git('apply', '--cached', '--check', '-R', file, cwd=repo, check=False)
    if not back.returncode:
        return 'already there', ''
    plain = common.git('apply', '--cached', '--check', '--verbose', file, cwd=repo, check=False)
    offsets = [int(x) for x in re.findall(r'\(offset (-?\d+) lines?\)', plain.stdout)]
    done = common.git(*tree.QUIET, 'am', '-3', '--keep-cr', file, cwd=repo, check=False)
    if 'Patch already applied' in done.stdout:
        return 'already there', 'found by 3-way merge'
    if not done.returncode:
        if plain.returncode:
            return 'applies by 3-way merge', ''
        if offsets:
            return 'applies with offsets', f'hunks moved: {len(offsets)}, by up to ' \
                f'{max(map(abs, offsets))} lines'
        return 'applies', ''
    files = common.git('diff', '--name-only', '--diff-filter=U', cwd=repo,
                       check=False).stdout.split()
    common.git(*tree.QUIET, 'am', '--abort', cwd=repo)
    common.git(*tree.QUIET, 'reset', '-q', '--hard', cwd=repo)
    common.git('clean', '-q', '-f', '-d', '-x', cwd=repo)
    return 'conflict', ', '.join(files) or tree.first_error(done.stdout)
