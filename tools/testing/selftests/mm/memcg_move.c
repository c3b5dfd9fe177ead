// SPDX-License-Identifier: GPL-2.0
/*
 * Charge moving of cgroup v1 (memory.move_charge_at_immigrate): what it moves,
 * what it leaves, and that each group's counters are right afterwards, also when
 * pages are mapped, unmapped and swapped at the same time.
 *
 * MEMCG_MOVE_SECONDS sets how long each of the races runs.
 */
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/mman.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#include "../kselftest_harness.h"
#include "memcg_group.h"
#include "memcg_swap.h"

#define KIB		1024UL
#define MIB		(1024 * KIB)
#define PAGE		4096UL
#define HUGE		(2 * MIB)
#define SWAP_SIZE	(96 * MIB)
#define FILE_SIZE	MIB
#define TMP		"/tmp/memcg_move"
/* How long everybody's mapcount is ahead of its statistics, microseconds */
#define WINDOW		"rmap_stat 300 all"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

/* Fields of memory.stat that are 0 in a group that has no user memory */
static const char * const fields[] = {
	"cache", "rss", "rss_huge", "shmem", "mapped_file", "dirty",
	"writeback", "swap", "inactive_anon", "active_anon", "inactive_file",
	"active_file", "unevictable",
};

static struct memcg_verdict verdict;

/*
 * What a group had wrong when it went stays with the groups above for good: what
 * one test leaves there is not to be held against the next.
 */
static long long old_trees;

FIXTURE(move) {
	struct group from, to;
	struct device swap;
	const char *skip;
};

FIXTURE_SETUP(move)
{
	const char *root = memcg_root(true);

	self->swap.fd = -1;
	if (!root)
		self->skip = NEEDS_V1;
	else if (!verify_present())
		self->skip = NEEDS_VERIFY;
	else
		self->skip = NULL;
	if (self->skip)
		return;
	ASSERT_EQ(0, verify_memcg_settled(&verdict));
	old_trees = verify_number(verdict.line, "hierarchy");
	ASSERT_EQ(0, group_make(&self->from, root, "memcg_move_from"));
	ASSERT_EQ(0, group_make(&self->to, root, "memcg_move_to"));
}

FIXTURE_TEARDOWN(move)
{
	if (self->skip)
		return;
	swap_remove(&self->swap);
	rmdir(self->from.dir);
	rmdir(self->to.dir);
}

/*
 * Charges move from now on. Not before the children have joined their groups:
 * they share pages with this process, which would have them moved too.
 */
static int start_moving(struct group *from, struct group *to)
{
	return group_put(from, "memory.move_charge_at_immigrate", "3") ||
	       group_put(to, "memory.move_charge_at_immigrate", "3");
}

/* Nothing is left in the groups, and no counter says otherwise. */
static void all_zero(struct __test_metadata *_metadata, struct group *g)
{
	int tries = 100 * test_scale();
	unsigned int i;

	/* What was freed last may be on a list of some CPU. */
	for (i = 0; i < ARRAY_SIZE(fields) && tries; i++) {
		while (group_stat(g, fields[i]) && --tries) {
			group_put(g, "memory.force_empty", "0");
			usleep(10000);
		}
		EXPECT_EQ(0, group_stat(g, fields[i]))
			TH_LOG("%s of %s", fields[i], g->dir);
	}
}

static void counted_right(struct __test_metadata *_metadata, const char *when)
{
	long long trees;

	ASSERT_EQ(0, verify_memcg_settled(&verdict));
	trees = verify_number(verdict.line, "hierarchy");
	EXPECT_EQ(0, verdict.unsettled) TH_LOG("%s: %s", when, verdict.line);
	EXPECT_EQ(0, verdict.violations - trees)
		TH_LOG("%s: %s", when, verdict.line);
	EXPECT_GE(old_trees, trees) TH_LOG("%s: %s", when, verdict.line);
}

/* What a child does when it is told to, until it is killed. */
struct child {
	pid_t pid;
	int in, out;
};

static void done(void *arg)
{
	struct child *c = arg;

	if (write(c->out, "", 1) != 1)
		_exit(1);
}

static void wait_for_word(void *arg)
{
	struct child *c = arg;
	char byte;

	if (read(c->in, &byte, 1) != 1)
		_exit(1);
}

/* Start a child in a group; it is through with its first part on return. */
static int child_start(struct child *c, struct group *g,
		       int (*body)(struct child *c))
{
	int in[2], out[2];
	char byte;

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
		return -errno;
	c->pid = fork();
	if (c->pid < 0)
		return -errno;
	if (!c->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		c->in = in[0];
		c->out = out[1];
		close(in[1]);
		close(out[0]);
		_exit(group_take(g, getpid()) ? 2 : body(c));
	}
	close(in[0]);
	close(out[1]);
	c->in = in[1];
	c->out = out[0];
	return read(c->out, &byte, 1) == 1 ? 0 : -ECHILD;
}

