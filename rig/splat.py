# SPDX-License-Identifier: GPL-2.0
"""The splat detector: finds what the kernel prints on a console when it is broken.

One report of the kernel is one Splat, however many lines it has. Kernel text is
told apart from a program's by printk's time stamp: a program that writes "BUG:"
on the console is not a kernel that has one.
"""
import re
from dataclasses import dataclass, field
from pathlib import Path

from . import common

ALLOW = Path(__file__).resolve().parent / 'allow.txt'
MOST = 200          # lines of one report
MOST_WANTED = 60    # lines of a report that the kernel was asked for
GAP = 2.0           # guest seconds of silence that end a report

STAMP = re.compile(r'(?:<\d+>)?\[ *(\d+\.\d{6})\](?:\[ *[TC]\d+\])? ')

# (kind, how specific it is, regular expression at the start of the message).
# Among the lines of one report the most specific names its kind. A pattern of
# weight 0 is a follow-up: it opens a report only where none is open.
DENY = [(kind, weight, re.compile(pattern)) for kind, weight, pattern in (
    ('panic', 3, r'Kernel panic - not syncing'),
    ('panic', 0, r'---\[ end Kernel panic'),
    ('kasan', 9, r'BUG: KASAN: '),
    ('kcsan', 9, r'BUG: KCSAN: '),
    ('kfence', 9, r'BUG: KFENCE: '),
    ('kmsan', 9, r'BUG: KMSAN: '),
    ('ubsan', 9, r'UBSAN: '),
    ('slub', 9, r'BUG \S+ \((?:Not tainted|Tainted|[A-Z ]+)[^)]*\): '),
    ('list', 8, r'list_(?:add|del) (?:corruption|double add)'),
    ('refcount', 8, r'refcount_t: '),
    ('odebug', 8, r'ODEBUG: '),
    ('badpage', 8, r'BUG: Bad page (?:state|map|cache)'),
    ('badpage', 8, r'pagealloc: (?:single bit error|memory corruption)'),
    ('badrss', 8, r'BUG: (?:Bad rss-counter|non-zero pgtables_bytes)'),
    ('lockup', 8, r'(?:watchdog: )?BUG: (?:soft lockup|workqueue lockup)'),
    ('lockup', 8, r'(?:NMI watchdog: |watchdog: )?Watchdog detected hard LOCKUP'),
    ('atomic', 8, r'BUG: (?:sleeping function|scheduling while atomic|scheduling in a non-blocking'
                  r'|using \S+ in preemptible|assuming (?:atomic|non migratable))'),
    ('lockdep', 8, r'WARNING: (?:possible (?:circular|recursive|irq)|inconsistent lock state'
                   r'|\S+-safe -> \S+-unsafe lock order|bad (?:unlock balance|contention)'
                   r'|held lock freed|suspicious RCU usage|chain_key collision'
                   r'|Nested lock was not taken|lock held when returning'
                   r'|.* still has locks held)'),
    ('lockdep', 8, r'\[ BUG: '),
    ('lockdep', 8, r'INFO: trying to register non-static key'),
    ('lockdep', 8, r'BUG: (?:MAX_(?:STACK_TRACE|LOCK)|looking up invalid subclass'
                   r'|key \S+ has not)'),
    ('lockdep', 8, r'DEBUG_LOCKS_WARN_ON'),
    ('lockdep', 0, r'turning off the locking correctness validator'),
    ('lockdep', 0, r'INFO: lockdep is turned off'),
    ('spinlock', 8, r'BUG: (?:spinlock|rwlock) '),
    ('hung', 8, r'INFO: task .* blocked for more than \d+ seconds'),
    ('rcu', 8, r'rcu: INFO: |INFO: \S+ (?:self-)?detected (?:expedited )?stall'),
    ('rcu', 0, r'rcu: \S+ kthread (?:starved|timer wakeup)'),
    ('violation', 9, r'mm_verify: \S+: violation: '),
    ('swap', 8, r'\w+: (?:Bad|Unused) swap (?:file|offset) entry'),
    ('swap', 8, r'(?:Read|Write)-error on swap-device'),
    ('oom', 8, r'.{1,15} invoked oom-killer: '),
    ('oom', 0, r'(?:Out of memory|Memory cgroup out of memory)'),
    ('oom', 0, r'oom_reaper: unable to reap'),
    ('allocfail', 8, r'.{1,15}: (?:page allocation failure: order:|vmalloc error: size)'),
    ('allocfail', 8, r'SLUB: Unable to allocate memory'),
    ('allocfail', 8, r'percpu: allocation failed'),
    ('leak', 8, r'kmemleak: \d+ new suspected memory leaks'),
    ('segfault', 8, r'(?:traps: )?.{1,15}\[\d+\]: segfault at '),
    ('segfault', 8, r'traps: (?!PANIC)'),
    ('fs', 8, r'EXT4-fs error'),
    ('fs', 8, r'XFS.*?: .*(?:[Cc]orrupt|Internal error|Assertion failed|Shutting down|shut down)'),
    ('fs', 8, r'VFS: Busy inodes after unmount'),
    ('io', 8, r'(?:Buffer |blk_update_request: )?I/O error'),
    ('lost', 8, r'\*\* \d+ printk messages dropped'),
    ('hw', 8, r'mce: \[Hardware Error\]'),
    ('oops', 6, r'BUG: (?:kernel NULL|unable to handle)'),
    ('oops', 6, r'Unable to handle kernel '),
    ('oops', 6, r'general protection fault'),
    ('oops', 6, r'BUG: \S+ stack guard page was hit|.*stack guard page'),
    ('oops', 6, r'(?:traps: PANIC: )?double fault'),
    ('oops', 6, r'unchecked MSR access error'),
    ('oops', 6, r'.*: Corrupted page table'),
    ('oops', 4, r'Oops'),
    ('oops', 4, r'[\w ]+: [0-9a-f]{4} \[#\d+\]'),
    ('bug', 7, r'kernel BUG at '),
    ('bug', 7, r'BUG at \S+:\d+'),
    ('bug', 5, r'BUG: '),
    ('warn', 4, r'WARNING: (?!The mand mount option)'),
    ('pagedump', 2, r'page dumped because: '),
    ('warn', 4, r'issue in '),
    ('warn', 1, r'-+\[ cut here \]-+'),
    ('warn', 0, r'---\[ end trace '),
    ('trace', 0, r'Call Trace:'),
)]
CUT = re.compile(r'-+\[ cut here \]-+')
RULE = re.compile(r'={16,}$')
RULED = ('kasan', 'kcsan', 'kfence', 'kmsan', 'ubsan')    # reports that a line of ==== ends
END = re.compile(r'---\[ end (?:trace|Kernel panic)')
# What a program may print on a console whose kernel lines are stamped and what is
# still taken for the kernel's: the full form of the line, never just "BUG:".
BARE = re.compile(r'Kernel panic - not syncing: |WARNING: CPU: \d+ PID: \d+ at '
                  r'|BUG: kernel NULL pointer dereference, address: [0-9a-f]+'
                  r'|BUG: unable to handle page fault for address: [0-9a-f]+'
                  r'|kernel BUG at \S+:\d+!|BUG: Bad page (?:state|map) in process '
                  r'|INFO: task \S+:\d+ blocked for more than |-+\[ cut here \]-+$'
                  r'|BUG: K[A-Z]+SAN: \S+ in \S+\+0x|rcu: INFO: rcu_\S+ '
                  # printed past the log, so without a stamp
                  r'|\*\* \d+ printk messages dropped')
