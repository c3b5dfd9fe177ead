# SPDX-License-Identifier: GPL-2.0
"""python3 -m rig COMMAND: the entry points that the Makefile calls."""
import importlib
import signal
import sys

from . import arch, common

# command: (module, function)
COMMANDS = {
    'tree': ('tree', 'make_tree'),
    'export': ('export', 'export'),
    'check': ('export', 'check'),
    'mbox': ('mail', 'mbox'),
    'am': ('mail', 'am'),
    'canary': ('canary', 'main'),
    'kernel': ('build', 'kernel'),
    'bisect': ('bisect', 'main'),
    'boot': ('boot', 'interactive'),
    'run': ('run', 'main'),
    'test': ('test', 'main'),
    'lint': ('lint', 'main'),
    'prove': ('prove', 'main'),
    'cross': ('cross', 'main'),
    'bench': ('bench', 'main'),
    'events': ('events', 'main'),
    'load': ('load', 'main'),
    'soak': ('soak', 'main'),
    'models': ('models', 'main'),
    'maple': ('maple', 'main'),
}


def main():
    """Dispatch; a Fail is one line and exit 1, Ctrl-C ends the children and exits 130."""
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        print(f'usage: python3 -m rig {{{"|".join(COMMANDS)}}}; settings come from the '
              'environment, see README.md', file=sys.stderr)
        return 2
    for sig in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.default_int_handler)
    module, function = COMMANDS[sys.argv[1]]
    try:
        if arch.guest() != arch.NATIVE and sys.argv[1] not in ('kernel', 'boot', 'run'):
            raise common.Fail(f'ARCH={arch.guest().name}: make {sys.argv[1]} knows no other machine '
                              'than x86_64')
        return getattr(importlib.import_module(f'.{module}', 'rig'), function)() or 0
    except common.Fail as e:
        print(f'mm-lockstep: {e}', file=sys.stderr)
        return 1
    except OSError as e:
        print(f'mm-lockstep: {e.strerror}: {e.filename or "no file named"}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nmm-lockstep: interrupted; nothing is left running', file=sys.stderr)
        return 130
    finally:
        common.end_children()


sys.exit(main())