/* Have it do its next part. */
static int child_next(struct child *c)
{
	char byte = 0;

	if (write(c->in, &byte, 1) != 1)
		return -errno;
	return read(c->out, &byte, 1) == 1 ? 0 : -ECHILD;
}

static void child_end(struct child *c)
{
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
	close(c->in);
	close(c->out);
}

static char *map_anon(size_t size)
{
	char *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED || madvise(map, size, MADV_NOHUGEPAGE))
		_exit(3);
	return map;
}

/* Makes reads something that has to be done. */
char sum_of_reads;

static void touch(char *map, size_t size, bool write)
{
	size_t i;

	for (i = 0; i < size; i += PAGE)
		if (write)
			map[i] = 1;
		else
			sum_of_reads += map[i];
}

/* Anonymous memory that is read again when it is told to. */
static int holds_anon(struct child *c)
{
	char *map = map_anon(8 * MIB);

	touch(map, 8 * MIB, true);
	done(c);
	wait_for_word(c);
	/* Not written, they stay in the swap cache. */
	touch(map, 8 * MIB, false);
	done(c);
	pause();
	return 1;
}

/* Everything of a group goes out. Returns what of it is in swap. */
static long long swap_out(struct group *g)
{
	int tries = 100 * test_scale();

	while (group_stat(g, "swap") < (long long)(6 * MIB) && --tries)
		group_put(g, "memory.force_empty", "0");
	return group_stat(g, "swap");
}

TEST_F_TIMEOUT(move, swapped_out, 300)
{
	struct child c;

	if (self->skip)
		SKIP(return, self->skip);
	ASSERT_EQ(0, swap_make(&self->swap, SWAP_SIZE));

	ASSERT_EQ(0, child_start(&c, &self->from, holds_anon));
	EXPECT_LT(4 * MIB, swap_out(&self->from));
	counted_right(_metadata, "swapped out");
	child_end(&c);
	swap_remove(&self->swap);
	all_zero(_metadata, &self->from);
	counted_right(_metadata, "gone");
}

TEST_F_TIMEOUT(move, swap_cache, 300)
{
	struct child c;

	if (self->skip)
		SKIP(return, self->skip);
	ASSERT_EQ(0, swap_make(&self->swap, SWAP_SIZE));

	ASSERT_EQ(0, child_start(&c, &self->from, holds_anon));
	EXPECT_LT(4 * MIB, swap_out(&self->from));
	ASSERT_EQ(0, child_next(&c));
	EXPECT_LT(4 * MIB, group_stat(&self->from, "rss"));
	ASSERT_EQ(0, start_moving(&self->from, &self->to));
	ASSERT_EQ(0, group_take(&self->to, c.pid));
	EXPECT_LT(4 * MIB, group_stat(&self->to, "rss"));
	counted_right(_metadata, "moved");
	child_end(&c);
	swap_remove(&self->swap);
	all_zero(_metadata, &self->from);
	all_zero(_metadata, &self->to);
	counted_right(_metadata, "gone");
}

/* Huge pages of tmpfs that are mapped as such, in kB. */
static long long pmd_mapped(void)
{
	return field("/proc/meminfo", "ShmemPmdMapped");
}

/* A huge page of a file in tmpfs, mapped as such. */
static int huge_file(struct child *c)
{
	int fd = open(TMP "/huge", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char *map = mmap(NULL, 2 * HUGE, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	map = (char *)(((uintptr_t)map + HUGE - 1) & -HUGE);
	if (fd < 0 || ftruncate(fd, HUGE) ||
	    mmap(map, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
		 0) != map)
		_exit(3);
	touch(map, HUGE, true);
	done(c);
	pause();
	return 1;
}

TEST_F_TIMEOUT(move, huge_shmem, 300)
{
	struct child c;

	if (self->skip)
		SKIP(return, self->skip);
	mkdir(TMP, 0700);
	if (mount("tmpfs", TMP, "tmpfs", 0, "huge=always"))
		SKIP(return, "needs huge pages in tmpfs");

	ASSERT_EQ(0, child_start(&c, &self->from, huge_file));
	EXPECT_LE(HUGE / KIB, pmd_mapped());
	EXPECT_EQ(HUGE, group_stat(&self->from, "shmem"));
	ASSERT_EQ(0, start_moving(&self->from, &self->to));
	ASSERT_EQ(0, group_take(&self->to, c.pid));
	EXPECT_EQ(HUGE, group_stat(&self->to, "shmem"));
	counted_right(_metadata, "moved");
	child_end(&c);
	EXPECT_EQ(0, umount(TMP));
	rmdir(TMP);
	all_zero(_metadata, &self->from);
	all_zero(_metadata, &self->to);
	counted_right(_metadata, "gone");
}

/* A file that is shared by all, and how it is mapped. */
static int shared_fd = -1;

static char *map_shared(void)
{
	char *map = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 shared_fd, 0);

	if (map == MAP_FAILED)
		_exit(3);
	return map;
}

static int maps_and_touches(struct child *c)
{
	char *map = map_shared();

	touch(map, FILE_SIZE, true);
	done(c);
	wait_for_word(c);
	munmap(map, FILE_SIZE);
	done(c);
	pause();
	return 1;
}

/*
 * The file, mapped and not touched, in a page table that is there: where there
 * is none, nobody looks for what could be mapped.
 */
static char *map_untouched(void)
{
	char *map = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED || madvise(map, 2 * HUGE, MADV_NOHUGEPAGE))
		_exit(3);
	map = (char *)(((uintptr_t)map + HUGE - 1) & -HUGE);
	map[HUGE - PAGE] = 1;
	if (mmap(map, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 shared_fd, 0) != map)
		_exit(3);
	return map;
}

