# SPDX-License-Identifier: GPL-2.0
"""The base: one verified bare git repository in the cache, from apt, TARBALL= or LINUX=."""
import contextlib
import fcntl
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

from . import common, series

DATE = 1767225600       # 2026-01-01T00:00:00Z: the base commit's date, so that its id is fixed
NEED = 1_500_000_000    # bytes free in the cache before anything is fetched
MARKER = 'lockstep-sealed'
OTHERS = 'use TARBALL=path or LINUX=path'


def base_repo():
    """A verified bare repository with refs/heads/base, the pristine tree's only commit.
    LINUX=, TARBALL= or apt give it; Fail is one line, and nothing half-written is trusted."""
    info = common.base()
    if common.setting('LINUX'):
        return from_clone(Path(common.setting('LINUX')).expanduser(), info)
    given = common.setting('TARBALL')
    if given:
        given = Path(given).expanduser()
        if not given.is_file():
            raise common.Fail(f'TARBALL={given}: no such file')
        got = sha256(given)
        if got != info['sha256']:
            raise common.Fail(f'TARBALL={given}: sha256 is {got[:16]}..., base/{common.BASE} '
                              f'wants {info["sha256"][:16]}...: not the pristine {info["tarball"]}')

    def build(tmp):
        with open(given or download(info), 'rb') as f:
            with lzma.open(f) as stream:
                import_tar(stream, tmp, message(info), info['tarball'])
    return cached(f'base-{info["sha256"][:12]}.git', build, info['base_tree'])


def message(info):
    """The base commit's message."""
    return f'Linux {info["version"]}'


def sha256(path):
    """Hex sha256 of a file."""
    with open(path, 'rb') as f:
        return hashlib.file_digest(f, 'sha256').hexdigest()


# The cache.

@contextlib.contextmanager
def cache_lock():
    """One writer of the cache at a time; a second one waits and says so."""
    common.CACHE.mkdir(parents=True, exist_ok=True)
    with open(common.CACHE / 'lock', 'a+', encoding='ascii') as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            f.seek(0)
            common.say(f'waiting for process {f.read().strip() or "unknown"}, '
                       f'which is filling {common.CACHE}')
            fcntl.flock(f, fcntl.LOCK_EX)
        f.seek(0)
        f.truncate()
        f.write(f'{os.getpid()}\n')
        f.flush()
        yield


def space():
    """Fail unless the cache's file system has NEED bytes free."""
    free = shutil.disk_usage(common.CACHE).free
    if free < NEED:
        raise common.Fail(f'{common.CACHE}: {free / 1e9:.1f} GB free, {NEED / 1e9:.1f} GB needed: '
                          'make room, or set XDG_CACHE_HOME to another disk')


def seal(repo, tree):
    """Record the sha256 of every file of the repository, last: without it nothing is trusted."""
    files = {str(p.relative_to(repo)): sha256(p)
             for p in sorted(repo.rglob('*')) if p.is_file()}
    commit = common.git('rev-parse', 'refs/heads/base', cwd=repo)
    common.write(repo / MARKER, json.dumps({'tree': tree, 'commit': commit, 'files': files}))


def damage(repo, tree=None):
    """None for a sound repository, '' for none at all, else what is wrong with it."""
    if not repo.is_dir():
        return ''
    try:
        marker = json.loads((repo / MARKER).read_text())
        if tree and marker['tree'] != tree:
            return 'it holds another tree'
        for name, digest in marker['files'].items():
            if sha256(repo / name) != digest:
                return f'{name} is damaged'
    except FileNotFoundError as e:
        return 'half-written' if Path(e.filename).name == MARKER else f'{e.filename} is missing'
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return 'its seal cannot be read'
    return None


def cached(name, build, tree=None):
    """CACHE/<name>, verified; if it is missing, damaged or half-written, build(tmp) makes it
    in a temporary sibling. tree: the tree id that refs/heads/base must have."""
    repo = common.CACHE / name
    if damage(repo, tree) is None:
        return repo
    with cache_lock():
        wrong = damage(repo, tree)
        if wrong is None:
            return repo
        if wrong:
            common.say(f'cache: {name}: {wrong}: built again')
        for old in common.CACHE.glob('.tmp-*'):
            shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(repo, ignore_errors=True)
        space()
        tmp = Path(tempfile.mkdtemp(prefix='.tmp-', dir=common.CACHE))
        try:
            common.git('init', '-q', '--bare', '--template=', '-b', 'base', '.', cwd=tmp)
            build(tmp)
            got = common.git('rev-parse', 'refs/heads/base^{tree}', cwd=tmp)
            if tree and got != tree:
                raise common.Fail(f'the unpacked base has tree {got}, base/{common.BASE} says '
                                  f'base_tree={tree}')
            seal(tmp, got)
            os.chmod(tmp, 0o755)
            os.rename(tmp, repo)
        finally:
            shutil.rmtree(tmp, ignore_errors=True)
    return repo