# A test that shows a piece of the log.
QUOTE = re.compile(r'\s*#\s*[\'"]?' + STAMP.pattern)
# A report that the kernel was asked for.
WANTED = re.compile(r'FAULT_INJECTION: forcing a failure')
# Reports of one line each, and what ends any report that has no end marker.
SINGLE = ('swap', 'badrss', 'fs', 'io', 'leak', 'hw', 'lost')
FOREIGN = re.compile(r'MM-LOCKSTEP-|reboot: |ACPI: |Run /init|EXT4-fs|XFS|loop\d|# |    # '
                     r'|\s*(?:not )?ok \d')
# What still belongs to a report after its end marker.
TAIL = re.compile(r'[RE][A-Z0-9]{2}: |CR\d: |CS: |FS: |DR\d: |PKRU: |Code: |note: '
                  r'|Kernel Offset|Disabling lock debugging|Rebooting|Shutting down cpus'
                  r'|Dumping ftrace|={16,}$|$')
WHO = re.compile(r'CPU: |Hardware name|Workqueue|Tainted|RIP: |Code: |R[A-Z0-9]{2}: |[CF]S: |CR2: ')
# The page that a dump's reason stands below.
PAGE = re.compile(r'(?:page|flags|raw|head|memcg|anon|file|aops|invalid mapping|page_type)\b')


