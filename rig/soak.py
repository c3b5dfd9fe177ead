# SPDX-License-Identifier: GPL-2.0
"""make soak: the load in every shape on every config, one after the other, resumable."""
import json
import re
import time

from . import build, common, fetch, kit, load, tree

SHAPES = ('700M,nomemcg', '700M,memcg-v1', '1G,memcg-v1', '1G,memcg-v2')
CONFIGS = ('debug', 'lockdep', 'kasan', 'kcsan')
MINUTES = '30'
VERSION = 1
AGAIN = ('not run', 'broken')    # says nothing about the kernel: tried again by the next call


def words(name, default):
    """A setting that is a list of words; commas stand inside of words."""
    value = common.setting(name)
    return value.split() if value else list(default)


def settings():
    """What make soak was told, checked before anything is built."""
    found = {'configs': words('CONFIGS', CONFIGS),
             'shapes': [load.shape_name(s) for s in words('SHAPES', SHAPES)],
             'minutes': load.minutes_of(common.setting('MINUTES', MINUTES)),
             'disturb': load.disturbers_of(common.setting('DISTURB', 'default')),
             'interval': common.setting('INTERVAL', str(load.INTERVAL))}
    if not found['interval'].isdigit():
        raise common.Fail(f'INTERVAL={found["interval"]}: milliseconds, or 0 for no verifier')
    for config in found['configs']:
        build.fragments(config)
    return found


def read_state(path):
    """{key: record of one load}; a state that cannot be read is set aside, never trusted."""
    try:
        held = json.loads(path.read_text())
        if held['version'] == VERSION and isinstance(held['done'], dict):
            return held['done']
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    path.replace(path.with_suffix('.damaged'))
    common.say(f'    {path.name}: not readable, set aside as {path.stem}.damaged; starting anew')
    return {}


def key(kernel, config, shape, how):
    """What makes two loads the same: the kernel's bytes, config, shape and settings."""
    return (f'{config} {shape} {how["minutes"]:g} {how["disturb"]} {how["interval"]} '
            f'{fetch.sha256(kernel)[:16]}')


def run_one(config, shape, how, kernel, tests_dir, folder):
    """One load; its record, also when it could not run."""
    begun = time.monotonic()
    try:
        outcome = load.run(config, shape, how['minutes'], folder, disturb=how['disturb'],
                           interval=int(how['interval']), kernel=kernel, tests_dir=tests_dir)
    except common.Fail as e:
        return {'shape': shape, 'config': config, 'ok': False, 'state': 'not run', 'report': {},
                'wall_seconds': round(time.monotonic() - begun, 1), 'folder': str(folder),
                'findings': [{'kind': 'broken', 'text': str(e), 'seconds': None, 'known': ''}]}
    return {**load.record(outcome), 'state': load.state(outcome)}


def soak(how, home, kernels, tests_dir, run=run_one):
    """Every shape on every config in turn; [record]. What home/state.json has of an earlier
    call with the same kernel and settings is not run again, except what did not run.
    kernels: {config: bzImage}."""
    path = home / 'state.json'
    done = read_state(path)
    plan = [(config, shape) for config in how['configs'] for shape in how['shapes']]
    records = []
    for n, (config, shape) in enumerate(plan, 1):
        this = key(kernels[config], config, shape, how)
        held = done.get(this)
        if held and held['state'] not in AGAIN:
            common.say(f'[{n}/{len(plan)}] {shape}, {config}: {held["state"]}, from before')
            records.append(held)
            continue
        common.say(f'[{n}/{len(plan)}] {shape}, {config}: {how["minutes"]:g} min')
        held = run(config, shape, how, kernels[config], tests_dir, home / f'{shape}-{config}')
        done[this] = held
        common.write(path, json.dumps({'version': VERSION, 'done': done}, indent=1) + '\n')
        records.append(held)
        common.say(f'    {held["state"]}')
    return records


def summary(records):
    """One table, then every finding once with the loads that had it."""
    out = [f'  {"shape":<16}{"config":<9}{"state":<18}{"min":>6}{"iter":>6}{"objects":>9}'
           f'{"in MB":>8}{"out MB":>8}{"OOM":>5}{"first":>8}']
    total = [0, 0, 0, 0]
    for r in records:
        rep = r['report']
        counts = [load.number(rep, k) for k in ('iterations', 'objects_compared', 'swap_in_pages',
                                                'swap_out_pages')]
        total = [a + b for a, b in zip(total, counts)]
        first = rep.get('first_finding_seconds', '-')
        out.append(f'  {r["shape"]:<16}{r["config"]:<9}{r["state"]:<18}'
                   f'{load.number(rep, "seconds") / 60:>6.1f}{counts[0]:>6}{counts[1]:>9}'
                   f'{counts[2] // 256:>8}{counts[3] // 256:>8}{load.number(rep, "oom_kills"):>5}{first:>8}')
    out.append(f'  {"all":<49}{total[0]:>6}{total[1]:>9}{total[2] // 256:>8}{total[3] // 256:>8}')
    seen = {}
    for r in records:
        for f in r['findings']:
            # Without numbers, and by its reason when it is known: one cause stands once.
            text = f['known'] or re.sub(r'\b(0x)?[0-9a-f]*\d[0-9a-f]*\b', 'N', f['text'])
            seen.setdefault((f['kind'], text), [f, []])[1].append(f'{r["shape"]} {r["config"]}')
    for f, where in seen.values():
        out.append(f'  {"known" if f["known"] else "NEW"} {f["kind"]}: {f["text"]}'
                   + (f' ({f["known"]})' if f['known'] else '')
                   + f'\n      in {"; ".join(dict.fromkeys(where))}')
    good = sum(r['ok'] for r in records)
    out.append(f'  {good} of {len(records)} loads without a new finding')
    return '\n'.join(out)


def main():
    """make soak. Settings: SHAPES and CONFIGS (words), MINUTES (of each), DISTURB, INTERVAL, SMP,
    APPEND; RESTART=1 forgets what was done. Exit 1 when a load found something new."""
    how = settings()
    home = common.OUT / 'soak'
    with common.lock():
        fetch.base_repo()
        tree.make_tree()
        if common.setting('RESTART'):
            common.end_of(home / 'state.json')
        kernels = {}
        for n, config in enumerate(how['configs'], 1):
            common.say(f'kernel {n} of {len(how["configs"])}: {config}')
            kernels[config] = build.kernel_image(config)
        tests_dir = build.selftests(common.LINUX, common.OUT / 'selftests' / 'load',
                                    targets=load.TARGETS)
        kit.make_kit()
        records = soak(how, home, kernels, tests_dir)
    text = summary(records)
    common.write(home / 'summary.txt', text + '\n')
    common.write(home / 'summary.json', json.dumps(records, indent=1) + '\n')
    common.say(f'\n{text}\n\nlogs in {home}')
    return 0 if all(r['ok'] for r in records) else 1
