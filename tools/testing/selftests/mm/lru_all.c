// SPDX-License-Identifier: GPL-2.0
/*
 * The same pages are isolated, migrated, compacted, reclaimed, locked and moved
 * between groups at once. Every folio stays on a list of its memcg's lruvec,
 * and every page keeps what was written to it. Without the memory controller
 * (cgroup_disable=memory) each node has one lruvec, and the rest is the same.
 */
#include "../kselftest_harness.h"
#include "lru_load.h"

#define LOAD_SECONDS	20
#define SIZE		(24UL << 20)
#define CMA		"/sys/kernel/debug/cma/reserved/"

static char line[2048];
static char *shared;	/* of all processes of the load */

static int verify_and_read(void)
{
	int ret = verify_run("lru");

	return ret ? ret : verify_line("lru", line, sizeof(line));
}

static long long violations(void)
{
	long long checked, found;

	if (sscanf(line, "%*s %lld %lld", &checked, &found) != 2)
		return -1;
	return found;
}

/* Each page says which one it is, in every word that is looked at. */
static void write_pages(char *map, size_t size, uint64_t salt)
{
	size_t at;

	for (at = 0; at < size; at += 4096) {
		*(uint64_t *)(map + at) = salt + at;
		*(uint64_t *)(map + at + 4088) = ~(salt + at);
	}
}

static size_t wrong_pages(char *map, size_t size, uint64_t salt)
{
	size_t at, wrong = 0;

	for (at = 0; at < size; at += 4096)
		wrong += *(uint64_t *)(map + at) != salt + at ||
			 *(uint64_t *)(map + at + 4088) != ~(salt + at);
	return wrong;
}

static void load_mlock(void)
{
	mlock(shared, SIZE / 2);
	munlock(shared, SIZE / 2);
}

static void load_pageout(void)
{
	madvise(shared, SIZE, MADV_PAGEOUT);
}

static void load_touch(void)
{
	char *at;

	for (at = shared; at < shared + SIZE; at += 4096)
		(void)__atomic_load_n(at, __ATOMIC_RELAXED);
}

static void load_compact(void)
{
	write_file("/proc/sys/vm/compact_memory", "1");
}

/* Contiguous allocation migrates whatever is in its way. */
static void load_cma(void)
{
	if (write_file(CMA "alloc", "2048"))
		usleep(10000);
	else
		write_file(CMA "free", "2048");
}

static void load_reclaim(void)
{
	group_reclaim("lru_all.a");
	group_reclaim("lru_all.b");
}

/* The task's pages, and those of the shared mapping, go with it. */
static void load_move(void)
{
	group_enter("lru_all.a");
	load_touch();
	group_enter("lru_all.b");
	load_touch();
}

/* Memory of its own, whose content is checked all the while. */
static void load_private(void)
{
	static char *map;
	static uint64_t salt;

	if (!map) {
		map = map_huge(SIZE / 2);
		if (!map)
			_exit(1);
	} else if (wrong_pages(map, SIZE / 2, salt)) {
		_exit(2);
	}
	salt += 8192 * 4096;
	write_pages(map, SIZE / 2, salt);
	group_enter("lru_all.a");
	madvise(map, SIZE / 4, MADV_PAGEOUT);
	group_enter("lru_all.b");
	mlock(map + SIZE / 4, SIZE / 8);
	munlock(map + SIZE / 4, SIZE / 8);
	if (wrong_pages(map, SIZE / 2, salt))
		_exit(2);
}

static void (*const loads[])(void) = {
	load_mlock, load_pageout, load_touch, load_compact, load_cma,
	load_reclaim, load_move, load_move, load_private, load_private,
};

FIXTURE(all) {
	struct backed swap;
};

FIXTURE_VARIANT(all) {
	const char *gen;
};

FIXTURE_VARIANT_ADD(all, classic) {
	.gen = "0",
};

FIXTURE_VARIANT_ADD(all, gens) {
	.gen = "7",
};

