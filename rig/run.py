# SPDX-License-Identifier: GPL-2.0
"""make run, the main job: fetch, apply, build, boot, selftests, verdict."""
from . import boot, build, common, fetch, session, tree, verdict


def main():
    """Settings: CONFIG, SMP, MEM, APPEND, TESTS, ACCEL, TARBALL, LINUX. Exit 1 when the
    verdict is bad."""
    config = common.setting('CONFIG', 'debug')
    common.base()
    build.fragments(config)
    boot.machine(common.setting('MEM', '1G'), common.count('SMP', 2))
    outdir = common.OUT / 'run' / config
    stages = common.Stages('fetch the base', 'apply the series', f'build the {config} kernel',
                           'build the selftests', 'boot and run the selftests')
    with common.lock():
        with stages.stage('fetch the base'):
            fetch.base_repo()
        with stages.stage('apply the series'):
            tree.make_tree()
        with stages.stage(f'build the {config} kernel', 'about 10 min when cold'):
            kernel = build.kernel_image(config)
        with stages.stage('build the selftests'):
            tests = build.selftests(common.LINUX, common.OUT / 'selftests' / 'tip')
        with stages.stage('boot and run the selftests'):
            done = session.start(config, kernel, outdir, tests_dir=tests,
                                 tests=common.setting('TESTS', ''))
    common.say('')
    common.say(verdict.table(done.verdict))
    common.say('')
    common.say(stages.table())
    common.say(f'  {"guest: until init":<28}{done.boot.init_seconds or 0:8.1f} s')
    common.say(f'\nkernel {kernel}\nlogs   {outdir}')
    return 0 if done.ok else 1
