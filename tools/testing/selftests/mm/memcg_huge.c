// SPDX-License-Identifier: GPL-2.0
/*
 * Huge pages in page cache are counted for the group and the node that they are
 * in, and what was there before is not any more.
 */
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../kselftest_harness.h"
#include "memcg_group.h"

#define TMPFS		"/tmp/memcg_huge"
#define HUGE_SIZE	"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

/* What the file's pages are counted as, in both versions of memory.stat */
static const char *file_field;
static long long huge_size;

FIXTURE(huge) {
	struct group one, other;
	const char *skip;
	int fd;
};

FIXTURE_SETUP(huge)
{
	const char *root = memcg_root(false);
	char text[64];

	self->fd = -1;
	self->skip = NULL;
	huge_size = read_file(HUGE_SIZE, text, sizeof(text)) > 0 ?
		    strtoll(text, NULL, 10) : 0;
	if (!root)
		self->skip = NEEDS_GROUP;
	else if (!huge_size)
		self->skip = "needs transparent huge pages";
	else if (!verify_present())
		self->skip = NEEDS_VERIFY;
	if (self->skip)
		return;
	mkdir(TMPFS, 0700);
	/* Written without a mapping, it has small pages. */
	ASSERT_EQ(0, mount("tmpfs", TMPFS, "tmpfs", 0, "huge=advise"));
	self->fd = open(TMPFS "/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, group_make(&self->one, root, "memcg_huge_one"));
	ASSERT_EQ(0, group_make(&self->other, root, "memcg_huge_other"));
	file_field = group_stat(&self->one, "file") < 0 ? "cache" : "file";
}

FIXTURE_TEARDOWN(huge)
{
	if (self->skip)
		return;
	close(self->fd);
	umount2(TMPFS, MNT_DETACH);
	rmdir(TMPFS);
	group_remove(&self->one);
	group_remove(&self->other);
}

/* Run a part of a test in a group, or where we are. Returns 0 or what it says. */
static int in_group(struct group *g, int (*part)(int fd), int fd)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (g && group_take(g, getpid()))
			_exit(100);
		_exit(part(fd));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int write_all(int fd)
{
	static char page[4096] = { 1 };
	long long at;

	for (at = 0; at < huge_size; at += sizeof(page))
		if (pwrite(fd, page, sizeof(page), at) != sizeof(page))
			return 1;
	return 0;
}

static int write_every_other(int fd)
{
	static char page[4096] = { 1 };
	long long at;

	for (at = 0; at < huge_size; at += 2 * sizeof(page))
		if (pwrite(fd, page, sizeof(page), at) != sizeof(page))
			return 1;
	return ftruncate(fd, huge_size) ? 2 : 0;
}

/* A mapping that a huge page fits into. */
static char *map_huge(int fd)
{
	char *hole = mmap(NULL, 2 * huge_size, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *at;

	if (hole == MAP_FAILED)
		return NULL;
	at = (char *)(((unsigned long)hole + huge_size - 1) &
		      ~(huge_size - 1));
	at = mmap(at, huge_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		  fd, 0);
	if (at == MAP_FAILED || madvise(at, huge_size, MADV_HUGEPAGE))
		return NULL;
	return at;
}

static int collapse(int fd)
{
	char *at = map_huge(fd);
	int tries;

	/* A page table, or a mapping is not collapsed into. */
	if (!at || madvise(at, 1, MADV_POPULATE_READ))
		return 1;
	/* A page that is on a CPU's list for the LRU cannot be isolated. */
	for (tries = 0; tries < 100; tries++) {
		if (!madvise(at, huge_size, MADV_COLLAPSE))
			return 0;
		usleep(10000);
	}
	return 2;
}

static void collapse_written(struct __test_metadata *_metadata,
			     struct group *one, struct group *other, int fd,
			     int (*write)(int fd), long long written)
{
	struct memcg_verdict verdict;

	ASSERT_EQ(0, in_group(one, write, fd));
	EXPECT_LE(written, group_stat(one, "shmem"));
	ASSERT_EQ(0, in_group(other, collapse, fd));

	ASSERT_EQ(0, verify_memcg_settled(&verdict));
	EXPECT_EQ(0, verdict.violations) TH_LOG("%s", verdict.line);
	EXPECT_EQ(0, group_stat(one, "shmem"));
	EXPECT_EQ(0, group_stat(one, file_field));
	EXPECT_EQ(huge_size, group_stat(other, "shmem"));
	EXPECT_EQ(huge_size, group_stat(other, file_field));

	ASSERT_EQ(0, ftruncate(fd, 0));
	EXPECT_EQ(0, group_stat(one, "shmem"));
	EXPECT_EQ(0, group_stat(other, "shmem"));
	ASSERT_EQ(0, verify_memcg_settled(&verdict));
	EXPECT_EQ(0, verdict.violations) TH_LOG("%s", verdict.line);
}

/* One group wrote the file, another collapses it. */
TEST_F_TIMEOUT(huge, collapse, 120)
{
	if (self->skip)
		SKIP(return, self->skip);
	collapse_written(_metadata, &self->one, &self->other, self->fd,
			 write_all, huge_size);
}

/* The same, with holes, which become pages. */
TEST_F_TIMEOUT(huge, collapse_holes, 120)
{
	if (self->skip)
		SKIP(return, self->skip);
	collapse_written(_metadata, &self->one, &self->other, self->fd,
			 write_every_other, huge_size / 2);
}

/* Huge pages of shmem on a node, or -1. */
static long long huge_pages_on(int node)
{
	char path[64];

	write_file("/proc/sys/vm/stat_refresh", "1");
	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/vmstat",
		 node);
	return field(path, "nr_shmem_hugepages");
}

/* The node of the page at an address, or -errno. */
static int node_of(void *at, int *move_to)
{
	int status = -ENODEV;

	return syscall(__NR_move_pages, 0, 1UL, &at, move_to, &status,
		       MPOL_MF_MOVE) < 0 ? -errno : status;
}

/* A huge page that goes from one node to another, and back. */
TEST_F_TIMEOUT(huge, migrate, 120)
{
	struct memcg_verdict verdict;
	long long here, there;
	int from, to, round;
	char *at;

	if (self->skip)
		SKIP(return, self->skip);
	if (huge_pages_on(1) < 0)
		SKIP(return, "needs two nodes");
	ASSERT_EQ(0, in_group(&self->one, write_all, self->fd));
	ASSERT_EQ(0, in_group(&self->one, collapse, self->fd));

	at = map_huge(self->fd);
	ASSERT_NE(NULL, at);
	for (round = 0; round < 2; round++) {
		/* Mapped, or there is nothing to move at this address. */
		ASSERT_EQ(0, madvise(at, huge_size, MADV_POPULATE_READ));
		from = node_of(at, NULL);
		ASSERT_LE(0, from);
		to = !from;
		here = huge_pages_on(from);
		there = huge_pages_on(to);
		EXPECT_LT(0, here);
		ASSERT_EQ(to, node_of(at, &to));
		EXPECT_EQ(here - 1, huge_pages_on(from));
		EXPECT_EQ(there + 1, huge_pages_on(to));
		ASSERT_EQ(0, verify_memcg_settled(&verdict));
		EXPECT_EQ(0, verdict.violations) TH_LOG("%s", verdict.line);
	}
	munmap(at, huge_size);
}

TEST_HARNESS_MAIN