@dataclass
class Splat:
    """One report: `line_no` counts from 1 and is its first line on the console,
    `text` its headline, `context` all its lines, `allowed_by` the reason it is let pass."""
    kind: str
    line_no: int
    text: str
    context: list = field(default_factory=list)
    allowed_by: str = None
    fatal: bool = False      # the kernel panicked in it


@dataclass
class Allow:
    """One entry of the allow-list."""
    pattern: re.Pattern
    reason: str
    remove: str


KEYS = ('pattern', 'reason', 'remove', 'until')


def over(until, tree):
    """Has the source in `tree` what ends an entry, FILE#TEXT: the text in that file?"""
    name, _, text = until.partition('#')
    try:
        return bool(tree) and text in (Path(tree) / name).read_text(errors='replace')
    except OSError:
        return False


def load_allow(path=None, tree=None):
    """The entries of an allow-list file that are in force for a kernel of the source in
    `tree`, all without one. Fail: an entry without pattern, reason or removal condition, an
    unknown key, a pattern that is no regular expression or that matches everything."""
    path = Path(path or ALLOW)
    if not path.is_file():
        raise common.Fail(f'{path}: no such allow-list')
    entries, block = [], {}
    for number, line in enumerate([*path.read_text().splitlines(), ''], 1):
        line = line.strip()
        if line.startswith('#'):
            continue
        if line:
            key, colon, value = line.partition(':')
            if not colon or key not in KEYS:
                raise common.Fail(f'{path.name}:{number}: not pattern:, reason:, remove: or until:')
            if key in block:
                raise common.Fail(f'{path.name}:{number}: a second {key}: in one entry; '
                                  'entries are separated by a blank line')
            block[key] = value.strip()
        elif block:
            for key in KEYS[:3]:
                if not block.get(key):
                    raise common.Fail(f'{path.name}:{number - 1}: the entry has no {key}:')
            if 'until' in block and not re.fullmatch(r'[\w./-]+#.+', block['until']):
                raise common.Fail(f'{path.name}:{number - 1}: until: is not FILE#TEXT')
            try:
                pattern = re.compile(block['pattern'])
            except re.error as e:
                raise common.Fail(f'{path.name}:{number - 1}: pattern: {e}') from None
            if pattern.search(''):
                raise common.Fail(f'{path.name}:{number - 1}: the pattern matches every line')
            if not over(block.get('until', ''), tree):
                entries.append(Allow(pattern, block['reason'], block['remove']))
            block = {}
    return entries


def lines_of(text):
    """Console text as lines without the serial port's \\r."""
    return text.replace('\r', '').split('\n')


def user_text(text):
    """What programs wrote, with the kernel's records taken out: a program's line
    that a record split in two is whole again."""
    return re.sub(STAMP.pattern + r'[^\n]*(?:\n|\Z)', '', text.replace('\r', ''))


def _message(line, stamped):
    """(guest seconds, kernel message) of a console line; None where it has none."""
    found = STAMP.search(line)
    if found and QUOTE.match(line):
        return None
    if found:
        return float(found.group(1)), line[found.end():]
    if not stamped or BARE.match(line):
        return None, line
    return None


def _match(message):
    """The most specific (kind, weight) for a message, or None."""
    best = None
    for kind, weight, pattern in DENY:
        if pattern.match(message) and (best is None or weight > best[1]):
            best = kind, weight
    return best