FIXTURE_SETUP(all)
{
	char path[PATH_MAX];

	if (!verify_present())
		return;
	if (lru_gen_present())
		write_file(LRU_GEN, variant->gen);
	ASSERT_EQ(0, swap_open(&self->swap, 160));
	if (!group_root())
		return;
	ASSERT_EQ(0, group_make("lru_all.a", 64));
	ASSERT_EQ(0, group_make("lru_all.b", 64));
	if (!group_is_v1())
		return;
	group_path(path, "lru_all.a", "memory.move_charge_at_immigrate");
	ASSERT_EQ(0, write_file(path, "3"));
	group_path(path, "lru_all.b", "memory.move_charge_at_immigrate");
	ASSERT_EQ(0, write_file(path, "3"));
}

FIXTURE_TEARDOWN(all)
{
	if (lru_gen_present())
		write_file(LRU_GEN, "0");
	/* What swapoff brings back would be charged to them. */
	group_remove("lru_all.a");
	group_remove("lru_all.b");
	swap_close(&self->swap);
}

TEST_F_TIMEOUT(all, at_once, 600)
{
	long long suspects = 0, moved, out;
	struct workers workers = {};
	unsigned int i, runs = 0;
	time_t end;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);
	if (!lru_gen_present())
		SKIP(return, "needs CONFIG_LRU_GEN");

	shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, shared);
	write_pages(shared, SIZE, 1);
	moved = vm_counter("pgmigrate_success");
	out = vm_counter("pswpout");

	for (i = 0; i < ARRAY_SIZE(loads); i++)
		ASSERT_EQ(0, worker_start(&workers, loads[i]));
	end = time(NULL) + LOAD_SECONDS;
	while (time(NULL) < end) {
		ASSERT_EQ(0, verify_and_read());
		ASSERT_EQ(0, violations()) TH_LOG("%s", line);
		suspects += verify_number(line, "suspects");
		runs++;
	}
	EXPECT_EQ(0, workers_end(&workers));
	EXPECT_EQ(0, wrong_pages(shared, SIZE, 1));
	moved = vm_counter("pgmigrate_success") - moved;
	out = vm_counter("pswpout") - out;
	TH_LOG("%u runs, %lld suspects, %lld pages migrated, %lld swapped out",
	       runs, suspects, moved, out);
	EXPECT_LT(0, moved);
	EXPECT_LT(0, out);

	ASSERT_EQ(0, verify_and_read());
	EXPECT_EQ(0, violations()) TH_LOG("%s", line);
}

/*
 * Groups go while pages are charged to them: the pages stay on the lists of a
 * memcg that nobody can see any more, and are reclaimed from there.
 */
TEST_F_TIMEOUT(all, groups_gone, 300)
{
	long long pages, before;
	char group[64];
	int fds[8], i;
	pid_t pid;

	if (!verify_present())
		SKIP(return, NEEDS_VERIFY);
	if (!group_root())
		SKIP(return, "needs the memory controller");
	if (!lru_gen_present())
		SKIP(return, "needs CONFIG_LRU_GEN");

	ASSERT_EQ(0, verify_and_read());
	before = verify_number(line, "lruvecs");
	for (i = 0; i < (int)ARRAY_SIZE(fds); i++) {
		snprintf(group, sizeof(group), "lru_all.gone%d", i);
		fds[i] = memfd_create(group, 0);
		ASSERT_LE(0, fds[i]);
		ASSERT_EQ(0, group_make(group, 0));
		pid = fork();
		if (!pid) {
			static char buf[1 << 20];

			group_enter(group);
			_exit(write(fds[i], buf, sizeof(buf)) != sizeof(buf));
		}
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		ASSERT_EQ(0, group_remove(group));
	}
	ASSERT_EQ(0, verify_and_read());
	EXPECT_EQ(0, violations()) TH_LOG("%s", line);
	pages = verify_number(line, "lruvecs");
	TH_LOG("%lld lruvecs before, %lld with groups gone", before, pages);
	EXPECT_LE(before + (int)ARRAY_SIZE(fds), pages);
	for (i = 0; i < (int)ARRAY_SIZE(fds); i++)
		close(fds[i]);
	ASSERT_EQ(0, verify_and_read());
	EXPECT_EQ(0, violations()) TH_LOG("%s", line);
}

TEST_HARNESS_MAIN