static int maps_only(struct child *c)
{
	map_untouched();
	done(c);
	pause();
	return 1;
}

/*
 * Pages that the moved task does not map: those that another maps stay where
 * they are, those that nobody maps go along.
 */
TEST_F_TIMEOUT(move, mapped_elsewhere, 300)
{
	struct child owner, moved;

	if (self->skip)
		SKIP(return, self->skip);
	shared_fd = memfd_create("shared", MFD_CLOEXEC);
	ASSERT_EQ(0, ftruncate(shared_fd, FILE_SIZE));

	ASSERT_EQ(0, child_start(&owner, &self->from, maps_and_touches));
	ASSERT_EQ(0, child_start(&moved, &self->from, maps_only));
	ASSERT_EQ(0, start_moving(&self->from, &self->to));
	ASSERT_EQ(0, group_take(&self->to, moved.pid));
	EXPECT_EQ(FILE_SIZE, group_stat(&self->from, "shmem"));
	EXPECT_EQ(0, group_stat(&self->to, "shmem"));
	counted_right(_metadata, "left");

	ASSERT_EQ(0, group_take(&self->from, moved.pid));
	ASSERT_EQ(0, child_next(&owner));
	ASSERT_EQ(0, group_take(&self->to, moved.pid));
	/* One that is busy just then is left; none should be, now and here. */
	EXPECT_EQ(FILE_SIZE, group_stat(&self->to, "shmem"));
	counted_right(_metadata, "moved");

	child_end(&owner);
	child_end(&moved);
	close(shared_fd);
	all_zero(_metadata, &self->from);
	all_zero(_metadata, &self->to);
	counted_right(_metadata, "gone");
}

/*
 * The races. One task goes to and fro between the groups; it maps what others
 * map and unmap at the same time, so that its pages are present, absent but
 * mapped elsewhere, or mapped by nobody.
 */
static int zaps(struct child *c)
{
	char *map = map_shared();

	done(c);
	while (1) {
		touch(map, FILE_SIZE, false);
		madvise(map, FILE_SIZE, MADV_DONTNEED);
	}
	return 1;
}

static int remaps(struct child *c)
{
	done(c);
	while (1) {
		char *map = map_shared();

		touch(map, FILE_SIZE / 2, true);
		munmap(map, FILE_SIZE);
	}
	return 1;
}

static int punches(struct child *c)
{
	done(c);
	while (1)
		fallocate(shared_fd, FALLOC_FL_PUNCH_HOLE |
			  FALLOC_FL_KEEP_SIZE, FILE_SIZE / 4, FILE_SIZE / 2);
	return 1;
}

static int stays_mapped(struct child *c)
{
	char *map = map_untouched();

	done(c);
	while (1) {
		usleep(1000);
		touch(map, FILE_SIZE / 4, false);
		madvise(map, FILE_SIZE / 8, MADV_DONTNEED);
	}
	return 1;
}

/* Anonymous memory between memory, swap cache and swap, and a child's. */
static int swaps(struct child *c)
{
	char *map = map_anon(FILE_SIZE);

	done(c);
	while (1) {
		touch(map, FILE_SIZE, true);
		if (!fork()) {
			touch(map, FILE_SIZE / 2, true);
			_exit(0);
		}
		madvise(map, FILE_SIZE, MADV_PAGEOUT);
		touch(map, FILE_SIZE, false);
		madvise(map, FILE_SIZE / 4, MADV_DONTNEED);
		while (wait(NULL) > 0)
			;
	}
	return 1;
}

