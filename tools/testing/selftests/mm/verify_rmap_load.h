/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The load: all that changes entries and mapcounts while the verifier looks.
 */
#ifndef _SELFTESTS_MM_VERIFY_RMAP_LOAD_H
#define _SELFTESTS_MM_VERIFY_RMAP_LOAD_H

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "verify_rmap.h"

/* Works until the time has come, and while its parent lives. */
static void until(time_t end, void (*work)(void))
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (time(NULL) < end)
		work();
	_exit(0);
}

/* Fork storms over pages that many map, with copies and early exits. */
static void load_forks(void)
{
	static char *at;
	size_t size = 200 * page_size;
	int n;

	if (!at) {
		at = map_anon(size);
		if (!at)
			_exit(1);
		touch(at, size, 1);
	}
	for (n = 0; n < 8; n++)
		if (!fork()) {
			if (n & 1)
				touch(at, size / 2, n);
			if (n & 2)
				munmap(at + size / 4, size / 2);
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
}

/* exec moves the stack it has built. */
static void load_exec(void)
{
	int n;

	for (n = 0; n < 4; n++)
		if (!vfork()) {
			execl("/bin/true", "true", NULL);
			_exit(1);
		}
	while (wait(NULL) > 0)
		;
}

static void load_files(void)
{
	size_t size = 256 * page_size;
	static int fd = -1;
	char *at, *two;

	if (fd < 0) {
		fd = memfd_create("load", 0);
		if (fd < 0 || ftruncate(fd, size))
			_exit(1);
	}
	at = map(size, MAP_SHARED, fd);
	two = map(size, MAP_PRIVATE, fd);
	if (!at || !two)
		_exit(1);
	touch(at, size, 1);
	look(two, size);
	touch(two + size / 2, size / 4, 2);
	munmap(at + size / 4, size / 4);
	madvise(two, size / 2, MADV_DONTNEED);
	look(two, size);
	munmap(at, size);
	munmap(two, size);
}

/* Splits and merges of VMAs, and entries that move. */
static void load_vmas(void)
{
	size_t size = 128 * page_size, i;
	char *at = map_anon(size), *to = map_anon(size);

	if (!at || !to)
		_exit(1);
	touch(at, size, 1);
	for (i = 0; i < size; i += 8 * page_size)
		mprotect(at + i, 4 * page_size, PROT_READ);
	mprotect(at, size, PROT_READ | PROT_WRITE);
	for (i = 0; i < 8; i++) {
		char *from = i & 1 ? to : at;

		if (mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED,
			   i & 1 ? at : to) == MAP_FAILED)
			_exit(1);
		if (i == 4 && !fork())
			_exit(0);
	}
	while (wait(NULL) > 0)
		;
	munmap(at, size);
	munmap(to, size);
}

static void load_thp(void)
{
	char *at;

	if (!huge_size) {
		usleep(100000);
		return;
	}
	at = map_aligned(MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (!at)
		_exit(1);
	memset(at, 1, huge_size);
	if (!fork()) {
		mprotect(at, page_size, PROT_READ);
		_exit(0);
	}
	madvise(at + huge_size / 2, page_size * 9, MADV_DONTNEED);
	touch(at, huge_size, 2);
	while (wait(NULL) > 0)
		;
	madvise(at, huge_size, MADV_COLLAPSE);
	madvise(at, huge_size, MADV_PAGEOUT);
	touch(at, huge_size, 3);
	munmap(at, huge_size);
}

static void load_mlock(void)
{
	size_t size = 64 * page_size;
	char *at = map_anon(size);

	if (!at)
		_exit(1);
	mlock(at, size);
	touch(at, size, 1);
	munlock(at + size / 4, size / 4);
	madvise(at + size / 4, size / 4, MADV_PAGEOUT);
	munmap(at, size);
}

static void load_ksm(void)
{
	size_t size = 64 * page_size;
	char *at = map_anon(size);

	if (!at)
		_exit(1);
	memset(at, 5, size);
	madvise(at, size, MADV_MERGEABLE);
	usleep(300000);
	if (!fork()) {
		touch(at, size / 2, 1);
		_exit(0);
	}
	madvise(at, size / 2, MADV_UNMERGEABLE);
	touch(at, size, 3);
	while (wait(NULL) > 0)
		;
	munmap(at, size);
}

/* Migration, and reclaim. */
static void load_system(void)
{
	write_file("/proc/sys/vm/compact_memory", "1");
	usleep(200000);
	write_file("/proc/sys/vm/drop_caches", "1");
	usleep(200000);
}

static void (*const loads[])(void) = {
	load_forks, load_forks, load_exec, load_files, load_vmas, load_thp,
	load_mlock, load_ksm, load_system,
};

#endif /* _SELFTESTS_MM_VERIFY_RMAP_LOAD_H */
