// SPDX-License-Identifier: GPL-2.0
/*
 * The memcg verifier: it sees what it says it looks for, it compares every
 * group, says nothing false of busy ones, and what it counts is what
 * memory.stat tells.
 */
#include <linux/falloc.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "../kselftest_harness.h"
#include "memcg_group.h"

#define VERIFIER	"memcg"
#define LOAD_SECONDS	15
#define MIB		(1024 * 1024UL)

static struct memcg_verdict verdict;

static void make_quiet(struct __test_metadata *_metadata, const char *when)
{
	ASSERT_EQ(0, verify_memcg_settled(&verdict));
	TH_LOG("%s: %s", when, verdict.line);
	EXPECT_EQ(0, verdict.violations);
	EXPECT_EQ(0, verdict.unsettled);
}

FIXTURE(memcg) {
};

FIXTURE_SETUP(memcg)
{
}

FIXTURE_TEARDOWN(memcg)
{
}

TEST_F_TIMEOUT(memcg, idle, 300)
{
	if (!verify_present() || !memcg_root(false))
		SKIP(return, NEEDS_VERIFY);

	make_quiet(_metadata, "idle");
	EXPECT_LT(0, verify_number(verdict.line, "groups"));
	EXPECT_LT(0, verify_number(verdict.line, "folios"));
}

/* A child that holds memory of known sizes: anonymous, and half of a file. */
static void hold(int ready)
{
	int fd = memfd_create("hold", 0);
	char *anon, *file;
	size_t i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	anon = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	file = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || anon == MAP_FAILED || file == MAP_FAILED ||
	    ftruncate(fd, 8 * MIB) ||
	    madvise(anon, 4 * MIB, MADV_NOHUGEPAGE) ||
	    fallocate(fd, 0, 0, 8 * MIB))
		_exit(1);
	for (i = 0; i < 4 * MIB; i += 4096) {
		anon[i] = 1;
		file[i] = 1;
	}
	if (write(ready, "", 1) != 1)
		_exit(1);
	pause();
}

/* The group's folios are there, and there is no finding about it. */
TEST_F_TIMEOUT(memcg, matches_memory_stat, 300)
{
	const char *root = memcg_root(true);
	long long before;
	struct group g;
	int fds[2];
	char byte;
	pid_t pid;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);
	if (!root)
		SKIP(return, NEEDS_V1);

	make_quiet(_metadata, "before");
	before = verify_number(verdict.line, "folios");
	ASSERT_EQ(0, group_make(&g, root, "verify_memcg"));
	ASSERT_EQ(0, pipe(fds));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (group_take(&g, getpid()))
			_exit(1);
		hold(fds[1]);
		_exit(1);
	}
	close(fds[1]);
	ASSERT_EQ(1, read(fds[0], &byte, 1));

	EXPECT_LE(4 * MIB, group_stat(&g, "rss"));
	EXPECT_EQ(8 * MIB, group_stat(&g, "shmem"));
	EXPECT_LE(8 * MIB, group_stat(&g, "cache"));
	EXPECT_LE(4 * MIB, group_stat(&g, "mapped_file"));
	make_quiet(_metadata, "held");
	/* 1024 of one kind, 2048 of another, when none of them is a huge page. */
	EXPECT_LT(before + 1024, verify_number(verdict.line, "folios"));

	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_EQ(0, group_stat(&g, "rss"));
	EXPECT_EQ(0, group_stat(&g, "shmem"));
	EXPECT_EQ(0, group_stat(&g, "mapped_file"));
	EXPECT_EQ(0, group_remove(&g));
	make_quiet(_metadata, "after");
}

/*
 * A load in two groups. The verifier may say that it could not compare, but
 * nothing that is not so: no code of this load counts wrongly.
 */
static void until(time_t end, void (*work)(void))
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (time(NULL) < end)
		work();
	_exit(0);
}

static void load_anon(void)
{
	size_t size = 4 * MIB, i;
	char *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return;
	for (i = 0; i < size; i += 4096)
		map[i] = 1;
	madvise(map + size / 4, size / 2, MADV_DONTNEED);
	if (!fork()) {
		map[0] = 2;
		_exit(0);
	}
	wait(NULL);
	munmap(map, size);
}

static int shared_fd = -1;

static void load_map(void)
{
	size_t size = 2 * MIB, i;
	char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
			 shared_fd, 0);

	if (map == MAP_FAILED)
		return;
	for (i = 0; i < size; i += 4096)
		map[i]++;
	munmap(map, size);
}

static void load_punch(void)
{
	fallocate(shared_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		  MIB / 2, MIB);
	usleep(1000);
}

/* Migrates pages, and frees them when they are clean. */
static void load_compact(void)
{
	write_file("/proc/sys/vm/compact_memory", "1");
	usleep(50000);
	write_file("/proc/sys/vm/drop_caches", "1");
	usleep(50000);
}

static void (*const loads[])(void) = {
	load_anon, load_map, load_map, load_punch, load_compact,
};