class _Scan:
    """The state machine: at most one report is open."""

    def __init__(self, lines):
        self.lines = lines
        self.stamped = any(STAMP.match(line) for line in lines)
        self.found = []
        self.open = None         # the open Splat
        self.wanted = False      # inside a report that the kernel was asked for
        self.weight = self.since = 0
        self.ended = False       # its end marker was seen
        self.cut = False         # it began at "cut here"
        self.last = None         # guest seconds of the last kernel line
        self.unended = 0         # cut-here reports that another one interrupted
        self.rule = 0            # number of the last line of ====, which may head a report

    def _close(self):
        if self.cut and not self.ended:
            self.unended += 1
        self.open, self.wanted, self.ended, self.cut, self.weight = None, False, False, False, 0

    def _start(self, number, kind, weight, message):
        first = self.rule if 0 <= number - self.rule <= 1 and self.rule else number
        self._close()
        text = message.strip()
        if kind == 'pagedump':
            first = self._back(first, PAGE)
        elif kind == 'trace':
            # no known headline: the line above the CPU's is the best there is
            first = max(1, self._back(first, WHO) - 1)
            said = _message(self.lines[first - 1], self.stamped)
            text = f'{text} below: {said[1].strip()}' if said else text
        self.open = Splat(kind, first, text, self.lines[first - 1:number],
                          fatal=kind == 'panic')
        self.weight, self.since = weight, number
        self.cut = bool(CUT.match(message))
        self.ended = kind in SINGLE
        self.found.append(self.open)

    def _back(self, first, pattern):
        """The first of the lines above line `first` that match, at most ten."""
        for number in range(first - 1, max(0, first - 11), -1):
            got = _message(self.lines[number - 1], self.stamped)
            if not got or not pattern.match(got[1]):
                break
            first = number
        return first

    def _follows(self, kind, weight, message):
        """Does this denied line belong to the open report?"""
        if self.wanted:
            return weight <= 2 and not CUT.match(message) and not END.match(message)
        if END.match(message) and (self.open is None or self.ended) and self.unended:
            self.unended -= 1
            return True
        if self.open is None:
            return False
        if kind == 'panic':
            # the panic that a report leads to; what may be let pass must not swallow it
            return self.open.kind not in ('oom', 'allocfail', 'segfault', 'violation', *SINGLE)
        if self.ended:
            return False
        if weight == 0:
            return True
        if CUT.match(message):
            return self.open.kind == 'pagedump'      # VM_BUG_ON_PAGE: first the page, then BUG
        if kind == 'pagedump':
            return self.open.kind in ('violation', 'badpage', 'slub', *RULED)
        if self.cut and self.weight <= 2:
            return True                              # the first denied line below "cut here"
        if self.cut and re.match(r'WARNING: CPU|kernel BUG at', message):
            return not any(re.search(r'WARNING: CPU|kernel BUG at', line)
                           for line in self.open.context)
        if kind == 'violation' == self.open.kind:
            # one finding may be told in several lines, each with its name in front
            return message.split(': ')[:4] == self.open.text.split(': ')[:4]
        # the "Oops: 0002 [#1]" line of the report
        return kind == 'oops' and weight == 4 and self.open.kind in ('oops', 'bug', 'list')

    def _absorb(self, line, message, denied):
        """A line of the open report."""
        self.open.context.append(line)
        if denied:
            kind, weight = denied
            self.open.fatal |= kind == 'panic'
            if weight > self.weight:
                if self.open.kind == 'pagedump':     # keep the reason beside the place
                    message = f'{message.strip()} ({self.open.text})'
                elif kind == 'warn' and len(self.open.context) > 2:
                    said = _message(self.open.context[1], self.stamped)
                    message = f'{message.strip()} ({said[1].strip() if said else ""})'
                self.weight = weight
                self.open.kind, self.open.text = kind, message.strip()
            self.cut |= bool(CUT.match(message))
        self.ended |= bool(END.match(message))

    def line(self, number, line):
        """One line of the console, in order."""
        got = _message(line, self.stamped)
        if got is None:
            return
        when, message = got
        if when is not None:
            if self.last is not None and when - self.last > GAP:
                self._close()
            self.last = when
        if number - self.since > (MOST if self.open else MOST_WANTED):
            self._close()
        if RULE.match(message):
            if self.open and self.open.kind in RULED and number - self.since > 1:
                self.open.context.append(line)
                self.ended = True
                return
            self.rule = number
        if WANTED.match(message):
            self._close()
            self.wanted, self.since = True, number
            return
        denied = _match(message)
        if denied and not self._follows(*denied, message):
            self._start(number, *denied, message)
        elif self.wanted:
            if re.match(r'\s*</(?:TASK|IRQ)>|page dumped because', message):
                self._close()
        elif self.open is not None:
            if FOREIGN.match(message) or (self.ended and not denied and not TAIL.match(message)):
                self._close()
            else:
                self._absorb(line, message, denied)


def scan(console_lines, allow=(), oom_ok=False):
    """Every report on the console, in order, as Splats. allow: entries of load_allow();
    oom_ok: the run provokes the OOM killer. Let-pass splats are in the list, with
    `allowed_by` set; a splat that panicked is never let pass."""
    scanner = _Scan([line.rstrip('\r\n') for line in console_lines])
    for number, line in enumerate(scanner.lines, 1):
        scanner.line(number, line)
    for splat in scanner.found:
        if splat.fatal:
            continue
        if splat.kind == 'oom' and oom_ok:
            splat.allowed_by = 'this run provokes the OOM killer'
        for entry in allow:
            if entry.pattern.search(splat.text):
                splat.allowed_by = entry.reason
                break
    return scanner.found
