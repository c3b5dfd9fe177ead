# SPDX-License-Identifier: GPL-2.0
"""make run, the main job: fetch, apply, build, boot, selftests, verdict."""
from . import arch, boot, build, common, fetch, session, tree, verdict


# It asks for what the verifiers and the fault injection need.
DEBUGS = 'check_config.sh'


def verifies(config, machine):
    """Does the config have the verifiers?"""
    asked = build.requests(build.fragments(config, machine))
    return asked.get('CONFIG_DEBUG_VM_VERIFY', ('n',))[0] == 'y'


def others(tests):
    """The comma list of the built tests but DEBUGS."""
    names = (tests / 'mm' / 'tests.list').read_text().split()
    return ','.join(name for name in names if name != DEBUGS)


def main():
    """Settings: CONFIG, ARCH, SMP, MEM, APPEND, TESTS, ACCEL, TARBALL, LINUX. Exit 1 when the
    verdict is bad."""
    config, machine = common.setting('CONFIG', 'debug'), arch.guest()
    common.base()
    build.fragments(config, machine)
    boot.machine(common.setting('MEM', '1G'), common.count('SMP', 2), machine)
    outdir = common.OUT / 'run' / build.folder_of(config, machine).name
    asked = common.setting('TESTS', '')
    plain = not asked and not verifies(config, machine)
    extra = () if asked or plain or machine != arch.NATIVE else session.EXTRA
    stages = common.Stages('fetch the base', 'apply the series', f'build the {config} kernel',
                           'build the selftests', 'boot and run the selftests',
                           *(f'boot: {e.name}' for e in extra))
    with common.lock():
        with stages.stage('fetch the base'):
            fetch.base_repo()
        with stages.stage('apply the series'):
            tree.make_tree()
        with stages.stage(f'build the {config} kernel', 'about 10 min when cold'):
            kernel = build.kernel_image(config, arch=machine)
        with stages.stage('build the selftests'):
            tests = build.selftests(common.LINUX, common.OUT / 'selftests' / 'tip', arch=machine)
        if plain:
            common.say(f'CONFIG={config} has no CONFIG_DEBUG_VM_VERIFY: without {DEBUGS}, and without '
                       'the boots whose tests all need it')
            asked = others(tests)
        with stages.stage('boot and run the selftests'):
            ended = [session.start(config, kernel, outdir, tests_dir=tests, tests=asked,
                                   arch=machine)]
        for one in extra:
            with stages.stage(f'boot: {one.name}'):
                ended.append(session.start(config, kernel, outdir / one.name.replace(' ', '-'),
                                           tests_dir=tests, tests=one.tests, append=one.append,
                                           mem=one.mem))
    for name, done in zip(('', *(e.name for e in extra)), ended):
        common.say(f'\n{name}:' if name else '')
        common.say(verdict.table(done.verdict))
    common.say('')
    common.say(stages.table())
    common.say(f'  {"guest: until init":<28}{ended[0].boot.init_seconds or 0:8.1f} s')
    common.say(f'\nkernel {kernel}\nlogs   {outdir}')
    return 0 if all(done.ok for done in ended) else 1
