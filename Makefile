# SPDX-License-Identifier: GPL-2.0
# Every entry point. Settings are given as NAME=value behind the target, for
# example `make boot CONFIG=lockdep SMP=4`; README.md lists them.

SHELL := /bin/bash
PYTHON ?= /usr/bin/python3
RIG = $(PYTHON) -B -m rig

export BASE CONFIG SMP MEM APPEND ACCEL LINUX TARBALL TREE PATCH FROM TO BOOT \
	PEER ROWS TESTS SWAP JOBS DISCARD FORCE OUT MINUTES SHAPE DISTURB INTERVAL \
	SHAPES CONFIGS RESTART SKIP_DEPS ARCH ARCHS

COMMANDS := run test lint tree export check mbox am canary kernel boot prove \
	bench events bisect load soak models cross maple

help:
	@sed -n 's/^#: //p' Makefile

#: make run       fetch, apply, build, boot, run the selftests, print the verdict
#: make test      the project's tests; the last line is "N passed, N failed"
#: make lint      the tests that need no build
#: make tree      linux/: the base and every patch as commits
#: make export    write linux/'s commits back to patches/
#: make check     import and export give what is recorded
#: make mbox      the series as one mailbox for git am and b4 am
#: make am        apply the series to your own tree: TREE=path
#: make canary    apply it to the newest 6.1.y that apt offers
#: make kernel    build one kernel: CONFIG=debug|lockdep|kasan|kcsan|production
#: make boot      a shell in the guest: CONFIG= SMP= MEM= APPEND= SWAP=
#: make prove     each patch's test fails before it and passes after: PATCH=
#: make bench     instructions an operation, base and series: PEER= ROWS=
#: make events    what fixed reclaim jobs cost in locks, scans and sleeps
#: make load      the swapping load: MINUTES= SHAPE= CONFIG= DISTURB= INTERVAL=ms
#: make soak      the load in every shape on every config, resumable:
#:                SHAPES= CONFIGS= MINUTES= RESTART=1
#: make models    spin refutes the base's order of things and proves the series'
#: make maple     the maple tree's tests in user space
#: make cross     mm/ for other machines, base and series: ARCHS='arm64 s390x'
#: make bisect    build every patch in turn: FROM= TO= CONFIG= BOOT=1

# Compilers for other machines are large: only who asks for one gets them.
deps:
	@rig/deps.sh
ifneq ($(filter cross,$(MAKECMDGOALS))$(filter-out x86_64,$(ARCH)),)
	@PACKAGES=rig/packages-cross.txt rig/deps.sh
endif

$(COMMANDS): deps
	@$(RIG) $@

clean:
	rm -rf out

.PHONY: help deps clean $(COMMANDS)