static int swaps_shared(struct child *c)
{
	char *map = map_shared();

	done(c);
	while (1) {
		touch(map, FILE_SIZE, true);
		madvise(map, FILE_SIZE, MADV_PAGEOUT);
	}
	return 1;
}

FIXTURE(race) {
	struct group from, to;
	struct device swap, file;
	const char *skip;
	int delay;
};

FIXTURE_VARIANT(race) {
	/* Of the task that is moved, and of those that stay. */
	int (*bodies[4])(struct child *c);
	bool shmem, device, swap;
};

FIXTURE_VARIANT_ADD(race, shmem) {
	.shmem = true,
	.bodies = { stays_mapped, zaps, remaps },
};

FIXTURE_VARIANT_ADD(race, shmem_untouched) {
	.shmem = true,
	.bodies = { maps_only, zaps, zaps },
};

FIXTURE_VARIANT_ADD(race, shmem_punched) {
	.shmem = true,
	.bodies = { maps_only, punches, remaps },
};

/* A block device has page cache that is dirtied and written back. */
FIXTURE_VARIANT_ADD(race, file) {
	.device = true,
	.bodies = { stays_mapped, zaps, remaps },
};

FIXTURE_VARIANT_ADD(race, shmem_swap) {
	.shmem = true,
	.swap = true,
	.bodies = { stays_mapped, zaps, swaps_shared },
};

FIXTURE_VARIANT_ADD(race, anon_swap) {
	.swap = true,
	.bodies = { swaps, swaps },
};

FIXTURE_SETUP(race)
{
	const char *root = memcg_root(true);

	self->swap.fd = -1;
	self->file.fd = -1;
	self->delay = verify_present() ? delay_open() : -1;
	self->skip = NULL;
	if (!root)
		self->skip = NEEDS_V1;
	else if (!verify_present())
		self->skip = NEEDS_VERIFY;
	if (self->skip)
		return;
	ASSERT_EQ(0, verify_memcg_settled(&verdict));
	old_trees = verify_number(verdict.line, "hierarchy");
	ASSERT_EQ(0, group_make(&self->from, root, "memcg_race_from"));
	ASSERT_EQ(0, group_make(&self->to, root, "memcg_race_to"));
}

FIXTURE_TEARDOWN(race)
{
	if (self->skip)
		return;
	if (self->delay >= 0)
		close(self->delay);
	swap_remove(&self->swap);
	device_remove(&self->file);
	rmdir(self->from.dir);
	rmdir(self->to.dir);
}

TEST_F_TIMEOUT(race, counters_end_at_zero, 600)
{
	const char *text = getenv("MEMCG_MOVE_SECONDS");
	struct child children[ARRAY_SIZE(variant->bodies)];
	long long moves = 0, failed = 0;
	unsigned int i, nr;
	time_t end;

	if (self->skip)
		SKIP(return, self->skip);
	if (variant->swap)
		ASSERT_EQ(0, swap_make(&self->swap, SWAP_SIZE));
	if (variant->device) {
		ASSERT_EQ(0, device_make(&self->file, FILE_SIZE));
		shared_fd = self->file.fd;
	} else if (variant->shmem) {
		shared_fd = memfd_create("shared", MFD_CLOEXEC);
		ASSERT_EQ(0, ftruncate(shared_fd, FILE_SIZE));
	}
	if (self->delay >= 0)
		ASSERT_EQ(0, delay_write(self->delay, WINDOW));
	for (nr = 0; nr < ARRAY_SIZE(children) && variant->bodies[nr]; nr++)
		ASSERT_EQ(0, child_start(&children[nr], &self->from,
					 variant->bodies[nr]));
	ASSERT_EQ(0, start_moving(&self->from, &self->to));
	end = time(NULL) + (text ? atoi(text) : 10);
	while (time(NULL) < end) {
		if (group_take(moves & 1 ? &self->from : &self->to,
			       children[0].pid))
			failed++;
		moves++;
	}
	for (i = 0; i < nr; i++)
		child_end(&children[i]);
	if (self->delay >= 0)
		ASSERT_EQ(0, delay_write(self->delay, "rmap_stat 0"));
	TH_LOG("%lld moves, %lld failed%s", moves, failed,
	       self->delay >= 0 ? ", " WINDOW : "");
	EXPECT_LT(1, moves - failed);

	counted_right(_metadata, "after the race");
	if (variant->device)
		ioctl(shared_fd, BLKFLSBUF, 0);
	else if (variant->shmem)
		close(shared_fd);
	swap_remove(&self->swap);
	all_zero(_metadata, &self->from);
	all_zero(_metadata, &self->to);
	counted_right(_metadata, "all gone");
	EXPECT_EQ(0, group_remove(&self->from));
	EXPECT_EQ(0, group_remove(&self->to));
	counted_right(_metadata, "groups gone");
}

TEST_HARNESS_MAIN
