# SPDX-License-Identifier: GPL-2.0
"""make mbox: the series as one mbox; make am: the series onto somebody's own kernel tree."""
import email.header
import email.utils
import re
from pathlib import Path

from . import common, tree
from .series import series

FROM = 'From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n'
# git am stops at a mail without a diff ("Patch is empty"), and a cover letter is one. The only such
# mail that it passes over is one whose header From names this author, pine's folder data; an
# in-body From is not looked at without a diff. b4 goes by the subject and takes it as 0/N.
SKIP = 'Mail System Internal Data <mm-lockstep@example.org>'


def mbox():
    """make mbox: out/mm-lockstep-<base>.mbox, the cover letter and N patches in one thread."""
    with tree.locked():
        patches = series()
        if not patches:
            raise common.Fail(f'{common.PATCHES}: the series is empty: no mails to write')
        cover = common.PATCHES / 'cover-letter.md'
        if not cover.is_file():
            raise common.Fail(f'{cover}: missing: the first mail is made from it')
        stem = f'{common.BASE}-{tree.fingerprint(patches)[:16]}'
        texts = [p.path.read_text() for p in patches]
        mails = [cover_mail(cover.read_text(), patches, texts, f'{stem}-0')]
        for n, (patch, text) in enumerate(zip(patches, texts), 1):
            mails.append(patch_mail(patch, text, n, len(patches), stem))
        path = common.OUT / f'mm-lockstep-{common.BASE}.mbox'
        common.write(path, ''.join(mails))
        common.say(f'{path}: cover letter and {len(patches)} patches for '
                   f'{common.base()["release"]}: git am takes it, b4 am -m too')


def number(n, total):
    """The counter as git format-patch pads it."""
    return f'{n:0{len(str(total))}}/{total}'


def ident(name):
    """A Message-Id that depends on the series alone."""
    return f'<{name}@mm-lockstep.example.org>'


def cover_mail(text, patches, texts, name):
    """Mail 0/N: subject from the first heading of the cover letter, then its text, the
    patches' subjects and the sum of the changes. Its date is the newest patch's."""
    match = re.match(r'\s*# *(.+)\n', text)
    if not match:
        raise common.Fail('cover-letter.md: must start with a heading, "# subject"')
    body = text[match.end():].strip('\n')
    dates = [email.utils.parsedate_to_datetime(re.search(r'^Date: (.+)$', t, re.M)[1])
             for t in texts]
    subject = f'[PATCH {number(0, len(patches))}] {match[1].strip()}'
    lines = [body, '', *(f'  {p.subject}' for p in patches), '', summary(texts)]
    # A line that starts with From would end the mail, one with --- its text.
    body = re.sub(r'^(?=From |---$|--- |diff )', ' ', '\n'.join(lines), flags=re.M)
    return (FROM + f'From: {SKIP}\nSender: {tree.AUTHOR}\n'
            f'Date: {email.utils.format_datetime(max(dates))}\n'
            f'Subject: {email.header.Header(subject, "utf-8" if not subject.isascii() else None)}\n'
            f'Message-Id: {ident(name)}\nMIME-Version: 1.0\n'
            'Content-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n'
            f'{body}\n\n')


def summary(texts):
    """The sum of the patches' last diffstat lines, files counted once."""
    files = {x for t in texts for x in re.findall(r'^diff --git a/(\S+) ', t, re.M)}
    plus, minus = (sum(int(n) for t in texts for n in re.findall(rf' (\d+) {word}', head(t)))
                   for word in (r'insertions?\(\+\)', r'deletions?\(-\)'))
    return f'  {len(files)} files changed, {plus} insertions, {minus} deletions'


def head(text):
    """A patch's text between --- and its first diff: the diffstat."""
    return text.partition('\n---\n')[2].partition('\ndiff --git ')[0]


def patch_mail(patch, text, n, total, stem):
    """Mail n/N, in reply to the cover letter; nothing but the head of the patch changes."""
    fields, blank, rest = text.partition('\n\n')
    # Unfolded: b4 0.12 dies of a folded subject.
    fields = re.sub(r'\n[ \t]+', ' ', fields)
    fields, count = re.subn(r'^Subject: \[PATCH\] ', f'Subject: [PATCH {number(n, total)}] ',
                            fields, flags=re.M)
    if count != 1:
        raise common.Fail(f'{patch.path}: no line "Subject: [PATCH] ...": make tree && make export')
    cover = ident(f'{stem}-0')
    fields += f'\nMessage-Id: {ident(f"{stem}-{n}")}\nIn-Reply-To: {cover}\nReferences: {cover}'
    return fields + blank + rest.rstrip('\n') + '\n\n'