TEST_F_TIMEOUT(memcg, under_load, 600)
{
	const char *root = memcg_root(false);
	long long runs = 0, checked = 0;
	pid_t pids[ARRAY_SIZE(loads)];
	struct group g[2];
	unsigned int i;
	int status;
	time_t end;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);
	if (!root)
		SKIP(return, NEEDS_GROUP);

	shared_fd = memfd_create("shared", 0);
	ASSERT_LE(0, shared_fd);
	ASSERT_EQ(0, ftruncate(shared_fd, 2 * MIB));
	ASSERT_EQ(0, group_make(&g[0], root, "verify_memcg0"));
	ASSERT_EQ(0, group_make(&g[1], root, "verify_memcg1"));
	end = time(NULL) + LOAD_SECONDS;
	for (i = 0; i < ARRAY_SIZE(loads); i++) {
		pids[i] = fork();
		ASSERT_LE(0, pids[i]);
		if (!pids[i]) {
			if (group_take(&g[i & 1], getpid()))
				_exit(1);
			until(end, loads[i]);
		}
	}
	while (time(NULL) < end) {
		ASSERT_EQ(0, verify_memcg(&verdict));
		EXPECT_EQ(0, verdict.violations) TH_LOG("%s", verdict.line);
		checked += atoll(strchr(verdict.line, ' '));
		runs++;
	}
	for (i = 0; i < ARRAY_SIZE(loads); i++) {
		ASSERT_EQ(pids[i], waitpid(pids[i], &status, 0));
		EXPECT_EQ(0, status) TH_LOG("load %u", i);
	}
	TH_LOG("%lld runs under load, %lld counters compared", runs, checked);
	close(shared_fd);
	make_quiet(_metadata, "after load");
	EXPECT_EQ(0, group_remove(&g[0]));
	EXPECT_EQ(0, group_remove(&g[1]));
	make_quiet(_metadata, "after the groups");
}

/* Each finding, planted: found under its name, and gone afterwards. */
FIXTURE(inject) {
};

FIXTURE_VARIANT(inject) {
	const char *finding;
};

FIXTURE_VARIANT_ADD(inject, anon_mapped) {
	.finding = "anon_mapped",
};

FIXTURE_VARIANT_ADD(inject, file_mapped) {
	.finding = "file_mapped",
};

FIXTURE_VARIANT_ADD(inject, file_pages) {
	.finding = "file_pages",
};

FIXTURE_VARIANT_ADD(inject, shmem) {
	.finding = "shmem",
};

FIXTURE_VARIANT_ADD(inject, file_dirty) {
	.finding = "file_dirty",
};

FIXTURE_VARIANT_ADD(inject, writeback) {
	.finding = "writeback",
};

FIXTURE_VARIANT_ADD(inject, swapcache) {
	.finding = "swapcache",
};

FIXTURE_VARIANT_ADD(inject, anon_thps) {
	.finding = "anon_thps",
};

FIXTURE_VARIANT_ADD(inject, shmem_thps) {
	.finding = "shmem_thps",
};

FIXTURE_VARIANT_ADD(inject, file_thps) {
	.finding = "file_thps",
};

FIXTURE_VARIANT_ADD(inject, shmem_pmdmapped) {
	.finding = "shmem_pmdmapped",
};

FIXTURE_VARIANT_ADD(inject, file_pmdmapped) {
	.finding = "file_pmdmapped",
};

FIXTURE_VARIANT_ADD(inject, negative) {
	.finding = "negative",
};

FIXTURE_VARIANT_ADD(inject, nodes) {
	.finding = "nodes",
};

FIXTURE_VARIANT_ADD(inject, hierarchy) {
	.finding = "hierarchy",
};

FIXTURE_SETUP(inject)
{
}

FIXTURE_TEARDOWN(inject)
{
}

TEST_F_TIMEOUT(inject, caught_and_undone, 300)
{
	int ret = -EAGAIN, tries;
	char want[64];

	if (!inject_present())
		SKIP(return, NEEDS_INJECT);
	if (!memcg_root(false))
		SKIP(return, NEEDS_GROUP);

	/* It needs a group that is quiet just now. */
	for (tries = 0; tries < 5 && ret == -EAGAIN; tries++) {
		sync();
		ret = verify_inject(VERIFIER, variant->finding);
	}
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, verify_line(VERIFIER, verdict.line, sizeof(verdict.line)));
	snprintf(want, sizeof(want), " injected=%s:caught", variant->finding);
	EXPECT_NE(NULL, strstr(verdict.line, want)) TH_LOG("%s", verdict.line);
	EXPECT_LE(1, verify_number(verdict.line, variant->finding))
		TH_LOG("%s", verdict.line);

	ASSERT_EQ(0, verify_memcg_settled(&verdict));
	EXPECT_EQ(0, verify_number(verdict.line, variant->finding))
		TH_LOG("%s", verdict.line);
	EXPECT_EQ(NULL, strstr(verdict.line, "injected="))
		TH_LOG("%s", verdict.line);
}

TEST_HARNESS_MAIN
