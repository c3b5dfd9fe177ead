// SPDX-License-Identifier: GPL-2.0
/*
 * Pages migrate while brk() grows and shrinks the heap that they are in: a walk
 * that comes by while the VMA's range changes must find every page-table entry,
 * or a migration entry is left behind. What is met later of such an entry is a
 * warning, or a fault that waits for a page nobody will unlock.
 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "../kselftest_harness.h"
#include "vma_ops.h"

#define SECONDS		10
#define HEAPS		3
#define HEAP_PAGES	2048UL

static long long migrated(void)
{
	return vm_counter("pgmigrate_success");
}

/* Free single pages amid others, so that compaction has work to do. */
static void fragment(void)
{
	size_t size = 128 << 20, at;
	char *map = mmap(NULL, size, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return;
	madvise(map, size, MADV_NOHUGEPAGE);
	for (at = 0; at < size; at += PG)
		map[at] = 1;
	for (at = 0; at < size; at += 2 * PG)
		madvise(map + at, PG, MADV_DONTNEED);
	usleep(300000);
	munmap(map, size);
}

static void work_compact(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		write_file("/proc/sys/vm/compact_memory", "1");
}

static void work_fragment(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		fragment();
}

/* Exits with 0 when every page that stayed has kept what was written. */
static void work_heap(time_t end)
{
	unsigned int seed = getpid();
	unsigned long have = 0, want, i;
	char *heap = sbrk(0);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	heap += -(unsigned long)heap & (PG - 1);
	while (time(NULL) < end) {
		want = rand_r(&seed) % HEAP_PAGES;
		if (brk(heap + want * PG))
			_exit(1);
		for (i = have; i < want; i++)
			*(unsigned long *)(heap + i * PG) = i ^ 0x5a5a;
		have = want;
		for (i = 0; i < have; i++)
			if (*(unsigned long *)(heap + i * PG) != (i ^ 0x5a5a))
				_exit(2);
		/* The child's VMAs hang in the same anon_vmas. */
		if (!(rand_r(&seed) % 8)) {
			pid_t pid = fork();

			if (!pid)
				_exit(brk(heap + have / 2 * PG) ? 1 : 0);
			waitpid(pid, NULL, 0);
		}
	}
	_exit(0);
}

TEST(brk_grows_shrinks)
{
	long long before = migrated(), moved;
	pid_t heaps[HEAPS], others[2];
	int i, status;
	time_t end;

	if (geteuid() || access("/proc/sys/vm/compact_memory", W_OK))
		SKIP(return, "needs root and CONFIG_COMPACTION");
	end = time(NULL) + SECONDS;
	for (i = 0; i < 2; i++) {
		others[i] = fork();
		ASSERT_LE(0, others[i]);
		if (!others[i])
			i ? work_compact() : work_fragment();
	}
	for (i = 0; i < HEAPS; i++) {
		heaps[i] = fork();
		ASSERT_LE(0, heaps[i]);
		if (!heaps[i])
			work_heap(end);
	}
	for (i = 0; i < HEAPS; i++) {
		ASSERT_EQ(heaps[i], waitpid(heaps[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	for (i = 0; i < 2; i++) {
		kill(others[i], SIGKILL);
		waitpid(others[i], NULL, 0);
	}
	moved = migrated() - before;
	TH_LOG("%lld pages migrated", moved);
	EXPECT_LT(1000, moved);
}

TEST_HARNESS_MAIN