# make am.

def am():
    """make am TREE=path: git am -3 of the series in somebody's own kernel tree, with their
    identity and configuration. On a conflict their tree is left as it was."""
    given = common.setting('TREE')
    if not given:
        raise common.Fail('TREE is not set: make am TREE=path of your kernel tree')
    dest = Path(given).expanduser()
    patches = series()
    before = ready(dest)
    if not patches:
        common.say(f'{dest}: the series is empty, nothing to apply')
        return
    try:
        done = theirs(dest, 'am', '-3', *(p.path.resolve() for p in patches))
    except BaseException:
        undo(dest, before)
        raise
    if not done.returncode:
        new = int(theirs(dest, 'rev-list', '--count', f'{before[0]}..HEAD').stdout)
        there = f', {len(patches) - new} were there already' if new < len(patches) else ''
        common.say(f'{dest}: {new} patches applied{there}; HEAD was {before[0][:12]}')
        return
    patch = tree.failed_patch(dest.resolve(), patches)
    files = theirs(dest, 'diff', '--name-only', '--diff-filter=U').stdout.split() or sorted(set(
        re.findall(r'^(?:error: (?:patch failed: )?|\t)([\w./+-]+)(?::\d+$|: (?!patch does)|$)',
                   done.stdout, re.M)))
    undo(dest, before)
    why = f'conflict in {", ".join(files)}' if files else tree.first_error(done.stdout)
    raise common.Fail(f'{patch} does not apply to {dest}: {why}; the tree is as it was')


def theirs(dest, *args):
    """git in the user's tree, with the user's own configuration; CompletedProcess."""
    return common.run(['git', '-c', 'rerere.enabled=false', *args], cwd=dest, check=False,
                      env={'LC_ALL': common.PLAIN['LC_ALL']})


def snapshot(dest):
    """(HEAD, branch, git status): what must be the same after a failed am."""
    return (theirs(dest, 'rev-parse', 'HEAD').stdout.strip(),
            theirs(dest, 'symbolic-ref', '-q', 'HEAD').stdout.strip(),
            theirs(dest, 'status', '--porcelain', '--untracked-files=all').stdout)


def ready(dest):
    """Fail unless dest is a clean kernel tree at rest; returns its snapshot."""
    if not dest.is_dir():
        raise common.Fail(f'TREE={dest}: no such folder')
    top = theirs(dest, 'rev-parse', '--show-toplevel')
    if top.returncode:
        raise common.Fail(f'TREE={dest}: {top.stdout.strip().splitlines()[0]}')
    if Path(top.stdout.strip()).resolve() != dest.resolve():
        raise common.Fail(f'TREE={dest}: not the top of a git work tree, that is '
                          f'{top.stdout.strip()}')
    makefile = dest / 'Makefile'
    if not makefile.is_file() or not re.search(
            r'^VERSION *= *\d+\nPATCHLEVEL *= *\d+', makefile.read_text(errors='replace'), re.M):
        raise common.Fail(f'TREE={dest}: no kernel: its Makefile names no VERSION and PATCHLEVEL')
    what = tree.busy(dest)
    if what:
        raise common.Fail(f'TREE={dest}: a {what} is under way: finish or abort it first')
    before = snapshot(dest)
    dirty = [x[3:] for x in before[2].splitlines() if not x.startswith('??')]
    if dirty:
        raise common.Fail(f'TREE={dest}: changes that are not committed ({tree.some(dirty)}): '
                          'commit or stash them first')
    if theirs(dest, 'var', 'GIT_COMMITTER_IDENT').returncode:
        raise common.Fail(f'TREE={dest}: git does not know who you are: '
                          'set user.name and user.email')
    return before


def undo(dest, before):
    """git am --abort, and prove that the tree is as before."""
    if tree.busy(dest):
        theirs(dest, 'am', '--abort')
    if snapshot(dest) != before or tree.busy(dest):
        raise common.Fail(f'{dest}: git am --abort did not bring it back: look at it; '
                          f'HEAD was {before[0]}, branch {before[1] or "none (detached)"}')