def import_tar(stream, repo, text, what, strip=1):
    """Commit an uncompressed tar stream to refs/heads/base of the bare `repo`, as one pack.
    The first `strip` components of each path go; nothing is filtered."""
    child = common.spawn(
        ['git', '-c', 'pack.compression=1', '-c', 'fastimport.unpackLimit=0', 'fast-import',
         '--quiet', '--depth=0', '--done', '--date-format=raw'], cwd=repo,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    ticker = common.Ticker(f'unpacking {what}', 10)
    name, mail = common.IDENT['GIT_COMMITTER_NAME'], common.IDENT['GIT_COMMITTER_EMAIL']
    text = text.encode() + b'\n'
    try:
        put = child.stdin.write
        put(f'feature done\ncommit refs/heads/base\ncommitter {name} <{mail}> {DATE} +0000\n'
            f'data {len(text)}\n'.encode() + text)
        count = 0
        # A stream in small reads: r|xz of tarfile copies its whole buffer for each member.
        with io.BufferedReader(stream, 1 << 20) as buffer, \
                tarfile.open(fileobj=buffer, mode='r|', bufsize=1 << 16) as tar:
            for member in tar:
                tar.members = []
                path = member.name.removeprefix('./').split('/', strip)[strip:]
                if member.isfile():
                    data = tar.extractfile(member).read()
                    mode = '100755' if member.mode & 0o100 else '100644'
                elif member.issym():
                    data, mode = os.fsencode(member.linkname), '120000'
                elif member.isdir():
                    continue
                else:
                    raise common.Fail(f'{what}: {member.name} is neither file nor link')
                if not path or not path[0]:
                    raise common.Fail(f'{what}: {member.name} lies outside the source folder')
                put(f'M {mode} inline '.encode() + quoted(path[0]))
                put(b'\ndata %d\n' % len(data))
                put(data)
                put(b'\n')
                count += 1
                ticker.tick(f'{count} files')
        put(b'done\n')
        child.stdin.flush()
    except BrokenPipeError:
        pass        # it died; what it said is read below
    except (tarfile.TarError, lzma.LZMAError, EOFError) as e:
        common.end(child)
        raise common.Fail(f'{what}: damaged archive: {e}') from None
    except BaseException:
        common.end(child)
        raise
    finally:
        ticker.done()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        with child.stderr:
            error = child.stderr.read().decode(errors='replace').strip()
        child.wait()
        common.end(child)
    if child.returncode:
        line = next((x for x in error.splitlines() if x.startswith('fatal')), error[:100])
        raise common.Fail(f'unpacking {what} into {common.CACHE}: {line or "git fast-import died"}'
                          f'{common.full(common.CACHE)}')


def quoted(path):
    """A path for fast-import: C-quoted where it must be."""
    raw = os.fsencode(path)
    if not re.search(rb'["\\\n]|^ ', raw):
        return raw
    return b'"' + re.sub(rb'["\\]', rb'\\\g<0>', raw).replace(b'\n', b'\\n') + b'"'


# LINUX=: a kernel clone of the user's.

def from_clone(clone, info):
    """The tag's tree out of a kernel clone. It may lack files that Debian's tarball lacks too, or
    have more, so instead of base_tree the version and every file the series touches must fit."""
    # The user named this folder: its owner does not matter for reading.
    def ask(*args, **kw):
        return common.git('-c', 'safe.directory=*', *args, cwd=clone, check=False, **kw)
    if not clone.is_dir() or ask('rev-parse', '--git-dir').returncode:
        raise common.Fail(f'LINUX={clone}: no git repository')
    tag = info['release']
    found = ask('rev-parse', '--verify', '--quiet', f'refs/tags/{tag}^{{tree}}')
    if found.returncode:
        raise common.Fail(f'LINUX={clone}: has no tag {tag}: fetch it, or {OTHERS.split(" or")[0]}')
    tree = found.stdout.strip()
    head = ask('cat-file', 'blob', f'{tree}:Makefile').stdout
    version = '.'.join((re.search(rf'^{key} *= *(\d+)$', head, re.M) or ['', '?'])[1]
                       for key in ('VERSION', 'PATCHLEVEL', 'SUBLEVEL'))
    if version != info['version']:
        raise common.Fail(f'LINUX={clone}: the Makefile of tag {tag} says {version}, '
                          f'not {info["version"]}')

    def build(tmp):
        copy_tree(clone, tree, tmp)
        commit = common.git('commit-tree', tree, '-m', message(info), cwd=tmp, env={
            'GIT_AUTHOR_DATE': f'{DATE} +0000', 'GIT_COMMITTER_DATE': f'{DATE} +0000'})
        common.git('update-ref', 'refs/heads/base', commit, cwd=tmp)
    repo = cached(f'linux-{tree[:12]}.git', build, tree)
    wanted = series.touched(series.series())
    for path, want, got in compare_blobs(repo, wanted):
        raise common.Fail(f'LINUX={clone}: tag {tag} has another {path} ({got[:12]}, the series '
                          f'starts from {want[:12]})')
    return repo


def compare_blobs(repo, wanted, commit='refs/heads/base'):
    """[(path, wanted id, id there or 'missing')] for every path that differs."""
    if not wanted:
        return []
    out = common.git('cat-file', '--batch-check=%(objectname)', cwd=repo,
                     text_input=''.join(f'{commit}:{path}\n' for path in wanted))
    got = [x if re.fullmatch('[0-9a-f]{40}', x) else 'missing' for x in out.splitlines()]
    return [(path, blob, have) for (path, blob), have in zip(wanted.items(), got, strict=True)
            if have != blob]


def copy_tree(clone, tree, repo):
    """Pack every object under `tree` of `clone` into the bare `repo`."""
    common.say(f'copying {tree[:12]} from {clone}')
    git = ['git', '-c', 'safe.directory=*', '-C', clone]
    lister = common.spawn([*git, 'rev-list', '--objects', '--no-object-names', tree],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    packer = common.spawn([*git, 'pack-objects', '-q', '--window=0', repo / 'objects/pack/pack'],
                          stdin=lister.stdout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True)
    lister.stdout.close()
    try:
        error = packer.communicate()[1].strip().splitlines()
        if lister.wait() or packer.returncode:
            raise common.Fail(f'LINUX={clone}: cannot read all of {tree[:12]}: '
                              f'{(error or ["git rev-list failed"])[0]}')
    finally:
        common.end(lister)
        common.end(packer)


# apt.

def download(info):
    """The tarball in CACHE/downloads, by apt, its sha256 checked. Called with the lock held."""
    folder = common.CACHE / 'downloads'
    target = folder / info['tarball']
    if target.is_file():
        if sha256(target) == info['sha256']:
            return target
        common.say(f'cache: {target.name}: wrong sha256: fetched again')
        target.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.tmp-', dir=common.CACHE) as tmp:
        options = apt_sources('deb-src', Path(tmp))
        package = f'{info["package"]}={info["package_version"]}'
        apt([*options, 'source', '--download-only', '--tar-only', package], tmp,
            f'fetching {info["tarball"]}',
            f'the mirror has no source package {package} any more: {OTHERS}')
        got = Path(tmp) / info['tarball']
        if not got.is_file():
            raise common.Fail(f'apt fetched {package} but no {info["tarball"]}: {OTHERS}')
        if sha256(got) != info['sha256']:
            raise common.Fail(f'{info["tarball"]} from apt: sha256 is {sha256(got)[:16]}..., '
                              f'base/{common.BASE} wants {info["sha256"][:16]}...: {OTHERS}')
        os.replace(got, target)
    return target


def busybox(arch):
    """Content of Debian's static busybox for another machine, through apt and unpacked aside;
    nothing is installed. The cache's copy is taken when it is whole."""
    held = common.CACHE / 'downloads' / f'busybox-{arch.name}'
    mark = held.with_name(f'{held.name}.sha256')
    with cache_lock():
        if held.is_file() and mark.is_file() and sha256(held) == mark.read_text().strip():
            return held.read_bytes()
        common.say(f'    busybox-static for {arch.name}, through apt')
        held.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=held.parent, prefix='.busybox') as tmp:
            tmp = Path(tmp)
            options = apt_sources('deb', tmp, arch.name)
            apt([*options, 'download', 'busybox-static'], tmp, 'apt-get download')
            debs = list(tmp.glob('busybox-static_*.deb'))
            if len(debs) != 1:
                raise common.Fail(f'apt-get download busybox-static for {arch.name} left '
                                  f'{len(debs)} packages')
            common.run(['dpkg-deb', '-x', debs[0], tmp / 'unpacked'])
            data = (tmp / 'unpacked/bin/busybox').read_bytes()
            if data[:4] != b'\x7fELF' or int.from_bytes(data[18:20], 'little') != arch.elf:
                raise common.Fail(f'{debs[0].name}: bin/busybox is no program for {arch.name}')
            common.write(held, data)
            common.write(mark, sha256(held) + '\n')
    return data


def apt_sources(kind, tmp, arch=''):
    """Options that make apt-get see only `kind` (deb or deb-src) entries of the machine's own
    Debian sources, with lists of its own under `tmp`, freshly updated. Needs no root.
    arch: Debian's name of another machine, whose packages are wanted."""
    if not shutil.which('apt-get'):
        raise common.Fail(f'apt-get is not there, this is no Debian: {OTHERS}')
    for sub in ('lists/partial', 'cache/archives/partial'):
        (tmp / 'apt' / sub).mkdir(parents=True, exist_ok=True)
    # The sandbox user _apt cannot write below a home folder; signatures are checked all the same.
    private = ['-o', f'Dir::State::lists={tmp}/apt/lists', '-o', f'Dir::Cache={tmp}/apt/cache',
               '-o', 'APT::Sandbox::User=root', '-o', 'APT::Update::Error-Mode=any',
               '-o', 'Acquire::http::Timeout=30', '-o', 'Acquire::https::Timeout=30']
    found = debian_entries([])
    if not found:
        # No lists on this machine yet. Somebody else's source may fail as long as Debian's do not.
        failed = common.Fail(f"apt's sources name no Debian mirror: {OTHERS}")
        try:
            apt([*private, 'update'], tmp, 'apt-get update')
        except common.Fail as e:
            failed = e
        found = debian_entries(private)
        if not found:
            raise failed
    sources = tmp / 'apt' / 'sources.list'
    sources.write_text(''.join(f'{kind} {uri} {suite} {component}\n'
                               for uri, suite, component in found))
    options = ['-o', f'Dir::Etc::sourcelist={sources}', '-o', 'Dir::Etc::sourceparts=/dev/null',
               *private, *(['-o', f'APT::Architecture={arch}'] if arch else [])]
    apt([*options, 'update'], tmp, 'apt-get update')
    return options


def debian_entries(options):
    """Sorted (uri, suite, component) of the sources that apt has lists of and that are Debian's."""
    out = common.run(['apt-get', *options, 'indextargets', '--format',
                      '$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)', 'Created-By: Packages'],
                     check=False).stdout
    rows = {tuple(line.split('|')) for line in out.splitlines() if line.count('|') == 3}
    return sorted(row[1:] for row in rows if row[0] == 'Debian')


def apt(args, tmp, what, missing=None):
    """Run apt-get in `tmp`, showing how much has come; errors become one line.
    missing: the line for a package or version that the mirror does not have."""
    before = folder_bytes(tmp)
    ticker = common.Ticker(what)
    with tempfile.TemporaryFile('w+', dir=tmp, errors='replace') as log:
        child = common.spawn(['apt-get', '-q', *args], cwd=tmp, stdout=log,
                             stderr=subprocess.STDOUT, env={**os.environ, 'LC_ALL': 'C'})
        try:
            while child.poll() is None:
                time.sleep(0.05)
                ticker.tick(f'{(folder_bytes(tmp) - before) / 1e6:.0f} MB')
        finally:
            common.end(child)
            ticker.done()
        log.seek(0)
        text = log.read()
    if not child.returncode:
        return
    if re.search('No space left|enough free space|diskspace', text):
        raise common.Fail(f'{what}: no space left in {common.CACHE}')
    if missing and re.search(r'Can not find version|Unable to find a source package|'
                             r'Unable to locate package|was not found', text):
        raise common.Fail(missing)
    lines = [x.strip() for x in text.splitlines() if re.match('[EW]:', x)] or ['apt-get failed']
    if re.search(r'resolve|onnect|Failed to fetch|timed out|unreachable', text):
        raise common.Fail(f'{what}: no network, or the mirror does not answer: {lines[0]}: {OTHERS}')
    raise common.Fail(f'{what}: {lines[0]}: {OTHERS}')


def folder_bytes(folder):
    """Bytes of the files right in and below a folder that may be changing."""
    total = 0
    for top, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(top, name)).st_size
    return total
